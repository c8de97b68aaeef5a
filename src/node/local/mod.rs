//! What the CLI and the page ask of a running node, and what it answers: the rows of the local API.
//!
//! Bytes are numbers, times are RFC 3339 in UTC, rates are bytes a second.

mod doctor;
mod rows;

pub use crate::state::downloads::Way;
pub use crate::store::download::Conflict;
pub use doctor::*;
pub use rows::*;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Something a person asks of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// One [`Status`].
    Status,
    /// All devices that the node knows of: [`ClientRow`]s.
    Clients,
    /// How this device reaches the others: a [`Diagnosis`].
    Doctor {
        /// A device to be tried at once, by id, the beginning of one, or name.
        id: Option<String>,
    },
    /// The catalog: [`FileRow`]s whose `NAME:PATH` holds the query, ignoring case; all if there is none.
    Files {
        /// What to look for.
        query: Option<String>,
        /// Rows after this many, for paging.
        #[serde(default)]
        offset: u64,
        /// Rows at most; [`FILES_PAGE_MAX`] if none is given.
        #[serde(default)]
        limit: Option<u64>,
    },
    /// This device's shares: [`ShareRow`]s.
    Shares,
    /// Transfers, newest job first: [`TransferRow`]s; those of one job if it is named.
    Transfers {
        /// The job.
        #[serde(default)]
        job: Option<u64>,
    },
    /// Summaries of jobs: [`JobRow`]s; one if it is named.
    Jobs {
        /// The job.
        #[serde(default)]
        job: Option<u64>,
    },
    /// The open invites: [`InviteRow`]s. Master.
    Invites,
    /// A new invite: [`InviteRow`]s with one row. Master.
    Invite {
        /// Seconds until it expires.
        expires_s: u64,
    },
    /// Revokes an open invite. Master. Answers with its row.
    RevokeInvite {
        /// Any unambiguous prefix of its id.
        id: String,
    },
    /// The server's ticket: [`TicketRow`]. Server, or a master that runs one.
    Ticket,
    /// Makes the server's tickets of before void: [`TicketRow`] with the new one. Server, or a master that runs one.
    RotateTicket,
    /// Approves registered devices. Master. Answers with their rows.
    Approve {
        /// Ids, prefixes of ids or names.
        ids: Vec<String>,
    },
    /// Disapproves devices, for ever. Master. Answers with their rows.
    Disapprove {
        /// Ids, prefixes of ids or names.
        ids: Vec<String>,
    },
    /// Gives a device another name. At the master any device's, at once; at a client its own, which is a wish until the
    /// master's answer came: [`Status::rename`] tells. Answers with the device's row.
    Rename {
        /// Id, prefix of an id or name; this device if there is none.
        #[serde(default)]
        id: Option<String>,
        /// The new name.
        name: String,
    },
    /// Leaves the group, for ever. Everything stops at once. The node ends by itself, and erases its keys: when the
    /// master has entered it in its log, or now. Not for the master.
    Leave {
        /// Doesn't wait for the master.
        now: bool,
    },
    /// The group's rules: [`PolicyRow`]s.
    Policy,
    /// How long owners serve without a word from the master. Master. Answers with all [`PolicyRow`]s.
    SetPolicy {
        /// Seconds.
        master_away_wait_s: u64,
    },
    /// The same over straight connections. Master. Answers with all [`PolicyRow`]s.
    SetContinue {
        /// Seconds.
        master_away_continue_s: u64,
    },
    /// Shares files and folders, in place or as copies. Answers at once with the [`ShareRow`]s; hashing goes on.
    Add {
        /// Absolute paths.
        paths: Vec<PathBuf>,
        /// Whether copies are made and shared, rather than the files where they lie.
        #[serde(default)]
        copy: bool,
        /// Patterns of what is left out; empty means as before, one empty pattern means nothing.
        #[serde(default)]
        exclude: Vec<String>,
    },
    /// Looks at shares now, at all if none is named. Answers at once with the [`ShareRow`]s.
    Scan {
        /// Absolute paths of shares, or of what is in them.
        paths: Vec<PathBuf>,
        /// Whether what is missing is gone, however much it is.
        #[serde(default)]
        confirm: bool,
    },
    /// Takes files out of the catalog. Answers at once with their [`FileRow`]s; a client's go when the master answers.
    Remove {
        /// Ids, prefixes of ids, or `NAME:PATH`; a folder means its tree.
        files: Vec<String>,
        /// Whether a person has agreed to several files of other devices; else they are counted, and stay.
        #[serde(default)]
        yes: bool,
    },
    /// How much of what was removed is still in the catalog: one [`RemovalRow`].
    Removals,
    /// The rows of the catalog, or of staging, that a share has made so far: [`FileRow`]s.
    ShareFiles {
        /// The share's absolute path.
        path: PathBuf,
    },
    /// Downloads files and folders. Answers at once with one [`JobRow`]; a second `get` of the same joins the job.
    Get {
        /// Ids, prefixes of ids, or `NAME:PATH`; a folder means its tree.
        files: Vec<String>,
        /// The folder to put them in; the node's downloads folder if there is none.
        dest: Option<PathBuf>,
        /// What to do if something else has a file's name; fail if nothing is said.
        #[serde(default)]
        conflict: Option<Conflict>,
        /// By which ways they may come; by any if nothing is said.
        #[serde(default)]
        way: Option<Way>,
    },
    /// Nothing more is fetched for jobs, or sent for uploads, until [`Command::Resume`]. Answers with [`Controlled`].
    Pause {
        /// Numbers of jobs, or ids of uploads (`up-…`).
        ids: Vec<String>,
        /// All that is under way instead.
        #[serde(default)]
        all: bool,
    },
    /// Paused jobs and uploads go on; the failed files of a job are tried again. Answers with [`Controlled`].
    Resume {
        /// Numbers of jobs, or ids of uploads (`up-…`).
        ids: Vec<String>,
        /// All that is paused instead.
        #[serde(default)]
        all: bool,
    },
    /// Ends jobs: finished files stay, unfinished ones go. Answers with [`Controlled`].
    Cancel {
        /// Numbers of jobs.
        ids: Vec<String>,
        /// All that is not over instead.
        #[serde(default)]
        all: bool,
    },
    /// Ends the node, with nothing lost.
    Stop,
}

/// Rows of one page of files, at most.
pub const FILES_PAGE_MAX: u64 = 50_000;

/// An answer of the node. As JSON it is its rows alone: which rows they are follows from the command.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Ticket`], [`Command::RotateTicket`].
    Ticket(TicketRow),
    /// To [`Command::Clients`], [`Command::Approve`], [`Command::Disapprove`], [`Command::Rename`].
    Clients(Vec<ClientRow>),
    /// To [`Command::Doctor`].
    Doctor(Box<Diagnosis>),
    /// To [`Command::Removals`].
    Removals(RemovalRow),
    /// To [`Command::Files`], [`Command::ShareFiles`], [`Command::Remove`].
    Files(Vec<FileRow>),
    /// To [`Command::Shares`], [`Command::Add`], [`Command::Scan`].
    Shares(Vec<ShareRow>),
    /// To [`Command::Transfers`].
    Transfers(Vec<TransferRow>),
    /// To [`Command::Jobs`], [`Command::Get`].
    Jobs(Vec<JobRow>),
    /// To [`Command::Invites`], [`Command::Invite`], [`Command::RevokeInvite`].
    Invites(Vec<InviteRow>),
    /// To [`Command::Pause`], [`Command::Resume`], [`Command::Cancel`].
    Controlled(Controlled),
    /// To [`Command::Policy`], [`Command::SetPolicy`].
    Policy(Vec<PolicyRow>),
    /// To [`Command::Leave`], [`Command::Stop`].
    Done,
}

impl Reply {
    /// Reads the answer to a command.
    pub fn from_json(command: &Command, json: &[u8]) -> serde_json::Result<Reply> {
        use serde_json::from_slice;
        match command {
            Command::Status => from_slice(json).map(Reply::Status),
            Command::Ticket | Command::RotateTicket => from_slice(json).map(Reply::Ticket),
            Command::Clients | Command::Approve { .. } | Command::Disapprove { .. } | Command::Rename { .. } => {
                from_slice(json).map(Reply::Clients)
            }
            Command::Policy | Command::SetPolicy { .. } | Command::SetContinue { .. } => {
                from_slice(json).map(Reply::Policy)
            }
            Command::Files { .. } | Command::ShareFiles { .. } | Command::Remove { .. } => {
                from_slice(json).map(Reply::Files)
            }
            Command::Doctor { .. } => from_slice(json).map(Reply::Doctor),
            Command::Removals => from_slice(json).map(Reply::Removals),
            Command::Shares | Command::Add { .. } | Command::Scan { .. } => from_slice(json).map(Reply::Shares),
            Command::Transfers { .. } => from_slice(json).map(Reply::Transfers),
            Command::Jobs { .. } | Command::Get { .. } => from_slice(json).map(Reply::Jobs),
            Command::Pause { .. } | Command::Resume { .. } | Command::Cancel { .. } => {
                from_slice(json).map(Reply::Controlled)
            }
            Command::Invites | Command::Invite { .. } | Command::RevokeInvite { .. } => {
                from_slice(json).map(Reply::Invites)
            }
            Command::Leave { .. } | Command::Stop => from_slice(json).map(|()| Reply::Done),
        }
    }
}

/// What went wrong, in words, with what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct LocalError {
    /// What happened.
    pub error: String,
    /// Its kind.
    pub code: ErrorCode,
    /// What to do next.
    pub hint: String,
}

impl LocalError {
    /// An error of a kind, with what to do next.
    pub fn new(code: ErrorCode, error: impl Into<String>, hint: impl Into<String>) -> LocalError {
        LocalError { error: error.into(), code, hint: hint.into() }
    }
}

/// Kinds of errors; the CLI's exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Something failed (exit 1).
    Failed,
    /// The command makes no sense (exit 2).
    Usage,
    /// There is no such thing (exit 1).
    NotFound,
    /// There are several such things (exit 2).
    Ambiguous,
    /// It would do more than it looks like: it is to be said once more, with a yes (exit 2).
    Unconfirmed,
    /// No node runs for this state directory (exit 3).
    NotRunning,
    /// Refused by the master, by the owner, or this device is expelled (exit 4).
    Refused,
    /// Can't be done now (exit 5).
    NotNow,
    /// Not for this role (exit 2).
    WrongRole,
}

/// Something that happened, one line of `watch`. `event` is one of `connected`, `disconnected`, `master_back`,
/// `master_away`, `registered`, `approved`, `disapproved`, `leaving`, `left`, `renamed`, `rename_refused`, `policy_set`,
/// `online`, `away`, `files_added`, `files_changed`, `files_removed`, `share_scanned`, `share_ended`, `staging_dropped`,
/// `transfer`, `job`, `invite_used`, `waiting`, `stopping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub event: String,
    /// When.
    pub time: String,
    /// The rest, by kind of event.
    #[serde(flatten)]
    pub detail: serde_json::Map<String, serde_json::Value>,
}

/// One question to the node, with the place for its answer.
#[derive(Debug)]
pub struct LocalRequest {
    /// What is asked.
    pub command: Command,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Reply, LocalError>>,
}

/// Questions that wait for the node, at most; more wait in their senders.
pub const LOCAL_QUEUE: usize = 64;
/// Events that a slow watcher may be behind before it misses some.
pub const EVENTS_BEHIND_MAX: usize = 1024;

/// How the local API reaches its node.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    requests: mpsc::Sender<LocalRequest>,
    events: broadcast::Sender<Event>,
}

/// The node's ends of a [`NodeHandle`].
#[derive(Debug)]
pub struct NodeEnds {
    /// Questions.
    pub requests: mpsc::Receiver<LocalRequest>,
    /// Where events go.
    pub events: broadcast::Sender<Event>,
}

impl NodeHandle {
    /// A handle and the node's ends of it.
    pub fn new() -> (NodeHandle, NodeEnds) {
        let (requests, received) = mpsc::channel(LOCAL_QUEUE);
        let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
        (NodeHandle { requests, events: events.clone() }, NodeEnds { requests: received, events })
    }

    /// Asks the node.
    pub async fn ask(&self, command: Command) -> Result<Reply, LocalError> {
        let stopping = || LocalError::new(ErrorCode::NotRunning, "the node is stopping", "start it again");
        let (reply, answer) = oneshot::channel();
        self.requests.send(LocalRequest { command, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// What happens from now on.
    pub fn watch(&self) -> Watch {
        Watch { events: self.events.subscribe() }
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct Watch {
    events: broadcast::Receiver<Event>,
}

impl Watch {
    /// The next event; `None` when the node ends. A watcher that was too slow gets an event `missed` with a count.
    pub async fn next(&mut self) -> Option<Event> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Closed) => None,
            Err(broadcast::error::RecvError::Lagged(count)) => {
                let mut detail = serde_json::Map::new();
                detail.insert("count".to_owned(), count.into());
                Some(Event { event: "missed".to_owned(), time: now_rfc3339(), detail })
            }
        }
    }
}

/// The wall clock as RFC 3339 in UTC.
pub fn now_rfc3339() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.replace_nanosecond(u32::from(now.millisecond()) * 1_000_000)
        .unwrap_or(now)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}

/// Milliseconds since 1970 as RFC 3339 in UTC; empty if that is no year that RFC 3339 can write.
pub fn rfc3339(ms: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}
