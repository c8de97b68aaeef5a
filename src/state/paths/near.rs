//! Devices seen on the local network. There is no NAT between two of them, so one dials the other at once, without the
//! server's help: it need not be there.
//!
//! Whoever is on that network can announce what it likes, so only addresses of such networks are dialled, a few at a
//! time, within the caps for all dials, and the one who answers has to prove that it is the device.

use super::candidates::is_near;
use super::conns::Conn;
use super::{Effect, Paths, Peer, Why};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::ids::DeviceKey;
use crate::wire::limits::CANDIDATES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Devices that are remembered as seen, at most.
const NEAR_MAX: usize = 256;
/// A device that is not seen again for this long is gone, also if nothing says so.
const SEEN_FOR: Duration = Duration::from_secs(120);
/// Addresses of a device that are dialled at once.
const DIALS_MAX: usize = 4;
/// How long these dials may take before it is tried with the server's help as well.
pub(super) const HEAD_START: Duration = Duration::from_millis(500);

/// What was seen of a device.
#[derive(Debug)]
pub(super) struct Near {
    addresses: Vec<SocketAddr>,
    until: Time,
    /// The address to dial next.
    next: usize,
    dials: BTreeSet<u64>,
    began: Time,
    failures: u32,
    retry_at: Option<Time>,
}

impl Near {
    /// Whether it is being dialled.
    pub(super) fn is_dialled(&self) -> bool {
        !self.dials.is_empty()
    }

    /// Whether its dials began a moment ago, and until when that is so.
    pub(super) fn has_head_start(&self, now: Time) -> Option<Time> {
        let until = self.began.after(HEAD_START);
        (!self.dials.is_empty() && now < until).then_some(until)
    }
}

/// From when on a device has no connection that speaks against dialling it; none while it has one.
fn free_from(peer: &Peer) -> Option<Time> {
    peer.conns.iter().map(Conn::doubtful_from).try_fold(Time::default(), |latest, at| Some(latest.max(at?)))
}

impl Paths {
    /// The devices that are seen on the local network now, all of them, with their addresses there.
    pub fn nearby(&mut self, now: Time, seen: &BTreeMap<DeviceKey, Vec<SocketAddr>>) {
        if !self.config.enabled {
            return;
        }
        self.near.retain(|key, _| seen.contains_key(key));
        for (key, addresses) in seen {
            let mut near: Vec<SocketAddr> = Vec::new();
            for address in addresses {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                if is_near(&address, self.config.near_loopback) && !near.contains(&address) {
                    near.push(address);
                }
            }
            near.truncate(CANDIDATES_MAX);
            let (until, room) = (now.after(SEEN_FOR), self.near.len() < NEAR_MAX);
            match self.near.get_mut(key) {
                _ if near.is_empty() => drop(self.near.remove(key)),
                Some(known) => (known.addresses, known.until) = (near, until),
                None if room => {
                    let new = Near {
                        addresses: near,
                        until,
                        next: 0,
                        dials: BTreeSet::new(),
                        began: now,
                        failures: 0,
                        retry_at: None,
                    };
                    self.near.insert(*key, new);
                }
                None => {}
            }
        }
    }

    /// Whether a device is seen on the local network.
    pub fn is_near(&self, key: &DeviceKey) -> bool {
        self.near.contains_key(key)
    }

    /// Dials a device on the local network, if it is time.
    pub(super) fn dial_near(&mut self, now: Time, key: DeviceKey) {
        let conns: usize = self.peers.values().map(|peer| peer.conns.len()).sum();
        let Some(near) = self.near.get_mut(&key) else { return };
        let is_free = self.peers.get(&key).is_some_and(|peer| free_from(peer).is_some_and(|at| at <= now));
        let due = near.retry_at.is_none_or(|at| at <= now);
        if !is_free || !near.dials.is_empty() || !due {
            return;
        }
        near.retry_at = None;
        let mut error = Why::TooMany;
        if conns < self.config.connections_max {
            let count = near.addresses.len();
            let turn: Vec<SocketAddr> =
                near.addresses.iter().cycle().skip(near.next % count).take(count).copied().collect();
            near.next = near.next % count + DIALS_MAX.min(count);
            near.began = now;
            for address in turn.into_iter().take(DIALS_MAX) {
                if self.dial_cap.take(now, address.ip()) {
                    self.dial += 1;
                    near.dials.insert(self.dial);
                    self.dials.insert(self.dial, (key, address));
                    self.effects.push_back(Effect::Dial(self.dial, key, address));
                }
            }
            error = Why::NotNear("this device has dialled there too often".to_owned());
        }
        if near.dials.is_empty() {
            self.near_failed(now, &key, error);
        }
    }

    /// Whether a dial went to the local network; it is over then.
    pub(super) fn take_near_dial(&mut self, key: &DeviceKey, dial: u64) -> bool {
        self.near.get_mut(key).is_some_and(|near| near.dials.remove(&dial))
    }

    /// A dial to the local network failed: the last one of them makes a pause.
    pub(super) fn near_dial_failed(&mut self, now: Time, key: &DeviceKey, why: String) {
        if self.near.get(key).is_some_and(|near| near.dials.is_empty()) {
            self.near_failed(now, key, Why::NotNear(why));
        }
    }

    fn near_failed(&mut self, now: Time, key: &DeviceKey, why: Why) {
        if let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.current.is_none() && peer.attempt.is_none()) {
            peer.why = Some(why);
        }
        self.pause_near(now, key);
    }

    fn pause_near(&mut self, now: Time, key: &DeviceKey) {
        let config = &self.config;
        if let Some(near) = self.near.get_mut(key) {
            let pause = config.retry_min.saturating_mul(1 << near.failures.min(8)).min(config.retry_max);
            near.failures += 1;
            near.retry_at = Some(now.after(pause));
        }
    }

    /// A connection to a device broke, after so long. `moved` says that this device's addresses changed a moment ago.
    pub(super) fn near_broke(&mut self, now: Time, key: &DeviceKey, lived: Duration, moved: bool) {
        if let Some(near) = self.near.get_mut(key).filter(|_| lived >= self.config.good_after || moved) {
            (near.failures, near.retry_at) = (0, None);
        }
        if !moved {
            self.pause_near(now, key);
        }
    }

    /// No pause counts any more.
    pub(super) fn near_anew(&mut self) {
        for near in self.near.values_mut() {
            (near.failures, near.retry_at) = (0, None);
        }
    }

    /// Forgets who was not seen for a while.
    pub(super) fn tick_near(&mut self, now: Time) {
        self.near.retain(|_, near| now < near.until);
    }

    /// When something is to be done about devices on the local network.
    pub(super) fn near_timeout(&self) -> Option<Time> {
        let waits = |key: &DeviceKey| self.peers.get(key).filter(|peer| peer.wanted);
        let at = |near: &Near, peer: &Peer| match near.dials.is_empty() {
            true => Some(near.retry_at.unwrap_or(self.looked).max(free_from(peer)?)),
            false if peer.conns.is_empty() && peer.attempt.is_none() && self.signalling => {
                near.has_head_start(self.looked)
            }
            false => None,
        };
        self.near.iter().filter_map(|(key, near)| at(near, waits(key)?)).min()
    }

    /// A dial to the local network made a connection that nobody needs: there is one.
    pub(super) fn is_second(&self, key: &DeviceKey, near: bool, conn: ConnId) -> bool {
        let counts = |one: &Conn| one.id != conn && !one.is_doubted();
        near && self.peers.get(key).is_some_and(|peer| peer.conns.iter().any(counts))
    }
}
