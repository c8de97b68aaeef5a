//! Who belongs: invites, registration, approval, expulsion.

use super::{Authority, Effect, Moment};
use crate::state::random::draw;
use crate::wire::envelope::{EpochSecret, Payload, RegisterRefusal};
use crate::wire::ids::{DeviceKey, EpochId, InviteId, PublicId, SealKey};
use crate::wire::invite::InviteSecret;
use crate::wire::limits::{INVITES_MAX, MEMBERS_MAX, MEMBERSHIP_HEADERS_MAX};
use crate::wire::log::{Body, MembershipChange, SignedHeader, Standing, VerifiedHeader};
use crate::wire::name::DeviceName;
use crate::wire::seal::Epoch;
use crate::wire::sign::Secret32;

/// Why a person's wish about a device is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// No such device.
    #[error("there is no such device")]
    Unknown,
    /// It is expelled or gone, for ever.
    #[error("this device was expelled or has left, which is final")]
    Final,
    /// The master itself.
    #[error("the master can be neither disapproved nor leave")]
    Master,
}

/// What a device that registers brings.
pub struct Registration {
    /// Its Ed25519 key, as its envelope's signature proved.
    pub key: DeviceKey,
    /// Its number for the registration.
    pub number: u64,
    /// The invite's secret.
    pub secret: InviteSecret,
    /// Its X25519 key.
    pub seal: SealKey,
    /// The name that it would like.
    pub name: DeviceName,
}

impl Authority {
    /// Opens an invite until `expires_ms`. `None` if too many are open.
    pub fn open_invite(&mut self, wall_ms: u64, id: InviteId, expires_ms: u64) -> Option<()> {
        self.drop_expired(wall_ms);
        if self.invites.len() >= INVITES_MAX {
            return None;
        }
        self.invites.insert(id, expires_ms);
        self.effects.push_back(Effect::InvitesChanged);
        Some(())
    }

    /// Closes an invite. Says whether it was open.
    pub fn revoke_invite(&mut self, id: &InviteId) -> bool {
        let was_open = self.invites.remove(id).is_some();
        if was_open {
            self.effects.push_back(Effect::CloseInvite(*id));
            self.effects.push_back(Effect::InvitesChanged);
        }
        was_open
    }

    fn drop_expired(&mut self, wall_ms: u64) {
        let expired: Vec<InviteId> =
            self.invites.iter().filter(|(_, expires)| **expires <= wall_ms).map(|(id, _)| *id).collect();
        for id in expired {
            self.invites.remove(&id);
            self.effects.push_back(Effect::CloseInvite(id));
        }
    }

    /// W4. `known` is the header that registered this device, if one did. Says whether it was let in anew.
    pub fn register(
        &mut self,
        moment: &mut Moment<'_>,
        asked: Registration,
        known: Option<SignedHeader>,
    ) -> Option<PublicId> {
        let outcome = self.decide_registration(moment, &asked, known);
        let new = outcome.as_ref().ok().and_then(|(_, new)| *new);
        let answer = outcome.map(|(header, _)| header);
        self.letter(asked.key, asked.seal, asked.number, Payload::ClientRegisterAck(answer));
        new
    }

    fn decide_registration(
        &mut self,
        moment: &mut Moment<'_>,
        asked: &Registration,
        known: Option<SignedHeader>,
    ) -> Result<(SignedHeader, Option<PublicId>), RegisterRefusal> {
        if self.roster.is_expelled(&asked.key) {
            return Err(RegisterRefusal::Expelled);
        }
        if let (Some(header), true) = (known, self.roster.by_key(&asked.key).is_some()) {
            return Ok((header, None));
        }
        let invite = asked.secret.id();
        let open = self.invites.get(&invite).is_some_and(|expires| *expires > moment.wall_ms);
        if !open {
            return Err(RegisterRefusal::InviteNotOpen);
        }
        if self.roster.living() >= MEMBERS_MAX || !self.has_room_for_headers() {
            return Err(RegisterRefusal::GroupFull);
        }
        self.revoke_invite(&invite);
        let id = PublicId::from_random(draw(moment.random));
        let name = asked.name.made_unique(|folded| self.roster.has_name(folded));
        let change = MembershipChange {
            id,
            device: asked.key,
            seal: asked.seal,
            standing: Standing::Registered,
            nonce: draw(moment.random),
        };
        let header = self.append(moment, Some(change), Body::ClientRegistered { id, name });
        Ok((header.signed().clone(), Some(id)))
    }

    /// Removal works at every limit: whoever is let in can be approved, and everybody expelled, whatever else happens.
    fn has_room_for_headers(&self) -> bool {
        let of_new = 3;
        self.headers + of_new + 2 * self.roster.living() <= MEMBERSHIP_HEADERS_MAX
    }

    /// Whether a device can be given this standing: so that of several either all get it, or none.
    pub fn check(&self, id: &PublicId, standing: Standing) -> Result<(), NotDone> {
        let device = self.roster.device(id).ok_or(NotDone::Unknown)?;
        if standing.is_final() && device.key == self.identity.device_key() {
            return Err(NotDone::Master);
        }
        if self.roster.is_expelled(&device.key) && !standing.is_final() { Err(NotDone::Final) } else { Ok(()) }
    }

    /// W5. Approving a member again changes nothing.
    pub fn approve(&mut self, moment: &mut Moment<'_>, id: &PublicId) -> Result<(), NotDone> {
        let change = self.change_of(moment, id, Standing::Approved)?;
        let device = self.roster.device(id).ok_or(NotDone::Unknown)?;
        if device.standing == Standing::Approved {
            return Ok(());
        }
        let (key, seal) = (device.key, device.seal);
        self.append(moment, Some(change), Body::ClientApproved { id: *id });
        let secrets = self.secrets();
        self.letter(key, seal, 0, Payload::EpochSecrets(secrets));
        Ok(())
    }

    /// W6. For ever; expelling twice changes nothing.
    pub fn disapprove(&mut self, moment: &mut Moment<'_>, id: &PublicId) -> Result<(), NotDone> {
        self.expel(moment, id, Standing::Disapproved)
    }

    /// A device leaves by its own wish. For ever.
    pub fn leave(&mut self, moment: &mut Moment<'_>, id: &PublicId) -> Result<(), NotDone> {
        self.expel(moment, id, Standing::Left)
    }

    /// Somebody shows an expulsion that this log lacks (it was restored): it is entered anew, for it is final.
    pub fn expulsion_shown(&mut self, moment: &mut Moment<'_>, shown: &VerifiedHeader) {
        let Some(change) = shown.expulsion() else { return };
        self.expelled_ahead(shown);
        if let Some(id) = self.roster.by_key(&change.device).map(|device| device.id) {
            // It is a member of this log, or it is out already; the master itself can't be expelled.
            let _ = self.expel(moment, &id, change.standing);
        }
    }

    /// The same while this copy may not sign: the device is out, and the log will say so later.
    pub fn expelled_ahead(&mut self, shown: &VerifiedHeader) {
        if let Some(change) = shown.expulsion().filter(|change| change.device != self.identity.device_key()) {
            self.roster.expel_ahead(change);
        }
    }

    fn expel(&mut self, moment: &mut Moment<'_>, id: &PublicId, standing: Standing) -> Result<(), NotDone> {
        self.check(id, standing)?;
        let device = self.roster.device(id).ok_or(NotDone::Unknown)?;
        if device.standing.is_final() {
            return Ok(());
        }
        let was_member = device.standing == Standing::Approved;
        let change = self.change_of(moment, id, standing)?;
        let body = match standing {
            Standing::Left => Body::ClientLeft { id: *id },
            Standing::Disapproved | Standing::Registered | Standing::Approved => Body::ClientDisapproved { id: *id },
        };
        self.append(moment, Some(change), body);
        self.files.remove(id);
        if was_member {
            self.begin_epoch(moment);
        }
        Ok(())
    }

    /// A fresh secret, independent of the one before: to each member alone first, then the entry that begins it.
    fn begin_epoch(&mut self, moment: &mut Moment<'_>) {
        let id = EpochId { generation: self.tip.at.generation, number: self.epoch.id.number + 1 };
        self.epoch = Epoch { id, secret: Secret32(draw(moment.random)) };
        self.effects.push_back(Effect::NewEpoch(self.epoch.clone()));
        let me = self.identity.device_key();
        let others: Vec<(DeviceKey, SealKey)> =
            self.roster.members().filter(|device| device.key != me).map(|device| (device.key, device.seal)).collect();
        for (key, seal) in others {
            self.letter(key, seal, 0, Payload::EpochSecrets(vec![EpochSecret::from(&self.epoch)]));
        }
        self.append(moment, None, Body::EpochBegun(id));
    }

    fn change_of(
        &self,
        moment: &mut Moment<'_>,
        id: &PublicId,
        standing: Standing,
    ) -> Result<MembershipChange, NotDone> {
        self.check(id, standing)?;
        let device = self.roster.device(id).ok_or(NotDone::Unknown)?;
        let nonce = draw(moment.random);
        Ok(MembershipChange { id: *id, device: device.key, seal: device.seal, standing, nonce })
    }
}
