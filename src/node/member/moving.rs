//! The group changes its server. The master tells its members in the log, through the old server if that is there, and goes
//! over; they follow when it has left. A member forgets the old server only once it has met the master at the new one.

use super::core::{Cx, MemberCore};
use super::pen::Pen;
use crate::state::authority::Gate;
use crate::state::time::Time;
use crate::store::member::DbError;
use crate::wire::invite::{ServerAddress, Ticket};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a master tries the old server before it goes to the new one untold.
const MOVE_PATIENCE: Duration = Duration::from_secs(15);
/// How long it stays there after it has told: who missed the entry asks for it within three seconds.
const MOVE_GRACE: Duration = Duration::from_secs(5);
/// How long a member that knows two servers waits for the master at one before it tries the other.
const TRY_EACH: Duration = Duration::from_secs(30);
/// Dials whose server is remembered.
const DIALS_REMEMBERED: usize = 8;

/// Where a member is to be, and where it is.
#[derive(Default)]
pub(super) struct Servers {
    /// The servers that the log names.
    named: Vec<ServerAddress>,
    /// The server that each of the last dials went to.
    dials: BTreeMap<u64, ServerAddress>,
    /// The server of the present connection.
    at: Option<ServerAddress>,
    /// Whether the next dial goes to the server that the log names rather than to the one of before.
    named_next: bool,
    /// Whether the master was there when it was last looked.
    master_met: bool,
    /// When it tries the other one.
    try_other: Option<Time>,
    /// A master's new server.
    pub(super) moving: Option<Moving>,
}

/// A master on its way to another server.
pub(super) struct Moving {
    to: Ticket,
    /// When it goes, told or not.
    go_at: Time,
    told: bool,
}

impl Servers {
    /// What the log says, and where a master was told to go.
    pub(super) fn new(named: Vec<ServerAddress>, moving: Option<Ticket>, now: Time) -> Servers {
        let moving = moving.map(|to| Moving { to, go_at: now.after(MOVE_PATIENCE), told: false });
        Servers { named, moving, named_next: true, ..Servers::default() }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.moving.as_ref().map(|moving| moving.go_at).into_iter().chain(self.try_other).min()
    }

    /// What the person at a master reads meanwhile.
    pub(super) fn waiting(&self) -> Option<&'static str> {
        self.moving.as_ref().map(|moving| match moving.told {
            true => "telling the members of the new server, and going there in a moment",
            false => "trying the old server, to tell the members of the new one",
        })
    }
}

impl MemberCore {
    /// The server that the log names, if this client uses another one.
    fn other_server(&self) -> Option<&ServerAddress> {
        let is_client = !self.is_master();
        self.servers.named.first().filter(|named| is_client && **named != self.group.server)
    }

    /// Where the next dial goes.
    pub(super) fn server_to_dial(&mut self, attempt: u64) -> ServerAddress {
        let server = match self.other_server().cloned() {
            Some(named) if self.servers.named_next => named,
            Some(_) | None => self.group.server.clone(),
        };
        self.servers.named_next = !self.servers.named_next;
        self.servers.dials.insert(attempt, server.clone());
        while self.servers.dials.len() > DIALS_REMEMBERED {
            self.servers.dials.pop_first();
        }
        server
    }

    /// A dial succeeded.
    pub(super) fn dialed_server(&mut self, attempt: u64) {
        self.servers.at = self.servers.dials.get(&attempt).cloned();
    }

    /// The log names other servers, or a snapshot of it may.
    pub(super) fn servers_changed(&mut self, cx: &Cx<'_>) -> Result<(), DbError> {
        self.servers.named = self.store.get("servers")?.unwrap_or_default();
        self.servers.named_next = true;
        if self.other_server().is_some() && !self.session.master_online {
            self.servers.try_other = Some(cx.now);
        }
        Ok(())
    }

    /// Time passes, and the master was met at the present connection's server, or has left it.
    pub(super) fn tick_servers(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        let present = self.session.master_online;
        let left = std::mem::replace(&mut self.servers.master_met, present) && !present;
        if present {
            self.forget_old_server()?;
        }
        let waits = self.other_server().is_some() && !present && self.link.current().is_some();
        match self.servers.try_other.filter(|_| waits) {
            Some(at) if at <= cx.now => {
                self.servers.try_other = None;
                self.link.redial(cx.now);
            }
            Some(at) => self.servers.try_other = Some(at),
            None if waits && left => self.servers.try_other = Some(cx.now),
            None => self.servers.try_other = waits.then(|| cx.now.after(TRY_EACH)),
        }
        self.name_own_server(cx)?;
        self.move_if_due(cx)
    }

    fn forget_old_server(&mut self) -> Result<(), DbError> {
        let here = self.other_server().filter(|named| Some(*named) == self.servers.at.as_ref()).cloned();
        let Some(server) = here else { return Ok(()) };
        tracing::info!("the group has another server now");
        self.group.server = server;
        self.store.set("group", &self.group)?;
        self.event("server_changed", Vec::new());
        Ok(())
    }

    /// A log that names a server names the one that the master is at, or is about to go to.
    fn name_own_server(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        let may_sign = matches!(&self.pen, Pen::Master(master) if master.gate == Gate::Open && master.registered);
        let target = self.servers.moving.as_ref().map(|moving| moving.to.server.clone());
        let is_silent = target.is_none() && self.servers.named.is_empty();
        let target = target.unwrap_or_else(|| self.group.server.clone());
        if !may_sign || is_silent {
            return Ok(());
        }
        if self.servers.named != [target.clone()] {
            self.servers.named = vec![target.clone()];
            self.with_authority(cx, |authority, moment| authority.set_servers(moment, vec![target]));
            self.drain_pen(cx)?;
        }
        if let Some(moving) = self.servers.moving.as_mut().filter(|moving| !moving.told) {
            moving.told = true;
            moving.go_at = cx.now.after(MOVE_GRACE);
        }
        Ok(())
    }

    fn move_if_due(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        let Pen::Master(master) = &self.pen else { return Ok(()) };
        // Who is there and may not sign yet stays until it may.
        let stays = master.registered && matches!(master.gate, Gate::Waiting(_) | Gate::Importing(_));
        let is_closed = matches!(master.gate, Gate::Closed(_));
        let Some(moving) = self.servers.moving.as_mut().filter(|moving| moving.go_at <= cx.now) else { return Ok(()) };
        if is_closed || (stays && !moving.told) {
            moving.go_at = cx.now.after(MOVE_GRACE);
            return Ok(());
        }
        let Some(Moving { to, .. }) = self.servers.moving.take() else { return Ok(()) };
        self.group.server = to.server;
        self.group.admission = Some(to.admission);
        self.store.set("group", &self.group)?;
        self.held_because = None;
        self.with_authority(cx, |authority, _| authority.revoke_all_invites());
        self.drain_pen(cx)?;
        self.link.redial(cx.now);
        self.event("server_changed", Vec::new());
        Ok(())
    }
}
