use super::*;
use crate::state::authority::{Authority, Effect as Decided, Moment};
use crate::state::random::Random;
use crate::wire::log::Policy;
use crate::wire::name::DeviceName;
use crate::wire::sign::Identity;
use std::sync::Arc;

struct Counter(u64);

impl Random for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        blake3::Hasher::new().update(&self.0.to_le_bytes()).finalize_xof().fill(out);
    }
}

/// The first entries of a log, and its head.
fn log() -> (DeviceKey, Vec<PlainEntry>, SignedHead) {
    let identity = Arc::new(Identity::from_seeds([1; 32], [2; 32]));
    let mut random = Counter(0);
    let mut moment = Moment { wall_ms: 1, random: &mut random };
    let mut authority = Authority::found(identity.clone(), DeviceName::parse("desk").unwrap(), &mut moment);
    authority.set_policy(&mut moment, Policy::default());
    let head = authority.head([0; 16]);
    let entries = std::iter::from_fn(|| authority.poll_effect()).filter_map(|effect| match effect {
        Decided::Append(entry, _) => {
            Some(PlainEntry { header: entry.header.signed().clone(), salted: entry.body.as_bytes().to_vec() })
        }
        _ => None,
    });
    (identity.device_key(), entries.collect(), head)
}

fn questions(replica: &mut Replica) -> usize {
    std::iter::from_fn(|| replica.poll_effect()).filter(|effect| matches!(effect, Effect::Ask(_))).count()
}

/// A master whose disk gives other bytes than it wrote would be asked as fast as it answers.
#[test]
fn an_answer_whose_bodies_do_not_fit_is_asked_for_again_after_a_while() {
    let (master, mut entries, head) = log();
    let me = Identity::from_seeds([3; 32], [4; 32]).device_key();
    let mut replica = Replica::restore(ReplicaConfig::default(), master, me, Restored::default());
    replica.master_reachable(Time(0), true);
    replica.head_shown(Time(0), &head);
    assert_eq!(questions(&mut replica), 1);
    let whole = entries.clone();
    entries[0].salted.push(0);
    replica.entries_came(Time(10), entries);
    assert_eq!((questions(&mut replica), replica.tip().at), (0, Position::default()));
    replica.tick(Time(3_000));
    assert_eq!(questions(&mut replica), 1);
    replica.entries_came(Time(3_010), whole);
    assert!(replica.is_caught_up());
}
