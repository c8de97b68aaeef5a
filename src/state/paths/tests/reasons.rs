//! What is said to a person who wants to know why a device is not reached directly.

use super::*;

/// Two devices that have found no way to each other; the first one's network is seen by the server from where its NAT is.
fn hopeless(kind: (super::Mapping, Filtering)) -> Lab {
    let mut lab = Lab::new([kind, (Symmetric, PortRestricted)]);
    let observed = lab.nats[0].out(address(SERVER));
    lab.paths[0].placed([lab.inside[0].ip()], Some(observed));
    lab.want(0, true);
    lab.run_for(8_000);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing), "nobody has seen this device but the server");
    lab
}

/// A third device sees the first one as its NAT shows it there.
fn third_device_sees_it(lab: &mut Lab) {
    let seen = lab.nats[0].out(address("198.51.100.9:7000"));
    lab.paths[0].seen_by(key(3), seen);
}

#[test]
fn a_nat_that_is_known_to_be_symmetric_is_named() {
    let mut lab = hopeless((Symmetric, PortRestricted));
    third_device_sees_it(&mut lab);
    assert_eq!(lab.state(0), State::Relayed(Why::OwnNat));
    lab.paths[0].expel(&key(3));
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing), "what the third one said counts no more");
}

#[test]
fn a_nat_that_is_not_the_reason_is_not_blamed() {
    let mut lab = hopeless((Cone, PortRestricted));
    third_device_sees_it(&mut lab);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing), "others pass it");

    let mut lab = hopeless((Symmetric, PortRestricted));
    lab.paths[0].mapped(Some(address("203.0.113.1:7001")));
    lab.paths[0].seen_by(key(3), address("203.0.113.1:7001"));
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing), "seen at the port that its router maps");
    third_device_sees_it(&mut lab);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing), "by which others reach it");

    let mut lab = hopeless((Symmetric, PortRestricted));
    third_device_sees_it(&mut lab);
    let near = BTreeMap::from([(KEYS[1], vec![address("10.0.2.2:7000")])]);
    lab.paths[0].nearby(Time(lab.now), &near);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing), "the other device is on this network");
}

#[test]
fn a_nat_of_the_family_that_was_not_tried_is_not_blamed() {
    let mut lab = Lab::new([(Symmetric, PortRestricted); 2]);
    let observed = lab.nats[0].out(address(SERVER));
    let six = address("[2001:db8::1]:7000");
    lab.paths[0].placed([lab.inside[0].ip(), six.ip()], Some(observed));
    lab.paths[0].addresses(Time(0), vec![lab.inside[0], observed, six], false);
    lab.paths[1].addresses(Time(0), vec![address("[2001:db8::7]:7000")], false);
    lab.blocked = true;
    lab.want(0, true);
    lab.run_for(8_000);
    third_device_sees_it(&mut lab);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing));
}

#[test]
fn two_devices_without_an_ip_family_in_common_are_told_so_and_tried_anew_when_they_have_one() {
    let mut lab = Lab::new([(Cone, Filtering::EndpointIndependent); 2]);
    lab.paths[1].addresses(Time(0), vec![address("[2001:db8::7]:7000")], false);
    lab.carry_out(1);
    lab.blocked = true;
    lab.want(0, true);
    lab.run_for(8_000);
    assert_eq!(lab.state(0), State::Relayed(Why::NoCommonFamily));
    lab.blocked = false;
    let observed = lab.nats[1].out(address(SERVER));
    lab.paths[1].addresses(Time(lab.now), vec![lab.inside[1], observed], false);
    lab.paths[1].tick(Time(lab.now), &mut Drawn(0));
    lab.carry_out(1);
    lab.run_for(1_000);
    assert_eq!(lab.state(0), State::Direct);
}

#[test]
fn that_a_device_did_not_answer_is_forgotten_when_it_comes_back() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    lab.deaf = true;
    lab.want(0, true);
    lab.run_for(8_000);
    lab.want(0, false);
    assert_eq!(lab.state(0), State::Relayed(Why::NoOffer));
    lab.paths[0].came_back(Time(lab.now), &KEYS[1]);
    assert_eq!(lab.state(0), State::Unknown, "it was another process, perhaps");
}

#[test]
fn whoever_asks_for_a_way_hears_whether_one_is_looked_for() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    let (now, other) = (Time(lab.now), KEYS[1]);
    assert!(!lab.paths[0].is_tried(now, &other));
    lab.paths[0].try_now(now, other);
    assert!(lab.paths[0].is_tried(now, &other), "an attempt begins in a moment");
    lab.deaf = true;
    lab.paths[0].tick(now, &mut lab.random);
    lab.carry_out(0);
    assert!(lab.paths[0].is_tried(now, &other), "it is under way");
    lab.run_for(8_000);
    assert!(!lab.paths[0].is_tried(Time(lab.now), &other), "it is over");
    // No offer can be passed on: nothing will come of it.
    lab.paths[0].signalling(false);
    lab.paths[0].try_now(Time(lab.now), other);
    assert!(!lab.paths[0].is_tried(Time(lab.now), &other));
    let mut off = Paths::new(PathsConfig { enabled: false, ..config() }, KEYS[0]);
    off.try_now(now, other);
    assert!(!off.is_tried(now, &other));
}
