//! What the disk says: files that were opened, lists that were checked, chunks that were synced, files that are whole.

use super::bits::Bits;
use super::fetch::{Fetch, Phase};
use super::outcome::{Opened, Outcome};
use super::{Downloads, Effect, TransferId};
use crate::state::time::Time;

impl Downloads {
    /// The outcome of [`Effect::Open`].
    pub fn opened(&mut self, now: Time, transfer: TransferId, opened: Opened) {
        let Some(fetch) = self.fetches.get_mut(&transfer).filter(|fetch| fetch.phase == Phase::Opening) else { return };
        match opened {
            Opened::Ready => fetch.phase = Phase::Moving,
            Opened::Anew => {
                fetch.wanted.claimed.clear();
                fetch.start_from_claims();
                return self.effects.push_back(Effect::Open(transfer));
            }
            Opened::Elsewhere(_) => return self.effects.push_back(Effect::Open(transfer)),
            Opened::Not(outcome) => self.settle(now, transfer, outcome),
        }
        self.end_if_complete(now, transfer);
        self.leave_if_claimed(transfer);
        self.go_on(now);
    }

    /// Whether a list that came is wanted.
    pub fn wants_list(&self, transfer: TransferId) -> bool {
        self.fetches.get(&transfer).is_some_and(|fetch| fetch.phase == Phase::Moving && !fetch.has_list())
    }

    /// The list of a content is complete and was checked; `false` means that it is not the catalog's.
    pub fn list_came(&mut self, now: Time, transfer: TransferId, good: bool) {
        let Some(fetch) = self.told(transfer) else { return };
        if good {
            fetch.wanted.has_list = true;
        } else {
            fetch.list_there = Bits::empty(fetch.wanted.geometry.list_part_count());
            self.damaged(now, transfer);
        }
        self.end_if_complete(now, transfer);
        self.go_on(now);
    }

    /// The outcome of [`Effect::Sync`].
    pub fn synced(&mut self, now: Time, transfer: TransferId, chunks: &[u32], good: bool) {
        let Some(fetch) = self.told(transfer) else { return };
        fetch.syncing = false;
        if !good {
            return self.settle(now, transfer, Outcome::CannotWrite);
        }
        let mut claimed = Bits::restore(fetch.wanted.geometry.chunk_count(), &fetch.wanted.claimed);
        for chunk in chunks {
            claimed.insert(*chunk);
        }
        fetch.wanted.claimed = claimed.as_bytes().to_vec();
        let (done, received) = (fetch.bytes_of(&claimed), fetch.wanted.received);
        (fetch.wanted.kept_done, fetch.wanted.kept_received) = (done, received);
        let effect = Effect::Claim { transfer, claimed: fetch.wanted.claimed.clone(), done, received };
        self.effects.push_back(effect);
        self.end_if_complete(now, transfer);
        self.leave_if_claimed(transfer);
        self.go_on(now);
    }

    /// The outcome of [`Effect::Finish`].
    pub fn finished(&mut self, now: Time, transfer: TransferId, outcome: Outcome) {
        if self.told(transfer).is_none() {
            return;
        }
        self.settle(now, transfer, outcome);
        self.leave_if_claimed(transfer);
        self.go_on(now);
    }

    /// Chunks of an earlier version that are the same in this one: they are there, and were synced.
    pub fn carried(&mut self, transfer: TransferId, claimed: &[u8]) {
        let Some(fetch) = self.told(transfer) else { return };
        fetch.wanted.claimed = claimed.to_vec();
        fetch.start_from_claims();
        fetch.wanted.kept_done = fetch.done_bytes();
    }

    /// The fetch that the disk tells something about. While it is being opened that is always news of an earlier
    /// opening, for what belongs to this one comes after [`Downloads::opened`].
    pub(super) fn told(&mut self, transfer: TransferId) -> Option<&mut Fetch> {
        self.fetches.get_mut(&transfer).filter(|fetch| fetch.phase != Phase::Opening)
    }
}
