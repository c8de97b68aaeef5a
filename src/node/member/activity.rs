//! What moves at the moment, how fast, and by which way.

use crate::node::local::{PathRow, TransferState};
use crate::state::downloads::TransferId;
use crate::state::downloads::bits::Bits;
use crate::state::downloads::rate::Rate;
use crate::state::time::Time;
use crate::wire::geometry::Unit;
use crate::wire::ids::{ContentId, FileId};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A job that received nothing for this long was not moving in between.
const MOVING_GAP: Duration = Duration::from_secs(2);
/// The time that a job has been moving is persisted in steps of this many milliseconds.
const MOVING_STEP_MS: u64 = 1_000;
/// An upload of which all was sent is over when nothing more was sent for this long.
const UPLOAD_QUIET: Duration = Duration::from_secs(1);
/// Contents that are shown though they wait for the master, at most.
const HELD_BACK_MAX: usize = 1_000;
/// An upload is shown for this long after its last chunk.
const UPLOAD_SHOWN: Duration = Duration::from_secs(5);

/// What moves at the moment.
#[derive(Default)]
pub(super) struct Activity {
    jobs: HashMap<u64, JobActivity>,
    of: HashMap<TransferId, (u64, FileId)>,
    /// How many transfers in memory are of a file.
    files: HashMap<FileId, u32>,
    uploads: BTreeMap<ContentId, UploadActivity>,
}

#[derive(Default)]
struct JobActivity {
    rate: Rate,
    last: Time,
    unkept_ms: u64,
    /// By which way the last of it came.
    path: Option<PathRow>,
}

pub(super) struct UploadActivity {
    /// The chunks that went out, and the bytes of them: what was asked for again counts once.
    chunks: Bits,
    pub(super) bytes: u64,
    last: Time,
    /// Whether it was last that somebody was told to wait until the master has been heard of.
    pub(super) waits_for_master: bool,
    pub(super) rate: Rate,
    /// By which way the last of it went.
    pub(super) path: PathRow,
}

impl UploadActivity {
    /// One of which all bytes went out, and nothing since, is over; more may be asked for at any time.
    pub(super) fn state(&self, now: Time, size: u64) -> TransferState {
        match self.bytes >= size && now.since(self.last) >= UPLOAD_QUIET {
            _ if self.waits_for_master => TransferState::Waiting,
            true => TransferState::Done,
            false => TransferState::Running,
        }
    }
}

impl Activity {
    /// A transfer was taken into memory.
    pub(super) fn took(&mut self, transfer: TransferId, job: u64, file: FileId) {
        if self.of.insert(transfer, (job, file)).is_none() {
            *self.files.entry(file).or_default() += 1;
        }
    }

    /// Bytes came. Gives the job and the milliseconds of moving that are to be persisted, if any are due.
    pub(super) fn received(&mut self, now: Time, transfer: TransferId, bytes: u64) -> Option<(u64, u64)> {
        let (job, _) = *self.of.get(&transfer)?;
        let activity = self.jobs.entry(job).or_default();
        let gap = now.since(activity.last);
        if gap < MOVING_GAP {
            activity.unkept_ms += gap.as_millis() as u64;
        }
        activity.last = now;
        activity.rate.add(now, bytes);
        (activity.unkept_ms >= MOVING_STEP_MS).then(|| (job, std::mem::take(&mut activity.unkept_ms)))
    }

    /// A chunk came by this way.
    pub(super) fn went(&mut self, transfer: TransferId, path: PathRow) {
        if let Some((job, _)) = self.of.get(&transfer) {
            self.jobs.entry(*job).or_default().path = Some(path);
        }
    }

    /// By which way a job's chunks came last; what came before this process passed the server, as far as is known.
    pub(super) fn path_of(&self, job: u64) -> Option<PathRow> {
        self.jobs.get(&job).and_then(|job| job.path)
    }

    /// The job of a transfer that is in memory.
    pub(super) fn job_of(&self, transfer: TransferId) -> Option<u64> {
        self.of.get(&transfer).map(|(job, _)| *job)
    }

    /// The transfers of a job that are in memory.
    pub(super) fn transfers_of(&self, job: u64) -> Vec<TransferId> {
        self.of.iter().filter(|(_, (of, _))| *of == job).map(|(transfer, _)| *transfer).collect()
    }

    /// A transfer is over, or left memory. Gives what is left to be persisted of its job's time.
    pub(super) fn ended(&mut self, transfer: TransferId) -> Option<(u64, u64)> {
        let (job, file) = self.of.remove(&transfer)?;
        let count = self.files.entry(file).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.files.remove(&file);
        }
        let activity = self.jobs.get_mut(&job)?;
        Some((job, std::mem::take(&mut activity.unkept_ms)))
    }

    /// A unit of so many bytes went out.
    pub(super) fn sent(&mut self, now: Time, content: ContentId, unit: Unit, bytes: u64, path: PathRow) {
        let upload = self.upload_at(now, content, path);
        upload.path = path;
        match unit {
            Unit::Chunk(index) => {
                upload.chunks.widen(index.saturating_add(1));
                upload.bytes += if upload.chunks.insert(index) { bytes } else { 0 };
            }
            // Whoever has no list yet begins.
            Unit::ListPart(0) => (upload.chunks, upload.bytes) = (Bits::default(), 0),
            Unit::ListPart(_) => {}
        }
        (upload.last, upload.waits_for_master) = (now, false);
        upload.rate.add(now, bytes);
    }

    /// Somebody who wants a content was told to wait until the master has been heard of.
    pub(super) fn held_back(&mut self, now: Time, content: ContentId, path: PathRow) {
        self.forget_uploads(now);
        // What is asked for may be anything.
        if self.uploads.len() < HELD_BACK_MAX || self.uploads.contains_key(&content) {
            let upload = self.upload_at(now, content, path);
            (upload.last, upload.waits_for_master) = (now, true);
        }
    }

    /// Forgets what is not shown any more.
    fn forget_uploads(&mut self, now: Time) {
        self.uploads.retain(|_, upload| now.since(upload.last) < UPLOAD_SHOWN);
    }

    fn upload_at(&mut self, now: Time, content: ContentId, path: PathRow) -> &mut UploadActivity {
        self.forget_uploads(now);
        self.uploads.entry(content).or_insert_with(|| UploadActivity {
            chunks: Bits::default(),
            bytes: 0,
            last: now,
            waits_for_master: false,
            rate: Rate::default(),
            path,
        })
    }

    /// What went out of a content, while that is shown.
    pub(super) fn upload(&self, content: &ContentId) -> Option<&UploadActivity> {
        self.uploads.get(content)
    }

    /// The contents that are going out.
    pub(super) fn uploading(&self, now: Time) -> Vec<ContentId> {
        let shown = |(content, upload): (&ContentId, &UploadActivity)| {
            (now.since(upload.last) < UPLOAD_SHOWN).then_some(*content)
        };
        self.uploads.iter().filter_map(shown).collect()
    }

    pub(super) fn job_rate(&self, now: Time, job: u64) -> u64 {
        self.jobs.get(&job).map_or(0, |activity| activity.rate.per_second(now))
    }

    pub(super) fn unkept_ms(&self, job: u64) -> u64 {
        self.jobs.get(&job).map_or(0, |activity| activity.unkept_ms)
    }

    pub(super) fn is_downloading(&self, file: &FileId) -> bool {
        self.files.contains_key(file)
    }

    pub(super) fn is_uploading(&self, now: Time, content: &ContentId) -> bool {
        let moves = |upload: &UploadActivity| !upload.waits_for_master && now.since(upload.last) < UPLOAD_SHOWN;
        self.uploads.get(content).is_some_and(moves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_of_which_all_was_sent_is_over_until_somebody_asks_again() {
        let (mut activity, content) = (Activity::default(), ContentId([1; 16]));
        let sent = |activity: &mut Activity, now, unit, bytes| {
            activity.sent(Time(now), content, unit, bytes, PathRow::Relay);
        };
        sent(&mut activity, 0, Unit::ListPart(0), 500);
        sent(&mut activity, 0, Unit::Chunk(0), 600);
        let state = |activity: &Activity, now| activity.uploads[&content].state(Time(now), 1_000);
        assert_eq!(state(&activity, 1_500), TransferState::Running, "slow is not over, and a list is no content");
        sent(&mut activity, 1_600, Unit::Chunk(0), 600);
        assert_eq!(state(&activity, 2_900), TransferState::Running, "the same again is not the rest");
        sent(&mut activity, 3_000, Unit::Chunk(1), 400);
        assert_eq!(state(&activity, 3_100), TransferState::Running);
        assert_eq!(state(&activity, 4_000), TransferState::Done);
        sent(&mut activity, 5_000, Unit::Chunk(0), 600);
        assert_eq!(state(&activity, 5_100), TransferState::Running);
        // Another fetch of it begins: what the first one got is not its.
        sent(&mut activity, 5_200, Unit::ListPart(0), 500);
        sent(&mut activity, 5_200, Unit::Chunk(1), 400);
        assert_eq!(activity.upload(&content).unwrap().bytes, 400);
        assert_eq!(state(&activity, 8_000), TransferState::Running);
    }

    #[test]
    fn an_upload_that_waits_for_the_master_says_so_until_it_goes_on() {
        let (mut activity, content) = (Activity::default(), ContentId([1; 16]));
        activity.sent(Time(0), content, Unit::Chunk(0), 600, PathRow::Direct);
        activity.held_back(Time(4_000), content, PathRow::Direct);
        assert_eq!(activity.uploading(Time(8_000)), [content]);
        let state = |activity: &Activity| activity.uploads[&content].state(Time(8_000), 1_000);
        assert_eq!(state(&activity), TransferState::Waiting);
        activity.sent(Time(8_000), content, Unit::Chunk(1), 400, PathRow::Direct);
        assert_eq!(state(&activity), TransferState::Running);
        for number in 0..3_000_u32 {
            let mut other = [0; 16];
            other[..4].copy_from_slice(&number.to_le_bytes());
            activity.held_back(Time(8_000), ContentId(other), PathRow::Direct);
        }
        assert_eq!(activity.uploads.len(), HELD_BACK_MAX, "a flood of questions takes so much and no more");
        activity.held_back(Time(20_000), ContentId([9; 16]), PathRow::Direct);
        assert_eq!(activity.uploading(Time(20_000)), [ContentId([9; 16])], "and not for long");
    }
}
