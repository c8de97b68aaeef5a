//! What this device wants: jobs and their transfers, one row a file, with what was claimed of each.

use super::catalog::{kind_code, kind_of};
use super::job_control::{JobStanding, conflict_code, conflict_of, way_of};
use super::{DbError, MemberStore, damaged};
use crate::state::downloads::Way;
use crate::store::download::Conflict;
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::{ContentId, FileId, Hash, PublicId};
use crate::wire::log::{FileKind, FileMeta};
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, Row, params};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where a transfer stands, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferStanding {
    /// To be fetched.
    Open,
    /// There.
    Done,
    /// Given up.
    Failed,
    /// Ended by a person.
    Cancelled,
    /// Something else is at its place, and its job leaves such files out.
    Skipped,
}

impl TransferStanding {
    pub(super) fn code(self) -> u8 {
        match self {
            TransferStanding::Open => 0,
            TransferStanding::Done => 1,
            TransferStanding::Failed => 2,
            TransferStanding::Cancelled => 3,
            TransferStanding::Skipped => 4,
        }
    }

    fn of(code: u8) -> Result<TransferStanding, DbError> {
        [
            TransferStanding::Open,
            TransferStanding::Done,
            TransferStanding::Failed,
            TransferStanding::Cancelled,
            TransferStanding::Skipped,
        ]
        .into_iter()
        .find(|standing| standing.code() == code)
        .ok_or_else(|| damaged(format_args!("a transfer of standing {code}")))
    }
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTransfer {
    /// Whose file.
    pub owner: PublicId,
    /// Its row in the catalog.
    pub file: FileMeta,
    /// Its path below the job's folder.
    pub dest: RelPath,
}

/// A transfer, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTransfer {
    /// The transfer.
    pub id: u64,
    /// Its job.
    pub job: u64,
    /// The file.
    pub file: FileId,
    /// Whose.
    pub owner: PublicId,
    /// Which version of it.
    pub content: ContentId,
    /// Its path below the job's folder.
    pub dest: RelPath,
    /// File or empty folder.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// The content's hash.
    pub hash: Hash,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    /// Modification time, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Where it stands.
    pub standing: TransferStanding,
    /// Why it failed.
    pub reason: Option<String>,
    /// The chunks that were claimed, as bits.
    pub claimed: Vec<u8>,
    /// Bytes of the chunks that were claimed.
    pub done: u64,
    /// Bytes that ever came in.
    pub received: u64,
    /// The list of its chunks' hashes, once it is here.
    pub list: Option<Vec<u8>>,
    /// Whether a part file was made for it.
    pub part: bool,
    /// What its path would be, if it could not have that.
    pub wish: Option<RelPath>,
    /// The size of an earlier version, chunks of which are in the part file.
    pub was_size: Option<u64>,
}

/// A job, summed up over its transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSum {
    /// The job.
    pub job: u64,
    /// What was asked for, in words.
    pub what: String,
    /// The folder that it goes to.
    pub dest: PathBuf,
    /// Milliseconds that it has been moving.
    pub moving_ms: u64,
    /// Files in all.
    pub files: u64,
    /// Files that are there.
    pub files_done: u64,
    /// Files that failed.
    pub files_failed: u64,
    /// Files that a person ended.
    pub files_cancelled: u64,
    /// Files that were left out, for something else is at their place.
    pub files_skipped: u64,
    /// What a person decided about it.
    pub standing: JobStanding,
    /// Whether all places were looked at before the first byte, where that is wanted.
    pub looked: bool,
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that ever came in.
    pub received: u64,
    /// Why the first failed one failed.
    pub reason: Option<String>,
    /// Whether that was somebody's decision.
    pub refused: bool,
}

/// What its transfers' rows need to know of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPlace {
    /// The folder that it goes to.
    pub dest: PathBuf,
    /// What a person decided about it.
    pub standing: JobStanding,
    /// What is done if something else is at a file's place.
    pub conflict: Conflict,
    /// By which ways its files may come.
    pub way: Way,
    /// Whether all places were looked at before the first byte, where that is wanted.
    pub looked: bool,
}

/// Why a transfer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// In words.
    pub reason: &'a str,
    /// Whether it was somebody's decision.
    pub refused: bool,
}

const COLUMNS: &str = "id, job, file, owner, content, dest, kind, size, hash, chunk, mtime, executable, state, reason,
    claimed, done, received, part, wish, was_size, list";

impl MemberStore {
    /// Makes a job.
    pub fn put_job(
        &self,
        what: &str,
        dest: &Path,
        conflict: Conflict,
        transfers: &[NewTransfer],
    ) -> Result<u64, DbError> {
        self.db
            .prepare_cached("INSERT INTO jobs(what, dest, moving_ms, conflict, looked) VALUES (?1, ?2, 0, ?3, ?4)")?
            .execute(params![what, dest.as_os_str().as_bytes(), conflict_code(conflict), conflict != Conflict::Fail])?;
        let job = self.db.last_insert_rowid();
        let mut statement = self.db.prepare_cached(
            "INSERT INTO transfers(job, file, owner, content, dest, kind, size, hash, chunk, mtime, executable, state,
             claimed, done, received, part) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,0,x'',0,0,0)",
        )?;
        for NewTransfer { owner, file, dest } in transfers {
            statement.execute(params![
                job,
                file.id.0,
                owner.0,
                file.content.0,
                dest.as_str(),
                kind_code(file.kind),
                file.size as i64,
                file.hash.0,
                u8::from(file.chunk),
                file.mtime_ms,
                file.executable,
            ])?;
        }
        Ok(job as u64)
    }

    /// The job that is not over and was made by the same words, for the same folder.
    pub fn open_job(&self, what: &str, dest: &Path) -> Result<Option<u64>, DbError> {
        let job: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT job FROM jobs j WHERE what = ?1 AND dest = ?2 AND EXISTS
                 (SELECT 1 FROM transfers t WHERE t.job = j.job AND t.state = 0) ORDER BY job DESC LIMIT 1",
            )?
            .query_row(params![what, dest.as_os_str().as_bytes()], |row| row.get(0))
            .optional()?;
        Ok(job.map(|job| job as u64))
    }

    /// The open transfers after one, in order, those of paused jobs as well.
    pub fn open_transfers(&self, after: u64, limit: usize) -> Result<Vec<StoredTransfer>, DbError> {
        self.transfers(
            &format!("SELECT {COLUMNS} FROM transfers WHERE state = 0 AND id > ?1 ORDER BY id LIMIT ?2"),
            params![after as i64, limit as i64],
        )
    }

    /// The open transfers after one, in order, of jobs that are not paused.
    pub fn going_transfers(&self, after: u64, limit: usize) -> Result<Vec<StoredTransfer>, DbError> {
        self.transfers(
            &format!(
                "SELECT {COLUMNS} FROM transfers t WHERE state = 0 AND id > ?1
                 AND EXISTS (SELECT 1 FROM jobs j WHERE j.job = t.job AND j.standing = 0 AND j.looked) ORDER BY id LIMIT ?2"
            ),
            params![after as i64, limit as i64],
        )
    }

    /// A transfer.
    pub fn transfer(&self, id: u64) -> Result<Option<StoredTransfer>, DbError> {
        let found = self.transfers(&format!("SELECT {COLUMNS} FROM transfers WHERE id = ?1"), params![id as i64])?;
        Ok(found.into_iter().next())
    }

    /// The transfers of a job.
    pub fn transfers_of(&self, job: u64) -> Result<Vec<StoredTransfer>, DbError> {
        self.transfers(&format!("SELECT {COLUMNS} FROM transfers WHERE job = ?1 ORDER BY id"), params![job as i64])
    }

    /// The newest transfers, newest job first.
    pub fn newest_transfers(&self, limit: usize) -> Result<Vec<StoredTransfer>, DbError> {
        self.transfers(
            &format!("SELECT {COLUMNS} FROM transfers ORDER BY job DESC, id LIMIT ?1"),
            params![limit as i64],
        )
    }

    /// The open transfers whose file is no longer in the catalog.
    pub fn transfers_without_file(&self) -> Result<Vec<u64>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT t.id FROM transfers t WHERE t.state = 0 AND NOT EXISTS (SELECT 1 FROM files f WHERE f.id = t.file)",
        )?;
        let rows = statement.query_map([], |row| Ok(row.get::<_, i64>(0)? as u64))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The open transfers whose file is in the catalog in another version.
    pub fn transfers_of_old_versions(&self) -> Result<Vec<u64>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT t.id FROM transfers t JOIN files f ON f.id = t.file WHERE t.state = 0 AND f.content <> t.content",
        )?;
        let rows = statement.query_map([], |row| Ok(row.get::<_, i64>(0)? as u64))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn open_of_job(&self, job: u64, after: u64, limit: usize) -> Result<Vec<StoredTransfer>, DbError> {
        self.transfers(
            &format!("SELECT {COLUMNS} FROM transfers WHERE job = ?1 AND state = 0 AND id > ?2 ORDER BY id LIMIT ?3"),
            params![job as i64, after as i64, limit as i64],
        )
    }

    fn transfers(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<StoredTransfer>, DbError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| Ok(read_transfer(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Records that a part file is about to be made for this transfer.
    pub fn part_made(&self, id: u64) -> Result<(), DbError> {
        self.db.prepare_cached("UPDATE transfers SET part = 1 WHERE id = ?1")?.execute([id as i64])?;
        Ok(())
    }

    /// Keeps the list of a transfer's chunks.
    pub fn keep_list(&self, id: u64, list: &[u8]) -> Result<(), DbError> {
        self.db.prepare_cached("UPDATE transfers SET list = ?2 WHERE id = ?1")?.execute(params![id as i64, list])?;
        Ok(())
    }

    /// Claims chunks: their bytes are synced, and never asked for again.
    pub fn claim(&self, id: u64, claimed: &[u8], done: u64, received: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE transfers SET claimed = ?2, done = ?3, received = ?4 WHERE id = ?1")?
            .execute(params![id as i64, claimed, done as i64, received as i64])?;
        Ok(())
    }

    /// A transfer is over: done, or failed for a reason.
    pub fn settle(&self, id: u64, failure: Option<Failure<'_>>, received: u64) -> Result<(), DbError> {
        let standing = if failure.is_some() { TransferStanding::Failed } else { TransferStanding::Done };
        self.settle_as(id, standing, failure, received)
    }

    /// A transfer is over in this way.
    pub fn settle_as(
        &self,
        id: u64,
        standing: TransferStanding,
        failure: Option<Failure<'_>>,
        received: u64,
    ) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "UPDATE transfers SET state = ?2, reason = ?3, refused = ?4, received = max(received, ?5), claimed = x'',
                 list = NULL, was_list = NULL, was_claimed = NULL, was_size = NULL,
                 done = CASE WHEN ?2 = 1 THEN size ELSE done END, part = CASE WHEN ?2 = 1 THEN 0 ELSE part END
                 WHERE id = ?1",
            )?
            .execute(params![
                id as i64,
                standing.code(),
                failure.map(|failure| failure.reason),
                failure.is_some_and(|failure| failure.refused),
                received as i64
            ])?;
        Ok(())
    }

    /// A job has been moving for this much longer.
    pub fn job_moved(&self, job: u64, ms: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE jobs SET moving_ms = moving_ms + ?2 WHERE job = ?1")?
            .execute(params![job as i64, ms as i64])?;
        Ok(())
    }

    /// Where a job goes, and what a person decided about it.
    pub fn job_place(&self, job: u64) -> Result<Option<JobPlace>, DbError> {
        let place = self
            .db
            .prepare_cached("SELECT dest, standing, conflict, looked, way FROM jobs WHERE job = ?1")?
            .query_row([job as i64], |row| {
                let dest = PathBuf::from(std::ffi::OsString::from_vec(row.get(0)?));
                Ok(JobPlace {
                    dest,
                    standing: JobStanding::of(row.get(1)?),
                    conflict: conflict_of(row.get(2)?),
                    looked: row.get(3)?,
                    way: way_of(row.get(4)?),
                })
            })
            .optional()?;
        Ok(place)
    }

    /// The folder that a job goes to.
    pub fn job_dest(&self, job: u64) -> Result<Option<PathBuf>, DbError> {
        let dest: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT dest FROM jobs WHERE job = ?1")?
            .query_row([job as i64], |row| row.get(0))
            .optional()?;
        Ok(dest.map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes))))
    }

    /// Jobs, newest first; one if it is named.
    pub fn jobs(&self, job: Option<u64>, limit: usize) -> Result<Vec<JobSum>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT j.job, j.what, j.dest, j.moving_ms, count(t.id), coalesce(sum(t.state = 1), 0),
               coalesce(sum(t.state = 2), 0), coalesce(sum(t.size), 0), coalesce(sum(t.done), 0),
               coalesce(sum(t.received), 0), (SELECT reason FROM transfers f WHERE f.job = j.job AND f.state = 2 LIMIT 1),
               coalesce((SELECT refused FROM transfers f WHERE f.job = j.job AND f.state = 2 LIMIT 1), 0),
               coalesce(sum(t.state = 3), 0), coalesce(sum(t.state = 4), 0), j.standing, j.looked
             FROM (SELECT * FROM jobs WHERE ?1 IS NULL OR job = ?1 ORDER BY job DESC LIMIT ?2) j
             LEFT JOIN transfers t ON t.job = j.job GROUP BY j.job ORDER BY j.job DESC",
        )?;
        let rows = statement.query_map(params![job.map(|job| job as i64), limit as i64], |row| {
            let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
            Ok(JobSum {
                job: number(0)?,
                what: row.get(1)?,
                dest: PathBuf::from(std::ffi::OsString::from_vec(row.get(2)?)),
                moving_ms: number(3)?,
                files: number(4)?,
                files_done: number(5)?,
                files_failed: number(6)?,
                total: number(7)?,
                done: number(8)?,
                received: number(9)?,
                reason: row.get(10)?,
                refused: row.get(11)?,
                files_cancelled: number(12)?,
                files_skipped: number(13)?,
                standing: JobStanding::of(row.get(14)?),
                looked: row.get(15)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn read_transfer(row: &Row<'_>) -> Result<StoredTransfer, DbError> {
    Ok(StoredTransfer {
        id: row.get::<_, i64>(0)? as u64,
        job: row.get::<_, i64>(1)? as u64,
        file: FileId(row.get(2)?),
        owner: PublicId(row.get(3)?),
        content: ContentId(row.get(4)?),
        dest: RelPath::parse(&row.get::<_, String>(5)?).map_err(damaged)?,
        kind: kind_of(row.get(6)?)?,
        size: row.get::<_, i64>(7)? as u64,
        hash: Hash(row.get(8)?),
        chunk: ChunkSize::parse(row.get(9)?).map_err(damaged)?,
        mtime_ms: row.get(10)?,
        executable: row.get(11)?,
        standing: TransferStanding::of(row.get(12)?)?,
        reason: row.get(13)?,
        claimed: row.get(14)?,
        done: row.get::<_, i64>(15)? as u64,
        received: row.get::<_, i64>(16)? as u64,
        part: row.get(17)?,
        wish: row.get::<_, Option<String>>(18)?.map(|wish| RelPath::parse(&wish).map_err(damaged)).transpose()?,
        was_size: row.get::<_, Option<i64>>(19)?.map(|size| size as u64),
        list: row.get(20)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::member::MemberStore;

    #[test]
    fn a_file_that_became_a_folder_is_fetched_as_one() {
        let store = MemberStore::open_in_memory().unwrap();
        let file = FileMeta {
            id: FileId([1; 16]),
            content: ContentId([2; 16]),
            path: RelPath::parse("a").unwrap(),
            kind: FileKind::File,
            size: 9,
            hash: Hash([3; 32]),
            chunk: ChunkSize::for_file(9),
            mtime_ms: 0,
            executable: false,
        };
        let dest = file.path.clone();
        let transfer = NewTransfer { owner: PublicId([4; 16]), file: file.clone(), dest };
        let job = store.put_job("a", Path::new("/"), Conflict::Fail, &[transfer]).unwrap();
        let id = store.transfers_of(job).unwrap()[0].id;
        store.renew_transfer(id, &FileMeta { kind: FileKind::Folder, size: 0, ..file }).unwrap();
        let row = store.transfer(id).unwrap().unwrap();
        assert_eq!((row.kind, row.size), (FileKind::Folder, 0));
    }
}
