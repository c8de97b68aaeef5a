//! The downloads folder. Everything is opened below one directory handle, a component at a time and through no link,
//! so that no name from the network and no link on the disk leads out of it.
//!
//! A download is a *part* file beside its target until it is whole; a target appears complete and synced, or not at all.

mod error;
mod finish;
mod jail;
pub mod names;
mod part;

pub use error::DiskError;
pub use finish::{FinishError, FinishItem};
pub use part::Part;

use super::statedir::is_in_state;
use super::walk::shown;
use crate::wire::ids::Hash;
use crate::wire::path::RelPath;
use rustix::fs::{AtFlags, FileType, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a disk that downloads leave free: the database, often on the same disk, must never meet a full one.
pub const SPACE_RESERVE_BYTES: u64 = 64 << 20;

/// Bytes that hashing reads at once: what keeps BLAKE3 at full speed.
const READ_BYTES: usize = 1 << 20;

/// What becomes of a download when something else has its name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflict {
    /// It fails, before anything is fetched.
    #[default]
    Fail,
    /// It is left out.
    Skip,
    /// It is called `name (2).ext`.
    Rename,
    /// It takes the place of the file that is there, when it is whole. A folder is never replaced.
    Overwrite,
}

/// Whether the disk that a path lies on has [`SPACE_RESERVE_BYTES`] left. True if that can't be told.
pub fn keeps_reserve(path: &Path) -> bool {
    rustix::fs::statvfs(path).map_or(true, |stat| stat.f_bavail.saturating_mul(stat.f_frsize) >= SPACE_RESERVE_BYTES)
}

/// An open downloads folder.
#[derive(Debug)]
pub struct Folder {
    root: File,
    reserve: u64,
    /// Stands in for a file system that can't tell upper from lower case.
    #[cfg(test)]
    folds: bool,
}

/// Something that already has a download's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub kind: ExistingKind,
    /// Its bytes, where it is a file.
    pub size: u64,
}

/// What already has a download's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, which is not followed, or a special file.
    Other,
}

impl Folder {
    /// Opens the folder at `path`, and creates it if it isn't there. `path` itself may lead through links; into a state
    /// directory it leads never.
    pub fn open(path: &Path) -> Result<Folder, DiskError> {
        if is_in_state(path) { Err(DiskError::State(shown(path))) } else { Folder::at(path) }
    }

    fn at(path: &Path) -> Result<Folder, DiskError> {
        let root = fs::create_dir_all(path)
            .and_then(|()| OpenOptions::new().read(true).custom_flags(OFlags::DIRECTORY.bits() as i32).open(path))
            .map_err(|error| DiskError::of(error, &shown(path)))?;
        Ok(Folder {
            root,
            reserve: SPACE_RESERVE_BYTES,
            #[cfg(test)]
            folds: false,
        })
    }

    /// Opens the folder at `path`, if it is there.
    pub fn open_existing(path: &Path) -> Result<Option<Folder>, DiskError> {
        if path.is_dir() { Folder::at(path).map(Some) } else { Ok(None) }
    }

    /// Bytes of the disk that are free for this user.
    pub fn free_bytes(&self) -> Result<u64, DiskError> {
        free_bytes(&self.root, "the downloads folder")
    }

    /// Whether the disk takes `bytes` more and keeps [`SPACE_RESERVE_BYTES`].
    pub fn has_room(&self, bytes: u64) -> Result<bool, DiskError> {
        Ok(self.free_bytes()? >= bytes.saturating_add(self.reserve))
    }

    /// Whether this is still the folder at `path`: it may have been removed, moved, or covered by another disk.
    pub fn is_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
        self.root.metadata().is_ok_and(|own| fs::metadata(path).is_ok_and(|there| id(own) == id(there)))
    }

    /// Whether what has the name `dest` has exactly this name, rather than one that the disk can't tell from it.
    pub fn is_exact(&self, dest: &RelPath) -> Result<bool, DiskError> {
        let parent = jail::parent(&self.root, dest, false)?;
        let failed = |error| DiskError::of(error, dest.as_str());
        let mut entries = rustix::fs::Dir::read_from(&parent).map_err(failed)?;
        let exact =
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_bytes() == dest.name().as_bytes()));
        Ok(exact)
    }

    /// What already has the name `dest`.
    pub fn existing(&self, dest: &RelPath) -> Result<Option<Existing>, DiskError> {
        #[cfg(test)]
        let dest = &self.folded(dest);
        let stat = jail::parent(&self.root, dest, false).and_then(|parent| {
            rustix::fs::statat(&parent, dest.name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| DiskError::of(error, dest.as_str()))
        });
        let Some(stat) = error::unless_missing(stat)? else { return Ok(None) };
        let (kind, size) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => (ExistingKind::File, stat.st_size as u64),
            FileType::Directory => (ExistingKind::Folder, 0),
            _ => (ExistingKind::Other, 0),
        };
        Ok(Some(Existing { kind, size }))
    }

    /// How many first parts of the path `dest`, itself included, name something that is there and is no folder.
    pub fn file_above(&self, dest: &RelPath) -> Option<u8> {
        (1u8..).zip(dest.above()).find_map(|(depth, path)| match self.existing(&path) {
            Ok(Some(existing)) if existing.kind != ExistingKind::Folder => Some(depth),
            Ok(_) | Err(_) => None,
        })
    }

    /// The hash of the file `dest`: where it is the one asked for, there is nothing to download.
    pub fn hash_existing(&self, dest: &RelPath) -> Result<Hash, DiskError> {
        let parent = jail::parent(&self.root, dest, false)?;
        let mut file = jail::open_file(&parent, dest.name(), OFlags::RDONLY, dest.as_str())?;
        hash_of(&mut file).map_err(|error| DiskError::of(error, dest.as_str()))
    }

    /// Makes the folder `dest`, with all folders above it, and syncs it. One that is there already stays as it is; a
    /// new one gets this time of modification, in milliseconds since 1970 (UTC).
    pub fn make_folder(&self, dest: &RelPath, mtime_ms: i64) -> Result<(), DiskError> {
        jail::refuse_state(&self.root, dest)?;
        let is_new = self.existing(dest)?.is_none();
        let made = jail::open_below(&self.root, dest.as_str(), dest, true)?;
        if let (true, Some(time)) = (is_new, finish::system_time(mtime_ms)) {
            let _ = made.set_modified(time);
        }
        finish::SyncedFolders::default().sync_above(&self.root, dest)
    }

    #[cfg(test)]
    fn folded(&self, dest: &RelPath) -> RelPath {
        let there = |name: String| {
            let path = match dest.as_str().rsplit_once('/') {
                Some((above, _)) => format!("{above}/{name}"),
                None => name.clone(),
            };
            (name.to_lowercase() == dest.name().to_lowercase()).then(|| RelPath::parse(&path).ok()).flatten()
        };
        let parent = jail::parent(&self.root, dest, false).ok().filter(|_| self.folds);
        let entries = parent.and_then(|parent| rustix::fs::Dir::read_from(&parent).ok());
        let mut names = entries.into_iter().flatten().flatten();
        let found = names.find_map(|entry| there(entry.file_name().to_string_lossy().into_owned()));
        found.unwrap_or_else(|| dest.clone())
    }
}

/// The hash of what is left to read.
fn hash_of(file: &mut File) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(Hash(*hasher.finalize().as_bytes())),
            len => hasher.update(&buf[..len]),
        };
    }
}

fn free_bytes(file: impl AsFd, shown: &str) -> Result<u64, DiskError> {
    let stat = rustix::fs::fstatvfs(file).map_err(|error| DiskError::of(error, shown))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mknodat};
    use std::os::unix::fs::symlink;

    pub(super) fn rel(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    /// A downloads folder that doesn't mind how full the machine's disk is, and what lies beside it.
    pub(super) fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(&dir.path().join("downloads")).unwrap();
        folder.reserve = 0;
        (dir, folder)
    }

    #[test]
    fn what_is_there_is_told_apart() {
        let (dir, folder) = folder();
        let root = dir.path().join("downloads");
        fs::create_dir(root.join("folder")).unwrap();
        fs::write(root.join("folder/file"), b"12345").unwrap();
        symlink("folder/file", root.join("link")).unwrap();
        mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let kind = |path| folder.existing(&rel(path)).unwrap().map(|it| (it.kind, it.size));
        assert_eq!(kind("folder/file"), Some((ExistingKind::File, 5)));
        assert_eq!(kind("folder"), Some((ExistingKind::Folder, 0)));
        assert_eq!(kind("link"), Some((ExistingKind::Other, 0)));
        assert_eq!(kind("pipe"), Some((ExistingKind::Other, 0)));
        assert_eq!(kind("gone"), None);
        assert_eq!(kind("gone/too"), None);
        assert!(matches!(folder.existing(&rel("folder/file/below")), Err(DiskError::InTheWay(_))));
        assert_eq!(folder.file_above(&rel("folder/file/below/more")), Some(2));
        assert_eq!(folder.file_above(&rel("folder/new/below")), None);

        assert_eq!(folder.hash_existing(&rel("folder/file")).unwrap(), Hash::of(b"12345"));
        for bad in ["folder", "pipe"] {
            assert!(matches!(folder.hash_existing(&rel(bad)), Err(DiskError::InTheWay(_))), "{bad}");
        }
        assert!(matches!(folder.hash_existing(&rel("link")), Err(DiskError::Jail(_))));
    }

    #[test]
    fn folders_are_made_but_not_through_links_or_files() {
        let (dir, folder) = folder();
        let root = dir.path().join("downloads");
        folder.make_folder(&rel("a/b/c"), 1_500_000_000_123).unwrap();
        let time = || std::os::unix::fs::MetadataExt::mtime(&root.join("a/b/c").metadata().unwrap());
        assert_eq!(time(), 1_500_000_000);
        folder.make_folder(&rel("a/b/c"), 7).unwrap();
        assert_eq!(time(), 1_500_000_000, "what is there stays as it is");
        fs::write(root.join("file"), b"").unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("a", root.join("inside")).unwrap();
        assert!(matches!(folder.make_folder(&rel("file/x"), 0), Err(DiskError::InTheWay(_))));
        for link in ["out", "out/x", "inside/x"] {
            assert!(matches!(folder.make_folder(&rel(link), 0), Err(DiskError::Jail(_))), "{link}");
        }
        assert!(!dir.path().join("outside/x").exists());
    }

    #[test]
    fn a_name_that_the_disk_cannot_tell_from_another_is_noticed() {
        let (dir, mut folder) = folder();
        fs::write(dir.path().join("downloads/Readme"), b"12").unwrap();
        assert!(folder.existing(&rel("README")).unwrap().is_none());
        folder.folds = true;
        assert!(folder.existing(&rel("README")).unwrap().is_some());
        assert!(!folder.is_exact(&rel("README")).unwrap() && folder.is_exact(&rel("Readme")).unwrap());
    }

    #[test]
    fn a_folder_that_was_moved_away_is_not_at_its_path() {
        let (dir, folder) = folder();
        let path = dir.path().join("downloads");
        assert!(folder.is_at(&path));
        fs::rename(&path, dir.path().join("moved")).unwrap();
        assert!(!folder.is_at(&path));
        fs::create_dir(&path).unwrap();
        assert!(!folder.is_at(&path), "another one of that name");
    }

    /// A member chooses the names of what it shares, and a person may fetch to a home folder.
    #[test]
    fn nothing_comes_into_a_state_directory() {
        let (dir, folder) = folder();
        let state = dir.path().join("downloads/.local/share/node");
        fs::create_dir_all(state.join("copies")).unwrap();
        let item = |part: Part, dest: &str| FinishItem {
            part,
            dest: rel(dest),
            mtime_ms: 0,
            executable: false,
            replace: true,
        };
        let part = folder.create_part(&rel("elsewhere"), 1).unwrap();
        for name in ["identity", "member.db"] {
            fs::write(state.join(name), b"mine").unwrap();
        }
        for dest in ["node/left", "node/identity", "node/copies/x", "node/new/deep/x"] {
            let dest = rel(&format!(".local/share/{dest}"));
            assert!(matches!(folder.create_part(&dest, 1), Err(DiskError::State(_))), "{dest}");
            assert!(matches!(folder.make_folder(&dest, 0), Err(DiskError::State(_))), "{dest}");
        }
        let ended = folder.finish(item(part, ".local/share/node/identity"));
        assert!(matches!(ended, Err(FinishError::Disk(DiskError::State(_)))), "{ended:?}");
        assert_eq!(fs::read(state.join("identity")).unwrap(), b"mine");
        assert!(!state.join("new").exists());
        folder.create_part(&rel(".local/share/beside"), 1).unwrap();
        for path in [&state, &state.join("copies"), &state.join("new/deep")] {
            assert!(matches!(Folder::open(path), Err(DiskError::State(_))), "{path:?}");
        }
        symlink(&state, dir.path().join("link")).unwrap();
        assert!(matches!(Folder::open(&dir.path().join("link/new")), Err(DiskError::State(_))));
        assert!(!state.join("new").exists());
    }

    #[test]
    fn room_keeps_the_reserve() {
        let (_dir, mut folder) = folder();
        let free = folder.free_bytes().unwrap();
        assert!(folder.has_room(free / 2).unwrap() && !folder.has_room(u64::MAX).unwrap());
        folder.reserve = u64::MAX;
        assert!(!folder.has_room(0).unwrap());
    }
}
