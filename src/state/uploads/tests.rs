use super::*;
use crate::wire::ids::{GroupId, Hash};

struct Counter(u8);
impl Random for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        out.fill(self.0);
    }
}

const CONN: ConnId = ConnId(1);

fn asked(request: u64) -> Asked {
    Asked { conn: CONN, straight: false, request, ranges: Vec::new() }
}

fn straight(request: u64) -> Asked {
    Asked { straight: true, ..asked(request) }
}

fn tip(membership: u8) -> LogTip {
    LogTip { membership: Hash([membership; 32]), ..LogTip::START }
}

fn head(nonce: [u8; 16], membership: u8) -> Head {
    let at = Position { generation: 1, revision: 9 };
    Head { group: GroupId([0; 32]), at, header: Hash([0; 32]), membership: Hash([membership; 32]), nonce }
}

fn nonce(uploads: &mut Uploads) -> [u8; 16] {
    match uploads.poll_effect() {
        Some(Effect::AskFreshness(nonce)) => nonce,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_served_before_a_fresh_head_with_the_own_roster() {
    let (mut uploads, mut random) = (Uploads::new(UploadsConfig::default(), false), Counter(0));
    uploads.master_reachable(Time(0), &mut random, true);
    uploads.request(Time(0), &mut random, asked(1));
    let nonce = nonce(&mut uploads);
    uploads.head_came(Time(10), &mut random, head([99; 16], 1), &tip(1));
    assert_eq!(uploads.poll_effect(), None, "another nonce counts for nothing");
    uploads.head_came(Time(20), &mut random, head(nonce, 2), &tip(1));
    assert!(!matches!(uploads.poll_effect(), Some(Effect::Serve(_))), "the head knows of a change that we lack");
}

#[test]
fn hidden_expulsion_stops_the_owner_at_fresh_for() {
    let (mut uploads, mut random) = (Uploads::new(UploadsConfig::default(), false), Counter(0));
    uploads.master_reachable(Time(0), &mut random, true);
    uploads.request(Time(0), &mut random, asked(1));
    let first = nonce(&mut uploads);
    uploads.head_came(Time(5), &mut random, head(first, 1), &tip(1));
    assert_eq!(uploads.poll_effect(), Some(Effect::Serve(asked(1))));
    // From here on the server passes nonces and heads, and hides the header that they speak of.
    for second in 1..170u64 {
        let now = Time(second * 1_000);
        uploads.tick(now, &mut random);
        if let Some(Effect::AskFreshness(nonce)) = uploads.poll_effect() {
            uploads.head_came(now, &mut random, head(nonce, 2), &tip(1));
        }
    }
    assert!(uploads.is_fresh(Time(179_000)));
    assert!(!uploads.is_fresh(Time(180_000)));
    uploads.request(Time(180_000), &mut random, asked(2));
    while let Some(effect) = uploads.poll_effect() {
        assert!(!matches!(effect, Effect::Serve(_)));
    }
}

/// One that had a good word at the beginning and has heard nothing of the master since.
fn fresh_once() -> (Uploads, Counter) {
    let (mut uploads, mut random) = (Uploads::new(UploadsConfig::default(), false), Counter(0));
    uploads.master_reachable(Time(0), &mut random, true);
    uploads.request(Time(0), &mut random, asked(1));
    let nonce = nonce(&mut uploads);
    uploads.head_came(Time(5), &mut random, head(nonce, 1), &tip(1));
    assert_eq!(uploads.poll_effect(), Some(Effect::Serve(asked(1))));
    uploads.master_reachable(Time(10), &mut random, false);
    (uploads, random)
}

fn is_served(uploads: &mut Uploads, now: u64, asked: Asked) -> bool {
    uploads.request(Time(now), &mut Counter(100), asked);
    match uploads.poll_effect() {
        Some(Effect::Serve(_)) => true,
        Some(Effect::Refuse(_, ChunkRefusal::OwnerNotFresh)) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn over_a_straight_connection_the_word_counts_as_long_as_the_master_lets_members_go_on() {
    let (mut uploads, _) = fresh_once();
    assert!(!is_served(&mut uploads, 180_000, straight(2)), "no longer than through the server, unless it is set");
    uploads.set_straight_for(Duration::from_secs(8 * 3_600));
    assert!(!is_served(&mut uploads, 180_000, asked(3)));
    assert!(is_served(&mut uploads, 180_000, straight(4)) && is_served(&mut uploads, 8 * 3_600_000 - 1, straight(5)));
    assert!(!is_served(&mut uploads, 8 * 3_600_000, straight(6)));
    uploads.set_fresh_for(Duration::from_secs(24 * 3_600));
    assert!(is_served(&mut uploads, 9 * 3_600_000, straight(7)), "never less than through the server");
}

#[test]
fn what_is_on_its_way_stops_when_the_word_is_too_old() {
    let (mut uploads, mut random) = fresh_once();
    uploads.set_straight_for(Duration::from_secs(8 * 3_600));
    assert!(is_served(&mut uploads, 100_000, straight(2)));
    assert_eq!(uploads.poll_timeout(), Some(Time(180_000)), "fresh_for after the nonce was drawn");
    uploads.tick(Time(179_999), &mut random);
    assert_eq!(uploads.poll_effect(), None);
    uploads.tick(Time(180_000), &mut random);
    assert_eq!(uploads.poll_effect(), Some(Effect::Stop { straight: false }));
    assert_eq!((uploads.poll_effect(), uploads.poll_timeout()), (None, Some(Time(8 * 3_600_000))));
    // What goes straight may go on, until a newer membership shows.
    let at = LogTip { at: Position { generation: 1, revision: 8 }, ..tip(1) };
    uploads.head_shown(&head([0; 16], 2), &at);
    uploads.tick(Time(180_001), &mut random);
    assert_eq!(uploads.poll_effect(), Some(Effect::Stop { straight: true }));
    assert_eq!((uploads.poll_effect(), uploads.poll_timeout()), (None, None));
}

#[test]
fn a_newer_membership_that_is_shown_voids_the_word_until_the_roster_is_there() {
    let (mut uploads, mut random) = fresh_once();
    uploads.set_straight_for(Duration::from_secs(8 * 3_600));
    let at = |revision| LogTip { at: Position { generation: 1, revision }, ..tip(1) };
    // The same membership with more files: nobody is out.
    uploads.head_shown(&head([0; 16], 1), &at(8));
    assert!(is_served(&mut uploads, 20, straight(2)));
    // An old head of another membership: this device knows better.
    uploads.head_shown(&head([0; 16], 2), &at(9));
    assert!(is_served(&mut uploads, 20, straight(3)));
    uploads.head_shown(&head([0; 16], 2), &at(8));
    assert!(!is_served(&mut uploads, 20, straight(4)) && !is_served(&mut uploads, 20, asked(5)));
    uploads.roster_changed(Time(30), &mut random, &at(8));
    assert!(!is_served(&mut uploads, 30, straight(6)));
    let there = LogTip { membership: Hash([2; 32]), ..at(9) };
    uploads.roster_changed(Time(40), &mut random, &there);
    assert!(is_served(&mut uploads, 40, straight(7)));
}

#[test]
fn what_waits_for_the_roster_is_served_when_it_is_there() {
    let (mut uploads, mut random) = fresh_once();
    uploads.master_reachable(Time(10), &mut random, true);
    let at = |revision| LogTip { at: Position { generation: 1, revision }, ..tip(1) };
    uploads.head_shown(&head([0; 16], 2), &at(8));
    uploads.request(Time(20), &mut random, straight(2));
    nonce(&mut uploads);
    uploads.roster_changed(Time(30), &mut random, &LogTip { membership: Hash([2; 32]), ..at(9) });
    assert_eq!(uploads.poll_effect(), Some(Effect::Serve(straight(2))));
}

#[test]
fn a_word_of_an_earlier_process_counts_by_its_age_and_never_from_the_future() {
    let mut uploads = Uploads::new(UploadsConfig::default(), false);
    uploads.restore_fresh(Time(5_000), Time(5_001));
    assert!(!is_served(&mut uploads, 5_000, asked(1)));
    uploads.restore_fresh(Time(5_000), Time(1_000));
    assert!(is_served(&mut uploads, 5_000, asked(2)));
    assert!(!is_served(&mut uploads, 181_000, asked(3)));
}

#[test]
fn a_request_does_not_wait_for_ever() {
    let (mut uploads, mut random) = (Uploads::new(UploadsConfig::default(), false), Counter(0));
    uploads.master_reachable(Time(0), &mut random, true);
    uploads.request(Time(0), &mut random, asked(1));
    nonce(&mut uploads);
    uploads.tick(Time(3_000), &mut random);
    assert_eq!(uploads.poll_effect(), Some(Effect::Refuse(asked(1), ChunkRefusal::OwnerNotFresh)));
}

#[test]
fn what_is_cancelled_while_it_waits_for_a_word_is_not_served() {
    let (mut uploads, mut random) = (Uploads::new(UploadsConfig::default(), false), Counter(0));
    uploads.master_reachable(Time(0), &mut random, true);
    let content = ContentId([5; 16]);
    let range = ChunkRange { content, first: 0, count: 4, bytes: 1 << 20, last_bytes: 1 << 20 };
    uploads.request(Time(0), &mut random, Asked { ranges: vec![range], ..asked(1) });
    uploads.request(Time(0), &mut random, Asked { ranges: vec![range], ..asked(2) });
    let nonce = nonce(&mut uploads);
    uploads.cancel(ConnId(2), 1, &[range]);
    uploads.cancel(CONN, 1, &[ChunkRange::one(content, 0, 1 << 20), ChunkRange::one(content, 2, 1 << 20)]);
    uploads.cancel(CONN, 2, &[range]);
    uploads.head_came(Time(5), &mut random, head(nonce, 1), &tip(1));
    let left = vec![ChunkRange::one(content, 1, 1 << 20), ChunkRange::one(content, 3, 1 << 20)];
    assert_eq!(uploads.poll_effect(), Some(Effect::Serve(Asked { ranges: left, ..asked(1) })));
    assert_eq!(uploads.poll_effect(), None);
}

#[test]
fn without_a_way_to_the_master_a_stale_owner_says_no_at_once() {
    let (mut uploads, mut random) = (Uploads::new(UploadsConfig::default(), false), Counter(0));
    uploads.request(Time(0), &mut random, asked(1));
    assert_eq!(uploads.poll_effect(), Some(Effect::Refuse(asked(1), ChunkRefusal::OwnerNotFresh)));
}
