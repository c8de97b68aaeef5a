//! Which units to ask of whom: within the asker's credit, shared evenly among owners, and among the jobs at each.

use super::fetch::{Fetch, Phase, Wanted};
use super::{Asked, Downloads, Effect, TransferId};
use crate::state::time::Time;
use crate::wire::ids::{ContentId, PublicId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What one job wants of one owner: these share the credit. The transfers of a lane come one after the other.
pub(super) type Lane = (PublicId, u64);

/// What one round asks for.
#[derive(Default)]
struct Round {
    /// By owner, and whether it goes straight.
    requests: BTreeMap<(PublicId, bool), u64>,
    asks: BTreeMap<u64, (PublicId, Vec<Asked>)>,
    joins: BTreeMap<u64, Vec<Asked>>,
}

impl Downloads {
    /// Bytes that may be outstanding: what half a second brings at the present rate, between the named limits.
    fn credit(&self, now: Time) -> u64 {
        self.rate.per_second(now).clamp(self.config.credit_min, self.config.credit_max)
    }

    pub(super) fn ask(&mut self, now: Time) {
        let credit = self.credit(now);
        let is_cut_off = !self.linked && self.straight.is_empty();
        if is_cut_off || self.asked_bytes >= credit || self.asked_units >= self.config.units_max {
            return;
        }
        let mut lanes: BTreeMap<Lane, VecDeque<TransferId>> = BTreeMap::new();
        for (transfer, fetch) in self.fetches.iter().filter(|(_, fetch)| self.may_ask(fetch)) {
            lanes.entry(fetch.wanted.lane()).or_default().push_back(*transfer);
        }
        let owners: BTreeSet<PublicId> = lanes.keys().map(|(owner, _)| *owner).collect();
        let share = if owners.len() > 1 { credit / 2 } else { credit };
        let was_idle = self.relayed_units == 0;
        let mut round = Round::default();
        while self.asked_bytes < credit && self.asked_units < self.config.units_max {
            let Some(lane) = self.lane_with_least(&lanes, share) else { break };
            let Some(transfers) = lanes.get_mut(&lane) else { break };
            match transfers.front() {
                Some(transfer) if self.ask_next(now, *transfer, &mut round) => {}
                Some(_) => {
                    transfers.pop_front();
                }
                None => {
                    lanes.remove(&lane);
                }
            }
        }
        if was_idle && self.relayed_units > 0 {
            self.heard = now;
        }
        for (request, (owner, units)) in round.asks {
            let by = self.way_of(request);
            self.effects.push_back(Effect::Ask { request, owner, units, by });
        }
        for (request, units) in round.joins {
            self.effects.push_back(Effect::Join { request, units });
        }
    }

    /// Whose turn it is: the lane with the fewest bytes outstanding, of an owner that is below its share.
    fn lane_with_least(&self, lanes: &BTreeMap<Lane, VecDeque<TransferId>>, share: u64) -> Option<Lane> {
        let asked_of = |owner: &PublicId| -> u64 {
            self.asked_in.range((*owner, 0)..=(*owner, u64::MAX)).map(|(_, bytes)| *bytes).sum()
        };
        let outstanding = |lane: &&Lane| self.asked_in.get(*lane).copied().unwrap_or(0);
        lanes.keys().filter(|(owner, _)| asked_of(owner) < share).min_by_key(outstanding).copied()
    }

    fn may_ask(&self, fetch: &Fetch) -> bool {
        fetch.phase == Phase::Moving
            && fetch.held.is_none()
            && !fetch.leaving
            && !fetch.is_complete()
            && self.is_reachable(&fetch.wanted)
    }

    fn is_reachable(&self, wanted: &Wanted) -> bool {
        let relayed = self.linked && self.online.get(&wanted.owner) != Some(&false);
        let straight = self.straight.contains_key(&wanted.owner);
        straight && wanted.way.permits(true) || relayed && wanted.way.permits(false)
    }

    /// Asks for the next unit of a transfer, if one is missing.
    fn ask_next(&mut self, now: Time, transfer: TransferId, round: &mut Round) -> bool {
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return false };
        let Some((index, length)) = fetch.next_missing() else { return false };
        let (lane, content, way) = (fetch.wanted.lane(), fetch.wanted.content, fetch.wanted.way);
        let straight = self.straight.get(&lane.0).copied().filter(|_| way.permits(true));
        let under_way = self.request_for(content, index);
        if under_way.is_some_and(|request| !way.permits(self.way_of(request).is_some())) {
            // It comes by a way that this job doesn't want, for another one: it is there for nobody twice.
            return false;
        }
        let request = under_way.unwrap_or_else(|| {
            *round.requests.entry((lane.0, straight.is_some())).or_insert_with(|| {
                self.request += 1;
                if let Some(conn) = straight {
                    self.ways.insert(self.request, (conn, 0));
                }
                self.request
            })
        });
        let Some(fetch) = self.fetches.get_mut(&transfer) else { return false };
        if fetch.asked.is_empty() {
            fetch.asked_since = now;
        }
        fetch.asked.insert(index, request);
        if under_way.is_some() {
            fetch.joined.insert(index);
        }
        self.by_unit.entry((content, index)).or_default().insert(transfer);
        self.asked_bytes += u64::from(length);
        self.asked_units += 1;
        match self.ways.get_mut(&request) {
            Some((_, outstanding)) => *outstanding += 1,
            None => self.relayed_units += 1,
        }
        *self.asked_in.entry(lane).or_default() += u64::from(length);
        let unit = Asked { transfer, content, index, length };
        match under_way {
            Some(request) => round.joins.entry(request).or_default().push(unit),
            None => round.asks.entry(request).or_insert_with(|| (lane.0, Vec::new())).1.push(unit),
        }
        true
    }

    /// The request by which a unit is asked for already, if it is. Two transfers of one content ask for it once. Who only
    /// joined tells nothing: its request may be over by now, and two that trust each other would wait for ever.
    fn request_for(&self, content: ContentId, index: u32) -> Option<u64> {
        let of = self.by_unit.get(&(content, index))?;
        let own = |fetch: &&Fetch| !fetch.joined.contains(&index);
        of.iter().find_map(|transfer| self.fetches.get(transfer).filter(own)?.asked.get(&index).copied())
    }

    /// A transfer no longer waits for a unit of this request. Says whether another one still does, which is then the one
    /// that asked for it.
    pub(super) fn pass_on(&mut self, content: ContentId, index: u32, request: u64) -> bool {
        let Some(of) = self.by_unit.get(&(content, index)) else { return false };
        let waits = |fetch: &Fetch| fetch.asked.get(&index) == Some(&request);
        let others: Vec<TransferId> = of.iter().copied().filter(|id| self.fetches.get(id).is_some_and(waits)).collect();
        let is_owned = |id: &TransferId| self.fetches.get(id).is_some_and(|fetch| !fetch.joined.contains(&index));
        if let (Some(first), false) = (others.first(), others.iter().any(is_owned))
            && let Some(fetch) = self.fetches.get_mut(first)
        {
            fetch.joined.remove(&index);
        }
        !others.is_empty()
    }
}
