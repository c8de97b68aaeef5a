//! Downloads: which units to ask of whom, how many at a time, and what follows from each answer.
//!
//! The asker bounds what it has outstanding (its credit), so that whatever it asked for can arrive without anybody
//! waiting for it; nothing unverified is ever claimed, and nothing is claimed before it is synced.

pub mod bits;
pub mod fetch;
pub mod rate;

use super::time::Time;
use crate::wire::frame::ChunkRefusal;
use crate::wire::geometry::{CHUNK_BYTES_MAX, Unit};
use crate::wire::ids::{ContentId, PublicId};
use bits::Bits;
use fetch::{Fetch, Phase, Wanted};
use rate::Rate;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// A transfer, as the store numbers it.
pub type TransferId = u64;

/// How downloads wait, and how much they ask for.
#[derive(Debug, Clone, Copy)]
pub struct DownloadsConfig {
    /// Bytes outstanding at most.
    pub credit_max: u64,
    /// Bytes outstanding while nothing is known of the rate.
    pub credit_min: u64,
    /// Files in memory at a time; the rest wait in the store.
    pub files_max: usize,
    /// Units outstanding at most.
    pub units_max: usize,
    /// Bytes that may be there and unclaimed.
    pub claim_bytes: u64,
    /// How long chunks may be there and unclaimed.
    pub claim_wait: Duration,
    /// Small files that share one sync.
    pub finish_batch: usize,
    /// How long a finished small file waits for others.
    pub finish_wait: Duration,
    /// First pause after a refusal that may pass; it doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// Pause after a full disk.
    pub disk_wait: Duration,
    /// How often one chunk may come damaged, or a file change under us, before the transfer fails.
    pub damage_max: u32,
}

impl Default for DownloadsConfig {
    fn default() -> DownloadsConfig {
        DownloadsConfig {
            credit_max: 32 << 20,
            credit_min: 4 << 20,
            files_max: 2_048,
            units_max: 1_024,
            claim_bytes: 32 << 20,
            claim_wait: Duration::from_secs(1),
            finish_batch: 256,
            finish_wait: Duration::from_millis(50),
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(2),
            disk_wait: Duration::from_secs(5),
            damage_max: 16,
        }
    }
}

const _: () = assert!(CHUNK_BYTES_MAX as u64 <= 4 << 20, "the least credit holds the largest chunk");

/// Why a transfer does not move, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Outcome {
    /// It is there, verified.
    #[error("done")]
    Done,
    /// The server is away.
    #[error("waiting for the server")]
    ServerAway,
    /// The owner is not connected.
    #[error("waiting for the owner, who is away")]
    OwnerAway,
    /// The owner or the server said no, for now or for good.
    #[error("{0}")]
    Refused(ChunkRefusal),
    /// No room.
    #[error("the disk is full: free some space in the downloads folder; the download then goes on by itself")]
    DiskFull,
    /// Something else is at the destination.
    #[error("there is something else at the destination already; move it away or choose another folder with -o")]
    AlreadyThere,
    /// The destination can't be written.
    #[error(
        "the destination can't be written: check the permissions of the downloads folder, or choose another one with -o"
    )]
    CannotWrite,
    /// A link in the destination leads elsewhere.
    #[error("a part of the destination's path is a link, which is not followed; choose another folder with -o")]
    Jail,
    /// A name that this system can't hold.
    #[error("the destination's name is too long for this system")]
    NameTooLong,
    /// What came is not what the catalog says, again and again.
    #[error("what comes is not what the catalog says; the owner should run 'bailiwick scan' or restart its node")]
    Damaged,
    /// The file left the catalog, or its owner the group.
    #[error("the file is not in the catalog any more")]
    Removed,
}

impl Outcome {
    /// Whether the transfer is over, rather than waiting.
    pub fn is_end(self) -> bool {
        match self {
            Outcome::Done
            | Outcome::AlreadyThere
            | Outcome::CannotWrite
            | Outcome::Jail
            | Outcome::NameTooLong
            | Outcome::Damaged
            | Outcome::Removed => true,
            Outcome::Refused(reason) => is_final(reason),
            Outcome::ServerAway | Outcome::OwnerAway | Outcome::DiskFull => false,
        }
    }
}

/// Whether a refusal ends a transfer. All others may pass.
fn is_final(reason: ChunkRefusal) -> bool {
    match reason {
        ChunkRefusal::OwnerExpelled | ChunkRefusal::Malformed => true,
        ChunkRefusal::OwnerUnknown
        | ChunkRefusal::Changed
        | ChunkRefusal::Unknown
        | ChunkRefusal::OwnerAway
        | ChunkRefusal::OwnerStalled
        | ChunkRefusal::OverQuota
        | ChunkRefusal::Expired
        | ChunkRefusal::OwnerNotFresh
        | ChunkRefusal::Unreadable
        | ChunkRefusal::Paused
        | ChunkRefusal::NotReady => false,
    }
}

/// What became of the opening of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The part file is open, and holds what was claimed.
    Ready,
    /// The part file is open, but what was claimed is not in it: it was deleted or cut short.
    Anew,
    /// It waits or ends.
    Not(Outcome),
}

/// What became of a unit that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Verified, and written where it belongs.
    Verified,
    /// Not what the catalog says.
    Damaged,
    /// Its bytes stopped before their end; it is to be asked for again.
    Broken,
    /// It could not be opened yet: the epoch's secret is not here.
    NoSecret,
    /// It could not be written.
    NotWritten(Outcome),
}

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
    /// Be ready for these units, then ask the server for them.
    Ask {
        /// The request's number.
        request: u64,
        /// Of whom.
        owner: PublicId,
        /// Which units.
        units: Vec<Asked>,
    },
    /// Tell the server that these are not wanted any more, and expect them no longer.
    Cancel {
        /// The request's number.
        request: u64,
        /// Which units.
        units: Vec<Asked>,
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
    /// Close what is open for a transfer that is no longer in memory. Its part file is needed again, or not.
    Close(TransferId, bool),
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
    request: u64,
    asked_bytes: u64,
    asked_units: usize,
    asked_of: HashMap<PublicId, u64>,
    finishing: Vec<TransferId>,
    finish_since: Option<Time>,
    pauses: HashMap<TransferId, (u32, u32)>,
    more_in_store: bool,
    loading: bool,
    rate: Rate,
    heard: Time,
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
            request: 0,
            asked_bytes: 0,
            asked_units: 0,
            asked_of: HashMap::new(),
            finishing: Vec::new(),
            finish_since: None,
            pauses: HashMap::new(),
            more_in_store: true,
            loading: false,
            rate: Rate::default(),
            heard: Time::default(),
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

    /// Whether bytes or answers are awaited, and when something was heard last.
    pub fn awaited_since(&self) -> Option<Time> {
        (self.asked_units > 0).then_some(self.heard)
    }

    /// Why a fetch does not move, if it doesn't.
    pub fn waits_for(&self, fetch: &Fetch) -> Option<Outcome> {
        if !self.linked {
            return Some(Outcome::ServerAway);
        }
        if let Some((_, why)) = fetch.held {
            return Some(why);
        }
        let away = self.online.get(&fetch.wanted.owner) == Some(&false);
        away.then_some(Outcome::OwnerAway)
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
            if !self.fetches.contains_key(&transfer) {
                self.fetches.insert(transfer, Fetch::new(wanted));
                self.effects.push_back(Effect::Open(transfer));
            }
        }
        self.go_on(now);
    }

    /// The way through the server is open, or was lost: then everything that was asked for is to be asked for again.
    pub fn linked(&mut self, now: Time, linked: bool) {
        self.linked = linked;
        self.heard = now;
        let asked: Vec<(TransferId, Vec<u32>)> =
            self.fetches.iter().map(|(id, fetch)| (*id, fetch.asked.keys().copied().collect())).collect();
        for (transfer, units) in asked {
            units.into_iter().for_each(|index| self.give_back(transfer, index));
        }
        if linked {
            self.fetches.values_mut().for_each(release);
        }
        self.go_on(now);
    }

    /// An owner came or went.
    pub fn presence(&mut self, now: Time, owner: PublicId, online: bool) {
        self.online.insert(owner, online);
        if online {
            self.fetches.values_mut().filter(|fetch| fetch.wanted.owner == owner).for_each(release);
        }
        self.go_on(now);
    }

    /// The outcome of [`Effect::Open`].
    pub fn opened(&mut self, now: Time, transfer: TransferId, opened: Opened) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        match opened {
            Opened::Ready => fetch.phase = Phase::Moving,
            Opened::Anew => {
                fetch.there = Bits::empty(fetch.wanted.geometry.chunk_count());
                fetch.wanted.claimed.clear();
                fetch.phase = Phase::Moving;
            }
            Opened::Not(outcome) => self.settle(now, transfer, outcome),
        }
        self.end_if_complete(now, transfer);
        self.go_on(now);
    }

    /// Bytes came in.
    pub fn heard(&mut self, now: Time, bytes: u64) {
        self.heard = now;
        self.rate.add(now, bytes);
    }

    /// A unit came: what became of it.
    pub fn came(&mut self, now: Time, asked: Asked, came: Came) {
        self.heard = now;
        let Some(fetch) = self.fetches.get_mut(&asked.transfer) else { return };
        if came != Came::Broken {
            fetch.wanted.received += u64::from(asked.length);
        }
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

    /// The list of a content is complete and was checked; `false` means that it is not the catalog's.
    pub fn list_came(&mut self, now: Time, transfer: TransferId, good: bool) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if good {
            fetch.wanted.has_list = true;
        } else {
            fetch.list_there = Bits::empty(fetch.wanted.geometry.list_part_count());
            self.damaged(now, transfer);
        }
        self.go_on(now);
    }

    /// The server or the owner said no to some units.
    /// Gives the units that were still asked for by that request: they will not come.
    pub fn refused(&mut self, now: Time, request: u64, units: &[(ContentId, u32)], reason: ChunkRefusal) -> Vec<Asked> {
        self.heard = now;
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
                reason if is_final(reason) => self.settle(now, transfer, Outcome::Refused(reason)),
                reason => self.hold(now, transfer, Outcome::Refused(reason)),
            }
        }
        self.go_on(now);
        over
    }

    /// The outcome of [`Effect::LookAgain`]: the transfer waits, or it ended; or it is to be dropped and loaded anew.
    pub fn looked_again(&mut self, now: Time, transfer: TransferId, outcome: Option<Outcome>) {
        match outcome {
            Some(outcome) => self.settle(now, transfer, outcome),
            None => {
                self.drop_transfer(now, transfer, false);
                self.more_in_store = true;
            }
        }
        self.go_on(now);
    }

    /// The outcome of [`Effect::Sync`].
    pub fn synced(&mut self, now: Time, transfer: TransferId, chunks: &[u32], good: bool) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        fetch.syncing = false;
        if !good {
            return self.settle(now, transfer, Outcome::CannotWrite);
        }
        let mut claimed = Bits::restore(fetch.wanted.geometry.chunk_count(), &fetch.wanted.claimed);
        for chunk in chunks {
            claimed.insert(*chunk);
        }
        fetch.wanted.claimed = claimed.as_bytes().to_vec();
        let (done, received) = (fetch.bytes_of(&claimed), fetch.wanted.received);
        (fetch.wanted.kept_done, fetch.wanted.kept_received) = (done, received);
        let effect = Effect::Claim { transfer, claimed: fetch.wanted.claimed.clone(), done, received };
        self.effects.push_back(effect);
        self.end_if_complete(now, transfer);
        self.go_on(now);
    }

    /// The outcome of [`Effect::Finish`].
    pub fn finished(&mut self, now: Time, transfer: TransferId, outcome: Outcome) {
        self.settle(now, transfer, outcome);
        self.go_on(now);
    }

    /// A person ended or paused a transfer, or the file left the catalog: it is dropped from memory.
    pub fn drop_transfer(&mut self, now: Time, transfer: TransferId, part_needed: bool) {
        let Some(fetch) = self.fetches.get(&transfer) else { return };
        let content = fetch.wanted.content;
        let units = |fetch: &Fetch| -> Vec<(u64, Asked)> {
            let asked = |(index, request): (&u32, &u64)| {
                let length = fetch.wanted.geometry.unit_len(*index)?;
                Some((*request, Asked { transfer, content, index: *index, length }))
            };
            fetch.asked.iter().filter_map(asked).collect()
        };
        let mut by_request: BTreeMap<u64, Vec<Asked>> = BTreeMap::new();
        for (request, asked) in units(fetch) {
            by_request.entry(request).or_default().push(asked);
        }
        for (request, units) in by_request {
            self.effects.push_back(Effect::Cancel { request, units });
        }
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
                let reopen = fetch.phase == Phase::Opening;
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

    fn verified(&mut self, now: Time, asked: Asked) {
        let Some(fetch) = self.fetches.get_mut(&asked.transfer) else { return };
        match Unit::from_index(asked.index) {
            Unit::Chunk(chunk) => fetch.arrived(now, chunk),
            Unit::ListPart(part) => {
                fetch.list_there.insert(part);
            }
        }
        self.pauses.remove(&asked.transfer);
        self.claim_if_due(now, asked.transfer);
        self.end_if_complete(now, asked.transfer);
    }

    fn claim_if_due(&mut self, now: Time, transfer: TransferId) {
        let config = self.config;
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        let late = fetch.unclaimed_since.is_some_and(|since| now.since(since) >= config.claim_wait);
        let due = fetch.unclaimed_bytes() >= config.claim_bytes || late;
        if due && !fetch.syncing && fetch.phase == Phase::Moving && !fetch.is_complete() {
            fetch.syncing = true;
            fetch.unclaimed_since = None;
            let chunks = std::mem::take(&mut fetch.unclaimed);
            self.effects.push_back(Effect::Sync(transfer, chunks));
        }
    }

    fn end_if_complete(&mut self, now: Time, transfer: TransferId) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if fetch.phase != Phase::Moving || !fetch.is_complete() || fetch.syncing {
            return;
        }
        fetch.phase = Phase::Ending;
        if fetch.is_small() {
            self.finishing.push(transfer);
            self.finish_since.get_or_insert(now);
            if self.finishing.len() >= self.config.finish_batch {
                self.flush_finishing();
            }
        } else {
            self.effects.push_back(Effect::Finish(vec![transfer]));
        }
    }

    fn flush_finishing(&mut self) {
        self.finish_since = None;
        let batch = std::mem::take(&mut self.finishing);
        if !batch.is_empty() {
            self.effects.push_back(Effect::Finish(batch));
        }
    }

    fn damaged(&mut self, now: Time, transfer: TransferId) {
        let (_, damage) = self.pauses.entry(transfer).or_default();
        *damage += 1;
        if *damage > self.config.damage_max {
            self.settle(now, transfer, Outcome::Damaged);
        } else {
            self.hold(now, transfer, Outcome::Refused(ChunkRefusal::NotReady));
        }
    }

    /// Nothing is asked for this transfer for a while, longer each time.
    fn hold(&mut self, now: Time, transfer: TransferId, why: Outcome) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if fetch.held.is_some_and(|(until, _)| until > now) {
            return;
        }
        let (pauses, _) = self.pauses.entry(transfer).or_default();
        let pause = self.config.retry_min.saturating_mul(1 << (*pauses).min(8)).min(self.config.retry_max);
        *pauses += 1;
        fetch.held = Some((now.after(pause), why));
    }

    fn settle(&mut self, now: Time, transfer: TransferId, outcome: Outcome) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if outcome.is_end() {
            self.effects.push_back(Effect::Settle(transfer, outcome, fetch.wanted.received));
            self.drop_transfer(now, transfer, false);
            return;
        }
        if outcome == Outcome::DiskFull {
            fetch.phase = Phase::Opening;
            fetch.held = Some((now.after(self.config.disk_wait), outcome));
            return;
        }
        self.hold(now, transfer, outcome);
    }

    fn forget(&mut self, transfer: TransferId, part_needed: bool) {
        let asked: Vec<u32> =
            self.fetches.get(&transfer).map(|fetch| fetch.asked.keys().copied().collect()).unwrap_or_default();
        asked.into_iter().for_each(|index| self.give_back(transfer, index));
        self.fetches.remove(&transfer);
        self.pauses.remove(&transfer);
        self.finishing.retain(|id| *id != transfer);
        self.effects.push_back(Effect::Close(transfer, part_needed));
    }

    fn give_back(&mut self, transfer: TransferId, index: u32) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if !fetch.give_back(index) {
            return;
        }
        let length = u64::from(fetch.wanted.geometry.unit_len(index).unwrap_or(0));
        self.asked_bytes -= length;
        self.asked_units -= 1;
        if let Some(of) = self.asked_of.get_mut(&fetch.wanted.owner) {
            *of -= length;
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
        self.ask(now);
        let room = self.config.files_max.saturating_sub(self.fetches.len());
        if self.more_in_store && !self.loading && room > self.config.files_max / 2 {
            self.loading = true;
            self.effects.push_back(Effect::Load(room));
        }
    }

    /// Bytes that may be outstanding: what half a second brings at the present rate, between the named limits.
    fn credit(&self, now: Time) -> u64 {
        self.rate.per_second(now).clamp(self.config.credit_min, self.config.credit_max)
    }

    fn ask(&mut self, now: Time) {
        if !self.linked {
            return;
        }
        let ready: BTreeSet<PublicId> =
            self.fetches.values().filter(|fetch| self.may_ask(fetch)).map(|fetch| fetch.wanted.owner).collect();
        let credit = self.credit(now);
        let share = if ready.len() > 1 { credit / 2 } else { credit };
        for owner in ready {
            self.ask_owner(now, owner, credit, share);
        }
    }

    fn may_ask(&self, fetch: &Fetch) -> bool {
        fetch.phase == Phase::Moving
            && fetch.held.is_none()
            && !fetch.is_complete()
            && self.online.get(&fetch.wanted.owner) != Some(&false)
    }

    fn ask_owner(&mut self, now: Time, owner: PublicId, credit: u64, share: u64) {
        let ids: Vec<TransferId> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.wanted.owner == owner && self.may_ask(fetch))
            .map(|(id, _)| *id)
            .collect();
        let mut units = Vec::new();
        'all: for transfer in ids {
            loop {
                let of = self.asked_of.get(&owner).copied().unwrap_or(0);
                if self.asked_bytes >= credit || of >= share || self.asked_units >= self.config.units_max {
                    break 'all;
                }
                let Some(fetch) = self.fetches.get_mut(&transfer) else { break };
                let Some((index, length)) = fetch.next_missing() else { break };
                fetch.asked.insert(index, self.request + 1);
                let content = fetch.wanted.content;
                self.by_unit.entry((content, index)).or_default().insert(transfer);
                self.asked_bytes += u64::from(length);
                self.asked_units += 1;
                *self.asked_of.entry(owner).or_default() += u64::from(length);
                units.push(Asked { transfer, content, index, length });
            }
        }
        if !units.is_empty() {
            if self.asked_units == units.len() {
                self.heard = now;
            }
            self.request += 1;
            self.effects.push_back(Effect::Ask { request: self.request, owner, units });
        }
    }
}

/// What held a fetch may have passed.
fn release(fetch: &mut Fetch) {
    if fetch.phase == Phase::Moving {
        fetch.held = None;
    }
}
