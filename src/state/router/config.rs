//! The router's limits and times, each with its reason.

use std::time::Duration;

/// Limits and times of a [`Router`](super::Router). The defaults suit a machine with 1 GiB of memory.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// Groups that this server takes. Each costs memory for its members, connected or not.
    pub groups_max: usize,
    /// Membership headers of one group. Twice that of [`MEMBERS_MAX`](crate::wire::limits::MEMBERS_MAX) registered and
    /// approved, and room for who came and went. Expulsions of known devices are taken beyond it.
    pub headers_per_group_max: usize,
    /// Connections in all: 30 to 40 KiB each.
    pub connections_max: usize,
    /// Connections in all that have not said hello: they need milliseconds for it, so this is a flood.
    pub silent_max: usize,
    /// The same from one address (IPv4) or network (IPv6 /64): an office behind one NAT that returns at once.
    pub silent_per_address: usize,
    /// Strangers in all.
    pub strangers_max: usize,
    /// Strangers from one address (IPv4) or network (IPv6 /64).
    pub strangers_per_address: usize,
    /// How long a stranger may stay, and anybody who says no hello or doesn't register as the master it says it is.
    /// A person's approval takes longer, but registration is one exchange; who waits dials again.
    pub stranger_stay: Duration,
    /// How long an expelled device may take to say that it has read why.
    pub expelled_stay: Duration,
    /// How long who is refused may take to read why, and go by itself.
    pub refused_stay: Duration,
    /// Who is expected to answer and is not heard for this long is asked whether it is there.
    pub ping_after: Duration,
    /// Who is not heard for this long then is let go, and counts as away. A device that is there dials again at once; a
    /// slow link that is full delays an answer by two or three seconds.
    pub unheard_after: Duration,
    /// Presence changes are told together once in this time; the first at once.
    pub presence_pause: Duration,
    /// Routed frames a second from one sender, on average. A device has one request outstanding; the rest is candidates.
    pub frames_per_second: u64,
    /// Bytes of envelopes a second from one sender, on average: a dozen of the largest.
    pub bytes_per_second: u64,
    /// How many seconds' worth of the two a sender may send at once.
    pub burst_seconds: u64,
    /// Bytes from one sender that may wait for the master: three of the largest envelopes.
    pub master_queue_bytes: usize,
    /// Frames from one sender that may wait for the master.
    pub master_queue_frames: usize,
    /// Bytes under way to the master before the others' turn is awaited: what a fast link takes between two ticks.
    pub master_window_bytes: usize,
}

impl Default for RouterConfig {
    fn default() -> RouterConfig {
        RouterConfig {
            groups_max: 1_000,
            headers_per_group_max: crate::wire::limits::MEMBERSHIP_HEADERS_MAX,
            connections_max: 20_000,
            silent_max: 4_096,
            silent_per_address: 1_024,
            strangers_max: 1_000,
            strangers_per_address: 32,
            stranger_stay: Duration::from_secs(10),
            expelled_stay: Duration::from_secs(5),
            refused_stay: Duration::from_secs(2),
            ping_after: Duration::from_secs(1),
            unheard_after: Duration::from_secs(8),
            presence_pause: Duration::from_millis(100),
            frames_per_second: 200,
            bytes_per_second: 4 << 20,
            burst_seconds: 2,
            master_queue_bytes: 1 << 20,
            master_queue_frames: 64,
            master_window_bytes: 1 << 20,
        }
    }
}
