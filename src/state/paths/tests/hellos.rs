//! Until the other device has said hello, packets follow each other, so that QUIC notices those that are lost.

use super::*;

/// A device that has dialled the other one, which has not said hello.
fn dialler() -> (Paths, ConnId) {
    let mut paths = Paths::new(config(), KEYS[0]);
    let conn = ConnId(7);
    paths.dials.insert(1, (KEYS[1], address("203.0.113.2:7000")));
    paths.dialed(Time(0), 1, conn);
    (paths, conn)
}

/// When it pings, up to a time; it is called when it says, and some milliseconds late.
fn pings(paths: &mut Paths, conn: ConnId, until: u64, late: u64) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some(at) = paths.poll_timeout().filter(|at| at.0 <= until) {
        let now = Time(at.0 + late);
        paths.tick(now, &mut Drawn(0));
        while let Some(effect) = paths.poll_effect() {
            if effect == Effect::Ping(conn, now) {
                times.push(now.0);
            }
        }
    }
    times
}

#[test]
fn who_dialled_pings_until_the_other_device_says_hello() {
    let (mut paths, conn) = dialler();
    assert_eq!(pings(&mut paths, conn, 80, 0), [25, 50, 75]);
    paths.verified(Time(80), conn);
    assert!(pings(&mut paths, conn, 3_000, 0).is_empty());
}

#[test]
fn it_does_not_do_so_for_ever_and_makes_up_for_nothing() {
    let (mut paths, conn) = dialler();
    let times = pings(&mut paths, conn, 3_000, 30);
    assert!(times.windows(2).all(|two| two[1] - two[0] == 55), "{times:?}");
    assert!(times.last().is_some_and(|last| (900..1_100).contains(last)), "{times:?}");
}

#[test]
fn who_was_dialled_is_asked_nothing_before_the_hello() {
    let mut paths = Paths::new(config(), KEYS[1]);
    assert!(paths.accepted(Time(0), KEYS[0], ConnId(7)));
    assert!(pings(&mut paths, ConnId(7), 3_000, 0).is_empty());
}

#[test]
fn a_connection_that_is_over_before_the_hello_lets_another_address_be_dialled() {
    let mut lab = Lab::new([(Cone, Filtering::EndpointIndependent); 2]);
    let second = address("203.0.113.2:40001");
    lab.want(0, true);
    let first = address("203.0.113.2:40000");
    let offer = PathOffer { token: [7; 8], candidates: vec![first, second], answer: false };
    lab.paths[0].offer_came(Time(10), &mut Drawn(0), KEYS[1], &offer);
    let mut dialled = Vec::new();
    let (mut conn, mut now) = (70, 10);
    while now < 3_000 {
        while let Some(effect) = lab.paths[0].poll_effect() {
            match effect {
                Effect::Probe(to, Probe::Ping { number, .. }) => {
                    lab.paths[0].probe_came(Time(now), to, Probe::Pong { token: [7; 8], number });
                }
                Effect::Dial(dial, _, to) => {
                    dialled.push(to);
                    conn += 1;
                    lab.paths[0].dialed(Time(now), dial, ConnId(conn));
                    lab.paths[0].lost(Time(now + 1), ConnId(conn));
                }
                _ => {}
            }
        }
        now = lab.paths[0].poll_timeout().map_or(3_000, |at| at.0.max(now + 1));
        lab.paths[0].tick(Time(now), &mut Drawn(0));
    }
    assert_eq!(dialled, [first, second], "each once, and no more");
}

#[test]
fn who_hears_no_hello_on_a_connection_dials_itself() {
    for (own, dials) in [(1, 1), (0, 0)] {
        let mut paths = Paths::new(config(), KEYS[own]);
        let (other, conn) = (address("203.0.113.2:7000"), ConnId(7));
        paths.addresses(Time(0), vec![address("10.0.1.2:7000")], false);
        paths.signalling(true);
        let offer = PathOffer { token: [7; 8], candidates: vec![other], answer: true };
        paths.offer_came(Time(0), &mut Drawn(0), KEYS[1 - own], &offer);
        assert!(paths.accepted(Time(10), KEYS[1 - own], conn), "the other device dials");
        paths.probe_came(Time(20), other, Probe::Pong { token: [7; 8], number: 0 });
        paths.tick(Time(20 + config().takeover.as_millis() as u64), &mut Drawn(0));
        let effects = std::iter::from_fn(|| paths.poll_effect());
        assert_eq!(effects.filter(|effect| matches!(effect, Effect::Dial(..))).count(), dials, "{own}");
    }
}
