//! QUIC: endpoint, pinned TLS, control stream, chunk streams. Knows device keys and bytes, never what they mean.
//!
//! One endpoint on one UDP socket accepts and dials. A connection that exists is one whose peer has proved its device
//! key; whether that device is admitted is decided above.

mod accept;
pub mod candidates;
pub mod changes;
pub mod chunks;
mod congestion;
pub mod connection;
pub mod control;
pub mod dial;
pub mod endpoint;
pub mod lan;
pub mod limits;
pub mod portmap;
mod probes;
mod socket;
pub mod tls;
mod transport;
