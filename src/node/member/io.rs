//! What goes into a member's core and what comes out: the whole contract between the core, which decides and persists,
//! and the shell, which dials, sends, reads and writes. A simulated world can stand in for the shell.

use crate::node::local::{Command, LocalError, Reply};
use crate::state::conn::ConnId;
use crate::state::downloads::{Asked, Came, Opened, Outcome, TransferId};
use crate::state::guard::Root;
use crate::store::download::Conflict;
use crate::store::member::Staged;
use crate::store::walk::Stamp;
use crate::wire::beacon::Announcement;
use crate::wire::close::CloseCode;
use crate::wire::frame::{ChunkRange, ChunkRefusal, Frame};
use crate::wire::geometry::Geometry;
use crate::wire::ids::{ContentId, DeviceKey, GroupId, Hash};
use crate::wire::invite::ServerAddress;
use crate::wire::log::{FileKind, SignedHead};
use crate::wire::path::RelPath;
use crate::wire::probe::Probe;
use crate::wire::seal::Epoch;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened.
pub enum Input {
    /// A dial succeeded, of this number; its control stream is open.
    Dialed(ConnId, u64),
    /// A dial failed, and why.
    DialFailed(u64, String),
    /// A frame came.
    Frame(ConnId, Box<Frame>),
    /// What [`Output::SendBulk`] sent is on its way, and there is room for more.
    Drained(ConnId),
    /// A connection ended.
    Lost(ConnId, Lost),
    /// Chunk bytes came in, for a transfer; on which straight connection, or through the server.
    Heard(TransferId, u64, Option<ConnId>),
    /// A unit came, and what became of it.
    Came(Asked, Came),
    /// A content's list is complete: its bytes, if they are what the catalog says.
    List(TransferId, Option<Vec<u8>>),
    /// The outcome of [`Output::Open`], with the number of the opening.
    Opened(TransferId, u64, Opened),
    /// The outcome of [`Output::Sync`].
    Synced(TransferId, Vec<u32>, bool),
    /// The outcome of [`Output::Finish`], for one transfer.
    Finished(TransferId, Outcome),
    /// A transfer ends under another name than its own; its end follows.
    Renamed(TransferId, RelPath),
    /// The outcome of [`Output::Look`].
    Looked(u64, Vec<(TransferId, Glance)>),
    /// What [`Leftover::Remove`] named is gone.
    Cleared(TransferId),
    /// A unit was sent, or could not be.
    Served(Upload, Served),
    /// A scan saw these files; below these paths it could not look. Say [`Output::Hash`].
    Sighted(ScanId, Vec<Sighting>, Vec<RelPath>),
    /// A scan hashed some files.
    Staged(ScanId, Vec<Staged>),
    /// A scan ended.
    ScanEnded(ScanId, Box<ScanReport>),
    /// Copies that were there when the node started.
    CopiesFound(Vec<(ContentId, PathBuf)>),
    /// The outcome of [`Output::DialPeer`], with its number: a connection whose control stream is open.
    PeerDialed(u64, ConnId),
    /// The same: none, and why.
    PeerDialFailed(u64, String),
    /// Somebody with this key dialled this device. Its first frame may follow.
    PeerArrived(ConnId, DeviceKey),
    /// A probe came from an address.
    Probe(SocketAddr, Probe),
    /// This device's own addresses, with the port of its socket.
    Addresses(Vec<SocketAddr>),
    /// At which address the router maps a port to this device now; none if it does not, however it was asked.
    Mapped(Option<SocketAddr>),
    /// All members that are seen on the local network now, with their addresses; who was seen first comes first.
    Nearby(Vec<(DeviceKey, SocketAddr)>),
    /// The machine slept, or this process was stopped for a while.
    Woke,
    /// The local API asks; the number comes back with the answer.
    Local(u64, Command),
    /// The node is to end: what was downloaded is to be claimed now.
    Stopping,
    /// The local API asked for something that can't be done, as was seen before the core was asked.
    Refused(u64, LocalError),
}

/// Units that are to be sent no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// Those of a content that a person paused.
    Paused(ContentId),
    /// Those that go straight, or those that pass the server: the master's word counts no more.
    Stale {
        /// Which of the two.
        straight: bool,
    },
}

impl Withdrawn {
    /// Whether a unit is one of them.
    pub fn covers(self, upload: &Upload) -> bool {
        match self {
            Withdrawn::Paused(content) => upload.content == content,
            Withdrawn::Stale { straight } => upload.sealed != straight,
        }
    }

    /// What those hear who wait for them.
    pub fn reason(self) -> ChunkRefusal {
        match self {
            Withdrawn::Paused(_) => ChunkRefusal::Paused,
            Withdrawn::Stale { .. } => ChunkRefusal::OwnerNotFresh,
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The other side closed it, with a code.
    Closed(CloseCode),
    /// Any other way.
    Broken,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Sent whole.
    Sent,
    /// The other side stopped it, or the connection ended.
    Unwanted,
    /// It can't be sent; the other side is to be told why.
    No(ChunkRefusal),
}

/// One unit to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// On which connection.
    pub conn: ConnId,
    /// The asker's number for the request.
    pub request: u64,
    /// Which content.
    pub content: ContentId,
    /// Which unit of it.
    pub index: u32,
    /// Its plain length.
    pub length: u32,
    /// Whether it passes a server, and is sealed to the group.
    pub sealed: bool,
}

/// Where a unit to send comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSource {
    /// The file.
    pub path: PathBuf,
    /// What it looked like when it was hashed.
    pub stamp: Stamp,
    /// Its units.
    pub geometry: Geometry,
    /// Its hash.
    pub root: Hash,
    /// The list of its chunks' hashes; empty for one chunk.
    pub list: Arc<Vec<u8>>,
}

/// What is to be known of a transfer's place on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The transfer.
    pub transfer: TransferId,
    /// The opening: an outcome of an earlier one, which a core may have asked for that is no more, counts for nothing.
    pub opening: u64,
    /// The folder that its job goes to.
    pub folder: PathBuf,
    /// Its path below.
    pub dest: RelPath,
    /// Its path below, if nothing had hindered it.
    pub wish: RelPath,
    /// What is done if something else is there.
    pub conflict: Conflict,
    /// Whether it is an empty folder.
    pub is_folder: bool,
    /// Its units.
    pub geometry: Geometry,
    /// Its content's hash.
    pub root: Hash,
    /// The list, if it is here.
    pub list: Option<Arc<Vec<u8>>>,
    /// Modification time, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// Whether it may be executed.
    pub executable: bool,
    /// Whether a part file was made for it before.
    pub had_part: bool,
    /// Whether anything of it was claimed.
    pub has_claims: bool,
    /// The size of an earlier version, if the part file holds chunks of that which may be the same in this one.
    pub was_size: Option<u64>,
}

/// A place to be looked at before anything is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The transfer.
    pub transfer: TransferId,
    /// Its path below its job's folder.
    pub dest: RelPath,
    /// Whether it is an empty folder.
    pub is_folder: bool,
    /// Its units.
    pub geometry: Geometry,
    /// Its content's hash.
    pub root: Hash,
}

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glance {
    /// Nothing.
    Free,
    /// The same content.
    Same,
    /// Something else: what a transfer ends with for it.
    InTheWay(Outcome),
}

/// A scan, by a random number: what an earlier process or core began is nobody's.
pub type ScanId = u64;

/// What to walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOrder {
    /// A share, or one file of it.
    pub path: PathBuf,
    /// Its path in the catalog.
    pub name: RelPath,
    /// What is left out.
    pub exclude: Vec<String>,
    /// Whether copies are made.
    pub copy: bool,
}

impl ScanOrder {
    /// Whether it is one file of a shared folder rather than a share.
    pub fn is_one_file(&self) -> bool {
        self.name.as_str().contains('/')
    }
}

/// A file, or an empty folder, that a scan saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its path in the catalog.
    pub rel: RelPath,
    /// What it looks like.
    pub stamp: Stamp,
    /// File or empty folder.
    pub kind: FileKind,
    /// Whether its user may execute it.
    pub executable: bool,
}

/// What a scan came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanReport {
    /// What is at the shared path itself.
    pub root: Root,
    /// What was skipped, in words, what could not be read first; not all of it.
    pub told: Vec<String>,
    /// How much was skipped.
    pub skipped_count: u64,
    /// How much of that could not be read.
    pub failed: u64,
    /// How long it took, waiting and hashing aside.
    pub walked: Duration,
}

impl Default for ScanReport {
    fn default() -> ScanReport {
        ScanReport { root: Root::Unreadable, told: Vec::new(), skipped_count: 0, failed: 0, walked: Duration::ZERO }
    }
}

/// Something to do. Everything here comes after what it depends on was put on disk.
pub enum Output {
    /// Dial the server; say [`Input::Dialed`] or [`Input::DialFailed`].
    Dial(u64, ServerAddress),
    /// Send a frame.
    Send(ConnId, Box<Frame>),
    /// Send a frame that is large and of which there may be many; say [`Input::Drained`] when there is room for the next.
    SendBulk(ConnId, Box<Frame>),
    /// Close a connection.
    Close(ConnId, CloseCode),
    /// Chunk streams come on this connection from now on, for this group; as many at a time as this.
    Streams(ConnId, GroupId, u32),
    /// Dial a member at an address; say [`Input::PeerDialed`] or [`Input::PeerDialFailed`] with this number.
    DialPeer(u64, DeviceKey, SocketAddr),
    /// Send a probe.
    Probe(SocketAddr, Probe),
    /// Send a probe to the server of this connection, at its first address of IPv6, or else the first of IPv4.
    ProbeServer(ConnId, bool, Probe),
    /// Say hello to a member on a connection: this, with where its packets come from.
    PeerHello(ConnId, GroupId, Option<SignedHead>),
    /// Chunk streams come on this straight connection, too; as many at a time as this.
    PeerStreams(ConnId, GroupId, u32),
    /// Announce this device on its local network, at these addresses from now on; or no more.
    Announce(Option<Announcement>),
    /// Have the router map a port to this device, asking anew; or have it end that. Say [`Input::Mapped`].
    MapPort(bool),
    /// These secrets open and seal chunks; the last is the newest.
    Epochs(Vec<Epoch>),
    /// Look at a transfer's place, open its part file.
    Open(Box<Place>),
    /// Be ready for these units, which were asked for with this number, on a straight connection or through the server.
    Expect(u64, Vec<Asked>, Option<ConnId>),
    /// Be ready for these units for one more transfer each; say [`Came::Broken`] for what is not expected any more.
    Join(u64, Vec<Asked>),
    /// These units will not come.
    Forget(u64, Vec<Asked>),
    /// Sync a transfer's part file, to claim these chunks.
    Sync(TransferId, Vec<u32>),
    /// Look whether anything is in the way of these transfers of a job, which go to this folder; say
    /// [`Input::Looked`].
    Look(u64, PathBuf, Vec<Look>),
    /// End these transfers: sync, rename, sync the folders.
    Finish(Vec<TransferId>),
    /// Close what is open for a transfer. Its part file stays, or goes.
    Drop(TransferId, Leftover),
    /// Send a unit.
    Upload(Upload, Box<UploadSource>),
    /// Nobody wants these units of a request any more: don't send them.
    Unsend(ConnId, u64, Vec<ChunkRange>),
    /// Send no more of these units; say [`Input::Served`] with the reason for each that was to be sent.
    StopUploads(Withdrawn),
    /// Walk a share, or one file of it; say [`Input::Sighted`] as it goes, and [`Input::ScanEnded`].
    Scan(ScanId, Box<ScanOrder>),
    /// Hash these files of the batch that a scan saw last, by their place in it; say [`Input::Staged`].
    Hash(ScanId, Vec<u32>),
    /// End a scan: nobody wants to know more.
    EndScan(ScanId),
    /// Remove copies that bailiwick made.
    DeleteCopies(Vec<PathBuf>),
    /// Answer the local API.
    Reply(u64, Result<Reply, LocalError>),
    /// Tell whoever watches.
    Event(&'static str, Vec<(&'static str, String)>),
    /// Everything is on disk: the node may end.
    Stopped,
    /// This device has left its group: the node ends, and its keys are to be erased.
    Erase,
    /// This node can't go on, and says why.
    Fatal(LocalError),
}

/// What becomes of a part file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// It is needed again, or there is none.
    Keep,
    /// It is of no use any more: remove the part file of this path below this folder; say [`Input::Cleared`].
    Remove(PathBuf, RelPath),
}
