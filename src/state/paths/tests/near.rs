//! Devices on one local network, with and without their server.

use super::*;

const LAPTOP: &str = "192.168.1.7:7000";

fn seen(addresses: &[&str]) -> BTreeMap<DeviceKey, Vec<SocketAddr>> {
    BTreeMap::from([(KEYS[1], addresses.iter().map(|text| address(text)).collect())])
}

/// A device that wants something from another one, and can't offer anything: its server is away.
fn cut_off() -> Paths {
    let mut paths = Paths::new(config(), KEYS[0]);
    paths.wanted(Time(0), &mut Drawn(0), &BTreeSet::from([KEYS[1]]));
    paths
}

fn effects(paths: &mut Paths) -> Vec<Effect> {
    std::iter::from_fn(|| paths.poll_effect()).collect()
}

/// Lets time pass; gives the dials.
fn tick(paths: &mut Paths, now: u64) -> Vec<(u64, SocketAddr)> {
    paths.tick(Time(now), &mut Drawn(9));
    let dial = |effect: Effect| match effect {
        Effect::Dial(dial, key, to) if key == KEYS[1] => Some((dial, to)),
        _ => None,
    };
    effects(paths).into_iter().filter_map(dial).collect()
}

#[test]
fn who_is_seen_is_dialled_without_a_server() {
    let mut paths = cut_off();
    assert_eq!(tick(&mut paths, 0), []);
    paths.nearby(Time(10), &seen(&[LAPTOP]));
    assert!(paths.poll_timeout() <= Some(Time(10)));
    assert_eq!(tick(&mut paths, 10), [(1, address(LAPTOP))]);
    assert_eq!(tick(&mut paths, 20), [], "once at a time");
    paths.dialed(Time(30), 1, ConnId(5));
    paths.verified(Time(40), ConnId(5));
    assert_eq!((paths.state(&KEYS[1]), effects(&mut paths)), (State::Direct, vec![Effect::Up(KEYS[1], ConnId(5))]));
    assert_eq!(tick(&mut paths, 50), []);
    assert!(paths.poll_timeout() > Some(Time(50)), "nothing is due");
}

#[test]
fn who_is_seen_and_not_wanted_is_left_alone() {
    let mut paths = Paths::new(config(), KEYS[0]);
    paths.nearby(Time(0), &seen(&[LAPTOP]));
    assert_eq!((tick(&mut paths, 1), paths.poll_timeout()), (vec![], None));
}

#[test]
fn only_local_addresses_are_dialled_and_a_few_at_a_time_in_turn() {
    let mut paths = cut_off();
    let far = ["198.51.100.1:7", "100.64.0.1:7", "[2001:db8::1]:7", "[fe80::1]:7", "127.0.0.1:7"];
    paths.nearby(Time(0), &seen(&far));
    assert_eq!(tick(&mut paths, 0), []);
    let many: Vec<String> = (1..=40).map(|host| format!("10.0.0.{host}:7")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut dialled = BTreeSet::new();
    for round in 0..8_u64 {
        let now = round * 600_000;
        paths.nearby(Time(now), &seen(&many));
        let dials = tick(&mut paths, now);
        assert_eq!(dials.len(), 4);
        for (dial, to) in dials {
            dialled.insert(to);
            paths.dial_failed(Time(now), dial, "nothing came back".to_owned());
        }
    }
    assert_eq!(dialled.len(), crate::wire::limits::CANDIDATES_MAX);
}

#[test]
fn what_fails_is_tried_again_ever_more_seldom_and_says_why() {
    let mut paths = cut_off();
    let mut dials = 0;
    for second in 0..3_600 {
        let now = second * 1_000;
        if second % 30 == 0 {
            paths.nearby(Time(now), &seen(&[LAPTOP]));
        }
        for (dial, _) in tick(&mut paths, now) {
            dials += 1;
            paths.dial_failed(Time(now + 100), dial, "nobody".to_owned());
        }
    }
    assert!((10..=20).contains(&dials), "{dials}");
    assert_eq!(paths.state(&KEYS[1]), State::Relayed(Why::NotNear("nobody".to_owned())));
    // Another network is another matter.
    paths.addresses(Time(3_600_000), vec![address("192.168.1.8:7")], false);
    assert_eq!(tick(&mut paths, 3_600_000).len(), 1);
}

#[test]
fn a_device_that_comes_and_goes_all_the_time_is_dialled_within_the_cap() {
    let mut paths = cut_off();
    let mut dials = 0;
    for moment in 0..600 {
        let now = moment * 100;
        paths.nearby(Time(now), &seen(&[LAPTOP]));
        for (dial, _) in tick(&mut paths, now) {
            dials += 1;
            paths.dial_failed(Time(now), dial, "nobody".to_owned());
        }
        paths.nearby(Time(now + 50), &BTreeMap::new());
    }
    assert!((1..=PathsConfig::default().dials_per_minute).contains(&dials), "{dials}");
}

#[test]
fn who_is_not_seen_any_more_is_not_dialled() {
    let mut paths = cut_off();
    paths.nearby(Time(0), &seen(&[LAPTOP]));
    paths.nearby(Time(1), &BTreeMap::new());
    assert_eq!((tick(&mut paths, 2), paths.is_near(&KEYS[1])), (vec![], false));
    paths.nearby(Time(3), &seen(&[LAPTOP]));
    assert!(paths.is_near(&KEYS[1]));
    paths.tick(Time(120_003), &mut Drawn(9));
    assert!(!paths.is_near(&KEYS[1]), "nobody said goodbye, and nobody saw it");
}

#[test]
fn as_many_devices_are_remembered_as_fit() {
    let mut paths = cut_off();
    let crowd: BTreeMap<DeviceKey, Vec<SocketAddr>> =
        (0..1_000).map(|seed| (key(seed + 10), vec![address("10.1.2.3:4")])).collect();
    paths.nearby(Time(0), &crowd);
    assert_eq!(crowd.keys().filter(|key| paths.is_near(key)).count(), 256);
}

#[test]
fn with_a_server_the_local_network_is_tried_first_and_the_offer_follows() {
    let mut paths = cut_off();
    paths.addresses(Time(0), vec![address("192.168.1.8:7")], false);
    paths.signalling(true);
    paths.nearby(Time(10), &seen(&[LAPTOP]));
    assert_eq!(tick(&mut paths, 10).len(), 1);
    let offers = |paths: &mut Paths, now| {
        paths.tick(Time(now), &mut Drawn(9));
        effects(paths).iter().filter(|effect| matches!(effect, Effect::Offer(..))).count()
    };
    assert_eq!(offers(&mut paths, 500), 0);
    assert_eq!(paths.poll_timeout(), Some(Time(510)));
    assert_eq!(offers(&mut paths, 510), 1);
}

#[test]
fn of_two_dials_that_both_succeed_one_is_closed() {
    let mut paths = cut_off();
    paths.nearby(Time(0), &seen(&[LAPTOP, "10.0.0.7:7000"]));
    assert_eq!(tick(&mut paths, 0).len(), 2);
    paths.dialed(Time(5), 1, ConnId(5));
    paths.dialed(Time(6), 2, ConnId(6));
    assert_eq!(effects(&mut paths), [Effect::Close(ConnId(6))]);
    paths.verified(Time(7), ConnId(5));
    paths.lost(Time(8), ConnId(6));
    assert_eq!(paths.state(&KEYS[1]), State::Direct);
}

#[test]
fn a_connection_that_breaks_is_tried_again_on_the_local_network_after_a_pause() {
    let mut paths = cut_off();
    paths.nearby(Time(0), &seen(&[LAPTOP]));
    let dials = tick(&mut paths, 0);
    paths.dialed(Time(5), dials[0].0, ConnId(5));
    paths.verified(Time(6), ConnId(5));
    paths.nearby(Time(90_000), &seen(&[LAPTOP]));
    paths.used(Time(90_000), ConnId(5));
    paths.lost(Time(100_000), ConnId(5));
    assert_eq!(tick(&mut paths, 100_001), []);
    assert_eq!(paths.poll_timeout(), Some(Time(105_000)));
    assert_eq!(tick(&mut paths, 105_000).len(), 1);
}

#[test]
fn an_expelled_device_is_not_dialled() {
    let mut paths = cut_off();
    paths.nearby(Time(0), &seen(&[LAPTOP]));
    paths.expel(&KEYS[1]);
    assert_eq!((tick(&mut paths, 1), paths.is_near(&KEYS[1])), (vec![], false));
}
