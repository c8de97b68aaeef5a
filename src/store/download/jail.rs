//! Opening below a directory handle. Each component is opened by itself from the handle of the one before and never
//! through a link; a component of a [`RelPath`] is never `..`. So every handle lies below the first, also while someone
//! exchanges folders for links. Linux does the same in one call, where there is nothing to make and nothing to explain.

use super::DiskError;
use crate::store::statedir::looks_like_state;
use crate::wire::path::RelPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;
use std::fs::File;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe in a file's place neither is waited for nor passes.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The folder that `dest` lies in; with `create`, made if missing.
pub(super) fn parent(root: &File, dest: &RelPath, create: bool) -> Result<File, DiskError> {
    open_below(root, above(dest), dest, create)
}

fn above(dest: &RelPath) -> &str {
    dest.as_str().rsplit_once('/').map_or("", |(above, _)| above)
}

/// Refuses a destination in a state directory at any depth: this node's, another profile's, or a copy of one.
pub(super) fn refuse_state(root: &File, dest: &RelPath) -> Result<(), DiskError> {
    let above = above(dest);
    let ends = above.match_indices('/').map(|(end, _)| end).chain([above.len()]);
    let mut folders = std::iter::once("").chain(ends.map(|end| &above[..end]).filter(|path| !path.is_empty()));
    let is_state = |folder: &str| {
        looks_like_state(|name| match folder {
            "" => statat(root, name, AtFlags::empty()).is_ok(),
            folder => statat(root, format!("{folder}/{name}"), AtFlags::empty()).is_ok(),
        })
    };
    if folders.any(is_state) { Err(DiskError::State(dest.to_string())) } else { Ok(()) }
}

/// The folder `path` (empty for `root` itself), which is `dest` or above it; with `create`, made if missing.
pub(super) fn open_below(root: &File, path: &str, dest: &RelPath, create: bool) -> Result<File, DiskError> {
    if let Some(folder) = open_at_once(root, path) {
        return Ok(folder);
    }
    let mut folder = root.try_clone().map_err(|error| DiskError::of(error, dest.as_str()))?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        folder = enter(&folder, name, create).map_err(|error| blocked(&folder, name, error, dest))?;
    }
    Ok(folder)
}

/// None on any error, also that of kernels and sandboxes which don't know this call.
#[cfg(target_os = "linux")]
fn open_at_once(root: &File, path: &str) -> Option<File> {
    use rustix::fs::{ResolveFlags, openat2};
    let path = if path.is_empty() { "." } else { path };
    openat2(root, path, FOLDER, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn open_at_once(_: &File, _: &str) -> Option<File> {
    None
}

/// Opens the regular file `name` of a folder.
pub(super) fn open_file(folder: &File, name: &str, flags: OFlags, shown: &str) -> Result<File, DiskError> {
    let mode = Mode::from_raw_mode(0o644);
    let file = openat(folder, name, FILE | flags, mode).map_err(|error| DiskError::of(error, shown))?;
    let file = File::from(file);
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(DiskError::InTheWay(shown.to_owned())),
        Err(error) => Err(DiskError::of(error, shown)),
    }
}

fn enter(folder: &File, name: &str, create: bool) -> Result<File, Errno> {
    let open = || openat(folder, name, FOLDER, Mode::empty()).map(File::from);
    match open() {
        Err(Errno::NOENT) if create => match mkdirat(folder, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => open(),
            Err(error) => Err(error),
        },
        opened => opened,
    }
}

/// Linux says "not a directory" of a link as of a file.
fn blocked(folder: &File, name: &str, error: Errno, dest: &RelPath) -> DiskError {
    let is_link = |mode| FileType::from_raw_mode(mode) == FileType::Symlink;
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if error == Errno::NOTDIR && is_link(stat.st_mode) => DiskError::Jail(dest.to_string()),
        _ => DiskError::of(error, dest.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rel;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn both_ways_of_opening_agree() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("../outside", dir.path().join("root/out")).unwrap();
        symlink("b", dir.path().join("root/a/inside")).unwrap();
        fs::write(dir.path().join("root/file"), b"").unwrap();
        let root = File::open(dir.path().join("root")).unwrap();
        for path in ["a", "a/b", "out", "a/inside", "a/inside/x", "file", "file/x", "gone"] {
            let by_steps = path.split('/').try_fold(root.try_clone().unwrap(), |at, name| enter(&at, name, false));
            assert_eq!(by_steps.is_ok(), ["a", "a/b"].contains(&path), "{path}");
            if cfg!(target_os = "linux") {
                assert_eq!(open_at_once(&root, path).is_some(), by_steps.is_ok(), "{path}");
            }
            assert_eq!(open_below(&root, path, &rel(path), false).is_ok(), by_steps.is_ok(), "{path}");
        }
        assert!(open_below(&root, "", &rel("x"), false).is_ok());
    }
}
