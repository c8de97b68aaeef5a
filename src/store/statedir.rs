//! The state directory: keys, database and the local API's token. One process at a time holds it, by a lock that ends
//! with the process however it ends; secrets are readable by their user alone from their first byte on.

use super::walk::shown;
use rustix::fs::OFlags;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK_NAME: &str = "lock";
/// Files that hold private keys: what makes a folder with one of `BESIDE_KEYS` a state directory.
const KEY_FILES: [&str; 2] = ["identity", "server-identity"];
/// What lies beside them. A copy may lack some.
const BESIDE_KEYS: [&str; 6] = [LOCK_NAME, "role", "quic", "server-quic", "member.db", "server.db"];
/// How often a lock that another process holds is tried again, and the pause between: half a second in all.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);
/// Bytes of the lock file that are read: a process id in decimal digits.
const LOCK_BYTES_MAX: u64 = 16;

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process holds it.
    #[error("a node is already running with the state directory {path}{}: stop it first, or choose another directory with --state", holder(.pid))]
    InUse {
        /// The directory.
        path: String,
        /// The process that holds it, if it could be read.
        pid: Option<u32>,
    },
    /// Something else has the name.
    #[error("{0} is not a folder: move it away, or choose another state directory with --state")]
    NotAFolder(String),
    /// No permission.
    #[error(
        "no permission for {0}: it must belong to the user who runs bailiwick; or choose another directory with --state"
    )]
    Denied(String),
    /// No space.
    #[error("the disk with the state directory {0} is full: free some space")]
    Full(String),
    /// Anything else.
    #[error("{path}: {source}")]
    Io {
        /// What was worked on.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl StateError {
    fn of(path: &Path) -> impl Fn(io::Error) -> StateError {
        let path = shown(path);
        move |source| match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => StateError::NotAFolder(path.clone()),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StateError::Denied(path.clone()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StateError::Full(path.clone()),
            _ => StateError::Io { path: path.clone(), source },
        }
    }
}

/// A state directory that this process holds until the value is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl StateDir {
    /// Opens the directory, made with mode 0700 if missing, and takes its lock. One that is there gets that mode if it is
    /// empty; else it keeps its own.
    pub fn open(path: &Path) -> Result<StateDir, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StateError::of(path))?;
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) {
            let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
        }
        warn_if_open(path);
        let lock_path = path.join(LOCK_NAME);
        let failed = StateError::of(&lock_path);
        let mut lock = private().read(true).create(true).open(&lock_path).map_err(&failed)?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::InUse { path: shown(path), pid: read_pid(&lock) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
        Ok(StateDir { path: path.to_owned(), _lock: lock })
    }

    /// Whether a process holds the directory; its id, if it can be read.
    pub fn holder(path: &Path) -> Option<Option<u32>> {
        let lock = File::open(path.join(LOCK_NAME)).ok()?;
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_pid(&lock)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    /// Reads a file of a state directory that another process may hold; none if there is no such file.
    pub fn peek(path: &Path, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::of(&path)(error)),
        }
    }

    /// Where the file `name` of this directory lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a secret; none if there is none of this name.
    pub fn read_secret(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        StateDir::peek(&self.path, name)
    }

    /// Writes a secret with mode 0600. Afterwards, also after a power loss, there is all of it or all of the one before.
    pub fn write_secret(&self, name: &str, secret: &[u8]) -> Result<(), StateError> {
        let path = self.path(name);
        let temporary = self.path(&format!("{name}.new"));
        self.replace(&path, &temporary, secret).map_err(StateError::of(&path))
    }

    /// Deletes files, if they are there. It returns when the directory is synced.
    pub fn delete(&self, names: &[&str]) -> Result<(), StateError> {
        for name in names.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.new")]) {
            let path = self.path(&name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StateError::of(&path)(error)),
                _ => {}
            }
        }
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(StateError::of(&self.path))
    }

    fn replace(&self, path: &Path, temporary: &Path, secret: &[u8]) -> io::Result<()> {
        // One left by a crash may have any mode.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private().create_new(true).open(temporary)?;
        file.write_all(secret)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        sync_folder(&self.path)
    }
}

/// Makes a file that only its user may read; an error if there is one.
pub fn create_new_private(path: &Path) -> io::Result<File> {
    private().create_new(true).open(path)
}

/// Opens a file that only its user may read, and makes it if there is none.
pub fn open_private(path: &Path) -> io::Result<File> {
    private().read(true).create(true).open(path)
}

/// Puts a folder's names on disk.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Opens for writing what only its user may read, never through a link.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

/// A folder that was there before has the mode that a person gave it.
fn warn_if_open(path: &Path) {
    if fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0) {
        let path = shown(path);
        tracing::warn!("other users can look into the state directory {path}, which holds keys: chmod 700 {path}");
    }
}

fn read_pid(mut lock: &File) -> Option<u32> {
    let mut text = String::new();
    Read::by_ref(&mut lock).take(LOCK_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A process that was killed holds its lock until its last thread has ended: who starts it again at once waits for that.
fn lock_soon(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    lock.try_lock()
}

/// Whether a path leads into a state directory, or would once it is there.
pub fn is_in_state(path: &Path) -> bool {
    let there = path.ancestors().find_map(|above| above.canonicalize().ok());
    there.is_some_and(|there| there.ancestors().any(|folder| looks_like_state(|name| folder.join(name).exists())))
}

/// Whether the names of a folder's entries are those of a state directory: this node's, another profile's or a backup.
/// Nothing in it may be shared, and nothing is fetched into it.
pub fn looks_like_state(mut has: impl FnMut(&str) -> bool) -> bool {
    KEY_FILES.iter().any(|name| has(name)) && BESIDE_KEYS.iter().any(|name| has(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: impl AsRef<Path>) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn one_process_holds_a_directory_until_it_drops_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/state");
        let state = StateDir::open(&path).unwrap();
        assert_eq!((mode(&path), mode(path.join("lock"))), (0o700, 0o600));
        let Err(error @ StateError::InUse { pid, .. }) = StateDir::open(&path) else { panic!("two hold it") };
        assert_eq!(pid, Some(std::process::id()));
        assert_eq!(StateDir::holder(&path), Some(pid));
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        drop(state);
        assert_eq!(StateDir::holder(&path), None);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_was_there_is_closed_to_others_if_nothing_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let opened = |name: &str, file: Option<&str>| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            file.into_iter().for_each(|file| fs::write(path.join(file), b"").unwrap());
            drop(StateDir::open(&path).unwrap());
            mode(&path)
        };
        assert_eq!(opened("empty", None), 0o700);
        assert_eq!(opened("used", Some("mine")), 0o755);
    }

    #[test]
    fn a_lock_whose_holder_is_unreadable_is_held_nevertheless() {
        let dir = tempfile::tempdir().unwrap();
        let _state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("lock"), b"\xff").unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::InUse { pid: None, .. })));
    }

    #[test]
    fn secrets_are_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.read_secret("key").unwrap(), None);
        // What a crash may have left.
        fs::write(state.path("key.new"), b"half").unwrap();
        fs::set_permissions(state.path("key.new"), fs::Permissions::from_mode(0o644)).unwrap();
        for secret in [b"first".as_slice(), b"second, longer", b""] {
            state.write_secret("key", secret).unwrap();
            assert_eq!(state.read_secret("key").unwrap().as_deref(), Some(secret));
            assert_eq!(mode(state.path("key")), 0o600);
        }
        assert!(!state.path("key.new").exists());
        assert_eq!(StateDir::peek(dir.path(), "key").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(StateDir::peek(&dir.path().join("none"), "key").unwrap(), None);
    }

    #[test]
    fn a_secret_is_not_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, b"mine").unwrap();
        symlink(&victim, state.path("key")).unwrap();
        symlink(&victim, state.path("key.new")).unwrap();
        state.write_secret("key", b"secret").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert!(state.path("key").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_file_is_no_state_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(StateDir::open(&file), Err(StateError::NotAFolder(_))));
        assert!(matches!(StateDir::open(&file.join("below")), Err(StateError::NotAFolder(_))));
    }
}
