//! `api.json`: where a running node's local API is, and the token that opens it.
//!
//! It is there while the node serves. After a kill it stays behind, so a reader checks that its process lives.

use crate::node::goodbye::{has_left, mark};
use crate::node::identity::state_error;
use crate::node::local::{ErrorCode, LocalError};
use crate::node::run::ROLE_FILE;
use crate::store::statedir::{StateDir, StateError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file's name in the state directory.
pub const API_FILE: &str = "api.json";

/// Why the last node ended, if it ended by an error.
const FAILURE_FILE: &str = "last-error.json";

/// What `api.json` holds. No `Debug`: it holds the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiPlace {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// 64 hexadecimal digits, new at each start.
    pub token: String,
    /// The node's process.
    pub pid: u32,
}

impl ApiPlace {
    /// Writes the file, readable by this user alone.
    pub fn write(&self, dir: &StateDir) -> Result<(), StateError> {
        dir.write_secret(API_FILE, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the file of a node that runs.
    pub fn read(state_dir: &Path) -> Result<ApiPlace, LocalError> {
        if state_dir.is_file() {
            return Err(state_error(StateError::NotAFolder(state_dir.display().to_string())));
        }
        let bytes = std::fs::read(path(state_dir)).map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => not_ours(state_dir),
            _ => unreachable(state_dir),
        })?;
        let place: ApiPlace = serde_json::from_slice(&bytes).map_err(|_| unreachable(state_dir))?;
        if is_alive(place.pid) { Ok(place) } else { Err(unreachable(state_dir)) }
    }

    /// Removes the file of this process, which holds the directory.
    pub fn remove(dir: &StateDir) {
        let _ = std::fs::remove_file(dir.path(API_FILE));
    }
}

fn not_ours(state_dir: &Path) -> LocalError {
    LocalError::new(
        ErrorCode::Failed,
        format!("no permission to read {}", path(state_dir).display()),
        "run it as the user who started the node, or choose another state directory with --state or --profile",
    )
}

/// Why there is no way to a node: there is none, or it has not said yet where it is.
fn unreachable(state_dir: &Path) -> LocalError {
    let Some(pid) = StateDir::holder(state_dir) else { return not_running(state_dir) };
    let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    LocalError::new(
        ErrorCode::NotNow,
        format!("the node of {}{process} is starting, or its {API_FILE} was deleted", state_dir.display()),
        format!("it writes {API_FILE} within a second or two: then do it again"),
    )
}

/// The error for a state directory that no node serves.
pub fn not_running(state_dir: &Path) -> LocalError {
    if let Ok(Some(when)) = mark(state_dir) {
        return LocalError { code: ErrorCode::NotRunning, ..has_left(&when) };
    }
    if let Some(last) = last_failure(state_dir) {
        let error = format!("no node runs for {}; the last one ended: {}", state_dir.display(), last.error);
        return LocalError::new(ErrorCode::NotRunning, error, last.hint);
    }
    let hint = match role(state_dir) {
        Some(role) => format!("start it again: `bailiwick {role} -d`"),
        None => "start one with `bailiwick master` or `bailiwick client INVITE`, or name its directory with --state"
            .to_owned(),
    };
    LocalError::new(ErrorCode::NotRunning, format!("no node runs for {}", state_dir.display()), hint)
}

/// What the directory's node is: the command that starts it.
fn role(state_dir: &Path) -> Option<&'static str> {
    let kept = StateDir::peek(state_dir, ROLE_FILE).ok()??;
    ["server", "master", "client"].into_iter().find(|role| kept == role.as_bytes())
}

/// Keeps why a node ended, until the next one serves.
pub fn keep_failure(dir: &StateDir, error: &LocalError) {
    let _ = dir.write_secret(FAILURE_FILE, &serde_json::to_vec(error).unwrap_or_default());
}

/// A node serves: what happened before is past.
pub fn forget_failure(dir: &StateDir) {
    let _ = std::fs::remove_file(dir.path(FAILURE_FILE));
}

fn last_failure(state_dir: &Path) -> Option<LocalError> {
    serde_json::from_slice(&StateDir::peek(state_dir, FAILURE_FILE).ok()??).ok()
}

/// Whether a process runs. One that has ended and that nobody has waited for does not.
pub fn is_alive(pid: u32) -> bool {
    if cfg!(target_os = "linux") {
        return std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !has_ended(&stat));
    }
    answers_signals(pid)
}

/// The state is the field after the command's name, which stands in brackets and may hold anything (proc(5)).
fn has_ended(stat: &str) -> bool {
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn answers_signals(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(API_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_leaves_no_running_node() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temporary.path()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let place = ApiPlace { url: "http://127.0.0.1:1".into(), token: "00".into(), pid: child.id() };
        place.write(&dir).unwrap();
        child.wait().unwrap();
        let code = || ApiPlace::read(temporary.path()).err().unwrap().code;
        assert_eq!(code(), ErrorCode::NotNow, "who holds the directory is about to say where it is");
        drop(dir);
        assert_eq!(code(), ErrorCode::NotRunning);
        let dir = StateDir::open(temporary.path()).unwrap();
        let place = ApiPlace { pid: std::process::id(), ..place };
        place.write(&dir).unwrap();
        assert!(ApiPlace::read(temporary.path()).ok().unwrap() == place);
        ApiPlace::remove(&dir);
        drop(dir);
        assert_eq!(code(), ErrorCode::NotRunning);
    }

    #[test]
    fn zombies_have_ended() {
        assert!(has_ended("12 (a) b) Z 1 2"));
        assert!(!has_ended("12 (Z) S 1 2"));
    }
}
