//! Copies of shared files that bailiwick keeps (`add --copy`), in a folder of the state directory that only its user can
//! read. A copy has its name only once it is whole and synced; whatever else lies there is of nobody and goes at the next
//! start.

use super::download::SPACE_RESERVE_BYTES;
use crate::wire::ids::{ContentId, hex};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder's name in the state directory.
pub const COPIES_NAME: &str = "copies";
/// The end of the name of a copy that is not whole yet.
const UNFINISHED: &str = ".new";

/// Why a copy was not made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// No room.
    #[error("no room for a copy of it: free some space on the disk with the state directory, and add it again")]
    Full,
    /// It changed while it was copied.
    #[error("it changes while it is copied: add it again when nothing writes to it")]
    Changed,
    /// Anything else.
    #[error("it can't be copied: {0}")]
    Io(io::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> CopyError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CopyError::Full,
            _ => CopyError::Io(error),
        }
    }
}

/// The folder of copies.
#[derive(Debug, Clone)]
pub struct Copies(PathBuf);

impl Copies {
    /// That of a state directory.
    pub fn of(state_dir: &Path) -> Copies {
        Copies(state_dir.join(COPIES_NAME))
    }

    /// Where the copy of a content lies.
    pub fn path(&self, content: &ContentId) -> PathBuf {
        self.0.join(hex(&content.0))
    }

    /// Makes a copy: where the file system can, without copying a byte. It is on the disk when this returns.
    pub fn make(&self, from: &Path, content: &ContentId) -> Result<PathBuf, CopyError> {
        self.make_with(from, content, SPACE_RESERVE_BYTES)
    }

    fn make_with(&self, from: &Path, content: &ContentId, reserve: u64) -> Result<PathBuf, CopyError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let target = self.path(content);
        let unfinished = target.with_extension(&UNFINISHED[1..]);
        let made = self.fill(from, &unfinished, reserve).and_then(|()| {
            fs::rename(&unfinished, &target)?;
            Ok(File::open(&self.0)?.sync_all()?)
        });
        if let Err(error) = made {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        Ok(target)
    }

    fn fill(&self, from: &Path, to: &Path, reserve: u64) -> Result<(), CopyError> {
        let _ = fs::remove_file(to);
        let before = fs::symlink_metadata(from)?;
        let room = rustix::fs::statvfs(&self.0).map_err(io::Error::from)?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        // A copy that shares its blocks needs none, but whether it does is only known afterwards.
        if free < before.len().saturating_add(reserve) && reflink_copy::reflink(from, to).is_err() {
            return Err(CopyError::Full);
        } else if !to.exists() {
            reflink_copy::reflink_or_copy(from, to)?;
        }
        let file = File::options().read(true).write(true).open(to).or_else(|_| {
            fs::set_permissions(to, Permissions::from_mode(0o600))?;
            File::options().read(true).write(true).open(to)
        })?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_modified(before.modified().unwrap_or(SystemTime::UNIX_EPOCH))?;
        let after = fs::symlink_metadata(from)?;
        let same = before.len() == after.len() && before.modified().ok() == after.modified().ok();
        if !same || file.metadata()?.len() != before.len() {
            return Err(CopyError::Changed);
        }
        Ok(file.sync_all()?)
    }

    /// Removes what is not whole, and gives the contents that copies here are of. None if there is no such folder.
    pub fn tidy(&self) -> io::Result<Vec<(ContentId, PathBuf)>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut there = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match content_of(name) {
                Some(content) => there.push((content, path)),
                None if name.ends_with(UNFINISHED) => drop(fs::remove_file(&path)),
                None => {}
            }
        }
        Ok(there)
    }

    /// Removes copies. Whatever lies elsewhere is a person's own, and stays.
    pub fn remove(&self, copies: &[PathBuf]) {
        for copy in copies.iter().filter(|copy| copy.parent() == Some(&self.0)) {
            if let Err(error) = fs::remove_file(copy) {
                tracing::debug!(%error, "a copy stays");
            }
        }
    }
}

fn content_of(name: &str) -> Option<ContentId> {
    let bytes = data_encoding::HEXLOWER.decode(name.as_bytes()).ok()?;
    bytes.try_into().ok().map(ContentId)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ContentId = ContentId([1; 16]);

    fn place() -> (tempfile::TempDir, Copies, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"content").unwrap();
        let copies = Copies::of(&dir.path().join("state"));
        (dir, copies, file)
    }

    #[test]
    fn a_copy_is_whole_private_and_as_old_as_the_file() {
        let (_dir, copies, file) = place();
        fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
        let copy = copies.make(&file, &ONE).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"content");
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(copy.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(copies.tidy().unwrap(), [(ONE, copy.clone())]);
        copies.remove(&[copy]);
        assert_eq!(copies.tidy().unwrap(), []);
    }

    #[test]
    fn a_full_disk_leaves_nothing_behind() {
        let (_dir, copies, file) = place();
        let made = copies.make_with(&file, &ONE, u64::MAX);
        // A file system that shares blocks needs no room.
        if let Err(error) = made {
            assert!(matches!(error, CopyError::Full), "{error}");
            assert_eq!(fs::read_dir(&copies.0).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_not_whole_goes_and_what_is_not_a_copy_is_never_removed() {
        let (_dir, copies, file) = place();
        copies.make(&file, &ONE).unwrap();
        fs::write(copies.path(&ContentId([2; 16])).with_extension("new"), b"half").unwrap();
        assert_eq!(copies.tidy().unwrap().len(), 1);
        assert_eq!(fs::read_dir(&copies.0).unwrap().count(), 1);
        copies.remove(std::slice::from_ref(&file));
        assert!(file.exists());
    }
}
