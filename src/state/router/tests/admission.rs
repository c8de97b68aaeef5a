use super::*;
use crate::wire::frame::{HeldRegistration, MasterRefusal};

fn refusal(frames: &[Frame]) -> Option<MasterRefusal> {
    frames.iter().find_map(|frame| match frame {
        Frame::MasterRegisterAck(Err(refusal)) => Some(*refusal),
        _ => None,
    })
}

#[test]
fn an_old_copy_does_not_displace_a_master_that_was_imported() {
    let (mut world, mut log) = World::settled(&[1]);
    let old = log.clone();
    log.next_generation();
    log.plain();
    world.master(3, &log);
    world.say(3, Frame::Head(log.head()));
    world.take();
    world.master(4, &old);
    assert_eq!(refusal(&world.got(4)), Some(MasterRefusal::Superseded));
    assert_eq!(world.closed(3), None);
    // One that is being imported, too, shows no head: it is let in, and shown all that there is.
    world.hello(5, 0, Role::Master, None);
    world.say(5, Frame::MasterRegister { admission: None });
    assert!(matches!(world.got(5)[1], Frame::MasterRegisterAck(Ok(_))));
}

#[test]
fn who_may_be_dialled_hears_where_its_packets_come_from_when_that_changes() {
    let (mut world, _) = World::settled(&[1]);
    world.client(8, 1);
    world.take();
    let elsewhere: SocketAddr = "198.51.100.7:9".parse().unwrap();
    let moves = |world: &mut World, conn| world.input(Input::Moved { conn: ConnId(conn), remote: elsewhere });
    moves(&mut world, 8);
    assert!(matches!(world.got(8)[..], [Frame::Observed(to)] if to == elsewhere));
    moves(&mut world, 8);
    assert!(world.got(8).is_empty(), "once");
    world.connect(9, 2);
    moves(&mut world, 9);
    assert!(world.got(9).is_empty(), "a stranger is told in its welcome");
    let (software, role) = ("test".to_owned(), Role::Client);
    let hello = Hello { version: PROTOCOL_VERSION, software, role, group: group(), head: None };
    world.say(9, Frame::Hello(hello));
    assert!(matches!(&world.got(9)[..], [Frame::Welcome(welcome)] if welcome.observed == elsewhere));
}

#[test]
fn who_may_be_dialled_hears_where_its_pings_of_the_other_family_come_from() {
    let (mut world, _) = World::settled(&[1]);
    world.client(8, 1);
    world.take();
    let (token, other) = ([1; 8], [2; 8]);
    let [four, six, later]: [SocketAddr; 3] =
        ["198.51.100.7:9", "[2001:db8::7]:9", "[2001:db8::7]:10"].map(|text| text.parse().unwrap());
    let ping = |world: &mut World, from, token| {
        world.input(Input::Pinged { from, token });
        world.got(8).into_iter().map(|frame| matches!(frame, Frame::Observed(at) if at == from)).collect::<Vec<_>>()
    };
    assert!(ping(&mut world, six, token).is_empty(), "nobody said whose it is");
    world.say(8, Frame::Sight(token));
    assert!(ping(&mut world, six, other).is_empty());
    assert!(ping(&mut world, four, token).is_empty(), "its connection tells that");
    assert_eq!(ping(&mut world, six, token), [true]);
    assert!(ping(&mut world, six, token).is_empty(), "once");
    assert_eq!(ping(&mut world, later, token), [true]);
    world.say(8, Frame::Sight(other));
    assert!(ping(&mut world, six, token).is_empty(), "the last token counts");
    assert_eq!(ping(&mut world, six, other), [true]);
    world.input(Input::Closed { conn: ConnId(8) });
    assert!(ping(&mut world, later, other).is_empty());
    // Who is no member can have nothing sent.
    world.connect(9, 2);
    world.say(9, Frame::Sight(token));
    assert!(world.closed(9).is_some());
}

#[test]
fn what_a_process_said_that_is_gone_does_not_displace_its_successor() {
    let (mut world, _) = World::settled(&[1]);
    world.client(8, 1);
    world.hello(7, 1, Role::Client, None);
    assert_eq!((world.closed(7), world.closed(8)), (Some(CloseCode::Replaced), None));
    assert_eq!(world.class(8), Some(Class::Approved));
}

#[test]
fn a_master_needs_its_key_and_a_new_group_the_admission_secret() {
    let mut world = World::new(RouterConfig { groups_max: 1, ..RouterConfig::default() });
    let (log, _) = Log::new();
    world.hello(1, 1, Role::Master, None);
    world.say(1, Frame::MasterRegister { admission: Some(SECRET) });
    assert_eq!(refusal(&world.got(1)), Some(MasterRefusal::Key));
    world.hello(2, 0, Role::Master, None);
    world.say(2, Frame::MasterRegister { admission: Some(AdmissionSecret([8; 16])) });
    assert_eq!(refusal(&world.got(2)), Some(MasterRefusal::Admission));
    assert!(world.records.is_empty());
    world.master(3, &log);
    assert!(matches!(world.got(3)[..], [Frame::Welcome(_), Frame::MasterRegisterAck(Ok(_))]));
    assert!(matches!(world.records[..], [Record::Group { .. }, Record::Head { .. }]));
    world.hello(4, 0, Role::Master, None);
    world.say(4, Frame::MasterRegister { admission: None });
    assert!(matches!(world.got(4)[1], Frame::MasterRegisterAck(Ok(_))), "it is known");
    assert_eq!(world.closed(3), Some(CloseCode::Replaced));
    world.advance(2_000);
    assert_eq!(world.closed(1), Some(CloseCode::NotAdmitted));
}

#[test]
fn a_server_takes_so_many_groups() {
    let mut world = World::new(RouterConfig { groups_max: 0, ..RouterConfig::default() });
    world.master(1, &Log::new().0);
    assert_eq!(refusal(&world.got(1)), Some(MasterRefusal::ServerFull));
}

#[test]
fn hello_comes_first_and_in_time() {
    let (mut world, log) = World::settled(&[1]);
    world.connect(1, 1);
    world.say(1, Frame::Head(log.head()));
    assert_eq!(world.closed(1), Some(CloseCode::Protocol));
    world.connect(2, 1);
    world.advance(10_000);
    assert_eq!(world.closed(2), Some(CloseCode::StrangerLimit));
    world.client(3, 1);
    let hello = Hello { version: 1, software: "x".into(), role: Role::Client, group: group(), head: None };
    world.say(3, Frame::Hello(hello));
    assert_eq!(world.closed(3), Some(CloseCode::Protocol), "hello is said once");
}

#[test]
fn a_stranger_may_register_and_nothing_else_for_ten_seconds() {
    let (mut world, log) = World::settled(&[1]);
    world.client(1, 9);
    assert!(matches!(&world.got(1)[..], [Frame::Welcome(w)] if w.class == Class::Stranger && w.head.is_none()));
    world.advance(9_999);
    assert_eq!(world.closed(1), None);
    world.advance(1);
    assert_eq!(world.closed(1), Some(CloseCode::StrangerLimit));
    for (conn, frame) in [
        (2, Frame::Head(log.head())),
        (3, Frame::Headers(vec![])),
        (4, Frame::Routed { peer: key(0), number: 1, envelope: vec![] }),
        (5, Frame::RequestChunk { request: 1, owner: id(1), ranges: vec![] }),
        (6, Frame::ClientRegister { from: key(9), invite: INVITE, number: 1, envelope: vec![0; 5_000] }),
    ] {
        world.client(conn, 9);
        world.say(conn, frame);
        assert_eq!(world.closed(conn), Some(CloseCode::Protocol), "{conn}");
    }
}

#[test]
fn strangers_are_few_from_one_network_and_members_are_no_strangers() {
    let (mut world, _) = World::settled(&[1, 2]);
    for n in 10..42 {
        world.client(n.into(), n);
        assert_eq!(world.closed(n.into()), None);
    }
    world.client(90, 90);
    assert_eq!(world.closed(90), Some(CloseCode::StrangerLimit));
    world.client(1, 1);
    assert_eq!(world.class(1), Some(Class::Approved));
    world.input(Input::Closed { conn: ConnId(10) });
    world.client(91, 91);
    assert_eq!(world.closed(91), None);
}

#[test]
fn an_unknown_group_is_said_and_closed() {
    let mut world = World::new(RouterConfig::default());
    world.client(1, 1);
    assert_eq!(world.class(1), Some(Class::UnknownGroup));
    world.say(1, Frame::Head(Log::new().0.head()));
    world.advance(2_000);
    assert_eq!(world.closed(1), Some(CloseCode::NotAdmitted));
}

#[test]
fn a_newer_connection_of_a_device_replaces_the_older() {
    let (mut world, _) = World::settled(&[1]);
    world.client(1, 1);
    world.client(2, 1);
    assert_eq!(world.closed(1), Some(CloseCode::Replaced));
    assert_eq!(world.class(2), Some(Class::Approved));
    world.input(Input::Closed { conn: ConnId(1) });
    world.take();
    world.say(0, Frame::Routed { peer: key(1), number: 1, envelope: vec![1] });
    assert_eq!(world.got(2).len(), 1);
}

#[test]
fn a_member_hears_head_tip_itself_and_who_is_there() {
    let (mut world, log) = World::settled(&[1, 2]);
    world.client(2, 2);
    world.client(1, 1);
    assert_eq!(world.presence(1).iter().filter(|row| **row == (2, true)).count(), 1);
    assert_eq!(world.presence(1)[..2], [(0, true), (2, true)]);
    let got = world.got(1);
    let [Frame::Welcome(welcome), Frame::Headers(own)] = &got[..] else { panic!() };
    assert_eq!(welcome.head, Some(log.head()));
    assert_eq!(own.len(), 1);
    world.advance(100);
    assert!(world.presence(2).contains(&(1, true)));
    world.take();
    world.input(Input::Closed { conn: ConnId(1) });
    world.advance(100);
    assert_eq!(world.presence(2), [(1, false)]);
    assert_eq!(world.presence(0), [(1, false)]);
}

#[test]
fn presence_of_many_is_told_together() {
    let (mut world, _) = World::settled(&[1, 2, 3, 4]);
    world.client(1, 1);
    world.advance(100);
    world.advance(100);
    world.take();
    (2..5).for_each(|n| world.client(n.into(), n));
    world.advance(100);
    let frames =
        world.sent.iter().filter(|(to, frame)| *to == ConnId(1) && matches!(frame, Frame::Presence(_))).count();
    assert_eq!(frames, 2, "the first at once, the others together");
}

#[test]
fn registration_to_approval_on_one_connection() {
    let (mut world, mut log) = World::settled(&[1]);
    world.client(1, 1);
    world.client(9, 9);
    world.take();
    let register = || Frame::ClientRegister { from: key(1), invite: INVITE, number: 3, envelope: vec![1] };
    world.say(9, register());
    assert!(
        matches!(&world.got(0)[..], [Frame::ClientRegister { from, .. }] if *from == key(9)),
        "the server knows who"
    );
    world.say(0, Frame::Routed { peer: key(9), number: 1, envelope: vec![2] });
    assert!(matches!(&world.got(9)[..], [Frame::Routed { peer, .. }] if *peer == key(0)));
    let registered = log.change(9, Standing::Registered);
    world.broadcast(&registered);
    assert!(matches!(&world.got(9)[..], [Frame::Welcome(w), Frame::Headers(_)] if w.class == Class::Registered));
    world.say(0, Frame::OpenInvites(vec![]));
    world.take();
    world.say(9, register());
    assert_eq!(world.got(0).len(), 1, "its answer may have been lost");
    world.say(0, Frame::Pong(0));
    world.advance(60_000);
    assert_eq!(world.closed(9), None);
    world.say(9, Frame::Routed { peer: key(1), number: 1, envelope: vec![] });
    assert_eq!(world.closed(9), Some(CloseCode::Protocol));
    world.client(10, 9);
    world.take();
    let approved = log.change(9, Standing::Approved);
    world.broadcast(&approved);
    assert!(matches!(&world.got(10)[..], [Frame::Welcome(w), Frame::Headers(_), Frame::Broadcast { .. }]
        if w.class == Class::Approved));
    assert!(matches!(&world.got(1)[..], [Frame::Broadcast { .. }]));
    world.say(10, register());
    assert_eq!(world.closed(10), None, "it was under way when the class changed");
}

#[test]
fn registrations_wait_for_the_master_and_its_invites() {
    let (mut world, log) = World::settled(&[]);
    let register = |invite| Frame::ClientRegister { from: key(9), invite, number: 3, envelope: vec![1] };
    let held = |frames: Vec<Frame>| match frames[..] {
        [Frame::RegistrationHeld(held)] => Some(held),
        _ => None,
    };
    world.client(9, 9);
    world.take();
    world.say(9, register(InviteId([6; 16])));
    assert_eq!(held(world.got(9)), Some(HeldRegistration::InviteNotOpen));
    world.input(Input::Closed { conn: ConnId(0) });
    world.say(9, register(INVITE));
    assert_eq!(held(world.got(9)), Some(HeldRegistration::ServerNotReady));
    world.master(1, &log);
    world.say(9, register(INVITE));
    assert_eq!(held(world.got(9)), Some(HeldRegistration::ServerNotReady), "it hasn't told its invites");
}
