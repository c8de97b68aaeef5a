//! Where devices are: their addresses, their NATs, and whose packets reach whom without a server.

use super::*;
use bailiwick::state::paths::PathsConfig;
use bailiwick::wire::probe::Probe;
use std::net::{IpAddr, SocketAddr};

/// How long a NAT lets in whom its device has sent something (RFC 4787, section 4.3).
const MAPPING_MS: u64 = 30_000;
/// Networks of one device each have numbers from here on.
const LANS: u64 = 100;
/// The first port that a NAT gives.
const FIRST_PORT: u16 = 40_000;
/// The port of a device's socket.
const OWN_PORT: u16 = 4_433;

/// What a device's NAT does with packets of other devices; the server is always heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    /// All come in.
    Open,
    /// Those come in whom the device has sent something: address- and port-dependent filtering (RFC 4787, section 5).
    Filters,
    /// None come in, and none go out.
    Blocks,
}

/// Where a device is.
pub(crate) struct Spot {
    /// What its NAT does.
    pub(crate) nat: Nat,
    /// Its local network.
    lan: u64,
    port: u16,
    /// Addresses of others that it says are its own.
    fakes: Vec<SocketAddr>,
    /// To whom it has sent, and when last.
    sent: BTreeMap<SocketAddr, u64>,
    /// Who has answered this process.
    answered: BTreeSet<SocketAddr>,
    /// Pings and pongs of the last minute, by address.
    probes: BTreeMap<IpAddr, VecDeque<u64>>,
}

impl Spot {
    /// A network of its own, behind no NAT.
    pub(super) fn new(node: NodeId) -> Spot {
        Spot {
            nat: Nat::Open,
            lan: LANS + node as u64,
            port: FIRST_PORT,
            fakes: Vec::new(),
            sent: BTreeMap::new(),
            answered: BTreeSet::new(),
            probes: BTreeMap::new(),
        }
    }

    /// A new process has heard nobody.
    pub(super) fn new_process(&mut self) {
        self.answered.clear();
        self.probes.clear();
    }
}

impl World {
    /// Straight ways are looked for from now on, by who is there and who comes.
    pub(crate) fn with_straight_ways(mut self) -> World {
        for node in &mut self.nodes {
            node.config.paths.enabled = true;
        }
        self.crash(0);
        self.start_node(0);
        self
    }

    /// Whether they are looked for.
    pub(crate) fn has_straight_ways(&self) -> bool {
        self.nodes[0].config.paths.enabled
    }

    /// The address from which a device's packets come to others.
    pub(super) fn public(&self, node: NodeId) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, node as u8], self.nodes[node].spot.port))
    }

    fn local(&self, node: NodeId) -> SocketAddr {
        SocketAddr::from(([10, self.nodes[node].spot.lan as u8, 0, node as u8 + 1], OWN_PORT))
    }

    /// A device hears of its own addresses.
    pub(super) fn tell_addresses(&mut self, node: NodeId) {
        let mut addresses = vec![self.local(node)];
        addresses.extend(self.nodes[node].spot.fakes.iter().copied());
        self.tell(node, Input::Addresses(addresses));
    }

    /// A device is moved: to a network that others are on too, behind a NAT that does this.
    pub(crate) fn moves(&mut self, node: NodeId, lan: u64, nat: Nat) {
        self.note(format!("{} is on network {lan} behind {nat:?}", self.nodes[node].name));
        let spot = &mut self.nodes[node].spot;
        (spot.lan, spot.nat) = (lan, nat);
        spot.sent.clear();
        self.rebinds(node);
        self.tell_addresses(node);
    }

    /// A device has another address on another network, and QUIC carries its connections over.
    pub(crate) fn moves_on(&mut self, node: NodeId, lan: u64) {
        self.note(format!("{} goes on at network {lan}", self.nodes[node].name));
        self.nodes[node].spot.lan = lan;
        self.tell_addresses(node);
    }

    /// Nothing is in the way of a device's packets any more, and it says where it is.
    pub(super) fn opens_nat(&mut self, node: NodeId) {
        let spot = &mut self.nodes[node].spot;
        spot.nat = Nat::Open;
        spot.fakes.clear();
        self.tell_addresses(node);
    }

    /// A device's NAT forgets what it knew, and gives another port.
    pub(crate) fn rebinds(&mut self, node: NodeId) {
        self.coverage.event("NAT gives another port");
        let spot = &mut self.nodes[node].spot;
        spot.port += 1;
        spot.sent.clear();
        self.straight_ways_die(node, None);
    }

    /// A device says that addresses of others, and of nobody, are its own.
    pub(crate) fn lies_about_addresses(&mut self, node: NodeId) {
        self.coverage.event("lying candidates");
        let other = self.dice.below(self.nodes.len() as u64) as usize;
        let victim = SocketAddr::from(([203, 0, 113, self.dice.below(4) as u8], 80));
        self.nodes[node].spot.fakes = vec![victim, self.public(other), self.local(other)];
        self.tell_addresses(node);
    }

    /// Nothing passes straight between two devices, and neither is told; or it passes again.
    pub(crate) fn black_hole(&mut self, one: NodeId, other: NodeId, is_one: bool) {
        let pair = (one.min(other), one.max(other));
        self.note(format!("black hole between {} and {}: {is_one}", self.nodes[one].name, self.nodes[other].name));
        if !is_one {
            self.holes.remove(&pair);
        } else if self.holes.insert(pair) {
            self.coverage.event("black hole");
            self.straight_ways_die(one, Some(other));
        }
    }

    /// Whether packets pass straight from one device to another at all.
    pub(super) fn passes(&self, from: NodeId, to: NodeId) -> bool {
        let pair = (from.min(to), from.max(to));
        !self.nodes[from].cut_out && !self.nodes[to].cut_in && !self.holes.contains(&pair)
    }

    /// A packet to an address: whom it reaches, and from where it seems to come.
    pub(super) fn reaches(&mut self, from: NodeId, to: SocketAddr) -> Option<(NodeId, SocketAddr)> {
        self.nodes[from].spot.sent.insert(to, self.now);
        let is = |one: &NodeId| self.public(*one) == to || self.local(*one) == to;
        let target = (0..self.nodes.len()).filter(|one| *one != from).find(is)?;
        if !self.passes(from, target) {
            return None;
        }
        if self.local(target) == to {
            return (self.nodes[from].spot.lan == self.nodes[target].spot.lan).then(|| (target, self.local(from)));
        }
        let source = self.public(from);
        let lets_in = match self.nodes[target].spot.nat {
            Nat::Open => true,
            Nat::Filters => self.nodes[target].spot.sent.get(&source).is_some_and(|when| self.now - when < MAPPING_MS),
            Nat::Blocks => false,
        };
        (lets_in && self.nodes[from].spot.nat != Nat::Blocks).then_some((target, source))
    }

    /// A device sends a probe. It may send so many to one address, whatever it was told by members and servers.
    pub(super) fn probe(&mut self, node: NodeId, to: SocketAddr, probe: Probe) {
        let (now, config) = (self.now, PathsConfig::default());
        let of_all = config.probes_of_device_per_minute as usize * self.nodes.len();
        let max = of_all.min(config.probes_per_minute as usize);
        let lately = self.nodes[node].spot.probes.entry(to.ip()).or_default();
        lately.retain(|when| now - when < 60_000);
        lately.push_back(now);
        // The count begins anew each minute.
        if lately.len() > 2 * max {
            self.fail(&format!("{} sends {to} more than {max} probes a minute", self.nodes[node].name));
        }
        if let Some((target, from)) = self.reaches(node, to)
            && !self.dice.once_in(10)
        {
            let (when, life) = (self.soon(), self.nodes[target].life);
            self.at(when, Event::Straight(Box::new(Way::Probe { node: target, life, from, probe })));
        }
    }

    /// A probe comes.
    pub(super) fn probe_comes(&mut self, node: NodeId, from: SocketAddr, probe: Probe) {
        if matches!(probe, Probe::Pong { .. }) {
            self.nodes[node].spot.answered.insert(from);
        }
        self.tell(node, Input::Probe(from, probe));
    }

    /// A device dials where its probes were answered, and nowhere else.
    pub(super) fn check_dial(&self, node: NodeId, to: SocketAddr) {
        if !self.nodes[node].spot.answered.contains(&to) {
            self.fail(&format!("{} dials {to}, which has not answered", self.nodes[node].name));
        }
    }
}

/// What happens on straight ways.
pub(super) enum Way {
    Probe { node: NodeId, life: u32, from: SocketAddr, probe: Probe },
    Arrives { way: u64 },
    Opens { way: u64, node: NodeId, life: u32, dial: u64 },
    DialFails { node: NodeId, life: u32, dial: u64 },
    Deliver { way: u64, end: usize },
    Dies { way: u64, end: usize },
    Chunk(Box<straight::Carried>),
}
