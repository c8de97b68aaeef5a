//! The shares themselves: what a person added, how it was last found, and what it comes to.

use super::local::path_of;
use super::{DbError, MemberStore, damaged, decoded};
use crate::wire::codec::encode;
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, params};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a person says of a share that is added.
#[derive(Debug, Clone, Copy)]
pub struct NewShare<'a> {
    /// The name that its files' paths would begin with.
    pub wish: &'a RelPath,
    /// Whether bailiwick keeps copies of its files.
    pub copy: bool,
    /// What is left out; nothing leaves that as it was.
    pub exclude: Option<&'a [String]>,
}

/// What a scan of a share came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanNote {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it skipped: the first few, in words.
    pub skipped: Vec<String>,
    /// How much it skipped.
    pub skipped_count: u64,
    /// How much of that could not be read.
    pub failed: u64,
    /// The file system that the share is on.
    pub device: Option<u64>,
    /// Why files that are missing stay in the catalog until a person says something, if they do.
    pub guard: Option<String>,
    /// How many are missing.
    pub missing: u64,
}

/// One share, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSum {
    /// Where it lies.
    pub path: PathBuf,
    /// The first part of its files' paths.
    pub name: String,
    /// Whether bailiwick keeps copies of its files.
    pub copy: bool,
    /// What is left out.
    pub exclude: Vec<String>,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the master has not answered for.
    pub syncing: u64,
    /// Files that the master refused.
    pub refused: u64,
    /// Files that are to leave the catalog and have not yet.
    pub leaving: u64,
    /// Files that were removed, and stay out.
    pub removed: u64,
    /// Those of them that the master took out.
    pub taken_out: u64,
    /// Files that were dropped from staging, for the master did not answer.
    pub timed_out: u64,
    /// Whether a person removed all of it, so that it ends when the catalog has nothing of it.
    pub ending: bool,
    /// Whether a scan that a person waits for is under way, or was when the node ended.
    pub scanning: bool,
    /// What the last scan came to, if there was one.
    pub last: Option<ScanNote>,
}

const COLUMNS: &str = "s.path, s.name, s.copy, s.exclude, s.scanning, s.ending, s.last_scan, s.device, s.guard,
    s.missing, s.timed_out, s.failed, s.skipped_count, s.skipped";

impl MemberStore {
    /// Makes a share, or finds the one that is there. Gives its name: that of its path, made unique.
    pub fn put_share(&self, path: &Path, new: NewShare<'_>) -> Result<RelPath, DbError> {
        let name = match self.share_name(path)? {
            Some(name) => name,
            None => self.insert_share(path, new)?,
        };
        self.db
            .prepare_cached("UPDATE shares SET scanning = 1, ending = 0, timed_out = 0 WHERE path = ?1")?
            .execute([path.as_os_str().as_bytes()])?;
        if let Some(exclude) = new.exclude {
            self.db
                .prepare_cached("UPDATE shares SET exclude = ?2 WHERE path = ?1")?
                .execute(params![path.as_os_str().as_bytes(), encode(&exclude.to_vec())])?;
        }
        Ok(name)
    }

    fn insert_share(&self, path: &Path, new: NewShare<'_>) -> Result<RelPath, DbError> {
        let mut name = new.wish.clone();
        let mut number = 2;
        while self.share_named(&name)?.is_some() {
            name = RelPath::parse(&format!("{}-{number}", new.wish)).map_err(damaged)?;
            number += 1;
        }
        let nothing = encode(&Vec::<String>::new());
        self.db
            .prepare_cached(
                "INSERT INTO shares(path, name, copy, scanning, exclude, skipped) VALUES (?1, ?2, ?3, 1, ?4, ?4)",
            )?
            .execute(params![path.as_os_str().as_bytes(), name.as_str(), new.copy, nothing])?;
        Ok(name)
    }

    /// The name of the share at this path.
    pub fn share_name(&self, path: &Path) -> Result<Option<RelPath>, DbError> {
        let name: Option<String> = self
            .db
            .prepare_cached("SELECT name FROM shares WHERE path = ?1")?
            .query_row([path.as_os_str().as_bytes()], |row| row.get(0))
            .optional()?;
        name.map(|name| RelPath::parse(&name).map_err(damaged)).transpose()
    }

    /// Where the share of this name lies.
    pub fn share_named(&self, name: &RelPath) -> Result<Option<PathBuf>, DbError> {
        let found: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT path FROM shares WHERE name = ?1")?
            .query_row([name.as_str()], |row| row.get(0))
            .optional()?;
        Ok(found.map(path_of))
    }

    /// A person waits for a scan of this share.
    pub fn set_scanning(&self, path: &Path) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE shares SET scanning = 1, timed_out = 0 WHERE path = ?1")?
            .execute([path.as_os_str().as_bytes()])?;
        Ok(())
    }

    /// A scan has ended; `done` if nobody waits for another one that is to follow.
    pub fn scan_ended(&self, path: &Path, note: &ScanNote, done: bool) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "UPDATE shares SET scanning = scanning AND NOT ?2, last_scan = ?3, skipped_count = ?4, skipped = ?5,
                 failed = ?6, device = coalesce(?7, device), guard = ?8, missing = ?9, timed_out = 0 WHERE path = ?1",
            )?
            .execute(params![
                path.as_os_str().as_bytes(),
                done,
                note.at_ms,
                note.skipped_count as i64,
                encode(&note.skipped),
                note.failed as i64,
                note.device.map(|device| device as i64),
                note.guard,
                note.missing as i64,
            ])?;
        Ok(())
    }

    /// Ends the shares that a person removed, once the catalog has nothing of them. Gives their paths.
    pub fn end_shares(&self) -> Result<Vec<PathBuf>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT path FROM shares s WHERE ending AND NOT EXISTS
             (SELECT 1 FROM local_files f WHERE f.share = s.path AND f.status <> 2)",
        )?;
        let ended: Vec<Vec<u8>> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for path in &ended {
            self.db.prepare_cached("DELETE FROM local_files WHERE share = ?1")?.execute([path])?;
            self.db.prepare_cached("DELETE FROM shares WHERE path = ?1")?.execute([path])?;
        }
        Ok(ended.into_iter().map(path_of).collect())
    }

    /// All shares, with their sums.
    pub fn shares(&self) -> Result<Vec<ShareSum>, DbError> {
        self.read_shares(
            &format!(
                "SELECT {COLUMNS}, coalesce(sum(f.status NOT IN (2, 4, 5)), 0),
                   coalesce(sum(CASE WHEN f.status NOT IN (2, 4, 5) THEN f.size END), 0),
                   coalesce(sum(f.status IN (0, 6)), 0), coalesce(sum(f.status = 3), 0),
                   coalesce(sum(f.status IN (4, 5)), 0), coalesce(sum(f.status = 2), 0),
                   coalesce(sum(f.status = 2 AND f.by_master), 0)
                 FROM shares s LEFT JOIN local_files f ON f.share = s.path GROUP BY s.path ORDER BY s.name"
            ),
            [],
        )
    }

    /// The share at this path, without its sums, for which all of its files must be looked at.
    pub fn share(&self, path: &Path) -> Result<Option<ShareSum>, DbError> {
        let sql = format!("SELECT {COLUMNS}, 0, 0, 0, 0, 0, 0, 0 FROM shares s WHERE path = ?1");
        Ok(self.read_shares(&sql, [path.as_os_str().as_bytes()])?.pop())
    }

    fn read_shares(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<ShareSum>, DbError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| {
            let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
            let last = row.get::<_, Option<i64>>(6)?;
            let note = ScanNote {
                at_ms: last.unwrap_or_default(),
                skipped: Vec::new(),
                skipped_count: number(12)?,
                failed: number(11)?,
                device: row.get::<_, Option<i64>>(7)?.map(|device| device as u64),
                guard: None,
                missing: number(9)?,
            };
            let share = ShareSum {
                path: path_of(row.get(0)?),
                name: row.get(1)?,
                copy: row.get(2)?,
                exclude: Vec::new(),
                files: number(14)?,
                bytes: number(15)?,
                syncing: number(16)?,
                refused: number(17)?,
                leaving: number(18)?,
                removed: number(19)?,
                taken_out: number(20)?,
                timed_out: number(10)?,
                ending: row.get(5)?,
                scanning: row.get(4)?,
                last: None,
            };
            let lists = (row.get::<_, Vec<u8>>(3)?, row.get::<_, Vec<u8>>(13)?);
            Ok((share, last.map(|_| note), lists, row.get::<_, Option<String>>(8)?))
        })?;
        rows.map(|row| {
            let (share, note, (exclude, skipped), guard) = row?;
            let skipped = decoded(&skipped)?;
            let last = note.map(|note| ScanNote { skipped, guard, ..note });
            Ok(ShareSum { exclude: decoded(&exclude)?, last, ..share })
        })
        .collect()
    }
}
