//! A stand-in for a node's data plane and its disk: part files, downloads and shared files, without their bytes.

use bailiwick::node::member::io::{
    Glance, Leftover, Look, Place, ScanId, ScanOrder, ScanReport, Sighting, UploadSource,
};
use bailiwick::state::conn::ConnId;
use bailiwick::state::downloads::{Asked, Came, Opened, Outcome, TransferId};
use bailiwick::state::guard::Root;
use bailiwick::state::random::draw;
use bailiwick::store::download::Conflict;
use bailiwick::store::download::names::numbered;
use bailiwick::store::member::{MemberStore, Staged};
use bailiwick::store::tree::merge_list;
use bailiwick::store::walk::Stamp;
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::geometry::{ChunkSize, Geometry, Unit};
use bailiwick::wire::ids::{ContentId, EpochId, FileId, Hash};
use bailiwick::wire::log::{FileKind, FileMeta};
use bailiwick::wire::path::RelPath;
use bailiwick::wire::seal::Cipher;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::dice::Dice;

/// What survives a crash of the process.
#[derive(Default, Clone)]
pub(crate) struct Disk {
    /// Shared files, by where they lie.
    pub(crate) shared: BTreeMap<PathBuf, SharedFile>,
    /// Folders whose disk is not there at the moment.
    pub(crate) away: BTreeSet<PathBuf>,
    /// Unfinished downloads, by folder and name: the chunks that are there and the ones that are synced.
    parts: BTreeMap<(PathBuf, String), PartFile>,
    /// Finished downloads.
    pub(crate) done: BTreeMap<(PathBuf, String), Hash>,
    /// Renamed from part files, and not known to be on the disk yet.
    renamed: Vec<((PathBuf, String), PartFile)>,
    /// There is no room for more.
    pub(crate) full: bool,
}

#[derive(Default, Clone)]
struct PartFile {
    /// Who made it: another transfer may do so where a part file was deleted.
    of: TransferId,
    size: u64,
    /// The hash of what is at each chunk's place.
    written: BTreeMap<u32, [u8; 32]>,
    synced: BTreeMap<u32, [u8; 32]>,
    /// Somebody cut it short, or put another file in its place.
    cut: bool,
}

impl PartFile {
    fn is_of(&self, place: &Place) -> bool {
        !self.cut
            && self.of == place.transfer
            && (self.size == place.geometry.size() || place.was_size == Some(self.size))
    }

    /// What lies beyond the new end is cut off; the last chunk of the shorter one is cut or grows.
    fn resize(&mut self, place: &Place) {
        let size = place.geometry.size();
        if size != self.size {
            let whole = (size.min(self.size) / u64::from(place.geometry.chunk().bytes())) as u32;
            self.written.retain(|chunk, _| *chunk < whole);
            self.synced.retain(|chunk, _| *chunk < whole);
            self.size = size;
        }
    }
}

/// The hash of a chunk, as a list has it; a file of one chunk has its own.
fn chunk_hash(root: Hash, list: &[u8], index: u32) -> [u8; 32] {
    let at = index as usize * 32;
    list.get(at..at + 32).and_then(|hash| hash.try_into().ok()).unwrap_or(root.0)
}

/// A file that somebody may share.
#[derive(Clone)]
pub(crate) struct SharedFile {
    /// Its stamp.
    pub(crate) stamp: Stamp,
    /// Its hash.
    pub(crate) hash: Hash,
    /// The list of its chunks' hashes.
    pub(crate) list: Vec<u8>,
}

impl SharedFile {
    /// A file of this many bytes with random content.
    pub(crate) fn random(dice: &mut Dice, size: u64) -> SharedFile {
        let chunk = ChunkSize::for_file(size);
        let geometry = Geometry::new(size, chunk).expect("a small file");
        let list: Vec<u8> = (0..geometry.list_len() / 32).flat_map(|_| draw::<32>(dice)).collect();
        let hash = match merge_list(&geometry, &list) {
            Some(hash) => hash,
            None if size == 0 => Hash::of(&[]),
            None => Hash(draw(dice)),
        };
        let [a, b] = [dice.below(1 << 40), dice.below(1 << 40)];
        let stamp = Stamp { size, mtime_ns: a as i64 * 1_000_000, inode: b, device: 1 };
        SharedFile { stamp, hash, list }
    }
}

impl SharedFile {
    /// The same file with another content in one of its chunks.
    pub(crate) fn changed(&self, dice: &mut Dice, chunk: usize) -> SharedFile {
        let mut changed = self.clone();
        let geometry = Geometry::new(self.stamp.size, ChunkSize::for_file(self.stamp.size)).expect("a small file");
        changed.list[chunk * 32..(chunk + 1) * 32].copy_from_slice(&draw::<32>(dice));
        changed.hash = merge_list(&geometry, &changed.list).expect("a list");
        changed.stamp.mtime_ns += 1_000_000_000;
        changed
    }
}

impl Disk {
    /// Unfinished downloads.
    pub(crate) fn part_files(&self) -> usize {
        self.parts.len()
    }

    /// The power fails: what was not synced may be lost.
    pub(crate) fn power_cut(&mut self, dice: &mut Dice) {
        for part in self.parts.values_mut() {
            let synced = part.synced.clone();
            part.written.retain(|chunk, hash| synced.get(chunk) == Some(hash) || dice.once_in(2));
        }
        for (at, part) in std::mem::take(&mut self.renamed) {
            if dice.once_in(2) {
                self.done.remove(&at);
                self.parts.insert(at, part);
            }
        }
    }

    /// The folders are synced, too: what was renamed stays so.
    pub(crate) fn folders_synced(&mut self) {
        self.renamed.clear();
    }

    /// Somebody deletes a part file, or cuts it short.
    pub(crate) fn spoil_part(&mut self, dice: &mut Dice) -> bool {
        let places: Vec<_> = self.parts.keys().cloned().collect();
        let Some(at) = dice.pick(&places) else { return false };
        if dice.once_in(2) {
            self.parts.remove(at);
        } else if let Some(part) = self.parts.get_mut(at) {
            *part = PartFile { cut: true, ..PartFile::default() };
        }
        true
    }

    /// Whether all that is claimed was synced, in part files that are as they were left.
    pub(crate) fn holds_claims(&self, store: &MemberStore) -> Result<(), String> {
        for row in store.open_transfers(0, usize::MAX).expect("a store").iter().filter(|row| !row.claimed.is_empty()) {
            let folder = store.job_dest(row.job).expect("a store").expect("a job");
            let Some(part) =
                self.parts.get(&(folder, row.dest.as_str().to_owned())).filter(|part| !part.cut && part.of == row.id)
            else {
                continue;
            };
            let bit = |chunk: &u32| row.claimed[*chunk as usize / 8] >> (chunk % 8) & 1 == 1;
            let claimed = (0..row.claimed.len() as u32 * 8).filter(bit);
            if let Some(chunk) = claimed.into_iter().find(|chunk| !part.synced.contains_key(chunk)) {
                return Err(format!(
                    "transfer {} of {} claims chunk {chunk}, which is not on the disk: {:?} of {}, synced {:?}",
                    row.id,
                    row.dest.as_str(),
                    row.claimed,
                    part.size,
                    part.synced.keys()
                ));
            }
        }
        Ok(())
    }

    /// What a scan of a share sees, and what it says at its end.
    pub(crate) fn scan(&self, order: &ScanOrder) -> (Vec<(PathBuf, Sighting)>, ScanReport) {
        let is_away = self.away.iter().any(|away| order.path.starts_with(away));
        let mut seen = Vec::new();
        for (path, file) in self.shared.iter().filter(|(path, _)| !is_away && path.starts_with(&order.path)) {
            let below = path.strip_prefix(&order.path).ok().and_then(|rest| rest.to_str());
            let rel = match below.filter(|rest| !rest.is_empty()) {
                Some(rest) => order.name.join(rest).expect("a good name"),
                None => order.name.clone(),
            };
            let sighting = Sighting { rel, stamp: file.stamp, kind: FileKind::File, executable: false };
            seen.push((path.clone(), sighting));
        }
        let root = if is_away { Root::Missing(None) } else { Root::There { device: 1, empty: seen.is_empty() } };
        (seen, ScanReport { root, ..ScanReport::default() })
    }

    /// A file that a scan saw, hashed.
    pub(crate) fn hash(&self, dice: &mut Dice, path: &Path, sighting: &Sighting) -> Option<Staged> {
        let file = self.shared.get(path)?;
        let meta = FileMeta {
            id: FileId::from_random(draw(dice)),
            content: ContentId(draw(dice)),
            path: sighting.rel.clone(),
            kind: FileKind::File,
            size: file.stamp.size,
            hash: file.hash,
            chunk: ChunkSize::for_file(file.stamp.size),
            mtime_ms: file.stamp.mtime_ms(),
            executable: false,
        };
        Some(Staged { meta, abs: path.to_owned(), stamp: file.stamp, list: file.list.clone() })
    }
}

/// What the process knows of its transfers.
#[derive(Default)]
pub(crate) struct Plane {
    open: BTreeMap<TransferId, Open>,
    expected: BTreeMap<(ContentId, u32), Expected>,
    epochs: BTreeSet<EpochId>,
    /// The newest epoch, under which chunks are sealed.
    pub(crate) newest: Option<EpochId>,
    /// Scans under way: what they saw, and what they will say at their end.
    pub(crate) scans: BTreeMap<ScanId, (Vec<(PathBuf, Sighting)>, ScanReport)>,
}

/// A unit that was asked for.
struct Expected {
    request: u64,
    /// On which straight connection, or through the server.
    by: Option<ConnId>,
    asked: Vec<Asked>,
}

struct Open {
    place: Place,
    /// The list, once it is here.
    list: Vec<u8>,
    list_parts: BTreeSet<u32>,
}

impl Disk {
    /// Whether an unfinished download lies at a place.
    pub(crate) fn has_part(&self, folder: &Path, dest: &RelPath) -> bool {
        self.parts.contains_key(&(folder.to_owned(), dest.as_str().to_owned()))
    }
}

fn key(place: &Place) -> (PathBuf, String) {
    (place.folder.clone(), place.dest.as_str().to_owned())
}

/// What becomes of a unit that came.
pub(crate) struct Landed {
    /// For what it was taken.
    pub(crate) asked: Asked,
    /// What became of it.
    pub(crate) came: Came,
    /// The list, if it is complete now.
    pub(crate) list: Option<Vec<u8>>,
}

impl Plane {
    /// A connection to the server carries chunk streams from now on.
    pub(crate) fn streams(&mut self) {
        self.expected.retain(|_, of| of.by.is_some());
    }

    /// The secrets that open and seal chunks.
    pub(crate) fn epochs(&mut self, epochs: impl IntoIterator<Item = EpochId>) {
        self.epochs = epochs.into_iter().collect();
        self.newest = self.epochs.last().copied();
    }

    /// Whether a transfer has its place.
    pub(crate) fn has_place(&self, transfer: TransferId) -> bool {
        self.open.contains_key(&transfer)
    }

    /// Looks at a transfer's place.
    pub(crate) fn open(&mut self, disk: &mut Disk, place: Place) -> Opened {
        let key = key(&place);
        self.open.remove(&place.transfer);
        if self.open.iter().any(|(_, other)| self::key(&other.place) == key) {
            return Opened::Not(Outcome::PlaceTaken);
        }
        let opened = match disk.done.get(&key) {
            Some(there) if *there == place.root => {
                disk.parts.remove(&key);
                Opened::Not(Outcome::Done)
            }
            Some(_) if place.conflict == Conflict::Skip => Opened::Not(Outcome::Skipped),
            Some(_) if place.conflict == Conflict::Rename && !place.had_part => {
                let free = |name: &RelPath| {
                    let there = disk.done.get(&(place.folder.clone(), name.as_str().to_owned()));
                    there.is_none_or(|there| *there == place.root)
                };
                let names = (2..).map(|number| numbered(&place.wish, number));
                Opened::Elsewhere(names.into_iter().find(free).expect("a free name"))
            }
            Some(_) if !matches!(place.conflict, Conflict::Overwrite | Conflict::Rename) => {
                Opened::Not(Outcome::AlreadyThere)
            }
            _ if disk.full => Opened::Not(Outcome::DiskFull),
            _ if place.geometry.chunk_count() <= 1 => {
                if place.had_part {
                    disk.parts.remove(&key);
                }
                Opened::Ready
            }
            _ if place.had_part && disk.parts.get(&key).is_some_and(|part| part.is_of(&place)) => {
                let part = disk.parts.get_mut(&key).expect("it is there");
                part.resize(&place);
                Opened::Ready
            }
            _ if place.has_claims || place.was_size.is_some() => {
                disk.parts.remove(&key);
                Opened::Anew
            }
            _ if !place.had_part && disk.parts.contains_key(&key) => Opened::Not(Outcome::PlaceTaken),
            _ => {
                disk.parts
                    .insert(key, PartFile { of: place.transfer, size: place.geometry.size(), ..PartFile::default() });
                Opened::Ready
            }
        };
        if opened == Opened::Ready {
            let list = place.list.as_ref().map(|list| list.to_vec()).unwrap_or_default();
            self.open.insert(place.transfer, Open { place, list, list_parts: BTreeSet::new() });
        }
        opened
    }

    /// These units were asked for.
    pub(crate) fn expect(&mut self, request: u64, units: Vec<Asked>, by: Option<ConnId>) {
        let expected = |unit: Asked| ((unit.content, unit.index), Expected { request, by, asked: vec![unit] });
        self.expected.extend(units.into_iter().map(expected));
    }

    /// They come for one more transfer; gives those that are not expected any more.
    pub(crate) fn join(&mut self, request: u64, units: Vec<Asked>) -> Vec<Asked> {
        let mut broken = Vec::new();
        for unit in units {
            match self.expected.get_mut(&(unit.content, unit.index)).filter(|of| of.request == request) {
                Some(of) => of.asked.push(unit),
                None => broken.push(unit),
            }
        }
        broken
    }

    /// These will not come.
    pub(crate) fn forget(&mut self, request: u64, units: &[Asked]) {
        for unit in units {
            let key = (unit.content, unit.index);
            if let Some(of) = self.expected.get_mut(&key)
                && of.request == request
            {
                of.asked.retain(|asked| asked.transfer != unit.transfer);
                if of.asked.is_empty() {
                    self.expected.remove(&key);
                }
            }
        }
    }

    /// A unit comes, on a straight connection or through the server. Only who was asked can answer.
    pub(crate) fn land(
        &mut self,
        disk: &mut Disk,
        header: &ChunkHeader,
        by: Option<ConnId>,
        source: &UploadSource,
        broken: Option<Came>,
    ) -> Vec<Landed> {
        let key_of_unit = (header.content, header.index);
        let fits = |of: &&Expected| {
            let is_asked = of.request == header.request && of.by == by;
            is_asked && of.asked.iter().all(|asked| asked.length == header.length)
        };
        if self.expected.get(&key_of_unit).filter(fits).is_none() {
            return Vec::new();
        }
        let asked = self.expected.remove(&key_of_unit).map(|of| of.asked).unwrap_or_default();
        if let Some(came) = broken {
            return asked.into_iter().map(|asked| Landed { asked, came, list: None }).collect();
        }
        asked.into_iter().filter_map(|asked| self.land_for(disk, header, source, asked)).collect()
    }

    fn land_for(
        &mut self,
        disk: &mut Disk,
        header: &ChunkHeader,
        source: &UploadSource,
        asked: Asked,
    ) -> Option<Landed> {
        let (root, list) = (source.root, source.list.as_slice());
        let open = self.open.get_mut(&asked.transfer)?;
        let taken = |came, list| Some(Landed { asked, came, list });
        if header.cipher != Cipher::Plain && !self.epochs.contains(&header.epoch) {
            return taken(Came::NoSecret, None);
        }
        if open.place.root != root {
            return taken(Came::Damaged, None);
        }
        match Unit::from_index(header.index) {
            Unit::ListPart(part) => {
                open.list_parts.insert(part);
                let whole = open.list_parts.len() as u32 == open.place.geometry.list_part_count();
                if whole {
                    open.list = list.to_vec();
                }
                taken(Came::Verified, whole.then(|| list.to_vec()))
            }
            Unit::Chunk(_) if disk.full => taken(Came::NotWritten(Outcome::DiskFull), None),
            Unit::Chunk(index) => {
                let at = key(&open.place);
                if open.place.geometry.chunk_count() <= 1 && disk.parts.contains_key(&at) {
                    return taken(Came::NotWritten(Outcome::PlaceTaken), None);
                }
                let part = disk.parts.entry(at).or_default();
                (part.of, part.size) = (asked.transfer, open.place.geometry.size());
                part.written.insert(index, chunk_hash(root, list, index));
                taken(Came::Verified, None)
            }
        }
    }

    /// Syncs a part file.
    pub(crate) fn sync(&mut self, disk: &mut Disk, transfer: TransferId) -> bool {
        let Some(open) = self.open.get(&transfer) else { return false };
        if let Some(part) = disk.parts.get_mut(&key(&open.place)) {
            part.synced = part.written.clone();
        }
        true
    }

    /// Ends a transfer. The error says what is missing: nothing ends that is not whole.
    pub(crate) fn finish(
        &mut self,
        disk: &mut Disk,
        transfer: TransferId,
    ) -> Result<Option<(Outcome, Option<RelPath>)>, String> {
        let Some(open) = self.open.get(&transfer) else { return Ok(None) };
        let at = key(&open.place);
        let part = disk.parts.remove(&at).unwrap_or_default();
        let place = &open.place;
        let is_right = |index: &u32| part.written.get(index) == Some(&chunk_hash(place.root, &open.list, *index));
        if let Some(wrong) = (0..place.geometry.chunk_count()).find(|index| !is_right(index)) {
            return Err(format!("transfer {transfer} is said to be whole, and chunk {wrong} is not its version's"));
        }
        let (outcome, name) = match disk.done.get(&at) {
            None => (Outcome::Done, None),
            Some(there) if *there == place.root => (Outcome::Done, None),
            Some(_) => match place.conflict {
                Conflict::Fail => (Outcome::AlreadyThere, None),
                Conflict::Skip => (Outcome::Skipped, None),
                Conflict::Overwrite => (Outcome::Done, None),
                Conflict::Rename => {
                    let free =
                        |name: &RelPath| !disk.done.contains_key(&(place.folder.clone(), name.as_str().to_owned()));
                    (Outcome::Done, (2..).map(|number| numbered(&place.wish, number)).find(free))
                }
            },
        };
        if outcome == Outcome::Done {
            let of = name.as_ref().unwrap_or(&place.dest);
            let before = disk.done.insert((place.folder.clone(), of.as_str().to_owned()), place.root);
            if name.is_none() && before.is_none() {
                disk.renamed.push((at, part));
            }
        }
        Ok(Some((outcome, name)))
    }

    /// Looks at the places of a job.
    pub(crate) fn look(&self, disk: &Disk, folder: &Path, looks: &[Look]) -> Vec<(TransferId, Glance)> {
        let glance = |look: &Look| match disk.done.get(&(folder.to_owned(), look.dest.as_str().to_owned())) {
            None => Glance::Free,
            Some(there) if *there == look.root => Glance::Same,
            Some(_) => Glance::InTheWay(Outcome::AlreadyThere),
        };
        looks.iter().map(|look| (look.transfer, glance(look))).collect()
    }

    /// Closes what is open for a transfer.
    /// Says whether a part file was removed.
    pub(crate) fn drop_transfer(&mut self, disk: &mut Disk, transfer: TransferId, leftover: Leftover) -> bool {
        self.expected.retain(|_, of| {
            of.asked.retain(|asked| asked.transfer != transfer);
            !of.asked.is_empty()
        });
        self.open.remove(&transfer);
        match leftover {
            Leftover::Keep => false,
            Leftover::Remove(folder, dest) => {
                let at = (folder, dest.as_str().to_owned());
                if !self.open.values().any(|other| key(&other.place) == at) {
                    disk.parts.remove(&at);
                }
                true
            }
        }
    }
}
