//! The pen: what the master decides, entry by entry. One writer, so no conflicts.
//!
//! Every decision is persisted before anyone hears of it: a caller carries out the effects in order, in one
//! transaction, and sends only once that is on disk.

mod gate;
mod import;
mod membership;
mod request;
mod servers;

pub use gate::{Gate, GateConfig, STALE_HINT, StaleCopy, short};
pub use import::{ImportConfig, Seen};
pub use membership::{NotDone, Registration};
pub use request::{FileFact, RequestFacts};

use super::chain::LogTip;
use super::random::{Random, draw};
use super::roster::Roster;
use crate::wire::envelope::{Answer, EpochSecret, Payload};
use crate::wire::ids::{Audience, DeviceKey, EpochId, GroupId, Hash, InviteId, Position, PublicId, SealKey};
use crate::wire::log::{
    Body, Entry, Head, Header, MembershipChange, Policy, SaltedBody, SignedHead, SignedHeader, Standing, VerifiedHeader,
};
use crate::wire::name::DeviceName;
use crate::wire::seal::{Epoch, SealedBody};
use crate::wire::sign::{Identity, Secret32};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// What an authority wants done, in order.
pub enum Effect {
    /// Persist an entry: its header, its body and what it changes.
    Append(Box<Entry>, Box<Body>),
    /// Persist an entry that restates a device in a new generation. It is sent to nobody: members load a snapshot.
    Restate(Box<Entry>, Box<Body>),
    /// Persist the secret of a new epoch.
    NewEpoch(Epoch),
    /// Persist that an invite is no longer open.
    CloseInvite(InviteId),
    /// Persist what a device's newest request came to.
    Record(PublicId, LastRequest),
    /// Send an entry to the server, for all.
    Broadcast(SignedHeader, SealedBody),
    /// Send something to one device.
    Letter {
        /// Whom.
        to: DeviceKey,
        /// Its sealing key.
        seal: SealKey,
        /// The number of the request that this answers, or zero.
        number: u64,
        /// What.
        payload: Box<Payload>,
    },
    /// Tell the server which invites are open.
    InvitesChanged,
}

/// What a device's newest request came to; a repeat gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRequest {
    /// The request's number.
    pub number: u64,
    /// BLAKE3 of the request's encoding.
    pub content: Hash,
    /// The answer.
    pub answer: Answer,
}

/// What an authority is restored from.
pub struct Restored {
    /// The log's end.
    pub tip: LogTip,
    /// The devices.
    pub roster: Roster,
    /// The newest epoch.
    pub epoch: Epoch,
    /// Open invites, with the time (milliseconds since 1970) when they expire.
    pub invites: BTreeMap<InviteId, u64>,
    /// Every device's newest request.
    pub last: HashMap<PublicId, LastRequest>,
    /// Files in the catalog, by owner.
    pub files: HashMap<PublicId, u64>,
    /// Membership headers in the log.
    pub headers: usize,
}

/// The master's own machine.
pub struct Authority {
    identity: Arc<Identity>,
    group: GroupId,
    tip: LogTip,
    roster: Roster,
    epoch: Epoch,
    invites: BTreeMap<InviteId, u64>,
    last: HashMap<PublicId, LastRequest>,
    files: HashMap<PublicId, u64>,
    headers: usize,
    effects: VecDeque<Effect>,
}

/// The wall clock and the random source, for one decision.
pub struct Moment<'a> {
    /// Milliseconds since 1970 (UTC).
    pub wall_ms: u64,
    /// Random bytes.
    pub random: &'a mut dyn Random,
}

impl Authority {
    /// Begins a group: the first entry names the master itself.
    pub fn found(identity: Arc<Identity>, name: DeviceName, moment: &mut Moment<'_>) -> Authority {
        let id = EpochId { generation: 1, number: 1 };
        let epoch = Epoch { id, secret: Secret32(draw(moment.random)) };
        let group = GroupId::of(&identity.device_key());
        let tip = LogTip { at: Position { generation: 1, revision: 0 }, ..LogTip::START };
        let mut authority = Authority {
            identity,
            group,
            tip,
            roster: Roster::default(),
            epoch: epoch.clone(),
            invites: BTreeMap::new(),
            last: HashMap::new(),
            files: HashMap::new(),
            headers: 0,
            effects: VecDeque::new(),
        };
        authority.effects.push_back(Effect::NewEpoch(epoch));
        let change = MembershipChange {
            id: PublicId::from_random(draw(moment.random)),
            device: authority.identity.device_key(),
            seal: authority.identity.seal_key(),
            standing: Standing::Approved,
            nonce: draw(moment.random),
        };
        authority.append(moment, Some(change), Body::GroupBegun { name, epoch: id });
        authority
    }

    /// Takes up the pen again from what was persisted.
    pub fn restore(identity: Arc<Identity>, restored: Restored) -> Authority {
        let Restored { tip, roster, epoch, invites, last, files, headers } = restored;
        let group = GroupId::of(&identity.device_key());
        Authority { identity, group, tip, roster, epoch, invites, last, files, headers, effects: VecDeque::new() }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The log's end.
    pub fn tip(&self) -> &LogTip {
        &self.tip
    }

    /// The devices.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The newest epoch.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The master's own id.
    pub fn id(&self) -> PublicId {
        self.roster.by_key(&self.identity.device_key()).map_or(PublicId([0; 16]), |device| device.id)
    }

    /// The log's head, signed with `nonce` (zero if nobody asked).
    pub fn head(&self, nonce: [u8; 16]) -> SignedHead {
        let LogTip { at, header, membership } = self.tip;
        SignedHead::sign(&self.identity, &Head { group: self.group, at, header, membership, nonce })
    }

    /// The invites that are open at `wall_ms`.
    pub fn open_invites(&self, wall_ms: u64) -> Vec<InviteId> {
        self.invites.iter().filter(|(_, expires)| **expires > wall_ms).map(|(id, _)| *id).collect()
    }

    /// The rules that members keep to.
    pub fn set_policy(&mut self, moment: &mut Moment<'_>, policy: Policy) {
        self.append(moment, None, Body::PolicySet(policy));
    }

    /// The secrets in use, for one device.
    pub fn secrets(&self) -> Vec<EpochSecret> {
        vec![EpochSecret::from(&self.epoch)]
    }

    fn append(&mut self, moment: &mut Moment<'_>, membership: Option<MembershipChange>, body: Body) -> VerifiedHeader {
        let (header, salted) = self.sign_next(moment, membership, &body);
        let sealed = SealedBody::seal(&self.epoch, draw(moment.random), &header.hash(), salted.as_bytes());
        let entry = Entry { header: header.clone(), body: salted };
        self.effects.push_back(Effect::Append(Box::new(entry), Box::new(body)));
        self.effects.push_back(Effect::Broadcast(header.signed().clone(), sealed));
        header
    }

    /// The one place that signs an entry.
    fn sign_next(
        &mut self,
        moment: &mut Moment<'_>,
        membership: Option<MembershipChange>,
        body: &Body,
    ) -> (VerifiedHeader, SaltedBody) {
        let salted = SaltedBody::new(draw(moment.random), body);
        let header = Header {
            group: self.group,
            at: Position { generation: self.tip.at.generation, revision: self.tip.at.revision + 1 },
            previous: self.tip.header,
            previous_membership: self.tip.membership,
            time_ms: moment.wall_ms,
            audience: Audience::EVERYONE,
            membership,
            body: salted.commitment(),
        };
        let header = SignedHeader::sign(&self.identity, &header);
        self.tip = LogTip::after(&header);
        self.headers += usize::from(header.header().membership.is_some());
        self.roster.apply(&header, body);
        (header, salted)
    }

    fn letter(&mut self, to: DeviceKey, seal: SealKey, number: u64, payload: Payload) {
        self.effects.push_back(Effect::Letter { to, seal, number, payload: Box::new(payload) });
    }
}

#[cfg(test)]
mod limits;
#[cfg(test)]
mod tests;
