//! A member's copy of the log. Whatever comes, true, forged or of another history, and wherever it is restarted: it
//! applies each entry once, signed and linked, follows one history until a higher generation ends a fork, stops for ever
//! when it is expelled, and asks no more often than it says.

use crate::{Bytes, Counter, keep_time};
use bailiwick::state::authority::{Authority, Effect as Decided, Moment, Registration, Seen};
use bailiwick::state::chain::{Fork, Judgement, LogTip};
use bailiwick::state::replica::{Effect, Replica, ReplicaConfig, Restored, Stopped, content_of};
use bailiwick::state::roster::Roster;
use bailiwick::state::time::Time;
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::envelope::PlainEntry;
use bailiwick::wire::ids::{DeviceKey, Hash, Position};
use bailiwick::wire::invite::InviteSecret;
use bailiwick::wire::log::{
    Body, Entry, Manifest, Policy, SignedHead, SignedHeader, SignedManifest, SnapshotRow, Standing,
};
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::seal::{Epoch, SealedBody};
use bailiwick::wire::sign::Identity;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// What the master wrote.
struct Log {
    entries: Vec<(SignedHeader, Option<SealedBody>, Entry, Body)>,
    heads: Vec<SignedHead>,
    epochs: Vec<Epoch>,
    /// Snapshots at some entries: the manifest, its pages, and what the log says there.
    snapshots: Vec<(SignedManifest, Vec<Vec<u8>>, LogTip, Roster)>,
}

fn device(n: u8) -> Identity {
    Identity::from_seeds([n; 32], [n; 32])
}

fn key(n: u8) -> DeviceKey {
    static KEYS: OnceLock<Vec<DeviceKey>> = OnceLock::new();
    KEYS.get_or_init(|| (0..8).map(|n| device(n).device_key()).collect())[usize::from(n)]
}

/// Two histories of one master, which part after some entries, and a later generation. The replica is device 5.
fn logs() -> &'static [Log; 3] {
    static LOGS: OnceLock<[Log; 3]> = OnceLock::new();
    LOGS.get_or_init(|| {
        let first = log(1);
        let headers = first.entries.iter().filter(|(_, _, entry, _)| entry.header.header().membership.is_some());
        let mut random = Counter::default();
        let mut moment = Moment { wall_ms: 3, random: &mut random };
        let seen = Seen {
            headers: headers.take(6).map(|(_, _, entry, _)| entry.header.clone()).collect(),
            names: HashMap::new(),
            generation: 1,
            invites: Default::default(),
            files: HashMap::new(),
            own_name: DeviceName::parse("desk").expect("a name"),
        };
        let again = Authority::import(Arc::new(device(1)), seen, &mut moment);
        [first, log(2), followed(again, &mut moment, 0)]
    })
}

fn log(branch: u64) -> Log {
    let mut random = Counter::default();
    let mut moment = Moment { wall_ms: 1_000, random: &mut random };
    let name = DeviceName::parse("desk").expect("a name");
    let authority = Authority::found(Arc::new(device(1)), name, &mut moment);
    followed(authority, &mut moment, branch)
}

/// What an authority writes while devices come and go. After some steps branches write something else.
fn followed(mut authority: Authority, moment: &mut Moment<'_>, branch: u64) -> Log {
    let mut log = Log { entries: Vec::new(), heads: Vec::new(), epochs: Vec::new(), snapshots: Vec::new() };
    let mut roster = Roster::default();
    for step in 0..16u8 {
        if step == 9 {
            moment.wall_ms += branch;
        }
        let n = [2, 2, 3, 5, 5, 3, 2, 4, 4][usize::from(step) % 9];
        match authority.roster().by_key(&key(n)).map(|device| (device.id, device.standing)) {
            None => {
                let secret = InviteSecret([step; 16]);
                authority.open_invite(1_000, secret.id(), 9_000);
                let (key, seal) = (key(n), device(n).seal_key());
                let name = DeviceName::parse("c").expect("a name");
                authority.register(moment, Registration { key, number: 1, secret, seal, name }, None);
            }
            Some((id, Standing::Registered)) => drop(authority.approve(moment, &id)),
            // One branch expels the replica itself.
            Some((id, _)) if step > 10 && (n != 5 || branch == 2) => drop(authority.disapprove(moment, &id)),
            Some(_) => authority.set_policy(moment, Policy { master_away_wait_ms: u64::from(step), ..Policy::default() }),
        }
        while let Some(effect) = authority.poll_effect() {
            match effect {
                Decided::Append(entry, body) | Decided::Restate(entry, body) => {
                    roster.apply(&entry.header, &body);
                    log.entries.push((entry.header.signed().clone(), None, *entry, *body));
                }
                Decided::Broadcast(_, body) => {
                    if let Some(last) = log.entries.last_mut() {
                        last.1 = Some(body);
                    }
                }
                Decided::NewEpoch(epoch) => log.epochs.push(epoch),
                _ => {}
            }
        }
        log.heads.push(authority.head([0; 16]));
        log.snapshots.push(snapshot(&log, *authority.tip(), roster.clone()));
    }
    log
}

fn snapshot(log: &Log, tip: LogTip, roster: Roster) -> (SignedManifest, Vec<Vec<u8>>, LogTip, Roster) {
    let headers = log.entries.iter().filter(|(_, _, entry, _)| entry.header.header().membership.is_some());
    let rows: Vec<SnapshotRow> = headers.map(|(header, ..)| SnapshotRow::Membership(header.clone())).collect();
    let pages: Vec<Vec<u8>> = rows.chunks(3).map(|rows| encode(&rows.to_vec())).collect();
    let manifest = Manifest {
        group: bailiwick::wire::ids::GroupId::of(&key(1)),
        at: tip.at,
        header: tip.header,
        membership: tip.membership,
        pages: pages.len() as u32,
        content: content_of(pages.iter().map(|page| Hash::of(page))),
    };
    (SignedManifest::sign(&device(1), &manifest), pages, tip, roster)
}

/// What is on the disk.
#[derive(Default)]
struct Disk {
    tip: Option<LogTip>,
    roster: Roster,
    epochs: Vec<Epoch>,
    head: Option<SignedHead>,
    loading: Option<(Manifest, u32)>,
    pages: Vec<Vec<u8>>,
    fork: Option<Fork>,
}

struct World {
    replica: Replica,
    now: Time,
    disk: Disk,
    /// It is out, by a header that it was shown.
    is_out: bool,
    /// Since when an answer was awaited before what happens now, and whether that may be followed by another question.
    asked: Option<Time>,
    may_ask: bool,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let replica = Replica::restore(ReplicaConfig::default(), key(1), key(5), Restored::default());
    let disk = Disk::default();
    let mut world = World { replica, now: Time(0), disk, is_out: false, asked: None, may_ask: false };
    let logs = logs();
    // Histories begin alike; what follows is mostly of one.
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time();
        let log = &logs[[0, 0, 0, 0, 0, 0, 1, 2][usize::from(bytes.byte()) % 8]];
        world.begin();
        world.step(step, log, &mut bytes);
        world.drain();
        world.pass_time();
    }
}

impl World {
    fn pass_time(&mut self) {
        let now = self.now;
        for _ in 0..64 {
            if self.replica.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.begin();
            self.replica.tick(now);
            self.drain();
        }
        keep_time(&mut self.replica, now, Replica::poll_timeout, |_, _| {});
    }

    /// Something is about to happen.
    fn begin(&mut self) {
        (self.asked, self.may_ask) = (self.replica.asked_at(), false);
    }

    fn step(&mut self, step: u8, log: &Log, bytes: &mut Bytes<'_>) {
        let now = self.now;
        let place = usize::from(bytes.byte());
        let (header, body, entry, _) = &log.entries[place % log.entries.len()];
        let next = self.disk.tip.map_or(0, |tip| tip.at.revision as usize).min(log.entries.len() - 1);
        match step % 16 {
            0 | 1 => {
                let place = if step % 16 == 0 { next } else { place % log.entries.len() };
                let (header, body, _, _) = &log.entries[place];
                let mut header = header.clone();
                header.signature.0[1] ^= u8::from(bytes.once_in(32));
                if let Some(body) = body {
                    self.replica.broadcast(now, header, body.clone());
                }
            }
            2..=4 => {
                let first = if step % 16 == 2 { place % log.entries.len() } else { next };
                let plain = |(header, _, entry, _): &(SignedHeader, Option<SealedBody>, Entry, Body)| PlainEntry {
                    header: header.clone(),
                    salted: entry.body.as_bytes().to_vec(),
                };
                let count = 1 + usize::from(bytes.byte() % 6);
                self.replica.entries_came(now, log.entries.iter().skip(first).take(count).map(plain).collect());
            }
            5 => {
                let mut head = log.heads[place % log.heads.len()].clone();
                head.signature.0[1] ^= u8::from(bytes.once_in(32));
                let before = self.replica.tip().at;
                self.replica.head_shown(now, &head);
                assert_eq!(self.replica.tip().at, before);
            }
            6 => self.replica.headers_shown(vec![header.clone()]),
            7 => self.replica.epochs_came(log.epochs.iter().take(usize::from(bytes.byte() % 4)).cloned().collect()),
            8 => {
                self.may_ask = true;
                self.replica.master_reachable(now, !bytes.once_in(4));
            }
            9 => {
                let mut forged = entry.body.as_bytes().to_vec();
                forged.push(bytes.byte());
                self.replica.entries_came(now, vec![PlainEntry { header: header.clone(), salted: forged }]);
            }
            10 => {
                if let Some(body) = body {
                    let mut forged = body.clone();
                    forged.bytes[0] ^= 1;
                    self.replica.broadcast(now, header.clone(), forged);
                }
            }
            11..=13 => {
                let (manifest, pages, ..) = &log.snapshots[place % log.snapshots.len()];
                let wanted = self.disk.loading.as_ref().map_or(0, |(_, next)| *next);
                let page = if bytes.once_in(4) { bytes.number() as u32 } else { wanted };
                let mut content = pages.get(page as usize).cloned().unwrap_or_default();
                if bytes.once_in(8) {
                    content.push(0);
                }
                self.replica.page_came(now, manifest, page, content);
            }
            14 => {
                if bytes.once_in(2) {
                    self.replica.master_away();
                } else {
                    self.replica.secret_missing(now);
                }
            }
            _ if bytes.once_in(4) => self.restart(),
            _ => self.replica.tick(now),
        }
    }

    fn restart(&mut self) {
        let Disk { tip, roster, epochs, head, loading, fork, .. } = &self.disk;
        let (roster, epochs, head) = (roster.clone(), epochs.clone(), head.clone());
        let restored = Restored { tip: *tip, roster, epochs, head, tip_head: None, loading: loading.clone(), fork: *fork };
        self.replica = Replica::restore(ReplicaConfig::default(), key(1), key(5), restored);
        (self.asked, self.may_ask) = (None, true);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.replica.poll_effect() {
            let was_out = self.is_out;
            match effect {
                Effect::Apply(entry, body) => {
                    assert!(!was_out && self.disk.fork.is_none(), "nothing is applied after the end");
                    let tip = self.disk.tip.unwrap_or(LogTip::START);
                    assert_eq!(tip.judge(&entry.header), Judgement::Next, "linked to what is there");
                    assert!(entry.header.signed().clone().verify(&key(1)).is_ok(), "signed by the master");
                    assert_eq!(entry.body.commitment(), entry.header.header().body);
                    self.disk.tip = Some(LogTip::after(&entry.header));
                    self.disk.roster.apply(&entry.header, &body);
                    self.may_ask = true;
                }
                Effect::KeepEpochs(epochs) => self.disk.epochs.extend(epochs),
                Effect::Expelled(header) => {
                    let change = header.expulsion().expect("it expels");
                    assert!(header.signed().clone().verify(&key(1)).is_ok(), "signed by the master");
                    self.disk.roster.expel_ahead(change);
                    self.is_out |= change.device == key(5);
                }
                Effect::KeepTipHead(_) => {}
                Effect::KeepHead(head) => {
                    let at = |head: &SignedHead| head.verify(&key(1)).expect("the master's").at;
                    assert!(self.disk.head.as_ref().is_none_or(|before| at(before) < at(&head)), "heads go up");
                    self.disk.head = Some(head);
                }
                Effect::KeepPage(manifest, page, bytes) => {
                    assert!(page < manifest.pages);
                    if page == 0 {
                        self.disk.pages.clear();
                    }
                    assert_eq!(self.disk.pages.len() as u32, page, "pages come in their order");
                    self.disk.pages.push(bytes);
                    self.disk.loading = Some((manifest, page + 1));
                    self.may_ask = true;
                }
                Effect::Load(manifest) => {
                    self.may_ask = true;
                    self.load(&manifest);
                }
                Effect::Forked(fork, proof) => {
                    assert_ne!(fork.ours, fork.theirs);
                    assert!(proof.is_none_or(|head| head.verify(&key(1)).is_ok()));
                    self.disk.fork = Some(fork);
                }
                Effect::ForkEnded => self.disk.fork = None,
                Effect::Ask(asked) => {
                    assert!(!was_out && self.disk.fork.is_none(), "who has stopped asks nothing");
                    assert_eq!(asked.since, self.replica.tip().at);
                    let wait = ReplicaConfig::default().answer_wait;
                    let waited = self.asked.is_none_or(|at| self.now.since(at) >= wait);
                    assert!(waited || self.may_ask, "it asks again before an answer can have come");
                    self.may_ask = false;
                    self.asked = Some(self.now);
                }
                Effect::CaughtUp => {}
            }
        }
        assert_eq!(self.replica.tip().at, self.disk.tip.map_or(Position::default(), |tip| tip.at));
        assert!(!self.is_out || self.replica.stopped() == Some(Stopped::Expelled), "out for ever");
        assert_eq!(self.disk.fork.is_some() && !self.is_out, matches!(self.replica.stopped(), Some(Stopped::Fork(_))));
    }

    /// Swaps a snapshot in, if it is what its manifest says.
    fn load(&mut self, manifest: &Manifest) {
        let whole = content_of(self.disk.pages.iter().map(|page| Hash::of(page))) == manifest.content;
        let good = whole && self.disk.pages.iter().all(|page| decode::<Vec<SnapshotRow>>(page).is_ok());
        let found = logs()
            .iter()
            .flat_map(|log| &log.snapshots)
            .find(|(signed, ..)| good && signed.verify(&key(1)).is_ok_and(|other| other == *manifest));
        self.disk.loading = None;
        self.disk.pages.clear();
        let outcome = found.map(|(_, _, tip, roster)| (*tip, roster.clone()));
        if let Some((tip, roster)) = &outcome {
            assert!(self.disk.tip.is_none_or(|before| tip.at > before.at), "it goes on, never back");
            let ahead: Vec<(DeviceKey, Standing)> = (0..8)
                .map(key)
                .filter_map(|key| Some((key, self.disk.roster.standing(&key).filter(|it| it.is_final())?)))
                .collect();
            self.disk.roster = Roster::restore(roster.devices().cloned(), ahead);
            self.disk.tip = Some(*tip);
            self.is_out |= self.disk.roster.is_expelled(&key(5));
        }
        let roster = self.disk.roster.clone();
        self.replica.loaded(self.now, outcome.map(|(tip, _)| (tip, roster)));
    }
}

/// Following entry by entry, by broadcasts, by a snapshot; a fork that ends; an expulsion.
pub fn seeds() -> Vec<Vec<u8>> {
    let reachable = vec![8, 0, 0, 0, 0];
    let entries = vec![3, 0, 0, 0, 5];
    let secrets = vec![7, 0, 0, 0, 3];
    let broadcast = vec![0, 0, 0, 0, 0];
    let page = vec![11, 0, 0, 9, 0, 0];
    let head = |log: u8, place: u8| vec![5, 0, log, place, 0];
    let restart = vec![15, 0, 0, 0, 3];
    vec![
        [&reachable[..], &head(0, 15), &entries, &entries, &entries, &entries, &entries].concat(),
        [&reachable[..], &entries, &secrets, &broadcast, &broadcast, &broadcast, &broadcast, &broadcast].concat(),
        [&reachable[..], &head(0, 9), &page, &page, &page, &page, &entries].concat(),
        [&reachable[..], &entries, &entries, &head(0, 12), &head(6, 12), &head(7, 12), &restart].concat(),
        [&reachable[..], &entries, &[2, 0, 6, 18, 5, 2, 0, 6, 12, 5], &restart, &entries].concat(),
    ]
}
