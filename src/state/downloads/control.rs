//! What a person decides about transfers in memory: they leave with all that is there claimed.

use super::fetch::Phase;
use super::{Asked, Downloads, Effect, TransferId, Way};
use crate::state::time::Time;
use std::collections::BTreeMap;

impl Downloads {
    /// A person wants the files of a job to come by other ways. What is asked for already comes as it was asked for.
    pub fn set_way(&mut self, now: Time, job: u64, way: Way) {
        self.fetches.values_mut().filter(|fetch| fetch.wanted.job == job).for_each(|fetch| fetch.wanted.way = way);
        self.go_on(now);
    }

    /// A person paused a transfer: nothing is asked for any more, what is there is claimed, then it leaves memory.
    /// One that is whole ends instead. Who resumes it meanwhile lets it leave and has it loaded again: whatever was
    /// written to its part file during a pause, however short, is found by the opening.
    pub fn pause(&mut self, now: Time, transfer: TransferId) {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return };
        fetch.leaving = true;
        self.cancel_asked(transfer);
        self.claim(transfer);
        self.leave_if_claimed(transfer);
        self.go_on(now);
    }

    /// Whether a transfer is whole, and only its name is missing: it is too late to end it.
    pub fn is_ending(&self, transfer: TransferId) -> bool {
        self.fetches.get(&transfer).is_some_and(|fetch| fetch.phase == Phase::Ending)
    }

    pub(super) fn leave_if_claimed(&mut self, transfer: TransferId) {
        let Some(fetch) = self.fetches.get(&transfer).filter(|fetch| fetch.leaving) else { return };
        let busy = fetch.phase == Phase::Moving && (fetch.syncing || !fetch.unclaimed.is_empty());
        if fetch.phase != Phase::Ending && !busy {
            self.forget(transfer, true);
        }
    }

    /// Takes back what was asked for a transfer.
    pub(super) fn cancel_asked(&mut self, transfer: TransferId) {
        let Some(fetch) = self.fetches.get(&transfer) else { return };
        let mut by_request: BTreeMap<u64, Vec<Asked>> = BTreeMap::new();
        for (index, request) in &fetch.asked {
            if let Some(length) = fetch.wanted.geometry.unit_len(*index) {
                let unit = Asked { transfer, content: fetch.wanted.content, index: *index, length };
                by_request.entry(*request).or_default().push(unit);
            }
        }
        for (request, units) in by_request {
            let by = self.way_of(request);
            for unit in &units {
                self.give_back(transfer, unit.index);
            }
            let (shared, alone): (Vec<Asked>, Vec<Asked>) =
                units.into_iter().partition(|unit| self.pass_on(unit.content, unit.index, request));
            if !alone.is_empty() {
                self.effects.push_back(Effect::Cancel { request, units: alone, by });
            }
            if !shared.is_empty() {
                self.effects.push_back(Effect::Leave { request, units: shared });
            }
        }
    }
}
