//! Ending downloads. In this order: content on the disk, then the name, then the folders that hold the name. So a
//! target that has its name is whole, also after a power loss, and nothing is done before it would survive one.

use super::part::part_name;
use super::{DiskError, Folder, Part, jail};
use crate::wire::path::RelPath;
use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Up to so many files are synced each by itself; more share one sync of their file system, which flushes other
/// programs' writes too and so wants a reason.
const SYNC_EACH_MAX: usize = 4;

/// A part whose every byte was verified, and what becomes of it.
#[derive(Debug)]
pub struct FinishItem {
    /// The part.
    pub part: Part,
    /// The file's name from now on: mostly that which the part was made for.
    pub dest: RelPath,
    /// The file's time of modification, in milliseconds since 1970 (UTC).
    pub mtime_ms: i64,
    /// Whether whoever may read the file may execute it.
    pub executable: bool,
    /// Whether a file that has the name already is replaced.
    pub replace: bool,
}

/// Why a download didn't end; its part is still there.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Something has the name, and wasn't to be replaced, or is a folder.
    #[error("{0} is already there: download it under another name, or have it overwritten")]
    AlreadyThere(RelPath),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Folder {
    /// Ends one download.
    pub fn finish(&self, item: FinishItem) -> Result<(), FinishError> {
        self.finish_many(vec![item]).pop().unwrap_or(Ok(()))
    }

    /// Ends downloads together, which for many small files costs much less than one by one. The results are in the
    /// order of the items.
    pub fn finish_many(&self, items: Vec<FinishItem>) -> Vec<Result<(), FinishError>> {
        items.iter().for_each(dress);
        let together = items.len() > SYNC_EACH_MAX && self.sync_together(&items);
        let renamed: Vec<_> = items
            .iter()
            .map(|item| {
                if !together {
                    item.part.file.sync_all().map_err(|error| item.part.failed(error))?;
                }
                self.rename(item)
            })
            .collect();
        let mut synced = SyncedFolders::default();
        let durable = |(renamed, item): (Result<(), FinishError>, &FinishItem)| {
            renamed?;
            Ok(synced.sync_above(&self.root, &item.dest)?)
        };
        renamed.into_iter().zip(&items).map(durable).collect()
    }

    /// Syncs all at once, if they are on one file system and it can.
    #[cfg(target_os = "linux")]
    fn sync_together(&self, items: &[FinishItem]) -> bool {
        let device = |file: &File| file.metadata().ok().map(|meta| meta.dev());
        let here = device(&self.root);
        here.is_some()
            && items.iter().all(|item| device(&item.part.file) == here)
            && rustix::fs::syncfs(&self.root).is_ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_together(&self, _: &[FinishItem]) -> bool {
        false
    }

    fn rename(&self, item: &FinishItem) -> Result<(), FinishError> {
        part_name(&item.dest)?;
        let part = part_name(&item.part.dest)?;
        let from = jail::parent(&self.root, &item.part.dest, false)?;
        jail::refuse_state(&self.root, &item.dest)?;
        let to = jail::parent(&self.root, &item.dest, true)?;
        let name = item.dest.name();
        // Somebody else's part may have come to lie under this name; what was verified is what is held open.
        let there = match statat(&from, &part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Some((there.st_dev, there.st_ino)),
            // Another download to the same place made it its own.
            Err(Errno::NOENT) => None,
            Err(error) => return Err(DiskError::of(error, &part).into()),
        };
        let held = item.part.file.metadata().map_err(|error| item.part.failed(error))?;
        if there != Some((held.dev(), held.ino())) {
            return Err(DiskError::Unfinished(item.part.dest.to_string()).into());
        }
        let renamed = match item.replace {
            true => renameat(&from, &part, &to, name),
            false => rename_to_free_name(&from, &part, &to, name),
        };
        renamed.map_err(|error| match error {
            Errno::EXIST | Errno::ISDIR => FinishError::AlreadyThere(item.dest.clone()),
            error => DiskError::of(error, item.dest.as_str()).into(),
        })
    }
}

fn rename_to_free_name(from: &File, part: &str, to: &File, name: &str) -> Result<(), Errno> {
    match renameat_with(from, part, to, name, RenameFlags::NOREPLACE) {
        // Some network file systems cannot; looking first leaves a moment in which a file of that name would be lost.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => renameat(from, part, to, name),
            Ok(_) => Err(Errno::EXIST),
            Err(error) => Err(error),
        },
        renamed => renamed,
    }
}

/// Gives a part the owner's time and mode. A disk that can't hold them holds the file nevertheless.
fn dress(item: &FinishItem) {
    let file = &item.part.file;
    if item.executable
        && let Ok(meta) = file.metadata()
    {
        let mode = meta.permissions().mode();
        let _ = file.set_permissions(Permissions::from_mode(mode | (mode & 0o444) >> 2));
    }
    if let Some(time) = system_time(item.mtime_ms) {
        let _ = file.set_modified(time);
    }
}

pub(super) fn system_time(ms: i64) -> Option<SystemTime> {
    let since = Duration::from_millis(ms.unsigned_abs());
    if ms < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) }
}

/// The folders that were synced in a batch, each once.
#[derive(Default)]
pub(super) struct SyncedFolders(HashSet<String>);

impl SyncedFolders {
    /// Syncs all folders that `dest` lies in, for each of them may be new.
    pub(super) fn sync_above(&mut self, root: &File, dest: &RelPath) -> Result<(), DiskError> {
        let mut path = dest.as_str();
        while !path.is_empty() {
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
            if self.0.contains(path) {
                continue;
            }
            let folder = jail::open_below(root, path, dest, false)?;
            match folder.sync_all() {
                // Some file systems have no sync of folders.
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                    return Err(DiskError::of(error, dest.as_str()));
                }
                _ => self.0.insert(path.to_owned()),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{folder, rel};
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn item(folder: &Folder, dest: &str, bytes: &[u8]) -> FinishItem {
        let part = folder.create_part(&rel(dest), bytes.len() as u64).unwrap();
        part.write_at(0, bytes).unwrap();
        FinishItem { part, dest: rel(dest), mtime_ms: 1_500_000_000_123, executable: false, replace: false }
    }

    #[test]
    fn another_downloads_part_is_not_taken_for_the_own_one() {
        let (dir, folder) = folder();
        let own = item(&folder, "film", b"mine");
        folder.remove_part(&rel("film")).unwrap();
        let other = item(&folder, "film", b"half");
        assert!(matches!(folder.finish(own), Err(FinishError::Disk(DiskError::Unfinished(_)))));
        assert!(!dir.path().join("downloads/film").exists());
        let late = item(&folder, "late", b"same");
        folder.remove_part(&rel("late")).unwrap();
        let gone = folder.finish(late);
        assert!(matches!(gone, Err(FinishError::Disk(DiskError::Unfinished(_)))), "{gone:?}");
        folder.finish(other).unwrap();
        assert_eq!(fs::read(dir.path().join("downloads/film")).unwrap(), b"half");
    }

    #[test]
    fn a_finished_file_has_its_name_time_and_mode() {
        let (dir, folder) = folder();
        let root = dir.path().join("downloads");
        folder.finish(item(&folder, "a/plain", b"plain")).unwrap();
        folder.finish(FinishItem { executable: true, mtime_ms: -1, ..item(&folder, "a/tool", b"tool") }).unwrap();
        folder.finish(FinishItem { mtime_ms: i64::MIN, ..item(&folder, "a/odd", b"") }).unwrap();
        assert_eq!(fs::read(root.join("a/plain")).unwrap(), b"plain");
        let (plain, tool) = (root.join("a/plain").metadata().unwrap(), root.join("a/tool").metadata().unwrap());
        assert_eq!((plain.mtime(), plain.mtime_nsec()), (1_500_000_000, 123_000_000));
        assert_eq!((tool.mtime(), tool.mtime_nsec()), (-1, 999_000_000));
        assert_eq!((plain.mode() & 0o111, tool.mode() & 0o100), (0, 0o100));
        assert_eq!(tool.mode() & 0o111, (tool.mode() & 0o444) >> 2);
        assert_eq!(fs::read_dir(root.join("a")).unwrap().count(), 3);
    }

    #[test]
    fn nothing_is_replaced_unasked() {
        let (dir, folder) = folder();
        let root = dir.path().join("downloads");
        fs::write(root.join("file"), b"mine").unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        symlink("nowhere", root.join("link")).unwrap();
        for dest in ["file", "folder", "link"] {
            let refused = folder.finish(item(&folder, dest, b"new"));
            assert!(matches!(refused, Err(FinishError::AlreadyThere(_))), "{dest} {refused:?}");
        }
        assert_eq!(fs::read(root.join("file")).unwrap(), b"mine");

        let part = folder.open_part(&rel("file"), 3).unwrap().unwrap();
        let renamed = FinishItem { part, dest: rel("new/name"), mtime_ms: 0, executable: false, replace: false };
        folder.finish(renamed).unwrap();
        assert_eq!(fs::read(root.join("new/name")).unwrap(), b"new");
        assert!(!root.join("file.bwpart").exists());
    }

    #[test]
    fn replacing_takes_files_and_links_but_no_folders() {
        let (dir, folder) = folder();
        let root = dir.path().join("downloads");
        fs::write(root.join("file"), b"old").unwrap();
        fs::write(dir.path().join("victim"), b"mine").unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        symlink("../victim", root.join("link")).unwrap();
        let finish = |dest| folder.finish(FinishItem { replace: true, ..item(&folder, dest, b"new") });
        finish("file").unwrap();
        finish("link").unwrap();
        assert!(matches!(finish("folder"), Err(FinishError::AlreadyThere(_))));
        assert_eq!(fs::read(root.join("file")).unwrap(), b"new");
        assert!(root.join("link").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"mine");
    }

    #[test]
    fn a_batch_fails_only_where_it_must() {
        let (dir, folder) = folder();
        let root = dir.path().join("downloads");
        let mut items: Vec<_> = (0..20).map(|n| item(&folder, &format!("d{}/f{n}", n % 3), b"content")).collect();
        fs::write(root.join("d0/f3"), b"mine").unwrap();
        items[5].dest = rel("x.bwpart");
        fs::rename(root.join("d1"), dir.path().join("outside")).unwrap();
        symlink("../outside", root.join("d1")).unwrap();
        let results = folder.finish_many(items);
        for (n, result) in results.iter().enumerate() {
            match n {
                3 => assert!(matches!(result, Err(FinishError::AlreadyThere(_))), "{result:?}"),
                5 => assert!(matches!(result, Err(FinishError::Disk(DiskError::Reserved(_)))), "{result:?}"),
                _ if n % 3 == 1 => assert!(matches!(result, Err(FinishError::Disk(DiskError::Jail(_)))), "{result:?}"),
                _ => assert_eq!(fs::read(root.join(format!("d{}/f{n}", n % 3))).unwrap(), b"content"),
            }
        }
        assert!(!dir.path().join("outside/f1").exists());
    }
}
