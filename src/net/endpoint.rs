//! The process's place on the network: one UDP socket, one key, connections in and out. Whatever a peer does before
//! it has proved a device key costs a bounded amount and delays nobody else.

use super::accept::{self, Arrivals};
use super::connection::{Connection, varint};
use super::dial::{self, DialAnyError, DialError, Dialler};
use super::limits::{
    DIAL_TIMEOUT, HANDSHAKE_TIMEOUT, HANDSHAKES_BEFORE_RETRY, HANDSHAKES_MAX, IDLE_TIMEOUT, KEEP_ALIVE,
};
use super::probes::Sieve;
use super::tls::{Credentials, TlsError};
use super::{socket, transport};
use crate::wire::close::CloseCode;
use crate::wire::ids::DeviceKey;
use crate::wire::probe::Probe;
use crate::wire::sign::Identity;
use quinn::Runtime;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;

/// What an endpoint is made of.
#[derive(Clone)]
pub struct Config<'a> {
    /// Where to listen; `[::]` stands for every address of both families, port 0 for any port.
    pub listen: SocketAddr,
    /// Whose key to prove.
    pub identity: &'a Identity,
    /// Secret of the stateless resets (RFC 9000, section 10.3); keep it across restarts, with the port.
    pub reset_key: [u8; 32],
    /// Key of the connection ids; keep it with `reset_key`, for each is useless without the other.
    pub cid_key: u64,
    /// Chunk streams that a peer may have open until [`Connection::raise_streams`] says otherwise. None, if nothing is
    /// said: what nobody reads would fill them, and who has just come is not admitted yet.
    pub first_uni_streams: u32,
    /// Incoming handshakes in progress above which addresses must be proved first.
    pub handshakes_before_retry: usize,
    /// Incoming handshakes in progress at most, those not yet accepted included.
    pub handshakes_max: usize,
    /// When an incoming handshake is given up.
    pub handshake_timeout: Duration,
    /// When a dial is given up.
    pub dial_timeout: Duration,
    /// When a silent connection ends.
    pub idle_timeout: Duration,
    /// How often a quiet connection sends.
    pub keep_alive: Duration,
    /// Whether who dials in are members, by straight ways: silence ends those connections soon, for there is another way.
    pub accepts_members: bool,
}

impl<'a> Config<'a> {
    /// The default limits (see [`limits`](super::limits)).
    pub fn new(listen: SocketAddr, identity: &'a Identity, reset_key: [u8; 32], cid_key: u64) -> Config<'a> {
        Config {
            listen,
            identity,
            reset_key,
            cid_key,
            first_uni_streams: 0,
            handshakes_before_retry: HANDSHAKES_BEFORE_RETRY,
            handshakes_max: HANDSHAKES_MAX,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            dial_timeout: DIAL_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            keep_alive: KEEP_ALIVE,
            accepts_members: false,
        }
    }
}

/// An endpoint that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Socket {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The device's key does not serve.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A limit is out of QUIC's range.
    #[error("a limit is out of range: {0}")]
    Config(String),
}

/// A QUIC endpoint; clones are the same endpoint. It must be made and used inside a tokio runtime.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    dialler: Arc<Dialler>,
    /// Dials straight to another member.
    straight: Arc<Dialler>,
    arrivals: Arc<Arrivals>,
    sieve: Arc<Sieve>,
}

impl Endpoint {
    /// Binds the socket and begins to take handshakes.
    pub fn bind(config: Config<'_>) -> Result<Endpoint, BindError> {
        let failed = |source| BindError::Socket { address: config.listen, source };
        let credentials = Credentials::new(config.identity)?;
        let server = transport::server(&config, &credentials)?;
        let client = transport::client(&config)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = socket::bind(config.listen).and_then(|socket| runtime.wrap_udp_socket(socket));
        let sieve = Arc::new(Sieve::new(socket.map_err(failed)?));
        let endpoint = transport::endpoint(&config)?;
        let quic = quinn::Endpoint::new_with_abstract_socket(endpoint, Some(server), sieve.clone(), runtime);
        let quic = quic.map_err(failed)?;
        let arrivals = Arc::new(accept::start(quic.clone(), accept::Policy::of(&config)));
        let straight = transport::straight(&config)?;
        let straight = Arc::new(Dialler::new(quic.clone(), credentials.clone(), straight, config.dial_timeout));
        let dialler = Arc::new(Dialler::new(quic.clone(), credentials, client, config.dial_timeout));
        Ok(Endpoint { quic, dialler, straight, arrivals, sieve })
    }

    /// Where the socket is bound, with the port that the system chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Dials the device `expect` at `address`. Success says who answered, not that it admits us: only its first
    /// control frame does. Dropping the future gives the dial up.
    pub async fn dial(&self, address: SocketAddr, expect: DeviceKey) -> Result<Connection, DialError> {
        self.dialler.dial(address, expect).await
    }

    /// Dials all `addresses` at once; the first that succeeds wins, and the others are let go.
    pub async fn dial_any(&self, addresses: &[SocketAddr], expect: DeviceKey) -> Result<Connection, DialAnyError> {
        dial::any(&self.dialler, addresses, expect).await
    }

    /// Dials the member `expect` straight. The connection ends after [`STRAIGHT_IDLE_TIMEOUT`] of silence.
    ///
    /// [`STRAIGHT_IDLE_TIMEOUT`]: super::limits::STRAIGHT_IDLE_TIMEOUT
    pub async fn dial_straight(&self, address: SocketAddr, expect: DeviceKey) -> Result<Connection, DialError> {
        self.straight.dial(address, expect).await
    }

    /// Sends a probe from the endpoint's own socket; it may be lost.
    pub fn send_probe(&self, to: SocketAddr, probe: &Probe) {
        self.sieve.send(to, probe);
    }

    /// The probes that come in from now on, with where they come from. Who looks too seldom misses the oldest.
    pub fn probes(&self) -> Receiver<(SocketAddr, Probe)> {
        self.sieve.probes()
    }

    /// The next connection whose peer has proved its key, in the order in which they were proved; `None` after
    /// [`close`](Endpoint::close). Dropping the future loses nothing.
    pub async fn accept(&self) -> Option<Connection> {
        self.arrivals.next().await
    }

    /// Closes every connection with `code`, and takes and makes no more.
    pub fn close(&self, code: CloseCode) {
        self.quic.close(varint(code.into()), b"");
    }

    /// Waits until the peers were told of every close, for `limit` at most; true if it came to its end.
    pub async fn wait_idle(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.quic.wait_idle()).await.is_ok()
    }
}
