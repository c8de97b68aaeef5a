use super::*;
use crate::wire::ids::{Audience, EpochId};
use crate::wire::seal::Cipher;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MIB: u32 = 1 << 20;
const OWNER: ConnId = ConnId(1000);

/// What became of a chunk that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Read,
    Refused(ChunkRefusal),
    Cancelled,
    Gone,
}

type Want = (ConnId, u64, u32);

/// Owners and askers around a cache, and a record of what they were told. All content is one; indexes tell chunks apart.
struct Lab {
    cache: Cache,
    now: Time,
    /// Asked and not ended.
    open: BTreeMap<Want, ()>,
    ends: Vec<(Want, End)>,
    /// What the owner was asked for and has not begun: its number and the index.
    asked: Vec<(u64, u32)>,
    asked_ever: usize,
    frames: usize,
    arriving: Vec<EntryId>,
    forwards: BTreeMap<ForwardId, (EntryId, Want)>,
    stopped: usize,
    indexes: HashMap<EntryId, u32>,
    complete: HashSet<EntryId>,
    streams: HashMap<StreamId, u32>,
    lengths: u32,
}

fn content() -> ContentId {
    ContentId([1; 16])
}

fn owner_id() -> PublicId {
    PublicId([9; 16])
}

impl Lab {
    fn new(config: CacheConfig, lengths: u32) -> Lab {
        Lab {
            cache: Cache::new(config),
            now: Time(0),
            open: BTreeMap::new(),
            ends: vec![],
            asked: vec![],
            asked_ever: 0,
            frames: 0,
            arriving: vec![],
            forwards: BTreeMap::new(),
            stopped: 0,
            indexes: HashMap::new(),
            complete: HashSet::new(),
            streams: HashMap::new(),
            lengths,
        }
    }

    fn input(&mut self, input: Input) {
        self.cache.handle(self.now, input);
        while let Some(effect) = self.cache.poll_effect() {
            self.effect(effect);
        }
        assert!(self.cache.used() <= self.cache.config.capacity);
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to: OWNER, frame } => self.owner_hears(frame),
            Effect::Send { to, frame: Frame::ChunkRefused { request, ranges, reason } } => {
                for (_, index, _) in ranges.iter().flat_map(ChunkRange::chunks) {
                    self.end((to, request, index), End::Refused(reason));
                }
            }
            Effect::Send { .. } => panic!("askers hear of refusals only"),
            Effect::Receive { stream, entry } => {
                self.arriving.push(entry);
                self.indexes.insert(entry, self.streams[&stream]);
            }
            Effect::Stop { .. } => self.stopped += 1,
            Effect::Forward { forward, entry, asker, request } => {
                self.forwards.insert(forward, (entry, (asker, request, self.indexes[&entry])));
            }
            Effect::EndForward { forward, .. } => assert!(self.forwards.remove(&forward).is_some()),
            Effect::Drop { entry } => {
                self.arriving.retain(|arriving| *arriving != entry);
                self.complete.remove(&entry);
            }
        }
    }

    fn owner_hears(&mut self, frame: Frame) {
        self.frames += 1;
        match frame {
            Frame::UploadChunk { request, ranges } => {
                for (_, index, _) in ranges.iter().flat_map(ChunkRange::chunks) {
                    self.asked.push((request, index));
                    self.asked_ever += 1;
                }
            }
            Frame::CancelChunk { request, ranges } => {
                for (_, index, _) in ranges.iter().flat_map(ChunkRange::chunks) {
                    self.asked.retain(|asked| *asked != (request, index));
                }
            }
            _ => panic!("owners hear of uploads and cancels only"),
        }
    }

    fn end(&mut self, want: Want, end: End) {
        assert!(self.open.remove(&want).is_some(), "{want:?} ended twice or was never asked for: {end:?}");
        self.ends.push((want, end));
    }

    fn ask(&mut self, asker: u64, request: u64, first: u32, count: u32) {
        for index in first..first + count {
            self.open.insert((ConnId(asker), request, index), ());
        }
        let range = ChunkRange { content: content(), first, count, bytes: self.lengths, last_bytes: self.lengths };
        self.input(Input::Order(ChunkOrder::Ask {
            asker: ConnId(asker),
            request,
            group: GroupId([7; 32]),
            owner: owner_id(),
            owner_conn: OWNER,
            ranges: vec![range],
        }));
    }

    /// The owner opens a stream for the chunk that it was asked for longest ago.
    fn begin_upload(&mut self) -> Option<EntryId> {
        if self.asked.is_empty() {
            return None;
        }
        let (request, index) = self.asked.remove(0);
        let before = self.arriving.len();
        self.arrive(request, index, self.lengths);
        (self.arriving.len() > before).then(|| self.arriving[self.arriving.len() - 1])
    }

    fn arrive(&mut self, request: u64, index: u32, length: u32) {
        let stream = StreamId(self.streams.len() as u64);
        self.streams.insert(stream, index);
        let header = ChunkHeader {
            cipher: Cipher::Aes256Gcm,
            audience: Audience::EVERYONE,
            epoch: EpochId { generation: 1, number: 1 },
            request,
            content: content(),
            index,
            length,
            nonce: [0; 12],
        };
        self.input(Input::Arriving { conn: OWNER, stream, header });
    }

    fn complete(&mut self, entry: EntryId) {
        self.arriving.retain(|arriving| *arriving != entry);
        self.complete.insert(entry);
        self.input(Input::Complete(entry));
    }

    /// An asker reads what is complete.
    fn read(&mut self, forward: ForwardId) {
        let Some((_, want)) = self.forwards.remove(&forward) else { return };
        self.end(want, End::Read);
        self.input(Input::Forwarded(forward));
    }

    /// Everything flows, for askers that read.
    fn flow(&mut self, reads: impl Fn(u64) -> bool) {
        loop {
            while let Some(entry) = self.begin_upload() {
                self.complete(entry);
            }
            let ready =
                self.forwards.iter().find(|(_, (entry, want))| self.complete.contains(entry) && reads(want.0.0));
            let Some(forward) = ready.map(|(forward, _)| *forward) else { return };
            self.read(forward);
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now = Time(self.now.0 + ms);
        self.input(Input::Tick);
    }

    fn count(&self, asker: u64, end: End) -> usize {
        self.ends.iter().filter(|(want, ended)| want.0 == ConnId(asker) && *ended == end).count()
    }
}

fn lab() -> Lab {
    Lab::new(CacheConfig::default(), MIB)
}

#[test]
fn a_chunk_goes_through_once_for_all_who_ask() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 2);
    lab.ask(2, 8, 0, 2);
    lab.flow(|_| true);
    assert_eq!((lab.count(1, End::Read), lab.count(2, End::Read)), (2, 2));
    lab.ask(3, 1, 1, 1);
    lab.flow(|_| true);
    assert_eq!(lab.count(3, End::Read), 1);
    assert_eq!(lab.asked_ever, 2, "the owner uploads once");
    lab.advance(120_000);
    assert_eq!(lab.cache.used(), 0, "W15");
    assert!(lab.cache.entries.is_empty() && lab.cache.askers.is_empty() && lab.cache.owners.is_empty());
    assert_eq!(lab.cache.poll_timeout(), None);
}

#[test]
fn no_more_is_asked_of_an_owner_than_there_is_room_for() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 32);
    assert_eq!(lab.asked.len(), 24, "its share");
    lab.ask(2, 1, 100, 32);
    assert_eq!(lab.asked.len(), 31, "all there is");
    lab.flow(|_| true);
    assert_eq!((lab.count(1, End::Read), lab.count(2, End::Read)), (32, 32));
}

#[test]
fn too_much_at_once_and_nonsense_are_refused() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 37);
    assert_eq!(lab.count(1, End::Refused(ChunkRefusal::OverQuota)), 37);
    let mut tiny = Lab::new(CacheConfig::default(), 1);
    tiny.ask(1, 1, 0, 8_193);
    assert_eq!(tiny.count(1, End::Refused(ChunkRefusal::OverQuota)), 8_193);
    let range = |first, count, bytes, last_bytes| ChunkRange { content: content(), first, count, bytes, last_bytes };
    for bad in [range(0, 0, 1, 1), range(0, 1, 1, 0), range(0, 2, CHUNK_BYTES_MAX + 1, 1), range(u32::MAX, 2, 1, 1)] {
        assert_eq!(measure(&[bad]), None);
    }
    assert_eq!(measure(&[]), None);
    assert_eq!(measure(&[range(3, 3, 10, 4)]), Some((3, 24)));
}

/// What a cache says to an asker of these ranges.
fn said(cache: &mut Cache, asker: u64, ranges: Vec<ChunkRange>) -> Vec<Effect> {
    let (asker, group, owner) = (ConnId(asker), GroupId([7; 32]), owner_id());
    let ask = ChunkOrder::Ask { asker, request: 1, group, owner, owner_conn: OWNER, ranges };
    cache.handle(Time(0), Input::Order(ask));
    std::iter::from_fn(|| cache.poll_effect()).collect()
}

fn is_refused(effects: &[Effect]) -> bool {
    matches!(effects, [Effect::Send { frame: Frame::ChunkRefused { reason: ChunkRefusal::OverQuota, .. }, .. }])
}

#[test]
fn who_is_refused_all_that_it_asks_for_is_not_remembered() {
    let mut cache = Cache::new(CacheConfig::default());
    let range = ChunkRange { count: 1_000, ..ChunkRange::one(content(), 0, MIB) };
    assert!(is_refused(&said(&mut cache, 1, vec![range])));
    assert!(cache.is_idle());
}

#[test]
fn ranges_of_more_bytes_than_a_number_holds_are_refused() {
    let mut cache = Cache::new(CacheConfig::default());
    let range = ChunkRange { count: u32::MAX, ..ChunkRange::one(content(), 0, CHUNK_BYTES_MAX) };
    assert!(is_refused(&said(&mut cache, 1, vec![range; RANGES_PER_FRAME_MAX])));
}

/// Who asks for a chunk by a wrong length does not keep it from who asks for it by the right one.
#[test]
fn two_lengths_of_one_chunk_are_asked_for_under_two_numbers() {
    let mut cache = Cache::new(CacheConfig::with_capacity(0));
    let of = |index, length| vec![ChunkRange::one(content(), index, length)];
    said(&mut cache, 1, of(5, CHUNK_BYTES_MAX));
    said(&mut cache, 1, [of(6, CHUNK_BYTES_MAX), of(7, CHUNK_BYTES_MAX)].concat());
    assert!(said(&mut cache, 2, of(0, MIB)).is_empty() && said(&mut cache, 3, of(0, MIB - 1)).is_empty(), "they wait");
    let gone = ChunkOrder::Gone { conn: ConnId(1), reason: ChunkRefusal::OwnerAway };
    cache.handle(Time(0), Input::Order(gone));
    let mut numbers = HashSet::new();
    while let Some(effect) = cache.poll_effect() {
        if let Effect::Send { frame: Frame::UploadChunk { request, ranges }, .. } = effect {
            assert_eq!(ranges.len(), 1);
            numbers.insert(request);
        }
    }
    assert_eq!(numbers.len(), 2);
}

#[test]
fn only_what_was_asked_for_comes_in() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 1);
    let (request, _) = lab.asked[0];
    lab.arrive(request, 0, MIB - 1);
    lab.arrive(request, 1, MIB);
    lab.arrive(request + 1, 0, MIB);
    assert_eq!(lab.stopped, 3);
    lab.arrive(request, 0, MIB);
    lab.arrive(request, 0, MIB);
    assert_eq!(lab.stopped, 4, "and once");
}

#[test]
fn an_owner_that_sends_nothing_is_given_up() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 40);
    lab.open.clear();
    lab.ends.clear();
    lab.ask(1, 2, 0, 30);
    lab.advance(9_999);
    assert_eq!(lab.ends.len(), 0);
    lab.advance(1);
    assert_eq!(lab.count(1, End::Refused(ChunkRefusal::OwnerStalled)), 24);
    lab.advance(10_000);
    assert_eq!(lab.count(1, End::Refused(ChunkRefusal::OwnerStalled)), 30);
    assert!(lab.asked.is_empty(), "and told so");
    assert_eq!(lab.cache.used(), 0);
}

#[test]
fn an_owner_that_sends_slowly_is_not_given_up() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 4);
    for _ in 0..4 {
        lab.advance(8_000);
        let entry = lab.begin_upload().unwrap();
        lab.advance(8_000);
        lab.input(Input::Progress(entry));
        lab.complete(entry);
    }
    lab.flow(|_| true);
    assert_eq!(lab.count(1, End::Read), 4);
}

#[test]
fn what_the_owner_says_reaches_all_who_wait() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 2);
    lab.ask(2, 5, 1, 1);
    let (request, _) = lab.asked[0];
    let ranges = vec![ChunkRange { content: content(), first: 0, count: 2, bytes: MIB, last_bytes: MIB }];
    let reason = ChunkRefusal::Changed;
    lab.asked.clear();
    lab.input(Input::Order(ChunkOrder::Refused { owner: OWNER, request, ranges, reason }));
    assert_eq!((lab.count(1, End::Refused(reason)), lab.count(2, End::Refused(reason))), (2, 1));
    assert_eq!(lab.frames, 1, "the owner is not told what it said");
}

#[test]
fn a_cancel_reaches_the_owner_when_nobody_else_waits() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 2);
    lab.ask(2, 1, 1, 1);
    let ranges = vec![ChunkRange { content: content(), first: 0, count: 2, bytes: MIB, last_bytes: MIB }];
    lab.open.retain(|want, ()| want.0 != ConnId(1));
    lab.input(Input::Order(ChunkOrder::Cancel { asker: ConnId(1), request: 1, ranges }));
    assert_eq!(lab.asked.len(), 1);
    assert_eq!(lab.asked[0].1, 1);
    lab.flow(|_| true);
    assert_eq!(lab.count(2, End::Read), 1);
}

#[test]
fn ends_of_connections_end_what_was_outstanding_on_them() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 40);
    lab.open.clear();
    lab.ends.clear();
    lab.ask(1, 1, 0, 3);
    lab.ask(2, 1, 50, 30);
    let entry = lab.begin_upload().unwrap();
    lab.open.retain(|want, ()| want.0 != ConnId(1));
    lab.input(Input::Order(ChunkOrder::Gone { conn: ConnId(1), reason: ChunkRefusal::OwnerAway }));
    assert!(!lab.arriving.contains(&entry) && lab.forwards.is_empty());
    lab.input(Input::Order(ChunkOrder::Gone { conn: OWNER, reason: ChunkRefusal::OwnerAway }));
    assert_eq!(lab.count(2, End::Refused(ChunkRefusal::OwnerAway)), 30);
    assert_eq!(lab.cache.used(), 0);
    assert_eq!(lab.cache.poll_timeout(), None);
}

#[test]
fn nothing_of_an_expelled_owner_is_kept() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 2);
    lab.flow(|_| false);
    let order = ChunkOrder::Expelled { group: GroupId([7; 32]), owner: owner_id() };
    lab.input(Input::Order(order));
    assert_eq!(lab.count(1, End::Refused(ChunkRefusal::OwnerExpelled)), 2);
    assert_eq!(lab.cache.used(), 0);
}

#[test]
fn full_cache() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 32);
    lab.ask(2, 1, 100, 32);
    lab.flow(|_| false);
    assert!(lab.cache.used() > 31 << 20, "full");
    lab.ask(3, 1, 200, 32);
    lab.flow(|asker| asker == 3);
    assert_eq!(lab.count(3, End::Read), 0);
    lab.advance(3_000);
    lab.flow(|asker| asker == 3);
    assert_eq!(lab.count(3, End::Read), 32, "who reads nothing gives way");
    lab.flow(|_| true);
    lab.flow(|_| true);
    for asker in [1, 2] {
        let ended = lab.count(asker, End::Read) + lab.count(asker, End::Refused(ChunkRefusal::Expired));
        assert_eq!(ended, 32);
    }
}

#[test]
fn a_stalled_asker_is_reserved_one_chunk() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 32);
    lab.flow(|_| false);
    lab.advance(3_000);
    lab.advance(117_000);
    let expired = lab.count(1, End::Refused(ChunkRefusal::Expired));
    assert_eq!(expired, 24, "reset at ttl though it still reads");
    assert_eq!(lab.asked.len(), 1);
    lab.flow(|_| true);
    assert_eq!(lab.count(1, End::Read), 8, "and goes on once it reads");
}

#[test]
fn two_askers_share_room_and_turn() {
    let mut lab = lab();
    lab.ask(1, 1, 0, 36);
    lab.ask(2, 1, 100, 36);
    let mut reads = [0i32; 2];
    while let Some(entry) = lab.begin_upload() {
        lab.complete(entry);
        let forward = *lab.forwards.keys().next().unwrap();
        let asker = lab.forwards[&forward].1.0.0;
        reads[asker as usize - 1] += 1;
        lab.read(forward);
        let (first, second) = (reads[0], reads[1]);
        assert!(first - second <= 24 && second <= first, "{reads:?}");
    }
    assert_eq!(reads, [36, 36]);
}

#[test]
fn ten_thousand_tiny_chunks_take_a_frame_an_asker() {
    let mut lab = Lab::new(CacheConfig::default(), 100);
    lab.ask(1, 1, 0, 5_000);
    lab.ask(2, 1, 5_000, 5_000);
    assert_eq!(lab.frames, 2, "one frame each");
    let asked = std::mem::take(&mut lab.asked);
    for (request, index) in asked {
        lab.arrive(request, index, 100);
        let entry = lab.arriving.pop().unwrap();
        lab.complete(entry);
        let forward = *lab.forwards.keys().next().unwrap();
        lab.read(forward);
    }
    assert_eq!(lab.ends.len(), 10_000);
}

#[derive(Debug, Clone)]
enum Step {
    Ask { asker: u64, first: u32, count: u32 },
    Begin,
    Complete(usize),
    Break(usize),
    Read(usize),
    Unwanted(usize),
    Cancel { asker: u64, first: u32, count: u32 },
    OwnerRefuses,
    AskerGone(u64),
    OwnerGone,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4u64, 0..20u32, 1..8u32).prop_map(|(asker, first, count)| Step::Ask { asker, first, count }),
        6 => Just(Step::Begin),
        6 => any::<usize>().prop_map(Step::Complete),
        1 => any::<usize>().prop_map(Step::Break),
        6 => any::<usize>().prop_map(Step::Read),
        1 => any::<usize>().prop_map(Step::Unwanted),
        1 => (1..4u64, 0..20u32, 1..8u32).prop_map(|(asker, first, count)| Step::Cancel { asker, first, count }),
        1 => Just(Step::OwnerRefuses),
        1 => (1..4u64).prop_map(Step::AskerGone),
        1 => Just(Step::OwnerGone),
        3 => (1..20_000u64).prop_map(Step::Advance),
    ]
}

impl Lab {
    fn step(&mut self, step: Step, request: u64) {
        match step {
            Step::Ask { asker, first, count } => self.ask(asker, request, first, count),
            Step::Begin => drop(self.begin_upload()),
            Step::Complete(n) | Step::Break(n) if self.arriving.is_empty() => _ = n,
            Step::Complete(n) => self.complete(self.arriving[n % self.arriving.len()]),
            Step::Break(n) => {
                let entry = self.arriving[n % self.arriving.len()];
                self.input(Input::Broken(entry));
            }
            Step::Read(n) | Step::Unwanted(n) if self.forwards.is_empty() => _ = n,
            Step::Read(n) => {
                let (forward, (entry, _)) = self.forwards.iter().nth(n % self.forwards.len()).unwrap();
                let (forward, entry) = (*forward, *entry);
                if self.complete.contains(&entry) { self.read(forward) } else { self.input(Input::Forwarding(forward)) }
            }
            Step::Unwanted(n) => {
                let forward = *self.forwards.keys().nth(n % self.forwards.len()).unwrap();
                let (_, want) = self.forwards.remove(&forward).unwrap();
                self.end(want, End::Cancelled);
                self.input(Input::Unwanted(forward));
            }
            Step::Cancel { asker, first, count } => {
                let hit = |want: &Want| want.0 == ConnId(asker) && (first..first + count).contains(&want.2);
                let wants: Vec<Want> = self.open.keys().filter(|want| hit(want)).copied().collect();
                for want in wants {
                    self.end(want, End::Cancelled);
                    let ranges = vec![ChunkRange::one(content(), want.2, self.lengths)];
                    self.input(Input::Order(ChunkOrder::Cancel { asker: want.0, request: want.1, ranges }));
                }
            }
            Step::OwnerRefuses => {
                if let Some((request, index)) = self.asked.pop() {
                    let ranges = vec![ChunkRange::one(content(), index, self.lengths)];
                    let reason = ChunkRefusal::Paused;
                    self.input(Input::Order(ChunkOrder::Refused { owner: OWNER, request, ranges, reason }));
                }
            }
            Step::AskerGone(asker) => {
                let wants: Vec<Want> = self.open.keys().filter(|want| want.0 == ConnId(asker)).copied().collect();
                wants.into_iter().for_each(|want| self.end(want, End::Gone));
                let reason = ChunkRefusal::OwnerAway;
                self.input(Input::Order(ChunkOrder::Gone { conn: ConnId(asker), reason }));
            }
            Step::OwnerGone => {
                let reason = ChunkRefusal::OwnerAway;
                self.asked.clear();
                self.input(Input::Order(ChunkOrder::Gone { conn: OWNER, reason }));
            }
            Step::Advance(ms) => self.advance(ms),
        }
    }
}

proptest! {
    /// Each chunk ends once ([`Lab::end`] asserts "at most"), room is never passed ([`Lab::input`]), and at the end
    /// nothing is left over.
    #[test]
    fn whatever_happens_every_chunk_ends_once(steps in proptest::collection::vec(step(), 1..200)) {
        let mut lab = Lab::new(CacheConfig { asker_share: 4 << 20, ..CacheConfig::with_capacity(9 << 20) }, MIB);
        for (request, step) in steps.into_iter().enumerate() {
            lab.step(step, request as u64);
        }
        for _ in 0..40 {
            lab.advance(150_000);
        }
        prop_assert!(lab.open.is_empty(), "{:?}", lab.open);
        prop_assert!(lab.forwards.is_empty());
        prop_assert_eq!(lab.cache.used(), 0);
        prop_assert!(lab.cache.entries.is_empty() && lab.cache.askers.is_empty() && lab.cache.owners.is_empty());
        prop_assert!(lab.cache.turns.is_empty() && lab.cache.spare.is_empty() && lab.cache.timers.is_empty());
    }
}
