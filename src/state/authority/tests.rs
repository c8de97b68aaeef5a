use super::*;
use crate::state::replica::{self, Replica, ReplicaConfig, Stopped};
use crate::state::time::Time;
use crate::wire::envelope::{FileRefusal, PlainEntry, RegisterRefusal, Request, RequestRefusal};
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::{ContentId, FileId};
use crate::wire::invite::InviteSecret;
use crate::wire::log::{FileKind, FileMeta};
use crate::wire::path::RelPath;

/// A stream of bytes that follows from a seed.
struct Seeded(blake3::OutputReader);

impl Seeded {
    fn new(seed: u8) -> Seeded {
        Seeded(blake3::Hasher::new().update(&[seed]).finalize_xof())
    }
}

impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }
}

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seeds([seed; 32], [seed + 100; 32]))
}

fn name(text: &str) -> DeviceName {
    DeviceName::parse(text).unwrap()
}

/// A master with what it wanted done so far.
struct Desk {
    authority: Authority,
    random: Seeded,
    entries: Vec<Entry>,
    sealed: Vec<(SignedHeader, SealedBody)>,
    letters: Vec<(DeviceKey, u64, Payload)>,
    records: usize,
    order: Vec<&'static str>,
}

impl Desk {
    fn new() -> Desk {
        let mut random = Seeded::new(1);
        let authority =
            Authority::found(identity(1), name("desk"), &mut Moment { wall_ms: 1_000, random: &mut random });
        let mut desk = Desk {
            authority,
            random,
            entries: Vec::new(),
            sealed: Vec::new(),
            letters: Vec::new(),
            records: 0,
            order: Vec::new(),
        };
        desk.drain();
        desk
    }

    fn drain(&mut self) {
        while let Some(effect) = self.authority.poll_effect() {
            match effect {
                Effect::Append(entry, _) => {
                    self.entries.push(*entry);
                    self.order.push("append");
                }
                Effect::Restate(entry, _) => self.entries.push(*entry),
                Effect::NewEpoch(_) => self.order.push("epoch"),
                Effect::Broadcast(header, body) => {
                    self.sealed.push((header, body));
                    self.order.push("broadcast");
                }
                Effect::Letter { to, number, payload, .. } => {
                    self.letters.push((to, number, *payload));
                    self.order.push("letter");
                }
                Effect::Record(..) => self.records += 1,
                Effect::CloseInvite(_) | Effect::InvitesChanged => {}
            }
        }
    }

    fn with<T>(&mut self, wall_ms: u64, decide: impl FnOnce(&mut Authority, &mut Moment<'_>) -> T) -> T {
        let outcome = decide(&mut self.authority, &mut Moment { wall_ms, random: &mut self.random });
        self.drain();
        outcome
    }

    fn invite(&mut self, secret: u8, expires_ms: u64) -> InviteSecret {
        let secret = InviteSecret([secret; 16]);
        self.authority.open_invite(0, secret.id(), expires_ms).unwrap();
        secret
    }

    fn register(&mut self, device: &Identity, secret: InviteSecret, wall_ms: u64) -> Result<PublicId, RegisterRefusal> {
        let asked =
            Registration { key: device.device_key(), number: 0, secret, seal: device.seal_key(), name: name("laptop") };
        let known = self.entries.iter().find(|entry| {
            let change = entry.header.header().membership.as_ref();
            change.is_some_and(|change| change.device == device.device_key())
        });
        let known = known.map(|entry| entry.header.signed().clone());
        self.with(wall_ms, |authority, moment| authority.register(moment, asked, known));
        match self.letters.pop() {
            Some((_, _, Payload::ClientRegisterAck(outcome))) => outcome.map(|header| {
                let header = header.verify(&identity(1).device_key()).unwrap();
                header.header().membership.as_ref().unwrap().id
            }),
            _ => panic!("a registration is always answered"),
        }
    }

    fn member(&mut self, seed: u8) -> PublicId {
        let secret = self.invite(seed, 10_000);
        let id = self.register(&identity(seed), secret, 2_000).unwrap();
        self.with(2_000, |authority, moment| authority.approve(moment, &id)).unwrap();
        self.letters.clear();
        id
    }

    fn request(&mut self, from: &PublicId, number: u64, request: Request, facts: &RequestFacts) -> Answer {
        self.with(3_000, |authority, moment| authority.request(moment, from, number, 1, request, facts));
        match self.letters.pop() {
            Some((_, answered, Payload::Answer(answer))) => {
                assert_eq!(answered, number);
                answer
            }
            _ => panic!("a request is always answered"),
        }
    }

    fn plain(&self, from: usize) -> Vec<PlainEntry> {
        let plain = |entry: &Entry| PlainEntry {
            header: entry.header.signed().clone(),
            salted: entry.body.as_bytes().to_vec(),
        };
        self.entries[from..].iter().map(plain).collect()
    }
}

fn file(id: u8, path: &str) -> FileMeta {
    FileMeta {
        id: FileId([id; 16]),
        content: ContentId([id; 16]),
        path: RelPath::parse(path).unwrap(),
        kind: FileKind::File,
        size: 1,
        hash: Hash([id; 32]),
        chunk: ChunkSize::for_file(1),
        mtime_ms: 0,
        executable: false,
    }
}

fn replica(me: u8) -> Replica {
    let master = identity(1).device_key();
    Replica::restore(ReplicaConfig::default(), master, identity(me).device_key(), replica::Restored::default())
}

fn asks(replica: &mut Replica) -> usize {
    let mut asks = 0;
    while let Some(effect) = replica.poll_effect() {
        asks += usize::from(matches!(effect, replica::Effect::Ask(_)));
    }
    asks
}

#[test]
fn an_invite_lets_one_device_in_once_and_not_after_it_expired() {
    let mut desk = Desk::new();
    let secret = desk.invite(7, 5_000);
    let id = desk.register(&identity(2), secret, 1_000).unwrap();
    assert_eq!(desk.register(&identity(2), secret, 1_000), Ok(id), "the same device gets the same answer");
    assert_eq!(desk.register(&identity(3), secret, 1_000), Err(RegisterRefusal::InviteNotOpen));
    let late = desk.invite(8, 5_000);
    assert_eq!(desk.register(&identity(3), late, 5_000), Err(RegisterRefusal::InviteNotOpen));
    let revoked = desk.invite(9, 5_000);
    assert!(desk.authority.revoke_invite(&revoked.id()));
    assert_eq!(desk.register(&identity(3), revoked, 1_000), Err(RegisterRefusal::InviteNotOpen));
}

#[test]
fn names_are_unique_ignoring_case() {
    let mut desk = Desk::new();
    let (first, second) = (desk.member(2), desk.member(3));
    let names = [first, second].map(|id| desk.authority.roster().device(&id).unwrap().name.to_string());
    assert_eq!(names, ["laptop", "laptop-2"]);
    let taken = desk.request(&second, 1, Request::Rename(name("LAPTOP")), &Vec::new());
    assert_eq!(taken, Answer::Refused(RequestRefusal::NameTaken));
    assert!(matches!(desk.request(&first, 1, Request::Rename(name("LAPTOP")), &Vec::new()), Answer::Done { .. }));
}

#[test]
fn a_disapproval_is_final_and_begins_an_epoch_that_the_device_never_gets() {
    let mut desk = Desk::new();
    let (gone, stays) = (desk.member(2), desk.member(3));
    let before = desk.authority.epoch().id;
    desk.order.clear();
    desk.with(4_000, |authority, moment| authority.disapprove(moment, &gone)).unwrap();
    assert!(desk.authority.epoch().id > before);
    assert_eq!(desk.order, ["append", "broadcast", "epoch", "letter", "append", "broadcast"]);
    let told: Vec<DeviceKey> = desk.letters.iter().map(|(to, ..)| *to).collect();
    assert_eq!(told, [desk.authority.roster().device(&stays).unwrap().key]);
    let again = desk.with(4_000, |authority, moment| authority.approve(moment, &gone));
    assert_eq!(again, Err(NotDone::Final));
    let secret = desk.invite(9, 9_000);
    assert_eq!(desk.register(&identity(2), secret, 5_000), Err(RegisterRefusal::Expelled));
    let me = desk.authority.id();
    assert_eq!(desk.with(4_000, |authority, moment| authority.disapprove(moment, &me)), Err(NotDone::Master));
}

#[test]
fn a_request_is_decided_once_and_a_repeat_gets_the_same_answer() {
    let mut desk = Desk::new();
    let id = desk.member(2);
    let add = || Request::AddFiles(vec![file(1, "a")]);
    let first = desk.request(&id, 1, add(), &vec![FileFact::default()]);
    let length = desk.entries.len();
    assert_eq!(desk.request(&id, 1, add(), &vec![FileFact::default()]), first);
    assert_eq!(desk.entries.len(), length);
    let other = Request::AddFiles(vec![file(2, "b")]);
    assert_eq!(desk.request(&id, 1, other.clone(), &vec![FileFact::default()]), Answer::StaleNumber { last: 1 });
    assert_eq!(desk.request(&id, 7, other.clone(), &vec![FileFact::default()]), Answer::StaleNumber { last: 1 });
    assert!(matches!(desk.request(&id, 2, other, &vec![FileFact::default()]), Answer::Done { .. }));
}

#[test]
fn replayed_refusal() {
    let mut desk = Desk::new();
    let (id, other) = (desk.member(2), desk.member(3));
    let wish = Request::Rename(name("desk"));
    let refused = desk.request(&id, 1, wish.clone(), &Vec::new());
    assert_eq!(refused, Answer::Refused(RequestRefusal::NameTaken));
    // A day later the name would be free; the replay of the old request still gets the old answer.
    desk.request(&other, 1, Request::Rename(name("else")), &Vec::new());
    let length = desk.entries.len();
    assert_eq!(desk.request(&id, 1, wish, &Vec::new()), refused);
    assert_eq!(desk.entries.len(), length);
}

#[test]
fn a_path_and_an_id_belong_to_one_file() {
    let mut desk = Desk::new();
    let id = desk.member(2);
    let there = FileFact { by_id: None, by_path: Some(FileId([9; 16])) };
    let stranger = FileFact { by_id: Some((PublicId([8; 16]), file(2, "b"))), by_path: None };
    let files = vec![file(1, "a"), file(2, "b"), file(3, "c"), file(4, "c")];
    let facts = vec![there, stranger, FileFact::default(), FileFact::default()];
    let Answer::Done { refused, .. } = desk.request(&id, 1, Request::AddFiles(files), &facts) else { panic!() };
    assert_eq!(
        refused,
        [
            (FileId([1; 16]), FileRefusal::PathTaken),
            (FileId([2; 16]), FileRefusal::IdTaken),
            (FileId([4; 16]), FileRefusal::PathTaken)
        ]
    );
}

#[test]
fn a_replica_follows_entry_by_entry_and_asks_for_what_is_missing() {
    let mut desk = Desk::new();
    desk.member(2);
    let mut replica = replica(2);
    replica.master_reachable(Time(0), true);
    assert_eq!(asks(&mut replica), 1);
    replica.epochs_came(desk.authority.secrets().into_iter().map(Epoch::from).collect());
    replica.entries_came(Time(1), desk.plain(0));
    assert_eq!(replica.tip(), desk.authority.tip());
    assert_eq!(replica.roster(), desk.authority.roster());
    assert_eq!(asks(&mut replica), 0);
    desk.member(3);
    let news = std::mem::take(&mut desk.sealed);
    let [.., before_last, last] = news.as_slice() else { panic!() };
    replica.broadcast(Time(2), last.0.clone(), last.1.clone());
    assert_eq!(asks(&mut replica), 1, "there is a gap");
    replica.broadcast(Time(2), before_last.0.clone(), before_last.1.clone());
    replica.entries_came(Time(3), desk.plain(3));
    assert_eq!(replica.tip(), desk.authority.tip());
    assert_eq!(replica.roster(), desk.authority.roster());
}

#[test]
fn an_entry_of_another_hand_changes_nothing() {
    let mut desk = Desk::new();
    desk.member(2);
    let mut replica = replica(2);
    let mut forged = desk.plain(0);
    forged[0].salted[33] ^= 1;
    replica.entries_came(Time(0), forged);
    assert_eq!(replica.tip(), &LogTip::START);
    let mut forged = desk.plain(0);
    forged[0].header.bytes[40] ^= 1;
    replica.entries_came(Time(0), forged);
    assert_eq!(replica.tip(), &LogTip::START);
}

#[test]
fn an_expulsion_counts_at_once_and_in_any_order() {
    let mut desk = Desk::new();
    let gone = desk.member(2);
    desk.member(3);
    let mut behind = replica(3);
    behind.entries_came(Time(0), desk.plain(0));
    desk.member(4);
    desk.with(9_000, |authority, moment| authority.disapprove(moment, &gone)).unwrap();
    let header = desk.entries.iter().find(|entry| entry.header.expulsion().is_some()).unwrap().header.signed().clone();
    behind.headers_shown(vec![header.clone()]);
    assert!(behind.roster().is_expelled(&identity(2).device_key()));
    assert!(!behind.roster().is_member(&identity(2).device_key()));
    let mut expelled = replica(2);
    expelled.headers_shown(vec![header]);
    assert_eq!(expelled.stopped(), Some(Stopped::Expelled));
}

#[test]
fn two_histories_for_one_place_stop_the_replica() {
    let mut desk = Desk::new();
    desk.member(2);
    let mut replica = replica(2);
    replica.entries_came(Time(0), desk.plain(0));
    let tip = *desk.authority.tip();
    let other = Head {
        group: GroupId::of(&identity(1).device_key()),
        at: tip.at,
        header: Hash([9; 32]),
        membership: tip.membership,
        nonce: [0; 16],
    };
    replica.head_shown(Time(1), &SignedHead::sign(&identity(1), &other));
    assert!(matches!(replica.stopped(), Some(Stopped::Fork(fork)) if fork.at == tip.at));
}

/// Whoever meets a fork in the entries themselves shows the head of its own log, though it was shown a newer one since.
#[test]
fn who_meets_a_fork_shows_the_head_of_its_own_end() {
    let (mut desk, mut old_copy) = (Desk::new(), Desk::new());
    desk.member(2);
    old_copy.member(2);
    assert_eq!(desk.authority.tip(), old_copy.authority.tip(), "one log so far");
    desk.member(3);
    let head_of = |desk: &Desk| {
        let tip = desk.authority.tip();
        let group = GroupId::of(&identity(1).device_key());
        let head = Head { group, at: tip.at, header: tip.header, membership: tip.membership, nonce: [0; 16] };
        SignedHead::sign(&identity(1), &head)
    };
    let mut replica = replica(2);
    replica.entries_came(Time(0), desk.plain(0));
    replica.head_shown(Time(0), &head_of(&desk));
    let known = desk.entries.len();
    old_copy.member(4);
    old_copy.member(5);
    replica.head_shown(Time(1), &head_of(&old_copy));
    assert_eq!(replica.stopped(), None, "it is only behind, for all that it knows");
    replica.entries_came(Time(1), old_copy.plain(known));
    assert!(matches!(replica.stopped(), Some(Stopped::Fork(_))));
    let shown: Vec<SignedHead> = std::iter::from_fn(|| replica.poll_effect())
        .filter_map(|effect| match effect {
            crate::state::replica::Effect::Forked(_, shown) => shown,
            _ => None,
        })
        .collect();
    assert_eq!(shown, [head_of(&desk)]);
}

#[test]
fn a_copy_that_is_behind_what_others_saw_signs_nothing() {
    use std::time::Duration;
    let config = GateConfig::default();
    let desk = Desk::new();
    let own = *desk.authority.tip();
    let head = |revision, header| Head {
        group: GroupId([0; 32]),
        at: Position { generation: 1, revision },
        header,
        membership: Hash::ZERO,
        nonce: [0; 16],
    };
    let mut gate = Gate::at_start(Time(0), true, &config);
    gate.tick(Time(4_999));
    assert_ne!(gate, Gate::Open);
    gate.server_answered(true, Duration::from_secs(1), &config);
    assert_ne!(gate, Gate::Open, "a server that was just started has heard nobody yet");
    gate.head_shown(&head(1, own.header), &own, None);
    gate.server_answered(true, Duration::from_secs(60), &config);
    assert_eq!(gate, Gate::Open);
    gate.head_shown(&head(2, Hash([1; 32])), &own, None);
    assert!(matches!(gate, Gate::Closed(_)), "also at any later time");
    let mut forked = Gate::Open;
    forked.head_shown(&head(1, Hash([1; 32])), &own, None);
    assert!(matches!(forked, Gate::Closed(StaleCopy { fork: Some(_), .. })));
    let later = LogTip { at: Position { generation: 1, revision: 9 }, ..own };
    let mut forked = Gate::Open;
    forked.head_shown(&head(1, own.header), &later, Some(own.header));
    assert_eq!(forked, Gate::Open);
    forked.head_shown(&head(1, Hash([1; 32])), &later, Some(own.header));
    assert!(matches!(forked, Gate::Closed(_)), "also at an earlier place");
    assert_eq!(Gate::at_start(Time(0), false, &config), Gate::Open);
}

#[test]
fn names_that_look_alike() {
    let mut desk = Desk::new();
    let (alice, other) = (desk.member(2), desk.member(3));
    let rename = |desk: &mut Desk, id, number, text: &str| {
        let name = DeviceName::from_log(text).unwrap();
        desk.request(id, number, Request::Rename(name), &Vec::new())
    };
    assert!(matches!(rename(&mut desk, &alice, 1, "alice"), Answer::Done { .. }));
    for (number, look) in ["al\u{456}ce", "ALICE", "AIice"].into_iter().enumerate() {
        let answer = rename(&mut desk, &other, number as u64 + 1, look);
        assert_eq!(answer, Answer::Refused(RequestRefusal::NameTaken), "{look:?}");
    }
    let unseen = rename(&mut desk, &other, 4, "bob\u{3164}");
    assert_eq!(unseen, Answer::Refused(RequestRefusal::Malformed));
    // One's own name in other letters is no other's; what nobody has any more is free.
    assert!(matches!(rename(&mut desk, &alice, 2, "Alice"), Answer::Done { .. }));
    assert!(matches!(rename(&mut desk, &alice, 3, "carol"), Answer::Done { .. }));
    assert!(matches!(rename(&mut desk, &other, 5, "al\u{456}ce"), Answer::Done { .. }));
}
