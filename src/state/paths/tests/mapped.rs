//! Routers that map a port.

use super::*;

const MAPPED: u16 = 7_777;

/// Tells a device where it is; its router maps a port when it is asked, if it is one that does.
fn place(lab: &mut Lab, index: usize, maps: bool) {
    let observed = lab.nats[index].out(address(SERVER));
    let inside = lab.inside[index];
    lab.paths[index].placed([inside.ip()], Some(observed));
    lab.carry_out(index);
    assert_eq!(lab.asks_for_port[index].take(), Some(true), "a NAT shows, so the router is asked");
    let at = maps.then(|| SocketAddr::new(lab.nats[index].outside, MAPPED));
    lab.nats[index].mapped = at.map(|at| at.port());
    lab.paths[index].mapped(at);
    lab.paths[index].addresses(Time(lab.now), vec![inside, observed], false);
    lab.paths[index].tick(Time(lab.now), &mut lab.random);
    lab.carry_out(index);
}

#[test]
fn one_mapped_port_is_enough_for_any_two_nats() {
    for (mapper, wanter) in [0, 1].into_iter().flat_map(|one| [0, 1].map(|two| (one, two))) {
        let mut lab = Lab::new([(Symmetric, PortRestricted), (Symmetric, PortRestricted)]);
        place(&mut lab, mapper, true);
        place(&mut lab, 1 - mapper, false);
        assert_eq!(lab.paths[1 - mapper].port_mapping(), PortMapping::Refused);
        lab.want(wanter, true);
        lab.run_for(1_000);
        assert!(lab.up.iter().all(Option::is_some), "{mapper} maps, {wanter} wants");
    }
}

#[test]
fn a_port_that_is_mapped_late_is_offered_to_who_waits() {
    let mut lab = Lab::new([(Symmetric, PortRestricted), (Symmetric, PortRestricted)]);
    lab.want(0, true);
    lab.run_for(20_000);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing));
    place(&mut lab, 1, true);
    lab.run_for(1_500);
    assert!(lab.up.iter().all(Option::is_some), "whoever has it offers it at once");
}
