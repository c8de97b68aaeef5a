//! Which of the connections to a device counts, and when one goes.

use super::moving::MOVED_FOR;
use super::{Effect, Paths, Peer, Why};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::ids::DeviceKey;
use std::time::Duration;

/// Connections to one device at most: each may have dialled, and one of the two may be an old one that is not known yet
/// to be dead.
const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// After so long without an answer another connection is looked for beside one that is in doubt.
pub(super) const ANSWER_WAIT: Duration = Duration::from_millis(200);

/// How often whoever dialled pings until the other device has said hello. QUIC notices a lost packet by the
/// acknowledgement of a later one; without a later one it waits for three round trips and more, and doubles that (RFC 9002,
/// section 6.2), in a queue that the transfer itself has filled.
const HELLO_PING: Duration = Duration::from_millis(25);
/// For how long it does so.
const HELLO_PINGS_FOR: Duration = Duration::from_secs(1);

/// A connection to another device.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    /// The dial that it came of; none if the other device dialled.
    dial: Option<u64>,
    /// Whether the other device said hello, as a member of the group.
    verified: bool,
    pub(super) since: Time,
    pub(super) used: Time,
    /// Since when it is in doubt, and has been asked whether its other end is there.
    doubted: Option<Time>,
    /// When it is pinged next, if the other device has not said hello by then.
    hello_ping: Time,
}

impl Conn {
    fn new(now: Time, id: ConnId, dial: Option<u64>) -> Conn {
        Conn { id, dial, verified: false, since: now, used: now, doubted: None, hello_ping: now.after(HELLO_PING) }
    }

    /// Whether this device dialled it.
    fn is_dialled(&self) -> bool {
        self.dial.is_some()
    }

    /// When it is pinged next because the other device has not said hello.
    pub(super) fn hello_ping_at(&self) -> Option<Time> {
        let waits = self.is_dialled() && !self.verified && self.hello_ping <= self.since.after(HELLO_PINGS_FOR);
        waits.then_some(self.hello_ping)
    }

    /// Whether the other device, which dialled, has not said hello.
    pub(super) fn waits_for_hello(&self, takes_over: bool) -> bool {
        takes_over && !self.is_dialled() && !self.verified
    }

    /// Whether it is asked whether its other end is there.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.is_some()
    }

    /// From when on another one may be looked for; none while nothing speaks against this one.
    pub(super) fn doubtful_from(&self) -> Option<Time> {
        self.doubted.map(|since| since.after(ANSWER_WAIT))
    }
}

impl Peer {
    /// From when on it has no connection that counts, or none that answers; none while it has a good one.
    pub(super) fn unserved_from(&self) -> Option<Time> {
        match self.conns.iter().find(|one| Some(one.id) == self.current) {
            Some(current) => current.doubtful_from(),
            None => Some(Time::default()),
        }
    }

    /// Whether it has none now.
    pub(super) fn is_unserved(&self, now: Time) -> bool {
        self.unserved_from().is_some_and(|from| from <= now)
    }

    /// Its connections are in doubt from now on. Says which are to be asked whether their other ends are there.
    pub(super) fn doubt(&mut self, now: Time) -> Vec<ConnId> {
        let certain = self.conns.iter_mut().filter(|one| one.verified && !one.is_doubted());
        certain.map(|one| (one.doubted = Some(now), one.id).1).collect()
    }
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
        conns.any(|one| one.id == conn && one.is_dialled())
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
        peer.conns.push(Conn::new(now, conn, Some(dial)));
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
        peer.conns.push(Conn::new(now, conn, None));
        true
    }

    /// The other device said hello on a connection, and is a member.
    pub fn verified(&mut self, now: Time, conn: ConnId) {
        let Some((key, false)) = self.peer_of(conn) else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        // Of two connections both devices keep the one that the lower key dialled.
        let dialled_by_lower = |one: &Conn| one.is_dialled() == (self.own < key);
        if let Some(one) = peer.conns.iter_mut().find(|one| one.id == conn) {
            (one.verified, one.used) = (true, now);
        }
        let old = peer.conns.iter().find(|one| Some(one.id) == peer.current);
        let new = peer.conns.iter().find(|one| one.id == conn);
        let better = match (old, new) {
            (None, Some(_)) => true,
            (Some(old), Some(_)) if old.is_doubted() => true,
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
            // What was asked for on one in doubt waits no longer, now that there is another.
            let doubted: Vec<ConnId> = peer.conns.iter().filter(|one| one.is_doubted()).map(|one| one.id).collect();
            peer.conns.retain(|one| !one.is_doubted());
            self.effects.extend(doubted.into_iter().map(Effect::Close));
        }
    }

    /// The other end of a connection answers what it was asked at that time: it is there, and no other one is needed.
    pub fn answered(&mut self, now: Time, conn: ConnId, asked: Time) {
        for peer in self.peers.values_mut() {
            let Some(one) = peer.conns.iter_mut().find(|one| one.id == conn) else { continue };
            if one.doubted.take_if(|since| *since <= asked).is_some() && peer.current == Some(conn) {
                (peer.why, peer.retry_at, peer.anew) = (None, None, false);
                if let Some(attempt) = peer.attempt.take_if(|attempt| attempt.dialing.is_none()) {
                    peer.tries.ended(now, &attempt, None);
                }
            }
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
        if let Some(attempt) = peer.attempt.as_mut()
            && let Some(dial) = gone.dial.filter(|_| !gone.verified)
        {
            attempt.unanswered(dial);
        }
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
            peer.broke = (peer.wanted || now.since(gone.used) < MOVED_FOR).then_some(now);
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

    /// Pings where a hello is waited for.
    pub(super) fn tick_hellos(&mut self, now: Time) {
        let conns = self.peers.values_mut().flat_map(|peer| peer.conns.iter_mut());
        for one in conns.filter(|one| one.hello_ping_at().is_some_and(|at| at <= now)) {
            one.hello_ping = now.after(HELLO_PING);
            self.effects.push_back(Effect::Ping(one.id, now));
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
