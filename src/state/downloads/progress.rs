//! What follows from a unit that came: claims, endings, pauses.

use super::fetch::Phase;
use super::{Asked, Downloads, Effect, Outcome, TransferId};
use crate::state::time::Time;
use crate::wire::frame::ChunkRefusal;
use crate::wire::geometry::Unit;

impl Downloads {
    pub(super) fn verified(&mut self, now: Time, asked: Asked) {
        let Some(fetch) = self.fetches.get_mut(&asked.transfer) else { return };
        match Unit::from_index(asked.index) {
            Unit::Chunk(chunk) => fetch.arrived(now, chunk),
            Unit::ListPart(part) => {
                fetch.list_there.insert(part);
            }
        }
        self.pauses.remove(&asked.transfer);
        self.claim_if_due(now, asked.transfer);
        self.end_if_complete(now, asked.transfer);
    }

    pub(super) fn claim_if_due(&mut self, now: Time, transfer: TransferId) {
        let config = self.config;
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        let late = fetch.unclaimed_since.is_some_and(|since| now.since(since) >= config.claim_wait);
        let due = fetch.unclaimed_bytes() >= config.claim_bytes || late;
        if due && !fetch.is_complete() {
            self.claim(transfer);
        }
    }

    /// Syncs what is there and not claimed, so that it can be.
    pub(super) fn claim(&mut self, transfer: TransferId) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if fetch.unclaimed.is_empty() || fetch.syncing || fetch.phase != Phase::Moving {
            return;
        }
        fetch.syncing = true;
        fetch.unclaimed_since = None;
        let chunks = std::mem::take(&mut fetch.unclaimed);
        self.effects.push_back(Effect::Sync(transfer, chunks));
    }

    pub(super) fn end_if_complete(&mut self, now: Time, transfer: TransferId) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if fetch.phase != Phase::Moving || !fetch.is_complete() || fetch.syncing {
            return;
        }
        fetch.phase = Phase::Ending;
        if fetch.is_small() {
            self.finishing.push(transfer);
            self.finish_since.get_or_insert(now);
            if self.finishing.len() >= self.config.finish_batch {
                self.flush_finishing();
            }
        } else {
            self.effects.push_back(Effect::Finish(vec![transfer]));
        }
    }

    pub(super) fn flush_finishing(&mut self) {
        self.finish_since = None;
        let batch = std::mem::take(&mut self.finishing);
        if !batch.is_empty() {
            self.effects.push_back(Effect::Finish(batch));
        }
    }

    pub(super) fn damaged(&mut self, now: Time, transfer: TransferId) {
        let (_, damage) = self.pauses.entry(transfer).or_default();
        *damage += 1;
        if *damage > self.config.damage_max {
            self.settle(now, transfer, Outcome::Damaged);
        } else {
            self.hold(now, transfer, Outcome::Refused(ChunkRefusal::NotReady));
        }
    }

    /// Nothing is asked for this transfer for a while, longer each time.
    pub(super) fn hold(&mut self, now: Time, transfer: TransferId, why: Outcome) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if fetch.held.is_some_and(|(until, _)| until > now) {
            return;
        }
        let (pauses, _) = self.pauses.entry(transfer).or_default();
        let pause = self.config.retry_min.saturating_mul(1 << (*pauses).min(8)).min(self.config.retry_max);
        *pauses += 1;
        fetch.held = Some((now.after(pause), why));
    }

    pub(super) fn settle(&mut self, now: Time, transfer: TransferId, outcome: Outcome) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        if outcome.is_end() {
            self.effects.push_back(Effect::Settle(transfer, outcome, fetch.wanted.received));
            // What is done has no part file any more.
            self.drop_transfer(now, transfer, outcome == Outcome::Done);
            return;
        }
        if outcome == Outcome::DiskFull {
            fetch.phase = Phase::Opening;
            fetch.held = Some((now.after(self.config.disk_wait), outcome));
            return;
        }
        self.hold(now, transfer, outcome);
    }

    pub(super) fn forget(&mut self, transfer: TransferId, part_needed: bool) {
        let asked: Vec<u32> =
            self.fetches.get(&transfer).map(|fetch| fetch.asked.keys().copied().collect()).unwrap_or_default();
        asked.into_iter().for_each(|index| self.give_back(transfer, index));
        self.fetches.remove(&transfer);
        self.pauses.remove(&transfer);
        self.finishing.retain(|id| *id != transfer);
        self.effects.push_back(Effect::Close(transfer, part_needed));
    }
}
