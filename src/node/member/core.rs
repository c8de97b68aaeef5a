//! The core: a member's machines joined with its store.
//!
//! Invariant: every input of a batch is decided and persisted in one transaction; what is to be sent leaves only after
//! its commit. So nobody is ever told what this device could forget.

use super::io::{Input, Output};
use super::moving::Servers;
use super::opening::{failed, restore};
use super::pen::Pen;
use super::session::Session;
use crate::node::local::LocalError;
use crate::state::authority::{GateConfig, ImportConfig, Moment};
use crate::state::chain::LogTip;
use crate::state::downloads::{Downloads, DownloadsConfig, Outcome, TransferId};
use crate::state::link::{Link, LinkConfig};
use crate::state::paths::{Paths, PathsConfig};
use crate::state::random::Random;
use crate::state::replica::ReplicaConfig;
use crate::state::requests::{Requests, RequestsConfig};
use crate::state::roster::Roster;
use crate::state::time::Time;
use crate::state::uploads::{Uploads, UploadsConfig};
use crate::store::member::{DbError, MemberStore};
use crate::wire::ids::{DeviceKey, FileId, GroupId, Hash, PublicId, SealKey};
use crate::wire::invite::{AdmissionSecret, Invite, InviteSecret, ServerAddress, Ticket};
use crate::wire::log::SignedHeader;
use crate::wire::name::DeviceName;
use crate::wire::sign::Identity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// All of a member's timing and sizes.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemberConfig {
    /// The way to the server.
    pub link: LinkConfig,
    /// Catching up.
    pub replica: ReplicaConfig,
    /// Requests.
    pub requests: RequestsConfig,
    /// Serving.
    pub uploads: UploadsConfig,
    /// Fetching.
    pub downloads: DownloadsConfig,
    /// Straight ways.
    pub paths: PathsConfig,
    /// A master's start.
    pub gate: GateConfig,
    /// A master's first start after an import.
    pub import: ImportConfig,
    /// Snapshots.
    pub snapshots: SnapshotConfig,
    /// Looking at shares.
    pub scan: super::scan::ScanConfig,
    /// The boot of the system that [`Cx::now`] counts from, if that can be told: what was known by that clock then outlives
    /// a process.
    pub boot: Option<super::policy::BootId>,
}

/// How a master keeps snapshots.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotConfig {
    /// A new one is made at most this often.
    pub pause: Duration,
    /// One lives this long after its last page was asked for.
    pub life: Duration,
    /// Entries that are kept though no snapshot needs them: who is less behind catches up by entries.
    pub entries_kept: u64,
}

impl Default for SnapshotConfig {
    fn default() -> SnapshotConfig {
        SnapshotConfig { pause: Duration::from_secs(60), life: Duration::from_secs(600), entries_kept: 1_000 }
    }
}

/// The time and the random source, for one batch.
pub struct Cx<'a> {
    /// Now, on a clock that never goes back.
    pub now: Time,
    /// Now, in milliseconds since 1970 (UTC).
    pub wall_ms: u64,
    /// Random bytes.
    pub random: &'a mut dyn Random,
}

impl Cx<'_> {
    pub(super) fn moment(&mut self) -> Moment<'_> {
        Moment { wall_ms: self.wall_ms, random: self.random }
    }
}

/// The group that a member belongs to, as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The master's Ed25519 key.
    pub master: DeviceKey,
    /// The master's X25519 key.
    pub seal: SealKey,
    /// The server.
    pub server: ServerAddress,
    /// What the invite held, until it was used.
    pub invite: Option<InviteSecret>,
    /// What the ticket held (master).
    pub admission: Option<AdmissionSecret>,
}

impl Group {
    /// The group's id.
    pub fn id(&self) -> GroupId {
        GroupId::of(&self.master)
    }
}

/// How a member is started.
#[derive(Clone)]
pub enum Start {
    /// As a client; the invite is needed the first time.
    Client {
        /// The invite, if one was given.
        invite: Option<Box<Invite>>,
        /// The name that it would like.
        name: Name,
    },
    /// As the master, with the server that it uses.
    Master {
        /// The server, and what it asks of a group that is new to it.
        ticket: Box<Ticket>,
        /// Its name.
        name: Name,
    },
}

/// What a device is to be called.
#[derive(Clone)]
pub struct Name {
    /// What a person chose.
    pub chosen: Option<DeviceName>,
    /// The name at the first start, if nobody chose one.
    pub fallback: DeviceName,
}

/// The core of a member.
pub struct MemberCore {
    pub(super) store: MemberStore,
    pub(super) identity: Arc<Identity>,
    pub(super) key: DeviceKey,
    pub(super) config: MemberConfig,
    pub(super) group: Group,
    pub(super) name: DeviceName,
    pub(super) me: Option<PublicId>,
    pub(super) registration: Option<SignedHeader>,
    pub(super) pen: Pen,
    pub(super) link: Link,
    pub(super) session: Session,
    pub(super) servers: Servers,
    pub(super) requests: Requests,
    pub(super) uploads: Uploads,
    /// The fresh word that is on disk.
    pub(super) kept_fresh: Option<Time>,
    pub(super) downloads: Downloads,
    pub(super) paths: Paths,
    pub(super) nearby: super::nearby::Nearby,
    /// The membership that members at the other ends of straight connections were shown last.
    pub(super) shown_membership: Hash,
    /// This device's own addresses, as it sees them.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) openings: super::fetch::Openings,
    /// Files whose uploads a person paused.
    pub(super) paused_uploads: BTreeSet<FileId>,
    /// The newest transfer that was taken from the store into memory.
    pub(super) loaded: TransferId,
    pub(super) activity: super::activity::Activity,
    pub(super) scans: super::scan::Scans,
    pub(super) downloads_dir: PathBuf,
    /// What the server said last of why this device is not let in.
    pub(super) held_because: Option<String>,
    /// What a person wishes for this device itself.
    pub(super) wishes: super::wishes::Wishes,
    pub(super) outputs: Vec<Output>,
}

impl MemberCore {
    /// Takes up a member's work from its store, or begins it.
    pub fn open(
        store: MemberStore,
        identity: Arc<Identity>,
        config: MemberConfig,
        start: Start,
        downloads_dir: PathBuf,
        cx: &mut Cx<'_>,
    ) -> Result<MemberCore, LocalError> {
        store.begin().map_err(failed)?;
        let core = restore(store, identity, config, start, downloads_dir, cx);
        let core = core?;
        core.store.commit().map_err(failed)?;
        Ok(core)
    }

    /// Decides a batch. After an error nothing of it was done: the core is to be dropped and opened anew.
    pub fn handle(&mut self, cx: &mut Cx<'_>, inputs: Vec<Input>) -> Result<Vec<Output>, DbError> {
        self.store.begin()?;
        let decided = inputs.into_iter().try_for_each(|input| self.take(cx, input)).and_then(|()| self.settle(cx));
        match decided.and_then(|()| self.store.commit()) {
            Ok(()) => Ok(std::mem::take(&mut self.outputs)),
            Err(error) => {
                self.store.rollback();
                self.outputs.clear();
                Err(error)
            }
        }
    }

    /// The database, for a copy of it.
    pub fn store(&self) -> &MemberStore {
        &self.store
    }

    /// The database alone, as of its last commit: all that a killed process leaves.
    pub fn into_store(self) -> MemberStore {
        self.store.rollback();
        self.store
    }

    /// When to call [`MemberCore::handle`] again, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        [
            self.link.poll_timeout(),
            self.requests.poll_timeout(),
            self.uploads.poll_timeout(),
            self.downloads.poll_timeout(),
            self.paths.poll_timeout(),
            self.session.sight.poll_timeout(),
            self.pen.poll_timeout(),
            self.servers.poll_timeout(),
            self.scans.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn take(&mut self, cx: &mut Cx<'_>, input: Input) -> Result<(), DbError> {
        match input {
            Input::Dialed(conn, attempt) => {
                self.dialed_server(attempt);
                self.link.dialed(conn);
            }
            Input::DialFailed(attempt, why) => {
                tracing::debug!(why, "the server could not be reached");
                self.session.dial_error = Some(why);
                self.link.dial_failed(cx.now, cx.random, attempt);
            }
            Input::Frame(conn, frame) => self.frame(cx, conn, *frame)?,
            Input::Drained(conn) => self.bulk_drained(cx, conn)?,
            Input::Lost(conn, lost) => self.conn_lost(cx, conn, lost),
            Input::Heard(transfer, bytes, by) => {
                match by {
                    Some(conn) => self.paths.used(cx.now, conn),
                    None => self.link.heard(cx.now),
                }
                self.downloads.heard(cx.now, transfer, bytes, by.is_none());
            }
            Input::PeerDialed(dial, conn) => self.peer_dialed(cx, dial, conn),
            Input::PeerDialFailed(dial, why) => self.peer_dial_failed(cx, dial, why),
            Input::PeerArrived(conn, key) => self.peer_arrived(cx, conn, key),
            Input::Probe(from, probe) => self.peer_probe(cx, from, probe),
            Input::Addresses(addresses) => self.interfaces_changed(cx, addresses),
            Input::Mapped(address) => self.port_mapped(cx, address),
            Input::Nearby(seen) => self.seen_nearby(cx, seen),
            Input::Woke => {
                self.paths.woke(cx.now);
                self.link.doubt(cx.now);
            }
            Input::Came(asked, came) => self.unit_came(cx, asked, came)?,
            Input::List(transfer, list) => self.list_came(cx, transfer, list)?,
            Input::Opened(transfer, opening, opened) => self.place_opened(cx, transfer, opening, opened)?,
            Input::Synced(transfer, chunks, good) => self.downloads.synced(cx.now, transfer, &chunks, good),
            Input::Finished(transfer, outcome) => {
                self.ended_late(transfer, outcome)?;
                if outcome == Outcome::PlaceTaken {
                    self.leave_place(transfer)?;
                }
                self.downloads.finished(cx.now, transfer, outcome);
            }
            Input::Renamed(transfer, dest) => self.store.rename_transfer(transfer, &dest)?,
            Input::Looked(job, seen) => self.looked(cx, job, &seen)?,
            Input::Cleared(transfer) => self.store.part_gone(transfer)?,
            Input::Served(upload, served) => self.served(cx, upload, served)?,
            Input::Sighted(scan, files, unreadable) => self.sighted(cx, scan, &files, &unreadable)?,
            Input::Staged(scan, files) => self.staged(cx, scan, &files)?,
            Input::ScanEnded(scan, report) => self.scan_ended(cx, scan, &report)?,
            Input::CopiesFound(there) => self.copies_found(there)?,
            Input::Local(token, command) => self.local(cx, token, command)?,
            Input::Stopping => self.downloads.stop(),
            Input::Refused(token, error) => self.outputs.push(Output::Reply(token, Err(error))),
        }
        self.drain(cx)
    }

    /// Lets time pass, once a batch.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        self.link.awaiting(self.awaited_since());
        self.link.tick(cx.now);
        self.requests.tick(cx.now);
        self.uploads.tick(cx.now, cx.random);
        self.downloads.tick(cx.now);
        self.tick_scans(cx)?;
        self.tick_pen(cx)?;
        self.tick_servers(cx)?;
        self.drain(cx)?;
        // Last, for who is no member any more by anything in this batch.
        self.tick_paths(cx);
        self.tick_sight(cx);
        self.drain(cx)?;
        self.keep_fresh()
    }

    /// Since when bytes or an answer are awaited, if any are.
    fn awaited_since(&self) -> Option<Time> {
        let asked = match &self.pen {
            Pen::Replica(replica) => replica.asked_at(),
            Pen::Master(_) => None,
        };
        [self.downloads.awaited_since(), self.requests.sent_at(), self.uploads.asked_at(), asked]
            .into_iter()
            .flatten()
            .min()
    }

    /// Carries out what the machines want until they want nothing more.
    fn drain(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        loop {
            let mut moved = self.drain_link(cx);
            moved |= self.drain_pen(cx)?;
            moved |= self.drain_requests(cx)?;
            moved |= self.drain_uploads(cx.now)?;
            moved |= self.drain_downloads(cx)?;
            moved |= self.drain_paths(cx);
            if !moved {
                return Ok(());
            }
        }
    }

    pub(super) fn event(&mut self, name: &'static str, detail: Vec<(&'static str, String)>) {
        self.outputs.push(Output::Event(name, detail));
    }

    /// Something about a device, with its name for people.
    pub(super) fn device_event(&mut self, event: &'static str, id: &PublicId) {
        let name = self.roster().device(id).map(|device| ("name", device.name.to_string()));
        self.event(event, [("id", id.to_string())].into_iter().chain(name).collect());
    }

    pub(super) fn roster(&self) -> &Roster {
        self.pen.roster()
    }

    pub(super) fn tip(&self) -> LogTip {
        *self.pen.tip()
    }

    pub(super) fn is_master(&self) -> bool {
        matches!(self.pen, Pen::Master(_))
    }
}
