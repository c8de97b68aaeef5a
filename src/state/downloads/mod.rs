//! Downloads: which units to ask of whom, how many at a time, and what follows from each answer.
//!
//! The asker bounds what it has outstanding (its credit), so that whatever it asked for can arrive without anybody
//! waiting for it; nothing unverified is ever claimed, and nothing is claimed before it is synced.

mod ask;
pub mod bits;
mod config;
mod control;
mod disk;
pub mod fetch;
mod outcome;
mod progress;
pub mod rate;
mod way;

pub use config::DownloadsConfig;
pub use outcome::{Came, Opened, Outcome};
pub use way::Way;

use super::conn::ConnId;
use super::time::Time;
use crate::wire::frame::ChunkRefusal;
use crate::wire::ids::{ContentId, PublicId};
use ask::Lane;
use fetch::{Fetch, Phase, Wanted};
use rate::Rate;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// A transfer, as the store numbers it.
pub type TransferId = u64;

/// One unit of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// For which transfer.
    pub transfer: TransferId,
    /// Of which content.
    pub content: ContentId,
    /// Which unit, by its index on the wire.
    pub index: u32,
    /// Its plain length.
    pub length: u32,
}

/// What the machine wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Load up to this many more transfers that are not in memory, in order, and say [`Downloads::add`].
    Load(usize),
    /// Look at the destination and open the part file; say [`Downloads::opened`].
    Open(TransferId),
    /// Be ready for these units, then ask for them.
    Ask {
        /// The request's number.
        request: u64,
        /// Of whom.
        owner: PublicId,
        /// Which units.
        units: Vec<Asked>,
        /// The straight connection to ask on; none means through the server.
        by: Option<ConnId>,
    },
    /// Be ready for these units for one more transfer: they were asked for already, for another one.
    Join {
        /// The request's number.
        request: u64,
        /// Which units.
        units: Vec<Asked>,
    },
    /// Expect these no longer for this transfer; another one still wants them.
    Leave {
        /// The request's number.
        request: u64,
        /// Which units.
        units: Vec<Asked>,
    },
    /// Tell who was asked that these are not wanted any more, and expect them no longer.
    Cancel {
        /// The request's number.
        request: u64,
        /// Which units.
        units: Vec<Asked>,
        /// The straight connection on which they were asked for; none means through the server.
        by: Option<ConnId>,
    },
    /// Sync the part file and say [`Downloads::synced`].
    Sync(TransferId, Vec<u32>),
    /// Persist these chunks as claimed, with the bytes ever received.
    Claim {
        /// The transfer.
        transfer: TransferId,
        /// All that is claimed.
        claimed: Vec<u8>,
        /// Bytes of that.
        done: u64,
        /// Bytes ever received.
        received: u64,
    },
    /// Sync, rename, sync the folders; say [`Downloads::finished`] for each.
    Finish(Vec<TransferId>),
    /// Persist that a transfer waits, or how it ended.
    Settle(TransferId, Outcome, u64),
    /// Close what is open for a transfer that is no longer in memory.
    Close {
        /// The transfer.
        transfer: TransferId,
        /// Whether its part file is needed again.
        part_needed: bool,
        /// Bytes that ever came in for it.
        received: u64,
    },
    /// Nothing is left to be claimed, and nothing more will be asked for.
    Stopped,
    /// A file changed or went under a transfer: look at the catalog, persist what is to be done with it now.
    LookAgain(TransferId),
}

/// All downloads of a node.
pub struct Downloads {
    config: DownloadsConfig,
    fetches: BTreeMap<TransferId, Fetch>,
    by_unit: HashMap<(ContentId, u32), BTreeSet<TransferId>>,
    online: HashMap<PublicId, bool>,
    linked: bool,
    /// Owners that are asked on a straight connection.
    straight: HashMap<PublicId, ConnId>,
    /// Requests that went by a straight connection, with the units of them that are outstanding.
    ways: HashMap<u64, (ConnId, usize)>,
    request: u64,
    asked_bytes: u64,
    asked_units: usize,
    /// Those of them that were asked for through the server.
    relayed_units: usize,
    asked_in: BTreeMap<Lane, u64>,
    finishing: Vec<TransferId>,
    finish_since: Option<Time>,
    pauses: HashMap<TransferId, (u32, u32)>,
    more_in_store: bool,
    loading: bool,
    rate: Rate,
    heard: Time,
    heard_of: HashMap<PublicId, Time>,
    stopping: bool,
    effects: VecDeque<Effect>,
}

impl Downloads {
    /// No downloads yet; the store may hold some.
    pub fn new(config: DownloadsConfig) -> Downloads {
        Downloads {
            config,
            fetches: BTreeMap::new(),
            by_unit: HashMap::new(),
            online: HashMap::new(),
            linked: false,
            straight: HashMap::new(),
            ways: HashMap::new(),
            request: 0,
            asked_bytes: 0,
            asked_units: 0,
            relayed_units: 0,
            asked_in: BTreeMap::new(),
            finishing: Vec::new(),
            finish_since: None,
            pauses: HashMap::new(),
            more_in_store: true,
            loading: false,
            rate: Rate::default(),
            heard: Time::default(),
            heard_of: HashMap::new(),
            stopping: false,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The fetches in memory.
    pub fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        self.fetches.values()
    }

    /// One of them.
    pub fn fetch(&self, transfer: TransferId) -> Option<&Fetch> {
        self.fetches.get(&transfer)
    }

    /// Bytes a second, over the last seconds, of all downloads.
    pub fn rate(&self, now: Time) -> u64 {
        self.rate.per_second(now)
    }

    /// Whether bytes or answers are awaited through the server, and when something was heard last by that way.
    pub fn awaited_since(&self) -> Option<Time> {
        (self.relayed_units > 0).then_some(self.heard)
    }

    /// The straight connection by which a request went, if units of it are outstanding.
    pub fn way_of(&self, request: u64) -> Option<ConnId> {
        self.ways.get(&request).map(|(conn, _)| *conn)
    }

    /// The straight connection by which a unit was asked for.
    pub fn way_of_unit(&self, asked: &Asked) -> Option<ConnId> {
        let request = self.fetches.get(&asked.transfer)?.asked.get(&asked.index)?;
        self.way_of(*request)
    }

    /// The owners of what is in memory and may come straight.
    pub fn owners(&self) -> BTreeSet<PublicId> {
        let straight = self.fetches.values().filter(|fetch| fetch.wanted.way.permits(true));
        straight.map(|fetch| fetch.wanted.owner).collect()
    }

    /// Why a fetch does not move, if it doesn't.
    pub fn waits_for(&self, fetch: &Fetch) -> Option<Outcome> {
        let (owner, way) = (fetch.wanted.owner, fetch.wanted.way);
        if !(way.permits(true) && self.straight.contains_key(&owner)) {
            if !self.linked && way.permits(false) {
                return Some(Outcome::ServerAway);
            }
            if self.online.get(&owner) == Some(&false) {
                return Some(Outcome::OwnerAway);
            }
            if !way.permits(false) {
                return Some(Outcome::NotStraight);
            }
        }
        // What was said last counts until something comes, also while it is asked for again.
        fetch.held.map(|(_, why)| why).or(fetch.why)
    }

    /// The store has more transfers.
    pub fn more(&mut self, now: Time) {
        self.more_in_store = true;
        self.go_on(now);
    }

    /// What was loaded from the store; fewer than asked for means that there are no more.
    pub fn add(&mut self, now: Time, wanted: Vec<Wanted>, exhausted: bool) {
        self.loading = false;
        self.more_in_store = !exhausted;
        for wanted in wanted {
            let transfer = wanted.transfer;
            if let Entry::Vacant(place) = self.fetches.entry(transfer) {
                place.insert(Fetch::new(wanted));
                self.effects.push_back(Effect::Open(transfer));
            }
        }
        self.go_on(now);
    }

    /// The way through the server is open, or was lost: then everything that was asked for by it is to be asked for again.
    pub fn linked(&mut self, now: Time, linked: bool) {
        self.linked = linked;
        self.heard = now;
        self.give_back_all(|way| way.is_none());
        if linked {
            self.fetches.values_mut().for_each(release);
        }
        self.go_on(now);
    }

    /// New requests to an owner go by this straight connection, or through the server.
    pub fn straight(&mut self, now: Time, owner: PublicId, conn: Option<ConnId>) {
        match conn {
            Some(conn) => {
                self.straight.insert(owner, conn);
                self.fetches.values_mut().filter(|fetch| fetch.wanted.owner == owner).for_each(release);
            }
            None => drop(self.straight.remove(&owner)),
        }
        self.go_on(now);
    }

    /// A straight connection is gone: what was asked for on it is asked for again, by whatever way there is.
    pub fn straight_lost(&mut self, now: Time, conn: ConnId) {
        self.straight.retain(|_, of| *of != conn);
        self.give_back_all(|way| way == Some(conn));
        self.go_on(now);
    }

    /// Gives back what was asked for by the ways that are meant.
    fn give_back_all(&mut self, meant: impl Fn(Option<ConnId>) -> bool) {
        let mut over: Vec<(TransferId, u32)> = Vec::new();
        for (transfer, fetch) in &self.fetches {
            let asked = fetch.asked.iter().filter(|(_, request)| meant(self.way_of(**request)));
            over.extend(asked.map(|(index, _)| (*transfer, *index)));
        }
        over.into_iter().for_each(|(transfer, index)| self.give_back(transfer, index));
    }

    /// An owner came or went.
    pub fn presence(&mut self, now: Time, owner: PublicId, online: bool) {
        self.online.insert(owner, online);
        if online {
            self.fetches.values_mut().filter(|fetch| fetch.wanted.owner == owner).for_each(release);
        }
        self.go_on(now);
    }

    /// For how long an owner who was asked has said nothing, if that is long enough to be told.
    pub fn silent_for(&self, now: Time, fetch: &Fetch) -> Option<Duration> {
        if fetch.asked.is_empty() || fetch.phase != Phase::Moving {
            return None;
        }
        let heard = self.heard_of.get(&fetch.wanted.owner).copied().unwrap_or_default();
        let silent = now.since(heard.max(fetch.asked_since));
        (silent >= self.config.silent_after).then_some(silent)
    }

    /// Bytes came in for a transfer, through the server or not.
    pub fn heard(&mut self, now: Time, transfer: TransferId, bytes: u64, relayed: bool) {
        if relayed {
            self.heard = now;
        }
        if let Some(fetch) = self.fetches.get(&transfer) {
            self.heard_of.insert(fetch.wanted.owner, now);
        }
        self.rate.add(now, bytes);
    }

    /// A unit came: what became of it.
    pub fn came(&mut self, now: Time, asked: Asked, came: Came) {
        if self.way_of_unit(&asked).is_none() {
            self.heard = now;
        }
        let Some(fetch) = self.told(asked.transfer) else { return };
        if came != Came::Broken {
            fetch.wanted.received += u64::from(asked.length);
        }
        let owner = fetch.wanted.owner;
        self.heard_of.insert(owner, now);
        self.give_back(asked.transfer, asked.index);
        match came {
            Came::Verified => self.verified(now, asked),
            Came::Damaged => self.damaged(now, asked.transfer),
            Came::Broken => {}
            Came::NoSecret => self.hold(now, asked.transfer, Outcome::Refused(ChunkRefusal::NotReady)),
            Came::NotWritten(outcome) => self.settle(now, asked.transfer, outcome),
        }
        self.go_on(now);
    }

    /// The server or the owner said no to some units.
    /// Gives the units that were still asked for by that request: they will not come.
    pub fn refused(&mut self, now: Time, request: u64, units: &[(ContentId, u32)], reason: ChunkRefusal) -> Vec<Asked> {
        if self.way_of(request).is_none() {
            self.heard = now;
        }
        let mut over = Vec::new();
        let mut hit = BTreeSet::new();
        for key in units {
            let transfers: Vec<TransferId> =
                self.by_unit.get(key).map(|set| set.iter().copied().collect()).unwrap_or_default();
            for transfer in transfers {
                let asked = self.fetches.get(&transfer).and_then(|fetch| fetch.asked.get(&key.1)).copied();
                if asked == Some(request) {
                    let (content, index) = *key;
                    over.push(Asked { transfer, content, index, length: 0 });
                    self.give_back(transfer, key.1);
                    hit.insert(transfer);
                }
            }
        }
        for transfer in hit {
            match reason {
                ChunkRefusal::Changed | ChunkRefusal::Unknown => self.effects.push_back(Effect::LookAgain(transfer)),
                reason if Outcome::Refused(reason).is_end() => self.settle(now, transfer, Outcome::Refused(reason)),
                reason => self.hold(now, transfer, Outcome::Refused(reason)),
            }
        }
        self.go_on(now);
        over
    }

    /// The outcome of [`Effect::LookAgain`]: the transfer waits, or it ended; or it leaves, to be loaded anew.
    pub fn looked_again(&mut self, now: Time, transfer: TransferId, outcome: Option<Outcome>) {
        match outcome {
            Some(outcome) => self.settle(now, transfer, outcome),
            None => self.pause(now, transfer),
        }
        self.go_on(now);
    }

    /// The node ends: nothing more is asked for, and all that is there is claimed at once.
    pub fn stop(&mut self) {
        self.stopping = true;
        let ids: Vec<TransferId> = self.fetches.keys().copied().collect();
        ids.into_iter().for_each(|transfer| self.claim(transfer));
        self.flush_finishing();
        self.stopped_if_all_is_claimed();
    }

    fn stopped_if_all_is_claimed(&mut self) {
        let busy = |fetch: &Fetch| fetch.syncing || fetch.phase == Phase::Ending || !fetch.unclaimed.is_empty();
        if self.stopping && !self.fetches.values().any(busy) {
            self.effects.push_back(Effect::Stopped);
        }
    }

    /// A person ended a transfer, or the file left the catalog: it is dropped from memory.
    pub fn drop_transfer(&mut self, now: Time, transfer: TransferId, part_needed: bool) {
        if !self.fetches.contains_key(&transfer) {
            return;
        }
        self.cancel_asked(transfer);
        self.forget(transfer, part_needed);
        self.go_on(now);
    }

    /// When to call [`Downloads::tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let held = self.fetches.values().filter_map(|fetch| fetch.held.map(|(until, _)| until));
        let claims = self
            .fetches
            .values()
            .filter(|fetch| !fetch.syncing && fetch.phase == Phase::Moving)
            .filter_map(|fetch| fetch.unclaimed_since.map(|since| since.after(self.config.claim_wait)));
        let finish = self.finish_since.map(|since| since.after(self.config.finish_wait));
        held.chain(claims).chain(finish).min()
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) {
        let due: Vec<TransferId> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.held.is_some_and(|(until, _)| until <= now))
            .map(|(id, _)| *id)
            .collect();
        for transfer in due {
            if let Some(fetch) = self.fetches.get_mut(&transfer) {
                let reopen = fetch.phase == Phase::Opening && !fetch.leaving;
                fetch.held = None;
                if reopen {
                    self.effects.push_back(Effect::Open(transfer));
                }
            }
        }
        let owed: Vec<TransferId> = self.fetches.keys().copied().collect();
        owed.into_iter().for_each(|transfer| self.claim_if_due(now, transfer));
        if self.finish_since.is_some_and(|since| now.since(since) >= self.config.finish_wait) {
            self.flush_finishing();
        }
        self.go_on(now);
    }

    fn give_back(&mut self, transfer: TransferId, index: u32) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        let Some(request) = fetch.give_back(index) else { return };
        match self.ways.get_mut(&request) {
            Some((_, 1)) => drop(self.ways.remove(&request)),
            Some((_, outstanding)) => *outstanding -= 1,
            None => self.relayed_units -= 1,
        }
        let length = u64::from(fetch.wanted.geometry.unit_len(index).unwrap_or(0));
        self.asked_bytes -= length;
        self.asked_units -= 1;
        if let Entry::Occupied(mut outstanding) = self.asked_in.entry(fetch.wanted.lane()) {
            *outstanding.get_mut() -= length;
            if *outstanding.get() == 0 {
                outstanding.remove();
            }
        }
        let key = (fetch.wanted.content, index);
        if let Some(set) = self.by_unit.get_mut(&key) {
            set.remove(&transfer);
            if set.is_empty() {
                self.by_unit.remove(&key);
            }
        }
    }

    fn go_on(&mut self, now: Time) {
        if self.stopping {
            return self.stopped_if_all_is_claimed();
        }
        self.ask(now);
        let room = self.config.files_max.saturating_sub(self.fetches.len());
        if self.more_in_store && !self.loading && room > self.config.files_max / 2 {
            self.loading = true;
            self.effects.push_back(Effect::Load(room));
        }
    }
}

/// What held a fetch may have passed.
fn release(fetch: &mut Fetch) {
    if fetch.phase == Phase::Moving {
        fetch.held = None;
    }
}

#[cfg(test)]
mod tests;
