//! Dials: each expects one device key and ends with that device's connection, or with words that say what happened.

use super::connection::{CloseReason, Connection, canonical};
use super::tls::{Credentials, NAME, Pin, TlsError, peer_key};
use super::transport;
use crate::wire::close::CloseCode;
use crate::wire::ids::DeviceKey;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{ConnectError, ConnectionError, TransportConfig, TransportErrorCode};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Why one dial failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nothing came back.
    #[error("{0} does not answer")]
    TimedOut(SocketAddr),
    /// The address cannot be dialled from here.
    #[error("{0} cannot be reached from here")]
    Unreachable(SocketAddr),
    /// Another device answered.
    #[error("the device that answered at {0} is not the one the invite names")]
    WrongKey(SocketAddr),
    /// Whoever answered speaks another version, or something else altogether.
    #[error("this bailiwick and the other one ({0}) have no protocol version in common; update the older of the two")]
    NoCommonVersion(SocketAddr),
    /// The other side takes no new connections now.
    #[error("{0} refused the connection: it is ending, or too busy")]
    Refused(SocketAddr),
    /// The other side answered and then ended the handshake.
    #[error("{0}: {1}")]
    Failed(SocketAddr, CloseReason),
    /// This side is closed.
    #[error("this endpoint is closed")]
    EndpointClosed,
    /// TLS cannot be set up on this side.
    #[error("{0}")]
    Tls(String),
}

impl From<TlsError> for DialError {
    fn from(error: TlsError) -> DialError {
        DialError::Tls(error.to_string())
    }
}

/// Why no dial of several succeeded: each one's reason, in the order in which they failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialAnyError(pub Vec<DialError>);

impl fmt::Display for DialAnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is no address to dial");
        }
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DialAnyError {}

/// What every dial of an endpoint needs.
#[derive(Debug)]
pub(super) struct Dialler {
    endpoint: quinn::Endpoint,
    credentials: Credentials,
    transport: Arc<TransportConfig>,
    limit: Duration,
}

impl Dialler {
    pub(super) fn new(
        endpoint: quinn::Endpoint,
        credentials: Credentials,
        transport: Arc<TransportConfig>,
        limit: Duration,
    ) -> Dialler {
        Dialler { endpoint, credentials, transport, limit }
    }

    pub(super) async fn dial(&self, address: SocketAddr, expect: DeviceKey) -> Result<Connection, DialError> {
        let address = canonical(address);
        let pin = Arc::new(Pin::new(expect));
        let config = transport::client_config(self.transport.clone(), &self.credentials, pin.clone())?;
        let connecting =
            self.endpoint.connect_with(config, address, NAME).map_err(|error| not_begun(address, &error))?;
        let connection = match timeout(self.limit, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) if pin.other_key_answered() => return Err(DialError::WrongKey(address)),
            Ok(Err(error)) => return Err(not_finished(address, error)),
            Err(_) => return Err(DialError::TimedOut(address)),
        };
        // The pin has seen to it already; what is handed out is checked here once more, against the session itself.
        if peer_key(&connection) == Some(expect) {
            Ok(Connection::new(connection, expect))
        } else {
            Err(DialError::WrongKey(address))
        }
    }
}

/// Dials all at once and keeps the first; dropping the others closes them.
pub(super) async fn any(
    dialler: &Dialler,
    addresses: &[SocketAddr],
    expect: DeviceKey,
) -> Result<Connection, DialAnyError> {
    let distinct: BTreeSet<SocketAddr> = addresses.iter().copied().map(canonical).collect();
    let mut dials: FuturesUnordered<_> = distinct.into_iter().map(|address| dialler.dial(address, expect)).collect();
    let mut failed = Vec::new();
    while let Some(outcome) = dials.next().await {
        match outcome {
            Ok(connection) => return Ok(connection),
            Err(error) => failed.push(error),
        }
    }
    Err(DialAnyError(failed))
}

fn not_begun(address: SocketAddr, error: &ConnectError) -> DialError {
    match error {
        ConnectError::EndpointStopping => DialError::EndpointClosed,
        ConnectError::InvalidRemoteAddress(_) => DialError::Unreachable(address),
        ConnectError::CidsExhausted
        | ConnectError::InvalidServerName(_)
        | ConnectError::NoDefaultClientConfig
        | ConnectError::UnsupportedVersion => DialError::Failed(address, CloseReason::Transport(error.to_string())),
    }
}

fn not_finished(address: SocketAddr, error: ConnectionError) -> DialError {
    // TLS's alert "no application protocol" (RFC 7301), from either side.
    let no_alpn = TransportErrorCode::crypto(120);
    match error {
        ConnectionError::VersionMismatch => DialError::NoCommonVersion(address),
        ConnectionError::TransportError(ref error) if error.code == no_alpn => DialError::NoCommonVersion(address),
        ConnectionError::ConnectionClosed(ref close) if close.error_code == no_alpn => {
            DialError::NoCommonVersion(address)
        }
        ConnectionError::ConnectionClosed(ref close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            DialError::Refused(address)
        }
        ConnectionError::TimedOut => DialError::TimedOut(address),
        ConnectionError::LocallyClosed => DialError::EndpointClosed,
        other => match CloseReason::from(other) {
            CloseReason::Peer(CloseCode::Version) => DialError::NoCommonVersion(address),
            reason => DialError::Failed(address, reason),
        },
    }
}
