use super::*;

fn signed(headers: &[&VerifiedHeader]) -> Frame {
    Frame::Headers(headers.iter().map(|header| header.signed().clone()).collect())
}

#[test]
fn membership_is_stored_before_anybody_hears_of_it() {
    let (mut world, mut log) = World::settled(&[1]);
    world.client(1, 1);
    let header = log.change(9, Standing::Registered);
    let epoch = EpochId { generation: 1, number: 1 };
    let body = SealedBody { epoch, nonce: [0; 12], bytes: vec![] };
    let frame = Frame::Broadcast { header: header.signed().clone(), body };
    world.router.handle(world.now, Input::Frame { conn: ConnId(0), frame });
    assert!(matches!(world.router.poll_effect(), Some(Effect::Persist(Record::Header { .. }))));
    assert!(matches!(world.router.poll_effect(), Some(Effect::Send { frame: Frame::HeadersStored(tip), .. })
        if tip.hash == header.hash()));
    assert!(matches!(world.router.poll_effect(), Some(Effect::Send { to, frame: Frame::Broadcast { .. } })
        if to == [ConnId(1)]));
}

#[test]
fn what_is_not_the_masters_closes() {
    let (mut world, log) = World::settled(&[1]);
    let mut forged = log.head();
    forged.signature.0[0] ^= 1;
    world.hello(1, 1, Role::Client, Some(forged.clone()));
    assert_eq!(world.closed(1), Some(CloseCode::Protocol));
    world.client(2, 1);
    world.say(2, Frame::Head(forged));
    assert_eq!(world.closed(2), Some(CloseCode::Protocol));
    world.client(3, 1);
    let mut header = log.clone().change(4, Standing::Approved).signed().clone();
    header.signature.0[0] ^= 1;
    world.say(3, Frame::Headers(vec![header]));
    assert_eq!(world.closed(3), Some(CloseCode::Protocol));
    world.client(4, 1);
    let body = SealedBody { epoch: EpochId { generation: 1, number: 1 }, nonce: [0; 12], bytes: vec![] };
    world.say(4, Frame::Broadcast { header: log.clone().plain().signed().clone(), body });
    assert_eq!(world.closed(4), Some(CloseCode::Protocol), "only the master broadcasts");
}

#[test]
fn a_head_is_passed_to_a_master_that_lacks_it() {
    let (mut world, mut log) = World::settled(&[1]);
    log.plain();
    world.hello(1, 1, Role::Client, Some(log.head()));
    assert!(matches!(&world.got(0)[..], [Frame::Head(head)] if *head == log.head()));
    assert!(matches!(world.records.last(), Some(Record::Head { .. })));
    assert_eq!(world.class(1), Some(Class::Approved), "membership did not change");
}

#[test]
fn an_older_head_of_a_member_is_the_masters_to_judge() {
    let (mut world, mut log) = World::settled(&[1]);
    let mut other = log.clone();
    other.change(7, Standing::Registered);
    (0..2).for_each(|_| {
        let entry = log.plain();
        world.broadcast(&entry);
    });
    world.say(0, Frame::Head(log.head()));
    world.client(1, 1);
    world.take();
    world.say(1, Frame::Head(other.head()));
    assert!(matches!(&world.got(0)[..], [Frame::Head(head)] if *head == other.head()), "it may show a fork");
    assert!(world.got(1).is_empty());
    world.say(1, Frame::Head(log.head()));
    assert!(world.got(0).is_empty(), "it has that one");
}

#[test]
fn a_fork_is_told_to_each_once_and_changes_nothing() {
    let (mut world, mut log) = World::settled(&[1]);
    let mut other = log.clone();
    let one = log.plain();
    world.broadcast(&one);
    other.change(7, Standing::Registered);
    world.client(1, 1);
    world.take();
    world.say(1, Frame::Head(other.head()));
    world.say(1, Frame::Head(other.head()));
    assert!(matches!(&world.got(0)[..], [Frame::Head(_)]));
    assert!(matches!(&world.got(1)[..], [Frame::Head(_)]), "no second welcome: still approved");
    // Who comes later hears of it, too: the one that told it may be gone by then.
    world.client(5, 1);
    world.master(6, &log);
    for conn in [5, 6] {
        let heads =
            world.got(conn).into_iter().filter(|frame| matches!(frame, Frame::Head(head) if *head == other.head()));
        assert_eq!(heads.count(), 1, "connection {conn}");
    }
}

#[test]
fn master_back_is_told_when_its_head_came() {
    let (mut world, log) = World::settled(&[1]);
    world.client(1, 1);
    world.take();
    world.master(5, &log);
    assert_eq!(world.closed(0), Some(CloseCode::Replaced));
    assert!(world.got(1).is_empty());
    world.say(5, Frame::Head(log.head()));
    assert!(matches!(&world.got(1)[..], [Frame::MasterBack(_)]));
    world.say(5, Frame::Head(log.head()));
    assert!(world.got(1).is_empty());
}

#[test]
fn an_expelled_device_gets_its_header_and_nothing_else() {
    let (mut world, mut log) = World::settled(&[1, 2]);
    world.client(1, 1);
    world.client(2, 2);
    world.take();
    let expulsion = log.change(2, Standing::Disapproved);
    world.broadcast(&expulsion);
    assert!(matches!(&world.got(2)[..], [Frame::Headers(headers)] if headers[0] == *expulsion.signed()));
    assert!(matches!(&world.got(1)[..], [Frame::Broadcast { .. }]));
    assert!(matches!(&world.orders[..], [ChunkOrder::Gone { conn: ConnId(2), reason: ChunkRefusal::OwnerExpelled },
        ChunkOrder::Expelled { owner, .. }] | [ChunkOrder::Expelled { owner, .. }, ChunkOrder::Gone { .. }] if *owner == id(2)));
    world.say(2, Frame::Routed { peer: key(1), number: 1, envelope: vec![] });
    world.say(0, Frame::Routed { peer: key(2), number: 1, envelope: vec![] });
    world.advance(1_000);
    assert!(world.got(1).is_empty() && world.got(2).is_empty());
    assert_eq!(world.closed(2), None);
    world.say(2, Frame::ExpulsionRead);
    assert_eq!(world.closed(2), Some(CloseCode::Expelled));
    world.client(3, 2);
    assert!(matches!(&world.got(3)[..], [Frame::Welcome(w), Frame::Headers(_)] if w.class == Class::Expelled));
    world.advance(5_000);
    assert_eq!(world.closed(3), Some(CloseCode::Expelled));
    world.say(1, Frame::RequestChunk { request: 1, owner: id(2), ranges: vec![] });
    assert!(matches!(world.got(1)[..], [Frame::ChunkRefused { reason: ChunkRefusal::OwnerExpelled, .. }]));
}

#[test]
fn expelled_while_server_down() {
    let (mut world, mut log) = World::settled(&[1, 2]);
    let expulsion = log.change(2, Standing::Disapproved);
    let mut restarted = World::restored(RouterConfig::default(), std::mem::take(&mut world.records));
    restarted.client(2, 2);
    assert_eq!(restarted.class(2), Some(Class::Approved), "nobody has told the server");
    restarted.hello(1, 1, Role::Client, Some(log.head()));
    assert_eq!(restarted.class(2), Some(Class::Unsettled), "the head alone stops everybody");
    assert_eq!(restarted.class(1), Some(Class::Unsettled));
    restarted.say(1, signed(&[&expulsion]));
    assert!(matches!(&restarted.got(2)[..], [Frame::Headers(_)]));
    assert_eq!(restarted.class(1), Some(Class::Approved));
    restarted.client(3, 2);
    assert_eq!(restarted.class(3), Some(Class::Expelled));
}

#[test]
fn half_told_server() {
    let (mut log, genesis) = Log::new();
    let headers = [
        genesis,
        log.change(1, Standing::Registered),
        log.change(1, Standing::Approved),
        log.change(1, Standing::Disapproved),
    ];
    let mut world = World::new(RouterConfig::default());
    world.master(0, &log);
    world.client(1, 1);
    assert_eq!(world.class(1), Some(Class::Unsettled));
    for header in &headers[..3] {
        world.say(0, signed(&[header]));
        assert!(world.got(1).is_empty(), "nobody is let in half-way");
    }
    world.say(0, signed(&[&headers[3]]));
    assert!(matches!(&world.got(1)[..], [Frame::Headers(_)]));
    let stored = world.got(0).into_iter().filter(|frame| matches!(frame, Frame::HeadersStored(_))).count();
    assert_eq!(stored, 4);
}

#[test]
fn half_told_by_a_master_that_shows_no_head() {
    let (mut log, genesis) = Log::new();
    let approved = log.change(1, Standing::Approved);
    let mut world = World::new(RouterConfig::default());
    world.hello(0, 0, Role::Master, None);
    world.say(0, Frame::MasterRegister { admission: Some(SECRET) });
    world.say(0, signed(&[&genesis, &approved]));
    world.client(1, 1);
    assert_eq!(world.class(1), Some(Class::Unsettled), "headers alone settle nothing");
    world.say(0, Frame::Head(log.head()));
    assert_eq!(world.class(1), Some(Class::Approved));
}

#[test]
fn yesterdays_server() {
    let (world, mut log) = World::settled(&[1, 2, 3]);
    let yesterday = world.records.clone();
    let register = log.change(4, Standing::Registered);
    let expulsion = log.change(2, Standing::Disapproved);
    let mut world = World::restored(RouterConfig::default(), yesterday);
    world.client(3, 3);
    world.client(2, 2);
    assert_eq!(world.class(3), Some(Class::Approved));
    world.hello(1, 1, Role::Client, Some(log.head()));
    world.take();
    world.say(1, signed(&[&expulsion]));
    assert!(matches!(&world.got(2)[..], [Frame::Headers(_)]), "an expulsion counts without its predecessors");
    assert!(world.got(1).is_empty() && world.class(3).is_none(), "still not settled");
    world.say(1, signed(&[&register, &expulsion]));
    assert_eq!(world.class(3), Some(Class::Approved));
    assert_eq!(world.class(1), Some(Class::Approved));
    let mut again = World::restored(RouterConfig::default(), world.records);
    again.client(2, 2);
    assert_eq!(again.class(2), Some(Class::Expelled));
    again.client(3, 3);
    assert_eq!(again.class(3), Some(Class::Approved));
}

#[test]
fn expulsions_are_passed_on_to_members_and_master() {
    let (mut world, mut log) = World::settled(&[1, 2, 3]);
    log.change(4, Standing::Registered);
    let expulsion = log.change(2, Standing::Left);
    world.client(1, 1);
    world.client(3, 3);
    world.take();
    world.say(1, signed(&[&expulsion]));
    assert!(matches!(&world.got(3)[..], [Frame::Headers(_)]));
    assert!(matches!(&world.got(0)[..], [Frame::Headers(_)]));
    assert!(world.got(1).is_empty());
    world.say(1, signed(&[&expulsion]));
    assert!(world.got(3).is_empty(), "once");
    let records = world.records.clone();
    let mut restarted = World::restored(RouterConfig::default(), records);
    restarted.master(0, &World::settled(&[1, 2, 3]).1);
    assert!(restarted.got(0).iter().any(|frame| matches!(frame, Frame::Headers(headers) if headers.len() == 1)));
}

#[test]
fn a_gap_in_broadcasts_unsettles_and_the_tip_says_where_to_go_on() {
    let (mut world, mut log) = World::settled(&[1]);
    world.client(1, 1);
    world.take();
    let missing = log.change(8, Standing::Registered);
    let after = log.change(9, Standing::Registered);
    world.broadcast(&after);
    assert!(matches!(&world.got(0)[..], [Frame::HeadersStored(tip)] if tip.at < missing.header().at));
    assert_eq!(world.class(1), Some(Class::Unsettled));
    world.say(0, signed(&[&missing, &after]));
    assert_eq!(world.class(1), Some(Class::Approved));
}

#[test]
fn a_new_generation_may_branch_off_or_begin_anew() {
    for anew in [false, true] {
        let (mut world, mut log) = World::settled(&[1]);
        let backup = log.clone();
        let lost = log.change(2, Standing::Approved);
        let expelled = log.change(3, Standing::Disapproved);
        world.broadcast(&lost);
        world.broadcast(&expelled);
        let mut log = backup;
        log.next_generation();
        if anew {
            log.begin_membership_anew();
        }
        let headers = [log.change(0, Standing::Approved), log.change(1, Standing::Approved)];
        world.client(1, 1);
        world.master(0, &log);
        world.take();
        assert!(matches!(&world.records[world.records.len() - 1], Record::Head { .. }));
        world.say(0, signed(&[&headers[0], &headers[1]]));
        assert_eq!(world.class(1), Some(Class::Approved));
        let mut restarted = World::restored(RouterConfig::default(), world.records);
        for (n, class) in [(1, Class::Approved), (2, Class::Stranger), (3, Class::Expelled)] {
            restarted.client(n.into(), n);
            assert_eq!(restarted.class(n.into()), Some(class), "device {n}, anew {anew}");
        }
    }
}

/// The header that begins it vouches for itself, so the group is settled before and after: all the same nobody stays
/// what only the chain of before said.
#[test]
fn a_generation_that_begins_by_a_broadcast_places_everybody_anew() {
    let (mut world, mut log) = World::settled(&[1, 2]);
    world.client(1, 1);
    world.client(2, 2);
    assert_eq!((world.class(1), world.class(2)), (Some(Class::Approved), Some(Class::Approved)));
    log.next_generation();
    log.begin_membership_anew();
    let again = log.change(0, Standing::Approved);
    world.broadcast(&again);
    assert_eq!((world.class(1), world.class(2)), (Some(Class::Stranger), Some(Class::Stranger)));
}

/// It may have begun without knowing them: what it was shown when it came may have been lost on the way.
#[test]
fn a_master_that_begins_a_generation_learns_what_fell_out_of_the_chain() {
    for by_broadcast in [false, true] {
        let (mut world, mut log) = World::settled(&[1, 2]);
        let mut backup = log.clone();
        let expelled = log.change(2, Standing::Disapproved);
        world.broadcast(&expelled);
        backup.next_generation();
        backup.begin_membership_anew();
        let begins = backup.change(0, Standing::Approved);
        world.master(0, &backup);
        world.take();
        match by_broadcast {
            true => world.broadcast(&begins),
            false => world.say(0, signed(&[&begins])),
        }
        let told = world
            .got(0)
            .into_iter()
            .any(|frame| matches!(frame, Frame::Headers(headers) if headers == [expelled.signed().clone()]));
        assert!(told, "by broadcast: {by_broadcast}");
    }
}

#[test]
fn an_older_head_is_refused_silently() {
    let (mut world, log) = World::settled(&[1]);
    let old = World::settled(&[]).1.head();
    let records = world.records.len();
    world.hello(1, 1, Role::Client, Some(old));
    world.say(1, Frame::Head(log.head_with([9; 16])));
    assert_eq!(world.records.len(), records);
    assert_eq!(world.class(1), Some(Class::Approved));
}

#[test]
fn a_second_copy_of_the_master_is_shown_what_the_first_signed() {
    let (mut world, mut log) = World::settled(&[1]);
    let mut other = log.clone();
    let first = log.change(5, Standing::Registered);
    world.broadcast(&first);
    world.take();
    let second = other.change(6, Standing::Registered);
    world.broadcast(&second);
    let shown = world.got(0).into_iter().find_map(|frame| match frame {
        Frame::Headers(headers) => Some(headers),
        _ => None,
    });
    assert_eq!(shown, Some(vec![first.signed().clone()]));
}

/// The head of the copy that came further proves nothing, and the other copy's head may never have come.
#[test]
fn a_header_in_the_place_of_another_shows_a_master_that_it_has_a_copy() {
    for entries_between in [0, 1] {
        a_header_shows_a_copy(entries_between);
    }
}

fn a_header_shows_a_copy(entries_between: u64) {
    let (mut world, log) = World::settled(&[1]);
    let (mut one, mut two) = (log.clone(), log.clone());
    (0..entries_between).for_each(|_| drop(one.plain()));
    let ones = one.change(7, Standing::Registered);
    world.say(0, signed(&[&ones]));
    let twos = two.change(8, Standing::Registered);
    (0..2).for_each(|_| drop(two.plain()));
    world.master(5, &two);
    world.say(5, Frame::Head(two.head()));
    world.client(1, 1);
    world.take();
    world.say(5, signed(&[&twos]));
    let shown = |frames: Vec<Frame>| {
        frames.iter().any(|frame| matches!(frame, Frame::Headers(headers) if headers.contains(ones.signed())))
    };
    assert!(shown(world.got(5)), "what it did not sign");
    // Or a member has it.
    world.say(1, signed(&[&twos]));
    assert!(shown(world.got(5)));
}
