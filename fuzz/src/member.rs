//! A client's core with its database, under a server that says what it likes, a master whose letters come in any order, a
//! member that lies, a disk that fails and a person who asks for things. Nothing that comes from outside makes the
//! database fail or a frame too long; every question of the person is answered once; and who is out is silent.

use crate::{Bytes, Counter};
use bailiwick::node::local::{Command, Conflict};
use bailiwick::node::member::io::{Glance, Input, Leftover, Lost, Output, ScanReport, Served, Upload};
use bailiwick::node::member::{Cx, MemberConfig, MemberCore, Name, Start};
use bailiwick::state::authority::{Authority, Effect, FileFact, Moment, Registration};
use bailiwick::state::conn::ConnId;
use bailiwick::state::downloads::{Asked, Came, Opened, Outcome, Way};
use bailiwick::state::time::Time;
use bailiwick::store::member::MemberStore;
use bailiwick::wire::close::CloseCode;
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::envelope::{
    Answer, EpochSecret, FileRefusal, Letter, PathOffer, Payload, PlainEntry, Request, RequestRefusal,
};
use bailiwick::wire::frame::{
    ChunkRange, ChunkRefusal, Class, Frame, HeldRegistration, PROTOCOL_VERSION, PeerHello, Present, Tip, Welcome, within_limits,
};
use bailiwick::wire::geometry::ChunkSize;
use bailiwick::wire::ids::{ContentId, DeviceKey, FileId, GroupId, Hash, Position, PublicId};
use bailiwick::wire::invite::{Address, Invite, InviteSecret, ServerAddress};
use bailiwick::wire::limits::{CANDIDATES_MAX, FRAME_BYTES_MAX};
use bailiwick::wire::log::{Entry, FileKind, FileMeta, Policy, SignedHead, SignedHeader};
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::path::RelPath;
use bailiwick::wire::probe::Probe;
use bailiwick::wire::seal::{Epoch, SealedBody};
use bailiwick::wire::sign::Identity;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

/// Devices by number: the master, another member, the client that is fuzzed, a stranger.
const MASTER: u8 = 1;
const OTHER: u8 = 2;
const CLIENT: u8 = 3;

fn device(n: u8) -> Identity {
    Identity::from_seeds([n; 32], [n; 32])
}

fn name(text: &str) -> DeviceName {
    DeviceName::parse(text).expect("a name")
}

/// What the master wrote, and the client's database when it had read some of it.
struct Setting {
    group: GroupId,
    keys: Vec<DeviceKey>,
    people: Vec<Arc<Identity>>,
    seal: bailiwick::wire::ids::SealKey,
    log: Vec<(SignedHeader, SealedBody, Entry, Position)>,
    heads: Vec<SignedHead>,
    epochs: Vec<Epoch>,
    /// The client before it was registered, and as a member with a job.
    new: MemberStore,
    member: MemberStore,
}

fn file(n: u8) -> FileMeta {
    let size = [0, 9, 3 << 20, (1 << 20) + 1][usize::from(n) % 4];
    FileMeta {
        id: FileId([n; 16]),
        content: ContentId([n; 16]),
        path: RelPath::parse(&format!("folder/f{n}")).expect("a path"),
        kind: FileKind::File,
        size,
        hash: Hash([n; 32]),
        chunk: ChunkSize::parse(20).expect("a size"),
        mtime_ms: 0,
        executable: false,
    }
}

fn invite() -> Invite {
    let address = Address::parse("192.0.2.1:4433").expect("an address");
    let server = ServerAddress { key: device(9).device_key(), addresses: vec![address] };
    let (master, seal) = (device(MASTER).device_key(), device(MASTER).seal_key());
    Invite { server, master, seal, secret: InviteSecret([CLIENT; 16]) }
}

fn open(store: MemberStore, now: Time, random: &mut Counter) -> MemberCore {
    let name = Name { chosen: None, fallback: name("laptop") };
    let start = Start::Client { invite: Some(Box::new(invite())), name };
    let mut cx = Cx { now, wall_ms: 1_000_000 + now.0, random };
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| Arc::new(device(CLIENT))).clone();
    let downloads = PathBuf::from("/downloads");
    match MemberCore::open(store, identity, MemberConfig::default(), start, downloads, &mut cx) {
        Ok(core) => core,
        Err(error) => panic!("it does not open: {error}"),
    }
}

fn setting() -> &'static Mutex<Setting> {
    static SETTING: OnceLock<Mutex<Setting>> = OnceLock::new();
    SETTING.get_or_init(|| Mutex::new(set()))
}

/// The master's log: two devices come, share, change, remove; one goes, and at the end the client.
fn set() -> Setting {
    let mut random = Counter::default();
    let mut moment = Moment { wall_ms: 1_000, random: &mut random };
    let mut authority = Authority::found(Arc::new(device(MASTER)), name("desk"), &mut moment);
    let mut ids = Vec::new();
    for n in [OTHER, CLIENT] {
        let secret = InviteSecret([n; 16]);
        authority.open_invite(1_000, secret.id(), 9_000);
        let (key, seal) = (device(n).device_key(), device(n).seal_key());
        let asked =
            Registration { key, number: 0, secret, seal, name: name(["x", "other", "laptop"][usize::from(n) - 1]) };
        let id = authority.register(&mut moment, asked, None).expect("an open invite");
        authority.approve(&mut moment, &id).expect("it is there");
        ids.push(id);
    }
    let facts = |files: &[FileMeta]| vec![FileFact::default(); files.len()];
    let known = |files: &[FileMeta]| {
        let fact = |it: &FileMeta| FileFact { by_id: Some((ids[0], it.clone())), by_path: Some(it.id) };
        files.iter().map(fact).collect::<Vec<_>>()
    };
    let files: Vec<FileMeta> = (0..8).map(file).collect();
    authority.decide(&mut moment, &ids[0], Request::AddFiles(files.clone()), &facts(&files));
    let base = authority.tip().at;
    let changed: Vec<FileMeta> =
        files[2..4].iter().map(|it| FileMeta { content: ContentId([0x77; 16]), ..it.clone() }).collect();
    authority.decide(&mut moment, &ids[0], Request::ChangeFiles(changed), &known(&files[2..4]));
    authority.set_policy(&mut moment, Policy { master_away_wait_ms: 60_000, ..Policy::default() });
    authority.decide(&mut moment, &ids[0], Request::RemoveFile(vec![files[1].id]), &known(&files[1..2]));
    authority.set_servers(&mut moment, vec![invite().server]);
    authority.decide(&mut moment, &ids[1], Request::Rename(name("notebook")), &Vec::new());
    authority.disapprove(&mut moment, &ids[0]).expect("a member");
    authority.disapprove(&mut moment, &ids[1]).expect("a member");
    let (mut log, mut epochs, mut last) = (Vec::new(), Vec::new(), None);
    while let Some(effect) = authority.poll_effect() {
        match effect {
            Effect::Append(entry, _) => last = Some(*entry),
            Effect::Broadcast(header, body) => {
                let entry: Entry = last.take().expect("persisted first");
                let at = entry.header.header().at;
                log.push((header, body, entry, at));
            }
            Effect::NewEpoch(epoch) => epochs.push(epoch),
            _ => {}
        }
    }
    let group = GroupId::of(&device(MASTER).device_key());
    let head = |(_, _, entry, at): &(SignedHeader, SealedBody, Entry, Position)| {
        let (header, membership) = (entry.header.hash(), entry.header.membership_hash());
        SignedHead::sign(
            &device(MASTER),
            &bailiwick::wire::log::Head { group, at: *at, header, membership, nonce: [0; 16] },
        )
    };
    let heads = log.iter().map(head).collect();
    let people: Vec<Arc<Identity>> = (0..5).map(|n| Arc::new(device(n))).collect();
    let keys = people.iter().map(|it| it.device_key()).collect();
    let store = || MemberStore::open_in_memory().expect("a database");
    let seal = device(CLIENT).seal_key();
    let mut setting = Setting { group, keys, people, seal, log, heads, epochs, new: store(), member: store() };
    let mut world = World::new(open(store(), Time(0), &mut Counter::default()), Counter::default());
    setting.new = world.core.store().copy_in_memory().expect("a copy");
    world.drive_in(&setting, base);
    setting.member = world.core.store().copy_in_memory().expect("a copy");
    setting
}

struct World {
    core: MemberCore,
    random: Counter,
    now: Time,
    conns: u64,
    dialing: Vec<u64>,
    up: Option<ConnId>,
    open_conns: BTreeSet<ConnId>,
    /// Connections that it closes: it hears that they are over when all else was carried out.
    closing: Vec<ConnId>,
    /// Questions of the person that were not answered.
    questions: BTreeSet<u64>,
    asked: u64,
    expected: Vec<Asked>,
    opening: Vec<(u64, u64)>,
    syncing: Vec<(u64, Vec<u32>)>,
    ending: Vec<u64>,
    looking: Vec<(u64, Vec<u64>)>,
    clearing: Vec<u64>,
    scans: Vec<u64>,
    uploads: Vec<Upload>,
    letters: u64,
    nonces: Vec<[u8; 16]>,
    /// Straight connections that are open, and whose they are; dials that are under way.
    peers: BTreeMap<ConnId, DeviceKey>,
    peer_dials: Vec<(u64, DeviceKey)>,
    is_out: bool,
    ended: bool,
}

impl World {
    fn new(core: MemberCore, random: Counter) -> World {
        World {
            core,
            random,
            now: Time(0),
            conns: 0,
            dialing: Vec::new(),
            up: None,
            open_conns: BTreeSet::new(),
            closing: Vec::new(),
            questions: BTreeSet::new(),
            asked: 0,
            expected: Vec::new(),
            opening: Vec::new(),
            syncing: Vec::new(),
            ending: Vec::new(),
            looking: Vec::new(),
            clearing: Vec::new(),
            scans: Vec::new(),
            uploads: Vec::new(),
            letters: 0,
            nonces: Vec::new(),
            peers: BTreeMap::new(),
            peer_dials: Vec::new(),
            is_out: false,
            ended: false,
        }
    }

    fn handle(&mut self, setting: &Setting, inputs: Vec<Input>) {
        let mut cx = Cx { now: self.now, wall_ms: 1_000_000 + self.now.0, random: &mut self.random };
        match self.core.handle(&mut cx, inputs) {
            Ok(outputs) => outputs.into_iter().for_each(|output| self.output(setting, output)),
            Err(error) => panic!("the database fails: {error}"),
        }
        while let Some(conn) = self.closing.pop() {
            self.lose(setting, conn, Lost::Closed(CloseCode::Done));
        }
    }

    /// A connection is over, and the core hears of it.
    fn lose(&mut self, setting: &Setting, conn: ConnId, lost: Lost) {
        self.open_conns.remove(&conn);
        self.peers.remove(&conn);
        if self.up == Some(conn) {
            self.up = None;
        }
        self.handle(setting, vec![Input::Lost(conn, lost)]);
    }

    fn say(&mut self, setting: &Setting, frame: Frame) {
        let Some(conn) = self.up else { return };
        self.is_out |= self.expels(setting, &frame);
        self.handle(setting, vec![Input::Frame(conn, Box::new(frame))]);
    }

    /// Whether a frame shows the header that expels this device.
    fn expels(&self, setting: &Setting, frame: &Frame) -> bool {
        let last = |header: &SignedHeader| {
            setting.log.iter().any(|(one, _, entry, _)| {
                one == header
                    && entry.header.expulsion().is_some_and(|it| it.device == setting.keys[usize::from(CLIENT)])
            })
        };
        match frame {
            Frame::Headers(headers) => headers.iter().any(last),
            Frame::Broadcast { header, .. } => last(header),
            _ => false,
        }
    }

    fn pass_time(&mut self, setting: &Setting) {
        for _ in 0..64 {
            if self.ended || self.core.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
            self.handle(setting, Vec::new());
        }
        panic!("it is due again and again");
    }

    /// As an honest server and master bring a device in.
    fn drive_in(&mut self, setting: &Setting, upto: Position) {
        self.handle(setting, Vec::new());
        self.dialed(setting);
        self.welcome(setting, Class::Stranger, None);
        let own = setting.log.iter().find(|(_, _, entry, _)| {
            entry.header.header().membership.as_ref().is_some_and(|it| it.device == setting.keys[usize::from(CLIENT)])
        });
        let own = own.map(|(header, ..)| header.clone()).expect("it is in the log");
        self.letter(setting, MASTER, Payload::ClientRegisterAck(Ok(own)));
        self.welcome(setting, Class::Approved, None);
        let entries: Vec<PlainEntry> = setting.log.iter().filter(|(.., at)| *at <= upto).map(plain).collect();
        let epochs = setting.epochs.iter().take(1).map(EpochSecret::from).collect();
        self.letter(setting, MASTER, Payload::Entries { entries, epochs });
        self.person(
            setting,
            Command::Get {
                files: vec!["other:folder".into()],
                dest: None,
                conflict: Some(Conflict::Rename),
                way: None,
            },
        );
        assert!(self.core.store().tip().is_ok_and(|tip| tip.is_some_and(|tip| tip.at == upto)), "it is caught up");
        assert!(!self.opening.is_empty(), "it downloads");
    }

    fn dialed(&mut self, setting: &Setting) {
        let Some(attempt) = self.dialing.pop() else { return };
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.open_conns.insert(conn);
        self.handle(setting, vec![Input::Dialed(conn, attempt)]);
    }

    fn welcome(&mut self, setting: &Setting, class: Class, head: Option<SignedHead>) {
        let observed = std::net::SocketAddr::from(([192, 0, 2, 1], 1));
        let tip = Some(Tip { at: Position { generation: 1, revision: 1 }, hash: Hash::ZERO });
        let welcome = Welcome { version: PROTOCOL_VERSION, software: String::new(), class, head, tip, observed };
        self.say(setting, Frame::Welcome(welcome));
    }

    fn letter(&mut self, setting: &Setting, from: u8, payload: Payload) {
        self.letters += 1;
        let number = match payload {
            Payload::Answer(_) => self.letters % 4,
            _ => 0,
        };
        let sender = &setting.people[usize::from(from)];
        let (peer, to) = (setting.keys[usize::from(from)], setting.keys[usize::from(CLIENT)]);
        let letter = Letter { from: peer, to, number, head: None, payload };
        let envelope = letter.seal(sender, &setting.group, &setting.seal);
        self.say(setting, Frame::Routed { peer, number: self.letters, envelope });
    }

    fn person(&mut self, setting: &Setting, command: Command) {
        self.asked += 1;
        self.questions.insert(self.asked);
        self.handle(setting, vec![Input::Local(self.asked, command)]);
    }

    fn output(&mut self, setting: &Setting, output: Output) {
        match output {
            Output::Dial(attempt, _) => {
                assert!(!self.is_out || !self.is_member_gone());
                self.dialing.push(attempt);
            }
            Output::Send(conn, frame) | Output::SendBulk(conn, frame) => {
                if let Frame::Hello(_) = *frame {
                    self.up = Some(conn);
                }
                assert!(self.open_conns.contains(&conn), "on a connection that is over");
                assert!(encode(&*frame).len() <= FRAME_BYTES_MAX, "a frame that nobody takes");
                self.sent(setting, &frame);
            }
            Output::Close(conn, _) => {
                if self.open_conns.contains(&conn) && !self.closing.contains(&conn) {
                    self.closing.push(conn);
                }
            }
            Output::Reply(number, reply) => {
                assert!(self.questions.remove(&number), "answered once");
                if let Err(error) = reply {
                    assert!(!error.error.is_empty() && !error.hint.is_empty(), "it says what to do");
                }
            }
            Output::Open(place) => self.opening.push((place.transfer, place.opening)),
            Output::Expect(_, units, _) | Output::Join(_, units) => {
                assert!(!self.is_out, "who is out asks for nothing");
                self.expected.extend(units);
            }
            Output::Forget(_, units) => self.expected.retain(|unit| !units.contains(unit)),
            Output::Sync(transfer, chunks) => self.syncing.push((transfer, chunks)),
            Output::Look(job, _, looks) => self.looking.push((job, looks.iter().map(|look| look.transfer).collect())),
            Output::Finish(transfers) => self.ending.extend(transfers),
            Output::Drop(transfer, leftover) => {
                self.expected.retain(|unit| unit.transfer != transfer);
                self.opening.retain(|(one, _)| *one != transfer);
                self.syncing.retain(|(one, _)| *one != transfer);
                self.ending.retain(|one| *one != transfer);
                if matches!(leftover, Leftover::Remove(..)) {
                    self.clearing.push(transfer);
                }
            }
            Output::Upload(upload, _) => {
                assert!(!self.is_out, "who is out serves nothing");
                self.uploads.push(upload);
            }
            Output::Scan(scan, _) => self.scans.push(scan),
            Output::DialPeer(dial, key, _) => {
                assert!(!self.is_out, "who is out dials nobody");
                assert!(key != setting.keys[usize::from(CLIENT)] && setting.keys.contains(&key));
                self.peer_dials.push((dial, key));
            }
            Output::PeerHello(conn, ..) | Output::PeerStreams(conn, ..) => {
                assert!(self.peers.contains_key(&conn), "on a connection that is over");
            }
            Output::Stopped | Output::Erase | Output::Fatal(_) => self.ended = true,
            Output::Streams(..)
            | Output::Epochs(_)
            | Output::Unsend(..)
            | Output::StopUploads(_)
            | Output::Hash(..)
            | Output::EndScan(_)
            | Output::DeleteCopies(_)
            | Output::Probe(..)
            | Output::ProbeServer(..)
            | Output::Announce(_)
            | Output::MapPort(_)
            | Output::Event(..) => {}
        }
    }

    fn is_member_gone(&self) -> bool {
        self.ended
    }

    fn sent(&mut self, setting: &Setting, frame: &Frame) {
        match frame {
            Frame::RequestChunk { ranges, .. } => {
                assert!(!self.is_out, "who is out asks for nothing");
                assert!(!ranges.is_empty() && within_limits(ranges), "a server refuses that");
            }
            Frame::Routed { peer, envelope, .. } => {
                let client = setting.keys[usize::from(CLIENT)];
                let person = setting.people.iter().find(|person| person.device_key() == *peer).expect("who is there");
                let letter = Letter::open(person, &setting.group, &client, envelope);
                match letter.map(|letter| letter.payload) {
                    Ok(Payload::PathOffer(offer)) => {
                        assert!(!self.is_out, "who is out offers nothing");
                        assert!(offer.candidates.len() <= CANDIDATES_MAX);
                    }
                    Ok(_) if *peer != setting.keys[usize::from(MASTER)] => panic!("a client writes to its master"),
                    Ok(Payload::FreshnessAsked(nonce)) => self.nonces.push(nonce),
                    Ok(Payload::Request { .. } | Payload::CatchUp(_)) => {
                        assert!(!self.is_out, "who is out asks for nothing");
                    }
                    Ok(_) => panic!("a client says no such thing"),
                    Err(error) => panic!("its master can't open it: {error}"),
                }
            }
            _ => {}
        }
    }
}

fn range(bytes: &mut Bytes<'_>) -> ChunkRange {
    ChunkRange {
        content: ContentId([bytes.byte() % 9; 16]),
        first: bytes.number() as u32,
        count: bytes.number() as u32,
        bytes: 1 << 20,
        last_bytes: bytes.number() as u32,
    }
}

fn plain((header, _, entry, _): &(SignedHeader, SealedBody, Entry, Position)) -> PlainEntry {
    PlainEntry { header: header.clone(), salted: entry.body.as_bytes().to_vec() }
}

/// Bytes are steps; the first says where it begins.
pub fn run(bytes: &[u8]) {
    let setting = &*setting().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut bytes = Bytes(bytes);
    let base = if bytes.once_in(8) { &setting.new } else { &setting.member };
    let store = base.copy_in_memory().expect("a copy");
    let mut random = Counter(1 << 32);
    let core = open(store, Time(0), &mut random);
    let mut world = World::new(core, random);
    world.handle(setting, Vec::new());
    world.pass_time(setting);
    let mut steps = 0;
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time(setting);
        if world.ended || steps > 200 {
            break;
        }
        steps += 1;
        world.step(setting, step, &mut bytes);
        world.pass_time(setting);
    }
    if !world.ended {
        assert!(world.questions.is_empty(), "a question is not answered");
        // What is on the disk can be taken up again.
        let store = world.core.store().copy_in_memory().expect("a copy");
        drop(open(store, world.now, &mut Counter(1 << 33)));
    }
}

impl World {
    fn step(&mut self, setting: &Setting, step: u8, bytes: &mut Bytes<'_>) {
        match step % 40 {
            0 | 1 => self.dialed(setting),
            2 => {
                if let Some(attempt) = self.dialing.pop() {
                    self.handle(setting, vec![Input::DialFailed(attempt, "no way".into())]);
                }
            }
            3 => {
                if let Some(conn) = self.up {
                    let codes = [CloseCode::Done, CloseCode::Replaced, CloseCode::Protocol, CloseCode::Expelled];
                    let lost = bytes.one(&codes).filter(|_| bytes.0.len() % 2 == 0);
                    let lost = lost.map_or(Lost::Broken, |code| Lost::Closed(*code));
                    self.lose(setting, conn, lost);
                }
            }
            4 | 5 => {
                let classes = [
                    Class::Approved,
                    Class::Approved,
                    Class::Approved,
                    Class::Stranger,
                    Class::Registered,
                    Class::Unsettled,
                    Class::UnknownGroup,
                    Class::Master,
                    Class::Expelled,
                ];
                let class = *bytes.one(&classes).unwrap_or(&Class::Approved);
                let head = if bytes.once_in(2) { bytes.one(&setting.heads).cloned() } else { None };
                self.welcome(setting, class, head);
            }
            6..=9 => self.news(setting, step, bytes),
            10..=13 => self.letters(setting, bytes),
            14 | 15 => self.hop(setting, bytes),
            16 => {
                if let Ok(frame) = decode::<Frame>(bytes.some()) {
                    self.say(setting, frame);
                }
            }
            17..=19 => self.ask(setting, bytes),
            20..=27 => self.disk(setting, step, bytes),
            28 => {
                let number = bytes.number() % 12;
                let frame = if bytes.once_in(2) { Frame::ServerNotReady { number } } else { Frame::Busy { number } };
                self.say(setting, frame);
            }
            29 => {
                if let Some(conn) = self.up {
                    self.handle(setting, vec![Input::Drained(conn)]);
                }
            }
            30 => {
                let by = if bytes.once_in(2) { self.a_peer(bytes).map(|(conn, _)| conn) } else { None };
                self.handle(setting, vec![Input::Heard(bytes.below(12), bytes.below(1 << 16) << 6, by)]);
            }
            31..=37 => self.straight(setting, bytes),
            _ if bytes.once_in(6) => self.restart(setting),
            _ => {}
        }
    }

    fn a_peer(&self, bytes: &mut Bytes<'_>) -> Option<(ConnId, DeviceKey)> {
        let place = usize::from(bytes.byte());
        self.peers.iter().nth(place % self.peers.len().max(1)).map(|(conn, key)| (*conn, *key))
    }

    fn new_peer(&mut self, key: DeviceKey) -> ConnId {
        self.conns += 1;
        self.open_conns.insert(ConnId(self.conns));
        self.peers.insert(ConnId(self.conns), key);
        ConnId(self.conns)
    }

    /// Straight ways: addresses, offers, probes, dials, and what members say on such connections.
    fn straight(&mut self, setting: &Setting, bytes: &mut Bytes<'_>) {
        let address = |n: u8| SocketAddr::from(([[10, 0, 0, n], [198, 51, 100, n]][usize::from(n % 2)], 9));
        let input = match bytes.byte() % 12 {
            0 => Input::Addresses((0..bytes.byte() % 4).map(|_| address(bytes.byte() % 8)).collect()),
            1 => {
                let token = [bytes.byte(); 8];
                let candidates = (0..bytes.byte() % 4).map(|_| address(bytes.byte() % 8)).collect();
                let offer = PathOffer { token, candidates, answer: bytes.once_in(2) };
                return self.letter(setting, bytes.byte() % 5, Payload::PathOffer(offer));
            }
            2 => {
                let (token, number) = ([bytes.byte(); 8], bytes.number() as u32);
                let is_ping = bytes.once_in(2);
                let probe = if is_ping { Probe::Ping { token, number } } else { Probe::Pong { token, number } };
                Input::Probe(address(bytes.byte() % 8), probe)
            }
            3 => {
                let Some((dial, key)) = bytes.take(&mut self.peer_dials) else { return };
                if bytes.once_in(3) {
                    Input::PeerDialFailed(dial, "nothing came back".to_owned())
                } else {
                    Input::PeerDialed(dial, self.new_peer(key))
                }
            }
            4 | 5 => {
                let key = setting.keys[usize::from(if bytes.once_in(4) { bytes.byte() % 5 } else { OTHER })];
                Input::PeerArrived(self.new_peer(key), key)
            }
            6 => {
                let Some((conn, _)) = self.a_peer(bytes) else { return };
                return self.lose(setting, conn, Lost::Broken);
            }
            7 => match bytes.byte() % 3 {
                0 => Input::Woke,
                1 => Input::Mapped(Some(address(bytes.byte()))),
                _ => Input::Mapped(None),
            },
            _ => {
                let Some((conn, _)) = self.a_peer(bytes) else { return };
                let frame = self.word_of_a_peer(setting, bytes);
                self.is_out |= self.expels(setting, &frame);
                Input::Frame(conn, Box::new(frame))
            }
        };
        self.handle(setting, vec![input]);
    }

    fn word_of_a_peer(&self, setting: &Setting, bytes: &mut Bytes<'_>) -> Frame {
        match bytes.byte() % 8 {
            0..=2 => {
                let group = if bytes.once_in(8) { GroupId([bytes.byte(); 32]) } else { setting.group };
                let head = if bytes.once_in(2) { bytes.one(&setting.heads).cloned() } else { None };
                let observed = SocketAddr::from(([198, 51, 100, 3], 9));
                Frame::PeerHello(PeerHello { version: PROTOCOL_VERSION, group, head, observed })
            }
            3 => Frame::UploadChunk { request: bytes.number(), ranges: vec![range(bytes)] },
            4 => {
                let range = match bytes.one(&self.expected) {
                    Some(unit) => ChunkRange::one(unit.content, unit.index, unit.length),
                    None => range(bytes),
                };
                Frame::ChunkRefused { request: bytes.below(6), ranges: vec![range], reason: ChunkRefusal::Unknown }
            }
            5 => Frame::Pong(self.now.0.saturating_sub(bytes.pause())),
            6 => Frame::Head(setting.heads[usize::from(bytes.byte()) % setting.heads.len()].clone()),
            _ => decode(bytes.some()).unwrap_or(Frame::Ping(bytes.number())),
        }
    }

    fn news(&mut self, setting: &Setting, step: u8, bytes: &mut Bytes<'_>) {
        let next = self.core.store().tip().ok().flatten().map_or(0, |tip| tip.at.revision as usize);
        let place = if bytes.once_in(3) { usize::from(bytes.byte()) } else { next } % setting.log.len();
        let (header, body, ..) = &setting.log[place];
        let (mut header, mut body) = (header.clone(), body.clone());
        match bytes.byte() {
            250.. => header.signature.0[0] ^= 1,
            240..=249 => body.bytes.truncate(3),
            _ => {}
        }
        let frame = match step % 40 {
            6 => Frame::Headers(vec![header]),
            7 => Frame::Head(setting.heads[place].clone()),
            8 => Frame::Broadcast { header, body },
            _ => Frame::MasterBack(setting.heads[place].clone()),
        };
        self.say(setting, frame);
    }

    fn letters(&mut self, setting: &Setting, bytes: &mut Bytes<'_>) {
        let from = if bytes.once_in(6) { bytes.byte() % 5 } else { MASTER };
        let next = self.core.store().tip().ok().flatten().map_or(0, |tip| tip.at.revision as usize);
        let at = Position { generation: 1, revision: bytes.number() };
        let epochs: Vec<EpochSecret> =
            setting.epochs.iter().take(usize::from(bytes.byte() % 3)).map(EpochSecret::from).collect();
        let payload = match bytes.byte() % 10 {
            0 | 1 => {
                let entries = setting.log.iter().skip(next).take(usize::from(bytes.byte() % 4)).map(plain).collect();
                Payload::Entries { entries, epochs }
            }
            2 => Payload::EpochSecrets(epochs),
            3 => {
                let refused = vec![(FileId([bytes.byte(); 16]), FileRefusal::PathTaken)];
                Payload::Answer(Answer::Done { at, refused })
            }
            4 => Payload::Answer(Answer::StaleNumber { last: bytes.number() }),
            5 => Payload::Answer(Answer::Refused(RequestRefusal::NameTaken)),
            6 => Payload::Answer(Answer::OtherGeneration),
            7 => {
                let nonce = self.nonces.last().copied().unwrap_or([1; 16]);
                let (_, _, entry, _) = &setting.log[next.saturating_sub(1) % setting.log.len()];
                let (header, membership) = (entry.header.hash(), entry.header.membership_hash());
                let head = bailiwick::wire::log::Head {
                    group: setting.group,
                    at: entry.header.header().at,
                    header,
                    membership,
                    nonce,
                };
                Payload::Freshness(SignedHead::sign(&setting.people[usize::from(MASTER)], &head))
            }
            8 => {
                let (header, ..) = &setting.log[usize::from(bytes.byte()) % setting.log.len()];
                Payload::ClientRegisterAck(Ok(header.clone()))
            }
            _ => match decode::<Payload>(bytes.some()) {
                Ok(payload) => payload,
                Err(_) => return,
            },
        };
        if let (MASTER, Payload::Entries { entries, .. }) = (from, &payload) {
            let shown = entries.iter().map(|entry| Frame::Headers(vec![entry.header.clone()]));
            self.is_out |= shown.into_iter().any(|frame| self.up.is_some() && self.expels(setting, &frame));
        }
        self.letter(setting, from, payload);
    }

    fn hop(&mut self, setting: &Setting, bytes: &mut Bytes<'_>) {
        let ranges = |bytes: &mut Bytes<'_>| {
            let many = [1, 1, 1, 2_049][usize::from(bytes.byte() >> 6)];
            vec![range(bytes); many]
        };
        let frame = match bytes.byte() % 6 {
            0 => {
                let id = |n: u8| PublicId([n; 16]);
                let there: Vec<PublicId> = setting
                    .log
                    .iter()
                    .filter_map(|(_, _, it, _)| Some(it.header.header().membership.as_ref()?.id))
                    .collect();
                let id = bytes.one(&there).copied().unwrap_or(id(1));
                Frame::Presence(vec![Present { id, online: bytes.once_in(2), since_ms: bytes.number() }])
            }
            1 => {
                let held = [HeldRegistration::ServerNotReady, HeldRegistration::InviteNotOpen, HeldRegistration::Busy];
                Frame::RegistrationHeld(held[usize::from(bytes.byte()) % 3])
            }
            2 => Frame::UploadChunk { request: bytes.number(), ranges: ranges(bytes) },
            3 => {
                let reasons = [
                    ChunkRefusal::Changed,
                    ChunkRefusal::OwnerAway,
                    ChunkRefusal::OwnerExpelled,
                    ChunkRefusal::Unknown,
                ];
                let reason = *bytes.one(&reasons).unwrap_or(&ChunkRefusal::Unknown);
                let range = match bytes.one(&self.expected) {
                    Some(unit) => vec![ChunkRange::one(unit.content, unit.index, unit.length)],
                    None => ranges(bytes),
                };
                Frame::ChunkRefused { request: bytes.below(6), ranges: range, reason }
            }
            4 => Frame::CancelChunk { request: bytes.number(), ranges: ranges(bytes) },
            _ => Frame::Ping(bytes.number()),
        };
        self.say(setting, frame);
    }

    fn ask(&mut self, setting: &Setting, bytes: &mut Bytes<'_>) {
        let texts = ["other:folder", "other:folder/f2", "f", "", "laptop", "1", "up-1", "01", "no:thing"];
        let text = texts[usize::from(bytes.byte()) % texts.len()].to_owned();
        let (ids, all) = (vec![text.clone()], bytes.once_in(4));
        let command = match bytes.byte() % 20 {
            0 => Command::Status,
            1 => Command::Clients,
            2 => Command::Files { query: Some(text), offset: bytes.number(), limit: Some(bytes.number()) },
            3 => Command::Shares,
            4 => Command::Transfers { job: Some(bytes.number()) },
            5 => Command::Jobs { job: None },
            6 => Command::Rename { id: None, name: text },
            7 if bytes.once_in(8) => Command::Leave { now: bytes.once_in(2) },
            8 => Command::Policy,
            9 => {
                let paths = vec![PathBuf::from(format!("/home/{text}"))];
                Command::Add { paths, copy: bytes.once_in(2), exclude: vec!["*.tmp".into()] }
            }
            10 => Command::Scan { paths: Vec::new(), confirm: bytes.once_in(2) },
            11 => Command::Remove { files: ids, yes: bytes.once_in(2) },
            12 | 13 => {
                let way = [None, None, Some(Way::Direct), Some(Way::Relay)][usize::from(bytes.byte()) % 4];
                Command::Get { files: ids, dest: None, conflict: None, way }
            }
            14 => Command::Pause { ids, all },
            15 => Command::Resume { ids, all },
            16 => Command::Cancel { ids, all },
            17 => Command::Invite { expires_s: bytes.number() },
            18 => Command::Removals,
            _ => match serde_json::from_slice(bytes.some()) {
                Ok(command) => command,
                Err(_) => return,
            },
        };
        self.person(setting, command);
    }

    fn disk(&mut self, setting: &Setting, step: u8, bytes: &mut Bytes<'_>) {
        let input = match step % 40 {
            20 | 21 => {
                let Some((transfer, opening)) = bytes.take(&mut self.opening) else { return };
                let opened = match bytes.byte() % 8 {
                    0 => Opened::Not(Outcome::DiskFull),
                    1 => Opened::Not(Outcome::AlreadyThere),
                    2 => Opened::Anew,
                    3 => Opened::Elsewhere(RelPath::parse("folder/other").expect("a path")),
                    _ => Opened::Ready,
                };
                Input::Opened(transfer, opening, opened)
            }
            22..=24 => {
                let Some(unit) = bytes.take(&mut self.expected) else { return };
                let came =
                    [Came::Verified, Came::Verified, Came::Verified, Came::Damaged, Came::Broken, Came::NoSecret];
                let came = came[usize::from(bytes.byte()) % 6];
                if unit.index >= bailiwick::wire::geometry::LIST_INDEX_FIRST && came == Came::Verified {
                    let list = (!bytes.once_in(6)).then(|| vec![7; unit.length as usize]);
                    self.handle(setting, vec![Input::Came(unit, came)]);
                    Input::List(unit.transfer, list)
                } else {
                    Input::Came(unit, came)
                }
            }
            25 => {
                let Some((transfer, chunks)) = bytes.take(&mut self.syncing) else { return };
                Input::Synced(transfer, chunks, !bytes.once_in(6))
            }
            26 => {
                let Some(transfer) = bytes.take(&mut self.ending) else { return };
                let outcomes = [Outcome::Done, Outcome::DiskFull, Outcome::AlreadyThere, Outcome::PlaceTaken];
                Input::Finished(transfer, outcomes[usize::from(bytes.byte()) % 4])
            }
            _ => match bytes.byte() % 4 {
                0 => {
                    let Some((job, transfers)) = bytes.take(&mut self.looking) else { return };
                    let glances = [Glance::Free, Glance::Same, Glance::InTheWay(Outcome::AlreadyThere)];
                    let glance = glances[usize::from(bytes.byte()) % 3];
                    Input::Looked(job, transfers.into_iter().map(|transfer| (transfer, glance)).collect())
                }
                1 => {
                    let Some(transfer) = bytes.take(&mut self.clearing) else { return };
                    Input::Cleared(transfer)
                }
                2 => {
                    let Some(scan) = bytes.take(&mut self.scans) else { return };
                    Input::ScanEnded(scan, Box::new(ScanReport::default()))
                }
                _ => {
                    let Some(upload) = bytes.take(&mut self.uploads) else { return };
                    let served = [Served::Sent, Served::Unwanted, Served::No(ChunkRefusal::Changed)];
                    Input::Served(upload, served[usize::from(bytes.byte()) % 3])
                }
            },
        };
        self.handle(setting, vec![input]);
    }

    fn restart(&mut self, setting: &Setting) {
        let store = self.core.store().copy_in_memory().expect("a copy");
        let mut random = Counter(u64::from(self.conns as u32) << 34 | 5);
        let core = open(store, self.now, &mut random);
        let (now, conns, is_out) = (self.now, self.conns, self.is_out);
        *self = World { now, conns, is_out, ..World::new(core, random) };
        self.handle(setting, Vec::new());
        self.pass_time(setting);
    }
}

/// A device that comes in; one that follows, downloads and is expelled; one that leaves.
pub fn seeds() -> Vec<Vec<u8>> {
    let up = vec![0, 0, 4, 0, 0, 0];
    let open: Vec<u8> = [20, 0, 0, 5].repeat(8);
    let come: Vec<u8> = [22, 0, 0, 0].repeat(8);
    let sync = vec![25, 0, 0, 0, 26, 0, 0, 0];
    let broadcast: Vec<u8> = [8, 0, 0, 0].repeat(14);
    let entries = vec![10, 0, 0, 0, 1, 0, 3];
    let get = vec![17, 0, 0, 0, 12];
    let pause = vec![17, 0, 5, 0, 14];
    vec![
        [&[0][..], &up, &open, &come, &sync, &get].concat(),
        [&[0][..], &up, &open, &broadcast, &come].concat(),
        [&[0][..], &up, &entries.repeat(6), &open, &come, &pause].concat(),
        [&[7][..], &[0, 0, 4, 0, 3, 0, 10, 0, 0, 0, 0, 8, 3], &up, &entries.repeat(4)].concat(),
        [&[0][..], &up, &[17, 0, 0, 0, 7, 7, 1], &entries].concat(),
    ]
}
