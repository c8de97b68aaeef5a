//! Opening below a directory handle. Each component is opened by itself from the handle of the one before and never
//! through a link; a component of a [`RelPath`] is never `..`. So every handle lies below the first, also while someone
//! exchanges folders for links.

use super::DiskError;
use crate::wire::path::RelPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;
use std::fs::File;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe in a file's place neither is waited for nor passes.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The folder that `dest` lies in; with `create`, made if missing.
pub(super) fn parent(root: &File, dest: &RelPath, create: bool) -> Result<File, DiskError> {
    let above = dest.components().count() - 1;
    open_below(root, dest.components().take(above), dest, create)
}

/// The folder that `components` lead to, which are some of `dest`'s; with `create`, made if missing.
pub(super) fn open_below<'a>(
    root: &File,
    components: impl Iterator<Item = &'a str>,
    dest: &RelPath,
    create: bool,
) -> Result<File, DiskError> {
    let mut folder = root.try_clone().map_err(|error| DiskError::of(error, dest.as_str()))?;
    for name in components {
        folder = enter(&folder, name, create).map_err(|error| blocked(&folder, name, error, dest))?;
    }
    Ok(folder)
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
