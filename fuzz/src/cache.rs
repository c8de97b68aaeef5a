//! The relay's cache. Whatever owners and askers do: it keeps within its room, every chunk that was asked for ends in
//! exactly one way, nothing leaves its group, nothing stays longer than it may, and nothing is left when all have gone.

use crate::{Bytes, keep_time};
use bailiwick::state::cache::{Cache, CacheConfig, Effect, EntryId, ForwardId, Input, StreamId};
use bailiwick::state::conn::ConnId;
use bailiwick::state::router::ChunkOrder;
use bailiwick::state::time::Time;
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::frame::{ChunkRange, ChunkRefusal, Frame};
use bailiwick::wire::geometry::CHUNK_BYTES_MAX;
use bailiwick::wire::ids::{Audience, ContentId, EpochId, GroupId, PublicId};
use bailiwick::wire::limits::RANGES_PER_FRAME_MAX;
use bailiwick::wire::seal::Cipher;
use std::collections::{BTreeMap, BTreeSet};

const MEBI: u32 = 1 << 20;
/// Connections below this are askers; from it on, owners. Even ones are in one group, odd ones in another.
const OWNERS: u64 = 100;

/// An asker's chunk: who, its number, the content, the index.
type Want = (ConnId, u64, ContentId, u32);
/// What an owner was asked for: who, the relay's number, the content, the index.
type Upload = (ConnId, u64, ContentId, u32);

fn group_of(conn: ConnId) -> GroupId {
    GroupId([(conn.0 % 2) as u8; 32])
}

/// A chunk that comes, or has come, in.
struct Held {
    upload: Upload,
    complete: Option<Time>,
}

/// What must be true of the cache, kept beside it.
struct World {
    config: CacheConfig,
    now: Time,
    wants: BTreeMap<Want, u32>,
    uploads: BTreeMap<Upload, u32>,
    /// Every upload that was ever asked for, for peers that send what is not wanted any more.
    asked: Vec<(Upload, u32)>,
    streams: BTreeMap<StreamId, (ConnId, ChunkHeader)>,
    held: BTreeMap<EntryId, Held>,
    forwards: BTreeMap<ForwardId, (EntryId, Want)>,
    seen: BTreeSet<u64>,
    next: u64,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let config = CacheConfig { asker_chunks_max: 24, asker_bytes_max: 12 << 20, ..CacheConfig::with_capacity(9 << 20) };
    let mut cache = Cache::new(config.clone());
    let mut world = World {
        config,
        now: Time(0),
        wants: BTreeMap::new(),
        uploads: BTreeMap::new(),
        asked: Vec::new(),
        streams: BTreeMap::new(),
        held: BTreeMap::new(),
        forwards: BTreeMap::new(),
        seen: BTreeSet::new(),
        next: 0,
    };
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time(&mut cache);
        if let Some(input) = world.input(step, &mut bytes) {
            let refusable = world.before(&input);
            cache.handle(world.now, input);
            world.after(&mut cache, refusable);
        }
        world.pass_time(&mut cache);
    }
    world.end(&mut cache);
}

/// What an `Ask` may be refused as a whole: by whom, under which number, the ranges, and the wants that are new by it.
type Refusable = Option<(ConnId, u64, Vec<ChunkRange>, Vec<Want>)>;

impl World {
    fn pass_time(&mut self, cache: &mut Cache) {
        let now = self.now;
        keep_time(cache, now, Cache::poll_timeout, |cache, now| {
            cache.handle(now, Input::Tick);
            self.after(cache, None);
        });
        let late = self.held.values().find(|held| held.complete.is_some_and(|at| at.after(self.config.ttl) <= now));
        assert!(late.is_none(), "a chunk stays longer than it may");
    }

    fn input(&mut self, step: u8, bytes: &mut Bytes<'_>) -> Option<Input> {
        let asker = ConnId(bytes.below(5));
        let owner = ConnId(OWNERS + asker.0 % 2 + 2 * bytes.below(2));
        Some(match step % 16 {
            0..=2 => {
                let (group, public) = (group_of(asker), PublicId([owner.0 as u8; 16]));
                let (request, ranges) = (bytes.below(4), ranges(bytes));
                Input::Order(ChunkOrder::Ask { asker, request, group, owner: public, owner_conn: owner, ranges })
            }
            3 => {
                let ranges = ranges(bytes);
                Input::Order(ChunkOrder::Cancel { asker, request: bytes.below(4), ranges })
            }
            4 => {
                let reasons = [ChunkRefusal::Unknown, ChunkRefusal::OwnerNotFresh, ChunkRefusal::Expired];
                let reason = *bytes.one(&reasons)?;
                let ((owner, request, content, index), length) = *bytes.one(&self.asked)?;
                let ranges =
                    if bytes.once_in(4) { ranges(bytes) } else { vec![ChunkRange::one(content, index, length)] };
                Input::Order(ChunkOrder::Refused { owner, request, ranges, reason })
            }
            5 => {
                let conn = if bytes.once_in(3) { owner } else { asker };
                Input::Order(ChunkOrder::Gone { conn, reason: ChunkRefusal::OwnerAway })
            }
            6 if bytes.once_in(4) => {
                let (group, owner) = (group_of(owner), PublicId([owner.0 as u8; 16]));
                Input::Order(ChunkOrder::Expelled { group, owner })
            }
            6..=8 => self.arriving(bytes, owner)?,
            9 => Input::Progress(self.an_entry(bytes)),
            10 | 11 => Input::Complete(self.an_entry(bytes)),
            12 => Input::Broken(self.an_entry(bytes)),
            13 => Input::Forwarding(self.a_forward(bytes)),
            14 => Input::Forwarded(self.a_forward(bytes)),
            _ => Input::Unwanted(self.a_forward(bytes)),
        })
    }

    fn arriving(&mut self, bytes: &mut Bytes<'_>, other: ConnId) -> Option<Input> {
        let ((owner, request, content, index), length) = *bytes.one(&self.asked)?;
        let honest = !bytes.once_in(6);
        let lie = if honest { 0 } else { bytes.byte() };
        let header = ChunkHeader {
            cipher: if lie & 1 == 0 { Cipher::Aes256Gcm } else { Cipher::Plain },
            audience: Audience::EVERYONE,
            epoch: EpochId { generation: 1, number: 1 },
            request: request + u64::from(lie >> 1 & 1),
            content,
            index: index + u32::from(lie >> 2 & 1),
            length: length - u32::from(lie >> 3 & 1),
            nonce: [0; 12],
        };
        let conn = if lie >> 4 & 1 == 0 { owner } else { other };
        self.next += 1;
        let stream = StreamId(self.next);
        self.streams.insert(stream, (conn, header));
        Some(Input::Arriving { conn, stream, header })
    }

    /// One that is there, or was, or never will be.
    fn an_entry(&self, bytes: &mut Bytes<'_>) -> EntryId {
        let place = usize::from(bytes.byte());
        let live = self.held.keys().nth(place % self.held.len().max(1)).copied();
        live.filter(|_| place < 240).unwrap_or(EntryId(place as u64))
    }

    fn a_forward(&self, bytes: &mut Bytes<'_>) -> ForwardId {
        let place = usize::from(bytes.byte());
        let live = self.forwards.keys().nth(place % self.forwards.len().max(1)).copied();
        live.filter(|_| place < 240).unwrap_or(ForwardId(place as u64))
    }

    /// What an input means, before it is handled.
    fn before(&mut self, input: &Input) -> Refusable {
        match input {
            Input::Order(ChunkOrder::Ask { asker, request, ranges, .. }) => {
                let mut new = Vec::new();
                // More is refused by rule, and would take long to go through here.
                let few = ranges.iter().map(|range| u64::from(range.count)).sum::<u64>() <= 256;
                for (content, index, length) in ranges.iter().filter(|_| few).flat_map(ChunkRange::chunks) {
                    let want = (*asker, *request, content, index);
                    if let std::collections::btree_map::Entry::Vacant(place) = self.wants.entry(want) {
                        place.insert(length);
                        new.push(want);
                    }
                }
                Some((*asker, *request, ranges.clone(), new))
            }
            Input::Order(ChunkOrder::Cancel { asker, request, ranges }) => {
                let named = named(ranges, &self.config);
                self.wants.retain(|(of, number, content, index), _| {
                    (of, number) != (asker, request) || !named.contains(&(*content, *index))
                });
                None
            }
            Input::Order(ChunkOrder::Refused { owner, request, ranges, .. }) => {
                let named = named(ranges, &self.config);
                self.uploads.retain(|(of, number, content, index), _| {
                    (of, number) != (owner, request) || !named.contains(&(*content, *index))
                });
                None
            }
            Input::Order(ChunkOrder::Gone { conn, .. }) => {
                self.wants.retain(|(of, ..), _| of != conn);
                self.uploads.retain(|(of, ..), _| of != conn);
                None
            }
            Input::Forwarded(forward) | Input::Unwanted(forward) => {
                if let Some((_, want)) = self.forwards.remove(forward) {
                    assert!(self.wants.remove(&want).is_some());
                }
                None
            }
            Input::Complete(entry) => {
                let now = self.now;
                if let Some(held) = self.held.get_mut(entry).filter(|held| held.complete.is_none()) {
                    held.complete = Some(now);
                    self.uploads.remove(&held.upload);
                }
                None
            }
            _ => None,
        }
    }

    fn after(&mut self, cache: &mut Cache, mut refusable: Refusable) {
        while let Some(effect) = cache.poll_effect() {
            match effect {
                Effect::Send { to, frame } => self.said(to, frame, &mut refusable),
                Effect::Receive { stream, entry } => {
                    let (owner, header) = self.streams.remove(&stream).expect("a stream is read once");
                    let upload = (owner, header.request, header.content, header.index);
                    assert_eq!(self.uploads.get(&upload), Some(&header.length), "only what was asked for comes in");
                    assert!(self.seen.insert(entry.0), "a number is used once");
                    let held = Held { upload, complete: None };
                    self.held.insert(entry, held);
                }
                Effect::Stop { stream, .. } => assert!(self.streams.remove(&stream).is_some(), "stopped once"),
                Effect::Forward { forward, entry, asker, request } => {
                    let held = self.held.get(&entry).expect("what is passed on is there");
                    let (owner, _, content, index) = held.upload;
                    assert_eq!(group_of(owner), group_of(asker), "nothing leaves its group");
                    let want = (asker, request, content, index);
                    assert!(self.wants.contains_key(&want), "nobody asked for it");
                    assert!(self.forwards.values().all(|(_, other)| *other != want), "it is on its way already");
                    assert!(self.seen.insert(1 << 32 | forward.0), "a number is used once");
                    self.forwards.insert(forward, (entry, want));
                }
                Effect::EndForward { forward, .. } => {
                    assert!(self.forwards.remove(&forward).is_some(), "ended once");
                }
                Effect::Drop { entry } => assert!(self.held.remove(&entry).is_some(), "dropped once"),
            }
        }
        assert!(self.forwards.values().all(|(entry, _)| self.held.contains_key(entry)), "nothing to pass on");
        assert!(cache.used() <= self.config.capacity, "within its room");
        let mut outstanding: BTreeMap<ConnId, (usize, u64)> = BTreeMap::new();
        for ((asker, ..), length) in &self.wants {
            let sum = outstanding.entry(*asker).or_default();
            *sum = (sum.0 + 1, sum.1 + u64::from(*length));
        }
        for (chunks, bytes) in outstanding.into_values() {
            assert!(chunks <= self.config.asker_chunks_max && bytes <= self.config.asker_bytes_max);
        }
        let asked: u64 = self.uploads.values().map(|length| u64::from(*length)).sum();
        assert!(asked <= self.config.capacity, "more is asked of owners than there is room for");
    }

    fn said(&mut self, to: ConnId, frame: Frame, refusable: &mut Refusable) {
        match frame {
            Frame::UploadChunk { request, ranges } => {
                assert!(to.0 >= OWNERS && ranges.len() <= RANGES_PER_FRAME_MAX);
                for (content, index, length) in ranges.iter().flat_map(ChunkRange::chunks) {
                    let upload = (to, request, content, index);
                    assert!((1..=CHUNK_BYTES_MAX).contains(&length));
                    assert!(self.uploads.insert(upload, length).is_none(), "one chunk under one number");
                    self.asked.push((upload, length));
                }
                self.asked.drain(..self.asked.len().saturating_sub(256));
            }
            Frame::CancelChunk { request, ranges } => {
                for (content, index, _) in ranges.iter().flat_map(ChunkRange::chunks) {
                    assert!(self.uploads.remove(&(to, request, content, index)).is_some(), "it was asked for");
                }
            }
            Frame::ChunkRefused { request, ranges, reason } => {
                let whole = matches!(reason, ChunkRefusal::Malformed | ChunkRefusal::OverQuota);
                if let Some((asker, number, asked, new)) = refusable.take_if(|_| whole) {
                    assert_eq!((to, request, &ranges), (asker, number, &asked), "refused as a whole");
                    self.wants.retain(|want, _| !new.contains(want));
                    return;
                }
                assert!(!whole, "only what is asked for can be refused as a whole");
                for (content, index, _) in ranges.iter().flat_map(ChunkRange::chunks) {
                    assert!(self.wants.remove(&(to, request, content, index)).is_some(), "nobody waits for it");
                }
            }
            _ => panic!("a cache does not say that"),
        }
    }

    /// All go, and time passes: nothing is held, awaited or remembered.
    fn end(&mut self, cache: &mut Cache) {
        for conn in (0..5).chain(OWNERS..OWNERS + 4) {
            let gone = Input::Order(ChunkOrder::Gone { conn: ConnId(conn), reason: ChunkRefusal::OwnerAway });
            self.before(&gone);
            cache.handle(self.now, gone);
            self.after(cache, None);
        }
        self.now = self.now.after(self.config.ttl * 2);
        self.pass_time(cache);
        assert!(self.wants.is_empty() && self.forwards.is_empty() && self.held.is_empty() && cache.used() == 0);
        assert_eq!(cache.poll_timeout(), None);
        assert!(cache.is_idle(), "something is remembered of who is gone");
    }
}

/// What ranges name, as far as the cache goes through them.
fn named(ranges: &[ChunkRange], config: &CacheConfig) -> BTreeSet<(ContentId, u32)> {
    let most = config.asker_chunks_max * 2;
    ranges.iter().flat_map(ChunkRange::chunks).take(most).map(|(content, index, _)| (content, index)).collect()
}

/// Mostly sensible; sometimes as hostile as a frame can hold.
fn ranges(bytes: &mut Bytes<'_>) -> Vec<ChunkRange> {
    let how = bytes.byte();
    let content = ContentId([1 + (how & 1); 16]);
    let size = if how & 2 == 0 { MEBI } else { CHUNK_BYTES_MAX };
    if how < 200 {
        let (first, count) = (bytes.below(8) as u32, 1 + bytes.below(3) as u32);
        return vec![ChunkRange { content, first, count, bytes: size, last_bytes: size - u32::from(how >> 2 & 1) }];
    }
    let one = ChunkRange {
        content,
        first: bytes.number() as u32,
        count: bytes.number() as u32,
        bytes: if how & 4 == 0 { size } else { bytes.number() as u32 },
        last_bytes: if how & 8 == 0 { size } else { bytes.number() as u32 },
    };
    vec![one; [0, 1, 2, 1_100, 2_048, 2_049][usize::from(bytes.byte()) % 6]]
}

/// A chunk asked for, sent, passed on; two askers of one chunk; one that goes.
pub fn seeds() -> Vec<Vec<u8>> {
    let ask = |asker: u8, first: u8| vec![0, 0, asker, 0, 1, 0, first, 0];
    let arrive = vec![7, 0, 0, 0, 0, 0];
    let complete = vec![10, 0, 0, 0, 0];
    let forwarded = vec![14, 0, 0, 0, 0];
    let gone = vec![5, 0, 0, 0, 0];
    vec![
        [ask(0, 0), arrive.clone(), complete.clone(), forwarded.clone()].concat(),
        [ask(0, 0), ask(2, 0), arrive.clone(), complete.clone(), forwarded.clone(), forwarded.clone()].concat(),
        [ask(0, 0), ask(1, 0), arrive.clone(), gone, complete, forwarded].concat(),
        [ask(0, 0), ask(0, 4), ask(2, 4), arrive].concat(),
        [0, 0, 0, 0, 1, 200, 0, 255, 4].repeat(3),
    ]
}
