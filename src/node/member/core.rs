//! The core: a member's machines joined with its store.
//!
//! Invariant: every input of a batch is decided and persisted in one transaction; what is to be sent leaves only after
//! its commit. So nobody is ever told what this device could forget.

use super::io::{Input, Output};
use super::pen::Pen;
use super::session::Session;
use crate::node::local::{ErrorCode, LocalError};
use crate::state::authority::{Authority, Gate, GateConfig, LastRequest, Moment};
use crate::state::chain::LogTip;
use crate::state::downloads::{Downloads, DownloadsConfig, TransferId};
use crate::state::link::{Ended, Link, LinkConfig};
use crate::state::random::Random;
use crate::state::replica::{self, Replica, ReplicaConfig};
use crate::state::requests::{Outstanding, Requests, RequestsConfig};
use crate::state::roster::{Device, Roster};
use crate::state::time::Time;
use crate::state::uploads::{Uploads, UploadsConfig};
use crate::store::member::{DbError, MemberStore, StoredTip};
use crate::wire::ids::{DeviceKey, GroupId, Position, PublicId, SealKey};
use crate::wire::invite::{AdmissionSecret, Invite, InviteSecret, ServerAddress, Ticket};
use crate::wire::log::{Policy, SignedHeader};
use crate::wire::name::DeviceName;
use crate::wire::seal::Epoch;
use crate::wire::sign::Identity;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
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
    /// A master's start.
    pub gate: GateConfig,
    /// Snapshots.
    pub snapshots: SnapshotConfig,
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
    pub(super) requests: Requests,
    pub(super) uploads: Uploads,
    pub(super) downloads: Downloads,
    /// The newest transfer that was taken from the store into memory.
    pub(super) loaded: TransferId,
    pub(super) activity: super::rows::Activity,
    pub(super) downloads_dir: PathBuf,
    /// What the server said last of why this device is not let in.
    pub(super) held_because: Option<String>,
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

    /// When to call [`MemberCore::handle`] again, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        [
            self.link.poll_timeout(),
            self.requests.poll_timeout(),
            self.uploads.poll_timeout(),
            self.downloads.poll_timeout(),
            self.pen.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn take(&mut self, cx: &mut Cx<'_>, input: Input) -> Result<(), DbError> {
        match input {
            Input::Dialed(conn) => self.link.dialed(conn),
            Input::DialFailed(attempt, why) => {
                tracing::debug!(why, "the server could not be reached");
                self.session.dial_error = Some(why);
                self.link.dial_failed(cx.now, cx.random, attempt);
            }
            Input::Frame(conn, frame) => self.frame(cx, conn, *frame)?,
            Input::Drained(conn) => self.bulk_drained(cx, conn)?,
            Input::Lost(conn, lost) => self.conn_lost(cx, conn, lost),
            Input::Heard(bytes) => {
                self.link.heard(cx.now);
                self.downloads.heard(cx.now, bytes);
            }
            Input::Came(asked, came) => self.unit_came(cx, asked, came)?,
            Input::List(transfer, list) => self.list_came(cx, transfer, list)?,
            Input::Opened(transfer, opened) => self.downloads.opened(cx.now, transfer, opened),
            Input::Synced(transfer, chunks, good) => self.downloads.synced(cx.now, transfer, &chunks, good),
            Input::Finished(transfer, outcome) => self.downloads.finished(cx.now, transfer, outcome),
            Input::Served(upload, served) => self.served(cx, upload, served)?,
            Input::Staged(share, files) => self.staged(cx, &share, &files)?,
            Input::ScanEnded(share, skipped, count) => self.scan_ended(cx, &share, &skipped, count)?,
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
        self.tick_pen(cx)?;
        self.drain(cx)
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
            moved |= self.drain_uploads()?;
            moved |= self.drain_downloads(cx)?;
            if !moved {
                return Ok(());
            }
        }
    }

    pub(super) fn event(&mut self, name: &'static str, detail: Vec<(&'static str, String)>) {
        self.outputs.push(Output::Event(name, detail));
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

pub(super) fn failed(error: DbError) -> LocalError {
    LocalError::new(ErrorCode::Failed, error.to_string(), "see the message; nothing was changed")
}

fn restore(
    store: MemberStore,
    identity: Arc<Identity>,
    config: MemberConfig,
    start: Start,
    downloads_dir: PathBuf,
    cx: &mut Cx<'_>,
) -> Result<MemberCore, LocalError> {
    let key = identity.device_key();
    let is_master = matches!(start, Start::Master { .. });
    check_role(&store, is_master)?;
    let (group, name) = group_and_name(&store, &identity, start)?;
    store.set("group", &group).map_err(failed)?;
    store.set("name", &name).map_err(failed)?;
    store.set("downloads", &downloads_dir.to_string_lossy().into_owned()).map_err(failed)?;
    let pen = if is_master {
        restore_master(&store, identity.clone(), &config, &name, cx)
    } else {
        restore_replica(&store, &group, key, &config)
    }
    .map_err(failed)?;
    let kept: Option<(u64, Option<Outstanding>)> = store.get("requests").map_err(failed)?;
    let (number, outstanding) = kept.unwrap_or_default();
    let mut uploads = Uploads::new(config.uploads, is_master);
    let policy: Policy = store.get("policy").map_err(failed)?.unwrap_or_default();
    uploads.set_fresh_for(Duration::from_millis(policy.master_away_wait_ms));
    let mut link = Link::new(config.link, cx.now);
    if pen.roster().is_expelled(&key) {
        link.end(Ended::Expelled);
    }
    let me = match &pen {
        Pen::Master(master) => Some(master.authority.id()),
        Pen::Replica(_) => store.get("me").map_err(failed)?,
    };
    let mut core = MemberCore {
        me,
        registration: store.get("registration").map_err(failed)?,
        link,
        session: Session::default(),
        requests: Requests::restore(config.requests, number, outstanding),
        uploads,
        downloads: Downloads::new(config.downloads),
        loaded: 0,
        activity: super::rows::Activity::default(),
        downloads_dir,
        held_because: None,
        outputs: Vec::new(),
        store,
        identity,
        key,
        config,
        group,
        name,
        pen,
    };
    core.begin(cx).map_err(failed)?;
    Ok(core)
}

fn check_role(store: &MemberStore, is_master: bool) -> Result<(), LocalError> {
    let role = if is_master { "master" } else { "client" };
    let kept: Option<String> = store.get("role").map_err(failed)?;
    match kept {
        None => store.set("role", &role).map_err(failed),
        Some(kept) if kept == role => Ok(()),
        Some(kept) => Err(LocalError::new(
            ErrorCode::Usage,
            format!("this state directory belongs to a {kept}"),
            format!(
                "start it with 'bailiwick {kept}', or give this one a directory of its own with --state or --profile"
            ),
        )),
    }
}

fn group_and_name(store: &MemberStore, identity: &Identity, start: Start) -> Result<(Group, DeviceName), LocalError> {
    let kept: Option<Group> = store.get("group").map_err(failed)?;
    let kept_name: Option<DeviceName> = store.get("name").map_err(failed)?;
    let named = |name: Name| name.chosen.or(kept_name).unwrap_or(name.fallback);
    match start {
        Start::Master { ticket, name } => {
            let group = Group {
                master: identity.device_key(),
                seal: identity.seal_key(),
                server: ticket.server,
                invite: None,
                admission: Some(ticket.admission),
            };
            Ok((group, named(name)))
        }
        Start::Client { invite, name } => match (kept, invite) {
            (None, None) => Err(LocalError::new(
                ErrorCode::Usage,
                "this device belongs to no group yet",
                "start it once with an invite: 'bailiwick client INVITE'; the master makes one with 'bailiwick invite'",
            )),
            (Some(kept), Some(invite)) if kept.master != invite.master => Err(LocalError::new(
                ErrorCode::Usage,
                "the invite is for another group than the one this state directory belongs to",
                "give the other group a directory of its own with --state or --profile",
            )),
            // An invite of one's own group is a change of server.
            (Some(kept), Some(invite)) => {
                Ok((Group { server: invite.server.clone(), invite: Some(invite.secret), ..kept }, named(name)))
            }
            (Some(kept), None) => Ok((kept, named(name))),
            (None, Some(invite)) => {
                let Invite { server, master, seal, secret } = *invite;
                Ok((Group { master, seal, server, invite: Some(secret), admission: None }, named(name)))
            }
        },
    }
}

fn restore_master(
    store: &MemberStore,
    identity: Arc<Identity>,
    config: &MemberConfig,
    name: &DeviceName,
    cx: &mut Cx<'_>,
) -> Result<Pen, DbError> {
    let master_key = identity.device_key();
    let Some(tip) = store.tip()? else {
        let authority = Authority::found(identity, name.clone(), &mut cx.moment());
        return Ok(Pen::master(authority, Gate::Open));
    };
    let roster = load_roster(store, &master_key)?;
    let seen_by_others = roster.devices().count() > 1;
    let newest = store.epochs()?.pop();
    let epoch = newest.ok_or_else(|| DbError::Damaged("the group's secrets are missing".to_owned()))?;
    let last = store
        .last_requests()?
        .into_iter()
        .map(|(id, number, content, answer)| (id, LastRequest { number, content, answer }))
        .collect();
    let restored = crate::state::authority::Restored {
        tip: tip_of(&tip),
        roster,
        epoch,
        invites: store.invites()?.into_iter().map(|(id, _, expires)| (id, expires)).collect(),
        last,
        files: store.file_counts()?,
    };
    let gate = Gate::at_start(cx.now, seen_by_others, &config.gate);
    Ok(Pen::master(Authority::restore(identity, restored), gate))
}

fn restore_replica(store: &MemberStore, group: &Group, key: DeviceKey, config: &MemberConfig) -> Result<Pen, DbError> {
    let restored = replica::Restored {
        tip: store.tip()?.as_ref().map(tip_of),
        roster: load_roster(store, &group.master)?,
        epochs: store.epochs()?,
        head: store.head()?,
        loading: store.loading()?,
    };
    Ok(Pen::Replica(Box::new(Replica::restore(config.replica, group.master, key, restored))))
}

pub(super) fn tip_of(tip: &StoredTip) -> LogTip {
    LogTip { at: tip.at, header: tip.header, membership: tip.membership }
}

/// The roster follows from the membership headers and the names.
pub(super) fn load_roster(store: &MemberStore, master: &DeviceKey) -> Result<Roster, DbError> {
    let names = store.names()?;
    let mut devices: HashMap<PublicId, Device> = HashMap::new();
    let mut order = VecDeque::new();
    for header in store.membership_after(Position::default())? {
        let header = header.verify(master).map_err(|error| DbError::Damaged(error.to_string()))?;
        let Some(change) = &header.header().membership else { continue };
        match devices.get_mut(&change.id) {
            Some(device) if device.standing.is_final() => {}
            Some(device) => device.standing = change.standing,
            None => {
                let name = names.get(&change.id).cloned();
                let name = name.ok_or_else(|| DbError::Damaged("a device has no name".to_owned()))?;
                order.push_back(change.id);
                devices.insert(
                    change.id,
                    Device {
                        id: change.id,
                        key: change.device,
                        seal: change.seal,
                        standing: change.standing,
                        name,
                        code: header.short_code(),
                    },
                );
            }
        }
    }
    let ahead = store.expulsions()?.into_iter().filter_map(|header| {
        let header = header.verify(master).ok()?;
        header.expulsion().map(|change| change.device)
    });
    Ok(Roster::restore(order.iter().filter_map(|id| devices.remove(id)), ahead))
}

/// The newest secrets, for the data plane.
pub(super) fn epochs_for_chunks(pen: &Pen, store: &MemberStore) -> Result<Vec<Epoch>, DbError> {
    match pen {
        Pen::Master(master) => {
            let mut epochs = store.epochs()?;
            epochs.retain(|epoch| epoch.id != master.authority.epoch().id);
            epochs.push(master.authority.epoch().clone());
            Ok(epochs)
        }
        Pen::Replica(_) => store.epochs(),
    }
}
