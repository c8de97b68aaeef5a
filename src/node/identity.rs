//! A device's keys in its state directory, made at the first start.

use super::clock::SystemRandom;
use super::local::{ErrorCode, LocalError};
use super::member::Group;
use super::run::{MEMBER_DB, database_error};
use super::server::DB_FILE;
use crate::state::random::draw;
use crate::store::member::MemberStore;
use crate::store::statedir::{StateDir, StateError};
use crate::wire::sign::Identity;
use std::path::Path;

/// The file of the two private keys: 64 bytes.
pub(super) const IDENTITY_FILE: &str = "identity";
/// The file of QUIC's reset key (32 bytes) and connection-id key (8 bytes): kept, so that who was connected to a killed
/// process learns at its next packet that the process was started again.
const QUIC_FILE: &str = "quic";

/// There once the database holds a group.
pub(super) const GROUP_MARK: &str = "group";

/// The same two files for a server, which can share a master's state directory and is a device of its own.
pub(super) const SERVER_FILES: (&str, &str) = ("server-identity", "server-quic");

/// What a process brings to its endpoint.
pub struct Keys {
    /// The device.
    pub identity: Identity,
    /// QUIC's stateless-reset key.
    pub reset_key: [u8; 32],
    /// QUIC's connection-id key.
    pub cid_key: u64,
}

/// Reads the keys, or draws them for a directory that has no group yet: new keys would make another device of it.
pub fn keys(dir: &StateDir) -> Result<Keys, LocalError> {
    if dir.read_secret(IDENTITY_FILE).map_err(state_error)?.is_none() && has_group(&dir.path(MEMBER_DB))? {
        return Err(keys_missing(IDENTITY_FILE));
    }
    keys_in(dir, (IDENTITY_FILE, QUIC_FILE))
}

/// Refuses a directory that has lost its database, before one is made: with the keys of a group and without its log
/// nothing is begun, for a master would sign a second one.
pub fn check_database(dir: &StateDir) -> Result<(), LocalError> {
    if !dir.path(GROUP_MARK).exists() || has_group(&dir.path(MEMBER_DB))? {
        return Ok(());
    }
    Err(LocalError::new(
        ErrorCode::Failed,
        format!("the database '{MEMBER_DB}' in the state directory is missing or empty, and with it the group's log"),
        "put it back from a copy of the directory; at a master, 'bailiwick import' a backup into a new directory; a \
         client can join anew with a new state directory and a new invite",
    ))
}

fn has_group(database: &Path) -> Result<bool, LocalError> {
    if std::fs::metadata(database).map_or(0, |meta| meta.len()) == 0 {
        return Ok(false);
    }
    let store = MemberStore::open_beside(database).map_err(database_error)?;
    Ok(store.get::<Group>("group").map_err(database_error)?.is_some())
}

/// Marks that this directory's database holds a group from now on.
pub fn mark_group(dir: &StateDir) -> Result<(), LocalError> {
    if dir.path(GROUP_MARK).exists() || !has_group(&dir.path(MEMBER_DB))? {
        return Ok(());
    }
    dir.write_secret(GROUP_MARK, b"").map_err(state_error)
}

/// Reads a server's keys, or draws them for a directory that has no server yet.
pub fn server_keys(dir: &StateDir) -> Result<Keys, LocalError> {
    let has_database = std::fs::metadata(dir.path(DB_FILE)).is_ok_and(|meta| meta.len() > 0);
    if has_database && dir.read_secret(SERVER_FILES.0).map_err(state_error)?.is_none() {
        return Err(keys_missing(SERVER_FILES.0));
    }
    keys_in(dir, SERVER_FILES)
}

fn keys_missing(name: &str) -> LocalError {
    LocalError::new(
        ErrorCode::Failed,
        format!("the file '{name}' is missing in the state directory, and with it the keys of what is there"),
        "put it back from a copy of the directory; at a master, 'bailiwick import' a backup into a new directory; \
         without the keys this is a new device, which needs a new state directory (and a client a new invite)",
    )
}

fn keys_in(dir: &StateDir, (identity_file, quic_file): (&str, &str)) -> Result<Keys, LocalError> {
    let identity: [u8; 64] = secret(dir, identity_file)?;
    let quic: [u8; 40] = secret(dir, quic_file)?;
    let (sign, open) = identity.split_at(32);
    let (reset, cid) = quic.split_at(32);
    Ok(Keys {
        identity: Identity::from_seeds(array(sign), array(open)),
        reset_key: array(reset),
        cid_key: u64::from_le_bytes(array(cid)),
    })
}

fn secret<const N: usize>(dir: &StateDir, name: &str) -> Result<[u8; N], LocalError> {
    match dir.read_secret(name).map_err(state_error)? {
        Some(bytes) => bytes.try_into().map_err(|_| {
            LocalError::new(
                ErrorCode::Failed,
                format!("the file '{name}' in the state directory is damaged"),
                "put it back from a copy of the directory; at a master, 'bailiwick import' a backup into a new directory; \
                 with new keys this is a new device",
            )
        }),
        None => {
            let bytes: [u8; N] = draw(&mut SystemRandom);
            dir.write_secret(name, &bytes).map_err(state_error)?;
            Ok(bytes)
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

/// An error of the state directory, as the CLI shows it.
pub fn state_error(error: StateError) -> LocalError {
    let code = match &error {
        StateError::InUse { .. } => ErrorCode::NotNow,
        StateError::NotAFolder(_) => ErrorCode::Usage,
        StateError::Denied(_) | StateError::Full(_) | StateError::Io { .. } => ErrorCode::Failed,
    };
    let hint = match &error {
        StateError::InUse { .. } => "'bailiwick stop' ends it; --state or --profile choose another state directory",
        StateError::NotAFolder(_) => "name a folder with --state, or a profile with --profile",
        StateError::Denied(_) => {
            "give this user the directory ('chown'), or choose another one with --state or --profile"
        }
        StateError::Full(_) => "free some space and start it again",
        StateError::Io { .. } => "mend that and start it again, or choose another directory with --state or --profile",
    };
    LocalError::new(code, error.to_string(), hint)
}
