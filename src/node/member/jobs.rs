//! What a person decides about jobs and uploads (W16): pause, resume, cancel. It is on disk before anything follows.

use super::core::{Cx, MemberCore};
use super::io::{Glance, Leftover, Look, Output};
use super::opening::failed;
use super::uploading::UPLOAD_PREFIX;
use crate::node::local::{Controlled, ErrorCode, LocalError, Reply};
use crate::state::downloads::{Opened, Outcome, TransferId};
use crate::store::member::{DbError, Ended, Failure, JobStanding, Leavings, TransferStanding};
use crate::wire::geometry::Geometry;
use crate::wire::log::FileKind;
use crate::wire::path::RelPath;
use std::path::Path;

/// Places of a job that are looked at at once.
const LOOKED_AT_ONCE: usize = 1_024;
/// Why the rest of a job is not fetched when something is in the way of some of its files.
const NOT_FETCHED: &str = "not fetched: something is in the way of other files of this job";
/// Ended transfers whose leavings are looked up at once.
const LEAVINGS_AT_ONCE: usize = 1_024;

/// How a transfer ended; with the path of what is in its way, if that is why.
pub(super) fn in_words(outcome: Outcome, folder: &Path, dest: &RelPath) -> String {
    let taken = match outcome {
        Outcome::AlreadyThere | Outcome::FolderThere => Some(dest.clone()),
        Outcome::FileAbove(depth) => dest.above().nth(usize::from(depth).saturating_sub(1)),
        _ => None,
    };
    match taken {
        Some(taken) => format!("{}: {outcome}", folder.join(taken.as_str()).display()),
        None => outcome.to_string(),
    }
}

/// What a person wants done with a job or an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Pause,
    Resume,
    Cancel,
}

impl MemberCore {
    /// All of them are found before anything is decided.
    pub(super) fn control(
        &mut self,
        cx: &mut Cx<'_>,
        control: Control,
        ids: &[String],
        all: bool,
    ) -> Result<Reply, LocalError> {
        if control != Control::Cancel {
            self.must_not_be_out()?;
        }
        let (mut jobs, mut uploads) = (Vec::new(), Vec::new());
        for id in ids {
            match id.starts_with(UPLOAD_PREFIX) {
                true => uploads.push(self.find_upload(control, id)?),
                false => jobs.push(self.find_job(control, id)?),
            }
        }
        if all {
            jobs = self.jobs_meant_by_all(control).map_err(failed)?;
            uploads = self.uploads_meant_by_all(cx, control).map_err(failed)?;
        }
        let mut controlled = Controlled::default();
        for job in jobs {
            self.control_job(cx, control, job).map_err(failed)?;
            let sums = self.store.jobs(Some(job), 1).map_err(failed)?;
            controlled.jobs.extend(sums.into_iter().map(|sum| self.job_row(cx, sum)));
        }
        for file in uploads {
            controlled.uploads.push(self.control_upload(cx, control, &file)?);
        }
        Ok(Reply::Controlled(controlled))
    }

    /// The job that is meant, if this can be done with it.
    fn find_job(&self, control: Control, id: &str) -> Result<u64, LocalError> {
        let none = || {
            LocalError::new(
                ErrorCode::NotFound,
                format!("there is no job {id}"),
                "'bailiwick transfers' shows the jobs",
            )
        };
        let job: u64 = id.parse().map_err(|_| none())?;
        let standing = self.store.job_standing(job).map_err(failed)?.ok_or_else(none)?;
        let Ended { open, failed: gave_up } = self.store.job_ended(job).map_err(failed)?;
        let is_over = |what: &str| {
            let hint = "'bailiwick transfers' shows what is under way; 'bailiwick get' begins anew";
            Err(LocalError::new(ErrorCode::Failed, format!("job {job} {what}"), hint))
        };
        if control == Control::Resume && open == 0 && gave_up > 0 && !self.store.can_retry(job).map_err(failed)? {
            return Err(LocalError::new(
                ErrorCode::Refused,
                format!("job {job} can't go on: its files are not in the catalog any more"),
                "if they were added again, get them again: they are other files to the catalog",
            ));
        }
        match (control, standing) {
            (_, JobStanding::Cancelled) => is_over("was cancelled already"),
            (Control::Resume, _) if open == 0 && gave_up == 0 => is_over("is done already"),
            (Control::Pause | Control::Cancel, _) if open == 0 => is_over("is over already"),
            _ => Ok(job),
        }
    }

    fn jobs_meant_by_all(&self, control: Control) -> Result<Vec<u64>, DbError> {
        let mut meant = Vec::new();
        for job in self.store.open_jobs()? {
            let paused = self.store.job_standing(job)? == Some(JobStanding::Paused);
            if match control {
                Control::Pause => !paused,
                Control::Resume => paused,
                Control::Cancel => true,
            } {
                meant.push(job);
            }
        }
        Ok(meant)
    }

    fn control_job(&mut self, cx: &mut Cx<'_>, control: Control, job: u64) -> Result<(), DbError> {
        let state = match control {
            Control::Pause => {
                self.store.set_job_standing(job, JobStanding::Paused)?;
                for transfer in self.activity.transfers_of(job) {
                    self.downloads.pause(cx.now, transfer);
                }
                "paused"
            }
            Control::Resume => {
                self.go_on_with(cx, job)?;
                "waiting"
            }
            Control::Cancel => {
                self.cancel_job(cx, job)?;
                "cancelled"
            }
        };
        self.event("job", vec![("job", job.to_string()), ("state", state.to_owned())]);
        Ok(())
    }

    /// A job goes on; what failed of it is tried again.
    pub(super) fn go_on_with(&mut self, cx: &mut Cx<'_>, job: u64) -> Result<(), DbError> {
        self.store.set_job_standing(job, JobStanding::Going)?;
        self.store.retry_transfers(job)?;
        self.look_for_lost_transfers(cx)?;
        match self.store.job_place(job)? {
            Some(place) if !place.looked => self.look_at(job, 0),
            _ => self.load_job(cx, job),
        }
    }

    /// A file is left out, for something else is at its place.
    pub(super) fn skip_transfer(&mut self, transfer: TransferId, received: u64) -> Result<(), DbError> {
        let reason = Outcome::Skipped.to_string();
        let failure = Failure { reason: &reason, refused: false };
        self.store.settle_as(transfer, TransferStanding::Skipped, Some(failure), received)?;
        let row = self.store.transfer(transfer)?;
        row.map_or(Ok(()), |row| self.tell_job_end(row.job))
    }

    /// Says how a job ended, once nothing of it is open.
    pub(super) fn tell_job_end(&mut self, job: u64) -> Result<(), DbError> {
        if self.store.first_open(job)?.is_some() {
            return Ok(());
        }
        for sum in self.store.jobs(Some(job), 1)? {
            let state = if sum.files_failed > 0 { "failed" } else { "done" };
            let files = format!("{} of {}", sum.files_done, sum.files);
            self.event(
                "job",
                vec![("job", job.to_string()), ("what", sum.what), ("state", state.to_owned()), ("files", files)],
            );
        }
        Ok(())
    }

    /// Looks whether anything is in the way of a job's files, a page after the other, before anything is fetched.
    pub(super) fn look_at(&mut self, job: u64, after: u64) -> Result<(), DbError> {
        let Some(place) = self.store.job_place(job)? else { return Ok(()) };
        let mut looks = Vec::new();
        for row in self.store.open_of(job, after, LOOKED_AT_ONCE)? {
            let is_folder = row.kind == FileKind::Folder;
            let size = if is_folder { 0 } else { row.size };
            if let Ok(geometry) = Geometry::new(size, row.chunk) {
                looks.push(Look { transfer: row.id, dest: row.dest, is_folder, geometry, root: row.hash });
            }
        }
        self.outputs.push(Output::Look(job, place.dest, looks));
        Ok(())
    }

    /// Jobs whose places were not all looked at when this node ended.
    pub(super) fn look_again_at_jobs(&mut self) -> Result<(), DbError> {
        for job in self.store.open_jobs()? {
            if self.store.job_place(job)?.is_some_and(|place| !place.looked) {
                self.look_at(job, 0)?;
            }
        }
        Ok(())
    }

    pub(super) fn looked(&mut self, cx: &mut Cx<'_>, job: u64, seen: &[(TransferId, Glance)]) -> Result<(), DbError> {
        let folder = self.store.job_dest(job)?.unwrap_or_default();
        for (transfer, glance) in seen {
            let Some(row) = self.store.transfer(*transfer)?.filter(|row| row.standing == TransferStanding::Open) else {
                continue;
            };
            match glance {
                Glance::Free => {}
                Glance::Same => self.store.settle(*transfer, None, 0)?,
                Glance::InTheWay(outcome) => {
                    let reason = in_words(*outcome, &folder, &row.dest);
                    self.store.settle(*transfer, Some(Failure { reason: &reason, refused: false }), 0)?;
                }
            }
        }
        if let Some((last, _)) = seen.last() {
            return self.look_at(job, *last);
        }
        if self.store.job_ended(job)?.failed > 0 {
            self.event("job", vec![("job", job.to_string()), ("state", "failed".to_owned())]);
            return self.store.leave_out(job, NOT_FETCHED);
        }
        self.store.set_looked(job)?;
        self.tell_job_end(job)?;
        self.load_job(cx, job)
    }

    /// The transfers of a job may be loaded.
    fn load_job(&mut self, cx: &mut Cx<'_>, job: u64) -> Result<(), DbError> {
        if let Some(first) = self.store.first_open(job)? {
            self.load_from(cx, first);
        }
        Ok(())
    }

    fn cancel_job(&mut self, cx: &mut Cx<'_>, job: u64) -> Result<(), DbError> {
        self.store.set_job_standing(job, JobStanding::Cancelled)?;
        self.store.cancel_transfers(job)?;
        for transfer in self.activity.transfers_of(job) {
            // What is whole becomes a file; then it is done after all.
            if !self.downloads.is_ending(transfer) {
                self.downloads.drop_transfer(cx.now, transfer, false);
            }
        }
        self.clear_leavings()
    }

    /// Ended transfers leave no part files behind, also if this node died before they were removed.
    pub(super) fn clear_leavings(&mut self) -> Result<(), DbError> {
        let mut after = 0;
        loop {
            let page = self.store.leavings(after, LEAVINGS_AT_ONCE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.transfer;
            for Leavings { transfer, folder, dest } in page {
                if self.downloads.fetch(transfer).is_none() {
                    self.outputs.push(Output::Drop(transfer, Leftover::Remove(folder, dest)));
                }
            }
        }
    }

    /// What is to become of the part file of a transfer that is over.
    pub(super) fn leftover_of(&self, transfer: TransferId) -> Result<Leftover, DbError> {
        let Some(row) = self.store.transfer(transfer)?.filter(|row| row.part) else { return Ok(Leftover::Keep) };
        let folder = self.store.job_dest(row.job)?;
        Ok(folder.map_or(Leftover::Keep, |folder| Leftover::Remove(folder, row.dest)))
    }

    pub(super) fn place_opened(
        &mut self,
        cx: &mut Cx<'_>,
        transfer: TransferId,
        opening: u64,
        opened: Opened,
    ) -> Result<(), DbError> {
        let Some(is_fresh) = self.openings.end(transfer, opening) else { return Ok(()) };
        match &opened {
            Opened::Ready => {}
            Opened::Anew => self.store.void_claims(transfer)?,
            Opened::Elsewhere(dest) => self.store.rename_transfer(transfer, dest)?,
            Opened::Not(_) => {}
        }
        if is_fresh && opened != Opened::Ready {
            // None was made, so none is this transfer's to remove.
            self.store.part_gone(transfer)?;
        }
        self.downloads.opened(cx.now, transfer, opened);
        Ok(())
    }

    /// What ended comes in after it was dropped: a cancelled file that had all its bytes is done.
    pub(super) fn ended_late(&mut self, transfer: TransferId, outcome: Outcome) -> Result<(), DbError> {
        if outcome == Outcome::Done && self.downloads.fetch(transfer).is_none() {
            self.store.settle(transfer, None, 0)?;
        }
        Ok(())
    }
}
