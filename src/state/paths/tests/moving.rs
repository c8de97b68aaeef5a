//! Devices whose addresses change, and that sleep.

use super::*;

/// A device is behind another NAT from now on, with another address: its connections are dead.
fn move_away(lab: &mut Lab, index: usize) {
    lab.dead.extend(lab.conns.as_flattened());
    move_on(lab, index);
}

/// The same, but its connections go with it.
fn move_on(lab: &mut Lab, index: usize) {
    lab.nats[index].outside = IpAddr::from([203, 0, 113, 90 + index as u8]);
    lab.nats[index].ports.clear();
    lab.nats[index].sent_to.clear();
    lab.inside[index] = address("10.0.77.7:7000");
    let observed = lab.nats[index].out(address(SERVER));
    lab.paths[index].addresses(Time(lab.now), vec![lab.inside[index], observed], false);
    lab.paths[index].tick(Time(lab.now), &mut lab.random);
    lab.carry_out(index);
}

/// QUIC finds the connection dead, at one end first.
fn die(lab: &mut Lab, index: usize, conn: ConnId) {
    lab.paths[index].lost(Time(lab.now), conn);
    lab.paths[index].tick(Time(lab.now), &mut lab.random);
    lab.carry_out(index);
}

fn pair() -> Lab {
    Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)])
}

#[test]
fn a_connection_that_dies_of_a_change_of_address_is_replaced_at_once_whichever_end_moved_and_whichever_notices() {
    for (mover, wanter, first) in
        [0, 1].into_iter().flat_map(|one| [0, 1].map(|two| (one, two))).flat_map(|(a, b)| [0, 1].map(|c| (a, b, c)))
    {
        let mut lab = pair();
        lab.want(wanter, true);
        lab.run_for(60_000);
        let ends = lab.conns.pop().unwrap();
        for (index, end) in ends.into_iter().enumerate() {
            lab.paths[index].used(Time(lab.now), end);
        }
        move_away(&mut lab, mover);
        lab.run_for(2_500);
        die(&mut lab, first, ends[first]);
        lab.run_for(400);
        die(&mut lab, 1 - first, ends[1 - first]);
        lab.run_for(600);
        for index in 0..2 {
            let state = lab.state(index);
            assert_eq!(state, State::Direct, "{mover} moved, {wanter} wants, {first} noticed first, {index}");
        }
    }
}

#[test]
fn who_hears_after_the_break_that_it_is_elsewhere_tells_who_wants_something_of_it() {
    for (mover, wanter) in [0, 1].into_iter().flat_map(|one| [0, 1].map(|two| (one, two))) {
        let mut lab = pair();
        lab.want(wanter, true);
        lab.run_for(1_000);
        let ends = lab.conns.pop().unwrap();
        for (index, end) in ends.into_iter().enumerate() {
            lab.paths[index].used(Time(lab.now), end);
            die(&mut lab, index, end);
        }
        move_away(&mut lab, mover);
        lab.run_for(500);
        assert_eq!([lab.state(0), lab.state(1)], [State::Direct, State::Direct], "{mover} moved, {wanter} wants");
    }
}

#[test]
fn a_connection_in_use_that_does_not_answer_after_a_move_is_replaced_before_quic_finds_it_dead() {
    for (mover, wanter) in [0, 1].into_iter().flat_map(|one| [0, 1].map(|two| (one, two))) {
        let mut lab = pair();
        lab.want(wanter, true);
        lab.run_for(60_000);
        let ends = lab.conns[0];
        for (index, end) in ends.into_iter().enumerate() {
            lab.paths[index].used(Time(lab.now), end);
        }
        move_away(&mut lab, mover);
        lab.run_for(900);
        for index in 0..2 {
            assert!(lab.paths[index].current(&KEYS[1 - index]).is_some(), "{mover} moved, {wanter} wants, {index}");
            assert_eq!(lab.paths[index].peer_of(ends[index]), None, "the old one is closed, so nothing waits for it");
        }
    }
}

#[test]
fn a_connection_that_answers_after_a_move_stays_and_no_other_one_is_looked_for() {
    let mut lab = pair();
    lab.want(0, true);
    lab.run_for(1_000);
    let (conns, counted) = (lab.conns.clone(), (lab.offers, lab.dials, lab.probes));
    for at in 0..600_u64 {
        // A server that lies says each time that the device is elsewhere.
        let seen = SocketAddr::from(([198, 51, 100, 7], 1_000 + at as u16));
        let inside = lab.inside[0];
        (0..2).for_each(|index| lab.paths[index].used(Time(lab.now), conns[0][index]));
        lab.paths[0].addresses(Time(lab.now), vec![inside, seen], false);
        lab.paths[0].tick(Time(lab.now), &mut lab.random);
        lab.carry_out(0);
        lab.run_for(100);
    }
    assert_eq!((lab.offers, lab.dials, lab.probes), counted);
    assert_eq!(lab.conns, conns);
    assert_eq!([lab.state(0), lab.state(1)], [State::Direct, State::Direct]);
}

#[test]
fn a_connection_that_answers_stays_also_when_the_other_device_offers() {
    let mut lab = pair();
    lab.want(0, true);
    lab.run_for(1_000);
    let (conns, up) = (lab.conns.clone(), lab.up);
    lab.deaf = true;
    let offer = PathOffer { token: [77; 8], candidates: vec![address("198.51.100.9:9")], answer: true };
    lab.paths[1].offer_came(Time(lab.now), &mut lab.random, KEYS[0], &offer);
    lab.carry_out(1);
    lab.run_for(10_000);
    assert_eq!((&lab.conns, lab.up), (&conns, up));
    let tries = lab.paths[1].tries(&KEYS[0]).unwrap();
    assert_eq!((tries.count, tries.direct), (2, 2), "an attempt that nobody needs has not failed");
}

#[test]
fn a_server_that_says_again_and_again_that_this_device_is_elsewhere_is_not_believed_for_long() {
    let mut lab = pair();
    (lab.deaf, lab.blocked) = (true, true);
    lab.want(0, true);
    for port in 1..600 {
        let seen = SocketAddr::from(([198, 51, 100, 7], port));
        let inside = lab.inside[0];
        lab.paths[0].addresses(Time(lab.now), vec![inside, seen], false);
        lab.paths[0].tick(Time(lab.now), &mut lab.random);
        lab.carry_out(0);
        lab.run_for(100);
        assert_eq!(lab.paths[0].own_candidates(), [inside, seen], "what is offered is what was heard last");
    }
    assert!(lab.offers > 12 && lab.offers <= 12 + 6, "{} offers", lab.offers);
}

#[test]
fn who_is_wanted_when_its_connection_is_closed_as_idle_is_tried_again() {
    let mut lab = pair();
    lab.want(0, true);
    // Nothing is carried, and nobody says again that it is wanted.
    lab.run_for(200_000);
    assert!(lab.offers > 2, "{} offers", lab.offers);
    assert_eq!(lab.state(0), State::Direct);
}

#[test]
fn an_attempt_goes_on_with_the_new_addresses() {
    let mut lab = pair();
    lab.blocked = true;
    lab.want(0, true);
    lab.run_for(2_000);
    assert_eq!(lab.state(0), State::Trying);
    move_away(&mut lab, 1);
    move_away(&mut lab, 0);
    lab.blocked = false;
    lab.run_for(500);
    assert_eq!([lab.state(0), lab.state(1)], [State::Direct, State::Direct]);
}

#[test]
fn who_wants_nothing_tells_who_does_where_it_is_now() {
    let mut lab = pair();
    lab.blocked = true;
    lab.want(0, true);
    lab.run_for(2_000);
    lab.blocked = false;
    move_away(&mut lab, 1);
    lab.run_for(500);
    assert_eq!([lab.state(0), lab.state(1)], [State::Direct, State::Direct]);
}

#[test]
fn what_breaks_long_after_a_change_broke_of_something_else() {
    let mut lab = pair();
    lab.want(0, true);
    lab.run_for(1_000);
    move_on(&mut lab, 0);
    lab.run_for(10_000);
    let ends = lab.conns.pop().unwrap();
    let before = lab.probes;
    for (index, end) in ends.into_iter().enumerate() {
        die(&mut lab, index, end);
    }
    lab.run_for(4_000);
    assert_eq!(lab.probes, before);
}

#[test]
fn another_address_beside_the_old_ones_breaks_nothing() {
    let mut lab = pair();
    lab.want(0, true);
    lab.run_for(1_000);
    let more: Vec<SocketAddr> = lab.paths[0].own_candidates().iter().copied().chain([address("10.7.0.1:1")]).collect();
    lab.paths[0].addresses(Time(lab.now), more, false);
    lab.run_for(1_000);
    let ends = lab.conns.pop().unwrap();
    die(&mut lab, 0, ends[0]);
    assert_eq!(lab.state(0), State::Relayed(Why::Broke), "and waits, as after any break");
}

#[test]
fn who_slept_tries_at_once_what_was_to_be_tried_later() {
    let mut lab = pair();
    lab.blocked = true;
    lab.want(0, true);
    lab.run_for(3_600_000);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing));
    lab.blocked = false;
    lab.paths[0].woke(Time(lab.now));
    lab.paths[0].tick(Time(lab.now), &mut lab.random);
    lab.carry_out(0);
    lab.run_for(500);
    assert_eq!([lab.state(0), lab.state(1)], [State::Direct, State::Direct]);
}

#[test]
fn a_device_that_can_not_offer_waits_without_being_due() {
    let mut lab = pair();
    lab.blocked = true;
    lab.want(0, true);
    lab.run_for(1_000);
    lab.paths[0].signalling(false);
    lab.paths[0].woke(Time(lab.now));
    assert_eq!(lab.paths[0].poll_timeout(), None);
    lab.paths[0].signalling(true);
    assert!(lab.paths[0].poll_timeout().is_some());
}

#[test]
fn an_offer_that_the_other_device_missed_goes_out_anew_when_it_is_back() {
    let mut lab = pair();
    // The server knows nobody of that name yet.
    lab.deaf = true;
    lab.want(0, true);
    lab.run_for(1_000);
    assert_eq!(lab.state(0), State::Trying);
    lab.deaf = false;
    lab.paths[0].came_back(Time(lab.now), &KEYS[1]);
    lab.paths[0].tick(Time(lab.now), &mut lab.random);
    lab.carry_out(0);
    lab.run_for(1_000);
    assert_eq!((lab.state(0), lab.state(1)), (State::Direct, State::Direct));
}

/// The server says that the other device has come to it.
fn come_back(lab: &mut Lab, index: usize) {
    lab.paths[index].came_back(Time(lab.now), &KEYS[1 - index]);
    lab.paths[index].tick(Time(lab.now), &mut lab.random);
    lab.carry_out(index);
}

#[test]
fn a_device_that_came_to_the_server_anew_is_tried_at_once() {
    for notices_first in [false, true] {
        let mut lab = pair();
        lab.want(0, true);
        lab.run_for(1_000);
        let ends = lab.conns.pop().unwrap();
        if notices_first {
            die(&mut lab, 0, ends[0]);
            assert_eq!(lab.state(0), State::Relayed(Why::Broke));
            lab.run_for(1_000);
        }
        die(&mut lab, 1, ends[1]);
        come_back(&mut lab, 0);
        lab.run_for(1_000);
        if !notices_first {
            die(&mut lab, 0, ends[0]);
            lab.run_for(1_000);
        }
        assert_eq!([lab.state(0), lab.state(1)], [State::Direct, State::Direct], "noticed first: {notices_first}");
    }
}

#[test]
fn a_server_that_says_again_and_again_that_a_device_came_is_not_believed_for_long() {
    let offers_to_the_deaf = |says_so: bool| {
        let mut lab = pair();
        (lab.deaf, lab.blocked) = (true, true);
        lab.want(0, true);
        for _ in 0..600 {
            lab.run_for(100);
            if says_so {
                come_back(&mut lab, 0);
            }
        }
        lab.offers
    };
    let (quiet, lied_to) = (offers_to_the_deaf(false), offers_to_the_deaf(true));
    assert!(quiet > 2);
    assert!(lied_to > quiet && lied_to <= quiet + 12, "{lied_to} instead of {quiet}");
}

#[test]
fn whoever_is_to_be_told_of_a_move_is_told_when_there_is_room() {
    let mut paths = Paths::new(PathsConfig { attempts_max: 1, ..config() }, key(1));
    paths.addresses(Time(0), vec![address("10.0.1.2:7000")], false);
    paths.signalling(true);
    let others = [key(2), key(3)];
    for other in others {
        paths.try_now(Time(0), other);
    }
    let mut offered = BTreeSet::new();
    let mut now = 0;
    while now < 60_000 {
        paths.tick(Time(now), &mut Drawn(0));
        while let Some(effect) = paths.poll_effect() {
            if let Effect::Offer(to, _) = effect {
                offered.insert(to);
            }
        }
        now = paths.poll_timeout().map_or(60_000, |at| at.0.max(now + 1));
    }
    assert_eq!(offered, BTreeSet::from(others), "one after the other");
}
