//! Who a connection is, and what it may do here: from its hello to its end.
//!
//! A device is placed by what the membership says of it, at its hello and again whenever the membership says something
//! else. A class that changed is told by another `Welcome`.

use super::membership::{Membership, Record};
use super::peer::{Counted, Peer, Phase};
use super::{ChunkOrder, Effect, Group, Master, Router, Timer};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::close::CloseCode;
use crate::wire::codec::decode;
use crate::wire::frame::{
    ChunkRefusal, Class, Frame, Hello, MasterRefusal, MasterRegistered, PROTOCOL_VERSION, Role, Welcome,
};
use crate::wire::ids::{DeviceKey, GroupId, Position};
use crate::wire::invite::AdmissionSecret;
use crate::wire::limits::HEADERS_PER_FRAME_MAX;
use crate::wire::log::{Head, SignedHeader, Standing};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::net::SocketAddr;
use std::time::Duration;

const SOFTWARE: &str = concat!("bailiwick ", env!("CARGO_PKG_VERSION"));

impl Router {
    pub(super) fn connected(&mut self, now: Time, conn: ConnId, device: DeviceKey, remote: SocketAddr) {
        let peer = Peer::new(device, remote);
        if self.peers.len() >= self.config.connections_max {
            return self.effects.push_back(Effect::Close { conn, code: CloseCode::Full });
        }
        if !self.silent.enter(peer.network()) {
            return self.effects.push_back(Effect::Close { conn, code: CloseCode::StrangerLimit });
        }
        self.peers.insert(conn, peer);
        self.end_phase_after(now, conn, Some(self.config.stranger_stay));
    }

    pub(super) fn hello(&mut self, now: Time, conn: ConnId, hello: Hello) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        tracing::debug!(conn = conn.0, device = ?peer.device, role = ?hello.role, software = ?hello.software, "hello");
        peer.group = Some(hello.group);
        peer.hello_head = hello.head.clone();
        let device = peer.device;
        if hello.role == Role::Master || GroupId::of(&device) == hello.group {
            return self.welcome_master(now, conn, hello.group, device);
        }
        if !self.groups.contains_key(&hello.group) {
            self.welcome(conn, Class::UnknownGroup);
            return self.let_read(now, conn, CloseCode::NotAdmitted, self.config.refused_stay);
        }
        if hello.head.is_some_and(|head| !self.show_head(now, conn, head)) {
            return;
        }
        if self.take_place(now, conn, hello.group, device) {
            self.place(now, conn);
            let head = self.head_of_unapproved(conn);
            self.show_master_old(conn, hello.group, head.as_slice());
        }
    }

    /// The newest connection of a device is the one that counts; false if that is another one, and this is closed. What
    /// a process said that is gone may come after what its successor said on a connection of its own.
    fn take_place(&mut self, now: Time, conn: ConnId, group: GroupId, device: DeviceKey) -> bool {
        let Some(group) = self.groups.get_mut(&group) else { return false };
        let other = group.connected.get(&device).copied();
        if other.is_some_and(|other| other > conn) {
            self.close(now, conn, CloseCode::Replaced);
            return false;
        }
        group.connected.insert(device, conn);
        if let Some(older) = other.filter(|other| *other != conn) {
            self.close(now, older, CloseCode::Replaced);
        }
        true
    }

    fn welcome_master(&mut self, now: Time, conn: ConnId, group: GroupId, device: DeviceKey) {
        let known = GroupId::of(&device) == group && self.groups.contains_key(&group);
        if !self.count(conn, if known { Counted::Nowhere } else { Counted::Stranger }) {
            return self.close(now, conn, CloseCode::StrangerLimit);
        }
        self.welcome(conn, Class::Master);
        self.enter(conn, Phase::MasterToBe);
        self.end_phase_after(now, conn, Some(self.config.stranger_stay));
    }

    /// W1.
    pub(super) fn register_master(&mut self, now: Time, conn: ConnId, admission: Option<AdmissionSecret>) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let (Some(id), device) = (peer.group, peer.device) else { return };
        let shown = peer.hello_head.take();
        let above = shown.as_ref().and_then(|head| head.verify(&device).ok()).map(|head| head.at);
        let taken = self.take_group(id, device, admission).and_then(|()| self.is_not_superseded(id, above));
        if let Err(refusal) = taken {
            tracing::info!(group = ?id, %refusal, "refused a master");
            self.send(conn, Frame::MasterRegisterAck(Err(refusal)));
            return self.let_read(now, conn, CloseCode::NotAdmitted, self.config.refused_stay);
        }
        if shown.is_some_and(|head| !self.show_head(now, conn, head)) {
            return;
        }
        if !self.take_place(now, conn, id, device) {
            return;
        }
        self.uncount(conn);
        self.enter(conn, Phase::Master);
        self.end_phase_after(now, conn, None);
        let up_ms = u64::try_from(now.since(self.started).as_millis()).unwrap_or(u64::MAX);
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.master = Some(Master { conn, shown: false, invites: None, queue: Default::default() });
        let membership = &group.membership;
        let registered = MasterRegistered { tip: membership.tip(), head: membership.head().cloned(), up_ms };
        let mut headers = membership.headers_above(above);
        let last = self.broadcast_above(id, above).filter(|last| !headers.contains(last));
        headers.extend(last);
        tracing::info!(group = ?id, "the master is connected");
        self.send(conn, Frame::MasterRegisterAck(Ok(registered)));
        self.send_headers(conn, headers);
        self.show_fork(conn, id);
        self.show_heads_of_unapproved(id);
        self.came(now, id, device);
        self.tell_presence(now, id, conn);
    }

    /// An old copy of a master that was imported since takes nobody's place. One that is being imported shows no head.
    fn is_not_superseded(&self, id: GroupId, shown: Option<Position>) -> Result<(), MasterRefusal> {
        let known = self.groups.get(&id).and_then(|group| group.membership.head_at());
        match shown.zip(known) {
            Some((shown, known)) if shown.generation < known.generation => Err(MasterRefusal::Superseded),
            Some(_) | None => Ok(()),
        }
    }

    /// Lets a master bring its group, unless it is here already.
    fn take_group(
        &mut self,
        id: GroupId,
        device: DeviceKey,
        admission: Option<AdmissionSecret>,
    ) -> Result<(), MasterRefusal> {
        if GroupId::of(&device) != id {
            return Err(MasterRefusal::Key);
        }
        if self.groups.contains_key(&id) {
            return Ok(());
        }
        let admitted = admission.is_some_and(|said| verify_slices_are_equal(&said.0, &self.admission.0).is_ok());
        if !admitted {
            return Err(MasterRefusal::Admission);
        }
        if self.groups.len() >= self.config.groups_max {
            return Err(MasterRefusal::ServerFull);
        }
        self.groups.insert(id, Group::new(Membership::new(device, self.config.headers_per_group_max)));
        self.effects.push_back(Effect::Persist(Record::Group { group: id, master: device }));
        Ok(())
    }

    /// Gives a device the place that the membership gives it now; does nothing if it is there.
    pub(super) fn place(&mut self, now: Time, conn: ConnId) {
        let Some((id, peer)) = self.group_of(conn).zip(self.peers.get(&conn)) else { return };
        let (device, before) = (peer.device, peer.phase);
        let Some(group) = self.groups.get(&id) else { return };
        let standing = group.membership.standing(&device);
        let phase = match standing {
            Some(Standing::Disapproved | Standing::Left) => return self.expel(now, conn, id, device),
            _ if !group.membership.is_settled() => Phase::Unsettled,
            None => Phase::Stranger,
            Some(Standing::Registered) => Phase::Registered,
            Some(Standing::Approved) => Phase::Approved,
        };
        if phase == before {
            return;
        }
        if before == Phase::Approved {
            self.unadmit(now, conn, ChunkRefusal::OwnerAway);
        }
        let member = standing.is_some();
        if !self.count(conn, if member { Counted::Nowhere } else { Counted::Stranger }) {
            return self.close(now, conn, CloseCode::StrangerLimit);
        }
        self.enter(conn, phase);
        self.end_phase_after(now, conn, (!member).then_some(self.config.stranger_stay));
        match phase {
            Phase::Unsettled => self.welcome(conn, Class::Unsettled),
            Phase::Stranger => self.welcome(conn, Class::Stranger),
            Phase::Registered => self.admit_registered(conn, id, device),
            Phase::Approved => self.admit(now, conn, id, device),
            Phase::Silent | Phase::MasterToBe | Phase::Master | Phase::Leaving(_) => {}
        }
    }

    fn admit_registered(&mut self, conn: ConnId, id: GroupId, device: DeviceKey) {
        self.welcome(conn, Class::Registered);
        let own = self.groups.get(&id).and_then(|group| group.membership.own_header(&device)).cloned();
        self.send_headers(conn, own.into_iter().collect());
    }

    /// A member is in: it hears where it stands, who was expelled while it could not hear, and who is there.
    fn admit(&mut self, now: Time, conn: ConnId, id: GroupId, device: DeviceKey) {
        self.welcome(conn, Class::Approved);
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.approved.insert(conn);
        // Verified when it was said.
        let head = self.peers.get(&conn).and_then(|peer| peer.hello_head.as_ref());
        let above = head.and_then(|head| decode::<Head>(&head.bytes).ok()).map(|head| head.at);
        let own = group.membership.own_header(&device).cloned();
        let headers = own.into_iter().chain(group.membership.expulsions_above(above)).collect();
        self.send_headers(conn, headers);
        self.show_fork(conn, id);
        self.tell_presence(now, id, conn);
        self.came(now, id, device);
    }

    /// W6: stops everything of the device at once, hands it the header and nothing else.
    fn expel(&mut self, now: Time, conn: ConnId, id: GroupId, device: DeviceKey) {
        let Some(before) = self.peers.get(&conn).map(|peer| peer.phase) else { return };
        if before == Phase::Approved {
            self.unadmit(now, conn, ChunkRefusal::OwnerExpelled);
        }
        if before == Phase::Silent {
            self.welcome(conn, Class::Expelled);
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.connected.get(&device) == Some(&conn) {
            group.connected.remove(&device);
        }
        let own = group.membership.own_header(&device).cloned();
        self.send_headers(conn, own.into_iter().collect());
        self.let_read(now, conn, CloseCode::Expelled, self.config.expelled_stay);
    }

    /// Forgets what an expelled device left behind, connected or not.
    pub(super) fn erase_expelled(&mut self, id: GroupId, device: &DeviceKey) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if let Some(master) = &mut group.master {
            master.queue.drop_sender(device);
        }
        if let Some(owner) = group.membership.id_of(device) {
            self.effects.push_back(Effect::Chunks(ChunkOrder::Expelled { group: id, owner }));
        }
    }

    pub(super) fn expulsion_read(&mut self, now: Time, conn: ConnId) {
        if self.peers.get(&conn).is_some_and(|peer| peer.phase == Phase::Leaving(CloseCode::Expelled)) {
            self.close(now, conn, CloseCode::Expelled);
        }
    }

    /// A device is no longer admitted, or no longer there.
    fn unadmit(&mut self, now: Time, conn: ConnId, reason: ChunkRefusal) {
        let Some((id, device)) = self.group_of(conn).zip(self.peers.get(&conn).map(|peer| peer.device)) else { return };
        if let Some(group) = self.groups.get_mut(&id) {
            group.approved.remove(&conn);
        }
        self.effects.push_back(Effect::Chunks(ChunkOrder::Gone { conn, reason }));
        self.went(now, id, device);
    }

    pub(super) fn close(&mut self, now: Time, conn: ConnId, code: CloseCode) {
        if self.peers.contains_key(&conn) {
            self.forget(now, conn);
            self.effects.push_back(Effect::Close { conn, code });
        }
    }

    /// A connection is over.
    pub(super) fn forget(&mut self, now: Time, conn: ConnId) {
        let Some(phase) = self.peers.get(&conn).map(|peer| peer.phase) else { return };
        match phase {
            Phase::Approved => self.unadmit(now, conn, ChunkRefusal::OwnerAway),
            Phase::Master => self.lose_master(now, conn),
            Phase::Silent
            | Phase::MasterToBe
            | Phase::Stranger
            | Phase::Registered
            | Phase::Unsettled
            | Phase::Leaving(_) => {}
        }
        self.end_phase_after(now, conn, None);
        self.heard_of(conn);
        self.uncount(conn);
        let id = self.group_of(conn);
        self.sights.forget(conn);
        let Some(peer) = self.peers.remove(&conn) else { return };
        if let Some(group) = id.and_then(|id| self.groups.get_mut(&id))
            && group.connected.get(&peer.device) == Some(&conn)
        {
            group.connected.remove(&peer.device);
        }
    }

    fn lose_master(&mut self, now: Time, conn: ConnId) {
        let Some(id) = self.group_of(conn) else { return };
        self.unadmit(now, conn, ChunkRefusal::OwnerAway);
        let Some(group) = self.groups.get_mut(&id) else { return };
        if let Some(master) = group.master.take_if(|master| master.conn == conn) {
            tracing::info!(group = ?id, "the master is away");
            master.queue.into_waiting().for_each(|waiting| self.return_undelivered(id, waiting));
        }
    }

    /// A connection's time is up.
    pub(super) fn overstayed(&mut self, now: Time, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        peer.deadline = None;
        let code = match peer.phase {
            Phase::Leaving(code) => code,
            Phase::Silent
            | Phase::MasterToBe
            | Phase::Master
            | Phase::Stranger
            | Phase::Registered
            | Phase::Approved
            | Phase::Unsettled => CloseCode::StrangerLimit,
        };
        self.close(now, conn, code);
    }

    /// What was sent may be read; then the connection is closed.
    fn let_read(&mut self, now: Time, conn: ConnId, code: CloseCode, stay: Duration) {
        self.heard_of(conn);
        if !self.count(conn, Counted::Stranger) {
            return self.close(now, conn, code);
        }
        self.enter(conn, Phase::Leaving(code));
        self.end_phase_after(now, conn, Some(stay));
    }

    fn enter(&mut self, conn: ConnId, phase: Phase) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.enter(phase);
        }
    }

    fn end_phase_after(&mut self, now: Time, conn: ConnId, stay: Option<Duration>) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        if let Some(before) = peer.deadline.take() {
            self.timers.remove(&(before, Timer::Connection(conn)));
        }
        if let Some(at) = stay.map(|stay| now.after(stay)) {
            peer.deadline = Some(at);
            self.timers.insert((at, Timer::Connection(conn)));
        }
    }

    /// Counts a connection in another crowd; false if there is no room in it.
    #[must_use]
    fn count(&mut self, conn: ConnId, counted: Counted) -> bool {
        if self.peers.get(&conn).is_some_and(|peer| peer.counted == counted) {
            return true;
        }
        self.uncount(conn);
        let Some(peer) = self.peers.get_mut(&conn) else { return false };
        let entered = match counted {
            Counted::Silent => self.silent.enter(peer.network()),
            Counted::Stranger => self.strangers.enter(peer.network()),
            Counted::Nowhere => true,
        };
        if entered {
            peer.counted = counted;
        }
        entered
    }

    fn uncount(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        match std::mem::replace(&mut peer.counted, Counted::Nowhere) {
            Counted::Silent => self.silent.leave(peer.network()),
            Counted::Stranger => self.strangers.leave(peer.network()),
            Counted::Nowhere => {}
        }
    }

    /// A device's packets come from elsewhere now. Who may be dialled by others is told.
    pub(super) fn moved(&mut self, conn: ConnId, remote: SocketAddr) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let is_new = std::mem::replace(&mut peer.observed, remote) != remote;
        if is_new && matches!(peer.phase, Phase::Approved | Phase::Master) {
            self.send(conn, Frame::Observed(remote));
        }
    }

    fn welcome(&mut self, conn: ConnId, class: Class) {
        let Some(peer) = self.peers.get(&conn) else { return };
        let group = peer.group.and_then(|group| self.groups.get(&group));
        let told = match class {
            Class::Approved | Class::Unsettled => group,
            Class::Master => group.filter(|group| group.membership.master() == peer.device),
            Class::Stranger | Class::Registered | Class::Expelled | Class::UnknownGroup => None,
        };
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            software: SOFTWARE.to_owned(),
            class,
            head: told.and_then(|group| group.membership.head().cloned()),
            tip: told.and_then(|group| group.membership.tip()),
            observed: peer.observed,
        };
        self.effects.push_back(Effect::Classed { conn, class });
        self.send(conn, Frame::Welcome(welcome));
    }

    pub(super) fn send_headers(&mut self, conn: ConnId, headers: Vec<SignedHeader>) {
        for page in headers.chunks(HEADERS_PER_FRAME_MAX) {
            self.send(conn, Frame::Headers(page.to_vec()));
        }
    }
}
