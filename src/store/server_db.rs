//! The tables of a server: its groups, their masters' keys, membership headers and newest heads. No names, no files, no
//! sizes (W15): what a server does not know it cannot tell.
//!
//! One thread owns the connection. What was not committed never was.

use super::member::DbError;
use crate::wire::codec::{decode, encode};
use crate::wire::ids::{DeviceKey, GroupId, Position};
use crate::wire::invite::AdmissionSecret;
use crate::wire::log::{SignedHead, SignedHeader};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use std::time::Duration;

/// The version of these tables.
const SCHEMA_VERSION: i64 = 1;

/// What is stored of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Its master.
    pub master: DeviceKey,
    /// The newest head.
    pub head: Option<SignedHead>,
    /// The chain of membership headers, oldest first.
    pub chain: Vec<SignedHeader>,
    /// All headers that expel.
    pub expulsions: Vec<SignedHeader>,
}

/// A server's tables.
pub struct ServerStore {
    db: Connection,
}

impl ServerStore {
    /// Opens the database, making it if there is none, private to its user.
    pub fn open(path: &Path) -> Result<ServerStore, DbError> {
        super::member::create_private(path)?;
        ServerStore::prepare(Connection::open(path)?)
    }

    /// Opens a database that is there, for reading and beside the process that works with it.
    pub fn open_beside(path: &Path) -> Result<ServerStore, DbError> {
        ServerStore::prepare(Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?)
    }

    /// A database in memory, for tests.
    pub fn open_in_memory() -> Result<ServerStore, DbError> {
        ServerStore::prepare(Connection::open_in_memory()?)
    }

    /// A copy of this database in memory, as of its last commit: what a backup would hold.
    pub fn copy_in_memory(&self) -> Result<ServerStore, DbError> {
        let mut copy = Connection::open_in_memory()?;
        rusqlite::backup::Backup::new(&self.db, &mut copy)?.run_to_completion(1_000, Duration::ZERO, None)?;
        ServerStore::prepare(copy)
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

    fn prepare(db: Connection) -> Result<ServerStore, DbError> {
        db.busy_timeout(Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "journal_size_limit", 16 << 20)?;
        db.set_prepared_statement_cache_capacity(128);
        // Plans that don't look at bound values: else every `LIMIT ?` is planned anew at each use.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            // Both or neither: a process killed between them would find tables that it has to make.
            0 => {
                db.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"))?
            }
            SCHEMA_VERSION => {}
            newer => return Err(DbError::Newer(newer)),
        }
        Ok(ServerStore { db })
    }

    /// Begins what must be on disk as a whole, or not at all.
    pub fn begin(&mut self) -> Result<(), DbError> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Puts it on disk.
    pub fn commit(&mut self) -> Result<(), DbError> {
        self.db.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Forgets it.
    pub fn rollback(&mut self) {
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }

    /// The secret that lets masters bring their groups, if one was set.
    pub fn admission(&self) -> Result<Option<AdmissionSecret>, DbError> {
        let secret: Option<[u8; 16]> =
            self.db.query_row("SELECT value FROM meta WHERE key = 'admission'", [], |row| row.get(0)).optional()?;
        Ok(secret.map(AdmissionSecret))
    }

    /// Sets the secret that lets masters bring their groups; the one before is void.
    pub fn set_admission(&mut self, secret: &AdmissionSecret) -> Result<(), DbError> {
        self.execute("INSERT OR REPLACE INTO meta(key, value) VALUES ('admission', ?1)", params![secret.0])
    }

    /// A group that is new here.
    pub fn add_group(&mut self, group: &GroupId, master: &DeviceKey) -> Result<(), DbError> {
        self.execute("INSERT INTO groups(id, master) VALUES (?1, ?2)", params![group.0, master.as_bytes()])
    }

    /// The newest head of a group.
    pub fn set_head(&mut self, group: &GroupId, head: &SignedHead) -> Result<(), DbError> {
        self.execute("UPDATE groups SET head = ?2 WHERE id = ?1", params![group.0, encode(head)])
    }

    /// One more membership header of a group's chain.
    pub fn add_header(&mut self, group: &GroupId, at: Position, header: &SignedHeader) -> Result<(), DbError> {
        self.execute(
            "INSERT INTO membership(group_id, generation, revision, header, signature) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![group.0, at.generation, column(at.revision)?, header.bytes, header.signature.0],
        )
    }

    /// Drops the membership headers of a group after a place: all of them, if there is none.
    pub fn truncate(&mut self, group: &GroupId, after: Option<Position>) -> Result<(), DbError> {
        let after = after.unwrap_or_default();
        self.execute(
            "DELETE FROM membership WHERE group_id = ?1 AND (generation, revision) > (?2, ?3)",
            params![group.0, after.generation, column(after.revision)?],
        )
    }

    /// A device that is expelled for ever.
    pub fn add_expulsion(&mut self, group: &GroupId, device: &DeviceKey, header: &SignedHeader) -> Result<(), DbError> {
        self.execute(
            "INSERT OR IGNORE INTO expulsions(group_id, device, header, signature) VALUES (?1, ?2, ?3, ?4)",
            params![group.0, device.as_bytes(), header.bytes, header.signature.0],
        )
    }

    /// All that is stored.
    pub fn groups(&self) -> Result<Vec<GroupRow>, DbError> {
        let mut statement = self.db.prepare("SELECT id, master, head FROM groups ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.map(|row| self.group(row?)).collect()
    }

    fn group(&self, (id, master, head): ([u8; 32], [u8; 32], Option<Vec<u8>>)) -> Result<GroupRow, DbError> {
        let damaged = |what: String| DbError::Damaged(what);
        Ok(GroupRow {
            master: DeviceKey::parse(master).map_err(|error| damaged(error.to_string()))?,
            head: head.map(|head| decode(&head).map_err(|error| damaged(error.to_string()))).transpose()?,
            chain: self.headers(
                "SELECT header, signature FROM membership WHERE group_id = ?1 ORDER BY generation, revision",
                &id,
            )?,
            expulsions: self.headers("SELECT header, signature FROM expulsions WHERE group_id = ?1", &id)?,
        })
    }

    fn headers(&self, query: &str, group: &[u8; 32]) -> Result<Vec<SignedHeader>, DbError> {
        let mut statement = self.db.prepare_cached(query)?;
        let rows = statement.query_map([group], |row| {
            let signature = crate::wire::sign::Signature(row.get(1)?);
            Ok(SignedHeader { bytes: row.get(0)?, signature })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn execute(&mut self, query: &str, values: impl rusqlite::Params) -> Result<(), DbError> {
        self.db.prepare_cached(query)?.execute(values)?;
        Ok(())
    }
}

/// SQLite's integers are signed.
fn column(revision: u64) -> Result<i64, DbError> {
    i64::try_from(revision).map_err(|_| DbError::Damaged(format!("revision {revision} is out of range")))
}

const SCHEMA: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE groups(id BLOB PRIMARY KEY, master BLOB NOT NULL, head BLOB) WITHOUT ROWID;
CREATE TABLE membership(
    group_id BLOB, generation INTEGER, revision INTEGER, header BLOB NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY(group_id, generation, revision)) WITHOUT ROWID;
-- For ever, also those that the chain holds: the chain can begin anew.
CREATE TABLE expulsions(
    group_id BLOB, device BLOB, header BLOB NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY(group_id, device)) WITHOUT ROWID;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sign::{Identity, Signature};
    use std::os::unix::fs::PermissionsExt;

    fn header(n: u8) -> SignedHeader {
        SignedHeader { bytes: vec![n; 9], signature: Signature([n; 64]) }
    }

    fn at(generation: u32, revision: u64) -> Position {
        Position { generation, revision }
    }

    fn filled(store: &mut ServerStore) -> GroupRow {
        let master = Identity::from_seeds([1; 32], [2; 32]).device_key();
        let group = GroupId::of(&master);
        let head = SignedHead { bytes: vec![1], signature: Signature([9; 64]) };
        store.begin().unwrap();
        store.add_group(&group, &master).unwrap();
        store.add_header(&group, at(2, 1), &header(3)).unwrap();
        store.add_header(&group, at(1, 900), &header(2)).unwrap();
        store.add_header(&group, at(1, 7), &header(1)).unwrap();
        store.add_expulsion(&group, &master, &header(7)).unwrap();
        store.add_expulsion(&group, &master, &header(8)).unwrap();
        store.set_head(&group, &head).unwrap();
        store.set_admission(&AdmissionSecret([4; 16])).unwrap();
        store.commit().unwrap();
        GroupRow { master, head: Some(head), chain: vec![header(1), header(2), header(3)], expulsions: vec![header(7)] }
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.db");
        let mut store = ServerStore::open(&path).unwrap();
        let row = filled(&mut store);
        store.begin().unwrap();
        store.truncate(&GroupId::of(&row.master), None).unwrap();
        drop(store);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let store = ServerStore::open(&path).unwrap();
        assert_eq!(store.groups().unwrap(), [row]);
        assert!(store.admission().unwrap() == Some(AdmissionSecret([4; 16])));
    }

    #[test]
    fn a_chain_is_cut_after_a_place() {
        let mut store = ServerStore::open_in_memory().unwrap();
        let row = filled(&mut store);
        let group = GroupId::of(&row.master);
        let copy = store.copy_in_memory().unwrap();
        store.truncate(&group, Some(at(1, 900))).unwrap();
        assert_eq!(store.groups().unwrap()[0].chain, [header(1), header(2)]);
        store.truncate(&group, None).unwrap();
        assert!(store.groups().unwrap()[0].chain.is_empty());
        assert_eq!(store.groups().unwrap()[0].expulsions.len(), 1);
        assert_eq!(copy.groups().unwrap(), [row], "yesterday's");
    }

    #[test]
    fn a_newer_database_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
        let Err(error) = ServerStore::open(&path) else { panic!("opened") };
        assert!(error.to_string().contains("made by a newer bailiwick"), "{error}");
        assert!(error.to_string().contains("update this"), "{error}");
    }
}
