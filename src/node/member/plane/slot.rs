//! What is open for a transfer on the disk, and in which order its work there is done.
//!
//! Invariant: nothing is opened, removed or forgotten for a transfer while other work of it is under way on the pool. So
//! no write ends in a part file that was given up, and no removal meets the next attempt's part file. And of several
//! transfers that go to one place, one has it at a time: no other touches its part file.

use super::place;
use super::{Command, Plane};
use crate::node::member::io::{Input, Leftover, Place};
use crate::state::downloads::{Opened, Outcome, TransferId};
use crate::store::download::{Folder, Part};
use crate::wire::path::RelPath;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// One transfer's turn on the disk.
#[derive(Default)]
pub(super) struct Slot {
    live: Option<Live>,
    /// Tasks on the pool that work for it.
    busy: u32,
    /// What comes when they are over.
    after: VecDeque<After>,
}

enum After {
    Drop(Leftover),
    Open(Box<Place>),
}

/// Which transfer has which place: a folder, and a name below it.
#[derive(Default)]
pub(super) struct Places {
    taken: HashMap<(PathBuf, RelPath), TransferId>,
}

impl Places {
    /// Takes a place for its transfer; false if it is another one's now. Any number can make the same folder.
    fn take(&mut self, place: &Place) -> bool {
        place.is_folder || *self.taken.entry(key(place)).or_insert(place.transfer) == place.transfer
    }

    fn give_back(&mut self, place: &Place) {
        let key = key(place);
        if self.taken.get(&key) == Some(&place.transfer) {
            self.taken.remove(&key);
        }
    }

    fn is_anothers(&self, folder: &Path, dest: &RelPath, transfer: TransferId) -> bool {
        let holder = self.taken.get(&(folder.to_owned(), dest.clone()));
        holder.is_some_and(|holder| *holder != transfer)
    }
}

fn key(place: &Place) -> (PathBuf, RelPath) {
    (place.folder.clone(), place.dest.clone())
}

/// A transfer that is in memory.
pub(super) struct Live {
    /// Which opening of it this is; what was read for an earlier one is not taken.
    pub(super) attempt: u64,
    pub(super) place: Arc<Place>,
    pub(super) folder: Option<Arc<Folder>>,
    pub(super) part: Option<Arc<Part>>,
    pub(super) list: Vec<u8>,
    pub(super) list_parts: HashSet<u32>,
    /// Whether a file of one chunk is being written, or was. What comes a second time is not taken.
    pub(super) landing: bool,
}

impl Plane {
    /// A transfer that is open and stays so for now.
    pub(super) fn live(&mut self, transfer: TransferId) -> Option<&mut Live> {
        let slot = self.open.get_mut(&transfer).filter(|slot| slot.after.is_empty())?;
        slot.live.as_mut()
    }

    /// A task on the pool begins to work for a transfer; it ends with [`Command::Idle`].
    pub(super) fn busy(&mut self, transfer: TransferId) {
        self.open.entry(transfer).or_default().busy += 1;
    }

    /// A task is over.
    pub(super) fn idle(&mut self, transfer: TransferId) {
        if let Some(slot) = self.open.get_mut(&transfer) {
            slot.busy = slot.busy.saturating_sub(1);
            self.go_on_with(transfer);
        }
    }

    pub(super) fn open(&mut self, place: Box<Place>) {
        let transfer = place.transfer;
        let slot = self.open.entry(transfer).or_default();
        if slot.live.is_some() {
            slot.after.push_back(After::Drop(Leftover::Keep));
        }
        slot.after.push_back(After::Open(place));
        self.go_on_with(transfer);
    }

    pub(super) fn drop_transfer(&mut self, transfer: TransferId, leftover: Leftover) {
        self.expected.retain(|_, of| {
            of.asked.retain(|asked| asked.transfer != transfer);
            !of.asked.is_empty()
        });
        let slot = self.open.entry(transfer).or_default();
        slot.after.push_back(After::Drop(leftover));
        self.go_on_with(transfer);
    }

    fn go_on_with(&mut self, transfer: TransferId) {
        loop {
            let Some(slot) = self.open.get_mut(&transfer) else { return };
            if slot.busy > 0 {
                return;
            }
            match slot.after.pop_front() {
                Some(After::Drop(leftover)) => {
                    let dropped = slot.live.take();
                    if let Some(live) = dropped {
                        self.places.give_back(&live.place);
                    }
                    if let Leftover::Remove(folder, dest) = leftover {
                        if self.places.is_anothers(&folder, &dest, transfer) {
                            // The part file there is that one's.
                            let _ = self.commands.send(Command::Cleared(transfer));
                            continue;
                        }
                        self.busy(transfer);
                        let (core, commands) = (self.core.clone(), self.commands.clone());
                        tokio::task::spawn_blocking(move || {
                            if place::remove_part(&folder, &dest) {
                                let _ = core.blocking_send(Input::Cleared(transfer));
                            }
                            commands.send(Command::Idle(transfer))
                        });
                    }
                }
                Some(After::Open(place)) => {
                    slot.busy += 1;
                    self.attempts += 1;
                    let is_free = self.places.take(&place);
                    slot.live = Some(Live::new(self.attempts, Arc::new(*place)));
                    if is_free {
                        self.begin(transfer);
                    } else {
                        let taken = Opened::Not(Outcome::PlaceTaken);
                        let _ = self.commands.send(Command::Placed(transfer, None, None, taken));
                    }
                }
                None => {
                    if slot.live.is_none() {
                        self.open.remove(&transfer);
                    }
                    return;
                }
            }
        }
    }

    fn begin(&mut self, transfer: TransferId) {
        let Some(live) = self.open.get(&transfer).and_then(|slot| slot.live.as_ref()) else { return };
        let place = live.place.clone();
        let folder = self.folders.get(&place.folder).and_then(Weak::upgrade);
        let (commands, state_dir) = (self.commands.clone(), self.state_dir.clone());
        tokio::task::spawn_blocking(move || {
            let place::Opening { folder, part, opened } = place::open(&place, folder, &state_dir);
            commands.send(Command::Placed(transfer, folder, part, opened))
        });
    }

    pub(super) async fn placed(
        &mut self,
        transfer: TransferId,
        folder: Option<Arc<Folder>>,
        part: Option<Arc<Part>>,
        opened: Opened,
    ) {
        let Some(live) = self.open.get_mut(&transfer).and_then(|slot| slot.live.as_mut()) else { return };
        if let Some(folder) = &folder {
            self.folders.insert(live.place.folder.clone(), Arc::downgrade(folder));
        }
        live.folder = folder;
        live.part = part;
        if matches!(opened, Opened::Not(_)) {
            self.places.give_back(&live.place);
        }
        let opening = live.place.opening;
        self.tell(Input::Opened(transfer, opening, opened)).await;
        self.idle(transfer);
    }

    /// Ends transfers, those of one folder together.
    pub(super) fn finish(&mut self, transfers: Vec<TransferId>) {
        let mut by_folder: HashMap<PathBuf, Vec<place::Ending>> = HashMap::new();
        for transfer in transfers {
            let Some(live) = self.live(transfer) else { continue };
            let Some(folder) = live.folder.clone() else { continue };
            let part = live.part.take().and_then(Arc::into_inner);
            let ending = place::Ending { place: live.place.clone(), folder, part };
            by_folder.entry(ending.place.folder.clone()).or_default().push(ending);
            self.busy(transfer);
        }
        for endings in by_folder.into_values() {
            let (core, commands) = (self.core.clone(), self.commands.clone());
            tokio::task::spawn_blocking(move || {
                for (transfer, outcome, name) in place::finish(endings) {
                    if let Some(name) = name {
                        let _ = core.blocking_send(Input::Renamed(transfer, name));
                    }
                    let _ = core.blocking_send(Input::Finished(transfer, outcome));
                    let _ = commands.send(Command::Idle(transfer));
                }
            });
        }
    }

    pub(super) fn sync(&mut self, transfer: TransferId, chunks: Vec<u32>) {
        let Some(part) = self.live(transfer).and_then(|live| live.part.clone()) else { return };
        self.busy(transfer);
        let (core, commands) = (self.core.clone(), self.commands.clone());
        tokio::task::spawn_blocking(move || {
            let synced = part.sync();
            if let Err(error) = &synced {
                tracing::warn!(%error, "a download can't be synced");
            }
            drop(part);
            let _ = core.blocking_send(Input::Synced(transfer, chunks, synced.is_ok()));
            commands.send(Command::Idle(transfer))
        });
    }
}

impl Live {
    fn new(attempt: u64, place: Arc<Place>) -> Live {
        Live { attempt, place, folder: None, part: None, list: Vec::new(), list_parts: HashSet::new(), landing: false }
    }
}
