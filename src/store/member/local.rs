//! What this device shares: shares and their files, as they were last seen on disk, and what the catalog lacks of them.

use super::catalog::{kind_code, kind_of};
use super::{DbError, MemberStore, damaged};
use crate::store::walk::Stamp;
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::{ContentId, FileId, Hash};
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
    /// A person removed it here; the catalog may still have it.
    Leaving,
    /// It is gone from the disk, or excluded now; the catalog may still have it.
    Gone,
    /// It was to leave the catalog, and is wanted again: in the catalog if it is still there, else as a new file.
    Returning,
}

impl LocalStatus {
    const ALL: [LocalStatus; 7] = [
        LocalStatus::Syncing,
        LocalStatus::Idle,
        LocalStatus::Unlisted,
        LocalStatus::Refused,
        LocalStatus::Leaving,
        LocalStatus::Gone,
        LocalStatus::Returning,
    ];

    pub(super) fn code(self) -> u8 {
        match self {
            LocalStatus::Syncing => 0,
            LocalStatus::Idle => 1,
            LocalStatus::Unlisted => 2,
            LocalStatus::Refused => 3,
            LocalStatus::Leaving => 4,
            LocalStatus::Gone => 5,
            LocalStatus::Returning => 6,
        }
    }

    pub(super) fn of(code: u8) -> Result<LocalStatus, DbError> {
        LocalStatus::ALL
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
    /// Whether the master took it out of the catalog, and its copy is kept.
    pub kept_copy: bool,
}

/// What is known of a shared path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighted {
    /// The row's number; a scan's record of what it saw goes by it.
    pub row: i64,
    /// The file.
    pub id: FileId,
    /// What it looked like when it was hashed.
    pub stamp: Stamp,
    /// What it was.
    pub kind: FileKind,
    /// Whether it could be executed.
    pub executable: bool,
    /// Where it stands.
    pub status: LocalStatus,
}

/// What became of a file that was staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOutcome {
    /// Whether the catalog must hear of it.
    pub news: bool,
    /// Where the version lay that is not needed any more, if it was elsewhere.
    pub replaced: Option<PathBuf>,
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

pub(super) const COLUMNS: &str =
    "id, content, path, kind, size, hash, chunk, executable, abs, mtime_ns, inode, device, list, status, refused,
    status = 2 AND by_master AND share IN (SELECT path FROM shares WHERE copy)";

impl MemberStore {
    /// Puts a file that a scan found into staging. A path that is there already gets a new version if its content is
    /// another one, and otherwise only its new stamp. A path that a person took out stays out.
    pub fn stage(&self, share: &Path, staged: &Staged) -> Result<StageOutcome, DbError> {
        let there = self.local_at(&staged.meta.path)?;
        let same = |file: &LocalFile| {
            file.meta.hash == staged.meta.hash
                && file.meta.size == staged.meta.size
                && file.meta.kind == staged.meta.kind
                && file.meta.executable == staged.meta.executable
                && file.meta.mtime_ms == staged.meta.mtime_ms
        };
        let replaced = |file: &LocalFile| (file.abs != staged.abs).then(|| file.abs.clone());
        match there {
            None => self.insert_local(share, staged).map(|()| StageOutcome { news: true, replaced: None }),
            // A copy that was made of it is of no use.
            Some(file) if matches!(file.status, LocalStatus::Unlisted | LocalStatus::Leaving) => {
                let unused = (file.abs != staged.abs).then(|| staged.abs.clone());
                Ok(StageOutcome { news: false, replaced: unused })
            }
            Some(file) if same(&file) => {
                self.restamp(&file.meta.id, staged)?;
                let back = file.status == LocalStatus::Gone;
                if back {
                    self.set_local_status(&file.meta.id, LocalStatus::Returning)?;
                }
                Ok(StageOutcome { news: back, replaced: replaced(&file) })
            }
            Some(file) => {
                self.replace_local(&file, staged)?;
                Ok(StageOutcome { news: true, replaced: replaced(&file) })
            }
        }
    }

    /// What is known of the file at a path, to be compared with what a scan sees there.
    pub fn sighted(&self, path: &RelPath) -> Result<Option<Sighted>, DbError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT n, size, mtime_ns, inode, device, kind, executable, status, id FROM local_files WHERE path = ?1",
            )?
            .query_row([path.as_str()], |row| {
                let stamp = Stamp {
                    size: row.get::<_, i64>(1)? as u64,
                    mtime_ns: row.get(2)?,
                    inode: row.get::<_, i64>(3)? as u64,
                    device: row.get::<_, i64>(4)? as u64,
                };
                Ok((row.get(0)?, stamp, row.get(5)?, row.get(6)?, row.get(7)?, FileId(row.get(8)?)))
            })
            .optional()?;
        let Some((row, stamp, kind, executable, status, id)) = row else { return Ok(None) };
        Ok(Some(Sighted { row, id, stamp, kind: kind_of(kind)?, executable, status: LocalStatus::of(status)? }))
    }

    pub(super) fn set_local_status(&self, id: &FileId, status: LocalStatus) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE local_files SET status = ?2 WHERE id = ?1")?
            .execute(params![id.0, status.code()])?;
        Ok(())
    }

    /// The row's number of the file at a path.
    pub fn local_row_at(&self, path: &RelPath) -> Result<Option<i64>, DbError> {
        Ok(self
            .db
            .prepare_cached("SELECT n FROM local_files WHERE path = ?1")?
            .query_row([path.as_str()], |row| row.get(0))
            .optional()?)
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

    /// The same file with another content.
    fn replace_local(&self, file: &LocalFile, staged: &Staged) -> Result<(), DbError> {
        let Staged { meta, abs, stamp, list } = staged;
        let back = matches!(file.status, LocalStatus::Gone | LocalStatus::Returning);
        let status = if back { LocalStatus::Returning } else { LocalStatus::Syncing };
        self.db
            .prepare_cached(
                "UPDATE local_files SET status = ?2, content = ?3, abs = ?4, kind = ?5, size = ?6, mtime_ns = ?7, inode = ?8,
                 device = ?9, hash = ?10, chunk = ?11, executable = ?12, list = ?13, refused = NULL WHERE id = ?1",
            )?
            .execute(params![
                file.meta.id.0,
                status.code(),
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
        // What left the catalog, or never was in it, is nobody's to ask for.
        let sql = format!("SELECT {COLUMNS} FROM local_files WHERE content = ?1 AND status NOT IN (2, 3)");
        self.one_local(&sql, params![content.0])
    }

    /// Whether there is a row of this content, wherever it stands.
    pub fn has_local_content(&self, content: &ContentId) -> Result<bool, DbError> {
        let found: Option<i64> = self
            .db
            .prepare_cached("SELECT 1 FROM local_files WHERE content = ?1")?
            .query_row([content.0], |row| row.get(0))
            .optional()?;
        Ok(found.is_some())
    }

    /// This device's rows at a path and below it, or all; so many at most.
    pub fn local_below(&self, path: Option<&RelPath>, limit: usize) -> Result<Vec<LocalFile>, DbError> {
        let (at, from, to) = super::catalog::range(path);
        self.many_local(
            &format!(
                "SELECT {COLUMNS} FROM local_files WHERE path = ?1 OR path >= ?2 AND path < ?3 ORDER BY path LIMIT ?4"
            ),
            params![at, from, to, limit as i64],
        )
    }

    /// The copies that are kept, each with its file's path among this device's files.
    pub fn copies(&self) -> Result<Vec<(PathBuf, RelPath)>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT abs, path FROM local_files WHERE kind = 0 AND share IN (SELECT path FROM shares WHERE copy) ORDER BY path",
        )?;
        let rows = statement.query_map([], |row| Ok((path_of(row.get(0)?), row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (abs, path) = row?;
            Ok((abs, RelPath::parse(&path).map_err(damaged)?))
        })
        .collect()
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

    pub(super) fn one_local(&self, sql: &str, params: impl rusqlite::Params) -> Result<Option<LocalFile>, DbError> {
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

    pub(super) fn many_local(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<LocalFile>, DbError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| Ok(read_local(row)))?;
        rows.map(|row| row?).collect()
    }
}

pub(super) fn path_of(bytes: Vec<u8>) -> PathBuf {
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
        kept_copy: row.get(15)?,
    })
}
