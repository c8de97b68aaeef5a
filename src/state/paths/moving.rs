//! Devices that are elsewhere than before: what that makes doubtful, and what it gives another chance.

use super::candidates::usable;
use super::caps::Minute;
use super::{Effect, Paths, Peer, Why};
use crate::state::time::Time;
use crate::wire::ids::DeviceKey;
use std::net::SocketAddr;
use std::time::Duration;

/// A connection that breaks within this time after an address of this device went, or before, broke of that: what else
/// there is is looked for at once.
pub(super) const MOVED_FOR: Duration = Duration::from_secs(10);

impl Peer {
    /// Whether its connection carried something a moment ago.
    fn is_in_use(&self, now: Time) -> bool {
        self.conns.iter().any(|one| Some(one.id) == self.current && now.since(one.used) < MOVED_FOR)
    }

    /// Whether a connection that was in use broke a moment ago, and there is none since. Counts once.
    fn broke_lately(&mut self, now: Time) -> bool {
        self.broke.take().is_some_and(|at| now.since(at) < MOVED_FOR) && self.current.is_none()
    }
}

impl Paths {
    /// Where this device may be reached now. `loopback` says that its server is on the same machine.
    pub fn addresses(&mut self, now: Time, addresses: Vec<SocketAddr>, loopback: bool) {
        let candidates = usable(self.mapped.address().into_iter().chain(addresses), loopback);
        self.loopback = loopback;
        let same =
            candidates.len() == self.candidates.len() && candidates.iter().all(|one| self.candidates.contains(one));
        if same {
            return;
        }
        let is_one_gone = self.candidates.iter().any(|old| !candidates.contains(old));
        self.candidates = candidates;
        if self.counts_as_move(now) {
            self.begin_anew(now);
            if is_one_gone {
                self.moved(now);
            }
        }
    }

    /// The machine slept: what was under way is over, and connections may be dead.
    pub fn woke(&mut self, now: Time) {
        if self.counts_as_move(now) {
            self.begin_anew(now);
            self.moved(now);
        }
    }

    /// Who is elsewhere again and again looks anew so many times a minute.
    fn counts_as_move(&mut self, now: Time) -> bool {
        self.moves.get_or_insert_with(|| Minute::new(now)).take(now, self.config.moves_per_minute)
    }

    /// Connections may be dead: they are asked, and where one that was in use does not answer, another one
    /// is looked for beside it.
    fn moved(&mut self, now: Time) {
        self.moved = Some(now);
        for peer in self.peers.values_mut() {
            peer.anew |= peer.is_in_use(now);
            self.effects.extend(peer.doubt(now).into_iter().map(|conn| Effect::Ping(conn, now)));
        }
    }

    /// A device has come to the server: an offer that it missed goes out anew, that it answered none is forgotten, and
    /// pauses are over, for it may be another process, or elsewhere. A server that says so again and again is believed so
    /// many times a minute.
    pub fn came_back(&mut self, now: Time, key: &DeviceKey) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.came = Some(now);
        peer.why.take_if(|why| *why == Why::NoOffer);
        if peer.comings.get_or_insert_with(|| Minute::new(now)).take(now, self.config.comings_per_minute) {
            peer.anew |= peer.attempt.take_if(|attempt| attempt.is_unanswered()).is_some();
            peer.failures = 0;
            peer.retry_at = peer.retry_at.map(|_| now);
        }
    }

    /// Pauses are over, and whoever was offered addresses is told the present ones; also who found no way to the old ones, for
    /// it is perhaps that one who waits, and whose connection broke a moment ago, perhaps of that.
    fn begin_anew(&mut self, now: Time) {
        self.near_anew();
        for peer in self.peers.values_mut() {
            peer.failures = 0;
            peer.retry_at = peer.retry_at.map(|_| now);
            peer.anew |= peer.attempt.take().is_some()
                || peer.failed_since(now, self.config.retry_max)
                || peer.broke_lately(now);
        }
    }
}
