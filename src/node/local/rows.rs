//! The rows: what the local API answers with.

use super::ErrorCode;
use crate::wire::log::FileKind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The node, in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `master`, `client` or `server`.
    pub role: NodeRole,
    /// This device's id in the group.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Where it stands; `null` for a server.
    pub standing: Option<StandingRow>,
    /// The short code to compare with the master's screen, while it is registered.
    pub code: Option<String>,
    /// The group's id, in hexadecimal.
    pub group: Option<String>,
    /// Whether the server can be reached; `null` for a server, which reaches nobody.
    pub server: Link,
    /// Round trip to the server in milliseconds, if it was measured.
    #[serde(default)]
    pub server_rtt_ms: Option<u64>,
    /// Whether the master is there; `null` for a server, which holds many groups.
    pub master: Link,
    /// Whether the node keeps to its server, as its person wants.
    #[serde(default)]
    pub relay_only: bool,
    /// What the node waits for, in words, if it waits.
    pub waiting: Option<String>,
    /// Whether the device is about to leave its group.
    #[serde(default)]
    pub leaving: bool,
    /// The name that the device would like to have, if it has another one.
    #[serde(default)]
    pub rename: Option<RenameRow>,
    /// The name that the device asked for, if the master calls it otherwise.
    #[serde(default)]
    pub asked_name: Option<String>,
    /// The newest entry that this node holds, `GENERATION.REVISION`.
    pub revision: Option<String>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The downloads folder.
    pub downloads: Option<PathBuf>,
    /// The program's version.
    pub version: String,
    /// The local API's URL.
    pub api: String,
    /// The process's id.
    pub pid: u32,
    /// For a server: groups, connections and cached bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<ServerLoad>,
}

/// How busy a server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLoad {
    /// Groups that it holds.
    pub groups: u64,
    /// Connections at the moment.
    pub connections: u64,
}

/// A node's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// The group's authority.
    Master,
    /// Any other device of a group.
    Client,
    /// A relay.
    Server,
}

/// Whether the other side is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// It is.
    Connected,
    /// It is not.
    Away,
    /// There is no such thing: `null`.
    #[serde(untagged)]
    None,
}

/// A name that a device would like to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameRow {
    /// The name.
    pub name: String,
    /// Why the master refused it; `null` while it waits for the master.
    pub refused: Option<String>,
}

/// The rule about what members do while the master is away.
pub const MASTER_AWAY: &str = "master-away";

/// One of the group's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// Which: [`MASTER_AWAY`].
    pub key: String,
    /// Seconds that owners go on serving without a word from the master.
    pub wait_s: u64,
    /// The same over direct connections; never less.
    pub continue_s: u64,
}

/// A device's standing, as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StandingRow {
    /// Not registered yet.
    Stranger,
    /// Waiting for approval.
    Registered,
    /// A member.
    Approved,
    /// Expelled for ever.
    Disapproved,
    /// Gone for ever.
    Left,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `master` or `client`.
    pub role: NodeRole,
    /// Where it stands.
    pub standing: StandingRow,
    /// Whether it is connected, as the server says.
    pub online: bool,
    /// `direct`, `relay` or `null`.
    pub path: Option<PathRow>,
    /// Why not direct, or why away.
    pub reason: Option<String>,
    /// The short code of its registration.
    pub code: Option<String>,
    /// Whether it is this device.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Since when it stands there, by the master's clock.
    #[serde(default)]
    pub since: String,
    /// When it was last seen, if it is away and that is known.
    pub last_seen: Option<String>,
    /// Round trip to it in milliseconds; `null` while it is relayed, for the server measures none.
    pub rtt_ms: Option<u64>,
    /// The direct connection, for whoever completes this.
    #[serde(skip)]
    pub conn: Option<u64>,
}

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathRow {
    /// Straight between the two.
    Direct,
    /// Through the server.
    Relay,
}

/// W14's status of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileStatus {
    /// Staged: the master has not answered yet.
    Syncing,
    /// In the catalog.
    Idle,
    /// A transfer to here runs.
    Downloading,
    /// A transfer from here runs.
    Uploading,
    /// Gone from the catalog.
    Removed,
}

/// One file of the catalog, or of staging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    /// Its id.
    pub id: String,
    /// Its owner's id.
    pub owner: String,
    /// Its owner's name.
    pub owner_name: String,
    /// Its path among its owner's files.
    pub path: String,
    /// `file` or `folder` (an empty one).
    pub kind: KindRow,
    /// Bytes.
    pub size: u64,
    /// Plain BLAKE3, 64 hexadecimal digits.
    pub hash: String,
    /// W14.
    pub status: FileStatus,
    /// Whether its owner is there.
    pub available: bool,
    /// Modification time.
    pub mtime: String,
}

/// What a row of the catalog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindRow {
    /// A file.
    File,
    /// An empty folder.
    Folder,
}

impl From<FileKind> for KindRow {
    fn from(kind: FileKind) -> KindRow {
        match kind {
            FileKind::File => KindRow::File,
            FileKind::Folder => KindRow::Folder,
        }
    }
}

/// One share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRow {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is called in the catalog: the first part of its files' paths.
    pub name: String,
    /// Files in it, as far as they were hashed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether copies are shared, rather than the files where they lie.
    #[serde(default)]
    pub copy: bool,
    /// Patterns of what is left out, besides what is never shared.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Files that the master has not answered for yet.
    pub syncing: u64,
    /// Files that are not there any more, and are kept in the catalog until a person says something.
    pub missing: u64,
    /// Files that are to leave the catalog and have not yet.
    #[serde(default)]
    pub leaving: u64,
    /// Files that were removed, and stay out until they are added again.
    #[serde(default)]
    pub removed: u64,
    /// Those of them that the master took out; copies of them are kept until their owner removes them.
    #[serde(default)]
    pub taken_out: u64,
    /// What was to be shared and is not: what could not be read at the last scan, was refused, or got no answer.
    #[serde(default)]
    pub failed: u64,
    /// Whether it is being walked and hashed now.
    pub scanning: bool,
    /// What was skipped or refused at the last scan, in words (the first few).
    pub skipped: Vec<String>,
    /// How much was skipped or refused at the last scan.
    pub skipped_count: u64,
    /// When the last scan ended.
    pub last_scan: Option<String>,
    /// Why it waits, if it waits.
    pub reason: Option<String>,
}

/// What is left to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRow {
    /// Files that are to leave the catalog and have not yet.
    pub left: u64,
    /// Why that waits, if it waits.
    pub reason: Option<String>,
}

/// State of a transfer or a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// Not moving, for a reason that the row tells.
    Waiting,
    /// Moving.
    Running,
    /// Stopped by a person.
    Paused,
    /// There, and verified.
    Done,
    /// Given up, for a reason that the row tells.
    Failed,
    /// Ended by a person.
    Cancelled,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To here.
    Down,
    /// From here.
    Up,
}

/// One transfer of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferRow {
    /// The transfer.
    pub id: String,
    /// Its job.
    pub job: Option<u64>,
    /// The file's id.
    pub file: String,
    /// Its path: among its owner's files for an upload, below the job's folder for a download.
    #[serde(default)]
    pub name: Option<String>,
    /// Where to or from.
    pub direction: Direction,
    /// The other device's id; `null` for an upload that passes the server, which doesn't tell for whom.
    pub peer: Option<String>,
    /// Its state.
    pub state: TransferState,
    /// Why it waits or failed.
    pub reason: Option<String>,
    /// Bytes that are there and verified.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// All bytes that ever came in for it, over restarts; but for those of the last second before the node was killed.
    pub received_bytes: u64,
    /// Bytes a second, over the last seconds.
    pub rate: u64,
    /// Seconds left at that rate.
    pub eta_s: Option<u64>,
    /// How the bytes travel.
    pub path: Option<PathRow>,
    /// Where it will lie.
    pub dest: Option<PathBuf>,
}

/// One job: what one `get` asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    /// The job.
    pub job: u64,
    /// What was asked for, in words.
    pub what: String,
    /// Its state, derived from its transfers.
    pub state: TransferState,
    /// Why it waits, or why its first failed transfer failed.
    pub reason: Option<String>,
    /// The kind of that failure, so that the CLI's exit code can tell a refusal from the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// Whether its places are still looked at, before anything is fetched.
    #[serde(default)]
    pub looking: bool,
    /// Whether a job that failed can be resumed: something of it is still in the catalog.
    #[serde(default)]
    pub resumable: bool,
    /// Files in all.
    pub files: u64,
    /// Files that are there and verified.
    pub files_done: u64,
    /// Files that failed.
    pub files_failed: u64,
    /// Files that were left out, for something else was at their place.
    pub files_skipped: u64,
    /// Bytes that are there and verified.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// All bytes that ever came in for it, over restarts.
    pub received_bytes: u64,
    /// Bytes a second, over the last seconds.
    pub rate: u64,
    /// Seconds left at that rate.
    pub eta_s: Option<u64>,
    /// How the bytes travel.
    pub path: Option<PathRow>,
    /// The folder that it goes to.
    pub dest: PathBuf,
    /// Seconds that it has been moving bytes, for the mean rate.
    pub elapsed_ms: u64,
}

/// What a person paused, let go on or ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Controlled {
    /// The jobs, as they are now.
    pub jobs: Vec<JobRow>,
    /// The uploads, as they are now.
    pub uploads: Vec<TransferRow>,
}

/// One open invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRow {
    /// Its id.
    pub id: String,
    /// The invite itself.
    pub invite: String,
    /// When it expires.
    pub expires: String,
}

/// A server's ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRow {
    /// The ticket itself.
    pub ticket: String,
    /// Where the server listens.
    pub listen: String,
}
