use super::*;
use crate::wire::sign::Identity;
use std::net::IpAddr;
use std::sync::LazyLock;

mod hellos;
mod mapped;
mod moving;
mod near;
mod reasons;

/// How a NAT gives out ports, in RFC 4787's terms (section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapping {
    EndpointIndependent,
    AddressAndPortDependent,
}

/// What a NAT lets in (RFC 4787, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filtering {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

use Filtering::{AddressAndPortDependent as PortRestricted, AddressDependent as AddressRestricted};
use Mapping::{AddressAndPortDependent as Symmetric, EndpointIndependent as Cone};

struct Nat {
    mapping: Mapping,
    filtering: Filtering,
    outside: IpAddr,
    /// The inside's port stands for its host, which is alone behind its NAT.
    ports: BTreeMap<Option<SocketAddr>, u16>,
    sent_to: BTreeSet<(u16, SocketAddr)>,
    /// A port that lets everybody in, and who came by it: answers to them leave by it.
    mapped: Option<u16>,
    came_by_it: BTreeSet<SocketAddr>,
}

impl Nat {
    /// Where a packet to `to` seems to come from.
    fn out(&mut self, to: SocketAddr) -> SocketAddr {
        if let Some(port) = self.mapped.filter(|_| self.came_by_it.contains(&to)) {
            return SocketAddr::new(self.outside, port);
        }
        let key = (self.mapping == Symmetric).then_some(to);
        let next = 40_000 + self.ports.len() as u16;
        let port = *self.ports.entry(key).or_insert(next);
        self.sent_to.insert((port, to));
        SocketAddr::new(self.outside, port)
    }

    fn lets_in(&mut self, port: u16, from: SocketAddr) -> bool {
        if self.mapped == Some(port) {
            self.came_by_it.insert(from);
            return true;
        }
        let mut sent = self.sent_to.iter().filter(|(of, _)| *of == port);
        match self.filtering {
            Filtering::EndpointIndependent => sent.next().is_some(),
            AddressRestricted => sent.any(|(_, to)| to.ip() == from.ip()),
            PortRestricted => sent.any(|(_, to)| *to == from),
        }
    }
}

enum Event {
    Offer(usize, PathOffer),
    Probe(usize, SocketAddr, Probe),
    Dialed(usize, u64),
    DialFailed(usize, u64),
    Pong(usize, ConnId, Time),
    Tick(usize),
}

/// Two devices, each behind a NAT of its own, 50 ms from each other and from their server.
struct Lab {
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    order: u64,
    nats: [Nat; 2],
    inside: [SocketAddr; 2],
    paths: [Paths; 2],
    random: Drawn,
    next_conn: u64,
    /// The connections, by dialler, with both ends' numbers for each.
    conns: Vec<[ConnId; 2]>,
    /// Those of them that carry nothing any more, which QUIC has not noticed.
    dead: BTreeSet<ConnId>,
    up: [Option<(u64, ConnId)>; 2],
    asks_for_port: [Option<bool>; 2],
    dials: u32,
    probes: u32,
    offers: u32,
    /// Nothing passes to or from this device, but by the server.
    blocked: bool,
    /// The server delivers no offers.
    deaf: bool,
}

struct Drawn(u8);

impl Random for Drawn {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        out.fill(self.0);
    }
}

const ONE_WAY: u64 = 25;
const SERVER: &str = "192.0.2.1:4433";
/// The two devices' keys, the lower one first.
static KEYS: LazyLock<[DeviceKey; 2]> = LazyLock::new(|| {
    let mut keys = [1, 2].map(key);
    keys.sort();
    keys
});

fn key(seed: u32) -> DeviceKey {
    let mut bytes = [9; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    Identity::from_seeds(bytes, bytes).device_key()
}

fn config() -> PathsConfig {
    PathsConfig { enabled: true, ..PathsConfig::default() }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Lab {
    fn new(kinds: [(Mapping, Filtering); 2]) -> Lab {
        let nat = |index: usize, (mapping, filtering)| Nat {
            mapping,
            filtering,
            outside: IpAddr::from([203, 0, 113, index as u8 + 1]),
            ports: BTreeMap::new(),
            sent_to: BTreeSet::new(),
            mapped: None,
            came_by_it: BTreeSet::new(),
        };
        let inside = [address("10.0.1.2:7000"), address("10.0.2.2:7000")];
        let mut nats = [nat(0, kinds[0]), nat(1, kinds[1])];
        let mut paths = KEYS.map(|key| Paths::new(config(), key));
        for index in 0..2 {
            let observed = nats[index].out(address(SERVER));
            paths[index].addresses(Time(0), vec![inside[index], observed], false);
            paths[index].signalling(true);
        }
        Lab {
            now: 0,
            queue: BTreeMap::new(),
            order: 0,
            nats,
            inside,
            paths,
            random: Drawn(0),
            next_conn: 0,
            conns: Vec::new(),
            dead: BTreeSet::new(),
            up: [None, None],
            asks_for_port: [None, None],
            dials: 0,
            probes: 0,
            offers: 0,
            blocked: false,
            deaf: false,
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    /// Whom a packet reaches, and where it seems to come from.
    fn passes(&mut self, from: usize, to: SocketAddr) -> Option<(usize, SocketAddr)> {
        let other = 1 - from;
        if self.blocked {
            return None;
        }
        let source = self.nats[from].out(to);
        let reaches = self.nats[other].outside == to.ip() && self.nats[other].lets_in(to.port(), source);
        reaches.then_some((other, source))
    }

    fn want(&mut self, index: usize, yes: bool) {
        let wanted = BTreeSet::from_iter(yes.then_some(KEYS[1 - index]));
        self.paths[index].wanted(Time(self.now), &mut self.random, &wanted);
        self.carry_out(index);
    }

    fn carry_out(&mut self, index: usize) {
        while let Some(effect) = self.paths[index].poll_effect() {
            let later = self.now + ONE_WAY;
            match effect {
                Effect::Offer(to, offer) => {
                    assert_eq!(to, KEYS[1 - index]);
                    self.offers += 1;
                    if !self.deaf {
                        self.at(self.now + 2 * ONE_WAY, Event::Offer(1 - index, offer));
                    }
                }
                Effect::Probe(to, probe) => {
                    self.probes += 1;
                    if let Some((whom, source)) = self.passes(index, to) {
                        self.at(later, Event::Probe(whom, source, probe));
                    }
                }
                Effect::Dial(dial, key, to) => {
                    assert_eq!(key, KEYS[1 - index]);
                    self.dials += 1;
                    let there = self.passes(index, to);
                    let back = there.and_then(|(whom, source)| self.passes(whom, source));
                    match back {
                        Some(_) => self.at(self.now + 2 * ONE_WAY, Event::Dialed(index, dial)),
                        None => self.at(self.now + 10_000, Event::DialFailed(index, dial)),
                    }
                }
                Effect::Close(conn) => {
                    let Some(at) = self.conns.iter().position(|ends| ends[index] == conn) else { continue };
                    let ends = self.conns.remove(at);
                    let other = 1 - index;
                    if !self.dead.contains(&conn) {
                        self.paths[other].lost(Time(self.now), ends[other]);
                        self.carry_out(other);
                    }
                }
                Effect::Ping(conn, asked) => {
                    let is_there = self.conns.as_flattened().contains(&conn) && !self.dead.contains(&conn);
                    if is_there && !self.blocked {
                        self.at(self.now + 2 * ONE_WAY, Event::Pong(index, conn, asked));
                    }
                }
                Effect::Up(_, conn) => self.up[index] = Some((self.now, conn)),
                Effect::Down(_) => self.up[index] = None,
                Effect::MapPort(asks) => self.asks_for_port[index] = Some(asks),
            }
        }
        if let Some(at) = self.paths[index].poll_timeout() {
            self.at(at.0.max(self.now + 1), Event::Tick(index));
        }
    }

    fn connect(&mut self, dialler: usize, dial: u64) {
        let ends = [ConnId(self.next_conn), ConnId(self.next_conn + 1)];
        self.next_conn += 2;
        self.conns.push(ends);
        let (now, other) = (Time(self.now), 1 - dialler);
        self.paths[dialler].dialed(now, dial, ends[dialler]);
        assert!(self.paths[other].accepted(now, KEYS[dialler], ends[other]));
        self.paths[other].verified(now, ends[other]);
        self.paths[dialler].verified(now, ends[dialler]);
        self.carry_out(other);
    }

    fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some((&(at, order), _)) = self.queue.first_key_value().filter(|((at, _), _)| *at <= end) {
            self.now = at;
            let Some(event) = self.queue.remove(&(at, order)) else { return };
            let now = Time(at);
            let index = match event {
                Event::Offer(index, offer) => {
                    self.paths[index].offer_came(now, &mut self.random, KEYS[1 - index], &offer);
                    index
                }
                Event::Probe(index, from, probe) => {
                    self.paths[index].probe_came(now, from, probe);
                    index
                }
                Event::Dialed(index, dial) => {
                    self.connect(index, dial);
                    index
                }
                Event::DialFailed(index, dial) => {
                    self.paths[index].dial_failed(now, dial, "nothing came back".to_owned());
                    index
                }
                Event::Pong(index, conn, asked) => {
                    self.paths[index].answered(now, conn, asked);
                    index
                }
                Event::Tick(index) => {
                    self.paths[index].tick(now, &mut self.random);
                    index
                }
            };
            self.carry_out(index);
        }
        self.now = end;
    }

    fn state(&self, index: usize) -> State {
        self.paths[index].state(&KEYS[1 - index])
    }
}

const KINDS: [(Mapping, Filtering); 4] = [
    (Cone, Filtering::EndpointIndependent),
    (Cone, AddressRestricted),
    (Cone, PortRestricted),
    (Symmetric, PortRestricted),
];

#[test]
fn every_pair_of_nats_that_can_be_punched_is_within_a_second_whoever_begins() {
    for (one, other, first) in KINDS
        .iter()
        .flat_map(|one| KINDS.iter().map(move |other| (one, other)))
        .flat_map(|(one, other)| [0, 1].map(|first| (*one, *other, first)))
    {
        let mut lab = Lab::new([one, other]);
        lab.want(first, true);
        lab.run_for(1_000);
        let hopeless =
            |one: (Mapping, Filtering), other: (Mapping, Filtering)| one.0 == Symmetric && other.1 == PortRestricted;
        let hopeless = hopeless(one, other) || hopeless(other, one);
        for index in 0..2 {
            let direct = lab.state(index) == State::Direct;
            assert_eq!(direct, !hopeless, "{one:?} and {other:?}, {first} first: {:?}", lab.state(index));
        }
        if !hopeless {
            assert_eq!(lab.dials, 1, "one device dials, the other one is dialled");
        }
    }
}

#[test]
fn what_can_not_be_punched_says_so_and_is_tried_again_ever_more_seldom() {
    let mut lab = Lab::new([(Symmetric, PortRestricted), (Symmetric, PortRestricted)]);
    lab.want(0, true);
    lab.run_for(8_000);
    assert_eq!(lab.state(0), State::Relayed(Why::Nothing));
    assert_eq!(lab.dials, 0, "nobody dials where nothing answers");
    let first_minute = lab.probes;
    lab.run_for(52_000);
    let in_an_hour = |lab: &mut Lab| {
        let before = lab.probes;
        lab.run_for(3_600_000);
        lab.probes - before
    };
    in_an_hour(&mut lab);
    let late = in_an_hour(&mut lab);
    assert!(late > 0 && late < 30 * first_minute, "{late} in an hour, {first_minute} at first");
    // Another network is another matter.
    let before = lab.probes;
    lab.paths[0].addresses(Time(lab.now), vec![address("10.0.9.9:7000"), address("203.0.113.1:40000")], false);
    lab.carry_out(0);
    lab.run_for(1_000);
    assert!(lab.probes > before);
}

#[test]
fn two_that_want_each_other_at_once_have_one_connection() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    lab.want(0, true);
    lab.want(1, true);
    lab.run_for(20_000);
    assert_eq!(lab.conns.len(), 1);
    assert!(lab.up[0].zip(lab.up[1]).is_some_and(|(one, other)| one.0 < 500 && other.0 < 500));
}

#[test]
fn of_two_connections_both_keep_the_one_that_the_lower_key_dialled() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    for dialler in [1, 0] {
        let to = SocketAddr::new(lab.nats[1 - dialler].outside, 40_000);
        lab.paths[dialler].dials.insert(99, (KEYS[1 - dialler], to));
        lab.connect(dialler, 99);
        lab.carry_out(dialler);
    }
    let [first, second] = [lab.conns[0], lab.conns[1]];
    assert_eq!(lab.up.map(|up| up.unwrap().1), second, "that of the lower key, though it came later");
    lab.run_for(10_000);
    assert_eq!(lab.conns, [second], "the other one went");
    assert!(lab.paths[0].peer_of(first[0]).is_none());
}

#[test]
fn a_connection_that_breaks_is_down_at_once_and_looked_for_again_later() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    lab.want(0, true);
    lab.run_for(1_000);
    let ends = lab.conns.pop().unwrap();
    lab.blocked = true;
    for (index, end) in ends.into_iter().enumerate() {
        lab.paths[index].lost(Time(lab.now), end);
        lab.carry_out(index);
        assert_eq!(lab.state(index), State::Relayed(Why::Broke));
        assert_eq!(lab.up[index], None);
    }
    let before = lab.probes;
    lab.run_for(4_000);
    assert_eq!(lab.probes, before, "not at once: a path that flaps is worse than a slow one");
    lab.blocked = false;
    lab.run_for(3_000);
    assert_eq!(lab.state(0), State::Direct);
}

#[test]
fn a_connection_goes_when_nothing_used_it_for_a_minute() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    lab.want(0, true);
    lab.run_for(30_000);
    let conn = lab.up[0].unwrap().1;
    lab.paths[0].used(Time(lab.now), conn);
    lab.paths[1].used(Time(lab.now), lab.up[1].unwrap().1);
    lab.want(0, false);
    lab.run_for(59_000);
    assert_eq!(lab.conns.len(), 1);
    lab.run_for(2_000);
    assert_eq!((lab.conns.len(), lab.up), (0, [None, None]));
    assert_eq!(lab.paths[0].poll_timeout(), None, "and nothing is left to do");
}

#[test]
fn nobody_can_aim_a_device_at_a_third_party() {
    let mut paths = Paths::new(config(), KEYS[0]);
    paths.addresses(Time(0), vec![address("10.0.1.2:7000")], false);
    let (mut probes, mut random) = (0, Drawn(0));
    let members: Vec<DeviceKey> = (0..1_000).map(|member| key(member + 10)).collect();
    // A thousand members, each of whom offers a thousand times a minute 16 ports of the same victim.
    for round in 0..60_u64 {
        let now = Time(round * 1_000);
        for member in 0..1_000_u32 {
            let candidates = (1..=16).map(|port| SocketAddr::from(([198, 51, 100, 7], port))).collect();
            let offer = PathOffer { token: [member as u8; 8], candidates, answer: true };
            paths.offer_came(now, &mut random, members[member as usize], &offer);
        }
        paths.tick(now, &mut random);
        while let Some(effect) = paths.poll_effect() {
            assert!(!matches!(effect, Effect::Dial(..)), "nothing is dialled that has not answered");
            probes += u32::from(matches!(effect, Effect::Probe(..)));
        }
    }
    assert!((1..=PathsConfig::default().probes_per_minute).contains(&probes), "{probes}");
}

#[test]
fn who_does_not_know_the_token_is_not_answered() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    lab.want(0, true);
    lab.run_for(10);
    let stranger = address("198.51.100.9:9");
    lab.paths[0].probe_came(Time(10), stranger, Probe::Ping { token: [0xee; 8], number: 0 });
    assert_eq!(lab.paths[0].poll_effect(), None);
}

#[test]
fn a_probe_whose_sender_is_nobody_is_not_answered() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    let offer = PathOffer { token: [7; 8], candidates: vec![address("198.51.100.9:9")], answer: true };
    lab.paths[0].offer_came(Time(1), &mut lab.random, KEYS[1], &offer);
    let mut own = None;
    while let Some(effect) = lab.paths[0].poll_effect() {
        if let Effect::Offer(_, offer) = effect {
            own = Some(offer.token);
        }
    }
    let ping = Probe::Ping { token: own.expect("it answers"), number: 0 };
    for nobody in ["224.0.0.1:9", "255.255.255.255:9", "0.0.0.0:9", "198.51.100.9:0", "[ff02::1]:9"] {
        lab.paths[0].probe_came(Time(2), address(nobody), ping);
        assert_eq!(lab.paths[0].poll_effect(), None, "{nobody}");
    }
    lab.paths[0].probe_came(Time(2), address("198.51.100.7:9"), ping);
    assert!(lab.paths[0].poll_effect().is_some());
}

#[test]
fn who_has_no_direct_ways_says_so() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    lab.paths[1] = Paths::new(PathsConfig { enabled: false, ..config() }, KEYS[1]);
    lab.want(0, true);
    lab.run_for(1_000);
    assert_eq!(lab.state(0), State::Relayed(Why::RelayOnly));
    assert_eq!(lab.probes, 0);
}

#[test]
fn an_expelled_device_has_no_connection() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    lab.want(0, true);
    lab.run_for(1_000);
    lab.paths[1].expel(&KEYS[0]);
    lab.carry_out(1);
    assert!(lab.conns.is_empty());
    assert_eq!(lab.up, [None, None]);
}

#[test]
fn devices_in_one_network_take_the_near_way() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    let near = lab.inside[1];
    let offer = PathOffer { token: [5; 8], candidates: vec![address("203.0.113.2:40000"), near], answer: true };
    lab.paths[0].offer_came(Time(0), &mut lab.random, KEYS[1], &offer);
    let pong = |index: u32| Probe::Pong { token: [5; 8], number: index << 16 };
    lab.paths[0].probe_came(Time(3), address("203.0.113.2:40000"), pong(0));
    lab.paths[0].probe_came(Time(4), near, pong(1));
    let dials: Vec<Effect> = std::iter::from_fn(|| lab.paths[0].poll_effect()).collect();
    let dials: Vec<&Effect> = dials.iter().filter(|effect| matches!(effect, Effect::Dial(..))).collect();
    assert_eq!(dials, [&Effect::Dial(1, KEYS[1], near)]);
}

/// What the first device's present attempt found of an address that the other one offered.
fn is_refused(lab: &Lab, address: SocketAddr) -> bool {
    let attempt = lab.paths[0].peers[&KEYS[1]].attempt.as_ref().unwrap();
    attempt.checked().iter().any(|one| one.address == address && one.refused)
}

#[test]
fn a_connection_that_ends_before_the_hello_speaks_against_the_address_that_its_own_dial_went_to_alone() {
    let mut lab = Lab::new([(Cone, PortRestricted), (Cone, PortRestricted)]);
    let (near, far) = (address("10.0.1.9:7000"), address("203.0.113.2:40000"));
    lab.paths[0].nearby(Time(0), &BTreeMap::from([(KEYS[1], vec![near])]));
    let offer = PathOffer { token: [5; 8], candidates: vec![far], answer: true };
    lab.paths[0].offer_came(Time(0), &mut lab.random, KEYS[1], &offer);
    // It is dialled on the local network, and outside.
    lab.paths[0].wanted(Time(1), &mut lab.random, &BTreeSet::from([KEYS[1]]));
    lab.paths[0].probe_came(Time(2), far, Probe::Pong { token: [5; 8], number: 0 });
    lab.paths[0].tick(Time(40), &mut lab.random);
    let dials: Vec<Effect> = std::iter::from_fn(|| lab.paths[0].poll_effect()).collect();
    let dials: Vec<&Effect> = dials.iter().filter(|effect| matches!(effect, Effect::Dial(..))).collect();
    assert_eq!(dials, [&Effect::Dial(1, KEYS[1], near), &Effect::Dial(2, KEYS[1], far)]);
    for (dial, refused) in [(1, false), (2, true)] {
        lab.paths[0].dialed(Time(50), dial, ConnId(dial));
        lab.paths[0].lost(Time(60), ConnId(dial));
        assert_eq!(is_refused(&lab, far), refused, "dial {dial}");
    }
}
