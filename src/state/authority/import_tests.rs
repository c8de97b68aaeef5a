use super::*;
use crate::state::random::Random;
use crate::wire::ids::{Audience, SealKey};
use crate::wire::log::{Header, SignedHeader};
use proptest::prelude::*;
use std::collections::HashSet;

struct Seeded(blake3::OutputReader);

impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }
}

fn seeded() -> Seeded {
    Seeded(blake3::Hasher::new().finalize_xof())
}

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seeds([seed; 32], [seed + 100; 32]))
}

fn seal(seed: u8) -> SealKey {
    identity(seed).seal_key()
}

/// A membership header of the old log; the device's number gives its keys.
fn header(device: u8, id: u8, generation: u32, revision: u64, standing: Standing) -> VerifiedHeader {
    let change = MembershipChange {
        id: PublicId([id; 16]),
        device: identity(device).device_key(),
        seal: seal(device),
        standing,
        nonce: [id; 16],
    };
    let header = Header {
        group: GroupId::of(&identity(1).device_key()),
        at: Position { generation, revision },
        previous: Hash::ZERO,
        previous_membership: Hash::ZERO,
        time_ms: 0,
        audience: Audience::EVERYONE,
        membership: Some(change),
        body: Hash::ZERO,
    };
    SignedHeader::sign(&identity(1), &header)
}

fn seen(headers: Vec<VerifiedHeader>, generation: u32) -> Seen {
    let laptop = (PublicId([2; 16]), DeviceName::parse("laptop").unwrap());
    Seen {
        headers,
        names: HashMap::from([laptop]),
        generation,
        invites: BTreeMap::new(),
        files: HashMap::new(),
        own_name: DeviceName::parse("desk").unwrap(),
    }
}

/// The new log, and the headers that it begins with.
fn import(seen: Seen) -> (Authority, Vec<VerifiedHeader>) {
    let mut random = seeded();
    let mut authority = Authority::import(identity(1), seen, &mut Moment { wall_ms: 9, random: &mut random });
    let mut headers = Vec::new();
    while let Some(effect) = authority.poll_effect() {
        match effect {
            Effect::Restate(entry, _) => headers.push(entry.header),
            Effect::NewEpoch(_) => {}
            _ => panic!("an import tells nobody anything"),
        }
    }
    (authority, headers)
}

fn standing_of(authority: &Authority, device: u8) -> Option<Standing> {
    authority.roster().standing(&identity(device).device_key())
}

#[test]
fn the_highest_generation_counts_wherever_it_was_seen() {
    let one = || header(1, 1, 1, 1, Standing::Approved);
    assert_eq!(import(seen(vec![one()], 0)).0.tip().at.generation, 2);
    assert_eq!(import(seen(vec![one()], 7)).0.tip().at.generation, 8);
    assert_eq!(import(seen(vec![one(), header(2, 2, 4, 9, Standing::Approved)], 3)).0.tip().at.generation, 5);
    assert_eq!(import(seen(vec![one()], 7)).0.epoch().id, EpochId { generation: 8, number: 1 });
}

#[test]
fn who_is_not_in_the_backup_gets_a_name_and_who_is_keeps_it() {
    let headers = vec![
        header(1, 1, 1, 1, Standing::Approved),
        header(2, 2, 1, 2, Standing::Registered),
        header(2, 2, 1, 3, Standing::Approved),
        header(3, 3, 1, 4, Standing::Approved),
    ];
    let (authority, _) = import(seen(headers, 1));
    let name = |device: u8| authority.roster().by_key(&identity(device).device_key()).unwrap().name.to_string();
    assert_eq!((name(1).as_str(), name(2).as_str(), name(3).as_str()), ("desk", "laptop", "device-030303"));
}

fn any_header() -> impl Strategy<Value = VerifiedHeader> {
    let standing = prop_oneof![
        3 => Just(Standing::Registered),
        4 => Just(Standing::Approved),
        1 => Just(Standing::Disapproved),
        1 => Just(Standing::Left)
    ];
    // Ids mostly follow from the device; a fork may have given it another one.
    (1u8..7, 0u8..10, 1u32..4, 1u64..20, standing).prop_map(|(device, other, generation, revision, standing)| {
        let id = if other == 0 { device + 40 } else { device };
        header(device, id, generation, revision, standing)
    })
}

proptest! {
    #[test]
    fn whatever_is_found_in_whatever_order(headers in proptest::collection::vec(any_header(), 0..40), by in 0usize..40) {
        let (authority, restated) = import(seen(headers.clone(), 1));
        for device in 2..7 {
            let key = identity(device).device_key();
            let said: Vec<Standing> = headers
                .iter()
                .filter_map(|header| header.header().membership.as_ref())
                .filter(|change| change.device == key)
                .map(|change| change.standing)
                .collect();
            let standing = standing_of(&authority, device);
            prop_assert_eq!(standing.is_some(), !said.is_empty());
            let is_final = said.iter().any(|standing| standing.is_final());
            prop_assert_eq!(standing.is_some_and(Standing::is_final), is_final, "what is final anywhere is final");
            let approved = !is_final && said.contains(&Standing::Approved);
            prop_assert_eq!(standing == Some(Standing::Approved), approved);
        }
        prop_assert_eq!(standing_of(&authority, 1), Some(Standing::Approved), "the master can't be expelled");
        // The new log is one chain from its beginning, above all that was seen, with each device once.
        let (mut tip, mut keys) = (LogTip { at: Position { generation: authority.tip().at.generation, revision: 0 }, ..LogTip::START }, HashSet::new());
        for header in &restated {
            prop_assert_eq!(header.header().previous, tip.header);
            prop_assert_eq!(header.header().previous_membership, tip.membership);
            prop_assert_eq!(header.header().at.revision, tip.at.revision + 1);
            prop_assert!(headers.iter().all(|old| old.header().at < header.header().at));
            prop_assert!(keys.insert(header.header().membership.as_ref().unwrap().device));
            tip = LogTip::after(header);
        }
        prop_assert_eq!(&tip, authority.tip());
        // The order in which things are found says nothing.
        let mut turned = headers.clone();
        turned.rotate_left(by.min(headers.len()));
        let (again, _) = import(seen(turned, 1));
        prop_assert_eq!(again.tip(), authority.tip());
    }
}
