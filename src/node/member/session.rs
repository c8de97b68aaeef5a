//! One connection to the server: hello, welcome, what this device is there, and who is present.

use super::core::{Cx, MemberCore};
use super::io::{Lost, Output};
use super::opening::epochs_for_chunks;
use super::pen::Pen;
use crate::node::local::{ErrorCode, LocalError};
use crate::state::authority::Gate;
use crate::state::conn::ConnId;
use crate::state::link::{Effect, Ended};
use crate::state::sight::Sight;
use crate::store::member::DbError;
use crate::wire::close::CloseCode;
use crate::wire::envelope::{CatchUp, Letter, Payload};
use crate::wire::frame::{
    Class, Frame, HeldRegistration, Hello, MasterRefusal, MasterRegistered, PROTOCOL_VERSION, Present, Role, Tip,
    Welcome,
};
use crate::wire::ids::{DeviceKey, Position, PublicId, SealKey};
use crate::wire::limits::{HEADERS_PER_FRAME_MAX, MEMBERS_MAX};
use crate::wire::log::{Head, MembershipChange, SignedHead, SignedHeader, Standing, VerifiedHeader};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Chunk streams that the server may open towards this device.
pub(super) const STREAMS_MAX: u32 = 1_024;
/// What a device waits for that the server doesn't know.
const UNKNOWN: &str = "the server does not know this device; waiting for the master to come to it";
/// The same, if the device was registered: a master that came back from a backup may not have heard of it.
const FORGOTTEN: &str = "the group does not know this device any more: its master came back from a backup. If no member \
     tells it, ask the master's person for a new invite ('bailiwick invite') and start this device once with it: \
     'bailiwick client INVITE'";
/// Routed frames whose fate is remembered.
const ROUTED_REMEMBERED: usize = 256;

/// What a routed frame was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Request,
    CatchUp,
    Freshness,
    /// An offer to another member, who may be away.
    Offer,
    Other,
}

/// Whether a device is there, as the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Presence {
    pub(super) online: bool,
    /// When it was last seen, in milliseconds since 1970.
    pub(super) seen_ms: u64,
}

/// The state of one connection to the server.
#[derive(Default)]
pub(super) struct Session {
    pub(super) class: Option<Class>,
    pub(super) presence: HashMap<PublicId, Presence>,
    pub(super) master_online: bool,
    pub(super) dial_error: Option<String>,
    /// Where the server sees this device.
    pub(super) observed: Option<SocketAddr>,
    /// Where it sees this device by the other IP family.
    pub(super) sight: Sight,
    /// Who waits for an answer that brings it up to the log's head (master).
    pub(super) catching_up: Queue,
    number: u64,
    routed: HashMap<u64, Purpose>,
}

/// Catching-up answers go one at a time, each when the one before has left: a thousand members that come back together,
/// or one that asks all the time, never fill the master's connection. Who asks again keeps its place.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<(PublicId, CatchUp)>,
    pub(super) under_way: bool,
}

impl Queue {
    pub(super) fn push(&mut self, id: PublicId, asked: CatchUp) {
        match self.waiting.iter_mut().find(|(of, _)| *of == id) {
            Some((_, earlier)) => *earlier = asked,
            None => self.waiting.push_back((id, asked)),
        }
    }
}

impl Session {
    fn remember(&mut self, purpose: Purpose) -> u64 {
        self.number += 1;
        self.routed.insert(self.number, purpose);
        let oldest = self.number.saturating_sub(ROUTED_REMEMBERED as u64);
        self.routed.retain(|number, _| *number > oldest);
        self.number
    }

    pub(super) fn take_routed(&mut self, number: u64) -> Option<Purpose> {
        self.routed.remove(&number)
    }
}

impl MemberCore {
    /// What a core that was just opened does first.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        self.outputs.push(Output::Epochs(epochs_for_chunks(&self.pen, &self.store)?));
        self.go_on_leaving();
        self.tidy_shares()?;
        self.scan_all(cx)?;
        self.clear_leavings()?;
        self.look_again_at_jobs()?;
        self.settle(cx)
    }

    pub(super) fn drain_link(&mut self, cx: &mut Cx<'_>) -> bool {
        let mut moved = false;
        while let Some(effect) = self.link.poll_effect() {
            moved = true;
            match effect {
                Effect::Dial(attempt) => {
                    let server = self.server_to_dial(attempt);
                    self.outputs.push(Output::Dial(attempt, server));
                }
                Effect::Ping(conn, number) => self.send(conn, Frame::Ping(number)),
                Effect::Close(conn) => self.outputs.push(Output::Close(conn, CloseCode::Done)),
                Effect::Up(conn) => self.say_hello(conn),
                Effect::Down(conn) => self.session_over(cx, conn),
            }
        }
        moved
    }

    pub(super) fn send(&mut self, conn: ConnId, frame: Frame) {
        self.outputs.push(Output::Send(conn, Box::new(frame)));
    }

    fn say_hello(&mut self, conn: ConnId) {
        self.session = Session::default();
        let hello = Hello {
            version: PROTOCOL_VERSION,
            software: concat!("bailiwick ", env!("CARGO_PKG_VERSION")).to_owned(),
            role: if self.is_master() { Role::Master } else { Role::Client },
            group: self.group.id(),
            head: self.own_head(),
        };
        self.send(conn, Frame::Hello(hello));
    }

    /// The newest head that this device can show.
    pub(super) fn own_head(&self) -> Option<SignedHead> {
        match &self.pen {
            // An imported master shows nothing of the old log: so the server shows it all that there is.
            Pen::Master(_) if self.is_importing() => None,
            Pen::Master(master) => Some(master.authority.head([0; 16])),
            Pen::Replica(replica) => replica.head().cloned(),
        }
    }

    fn session_over(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.session = Session::default();
        if let Pen::Master(master) = &mut self.pen {
            master.registered = false;
        }
        self.downloads.linked(cx.now, false);
        self.uploads.forget_held(conn);
        self.master_present(cx, false);
        self.event("disconnected", Vec::new());
    }

    pub(super) fn conn_lost(&mut self, cx: &mut Cx<'_>, conn: ConnId, lost: Lost) {
        if self.paths.peer_of(conn).is_some() {
            if lost == Lost::Broken {
                // A NAT that forgot this way may have forgotten the one to the server, and only what this device sends
                // opens it again.
                self.link.doubt(cx.now);
            }
            return self.straight_over(cx, conn);
        }
        let replaced = lost == Lost::Closed(CloseCode::Replaced);
        if self.link.current() == Some(conn)
            && let Lost::Closed(code) = lost
        {
            self.session.dial_error = Some(code.to_string());
        }
        self.link.lost(cx.now, cx.random, conn, replaced);
    }

    pub(super) fn welcomed(&mut self, cx: &mut Cx<'_>, conn: ConnId, welcome: Welcome) -> Result<(), DbError> {
        let again = self.session.class.is_some();
        self.session.class = Some(welcome.class);
        tracing::info!(class = ?welcome.class, server = welcome.software, "the server answered");
        if again {
            self.downloads.linked(cx.now, false);
        }
        self.session.observed = Some(welcome.observed);
        self.addresses_changed(cx);
        if let Some(head) = &welcome.head {
            self.head_shown(cx, head)?;
        }
        match welcome.class {
            Class::Stranger => self.register(conn),
            Class::Registered => {
                self.link.admitted();
                if self.registration.is_none() {
                    self.register(conn);
                }
            }
            Class::Approved => {
                self.let_in(cx, conn);
                self.show_fork(conn)?;
                self.show_unlogged_expulsions()?;
            }
            Class::Unsettled => self.show_headers(conn, welcome.tip)?,
            Class::Expelled => self.link.admitted(),
            Class::UnknownGroup => {
                self.held_because =
                    Some("the server does not know the group; waiting for the master to come to it".to_owned());
            }
            Class::Master => {
                let admission = self.group.admission;
                self.send(conn, Frame::MasterRegister { admission });
            }
        }
        Ok(())
    }

    fn let_in(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.link.admitted();
        self.held_because = None;
        self.session.dial_error = None;
        self.begin_sight(cx, conn);
        if !self.wishes.is_leaving() {
            self.outputs.push(Output::Streams(conn, self.group.id(), STREAMS_MAX));
            self.downloads.linked(cx.now, true);
        }
        self.event("connected", Vec::new());
    }

    fn register(&mut self, conn: ConnId) {
        let Some(secret) = self.group.invite else {
            self.held_because = Some(if self.me.is_some() { FORGOTTEN } else { UNKNOWN }.to_owned());
            return;
        };
        self.held_because = Some("waiting for the master".to_owned());
        let payload = Payload::ClientRegister { secret, seal: self.identity.seal_key(), name: self.name.clone() };
        let letter = Letter { from: self.key, to: self.group.master, number: 0, head: None, payload };
        let envelope = letter.seal(&self.identity, &self.group.id(), &self.group.seal);
        let number = self.session.remember(Purpose::Other);
        self.send(conn, Frame::ClientRegister { from: self.key, invite: secret.id(), number, envelope });
    }

    pub(super) fn registration_held(&mut self, why: HeldRegistration) {
        self.held_because = Some(why.to_string());
        if why == HeldRegistration::InviteNotOpen && self.registration.is_none() {
            self.fatal(
                ErrorCode::Refused,
                why.to_string(),
                "ask the master's person for a new invite ('bailiwick invite')",
            );
        }
    }

    pub(super) fn fatal(&mut self, code: ErrorCode, error: String, hint: &str) {
        self.outputs.push(Output::Fatal(LocalError::new(code, error, hint)));
    }

    /// Shows the server the membership headers after `tip`, and the newest head.
    pub(super) fn show_headers(&mut self, conn: ConnId, tip: Option<Tip>) -> Result<(), DbError> {
        let after = match tip {
            Some(tip) if self.store.has_membership(tip.at, &tip.hash)? => tip.at,
            Some(_) | None => Position::default(),
        };
        let mut headers = self.store.membership_after(after)?;
        let known: Vec<SignedHeader> =
            self.store.expulsions()?.into_iter().filter(|one| !headers.contains(one)).collect();
        headers.extend(known);
        for page in headers.chunks(HEADERS_PER_FRAME_MAX) {
            self.send(conn, Frame::Headers(page.to_vec()));
        }
        if let Some(head) = self.own_head() {
            self.send(conn, Frame::Head(head));
        }
        self.show_fork(conn)
    }

    /// W1: the server took this master, or not.
    pub(super) fn master_registered(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        outcome: Result<MasterRegistered, MasterRefusal>,
    ) -> Result<(), DbError> {
        let config = self.config.gate;
        let registered = match outcome {
            Ok(registered) => registered,
            Err(refusal) => {
                self.held_because = Some(refusal.to_string());
                // A master that was taken before stays, and says what it needs.
                if self.store.get::<DeviceKey>("registered_at")?.is_none() {
                    let hint = "start the master with --server and the server's present ticket";
                    self.fatal(ErrorCode::Refused, refusal.to_string(), hint);
                }
                return Ok(());
            }
        };
        self.store.set("registered_at", &self.group.server.key)?;
        if let Pen::Master(master) = &mut self.pen {
            master.gate.server_took_import(cx.now, &self.config.import);
            master.registered = true;
            master.head_due = false;
        }
        if let Some(head) = &registered.head {
            self.head_shown(cx, head)?;
        }
        if let Pen::Master(master) = &mut self.pen {
            let knew = registered.tip.is_some() || registered.head.is_some();
            master.gate.server_answered(knew, Duration::from_millis(registered.up_ms), &config);
        }
        if !self.is_importing() {
            self.show_headers(conn, registered.tip)?;
            self.tell_invites(cx.wall_ms);
        }
        self.let_in(cx, conn);
        self.session.master_online = true;
        Ok(())
    }

    pub(super) fn present(&mut self, cx: &mut Cx<'_>, list: Vec<Present>) {
        for Present { id, online, since_ms } in list {
            let is_new = !self.session.presence.contains_key(&id);
            if is_new && self.session.presence.len() >= MEMBERS_MAX {
                continue;
            }
            let seen_ms = cx.wall_ms.saturating_sub(since_ms);
            let before = self.session.presence.insert(id, Presence { online, seen_ms });
            let is_master = self.roster().device(&id).is_some_and(|device| device.key == self.group.master);
            if before.map(|before| before.online) != Some(online) && before.is_some() {
                self.device_event(if online { "online" } else { "away" }, &id);
            }
            // One that was online all the time is said to be so when it has another connection.
            if online {
                let key = self.roster().device(&id).map(|device| device.key);
                key.into_iter().for_each(|key| self.paths.came_back(cx.now, &key));
            }
            self.downloads.presence(cx.now, id, online);
            if is_master && self.session.master_online != online {
                self.master_present(cx, online);
            }
        }
        // A member that has no roster yet can't tell who of them is the master; it asks all the same.
        if self.roster().devices().next().is_none() && !self.session.master_online {
            self.master_present(cx, true);
        }
    }

    /// The way to the master is open, or not.
    pub(super) fn master_present(&mut self, cx: &mut Cx<'_>, present: bool) {
        if self.is_master() {
            return;
        }
        let approved = self.session.class == Some(Class::Approved);
        let changed = self.session.master_online != present;
        self.session.master_online = present;
        if let Pen::Replica(replica) = &mut self.pen {
            replica.master_reachable(cx.now, present && approved);
        }
        self.uploads.master_reachable(cx.now, cx.random, present && approved);
        self.requests.ready(cx.now, false, self.pen.tip().at);
        self.refresh_requests(cx);
        if changed {
            self.event(if present { "master_back" } else { "master_away" }, Vec::new());
        }
    }

    pub(super) fn head_shown(&mut self, cx: &mut Cx<'_>, head: &SignedHead) -> Result<(), DbError> {
        self.note_head(head)?;
        match &mut self.pen {
            Pen::Replica(replica) => {
                let counts = replica.head_shown(cx.now, head);
                if let Ok(head) = head.verify(&self.group.master)
                    && counts
                {
                    self.uploads.head_shown(&head, self.pen.tip());
                }
            }
            Pen::Master(_) => {
                if let Ok(head) = head.verify(&self.key) {
                    self.signed_elsewhere(&head)?;
                }
            }
        }
        self.refresh_requests(cx);
        Ok(())
    }

    /// A place of the log that this master signed, here or in another copy: if it is not in this one, nothing more is
    /// signed here.
    fn signed_elsewhere(&mut self, head: &Head) -> Result<(), DbError> {
        let Pen::Master(master) = &mut self.pen else { return Ok(()) };
        let own = *master.authority.tip();
        let was = master.gate;
        master.gate.head_shown(head, &own, self.store.header_hash(head.at)?);
        if let (Gate::Closed(stale), false) = (master.gate, was == master.gate) {
            tracing::error!("{stale}");
            // Also at its next start, whoever can tell it then.
            self.store.set("stale", &stale)?;
            self.event("stopped_signing", vec![("why", stale.to_string())]);
        }
        Ok(())
    }

    /// Headers that the server shows: where this device stands, and who was expelled.
    pub(super) fn headers_shown(&mut self, cx: &mut Cx<'_>, headers: Vec<SignedHeader>) -> Result<(), DbError> {
        for header in headers {
            let Ok(header) = header.verify(&self.group.master) else { continue };
            self.header_beside_own(&header)?;
            let Some(change) = header.header().membership.clone() else { continue };
            self.note_header(&header)?;
            self.registered(header.signed().clone())?;
            if change.standing.is_final() {
                match &mut self.pen {
                    Pen::Replica(replica) => replica.headers_shown(vec![header.signed().clone()]),
                    Pen::Master(_) => self.expulsion_shown(cx, &header)?,
                }
            }
        }
        Ok(())
    }

    /// Another copy of this master signed something else where its own log holds a header, or further on than it: both
    /// must not go on.
    fn header_beside_own(&mut self, shown: &VerifiedHeader) -> Result<(), DbError> {
        let (at, own) = (shown.header().at, self.tip());
        let held = self.store.header_hash(at)?.or((own.at == at).then_some(own.header));
        if at <= own.at && held.is_none_or(|held| held == shown.hash()) {
            return Ok(());
        }
        let (header, membership) = (shown.hash(), shown.membership_hash());
        self.signed_elsewhere(&Head { group: shown.header().group, at, header, membership, nonce: [0; 16] })
    }

    /// Somebody shows this master an expulsion. It counts at once; it is entered in the log as soon as this copy may sign.
    fn expulsion_shown(&mut self, cx: &mut Cx<'_>, header: &VerifiedHeader) -> Result<(), DbError> {
        let Some(change) = header.expulsion() else { return Ok(()) };
        self.store.keep_expulsion(&change.device, header)?;
        let may_sign = matches!(&self.pen, Pen::Master(master) if master.gate == Gate::Open);
        self.with_authority(cx, |authority, moment| {
            if may_sign { authority.expulsion_shown(moment, header) } else { authority.expelled_ahead(header) }
        });
        Ok(())
    }

    /// What was shown while this copy might not sign.
    pub(super) fn enter_expulsions(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        for header in self.store.expulsions()? {
            if let Ok(header) = header.verify(&self.key) {
                self.with_authority(cx, |authority, moment| authority.expulsion_shown(moment, &header));
            }
        }
        Ok(())
    }

    /// W4: a header of the master names this device. The one that registers it gives the short code.
    pub(super) fn registered(&mut self, header: SignedHeader) -> Result<(), DbError> {
        let Ok(verified) = header.clone().verify(&self.group.master) else { return Ok(()) };
        let Some(MembershipChange { id, device, seal, standing, .. }) = verified.header().membership.clone() else {
            return Ok(());
        };
        if device != self.key || seal != self.identity.seal_key() || standing.is_final() {
            return Ok(());
        }
        let place = |header: &SignedHeader| header.clone().verify(&self.group.master).ok().map(|one| one.header().at);
        // A log that began anew registers it anew, with another code, and perhaps by another id.
        let is_newer = self.registration.as_ref().and_then(place) < Some(verified.header().at);
        let registers = standing == Standing::Registered && is_newer;
        if self.me.is_none() || (registers && self.me != Some(id)) {
            self.held_because = None;
            self.me = Some(id);
            self.store.set("me", &id)?;
        }
        if registers {
            self.store.set("registration", &header)?;
            self.registration = Some(header);
            self.group.invite = None;
            self.store.set("group", &self.group)?;
            self.event("registered", vec![("id", id.to_string()), ("code", verified.short_code())]);
        }
        Ok(())
    }

    /// A device is out, for ever: nothing of it is served or fetched any more. If it is this one, everything stops.
    pub(super) fn cut_ties(&mut self, cx: &mut Cx<'_>, change: &MembershipChange) -> Result<(), DbError> {
        self.downloads.presence(cx.now, change.id, false);
        if change.device != self.key {
            return Ok(());
        }
        self.downloads.linked(cx.now, false);
        self.give_everything_up(cx)?;
        self.requests.ready(cx.now, false, self.pen.tip().at);
        self.uploads.master_away();
        self.link.end(Ended::Expelled);
        if let Some(conn) = self.link.current() {
            self.send(conn, Frame::ExpulsionRead);
        }
        let event = if change.standing == Standing::Left { "left" } else { "disapproved" };
        self.event(event, vec![("id", change.id.to_string()), ("self", "true".to_owned())]);
        self.out_for_ever();
        Ok(())
    }

    /// Signs, seals and sends a letter, if there is a connection to send it on.
    pub(super) fn send_letter(&mut self, to: DeviceKey, seal: SealKey, number: u64, payload: Payload) {
        if let Some((conn, frame)) = self.letter(to, seal, number, payload) {
            self.send(conn, frame);
        }
    }

    pub(super) fn letter(
        &mut self,
        to: DeviceKey,
        seal: SealKey,
        number: u64,
        payload: Payload,
    ) -> Option<(ConnId, Frame)> {
        let conn = self.link.current()?;
        let purpose = match &payload {
            Payload::Request { .. } => Purpose::Request,
            Payload::CatchUp(_) => Purpose::CatchUp,
            Payload::FreshnessAsked(_) => Purpose::Freshness,
            Payload::PathOffer(_) => Purpose::Offer,
            _ => Purpose::Other,
        };
        let letter = Letter { from: self.key, to, number, head: self.own_head(), payload };
        let envelope = letter.seal(&self.identity, &self.group.id(), &seal);
        let number = self.session.remember(purpose);
        Some((conn, Frame::Routed { peer: to, number, envelope }))
    }

    /// Sends a letter to the master.
    pub(super) fn tell_master(&mut self, number: u64, payload: Payload) {
        self.send_letter(self.group.master, self.group.seal, number, payload);
    }
}
