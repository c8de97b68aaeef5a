//! The rows of the local API.

use super::core::{Cx, MemberCore};
use super::pen::Pen;
use super::uploading::upload_id;
use crate::node::local::{
    ClientRow, Direction, ErrorCode, FileRow, FileStatus, InviteRow, JobRow, Link, NodeRole, PathRow, ShareRow,
    StandingRow, Status, TransferRow, TransferState, rfc3339,
};
use crate::state::authority::{Gate, STALE_HINT};
use crate::state::downloads::fetch::{Fetch, Phase};
use crate::state::downloads::{Outcome, Way};
use crate::state::link::Ended;
use crate::state::paths::{State, Why};
use crate::state::roster::Device;
use crate::state::time::Time;
use crate::store::member::{
    CatalogRow, DbError, JobPlace, JobStanding, JobSum, LocalFile, LocalStatus, ShareSum, StoredTransfer,
    TransferStanding,
};
use crate::wire::frame::Class;
use crate::wire::ids::{DeviceKey, InviteId, PublicId, hex};
use crate::wire::log::{FileMeta, Standing};
use std::path::PathBuf;

/// Transfers of all jobs that are listed at once.
pub(super) const TRANSFERS_LISTED: usize = 10_000;
/// Jobs that are listed at once.
pub(super) const JOBS_LISTED: usize = 100;
/// Jobs that are over and remembered; the oldest are forgotten.
pub(super) const JOBS_KEPT: usize = 500;

pub(super) fn standing_row(standing: Standing) -> StandingRow {
    match standing {
        Standing::Registered => StandingRow::Registered,
        Standing::Approved => StandingRow::Approved,
        Standing::Disapproved => StandingRow::Disapproved,
        Standing::Left => StandingRow::Left,
    }
}

/// What a master says whose place at the server another process took.
const MASTER_REPLACED: &str = "another process uses a copy of this master's state directory; stop the older of the two, \
     then start the newer one again";

/// What an owner says whose word from the master is too old.
const WAITS_FOR_MASTER: &str = "waiting for the master: `bailiwick policy` shows for how long uploads go on without it";

impl MemberCore {
    pub(super) fn status(&self) -> Status {
        let registered = self.registration.as_ref().and_then(|header| header.clone().verify(&self.group.master).ok());
        let standing = self.standing().map_or(StandingRow::Stranger, standing_row);
        let own = self.me.and_then(|me| self.roster().device(&me));
        let tip = self.tip();
        let server =
            if self.link.current().is_some() && self.session.class.is_some() { Link::Connected } else { Link::Away };
        let master = if self.session.master_online || self.is_master() { Link::Connected } else { Link::Away };
        Status {
            role: if self.is_master() { NodeRole::Master } else { NodeRole::Client },
            id: self.me.map(|id| id.to_string()),
            name: Some(own.map_or(self.name.to_string(), |device| device.name.to_string())),
            standing: Some(standing),
            // After an import all codes are new ones; a member goes by what the log says, as all others do.
            code: match own {
                _ if self.is_master() => None,
                Some(own) => Some(own.code.clone()),
                None => registered.map(|header| header.short_code()),
            },
            group: Some(self.group.id().to_string()),
            server,
            server_rtt_ms: None,
            relay_only: !self.config.paths.enabled,
            master,
            waiting: self.waiting(),
            leaving: self.wishes.is_leaving(),
            rename: self.rename_row(),
            asked_name: self.asked_name(),
            revision: (tip.at.revision > 0).then(|| tip.at.to_string()),
            state_dir: PathBuf::new(),
            downloads: Some(self.downloads_dir.clone()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: String::new(),
            pid: std::process::id(),
            load: None,
        }
    }

    /// What this node waits for, in words.
    pub(super) fn waiting(&self) -> Option<String> {
        self.or_leaving(self.waits_for())
    }

    fn waits_for(&self) -> Option<String> {
        match &self.pen {
            Pen::Master(master) => match master.gate {
                Gate::Closed(stale) => return Some(format!("{stale}: {STALE_HINT}")),
                Gate::Waiting(_) => return Some("making sure that this is the newest copy of the master".to_owned()),
                Gate::Importing(Some(_)) => {
                    return Some(
                        "taking in what the server and the devices know of the group; the log goes on in a moment"
                            .to_owned(),
                    );
                }
                Gate::Importing(None) | Gate::Open => {}
            },
            Pen::Replica(replica) => {
                if let Some(stopped) = replica.stopped() {
                    return Some(stopped.to_string());
                }
            }
        }
        match self.link.ended() {
            Some(Ended::Replaced) if self.is_master() => return Some(MASTER_REPLACED.to_owned()),
            Some(ended) => return Some(ended.to_string()),
            None => {}
        }
        if let Some(moving) = self.servers.waiting() {
            return Some(moving.to_owned());
        }
        if self.link.current().is_none() {
            // Who is turned away dials again and again: what it was told holds until a dial fails.
            if let (None, Some(because)) = (&self.session.dial_error, &self.held_because) {
                return Some(because.clone());
            }
            let why = self.session.dial_error.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            return Some(format!("waiting for the server at {}{why}", addresses(&self.group.server.addresses)));
        }
        if let Some(because) = &self.held_because {
            return Some(because.clone());
        }
        match (self.session.class, self.standing()) {
            (Some(Class::Unsettled), _) => Some(
                "the server waits for the master, or for a member who knows the newest membership; if the group \
                     moved to another server, ask for a new invite"
                    .to_owned(),
            ),
            (Some(Class::Expelled), _) => {
                Some("the server says that this device was expelled; waiting for the master's word of it".to_owned())
            }
            (_, Some(Standing::Registered)) => Some("waiting for approval".to_owned()),
            (Some(Class::Approved), Some(Standing::Approved)) if !self.session.master_online => {
                Some("waiting for the master".to_owned())
            }
            (Some(_), _) => None,
            (None, _) => Some("waiting for the server's answer".to_owned()),
        }
    }

    pub(super) fn client_rows(&self) -> Vec<ClientRow> {
        self.roster().devices().map(|device| self.client_row(device)).collect()
    }

    /// How a device is reached now.
    fn path_to(&self, key: &DeviceKey) -> PathRow {
        if self.paths.current(key).is_some() { PathRow::Direct } else { PathRow::Relay }
    }

    fn path_to_owner(&self, owner: &PublicId) -> PathRow {
        self.roster().device(owner).map_or(PathRow::Relay, |device| self.path_to(&device.key))
    }

    /// Why what goes to a device passes the server, if it does.
    fn why_relayed(&self, key: &DeviceKey) -> Option<String> {
        let last =
            || self.paths.tries(key).and_then(|tries| Some(self.paths.told(key, tries.last.as_ref()?.why.as_ref()?)));
        let why = match self.paths.state(key) {
            State::Direct => return None,
            State::Trying => match last() {
                Some(why) => format!(": {why}; it is being tried again"),
                None => "; a direct connection is being tried".to_owned(),
            },
            State::Relayed(why) => format!(": {why}"),
            State::Unknown => "; a direct connection is tried when something is fetched".to_owned(),
        };
        Some(format!("relayed by the server{why}"))
    }

    /// Why what is to come straight alone does not come.
    fn waits_for_straight_way(&self, owner: &PublicId) -> String {
        let (name, key) = (self.owner_name(owner), self.roster().device(owner).map(|device| device.key));
        let why = match key.map(|key| self.paths.state(&key)) {
            // These pass by themselves.
            Some(State::Relayed(why @ (Why::Broke | Why::TooMany))) => why.to_string(),
            Some(State::Relayed(why)) if self.link.current().is_none() => why.to_string(),
            Some(State::Relayed(why)) => {
                format!("{why}; the same with --relay-only instead of --direct-only fetches it through the server")
            }
            Some(State::Trying) => "it is being tried".to_owned(),
            Some(State::Direct | State::Unknown) | None => {
                "it is tried as soon as offers can pass the server".to_owned()
            }
        };
        format!("waiting for a direct connection to {name}: {why}")
    }

    /// What becomes of a device without the server, if it is seen on the local network.
    fn nearby_text(&self, key: &DeviceKey) -> String {
        match self.paths.state(key) {
            _ if !self.paths.is_near(key) => String::new(),
            State::Relayed(why) => format!("; it is on this network: {why}"),
            State::Trying | State::Direct | State::Unknown => {
                "; it is on this network, and a direct connection is made when something is fetched from it".to_owned()
            }
        }
    }

    pub(super) fn client_row(&self, device: &Device) -> ClientRow {
        let is_self = device.key == self.key;
        let presence = self.session.presence.get(&device.id).copied();
        let standing = self.roster().standing(&device.key).unwrap_or(device.standing);
        let direct = self.paths.current(&device.key).is_some();
        let online = !standing.is_final() && (is_self || direct || presence.is_some_and(|presence| presence.online));
        let away = presence.filter(|presence| !presence.online && !is_self);
        ClientRow {
            id: device.id.to_string(),
            name: device.name.to_string(),
            role: if device.key == self.group.master { NodeRole::Master } else { NodeRole::Client },
            standing: standing_row(standing),
            online,
            path: (online && !is_self).then(|| self.path_to(&device.key)),
            reason: match (online, is_self) {
                (true, false) if direct && self.link.current().is_none() => {
                    Some("direct; the server can't be reached".to_owned())
                }
                (true, false) => self.why_relayed(&device.key),
                (false, _) if standing.is_final() => None,
                // It is out of the group, or another process has its place: nobody tells it who is there.
                (false, _) if self.link.ended().is_some() => {
                    self.link.ended().map(|ended| format!("not known any more: {ended}"))
                }
                (false, _) if self.link.current().is_none() => {
                    Some(format!("the server is away{}", self.nearby_text(&device.key)))
                }
                (false, _) if presence.is_none() && standing == Standing::Registered => {
                    Some("not known before it is approved".to_owned())
                }
                (false, _) => Some("not connected".to_owned()),
                (true, true) => None,
            },
            code: Some(device.code.clone()).filter(|_| device.key != self.group.master),
            is_self,
            since: rfc3339(device.since_ms as i64),
            last_seen: away.map(|presence| rfc3339(presence.seen_ms as i64)),
            rtt_ms: None,
            conn: self.paths.current(&device.key).map(|conn| conn.0),
        }
    }

    pub(super) fn owner_name(&self, owner: &PublicId) -> String {
        self.roster().device(owner).map_or_else(|| owner.to_string(), |device| device.name.to_string())
    }

    pub(super) fn is_available(&self, owner: &PublicId) -> bool {
        let direct = self.path_to_owner(owner) == PathRow::Direct;
        self.me == Some(*owner) || direct || self.session.presence.get(owner).is_some_and(|presence| presence.online)
    }

    pub(super) fn file_row(&self, cx: &Cx<'_>, row: &CatalogRow) -> FileRow {
        let status = if self.activity.is_downloading(&row.file.id) {
            FileStatus::Downloading
        } else if self.activity.is_uploading(cx.now, &row.file.content) {
            FileStatus::Uploading
        } else {
            FileStatus::Idle
        };
        self.row_of(&row.owner, &row.file, status)
    }

    pub(super) fn row_of(&self, owner: &PublicId, file: &FileMeta, status: FileStatus) -> FileRow {
        FileRow {
            id: file.id.to_string(),
            owner: owner.to_string(),
            owner_name: self.owner_name(owner),
            path: file.path.to_string(),
            kind: file.kind.into(),
            size: file.size,
            hash: hex(&file.hash.0),
            status,
            available: self.is_available(owner),
            mtime: rfc3339(file.mtime_ms),
        }
    }

    pub(super) fn local_row(&self, file: &LocalFile) -> FileRow {
        let status = match file.status {
            LocalStatus::Syncing | LocalStatus::Returning => FileStatus::Syncing,
            LocalStatus::Idle | LocalStatus::Leaving | LocalStatus::Gone => FileStatus::Idle,
            LocalStatus::Unlisted | LocalStatus::Refused => FileStatus::Removed,
        };
        self.row_of(&self.me.unwrap_or(PublicId([0; 16])), &file.meta, status)
    }

    pub(super) fn share_row(&self, share: ShareSum) -> ShareRow {
        let waits = share.syncing > 0 || share.leaving > 0;
        let last = share.last.clone().unwrap_or_default();
        let mut skipped = last.skipped;
        if share.refused > 0 {
            skipped.push(format!("{} refused by the master", files(share.refused)));
        }
        if share.timed_out > 0 {
            skipped.push(format!(
                "{}: the master is there and did not answer; the next scan asks again",
                files(share.timed_out)
            ));
        }
        let missing = last.guard.map(|why| {
            let (path, missing) = (share.path.display(), last.missing);
            format!(
                "{} missing ({why}), which stay in the catalog: mount the disk or put them back, \
                 or run 'bailiwick scan --confirm {path}' if they are gone for good",
                files(missing)
            )
        });
        let last_scan = self.scans.ended(&share.path).or(share.last.as_ref().map(|last| last.at_ms));
        ShareRow {
            path: share.path,
            name: share.name,
            files: share.files,
            bytes: share.bytes,
            copy: share.copy,
            exclude: share.exclude,
            syncing: share.syncing,
            missing: last.missing,
            leaving: share.leaving,
            removed: share.removed,
            taken_out: share.taken_out,
            failed: last.failed + share.refused + share.timed_out,
            scanning: share.scanning,
            skipped,
            skipped_count: last.skipped_count + share.refused + share.timed_out,
            last_scan: last_scan.map(rfc3339),
            reason: missing.or(if waits { self.waiting() } else { None }),
        }
    }

    pub(super) fn invite_rows(&self, cx: &Cx<'_>) -> Result<Vec<InviteRow>, DbError> {
        if self.servers.moving.is_some() {
            // They name the server that the group leaves, and are void in a moment.
            return Ok(Vec::new());
        }
        let invites = self.store.invites()?.into_iter().filter(|(_, _, expires)| *expires > cx.wall_ms);
        Ok(invites.map(|(id, invite, expires)| invite_row(&id, invite, expires)).collect())
    }

    pub(super) fn transfer_row(&self, cx: &Cx<'_>, row: &StoredTransfer, place: &JobPlace) -> TransferRow {
        let fetch = self.downloads.fetch(row.id);
        let (state, reason) = self.state_of(cx.now, row, place, fetch);
        let done = fetch.map_or(row.done, Fetch::done_bytes);
        let moving = state == TransferState::Running;
        let rate = if moving { self.activity.job_rate(cx.now, row.job) } else { 0 };
        let received = fetch.map_or(row.received, |fetch| fetch.wanted.received);
        let path = match state {
            TransferState::Running if place.way == Way::Relay => Some(PathRow::Relay),
            TransferState::Running => Some(self.path_to_owner(&row.owner)),
            TransferState::Done => self.activity.path_of(row.job).filter(|_| received > 0),
            _ => None,
        };
        TransferRow {
            id: row.id.to_string(),
            job: Some(row.job),
            file: row.file.to_string(),
            name: Some(row.dest.to_string()),
            direction: Direction::Down,
            peer: Some(row.owner.to_string()),
            state,
            reason,
            done_bytes: done,
            total_bytes: row.size,
            received_bytes: received,
            rate,
            eta_s: eta(row.size.saturating_sub(done), rate),
            path,
            dest: Some(place.dest.join(row.dest.as_str())),
        }
    }

    fn state_of(
        &self,
        now: Time,
        row: &StoredTransfer,
        job: &JobPlace,
        fetch: Option<&Fetch>,
    ) -> (TransferState, Option<String>) {
        match (row.standing, fetch) {
            (TransferStanding::Done, _) => (TransferState::Done, None),
            (TransferStanding::Failed, _) => (TransferState::Failed, row.reason.clone()),
            (TransferStanding::Cancelled | TransferStanding::Skipped, _) => {
                (TransferState::Cancelled, row.reason.clone())
            }
            (TransferStanding::Open, _) if job.standing == JobStanding::Paused => {
                (TransferState::Paused, Some(paused_text(row.job)))
            }
            (TransferStanding::Open, None) if !job.looked => (TransferState::Running, None),
            (TransferStanding::Open, None) => (TransferState::Waiting, Some("waiting for its turn".to_owned())),
            (TransferStanding::Open, Some(fetch)) => match self.waits_because(now, fetch) {
                Some(why) => (TransferState::Waiting, Some(why)),
                None => (TransferState::Running, None),
            },
        }
    }

    fn waits_because(&self, now: Time, fetch: &Fetch) -> Option<String> {
        if fetch.phase == Phase::Ending {
            return None;
        }
        let owner = self.owner_name(&fetch.wanted.owner);
        let Some(outcome) = self.downloads.waits_for(fetch) else {
            let silent = self.downloads.silent_for(now, fetch)?;
            let or_server = match self.path_to_owner(&fetch.wanted.owner) {
                PathRow::Direct if fetch.wanted.way != Way::Relay => "",
                PathRow::Direct | PathRow::Relay => " or the server",
            };
            return Some(format!("no answer from {owner}{or_server} for {} s", silent.as_secs()));
        };
        Some(match (outcome, self.link.ended()) {
            // It will not come by itself.
            (Outcome::ServerAway | Outcome::OwnerAway, Some(ended)) => ended.to_string(),
            (outcome, _) => self.outcome_text(outcome, fetch, &owner),
        })
    }

    fn outcome_text(&self, outcome: Outcome, fetch: &Fetch, owner: &str) -> String {
        match outcome {
            Outcome::OwnerAway => format!("waiting for {owner}, which is away"),
            Outcome::NotStraight => self.waits_for_straight_way(&fetch.wanted.owner),
            Outcome::ServerAway => {
                let device = self.roster().device(&fetch.wanted.owner);
                let device = device.filter(|_| fetch.wanted.way != Way::Relay);
                let nearby = device.map(|device| self.nearby_text(&device.key)).unwrap_or_default();
                format!("waiting for the server at {}{nearby}", addresses(&self.group.server.addresses))
            }
            other => other.to_string(),
        }
    }

    /// Uploads that are going out, or are paused.
    pub(super) fn upload_rows(&self, cx: &Cx<'_>) -> Result<Vec<TransferRow>, DbError> {
        let mut rows = Vec::new();
        for content in self.activity.uploading(cx.now) {
            let file = self.store.local_content(&content)?;
            let running = file.filter(|file| !self.paused_uploads.contains(&file.meta.id));
            rows.extend(running.map(|file| self.upload_row(cx, &file)));
        }
        for file in self.paused_uploads.iter().take(TRANSFERS_LISTED) {
            rows.extend(self.store.local_file(file)?.map(|file| self.upload_row(cx, &file)));
        }
        Ok(rows)
    }

    pub(super) fn upload_row(&self, cx: &Cx<'_>, file: &LocalFile) -> TransferRow {
        let id = upload_id(&file.meta.id);
        let upload = self.activity.upload(&file.meta.content);
        let (state, reason) = match (self.paused_uploads.contains(&file.meta.id), upload) {
            (true, _) => (TransferState::Paused, Some(format!("paused here; `bailiwick resume {id}` lets it go on"))),
            (false, Some(upload)) => {
                let why = upload.waits_for_master.then(|| WAITS_FOR_MASTER.to_owned());
                (upload.state(cx.now, file.meta.size), why)
            }
            (false, None) => (TransferState::Waiting, Some("waiting for somebody to ask for it".to_owned())),
        };
        let running = state == TransferState::Running;
        TransferRow {
            id,
            job: None,
            file: file.meta.id.to_string(),
            name: Some(file.meta.path.to_string()),
            direction: Direction::Up,
            peer: None,
            state,
            reason,
            // Several devices may have fetched it: no more than all of it is told.
            done_bytes: upload.map_or(0, |upload| upload.bytes).min(file.meta.size),
            total_bytes: file.meta.size,
            received_bytes: 0,
            rate: upload.filter(|_| running).map_or(0, |upload| upload.rate.per_second(cx.now)),
            eta_s: None,
            path: running.then(|| upload.map_or(PathRow::Relay, |upload| upload.path)),
            dest: None,
        }
    }

    pub(super) fn job_row(&self, cx: &Cx<'_>, job: JobSum) -> JobRow {
        let (mut done, mut received) = (job.done, job.received);
        let (mut running, mut waits) = (false, None);
        for fetch in self.downloads.fetches() {
            if self.activity.job_of(fetch.wanted.transfer) != Some(job.job) {
                continue;
            }
            done += fetch.done_bytes().saturating_sub(fetch.wanted.kept_done);
            received += fetch.wanted.received.saturating_sub(fetch.wanted.kept_received);
            match self.waits_because(cx.now, fetch) {
                None => running = true,
                Some(why) => waits = waits.or(Some(why)),
            }
        }
        let over = job.files_done + job.files_failed + job.files_cancelled + job.files_skipped;
        let open = job.files.saturating_sub(over);
        let (state, reason) = match (open, job.files_failed) {
            _ if job.standing == JobStanding::Cancelled => (TransferState::Cancelled, Some("cancelled".to_owned())),
            (0, 0) => (TransferState::Done, None),
            (0, _) => (TransferState::Failed, job.reason),
            _ if job.standing == JobStanding::Paused => (TransferState::Paused, Some(paused_text(job.job))),
            // Its places are being looked at.
            _ if running || !job.looked => (TransferState::Running, None),
            _ => (TransferState::Waiting, waits.or(Some("waiting for its turn".to_owned()))),
        };
        let running = running && state == TransferState::Running;
        let rate = if running { self.activity.job_rate(cx.now, job.job) } else { 0 };
        let kind = if job.refused { ErrorCode::Refused } else { ErrorCode::Failed };
        JobRow {
            looking: state == TransferState::Running && !job.looked,
            resumable: state == TransferState::Failed && self.store.can_retry(job.job).unwrap_or(true),
            code: (state == TransferState::Failed).then_some(kind),
            job: job.job,
            what: job.what,
            state,
            reason,
            files: job.files,
            files_done: job.files_done,
            files_failed: job.files_failed,
            files_skipped: job.files_skipped,
            done_bytes: done.min(job.total),
            total_bytes: job.total,
            received_bytes: received,
            rate,
            eta_s: eta(job.total.saturating_sub(done), rate),
            path: match state {
                TransferState::Waiting | TransferState::Paused => None,
                _ => self.activity.path_of(job.job).filter(|_| running || received > 0),
            },
            dest: job.dest,
            elapsed_ms: job.moving_ms + self.activity.unkept_ms(job.job),
        }
    }
}

pub(super) fn invite_row(id: &InviteId, invite: String, expires_ms: u64) -> InviteRow {
    InviteRow { id: id.to_string(), invite, expires: rfc3339(expires_ms as i64) }
}

/// Files, counted.
pub(super) fn files(count: u64) -> String {
    match count {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    }
}

/// Why a job of this device's person does not move.
fn paused_text(job: u64) -> String {
    format!("paused here; `bailiwick resume {job}` lets it go on")
}

fn eta(left: u64, rate: u64) -> Option<u64> {
    (rate > 0).then(|| left.div_ceil(rate))
}

fn addresses(addresses: &[crate::wire::invite::Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
