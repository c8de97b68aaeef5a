//! What is shown to the server of a log: headers and heads. Each is checked; what is new is stored before anybody hears
//! of it, and whoever it concerns is placed anew.

use super::membership::{Record, Shown, Taken};
use super::peer::Phase;
use super::{Effect, Router};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::close::CloseCode;
use crate::wire::codec::decode;
use crate::wire::frame::Frame;
use crate::wire::ids::{DeviceKey, GroupId, InviteId, Position};
use crate::wire::limits::{HEADERS_PER_FRAME_MAX, INVITES_MAX};
use crate::wire::log::{Header, NotTheMasters, SignedHead, SignedHeader, VerifiedHeader};
use crate::wire::seal::SealedBody;
use std::collections::BTreeSet;

/// Different heads of devices that are not approved which a master is shown when it comes: one tells enough.
const HEADS_SHOWN_MAX: usize = 64;

/// What a frame of headers changed.
#[derive(Default)]
struct News {
    records: Vec<Record>,
    concerned: BTreeSet<DeviceKey>,
    /// A generation began: what the chain said of anybody may be gone.
    concerns_all: bool,
    expulsions: Vec<SignedHeader>,
    /// What else the chain was extended by, and headers that change no membership: the master alone can tell whether they
    /// are of its log.
    others: Vec<SignedHeader>,
    /// The first header that was shown beside another one of the chain: both can't be of one log.
    forked: Option<(SignedHeader, SignedHeader)>,
}

impl Router {
    pub(super) fn headers(&mut self, now: Time, conn: ConnId, headers: Vec<SignedHeader>) {
        let Some(id) = self.group_of(conn) else { return };
        if headers.len() > HEADERS_PER_FRAME_MAX {
            return self.close(now, conn, CloseCode::Protocol);
        }
        let before = self.is_settled(id);
        let mut news = News::default();
        let outcome = headers.into_iter().try_for_each(|signed| self.take_shown(id, signed, &mut news));
        self.persist(&mut news);
        let Some(group) = self.groups.get(&id) else { return };
        let from_master = group.master.as_ref().is_some_and(|master| master.conn == conn);
        if let Some(tip) = group.membership.tip().filter(|_| from_master) {
            self.send(conn, Frame::HeadersStored(tip));
        }
        if from_master {
            self.tell_fallen_out(conn, id, &news);
        }
        self.place_concerned(now, id, before, &news);
        self.pass_on_expulsions(id, conn, news.expulsions);
        self.pass_on_to_master(id, conn, news.others);
        self.show_other_header(id, conn, news.forked);
        if let Err(code) = outcome {
            self.close(now, conn, code);
        }
    }

    fn take_shown(&mut self, id: GroupId, signed: SignedHeader, news: &mut News) -> Result<(), CloseCode> {
        let Some(group) = self.groups.get(&id) else { return Ok(()) };
        match group.membership.verify(signed) {
            Ok(Some(header)) => {
                if let Some(other) = group.membership.other_than(header.header()) {
                    news.forked.get_or_insert_with(|| (header.signed().clone(), other.clone()));
                }
                if header.header().membership.is_none() {
                    news.others.push(header.signed().clone());
                }
                self.take_header(id, &header, news)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    fn take_header(&mut self, id: GroupId, header: &VerifiedHeader, news: &mut News) -> Result<(), CloseCode> {
        let Some(group) = self.groups.get_mut(&id) else { return Ok(()) };
        let Some(change) = &header.header().membership else { return Ok(()) };
        let standing_before = group.membership.standing(&change.device);
        let taken = group.membership.take(header, &mut news.records);
        news.concerns_all |= news.records.iter().any(|record| matches!(record, Record::Truncated { .. }));
        match taken {
            Taken::Extended | Taken::ExpelledEarly => {}
            Taken::Nothing => return Ok(()),
            Taken::Gap => {
                tracing::warn!(group = ?id, at = %header.header().at, "a membership header whose predecessors are missing");
                return Ok(());
            }
            Taken::Full => {
                tracing::warn!(group = ?id, "the group has as many membership headers as this server keeps");
                return Err(CloseCode::Full);
            }
        }
        tracing::info!(group = ?id, device = ?change.id, standing = ?change.standing, at = %header.header().at, "membership");
        news.concerned.insert(change.device);
        if header.expulsion().is_some() && !standing_before.is_some_and(|standing| standing.is_final()) {
            news.expulsions.push(header.signed().clone());
        } else {
            news.others.push(header.signed().clone());
        }
        Ok(())
    }

    pub(super) fn head(&mut self, now: Time, conn: ConnId, head: SignedHead) {
        if !self.show_head(now, conn, head.clone()) {
            return;
        }
        let Some(id) = self.group_of(conn) else { return };
        if self.show_master_old(conn, id, &[head]) {
            return;
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        let first = group.master.as_mut().filter(|master| master.conn == conn && !master.shown);
        let Some(master) = first else { return };
        master.shown = true;
        if let Some(head) = group.membership.head().cloned() {
            let to = group.approved.iter().copied().collect();
            self.send_all(to, Frame::MasterBack(head));
        }
    }

    /// Older heads than the newest show a fork, perhaps, that the master alone can see: it knows what it signed there. Says
    /// whether any went to it.
    pub(super) fn show_master_old(&mut self, from: ConnId, id: GroupId, heads: &[SignedHead]) -> bool {
        let Some(group) = self.groups.get(&id).filter(|group| group.fork.is_none()) else { return false };
        let Some(master) = group.master.as_ref().map(|master| master.conn).filter(|master| *master != from) else {
            return false;
        };
        let newest = group.membership.head().cloned();
        let mut old = heads.iter().filter(|head| newest.as_ref().is_some_and(|newest| newest != *head)).peekable();
        let any = old.peek().is_some();
        old.for_each(|head| self.send(master, Frame::Head(head.clone())));
        any
    }

    /// What a device said of the log that is not approved by it. A member whose log is another one notices when it catches
    /// up; this one never does: an old copy of the master may have signed on without it.
    pub(super) fn head_of_unapproved(&self, conn: ConnId) -> Option<SignedHead> {
        let peer = self.peers.get(&conn)?;
        matches!(peer.phase, Phase::Stranger | Phase::Registered).then(|| peer.hello_head.clone())?
    }

    /// The same, to a master that comes after them.
    pub(super) fn show_heads_of_unapproved(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else { return };
        let Some(master) = group.master.as_ref().map(|master| master.conn) else { return };
        let mut heads: Vec<(ConnId, SignedHead)> =
            group.connected.values().filter_map(|conn| Some((*conn, self.head_of_unapproved(*conn)?))).collect();
        heads.sort_by_key(|(conn, _)| *conn);
        let mut shown: Vec<SignedHead> = Vec::new();
        for (conn, head) in heads.into_iter().filter(|(conn, _)| *conn != master) {
            if !shown.contains(&head) && shown.len() < HEADS_SHOWN_MAX {
                self.show_master_old(conn, id, std::slice::from_ref(&head));
                shown.push(head);
            }
        }
    }

    /// Takes in a head; false if it is not the master's, and the connection is closed.
    pub(super) fn show_head(&mut self, now: Time, conn: ConnId, signed: SignedHead) -> bool {
        let Some(id) = self.group_of(conn) else { return true };
        let before = self.is_settled(id);
        let Some(group) = self.groups.get_mut(&id) else { return true };
        if group.membership.head() == Some(&signed) {
            return true;
        }
        let head = match signed.verify(&group.membership.master()) {
            Ok(head) => head,
            Err(error) => {
                self.close(now, conn, refused(error));
                return false;
            }
        };
        // From the master it goes to all: a replica shows no newer head than it was shown, whatever entries it has.
        // From a member it goes to the master.
        let master = group.master.as_ref().map(|master| master.conn);
        let to = if master == Some(conn) { group.approved.iter().copied().collect() } else { Vec::from_iter(master) };
        let generation_began = group.membership.head_at().is_some_and(|at| head.at.generation > at.generation);
        match group.membership.show(head, signed.clone()) {
            Shown::Newer => {
                if generation_began {
                    group.fork = None;
                }
                self.effects.push_back(Effect::Persist(Record::Head { group: id, head: signed.clone() }));
                self.send_all(to, Frame::Head(signed));
            }
            Shown::Fork => self.tell_fork(id, signed),
            Shown::Old => {}
        }
        self.place_concerned(now, id, before, &News::default());
        true
    }

    /// Passes the proof of a fork on: to all who are here, once, and to each who comes later.
    fn tell_fork(&mut self, id: GroupId, proof: SignedHead) {
        let Some(group) = self.groups.get_mut(&id).filter(|group| group.fork.is_none()) else { return };
        tracing::warn!(group = ?id, "the group's log has forked: two copies of its master are in use");
        group.fork = Some(proof.clone());
        let to = group.members();
        self.send_all(to, Frame::Head(proof));
    }

    /// Tells who has just come of a fork that the others know of.
    pub(super) fn show_fork(&mut self, conn: ConnId, id: GroupId) {
        if let Some(proof) = self.groups.get(&id).and_then(|group| group.fork.clone()) {
            self.send(conn, Frame::Head(proof));
        }
    }

    pub(super) fn open_invites(&mut self, now: Time, conn: ConnId, invites: Vec<InviteId>) {
        if invites.len() > INVITES_MAX {
            return self.close(now, conn, CloseCode::Protocol);
        }
        let group = self.group_of(conn).and_then(|id| self.groups.get_mut(&id));
        if let Some(master) = group.and_then(|group| group.master.as_mut()) {
            master.invites = Some(invites.into_iter().collect());
        }
    }

    /// Passes the master's news on. Who is approved by it hears it, too; who is expelled by it doesn't.
    pub(super) fn broadcast(&mut self, now: Time, conn: ConnId, header: SignedHeader, body: SealedBody) {
        let Some(id) = self.group_of(conn) else { return };
        let Some(group) = self.groups.get_mut(&id) else { return };
        let verified = match group.membership.verify(header.clone()) {
            Ok(verified) => verified,
            Err(error) => return self.close(now, conn, refused(error)),
        };
        let before = group.membership.is_settled();
        let mut news = News::default();
        let mut outcome = Ok(());
        let mut proof = None;
        if let Some(verified) = &verified {
            let at = verified.header().at;
            match group.membership.broadcast(verified) {
                Shown::Fork => {
                    tracing::warn!(group = ?id, %at, "the group's log has forked");
                    proof = group.membership.header_at(at).cloned();
                }
                Shown::Newer => group.last_broadcast = Some(header.clone()),
                Shown::Old => {}
            }
            outcome = self.take_header(id, verified, &mut news);
        }
        self.persist(&mut news);
        if let Some(other) = proof {
            // This copy of the master learns that another one has signed there.
            self.send(conn, Frame::Headers(vec![other]));
        }
        let changes_membership = verified.as_ref().is_none_or(|verified| verified.header().membership.is_some());
        let tip = self.groups.get(&id).and_then(|group| group.membership.tip());
        if let Some(tip) = tip.filter(|_| changes_membership) {
            self.send(conn, Frame::HeadersStored(tip));
        }
        self.tell_fallen_out(conn, id, &news);
        self.place_concerned(now, id, before, &news);
        if let Some(group) = self.groups.get(&id) {
            let to = group.approved.iter().copied().collect();
            self.send_all(to, Frame::Broadcast { header, body });
        }
        if let Err(code) = outcome {
            self.close(now, conn, code);
        }
    }

    /// What the master broadcast last, if that is above a place: a copy of it that comes now learns that it is an old one,
    /// also if the head did not come that far.
    pub(super) fn broadcast_above(&self, id: GroupId, above: Option<Position>) -> Option<SignedHeader> {
        let last = self.groups.get(&id)?.last_broadcast.as_ref()?;
        let at = decode::<Header>(&last.bytes).ok()?.at;
        (Some(at) > above).then(|| last.clone())
    }

    fn persist(&mut self, news: &mut News) {
        self.effects.extend(news.records.drain(..).map(Effect::Persist));
    }

    fn is_settled(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|group| group.membership.is_settled())
    }

    /// A master that begins a generation learns which expulsions of the chain before it left out: it may not know them.
    fn tell_fallen_out(&mut self, master: ConnId, id: GroupId, news: &News) {
        let Some(group) = self.groups.get(&id).filter(|_| news.concerns_all) else { return };
        let expulsions = group.membership.expulsions_beside_chain();
        self.send_headers(master, expulsions);
    }

    /// Places all whom the news concern: everybody, if the group got settled or unsettled by them, or begins anew.
    fn place_concerned(&mut self, now: Time, id: GroupId, settled_before: bool, news: &News) {
        let settled = self.is_settled(id);
        let Some(group) = self.groups.get(&id) else { return };
        if settled != settled_before {
            tracing::info!(group = ?id, settled, "membership is complete or not");
        }
        let all = settled != settled_before || news.concerns_all;
        let concerned = group.connected.iter().filter(|(device, _)| all || news.concerned.contains(device));
        let concerned: Vec<(DeviceKey, ConnId)> = concerned.map(|(device, conn)| (*device, *conn)).collect();
        for device in &news.concerned {
            let standing = self.groups.get(&id).and_then(|group| group.membership.standing(device));
            if standing.is_some_and(|standing| standing.is_final()) {
                self.erase_expelled(id, device);
            }
        }
        for (device, conn) in concerned {
            self.place_one(now, conn, news.concerned.contains(&device));
        }
    }

    fn place_one(&mut self, now: Time, conn: ConnId, named: bool) {
        let Some(before) = self.peers.get(&conn).map(|peer| peer.phase) else { return };
        if !before.follows_membership() {
            return;
        }
        self.place(now, conn);
        let unchanged = self.peers.get(&conn).is_some_and(|peer| peer.phase == before);
        if named && unchanged && before == Phase::Registered {
            self.tell_standing(conn);
        }
    }

    fn tell_standing(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get(&conn) else { return };
        let group = peer.group.and_then(|id| self.groups.get(&id));
        if let Some(own) = group.and_then(|group| group.membership.own_header(&peer.device)).cloned() {
            self.send(conn, Frame::Headers(vec![own]));
        }
    }

    /// Every member keeps every expulsion, from whomever it comes.
    fn pass_on_expulsions(&mut self, id: GroupId, from: ConnId, expulsions: Vec<SignedHeader>) {
        let Some(group) = self.groups.get(&id).filter(|_| !expulsions.is_empty()) else { return };
        let to = group.members().into_iter().filter(|conn| *conn != from).collect();
        self.send_all(to, Frame::Headers(expulsions));
    }
}

impl Router {
    /// A master that came back from a backup learns from its members what it had decided.
    fn pass_on_to_master(&mut self, id: GroupId, from: ConnId, headers: Vec<SignedHeader>) {
        let Some(master) = self.groups.get(&id).and_then(|group| group.master.as_ref()) else { return };
        let master = master.conn;
        if master != from {
            self.send_headers(master, headers);
        }
    }

    /// Two headers that can't be of one log were signed by two copies of the master. The one that is here is shown that which it did
    /// not sign, and knows then that it must not go on; heads alone don't tell, where one copy has come further.
    fn show_other_header(&mut self, id: GroupId, from: ConnId, forked: Option<(SignedHeader, SignedHeader)>) {
        let Some((shown, chained)) = forked else { return };
        tracing::warn!(group = ?id, "the group's log has forked: two copies of its master are in use");
        let Some(master) = self.groups.get(&id).and_then(|group| group.master.as_ref()) else { return };
        let (master, both) = (master.conn, [shown, chained]);
        let others = if master == from { &both[1..] } else { &both[..] };
        self.send_headers(master, others.to_vec());
    }
}

/// What a connection is closed with that shows something which is not the master's.
fn refused(error: NotTheMasters) -> CloseCode {
    match error {
        NotTheMasters::Newer => {
            tracing::warn!("a header or head was written by a newer bailiwick; update this server");
            CloseCode::Version
        }
        NotTheMasters::Signature | NotTheMasters::Group | NotTheMasters::TooLarge => CloseCode::Protocol,
    }
}
