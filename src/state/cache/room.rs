//! Room: who gets it next, what gives way for it, and until when it is held.

use super::outbox::Word;
use super::{Cache, EntryId, Stage, Timer};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::frame::ChunkRefusal;
use std::collections::HashMap;

impl Cache {
    /// Reserves room for those whose turn it is, as long as there is some, and asks the owners.
    pub(super) fn fill(&mut self, now: Time) {
        let mut uploads: HashMap<ConnId, u64> = HashMap::new();
        while let Some((_, _, conn)) = self.turns.first().copied() {
            let entries = &self.entries;
            let waits = |id: EntryId| {
                let entry = entries.get(&id).filter(|entry| entry.stage == Stage::Queued);
                entry.is_some_and(|entry| entry.readers.iter().any(|reader| reader.asker == conn))
            };
            let first = self.askers.get_mut(&conn).and_then(|asker| asker.first_waiting(waits));
            let Some(entry) = first else {
                self.list(conn);
                continue;
            };
            if !self.make_room(entry) {
                return;
            }
            self.reserve(now, entry, conn, &mut uploads);
        }
    }

    fn make_room(&mut self, wanted: EntryId) -> bool {
        let Some(bytes) = self.entries.get(&wanted).map(|entry| entry.bytes) else { return false };
        while self.used + bytes > self.config.capacity {
            let Some((_, _, spare)) = self.spare.first().copied() else { return false };
            self.end_entry(spare, ChunkRefusal::Expired);
        }
        true
    }

    fn reserve(&mut self, now: Time, id: EntryId, payer: ConnId, uploads: &mut HashMap<ConnId, u64>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        // One number for all that is reserved now; but two lengths of one chunk under one number would be one to the
        // owner's side, and who asked for the right one would wait for the other's.
        let (owner, chunk) = (entry.owner, (entry.key.content, entry.key.index));
        let is_used = |upload: &u64| {
            self.owners.get(&owner).is_some_and(|owner| owner.uploads.contains_key(&(*upload, chunk.0, chunk.1)))
        };
        let upload = uploads.get(&owner).copied().filter(|upload| !is_used(upload)).unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        uploads.insert(owner, upload);
        entry.stage = Stage::Reserved { upload, since: now };
        entry.payer = Some(payer);
        self.used += entry.bytes;
        let until = now.after(self.config.ttl);
        entry.timer = Some(until);
        self.timers.insert((until, Timer::Entry(id)));
        let (owner, key, bytes) = (entry.owner, entry.key, entry.bytes);
        self.outbox.add(owner, upload, Word::Upload, (key.content, key.index, key.length));
        if let Some(asked) = self.owners.get_mut(&owner) {
            if asked.uploads.is_empty() {
                asked.heard = now;
            }
            asked.uploads.insert((upload, key.content, key.index), id);
            if asked.timer.is_none() {
                let at = asked.heard.after(self.config.owner_stall);
                asked.timer = Some(at);
                self.timers.insert((at, Timer::Owner(owner)));
            }
        }
        self.next += 1;
        if let Some(asker) = self.askers.get_mut(&payer) {
            asker.charged += bytes;
            asker.turn = self.next;
        }
        self.list(payer);
    }

    /// The room of an entry counts in the share of one of its readers.
    pub(super) fn charge_anew(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(before) = entry.payer else { return };
        if entry.readers.iter().any(|reader| reader.asker == before) {
            return;
        }
        entry.payer = entry.readers.first().map(|reader| reader.asker);
        let (bytes, after) = (entry.bytes, entry.payer);
        self.discharge(before, bytes);
        if let Some(asker) = after.and_then(|after| self.askers.get_mut(&after)) {
            asker.charged += bytes;
        }
        after.into_iter().for_each(|after| self.list(after));
    }

    pub(super) fn discharge(&mut self, conn: ConnId, bytes: u64) {
        if let Some(asker) = self.askers.get_mut(&conn) {
            asker.charged = asker.charged.saturating_sub(bytes);
        }
        self.tidy_asker(conn);
    }

    /// Keeps the order of what may give way: a complete entry that nobody reads, or nobody who gets on with it.
    pub(super) fn note_spare(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let stalled = |conn: &ConnId| self.askers.get(conn).is_none_or(|asker| asker.stalled);
        let spare = match entry.stage {
            Stage::Complete { at } if entry.readers.iter().all(|reader| stalled(&reader.asker)) => {
                Some((!entry.readers.is_empty(), at))
            }
            Stage::Complete { .. } | Stage::Queued | Stage::Reserved { .. } | Stage::Arriving { .. } => None,
        };
        if let Some((read, at)) = std::mem::replace(&mut entry.spare, spare) {
            self.spare.remove(&(read, at, id));
        }
        if let Some((read, at)) = spare {
            self.spare.insert((read, at, id));
        }
    }

    pub(super) fn unschedule(&mut self, at: Option<Time>, timer: Timer) {
        if let Some(at) = at {
            self.timers.remove(&(at, timer));
        }
    }

    pub(super) fn fire_timers(&mut self, now: Time) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Entry(entry) => self.expire(entry),
                Timer::Owner(owner) => self.check_owner(now, owner),
                Timer::Asker(asker) => self.check_asker(now, asker),
            }
        }
    }

    /// An entry has had its time.
    fn expire(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get(&id) else { return };
        match entry.stage {
            Stage::Complete { .. } => self.end_entry(id, ChunkRefusal::Expired),
            Stage::Reserved { .. } | Stage::Arriving { .. } => self.end_entry(id, ChunkRefusal::OwnerStalled),
            Stage::Queued => {}
        }
    }

    /// What an owner was asked for long ago, and has sent nothing since, is given up.
    fn check_owner(&mut self, now: Time, conn: ConnId) {
        let stall = self.config.owner_stall;
        let Some(owner) = self.owners.get_mut(&conn) else { return };
        if owner.uploads.is_empty() {
            owner.timer = None;
            return;
        }
        let mut next = owner.heard.after(stall);
        if next <= now {
            let mut overdue = Vec::new();
            next = now.after(stall);
            for id in owner.uploads.values() {
                match self.entries.get(id).map(|entry| entry.stage) {
                    Some(Stage::Reserved { since, .. } | Stage::Arriving { since, .. }) => {
                        let due = since.after(stall);
                        if due <= now { overdue.push(*id) } else { next = next.min(due) }
                    }
                    Some(Stage::Queued | Stage::Complete { .. }) | None => {}
                }
            }
            overdue.sort_unstable();
            overdue.into_iter().for_each(|id| self.end_entry(id, ChunkRefusal::OwnerStalled));
        }
        if let Some(owner) = self.owners.get_mut(&conn) {
            owner.timer = Some(next);
            self.timers.insert((next, Timer::Owner(conn)));
        }
    }
}
