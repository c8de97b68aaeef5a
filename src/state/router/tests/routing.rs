use super::*;

fn routed(to: u8, number: u64, bytes: usize) -> Frame {
    Frame::Routed { peer: key(to), number, envelope: vec![0; bytes] }
}

fn both() -> World {
    let (mut world, _) = World::settled(&[1, 2]);
    world.client(1, 1);
    world.client(2, 2);
    world.take();
    world
}

#[test]
fn frames_go_between_members_and_master_with_their_sender() {
    let mut world = both();
    world.say(1, routed(2, 1, 10));
    assert!(matches!(&world.got(2)[..], [Frame::Routed { peer, number: 1, .. }] if *peer == key(1)));
    world.say(1, routed(0, 2, 10));
    assert!(matches!(&world.got(0)[..], [Frame::Routed { peer, number: 2, .. }] if *peer == key(1)));
    world.say(0, routed(1, 3, 10));
    assert!(matches!(&world.got(1)[..], [Frame::Routed { peer, number: 3, .. }] if *peer == key(0)));
}

#[test]
fn who_cannot_be_reached_is_said_at_once() {
    let mut world = both();
    world.input(Input::Closed { conn: ConnId(0) });
    world.say(1, routed(0, 7, 10));
    assert!(matches!(world.got(1)[..], [Frame::ServerNotReady { number: 7 }]));
    world.say(1, routed(9, 8, 10));
    assert!(matches!(world.got(1)[..], [Frame::ServerNotReady { number: 8 }]));
}

#[test]
fn an_envelope_has_a_limit() {
    let mut world = both();
    world.say(1, routed(0, 1, crate::wire::limits::ENVELOPE_BYTES_MAX + 1));
    assert_eq!(world.closed(1), Some(CloseCode::Protocol));
}

#[test]
fn greedy_member() {
    let mut world = both();
    for number in 0..100 {
        world.say(1, routed(0, number, 300_000));
    }
    let busy = world.got(1).iter().filter(|frame| matches!(frame, Frame::Busy { .. })).count();
    let passed = world.got(0).len();
    assert!((85..100).contains(&busy), "{busy}");
    assert!(passed <= 4, "{passed}: no more than a window is under way");
    world.say(2, routed(0, 1, 1_000));
    assert!(world.got(2).is_empty(), "the other is not held up");
    world.input(Input::Sent { conn: ConnId(0), bytes: 1 << 20 });
    assert!(world.got(0).iter().take(2).any(|frame| matches!(frame, Frame::Routed { peer, .. } if *peer == key(2))));
    world.advance(5_000);
    world.input(Input::Sent { conn: ConnId(0), bytes: 1 << 30 });
    world.got(1);
    world.say(1, routed(0, 200, 1_000));
    assert!(world.got(1).is_empty());
}

#[test]
fn what_waits_for_a_master_that_goes_is_returned() {
    let mut world = both();
    (0..6).for_each(|number| world.say(1, routed(0, number, 300_000)));
    let sent = world.got(0).len();
    world.got(1);
    world.input(Input::Closed { conn: ConnId(0) });
    let returned = world.got(1).iter().filter(|frame| matches!(frame, Frame::ServerNotReady { .. })).count();
    assert_eq!(sent + returned, 6);
}

fn ask(owner: PublicId) -> Frame {
    Frame::RequestChunk { request: 4, owner, ranges: vec![] }
}

#[test]
fn hopeless_chunk_requests_are_refused_in_words() {
    let mut world = both();
    for (owner, expected) in [(id(9), ChunkRefusal::OwnerUnknown), (id(1), ChunkRefusal::Malformed)] {
        world.say(1, ask(owner));
        assert!(matches!(world.got(1)[..], [Frame::ChunkRefused { request: 4, reason, .. }] if reason == expected));
    }
    world.say(1, ask(id(2)));
    world.say(1, ask(id(0)));
    let owners: Vec<ConnId> = world
        .orders
        .iter()
        .map(|order| match order {
            ChunkOrder::Ask { owner_conn, .. } => *owner_conn,
            _ => panic!(),
        })
        .collect();
    assert_eq!(owners, [ConnId(2), ConnId(0)]);
    world.input(Input::Closed { conn: ConnId(2) });
    world.say(1, ask(id(2)));
    assert!(matches!(world.got(1)[..], [Frame::ChunkRefused { reason: ChunkRefusal::OwnerAway, .. }]));
}

#[test]
fn a_ping_is_answered() {
    let mut world = both();
    world.say(1, Frame::Ping(3));
    assert!(matches!(world.got(1)[..], [Frame::Pong(3)]));
}

fn pinged(world: &mut World, conn: u64) -> bool {
    world.got(conn).iter().any(|frame| matches!(frame, Frame::Ping(_)))
}

#[test]
fn an_owner_that_was_killed_counts_as_away_within_seconds() {
    let mut world = both();
    world.say(1, ask(id(2)));
    world.advance(999);
    assert!(!pinged(&mut world, 2), "its answer may be under way");
    world.advance(1);
    assert!(pinged(&mut world, 2));
    world.advance(6_999);
    assert_eq!(world.closed(2), None);
    world.advance(1);
    assert_eq!(world.closed(2), Some(CloseCode::Unheard));
    world.advance(1_000);
    assert!(world.presence(1).contains(&(2, false)), "the asker hears that it is away");
}

#[test]
fn whoever_says_anything_is_there() {
    let mut world = both();
    world.say(1, ask(id(2)));
    world.advance(1_000);
    assert!(pinged(&mut world, 2));
    world.say(2, Frame::Pong(0));
    world.advance(60_000);
    assert_eq!(world.closed(2), None, "nothing more is expected of it");
    assert!(!pinged(&mut world, 2));
    world.say(1, ask(id(2)));
    world.advance(1_000);
    assert!(pinged(&mut world, 2), "the next request expects an answer again");
}

#[test]
fn a_silent_master_is_noticed_when_it_is_asked() {
    let mut world = both();
    world.say(1, routed(0, 7, 10));
    world.advance(8_000);
    assert_eq!(world.closed(0), Some(CloseCode::Unheard));
    world.say(1, routed(0, 8, 10));
    assert!(matches!(world.got(1)[..], [.., Frame::ServerNotReady { number: 8 }]));
}

#[test]
fn nothing_is_expected_of_who_is_out() {
    let (mut world, mut log) = World::settled(&[1, 2]);
    world.client(1, 1);
    world.client(2, 2);
    world.say(1, ask(id(2)));
    let expulsion = log.change(2, Standing::Disapproved);
    world.broadcast(&expulsion);
    world.take();
    world.advance(4_000);
    assert!(world.got(2).is_empty(), "who is out gets the header and nothing else");
}
