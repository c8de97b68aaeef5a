//! What this device serves: only while its word from the master is fresh, and only what it has. How old the word may be is
//! the master's rule: one for what passes the server, which could hide an expulsion, and one for straight connections.
//!
//! Freshness is asked for, never told: the head is as fresh as the nonce in it is old, on this device's own clock, and
//! counts only while this device's own roster has that head's membership hash.

use super::chain::LogTip;
use super::conn::ConnId;
use super::random::{Random, draw};
use super::time::Time;
use crate::wire::frame::{ChunkRange, ChunkRefusal, ranges_of};
use crate::wire::ids::{ContentId, Position};
use crate::wire::log::{Head, Policy};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// How uploads wait.
#[derive(Debug, Clone, Copy)]
pub struct UploadsConfig {
    /// How long a request waits for a fresh word from the master before it is refused.
    pub fresh_wait: Duration,
    /// How often a serving owner asks for a fresh word.
    pub refresh: Duration,
    /// Requests that wait for a fresh word, at most.
    pub held_max: usize,
}

impl Default for UploadsConfig {
    fn default() -> UploadsConfig {
        UploadsConfig { fresh_wait: Duration::from_secs(3), refresh: Duration::from_secs(60), held_max: 256 }
    }
}

/// A request to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// On which connection: the server's, or that of a member who asks straight.
    pub conn: ConnId,
    /// Whether that is straight to a member.
    pub straight: bool,
    /// The number that it has there.
    pub request: u64,
    /// Which chunks.
    pub ranges: Vec<ChunkRange>,
}

/// What the machine wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the master for a head with this nonce.
    AskFreshness([u8; 16]),
    /// Serve.
    Serve(Asked),
    /// Say no.
    Refuse(Asked, ChunkRefusal),
    /// Send no more of what goes straight, or of what passes the server: the word that it was begun on counts no more.
    Stop {
        /// Which of the two.
        straight: bool,
    },
}

/// The serving side of a device.
#[derive(Debug)]
pub struct Uploads {
    config: UploadsConfig,
    /// The master itself is always fresh.
    is_master: bool,
    fresh_for: Duration,
    /// The same over straight connections; never less.
    straight_for: Duration,
    /// When the nonce of the newest good head was drawn.
    fresh_at: Option<Time>,
    asked: Option<([u8; 16], Time)>,
    /// A head that this device's own roster has not reached yet, with the time its nonce was drawn.
    ahead: Option<(Head, Time)>,
    /// The place of a head that was shown, whose membership this device's roster has not reached: until then no word counts.
    overtaken: Option<Position>,
    reachable: bool,
    served_at: Option<Time>,
    /// Whether something was served through the server, and straight, that may still be on its way.
    serves: [bool; 2],
    held: VecDeque<(Asked, Time)>,
    effects: VecDeque<Effect>,
}

impl Uploads {
    /// Nothing served yet.
    pub fn new(config: UploadsConfig, is_master: bool) -> Uploads {
        Uploads {
            config,
            is_master,
            fresh_for: Policy::default().wait(),
            straight_for: Policy::default().continue_for(),
            fresh_at: None,
            asked: None,
            ahead: None,
            overtaken: None,
            reachable: false,
            served_at: None,
            serves: [false; 2],
            held: VecDeque::new(),
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The master's rule for how long its word counts.
    pub fn set_fresh_for(&mut self, fresh_for: Duration) {
        self.fresh_for = fresh_for;
    }

    /// The master's rule for how long its word counts over straight connections, if that is longer.
    pub fn set_straight_for(&mut self, straight_for: Duration) {
        self.straight_for = straight_for;
    }

    /// Whether this device may serve through the server.
    pub fn is_fresh(&self, now: Time) -> bool {
        self.may_serve(now, false)
    }

    /// Whether this device may serve, straight or through the server.
    pub fn may_serve(&self, now: Time, straight: bool) -> bool {
        let is_fresh = self.fresh_at.is_some_and(|at| now.since(at) < self.age_max(straight));
        self.is_master || (self.overtaken.is_none() && is_fresh)
    }

    fn age_max(&self, straight: bool) -> Duration {
        if straight { self.straight_for.max(self.fresh_for) } else { self.fresh_for }
    }

    /// When the nonce of the newest good word was drawn.
    pub fn fresh_at(&self) -> Option<Time> {
        self.fresh_at
    }

    /// An earlier process had a good word, whose nonce it drew at this time, on the same clock.
    pub fn restore_fresh(&mut self, now: Time, at: Time) {
        if at <= now {
            self.fresh_at = self.fresh_at.max(Some(at));
        }
    }

    /// Somebody shows a head that the master signed. If its membership is newer than this device's, the word that this
    /// device has counts for nothing until its roster is there.
    pub fn head_shown(&mut self, head: &Head, tip: &LogTip) {
        if head.at > tip.at && head.membership != tip.membership {
            self.overtaken = self.overtaken.max(Some(head.at));
        }
    }

    /// The way to the master is open, or not.
    pub fn master_reachable(&mut self, now: Time, random: &mut dyn Random, reachable: bool) {
        self.reachable = reachable;
        self.asked = None;
        if reachable && !self.held.is_empty() {
            self.ask(now, random);
        } else if !reachable {
            self.refuse_held();
        }
    }

    /// Somebody wants chunks.
    pub fn request(&mut self, now: Time, random: &mut dyn Random, asked: Asked) {
        if self.may_serve(now, asked.straight) {
            self.serve(now, asked);
            self.refresh(now, random);
            return;
        }
        if !self.reachable || self.held.len() >= self.config.held_max {
            self.effects.push_back(Effect::Refuse(asked, ChunkRefusal::OwnerNotFresh));
            return;
        }
        self.held.push_back((asked, now));
        if self.asked.is_none() {
            self.ask(now, random);
        }
    }

    /// A head came from the master, in answer to a nonce.
    pub fn head_came(&mut self, now: Time, random: &mut dyn Random, head: Head, tip: &LogTip) {
        let Some((_, drawn)) = self.asked.filter(|(nonce, _)| *nonce == head.nonce) else { return };
        self.asked = None;
        self.ahead = Some((head, drawn));
        self.roster_changed(now, random, tip);
    }

    /// This device's own roster may have reached, or left, what the newest head says. A membership change that the
    /// head does not know of makes the head worthless.
    pub fn roster_changed(&mut self, now: Time, random: &mut dyn Random, tip: &LogTip) {
        let reached = |head: &Head| head.membership == tip.membership;
        if let Some((_, drawn)) = self.ahead.take_if(|(head, _)| reached(head)) {
            self.fresh_at = self.fresh_at.max(Some(drawn));
        }
        self.overtaken.take_if(|at| *at <= tip.at);
        self.serve_held(now);
        if self.reachable && !self.held.is_empty() && self.asked.is_none() {
            self.ask(now, random);
        }
    }

    /// The server could not deliver the nonce.
    pub fn master_away(&mut self) {
        self.reachable = false;
        self.asked = None;
        self.refuse_held();
    }

    /// Since when a fresh word of the master is awaited, if one is.
    pub fn asked_at(&self) -> Option<Time> {
        self.asked.map(|(_, at)| at).filter(|_| self.reachable)
    }

    /// When to call [`Uploads::tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let held = self.held.front().map(|(_, since)| since.after(self.config.fresh_wait));
        let refresh = self.next_refresh();
        let stops = [false, true].into_iter().filter_map(|straight| self.stops_at(straight));
        held.into_iter().chain(refresh).chain(stops).min()
    }

    /// When what is on its way has to stop, unless there is another word by then.
    fn stops_at(&self, straight: bool) -> Option<Time> {
        let serves = self.serves[usize::from(straight)] && !self.is_master;
        let at = match self.overtaken {
            Some(_) => Time::default(),
            None => self.fresh_at?.after(self.age_max(straight)),
        };
        serves.then_some(at)
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time, random: &mut dyn Random) {
        while self.held.front().is_some_and(|(_, since)| now.since(*since) >= self.config.fresh_wait) {
            if let Some((asked, _)) = self.held.pop_front() {
                self.effects.push_back(Effect::Refuse(asked, ChunkRefusal::OwnerNotFresh));
            }
            self.asked = None;
        }
        for straight in [false, true] {
            if self.stops_at(straight).is_some_and(|at| at <= now) {
                self.serves[usize::from(straight)] = false;
                self.effects.push_back(Effect::Stop { straight });
            }
        }
        self.refresh(now, random);
    }

    fn serve(&mut self, now: Time, asked: Asked) {
        self.served_at = Some(now);
        self.serves[usize::from(asked.straight)] = true;
        self.effects.push_back(Effect::Serve(asked));
    }

    /// Nobody wants these units of a request any more. Those that wait for a fresh word are forgotten.
    pub fn cancel(&mut self, conn: ConnId, request: u64, ranges: &[ChunkRange]) {
        let over: HashSet<(ContentId, u32)> =
            ranges.iter().flat_map(ChunkRange::chunks).map(|(content, index, _)| (content, index)).collect();
        let of_it = |asked: &Asked| asked.conn == conn && asked.request == request;
        for (asked, _) in self.held.iter_mut().filter(|(asked, _)| of_it(asked)) {
            let left = asked.ranges.iter().flat_map(ChunkRange::chunks);
            asked.ranges = ranges_of(left.filter(|(content, index, _)| !over.contains(&(*content, *index))));
        }
        self.held.retain(|(asked, _)| !asked.ranges.is_empty());
    }

    /// A connection ended: nobody waits there.
    pub fn forget_held(&mut self, conn: ConnId) {
        self.held.retain(|(asked, _)| asked.conn != conn);
    }

    /// While it serves, an owner asks for a fresh word every minute.
    fn next_refresh(&self) -> Option<Time> {
        let served_lately = self.served_at? >= Time(self.fresh_at?.0);
        let due = self.fresh_at?.after(self.config.refresh.min(self.fresh_for / 3));
        (served_lately && self.reachable && self.asked.is_none() && !self.is_master).then_some(due)
    }

    fn refresh(&mut self, now: Time, random: &mut dyn Random) {
        if self.next_refresh().is_some_and(|due| due <= now) {
            self.ask(now, random);
        }
    }

    fn ask(&mut self, now: Time, random: &mut dyn Random) {
        let nonce = draw(random);
        self.asked = Some((nonce, now));
        self.effects.push_back(Effect::AskFreshness(nonce));
    }

    fn serve_held(&mut self, now: Time) {
        for (asked, since) in std::mem::take(&mut self.held) {
            if self.may_serve(now, asked.straight) {
                self.serve(now, asked);
            } else {
                self.held.push_back((asked, since));
            }
        }
    }

    fn refuse_held(&mut self) {
        for (asked, _) in self.held.drain(..) {
            self.effects.push_back(Effect::Refuse(asked, ChunkRefusal::OwnerNotFresh));
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(
            is_served(&mut uploads, 180_000, straight(4)) && is_served(&mut uploads, 8 * 3_600_000 - 1, straight(5))
        );
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
}
