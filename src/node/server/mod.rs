//! A server: introduces the devices of its groups and relays between them. It runs alone, or in a master's process as a
//! second endpoint with a key and a port of its own.

mod connection;
pub mod core;
mod place;
mod relay;
mod shell;

pub use place::DEFAULT_PORT;
pub(super) use place::PLACE_FILE;

use self::core::{CoreConfig, ServerCore};
use super::clock::{self, SystemRandom};
use super::identity;
use super::local::{ErrorCode, LocalError, ServerLoad};
use super::options::ServerPlace;
use crate::net::endpoint::Endpoint;
use crate::state::random::draw;
use crate::store::server_db::ServerStore;
use crate::store::statedir::StateDir;
use crate::wire::close::CloseCode;
use crate::wire::invite::{AdmissionSecret, ServerAddress, Ticket};
use shell::{Event, Shell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Events that may wait for the core; more wait where they come from. A frame of the largest kind each, they are 80 MiB.
const EVENTS: usize = 256;
/// How long a stopping server waits for its last packets to go out.
const LAST_PACKETS: Duration = Duration::from_millis(300);
/// The server's database in its state directory.
pub(super) const DB_FILE: &str = "server.db";

/// How a server is started.
pub struct ServerConfig {
    /// Its state directory, locked by this process; it can be a master's.
    pub dir: Arc<StateDir>,
    /// Where it listens, and how others reach it.
    pub place: ServerPlace,
    /// Whether the ticket names this machine's loopback address, too: for nodes on one machine.
    pub loopback: bool,
    /// Limits and times.
    pub core: CoreConfig,
}

/// A running server.
pub struct ServerHandle {
    endpoint: Endpoint,
    listen: SocketAddr,
    address: ServerAddress,
    admission: AdmissionSecret,
    events: mpsc::Sender<Event>,
    accepting: JoinHandle<()>,
    core: Option<std::thread::JoinHandle<()>>,
    _dir: Arc<StateDir>,
}

/// Starts a server. It must be called inside a tokio runtime.
pub fn start(config: ServerConfig) -> Result<ServerHandle, LocalError> {
    let ServerConfig { dir, place, loopback, core } = config;
    let keys = identity::server_keys(&dir)?;
    let unusable = |error: &dyn std::error::Error| {
        LocalError::new(ErrorCode::Failed, error.to_string(), "nothing was changed; mend that and start it again")
    };
    let store = ServerStore::open(&dir.path(DB_FILE)).map_err(|error| unusable(&error))?;
    let fresh = AdmissionSecret(draw(&mut SystemRandom));
    let core = ServerCore::open(clock::now(), core, store, fresh).map_err(|error| unusable(&error))?;
    let (endpoint, advertise) = place::bind(&dir, &keys, place)?;
    let listen = endpoint.local_addr().map_err(|error| unusable(&error))?;
    let addresses = place::addresses(advertise, listen, loopback);
    let address = ServerAddress { key: keys.identity.device_key(), addresses };
    let admission = core.admission();
    let (events, received) = mpsc::channel(EVENTS);
    let accepting = tokio::spawn(connection::accept(endpoint.clone(), events.clone()));
    tokio::spawn(connection::pings(endpoint.probes(), events.clone()));
    let shell = Shell::new(core, tokio::runtime::Handle::current(), events.clone());
    let core = std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || shell.run(received))
        .map_err(|error| unusable(&error))?;
    tracing::info!(%listen, "the server listens");
    Ok(ServerHandle { endpoint, listen, address, admission, events, accepting, core: Some(core), _dir: dir })
}

impl ServerHandle {
    /// Where it listens, with the port that it got.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its key and addresses, for invites.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// What lets masters bring their groups.
    pub fn ticket(&self) -> Ticket {
        Ticket { server: self.address.clone(), admission: self.admission }
    }

    /// Makes all tickets of before void. Groups that are here stay.
    pub async fn rotate_ticket(&mut self) -> Result<Ticket, LocalError> {
        let admission = AdmissionSecret(draw(&mut SystemRandom));
        let (done, outcome) = oneshot::channel();
        let stopping = || LocalError::new(ErrorCode::NotNow, "the server is stopping", "start it again");
        self.events.send(Event::SetAdmission(admission, done)).await.map_err(|_| stopping())?;
        let stored = outcome.await.map_err(|_| stopping())?;
        stored.map_err(|error| LocalError::new(ErrorCode::Failed, error.to_string(), "the ticket is as before"))?;
        self.admission = admission;
        Ok(self.ticket())
    }

    /// How busy it is; `None` while it stops.
    pub async fn load(&self) -> Option<ServerLoad> {
        let (reply, load) = oneshot::channel();
        self.events.send(Event::Load(reply)).await.ok()?;
        load.await.ok()
    }

    /// Ends it: everybody connected is told, and everything is on disk already.
    pub async fn stop(mut self) {
        let _ = self.events.send(Event::Stop).await;
        if let Some(core) = self.core.take() {
            let _ = tokio::task::spawn_blocking(move || core.join()).await;
        }
        self.endpoint.close(CloseCode::ShuttingDown);
        self.endpoint.wait_idle(LAST_PACKETS).await;
        // It ends with the endpoint.
        let _ = self.accepting.await;
    }
}
