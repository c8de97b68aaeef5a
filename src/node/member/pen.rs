//! The one difference between a master and a client: who holds the pen decides, all others follow.

use super::core::{Cx, MemberCore};
use super::io::{Input, Output};
use crate::state::authority::{Authority, Effect, Gate, Moment};
use crate::state::chain::LogTip;
use crate::state::replica::Replica;
use crate::state::roster::Roster;
use crate::state::time::Time;
use crate::store::member::DbError;
use crate::wire::frame::Frame;
use crate::wire::ids::PublicId;
use crate::wire::log::{Body, Entry};
use std::collections::VecDeque;

/// What waits for a starting master's gate, at most.
const HELD_MAX: usize = 4_096;

/// A member's relation to the log.
pub(super) enum Pen {
    /// It follows.
    Replica(Box<Replica>),
    /// It writes.
    Master(Box<Master>),
}

/// What a master has besides.
pub(super) struct Master {
    pub(super) authority: Authority,
    pub(super) gate: Gate,
    /// What would make it sign, and came while it may not.
    pub(super) held: VecDeque<Input>,
    /// Whether the gate was seen open, and what was held has been decided.
    pub(super) open: bool,
    /// Whether the server took it, on the present connection.
    pub(super) registered: bool,
    /// Whether there are entries whose head the server has not been shown.
    pub(super) head_due: bool,
}

impl Pen {
    pub(super) fn master(authority: Authority, gate: Gate) -> Pen {
        let held = VecDeque::new();
        Pen::Master(Box::new(Master { authority, gate, held, open: false, registered: false, head_due: false }))
    }

    pub(super) fn roster(&self) -> &Roster {
        match self {
            Pen::Replica(replica) => replica.roster(),
            Pen::Master(master) => master.authority.roster(),
        }
    }

    pub(super) fn tip(&self) -> &LogTip {
        match self {
            Pen::Replica(replica) => replica.tip(),
            Pen::Master(master) => master.authority.tip(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        match self {
            Pen::Replica(replica) => replica.poll_timeout(),
            Pen::Master(master) => {
                let import_waits = matches!(master.gate, Gate::Importing(_)) && !master.registered;
                master.gate.poll_timeout().filter(|_| !import_waits)
            }
        }
    }
}

impl Master {
    /// Keeps an input until the gate opens. Gives it back if it may be decided now.
    pub(super) fn hold(&mut self, input: Input) -> Option<Input> {
        match self.gate {
            Gate::Open => Some(input),
            Gate::Waiting(_) | Gate::Importing(_) => {
                if self.held.len() < HELD_MAX {
                    self.held.push_back(input);
                }
                None
            }
            Gate::Closed(_) => None,
        }
    }
}

impl MemberCore {
    pub(super) fn tick_pen(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        self.begin_generation_if_due(cx)?;
        let held = match &mut self.pen {
            Pen::Replica(replica) => {
                replica.tick(cx.now);
                return Ok(());
            }
            Pen::Master(master) => {
                master.gate.tick(cx.now);
                if master.gate != Gate::Open || std::mem::replace(&mut master.open, true) {
                    return Ok(());
                }
                std::mem::take(&mut master.held)
            }
        };
        self.enter_expulsions(cx)?;
        while self.decide_own(cx)? {}
        for input in held {
            match input {
                Input::Frame(conn, frame) => self.frame(cx, conn, *frame)?,
                Input::Local(token, command) => self.local(cx, token, command)?,
                _ => {}
            }
            // The next one is decided on what this one changed.
            self.drain_pen(cx)?;
        }
        Ok(())
    }

    pub(super) fn drain_pen(&mut self, cx: &mut Cx<'_>) -> Result<bool, DbError> {
        match &mut self.pen {
            Pen::Replica(_) => self.drain_replica(cx),
            Pen::Master(_) => self.drain_authority(cx),
        }
    }

    fn drain_authority(&mut self, cx: &mut Cx<'_>) -> Result<bool, DbError> {
        let mut moved = false;
        while let Pen::Master(master) = &mut self.pen
            && let Some(effect) = master.authority.poll_effect()
        {
            moved = true;
            self.carry_out(cx, effect)?;
        }
        self.show_head_if_due();
        Ok(moved)
    }

    fn carry_out(&mut self, cx: &mut Cx<'_>, effect: Effect) -> Result<(), DbError> {
        match effect {
            Effect::Append(entry, body) => {
                let me = self.master_id();
                self.store.apply(&entry, &body, me, true)?;
                self.applied(cx, &entry, &body)?;
            }
            Effect::Restate(entry, body) => {
                let me = self.master_id();
                self.store.apply(&entry, &body, me, false)?;
            }
            Effect::NewEpoch(epoch) => {
                self.store.keep_epoch(&epoch)?;
                let mut epochs = self.store.epochs()?;
                epochs.retain(|known| known.id != epoch.id);
                epochs.push(epoch);
                self.outputs.push(Output::Epochs(epochs));
            }
            Effect::CloseInvite(id) => self.store.drop_invite(&id)?,
            Effect::Record(id, last) => {
                self.store.keep_last_request(&id, last.number, &last.content, &last.answer)?;
            }
            Effect::Broadcast(header, body) => {
                if let Some(conn) = self.registered_conn() {
                    self.outputs.push(Output::Send(conn, Box::new(Frame::Broadcast { header, body })));
                }
                if let Pen::Master(master) = &mut self.pen {
                    master.head_due = true;
                }
            }
            Effect::Letter { to, seal, number, payload } => self.send_letter(to, seal, number, *payload),
            Effect::InvitesChanged => self.tell_invites(cx.wall_ms),
        }
        Ok(())
    }

    fn master_id(&self) -> Option<PublicId> {
        match &self.pen {
            Pen::Master(master) => Some(master.authority.id()),
            Pen::Replica(_) => self.me,
        }
    }

    fn show_head_if_due(&mut self) {
        let Some(conn) = self.registered_conn() else { return };
        if let Pen::Master(master) = &mut self.pen
            && std::mem::take(&mut master.head_due)
        {
            let head = master.authority.head([0; 16]);
            self.outputs.push(Output::Send(conn, Box::new(Frame::Head(head))));
        }
    }

    pub(super) fn tell_invites(&mut self, wall_ms: u64) {
        let Some(conn) = self.registered_conn() else { return };
        if let Pen::Master(master) = &self.pen {
            let open = master.authority.open_invites(wall_ms);
            self.outputs.push(Output::Send(conn, Box::new(Frame::OpenInvites(open))));
        }
    }

    /// The connection to a server that took this master.
    pub(super) fn registered_conn(&self) -> Option<crate::state::conn::ConnId> {
        match &self.pen {
            Pen::Master(master) if master.registered => self.link.current(),
            Pen::Master(_) | Pen::Replica(_) => None,
        }
    }

    /// Lets the authority decide something, if there is one.
    pub(super) fn with_authority<T>(
        &mut self,
        cx: &mut Cx<'_>,
        decide: impl FnOnce(&mut Authority, &mut Moment<'_>) -> T,
    ) -> Option<T> {
        match &mut self.pen {
            Pen::Master(master) => Some(decide(&mut master.authority, &mut cx.moment())),
            Pen::Replica(_) => None,
        }
    }

    /// What follows from an entry besides its rows, at the master and at every replica alike.
    pub(super) fn applied(&mut self, cx: &mut Cx<'_>, entry: &Entry, body: &Body) -> Result<(), DbError> {
        if let Some(change) = entry.header.expulsion() {
            let change = change.clone();
            self.cut_ties(cx, &change)?;
        }
        let tip = self.tip();
        self.uploads.roster_changed(cx.now, cx.random, &tip);
        self.announce(body)?;
        if let Body::FilesAdded { owner, .. } | Body::FilesChanged { owner, .. } = body
            && self.me == Some(*owner)
        {
            // Another copy of this device's directory may have made it: what lies here is to be asked for again.
            self.requests.wishes_changed(cx.now);
        }
        match body {
            Body::FilesChanged { .. }
            | Body::FileRemoved { .. }
            | Body::ClientDisapproved { .. }
            | Body::ClientLeft { .. } => {
                self.look_for_lost_transfers(cx)?;
                self.tidy_shares()?;
            }
            Body::PolicySet(policy) => self.policy_holds(policy),
            // The master's answer comes later, if at all: by then the master may have chosen yet another name.
            Body::ClientRenamed { .. } => self.drop_fulfilled_wish()?,
            Body::GroupBegun { .. }
            | Body::ClientRegistered { .. }
            | Body::ClientApproved { .. }
            | Body::FilesAdded { .. }
            | Body::EpochBegun(_) => {}
            Body::ServersSet(_) => self.servers_changed(cx)?,
        }
        Ok(())
    }

    fn announce(&mut self, body: &Body) -> Result<(), DbError> {
        let files = |owner: &PublicId, count: usize| {
            let name = self.roster().device(owner).map(|device| ("name", device.name.to_string()));
            [("owner", owner.to_string()), ("count", count.to_string())].into_iter().chain(name).collect::<Vec<_>>()
        };
        match body {
            Body::ClientRegistered { id: of, name } => {
                let mut detail = vec![("id", of.to_string()), ("name", name.to_string())];
                if let Some(device) = self.roster().device(of) {
                    detail.push(("code", device.code.clone()));
                }
                self.event("registered", detail);
            }
            Body::ClientApproved { id } => self.device_event("approved", id),
            Body::ClientRenamed { id, name } => {
                self.event("renamed", vec![("id", id.to_string()), ("name", name.to_string())]);
            }
            Body::PolicySet(policy) => {
                let [wait, continues] = [policy.wait(), policy.continue_for()].map(|time| time.as_secs().to_string());
                let detail = vec![("master_away_wait_s", wait), ("master_away_continue_s", continues)];
                self.event("policy_set", detail);
            }
            Body::ClientDisapproved { id } => self.device_event("disapproved", id),
            Body::ClientLeft { id } => self.device_event("left", id),
            Body::FilesAdded { owner, files: rows } => self.event("files_added", files(owner, rows.len())),
            Body::FilesChanged { owner, files: rows } => self.event("files_changed", files(owner, rows.len())),
            Body::FileRemoved { owner, files: rows } => {
                let mut detail = files(owner, rows.len());
                let taken_out = if self.me == Some(*owner) { self.store.taken_out(rows)? } else { 0 };
                if taken_out > 0 {
                    tracing::warn!(files = taken_out, "the master took files of this device out of the catalog");
                    detail.push(("by", "master".to_owned()));
                }
                self.event("files_removed", detail);
            }
            Body::GroupBegun { .. } | Body::ServersSet(_) | Body::EpochBegun(_) => {}
        }
        Ok(())
    }
}
