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
    assert_eq!(pings(&mut paths, conn, 160, 0), [50, 100, 150]);
    paths.verified(Time(160), conn);
    assert!(pings(&mut paths, conn, 3_000, 0).is_empty());
}

#[test]
fn it_does_not_do_so_for_ever_and_makes_up_for_nothing() {
    let (mut paths, conn) = dialler();
    let times = pings(&mut paths, conn, 3_000, 30);
    assert!(times.windows(2).all(|two| two[1] - two[0] == 80), "{times:?}");
    assert!(times.last().is_some_and(|last| (900..1_100).contains(last)), "{times:?}");
}

#[test]
fn who_was_dialled_is_asked_nothing_before_the_hello() {
    let mut paths = Paths::new(config(), KEYS[1]);
    assert!(paths.accepted(Time(0), KEYS[0], ConnId(7)));
    assert!(pings(&mut paths, ConnId(7), 3_000, 0).is_empty());
}
