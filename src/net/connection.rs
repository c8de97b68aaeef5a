//! A connection whose peer has proved its device key. That says who it is, not that it is admitted, here or there.

use crate::wire::close::CloseCode;
use crate::wire::ids::DeviceKey;
use quinn::{ConnectionError, VarInt};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// One QUIC connection; clones are the same connection. It is closed with [`CloseCode::Done`] when the last clone and
/// the last of its streams are gone.
#[derive(Debug, Clone)]
pub struct Connection {
    quic: quinn::Connection,
    peer: DeviceKey,
}

impl Connection {
    pub(super) fn new(quic: quinn::Connection, peer: DeviceKey) -> Connection {
        Connection { quic, peer }
    }

    pub(super) fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    /// The device at the other end.
    pub fn peer(&self) -> DeviceKey {
        self.peer
    }

    /// Where the peer's packets come from; IPv4 as IPv4, also on a dual-stack socket.
    pub fn remote(&self) -> SocketAddr {
        canonical(self.quic.remote_address())
    }

    /// Tells this connection from every other one of this process.
    pub fn stable_id(&self) -> usize {
        self.quic.stable_id()
    }

    /// The current estimate of the round trip.
    pub fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    /// UDP payload bytes that this connection has sent.
    pub fn sent_bytes(&self) -> u64 {
        self.quic.stats().udp_tx.bytes
    }

    /// UDP payload bytes that this connection has received.
    pub fn received_bytes(&self) -> u64 {
        self.quic.stats().udp_rx.bytes
    }

    /// Sets how many chunk streams the peer may have open. Streams that it has open already stay when the number falls.
    pub fn raise_streams(&self, streams: u32) {
        self.quic.set_max_concurrent_uni_streams(streams.into());
    }

    /// Closes at once; what was written and not yet acknowledged may be lost, and so may the code.
    pub fn close(&self, code: CloseCode) {
        self.quic.close(varint(code.into()), b"");
    }

    /// Waits for the connection's end.
    pub async fn closed(&self) -> CloseReason {
        self.quic.closed().await.into()
    }
}

/// How a connection ended. A peer's code is not sure to arrive: it may show as [`CloseReason::Reset`] or
/// [`CloseReason::TimedOut`] instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it, and said why.
    Peer(CloseCode),
    /// The peer does not know this connection (any more): it was started anew.
    Reset,
    /// Nothing was heard of the peer for too long.
    TimedOut,
    /// This side closed it.
    LocallyClosed,
    /// QUIC or TLS failed.
    Transport(String),
}

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> CloseReason {
        match error {
            ConnectionError::ApplicationClosed(close) => CloseReason::Peer(close.error_code.into_inner().into()),
            ConnectionError::Reset => CloseReason::Reset,
            ConnectionError::TimedOut => CloseReason::TimedOut,
            ConnectionError::LocallyClosed => CloseReason::LocallyClosed,
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted => CloseReason::Transport(printable(&error.to_string())),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Peer(code) => write!(f, "closed by the other side: {code}"),
            CloseReason::Reset => f.write_str("the other side was started anew"),
            CloseReason::TimedOut => f.write_str("the other side did not answer any more"),
            CloseReason::LocallyClosed => f.write_str("closed by this side"),
            CloseReason::Transport(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

/// A peer's words, without what could steer a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect()
}

/// IPv4 as IPv4, also where it came mapped into IPv6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A code as QUIC carries it; it has 62 bits (RFC 9000, section 16).
pub(super) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
