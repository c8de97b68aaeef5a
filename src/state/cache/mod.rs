//! The relay's cache: chunks on their way from an owner to those who asked, and nothing for longer than `ttl` (W15).
//!
//! Invariants: the bytes of all chunks that are reserved, arriving or complete never pass the capacity; an owner is asked
//! only for what is reserved. Every chunk asked for ends in exactly one way: read, refused, cancelled, or its asker is
//! gone. Who reads nothing holds up nobody else: a stalled asker is reserved one chunk at most, and what waits for
//! stalled askers alone gives way.

mod asker;
mod ends;
mod flow;
mod outbox;
mod room;
#[cfg(test)]
mod tests;

use super::conn::ConnId;
use super::router::ChunkOrder;
use super::time::Time;
use crate::wire::chunk::ChunkHeader;
use crate::wire::close::StreamCode;
use crate::wire::frame::{ChunkRange, ChunkRefusal, Frame};
use crate::wire::geometry::CHUNK_BYTES_MAX;
use crate::wire::ids::{ContentId, GroupId, PublicId};
use crate::wire::limits::{CHUNK_TTL, RANGES_PER_FRAME_MAX};
use crate::wire::seal::TAG_BYTES;
use asker::Asker;
use outbox::Outbox;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Limits and times of a [`Cache`].
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Bytes of content in memory, at most: some 30 chunks of 1 MiB, which fill a link of 1 Gbit/s at 200 ms.
    pub capacity: u64,
    /// Bytes of it at which one asker is reserved no more, so that another one finds room at once.
    pub asker_share: u64,
    /// Bytes that one asker may have asked for and not got: what a good one asks for (32 MiB), and some slack.
    pub asker_bytes_max: u64,
    /// Chunks that one asker may have asked for and not got.
    pub asker_chunks_max: usize,
    /// How long a chunk stays after its last byte came in, and how long it may take to come in.
    pub ttl: Duration,
    /// How long an owner may send nothing of what it was asked for.
    pub owner_stall: Duration,
    /// How long an asker may read nothing of what is there for it until others come first.
    pub asker_stall: Duration,
}

impl CacheConfig {
    /// The defaults for a capacity, which is at least that of two of the largest chunks.
    pub fn with_capacity(bytes: u64) -> CacheConfig {
        let capacity = bytes.max(2 * (u64::from(CHUNK_BYTES_MAX) + TAG_BYTES as u64));
        CacheConfig {
            capacity,
            asker_share: (capacity * 3 / 4).max(u64::from(CHUNK_BYTES_MAX) + TAG_BYTES as u64),
            asker_bytes_max: 36 << 20,
            asker_chunks_max: 8_192,
            ttl: CHUNK_TTL,
            owner_stall: Duration::from_secs(10),
            asker_stall: Duration::from_secs(3),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> CacheConfig {
        CacheConfig::with_capacity(32 << 20)
    }
}

/// A chunk that has room in the cache, or waits for it. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// A chunk on its way to one asker. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardId(pub u64);

/// A chunk stream that an owner opened, as the shell numbers it. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What happens to a cache.
pub enum Input {
    /// What the router lets through.
    Order(ChunkOrder),
    /// A chunk stream came, and its header says this.
    Arriving {
        /// From whom.
        conn: ConnId,
        /// The stream.
        stream: StreamId,
        /// Its header.
        header: ChunkHeader,
    },
    /// Bytes of a chunk came in.
    Progress(EntryId),
    /// A chunk is complete.
    Complete(EntryId),
    /// A chunk's stream ended too early, or was too long.
    Broken(EntryId),
    /// An asker took some bytes.
    Forwarding(ForwardId),
    /// All bytes of a chunk were handed to the network.
    Forwarded(ForwardId),
    /// The asker stopped the stream.
    Unwanted(ForwardId),
    /// Time has passed: [`Cache::poll_timeout`] said when to come.
    Tick,
}

/// What a cache wants done, in this order.
pub enum Effect {
    /// Send a frame.
    Send {
        /// To this connection.
        to: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// Read this stream to its end, into an entry.
    Receive {
        /// The stream.
        stream: StreamId,
        /// The entry.
        entry: EntryId,
    },
    /// Stop this stream: nobody wants it.
    Stop {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: StreamCode,
    },
    /// Pass an entry on to an asker, from its beginning, as it comes in.
    Forward {
        /// This passing on.
        forward: ForwardId,
        /// What.
        entry: EntryId,
        /// To whom.
        asker: ConnId,
        /// The asker's number.
        request: u64,
    },
    /// Pass it on no further.
    EndForward {
        /// Which passing on.
        forward: ForwardId,
        /// Why.
        code: StreamCode,
    },
    /// Forget an entry's bytes, and stop its stream if it is still coming.
    Drop {
        /// Which entry.
        entry: EntryId,
    },
}

/// What makes two requests ask for the same bytes. The owner is part of it, or another member could put its bytes in an
/// owner's place; the length is, or a wrong one could spoil a right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    group: GroupId,
    owner: PublicId,
    content: ContentId,
    index: u32,
    length: u32,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for room.
    Queued,
    /// Has room, and the owner was asked under this number.
    Reserved { upload: u64, since: Time },
    /// Is coming in.
    Arriving { upload: u64, since: Time },
    /// Is all there.
    Complete { at: Time },
}

#[derive(Debug, Clone, Copy)]
struct Reader {
    asker: ConnId,
    request: u64,
    forward: Option<ForwardId>,
}

struct Entry {
    key: Key,
    owner: ConnId,
    bytes: u64,
    stage: Stage,
    readers: Vec<Reader>,
    /// Whose share its room counts in.
    payer: Option<ConnId>,
    /// Its place among what may give way.
    spare: Option<(bool, Time)>,
    /// When its time is up.
    timer: Option<Time>,
}

/// What one owner was asked for.
struct Owner {
    /// All that is not complete.
    entries: HashSet<EntryId>,
    uploads: HashMap<(u64, ContentId, u32), EntryId>,
    heard: Time,
    timer: Option<Time>,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Entry(EntryId),
    Owner(ConnId),
    Asker(ConnId),
}

/// See the module.
pub struct Cache {
    config: CacheConfig,
    used: u64,
    entries: HashMap<EntryId, Entry>,
    keys: HashMap<Key, EntryId>,
    owners: HashMap<ConnId, Owner>,
    askers: HashMap<ConnId, Asker>,
    forwards: HashMap<ForwardId, (EntryId, ConnId, u64)>,
    /// Askers that may be reserved for, who holds least first, then whose turn is longest ago.
    turns: BTreeSet<(u64, u64, ConnId)>,
    /// Complete entries that nobody reads, then those that only stalled askers read, oldest first.
    spare: BTreeSet<(bool, Time, EntryId)>,
    timers: BTreeSet<(Time, Timer)>,
    next: u64,
    outbox: Outbox,
    effects: VecDeque<Effect>,
}

impl Cache {
    /// An empty cache.
    pub fn new(config: CacheConfig) -> Cache {
        Cache {
            config,
            used: 0,
            entries: HashMap::new(),
            keys: HashMap::new(),
            owners: HashMap::new(),
            askers: HashMap::new(),
            forwards: HashMap::new(),
            turns: BTreeSet::new(),
            spare: BTreeSet::new(),
            timers: BTreeSet::new(),
            next: 0,
            outbox: Outbox::default(),
            effects: VecDeque::new(),
        }
    }

    /// An empty cache that gives none of this one's ids again.
    pub fn emptied(&self) -> Cache {
        Cache { next: self.next, ..Cache::new(self.config.clone()) }
    }

    /// Takes in what happened. Drain [`Cache::poll_effect`] after it.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Order(order) => self.order(now, order),
            Input::Arriving { conn, stream, header } => self.arriving(now, conn, stream, &header),
            Input::Progress(entry) => self.heard(now, entry),
            Input::Complete(entry) => self.complete(now, entry),
            Input::Broken(entry) => self.broken(entry),
            Input::Forwarding(forward) => self.forwarding(now, forward),
            Input::Forwarded(forward) | Input::Unwanted(forward) => self.forward_over(now, forward),
            Input::Tick => {}
        }
        self.fire_timers(now);
        self.fill(now);
        self.effects.extend(self.outbox.drain());
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to come again with [`Input::Tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Bytes that are reserved or held.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Whether nothing is held, asked for or remembered of anybody; for tests.
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty()
            && self.keys.is_empty()
            && self.owners.is_empty()
            && self.askers.is_empty()
            && self.forwards.is_empty()
            && self.turns.is_empty()
            && self.spare.is_empty()
    }

    fn order(&mut self, now: Time, order: ChunkOrder) {
        match order {
            ChunkOrder::Ask { asker, request, group, owner, owner_conn, ranges } => {
                let asked = Asked { asker, request, group, owner, owner_conn };
                if let Err(reason) = self.ask(now, &asked, &ranges) {
                    self.effects
                        .push_back(Effect::Send { to: asker, frame: Frame::ChunkRefused { request, ranges, reason } });
                }
            }
            ChunkOrder::Cancel { asker, request, ranges } => self.cancel(asker, request, &ranges),
            ChunkOrder::Refused { owner, request, ranges, reason } => {
                self.owner_refused(now, owner, request, &ranges, reason);
            }
            ChunkOrder::Gone { conn, reason } => self.gone(conn, reason),
            ChunkOrder::Expelled { group, owner } => self.expelled(group, owner),
        }
    }

    /// All or nothing.
    fn ask(&mut self, now: Time, asked: &Asked, ranges: &[ChunkRange]) -> Result<(), ChunkRefusal> {
        let (count, bytes) = measure(ranges).ok_or(ChunkRefusal::Malformed)?;
        let (chunks, outstanding) = self.askers.get(&asked.asker).map_or((0, 0), Asker::outstanding);
        let fits = count <= self.config.asker_chunks_max.saturating_sub(chunks) as u64
            && bytes <= self.config.asker_bytes_max.saturating_sub(outstanding);
        if !fits {
            return Err(ChunkRefusal::OverQuota);
        }
        // Not before: whoever is refused all that it asks for is not remembered.
        self.askers.entry(asked.asker).or_insert_with(|| Asker::new(now));
        for (content, index, length) in ranges.iter().flat_map(ChunkRange::chunks) {
            let key = Key { group: asked.group, owner: asked.owner, content, index, length };
            self.want(now, asked, key);
        }
        Ok(())
    }

    fn want(&mut self, now: Time, asked: &Asked, key: Key) {
        let Some(asker) = self.askers.get_mut(&asked.asker) else { return };
        let want = (asked.request, key.content, key.index);
        if asker.wants(&want) {
            return;
        }
        let id = self.keys.get(&key).copied().unwrap_or_else(|| {
            self.next += 1;
            let id = EntryId(self.next);
            let bytes = u64::from(key.length) + TAG_BYTES as u64;
            let (stage, readers) = (Stage::Queued, Vec::new());
            let entry =
                Entry { key, owner: asked.owner_conn, bytes, stage, readers, payer: None, spare: None, timer: None };
            self.entries.insert(id, entry);
            self.keys.insert(key, id);
            self.owners.entry(asked.owner_conn).or_insert_with(|| Owner::new(now)).entries.insert(id);
            id
        });
        let Some(entry) = self.entries.get_mut(&id) else { return };
        asker.add(want, id, key.length, entry.stage == Stage::Queued);
        entry.readers.push(Reader { asker: asked.asker, request: asked.request, forward: None });
        match entry.stage {
            Stage::Queued => self.list(asked.asker),
            Stage::Reserved { .. } => {}
            Stage::Arriving { .. } | Stage::Complete { .. } => self.start_forwards(now, id),
        }
    }
}

/// Who asks whom.
struct Asked {
    asker: ConnId,
    request: u64,
    group: GroupId,
    owner: PublicId,
    owner_conn: ConnId,
}

impl Owner {
    fn new(now: Time) -> Owner {
        Owner { entries: HashSet::new(), uploads: HashMap::new(), heard: now, timer: None }
    }
}

/// Chunks and bytes of a request, without going through them; `None` if it makes no sense.
fn measure(ranges: &[ChunkRange]) -> Option<(u64, u64)> {
    let lengths = 1..=CHUNK_BYTES_MAX;
    let good = |range: &ChunkRange| {
        let ends = range.first.checked_add(range.count).is_some();
        range.count > 0 && ends && lengths.contains(&range.bytes) && lengths.contains(&range.last_bytes)
    };
    if ranges.is_empty() || ranges.len() > RANGES_PER_FRAME_MAX || !ranges.iter().all(good) {
        return None;
    }
    let bytes = |range: &ChunkRange| u64::from(range.count - 1) * u64::from(range.bytes) + u64::from(range.last_bytes);
    let count = ranges.iter().map(|range| u64::from(range.count)).sum();
    Some((count, ranges.iter().map(bytes).fold(0, u64::saturating_add)))
}
