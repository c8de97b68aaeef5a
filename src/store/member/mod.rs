//! The tables of a member (a master is one, too): its replica of the log, its shares, its jobs.
//!
//! One thread owns the connection. What belongs together is between [`MemberStore::begin`] and
//! [`MemberStore::commit`]; what was not committed never was.

mod catalog;
mod import;
mod job_control;
mod jobs;
mod local;
mod log;
mod paused;
mod shares;
mod snapshot;
mod versions;
mod wishes;

pub use catalog::{CatalogRow, Found};
pub use job_control::{Ended, JobStanding, Leavings};
pub use jobs::{Failure, JobPlace, JobSum, NewTransfer, StoredTransfer, TransferStanding};
pub use local::{LocalFile, LocalStatus, Sighted, StageOutcome, Staged};
pub use log::StoredTip;
pub use shares::{NewShare, ScanNote, ShareSum};
pub use wishes::{Gone, Leave};

use crate::wire::codec::{decode, encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// The version of these tables.
const SCHEMA_VERSION: i64 = 2;

/// From the first version to the second: by which ways the files of a job may come.
const TO_SECOND: &str = "ALTER TABLE jobs ADD COLUMN way INTEGER NOT NULL DEFAULT 0;";

/// What a person does about a database that is lost. An older copy of a master's directory would contradict what was signed
/// since; an import doesn't.
const REPLACE: &str = "at the master, 'bailiwick import' its newest backup into a new state directory; at a client, use a \
     new state directory and a new invite (its shared files are where they were); at a server, delete server.db";

fn advice(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => REPLACE,
        Some(DiskFull) => "free some space on its disk",
        _ => "check the disk's space and the directory's permissions",
    }
}

/// What goes wrong with the database. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Made by a later version.
    #[error(
        "the database in the state directory was made by a newer bailiwick (its version is {0}, this one knows {SCHEMA_VERSION}); update this bailiwick"
    )]
    Newer(i64),
    /// Not what this version writes.
    #[error("the database in the state directory is damaged: {0}; {REPLACE}")]
    Damaged(String),
    /// SQLite says no.
    #[error("the database in the state directory can't be used: {0}; {todo}", todo = advice(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The file can't be made.
    #[error("the database can't be opened: {0}")]
    Io(#[from] std::io::Error),
}

/// Prepared statements that are kept: more than there are.
const STATEMENTS: usize = 256;

/// A member's tables.
pub struct MemberStore {
    db: Connection,
}

impl MemberStore {
    /// Opens the database, making it if there is none.
    pub fn open(path: &Path) -> Result<MemberStore, DbError> {
        create_private(path)?;
        MemberStore::prepare(Connection::open(path)?)
    }

    /// A database in memory, for tests.
    pub fn open_in_memory() -> Result<MemberStore, DbError> {
        MemberStore::prepare(Connection::open_in_memory()?)
    }

    /// A copy of this database in memory, as of its last commit: what a backup would hold.
    pub fn copy_in_memory(&self) -> Result<MemberStore, DbError> {
        let mut copy = Connection::open_in_memory()?;
        rusqlite::backup::Backup::new(&self.db, &mut copy)?.run_to_completion(
            1_000,
            std::time::Duration::ZERO,
            None,
        )?;
        MemberStore::prepare(copy)
    }

    /// Empties every table, so that a database in memory can be a new one's, for tests.
    pub fn empty(&self) -> Result<(), DbError> {
        self.rollback();
        self.set_read_only(false)?;
        let names: Vec<String> = self
            .db
            .prepare_cached("SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'sqlite_stat1'")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        self.begin()?;
        for name in names {
            self.db.prepare_cached(&format!("DELETE FROM {name}"))?.execute([])?;
        }
        self.commit()
    }

    /// Lets every write fail from now on, or no more: a disk that is full or went away, for tests.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), DbError> {
        // Setting it makes every prepared statement be prepared again.
        let is_read_only: bool = self.db.pragma_query_value(None, "query_only", |row| row.get(0))?;
        if is_read_only != read_only {
            self.db.pragma_update(None, "query_only", read_only)?;
        }
        Ok(())
    }

    /// Rows written since it was opened: equal numbers mean that nothing changed between.
    pub fn writes(&self) -> u64 {
        self.db.total_changes()
    }

    fn prepare(db: Connection) -> Result<MemberStore, DbError> {
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "journal_size_limit", 16 << 20)?;
        db.pragma_update(None, "cache_size", -8_192)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        // Plans that don't look at bound values: else every `LIMIT ?` is planned anew at each use.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            // Both or neither: a process killed between them would find tables that it has to make.
            0 => {
                db.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"))?;
            }
            1 => db.execute_batch(&format!("BEGIN IMMEDIATE; {TO_SECOND} PRAGMA user_version = 2; COMMIT"))?,
            SCHEMA_VERSION => {}
            newer => return Err(DbError::Newer(newer)),
        }
        Ok(MemberStore { db })
    }

    /// Begins what must be on disk as a whole, or not at all.
    pub fn begin(&self) -> Result<(), DbError> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Puts it on disk.
    pub fn commit(&self) -> Result<(), DbError> {
        self.db.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Forgets it.
    pub fn rollback(&self) {
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }

    /// Reads one of the single values.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DbError> {
        let bytes: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        bytes.map(|bytes| decoded(&bytes)).transpose()
    }

    /// Writes one of the single values.
    pub fn set<T: Serialize>(&self, key: &str, value: &T) -> Result<(), DbError> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)")?
            .execute(params![key, encode(value)])?;
        Ok(())
    }

    /// Deletes one of the single values.
    pub fn unset(&self, key: &str) -> Result<(), DbError> {
        self.db.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key])?;
        Ok(())
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DbError> {
    decode(bytes).map_err(|error| DbError::Damaged(error.to_string()))
}

fn damaged(what: impl std::fmt::Display) -> DbError {
    DbError::Damaged(what.to_string())
}

/// SQLite gives its journals the mode of the database, so the file is there, private, before SQLite sees it.
pub(super) fn create_private(path: &Path) -> Result<(), DbError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    Ok(())
}

const SCHEMA: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- The log: membership headers for ever; whole entries at the master alone.
CREATE TABLE membership(
  generation INTEGER, revision INTEGER, device BLOB NOT NULL, registers INTEGER NOT NULL, header BLOB NOT NULL,
  PRIMARY KEY(generation, revision)) WITHOUT ROWID;
CREATE INDEX membership_by_device ON membership(device) WHERE registers;
CREATE TABLE expulsions(device BLOB PRIMARY KEY, header BLOB NOT NULL) WITHOUT ROWID;
-- Membership headers that were shown to an imported master which has not begun its generation.
CREATE TABLE shown(hash BLOB PRIMARY KEY, header BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE names(id BLOB PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries(generation INTEGER, revision INTEGER, header BLOB NOT NULL, salted BLOB NOT NULL, PRIMARY KEY(generation, revision));
CREATE TABLE epochs(generation INTEGER, number INTEGER, secret BLOB NOT NULL, PRIMARY KEY(generation, number)) WITHOUT ROWID;
CREATE TABLE invites(id BLOB PRIMARY KEY, invite TEXT NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE last_requests(device BLOB PRIMARY KEY, number INTEGER NOT NULL, content BLOB NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE spools(generation INTEGER, revision INTEGER, manifest BLOB NOT NULL, asked INTEGER NOT NULL, PRIMARY KEY(generation, revision)) WITHOUT ROWID;
CREATE TABLE pages(generation INTEGER, revision INTEGER, page INTEGER, bytes BLOB NOT NULL, PRIMARY KEY(generation, revision, page));
CREATE TABLE loading(page INTEGER PRIMARY KEY, bytes BLOB NOT NULL);

-- The catalog.
CREATE TABLE files(
  n INTEGER PRIMARY KEY, id BLOB NOT NULL, owner BLOB NOT NULL, content BLOB NOT NULL, path TEXT NOT NULL, kind INTEGER NOT NULL,
  size INTEGER NOT NULL, hash BLOB NOT NULL, chunk INTEGER NOT NULL, mtime INTEGER NOT NULL, executable INTEGER NOT NULL);
CREATE UNIQUE INDEX files_by_id ON files(id);
CREATE UNIQUE INDEX files_by_path ON files(owner, path);

-- What this device shares.
CREATE TABLE shares(
  path BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, copy INTEGER NOT NULL, exclude BLOB NOT NULL, scanning INTEGER NOT NULL,
  ending INTEGER NOT NULL DEFAULT 0, last_scan INTEGER, device INTEGER, guard TEXT,
  missing INTEGER NOT NULL DEFAULT 0, timed_out INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
  skipped_count INTEGER NOT NULL DEFAULT 0, skipped BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE local_files(
  n INTEGER PRIMARY KEY, share BLOB NOT NULL, id BLOB NOT NULL UNIQUE, content BLOB NOT NULL UNIQUE, path TEXT NOT NULL UNIQUE,
  abs BLOB NOT NULL, kind INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
  device INTEGER NOT NULL, hash BLOB NOT NULL, chunk INTEGER NOT NULL, executable INTEGER NOT NULL, list BLOB NOT NULL,
  status INTEGER NOT NULL, refused TEXT, generation INTEGER NOT NULL, by_master INTEGER NOT NULL DEFAULT 0);
CREATE INDEX local_files_by_status ON local_files(status);
CREATE INDEX local_files_by_share ON local_files(share, status);
-- Files of this device that are to leave the catalog and that no row above is of.
CREATE TABLE unwanted(id BLOB PRIMARY KEY) WITHOUT ROWID;
-- Folders that a person removed: what is new in them stays out, too.
CREATE TABLE kept_out(path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE paused_uploads(file BLOB PRIMARY KEY) WITHOUT ROWID;

-- What this device wants.
CREATE TABLE jobs(
  job INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, dest BLOB NOT NULL, moving_ms INTEGER NOT NULL,
  standing INTEGER NOT NULL DEFAULT 0, conflict INTEGER NOT NULL, looked INTEGER NOT NULL, way INTEGER NOT NULL DEFAULT 0);
CREATE TABLE transfers(
  id INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, file BLOB NOT NULL, owner BLOB NOT NULL, content BLOB NOT NULL,
  dest TEXT NOT NULL, kind INTEGER NOT NULL, size INTEGER NOT NULL, hash BLOB NOT NULL, chunk INTEGER NOT NULL, mtime INTEGER NOT NULL,
  executable INTEGER NOT NULL, state INTEGER NOT NULL, reason TEXT, refused INTEGER NOT NULL DEFAULT 0, claimed BLOB NOT NULL, done INTEGER NOT NULL,
  received INTEGER NOT NULL, part INTEGER NOT NULL, wish TEXT, was_size INTEGER, was_claimed BLOB, list BLOB, was_list BLOB);
CREATE INDEX transfers_with_part ON transfers(state) WHERE part AND state > 0;
CREATE INDEX transfers_by_job ON transfers(job, state);
CREATE INDEX transfers_by_state ON transfers(state);
CREATE INDEX transfers_by_file ON transfers(file);
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::downloads::Way;

    #[test]
    fn a_database_of_a_newer_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("member.db");
        drop(MemberStore::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(MemberStore::open(&path), Err(DbError::Newer(99))));
    }

    #[test]
    fn a_database_of_the_first_version_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("member.db");
        drop(MemberStore::open(&path).unwrap());
        let db = Connection::open(&path).unwrap();
        db.execute_batch("ALTER TABLE jobs DROP COLUMN way; PRAGMA user_version = 1").unwrap();
        drop(db);
        let store = MemberStore::open(&path).unwrap();
        let job = store.put_job("a", Path::new("/"), Default::default(), &[]).unwrap();
        store.set_way(job, Way::Direct).unwrap();
        drop(store);
        assert!(MemberStore::open(&path).is_ok(), "once");
    }

    #[test]
    fn the_database_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("member.db");
        let _store = MemberStore::open(&path).unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_was_not_committed_never_was() {
        let store = MemberStore::open_in_memory().unwrap();
        store.begin().unwrap();
        store.set("a", &1u32).unwrap();
        store.rollback();
        assert_eq!(store.get::<u32>("a").unwrap(), None);
    }
}
