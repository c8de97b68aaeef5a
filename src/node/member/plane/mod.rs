//! The data plane: chunk bytes between network and disk. They never pass the core; it hears "verified", "damaged",
//! "not written" and "sent".
//!
//! One task owns all that is expected and open here; the tasks that carry bytes reach it by messages.

mod buffers;
mod place;
mod receive;
mod scan;
mod send;

use super::io::{Input, Leftover, Place, ScanId, ScanOrder, Served, Upload, UploadSource};
use crate::net::connection::Connection;
use crate::state::downloads::{Asked, Came, Opened, Outcome, TransferId};
use crate::store::copies::Copies;
use crate::store::download::{Folder, Part};
use crate::store::tree::check_list;
use crate::wire::chunk::ChunkHeader;
use crate::wire::frame::ChunkRefusal;
use crate::wire::geometry::LIST_PART_BYTES;
use crate::wire::ids::{ContentId, EpochId, GroupId};
use crate::wire::seal::Epoch;
use buffers::Buffers;
use receive::Inlet;
use send::Outlet;
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// Chunk streams come on this connection.
    Streams(Connection, GroupId),
    /// The secrets, the newest last.
    Epochs(Vec<Epoch>),
    /// See [`super::io::Output`].
    Open(Box<Place>),
    /// See [`super::io::Output`].
    Expect(u64, Vec<Asked>),
    /// See [`super::io::Output`].
    Forget(u64, Vec<Asked>),
    /// See [`super::io::Output`].
    Sync(TransferId, Vec<u32>),
    /// See [`super::io::Output`].
    Finish(Vec<TransferId>),
    /// See [`super::io::Output`].
    Drop(TransferId, Leftover),
    /// See [`super::io::Output`].
    Upload(Connection, Upload, Box<UploadSource>),
    /// See [`super::io::Output`].
    Scan(ScanId, Box<ScanOrder>),
    /// See [`super::io::Output`].
    Hash(ScanId, Vec<u32>),
    /// See [`super::io::Output`].
    EndScan(ScanId),
    /// See [`super::io::Output`].
    DeleteCopies(Vec<PathBuf>),
    /// A stream's header came: where do its bytes go?
    Claim(ChunkHeader, oneshot::Sender<Option<Landing>>),
    /// A place was opened.
    Placed(TransferId, Option<Arc<Folder>>, Option<Arc<Part>>, Opened),
    /// A unit was handled; a file of one chunk has its part now.
    Landed(Asked, Came, Option<Part>),
    /// A part of a list was opened.
    ListPart(Asked, u32, Vec<u8>),
    /// A scan ended.
    Scanned(ScanId),
}

/// Where a unit's bytes go.
pub(super) struct Landing {
    asked: Asked,
    place: Arc<Place>,
    folder: Arc<Folder>,
    part: Option<Arc<Part>>,
    epoch: Option<Epoch>,
}

/// A transfer that is in memory.
struct Open {
    place: Arc<Place>,
    folder: Option<Arc<Folder>>,
    part: Option<Arc<Part>>,
    list: Vec<u8>,
    list_parts: HashSet<u32>,
    /// Whether there is a part file that this node made.
    made: bool,
    /// Whether a file of one chunk is being written. What comes a second time meanwhile is not taken.
    landing: bool,
}

/// The data plane's own state.
pub(super) struct Plane {
    state_dir: PathBuf,
    commands: mpsc::UnboundedSender<Command>,
    core: mpsc::Sender<Input>,
    group: Option<GroupId>,
    epochs: BTreeMap<EpochId, Epoch>,
    newest: Option<Epoch>,
    open: HashMap<TransferId, Open>,
    folders: HashMap<PathBuf, Weak<Folder>>,
    expected: HashMap<(ContentId, u32), (u64, Asked)>,
    scanning: HashMap<ScanId, mpsc::Sender<Vec<u32>>>,
    buffers: Buffers,
    outlet: Outlet,
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
            folders: HashMap::new(),
            expected: HashMap::new(),
            scanning: HashMap::new(),
            buffers,
            outlet,
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
                self.expected.clear();
                let inlet = Inlet {
                    group,
                    plane: self.commands.clone(),
                    core: self.core.clone(),
                    buffers: self.buffers.clone(),
                };
                tokio::spawn(receive::accept(connection, inlet));
            }
            Command::Epochs(epochs) => {
                self.newest = epochs.iter().max_by_key(|epoch| epoch.id).cloned();
                self.epochs = epochs.into_iter().map(|epoch| (epoch.id, epoch)).collect();
            }
            Command::Open(place) => self.open(*place),
            Command::Placed(transfer, folder, part, opened) => self.placed(transfer, folder, part, opened).await,
            Command::Expect(request, units) => {
                self.expected.extend(units.into_iter().map(|unit| ((unit.content, unit.index), (request, unit))));
            }
            Command::Forget(request, units) => {
                for unit in units {
                    let key = (unit.content, unit.index);
                    if self.expected.get(&key).is_some_and(|(of, _)| *of == request) {
                        self.expected.remove(&key);
                    }
                }
            }
            Command::Claim(header, reply) => {
                let _ = reply.send(self.claim(&header));
            }
            Command::Landed(asked, came, part) => {
                if let Some(open) = self.open.get_mut(&asked.transfer) {
                    open.landing = came == Came::Verified;
                    open.made |= came == Came::Verified || matches!(came, Came::NotWritten(Outcome::DiskFull));
                    if let Some(part) = part {
                        open.part = Some(Arc::new(part));
                    }
                }
                self.tell(Input::Came(asked, came)).await;
            }
            Command::ListPart(asked, part, bytes) => self.list_part(asked, part, &bytes).await,
            Command::Sync(transfer, chunks) => self.sync(transfer, chunks),
            Command::Finish(transfers) => self.finish(transfers),
            Command::Drop(transfer, leftover) => self.drop_transfer(transfer, leftover).await,
            Command::Upload(connection, upload, source) => self.upload(connection, upload, *source).await,
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

    fn open(&mut self, place: Place) {
        let place = Arc::new(place);
        let folder = self.folders.get(&place.folder).and_then(Weak::upgrade);
        let open = Open {
            place: place.clone(),
            folder: folder.clone(),
            part: None,
            list: Vec::new(),
            list_parts: HashSet::new(),
            made: place.had_part,
            landing: false,
        };
        self.open.insert(place.transfer, open);
        let commands = self.commands.clone();
        tokio::task::spawn_blocking(move || {
            let place::Opening { folder, part, opened } = place::open(&place, folder);
            commands.send(Command::Placed(place.transfer, folder, part, opened))
        });
    }

    async fn placed(
        &mut self,
        transfer: TransferId,
        folder: Option<Arc<Folder>>,
        part: Option<Arc<Part>>,
        opened: Opened,
    ) {
        let Some(open) = self.open.get_mut(&transfer) else { return };
        if let Some(folder) = &folder {
            self.folders.insert(open.place.folder.clone(), Arc::downgrade(folder));
        }
        open.folder = folder;
        open.made |= part.is_some();
        open.part = part;
        self.tell(Input::Opened(transfer, opened)).await;
    }

    fn claim(&mut self, header: &ChunkHeader) -> Option<Landing> {
        let key = (header.content, header.index);
        let fits = |(request, asked): &(u64, Asked)| *request == header.request && asked.length == header.length;
        let (_, asked) = *self.expected.get(&key).filter(|expected| fits(expected))?;
        self.expected.remove(&key);
        let open = self.open.get_mut(&asked.transfer)?;
        if open.place.geometry.chunk_count() == 1 && std::mem::replace(&mut open.landing, true) {
            return None;
        }
        Some(Landing {
            asked,
            place: open.place.clone(),
            folder: open.folder.clone()?,
            part: open.part.clone(),
            epoch: self.epochs.get(&header.epoch).cloned(),
        })
    }

    /// Puts a part of a list in its place; once all are there, the whole is held against the catalog's hash.
    async fn list_part(&mut self, asked: Asked, part: u32, bytes: &[u8]) {
        let Some(open) = self.open.get_mut(&asked.transfer) else { return };
        let geometry = open.place.geometry;
        let at = part as usize * LIST_PART_BYTES as usize;
        open.list.resize(geometry.list_len() as usize, 0);
        let Some(target) = open.list.get_mut(at..at + bytes.len()) else { return };
        target.copy_from_slice(bytes);
        open.list_parts.insert(part);
        let whole = open.list_parts.len() as u32 == geometry.list_part_count();
        self.tell(Input::Came(asked, Came::Verified)).await;
        let Some(open) = self.open.get_mut(&asked.transfer).filter(|_| whole) else { return };
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

    fn sync(&mut self, transfer: TransferId, chunks: Vec<u32>) {
        let Some(part) = self.open.get(&transfer).and_then(|open| open.part.clone()) else { return };
        let core = self.core.clone();
        tokio::task::spawn_blocking(move || {
            let synced = part.sync();
            if let Err(error) = &synced {
                tracing::warn!(%error, "a download can't be synced");
            }
            drop(part);
            core.blocking_send(Input::Synced(transfer, chunks, synced.is_ok()))
        });
    }

    fn finish(&mut self, transfers: Vec<TransferId>) {
        let mut by_folder: HashMap<PathBuf, Vec<place::Ending>> = HashMap::new();
        for transfer in transfers {
            let Some(open) = self.open.get_mut(&transfer) else { continue };
            let Some(folder) = open.folder.clone() else { continue };
            let part = open.part.take().and_then(Arc::into_inner);
            let ending = place::Ending { place: open.place.clone(), folder, part };
            by_folder.entry(open.place.folder.clone()).or_default().push(ending);
        }
        for endings in by_folder.into_values() {
            let core = self.core.clone();
            tokio::task::spawn_blocking(move || {
                for (transfer, outcome) in place::finish(endings) {
                    if core.blocking_send(Input::Finished(transfer, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
    }

    async fn drop_transfer(&mut self, transfer: TransferId, leftover: Leftover) {
        self.expected.retain(|_, (_, asked)| asked.transfer != transfer);
        let Some(open) = self.open.remove(&transfer) else { return };
        let Open { place, folder, part, made, .. } = open;
        let removable = made && !place.is_folder && leftover == Leftover::Remove;
        let Some(folder) = folder.filter(|_| removable) else { return };
        // Waited for: whoever wants this place next finds it free.
        let removed = tokio::task::spawn_blocking(move || {
            drop(part);
            folder.remove_part(&place.dest)
        });
        if let Ok(Err(error)) = removed.await {
            tracing::debug!(%error, "a part file stays");
        }
    }

    async fn upload(&mut self, connection: Connection, upload: Upload, source: UploadSource) {
        let (Some(group), Some(epoch)) = (self.group, self.newest.clone()) else {
            return self.tell(Input::Served(upload, Served::No(ChunkRefusal::NotReady))).await;
        };
        tokio::spawn(send::send(connection, group, epoch, upload, source, self.outlet.clone()));
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
