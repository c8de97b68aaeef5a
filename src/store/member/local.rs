//! What this device shares: shares and their files, as they were last seen on disk, and what the catalog lacks of them.

use super::catalog::{kind_code, kind_of};
use super::{DbError, MemberStore, damaged, decoded};
use crate::store::walk::Stamp;
use crate::wire::codec::encode;
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::{ContentId, FileId, Hash, PublicId};
use crate::wire::log::{FileKind, FileMeta};
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, Row, params};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where a shared file stands (W9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalStatus {
    /// Staged: the catalog doesn't have it yet.
    Syncing,
    /// In the catalog.
    Idle,
    /// It was removed from the catalog, and stays out until it is added again.
    Unlisted,
    /// The master refused it.
    Refused,
}

impl LocalStatus {
    fn code(self) -> u8 {
        match self {
            LocalStatus::Syncing => 0,
            LocalStatus::Idle => 1,
            LocalStatus::Unlisted => 2,
            LocalStatus::Refused => 3,
        }
    }

    fn of(code: u8) -> Result<LocalStatus, DbError> {
        [LocalStatus::Syncing, LocalStatus::Idle, LocalStatus::Unlisted, LocalStatus::Refused]
            .into_iter()
            .find(|status| status.code() == code)
            .ok_or_else(|| damaged(format_args!("a shared file of status {code}")))
    }
}

/// A file that this device shares, as it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Its row in the catalog.
    pub meta: FileMeta,
    /// Where it lies.
    pub abs: PathBuf,
    /// What it looked like when it was hashed.
    pub stamp: Stamp,
    /// The list of its chunks' hashes; empty for one chunk or none.
    pub list: Vec<u8>,
    /// Where it stands.
    pub status: LocalStatus,
    /// Why the master refused it.
    pub refused: Option<String>,
}

/// A file that a scan found and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its row for the catalog; the ids are fresh ones, used where the path is new.
    pub meta: FileMeta,
    /// Where it lies.
    pub abs: PathBuf,
    /// What it looked like when it was hashed.
    pub stamp: Stamp,
    /// The list of its chunks' hashes.
    pub list: Vec<u8>,
}

/// One share, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSum {
    /// Where it lies.
    pub path: PathBuf,
    /// The first part of its files' paths.
    pub name: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the master has not answered for.
    pub syncing: u64,
    /// Files that the master refused.
    pub refused: u64,
    /// Whether a scan is under way, or was when the node ended.
    pub scanning: bool,
    /// When the last scan ended, in milliseconds since 1970.
    pub last_scan: Option<i64>,
    /// How much the last scan skipped.
    pub skipped_count: u64,
    /// The first few of that, in words.
    pub skipped: Vec<String>,
}

const COLUMNS: &str =
    "id, content, path, kind, size, hash, chunk, executable, abs, mtime_ns, inode, device, list, status, refused";

impl MemberStore {
    /// Makes a share, or finds the one that is there. Gives its name: that of its path, made unique.
    pub fn put_share(&self, path: &Path, wish: &RelPath) -> Result<RelPath, DbError> {
        if let Some(name) = self.share_name(path)? {
            self.set_scanning(path, true)?;
            return Ok(name);
        }
        let mut name = wish.clone();
        let mut number = 2;
        while self.share_named(&name)? {
            name = RelPath::parse(&format!("{wish}-{number}")).map_err(damaged)?;
            number += 1;
        }
        self.db
            .prepare_cached(
                "INSERT INTO shares(path, name, scanning, skipped_count, skipped) VALUES (?1, ?2, 1, 0, ?3)",
            )?
            .execute(params![path.as_os_str().as_bytes(), name.as_str(), encode(&Vec::<String>::new())])?;
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

    fn share_named(&self, name: &RelPath) -> Result<bool, DbError> {
        let found: Option<i64> = self
            .db
            .prepare_cached("SELECT 1 FROM shares WHERE name = ?1")?
            .query_row([name.as_str()], |row| row.get(0))
            .optional()?;
        Ok(found.is_some())
    }

    fn set_scanning(&self, path: &Path, scanning: bool) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE shares SET scanning = ?2 WHERE path = ?1")?
            .execute(params![path.as_os_str().as_bytes(), scanning])?;
        Ok(())
    }

    /// A scan has ended.
    pub fn scan_ended(&self, path: &Path, at_ms: i64, skipped: &[String], skipped_count: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "UPDATE shares SET scanning = 0, last_scan = ?2, skipped_count = ?3, skipped = ?4 WHERE path = ?1",
            )?
            .execute(params![path.as_os_str().as_bytes(), at_ms, skipped_count as i64, encode(&skipped.to_vec())])?;
        Ok(())
    }

    /// All shares.
    pub fn shares(&self) -> Result<Vec<ShareSum>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT s.path, s.name, s.scanning, s.last_scan, s.skipped_count, s.skipped,
               count(f.n), coalesce(sum(f.size), 0), coalesce(sum(f.status = 0), 0), coalesce(sum(f.status = 3), 0)
             FROM shares s LEFT JOIN local_files f ON f.share = s.path AND f.status <> 2 GROUP BY s.path ORDER BY s.name",
        )?;
        let rows = statement.query_map([], |row| {
            let share = ShareSum {
                path: path_of(row.get(0)?),
                name: row.get(1)?,
                scanning: row.get(2)?,
                last_scan: row.get(3)?,
                skipped_count: row.get::<_, i64>(4)? as u64,
                skipped: Vec::new(),
                files: row.get::<_, i64>(6)? as u64,
                bytes: row.get::<_, i64>(7)? as u64,
                syncing: row.get::<_, i64>(8)? as u64,
                refused: row.get::<_, i64>(9)? as u64,
            };
            Ok((share, row.get::<_, Vec<u8>>(5)?))
        })?;
        rows.map(|row| {
            let (share, skipped) = row?;
            Ok(ShareSum { skipped: decoded(&skipped)?, ..share })
        })
        .collect()
    }

    /// What a share's scan need not hash again: path, stamp.
    pub fn stamps_of(&self, share: &Path) -> Result<Vec<(RelPath, Stamp)>, DbError> {
        let mut statement =
            self.db.prepare_cached("SELECT path, size, mtime_ns, inode, device FROM local_files WHERE share = ?1")?;
        let rows = statement.query_map([share.as_os_str().as_bytes()], |row| {
            let stamp = Stamp {
                size: row.get::<_, i64>(1)? as u64,
                mtime_ns: row.get(2)?,
                inode: row.get::<_, i64>(3)? as u64,
                device: row.get::<_, i64>(4)? as u64,
            };
            Ok((row.get::<_, String>(0)?, stamp))
        })?;
        rows.map(|row| {
            let (path, stamp) = row?;
            Ok((RelPath::parse(&path).map_err(damaged)?, stamp))
        })
        .collect()
    }

    /// Puts a file that a scan found into staging. A path that is there already gets a new version if its content is
    /// another one, and otherwise only its new stamp. Says whether the catalog must hear of it.
    pub fn stage(&self, share: &Path, staged: &Staged) -> Result<bool, DbError> {
        let there = self.local_at(&staged.meta.path)?;
        let same = |file: &LocalFile| {
            file.meta.hash == staged.meta.hash
                && file.meta.size == staged.meta.size
                && file.meta.kind == staged.meta.kind
                && file.meta.executable == staged.meta.executable
                && file.meta.mtime_ms == staged.meta.mtime_ms
        };
        match there {
            None => self.insert_local(share, staged).map(|()| true),
            Some(file) if same(&file) && file.status != LocalStatus::Unlisted => {
                self.restamp(&file.meta.id, staged).map(|()| false)
            }
            Some(file) => self.replace_local(&file, staged).map(|()| true),
        }
    }

    fn insert_local(&self, share: &Path, staged: &Staged) -> Result<(), DbError> {
        let Staged { meta, abs, stamp, list } = staged;
        self.db
            .prepare_cached(
                "INSERT INTO local_files(share, id, content, path, abs, kind, size, mtime_ns, inode, device, hash, chunk,
                 executable, list, status, generation) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,0,0)",
            )?
            .execute(params![
                share.as_os_str().as_bytes(),
                meta.id.0,
                meta.content.0,
                meta.path.as_str(),
                abs.as_os_str().as_bytes(),
                kind_code(meta.kind),
                meta.size as i64,
                stamp.mtime_ns,
                stamp.inode as i64,
                stamp.device as i64,
                meta.hash.0,
                u8::from(meta.chunk),
                meta.executable,
                list,
            ])?;
        Ok(())
    }

    fn restamp(&self, id: &FileId, staged: &Staged) -> Result<(), DbError> {
        let stamp = &staged.stamp;
        self.db
            .prepare_cached("UPDATE local_files SET mtime_ns = ?2, inode = ?3, device = ?4, abs = ?5 WHERE id = ?1")?
            .execute(params![
                id.0,
                stamp.mtime_ns,
                stamp.inode as i64,
                stamp.device as i64,
                staged.abs.as_os_str().as_bytes()
            ])?;
        Ok(())
    }

    /// The same file (or, if it was unlisted, a new one at its path) with another content.
    fn replace_local(&self, file: &LocalFile, staged: &Staged) -> Result<(), DbError> {
        let Staged { meta, abs, stamp, list } = staged;
        let id = if file.status == LocalStatus::Unlisted { meta.id } else { file.meta.id };
        self.db
            .prepare_cached(
                "UPDATE local_files SET id = ?2, content = ?3, abs = ?4, kind = ?5, size = ?6, mtime_ns = ?7, inode = ?8,
                 device = ?9, hash = ?10, chunk = ?11, executable = ?12, list = ?13, status = 0, refused = NULL WHERE id = ?1",
            )?
            .execute(params![
                file.meta.id.0,
                id.0,
                meta.content.0,
                abs.as_os_str().as_bytes(),
                kind_code(meta.kind),
                meta.size as i64,
                stamp.mtime_ns,
                stamp.inode as i64,
                stamp.device as i64,
                meta.hash.0,
                u8::from(meta.chunk),
                meta.executable,
                list,
            ])?;
        Ok(())
    }

    fn local_at(&self, path: &RelPath) -> Result<Option<LocalFile>, DbError> {
        self.one_local(&format!("SELECT {COLUMNS} FROM local_files WHERE path = ?1"), params![path.as_str()])
    }

    /// The shared file of this content.
    pub fn local_content(&self, content: &ContentId) -> Result<Option<LocalFile>, DbError> {
        self.one_local(&format!("SELECT {COLUMNS} FROM local_files WHERE content = ?1"), params![content.0])
    }

    /// The share that the file of this content belongs to.
    pub fn share_of_content(&self, content: &ContentId) -> Result<Option<PathBuf>, DbError> {
        let path: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT share FROM local_files WHERE content = ?1")?
            .query_row([content.0], |row| row.get(0))
            .optional()?;
        Ok(path.map(path_of))
    }

    fn one_local(&self, sql: &str, params: impl rusqlite::Params) -> Result<Option<LocalFile>, DbError> {
        let file = self.db.prepare_cached(sql)?.query_row(params, |row| Ok(read_local(row))).optional()?;
        file.transpose()
    }

    /// The files of a share.
    pub fn local_of(&self, share: &Path) -> Result<Vec<LocalFile>, DbError> {
        self.many_local(
            &format!("SELECT {COLUMNS} FROM local_files WHERE share = ?1 ORDER BY path"),
            params![share.as_os_str().as_bytes()],
        )
    }

    /// Staged files, by path.
    pub fn staged(&self, limit: usize) -> Result<Vec<LocalFile>, DbError> {
        self.many_local(
            &format!("SELECT {COLUMNS} FROM local_files WHERE status = 0 ORDER BY path LIMIT ?1"),
            params![limit as i64],
        )
    }

    fn many_local(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<LocalFile>, DbError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| Ok(read_local(row)))?;
        rows.map(|row| row?).collect()
    }

    /// The catalog has these rows now: where they are this device's own, in the version that it staged, they are idle.
    pub fn settle_local(
        &self,
        owner: PublicId,
        me: Option<PublicId>,
        files: &[FileMeta],
        generation: u32,
    ) -> Result<(), DbError> {
        if me != Some(owner) {
            return Ok(());
        }
        let mut statement = self.db.prepare_cached(
            "UPDATE local_files SET status = 1, refused = NULL, generation = ?3 WHERE id = ?1 AND content = ?2",
        )?;
        for file in files {
            statement.execute(params![file.id.0, file.content.0, generation])?;
        }
        Ok(())
    }

    pub(super) fn unlist_local(&self, files: &[FileId]) -> Result<(), DbError> {
        let mut statement = self.db.prepare_cached("UPDATE local_files SET status = 2 WHERE id = ?1")?;
        for id in files {
            statement.execute([id.0])?;
        }
        Ok(())
    }

    /// A file goes by another id from now on: the one that the catalog has for its path.
    pub fn rename_local(&self, id: &FileId, now: &FileId) -> Result<(), DbError> {
        self.db.prepare_cached("UPDATE local_files SET id = ?2 WHERE id = ?1")?.execute([id.0, now.0])?;
        Ok(())
    }

    /// The master refused this file.
    pub fn refuse_local(&self, id: &FileId, why: &str) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE local_files SET status = 3, refused = ?2 WHERE id = ?1 AND status = 0")?
            .execute(params![id.0, why])?;
        Ok(())
    }

    /// Holds this device's files against the catalog, after a snapshot or in a new generation: what the catalog has in
    /// this version is idle, and accepted in this generation; what it has in another version is asked to be changed;
    /// what it accepted in this generation and has no more was removed, and stays out; what it accepted in an earlier
    /// one is asked for again.
    pub fn reconcile_local(&self, me: &PublicId, generation: u32) -> Result<(), DbError> {
        self.db.execute(
            "UPDATE local_files SET status = 1, refused = NULL, generation = ?2 WHERE (status <> 1 OR generation <> ?2) AND EXISTS
             (SELECT 1 FROM files f WHERE f.id = local_files.id AND f.content = local_files.content AND f.owner = ?1)",
            params![me.0, generation],
        )?;
        self.db.execute(
            "UPDATE local_files SET status = 0, generation = ?2 WHERE status = 1 AND EXISTS
             (SELECT 1 FROM files f WHERE f.id = local_files.id AND f.content <> local_files.content AND f.owner = ?1)",
            params![me.0, generation],
        )?;
        self.db.execute(
            "UPDATE local_files SET status = CASE WHEN generation = ?2 THEN 2 ELSE 0 END WHERE status = 1 AND NOT EXISTS
             (SELECT 1 FROM files f WHERE f.id = local_files.id AND f.owner = ?1)",
            params![me.0, generation],
        )?;
        Ok(())
    }
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn read_local(row: &Row<'_>) -> Result<LocalFile, DbError> {
    let stamp = Stamp {
        size: row.get::<_, i64>(4)? as u64,
        mtime_ns: row.get(9)?,
        inode: row.get::<_, i64>(10)? as u64,
        device: row.get::<_, i64>(11)? as u64,
    };
    let kind = kind_of(row.get(3)?)?;
    let meta = FileMeta {
        id: FileId(row.get(0)?),
        content: ContentId(row.get(1)?),
        path: RelPath::parse(&row.get::<_, String>(2)?).map_err(damaged)?,
        kind,
        size: if kind == FileKind::File { stamp.size } else { 0 },
        hash: Hash(row.get(5)?),
        chunk: ChunkSize::parse(row.get(6)?).map_err(damaged)?,
        mtime_ms: stamp.mtime_ms(),
        executable: row.get(7)?,
    };
    Ok(LocalFile {
        meta,
        abs: path_of(row.get(8)?),
        stamp,
        list: row.get(12)?,
        status: LocalStatus::of(row.get(13)?)?,
        refused: row.get(14)?,
    })
}
