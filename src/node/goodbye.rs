//! The end of a device that has left its group: its keys and all that it knew of the group are deleted, and the state
//! directory says so from then on.
//!
//! The mark comes first. So a process that is killed in between deletes the rest at its next start.

use super::identity::state_error;
use super::local::{ErrorCode, LocalError, now_rfc3339};
use super::run::{MEMBER_DB, ROLE_FILE};
use crate::store::copies::COPIES_NAME;
use crate::store::member::{DbError, MemberStore};
use crate::store::statedir::{StateDir, StateError};
use crate::wire::path::RelPath;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The mark of a directory whose device has left: the time.
pub const LEFT_FILE: &str = "left";

/// What goes: keys, the database with its journals, and what is of no use without them.
const ERASED: [&str; 8] = ["group", "identity", "quic", "member.db-wal", "member.db-shm", "member.db", "port", "role"];

/// In the folder of copies: which copy is of which file.
const CONTENTS_FILE: &str = "contents.txt";

/// Copies of shared files that outlive the device: they may be the last there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCopies {
    /// The folder in which they lie.
    pub folder: PathBuf,
    /// How many they are.
    pub count: u64,
}

impl KeptCopies {
    /// Those in a state directory, if there are any.
    pub fn of(state_dir: &Path) -> Option<KeptCopies> {
        let folder = state_dir.join(COPIES_NAME);
        let entries = std::fs::read_dir(&folder).ok()?.flatten();
        // Names with an end are those of copies that are not whole, and of the list.
        let count = entries.filter(|entry| entry.path().extension().is_none()).count() as u64;
        (count > 0).then_some(KeptCopies { folder, count })
    }
}

/// Marks the directory, and deletes what must not outlive the device. Copies that bailiwick made of shared files stay,
/// with a list of their names, and so does what was fetched.
pub fn erase(dir: &StateDir) -> Result<(), LocalError> {
    dir.write_secret(LEFT_FILE, now_rfc3339().as_bytes()).map_err(state_error)?;
    delete(dir)
}

/// Refuses the directory of a device that has left.
pub(super) fn check(dir: &StateDir) -> Result<(), LocalError> {
    match mark(&dir.path("")).map_err(state_error)? {
        None => Ok(()),
        Some(when) => {
            delete(dir)?;
            Err(has_left(&when))
        }
    }
}

/// When the device of a state directory left its group, if it did. Keys are deleted on this word, so nothing but what
/// [`erase`] writes counts, and a master can't leave.
pub fn mark(state_dir: &Path) -> Result<Option<Vec<u8>>, StateError> {
    let Some(when) = StateDir::peek(state_dir, LEFT_FILE)? else { return Ok(None) };
    let is_time = std::str::from_utf8(&when).is_ok_and(|text| OffsetDateTime::parse(text, &Rfc3339).is_ok());
    let is_master = StateDir::peek(state_dir, ROLE_FILE)?.as_deref() == Some(b"master");
    if is_time && !is_master {
        return Ok(Some(when));
    }
    tracing::warn!("the file '{LEFT_FILE}' in the state directory is not bailiwick's: nothing is done about it");
    Ok(None)
}

fn delete(dir: &StateDir) -> Result<(), LocalError> {
    if let Err(error) = list_copies(dir) {
        // Keys that stay would be worse than copies without names.
        tracing::warn!(%error, "the names of the copies of shared files can't be kept");
    }
    dir.delete(&ERASED).map_err(state_error)
}

fn list_copies(dir: &StateDir) -> Result<(), DbError> {
    let database = dir.path(MEMBER_DB);
    let Some(kept) = KeptCopies::of(&dir.path("")).filter(|_| database.exists()) else { return Ok(()) };
    let list = list_of(&MemberStore::open(&database)?.copies()?);
    Ok(std::fs::write(kept.folder.join(CONTENTS_FILE), list)?)
}

/// A line for each copy: its name here, and the path under which it was shared.
fn list_of(copies: &[(PathBuf, RelPath)]) -> String {
    let line = |(copy, path): &(PathBuf, RelPath)| {
        let name = copy.file_name().unwrap_or_default();
        format!("{}  {path}\n", name.display())
    };
    copies.iter().map(line).collect()
}

/// The error for a directory with this mark.
pub fn has_left(when: &[u8]) -> LocalError {
    LocalError::new(
        ErrorCode::Refused,
        format!("the device of this state directory left its group at {}, for ever", String::from_utf8_lossy(when)),
        "for a new device use a new state directory (--state or --profile) and a new invite; this one can be deleted",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::identity::IDENTITY_FILE;

    #[test]
    fn keys_are_deleted_on_no_other_word_than_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let there = || dir.path(IDENTITY_FILE).exists();
        dir.write_secret(IDENTITY_FILE, b"keys").unwrap();
        for (role, mark) in [("client", "x\n"), ("client", ""), ("master", "2026-11-28T12:00:00Z")] {
            dir.write_secret(ROLE_FILE, role.as_bytes()).unwrap();
            dir.write_secret(LEFT_FILE, mark.as_bytes()).unwrap();
            assert!(check(&dir).is_ok() && there(), "{role} {mark:?}");
        }
        dir.write_secret(ROLE_FILE, b"client").unwrap();
        erase(&dir).unwrap();
        assert!(!there());
        assert_eq!(check(&dir).unwrap_err().code, ErrorCode::Refused);
    }
}
