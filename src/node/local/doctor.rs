//! `doctor`: the rows that tell how this device reaches the others, and what stands in the way.

use super::{Link, PathRow};
use serde::{Deserialize, Serialize};

/// The network as this device finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Whether the server is reached.
    pub server: Link,
    /// Where the server sees this device's packets come from; `null` before it has answered.
    pub observed: Option<String>,
    /// The addresses that this device offers to others.
    pub addresses: Vec<String>,
    /// The port that the router maps to this device (PCP, NAT-PMP, UPnP): its address, or why there is none.
    pub port_mapping: String,
    /// How this device's NAT maps, in the terms of RFC 4787, section 4.1.
    pub mapping: String,
    /// How it filters (section 5); `null` if nothing has shown it.
    pub filtering: Option<String>,
    /// The other devices.
    pub devices: Vec<Reached>,
}

/// How one device is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `direct` or `relay`; `null` if it is away.
    pub path: Option<PathRow>,
    /// Why not direct, or why away.
    pub reason: Option<String>,
    /// Whether a direct connection is being tried now, or will be in a moment.
    pub trying: bool,
    /// Whether it is seen on the local network.
    pub nearby: bool,
    /// The address that a direct connection goes to.
    pub address: Option<String>,
    /// Its round trip, in milliseconds.
    pub rtt_ms: Option<u64>,
    /// Attempts to reach it directly since this node was started.
    pub attempts: u32,
    /// Those of them that led to a connection.
    pub connected: u32,
    /// The last attempt that is over.
    pub last: Option<AttemptRow>,
    /// The connection, for whoever completes this.
    #[serde(skip)]
    pub conn: Option<u64>,
}

/// What an attempt came to that led to a connection.
pub const CONNECTED: &str = "connected";

/// One attempt to reach a device directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// How long ago it was over, in milliseconds.
    pub ago_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What it came to, in words.
    pub outcome: String,
    /// The other device's addresses.
    pub addresses: Vec<CheckedRow>,
}

/// One address of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedRow {
    /// Which.
    pub address: String,
    /// Whether the other device named it; else its packets came from there.
    pub offered: bool,
    /// Probes that were sent there.
    pub probes: u32,
    /// When the first answer came, in milliseconds after the attempt began; `null` if none did.
    pub answered_ms: Option<u64>,
    /// Whether a connection there failed, though probes were answered.
    pub refused: bool,
}
