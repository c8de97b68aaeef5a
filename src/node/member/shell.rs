//! The shell of a member: makes the endpoint, runs the core on a thread of its own, and ends all of it.

use super::core::{Cx, MemberConfig, MemberCore, Start};
use super::dispatch::{Dispatcher, Event, Parts, Surroundings};
use super::io::{Input, Output};
use super::plane::Plane;
use crate::net::candidates;
use crate::net::changes::Changes;
use crate::net::endpoint::{Config, Endpoint};
use crate::net::lan::{Lan, Seen};
use crate::net::limits::{KEEP_ALIVE, MASTER_KEEP_ALIVE};
use crate::net::portmap::{self, PortMap};
use crate::node::clock::{self, SystemRandom};
use crate::node::identity;
use crate::node::local::{Command, ErrorCode, LocalError, LocalRequest, NodeEnds};
use crate::state::network::{Clocks, Network};
use crate::state::time::Time;
use crate::store::member::{DbError, MemberStore};
use crate::store::statedir::StateDir;
use crate::wire::close::CloseCode;
use crate::wire::sign::Identity;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Inputs that may wait for the core; more wait where they come from.
const CORE_QUEUE: usize = 4_096;
/// Inputs that the core decides in one transaction, at most.
const BATCH_MAX: usize = 256;
/// How long the core waits before it looks at its store again after a failed write.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// How long a stopping node waits for its last packets to go out.
const LAST_PACKETS: Duration = Duration::from_millis(300);
/// The file that keeps the UDP port, so that a restarted process is found where it was.
const PORT_FILE: &str = "port";

/// How a member is started.
pub struct MemberOptions {
    /// Its state directory, locked by this process.
    pub dir: Arc<StateDir>,
    /// The directory's path.
    pub state_dir: PathBuf,
    /// As what.
    pub start: Start,
    /// The downloads folder.
    pub downloads: PathBuf,
    /// Timing and sizes.
    pub config: MemberConfig,
    /// The local API's URL, for its status.
    pub api: String,
    /// The local network, if devices on it are to be found.
    pub lan: Option<Lan>,
    /// The router, if it may be asked for a port.
    pub router: Option<PortMap>,
}

/// How a member ends that didn't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A person stopped it; it can be started again.
    Stopped,
    /// It has left its group, for ever: its keys are to be erased.
    Left,
}

/// A running member.
pub struct Member {
    endpoint: Endpoint,
    requests: mpsc::UnboundedSender<Event>,
    ended: oneshot::Receiver<Result<Ending, LocalError>>,
    core: Option<std::thread::JoinHandle<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Ends when the router has its port back.
    mapped: Option<tokio::task::JoinHandle<()>>,
    _dir: Arc<StateDir>,
}

/// Starts a member. `ends` is where its local API asks.
pub async fn start(options: MemberOptions, ends: NodeEnds) -> Result<Member, LocalError> {
    let MemberOptions { dir, state_dir, start, downloads, config, api, lan, router } = options;
    let (announce, seen) = lan.map(|lan| (lan.announce, lan.seen)).unzip();
    let (router, mapped) = router.map(|router| (router.ask, router.mapped)).unzip();
    let config = MemberConfig { boot: config.boot.or_else(clock::boot), ..config };
    let keys = identity::keys(&dir)?;
    let keep_alive = match start {
        Start::Master { .. } => MASTER_KEEP_ALIVE,
        Start::Client { .. } => KEEP_ALIVE,
    };
    let endpoint = bind(&dir, &keys, keep_alive)?;
    let identity = Arc::new(keys.identity);
    let open = Opener { path: dir.path("member.db"), identity, config, start, downloads };
    let (core_inputs, inputs) = mpsc::channel(CORE_QUEUE);
    let (events, received) = mpsc::unbounded_channel();
    let (stop, ended) = oneshot::channel();
    let (plane, plane_commands) = Plane::new(state_dir.clone(), core_inputs.clone());
    let core = open.open()?;
    let dispatcher = Dispatcher::new(Parts {
        endpoint: endpoint.clone(),
        events: events.clone(),
        core: core_inputs.clone(),
        plane: plane.commands(),
        lan: announce,
        router,
        watchers: ends.events,
        surroundings: Surroundings { state_dir, api },
        stop: Some(stop),
    });
    let outputs = events.clone();
    let thread = std::thread::Builder::new()
        .name("core".to_owned())
        .spawn(move || run_core(core, open, inputs, outputs))
        .map_err(|error| {
            LocalError::new(
                ErrorCode::Failed,
                format!("no thread can be started: {error}"),
                "end other programs, and start it again",
            )
        })?;
    let mut tasks = vec![
        tokio::spawn(plane.run(plane_commands)),
        tokio::spawn(dispatcher.run(received)),
        tokio::spawn(pass_on(ends.requests, events.clone())),
        tokio::spawn(arrivals(endpoint.clone(), events.clone())),
        tokio::spawn(probes(endpoint.clone(), core_inputs.clone())),
        tokio::spawn(surroundings(endpoint.clone(), core_inputs.clone())),
    ];
    let mapped = mapped.map(|mapped| tokio::spawn(port_mapped(mapped, core_inputs.clone())));
    tasks.extend(seen.map(|seen| tokio::spawn(nearby(seen, core_inputs))));
    Ok(Member { endpoint, requests: events, ended, core: Some(thread), tasks, mapped, _dir: dir })
}

impl Member {
    /// Waits until the node ends by itself: a person stopped it, it has left, or it can't go on.
    pub async fn ended(&mut self) -> Result<Ending, LocalError> {
        (&mut self.ended).await.unwrap_or(Ok(Ending::Stopped))
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let (reply, _) = oneshot::channel();
        let _ = self.requests.send(Event::Asked(LocalRequest { command: Command::Stop, reply }));
        let _ = (&mut self.ended).await;
        self.close().await;
    }

    /// Closes what a member that ended has open.
    pub async fn close(mut self) {
        self.endpoint.close(CloseCode::Done);
        self.endpoint.wait_idle(LAST_PACKETS).await;
        drop(self.requests);
        if let Some(mapped) = self.mapped.take() {
            let _ = tokio::time::timeout(portmap::GIVE_BACK, mapped).await;
        }
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        if let Some(core) = self.core.take() {
            let _ = tokio::task::spawn_blocking(move || core.join()).await;
        }
    }
}

async fn arrivals(endpoint: Endpoint, events: mpsc::UnboundedSender<Event>) {
    while let Some(connection) = endpoint.accept().await {
        if events.send(Event::Arrived(connection)).is_err() {
            return;
        }
    }
}

async fn probes(endpoint: Endpoint, core: mpsc::Sender<Input>) {
    let mut probes = endpoint.probes();
    loop {
        match probes.recv().await {
            // A full queue loses it, as a network might.
            Ok((from, probe)) => match core.try_send(Input::Probe(from, probe)) {
                Err(mpsc::error::TrySendError::Closed(_)) => return,
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
            },
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Tells the core of this device's addresses whenever they change, and when the machine slept.
async fn surroundings(endpoint: Endpoint, core: mpsc::Sender<Input>) {
    let (mut changes, mut network) = (Changes::listen(), Network::default());
    loop {
        let now = clock::now();
        let mut told = Vec::new();
        if network.slept(Clocks { now, awake: clock::awake() }) {
            told.push(Input::Woke);
        }
        if changes.rung() || !told.is_empty() || network.is_list_due(now) {
            let addresses = candidates::own(&endpoint);
            if network.listed(now, &addresses) {
                told.push(Input::Addresses(addresses));
            }
        }
        for input in told {
            if core.send(input).await.is_err() {
                return;
            }
        }
        changes.wait(Network::LOOK_EVERY).await;
    }
}

async fn port_mapped(mut mapped: mpsc::Receiver<Option<SocketAddr>>, core: mpsc::Sender<Input>) {
    while let Some(address) = mapped.recv().await {
        let _ = core.send(Input::Mapped(address)).await;
    }
}

async fn nearby(mut seen: mpsc::Receiver<Seen>, core: mpsc::Sender<Input>) {
    while let Some(seen) = seen.recv().await {
        if core.send(Input::Nearby(seen)).await.is_err() {
            return;
        }
    }
}

async fn pass_on(mut requests: mpsc::Receiver<LocalRequest>, events: mpsc::UnboundedSender<Event>) {
    while let Some(request) = requests.recv().await {
        if events.send(Event::Asked(request)).is_err() {
            return;
        }
    }
}

fn bind(dir: &StateDir, keys: &identity::Keys, keep_alive: Duration) -> Result<Endpoint, LocalError> {
    let kept = dir.read_secret(PORT_FILE).map_err(identity::state_error)?;
    let port = kept.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()).unwrap_or(0);
    let at = |port| {
        let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let config = Config::new(listen, &keys.identity, keys.reset_key, keys.cid_key);
        Endpoint::bind(Config { keep_alive, accepts_members: true, ..config })
    };
    let endpoint = match at(port) {
        Err(error) if port != 0 => {
            tracing::info!(%error, "the port of last time is taken; using another one");
            at(0)
        }
        other => other,
    };
    let endpoint = endpoint.map_err(|error| {
        let hint = "see that this user may open UDP sockets, and start it again";
        LocalError::new(ErrorCode::Failed, error.to_string(), hint)
    })?;
    if let Ok(address) = endpoint.local_addr() {
        dir.write_secret(PORT_FILE, address.port().to_string().as_bytes()).map_err(identity::state_error)?;
    }
    Ok(endpoint)
}

/// What it takes to open the core, at the start and after a failed write.
struct Opener {
    path: PathBuf,
    identity: Arc<Identity>,
    config: MemberConfig,
    start: Start,
    downloads: PathBuf,
}

impl Opener {
    fn open(&self) -> Result<MemberCore, LocalError> {
        let store = MemberStore::open(&self.path).map_err(|error| {
            LocalError::new(ErrorCode::Failed, error.to_string(), "nothing was changed; mend that and start it again")
        })?;
        let mut random = SystemRandom;
        let mut cx = Cx { now: clock::now(), wall_ms: clock::wall_ms(), random: &mut random };
        MemberCore::open(store, self.identity.clone(), self.config, self.start.clone(), self.downloads.clone(), &mut cx)
    }
}

fn run_core(
    core: MemberCore,
    opener: Opener,
    mut inputs: mpsc::Receiver<Input>,
    outputs: mpsc::UnboundedSender<Event>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { return tracing::error!("the core can't be run") };
    runtime.block_on(async {
        let mut core = Some(core);
        while let Some(running) = core.take() {
            let Err(error) = work(running, &mut inputs, &outputs).await else { return };
            tracing::error!(%error, "nothing could be written; trying again until it can");
            // Memory is never ahead of the disk: what the failed batch decided is gone, and is read again.
            let _ = outputs.send(Event::Lost(error.to_string()));
            while core.is_none() {
                tokio::time::sleep(REOPEN_AFTER).await;
                if outputs.is_closed() {
                    return;
                }
                core = opener.open().map_err(|error| tracing::debug!(%error, "the store can't be opened yet")).ok();
            }
            tracing::info!("the store is open again");
        }
    });
}

/// Lets a core work until its inputs end or a write fails.
async fn work(
    mut core: MemberCore,
    inputs: &mut mpsc::Receiver<Input>,
    outputs: &mpsc::UnboundedSender<Event>,
) -> Result<(), DbError> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        let mut random = SystemRandom;
        let mut cx = Cx { now: clock::now(), wall_ms: clock::wall_ms(), random: &mut random };
        let wanted: Vec<Output> = core.handle(&mut cx, std::mem::take(&mut batch))?;
        if outputs.send(Event::Outputs(wanted)).is_err() {
            return Ok(());
        }
        let until = core.poll_timeout().map(wait_until);
        let received = async { inputs.recv_many(&mut batch, BATCH_MAX).await };
        match until {
            Some(pause) => {
                if let Ok(0) = tokio::time::timeout(pause, received).await {
                    return Ok(());
                }
            }
            None => {
                if received.await == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn wait_until(at: Time) -> Duration {
    // A machine due now still lets inputs gather for a moment.
    at.since(clock::now()).max(Duration::from_millis(1))
}
