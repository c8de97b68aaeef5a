//! Straight ways to other members (W24): the machine's wishes carried out, and what comes on such a connection.
//!
//! Nothing of a file goes to who is no member by this device's own roster; both devices show their newest head first.

use super::core::{Cx, MemberCore};
use super::io::Output;
use super::pen::Pen;
use super::session::STREAMS_MAX;
use crate::state::conn::ConnId;
use crate::state::paths::Effect;
use crate::state::paths::candidates::usable;
use crate::state::random::draw;
use crate::state::time::Time;
use crate::state::uploads::Asked;
use crate::store::member::DbError;
use crate::wire::close::CloseCode;
use crate::wire::envelope::{PathOffer, Payload};
use crate::wire::frame::{Frame, PeerHello};
use crate::wire::ids::{DeviceKey, PublicId};
use crate::wire::probe::Probe;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// For who wants to know in full why two devices are relayed, or how long they took. Tokens stay unsaid.
fn trace(effect: &Effect) {
    match effect {
        Effect::Offer(to, offer) => tracing::debug!(?to, answer = offer.answer, "offering a straight way"),
        Effect::Probe(to, Probe::Ping { number, .. }) => tracing::trace!(%to, number, "ping"),
        Effect::Probe(to, Probe::Pong { number, .. }) => tracing::trace!(%to, number, "pong"),
        Effect::Ping(conn, _) => tracing::trace!(conn = conn.0, "asking whether it is there"),
        effect => tracing::debug!(?effect, "straight way"),
    }
}

impl MemberCore {
    pub(super) fn drain_paths(&mut self, cx: &mut Cx<'_>) -> bool {
        let mut moved = false;
        while let Some(effect) = self.paths.poll_effect() {
            moved = true;
            trace(&effect);
            match effect {
                Effect::Offer(to, offer) => self.send_offer(&to, offer),
                Effect::Probe(to, probe) => self.outputs.push(Output::Probe(to, probe)),
                Effect::Dial(dial, to, address) => self.outputs.push(Output::DialPeer(dial, to, address)),
                Effect::Close(conn) => self.close_straight(cx, conn, CloseCode::Done),
                Effect::Ping(conn, now) => self.send(conn, Frame::Ping(now.0)),
                // Of two that end together the second one counted in between.
                Effect::Up(peer, conn) if self.paths.current(&peer) != Some(conn) => {}
                Effect::Up(peer, conn) => self.way_changed(cx, &peer, Some(conn)),
                Effect::Down(peer) => self.way_changed(cx, &peer, None),
                Effect::MapPort(asks) => self.outputs.push(Output::MapPort(asks)),
            }
        }
        moved
    }

    fn send_offer(&mut self, to: &DeviceKey, offer: PathOffer) {
        if let Some((key, seal)) = self.roster().by_key(to).map(|device| (device.key, device.seal)) {
            self.send_letter(key, seal, 0, Payload::PathOffer(offer));
        }
    }

    fn way_changed(&mut self, cx: &mut Cx<'_>, peer: &DeviceKey, conn: Option<ConnId>) {
        let Some(id) = self.roster().by_key(peer).map(|device| device.id) else { return };
        self.downloads.straight(cx.now, id, conn);
        self.device_event(if conn.is_some() { "direct" } else { "relayed" }, &id);
    }

    fn close_straight(&mut self, cx: &mut Cx<'_>, conn: ConnId, code: CloseCode) {
        self.outputs.push(Output::Close(conn, code));
        self.straight_over(cx, conn);
    }

    /// What was under way on a straight connection is over.
    pub(super) fn straight_over(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.paths.lost(cx.now, conn);
        self.downloads.straight_lost(cx.now, conn);
        self.uploads.forget_held(conn);
    }

    /// A device of the roster that may be met straight.
    pub(super) fn is_met(&self, key: &DeviceKey) -> bool {
        *key != self.key && self.roster().is_member(key)
    }

    /// Whether this device takes part in the group, by what it knows itself: the server may be away.
    fn takes_part(&self) -> bool {
        let closed = match &self.pen {
            Pen::Master(_) => !self.may_answer(),
            Pen::Replica(replica) => replica.stopped().is_some(),
        };
        // Another process has its place, or it is out.
        let ended = self.link.ended().is_some();
        !closed && !ended && !self.wishes.is_leaving() && self.roster().is_member(&self.key)
    }

    pub(super) fn peer_arrived(&mut self, cx: &mut Cx<'_>, conn: ConnId, key: DeviceKey) {
        tracing::debug!(?key, conn = conn.0, "a device dialled straight");
        if self.takes_part() && self.is_met(&key) {
            self.paths.accepted(cx.now, key, conn);
        } else {
            self.outputs.push(Output::Close(conn, CloseCode::NotAdmitted));
        }
    }

    pub(super) fn peer_dialed(&mut self, cx: &mut Cx<'_>, dial: u64, conn: ConnId) {
        tracing::debug!(dial, conn = conn.0, "a straight dial was answered");
        self.paths.dialed(cx.now, dial, conn);
        if self.paths.peer_of(conn).is_some() {
            self.outputs.push(Output::PeerHello(conn, self.group.id(), self.own_head()));
        }
    }

    pub(super) fn peer_dial_failed(&mut self, cx: &mut Cx<'_>, dial: u64, why: String) {
        tracing::debug!(dial, why, "a straight dial failed");
        self.paths.dial_failed(cx.now, dial, why);
    }

    pub(super) fn peer_probe(&mut self, cx: &mut Cx<'_>, from: SocketAddr, probe: Probe) {
        let (Probe::Ping { number, .. } | Probe::Pong { number, .. }) = probe;
        tracing::trace!(%from, number, pong = matches!(probe, Probe::Pong { .. }), "a probe came");
        self.paths.probe_came(cx.now, from, probe);
    }

    pub(super) fn offer_came(&mut self, cx: &mut Cx<'_>, from: DeviceKey, offer: &PathOffer) {
        tracing::debug!(?from, answer = offer.answer, candidates = ?offer.candidates, "an offer of a straight way");
        if self.takes_part() && self.is_met(&from) {
            self.paths.offer_came(cx.now, cx.random, from, offer);
        }
    }

    /// Something that a member says on a straight connection.
    pub(super) fn peer_frame(&mut self, cx: &mut Cx<'_>, conn: ConnId, frame: Frame) -> Result<(), DbError> {
        let Some((peer, verified)) = self.paths.peer_of(conn) else { return Ok(()) };
        if !self.takes_part() || !self.is_met(&peer) {
            self.close_straight(cx, conn, CloseCode::NotAdmitted);
            return Ok(());
        }
        match frame {
            Frame::PeerHello(hello) if !verified => self.peer_hello(cx, conn, &hello)?,
            Frame::UploadChunk { request, ranges } if verified => {
                self.paths.used(cx.now, conn);
                self.upload_asked(cx, Asked { conn, straight: true, request, ranges })?;
            }
            Frame::ChunkRefused { request, ranges, reason } if verified => {
                if self.downloads.way_of(request) == Some(conn) {
                    self.chunks_refused(cx, request, &ranges, reason);
                }
            }
            Frame::CancelChunk { request, ranges } if verified => self.upload_cancelled(conn, request, ranges),
            Frame::Head(head) if verified => self.head_shown(cx, &head)?,
            // Who reads the connection has answered it.
            Frame::Ping(_) if verified => {}
            Frame::Pong(asked) if verified => self.paths.answered(cx.now, conn, Time(asked)),
            // It was written by who reads the connection, ahead of the hello.
            Frame::Pong(_) if self.paths.is_dialled(conn) => {}
            _ => {
                tracing::warn!("a member sent something that has no place on a straight connection");
                self.close_straight(cx, conn, CloseCode::Protocol);
            }
        }
        Ok(())
    }

    fn peer_hello(&mut self, cx: &mut Cx<'_>, conn: ConnId, hello: &PeerHello) -> Result<(), DbError> {
        if hello.group != self.group.id() {
            self.close_straight(cx, conn, CloseCode::Protocol);
            return Ok(());
        }
        if let Some((peer, _)) = self.paths.peer_of(conn) {
            self.paths.seen_by(peer, hello.observed);
        }
        if let Some(head) = &hello.head {
            self.head_shown(cx, head)?;
        }
        if !self.paths.is_dialled(conn) {
            self.outputs.push(Output::PeerHello(conn, self.group.id(), self.own_head()));
        }
        self.outputs.push(Output::PeerStreams(conn, self.group.id(), STREAMS_MAX));
        self.paths.verified(cx.now, conn);
        Ok(())
    }

    /// The interfaces have other addresses than before. If one is gone, the server sees this device elsewhere now, unless it
    /// is on this machine, and says where on a new connection; what is under way goes on by the present one until then, if
    /// that lives.
    pub(super) fn interfaces_changed(&mut self, cx: &mut Cx<'_>, addresses: Vec<SocketAddr>) {
        let before = usable(std::mem::replace(&mut self.addresses, addresses), false);
        let is_gone = |old: &SocketAddr| !self.addresses.contains(old);
        match before.iter().any(is_gone) && !self.is_servers_machine() {
            _ if before.is_empty() => {}
            true => self.link.moved(cx.now),
            false => self.link.doubt(cx.now),
        }
        // The other IP family may be one of those that have come.
        if let Some(conn) = self.link.current().filter(|_| self.is_let_in() && !self.session.sight.asks()) {
            self.begin_sight(cx, conn);
        }
        self.addresses_changed(cx);
    }

    /// The router says what it does.
    pub(super) fn port_mapped(&mut self, cx: &mut Cx<'_>, address: Option<SocketAddr>) {
        self.paths.mapped(address);
        self.addresses_changed(cx);
    }

    /// Whether the server is on this machine, as it says itself.
    fn is_servers_machine(&self) -> bool {
        self.session.observed.is_some_and(|observed| observed.ip().to_canonical().is_loopback())
    }

    /// This device's addresses, as it sees them and as the server does.
    pub(super) fn addresses_changed(&mut self, cx: &mut Cx<'_>) {
        let (observed, other) = (self.session.observed, self.session.sight.seen());
        let loopback = self.is_servers_machine();
        let addresses: Vec<SocketAddr> =
            observed.into_iter().chain(other).chain(self.addresses.iter().copied()).collect();
        // What IPv4 looks like tells more of a NAT.
        let telling = [observed, other].into_iter().flatten().min_by_key(|seen| seen.ip().to_canonical().is_ipv6());
        self.paths.placed(self.addresses.iter().map(SocketAddr::ip), telling);
        self.paths.addresses(cx.now, addresses, loopback);
    }

    /// Asks the server where it sees this device by the IP family that the connection to it does not use.
    pub(super) fn begin_sight(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let Some(observed) = self.session.observed.filter(|_| self.config.paths.enabled) else { return };
        let token = draw(cx.random);
        if self.session.sight.begin(cx.now, token, observed, &self.addresses) {
            self.send(conn, Frame::Sight(token));
        }
    }

    pub(super) fn tick_sight(&mut self, cx: &mut Cx<'_>) {
        if let (Some(conn), Some((probe, six))) = (self.link.current(), self.session.sight.due(cx.now)) {
            self.outputs.push(Output::ProbeServer(conn, six, probe));
        }
    }

    /// Lets the machine know whom to reach, and who is out.
    pub(super) fn tick_paths(&mut self, cx: &mut Cx<'_>) {
        if !self.config.paths.enabled {
            return self.paths.tick(cx.now, cx.random);
        }
        let out: Vec<DeviceKey> = self.paths.peers().filter(|key| !self.is_met(key)).copied().collect();
        let takes_part = self.takes_part();
        self.announce_nearby(cx, takes_part);
        let gone = if takes_part { out } else { self.paths.peers().copied().collect() };
        for key in gone {
            for conn in self.paths.connections_of(&key) {
                self.close_straight(cx, conn, CloseCode::NotAdmitted);
            }
            self.paths.expel(&key);
        }
        self.show_membership();
        let signalling = takes_part && self.is_let_in() && self.link.current().is_some();
        self.paths.signalling(signalling);
        let wanted: BTreeSet<DeviceKey> =
            self.downloads.owners().iter().filter_map(|owner| self.reachable_key(owner)).collect();
        self.paths.wanted(cx.now, cx.random, &wanted);
        self.paths.tick(cx.now, cx.random);
    }

    /// Who is met straight is shown a newer membership at once: it may hear nothing of it elsewhere.
    fn show_membership(&mut self) {
        let membership = self.tip().membership;
        if std::mem::replace(&mut self.shown_membership, membership) != membership
            && let Some(head) = self.own_head()
        {
            for conn in self.paths.verified_connections() {
                self.send(conn, Frame::Head(head.clone()));
            }
        }
    }

    fn reachable_key(&self, owner: &PublicId) -> Option<DeviceKey> {
        let key = self.roster().device(owner).map(|device| device.key).filter(|key| self.is_met(key))?;
        let online = self.session.presence.get(owner).is_some_and(|presence| presence.online);
        (online || self.paths.current(&key).is_some() || self.paths.is_near(&key)).then_some(key)
    }
}
