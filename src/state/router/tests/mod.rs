//! A test for each rule of the router, without sockets.

mod admission;
mod crowded;
mod headers;
mod random;
mod routing;

use super::*;
use crate::wire::frame::{Hello, PROTOCOL_VERSION, Role, Welcome};
use crate::wire::ids::{Audience, EpochId, Hash, Position};
use crate::wire::log::{Head, Header, MembershipChange, Standing, VerifiedHeader};
use crate::wire::seal::SealedBody;
use crate::wire::sign::Identity;

pub(super) const SECRET: AdmissionSecret = AdmissionSecret([7; 16]);
pub(super) const INVITE: InviteId = InviteId([5; 16]);

/// A device by its number; the master is 0.
pub(super) fn device(n: u8) -> Identity {
    Identity::from_seeds([n + 1; 32], [n + 101; 32])
}

pub(super) fn key(n: u8) -> DeviceKey {
    device(n).device_key()
}

pub(super) fn id(n: u8) -> PublicId {
    PublicId([n; 16])
}

pub(super) fn group() -> GroupId {
    GroupId::of(&key(0))
}

/// The master's pen.
#[derive(Clone)]
pub(super) struct Log {
    at: Position,
    previous: Hash,
    membership: Hash,
}

impl Log {
    /// A log with the master in it.
    pub(super) fn new() -> (Log, VerifiedHeader) {
        let at = Position { generation: 1, revision: 0 };
        let mut log = Log { at, previous: Hash::ZERO, membership: Hash::ZERO };
        let genesis = log.change(0, Standing::Approved);
        (log, genesis)
    }

    /// The log after a restore from a backup.
    pub(super) fn next_generation(&mut self) {
        self.at.generation += 1;
    }

    pub(super) fn begin_membership_anew(&mut self) {
        self.membership = Hash::ZERO;
    }

    pub(super) fn change(&mut self, n: u8, standing: Standing) -> VerifiedHeader {
        let (device, seal) = (key(n), device(n).seal_key());
        let nonce = [self.at.revision as u8; 16];
        self.entry(Some(MembershipChange { id: id(n), device, seal, standing, nonce }))
    }

    pub(super) fn plain(&mut self) -> VerifiedHeader {
        self.entry(None)
    }

    pub(super) fn entry(&mut self, membership: Option<MembershipChange>) -> VerifiedHeader {
        self.at.revision += 1;
        let header = Header {
            group: group(),
            at: self.at,
            previous: self.previous,
            previous_membership: self.membership,
            time_ms: 0,
            audience: Audience::EVERYONE,
            membership,
            body: Hash::ZERO,
        };
        let verified = SignedHeader::sign(&device(0), &header);
        (self.previous, self.membership) = (verified.hash(), verified.membership_hash());
        verified
    }

    pub(super) fn head(&self) -> SignedHead {
        self.head_with([0; 16])
    }

    pub(super) fn head_with(&self, nonce: [u8; 16]) -> SignedHead {
        let (header, membership) = (self.previous, self.membership);
        SignedHead::sign(&device(0), &Head { group: group(), at: self.at, header, membership, nonce })
    }
}

/// What a router did, in order, with what it would have stored.
pub(super) struct World {
    pub(super) router: Router,
    pub(super) now: Time,
    pub(super) records: Vec<Record>,
    pub(super) sent: Vec<(ConnId, Frame)>,
    pub(super) closed: Vec<(ConnId, CloseCode)>,
    pub(super) orders: Vec<ChunkOrder>,
}

impl World {
    pub(super) fn new(config: RouterConfig) -> World {
        World::restored(config, Vec::new())
    }

    pub(super) fn restored(config: RouterConfig, records: Vec<Record>) -> World {
        let router = Router::new(Time(0), config, SECRET, stored(&records)).unwrap();
        World { router, now: Time(0), records, sent: vec![], closed: vec![], orders: vec![] }
    }

    /// A world with a settled group: the master on connection 0 and these members approved (none connected).
    pub(super) fn settled(members: &[u8]) -> (World, Log) {
        let mut world = World::new(RouterConfig::default());
        let (mut log, genesis) = Log::new();
        let mut headers = vec![genesis.signed().clone()];
        for n in members {
            headers.push(log.change(*n, Standing::Registered).signed().clone());
            headers.push(log.change(*n, Standing::Approved).signed().clone());
        }
        world.master(0, &log);
        world.say(0, Frame::Headers(headers));
        world.say(0, Frame::Head(log.head()));
        world.say(0, Frame::OpenInvites(vec![INVITE]));
        world.take();
        (world, log)
    }

    pub(super) fn input(&mut self, input: Input) {
        self.router.handle(self.now, input);
        while let Some(effect) = self.router.poll_effect() {
            match effect {
                Effect::Persist(record) => self.records.push(record),
                Effect::Classed { .. } => {}
                Effect::Send { to, frame } => self.sent.extend(to.into_iter().map(|conn| (conn, frame.clone()))),
                Effect::SendCounted { conn, frame, bytes: _ } => self.sent.push((conn, frame)),
                Effect::Chunks(order) => self.orders.push(order),
                Effect::Close { conn, code } => self.closed.push((conn, code)),
            }
        }
    }

    pub(super) fn say(&mut self, conn: u64, frame: Frame) {
        self.input(Input::Frame { conn: ConnId(conn), frame });
    }

    pub(super) fn connect(&mut self, conn: u64, n: u8) {
        let remote = "192.0.2.1:1000".parse().unwrap();
        self.input(Input::Connected { conn: ConnId(conn), peer: key(n), remote });
    }

    pub(super) fn hello(&mut self, conn: u64, n: u8, role: Role, head: Option<SignedHead>) {
        self.connect(conn, n);
        let hello = Hello { version: PROTOCOL_VERSION, software: "test".into(), role, group: group(), head };
        self.say(conn, Frame::Hello(hello));
    }

    /// Device `n` on connection `conn`, with nothing to show.
    pub(super) fn client(&mut self, conn: u64, n: u8) {
        self.hello(conn, n, Role::Client, None);
    }

    pub(super) fn master(&mut self, conn: u64, log: &Log) {
        self.hello(conn, 0, Role::Master, Some(log.head()));
        self.say(conn, Frame::MasterRegister { admission: Some(SECRET) });
    }

    pub(super) fn broadcast(&mut self, header: &VerifiedHeader) {
        let epoch = EpochId { generation: 1, number: 1 };
        let body = SealedBody { epoch, nonce: [0; 12], bytes: vec![1, 2, 3] };
        self.say(0, Frame::Broadcast { header: header.signed().clone(), body });
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now = Time(self.now.0 + ms);
        while self.router.poll_timeout().is_some_and(|at| at <= self.now) {
            self.input(Input::Tick);
        }
    }

    /// What was sent to a connection since the last look, presence aside.
    pub(super) fn got(&mut self, conn: u64) -> Vec<Frame> {
        let (got, rest) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == ConnId(conn));
        self.sent = rest;
        let got: Vec<(ConnId, Frame)> = got;
        got.into_iter().map(|(_, frame)| frame).filter(|frame| !matches!(frame, Frame::Presence(_))).collect()
    }

    pub(super) fn presence(&mut self, conn: u64) -> Vec<(u8, bool)> {
        let rows = self.sent.iter().filter(|(to, _)| *to == ConnId(conn)).flat_map(|(_, frame)| match frame {
            Frame::Presence(rows) => rows.clone(),
            _ => vec![],
        });
        rows.map(|row| (row.id.0[0], row.online)).collect()
    }

    /// Forgets what was sent so far.
    pub(super) fn take(&mut self) {
        self.sent.clear();
        self.orders.clear();
    }

    pub(super) fn closed(&self, conn: u64) -> Option<CloseCode> {
        self.closed.iter().find(|(closed, _)| *closed == ConnId(conn)).map(|(_, code)| *code)
    }

    /// The class that a connection was told last.
    pub(super) fn class(&mut self, conn: u64) -> Option<Class> {
        self.got(conn).into_iter().rev().find_map(|frame| match frame {
            Frame::Welcome(Welcome { class, .. }) => Some(class),
            _ => None,
        })
    }
}

/// What a store gives back of these records.
pub(super) fn stored(records: &[Record]) -> Vec<StoredGroup> {
    let mut groups: Vec<StoredGroup> = Vec::new();
    for record in records {
        match record.clone() {
            Record::Group { group: _, master } => {
                groups.push(StoredGroup { master, head: None, chain: vec![], expulsions: vec![] });
            }
            Record::Truncated { after, .. } => groups[0].chain.retain(|signed| {
                let header: Header = crate::wire::codec::decode(&signed.bytes).unwrap();
                Some(header.at) <= after
            }),
            Record::Header { header, .. } => groups[0].chain.push(header),
            Record::Expulsion { header, .. } => groups[0].expulsions.push(header),
            Record::Head { head, .. } => groups[0].head = Some(head),
        }
    }
    groups
}
