//! One file on its way to here: which of its units are there, which are asked for, and what it waits for.
//!
//! Invariant: a unit is missing, asked for, or there; only what was verified is there.

use super::ask::Lane;
use super::bits::Bits;
use super::{Outcome, TransferId, Way};
use crate::state::time::Time;
use crate::wire::geometry::{Geometry, Unit};
use crate::wire::ids::{ContentId, PublicId};
use std::collections::{BTreeMap, BTreeSet};

/// A file to fetch, as it was persisted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The transfer.
    pub transfer: TransferId,
    /// The job that it belongs to.
    pub job: u64,
    /// By which ways it may come.
    pub way: Way,
    /// Whose file.
    pub owner: PublicId,
    /// Which version of it.
    pub content: ContentId,
    /// Its units.
    pub geometry: Geometry,
    /// Whether its list is here already.
    pub has_list: bool,
    /// The chunks that were claimed.
    pub claimed: Vec<u8>,
    /// Bytes that ever came in for it.
    pub received: u64,
    /// Bytes of the chunks that were claimed, as they were persisted.
    pub kept_done: u64,
    /// Bytes that ever came in, as they were persisted.
    pub kept_received: u64,
}

impl Wanted {
    /// With which others it takes turns.
    pub(super) fn lane(&self) -> Lane {
        (self.owner, self.job)
    }
}

/// Where a fetch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its place is being looked at, and its part file opened.
    Opening,
    /// Units are asked for.
    Moving,
    /// All is there; it is being synced and renamed.
    Ending,
}

/// A file on its way.
#[derive(Debug)]
pub struct Fetch {
    /// What is wanted.
    pub wanted: Wanted,
    /// Where it stands.
    pub phase: Phase,
    /// Nothing is asked for before this time, for this reason.
    pub held: Option<(Time, Outcome)>,
    /// Since when some units are asked for.
    pub asked_since: Time,
    /// Units that are asked for, with the request's number.
    pub asked: BTreeMap<u32, u64>,
    /// Those of them that another transfer asked for, and this one waits for as well.
    pub joined: BTreeSet<u32>,
    /// Chunks that are there, claimed or not.
    pub there: Bits,
    /// List parts that are there.
    pub list_there: Bits,
    /// Chunks that are there and not claimed yet, and since when there are some.
    pub unclaimed: Vec<u32>,
    /// Since when there are some.
    pub unclaimed_since: Option<Time>,
    /// Whether a sync for a claim is under way.
    pub syncing: bool,
    /// A person paused it: it leaves memory as soon as what is there is claimed.
    pub leaving: bool,
    /// Why nothing came lately; nothing once a byte came.
    pub why: Option<Outcome>,
    /// Where to look for the next missing chunk.
    next: u32,
}

impl Fetch {
    /// A fetch that goes on from what was persisted.
    pub fn new(wanted: Wanted) -> Fetch {
        let there = Bits::restore(wanted.geometry.chunk_count(), &wanted.claimed);
        let list_there = Bits::empty(wanted.geometry.list_part_count());
        Fetch {
            wanted,
            phase: Phase::Opening,
            held: None,
            asked_since: Time::default(),
            asked: BTreeMap::new(),
            joined: BTreeSet::new(),
            there,
            list_there,
            unclaimed: Vec::new(),
            unclaimed_since: None,
            syncing: false,
            leaving: false,
            why: None,
            next: 0,
        }
    }

    /// Only what was claimed is there.
    pub fn start_from_claims(&mut self) {
        self.there = Bits::restore(self.wanted.geometry.chunk_count(), &self.wanted.claimed);
        self.unclaimed.clear();
        self.unclaimed_since = None;
        self.syncing = false;
        self.next = 0;
    }

    /// Whether the part file is written chunk by chunk, or the whole file at once.
    pub fn is_small(&self) -> bool {
        self.wanted.geometry.chunk_count() <= 1
    }

    /// Whether every chunk is there.
    pub fn is_complete(&self) -> bool {
        self.there.count() == self.wanted.geometry.chunk_count()
    }

    /// Whether chunks can be checked: the list is here, or none is needed.
    pub fn has_list(&self) -> bool {
        self.wanted.has_list || self.wanted.geometry.list_part_count() == 0
    }

    /// Bytes of the chunks that are there.
    pub fn done_bytes(&self) -> u64 {
        self.bytes_of(&self.there)
    }

    /// Bytes of a set of chunks.
    pub fn bytes_of(&self, chunks: &Bits) -> u64 {
        let geometry = &self.wanted.geometry;
        let last = geometry.chunk_count().saturating_sub(1);
        let missing_of_last = match geometry.chunk_len(last) {
            Some(length) if chunks.contains(last) => u64::from(geometry.chunk().bytes() - length),
            _ => 0,
        };
        u64::from(chunks.count()) * u64::from(geometry.chunk().bytes()) - missing_of_last
    }

    /// The next unit to ask for, with its length. The list comes before the chunks.
    pub fn next_missing(&mut self) -> Option<(u32, u32)> {
        let geometry = self.wanted.geometry;
        if !self.has_list() {
            let free = |part: &u32| {
                !self.list_there.contains(*part) && !self.asked.contains_key(&Unit::ListPart(*part).index())
            };
            let part = (0..geometry.list_part_count()).find(free)?;
            return geometry.list_part_len(part).map(|length| (Unit::ListPart(part).index(), length));
        }
        while self.next < geometry.chunk_count() {
            let index = self.next;
            if !self.there.contains(index) && !self.asked.contains_key(&index) {
                return geometry.chunk_len(index).map(|length| (index, length));
            }
            self.next += 1;
        }
        None
    }

    /// A unit is no longer asked for; it must be looked for again if it is missing. Gives the request that asked for it.
    pub fn give_back(&mut self, index: u32) -> Option<u64> {
        let request = self.asked.remove(&index);
        self.joined.remove(&index);
        if let Unit::Chunk(chunk) = Unit::from_index(index) {
            self.next = self.next.min(chunk);
        }
        request
    }

    /// A verified chunk is at its place.
    pub fn arrived(&mut self, now: Time, chunk: u32) {
        if self.there.insert(chunk) && !self.is_small() {
            self.unclaimed.push(chunk);
            self.unclaimed_since.get_or_insert(now);
        }
    }

    /// Bytes that are there and not claimed.
    pub fn unclaimed_bytes(&self) -> u64 {
        self.unclaimed.len() as u64 * u64::from(self.wanted.geometry.chunk().bytes())
    }
}
