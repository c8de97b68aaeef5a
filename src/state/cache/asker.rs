//! One asker: what it wants, what room it takes, and whether it reads.

use super::{Cache, EntryId, Timer};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::ids::ContentId;
use std::collections::{HashMap, VecDeque};

/// A chunk of a request: the asker's number, the content, the index.
pub(super) type Want = (u64, ContentId, u32);

pub(super) struct Asker {
    wants: HashMap<Want, (EntryId, u32)>,
    bytes: u64,
    /// Entries that wait for room, in the order in which they were asked for; some may wait no more.
    waiting: VecDeque<EntryId>,
    /// Bytes of room that count in its share.
    pub(super) charged: u64,
    pub(super) turn: u64,
    listed: Option<(u64, u64)>,
    /// Complete chunks that are on their way to it.
    reading: usize,
    progress: Time,
    pub(super) stalled: bool,
    timer: Option<Time>,
}

impl Asker {
    pub(super) fn new(now: Time) -> Asker {
        Asker {
            wants: HashMap::new(),
            bytes: 0,
            waiting: VecDeque::new(),
            charged: 0,
            turn: 0,
            listed: None,
            reading: 0,
            progress: now,
            stalled: false,
            timer: None,
        }
    }

    /// Chunks and bytes that it has asked for and not got.
    pub(super) fn outstanding(&self) -> (usize, u64) {
        (self.wants.len(), self.bytes)
    }

    pub(super) fn wants(&self, want: &Want) -> bool {
        self.wants.contains_key(want)
    }

    pub(super) fn add(&mut self, want: Want, entry: EntryId, length: u32, waits: bool) {
        self.wants.insert(want, (entry, length));
        self.bytes += u64::from(length);
        if waits {
            self.waiting.push_back(entry);
        }
    }

    pub(super) fn remove(&mut self, want: &Want) -> Option<EntryId> {
        let (entry, length) = self.wants.remove(want)?;
        self.bytes -= u64::from(length);
        Some(entry)
    }

    pub(super) fn entry_of(&self, want: &Want) -> Option<EntryId> {
        self.wants.get(want).map(|(entry, _)| *entry)
    }

    pub(super) fn all(&self) -> Vec<(Want, EntryId)> {
        let mut all: Vec<_> = self.wants.iter().map(|(want, (entry, _))| (*want, *entry)).collect();
        all.sort_unstable();
        all
    }

    /// The entry that it waits for longest; those that wait no more are dropped.
    pub(super) fn first_waiting(&mut self, waits: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        while let Some(first) = self.waiting.front().copied() {
            if waits(first) {
                return Some(first);
            }
            self.waiting.pop_front();
        }
        None
    }

    pub(super) fn is_idle(&self) -> bool {
        self.wants.is_empty() && self.charged == 0
    }
}

impl Cache {
    /// Puts an asker at its place among those who may be reserved for, or takes it out.
    pub(super) fn list(&mut self, conn: ConnId) {
        let Some(asker) = self.askers.get_mut(&conn) else { return };
        let share = if asker.stalled { 1 } else { self.config.asker_share };
        let may = !asker.waiting.is_empty() && asker.charged < share;
        let listed = may.then_some((asker.charged, asker.turn));
        if asker.listed == listed {
            return;
        }
        if let Some((charged, turn)) = asker.listed.take() {
            self.turns.remove(&(charged, turn, conn));
        }
        if let Some((charged, turn)) = listed {
            self.turns.insert((charged, turn, conn));
        }
        asker.listed = listed;
    }

    /// Forgets an asker that wants nothing and holds nothing.
    pub(super) fn tidy_asker(&mut self, conn: ConnId) {
        self.list(conn);
        if self.askers.get(&conn).is_some_and(Asker::is_idle) {
            let Some(asker) = self.askers.remove(&conn) else { return };
            if let Some((charged, turn)) = asker.listed {
                self.turns.remove(&(charged, turn, conn));
            }
            self.unschedule(asker.timer, Timer::Asker(conn));
        }
    }

    /// A complete chunk is on its way to an asker: from now on it is the asker who may hold it up.
    pub(super) fn begins_to_read(&mut self, now: Time, conn: ConnId) {
        let Some(asker) = self.askers.get_mut(&conn) else { return };
        asker.reading += 1;
        if asker.reading == 1 {
            asker.progress = now;
        }
        if asker.timer.is_none() {
            let at = asker.progress.after(self.config.asker_stall);
            asker.timer = Some(at);
            self.timers.insert((at, Timer::Asker(conn)));
        }
    }

    pub(super) fn ends_to_read(&mut self, conn: ConnId) {
        if let Some(asker) = self.askers.get_mut(&conn) {
            asker.reading = asker.reading.saturating_sub(1);
        }
    }

    pub(super) fn asker_progressed(&mut self, now: Time, conn: ConnId) {
        let Some(asker) = self.askers.get_mut(&conn) else { return };
        asker.progress = now;
        if std::mem::replace(&mut asker.stalled, false) {
            tracing::debug!(conn = conn.0, "an asker reads again");
            self.stall_changed(conn);
        }
    }

    pub(super) fn check_asker(&mut self, now: Time, conn: ConnId) {
        let Some(asker) = self.askers.get_mut(&conn) else { return };
        asker.timer = None;
        if asker.reading == 0 {
            return;
        }
        let due = asker.progress.after(self.config.asker_stall);
        let at = if due <= now { now.after(self.config.asker_stall) } else { due };
        asker.timer = Some(at);
        if due <= now && !std::mem::replace(&mut asker.stalled, true) {
            tracing::debug!(conn = conn.0, "an asker reads nothing");
            self.stall_changed(conn);
        }
        self.timers.insert((at, Timer::Asker(conn)));
    }

    fn stall_changed(&mut self, conn: ConnId) {
        self.list(conn);
        let wants = self.askers.get(&conn).map(Asker::all).unwrap_or_default();
        wants.into_iter().for_each(|(_, entry)| self.note_spare(entry));
    }
}
