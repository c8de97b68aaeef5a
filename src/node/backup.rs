//! `export` and `import`: a master's keys and log, sealed with a passphrase.
//!
//! An export reads beside the node that runs, and changes nothing. An import fills a directory that is new; until all of
//! it is there a marker keeps every start away, and a second import begins anew.

use super::clock::wall_ms;
use super::identity::{IDENTITY_FILE, SERVER_FILES, state_error};
use super::local::{ErrorCode, LocalError};
use super::member::Group;
use super::run::{MEMBER_DB, ROLE_FILE, TICKET_FILE};
use super::server::{DB_FILE, PLACE_FILE};
use crate::store::backup::{BackupReader, BackupWriter, bad_backup, read_header};
use crate::store::member::{DbError, MemberStore};
use crate::store::server_db::ServerStore;
use crate::store::statedir::{StateDir, create_new_private, sync_folder};
use crate::wire::backup::{BackupHeader, BackupKey, BadBackup, CONTENTS_BYTES_MAX, Contents, Cost, OwnServer};
use crate::wire::codec::{decode, encode};
use crate::wire::ids::GroupId;
use crate::wire::invite::AdmissionSecret;
use crate::wire::sign::Identity;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The copy of the database that is being sealed, in the state directory: as private as what it is a copy of.
const COPY_FILE: &str = "export.db";
/// There while an import has not put everything in its place.
pub const IMPORTING_FILE: &str = "importing";
/// What a lock leaves in a directory that is new otherwise.
const LOCK_FILE: &str = "lock";

/// What was exported or imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The group.
    pub group: GroupId,
    /// Where its log ends in the backup.
    pub revision: String,
    /// When the backup was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// Bytes of the backup file.
    pub bytes: u64,
    /// Whether it holds the server that the master runs itself.
    pub with_server: bool,
}

/// Whether a file may be written to, before a person is asked for a passphrase.
pub fn check_target(file: &Path, force: bool) -> Result<(), LocalError> {
    if !force && fs::symlink_metadata(file).is_ok() {
        let error = format!("{} is there already", file.display());
        return Err(LocalError::new(ErrorCode::Usage, error, "choose another name, or give --force"));
    }
    Ok(())
}

/// Writes a backup of the master in `state_dir`, running or not.
pub fn export(
    state_dir: &Path,
    file: &Path,
    passphrase: &[u8],
    cost: Cost,
    salt: [u8; 16],
    force: bool,
) -> Result<Summary, LocalError> {
    check_target(file, force)?;
    let peek = |name: &str| StateDir::peek(state_dir, name).map_err(state_error);
    if peek(ROLE_FILE)?.as_deref() != Some(b"master".as_slice()) {
        let error = format!("there is no master's state in {}", state_dir.display());
        return Err(LocalError::new(
            ErrorCode::WrongRole,
            error,
            "run it at the group's master; --state names its directory",
        ));
    }
    let identity = keys(peek(IDENTITY_FILE)?, IDENTITY_FILE)?;
    let ticket = peek(TICKET_FILE)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let server = if ticket.is_none() { own_server(state_dir)? } else { None };
    let copy = Copy::make(state_dir)?;
    let store = MemberStore::open_beside(&copy.path).map_err(unreadable)?;
    let tip = store.tip().map_err(unreadable)?.ok_or_else(|| {
        LocalError::new(ErrorCode::NotNow, "the master has no group yet", "start it once with 'bailiwick master'")
    })?;
    drop(store);
    let mut database = File::open(&copy.path).map_err(|error| io_error(&copy.path, &error))?;
    let bytes = database.metadata().map_err(|error| io_error(&copy.path, &error))?.len();
    let (sign, _) = identity;
    let group = GroupId::of(&Identity::from_seeds(sign, identity.1).device_key());
    let contents = Contents { made_ms: wall_ms(), identity, server, ticket, database: bytes };
    let header = BackupHeader { cost, salt };
    let key = BackupKey::derive(&header, passphrase).map_err(bad)?;
    let written = write_file(file, force, |out| {
        let mut writer = BackupWriter::begin(out, &header, key)?;
        let encoded = Zeroizing::new(encode(&contents));
        writer.write_all(&(encoded.len() as u32).to_le_bytes())?;
        writer.write_all(&encoded)?;
        io::copy(&mut database, &mut writer)?;
        writer.finish().map(drop)
    });
    let bytes = written.map_err(|error| io_error(file, &error))?;
    let with_server = contents.server.is_some();
    Ok(Summary { group, revision: tip.at.to_string(), made_ms: contents.made_ms, bytes, with_server })
}

/// A backup whose header was read: it is one, and can be opened by who knows the passphrase.
pub struct Sealed {
    path: PathBuf,
    file: File,
    header: BackupHeader,
}

impl Sealed {
    /// Looks at a file's header.
    pub fn open(path: &Path) -> Result<Sealed, LocalError> {
        let mut file = File::open(path).map_err(|error| {
            LocalError::new(
                ErrorCode::NotFound,
                format!("{}: {error}", path.display()),
                "give the path of a file that is there and that this user may read",
            )
        })?;
        let header = read_header(&mut file).map_err(|error| content_error(path, &error))?;
        Ok(Sealed { path: path.to_owned(), file, header })
    }

    /// Fills a state directory that is new or empty.
    pub fn import(self, state_dir: &Path, passphrase: &[u8]) -> Result<Summary, LocalError> {
        check_empty(state_dir)?;
        let Sealed { path, file, header } = self;
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        let key = BackupKey::derive(&header, passphrase).map_err(bad)?;
        let failed = |error: &io::Error| content_error(&path, error);
        let mut reader = BackupReader::begin(file, key);
        // A wrong passphrase shows before anything is made.
        let contents = read_contents(&mut reader).map_err(|error| failed(&error))?;
        let dir = StateDir::open(state_dir).map_err(state_error)?;
        check_empty(state_dir)?;
        dir.write_secret(IMPORTING_FILE, b"").map_err(state_error)?;
        clear(state_dir)?;
        let database = dir.path(MEMBER_DB);
        let copied = copy_database(&mut reader, &database, contents.database).and_then(|()| reader.finish());
        if let Err(error) = copied {
            clear(state_dir)?;
            let _ = fs::remove_file(dir.path(IMPORTING_FILE));
            return Err(failed(&error));
        }
        let (group, revision) = prepare(&database, &contents)?;
        put_in_place(&dir, &contents)?;
        fs::remove_file(dir.path(IMPORTING_FILE))
            .and_then(|()| sync_folder(state_dir))
            .map_err(|error| io_error(state_dir, &error))?;
        Ok(Summary { group, revision, made_ms: contents.made_ms, bytes, with_server: contents.server.is_some() })
    }
}

/// An import that was cut off leaves its marker, and may be begun anew.
fn check_empty(state_dir: &Path) -> Result<(), LocalError> {
    let entries = match fs::read_dir(state_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(state_dir, &error)),
        Ok(entries) => entries,
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    let is_free = state_dir.join(IMPORTING_FILE).exists() || names.all(|name| name == LOCK_FILE);
    if is_free {
        return Ok(());
    }
    Err(LocalError::new(
        ErrorCode::Usage,
        format!("the state directory {} is not empty", state_dir.display()),
        "import into a new one: give --profile NAME or --state DIR; nothing that is there is ever overwritten",
    ))
}

/// Removes what an import that was cut off had put there.
fn clear(state_dir: &Path) -> Result<(), LocalError> {
    let journals = [MEMBER_DB, DB_FILE]
        .into_iter()
        .flat_map(|name| ["-wal", "-shm", "-journal"].map(|end| format!("{name}{end}")));
    let files = [MEMBER_DB, DB_FILE, IDENTITY_FILE, SERVER_FILES.0, SERVER_FILES.1, PLACE_FILE, TICKET_FILE, ROLE_FILE];
    for name in files.into_iter().map(str::to_owned).chain(journals) {
        match fs::remove_file(state_dir.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(state_dir, &error)),
            _ => {}
        }
    }
    Ok(())
}

fn read_contents(reader: &mut impl Read) -> io::Result<Contents> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, BadBackup::Damaged);
    let mut length = [0; 4];
    reader.read_exact(&mut length).map_err(|error| cut_short(error, damaged))?;
    let length = u32::from_le_bytes(length) as usize;
    if length > CONTENTS_BYTES_MAX {
        return Err(damaged());
    }
    let mut encoded = Zeroizing::new(vec![0; length]);
    reader.read_exact(&mut encoded).map_err(|error| cut_short(error, damaged))?;
    decode(&encoded).map_err(|_| damaged())
}

fn cut_short(error: io::Error, damaged: impl Fn() -> io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { damaged() } else { error }
}

fn copy_database(reader: &mut impl Read, to: &Path, bytes: u64) -> io::Result<()> {
    let mut out = create_new_private(to)?;
    let copied = io::copy(&mut Read::by_ref(reader).take(bytes), &mut out)?;
    if copied != bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, BadBackup::Damaged));
    }
    out.sync_all()
}

/// Checks that the database is whole and belongs to these keys, and makes it ready for its first start.
fn prepare(database: &Path, contents: &Contents) -> Result<(GroupId, String), LocalError> {
    let (sign, open) = contents.identity;
    let key = Identity::from_seeds(sign, open).device_key();
    let store = MemberStore::open_beside(database).map_err(unreadable)?;
    store.check().map_err(unreadable)?;
    let group: Option<Group> = store.get("group").map_err(unreadable)?;
    let tip = store.tip().map_err(unreadable)?;
    let (Some(group), Some(tip)) = (group.filter(|group| group.master == key), tip) else {
        return Err(bad(BadBackup::Damaged));
    };
    store.prepare_import().map_err(unreadable)?;
    Ok((group.id(), tip.at.to_string()))
}

fn put_in_place(dir: &StateDir, contents: &Contents) -> Result<(), LocalError> {
    let write = |name: &str, bytes: &[u8]| dir.write_secret(name, bytes).map_err(state_error);
    if let Some(server) = &contents.server {
        let mut store = ServerStore::open(&dir.path(DB_FILE)).map_err(unreadable)?;
        store.set_admission(&server.admission).map_err(unreadable)?;
        write(PLACE_FILE, server.place.as_bytes())?;
        if let Some((reset, cid)) = &server.quic {
            write(SERVER_FILES.1, &Zeroizing::new([&reset[..], &cid[..]].concat())[..])?;
        }
        write(SERVER_FILES.0, &joined(server.identity)[..])?;
    }
    if let Some(ticket) = &contents.ticket {
        write(TICKET_FILE, ticket.as_bytes())?;
    }
    write(ROLE_FILE, b"master")?;
    write(IDENTITY_FILE, &joined(contents.identity)[..])
}

fn own_server(state_dir: &Path) -> Result<Option<OwnServer>, LocalError> {
    let peek = |name: &str| StateDir::peek(state_dir, name).map_err(state_error);
    let Some(bytes) = peek(SERVER_FILES.0)? else { return Ok(None) };
    let identity = keys(Some(bytes), SERVER_FILES.0)?;
    let store = ServerStore::open_beside(&state_dir.join(DB_FILE)).map_err(unreadable)?;
    let admission: Option<AdmissionSecret> = store.admission().map_err(unreadable)?;
    let place = peek(PLACE_FILE)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let quic = peek(SERVER_FILES.1)?.and_then(|bytes| {
        let (reset, cid) = bytes.split_at_checked(32)?;
        Some((reset.try_into().ok()?, cid.try_into().ok()?))
    });
    Ok(admission.zip(place).map(|(admission, place)| OwnServer { identity, quic, admission, place }))
}

fn keys(bytes: Option<Vec<u8>>, name: &str) -> Result<([u8; 32], [u8; 32]), LocalError> {
    let bytes = Zeroizing::new(bytes.unwrap_or_default());
    let halves =
        bytes.split_at_checked(32).and_then(|(one, other)| Some((one.try_into().ok()?, other.try_into().ok()?)));
    halves.ok_or_else(|| {
        LocalError::new(
            ErrorCode::Failed,
            format!("the file '{name}' in the state directory is missing or damaged"),
            "without its keys there is no group to export; use an earlier backup",
        )
    })
}

fn joined((one, other): ([u8; 32], [u8; 32])) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([one, other].concat())
}

/// A copy of the database that is gone when the value is dropped. One process at a time makes it.
struct Copy {
    path: PathBuf,
    _held: File,
}

/// What an export that was cut off has left: no copy of the secrets lies about longer than it is used.
pub fn clear_cut_off(dir: &StateDir) -> Result<(), LocalError> {
    let path = dir.path(COPY_FILE);
    let Ok(held) = File::open(&path) else { return Ok(()) };
    match held.try_lock() {
        // Dropping it removes it.
        Ok(()) => drop(Copy { path, _held: held }),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(io_error(&path, &error)),
    }
    Ok(())
}

impl Copy {
    fn make(state_dir: &Path) -> Result<Copy, LocalError> {
        let path = state_dir.join(COPY_FILE);
        let held = crate::store::statedir::open_private(&path).map_err(|error| io_error(&path, &error))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let hint = "wait for it to end";
                return Err(LocalError::new(ErrorCode::NotNow, "another export is under way", hint));
            }
            Err(TryLockError::Error(error)) => return Err(io_error(&path, &error)),
        }
        // One that was cut off may have left anything.
        held.set_len(0).map_err(|error| io_error(&path, &error))?;
        let copy = Copy { path, _held: held };
        let store = MemberStore::open_beside(&state_dir.join(MEMBER_DB)).map_err(unreadable)?;
        store.copy_to(&copy.path).map_err(unreadable)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut name = self.path.clone().into_os_string();
            name.push(end);
            let _ = fs::remove_file(name);
        }
    }
}

/// Writes a file under another name, syncs it, and gives it its own: it is there whole or not at all.
fn write_file(file: &Path, force: bool, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<u64> {
    let mut name = file.file_name().map(ToOwned::to_owned).ok_or(io::ErrorKind::InvalidInput)?;
    name.push(".new");
    let temporary = file.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = create_new_private(&temporary)?;
    let written = write(&mut out).and_then(|()| out.sync_all()).and_then(|()| out.seek(SeekFrom::End(0)));
    let placed = written.and_then(|bytes| {
        if force {
            fs::rename(&temporary, file)?;
        } else {
            // Unlike a rename it fails if somebody has made the file in between.
            fs::hard_link(&temporary, file)?;
            fs::remove_file(&temporary)?;
        }
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(folder)?;
        Ok(bytes)
    });
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed
}

fn io_error(path: &Path, error: &io::Error) -> LocalError {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or write to another disk",
        io::ErrorKind::AlreadyExists => "choose another name, or give --force",
        _ => "check the path, its permissions and the disk",
    };
    LocalError::new(ErrorCode::Failed, format!("{}: {error}", path.display()), hint)
}

fn content_error(path: &Path, error: &io::Error) -> LocalError {
    bad_backup(error).map_or_else(|| io_error(path, error), bad)
}

fn bad(why: BadBackup) -> LocalError {
    let (code, hint) = match why {
        BadBackup::Other => (ErrorCode::Usage, "give the file that 'bailiwick export' wrote"),
        BadBackup::Newer(_) => (ErrorCode::Failed, "update this bailiwick"),
        BadBackup::Cost => (ErrorCode::Failed, "use another copy of the file"),
        BadBackup::Passphrase => (ErrorCode::Failed, "try the passphrase again; else use another copy of the file"),
        BadBackup::Damaged => {
            (ErrorCode::Failed, "copy the file again, whole, or use another backup; nothing was imported")
        }
    };
    LocalError::new(code, why.to_string(), hint)
}

fn unreadable(error: DbError) -> LocalError {
    LocalError::new(ErrorCode::Failed, error.to_string(), "nothing was changed; mend that and do it again")
}

#[cfg(test)]
mod tests;
