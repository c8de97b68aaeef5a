//! Power cuts and torn writes: what comes back is a prefix of what was committed, or an error in words; never a mix.

use super::member::{DbError, MemberStore};
use super::server_db::ServerStore;
use crate::wire::ids::{GroupId, Position};
use crate::wire::log::SignedHeader;
use crate::wire::sign::{Identity, Signature};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Commits in a story.
const COMMITS: u64 = 40;
/// Places of a journal at which it is cut or torn.
const PLACES: usize = 80;
/// Bytes that a disk writes whole, or not at all.
const SECTOR: usize = 512;

/// A database as it lies on a disk.
#[derive(Clone)]
struct Image {
    db: Vec<u8>,
    wal: Vec<u8>,
}

fn files(path: &Path) -> (PathBuf, PathBuf) {
    (path.to_owned(), PathBuf::from(format!("{}-wal", path.display())))
}

fn image(path: &Path) -> Image {
    let (db, wal) = files(path);
    Image { db: std::fs::read(db).unwrap(), wal: std::fs::read(wal).unwrap_or_default() }
}

/// Puts an image where a process would find it after a power cut.
fn place(folder: &TempDir, image: &Image) -> PathBuf {
    let path = folder.path().join("after.db");
    let (db, wal) = files(&path);
    let _ = std::fs::remove_file(format!("{}-shm", path.display()));
    std::fs::write(db, &image.db).unwrap();
    std::fs::write(wal, &image.wal).unwrap();
    path
}

fn header(n: u64) -> SignedHeader {
    // As long as headers are: what is longer lies on pages that SQLite does not look into, and is signed or committed to.
    SignedHeader { bytes: n.to_le_bytes().repeat(60), signature: Signature([n as u8; 64]) }
}

fn at(n: u64) -> Position {
    Position { generation: 1, revision: n }
}

fn group() -> GroupId {
    GroupId([7; 32])
}

/// Two kinds of store, told and asked in the same way.
trait Story: Sized {
    fn open(path: &Path) -> Result<Self, DbError>;
    fn begin_story(&mut self);
    /// One transaction that changes two tables.
    fn commit(&mut self, n: u64);
    /// How many commits are there; the same by both tables, or it is a mix.
    fn told(&self) -> Result<(u64, Vec<SignedHeader>), DbError>;
}

impl Story for MemberStore {
    fn open(path: &Path) -> Result<MemberStore, DbError> {
        MemberStore::open(path)
    }

    fn begin_story(&mut self) {}

    fn commit(&mut self, n: u64) {
        self.begin().unwrap();
        self.set("n", &n).unwrap();
        self.set(&format!("row {n}"), &header(n)).unwrap();
        MemberStore::commit(self).unwrap();
    }

    fn told(&self) -> Result<(u64, Vec<SignedHeader>), DbError> {
        self.check()?;
        let rows: Vec<Option<SignedHeader>> =
            (1..=COMMITS).map(|n| self.get(&format!("row {n}"))).collect::<Result<_, _>>()?;
        Ok((self.get("n")?.unwrap_or(0), rows.into_iter().flatten().collect()))
    }
}

impl Story for ServerStore {
    fn open(path: &Path) -> Result<ServerStore, DbError> {
        ServerStore::open(path)
    }

    fn begin_story(&mut self) {
        self.add_group(&group(), &Identity::from_seeds([1; 32], [2; 32]).device_key()).unwrap();
    }

    fn commit(&mut self, n: u64) {
        self.begin().unwrap();
        self.add_header(&group(), at(n), &header(n)).unwrap();
        let head = crate::wire::log::SignedHead { bytes: n.to_le_bytes().to_vec(), signature: Signature([0; 64]) };
        self.set_head(&group(), &head).unwrap();
        ServerStore::commit(self).unwrap();
    }

    fn told(&self) -> Result<(u64, Vec<SignedHeader>), DbError> {
        let Some(row) = self.groups()?.pop() else { return Ok((0, Vec::new())) };
        let n = row.head.map_or(0, |head| u64::from_le_bytes(head.bytes.try_into().unwrap_or_default()));
        Ok((n, row.chain))
    }
}

/// What is in an image: so many commits, or an error in words.
fn after<S: Story>(folder: &TempDir, image: &Image) -> Result<u64, String> {
    let told = S::open(&place(folder, image)).and_then(|store| store.told());
    match told {
        Ok((n, rows)) => {
            let expected: Vec<SignedHeader> = (1..=n).map(header).collect();
            assert!(rows == expected, "a mix: {n} by one table, {} rows in the other", rows.len());
            Ok(n)
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("import") || text.contains("disk"), "it does not say what to do: {text}");
            Err(text)
        }
    }
}

/// The image after each commit, with the process still running, and one in which all is in the database itself.
fn story<S: Story>(folder: &TempDir) -> (Vec<Image>, Image) {
    let path = folder.path().join("before.db");
    let mut store = S::open(&path).unwrap();
    store.begin_story();
    let images = (1..=COMMITS).map(|n| {
        store.commit(n);
        image(&path)
    });
    let images: Vec<Image> = images.collect();
    // The last one who closes moves the journal into the database.
    drop(store);
    let ended = image(&path);
    assert!(ended.wal.is_empty());
    (images, ended)
}

fn a_cut_journal_gives_a_prefix<S: Story>() {
    let folder = tempfile::tempdir().unwrap();
    let (images, _) = story::<S>(&folder);
    let last = images.last().unwrap();
    let mut seen = 0;
    for end in (0..last.wal.len()).step_by((last.wal.len() / PLACES) | 1) {
        let cut = Image { wal: last.wal[..end].to_vec(), ..last.clone() };
        let n = after::<S>(&folder, &cut).unwrap();
        assert!(n >= seen, "more of the journal gives no less");
        seen = n;
        // What was synced by a commit is there, whatever was torn after it.
        let durable = images.iter().filter(|image| image.wal.len() <= end && image.db == last.db).count() as u64;
        assert!(n >= durable, "{n} of {durable}");
    }
    assert!(seen >= COMMITS - 1);
}

fn a_torn_journal_gives_a_prefix<S: Story>() {
    let folder = tempfile::tempdir().unwrap();
    let (images, _) = story::<S>(&folder);
    let last = images.last().unwrap();
    for at in (0..last.wal.len()).step_by((last.wal.len() / PLACES).next_multiple_of(SECTOR)) {
        let mut torn = last.clone();
        let end = (at + SECTOR).min(torn.wal.len());
        torn.wal[at..end].fill(0);
        let n = after::<S>(&folder, &torn).unwrap();
        let durable = images.iter().filter(|image| image.wal.len() <= at && image.db == last.db).count() as u64;
        assert!(n >= durable, "{n} of {durable}");
    }
}

/// The journal is moved into the database while the power goes: some sectors are new, some old, and the journal is whole.
fn a_torn_checkpoint_loses_nothing<S: Story>() {
    let folder = tempfile::tempdir().unwrap();
    let (images, ended) = story::<S>(&folder);
    let last = images.last().unwrap();
    for seed in 0..16u8 {
        let mut random = blake3::Hasher::new().update(&[seed]).finalize_xof();
        let mut torn = Image { db: ended.db.clone(), wal: last.wal.clone() };
        for at in (0..torn.db.len()).step_by(SECTOR) {
            let mut coin = [0];
            random.fill(&mut coin);
            let end = (at + SECTOR).min(torn.db.len());
            match last.db.get(at..end) {
                Some(old) if coin[0] % 2 == 0 => torn.db[at..end].copy_from_slice(old),
                None if coin[0] % 2 == 0 => torn.db[at..end].fill(0),
                _ => {}
            }
        }
        assert_eq!(after::<S>(&folder, &torn), Ok(COMMITS), "seed {seed}");
    }
}

/// A disk that forgot pages of the database itself: nothing can bring them back, but it is said.
fn a_lost_page_is_said<S: Story>() {
    let folder = tempfile::tempdir().unwrap();
    let (_, ended) = story::<S>(&folder);
    let mut said = 0;
    for at in (0..ended.db.len()).step_by(4_096) {
        let mut lost = ended.clone();
        lost.db[at..at + 4_096].fill(0);
        said += u64::from(after::<S>(&folder, &lost).is_err());
    }
    assert!(said > 0);
}

#[test]
fn a_members_cut_journal_gives_a_prefix() {
    a_cut_journal_gives_a_prefix::<MemberStore>();
}

#[test]
fn a_servers_cut_journal_gives_a_prefix() {
    a_cut_journal_gives_a_prefix::<ServerStore>();
}

#[test]
fn a_members_torn_journal_gives_a_prefix() {
    a_torn_journal_gives_a_prefix::<MemberStore>();
}

#[test]
fn a_servers_torn_journal_gives_a_prefix() {
    a_torn_journal_gives_a_prefix::<ServerStore>();
}

#[test]
fn a_members_torn_checkpoint_loses_nothing() {
    a_torn_checkpoint_loses_nothing::<MemberStore>();
}

#[test]
fn a_servers_torn_checkpoint_loses_nothing() {
    a_torn_checkpoint_loses_nothing::<ServerStore>();
}

#[test]
fn a_members_lost_page_is_said() {
    a_lost_page_is_said::<MemberStore>();
}
