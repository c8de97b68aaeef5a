//! What a person decides about jobs: paused, going on, ended. And what ended transfers leave on the disk.

use super::jobs::TransferStanding;
use super::{DbError, MemberStore, damaged};
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

    /// The failed transfers of a job are to be tried again.
    pub fn retry_transfers(&self, job: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "UPDATE transfers SET state = 0, reason = NULL, refused = 0, claimed = x'', done = 0
                 WHERE job = ?1 AND state = 2",
            )?
            .execute([job as i64])?;
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

    /// Records that there is no part file of this transfer.
    pub fn part_gone(&self, id: u64) -> Result<(), DbError> {
        self.db.prepare_cached("UPDATE transfers SET part = 0 WHERE id = ?1")?.execute([id as i64])?;
        Ok(())
    }
}
