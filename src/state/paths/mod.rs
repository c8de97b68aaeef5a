//! Straight ways to other members: when to look for one, by which addresses, which connection counts, and when it goes.
//!
//! Two devices exchange offers through the server, in envelopes, and ping each other's addresses. Both must have sent
//! before either's NAT lets anything in, so both do so at once and go on for a while. Over the first address that
//! answers one of them dials: the one with the lower key, or, if nothing comes of that, the other.
//!
//! Whoever could have this device send somewhere (a member by its offer, a server by what it says it sees) gets a few
//! small pings to an address, so many a minute, and a dial only where a ping was answered by who holds its token.

pub mod candidates;
mod caps;
mod config;
mod conns;
mod mapped;
mod moving;
pub mod nat;
mod near;
mod punch;
pub mod tried;

pub use config::PathsConfig;
pub use mapped::PortMapping;
pub use punch::Why;

use super::conn::ConnId;
use super::random::{Random, draw};
use super::time::Time;
use crate::wire::envelope::PathOffer;
use crate::wire::ids::DeviceKey;
use crate::wire::probe::Probe;
use candidates::{Reach, reach};
use caps::{Cap, Minute, ProbeCap};
use conns::Conn;
use mapped::Mapped;
use nat::Views;
use near::Near;
use punch::Attempt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tried::{Tried, Tries};

/// What the machine wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell a device where this one may be reached, through the server, in an envelope.
    Offer(DeviceKey, PathOffer),
    /// Send a probe.
    Probe(SocketAddr, Probe),
    /// Dial; say [`Paths::dialed`] or [`Paths::dial_failed`] with this number.
    Dial(u64, DeviceKey, SocketAddr),
    /// Close a connection.
    Close(ConnId),
    /// Ask on a connection whether its other end is there, with this time; say [`Paths::answered`] when the answer comes. On one
    /// that this device dialled it may come before the other device's hello.
    Ping(ConnId, Time),
    /// New requests to this device go by this connection.
    Up(DeviceKey, ConnId),
    /// No connection to this device is left.
    Down(DeviceKey),
    /// Have the router map a port to this device, asking anew; or have it end that. Say [`Paths::mapped`].
    MapPort(bool),
}

#[derive(Debug, Default)]
struct Peer {
    /// Whether there is something to fetch from it.
    wanted: bool,
    /// Whether an attempt is to begin though nothing is wanted: this device is another place now, which the other one,
    /// that may want something, does not know.
    anew: bool,
    attempt: Option<Attempt>,
    conns: Vec<Conn>,
    current: Option<ConnId>,
    failures: u32,
    retry_at: Option<Time>,
    /// When it came to the server last, as that says.
    came: Option<Time>,
    /// When a connection that was in use broke, last.
    broke: Option<Time>,
    /// Its offers.
    offers: Option<Minute>,
    /// How often it came to the server.
    comings: Option<Minute>,
    why: Option<Why>,
    tries: Tries,
}

impl Peer {
    /// Whether an attempt found no way, and was over no longer ago than the other device may wait before it tries again.
    fn failed_since(&self, now: Time, pause: Duration) -> bool {
        let found_none = match &self.why {
            Some(Why::Nothing | Why::NoCommonFamily | Why::OneWay | Why::NoConnection(_)) => self.current.is_none(),
            _ => false,
        };
        let last = self.tries.last.as_ref().filter(|_| found_none);
        last.is_some_and(|last| now.since(last.ended) <= pause)
    }

    fn retry_later(&mut self, now: Time, config: &PathsConfig) {
        let pause = config.retry_min.saturating_mul(1 << self.failures.min(8)).min(config.retry_max);
        self.failures += 1;
        self.retry_at = Some(now.after(pause));
    }

    fn is_idle(&self) -> bool {
        !self.wanted && !self.anew && self.attempt.is_none() && self.conns.is_empty()
    }
}

/// What is known of the way to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is a direct connection.
    Direct,
    /// It is being tried.
    Trying,
    /// Through the server, for this reason.
    Relayed(Why),
    /// Nobody has tried yet.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub struct Paths {
    config: PathsConfig,
    own: DeviceKey,
    candidates: Vec<SocketAddr>,
    /// Whether the server is on this machine.
    loopback: bool,
    /// Whether envelopes can be sent.
    signalling: bool,
    peers: BTreeMap<DeviceKey, Peer>,
    /// What others see of this device.
    views: Views,
    mapped: Mapped,
    /// What is seen on the local network.
    near: BTreeMap<DeviceKey, Near>,
    dials: BTreeMap<u64, (DeviceKey, SocketAddr)>,
    dial: u64,
    probe_cap: ProbeCap,
    dial_cap: Cap,
    /// When an address of this device went, or the machine slept.
    moved: Option<Time>,
    /// How often this device was elsewhere.
    moves: Option<Minute>,
    /// When it was looked at attempts last.
    looked: Time,
    effects: VecDeque<Effect>,
}

impl Paths {
    /// No ways yet, for the device with this key.
    pub fn new(config: PathsConfig, own: DeviceKey) -> Paths {
        Paths {
            config,
            own,
            candidates: Vec::new(),
            loopback: false,
            signalling: false,
            peers: BTreeMap::new(),
            views: Views::default(),
            mapped: Mapped::default(),
            near: BTreeMap::new(),
            dials: BTreeMap::new(),
            dial: 0,
            probe_cap: ProbeCap::new(config.probes_per_minute, config.probes_of_device_per_minute),
            dial_cap: Cap::new(config.dials_per_minute),
            moved: None,
            moves: None,
            looked: Time::default(),
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The connection by which a device is asked.
    pub fn current(&self, peer: &DeviceKey) -> Option<ConnId> {
        self.peers.get(peer)?.current
    }

    /// How a device is reached.
    pub fn state(&self, key: &DeviceKey) -> State {
        if !self.config.enabled {
            return State::Relayed(Why::Off);
        }
        let Some(peer) = self.peers.get(key) else { return State::Unknown };
        match &peer.why {
            _ if peer.current.is_some() => State::Direct,
            _ if peer.attempt.is_some() => State::Trying,
            Some(why) => State::Relayed(self.told(key, why)),
            None => State::Unknown,
        }
    }

    /// A reason why a device is not met straight, with what is known of this device's NAT by now.
    pub fn told(&self, key: &DeviceKey, why: &Why) -> Why {
        let has_port = self.mapped.address().is_some_and(|at| reach(&at) == Some(Reach::Public));
        let last = self.tries(key).and_then(|tries| tries.last.as_ref());
        let leads_outside = |last: &Tried| last.addresses.iter().any(|one| self.views.is_outside(&one.address));
        let is_own_nat = self.views.mapping() == nat::Mapping::Dependent
            && !has_port
            && !self.is_near(key)
            && last.is_some_and(leads_outside);
        if *why == Why::Nothing && is_own_nat { Why::OwnNat } else { why.clone() }
    }

    /// The addresses that this device offers.
    pub fn own_candidates(&self) -> &[SocketAddr] {
        if self.config.enabled { &self.candidates } else { &[] }
    }

    /// What attempts to reach a device came to; none if there were none.
    pub fn tries(&self, peer: &DeviceKey) -> Option<&Tries> {
        self.peers.get(peer).map(|peer| &peer.tries)
    }

    /// Where this device is by itself, and where the server sees it.
    pub fn placed(&mut self, own: impl IntoIterator<Item = IpAddr>, server: Option<SocketAddr>) {
        let own: BTreeSet<IpAddr> = own.into_iter().collect();
        if self.config.enabled
            && self.config.map_port
            && let Some(asks) = self.mapped.place(&own, server)
        {
            self.effects.push_back(Effect::MapPort(asks));
        }
        self.views.place(own, server);
    }

    /// At which address the router maps a port to this device; none if it does not. [`Paths::addresses`] is to follow.
    pub fn mapped(&mut self, address: Option<SocketAddr>) {
        self.mapped.answered(address);
    }

    /// What is known of a mapped port.
    pub fn port_mapping(&self) -> PortMapping {
        if self.config.enabled && self.config.map_port { self.mapped.now() } else { PortMapping::Off }
    }

    /// A device says where this one's packets come from.
    pub fn seen_by(&mut self, by: DeviceKey, at: SocketAddr) {
        // By a mapped port others come in as through no NAT.
        if self.mapped.address() != Some(SocketAddr::new(at.ip().to_canonical(), at.port())) {
            self.views.seen(by, at);
        }
    }

    /// How this device's NAT maps, and how it filters, as far as it has shown.
    pub fn nat(&self) -> (nat::Mapping, Option<nat::Filtering>) {
        (self.views.mapping(), self.views.filtering())
    }

    /// A person wants to know: a device is tried at once, whether or not anything is to be fetched from it.
    pub fn try_now(&mut self, now: Time, key: DeviceKey) {
        if !self.config.enabled {
            return;
        }
        let peer = self.peers.entry(key).or_default();
        if peer.current.is_none() && peer.attempt.is_none() {
            (peer.anew, peer.retry_at) = (true, peer.retry_at.map(|_| now));
        }
    }

    /// Whether offers can be sent: the server is there, and this device is a member.
    pub fn signalling(&mut self, possible: bool) {
        self.signalling = possible;
    }

    /// Whether a way to a device is looked for, or will be in a moment.
    pub fn is_tried(&self, now: Time, key: &DeviceKey) -> bool {
        let Some(peer) = self.peers.get(key) else { return false };
        let is_near_tried = self.near.get(key).is_some_and(Near::is_dialled);
        let is_due = peer.anew && peer.current.is_none() && peer.retry_at.is_none_or(|at| at <= now);
        peer.attempt.is_some() || is_near_tried || is_due && (self.signalling || self.is_near(key))
    }

    /// From which devices, all of them there, something is to be fetched.
    pub fn wanted(&mut self, now: Time, random: &mut dyn Random, wanted: &BTreeSet<DeviceKey>) {
        for (key, peer) in &mut self.peers {
            peer.wanted = wanted.contains(key);
        }
        if !self.config.enabled {
            return;
        }
        for key in wanted {
            self.peers.entry(*key).or_default().wanted = true;
            self.begin_if_due(now, random, *key);
        }
    }

    fn begin_if_due(&mut self, now: Time, random: &mut dyn Random, key: DeviceKey) {
        self.dial_near(now, key);
        let has_head_start = self.near.get(&key).is_some_and(|near| near.has_head_start(now).is_some());
        let attempts = self.peers.values().filter(|peer| peer.attempt.is_some()).count();
        let conns: usize = self.peers.values().map(|peer| peer.conns.len()).sum();
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let due = peer.retry_at.is_none_or(|at| at <= now);
        if !self.signalling || !due || has_head_start || !peer.is_unserved(now) || peer.attempt.is_some() {
            return;
        }
        if self.candidates.is_empty() || conns >= self.config.connections_max || attempts >= self.config.attempts_max {
            peer.why = Some(if self.candidates.is_empty() { Why::NoCandidates } else { Why::TooMany });
            peer.retry_at = Some(now.after(self.config.retry_min));
            return;
        }
        peer.anew = false;
        let attempt = Attempt::new(now, draw(random), &self.config);
        let offer = PathOffer { token: attempt.token, candidates: self.candidates.clone(), answer: true };
        peer.attempt = Some(attempt);
        self.effects.push_back(Effect::Offer(key, offer));
    }

    /// A member says where it may be reached.
    pub fn offer_came(&mut self, now: Time, random: &mut dyn Random, from: DeviceKey, offer: &PathOffer) {
        let attempts = self.peers.values().filter(|peer| peer.attempt.is_some()).count();
        let peer = self.peers.entry(from).or_default();
        if !peer.offers.get_or_insert_with(|| Minute::new(now)).take(now, self.config.offers_per_minute) {
            return;
        }
        if !self.config.enabled {
            if offer.answer {
                let declined = PathOffer { token: draw(random), candidates: Vec::new(), answer: false };
                self.effects.push_back(Effect::Offer(from, declined));
            }
            return;
        }
        // The answer to an attempt that is over, or one more than this device makes at a time.
        if peer.attempt.is_none() && (!offer.answer || attempts >= self.config.attempts_max) {
            return;
        }
        if offer.answer {
            // Who offers has no connection to this device, or doubts it.
            self.effects.extend(peer.doubt(now).into_iter().map(|conn| Effect::Ping(conn, now)));
        }
        let attempt = peer.attempt.get_or_insert_with(|| Attempt::new(now, draw(random), &self.config));
        peer.anew = false;
        attempt.offered(now, offer, self.loopback, &self.config);
        if offer.answer {
            let answer = PathOffer { token: attempt.token, candidates: self.candidates.clone(), answer: false };
            self.effects.push_back(Effect::Offer(from, answer));
        }
        self.go_on(now);
    }

    /// A probe came from an address. One that is nobody's answers nothing and is not answered.
    pub fn probe_came(&mut self, now: Time, from: SocketAddr, probe: Probe) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if reach(&from).is_none() {
            return;
        }
        match probe {
            Probe::Ping { token, number } => {
                let mut attempts =
                    self.peers.iter_mut().filter_map(|(key, peer)| peer.attempt.as_mut().map(|attempt| (key, attempt)));
                let Some((key, attempt)) = attempts.find(|(_, attempt)| attempt.token == token) else { return };
                self.views.came_in(&from, attempt.pinged_addresses());
                attempt.pinged(now, from);
                if self.probe_cap.take(now, *key, from.ip()) {
                    self.effects.push_back(Effect::Probe(from, Probe::Pong { token, number }));
                }
            }
            Probe::Pong { token, number } => {
                let attempts = self.peers.values_mut().filter_map(|peer| peer.attempt.as_mut());
                attempts.into_iter().for_each(|attempt| attempt.ponged(now, from, token, number));
            }
        }
        self.go_on(now);
    }

    /// A dial failed, and why.
    pub fn dial_failed(&mut self, now: Time, dial: u64, why: String) {
        let Some((key, address)) = self.dials.remove(&dial) else { return };
        if self.take_near_dial(&key, dial) {
            return self.near_dial_failed(now, &key, why);
        }
        let attempt = self.peers.get_mut(&key).and_then(|peer| peer.attempt.as_mut());
        if let Some(attempt) = attempt.filter(|attempt| attempt.dialing.is_some_and(|(number, _)| number == dial)) {
            attempt.refused(address, why);
        }
        self.go_on(now);
    }

    /// A device is no member (any more): nothing of it stays.
    pub fn expel(&mut self, key: &DeviceKey) {
        self.near.remove(key);
        self.views.forget(key);
        self.dials.retain(|_, (of, _)| of != key);
        let Some(peer) = self.peers.remove(key) else { return };
        self.effects.extend(peer.conns.iter().map(|one| Effect::Close(one.id)));
        if peer.current.is_some() {
            self.effects.push_back(Effect::Down(*key));
        }
    }

    /// The devices that there is, or was lately, anything of.
    pub fn peers(&self) -> impl Iterator<Item = &DeviceKey> {
        self.peers.keys()
    }

    /// When to call [`Paths::tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let attempts = self.peers.iter().filter_map(|(key, peer)| {
            let attempt = peer.attempt.as_ref()?;
            let takeover = (self.own > *key).then_some(self.config.takeover);
            Some(attempt.poll_timeout(self.looked, takeover))
        });
        let may_begin = |peer: &Peer| peer.attempt.is_none() && self.signalling;
        let retries = self.peers.iter().filter(|(_, peer)| may_begin(peer)).filter_map(|(key, peer)| {
            let head_start = self.near.get(key).and_then(|near| near.has_head_start(self.looked));
            let earliest = peer.unserved_from()?.max(head_start.unwrap_or_default());
            let at = match peer.retry_at {
                None if peer.anew || peer.current.is_some() && peer.wanted => self.looked,
                at => at.filter(|_| peer.wanted || peer.anew)?,
            };
            Some(at.max(earliest))
        });
        let idle = self.peers.values().flat_map(|peer| peer.conns.iter().map(|one| self.idle_at(peer, one)));
        let hellos = self.peers.values().flat_map(|peer| peer.conns.iter().filter_map(Conn::hello_ping_at));
        attempts.chain(retries).chain(idle).chain(hellos).chain(self.near_timeout()).min()
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time, random: &mut dyn Random) {
        self.tick_near(now);
        self.go_on(now);
        let mut idle = Vec::new();
        for (key, peer) in &self.peers {
            idle.extend(peer.conns.iter().filter(|one| self.idle_at(peer, one) <= now).map(|one| (*key, one.id)));
        }
        for (key, conn) in idle {
            self.effects.push_back(Effect::Close(conn));
            self.remove(now, key, conn, false);
        }
        self.tick_hellos(now);
        let begins = |peer: &Peer| peer.wanted || peer.anew;
        let begins: Vec<DeviceKey> = self.peers.iter().filter(|(_, peer)| begins(peer)).map(|(key, _)| *key).collect();
        begins.into_iter().for_each(|key| self.begin_if_due(now, random, key));
        self.peers.retain(|_, peer| {
            let counted = [&peer.offers, &peer.comings].into_iter().flatten().any(|minute| !minute.is_over(now));
            !peer.is_idle() || counted || peer.why.is_some() || peer.tries.count > 0
        });
    }

    /// Pings that are due, dials, and attempts that are over.
    fn go_on(&mut self, now: Time) {
        self.looked = now;
        for (key, peer) in &mut self.peers {
            let Some(attempt) = &mut peer.attempt else { continue };
            let current = peer.conns.iter().find(|one| Some(one.id) == peer.current);
            if current.is_some_and(|current| current.since >= attempt.since()) {
                // It served. Pings that still come need no answer: the other device has the connection, too.
                peer.tries.ended(now, attempt, None);
                peer.attempt = None;
                continue;
            }
            for ping in attempt.pings(now, |ip| self.probe_cap.take(now, *key, ip)) {
                let probe = Probe::Ping { token: ping.token, number: ping.number };
                self.effects.push_back(Effect::Probe(ping.to, probe));
            }
            let turn = match attempt.answered_since() {
                None => false,
                Some(_) if self.own < *key => true,
                Some(since) => now.since(since) >= self.config.takeover,
            };
            // Who offers anew has no connection that works, whatever this device still has. One on which no hello comes is no
            // reason not to dial the other way: each packet that is lost there costs it a round trip and more.
            let none_since =
                peer.conns.iter().all(|one| one.since < attempt.since() || one.waits_for_hello(self.own > *key));
            let address = attempt.address(now).filter(|_| turn && attempt.dialing.is_none() && none_since);
            if let Some(address) = address {
                if self.dial_cap.take(now, address.ip()) {
                    self.dial += 1;
                    attempt.dialing = Some((self.dial, address));
                    self.dials.insert(self.dial, (*key, address));
                    self.effects.push_back(Effect::Dial(self.dial, *key, address));
                } else {
                    attempt.refused(address, "this device has dialled there too often".to_owned());
                }
            }
            if attempt.is_over(now) {
                let why = attempt.why(&self.candidates);
                peer.tries.ended(now, attempt, Some(why.clone()));
                peer.attempt = None;
                if peer.is_unserved(now) {
                    peer.why = Some(why);
                    peer.retry_later(now, &self.config);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
