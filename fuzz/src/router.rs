//! The server. Whatever peers say, and however often it is restarted: it stores nothing that the master did not sign, it
//! stores before it tells, members' news go to members of that group alone, nobody who is expelled hears or is asked
//! anything again, letters come from whom they are said to come from, and nobody who is no member stays.

use crate::{Bytes, keep_time};
use bailiwick::state::conn::ConnId;
use bailiwick::state::router::{ChunkOrder, Effect, Input, Record, Router, RouterConfig, StoredGroup};
use bailiwick::state::time::Time;
use bailiwick::wire::codec::decode;
use bailiwick::wire::frame::{ChunkRange, ChunkRefusal, Class, Frame, Hello, PROTOCOL_VERSION, Role};
use bailiwick::wire::ids::{Audience, ContentId, DeviceKey, EpochId, GroupId, Hash, InviteId, Position, PublicId};
use bailiwick::wire::invite::AdmissionSecret;
use bailiwick::wire::log::{Head, Header, MembershipChange, SignedHead, SignedHeader, Standing};
use bailiwick::wire::seal::SealedBody;
use bailiwick::wire::sign::Identity;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::OnceLock;

const SECRET: AdmissionSecret = AdmissionSecret([3; 16]);
const INVITE: InviteId = InviteId([5; 16]);
/// Devices by number: masters are 0 and 1, of two groups.
const DEVICES: u8 = 7;

/// What is signed, once for all runs: keys cost more than all else.
struct Signed {
    keys: Vec<DeviceKey>,
    groups: [GroupId; 2],
    /// Of each group: two histories, and one of a later generation.
    logs: [[Vec<(SignedHeader, SignedHead)>; 3]; 2],
}

fn device(n: u8) -> Identity {
    Identity::from_seeds([n + 1; 32], [n + 101; 32])
}

fn signed() -> &'static Signed {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let keys: Vec<DeviceKey> = (0..DEVICES).map(|n| device(n).device_key()).collect();
        let groups = [GroupId::of(&keys[0]), GroupId::of(&keys[1])];
        Signed { keys, groups, logs: [[0, 1, 2].map(|kind| log(0, kind)), [0, 1, 2].map(|kind| log(1, kind))] }
    })
}

/// The log of a master: with people who come, are approved, expelled and leave, and an entry that changes no membership.
fn log(master: u8, kind: u8) -> Vec<(SignedHeader, SignedHead)> {
    use Standing::{Approved, Disapproved, Left, Registered};
    let pen = device(master);
    let group = GroupId::of(&pen.device_key());
    let common = [(master, Some(Approved)), (2, Some(Registered)), (2, Some(Approved)), (3, Some(Registered))];
    let rest = match kind {
        0 => vec![
            (3, Some(Approved)),
            (9, None),
            (2, Some(Disapproved)),
            (4, Some(Registered)),
            (4, Some(Approved)),
            (3, Some(Left)),
        ],
        1 => vec![(3, Some(Disapproved)), (5, Some(Registered)), (5, Some(Approved)), (9, None)],
        _ => vec![(3, Some(Approved)), (5, Some(Registered)), (9, None), (5, Some(Approved))],
    };
    let generation = if kind == 2 { 2 } else { 1 };
    let (mut previous, mut membership, mut log) = (Hash::ZERO, Hash::ZERO, Vec::new());
    for (place, (n, standing)) in common.into_iter().chain(rest).enumerate() {
        let at = Position { generation, revision: place as u64 + 1 };
        let change = standing.map(|standing| MembershipChange {
            id: PublicId([n; 16]),
            device: device(n).device_key(),
            seal: device(n).seal_key(),
            standing,
            nonce: [kind; 16],
        });
        let header = Header {
            group,
            at,
            previous,
            previous_membership: membership,
            time_ms: u64::from(kind),
            audience: Audience::EVERYONE,
            membership: change,
            body: Hash::ZERO,
        };
        let header = SignedHeader::sign(&pen, &header);
        (previous, membership) = (header.hash(), header.membership_hash());
        let head = Head { group, at, header: previous, membership, nonce: [0; 16] };
        log.push((header.signed().clone(), SignedHead::sign(&pen, &head)));
    }
    log
}

fn config() -> RouterConfig {
    RouterConfig {
        groups_max: 2,
        headers_per_group_max: 12,
        connections_max: 14,
        silent_max: 6,
        silent_per_address: 4,
        strangers_max: 6,
        strangers_per_address: 4,
        master_queue_bytes: 64,
        master_queue_frames: 3,
        master_window_bytes: 48,
        ..RouterConfig::default()
    }
}

/// What is on the disk of one group.
#[derive(Default)]
struct Stored {
    master: Option<DeviceKey>,
    head: Option<SignedHead>,
    chain: Vec<SignedHeader>,
    expulsions: Vec<SignedHeader>,
    expelled: BTreeSet<DeviceKey>,
    /// Every head that was shown and stored.
    heads: Vec<SignedHead>,
}

impl Stored {
    /// Where the chain and the expulsions say that a device stands.
    fn standing(&self, key: &DeviceKey) -> Option<Standing> {
        if self.expelled.contains(key) {
            return Some(Standing::Disapproved);
        }
        let changes = self.chain.iter().filter_map(|signed| decode::<Header>(&signed.bytes).ok()?.membership);
        changes.filter(|change| change.device == *key).last().map(|change| change.standing)
    }
}

struct Conn {
    n: u8,
    group: Option<GroupId>,
    class: Option<Class>,
    registered: bool,
    /// Bytes that count as under way.
    under_way: usize,
    since: Time,
}

struct World {
    router: Router,
    now: Time,
    next: u64,
    conns: BTreeMap<ConnId, Conn>,
    closed: BTreeSet<ConnId>,
    disk: HashMap<GroupId, Stored>,
    /// Envelopes by their number: from whom, to whom, in which group.
    letters: HashMap<u64, (u8, Option<u8>, Option<GroupId>)>,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let router = Router::new(Time(0), config(), SECRET, Vec::new()).expect("nothing stored");
    let (conns, closed, disk) = (BTreeMap::new(), BTreeSet::new(), HashMap::new());
    let mut world = World { router, now: Time(0), next: 0, conns, closed, disk, letters: HashMap::new() };
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause() / 4);
        world.pass_time();
        world.step(step, &mut bytes);
        world.pass_time();
    }
    world.now = Time(world.now.0 + 60_000);
    world.pass_time();
    for conn in world.conns.values() {
        let stays = match conn.class {
            Some(Class::Registered | Class::Approved | Class::Unsettled) => true,
            Some(Class::Master) => conn.registered,
            Some(Class::Stranger | Class::Expelled | Class::UnknownGroup) | None => false,
        };
        assert!(stays, "{:?} stays since {:?}", conn.class, conn.since);
    }
}

impl World {
    fn pass_time(&mut self) {
        let now = self.now;
        // The router is part of the world that its effects change.
        for _ in 0..64 {
            if self.router.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.handle(Input::Tick);
        }
        keep_time(&mut self.router, now, Router::poll_timeout, |_, _| {});
    }

    fn handle(&mut self, input: Input) {
        self.router.handle(self.now, input);
        while let Some(effect) = self.router.poll_effect() {
            self.effect(effect);
        }
        let config = config();
        assert!(self.router.groups() <= config.groups_max && self.conns.len() <= config.connections_max);
        let silent = self.conns.values().filter(|conn| conn.class.is_none()).count();
        assert!(silent <= config.silent_max);
        for stored in self.disk.values() {
            let most = config.headers_per_group_max + stored.expelled.len();
            assert!(stored.chain.len() <= most && stored.expulsions.len() <= most, "headers are bounded");
        }
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        let conn = bytes.one(&conns).copied();
        match step % 24 {
            0..=2 => return self.connect(bytes, step % 24 > 0),
            3 => {
                if let Some(conn) = conn {
                    self.conns.remove(&conn);
                    self.closed.insert(conn);
                    self.handle(Input::Closed { conn });
                }
                return;
            }
            4 => {
                if let Some((conn, one)) = conn.and_then(|conn| Some((conn, self.conns.get_mut(&conn)?))) {
                    let bytes = (bytes.below(64) as usize).min(one.under_way);
                    one.under_way -= bytes;
                    self.handle(Input::Sent { conn, bytes });
                }
                return;
            }
            5 if bytes.once_in(4) => return self.restart(),
            _ => {}
        }
        let Some(conn) = conn else { return };
        let Some(frame) = self.frame(step, conn, bytes) else { return };
        self.handle(Input::Frame { conn, frame });
    }

    fn connect(&mut self, bytes: &mut Bytes<'_>, says_hello: bool) {
        self.next += 1;
        let conn = ConnId(self.next);
        let n = bytes.byte() % DEVICES;
        let remote = SocketAddr::from(([192, 0, 2, bytes.byte() % 3], 1));
        let one = Conn { n, group: None, class: None, registered: false, under_way: 0, since: self.now };
        self.conns.insert(conn, one);
        // It is counted only if it is let in; then it is there, and else it was closed.
        let peer = signed().keys[usize::from(n)];
        self.router.handle(self.now, Input::Connected { conn, peer, remote });
        while let Some(effect) = self.router.poll_effect() {
            self.effect(effect);
        }
        if says_hello && self.conns.contains_key(&conn) {
            let hello = self.hello(n, bytes);
            self.said_hello(conn, &hello);
            self.handle(Input::Frame { conn, frame: Frame::Hello(hello) });
        }
    }

    fn hello(&self, n: u8, bytes: &mut Bytes<'_>) -> Hello {
        let how = bytes.byte();
        let which = usize::from(if n < 2 { n } else { how & 1 });
        let group = if how >= 250 { GroupId([how; 32]) } else { signed().groups[which] };
        let role = if n < 2 || how & 0xf0 == 0xf0 { Role::Master } else { Role::Client };
        let head = (how & 2 != 0).then(|| entry(bytes).1.clone());
        Hello { version: PROTOCOL_VERSION, software: String::new(), role, group, head }
    }

    fn said_hello(&mut self, conn: ConnId, hello: &Hello) {
        if let Some(one) = self.conns.get_mut(&conn)
            && one.group.is_none()
        {
            one.group = Some(hello.group);
        }
    }

    fn frame(&mut self, step: u8, conn: ConnId, bytes: &mut Bytes<'_>) -> Option<Frame> {
        let n = self.conns.get(&conn)?.n;
        Some(match step % 24 {
            5 | 6 => {
                let hello = self.hello(n, bytes);
                self.said_hello(conn, &hello);
                Frame::Hello(hello)
            }
            7 => Frame::MasterRegister { admission: (!bytes.once_in(4)).then_some(SECRET) },
            8 | 9 => {
                let log = a_log(bytes);
                let upto = usize::from(bytes.byte()) % (log.len() + 1);
                let from = if bytes.once_in(4) { upto / 2 } else { 0 };
                let mut headers: Vec<SignedHeader> = log[from..upto].iter().map(|(header, _)| header.clone()).collect();
                if let (true, Some(header)) = (bytes.once_in(8), headers.last_mut()) {
                    header.signature.0[3] ^= 1;
                }
                Frame::Headers(headers)
            }
            10 => {
                let mut head = entry(bytes).1.clone();
                head.signature.0[3] ^= u8::from(bytes.once_in(16));
                Frame::Head(head)
            }
            11 => {
                // As a master or a member does it: all headers, then the head.
                let log = a_log(bytes);
                let upto = usize::from(bytes.byte()) % log.len();
                let headers = log[..=upto].iter().map(|(header, _)| header.clone()).collect();
                self.handle(Input::Frame { conn, frame: Frame::Headers(headers) });
                self.conns.get(&conn)?;
                Frame::Head(log[upto].1.clone())
            }
            12 => {
                let mut header = entry(bytes).0.clone();
                header.signature.0[3] ^= u8::from(bytes.once_in(16));
                let epoch = EpochId { generation: 1, number: 1 };
                Frame::Broadcast { header, body: SealedBody { epoch, nonce: [0; 12], bytes: vec![1] } }
            }
            13 => Frame::OpenInvites(vec![INVITE; bytes.below(3) as usize]),
            14 | 15 => {
                let (to, length) = (bytes.byte() % DEVICES, bytes.below(40) as usize);
                let number = self.letter(conn, Some(to));
                Frame::Routed { peer: signed().keys[usize::from(to)], number, envelope: vec![1; length] }
            }
            16 => {
                let invite = if bytes.once_in(4) { InviteId([9; 16]) } else { INVITE };
                let (from, length) = (signed().keys[usize::from(bytes.byte() % DEVICES)], bytes.below(40) as usize);
                let number = self.letter(conn, None);
                Frame::ClientRegister { from, invite, number, envelope: vec![2; length] }
            }
            17 => {
                let owner = PublicId([bytes.byte() % DEVICES; 16]);
                let ranges = vec![ChunkRange::one(ContentId([1; 16]), 0, 9)];
                Frame::RequestChunk { request: 1, owner, ranges }
            }
            18 => Frame::ExpulsionRead,
            19 => Frame::Pong(0),
            20 => Frame::Ping(bytes.number()),
            21 => Frame::CancelChunk { request: 1, ranges: Vec::new() },
            22 => Frame::ChunkRefused { request: 1, ranges: Vec::new(), reason: ChunkRefusal::Unknown },
            _ => {
                let frame = decode::<Frame>(bytes.some()).ok()?;
                match &frame {
                    Frame::Hello(hello) => self.said_hello(conn, hello),
                    // Their numbers are ours.
                    Frame::Routed { .. } | Frame::ClientRegister { .. } => return None,
                    _ => {}
                }
                frame
            }
        })
    }

    fn letter(&mut self, conn: ConnId, to: Option<u8>) -> u64 {
        let number = self.letters.len() as u64;
        let (n, group) = self.conns.get(&conn).map_or((0, None), |one| (one.n, one.group));
        self.letters.insert(number, (n, to, group));
        number
    }

    fn restart(&mut self) {
        let stored = self.disk.values().filter_map(|stored| {
            let (head, chain, expulsions) = (stored.head.clone(), stored.chain.clone(), stored.expulsions.clone());
            Some(StoredGroup { master: stored.master?, head, chain, expulsions })
        });
        self.router = Router::new(self.now, config(), SECRET, stored.collect()).expect("what it stored it takes");
        self.closed.extend(std::mem::take(&mut self.conns).into_keys());
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(record) => self.persist(record),
            Effect::Classed { conn, class } => {
                assert!(!self.closed.contains(&conn));
                let Some(one) = self.conns.get_mut(&conn) else { panic!("of a connection that is not there") };
                one.class = Some(class);
                self.check_class(conn, class);
            }
            Effect::Send { to, frame } => to.iter().for_each(|conn| self.says(*conn, &frame)),
            Effect::SendCounted { conn, frame, bytes } => {
                self.says(conn, &frame);
                let Some(one) = self.conns.get_mut(&conn) else { return };
                one.under_way += bytes;
                let most = config().master_window_bytes + config().master_queue_bytes;
                assert!(one.under_way <= most, "more than the window is under way");
            }
            Effect::Chunks(order) => self.check_order(&order),
            Effect::Close { conn, .. } => {
                assert!(self.closed.insert(conn), "closed twice");
                self.conns.remove(&conn);
            }
        }
    }

    fn persist(&mut self, record: Record) {
        match record {
            Record::Group { group, master } => {
                assert_eq!(GroupId::of(&master), group);
                let stored = self.disk.entry(group).or_default();
                assert!(stored.master.replace(master).is_none(), "a group is new once");
            }
            Record::Truncated { group, after } => self.stored(group).chain.retain(|signed| {
                let header: Header = decode(&signed.bytes).expect("it was verified");
                Some(header.at) <= after
            }),
            Record::Header { group, at, header } => {
                let stored = self.stored(group);
                let verified = header.clone().verify(&stored.master.expect("a group")).expect("the master's");
                assert_eq!(verified.header().at, at);
                let link = stored.chain.last().map_or(Hash::ZERO, |last| Hash::of(&last.bytes));
                assert_eq!(verified.header().previous_membership, link, "each links to the one before");
                stored.chain.push(header);
            }
            Record::Expulsion { group, device, header } => {
                let stored = self.stored(group);
                let verified = header.clone().verify(&stored.master.expect("a group")).expect("the master's");
                assert_eq!(verified.expulsion().map(|change| change.device), Some(device));
                assert!(stored.expelled.insert(device), "once for ever");
                stored.expulsions.push(header);
            }
            Record::Head { group, head } => {
                let stored = self.stored(group);
                let master = stored.master.expect("a group");
                let at = head.verify(&master).expect("the master's").at;
                let before = stored.head.as_ref().map(|head| head.verify(&master).expect("the master's").at);
                assert!(Some(at) > before, "heads go up");
                stored.head = Some(head.clone());
                stored.heads.push(head);
            }
        }
    }

    fn stored(&mut self, group: GroupId) -> &mut Stored {
        self.disk.get_mut(&group).expect("its group was stored first")
    }

    fn check_class(&self, conn: ConnId, class: Class) {
        let one = &self.conns[&conn];
        let key = signed().keys[usize::from(one.n)];
        let standing = one.group.and_then(|group| self.disk.get(&group)?.standing(&key));
        match class {
            Class::Approved => assert_eq!(standing, Some(Standing::Approved)),
            Class::Registered => assert_eq!(standing, Some(Standing::Registered)),
            Class::Expelled => assert_eq!(standing, Some(Standing::Disapproved)),
            Class::Master | Class::Stranger | Class::Unsettled | Class::UnknownGroup => {}
        }
    }

    /// Who takes part in its group: approved, or its master.
    fn takes_part(&self, conn: ConnId) -> bool {
        let Some(one) = self.conns.get(&conn) else { return false };
        let key = signed().keys[usize::from(one.n)];
        let Some((group, stored)) = one.group.and_then(|group| Some((group, self.disk.get(&group)?))) else {
            return false;
        };
        match one.class {
            Some(Class::Approved) => stored.standing(&key) == Some(Standing::Approved),
            Some(Class::Master) => one.registered && GroupId::of(&key) == group,
            _ => false,
        }
    }

    fn says(&mut self, conn: ConnId, frame: &Frame) {
        assert!(!self.closed.contains(&conn), "something was said after a close");
        let Some(one) = self.conns.get_mut(&conn) else { panic!("to a connection that is not there") };
        if let Frame::MasterRegisterAck(Ok(_)) = frame {
            one.registered = true;
        }
        let (n, group, class) = (one.n, one.group, one.class);
        let stored = group.and_then(|group| self.disk.get(&group));
        match frame {
            Frame::Presence(_) | Frame::MasterBack(_) | Frame::Broadcast { .. } => {
                assert!(self.takes_part(conn), "members' news went to {class:?}");
            }
            Frame::Headers(headers) => {
                let stored = stored.expect("a group");
                for header in headers {
                    let kept = stored.chain.contains(header) || stored.expulsions.contains(header);
                    assert!(kept, "it is told before it is stored");
                }
            }
            Frame::HeadersStored(tip) => {
                let kept = stored.is_some_and(|stored| stored.chain.iter().any(|one| Hash::of(&one.bytes) == tip.hash));
                assert!(kept, "it is told before it is stored");
            }
            Frame::Routed { peer, number, .. } => {
                let (from, to, of) = self.letters[number];
                assert_eq!(*peer, signed().keys[usize::from(from)], "from whom it is said to come");
                assert_eq!((to, of), (Some(n), group), "to whom it was sent");
                let expelled = stored.is_some_and(|stored| stored.expelled.contains(peer));
                assert!(!expelled || from < 2, "nobody hears of who is expelled");
            }
            Frame::ClientRegister { from, number, .. } => {
                let (sender, _, of) = self.letters[number];
                assert_eq!(*from, signed().keys[usize::from(sender)], "from whom it is said to come");
                assert!(of == group && class == Some(Class::Master), "to its own master");
            }
            Frame::UploadChunk { .. } => panic!("the cache says that"),
            _ => {}
        }
    }

    fn check_order(&self, order: &ChunkOrder) {
        match order {
            ChunkOrder::Ask { asker, group, owner_conn, .. } => {
                assert_ne!(asker, owner_conn);
                for conn in [asker, owner_conn] {
                    assert!(self.takes_part(*conn), "who takes no part asks or is asked");
                    assert_eq!(self.conns[conn].group, Some(*group), "across groups");
                }
            }
            ChunkOrder::Cancel { asker: conn, .. } | ChunkOrder::Refused { owner: conn, .. } => {
                assert!(self.takes_part(*conn));
            }
            ChunkOrder::Gone { .. } | ChunkOrder::Expelled { .. } => {}
        }
    }
}

fn a_log(bytes: &mut Bytes<'_>) -> &'static [(SignedHeader, SignedHead)] {
    let which = bytes.byte();
    let kind = [0, 0, 0, 0, 1, 2][usize::from(which >> 1) % 6];
    &signed().logs[usize::from(which & 1)][kind]
}

fn entry(bytes: &mut Bytes<'_>) -> &'static (SignedHeader, SignedHead) {
    let log = a_log(bytes);
    &log[usize::from(bytes.byte()) % log.len()]
}

/// A group that is brought, with members who come, write, ask for chunks, and are expelled.
pub fn seeds() -> Vec<Vec<u8>> {
    let connect = |n: u8, how: u8| vec![1, 0, 0, n, 0, how];
    let master = [connect(0, 0), vec![7, 0, 0, 0], vec![11, 0, 0, 0, 4], vec![13, 0, 0, 1]].concat();
    let members = [connect(2, 0), connect(3, 0)].concat();
    let ask = vec![17, 0, 1, 3];
    let write = vec![14, 0, 1, 0, 9];
    let register = [connect(4, 0), vec![16, 0, 1, 0, 4, 9]].concat();
    let expel = vec![11, 0, 0, 0, 9];
    let fork = vec![11, 0, 0, 8, 6];
    let anew = vec![11, 0, 0, 10, 7];
    let restart = vec![5, 0, 0, 3];
    let whole = [&master[..], &members, &ask, &write, &register].concat();
    vec![
        whole.clone(),
        [&whole[..], &expel, &members].concat(),
        [&whole[..], &fork, &members].concat(),
        [&whole[..], &anew, &ask].concat(),
        [&whole[..], &restart, &master, &members, &ask].concat(),
    ]
}
