//! What a scan did not see of a share: whether so much is gone that a person is asked first, and what leaves the catalog.

use super::below;
use crate::store::member::{DbError, LocalStatus, MemberStore, damaged};
use crate::wire::ids::PublicId;
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, params};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a scan did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gone {
    /// Files of the share that are, or are to be, in the catalog.
    pub live: u64,
    /// Those of them that were not seen.
    pub lost: u64,
    /// Those of them whose content was not seen at another path of the share either: what was moved is not lost.
    pub vanished: u64,
}

/// Files of the catalog that this device owns and has no row of.
const ORPHANS: &str = "owner = ?1 AND (path = ?2 OR path >= ?3 AND path < ?4)
    AND NOT EXISTS (SELECT 1 FROM local_files l WHERE l.path = files.path)";

impl MemberStore {
    /// Rows of a share that are, or are to be, in the catalog, one status after the other.
    pub fn live_rows(&self, share: &Path, mut each: impl FnMut(i64)) -> Result<(), DbError> {
        let mut statement = self.db.prepare_cached("SELECT n FROM local_files WHERE share = ?1 AND status = ?2")?;
        for status in [LocalStatus::Syncing, LocalStatus::Idle, LocalStatus::Refused] {
            let mut rows = statement.query(params![share.as_os_str().as_bytes(), status.code()])?;
            while let Some(row) = rows.next()? {
                each(row.get(0)?);
            }
        }
        Ok(())
    }

    /// The path of a row.
    pub fn path_of_row(&self, row: i64) -> Result<Option<RelPath>, DbError> {
        let path: Option<String> = self
            .db
            .prepare_cached("SELECT path FROM local_files WHERE n = ?1")?
            .query_row([row], |row| row.get(0))
            .optional()?;
        path.map(|path| RelPath::parse(&path).map_err(damaged)).transpose()
    }

    /// These rows are excluded now, and are to leave the catalog.
    pub fn exclude_rows(&self, rows: &[i64]) -> Result<(), DbError> {
        let mut statement =
            self.db.prepare_cached("UPDATE local_files SET status = 5 WHERE n = ?1 AND status IN (0, 1, 3)")?;
        for row in rows {
            statement.execute([row])?;
        }
        Ok(())
    }

    /// How many rows of a share are, or are to be, in the catalog.
    pub fn live_count(&self, share: &Path) -> Result<u64, DbError> {
        let count: i64 = self
            .db
            .prepare_cached("SELECT count(*) FROM local_files WHERE share = ?1 AND status IN (0, 1, 3)")?
            .query_row([share.as_os_str().as_bytes()], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// The rows at this path and below it.
    pub fn rows_below(&self, path: &RelPath) -> Result<Vec<i64>, DbError> {
        let (from, to) = below(path);
        let mut statement =
            self.db.prepare_cached("SELECT n FROM local_files WHERE path = ?1 OR path >= ?2 AND path < ?3")?;
        let rows = statement.query_map(params![path.as_str(), from, to], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes rows that a scan did not see.
    pub fn note_lost(&self, rows: &[i64]) -> Result<(), DbError> {
        self.db.execute("CREATE TEMP TABLE IF NOT EXISTS lost(n INTEGER PRIMARY KEY)", [])?;
        let mut statement = self.db.prepare_cached("INSERT OR IGNORE INTO temp.lost(n) VALUES (?1)")?;
        for row in rows {
            statement.execute([row])?;
        }
        Ok(())
    }

    /// What the rows that were noted come to. The catalog's files of this share that this device has no row of, after its
    /// database was restored, count among them.
    pub fn lost(&self, me: Option<&PublicId>, share: &Path, name: &RelPath) -> Result<Gone, DbError> {
        self.note_lost(&[])?;
        let share_bytes = share.as_os_str().as_bytes();
        let (noted, vanished): (i64, i64) = self.db.query_row(
            "SELECT count(*), coalesce(sum(m.hash NOT IN
               (SELECT hash FROM local_files WHERE share = ?1 AND status IN (0, 1, 3) AND n NOT IN (SELECT n FROM temp.lost))), 0)
             FROM temp.lost JOIN local_files m USING (n)",
            [share_bytes],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let orphans = match me {
            Some(me) => self.orphans(me, name)?,
            None => 0,
        };
        let live = self.live_count(share)? + orphans;
        Ok(Gone { live, lost: noted as u64 + orphans, vanished: vanished as u64 + orphans })
    }

    fn orphans(&self, me: &PublicId, name: &RelPath) -> Result<u64, DbError> {
        let (from, to) = below(name);
        let count: i64 = self
            .db
            .prepare_cached(&format!("SELECT count(*) FROM files WHERE {ORPHANS}"))?
            .query_row(params![me.0, name.as_str(), from, to], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// Forgets which rows were noted.
    pub fn forget_lost(&self) -> Result<(), DbError> {
        self.note_lost(&[])?;
        self.db.execute("DELETE FROM temp.lost", [])?;
        Ok(())
    }

    /// The rows that were noted are gone, and are to leave the catalog.
    pub fn remove_lost(&self, me: Option<&PublicId>, name: &RelPath) -> Result<(), DbError> {
        self.db.execute(
            "UPDATE local_files SET status = 5 WHERE n IN (SELECT n FROM temp.lost) AND status IN (0, 1, 3)",
            [],
        )?;
        if let Some(me) = me {
            let (from, to) = below(name);
            self.db.execute(
                &format!("INSERT OR IGNORE INTO unwanted SELECT id FROM files WHERE {ORPHANS}"),
                params![me.0, name.as_str(), from, to],
            )?;
        }
        self.forget_lost()
    }
}
