//! Straight ways. Whatever members, a server and strangers say, in any order: probes and dials go where they may, and no
//! oftener; no connection is left open that is not known of; one that counts is open and of a member that said hello; and
//! who is wanted is reached, being tried, or tried again later.

use crate::{Bytes, Counter};
use bailiwick::state::conn::ConnId;
use bailiwick::state::paths::candidates::reach;
use bailiwick::state::paths::{Effect, Paths, PathsConfig, State};
use bailiwick::state::time::Time;
use bailiwick::wire::envelope::PathOffer;
use bailiwick::wire::ids::DeviceKey;
use bailiwick::wire::limits::CANDIDATES_MAX;
use bailiwick::wire::probe::{Probe, ProbeToken};
use bailiwick::wire::sign::Identity;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

/// Connections and attempts at most, so that a few devices meet the limits.
const CONNECTIONS_MAX: usize = 4;
const ATTEMPTS_MAX: usize = 2;
/// A minute's count begins with its first event, so any minute may hold the ends of two.
const COUNTS: usize = 2;
const MINUTE_MS: u64 = 60_000;

static KEYS: LazyLock<[DeviceKey; 5]> = LazyLock::new(|| {
    let mut keys = [1, 2, 3, 4, 5].map(|seed| Identity::from_seeds([seed; 32], [seed; 32]).device_key());
    keys.sort();
    keys
});

const PLACES: [&str; 12] = [
    "198.51.100.1:9",
    "198.51.100.1:10",
    "203.0.113.7:9",
    "[::ffff:203.0.113.7]:9",
    "10.0.0.5:9",
    "192.168.1.9:9",
    "100.64.0.3:9",
    "127.0.0.1:9",
    "[2001:db8::5]:9",
    "[fd00::5]:9",
    "224.0.0.1:9",
    "198.51.100.1:0",
];

struct World {
    paths: Paths,
    config: PathsConfig,
    random: Counter,
    now: Time,
    /// Connections that are open, whose they are, and whether their other end said hello.
    open: BTreeMap<ConnId, (DeviceKey, bool)>,
    dials: BTreeMap<u64, DeviceKey>,
    up: BTreeMap<DeviceKey, ConnId>,
    /// What was offered to each, last.
    tokens: BTreeMap<DeviceKey, ProbeToken>,
    pings: Vec<(SocketAddr, ProbeToken, u32)>,
    /// Where an answer came from, or a member was seen nearby.
    may_dial: BTreeSet<SocketAddr>,
    sent: BTreeMap<IpAddr, VecDeque<u64>>,
    dialled: BTreeMap<IpAddr, VecDeque<u64>>,
    wanted: BTreeSet<DeviceKey>,
    signalling: bool,
    next_conn: u64,
    next_dial: u64,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let config =
        PathsConfig { connections_max: CONNECTIONS_MAX, attempts_max: ATTEMPTS_MAX, ..PathsConfig::default() };
    // Among the others' keys are lower and higher ones.
    let mut world = World {
        paths: Paths::new(config, KEYS[2]),
        config,
        random: Counter::default(),
        now: Time(0),
        open: BTreeMap::new(),
        dials: BTreeMap::new(),
        up: BTreeMap::new(),
        tokens: BTreeMap::new(),
        pings: Vec::new(),
        may_dial: BTreeSet::new(),
        sent: BTreeMap::new(),
        dialled: BTreeMap::new(),
        wanted: BTreeSet::new(),
        signalling: false,
        next_conn: 0,
        next_dial: 0,
    };
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time();
        world.step(step, &mut bytes);
        world.drain();
        world.settle();
        world.pass_time();
        world.check();
    }
}

fn place(bytes: &mut Bytes<'_>) -> SocketAddr {
    PLACES[bytes.below(PLACES.len() as u64) as usize].parse().expect("an address")
}

fn places(bytes: &mut Bytes<'_>) -> Vec<SocketAddr> {
    (0..bytes.below(4)).map(|_| place(bytes)).collect()
}

fn other(bytes: &mut Bytes<'_>) -> DeviceKey {
    KEYS[[0, 1, 3, 4][bytes.below(4) as usize]]
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl World {
    fn pass_time(&mut self) {
        for _ in 0..64 {
            if self.paths.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
            self.settle();
        }
        panic!("it is due again and again at {:?}", self.now);
    }

    /// What a shell does after each batch.
    fn settle(&mut self) {
        self.paths.signalling(self.signalling);
        self.paths.wanted(self.now, &mut self.random, &self.wanted);
        self.paths.tick(self.now, &mut self.random);
        self.drain();
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>) {
        let now = self.now;
        match step % 20 {
            0 => drop(self.wanted.insert(other(bytes))),
            1 => drop(self.wanted.remove(&other(bytes))),
            2 => self.signalling = !bytes.once_in(4),
            3 => {
                let addresses = places(bytes);
                self.paths.addresses(now, addresses, bytes.once_in(8));
            }
            4 | 5 => {
                let token = [bytes.byte(); 8];
                let offer = PathOffer { token, candidates: places(bytes), answer: bytes.once_in(2) };
                self.paths.offer_came(now, &mut self.random, other(bytes), &offer);
            }
            6 => {
                let known = self.tokens.get(&other(bytes)).copied();
                let token = known.filter(|_| !bytes.once_in(8)).unwrap_or([bytes.byte(); 8]);
                let number = bytes.number() as u32;
                self.paths.probe_came(now, place(bytes), Probe::Ping { token, number });
            }
            7 | 8 => self.pong(bytes),
            9 | 10 => self.dial_ends(bytes),
            11 => {
                let (key, conn) = (other(bytes), self.new_conn());
                self.open.insert(conn, (key, false));
                let may_stay = self.paths.accepted(now, key, conn);
                self.drain();
                assert_eq!(may_stay, self.open.contains_key(&conn));
            }
            12 | 13 => {
                if let Some(conn) = self.one_conn(bytes) {
                    self.open.entry(conn).and_modify(|(_, hello)| *hello = true);
                    self.paths.verified(now, conn);
                }
            }
            14 => {
                if let Some(conn) = self.one_conn(bytes) {
                    self.open.remove(&conn);
                    self.paths.lost(now, conn);
                }
            }
            15 => {
                if let Some(conn) = self.one_conn(bytes) {
                    match bytes.below(3) {
                        0 => self.paths.used(now, conn),
                        _ => self.paths.answered(now, conn, Time(now.0.saturating_sub(bytes.pause()))),
                    }
                }
            }
            16 => match bytes.below(4) {
                0 => self.paths.woke(now),
                1 => self.paths.try_now(now, other(bytes)),
                _ => self.paths.came_back(now, &other(bytes)),
            },
            17 => {
                let own = places(bytes).into_iter().map(|own| own.ip());
                self.paths.placed(own, places(bytes).first().copied());
                self.paths.mapped(places(bytes).first().copied());
            }
            18 => {
                let seen: BTreeMap<_, _> = (0..bytes.below(3)).map(|_| (other(bytes), places(bytes))).collect();
                self.may_dial.extend(seen.values().flatten().copied().map(canonical));
                self.paths.nearby(now, &seen);
            }
            _ => self.expel(other(bytes)),
        }
    }

    fn new_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    fn one_conn(&self, bytes: &mut Bytes<'_>) -> Option<ConnId> {
        let open: Vec<ConnId> = self.open.keys().copied().collect();
        bytes.one(&open).copied()
    }

    /// An answer to one of the pings: the right one, or one from elsewhere.
    fn pong(&mut self, bytes: &mut Bytes<'_>) {
        let Some((to, token, number)) = bytes.one(&self.pings).copied() else { return };
        let from = if bytes.once_in(8) { place(bytes) } else { to };
        self.may_dial.insert(canonical(from));
        self.paths.probe_came(self.now, from, Probe::Pong { token, number });
    }

    fn dial_ends(&mut self, bytes: &mut Bytes<'_>) {
        let dials: Vec<u64> = self.dials.keys().copied().collect();
        let Some(dial) = bytes.one(&dials).copied() else { return };
        let Some(key) = self.dials.remove(&dial) else { return };
        if bytes.once_in(3) {
            return self.paths.dial_failed(self.now, dial, "nothing came back".to_owned());
        }
        let conn = self.new_conn();
        self.open.insert(conn, (key, false));
        self.paths.dialed(self.now, dial, conn);
    }

    fn expel(&mut self, key: DeviceKey) {
        for conn in self.paths.connections_of(&key) {
            assert!(self.open.remove(&conn).is_some(), "it is open");
            self.paths.lost(self.now, conn);
        }
        self.wanted.remove(&key);
        self.paths.expel(&key);
        self.drain();
        assert_eq!(self.paths.current(&key), None);
        assert!(self.paths.connections_of(&key).is_empty());
    }

    fn drain(&mut self) {
        while let Some(effect) = self.paths.poll_effect() {
            match effect {
                Effect::Offer(to, offer) => {
                    assert!(offer.candidates.len() <= CANDIDATES_MAX);
                    assert!(offer.candidates.iter().all(|one| reach(one).is_some()));
                    self.tokens.insert(to, offer.token);
                }
                Effect::Probe(to, probe) => {
                    assert!(!to.ip().is_multicast() && to.port() != 0 || matches!(probe, Probe::Pong { .. }), "{to}");
                    count(&mut self.sent, self.now, to.ip(), self.config.probes_per_minute);
                    if let Probe::Ping { token, number } = probe {
                        self.pings.push((to, token, number));
                    }
                }
                Effect::Dial(dial, key, to) => {
                    assert!(dial > self.next_dial, "a number is used once");
                    assert!(self.may_dial.contains(&to), "{to} has not answered");
                    count(&mut self.dialled, self.now, to.ip(), self.config.dials_per_minute);
                    self.next_dial = dial;
                    self.dials.insert(dial, key);
                }
                Effect::Close(conn) => {
                    assert!(self.open.remove(&conn).is_some(), "it is closed already");
                    self.paths.lost(self.now, conn);
                }
                Effect::Ping(conn, at) => {
                    assert_eq!(at, self.now);
                    let said_hello = self.open.get(&conn).is_some_and(|(_, hello)| *hello);
                    assert!(said_hello || self.paths.is_dialled(conn), "who dialled may ping before the hello");
                }
                // The shell takes no notice of one that is over meanwhile.
                Effect::Up(key, conn) if self.paths.current(&key) != Some(conn) => {}
                Effect::Up(key, conn) => {
                    assert_eq!(self.open.get(&conn), Some(&(key, true)));
                    self.up.insert(key, conn);
                }
                Effect::Down(key) => drop(self.up.remove(&key)),
                Effect::MapPort(_) => {}
            }
        }
    }

    fn check(&self) {
        let known: BTreeSet<ConnId> = KEYS.iter().flat_map(|key| self.paths.connections_of(key)).collect();
        assert!(known.iter().eq(self.open.keys()), "known are {known:?}, open {:?}", self.open.keys());
        for key in &*KEYS {
            assert_eq!(self.paths.current(key), self.up.get(key).copied());
            assert_eq!(self.paths.state(key) == State::Direct, self.up.contains_key(key));
        }
        let tried = KEYS.iter().filter(|key| self.paths.state(key) == State::Trying).count();
        assert!(tried <= ATTEMPTS_MAX, "{tried} attempts");
        // What was being dialled when the limit was met comes as well: an attempt's dial, and four to each that is near.
        assert!(self.open.len() <= CONNECTIONS_MAX + ATTEMPTS_MAX + 4 * KEYS.len(), "{} are open", self.open.len());
        for key in self.wanted.iter().filter(|_| self.signalling) {
            let goes_on = self.up.contains_key(key) || self.paths.poll_timeout().is_some();
            assert!(goes_on || !self.dials.is_empty(), "{key:?} is never tried again");
        }
    }
}

/// Counts what goes to an address.
fn count(counts: &mut BTreeMap<IpAddr, VecDeque<u64>>, now: Time, to: IpAddr, max: u32) {
    let times = counts.entry(to).or_default();
    times.push_back(now.0);
    while times.front().is_some_and(|first| first + MINUTE_MS <= now.0) {
        times.pop_front();
    }
    assert!(times.len() <= max as usize * COUNTS, "{} to {to} in a minute", times.len());
}

/// Met by an offer and a probe; moved with and without an answer; nearby; expelled.
pub fn seeds() -> Vec<Vec<u8>> {
    let there = vec![2, 0, 0, 3, 0, 2, 0, 4, 0, 0, 0, 0];
    let met = vec![4, 0, 7, 2, 0, 2, 1, 0, 7, 101, 0, 0, 9, 101, 0, 0, 12, 101, 0];
    let moved = vec![3, 0, 1, 5, 0];
    let silent = vec![19, 110, 3, 19, 190, 3];
    vec![
        [&there[..], &met].concat(),
        [&there[..], &met, &moved, &[15, 101, 0, 1, 0]].concat(),
        [&there[..], &met, &moved, &silent].concat(),
        [&there[..], &[18, 0, 1, 0, 2, 4, 5, 9, 101, 0, 0, 12, 0, 0]].concat(),
        [&there[..], &met, &[19, 0, 0]].concat(),
    ]
}
