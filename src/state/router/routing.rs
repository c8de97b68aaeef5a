//! What is passed on between two parties: envelopes that the server can't open, and requests for chunks.

use super::peer::Phase;
use super::queue::{Sender, Waiting};
use super::{ChunkOrder, Effect, Group, Router};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::close::CloseCode;
use crate::wire::frame::{ChunkRange, ChunkRefusal, Frame, HeldRegistration};
use crate::wire::ids::{DeviceKey, GroupId, InviteId, PublicId};
use crate::wire::limits::{ENVELOPE_BYTES_MAX, STRANGER_FRAME_BYTES_MAX};
use crate::wire::log::Standing;

impl Router {
    /// W4. The master hears only of invites that it said are open; a device that it has registered is heard again.
    pub(super) fn client_register(
        &mut self,
        now: Time,
        conn: ConnId,
        invite: InviteId,
        number: u64,
        envelope: Vec<u8>,
    ) {
        if envelope.len() > STRANGER_FRAME_BYTES_MAX {
            return self.close(now, conn, CloseCode::Protocol);
        }
        let Some((id, peer)) = self.group_of(conn).zip(self.peers.get_mut(&conn)) else { return };
        let Some(group) = self.groups.get_mut(&id) else { return };
        let open = match &group.master {
            None => Err(HeldRegistration::ServerNotReady),
            Some(_) if peer.phase == Phase::Registered => Ok(()),
            Some(master) => match &master.invites {
                None => Err(HeldRegistration::ServerNotReady),
                Some(invites) if invites.contains(&invite) => Ok(()),
                Some(_) => Err(HeldRegistration::InviteNotOpen),
            },
        };
        let paced = open.and_then(|()| {
            peer.pace.take(now, envelope.len(), &self.config).then_some(()).ok_or(HeldRegistration::Busy)
        });
        if let Err(held) = paced {
            return self.send(conn, Frame::RegistrationHeld(held));
        }
        let from = peer.device;
        let bytes = envelope.len();
        let waiting = Waiting { from, number, frame: Frame::ClientRegister { from, invite, number, envelope }, bytes };
        if !self.queue_for_master(now, id, Sender::Strangers, waiting) {
            self.send(conn, Frame::RegistrationHeld(HeldRegistration::Busy));
        }
    }

    pub(super) fn route(&mut self, now: Time, conn: ConnId, to: DeviceKey, number: u64, envelope: Vec<u8>) {
        if envelope.len() > ENVELOPE_BYTES_MAX {
            return self.close(now, conn, CloseCode::Protocol);
        }
        let Some((id, peer)) = self.group_of(conn).zip(self.peers.get(&conn)) else { return };
        let (from, phase) = (peer.device, peer.phase);
        let Some(group) = self.groups.get(&id) else { return };
        if phase == Phase::Master {
            return self.pass_to(id, to, Frame::Routed { peer: from, number, envelope });
        }
        let reachable = if to == group.membership.master() {
            group.master.is_some()
        } else {
            self.is_approved(group, &to).is_some_and(|receiver| receiver != conn)
        };
        if !reachable {
            return self.send(conn, Frame::ServerNotReady { number });
        }
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        if !peer.pace.take(now, envelope.len(), &self.config) {
            return self.send(conn, Frame::Busy { number });
        }
        self.deliver(
            now,
            id,
            conn,
            to,
            Waiting { from, number, bytes: envelope.len(), frame: routed(from, number, envelope) },
        );
    }

    fn deliver(&mut self, now: Time, id: GroupId, conn: ConnId, to: DeviceKey, waiting: Waiting) {
        let Some(group) = self.groups.get(&id) else { return };
        let (from, number) = (waiting.from, waiting.number);
        if to != group.membership.master() {
            return self.pass_to(id, to, waiting.frame);
        }
        if !self.queue_for_master(now, id, Sender::Member(from), waiting) {
            self.send(conn, Frame::Busy { number });
        }
    }

    /// Hands a frame to a device that is connected, as a member or on its way to be one.
    fn pass_to(&mut self, id: GroupId, to: DeviceKey, frame: Frame) {
        let Some(conn) = self.groups.get(&id).and_then(|group| group.connected.get(&to)).copied() else { return };
        match self.peers.get(&conn).map(|peer| peer.phase) {
            Some(Phase::Stranger | Phase::Registered | Phase::Approved) => self.send(conn, frame),
            Some(Phase::Silent | Phase::MasterToBe | Phase::Master | Phase::Unsettled | Phase::Leaving(_)) | None => {}
        }
    }

    fn is_approved(&self, group: &Group, device: &DeviceKey) -> Option<ConnId> {
        group.connected.get(device).copied().filter(|conn| group.approved.contains(conn))
    }

    fn queue_for_master(&mut self, now: Time, id: GroupId, sender: Sender, waiting: Waiting) -> bool {
        let Some(master) = self.groups.get_mut(&id).and_then(|group| group.master.as_mut()) else { return false };
        let queued = master.queue.offer(sender, waiting, &self.config);
        self.pump(now, id);
        queued
    }

    fn pump(&mut self, now: Time, id: GroupId) {
        let mut asked = None;
        let Some(master) = self.groups.get_mut(&id).and_then(|group| group.master.as_mut()) else { return };
        while let Some(waiting) = master.queue.next(&self.config) {
            let Waiting { frame, bytes, .. } = waiting;
            self.effects.push_back(Effect::SendCounted { conn: master.conn, frame, bytes });
            asked = Some(master.conn);
        }
        if let Some(conn) = asked {
            self.expect_answer(now, conn);
        }
    }

    pub(super) fn sent(&mut self, now: Time, conn: ConnId, bytes: usize) {
        let Some(id) = self.group_of(conn) else { return };
        let master = self.groups.get_mut(&id).and_then(|group| group.master.as_mut());
        if let Some(master) = master.filter(|master| master.conn == conn) {
            master.queue.sent(bytes);
            self.pump(now, id);
        }
    }

    /// The master went before a frame was sent to it: its sender hears that, if it is still there.
    pub(super) fn return_undelivered(&mut self, id: GroupId, waiting: Waiting) {
        let conn = self.groups.get(&id).and_then(|group| group.connected.get(&waiting.from)).copied();
        let Some((conn, peer)) = conn.and_then(|conn| Some((conn, self.peers.get(&conn)?))) else { return };
        match peer.phase {
            Phase::Approved => self.send(conn, Frame::ServerNotReady { number: waiting.number }),
            Phase::Stranger | Phase::Registered => {
                self.send(conn, Frame::RegistrationHeld(HeldRegistration::ServerNotReady));
            }
            Phase::Silent | Phase::MasterToBe | Phase::Master | Phase::Unsettled | Phase::Leaving(_) => {}
        }
    }

    /// W13: what the server can see is hopeless is refused at once.
    pub(super) fn request_chunk(
        &mut self,
        now: Time,
        asker: ConnId,
        request: u64,
        owner: PublicId,
        ranges: Vec<ChunkRange>,
    ) {
        let Some(id) = self.group_of(asker) else { return };
        match self.owner_of(id, &owner) {
            Ok(owner_conn) if owner_conn != asker => {
                let order = ChunkOrder::Ask { asker, request, group: id, owner, owner_conn, ranges };
                self.effects.push_back(Effect::Chunks(order));
                self.expect_answer(now, owner_conn);
            }
            Ok(_) => self.send(asker, Frame::ChunkRefused { request, ranges, reason: ChunkRefusal::Malformed }),
            Err(reason) => self.send(asker, Frame::ChunkRefused { request, ranges, reason }),
        }
    }

    fn owner_of(&self, id: GroupId, owner: &PublicId) -> Result<ConnId, ChunkRefusal> {
        let group = self.groups.get(&id).ok_or(ChunkRefusal::OwnerUnknown)?;
        let device = group.membership.device_of(owner).ok_or(ChunkRefusal::OwnerUnknown)?;
        match group.membership.standing(&device) {
            Some(Standing::Approved) => {}
            Some(Standing::Disapproved | Standing::Left) => return Err(ChunkRefusal::OwnerExpelled),
            Some(Standing::Registered) | None => return Err(ChunkRefusal::OwnerUnknown),
        }
        let master = group.master.as_ref().filter(|_| device == group.membership.master()).map(|master| master.conn);
        master.or_else(|| self.is_approved(group, &device)).ok_or(ChunkRefusal::OwnerAway)
    }
}

fn routed(peer: DeviceKey, number: u64, envelope: Vec<u8>) -> Frame {
    Frame::Routed { peer, number, envelope }
}
