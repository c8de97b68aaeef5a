//! The data plane: chunk bytes between network and disk. They never pass the core; it hears "verified", "damaged",
//! "not written" and "sent".
//!
//! One task owns all that is expected and open here; the tasks that carry bytes reach it by messages.

mod buffers;
mod conflict;
mod place;
mod receive;
mod scan;
mod send;
mod sending;
mod slot;

use super::io::{Input, Leftover, Look, Place, ScanId, ScanOrder, Upload, UploadSource, Withdrawn};
use crate::net::connection::Connection;
use crate::state::conn::ConnId;
use crate::state::downloads::{Asked, Came, Opened, TransferId};
use crate::store::copies::Copies;
use crate::store::download::{Folder, Part};
use crate::store::tree::check_list;
use crate::wire::chunk::ChunkHeader;
use crate::wire::frame::ChunkRange;
use crate::wire::geometry::{LIST_PART_BYTES, Unit};
use crate::wire::ids::{ContentId, EpochId, GroupId};
use crate::wire::seal::Epoch;
use buffers::Buffers;
use receive::Inlet;
use send::Outlet;
use sending::{Sending, SendingKey};
use slot::{Places, Slot};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Copies that the core is told of at once.
const COPIES_BATCH: usize = 1_024;
/// Changed files that are looked at beside a scan, at a time.
const LOOKS_MAX: usize = 2;

/// What the data plane is told.
pub(super) enum Command {
    /// Chunk streams come on this connection through the server.
    Streams(Connection, GroupId),
    /// Chunk streams come on this straight connection, too.
    PeerStreams(ConnId, Connection, GroupId),
    /// The secrets, the newest last.
    Epochs(Vec<Epoch>),
    /// See [`super::io::Output`].
    Open(Box<Place>),
    /// See [`super::io::Output`].
    Expect(u64, Vec<Asked>, Option<ConnId>),
    /// See [`super::io::Output`].
    Join(u64, Vec<Asked>),
    /// See [`super::io::Output`].
    Forget(u64, Vec<Asked>),
    /// See [`super::io::Output`].
    Sync(TransferId, Vec<u32>),
    /// See [`super::io::Output`].
    Look(u64, PathBuf, Vec<Look>),
    /// See [`super::io::Output`].
    Finish(Vec<TransferId>),
    /// See [`super::io::Output`].
    Drop(TransferId, Leftover),
    /// See [`super::io::Output`].
    Upload(Connection, Upload, Box<UploadSource>),
    /// See [`super::io::Output`].
    Unsend(ConnId, u64, Vec<ChunkRange>),
    /// See [`super::io::Output`].
    StopUploads(Withdrawn),
    /// A unit was sent, or could not be.
    Sent(SendingKey),
    /// See [`super::io::Output`].
    Scan(ScanId, Box<ScanOrder>),
    /// See [`super::io::Output`].
    Hash(ScanId, Vec<u32>),
    /// See [`super::io::Output`].
    EndScan(ScanId),
    /// See [`super::io::Output`].
    DeleteCopies(Vec<PathBuf>),
    /// A stream's header came, on a straight connection or through the server: where do its bytes go?
    Claim(ChunkHeader, Option<ConnId>, oneshot::Sender<Vec<Landing>>),
    /// A place was opened.
    Placed(TransferId, Option<Arc<Folder>>, Option<Arc<Part>>, Opened),
    /// A unit's bytes came in, by a straight connection or through the server.
    Read(Box<ChunkHeader>, Vec<Landing>, Vec<u8>, Option<ConnId>),
    /// A unit's bytes stopped before their end. The core need not be told where it hears that the connection is over.
    Broke(Vec<Landing>, bool),
    /// A unit was handled; a file of one chunk has its part now.
    Landed(Asked, Came, Option<Part>),
    /// A part of a list was unsealed.
    ListPart(Asked, u32, Vec<u8>),
    /// A task of a transfer on the pool is over.
    Idle(TransferId),
    /// Nothing is left of a transfer on the disk.
    Cleared(TransferId),
    /// A scan ended.
    Scanned(ScanId),
}

/// Where a unit's bytes go: a transfer, and which opening of it.
#[derive(Clone, Copy)]
pub(super) struct Landing {
    asked: Asked,
    attempt: u64,
}

/// A unit that was asked for.
struct Expected {
    request: u64,
    /// The straight connection that it comes on; none means through the server.
    by: Option<ConnId>,
    /// For which transfers.
    asked: Vec<Asked>,
}

/// The data plane's own state.
pub(super) struct Plane {
    state_dir: PathBuf,
    commands: mpsc::UnboundedSender<Command>,
    core: mpsc::Sender<Input>,
    group: Option<GroupId>,
    epochs: BTreeMap<EpochId, Epoch>,
    newest: Option<Epoch>,
    open: HashMap<TransferId, Slot>,
    places: Places,
    attempts: u64,
    folders: HashMap<PathBuf, Weak<Folder>>,
    /// What was asked for.
    expected: HashMap<(ContentId, u32), Expected>,
    scanning: HashMap<ScanId, mpsc::Sender<Vec<u32>>>,
    buffers: Buffers,
    outlet: Outlet,
    sending: Sending,
    /// One share is walked at a time; a file that somebody waits for does not wait for that.
    scans: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

impl Plane {
    /// A data plane that talks to `core`; `state_dir` is never shared.
    pub(super) fn new(state_dir: PathBuf, core: mpsc::Sender<Input>) -> (Plane, mpsc::UnboundedReceiver<Command>) {
        let (commands, received) = mpsc::unbounded_channel();
        let buffers = Buffers::default();
        let room = Arc::new(Semaphore::new(send::OUTBOUND_BYTES));
        let outlet = Outlet { core: core.clone(), buffers: buffers.clone(), room };
        let plane = Plane {
            state_dir,
            commands,
            core,
            group: None,
            epochs: BTreeMap::new(),
            newest: None,
            open: HashMap::new(),
            places: Places::default(),
            attempts: 0,
            folders: HashMap::new(),
            expected: HashMap::new(),
            scanning: HashMap::new(),
            buffers,
            outlet,
            sending: Sending::default(),
            scans: Arc::new(Semaphore::new(1)),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
        };
        (plane, received)
    }

    /// Where commands go.
    pub(super) fn commands(&self) -> mpsc::UnboundedSender<Command> {
        self.commands.clone()
    }

    /// Works until nobody is left to send commands to it, or `stop` comes.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.tidy_copies().await;
        while let Some(command) = commands.recv().await {
            self.take(command).await;
        }
    }

    async fn take(&mut self, command: Command) {
        match command {
            Command::Streams(connection, group) => {
                self.group = Some(group);
                self.expected.retain(|_, expected| expected.by.is_some());
                tokio::spawn(receive::accept(connection, self.inlet(None)));
            }
            Command::PeerStreams(id, connection, group) => {
                self.group = Some(group);
                tokio::spawn(receive::accept(connection, self.inlet(Some(id))));
            }
            Command::Epochs(epochs) => {
                self.newest = epochs.iter().max_by_key(|epoch| epoch.id).cloned();
                self.epochs = epochs.into_iter().map(|epoch| (epoch.id, epoch)).collect();
            }
            Command::Open(place) => self.open(place),
            Command::Placed(transfer, folder, part, opened) => self.placed(transfer, folder, part, opened).await,
            Command::Expect(request, units, by) => {
                let expected = |unit: Asked| ((unit.content, unit.index), Expected { request, by, asked: vec![unit] });
                self.expected.extend(units.into_iter().map(expected));
            }
            Command::Join(request, units) => self.join(request, units).await,
            Command::Forget(request, units) => {
                for unit in units {
                    self.forget(unit, |of| of == request);
                }
            }
            Command::Claim(header, by, reply) => {
                let _ = reply.send(self.claim(&header, by));
            }
            Command::Read(header, landings, bytes, by) => self.land(*header, landings, bytes, by),
            Command::Broke(landings, tell) => {
                for Landing { asked, attempt } in landings {
                    match self.live(asked.transfer).filter(|live| live.attempt == attempt) {
                        Some(_) if tell => self.landed(asked, Came::Broken, None).await,
                        Some(live) => live.landing = false,
                        None => {}
                    }
                }
            }
            Command::Landed(asked, came, part) => {
                self.landed(asked, came, part).await;
                self.idle(asked.transfer);
            }
            Command::ListPart(asked, part, bytes) => {
                self.list_part(asked, part, &bytes).await;
                self.idle(asked.transfer);
            }
            Command::Idle(transfer) => self.idle(transfer),
            Command::Cleared(transfer) => self.tell(Input::Cleared(transfer)).await,
            Command::Sync(transfer, chunks) => self.sync(transfer, chunks),
            Command::Look(job, folder, looks) => {
                let core = self.core.clone();
                tokio::task::spawn_blocking(move || {
                    core.blocking_send(Input::Looked(job, conflict::look(&folder, looks)))
                });
            }
            Command::Finish(transfers) => self.finish(transfers),
            Command::Drop(transfer, leftover) => self.drop_transfer(transfer, leftover),
            Command::Upload(connection, upload, source) => self.upload(connection, upload, *source).await,
            Command::Unsend(conn, request, ranges) => self.unsend(conn, request, &ranges),
            Command::StopUploads(which) => self.stop_uploads(which).await,
            Command::Sent(key) => self.sent(&key),
            Command::Scan(id, order) => self.scan(id, *order),
            Command::Hash(id, files) => {
                if let Some(answers) = self.scanning.get(&id) {
                    let _ = answers.try_send(files);
                }
            }
            Command::EndScan(id) | Command::Scanned(id) => {
                self.scanning.remove(&id);
            }
            Command::DeleteCopies(copies) => {
                let kept = Copies::of(&self.state_dir);
                tokio::task::spawn_blocking(move || kept.remove(&copies));
            }
        }
    }

    async fn tell(&self, input: Input) {
        // A core that is gone needs to hear nothing.
        let _ = self.core.send(input).await;
    }

    fn inlet(&self, by: Option<ConnId>) -> Inlet {
        Inlet { by, plane: self.commands.clone(), core: self.core.clone(), buffers: self.buffers.clone() }
    }

    async fn join(&mut self, request: u64, units: Vec<Asked>) {
        for unit in units {
            match self.expected.get_mut(&(unit.content, unit.index)).filter(|of| of.request == request) {
                Some(of) => of.asked.push(unit),
                // It came, or was given up, a moment ago.
                None => self.tell(Input::Came(unit, Came::Broken)).await,
            }
        }
    }

    fn forget(&mut self, unit: Asked, by: impl Fn(u64) -> bool) {
        let key = (unit.content, unit.index);
        if let Some(of) = self.expected.get_mut(&key)
            && by(of.request)
        {
            of.asked.retain(|asked| asked.transfer != unit.transfer);
            if of.asked.is_empty() {
                self.expected.remove(&key);
            }
        }
    }

    /// Only who was asked can answer.
    fn claim(&mut self, header: &ChunkHeader, by: Option<ConnId>) -> Vec<Landing> {
        let key = (header.content, header.index);
        let fits = |of: &&Expected| {
            let is_asked = of.request == header.request && of.by == by;
            is_asked && of.asked.iter().all(|asked| asked.length == header.length)
        };
        if self.expected.get(&key).filter(fits).is_none() {
            return Vec::new();
        }
        let asked = self.expected.remove(&key).map(|of| of.asked).unwrap_or_default();
        asked.into_iter().filter_map(|asked| self.landing(asked)).collect()
    }

    fn landing(&mut self, asked: Asked) -> Option<Landing> {
        let live = self.live(asked.transfer)?;
        live.folder.as_ref()?;
        if live.place.geometry.chunk_count() == 1 && std::mem::replace(&mut live.landing, true) {
            return None;
        }
        Some(Landing { asked, attempt: live.attempt })
    }

    /// Unseals, checks and writes a unit, where its transfers are still as they were when it began to come.
    fn land(&mut self, header: ChunkHeader, landings: Vec<Landing>, mut bytes: Vec<u8>, by: Option<ConnId>) {
        let (Some(group), epoch) = (self.group, self.epochs.get(&header.epoch).cloned()) else { return };
        let (commands, buffers, state_dir) = (self.commands.clone(), self.buffers.clone(), self.state_dir.clone());
        let mut targets = Vec::with_capacity(landings.len());
        for Landing { asked, attempt } in landings {
            let live = self.live(asked.transfer).filter(|live| live.attempt == attempt);
            let Some((live, folder)) = live.and_then(|live| live.folder.clone().map(|folder| (live, folder))) else {
                continue;
            };
            targets.push((asked, live.place.clone(), folder, live.part.clone()));
            self.busy(asked.transfer);
        }
        if targets.is_empty() {
            return buffers.give_back(bytes);
        }
        tokio::task::spawn_blocking(move || {
            let opened = receive::unseal(&header, by.is_some(), epoch.as_ref(), &group, &mut bytes);
            for (asked, place, folder, part) in targets {
                let command = match (opened, Unit::from_index(header.index)) {
                    (Err(came), _) => Command::Landed(asked, came, None),
                    (Ok(()), Unit::ListPart(part)) => Command::ListPart(asked, part, bytes.clone()),
                    (Ok(()), Unit::Chunk(index)) => {
                        let (came, part) = place::write(&place, &folder, part.as_deref(), index, &bytes, &state_dir);
                        Command::Landed(asked, came, part)
                    }
                };
                drop(part);
                let _ = commands.send(command);
            }
            buffers.give_back(bytes);
        });
    }

    async fn landed(&mut self, asked: Asked, came: Came, part: Option<Part>) {
        if let Some(live) = self.live(asked.transfer) {
            live.landing = came == Came::Verified;
            if let Some(part) = part {
                live.part = Some(Arc::new(part));
            }
        }
        self.tell(Input::Came(asked, came)).await;
    }

    /// Puts a part of a list in its place; once all are there, the whole is held against the catalog's hash.
    async fn list_part(&mut self, asked: Asked, part: u32, bytes: &[u8]) {
        let Some(open) = self.live(asked.transfer) else { return };
        let geometry = open.place.geometry;
        let at = part as usize * LIST_PART_BYTES as usize;
        open.list.resize(geometry.list_len() as usize, 0);
        let Some(target) = open.list.get_mut(at..at + bytes.len()) else { return };
        target.copy_from_slice(bytes);
        open.list_parts.insert(part);
        let whole = open.list_parts.len() as u32 == geometry.list_part_count();
        self.tell(Input::Came(asked, Came::Verified)).await;
        let Some(open) = self.live(asked.transfer).filter(|_| whole) else { return };
        open.list_parts.clear();
        let list = std::mem::take(&mut open.list);
        let good = check_list(&geometry, &list, &open.place.root);
        if good {
            let mut place = Place::clone(&open.place);
            place.list = Some(Arc::new(list.clone()));
            open.place = Arc::new(place);
        }
        self.tell(Input::List(asked.transfer, good.then_some(list))).await;
    }

    fn scan(&mut self, id: ScanId, order: ScanOrder) {
        let (answers, answered) = mpsc::channel(1);
        self.scanning.insert(id, answers);
        let turns = if order.is_one_file() { &self.looks } else { &self.scans };
        let (turns, commands) = (turns.clone(), self.commands.clone());
        let scan = scan::Scan {
            id,
            order,
            state_dir: self.state_dir.clone(),
            answers: answered,
            core: self.core.clone(),
            aside: Duration::ZERO,
        };
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire_owned().await else { return };
            let _ = tokio::task::spawn_blocking(move || scan::scan(scan)).await;
            let _ = commands.send(Command::Scanned(id));
        });
    }

    /// What lies among the copies and belongs to nobody goes; before any scan makes new ones.
    async fn tidy_copies(&self) {
        let copies = Copies::of(&self.state_dir);
        match tokio::task::spawn_blocking(move || copies.tidy()).await {
            Ok(Ok(there)) => {
                for batch in there.chunks(COPIES_BATCH) {
                    self.tell(Input::CopiesFound(batch.to_vec())).await;
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the copies can't be looked at"),
            Err(_) => {}
        }
    }
}
