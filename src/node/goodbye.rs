//! The end of a device that has left its group: its keys and all that it knew of the group are deleted, and the state
//! directory says so from then on.
//!
//! The mark comes first. So a process that is killed in between deletes the rest at its next start.

use super::identity::state_error;
use super::local::{ErrorCode, LocalError, now_rfc3339};
use crate::store::copies::COPIES_NAME;
use crate::store::statedir::StateDir;

/// The mark of a directory whose device has left: the time.
pub const LEFT_FILE: &str = "left";

/// What goes: keys, the database with its journals, and what is of no use without them.
const ERASED: [&str; 8] = ["group", "identity", "quic", "member.db-wal", "member.db-shm", "member.db", "port", "role"];

/// Marks the directory, and deletes what must not outlive the device; copies that bailiwick made of shared files, too.
/// What was fetched stays.
pub fn erase(dir: &StateDir) -> Result<(), LocalError> {
    dir.write_secret(LEFT_FILE, now_rfc3339().as_bytes()).map_err(state_error)?;
    delete(dir)
}

/// Refuses the directory of a device that has left.
pub(super) fn check(dir: &StateDir) -> Result<(), LocalError> {
    match dir.read_secret(LEFT_FILE).map_err(state_error)? {
        None => Ok(()),
        Some(when) => {
            delete(dir)?;
            Err(has_left(&when))
        }
    }
}

fn delete(dir: &StateDir) -> Result<(), LocalError> {
    match std::fs::remove_dir_all(dir.path(COPIES_NAME)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the copies of shared files can't be deleted");
        }
        _ => {}
    }
    dir.delete(&ERASED).map_err(state_error)
}

/// The error for a directory with this mark.
pub fn has_left(when: &[u8]) -> LocalError {
    LocalError::new(
        ErrorCode::Refused,
        format!("the device of this state directory left its group at {}, for ever", String::from_utf8_lossy(when)),
        "for a new device use a new state directory (--state or --profile) and a new invite; this one can be deleted",
    )
}
