//! The pen. Whatever is asked of it, and wherever it is restarted: its log goes up by one and links, each entry is
//! persisted before anybody hears of it, what is final stays, an invite is used once, a request is decided once, and the
//! group's secret goes to members alone and anew when one goes.

use crate::{Bytes, Counter};
use bailiwick::state::authority::{Authority, Effect, FileFact, LastRequest, Moment, Registration, Restored, Seen};
use bailiwick::state::chain::{Judgement, LogTip};
use bailiwick::state::roster::Roster;
use bailiwick::wire::codec::encode;
use bailiwick::wire::envelope::{Answer, Payload, Request};
use bailiwick::wire::geometry::ChunkSize;
use bailiwick::wire::ids::{ContentId, DeviceKey, FileId, Hash, InviteId, PublicId};
use bailiwick::wire::invite::InviteSecret;
use bailiwick::wire::limits::ENTRY_BODY_BYTES_MAX;
use bailiwick::wire::log::{Body, Entry, FileKind, FileMeta, Policy, SignedHeader, Standing, VerifiedHeader};
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::path::RelPath;
use bailiwick::wire::seal::Epoch;
use bailiwick::wire::sign::Identity;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

const DEVICES: u8 = 6;

struct Keys {
    pen: Arc<Identity>,
    devices: Vec<(DeviceKey, bailiwick::wire::ids::SealKey)>,
}

/// Devices by number; the master is 0.
fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let of = |n: u8| Identity::from_seeds([n + 1; 32], [n + 1; 32]);
        let devices = (0..DEVICES).map(|n| (of(n).device_key(), of(n).seal_key())).collect();
        Keys { pen: Arc::new(of(0)), devices }
    })
}

fn name(text: &str) -> DeviceName {
    DeviceName::parse(text).expect("a name")
}

/// What is on the disk.
#[derive(Default)]
struct Disk {
    tip: Option<LogTip>,
    roster: Roster,
    epoch: Option<Epoch>,
    invites: BTreeMap<InviteId, u64>,
    last: HashMap<PublicId, LastRequest>,
    catalog: BTreeMap<FileId, (PublicId, FileMeta)>,
    /// Ids that were used for another owner's file, or are.
    headers: Vec<VerifiedHeader>,
    entries: usize,
    /// Devices that are out for ever.
    out: BTreeSet<DeviceKey>,
    names: HashMap<PublicId, DeviceName>,
}

struct World {
    authority: Authority,
    disk: Disk,
    random: Counter,
    wall_ms: u64,
    /// Devices that a person approved.
    approved: BTreeSet<PublicId>,
    /// Answers by asker, number and content.
    answers: BTreeMap<(PublicId, u64, Vec<u8>), Answer>,
    opened: BTreeSet<InviteId>,
    used: BTreeSet<InviteId>,
    /// Whether a member went and the secret was not changed yet.
    secret_known_outside: bool,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut random = Counter::default();
    let authority =
        Authority::found(keys().pen.clone(), name("desk"), &mut Moment { wall_ms: 1_000, random: &mut random });
    let mut world = World {
        authority,
        disk: Disk::default(),
        random,
        wall_ms: 1_000,
        approved: BTreeSet::new(),
        answers: BTreeMap::new(),
        opened: BTreeSet::new(),
        used: BTreeSet::new(),
        secret_known_outside: false,
    };
    world.drain();
    world.approved.insert(world.authority.id());
    while let Some(step) = bytes.next() {
        world.step(step, &mut bytes);
        world.drain();
        world.check();
    }
}

impl World {
    fn with<T>(&mut self, decide: impl FnOnce(&mut Authority, &mut Moment<'_>) -> T) -> T {
        decide(&mut self.authority, &mut Moment { wall_ms: self.wall_ms, random: &mut self.random })
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>) {
        let n = bytes.byte() % DEVICES;
        let (key, seal) = keys().devices[usize::from(n)];
        let id = self.authority.roster().by_key(&key).map_or(PublicId([n; 16]), |device| device.id);
        match step % 16 {
            0 => {
                let (secret, life) = (InviteSecret([bytes.byte() % 64; 16]), bytes.number().saturating_mul(100));
                let expires = self.wall_ms.saturating_sub(200).saturating_add(life);
                // A secret is drawn anew for every invite.
                if self.opened.insert(secret.id())
                    && self.authority.open_invite(self.wall_ms, secret.id(), expires).is_some()
                {
                    self.disk.invites.insert(secret.id(), expires);
                }
            }
            1 | 2 => self.register(key, seal, bytes),
            3 | 4 => {
                let known = self.authority.roster().device(&id).is_some();
                if self.with(|authority, moment| authority.approve(moment, &id)).is_ok() {
                    assert!(known && !self.disk.out.contains(&key), "who is out stays out");
                    self.approved.insert(id);
                }
            }
            5 if bytes.once_in(3) => {
                let done = self.with(|authority, moment| authority.disapprove(moment, &id));
                assert!(n != 0 || done.is_err(), "the master stays");
            }
            6 if bytes.once_in(3) => {
                let _ = self.with(|authority, moment| authority.leave(moment, &id));
            }
            7 => self.wall_ms = self.wall_ms.saturating_add(bytes.number()).saturating_sub(bytes.number()),
            8 if bytes.once_in(4) => self.restart(),
            9 if bytes.once_in(8) => self.import(bytes),
            10 => {
                let shown = *bytes.one(&[0, 1]).unwrap_or(&0);
                let header = &strange()[usize::from(bytes.byte()) % strange().len()];
                if shown == 0 {
                    self.with(|authority, moment| authority.expulsion_shown(moment, header));
                } else {
                    self.authority.expelled_ahead(header);
                }
                if let Some(change) = header.expulsion().filter(|change| change.device != keys().devices[0].0) {
                    self.disk.out.insert(change.device);
                }
            }
            11 => {
                let policy = Policy { master_away_wait_ms: bytes.number(), ..Policy::default() };
                self.with(|authority, moment| authority.set_policy(moment, policy));
            }
            12 => {
                let revoked = InviteSecret([bytes.byte() % 64; 16]).id();
                self.authority.revoke_invite(&revoked);
            }
            _ => self.request(id, bytes),
        }
    }

    fn register(&mut self, key: DeviceKey, seal: bailiwick::wire::ids::SealKey, bytes: &mut Bytes<'_>) {
        let secret = InviteSecret([bytes.byte() % 64; 16]);
        let names = ["c", "C", "desk", "c-2"];
        let name = name(names[usize::from(bytes.byte()) % 4]);
        let known = self
            .disk
            .headers
            .iter()
            .find(|header| header.header().membership.as_ref().is_some_and(|change| change.device == key));
        let known: Option<SignedHeader> = known.map(|header| header.signed().clone());
        let was_known = self.authority.roster().by_key(&key).is_some();
        let was_open = self.disk.invites.get(&secret.id()).is_some_and(|expires| *expires > self.wall_ms);
        let asked = Registration { key, number: bytes.number(), secret, seal, name };
        let new = self.with(|authority, moment| authority.register(moment, asked, known));
        if new.is_some() {
            assert!(was_open && !was_known && !self.disk.out.contains(&key));
            assert!(self.used.insert(secret.id()), "an invite is used once");
        }
    }

    fn request(&mut self, id: PublicId, bytes: &mut Bytes<'_>) {
        let numbers: Vec<u8> = (0..bytes.below(5)).map(|_| bytes.byte() % 12).collect();
        let odd = bytes.byte();
        let files = || numbers.iter().map(|n| file(*n, odd)).collect();
        let request = match bytes.below(6) {
            0 | 1 => Request::AddFiles(files()),
            2 => Request::ChangeFiles(files()),
            3 => Request::RemoveFile(numbers.iter().map(|n| FileId([*n; 16])).collect()),
            4 => Request::Rename(name(["a", "A", "desk", "c"][usize::from(odd) % 4])),
            _ => Request::Leave,
        };
        let is_of_files = !matches!(request, Request::Rename(_) | Request::Leave);
        let fact = |n: &u8| FileFact {
            by_id: self.disk.catalog.get(&FileId([*n; 16])).cloned(),
            by_path: self
                .disk
                .catalog
                .values()
                .find(|(by, row)| *by == id && row.path == file(*n, odd).path)
                .map(|(_, row)| row.id),
        };
        let facts: Vec<FileFact> = if is_of_files { numbers.iter().map(fact).collect() } else { Vec::new() };
        let last = self.disk.last.get(&id).map_or(0, |last| last.number);
        let number = if bytes.once_in(4) { bytes.number() } else { last + u64::from(!bytes.once_in(4)) };
        let here = self.authority.tip().at.generation;
        let generation = if bytes.once_in(8) { bytes.number() as u32 } else { here };
        let before = (self.authority.tip().at, self.disk.entries);
        let is_member =
            self.authority.roster().device(&id).is_some_and(|it| self.authority.roster().is_member(&it.key));
        let content = encode(&(generation, &request));
        self.with(|authority, moment| authority.request(moment, &id, number, generation, request, &facts));
        let told = self.drain();
        assert!(is_member || (told.is_none() && self.authority.tip().at == before.0), "who is no member asks nothing");
        let Some(answer) = told else { return };
        let again = self.answers.get(&(id, number, content.clone()));
        if let Some(again) = again.filter(|_| number == last) {
            assert_eq!(*again, answer, "a repeat gets the same answer");
            assert_eq!(self.authority.tip().at, before.0, "and decides nothing");
        }
        if !matches!(answer, Answer::StaleNumber { .. } | Answer::OtherGeneration) {
            self.answers.insert((id, number, content), answer);
        }
    }

    /// The process is killed, and starts from its disk.
    fn restart(&mut self) {
        let disk = &self.disk;
        let mut files: HashMap<PublicId, u64> = HashMap::new();
        disk.catalog.values().for_each(|(owner, _)| *files.entry(*owner).or_default() += 1);
        let restored = Restored {
            tip: disk.tip.expect("it began"),
            roster: disk.roster.clone(),
            epoch: disk.epoch.clone().expect("it began"),
            invites: disk.invites.clone(),
            last: disk.last.clone(),
            files,
            headers: disk.headers.len(),
        };
        self.authority = Authority::restore(keys().pen.clone(), restored);
        for key in &self.disk.out {
            // Those that ran ahead of the log are kept beside it.
            if let Some(header) = strange().iter().find(|one| one.expulsion().is_some_and(|out| out.device == *key)) {
                self.authority.expelled_ahead(header);
            }
        }
    }

    /// The master comes back from a backup: all that anybody has of the old log makes a new one.
    fn import(&mut self, bytes: &mut Bytes<'_>) {
        let kept = usize::from(bytes.byte()) % (self.disk.headers.len() + 1);
        let mut headers = self.disk.headers[..kept].to_vec();
        let more = usize::from(bytes.byte()) % (strange().len() + 1);
        headers.extend_from_slice(&strange()[..more]);
        if bytes.once_in(2) {
            headers.reverse();
        }
        let out: BTreeSet<DeviceKey> = headers.iter().filter_map(|one| Some(one.expulsion()?.device)).collect();
        let out: BTreeSet<DeviceKey> = out.into_iter().filter(|key| *key != keys().devices[0].0).collect();
        let ever_approved: BTreeSet<DeviceKey> = headers
            .iter()
            .filter_map(|one| one.header().membership.as_ref())
            .filter(|change| change.standing == Standing::Approved)
            .map(|change| change.device)
            .collect();
        let generation = self.authority.tip().at.generation;
        let seen = Seen {
            headers,
            names: self.disk.names.clone(),
            generation,
            invites: self.disk.invites.clone(),
            files: HashMap::new(),
            own_name: name("desk"),
        };
        let mut moment = Moment { wall_ms: self.wall_ms, random: &mut self.random };
        self.authority = Authority::import(keys().pen.clone(), seen, &mut moment);
        assert!(self.authority.tip().at.generation > generation);
        let invites = std::mem::take(&mut self.disk.invites);
        self.disk = Disk { invites, out, ..Disk::default() };
        self.answers.clear();
        for device in self.authority.roster().devices() {
            if device.standing == Standing::Approved {
                let own = device.key == keys().devices[0].0;
                assert!(own || ever_approved.contains(&device.key), "approved by nobody");
                self.approved.insert(device.id);
            }
        }
        self.secret_known_outside = false;
    }

    /// Carries out what it wants done. Gives the answer that it sent, if it sent one.
    fn drain(&mut self) -> Option<Answer> {
        let mut told = None;
        let mut told_secret = BTreeSet::new();
        while let Some(effect) = self.authority.poll_effect() {
            match effect {
                Effect::Append(entry, body) | Effect::Restate(entry, body) => {
                    if matches!(*body, Body::EpochBegun(_)) {
                        let members: BTreeSet<DeviceKey> = self.disk.roster.members().map(|it| it.key).collect();
                        // Nor has it who was expelled ahead of the log.
                        let stays = |key: &DeviceKey| *key != keys().devices[0].0 && !self.disk.out.contains(key);
                        let others = members.into_iter().filter(stays).collect();
                        assert_eq!(std::mem::take(&mut told_secret), others, "all who stay have the new secret");
                    }
                    self.append(&entry, *body);
                }
                Effect::NewEpoch(new) => {
                    assert!(self.disk.epoch.as_ref().is_none_or(|old| new.id > old.id), "epochs go up");
                    self.disk.epoch = Some(new);
                    self.secret_known_outside = false;
                }
                Effect::CloseInvite(id) => drop(self.disk.invites.remove(&id)),
                Effect::Record(id, last) => drop(self.disk.last.insert(id, last)),
                Effect::Broadcast(header, body) => {
                    let header = header.verify(&keys().devices[0].0).expect("its own");
                    let tip = self.disk.tip.expect("persisted before it is sent");
                    assert_eq!(
                        (header.header().at, header.hash()),
                        (tip.at, tip.header),
                        "persisted before it is sent"
                    );
                    let epoch = self.disk.epoch.as_ref().expect("there is a secret");
                    assert!(body.open(epoch, &header.hash()).is_ok());
                }
                Effect::Letter { to, payload, .. } => match *payload {
                    Payload::EpochSecrets(_) => {
                        assert!(self.disk.roster.is_member(&to) && !self.disk.out.contains(&to), "to members alone");
                        told_secret.insert(to);
                    }
                    Payload::Answer(answer) => told = Some(answer),
                    Payload::ClientRegisterAck(Ok(_)) => assert!(!self.disk.out.contains(&to)),
                    _ => {}
                },
                Effect::InvitesChanged => {}
            }
        }
        told
    }

    fn append(&mut self, entry: &Entry, body: Body) {
        let disk = &mut self.disk;
        let header = &entry.header;
        let tip = disk.tip.unwrap_or(LogTip::START);
        assert_eq!(tip.judge(header), Judgement::Next, "each links to the one before");
        assert!(header.signed().clone().verify(&keys().devices[0].0).is_ok());
        assert!(entry.body.as_bytes().len() <= ENTRY_BODY_BYTES_MAX);
        assert_eq!(entry.body.body().as_ref(), Ok(&body));
        disk.tip = Some(LogTip::after(header));
        disk.entries += 1;
        let was_member = header.expulsion().is_some_and(|change| {
            disk.roster.by_key(&change.device).is_some_and(|device| device.standing == Standing::Approved)
        });
        disk.roster.apply(header, &body);
        if let Some(change) = &header.header().membership {
            disk.headers.push(header.clone());
            if change.standing == Standing::Approved {
                let known = disk.entries == 1 || self.approved.contains(&change.id);
                // A restated log says again who was approved; else a person did, just now.
                assert!(known || matches!(body, Body::ClientApproved { .. } | Body::ClientRegistered { .. }));
                assert!(!disk.out.contains(&change.device), "who is out stays out");
            }
        }
        if let Some(change) = header.expulsion() {
            disk.out.insert(change.device);
            disk.catalog.retain(|_, (owner, _)| *owner != change.id);
            self.secret_known_outside |= was_member;
        }
        match body {
            Body::GroupBegun { name, .. } => {
                let own = self.authority.id();
                disk.names.insert(own, name);
            }
            Body::ClientRegistered { id, name } | Body::ClientRenamed { id, name } => drop(disk.names.insert(id, name)),
            Body::FilesAdded { owner, files } => {
                for file in files {
                    let taken = disk.catalog.values().any(|(by, row)| *by == owner && row.path == file.path);
                    assert!(!taken, "one file at a path");
                    assert!(disk.catalog.insert(file.id, (owner, file)).is_none(), "one file of an id");
                }
            }
            Body::FilesChanged { owner, files } => {
                for file in files {
                    assert!(disk.catalog.insert(file.id, (owner, file)).is_some_and(|(by, _)| by == owner), "its own");
                }
            }
            Body::FileRemoved { owner, files } => {
                for file in files {
                    assert!(disk.catalog.remove(&file).is_some_and(|(by, _)| by == owner), "its own");
                }
            }
            Body::EpochBegun(id) => assert_eq!(disk.epoch.as_ref().map(|it| it.id), Some(id), "persisted first"),
            _ => {}
        }
    }

    fn check(&self) {
        assert_eq!(Some(*self.authority.tip()), self.disk.tip);
        assert!(!self.secret_known_outside, "who went has the secret in use");
        for key in &self.disk.out {
            assert!(self.authority.roster().is_expelled(key), "what is final stays");
        }
        let mut names = BTreeSet::new();
        for device in self.authority.roster().devices().filter(|device| !device.standing.is_final()) {
            assert!(names.insert(device.name.folded()), "a name is one device's");
        }
        for id in self.authority.open_invites(self.wall_ms) {
            assert!(self.disk.invites.contains_key(&id) && !self.used.contains(&id));
        }
    }
}

fn file(n: u8, odd: u8) -> FileMeta {
    let size = if odd < 240 { 5 } else { u64::from(odd) << 35 };
    FileMeta {
        id: FileId([n; 16]),
        content: ContentId([odd; 16]),
        path: RelPath::parse(&format!("f{}", n % 5)).expect("a path"),
        kind: FileKind::File,
        size,
        hash: Hash([n; 32]),
        chunk: ChunkSize::parse(if odd & 1 == 0 { 20 } else { 22 }).expect("a size"),
        mtime_ms: 0,
        executable: false,
    }
}

/// Membership headers of another copy of the same master, which knows the same devices by other ids.
fn strange() -> &'static [VerifiedHeader] {
    static STRANGE: OnceLock<Vec<VerifiedHeader>> = OnceLock::new();
    STRANGE.get_or_init(|| {
        // Ids that are drawn are nobody else's.
        let mut random = Counter(1 << 40);
        let mut moment = Moment { wall_ms: 7, random: &mut random };
        let mut other = Authority::found(keys().pen.clone(), name("other"), &mut moment);
        for (n, (key, seal)) in keys().devices.iter().enumerate().skip(1) {
            let secret = InviteSecret([n as u8; 16]);
            other.open_invite(7, secret.id(), 9);
            let asked = Registration { key: *key, number: 1, secret, seal: *seal, name: name("x") };
            let id = other.register(&mut moment, asked, None).expect("the invite is open");
            let _ = other.approve(&mut moment, &id);
            if n >= 4 {
                let _ = other.disapprove(&mut moment, &id);
            }
        }
        let mut headers = Vec::new();
        while let Some(effect) = other.poll_effect() {
            if let Effect::Append(entry, _) = effect
                && entry.header.header().membership.is_some()
            {
                headers.push(entry.header);
            }
        }
        headers
    })
}

/// Devices that come, share, ask again, and go; a restart, an import.
pub fn seeds() -> Vec<Vec<u8>> {
    let invite = |secret: u8| vec![0, 0, secret, 9];
    let register = |n: u8, secret: u8| vec![1, n, secret, 0, 1];
    let approve = |n: u8| vec![3, n];
    let come = |n: u8| [invite(n), register(n, n), approve(n)].concat();
    let add = |n: u8| vec![13, n, 2, 1, 2, 0, 0, 0, 0, 0];
    let out = |n: u8| vec![5, n, 2];
    let restart = vec![8, 0, 3];
    let import = vec![9, 0, 7, 20, 3, 0];
    let two = [come(1), come(2), add(1), add(2)].concat();
    vec![
        two.clone(),
        [&two[..], &out(1), &add(1), &add(2), &out(2)].concat(),
        [&two[..], &restart, &add(1), &come(3)].concat(),
        [&two[..], &import, &come(3), &out(1)].concat(),
        [&two[..], &[10, 0, 0, 9, 10, 0, 1, 9], &come(4)].concat(),
    ]
}
