//! Downloads: what the machine wants, carried out against the store and the data plane.

use super::core::{Cx, MemberCore};
use super::io::{Leftover, Output, Place};
use super::jobs::in_words;
use super::pen::Pen;
use crate::node::local::PathRow;
use crate::state::downloads::fetch::Wanted;
use crate::state::downloads::{Asked, Came, Effect, Outcome, TransferId, Way};
use crate::store::member::{DbError, Failure, StoredTransfer, TransferStanding};
use crate::wire::frame::{ChunkRange, ChunkRefusal, Frame, ranges_of, within_limits};
use crate::wire::geometry::Geometry;
use crate::wire::limits::RANGES_PER_FRAME_MAX;
use crate::wire::log::FileKind;
use std::collections::HashMap;
use std::sync::Arc;

/// A size that the catalog should not have.
const TOO_LARGE: Failure<'static> =
    Failure { reason: "the file is larger than any that can be shared", refused: false };

/// Open transfers that are read at once.
const OPEN_AT_ONCE: usize = 1_024;

/// Places that are being opened, each by a number of its own. The data plane outlives a core that could not write, and may
/// still tell the next one how an opening ended that the core before had asked for.
#[derive(Debug)]
pub(super) struct Openings {
    last: u64,
    /// The number, and whether the part file is about to be made for the first time.
    awaited: HashMap<TransferId, (u64, bool)>,
}

impl Openings {
    /// `start` is random, so that no two cores use the same numbers.
    pub(super) fn new(start: u64) -> Openings {
        Openings { last: start, awaited: HashMap::new() }
    }

    fn begin(&mut self, transfer: TransferId, is_fresh: bool) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.awaited.insert(transfer, (self.last, is_fresh));
        self.last
    }

    /// Whether the part file was to be made for the first time; none if it is not this opening that is awaited.
    pub(super) fn end(&mut self, transfer: TransferId, number: u64) -> Option<bool> {
        let (_, is_fresh) = self.awaited.get(&transfer).filter(|(awaited, _)| *awaited == number)?;
        let is_fresh = *is_fresh;
        self.awaited.remove(&transfer);
        Some(is_fresh)
    }
}

impl MemberCore {
    pub(super) fn drain_downloads(&mut self, cx: &mut Cx<'_>) -> Result<bool, DbError> {
        let mut moved = false;
        while let Some(effect) = self.downloads.poll_effect() {
            moved = true;
            self.carry_out_download(cx, effect)?;
        }
        Ok(moved)
    }

    fn carry_out_download(&mut self, cx: &mut Cx<'_>, effect: Effect) -> Result<(), DbError> {
        match effect {
            Effect::Load(room) => self.load_transfers(cx, room),
            Effect::Open(transfer) => self.open_place(transfer),
            Effect::Ask { request, owner, units, by } => {
                let ranges = ranges_of(units.iter().map(|unit| (unit.content, unit.index, unit.length)));
                self.outputs.push(Output::Expect(request, units, by));
                if let Some(conn) = by {
                    self.paths.used(cx.now, conn);
                }
                if let Some(conn) = by.or(self.link.current()) {
                    for page in ranges.chunks(RANGES_PER_FRAME_MAX) {
                        let ranges = page.to_vec();
                        let ask = match by {
                            Some(_) => Frame::UploadChunk { request, ranges },
                            None => Frame::RequestChunk { request, owner, ranges },
                        };
                        self.send(conn, ask);
                    }
                }
                Ok(())
            }
            Effect::Join { request, units } => {
                self.outputs.push(Output::Join(request, units));
                Ok(())
            }
            Effect::Leave { request, units } => {
                self.outputs.push(Output::Forget(request, units));
                Ok(())
            }
            Effect::Cancel { request, units, by } => {
                let ranges = ranges_of(units.iter().map(|unit| (unit.content, unit.index, unit.length)));
                self.outputs.push(Output::Forget(request, units));
                if let Some(conn) = by.or(self.link.current()) {
                    for page in ranges.chunks(RANGES_PER_FRAME_MAX) {
                        self.send(conn, Frame::CancelChunk { request, ranges: page.to_vec() });
                    }
                }
                Ok(())
            }
            Effect::Sync(transfer, chunks) => {
                self.outputs.push(Output::Sync(transfer, chunks));
                Ok(())
            }
            Effect::Claim { transfer, claimed, done, received } => self.store.claim(transfer, &claimed, done, received),
            Effect::Finish(transfers) => {
                self.outputs.push(Output::Finish(transfers));
                Ok(())
            }
            Effect::Settle(transfer, outcome, received) => self.settle_transfer(transfer, outcome, received),
            Effect::Close { transfer, part_needed: needed, received } => {
                self.store.keep_received(transfer, received)?;
                let leftover = if needed { Leftover::Keep } else { self.leftover_of(transfer)? };
                self.outputs.push(Output::Drop(transfer, leftover));
                if let Some((job, ms)) = self.activity.ended(transfer) {
                    self.store.job_moved(job, ms)?;
                }
                if needed { self.left(cx, transfer) } else { Ok(()) }
            }
            Effect::Stopped => {
                self.outputs.push(Output::Stopped);
                Ok(())
            }
            Effect::LookAgain(transfer) => self.look_again(cx, transfer),
        }
    }

    fn load_transfers(&mut self, cx: &mut Cx<'_>, room: usize) -> Result<(), DbError> {
        let rows = self.store.going_transfers(self.loaded, room)?;
        let exhausted = rows.len() < room;
        self.loaded = rows.last().map_or(self.loaded, |row| row.id);
        let mut wanted = Vec::new();
        let mut ways: HashMap<u64, Way> = HashMap::new();
        for row in rows {
            let way = match ways.get(&row.job) {
                Some(way) => *way,
                None => self.store.job_place(row.job)?.map(|job| job.way).unwrap_or_default(),
            };
            ways.insert(row.job, way);
            match wanted_of(&row, way) {
                Some(one) => wanted.push(one),
                None => self.store.settle(row.id, Some(TOO_LARGE), row.received)?,
            }
            self.activity.took(row.id, row.job, row.file);
        }
        self.downloads.add(cx.now, wanted, exhausted);
        Ok(())
    }

    fn open_place(&mut self, transfer: TransferId) -> Result<(), DbError> {
        let Some(row) = self.store.transfer(transfer)? else { return Ok(()) };
        let Some(job) = self.store.job_place(row.job)? else { return Ok(()) };
        let Some(wanted) = wanted_of(&row, job.way) else { return Ok(()) };
        let opening = self.openings.begin(transfer, !row.part);
        // That there may be a part file of ours is on disk before there is one.
        self.store.part_made(transfer)?;
        let place = Place {
            transfer,
            opening,
            folder: job.dest,
            wish: row.wish.unwrap_or_else(|| row.dest.clone()),
            dest: row.dest,
            conflict: job.conflict,
            is_folder: row.kind == FileKind::Folder,
            geometry: wanted.geometry,
            root: row.hash,
            list: row.list.map(Arc::new),
            mtime_ms: row.mtime_ms,
            executable: row.executable,
            had_part: row.part,
            has_claims: wanted.claimed.iter().any(|byte| *byte != 0),
            was_size: row.was_size,
        };
        self.outputs.push(Output::Open(Box::new(place)));
        Ok(())
    }

    pub(super) fn unit_came(&mut self, cx: &mut Cx<'_>, asked: Asked, came: Came) -> Result<(), DbError> {
        if came == Came::Verified
            && let Some(job) = self.activity.received(cx.now, asked.transfer, u64::from(asked.length))
        {
            self.store.job_moved(job.0, job.1)?;
        }
        if came == Came::Verified {
            let straight = self.downloads.way_of_unit(&asked).is_some();
            self.activity.went(asked.transfer, if straight { PathRow::Direct } else { PathRow::Relay });
        }
        if came == Came::NotWritten(Outcome::PlaceTaken) {
            self.leave_place(asked.transfer)?;
        }
        if let (Came::NoSecret, Pen::Replica(replica)) = (came, &mut self.pen) {
            replica.secret_missing(cx.now);
        }
        self.downloads.came(cx.now, asked, came);
        Ok(())
    }

    /// The part file that is there is another transfer's, which must be let in to end it.
    pub(super) fn leave_place(&mut self, transfer: TransferId) -> Result<(), DbError> {
        self.store.part_gone(transfer)?;
        self.outputs.push(Output::Drop(transfer, Leftover::Keep));
        Ok(())
    }

    pub(super) fn list_came(
        &mut self,
        cx: &mut Cx<'_>,
        transfer: TransferId,
        list: Option<Vec<u8>>,
    ) -> Result<(), DbError> {
        let geometry = self.downloads.fetch(transfer).map(|fetch| fetch.wanted.geometry);
        let Some(geometry) = geometry.filter(|_| self.downloads.wants_list(transfer)) else { return Ok(()) };
        if let Some(list) = &list {
            self.store.keep_list(transfer, list)?;
            if let Some(same) = self.store.carry_over(transfer, &geometry, list)? {
                self.downloads.carried(transfer, &same);
            }
        }
        self.downloads.list_came(cx.now, transfer, list.is_some());
        Ok(())
    }

    pub(super) fn chunks_refused(
        &mut self,
        cx: &mut Cx<'_>,
        request: u64,
        ranges: &[ChunkRange],
        reason: ChunkRefusal,
    ) {
        if !within_limits(ranges) {
            return;
        }
        let units: Vec<_> =
            ranges.iter().flat_map(ChunkRange::chunks).map(|(content, index, _)| (content, index)).collect();
        let forgotten = self.downloads.refused(cx.now, request, &units, reason);
        if !forgotten.is_empty() {
            self.outputs.push(Output::Forget(request, forgotten));
        }
    }

    fn settle_transfer(&mut self, transfer: TransferId, outcome: Outcome, received: u64) -> Result<(), DbError> {
        if outcome == Outcome::Skipped {
            return self.skip_transfer(transfer, received);
        }
        let row = self.store.transfer(transfer)?;
        let reason = match &row {
            _ if outcome == Outcome::Done => None,
            Some(row) => Some(in_words(outcome, &self.store.job_dest(row.job)?.unwrap_or_default(), &row.dest)),
            None => Some(outcome.to_string()),
        };
        let refused = matches!(outcome, Outcome::Refused(_) | Outcome::Expelled | Outcome::Removed);
        let failure = reason.as_deref().map(|reason| Failure { reason, refused });
        self.store.settle(transfer, failure, received)?;
        if let Some((job, ms)) = self.activity.ended(transfer) {
            self.store.job_moved(job, ms)?;
        }
        let state = if outcome == Outcome::Done { "done" } else { "failed" };
        let mut detail = vec![("id", transfer.to_string()), ("state", state.to_owned())];
        detail.extend(reason.map(|reason| ("reason", reason)));
        if let Some(row) = &row {
            detail.extend([("job", row.job.to_string()), ("file", row.dest.to_string())]);
        }
        self.event("transfer", detail);
        row.map_or(Ok(()), |row| self.tell_job_end(row.job))
    }

    /// The owner says that this version is gone: there may be a newer one in the catalog, or one under way.
    fn look_again(&mut self, cx: &mut Cx<'_>, transfer: TransferId) -> Result<(), DbError> {
        let Some(row) = self.store.transfer(transfer)? else { return Ok(()) };
        let outcome = match self.store.file(&row.file)? {
            None => Some(Outcome::Removed),
            Some(now) if now.file.content == row.content => Some(Outcome::Refused(ChunkRefusal::Changed)),
            Some(_) => None,
        };
        self.downloads.looked_again(cx.now, transfer, outcome);
        Ok(())
    }

    /// This device is out: everything that it still wanted has failed.
    pub(super) fn give_everything_up(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        loop {
            let open = self.store.open_transfers(0, OPEN_AT_ONCE)?;
            if open.is_empty() {
                // Those that are not in memory have part files, too.
                return self.clear_leavings();
            }
            for row in open {
                let received = self.downloads.fetch(row.id).map_or(row.received, |fetch| fetch.wanted.received);
                self.downloads.drop_transfer(cx.now, row.id, false);
                self.settle_transfer(row.id, Outcome::Expelled, received)?;
            }
        }
    }

    /// Files left the catalog, or changed: transfers of them stop, or go over to the new version.
    pub(super) fn look_for_lost_transfers(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        let removed = self.store.transfers_without_file()?;
        for transfer in &removed {
            let received = self.downloads.fetch(*transfer).map_or(0, |fetch| fetch.wanted.received);
            self.downloads.drop_transfer(cx.now, *transfer, false);
            self.settle_transfer(*transfer, Outcome::Removed, received)?;
        }
        if !removed.is_empty() {
            // Those that are not in memory have part files, too.
            self.clear_leavings()?;
        }
        for transfer in self.store.transfers_of_old_versions()? {
            if self.downloads.is_ending(transfer) {
                // It is whole in its version, and what is downloaded stays.
                continue;
            }
            match self.downloads.fetch(transfer) {
                // It goes over when what it has is claimed.
                Some(_) => self.downloads.pause(cx.now, transfer),
                None => self.go_over(cx, transfer)?,
            }
        }
        Ok(())
    }

    /// A transfer left memory and is still wanted: it may have been resumed meanwhile, or have a newer version.
    fn left(&mut self, cx: &mut Cx<'_>, transfer: TransferId) -> Result<(), DbError> {
        self.go_over(cx, transfer)?;
        self.load_from(cx, transfer);
        Ok(())
    }

    /// Has transfers loaded, from this one on.
    pub(super) fn load_from(&mut self, cx: &mut Cx<'_>, transfer: TransferId) {
        self.loaded = self.loaded.min(transfer.saturating_sub(1));
        self.downloads.more(cx.now);
    }

    /// A transfer goes over to the version that is in the catalog, if that is another one.
    fn go_over(&mut self, cx: &mut Cx<'_>, transfer: TransferId) -> Result<(), DbError> {
        let row = self.store.transfer(transfer)?.filter(|row| row.standing == TransferStanding::Open);
        let Some(row) = row else { return Ok(()) };
        let Some(now) = self.store.file(&row.file)?.filter(|now| now.file.content != row.content) else {
            return Ok(());
        };
        if self.downloads.fetch(transfer).is_some() {
            // The old version was loaded again since: it leaves first, for memory and store have the same version.
            self.downloads.pause(cx.now, transfer);
            return Ok(());
        }
        self.store.renew_transfer(transfer, &now.file)?;
        self.load_from(cx, transfer);
        Ok(())
    }
}

fn wanted_of(row: &StoredTransfer, way: Way) -> Option<Wanted> {
    let size = if row.kind == FileKind::Folder { 0 } else { row.size };
    Some(Wanted {
        transfer: row.id,
        job: row.job,
        way,
        owner: row.owner,
        content: row.content,
        geometry: Geometry::new(size, row.chunk).ok()?,
        has_list: row.list.is_some(),
        claimed: row.claimed.clone(),
        received: row.received,
        kept_done: row.done,
        kept_received: row.received,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_that_an_earlier_core_asked_for_counts_for_nothing() {
        let (mut before, mut now) = (Openings::new(5), Openings::new(900));
        let stale = before.begin(1, true);
        let first = now.begin(1, true);
        assert_eq!(now.end(1, stale), None);
        let second = now.begin(1, false);
        assert_eq!(now.end(1, first), None, "it was opened anew since");
        assert_eq!(now.end(1, second), Some(false));
        assert_eq!(now.end(1, second), None);
    }
}
