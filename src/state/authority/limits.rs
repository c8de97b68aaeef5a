//! Tests at the limits of a group: nothing that is full keeps a person from removing somebody.

use super::*;
use crate::wire::envelope::RegisterRefusal;
use crate::wire::invite::InviteSecret;
use crate::wire::limits::{INVITES_MAX, MEMBERS_MAX, MEMBERSHIP_HEADERS_MAX};

struct Counter(u64);

impl Random for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        blake3::Hasher::new().update(&self.0.to_le_bytes()).finalize_xof().fill(out);
    }
}

struct Desk {
    authority: Authority,
    random: Counter,
    devices: u64,
}

impl Desk {
    fn new() -> Desk {
        let mut random = Counter(0);
        let identity = Arc::new(Identity::from_seeds([1; 32], [2; 32]));
        let name = DeviceName::parse("desk").unwrap();
        let authority = Authority::found(identity, name, &mut Moment { wall_ms: 1, random: &mut random });
        Desk { authority, random, devices: 0 }
    }

    /// The last letter that it wanted sent.
    fn drain(&mut self) -> Option<Payload> {
        let mut last = None;
        while let Some(effect) = self.authority.poll_effect() {
            if let Effect::Letter { payload, .. } = effect {
                last = Some(*payload);
            }
        }
        last
    }

    fn with<T>(&mut self, decide: impl FnOnce(&mut Authority, &mut Moment<'_>) -> T) -> T {
        decide(&mut self.authority, &mut Moment { wall_ms: 1, random: &mut self.random })
    }

    fn register(&mut self) -> Result<PublicId, RegisterRefusal> {
        self.devices += 1;
        let seed = *blake3::hash(&self.devices.to_le_bytes()).as_bytes();
        let device = Identity::from_seeds(seed, seed);
        let secret = InviteSecret(draw(&mut self.random));
        self.authority.open_invite(1, secret.id(), 2).unwrap();
        let name = DeviceName::parse(&format!("d{}", self.devices)).unwrap();
        let asked = Registration { key: device.device_key(), number: 0, secret, seal: device.seal_key(), name };
        self.with(|authority, moment| authority.register(moment, asked, None));
        let Some(Payload::ClientRegisterAck(outcome)) = self.drain() else { panic!("it is answered") };
        outcome.map(|_| self.authority.roster().by_key(&device.device_key()).unwrap().id)
    }
}

#[test]
fn a_full_group_lets_its_person_remove_somebody_and_then_has_room() {
    let mut desk = Desk::new();
    let ids: Vec<PublicId> = (1..MEMBERS_MAX).map(|_| desk.register().unwrap()).collect();
    assert_eq!(desk.authority.roster().living(), MEMBERS_MAX);
    assert_eq!(desk.register(), Err(RegisterRefusal::GroupFull));
    desk.with(|authority, moment| authority.approve(moment, &ids[0])).unwrap();
    // One that waits for approval, and a member.
    for (id, more) in [(ids[1], 1), (ids[0], 1)] {
        desk.with(|authority, moment| authority.disapprove(moment, &id)).unwrap();
        for _ in 0..more {
            desk.register().unwrap();
        }
        assert_eq!(desk.register(), Err(RegisterRefusal::GroupFull));
    }
}

#[test]
fn with_all_invites_open_one_is_revoked_and_somebody_is_removed() {
    let mut desk = Desk::new();
    let member = desk.register().unwrap();
    let secrets: Vec<InviteSecret> = (0..INVITES_MAX).map(|_| InviteSecret(draw(&mut desk.random))).collect();
    for secret in &secrets {
        desk.authority.open_invite(1, secret.id(), 2).unwrap();
    }
    let one_more = InviteSecret([7; 16]).id();
    assert_eq!(desk.authority.open_invite(1, one_more, 2), None);
    desk.with(|authority, moment| authority.disapprove(moment, &member)).unwrap();
    assert!(desk.authority.revoke_invite(&secrets[0].id()));
    assert_eq!(desk.authority.open_invite(1, one_more, 2), Some(()));
}

/// The server keeps so many headers of a group. A master lets nobody in whose expulsion might find no room there.
#[test]
fn the_last_headers_are_kept_for_approvals_and_expulsions() {
    let mut desk = Desk::new();
    let mut ids: Vec<PublicId> = (0..5).map(|_| desk.register().unwrap()).collect();
    desk.authority.headers = MEMBERSHIP_HEADERS_MAX - 20;
    while let Ok(id) = desk.register() {
        ids.push(id);
    }
    assert!(ids.len() > 5, "there was room for some");
    for id in &ids {
        desk.with(|authority, moment| authority.approve(moment, id)).unwrap();
    }
    for id in &ids {
        desk.with(|authority, moment| authority.disapprove(moment, id)).unwrap();
    }
    assert!(desk.authority.headers <= MEMBERSHIP_HEADERS_MAX, "{}", desk.authority.headers);
    assert_eq!(desk.authority.roster().living(), 1);
}
