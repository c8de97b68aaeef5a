//! What a backup leaves out, and the beginning of a new generation on one that was imported.

use super::{DbError, MemberStore, decoded};
use crate::wire::codec::encode;
use crate::wire::ids::{Hash, Position, PublicId};
use crate::wire::log::{SignedHeader, VerifiedHeader};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::path::Path;

/// Under this key lies the highest generation that an imported master has seen, until it has begun its own.
const IMPORT: &str = "import";

impl MemberStore {
    /// Opens a database that is there, for reading and beside the process that works with it.
    pub fn open_beside(path: &Path) -> Result<MemberStore, DbError> {
        MemberStore::prepare(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?)
    }

    /// Whether the database is whole, as far as SQLite can tell.
    pub fn check(&self) -> Result<(), DbError> {
        let word: String = self.db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if word == "ok" { Ok(()) } else { Err(DbError::Damaged(word)) }
    }

    /// Writes a copy as of the last commit to this empty file; nobody's work waits for it. What belongs to this machine
    /// alone is left out of it: invites, downloads, snapshots on their way.
    pub fn copy_to(&self, path: &Path) -> Result<(), DbError> {
        let name = path.to_str().ok_or_else(|| DbError::Damaged("the copy's path is not UTF-8".to_owned()))?;
        self.db.execute("VACUUM INTO ?1", [name])?;
        let copy = Connection::open(path)?;
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.execute_batch(
            "BEGIN IMMEDIATE; DELETE FROM invites; DELETE FROM spools; DELETE FROM pages; DELETE FROM loading;
             DELETE FROM transfers; DELETE FROM jobs; DELETE FROM meta WHERE key IN ('loading', 'stale', 'downloads'); COMMIT; VACUUM;",
        )?;
        copy.close().map_err(|(_, error)| DbError::from(error))
    }

    /// Makes an imported database ready for its first start: all invites are closed, and what devices asked last is
    /// forgotten, for they will ask in another generation.
    pub fn prepare_import(&self) -> Result<(), DbError> {
        self.begin()?;
        let prepared = self.forget_generation().and_then(|()| {
            self.db.execute_batch("DELETE FROM invites; DELETE FROM jobs; DELETE FROM transfers;")?;
            self.unset("stale")?;
            self.set(IMPORT, &self.tip()?.map_or(0, |tip| tip.at.generation))
        });
        match prepared {
            Ok(()) => self.commit(),
            Err(error) => {
                self.rollback();
                Err(error)
            }
        }
    }

    fn forget_generation(&self) -> Result<(), DbError> {
        self.db.execute_batch(
            "DELETE FROM entries; DELETE FROM spools; DELETE FROM pages; DELETE FROM loading; DELETE FROM last_requests;",
        )?;
        self.unset("loading")?;
        self.unset("snapshot_made")
    }

    /// The highest generation that was seen, while an imported master has not begun its own.
    pub fn importing(&self) -> Result<Option<u32>, DbError> {
        self.get(IMPORT)
    }

    /// A generation was seen by an imported master.
    pub fn saw_generation(&self, generation: u32) -> Result<(), DbError> {
        let seen = self.importing()?.unwrap_or(0);
        if generation > seen { self.set(IMPORT, &generation) } else { Ok(()) }
    }

    /// Keeps a membership header that somebody showed to an imported master.
    pub fn keep_shown(&self, header: &VerifiedHeader) -> Result<(), DbError> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO shown(hash, header) VALUES (?1, ?2)")?
            .execute(params![header.hash().0, encode(header.signed())])?;
        Ok(())
    }

    /// All of those.
    pub fn shown(&self) -> Result<Vec<SignedHeader>, DbError> {
        self.headers("SELECT header FROM shown", &[])
    }

    /// Clears the table for the log of a new generation. Expulsions, files, policy and servers stay.
    pub fn begin_generation(&self) -> Result<(), DbError> {
        self.forget_generation()?;
        self.db.execute_batch("DELETE FROM membership; DELETE FROM names; DELETE FROM shown;")?;
        self.unset(IMPORT)
    }

    /// Drops the files of everybody else.
    pub fn keep_files_of(&self, owners: &[PublicId]) -> Result<(), DbError> {
        for owner in self.file_counts()?.into_keys().filter(|owner| !owners.contains(owner)) {
            self.drop_files_of(&owner)?;
        }
        Ok(())
    }

    /// The hash of the header at a place of this log, if its entry is still here.
    pub fn header_hash(&self, at: Position) -> Result<Option<Hash>, DbError> {
        let found: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT header FROM entries WHERE generation = ?1 AND revision = ?2")?
            .query_row(params![at.generation, at.revision as i64], |row| row.get(0))
            .optional()?;
        let header: Option<SignedHeader> = found.map(|bytes| decoded(&bytes)).transpose()?;
        Ok(header.map(|header| Hash::of(&header.bytes)))
    }
}
