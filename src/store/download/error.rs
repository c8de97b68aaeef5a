//! What a disk can refuse, told by what a person can do about it.

use rustix::io::Errno;
use std::io;

/// Why the downloads folder didn't take or give something. Paths are relative to it, and fit for terminals.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No space, or none beyond what must stay free.
    #[error("the disk is full: free some space, and the download goes on")]
    Full,
    /// No permission, or a disk that can only be read.
    #[error("no permission for {0}: change its owner or mode, or choose another downloads folder")]
    Denied(String),
    /// A link is in the path; downloads go through none, since it could lead anywhere.
    #[error("{0} is or passes through a link, which downloads don't follow: remove the link, or choose another folder")]
    Jail(String),
    /// Keys and database of a node lie there: what comes from the network must not be among them.
    #[error("{0} lies in a state directory of bailiwick, which holds private keys: choose another folder")]
    State(String),
    /// Too long a name, or one with characters that this disk doesn't take.
    #[error("this disk cannot hold the name {0}: choose another name, or another downloads folder")]
    Name(String),
    /// Something that bailiwick doesn't touch has a name that is needed.
    #[error("something is in the way at {0}: move it elsewhere")]
    InTheWay(String),
    /// The part file of another download to the same place.
    #[error("{0} is an unfinished download: this one goes on when that one is over")]
    Unfinished(String),
    /// A name that is kept for unfinished downloads.
    #[error("{0} has the name of an unfinished download: choose another name")]
    Reserved(String),
    /// Anything else: the disk failed.
    #[error("{path}: {source}")]
    Io {
        /// What was worked on.
        path: String,
        /// The system's error.
        source: io::Error,
    },
}

impl DiskError {
    pub(super) fn of(error: impl Into<io::Error>, path: &str) -> DiskError {
        let (source, path) = (error.into(), path.to_owned());
        match source.kind() {
            _ if Errno::from_io_error(&source) == Some(Errno::LOOP) => DiskError::Jail(path),
            // FAT answers EINVAL to names with a colon.
            io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => DiskError::Name(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => DiskError::Denied(path),
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                DiskError::InTheWay(path)
            }
            _ => DiskError::Io { path, source },
        }
    }
}

/// Turns "there is no such file or folder" into nothing.
pub(super) fn unless_missing<T>(result: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match result {
        Ok(it) => Ok(Some(it)),
        Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
