//! Which of the connections to a device counts, and when one goes.

use super::{Effect, Paths, Peer, Why};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::ids::DeviceKey;
use std::time::Duration;

/// Connections to one device at most: each may have dialled, and one of the two may be an old one that is not known yet
/// to be dead.
const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// A connection that breaks within this time after an address of this device went, broke of that: what else there is is
/// looked for at once.
const MOVED_FOR: Duration = Duration::from_secs(10);

/// A connection to another device.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    /// Whether this device dialled it.
    dialled: bool,
    /// Whether the other device said hello, as a member of the group.
    verified: bool,
    pub(super) since: Time,
    used: Time,
}

impl Paths {
    /// The device at the other end of a connection, and whether it said hello.
    pub fn peer_of(&self, conn: ConnId) -> Option<(DeviceKey, bool)> {
        self.peers
            .iter()
            .find_map(|(key, peer)| peer.conns.iter().find(|one| one.id == conn).map(|one| (*key, one.verified)))
    }

    /// Whether this device dialled a connection.
    pub fn is_dialled(&self, conn: ConnId) -> bool {
        let mut conns = self.peers.values().flat_map(|peer| &peer.conns);
        conns.any(|one| one.id == conn && one.dialled)
    }

    /// All connections to a device.
    pub fn connections_of(&self, key: &DeviceKey) -> Vec<ConnId> {
        self.peers.get(key).map(|peer| peer.conns.iter().map(|one| one.id).collect()).unwrap_or_default()
    }

    /// The connections to members that said hello.
    pub fn verified_connections(&self) -> Vec<ConnId> {
        let conns = self.peers.values().flat_map(|peer| &peer.conns);
        conns.filter(|one| one.verified).map(|one| one.id).collect()
    }

    /// A dial succeeded. Whoever answered has the device's key; whether it takes this one shows in its hello.
    pub fn dialed(&mut self, now: Time, dial: u64, conn: ConnId) {
        let Some((key, _)) = self.dials.remove(&dial) else { return self.effects.push_back(Effect::Close(conn)) };
        let near = self.take_near_dial(&key, dial);
        if self.is_second(&key, near, conn) {
            return self.effects.push_back(Effect::Close(conn));
        }
        let peer = self.peers.entry(key).or_default();
        peer.conns.push(Conn { id: conn, dialled: true, verified: false, since: now, used: now });
    }

    /// A member dialled this device. Says whether it may stay.
    pub fn accepted(&mut self, now: Time, from: DeviceKey, conn: ConnId) -> bool {
        let conns: usize = self.peers.values().map(|peer| peer.conns.len()).sum();
        let of_peer = self.peers.get(&from).map_or(0, |peer| peer.conns.len());
        let room = conns < self.config.connections_max && of_peer < CONNECTIONS_PER_PEER_MAX;
        if !self.config.enabled || !room {
            self.effects.push_back(Effect::Close(conn));
            return false;
        }
        let peer = self.peers.entry(from).or_default();
        peer.conns.push(Conn { id: conn, dialled: false, verified: false, since: now, used: now });
        true
    }

    /// The other device said hello on a connection, and is a member.
    pub fn verified(&mut self, now: Time, conn: ConnId) {
        let Some((key, false)) = self.peer_of(conn) else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        // Of two connections both devices keep the one that the lower key dialled.
        let dialled_by_lower = |one: &Conn| one.dialled == (self.own < key);
        if let Some(one) = peer.conns.iter_mut().find(|one| one.id == conn) {
            (one.verified, one.used) = (true, now);
        }
        let old = peer.conns.iter().find(|one| Some(one.id) == peer.current);
        let new = peer.conns.iter().find(|one| one.id == conn);
        let better = match (old, new) {
            (None, Some(_)) => true,
            // Two that the same device dialled: the newer one, for the older is dead or it would not have dialled.
            (Some(old), Some(new)) => dialled_by_lower(new) || !dialled_by_lower(old),
            (_, None) => false,
        };
        peer.why = None;
        peer.retry_at = None;
        peer.anew = false;
        if better {
            peer.current = Some(conn);
            self.effects.push_back(Effect::Up(key, conn));
        }
    }

    /// A connection ended.
    pub fn lost(&mut self, now: Time, conn: ConnId) {
        let Some((key, _)) = self.peer_of(conn) else { return };
        self.remove(now, key, conn, true);
    }

    pub(super) fn remove(&mut self, now: Time, key: DeviceKey, conn: ConnId, broke: bool) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(at) = peer.conns.iter().position(|one| one.id == conn) else { return };
        let gone = peer.conns.remove(at);
        if peer.current != Some(conn) {
            return;
        }
        peer.current = peer.conns.iter().find(|one| one.verified).map(|one| one.id);
        if let Some(other) = peer.current {
            return self.effects.push_back(Effect::Up(key, other));
        }
        self.effects.push_back(Effect::Down(key));
        if broke {
            if now.since(gone.since) >= self.config.good_after {
                peer.failures = 0;
            }
            peer.why = Some(Why::Broke);
            // The other device may have noticed first, and have offered already.
            peer.attempt.take_if(|attempt| attempt.since() <= gone.since);
            let moved = self.moved.filter(|at| gone.since <= *at && now.since(*at) < MOVED_FOR);
            // Its process was another one then, or it was elsewhere.
            let is_back = peer.came.take().is_some_and(|came| came >= gone.since);
            match moved {
                Some(at) => {
                    peer.retry_at = None;
                    peer.anew = peer.wanted || at.since(gone.used) < MOVED_FOR;
                }
                None if is_back => peer.retry_at = None,
                None if peer.attempt.is_some() => {}
                None => peer.retry_later(now, &self.config),
            }
            self.near_broke(now, &key, now.since(gone.since), moved.is_some());
        }
    }

    /// A connection carries something.
    pub fn used(&mut self, now: Time, conn: ConnId) {
        let mut conns = self.peers.values_mut().flat_map(|peer| peer.conns.iter_mut());
        if let Some(one) = conns.find(|one| one.id == conn) {
            one.used = now;
        }
    }

    pub(super) fn idle_at(&self, peer: &Peer, conn: &Conn) -> Time {
        let counts = peer.current.is_none_or(|current| current == conn.id);
        conn.used.after(if counts && conn.verified { self.config.idle } else { self.config.idle_second })
    }
}
