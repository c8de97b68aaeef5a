//! Downloads. Whatever owners, the disk and a person do, and wherever the process is killed: only what is there and synced
//! is claimed, only what is whole ends, nothing is asked for twice or beside the file, and never more than the credit.

use crate::{Bytes, keep_time};
use bailiwick::state::conn::ConnId;
use bailiwick::state::downloads::fetch::Wanted;
use bailiwick::state::downloads::{Asked, Came, Downloads, DownloadsConfig, Effect, Opened, Outcome, Way};
use bailiwick::state::time::Time;
use bailiwick::wire::frame::ChunkRefusal;
use bailiwick::wire::geometry::{ChunkSize, Geometry, Unit};
use bailiwick::wire::ids::{ContentId, PublicId};
use bailiwick::wire::path::RelPath;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one transfer, in memory and on the disk.
struct Part {
    geometry: Geometry,
    job: u64,
    way: Way,
    owner: PublicId,
    content: ContentId,
    has_list: bool,
    written: BTreeSet<u32>,
    synced: BTreeSet<u32>,
    claimed: BTreeSet<u32>,
    received: u64,
    /// How often it was opened: what belongs to an earlier opening never comes after a later one.
    life: u64,
    /// Whether it is in memory.
    live: bool,
    over: bool,
}

struct World {
    downloads: Downloads,
    config: DownloadsConfig,
    now: Time,
    parts: BTreeMap<u64, Part>,
    linked: bool,
    /// Straight connections, by owner.
    straight: BTreeMap<PublicId, ConnId>,
    /// Of a request, the straight connection that it went by; none for the server.
    ways: BTreeMap<u64, Option<ConnId>>,
    conns: u64,
    away: BTreeSet<PublicId>,
    /// Units that are expected, by request.
    asked: Vec<(u64, Asked, u64)>,
    /// Who asked for what, of those and of earlier ones; the others joined.
    askers: BTreeSet<(u64, u64, u32)>,
    /// Units that were, and that may come still.
    late: Vec<(Asked, u64)>,
    opening: Vec<(u64, u64)>,
    syncing: Vec<(u64, Vec<u32>, u64)>,
    ending: Vec<(u64, u64)>,
    looking: Vec<u64>,
    stopping: bool,
    wants_more: bool,
}

fn config() -> DownloadsConfig {
    DownloadsConfig {
        credit_max: 12 << 20,
        units_max: 8,
        files_max: 6,
        claim_bytes: 4 << 20,
        finish_batch: 3,
        damage_max: 3,
        ..DownloadsConfig::default()
    }
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let config = config();
    let mut world = World {
        downloads: Downloads::new(config),
        config,
        now: Time(0),
        parts: BTreeMap::new(),
        linked: false,
        straight: BTreeMap::new(),
        ways: BTreeMap::new(),
        conns: 0,
        away: BTreeSet::new(),
        asked: Vec::new(),
        askers: BTreeSet::new(),
        late: Vec::new(),
        opening: Vec::new(),
        syncing: Vec::new(),
        ending: Vec::new(),
        looking: Vec::new(),
        stopping: false,
        wants_more: false,
    };
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time();
        world.step(step, &mut bytes);
        world.drain();
        world.pass_time();
        world.check();
    }
}

impl World {
    fn pass_time(&mut self) {
        let now = self.now;
        for _ in 0..64 {
            if self.downloads.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.downloads.tick(now);
            self.drain();
        }
        keep_time(&mut self.downloads, now, Downloads::poll_timeout, |_, _| {});
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>) {
        let now = self.now;
        match step % 23 {
            0 | 1 => self.load(bytes),
            2 | 3 => self.opened(bytes),
            4..=8 => self.came(bytes),
            9 => {
                let Some((transfer, chunks, life)) = bytes.take(&mut self.syncing) else { return };
                let good = !bytes.once_in(8);
                let Some(part) = self.parts.get_mut(&transfer) else { return };
                if good {
                    let written = part.written.clone();
                    part.synced.extend(written);
                }
                if life == part.life {
                    self.downloads.synced(now, transfer, &chunks, good);
                }
            }
            10 => {
                let Some((transfer, life)) = bytes.take(&mut self.ending) else { return };
                let outcomes =
                    [Outcome::Done, Outcome::Done, Outcome::DiskFull, Outcome::PlaceTaken, Outcome::AlreadyThere];
                let outcome = outcomes[usize::from(bytes.byte()) % 5];
                if self.parts.get(&transfer).is_some_and(|part| part.life == life) {
                    self.downloads.finished(now, transfer, outcome);
                }
            }
            11 => self.refused(bytes),
            12 => {
                self.linked = !bytes.once_in(4);
                self.cut(None);
                self.downloads.linked(now, self.linked);
            }
            13 => {
                let (owner, online) = (PublicId([bytes.byte() % 3; 16]), !bytes.once_in(3));
                if online {
                    self.away.remove(&owner)
                } else {
                    self.away.insert(owner)
                };
                self.downloads.presence(now, owner, online);
            }
            14 => {
                let transfer = self.a_transfer(bytes);
                match bytes.byte() % 4 {
                    0 => self.downloads.drop_transfer(now, transfer, false),
                    _ => self.downloads.pause(now, transfer),
                }
            }
            15 => {
                let Some(transfer) = bytes.take(&mut self.looking) else { return };
                let outcomes = [None, Some(Outcome::Removed), Some(Outcome::Refused(ChunkRefusal::Changed))];
                self.downloads.looked_again(now, transfer, outcomes[usize::from(bytes.byte()) % 3]);
            }
            16 => self.downloads.heard(now, self.a_transfer(bytes), bytes.below(1 << 16) << 7, true),
            17 if bytes.once_in(16) => {
                self.stopping = true;
                self.downloads.stop();
            }
            18 if bytes.once_in(8) => self.restart(),
            19 => self.downloads.more(now),
            20 | 21 => {
                let owner = PublicId([bytes.byte() % 2; 16]);
                self.conns += 1;
                self.straight.insert(owner, ConnId(self.conns));
                self.downloads.straight(now, owner, Some(ConnId(self.conns)));
            }
            22 => {
                let owner = PublicId([bytes.byte() % 2; 16]);
                let Some(conn) = self.straight.remove(&owner) else { return };
                if bytes.once_in(2) {
                    self.downloads.straight(now, owner, None);
                    self.drain();
                }
                self.cut(Some(conn));
                self.downloads.straight_lost(now, conn);
            }
            _ => self.downloads.tick(now),
        }
    }

    /// What was asked for by this way may come still.
    fn cut(&mut self, way: Option<ConnId>) {
        let ways = &self.ways;
        let over = self.asked.extract_if(.., |(request, ..)| ways.get(request) == Some(&way));
        self.late.extend(over.map(|(_, unit, life)| (unit, life)));
    }

    fn a_transfer(&self, bytes: &mut Bytes<'_>) -> u64 {
        let place = usize::from(bytes.byte());
        self.parts.keys().nth(place % self.parts.len().max(1)).copied().unwrap_or(99)
    }

    /// The store gives what it has, if it was asked: a new transfer, or one that left memory.
    fn load(&mut self, bytes: &mut Bytes<'_>) {
        if !std::mem::take(&mut self.wants_more) {
            return;
        }
        let waiting = self.parts.iter().find(|(_, part)| !part.live && !part.over).map(|(transfer, _)| *transfer);
        let transfer = waiting.filter(|_| bytes.once_in(2)).unwrap_or_else(|| self.new_transfer(bytes));
        let Some(part) = self.parts.get_mut(&transfer) else { return };
        part.live = true;
        let mut claimed = vec![0; part.geometry.chunk_count().div_ceil(8) as usize];
        part.claimed.iter().for_each(|chunk| claimed[*chunk as usize / 8] |= 1 << (chunk % 8));
        let wanted = Wanted {
            transfer,
            job: part.job,
            way: part.way,
            owner: part.owner,
            content: part.content,
            geometry: part.geometry,
            has_list: part.has_list,
            claimed,
            received: part.received,
            kept_done: 0,
            kept_received: part.received,
        };
        self.downloads.add(self.now, vec![wanted], bytes.once_in(2));
    }

    fn new_transfer(&mut self, bytes: &mut Bytes<'_>) -> u64 {
        let transfer = self.parts.keys().max().map_or(1, |last| last + 1);
        let how = bytes.byte();
        let sizes = [0, 9, 1 << 20, (1 << 20) + 1, (3 << 20) + 7, 9 << 20, 70 << 20];
        // Few contents: two transfers of one ask together.
        let which = how % 7;
        let size = sizes[usize::from(which)];
        let chunk = ChunkSize::parse(20 + which % 3).expect("a size");
        let part = Part {
            geometry: Geometry::new(size, chunk).expect("a file"),
            job: u64::from(how % 3),
            way: [Way::Any, Way::Any, Way::Direct, Way::Relay][usize::from(how >> 6)],
            owner: PublicId([which % 2; 16]),
            content: ContentId([which; 16]),
            has_list: false,
            written: BTreeSet::new(),
            synced: BTreeSet::new(),
            claimed: BTreeSet::new(),
            received: 0,
            life: 0,
            live: false,
            over: false,
        };
        self.parts.insert(transfer, part);
        transfer
    }

    fn opened(&mut self, bytes: &mut Bytes<'_>) {
        let Some((transfer, life)) = bytes.take(&mut self.opening) else { return };
        let Some(part) = self.parts.get_mut(&transfer).filter(|part| part.life == life) else { return };
        let opened = match bytes.byte() % 12 {
            0 => Opened::Not(
                [Outcome::DiskFull, Outcome::AlreadyThere, Outcome::PlaceTaken, Outcome::Jail]
                    [usize::from(bytes.byte()) % 4],
            ),
            1 => {
                part.written.clear();
                part.synced.clear();
                part.claimed.clear();
                Opened::Anew
            }
            2 => Opened::Elsewhere(RelPath::parse("a-2").expect("a path")),
            _ => Opened::Ready,
        };
        // What belongs to earlier openings came before.
        self.late.retain(|(unit, of)| unit.transfer != transfer || *of == life);
        self.downloads.opened(self.now, transfer, opened);
    }

    fn came(&mut self, bytes: &mut Bytes<'_>) {
        let now = self.now;
        let (unit, life) = if bytes.once_in(6) {
            let Some((unit, life)) = bytes.take(&mut self.late) else { return };
            // It may be asked for again already: what comes of that is late from now on.
            let again = self.asked.iter().position(|(_, it, _)| (it.transfer, it.index) == (unit.transfer, unit.index));
            let again = again.map(|place| self.asked.remove(place));
            self.late.extend(again.map(|(_, unit, life)| (unit, life)));
            (unit, life)
        } else {
            let Some((_, unit, life)) = bytes.take(&mut self.asked) else { return };
            (unit, life)
        };
        let came = match bytes.byte() % 16 {
            0 => Came::Damaged,
            1 => Came::Broken,
            2 => Came::NotWritten(Outcome::DiskFull),
            3 => Came::NoSecret,
            4 => Came::NotWritten(Outcome::CannotWrite),
            _ => Came::Verified,
        };
        let Some(part) = self.parts.get_mut(&unit.transfer) else { return };
        if !part.live {
            return;
        }
        let is_list = matches!(Unit::from_index(unit.index), Unit::ListPart(_));
        // A chunk that comes late, after its part was begun anew, is not written there.
        if came == Came::Verified && !is_list {
            if life != part.life {
                return;
            }
            part.written.insert(unit.index);
        }
        self.downloads.came(now, unit, came);
        if is_list && came == Came::Verified && self.downloads.wants_list(unit.transfer) {
            let good = !bytes.once_in(8);
            if let Some(part) = self.parts.get_mut(&unit.transfer) {
                part.has_list |= good;
            }
            self.downloads.list_came(now, unit.transfer, good);
        }
    }

    fn refused(&mut self, bytes: &mut Bytes<'_>) {
        let reasons = [
            ChunkRefusal::OwnerAway,
            ChunkRefusal::Changed,
            ChunkRefusal::OwnerExpelled,
            ChunkRefusal::Unknown,
            ChunkRefusal::Paused,
            ChunkRefusal::Malformed,
            ChunkRefusal::OverQuota,
        ];
        let reason = reasons[usize::from(bytes.byte()) % 7];
        let Some((request, unit, _)) = bytes.one(&self.asked).copied() else { return };
        let request = if bytes.once_in(6) { bytes.number() } else { request };
        let over = self.downloads.refused(self.now, request, &[(unit.content, unit.index)], reason);
        for one in over {
            let place = self
                .asked
                .iter()
                .position(|(of, unit, _)| *of == request && (unit.transfer, unit.index) == (one.transfer, one.index));
            let place = place.expect("it was asked for by that request");
            self.asked.remove(place);
        }
    }

    /// The process is killed, and the power goes: what was not synced is gone.
    fn restart(&mut self) {
        self.downloads = Downloads::new(self.config);
        for part in self.parts.values_mut() {
            part.written = part.synced.clone();
            part.live = false;
            part.life += 1;
        }
        self.asked.clear();
        self.askers.clear();
        self.late.clear();
        self.opening.clear();
        self.syncing.clear();
        self.ending.clear();
        self.looking.clear();
        (self.linked, self.stopping, self.wants_more) = (false, false, false);
        self.straight.clear();
        self.ways.clear();
        self.away.clear();
        self.downloads.more(self.now);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.downloads.poll_effect() {
            match effect {
                Effect::Load(room) => {
                    assert!(room > 0 && room <= self.config.files_max);
                    self.wants_more = true;
                }
                Effect::Open(transfer) => {
                    let part = self.part(transfer);
                    part.life += 1;
                    let life = part.life;
                    self.opening.push((transfer, life));
                }
                Effect::Ask { request, owner, units, by } => {
                    let is_there = match by {
                        None => self.linked && !self.away.contains(&owner),
                        Some(conn) => self.straight.get(&owner) == Some(&conn),
                    };
                    assert!(is_there && !self.stopping, "nobody to ask");
                    let wrong = if by.is_some() { Way::Relay } else { Way::Direct };
                    assert!(units.iter().all(|unit| self.parts[&unit.transfer].way != wrong), "by a way it must not take");
                    self.ways.insert(request, by);
                    units.into_iter().for_each(|unit| self.expect(request, owner, unit, true));
                }
                Effect::Join { request, units } => {
                    for unit in units {
                        let owner = self.part(unit.transfer).owner;
                        self.expect(request, owner, unit, false);
                    }
                }
                Effect::Leave { request, units } => self.forget(request, &units, true),
                Effect::Cancel { request, units, by: _ } => self.forget(request, &units, false),
                Effect::Sync(transfer, chunks) => {
                    let part = self.part(transfer);
                    assert!(chunks.iter().all(|chunk| part.written.contains(chunk)), "synced, and not there");
                    let life = part.life;
                    self.syncing.push((transfer, chunks, life));
                }
                Effect::Claim { transfer, claimed, done, received } => {
                    let part = self.part(transfer);
                    let bit =
                        |chunk: &u32| claimed.get(*chunk as usize / 8).is_some_and(|byte| byte >> (chunk % 8) & 1 == 1);
                    let chunks: BTreeSet<u32> = (0..part.geometry.chunk_count()).filter(bit).collect();
                    assert!(chunks.is_subset(&part.synced), "claimed, and not on the disk");
                    assert!(part.claimed.is_subset(&chunks), "a claim is forgotten");
                    let sum: u64 = chunks.iter().filter_map(|it| part.geometry.chunk_len(*it)).map(u64::from).sum();
                    assert_eq!(done, sum);
                    assert!(received >= part.received);
                    (part.claimed, part.received) = (chunks, received);
                }
                Effect::Finish(transfers) => {
                    for transfer in transfers {
                        let part = self.part(transfer);
                        let whole = part.written.len() == part.geometry.chunk_count() as usize;
                        assert!(whole, "it ends, and is not whole");
                        let life = part.life;
                        self.ending.push((transfer, life));
                    }
                }
                Effect::LookAgain(transfer) => self.looking.push(transfer),
                Effect::Settle(transfer, outcome, received) => {
                    let part = self.part(transfer);
                    assert!(received >= part.received && outcome.is_end());
                    part.over = true;
                }
                Effect::Close { transfer, part_needed, received } => {
                    let part = self.part(transfer);
                    assert!(received >= part.received);
                    part.received = received;
                    part.live = false;
                    part.life += 1;
                    // A person ended it, or its part is kept for when it goes on.
                    part.over |= !part_needed;
                    self.asked.retain(|(_, unit, _)| unit.transfer != transfer);
                }
                Effect::Stopped => {
                    assert!(self.stopping);
                    for part in self.parts.values().filter(|part| part.live && part.life > 0) {
                        assert!(part.claimed.is_subset(&part.synced));
                    }
                }
            }
        }
    }

    fn part(&mut self, transfer: u64) -> &mut Part {
        let part = self.parts.get_mut(&transfer).expect("a transfer that was added");
        assert!(part.live, "it is not in memory");
        part
    }

    fn expect(&mut self, request: u64, owner: PublicId, unit: Asked, is_first: bool) {
        let under_way =
            self.asked.iter().filter(|(_, other, _)| (other.content, other.index) == (unit.content, unit.index));
        let mut joins = is_first;
        for (of, other, _) in under_way {
            // Who only joined doesn't keep others from asking anew: its request may be over.
            let is_askers = self.askers.contains(&(*of, other.transfer, other.index));
            assert!(!is_first || !is_askers, "it is asked for already");
            assert_ne!(other.transfer, unit.transfer, "it is asked for already");
            joins |= *of == request;
        }
        assert!(joins, "it joins a request that is over");
        if is_first {
            self.askers.insert((request, unit.transfer, unit.index));
        }
        let part = self.part(unit.transfer);
        assert_eq!((part.owner, part.content), (owner, unit.content));
        assert_eq!(part.geometry.unit_len(unit.index), Some(unit.length), "a unit of the file");
        if let Unit::Chunk(chunk) = Unit::from_index(unit.index) {
            assert!(!part.claimed.contains(&chunk), "it is here");
            assert!(part.has_list || part.geometry.list_part_count() == 0, "it could not be checked");
        }
        let life = part.life;
        self.asked.push((request, unit, life));
    }

    fn forget(&mut self, request: u64, units: &[Asked], is_shared: bool) {
        for unit in units {
            let place = self.asked.iter().position(|(of, other, _)| {
                *of == request && (other.transfer, other.index) == (unit.transfer, unit.index)
            });
            let (_, unit, life) = self.asked.remove(place.expect("it was asked for"));
            self.askers.remove(&(request, unit.transfer, unit.index));
            self.late.push((unit, life));
            let others = self
                .asked
                .iter()
                .any(|(of, other, _)| *of == request && (other.content, other.index) == (unit.content, unit.index));
            // Several may leave at once; the last of them cancels.
            assert!(is_shared || !others, "another one still wants it");
        }
    }

    fn check(&self) {
        let bytes: u64 = self.asked.iter().map(|(_, unit, _)| u64::from(unit.length)).sum();
        let largest = 4 << 20;
        assert!(bytes <= self.config.credit_max + largest, "more than the credit is asked for");
        assert!(self.asked.len() <= self.config.units_max, "more units than may be");
        assert!(self.parts.values().filter(|part| part.live).count() <= self.config.files_max + 1);
    }
}

/// Files of every size that come; a pause, a restart, a version that changed.
pub fn seeds() -> Vec<Vec<u8>> {
    let up = vec![12, 0, 0];
    let add = |which: u8| vec![19, 0, 0, 0, 0, which, 0, 2, 0, 0, 11];
    let come: Vec<u8> = [4, 0, 0, 0, 11, 0].repeat(12);
    let sync = vec![9, 0, 0, 0];
    let end = vec![20, 250, 10, 0, 0, 0];
    let pause = vec![14, 0, 0, 2];
    let restart = vec![18, 0, 7];
    vec![
        [&up[..], &add(1), &come, &end].concat(),
        [&up[..], &add(4), &come, &sync, &end].concat(),
        [&up[..], &add(5), &come, &sync, &pause, &sync, &add(5), &come].concat(),
        [&up[..], &add(5), &add(5), &come, &come, &sync, &sync].concat(),
        [&up[..], &add(6), &come, &sync, &restart, &up, &add(6), &come].concat(),
    ]
}
