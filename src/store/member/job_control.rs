//! What a person decides about jobs: paused, going on, ended. And what ended transfers leave on the disk.

use super::jobs::{StoredTransfer, TransferStanding};
use super::{DbError, MemberStore, damaged};
use crate::state::downloads::Way;
use crate::store::download::Conflict;
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, params};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What a person decided about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStanding {
    /// It goes on.
    Going,
    /// It waits until a person lets it go on.
    Paused,
    /// It was ended.
    Cancelled,
}

impl JobStanding {
    fn code(self) -> u8 {
        match self {
            JobStanding::Going => 0,
            JobStanding::Paused => 1,
            JobStanding::Cancelled => 2,
        }
    }

    pub(super) fn of(code: u8) -> JobStanding {
        match code {
            1 => JobStanding::Paused,
            2 => JobStanding::Cancelled,
            _ => JobStanding::Going,
        }
    }
}

pub(super) fn conflict_code(conflict: Conflict) -> u8 {
    match conflict {
        Conflict::Fail => 0,
        Conflict::Skip => 1,
        Conflict::Rename => 2,
        Conflict::Overwrite => 3,
    }
}

fn way_code(way: Way) -> u8 {
    match way {
        Way::Any => 0,
        Way::Relay => 1,
        Way::Direct => 2,
    }
}

pub(super) fn way_of(code: u8) -> Way {
    match code {
        1 => Way::Relay,
        2 => Way::Direct,
        _ => Way::Any,
    }
}

pub(super) fn conflict_of(code: u8) -> Conflict {
    match code {
        1 => Conflict::Skip,
        2 => Conflict::Rename,
        3 => Conflict::Overwrite,
        _ => Conflict::Fail,
    }
}

/// What an ended transfer may have left on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leavings {
    /// The transfer.
    pub transfer: u64,
    /// The folder that its job goes to.
    pub folder: PathBuf,
    /// Its path below.
    pub dest: RelPath,
}

/// How many transfers of a job can still change, and how many may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// To be fetched.
    pub open: u64,
    /// Given up.
    pub failed: u64,
}

impl MemberStore {
    /// What a person decided about a job, if there is such a job.
    pub fn job_standing(&self, job: u64) -> Result<Option<JobStanding>, DbError> {
        let code: Option<u8> = self
            .db
            .prepare_cached("SELECT standing FROM jobs WHERE job = ?1")?
            .query_row([job as i64], |row| row.get(0))
            .optional()?;
        Ok(code.map(JobStanding::of))
    }

    /// Keeps what a person decided about a job.
    pub fn set_job_standing(&self, job: u64, standing: JobStanding) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE jobs SET standing = ?2 WHERE job = ?1")?
            .execute(params![job as i64, standing.code()])?;
        Ok(())
    }

    /// Keeps by which ways the files of a job may come.
    pub fn set_way(&self, job: u64, way: Way) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE jobs SET way = ?2 WHERE job = ?1")?
            .execute(params![job as i64, way_code(way)])?;
        Ok(())
    }

    /// The jobs that are not over, oldest first.
    pub fn open_jobs(&self) -> Result<Vec<u64>, DbError> {
        let mut statement =
            self.db.prepare_cached("SELECT DISTINCT job FROM transfers WHERE state = 0 ORDER BY job")?;
        let rows = statement.query_map([], |row| Ok(row.get::<_, i64>(0)? as u64))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What of a job is not done.
    pub fn job_ended(&self, job: u64) -> Result<Ended, DbError> {
        let ended = self
            .db
            .prepare_cached(
                "SELECT coalesce(sum(state = 0), 0), coalesce(sum(state = 2), 0) FROM transfers WHERE job = ?1",
            )?
            .query_row([job as i64], |row| {
                Ok(Ended { open: row.get::<_, i64>(0)? as u64, failed: row.get::<_, i64>(1)? as u64 })
            })?;
        Ok(ended)
    }

    /// Ends the open transfers of a job.
    pub fn cancel_transfers(&self, job: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "UPDATE transfers SET state = ?2, reason = NULL, claimed = x'', list = NULL, done = 0
                 WHERE job = ?1 AND state = 0",
            )?
            .execute(params![job as i64, TransferStanding::Cancelled.code()])?;
        Ok(())
    }

    /// Whether anything of a job that is not done is still in the catalog.
    pub fn can_retry(&self, job: u64) -> Result<bool, DbError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT 1 FROM transfers t JOIN files f ON f.id = t.file WHERE t.job = ?1 AND t.state IN (2, 3)",
            )?
            .exists([job as i64])?)
    }

    /// The failed transfers of a job are to be tried again, and those that were not fetched for their sake.
    pub fn retry_transfers(&self, job: u64) -> Result<(), DbError> {
        let tried = self
            .db
            .prepare_cached(
                "UPDATE transfers SET state = 0, reason = NULL, refused = 0, claimed = x'', done = 0
                 WHERE job = ?1 AND state IN (2, 3)",
            )?
            .execute([job as i64])?;
        if tried > 0 {
            self.db.prepare_cached("UPDATE jobs SET looked = (conflict <> 0) WHERE job = ?1")?.execute([job as i64])?;
        }
        Ok(())
    }

    /// What is done from now on if something else is at the place of a file of this job.
    pub fn set_conflict(&self, job: u64, conflict: Conflict) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE jobs SET conflict = ?2 WHERE job = ?1")?
            .execute(params![job as i64, conflict_code(conflict)])?;
        Ok(())
    }

    /// All places of a job were looked at, and nothing is in the way.
    pub fn set_looked(&self, job: u64) -> Result<(), DbError> {
        self.db.prepare_cached("UPDATE jobs SET looked = 1 WHERE job = ?1")?.execute([job as i64])?;
        Ok(())
    }

    /// The open transfers of a job are not fetched, for this reason.
    pub fn leave_out(&self, job: u64, reason: &str) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE transfers SET state = 3, reason = ?2 WHERE job = ?1 AND state = 0")?
            .execute(params![job as i64, reason])?;
        Ok(())
    }

    /// The open transfers of a job after one, in order.
    pub fn open_of(&self, job: u64, after: u64, limit: usize) -> Result<Vec<StoredTransfer>, DbError> {
        self.open_of_job(job, after, limit)
    }

    /// A transfer gets another name; what it should have been called is kept.
    pub fn rename_transfer(&self, id: u64, dest: &RelPath) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE transfers SET wish = coalesce(wish, dest), dest = ?2 WHERE id = ?1")?
            .execute(params![id as i64, dest.as_str()])?;
        Ok(())
    }

    /// The first open transfer of a job.
    pub fn first_open(&self, job: u64) -> Result<Option<u64>, DbError> {
        let id: Option<i64> = self
            .db
            .prepare_cached("SELECT min(id) FROM transfers WHERE job = ?1 AND state = 0")?
            .query_row([job as i64], |row| row.get(0))?;
        Ok(id.map(|id| id as u64))
    }

    /// Ended transfers after one that may have left a part file, in order.
    pub fn leavings(&self, after: u64, limit: usize) -> Result<Vec<Leavings>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT t.id, j.dest, t.dest FROM transfers t JOIN jobs j ON j.job = t.job
             WHERE t.part AND t.state > 0 AND t.id > ?1 ORDER BY t.id LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after as i64, limit as i64], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Vec<u8>>(1)?, row.get::<_, String>(2)?))
        })?;
        rows.map(|row| {
            let (transfer, folder, dest) = row?;
            let folder = PathBuf::from(std::ffi::OsString::from_vec(folder));
            Ok(Leavings { transfer, folder, dest: RelPath::parse(&dest).map_err(damaged)? })
        })
        .collect()
    }

    /// Keeps how many bytes ever came in for a transfer, if that is news.
    pub fn keep_received(&self, id: u64, received: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE transfers SET received = ?2 WHERE id = ?1 AND received < ?2")?
            .execute(params![id as i64, received as i64])?;
        Ok(())
    }

    /// Forgets the oldest jobs that are over, but for so many of the newest.
    pub fn forget_old_jobs(&self, kept: usize) -> Result<(), DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT job FROM jobs j WHERE NOT EXISTS (SELECT 1 FROM transfers t WHERE t.job = j.job AND t.state = 0)
             ORDER BY job DESC LIMIT -1 OFFSET ?1",
        )?;
        let old: Vec<i64> = statement.query_map([kept as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for job in old {
            self.db.prepare_cached("DELETE FROM transfers WHERE job = ?1")?.execute([job])?;
            self.db.prepare_cached("DELETE FROM jobs WHERE job = ?1")?.execute([job])?;
        }
        Ok(())
    }

    /// Records that there is no part file of this transfer.
    pub fn part_gone(&self, id: u64) -> Result<(), DbError> {
        self.db.prepare_cached("UPDATE transfers SET part = 0 WHERE id = ?1")?.execute([id as i64])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::member::NewTransfer;
    use crate::wire::geometry::ChunkSize;
    use crate::wire::ids::{ContentId, FileId, Hash, PublicId};
    use crate::wire::log::{FileKind, FileMeta};
    use std::path::Path;

    fn file(number: u8) -> NewTransfer {
        let path = RelPath::parse(&format!("f{number}")).unwrap();
        let file = FileMeta {
            id: FileId([number; 16]),
            content: ContentId([number; 16]),
            path: path.clone(),
            kind: FileKind::File,
            size: 9,
            hash: Hash([number; 32]),
            chunk: ChunkSize::for_file(9),
            mtime_ms: 0,
            executable: false,
        };
        NewTransfer { owner: PublicId([4; 16]), file, dest: path }
    }

    fn job(store: &MemberStore, conflict: Conflict) -> u64 {
        store.put_job("what", Path::new("/"), conflict, &[file(1), file(2)]).unwrap()
    }

    #[test]
    fn paused_and_unlooked_jobs_are_not_loaded() {
        let store = MemberStore::open_in_memory().unwrap();
        let (one, other) = (job(&store, Conflict::Skip), job(&store, Conflict::Fail));
        let going = || store.going_transfers(0, 9).unwrap().iter().map(|row| row.job).collect::<Vec<_>>();
        assert_eq!(going(), [one, one], "the other one\'s places are to be looked at first");
        store.set_looked(other).unwrap();
        store.set_job_standing(one, JobStanding::Paused).unwrap();
        assert_eq!(going(), [other, other]);
    }

    #[test]
    fn a_cancelled_job_names_its_part_files_until_they_are_gone() {
        let store = MemberStore::open_in_memory().unwrap();
        let job = job(&store, Conflict::Skip);
        let ids: Vec<u64> = store.transfers_of(job).unwrap().iter().map(|row| row.id).collect();
        store.part_made(ids[0]).unwrap();
        store.part_made(ids[1]).unwrap();
        store.settle(ids[0], None, 9).unwrap();
        assert!(store.leavings(0, 9).unwrap().is_empty());
        store.cancel_transfers(job).unwrap();
        let left: Vec<u64> = store.leavings(0, 9).unwrap().iter().map(|one| one.transfer).collect();
        assert_eq!(left, [ids[1]], "what is done has none");
        store.part_gone(ids[1]).unwrap();
        assert!(store.leavings(0, 9).unwrap().is_empty());
    }

    #[test]
    fn the_oldest_jobs_that_are_over_are_forgotten() {
        let store = MemberStore::open_in_memory().unwrap();
        let jobs: Vec<u64> = (0..5).map(|_| job(&store, Conflict::Skip)).collect();
        for one in [0, 2, 3, 4] {
            store.cancel_transfers(jobs[one]).unwrap();
        }
        store.forget_old_jobs(2).unwrap();
        let left: Vec<u64> = store.jobs(None, 9).unwrap().iter().map(|sum| sum.job).collect();
        assert_eq!(left, [jobs[4], jobs[3], jobs[1]], "one that is open stays");
        assert!(store.transfers_of(jobs[0]).unwrap().is_empty());
    }
}
