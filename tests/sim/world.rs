//! A whole group in one thread: the real cores of master, clients and server, on databases in memory, joined by a
//! simulated network. One seed gives everything; nothing sleeps.

use crate::dice::Dice;
use crate::model::{Model, changes_of};
use crate::network::{DIAL_MS, IDLE_MS, KEEP_ALIVE_MS, LANE_FRAMES_MAX, Link, NodeId, Piece, Side, label};
use crate::plane::{Disk, Landed, Plane};
use bailiwick::node::local::{Command, LocalError, Reply};
use bailiwick::node::member::io::{Input, Lost, Output, Served, Upload, UploadSource};
use bailiwick::node::member::{Cx, MemberConfig, MemberCore, Name, Start};
use bailiwick::node::server::core::{CoreConfig, ServerCore, ServerInput, ServerOutput};
use bailiwick::state::cache::{EntryId, ForwardId, StreamId};
use bailiwick::state::conn::ConnId;
use bailiwick::state::random::draw;
use bailiwick::state::time::Time;
use bailiwick::store::member::{LocalFile, MemberStore};
use bailiwick::store::server_db::ServerStore;
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::close::CloseCode;
use bailiwick::wire::frame::{ChunkRefusal, Frame};
use bailiwick::wire::ids::{Audience, DeviceKey, GroupId};
use bailiwick::wire::invite::{Address, AdmissionSecret, Invite, ServerAddress, Ticket};
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::seal::{Cipher, NONCE_BYTES};
use bailiwick::wire::sign::Identity;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

/// Events that a failure prints.
const EVENTS_PRINTED: usize = 250;
/// The simulated wall clock at the start, in milliseconds since 1970.
const WALL_MS: u64 = 1_800_000_000_000;
/// Batches that one core may decide in one simulated second; more is a loop that feeds itself.
const BATCHES_PER_SECOND_MAX: u32 = 2_000;
/// How long a process waits before it reads its store again after a failed write.
const REOPEN_MS: u64 = 1_000;
/// The longest a group may need to settle, once nothing goes wrong any more.
const SETTLE_MS: u64 = 15 * 60_000;

/// What goes wrong by chance, once in so many batches; never where it is zero.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A process dies before it decides a batch.
    pub(crate) crash_before: u64,
    /// A process dies when a batch is on disk, before or while its outputs go out.
    pub(crate) crash_after: u64,
    /// A write fails.
    pub(crate) failed_write: u64,
}

/// Where a scripted crash happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// Nothing of the batch is done.
    Before,
    /// The batch is on disk; this many of its outputs went out.
    After(usize),
}

/// Something that is due.
enum Event {
    Wake(NodeId, u32),
    WakeServer(u32),
    Deliver(ConnId, Side),
    Dials(ConnId, u64, u32),
    Dialed(ConnId, u64, u32),
    DialFails(NodeId, u64, u32),
    Dies(ConnId, Side),
    Idles(ConnId, Side, u64),
    Restart(NodeId),
    Reopen(NodeId),
    RestartServer,
    Arrives(StreamId),
    Received(StreamId),
    Forwards(ForwardId),
    Told(NodeId, u32, Box<Input>),
    ServerTold(u32, Box<ServerInput>),
}

/// A device.
pub(crate) struct Node {
    /// For people.
    pub(crate) name: String,
    /// Its keys.
    pub(crate) identity: Arc<Identity>,
    /// How it is started.
    pub(crate) start: Start,
    /// Timing and sizes.
    pub(crate) config: MemberConfig,
    /// Its process.
    pub(crate) core: Option<MemberCore>,
    /// Its database, while there is no process.
    pub(crate) store: Option<MemberStore>,
    /// Its files.
    pub(crate) disk: Disk,
    /// Why it ended by itself.
    pub(crate) fatal: Option<LocalError>,
    /// Answers that came, by the question's number.
    pub(crate) replies: BTreeMap<u64, Result<Reply, LocalError>>,
    /// Reads no chunk streams.
    pub(crate) stalled: bool,
    /// Uploads that it was told to send.
    pub(crate) uploads: u64,
    /// Units that it took.
    pub(crate) units: u64,
    /// How its next batches end, by their number from now on.
    pub(crate) crash_in: Option<(u32, CrashPoint)>,
    alive: bool,
    plane: Plane,
    inbox: Vec<Input>,
    wake_at: Option<u64>,
    life: u32,
    cut_in: bool,
    cut_out: bool,
    cut_since: u64,
    frozen_until: u64,
    wall_offset: i64,
    next_token: u64,
    batches: (u64, u32),
    /// Whether its group's log has a copy somewhere that it doesn't know.
    pub(crate) is_old_copy: bool,
}

impl Node {
    /// Its database, whether it runs or not.
    pub(crate) fn store(&self) -> &MemberStore {
        match (&self.core, &self.store) {
            (Some(core), _) => core.store(),
            (None, Some(store)) => store,
            (None, None) => unreachable!("a node has its store or its core"),
        }
    }

    /// Its key.
    pub(crate) fn key(&self) -> DeviceKey {
        self.identity.device_key()
    }

    /// Whether it is the master.
    pub(crate) fn is_master(&self) -> bool {
        matches!(self.start, Start::Master { .. })
    }
}

/// The server.
pub(crate) struct ServerHost {
    /// Its process.
    pub(crate) core: Option<ServerCore>,
    /// Its database, while there is no process.
    pub(crate) store: Option<ServerStore>,
    /// How its next batches end.
    pub(crate) crash_in: Option<(u32, CrashPoint)>,
    address: ServerAddress,
    admission: AdmissionSecret,
    config: CoreConfig,
    inbox: Vec<ServerInput>,
    wake_at: Option<u64>,
    life: u32,
    batches: (u64, u32),
    entries: BTreeMap<EntryId, (StreamId, bool)>,
    forwards: BTreeMap<ForwardId, (EntryId, ConnId, u64)>,
}

struct Stream {
    node: NodeId,
    link: ConnId,
    header: ChunkHeader,
    upload: Upload,
    source: Box<UploadSource>,
    entry: Option<EntryId>,
}

/// What a person asked, and what is to be done with the answer.
#[derive(Debug, Clone)]
enum Purpose {
    Invite,
    Approve(Vec<DeviceKey>),
    Disapprove(Vec<DeviceKey>),
    Other,
}

/// Sees every frame that is about to arrive; `false` drops it.
pub(crate) type Intercept = Box<dyn FnMut(&Passing<'_>) -> bool>;

/// A frame that is about to arrive.
pub(crate) struct Passing<'a> {
    /// The device's node.
    pub(crate) node: NodeId,
    /// Where it goes.
    pub(crate) to: Side,
    /// The frame.
    pub(crate) frame: &'a Frame,
}

/// See the module.
pub(crate) struct World {
    /// The seed.
    pub(crate) seed: u64,
    /// All chance.
    pub(crate) dice: Dice,
    /// The devices; the first is the master.
    pub(crate) nodes: Vec<Node>,
    /// The server.
    pub(crate) server: ServerHost,
    /// What must be true.
    pub(crate) model: Model,
    /// What goes wrong by chance.
    pub(crate) faults: Faults,
    /// A server, or a network, that drops frames on purpose.
    pub(crate) intercept: Option<Intercept>,
    /// Invites that came back, as texts.
    pub(crate) invites: Vec<String>,
    /// Milliseconds that a packet takes, at most.
    pub(crate) delay_max: u64,
    /// Dials so far.
    pub(crate) dials: u64,
    now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    links: BTreeMap<ConnId, Link>,
    next_id: u64,
    streams: BTreeMap<StreamId, Stream>,
    purposes: BTreeMap<(NodeId, u64), Purpose>,
    events: VecDeque<String>,
    /// A fingerprint of all that happened, to tell whether a seed gives the same world twice.
    pub(crate) fingerprint: blake3::Hasher,
}

impl World {
    /// A server and a master that has just been started.
    pub(crate) fn new(seed: u64) -> World {
        World::with(seed, MemberConfig::default(), CoreConfig::default())
    }

    /// The same, with other limits.
    pub(crate) fn with(seed: u64, config: MemberConfig, server_config: CoreConfig) -> World {
        let mut dice = Dice::new(seed);
        let identity = new_identity(&mut dice);
        let server_key = new_identity(&mut dice).device_key();
        let address = ServerAddress { key: server_key, addresses: vec![Address::V4([192, 0, 2, 1], 4433)] };
        let admission = AdmissionSecret(draw(&mut dice));
        let ticket = Ticket { server: address.clone(), admission };
        let start = Start::Master { ticket: Box::new(ticket), name: named("desk") };
        let server = ServerHost {
            core: None,
            store: Some(ServerStore::open_in_memory().expect("a database")),
            crash_in: None,
            address,
            admission,
            config: server_config,
            inbox: Vec::new(),
            wake_at: None,
            life: 0,
            batches: (0, 0),
            entries: BTreeMap::new(),
            forwards: BTreeMap::new(),
        };
        let model = Model::new(identity.device_key());
        let mut world = World {
            seed,
            dice,
            nodes: Vec::new(),
            server,
            model,
            faults: Faults::default(),
            intercept: None,
            invites: Vec::new(),
            delay_max: 40,
            dials: 0,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            links: BTreeMap::new(),
            next_id: 0,
            streams: BTreeMap::new(),
            purposes: BTreeMap::new(),
            events: VecDeque::new(),
            fingerprint: blake3::Hasher::new(),
        };
        world.start_server();
        let store = MemberStore::open_in_memory().expect("a database");
        world.add_node("desk", identity, start, config, store);
        world.start_node(0);
        world
    }

    fn add_node(
        &mut self,
        name: &str,
        identity: Arc<Identity>,
        start: Start,
        config: MemberConfig,
        store: MemberStore,
    ) -> NodeId {
        self.nodes.push(Node {
            name: name.to_owned(),
            identity,
            start,
            config,
            core: None,
            store: Some(store),
            disk: Disk::default(),
            fatal: None,
            replies: BTreeMap::new(),
            stalled: false,
            uploads: 0,
            units: 0,
            crash_in: None,
            alive: false,
            plane: Plane::default(),
            inbox: Vec::new(),
            wake_at: None,
            life: 0,
            cut_in: false,
            cut_out: false,
            cut_since: 0,
            frozen_until: 0,
            wall_offset: 0,
            next_token: 0,
            batches: (0, 0),
            is_old_copy: false,
        });
        self.nodes.len() - 1
    }

    /// A new device with an invite; it runs.
    pub(crate) fn join(&mut self, name: &str, invite: &str) -> NodeId {
        let invite = Box::new(Invite::parse(invite).expect("an invite"));
        let identity = new_identity(&mut self.dice);
        let store = MemberStore::open_in_memory().expect("a database");
        let start = Start::Client { invite: Some(invite), name: named(name) };
        let config = self.nodes[0].config;
        let node = self.add_node(name, identity, start, config, store);
        self.start_node(node);
        // From now on the state directory knows the group.
        self.nodes[node].start = Start::Client { invite: None, name: named(name) };
        node
    }

    /// A second process on a copy of a device's directory; it runs.
    pub(crate) fn copy_of(&mut self, node: NodeId, store: MemberStore) -> NodeId {
        let of = &self.nodes[node];
        let (identity, start, config) = (of.identity.clone(), of.start.clone(), of.config);
        let (name, disk) = (format!("{}'", of.name), of.disk.clone());
        let copy = self.add_node(&name, identity, start, config, store);
        self.nodes[copy].disk = disk;
        self.nodes[copy].is_old_copy = true;
        self.start_node(copy);
        copy
    }

    /// Milliseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    fn wall(&self, node: NodeId) -> u64 {
        (WALL_MS + self.now).saturating_add_signed(self.nodes[node].wall_offset)
    }

    /// A person, or a time server, sets a clock.
    pub(crate) fn set_clock(&mut self, node: NodeId, offset_ms: i64) {
        self.note(format!("{} clock {offset_ms:+} ms", self.nodes[node].name));
        self.nodes[node].wall_offset = offset_ms;
    }

    // --- what happens -----------------------------------------------------------------------------------------

    /// Writes down what happened.
    pub(crate) fn note(&mut self, what: String) {
        let line = format!("{:>9} {what}", self.now);
        self.fingerprint.update(line.as_bytes());
        if std::env::var_os("BAILIWICK_SIM_TRACE").is_some() {
            self.events.push_back(line);
            return;
        }
        if self.events.len() == EVENTS_PRINTED {
            self.events.pop_front();
        }
        self.events.push_back(line);
    }

    /// A check failed: everything that is needed to see why.
    pub(crate) fn fail(&self, why: &str) -> ! {
        let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
        panic!(
            "{}\nseed={} at {} ms: {why}\nagain: BAILIWICK_SIM_FIRST={} BAILIWICK_SIM_SEEDS=1 cargo test --test sim random_worlds",
            events.join("\n"),
            self.seed,
            self.now,
            self.seed
        );
    }

    /// Fails, with all that happened, if something is not so.
    pub(crate) fn check(&self, so: bool, what: &str) {
        if !so {
            self.fail(&format!("not so: {what}"));
        }
    }

    fn at(&mut self, when: u64, event: Event) {
        self.order += 1;
        self.queue.insert((when.max(self.now), self.order), event);
    }

    fn soon(&mut self) -> u64 {
        let delay = self.delay_max;
        self.now + self.dice.between(1, delay.max(1))
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, ms: u64) {
        self.run_until(self.now + ms);
    }

    /// Lets time pass until then.
    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry() {
            let (when, _) = *entry.key();
            if when > end {
                break;
            }
            let event = entry.remove();
            self.now = self.now.max(when);
            self.happens(event);
        }
        self.now = self.now.max(end);
    }

    /// Lets time pass until something is so, for so long at most. Says whether it is.
    pub(crate) fn run_till(&mut self, ms: u64, mut so: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + ms;
        while self.now < end {
            if so(self) {
                return true;
            }
            self.run_for(20);
        }
        so(self)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake(node, life) if self.nodes[node].life == life => self.wake(node),
            Event::WakeServer(life) if self.server.life == life => self.wake_server(),
            Event::Deliver(conn, to) => self.deliver(conn, to),
            Event::Dials(conn, attempt, life) => self.dials(conn, attempt, life),
            Event::Dialed(conn, attempt, life) => self.dialed(conn, attempt, life),
            Event::DialFails(node, attempt, life) if self.nodes[node].life == life => {
                self.tell(node, Input::DialFailed(attempt, "no answer".to_owned()));
            }
            Event::Dies(conn, side) => self.end_side(conn, side, None),
            Event::Idles(conn, side, since) => {
                let node = self.links.get(&conn).map(|link| link.node);
                let idle = |node: &Node| (node.cut_in || node.cut_out) && node.cut_since == since;
                if node.is_some_and(|node| idle(&self.nodes[node])) {
                    self.end_side(conn, side, None);
                }
            }
            Event::Restart(node) => self.start_node(node),
            Event::Reopen(node) if self.nodes[node].alive => self.open_core(node),
            Event::RestartServer => self.start_server(),
            Event::Arrives(stream) => self.arrives(stream),
            Event::Received(stream) => self.received(stream),
            Event::Forwards(forward) => self.forwards(forward),
            Event::Told(node, life, input) if self.nodes[node].life == life => self.tell(node, *input),
            Event::ServerTold(life, input) if self.server.life == life => self.tell_server(*input),
            Event::Wake(..)
            | Event::Reopen(_)
            | Event::WakeServer(_)
            | Event::DialFails(..)
            | Event::Told(..)
            | Event::ServerTold(..) => {}
        }
    }

    // --- processes --------------------------------------------------------------------------------------------

    /// Starts a node's process, if it doesn't run and has not ended by itself.
    pub(crate) fn start_node(&mut self, node: NodeId) {
        if self.nodes[node].core.is_some() || self.nodes[node].fatal.is_some() {
            return;
        }
        self.nodes[node].inbox.clear();
        self.note(format!("{} starts", self.nodes[node].name));
        self.nodes[node].life += 1;
        self.nodes[node].plane = Plane::default();
        self.nodes[node].alive = true;
        self.open_core(node);
    }

    fn open_core(&mut self, node: NodeId) {
        let (now, wall_ms) = (Time(self.now), self.wall(node));
        let one = &mut self.nodes[node];
        let Some(store) = one.store.take() else { return };
        store.set_read_only(false).expect("a pragma");
        let downloads = PathBuf::from(format!("/downloads/{}", one.name));
        let (identity, config, start) = (one.identity.clone(), one.config, one.start.clone());
        let kept = store.copy_in_memory().expect("a copy");
        let mut cx = Cx { now, wall_ms, random: &mut self.dice };
        match MemberCore::open(store, identity, config, start, downloads, &mut cx) {
            Ok(core) => self.nodes[node].core = Some(core),
            Err(error) => {
                self.nodes[node].store = Some(kept);
                self.fail(&format!("{} can't be opened: {error}", self.nodes[node].name));
            }
        }
        self.committed(node);
        self.wake_at(node, self.now);
    }

    /// A node's process is killed.
    pub(crate) fn crash(&mut self, node: NodeId) {
        if !std::mem::take(&mut self.nodes[node].alive) {
            return;
        }
        self.note(format!("{} is killed", self.nodes[node].name));
        let one = &mut self.nodes[node];
        if let Some(core) = one.core.take() {
            one.store = Some(core.store().copy_in_memory().expect("a copy"));
        }
        one.life += 1;
        one.inbox.clear();
        one.wake_at = None;
        one.disk.power_cut(&mut self.dice);
        self.purposes.retain(|(of, _), _| *of != node);
        let links: Vec<ConnId> =
            self.links.values().filter(|link| link.node == node && link.node_open).map(|link| link.id).collect();
        for conn in links {
            self.vanish(conn, Side::Node);
        }
    }

    /// Kills a node, and starts it again later.
    pub(crate) fn crash_for(&mut self, node: NodeId, ms: u64) {
        self.crash(node);
        self.at(self.now + ms, Event::Restart(node));
    }

    /// One end of a connection is gone without a word. What was under way from there may be lost from some frame on.
    fn vanish(&mut self, conn: ConnId, side: Side) {
        let quick = self.dice.once_in(2);
        let learns = if quick { self.dice.between(1, 2_000) } else { self.dice.between(1_000, IDLE_MS) };
        let kept = self.dice.below(8) as usize;
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.set_open(side, false);
        link.lane_to(side).pieces.clear();
        link.lane_to(side.other()).pieces.truncate(kept);
        self.at(self.now + learns, Event::Dies(conn, side.other()));
    }

    /// Starts the server, if it doesn't run.
    pub(crate) fn start_server(&mut self) {
        if self.server.core.is_some() {
            return;
        }
        self.note("server starts".to_owned());
        self.server.life += 1;
        let Some(store) = self.server.store.take() else { return };
        store.set_read_only(false).expect("a pragma");
        let core = ServerCore::open(Time(self.now), self.server.config.clone(), store, self.server.admission);
        match core {
            Ok(core) => self.server.core = Some(core),
            Err(error) => self.fail(&format!("the server can't start: {error}")),
        }
        self.wake_server_at(self.now);
    }

    /// The server's process is killed.
    pub(crate) fn crash_server(&mut self) {
        let Some(core) = self.server.core.take() else { return };
        self.note("server is killed".to_owned());
        self.server.store = Some(core.store().copy_in_memory().expect("a copy"));
        self.server.life += 1;
        self.server.inbox.clear();
        self.server.wake_at = None;
        self.forget_server_connections();
    }

    fn forget_server_connections(&mut self) {
        self.server.entries.clear();
        self.server.forwards.clear();
        self.streams.clear();
        let links: Vec<ConnId> = self.links.values().filter(|link| link.server_open).map(|link| link.id).collect();
        for conn in links {
            self.vanish(conn, Side::Server);
        }
    }

    /// Kills the server, and starts it again later.
    pub(crate) fn crash_server_for(&mut self, ms: u64) {
        self.crash_server();
        self.at(self.now + ms, Event::RestartServer);
    }

    /// The server's database becomes this one, while it is down.
    pub(crate) fn replace_server_store(&mut self, store: ServerStore) {
        assert!(self.server.core.is_none(), "the server runs");
        self.server.store = Some(store);
        self.model.server_forgot();
    }

    /// A copy of the server's database as it is now.
    pub(crate) fn server_backup(&self) -> ServerStore {
        match (&self.server.core, &self.server.store) {
            (Some(core), _) => core.store().copy_in_memory().expect("a copy"),
            (None, Some(store)) => store.copy_in_memory().expect("a copy"),
            (None, None) => unreachable!("a server has its store or its core"),
        }
    }

    /// A copy of a node's database as it is now.
    pub(crate) fn backup(&self, node: NodeId) -> MemberStore {
        self.nodes[node].store().copy_in_memory().expect("a copy")
    }

    /// A node's database becomes this older one, while it is down.
    pub(crate) fn restore(&mut self, node: NodeId, store: MemberStore) {
        assert!(self.nodes[node].core.is_none(), "it runs");
        self.note(format!("{} is restored from a backup", self.nodes[node].name));
        self.nodes[node].store = Some(store);
        self.nodes[node].fatal = None;
    }

    // --- batches ----------------------------------------------------------------------------------------------

    fn tell(&mut self, node: NodeId, input: Input) {
        if self.nodes[node].alive {
            self.nodes[node].inbox.push(input);
            let soon = self.now + self.dice.below(3);
            self.wake_at(node, soon);
        }
    }

    /// A frame reaches the server as if a node had sent it just now.
    pub(crate) fn inject(&mut self, node: NodeId, frame: Frame) {
        let open = self.links.values().rev().find(|link| link.node == node && link.node_open && link.server_open);
        if let Some(conn) = open.map(|link| link.id) {
            self.note(format!("{} ->{} INJECTED {}", self.nodes[node].name, conn.0, label(&frame)));
            self.tell_server(ServerInput::Frame { conn, frame });
        }
    }

    fn tell_later(&mut self, node: NodeId, input: Input) {
        let (when, life) = (self.soon(), self.nodes[node].life);
        self.at(when, Event::Told(node, life, Box::new(input)));
    }

    fn wake_at(&mut self, node: NodeId, when: u64) {
        let one = &mut self.nodes[node];
        if one.core.is_none() || one.wake_at.is_some_and(|at| at <= when) {
            return;
        }
        one.wake_at = Some(when);
        let life = one.life;
        self.at(when, Event::Wake(node, life));
    }

    fn wake(&mut self, node: NodeId) {
        if self.nodes[node].wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.nodes[node].wake_at = None;
        if self.nodes[node].frozen_until > self.now {
            return self.wake_at(node, self.nodes[node].frozen_until);
        }
        if self.nodes[node].core.is_none() {
            return;
        }
        self.count_batch(node);
        let inputs = std::mem::take(&mut self.nodes[node].inbox);
        let crash = self.crash_point(node);
        if crash == Some(CrashPoint::Before) {
            return self.crash_and_return(node);
        }
        let fails = self.dice.once_in(self.faults.failed_write);
        let (now, wall_ms) = (Time(self.now), self.wall(node));
        let Some(core) = &mut self.nodes[node].core else { return };
        if fails {
            core.store().set_read_only(true).expect("a pragma");
        }
        let mut cx = Cx { now, wall_ms, random: &mut self.dice };
        match core.handle(&mut cx, inputs) {
            Ok(outputs) => {
                if fails {
                    core.store().set_read_only(false).expect("a pragma");
                }
                self.committed(node);
                let told = match crash {
                    Some(CrashPoint::After(told)) => told.min(outputs.len()),
                    _ => outputs.len(),
                };
                for output in outputs.into_iter().take(told) {
                    self.carry_out(node, output);
                }
                if crash.is_some() {
                    return self.crash_and_return(node);
                }
            }
            Err(error) if fails => return self.reopen(node, &error.to_string()),
            Err(error) => self.fail(&format!("{} can't write: {error}", self.nodes[node].name)),
        }
        let next = self.nodes[node].core.as_ref().and_then(MemberCore::poll_timeout);
        if let Some(next) = next {
            self.wake_at(node, next.0.max(self.now + 1));
        }
    }

    fn count_batch(&mut self, node: NodeId) {
        let second = self.now / 1_000;
        let batches = &mut self.nodes[node].batches;
        if batches.0 != second {
            *batches = (second, 0);
        }
        batches.1 += 1;
        if batches.1 > BATCHES_PER_SECOND_MAX {
            self.fail(&format!("{} never rests", self.nodes[node].name));
        }
    }

    fn crash_point(&mut self, node: NodeId) -> Option<CrashPoint> {
        match &mut self.nodes[node].crash_in {
            Some((0, point)) => {
                let point = *point;
                self.nodes[node].crash_in = None;
                return Some(point);
            }
            Some((batches, _)) => *batches -= 1,
            None => {}
        }
        if self.dice.once_in(self.faults.crash_before) {
            return Some(CrashPoint::Before);
        }
        self.dice.once_in(self.faults.crash_after).then(|| CrashPoint::After(self.dice.below(6) as usize))
    }

    fn crash_and_return(&mut self, node: NodeId) {
        let quick = self.dice.once_in(2);
        let pause = if quick { self.dice.between(20, 1_500) } else { self.dice.between(1_000, 90_000) };
        self.crash_for(node, pause);
    }

    /// What the real shell does after a failed write: the core is dropped, all connections are closed, the core is read
    /// from disk again a second later. What came meanwhile still comes in.
    fn reopen(&mut self, node: NodeId, why: &str) {
        self.note(format!("{} can't write: {why}", self.nodes[node].name));
        let Some(core) = self.nodes[node].core.take() else { return };
        self.nodes[node].store = Some(core.store().copy_in_memory().expect("a copy"));
        drop(core);
        let links: Vec<ConnId> =
            self.links.values().filter(|link| link.node == node && link.node_open).map(|link| link.id).collect();
        for conn in links {
            self.close(conn, Side::Node, CloseCode::Internal);
        }
        self.purposes.retain(|(of, _), _| *of != node);
        // No new life: the data plane and the network go on.
        self.at(self.now + REOPEN_MS, Event::Reopen(node));
    }

    fn carry_out(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Dial(attempt, server) => {
                assert!(server == self.server.address, "there is one server");
                self.next_id += 1;
                self.dials += 1;
                let conn = ConnId(self.next_id);
                self.links.insert(conn, Link::new(conn, node));
                let (when, life) = (self.soon(), self.nodes[node].life);
                self.at(when, Event::Dials(conn, attempt, life));
            }
            Output::Send(conn, frame) => self.send(conn, Side::Server, *frame),
            Output::SendBulk(conn, frame) => {
                self.send(conn, Side::Server, *frame);
                self.tell_later(node, Input::Drained(conn));
            }
            Output::Close(conn, code) => self.close(conn, Side::Node, code),
            Output::Streams(..) => self.nodes[node].plane.streams(),
            Output::Epochs(epochs) => self.nodes[node].plane.epochs(epochs.iter().map(|epoch| epoch.id)),
            Output::Open(place) => {
                let transfer = place.transfer;
                let one = &mut self.nodes[node];
                let opened = one.plane.open(&mut one.disk, *place);
                self.tell_later(node, Input::Opened(transfer, opened));
            }
            Output::Expect(request, units) => self.nodes[node].plane.expect(request, units),
            Output::Forget(request, units) => self.nodes[node].plane.forget(request, &units),
            Output::Sync(transfer, chunks) => {
                let one = &mut self.nodes[node];
                if one.plane.sync(&mut one.disk, transfer) {
                    self.tell_later(node, Input::Synced(transfer, chunks, true));
                }
            }
            Output::Finish(transfers) => {
                for transfer in transfers {
                    let one = &mut self.nodes[node];
                    match one.plane.finish(&mut one.disk, transfer) {
                        Ok(Some(outcome)) => self.tell_later(node, Input::Finished(transfer, outcome)),
                        Ok(None) => {}
                        Err(why) => self.fail(&format!("{}: {why}", self.nodes[node].name)),
                    }
                }
            }
            Output::Drop(transfer, leftover) => {
                let one = &mut self.nodes[node];
                one.plane.drop_transfer(&mut one.disk, transfer, leftover);
            }
            Output::Upload(upload, source) => self.upload(node, upload, source),
            Output::Scan(path, name, known) => {
                let staged = self.nodes[node].disk.scan(&mut self.dice, &path, &name, &known);
                if !staged.is_empty() {
                    self.tell_later(node, Input::Staged(path.clone(), staged));
                }
                let (when, life) = (self.now + self.delay_max + 1, self.nodes[node].life);
                self.at(when, Event::Told(node, life, Box::new(Input::ScanEnded(path, Vec::new(), 0))));
            }
            Output::Reply(token, reply) => self.replied(node, token, reply),
            Output::Event(name, detail) => self.note(format!("{} event {name} {detail:?}", self.nodes[node].name)),
            Output::Stopped => {}
            Output::Fatal(error) => {
                self.note(format!("{} ends: {error}", self.nodes[node].name));
                self.nodes[node].fatal = Some(error);
                self.crash(node);
            }
        }
    }

    // --- what persons do --------------------------------------------------------------------------------------

    /// A person asks a node for something; the answer comes later.
    pub(crate) fn ask(&mut self, node: NodeId, command: Command) -> u64 {
        self.ask_for(node, command, Purpose::Other)
    }

    fn ask_for(&mut self, node: NodeId, command: Command, purpose: Purpose) -> u64 {
        self.note(format!("{} is asked for {command:?}", self.nodes[node].name));
        self.nodes[node].next_token += 1;
        let token = self.nodes[node].next_token;
        if self.nodes[node].core.is_some() {
            self.purposes.insert((node, token), purpose);
            self.tell(node, Input::Local(token, command));
        }
        token
    }

    /// A person at the master makes an invite.
    pub(crate) fn invite(&mut self) {
        self.ask_for(0, Command::Invite { expires_s: 24 * 3_600 }, Purpose::Invite);
    }

    /// A person at the master approves devices.
    pub(crate) fn approve(&mut self, nodes: &[NodeId]) -> u64 {
        let ids = self.ids_of(nodes);
        let keys = nodes.iter().map(|node| self.nodes[*node].key()).collect();
        self.ask_for(0, Command::Approve { ids }, Purpose::Approve(keys))
    }

    /// A person at the master disapproves devices.
    pub(crate) fn disapprove(&mut self, nodes: &[NodeId]) -> u64 {
        let ids = self.ids_of(nodes);
        let keys = nodes.iter().map(|node| self.nodes[*node].key()).collect();
        self.ask_for(0, Command::Disapprove { ids }, Purpose::Disapprove(keys))
    }

    fn ids_of(&self, nodes: &[NodeId]) -> Vec<String> {
        let changes = changes_of(self.nodes[0].store(), &self.model.master);
        let id = |node: &NodeId| changes.get(&self.nodes[*node].key()).map(|change| change.id.to_string());
        nodes.iter().map(|node| id(node).unwrap_or_else(|| "0000000000".to_owned())).collect()
    }

    /// Somebody puts files on a disk, and shares their folder.
    pub(crate) fn share(&mut self, node: NodeId, folder: &str, sizes: &[u64]) -> PathBuf {
        let path = PathBuf::from(format!("/home/{}/{folder}", self.nodes[node].name));
        for (number, size) in sizes.iter().enumerate() {
            self.write_file(node, path.join(format!("{folder}{number}")), *size);
        }
        self.ask(node, Command::Add { paths: vec![path.clone()] });
        path
    }

    /// Somebody writes a file with new content.
    pub(crate) fn write_file(&mut self, node: NodeId, path: PathBuf, size: u64) {
        let file = crate::plane::SharedFile::random(&mut self.dice, size);
        self.nodes[node].disk.shared.insert(path, file);
    }

    fn replied(&mut self, node: NodeId, token: u64, reply: Result<Reply, LocalError>) {
        if let Err(error) = &reply {
            self.note(format!("{} is answered: {error}", self.nodes[node].name));
        }
        let purpose = self.purposes.remove(&(node, token));
        match (purpose, &reply) {
            (Some(Purpose::Invite), Ok(Reply::Invites(rows))) => {
                self.invites.extend(rows.iter().map(|row| row.invite.clone()));
            }
            (Some(Purpose::Approve(keys)), Ok(_)) if node == 0 => self.model.approved_acked.extend(keys),
            (Some(Purpose::Disapprove(keys)), Ok(_)) if node == 0 => self.model.expelled_acked.extend(keys),
            _ => {}
        }
        self.nodes[node].replies.insert(token, reply);
    }

    // --- the network ------------------------------------------------------------------------------------------

    /// Cuts a node off, one way or both; `false, false` heals it.
    pub(crate) fn cut(&mut self, node: NodeId, inward: bool, outward: bool) {
        self.note(format!("{} is cut off: in {inward}, out {outward}", self.nodes[node].name));
        let one = &mut self.nodes[node];
        (one.cut_in, one.cut_out) = (inward, outward);
        one.cut_since = self.now;
        let links: Vec<ConnId> = self.links.values().filter(|link| link.node == node).map(|link| link.id).collect();
        for conn in links {
            if inward || outward {
                let skew = self.dice.below(KEEP_ALIVE_MS);
                let since = self.now;
                self.at(self.now + IDLE_MS - skew, Event::Idles(conn, Side::Node, since));
                let skew = self.dice.below(KEEP_ALIVE_MS);
                self.at(self.now + IDLE_MS - skew, Event::Idles(conn, Side::Server, since));
            } else {
                for side in [Side::Node, Side::Server] {
                    let soon = self.soon();
                    self.at(soon, Event::Deliver(conn, side));
                }
            }
        }
    }

    /// A node's connections are lost, at both ends.
    pub(crate) fn lose_connections(&mut self, node: NodeId) {
        self.note(format!("{} loses its connections", self.nodes[node].name));
        let links: Vec<ConnId> = self.links.values().filter(|link| link.node == node).map(|link| link.id).collect();
        for conn in links {
            for side in [Side::Node, Side::Server] {
                let late = self.dice.once_in(3);
                let learns = if late { self.dice.between(1, IDLE_MS) } else { self.dice.between(1, 200) };
                self.at(self.now + learns, Event::Dies(conn, side));
            }
        }
    }

    /// A device sleeps.
    pub(crate) fn sleep(&mut self, node: NodeId, ms: u64) {
        self.note(format!("{} sleeps for {ms} ms", self.nodes[node].name));
        self.nodes[node].frozen_until = self.now + ms;
        let links: Vec<ConnId> = self.links.values().filter(|link| link.node == node).map(|link| link.id).collect();
        if ms > IDLE_MS {
            for conn in links {
                self.at(self.now + IDLE_MS, Event::Dies(conn, Side::Server));
                self.at(self.now + ms + 1, Event::Dies(conn, Side::Node));
            }
        }
    }

    fn is_cut(&self, node: NodeId, to: Side) -> bool {
        match to {
            Side::Node => self.nodes[node].cut_in,
            Side::Server => self.nodes[node].cut_out,
        }
    }

    fn dials(&mut self, conn: ConnId, attempt: u64, life: u32) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let node = link.node;
        let reachable = self.server.core.is_some() && !self.nodes[node].cut_in && !self.nodes[node].cut_out;
        if !reachable {
            self.links.remove(&conn);
            return self.at(self.now + DIAL_MS, Event::DialFails(node, attempt, life));
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.server_open = true;
        }
        let remote = std::net::SocketAddr::from(([198, 51, 100, node as u8], 40_000));
        self.tell_server(ServerInput::Connected { conn, peer: self.nodes[node].key(), remote });
        let soon = self.soon();
        self.at(soon, Event::Dialed(conn, attempt, life));
    }

    fn dialed(&mut self, conn: ConnId, attempt: u64, life: u32) {
        let Some(link) = self.links.get(&conn) else { return };
        let node = link.node;
        if self.nodes[node].life != life {
            return self.at(self.now + IDLE_MS, Event::Dies(conn, Side::Server));
        }
        if self.nodes[node].cut_in || !link.server_open {
            self.at(self.now + IDLE_MS, Event::Dies(conn, Side::Server));
            return self.at(self.now + DIAL_MS, Event::DialFails(node, attempt, life));
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.node_open = true;
        }
        self.tell(node, Input::Dialed(conn));
    }

    fn send(&mut self, conn: ConnId, to: Side, frame: Frame) {
        let due = self.soon();
        let Some(link) = self.links.get_mut(&conn) else { return };
        if !link.is_open(to.other()) {
            return;
        }
        let lane = link.lane_to(to);
        if lane.pieces.len() >= LANE_FRAMES_MAX {
            return self.close(conn, to.other(), CloseCode::TooSlow);
        }
        let due = due.max(lane.last_due);
        lane.last_due = due;
        lane.pieces.push_back((due, Piece::Frame(Box::new(frame))));
        self.at(due, Event::Deliver(conn, to));
    }

    /// One side closes a connection. What it had not sent yet may be lost.
    fn close(&mut self, conn: ConnId, by: Side, code: CloseCode) {
        let (due, lost) = (self.soon(), self.dice.once_in(2));
        let Some(link) = self.links.get_mut(&conn) else { return };
        if !link.is_open(by) {
            return;
        }
        link.set_open(by, false);
        let node = link.node;
        let lane = link.lane_to(by.other());
        if lost && by == Side::Node {
            lane.pieces.clear();
        }
        let due = due.max(lane.last_due);
        lane.last_due = due;
        lane.pieces.push_back((due, Piece::Close(code)));
        self.at(due, Event::Deliver(conn, by.other()));
        self.note(format!("{} {} closed by {by:?}: {code:?}", self.nodes[node].name, conn.0));
        match by {
            Side::Node => self.tell_later(node, Input::Lost(conn, Lost::Broken)),
            Side::Server => self.close_streams(conn),
        }
    }

    /// A side learns that its connection is over.
    fn end_side(&mut self, conn: ConnId, side: Side, code: Option<CloseCode>) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let (node, was_open) = (link.node, link.is_open(side));
        link.set_open(side, false);
        link.lane_to(side).pieces.clear();
        let gone = !link.node_open && !link.server_open && link.to_node.pieces.is_empty();
        if gone && link.to_server.pieces.is_empty() {
            self.links.remove(&conn);
        }
        if !was_open {
            return;
        }
        self.note(format!("{} {} ended at {side:?} {code:?}", self.nodes[node].name, conn.0));
        match side {
            Side::Node => self.tell(node, Input::Lost(conn, code.map_or(Lost::Broken, Lost::Closed))),
            Side::Server => {
                self.close_streams(conn);
                self.tell_server(ServerInput::Closed { conn });
            }
        }
    }

    /// The chunk streams of a connection that is over at the server.
    fn close_streams(&mut self, conn: ConnId) {
        let broken: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| stream.link == conn).map(|(id, _)| *id).collect();
        for id in broken {
            let Some(stream) = self.streams.get(&id) else { continue };
            let complete = stream.entry.is_some_and(|entry| self.server.entries.get(&entry).is_some_and(|one| one.1));
            if complete {
                continue;
            }
            let entry = stream.entry;
            self.streams.remove(&id);
            if let Some(entry) = entry {
                self.tell_server(ServerInput::Broken(entry));
            }
        }
    }

    fn deliver(&mut self, conn: ConnId, to: Side) {
        loop {
            let Some(node) = self.links.get(&conn).map(|link| link.node) else { return };
            if self.is_cut(node, to) {
                return;
            }
            let now = self.now;
            let Some(link) = self.links.get_mut(&conn) else { return };
            let is_open = link.is_open(to);
            let lane = link.lane_to(to);
            if lane.pieces.front().is_none_or(|(due, _)| *due > now) {
                return;
            }
            let Some((_, piece)) = lane.pieces.pop_front() else { return };
            match piece {
                Piece::Close(code) => self.end_side(conn, to, Some(code)),
                Piece::Frame(_) if !is_open => {}
                Piece::Frame(frame) => self.frame_arrives(conn, node, to, *frame),
            }
        }
    }

    fn frame_arrives(&mut self, conn: ConnId, node: NodeId, to: Side, frame: Frame) {
        let arrow = if to == Side::Node { "<-" } else { "->" };
        if let Some(mut intercept) = self.intercept.take() {
            let passes = intercept(&Passing { node, to, frame: &frame });
            self.intercept = Some(intercept);
            if !passes {
                return self.note(format!("{} {arrow}{} LOST {}", self.nodes[node].name, conn.0, label(&frame)));
            }
        }
        self.note(format!("{} {arrow}{} {}", self.nodes[node].name, conn.0, label(&frame)));
        match to {
            Side::Node => self.tell(node, Input::Frame(conn, Box::new(frame))),
            Side::Server => self.tell_server(ServerInput::Frame { conn, frame }),
        }
    }

    // --- the server -------------------------------------------------------------------------------------------

    fn tell_server(&mut self, input: ServerInput) {
        if self.server.core.is_some() {
            self.server.inbox.push(input);
            let soon = self.now + self.dice.below(3);
            self.wake_server_at(soon);
        }
    }

    fn wake_server_at(&mut self, when: u64) {
        if self.server.core.is_none() || self.server.wake_at.is_some_and(|at| at <= when) {
            return;
        }
        self.server.wake_at = Some(when);
        let life = self.server.life;
        self.at(when, Event::WakeServer(life));
    }

    fn wake_server(&mut self) {
        if self.server.wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.server.wake_at = None;
        let second = self.now / 1_000;
        if self.server.batches.0 != second {
            self.server.batches = (second, 0);
        }
        self.server.batches.1 += 1;
        if self.server.batches.1 > BATCHES_PER_SECOND_MAX {
            self.fail("the server never rests");
        }
        let mut inputs = std::mem::take(&mut self.server.inbox);
        inputs.push(ServerInput::Tick);
        let crash = self.server_crash_point();
        if crash == Some(CrashPoint::Before) {
            return self.crash_server_and_return();
        }
        let fails = self.dice.once_in(self.faults.failed_write);
        let Some(core) = &mut self.server.core else { return };
        if fails {
            core.store().set_read_only(true).expect("a pragma");
        }
        let before = self.model.server.clone();
        let decided = core.handle(Time(self.now), inputs);
        if fails {
            core.store().set_read_only(false).expect("a pragma");
        }
        match decided {
            Ok(outputs) => {
                self.server_committed();
                let told = match crash {
                    Some(CrashPoint::After(told)) => told.min(outputs.len()),
                    _ => outputs.len(),
                };
                for output in outputs.into_iter().take(told) {
                    self.check_server_output(&before, &output);
                    self.server_does(output);
                }
                if crash.is_some() {
                    return self.crash_server_and_return();
                }
            }
            Err(error) if fails => {
                self.note(format!("server: {error}"));
                self.forget_server_connections();
                self.server.inbox.clear();
            }
            Err(error) => self.fail(&format!("the server can't write: {error}")),
        }
        if let Some(next) = self.server.core.as_ref().and_then(ServerCore::poll_timeout) {
            self.wake_server_at(next.0.max(self.now + 1));
        }
    }

    fn server_crash_point(&mut self) -> Option<CrashPoint> {
        match &mut self.server.crash_in {
            Some((0, point)) => {
                let point = *point;
                self.server.crash_in = None;
                return Some(point);
            }
            Some((batches, _)) => *batches -= 1,
            None => {}
        }
        if self.dice.once_in(self.faults.crash_before * 2) {
            return Some(CrashPoint::Before);
        }
        self.dice.once_in(self.faults.crash_after * 2).then(|| CrashPoint::After(self.dice.below(6) as usize))
    }

    fn crash_server_and_return(&mut self) {
        let quick = self.dice.once_in(2);
        let pause = if quick { self.dice.between(20, 1_500) } else { self.dice.between(1_000, 60_000) };
        self.crash_server_for(pause);
    }

    fn server_committed(&mut self) {
        let Some(core) = &self.server.core else { return };
        let groups = core.store().groups().expect("a store");
        if let Err(why) = self.model.server_committed(&groups) {
            self.fail(&why);
        }
    }

    fn check_server_output(&self, before: &crate::model::ServerView, output: &ServerOutput) {
        let check = |conn: &ConnId, what: &dyn Fn(DeviceKey) -> Result<(), String>| {
            let Some(link) = self.links.get(conn) else { return };
            let node = &self.nodes[link.node];
            if let Err(why) = what(node.key()) {
                self.fail(&format!("the server sends {} {why}", node.name));
            }
        };
        match output {
            ServerOutput::Send { to, frame } => {
                to.iter().for_each(|conn| check(conn, &|key| self.model.may_get(before, key, frame)));
            }
            ServerOutput::SendCounted { conn, frame, .. } => {
                check(conn, &|key| self.model.may_get(before, key, frame));
            }
            ServerOutput::Forward { asker, .. } => check(asker, &|key| self.model.may_get_chunks(before, key)),
            _ => {}
        }
    }

    fn server_does(&mut self, output: ServerOutput) {
        match output {
            ServerOutput::Classed { .. } => {}
            ServerOutput::Send { to, frame } => {
                to.into_iter().for_each(|conn| self.send(conn, Side::Node, frame.clone()));
            }
            ServerOutput::SendCounted { conn, frame, bytes } => {
                self.send(conn, Side::Node, frame);
                let (when, life) = (self.soon(), self.server.life);
                self.at(when, Event::ServerTold(life, Box::new(ServerInput::Sent { conn, bytes })));
            }
            ServerOutput::Close { conn, code } => self.close(conn, Side::Server, code),
            ServerOutput::Receive { stream, entry } => {
                if let Some(one) = self.streams.get_mut(&stream) {
                    one.entry = Some(entry);
                    self.server.entries.insert(entry, (stream, false));
                    let soon = self.soon();
                    self.at(soon, Event::Received(stream));
                }
            }
            ServerOutput::StopStream { stream, .. } => self.stop_stream(stream),
            ServerOutput::Forward { forward, entry, asker, request } => {
                self.server.forwards.insert(forward, (entry, asker, request));
                let soon = self.soon();
                self.at(soon, Event::Forwards(forward));
            }
            ServerOutput::EndForward { forward, .. } => {
                self.server.forwards.remove(&forward);
            }
            ServerOutput::Drop { entry } => {
                if let Some((stream, complete)) = self.server.entries.remove(&entry) {
                    if complete { drop(self.streams.remove(&stream)) } else { self.stop_stream(stream) }
                }
            }
        }
    }

    // --- chunks -----------------------------------------------------------------------------------------------

    fn upload(&mut self, node: NodeId, upload: Upload, source: Box<UploadSource>) {
        self.nodes[node].uploads += 1;
        let one = &self.nodes[node];
        let Some(epoch) = one.plane.newest else { return };
        if !self.links.get(&upload.conn).is_some_and(|link| link.node_open) {
            return;
        }
        let refused = match one.disk.shared.get(&source.path) {
            None => Some(ChunkRefusal::Unreadable),
            Some(there) if there.stamp != source.stamp => Some(ChunkRefusal::Changed),
            Some(_) => None,
        };
        if let Some(why) = refused {
            return self.tell_later(node, Input::Served(upload, Served::No(why)));
        }
        let mut nonce = [0; NONCE_BYTES];
        bailiwick::state::random::Random::fill(&mut self.dice, &mut nonce);
        let header = ChunkHeader {
            cipher: Cipher::Aes256Gcm,
            audience: Audience::EVERYONE,
            epoch,
            request: upload.request,
            content: upload.content,
            index: upload.index,
            length: upload.length,
            nonce,
        };
        self.next_id += 1;
        let id = StreamId(self.next_id);
        self.streams.insert(id, Stream { node, link: upload.conn, header, upload, source, entry: None });
        let soon = self.soon();
        self.at(soon, Event::Arrives(id));
    }

    fn arrives(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (conn, node, header) = (stream.link, stream.node, stream.header);
        let Some(link) = self.links.get(&conn).filter(|link| link.server_open) else {
            self.streams.remove(&id);
            return;
        };
        if !link.node_open {
            self.streams.remove(&id);
            return;
        }
        if self.nodes[node].cut_out {
            return self.at(self.now + 500, Event::Arrives(id));
        }
        self.tell_server(ServerInput::Arriving { conn, stream: id, header });
    }

    fn received(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (conn, node, upload) = (stream.link, stream.node, stream.upload);
        let Some(entry) = stream.entry else { return };
        let node_open = self.links.get(&conn).is_some_and(|link| link.node_open);
        if node_open && self.nodes[node].cut_out {
            return self.at(self.now + 500, Event::Received(id));
        }
        if !node_open {
            // The rest of it never comes; the server learns when the connection ends.
            return;
        }
        if let Some(there) = self.server.entries.get_mut(&entry) {
            there.1 = true;
            self.tell_server(ServerInput::Complete(entry));
            self.tell_later(node, Input::Served(upload, Served::Sent));
            let waiting: Vec<ForwardId> =
                self.server.forwards.iter().filter(|(_, one)| one.0 == entry).map(|(id, _)| *id).collect();
            for forward in waiting {
                let soon = self.soon();
                self.at(soon, Event::Forwards(forward));
            }
        }
    }

    fn stop_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.tell_later(stream.node, Input::Served(stream.upload, Served::Unwanted));
        }
    }

    fn forwards(&mut self, forward: ForwardId) {
        let Some((entry, conn, request)) = self.server.forwards.get(&forward).copied() else { return };
        let Some((stream, true)) = self.server.entries.get(&entry).copied() else { return };
        let Some(stream) = self.streams.get(&stream) else { return };
        let Some(link) = self.links.get(&conn).filter(|link| link.server_open) else {
            self.server.forwards.remove(&forward);
            return;
        };
        let node = link.node;
        if self.nodes[node].stalled || self.is_cut(node, Side::Node) || self.nodes[node].frozen_until > self.now {
            return self.at(self.now + 500, Event::Forwards(forward));
        }
        self.server.forwards.remove(&forward);
        if !link.node_open {
            return;
        }
        let header = ChunkHeader { request, ..stream.header };
        let (root, list) = (stream.source.root, stream.source.list.clone());
        self.note(format!("{} <~{} chunk {:?} {}", self.nodes[node].name, conn.0, header.content, header.index));
        let one = &mut self.nodes[node];
        if one.core.is_none() {
            return;
        }
        match one.plane.land(&mut one.disk, &header, root, &list) {
            Landed::NotWanted => self.tell_server(ServerInput::Unwanted(forward)),
            Landed::Taken { asked, came, list } => {
                one.units += 1;
                self.tell_server(ServerInput::Forwarded(forward));
                self.tell(node, Input::Heard(u64::from(header.length)));
                self.tell(node, Input::Came(asked, came));
                if let Some(list) = list {
                    self.tell(node, Input::List(asked.transfer, Some(list)));
                }
            }
        }
    }

    // --- what must be true ------------------------------------------------------------------------------------

    /// A node's batch is on disk: everything that must hold at any time holds.
    fn committed(&mut self, node: NodeId) {
        let one = &self.nodes[node];
        let Some(core) = &one.core else { return };
        let checked = if one.is_master() && !one.is_old_copy {
            self.model.master_committed(core.store())
        } else if one.is_master() {
            Ok(())
        } else {
            self.model.member_committed(node, &one.name, one.key(), core.store())
        };
        if let Err(why) = checked {
            self.fail(&why);
        }
    }

    /// Ends all faults, waits until everything has come to rest, and checks that it did.
    pub(crate) fn settle(&mut self) {
        self.faults = Faults::default();
        self.intercept = None;
        self.note("--- faults end ---".to_owned());
        for node in 0..self.nodes.len() {
            self.nodes[node].stalled = false;
            self.nodes[node].crash_in = None;
            self.nodes[node].frozen_until = self.nodes[node].frozen_until.min(self.now);
            self.cut(node, false, false);
            self.start_node(node);
            self.wake_at(node, self.now);
        }
        self.server.crash_in = None;
        self.start_server();
        let end = self.now + SETTLE_MS;
        loop {
            self.run_for(2_000);
            let Some(why) = self.unsettled() else { break };
            if self.now >= end {
                self.fail(&format!("it never settles: {why}"));
            }
        }
        self.run_for(5_000);
        if let Some(why) = self.unsettled() {
            self.fail(&format!("it settled and did not stay so: {why}"));
        }
    }

    /// What has not come to rest yet.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let master = &self.nodes[0];
        let groups = self.server_backup().groups().expect("a store");
        self.model.server_unsettled(&groups, master.store()).or_else(|| {
            self.nodes.iter().skip(1).filter(|node| !node.is_old_copy).find_map(|node| {
                let why = self.model.member_unsettled(node, master.store())?;
                Some(format!("{}: {why}", node.name))
            })
        })
    }

    /// The group's id.
    pub(crate) fn group(&self) -> GroupId {
        GroupId::of(&self.model.master)
    }

    /// The nodes that are a given standing's, as the master's log says.
    pub(crate) fn nodes_standing(&self, standing: bailiwick::wire::log::Standing) -> Vec<NodeId> {
        let changes = changes_of(self.nodes[0].store(), &self.model.master);
        let is = |node: &NodeId| changes.get(&self.nodes[*node].key()).is_some_and(|one| one.standing == standing);
        (1..self.nodes.len()).filter(is).collect()
    }

    /// Ids of the files in a node's catalog that others share.
    pub(crate) fn files_of_others(&self, node: NodeId) -> Vec<String> {
        let me =
            changes_of(self.nodes[node].store(), &self.model.master).get(&self.nodes[node].key()).map(|one| one.id);
        let rows = self.nodes[node].store().files_page(None, &[], 0, u64::MAX).expect("a store");
        rows.iter().filter(|row| Some(row.owner) != me).map(|row| row.file.id.to_string()).collect()
    }

    /// How many connections are up, as far as the devices know.
    pub(crate) fn connected(&self, node: NodeId) -> bool {
        self.links.values().any(|link| link.node == node && link.node_open && link.server_open)
    }

    /// What a node says that it waits for, in words.
    pub(crate) fn waits_for(&mut self, node: NodeId) -> Option<String> {
        let token = self.ask(node, Command::Status);
        self.run_till(5_000, |world| world.nodes[node].replies.contains_key(&token));
        match self.nodes[node].replies.remove(&token) {
            Some(Ok(Reply::Status(status))) => status.waiting,
            Some(Ok(_) | Err(_)) | None => None,
        }
    }

    /// A node's status of a file that it shares, by its place on disk.
    pub(crate) fn shared(&self, node: NodeId) -> Vec<LocalFile> {
        let store = self.nodes[node].store();
        let shares = store.shares().expect("a store");
        shares.iter().flat_map(|share| store.local_of(&share.path).expect("a store")).collect()
    }
}

/// New keys.
pub(crate) fn new_identity(dice: &mut Dice) -> Arc<Identity> {
    Arc::new(Identity::from_seeds(draw(dice), draw(dice)))
}

fn named(name: &str) -> Name {
    Name { chosen: None, fallback: DeviceName::parse(name).expect("a name") }
}
