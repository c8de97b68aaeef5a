//! Which units to ask of whom: within the asker's credit, shared evenly among owners.

use super::fetch::{Fetch, Phase};
use super::{Asked, Downloads, Effect, TransferId};
use crate::state::time::Time;
use crate::wire::ids::{ContentId, PublicId};
use std::collections::{BTreeMap, BTreeSet};

impl Downloads {
    /// Bytes that may be outstanding: what half a second brings at the present rate, between the named limits.
    fn credit(&self, now: Time) -> u64 {
        self.rate.per_second(now).clamp(self.config.credit_min, self.config.credit_max)
    }

    pub(super) fn ask(&mut self, now: Time) {
        let credit = self.credit(now);
        if !self.linked || self.asked_bytes >= credit || self.asked_units >= self.config.units_max {
            return;
        }
        let ready: BTreeSet<PublicId> =
            self.fetches.values().filter(|fetch| self.may_ask(fetch)).map(|fetch| fetch.wanted.owner).collect();
        let share = if ready.len() > 1 { credit / 2 } else { credit };
        for owner in ready {
            self.ask_owner(now, owner, credit, share);
        }
    }

    fn may_ask(&self, fetch: &Fetch) -> bool {
        fetch.phase == Phase::Moving
            && fetch.held.is_none()
            && !fetch.leaving
            && !fetch.is_complete()
            && self.online.get(&fetch.wanted.owner) != Some(&false)
    }

    fn ask_owner(&mut self, now: Time, owner: PublicId, credit: u64, share: u64) {
        let ids: Vec<TransferId> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.wanted.owner == owner && self.may_ask(fetch))
            .map(|(id, _)| *id)
            .collect();
        let (mut units, mut joins) = (Vec::new(), BTreeMap::<u64, Vec<Asked>>::new());
        'all: for transfer in ids {
            loop {
                let of = self.asked_of.get(&owner).copied().unwrap_or(0);
                if self.asked_bytes >= credit || of >= share || self.asked_units >= self.config.units_max {
                    break 'all;
                }
                let Some(fetch) = self.fetches.get_mut(&transfer) else { break };
                let Some((index, length)) = fetch.next_missing() else { break };
                let content = fetch.wanted.content;
                let under_way = self.request_for(content, index);
                let Some(fetch) = self.fetches.get_mut(&transfer) else { break };
                if fetch.asked.is_empty() {
                    fetch.asked_since = now;
                }
                fetch.asked.insert(index, under_way.unwrap_or(self.request + 1));
                self.by_unit.entry((content, index)).or_default().insert(transfer);
                self.asked_bytes += u64::from(length);
                self.asked_units += 1;
                *self.asked_of.entry(owner).or_default() += u64::from(length);
                let unit = Asked { transfer, content, index, length };
                match under_way {
                    Some(request) => joins.entry(request).or_default().push(unit),
                    None => units.push(unit),
                }
            }
        }
        if !units.is_empty() {
            if self.asked_units == units.len() {
                self.heard = now;
            }
            self.request += 1;
            self.effects.push_back(Effect::Ask { request: self.request, owner, units });
        }
        for (request, units) in joins {
            self.effects.push_back(Effect::Join { request, units });
        }
    }

    /// The request by which a unit is asked for already, if it is. Two transfers of one content ask for it once.
    pub(super) fn request_for(&self, content: ContentId, index: u32) -> Option<u64> {
        let of = self.by_unit.get(&(content, index))?;
        of.iter().find_map(|transfer| self.fetches.get(transfer)?.asked.get(&index).copied())
    }
}
