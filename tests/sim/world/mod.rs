//! A whole group in one thread: the real cores of master, clients and server, on databases in memory, joined by a
//! simulated network. One seed gives everything; nothing sleeps.

mod answers;
mod batches;
mod checks;
mod chunks;
mod coverage;
mod files;
mod lies;
mod people;
mod processes;
mod relay;
mod spots;
mod straight;
mod wires;

use crate::dice::Dice;
use crate::model::{Model, changes_of};
use crate::network::{DIAL_MS, IDLE_MS, KEEP_ALIVE_MS, LANE_FRAMES_MAX, Link, NodeId, Piece, Side, label};
use crate::plane::{Disk, Landed, Plane};
use bailiwick::node::local::{Command, ErrorCode, LocalError, Reply};
use bailiwick::node::member::io::{Input, Lost, Output, Served, Upload, UploadSource};
use bailiwick::node::member::{Cx, MemberConfig, MemberCore, Name, Start};
use bailiwick::node::server::core::{CoreConfig, ServerCore, ServerInput, ServerOutput};
use bailiwick::state::cache::{EntryId, ForwardId, StreamId};
use bailiwick::state::conn::ConnId;
use bailiwick::state::downloads::TransferId;
use bailiwick::state::random::draw;
use bailiwick::state::time::Time;
use bailiwick::store::member::{LocalFile, MemberStore};
use bailiwick::store::server_db::ServerStore;
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::close::CloseCode;
use bailiwick::wire::frame::{ChunkRefusal, Frame};
use bailiwick::wire::ids::{Audience, DeviceKey, GroupId};
use bailiwick::wire::invite::{Address, AdmissionSecret, Invite, ServerAddress, Ticket};
use bailiwick::wire::log::Policy;
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::seal::{Cipher, NONCE_BYTES};
use bailiwick::wire::sign::Identity;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use coverage::{Coverage, Role};
pub(crate) use lies::Lies;
pub(crate) use spots::Nat;

/// Events that a failure prints.
const EVENTS_PRINTED: usize = 250;
/// The simulated wall clock at the start, in milliseconds since 1970.
const WALL_MS: u64 = 1_800_000_000_000;
/// Batches that one core may decide in one simulated second; more is a loop that feeds itself.
const BATCHES_PER_SECOND_MAX: u32 = 2_000;
/// How long a process waits before it reads its store again after a failed write.
const REOPEN_MS: u64 = 1_000;
/// Between the scans that no person asks for.
const SCAN_PAUSE: std::time::Duration = std::time::Duration::from_secs(6 * 3_600);
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
    /// A unit comes broken, or with other bytes; once in so many units.
    pub(crate) broken_unit: u64,
    /// A part file can't be synced; once in so many syncs.
    pub(crate) failed_sync: u64,
}

/// Where a scripted crash happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// Nothing of the batch is done.
    Before,
    /// The batch is on disk; this many of its outputs went out.
    After(usize),
    /// The batch is on disk; some, none or all of its outputs went out.
    Anywhere,
}

/// What a world fails with while worlds are run by the thousand.
pub(crate) struct Violation(pub(crate) String);

thread_local! {
    static HUNTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a violation in this thread is for somebody who goes on: then it is no ordinary panic.
pub(crate) fn hunting(yes: bool) {
    HUNTING.set(yes);
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
    Straight(Box<spots::Way>),
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
    /// It has left its group, and its keys are erased.
    pub(crate) has_left: bool,
    /// Answers that came, by the question's number.
    pub(crate) replies: BTreeMap<u64, Result<Reply, LocalError>>,
    /// Reads no chunk streams.
    pub(crate) stalled: bool,
    /// Uploads that it was told to send.
    pub(crate) uploads: u64,
    /// Units that it took.
    pub(crate) units: u64,
    /// Those of them that came straight.
    pub(crate) straight_units: u64,
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
    /// How long after a clean end it is started again, in milliseconds.
    restart_after: u64,
    batches: (u64, u32),
    told_at: u64,
    /// Rows that were written when it was checked last.
    checked: Option<u64>,
    /// Whether its group's log has a copy somewhere that it doesn't know.
    pub(crate) is_old_copy: bool,
    /// Where it is.
    pub(crate) spot: spots::Spot,
    /// The group's rules when the batch before this one was on disk.
    policy_before: Policy,
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

    /// Whether a download has its place open.
    pub(crate) fn has_place(&self, transfer: TransferId) -> bool {
        self.plane.has_place(transfer)
    }

    /// The group's rules, as far as it knows.
    fn policy(&self) -> Policy {
        self.store().get("policy").expect("a store").unwrap_or_default()
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
    /// Rows that were written when it was checked last.
    checked: Option<u64>,
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
    Invite(u64),
    Revoke(String),
    Approve(Vec<DeviceKey>),
    Disapprove(Vec<DeviceKey>),
    Share(PathBuf, BTreeSet<PathBuf>),
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
    /// What the server does that it should not.
    lies: Lies,
    kept: Vec<lies::Kept>,
    /// Invites that came back, as texts.
    pub(crate) invites: Vec<String>,
    /// Milliseconds that a packet takes, at most.
    pub(crate) delay_max: u64,
    /// Milliseconds that a chunk takes through the server besides, at most.
    pub(crate) relay_delay_max: u64,
    /// The same, for one that goes straight.
    pub(crate) straight_delay_max: u64,
    /// Dials so far.
    pub(crate) dials: u64,
    now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    links: BTreeMap<ConnId, Link>,
    next_id: u64,
    streams: BTreeMap<StreamId, Stream>,
    straights: BTreeMap<u64, straight::Straight>,
    /// Pairs of devices between which nothing passes straight.
    holes: BTreeSet<(NodeId, NodeId)>,
    purposes: BTreeMap<(NodeId, u64), Purpose>,
    events: VecDeque<String>,
    traced: bool,
    /// Whether people stop transfers: then they let everything go on in the end.
    pub(crate) people_pause: bool,
    /// The longest that it took to come to rest, in milliseconds.
    pub(crate) longest_settle: u64,
    /// What the faults hit.
    pub(crate) coverage: Coverage,
    /// A fingerprint of all that happened, to tell whether a seed gives the same world twice.
    pub(crate) fingerprint: blake3::Hasher,
}

impl World {
    /// A server and a master that has just been started.
    pub(crate) fn new(seed: u64) -> World {
        World::with(seed, MemberConfig::default(), CoreConfig::default())
    }

    /// The same, with other limits.
    pub(crate) fn with(seed: u64, mut config: MemberConfig, server_config: CoreConfig) -> World {
        // Months pass here: who wants to see a scan asks for one.
        config.scan.pause = SCAN_PAUSE;
        config.paths.enabled = false;
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
            checked: None,
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
            lies: Lies::None,
            kept: Vec::new(),
            invites: Vec::new(),
            delay_max: 40,
            relay_delay_max: 0,
            straight_delay_max: 0,
            dials: 0,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            links: BTreeMap::new(),
            next_id: 0,
            streams: BTreeMap::new(),
            straights: BTreeMap::new(),
            holes: BTreeSet::new(),
            purposes: BTreeMap::new(),
            events: VecDeque::new(),
            traced: std::env::var_os("BAILIWICK_SIM_TRACE").is_some(),
            people_pause: false,
            longest_settle: 0,
            coverage: Coverage::default(),
            fingerprint: blake3::Hasher::new(),
        };
        world.start_server();
        let store = new_store();
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
            has_left: false,
            replies: BTreeMap::new(),
            stalled: false,
            uploads: 0,
            units: 0,
            straight_units: 0,
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
            restart_after: 0,
            batches: (0, 0),
            told_at: 0,
            checked: None,
            is_old_copy: false,
            spot: spots::Spot::new(self.nodes.len()),
            policy_before: Policy::default(),
        });
        self.nodes.len() - 1
    }

    /// A new device with an invite; it runs.
    pub(crate) fn join(&mut self, name: &str, text: &str) -> NodeId {
        let invite = Box::new(Invite::parse(text).expect("an invite"));
        let identity = new_identity(&mut self.dice);
        let store = new_store();
        let start = Start::Client { invite: Some(invite), name: named(name) };
        let config = self.nodes[0].config;
        self.model.promises.comes_with(identity.device_key(), text);
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
        self.model.client_restored(node, self.nodes[node].key());
        self.model.promises.copied.insert(self.nodes[node].key());
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

    /// Writes down what happened.
    pub(crate) fn note(&mut self, what: String) {
        let line = format!("{:>9} {what}", self.now);
        self.fingerprint.update(line.as_bytes());
        if self.events.len() == EVENTS_PRINTED && !self.traced {
            self.events.pop_front();
        }
        self.events.push_back(line);
    }

    /// A check failed: everything that is needed to see why.
    pub(crate) fn fail(&self, why: &str) -> ! {
        let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
        let text = format!(
            "{}\nseed={} at {} ms: {why}\nagain: BAILIWICK_SIM_FIRST={} BAILIWICK_SIM_SEEDS=1 cargo test --profile sim --test sim random_worlds",
            events.join("\n"),
            self.seed,
            self.now,
            self.seed
        );
        if HUNTING.get() {
            std::panic::resume_unwind(Box::new(Violation(text)));
        }
        panic!("{text}");
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
            Event::Straight(way) => self.way_happens(*way),
            Event::Wake(..)
            | Event::Reopen(_)
            | Event::WakeServer(_)
            | Event::DialFails(..)
            | Event::Told(..)
            | Event::ServerTold(..) => {}
        }
    }
}

thread_local! {
    /// Databases of worlds that are over: one that is emptied is new, and its statements are prepared already.
    static OLD_STORES: RefCell<Vec<MemberStore>> = const { RefCell::new(Vec::new()) };
}

/// Databases that are kept for worlds to come.
const OLD_STORES_MAX: usize = 16;

fn new_store() -> MemberStore {
    let old = OLD_STORES.with_borrow_mut(Vec::pop);
    match old {
        Some(old) => {
            old.empty().expect("an empty database");
            old
        }
        None => MemberStore::open_in_memory().expect("a database"),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let stores = self.nodes.drain(..).filter_map(|node| match (node.core, node.store) {
            (Some(core), _) => Some(core.into_store()),
            (None, store) => store,
        });
        OLD_STORES.with_borrow_mut(|old| {
            old.extend(stores);
            old.truncate(OLD_STORES_MAX);
        });
    }
}

/// New keys.
pub(crate) fn new_identity(dice: &mut Dice) -> Arc<Identity> {
    Arc::new(Identity::from_seeds(draw(dice), draw(dice)))
}

fn named(name: &str) -> Name {
    Name { chosen: None, fallback: DeviceName::parse(name).expect("a name") }
}
