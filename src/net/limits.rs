//! The transport's limits: each with its unit and its reason.

use std::time::Duration;

/// Bytes of one control frame, its length prefix not counted. Holds the largest log entry (256 KiB) with its envelope.
pub const CONTROL_FRAME_BYTES_MAX: usize = crate::wire::limits::FRAME_BYTES_MAX;

/// Bytes of control frames that may wait for one peer. Some seconds of news over a slow link; who is further behind
/// catches up by revision anyway.
pub const CONTROL_QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that a peer may have sent on one connection and we have not read: what an asker may have outstanding
/// (32 MiB) and the control stream besides. quinn's default has no limit, so a stall would show as memory.
pub const CONNECTION_WINDOW_BYTES: u32 = 48 * 1024 * 1024;

/// Bytes that a peer may have sent on one stream and we have not read: two of the largest chunks, so that one stream
/// fills a link of 1 Gbit/s at 60 ms.
pub const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Bytes that we hold for one connection until they are acknowledged.
pub const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that control frames may take beyond [`SEND_WINDOW_BYTES`], for chunks alone would fill that on a slow link.
pub const SEND_WINDOW_CONTROL_BYTES: u64 = 1024 * 1024;

/// Wish for each of the UDP socket's two buffers, in bytes: at the usual 208 KiB thousands of packets a GiB are lost.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of the largest UDP payload that discovery tries: an Ethernet frame less the headers of IPv6 and UDP.
pub const MTU_BYTES: u16 = 1452;

/// Bytes of the largest UDP payload that we receive: an Ethernet frame less the headers of IPv4 and UDP.
pub const UDP_PAYLOAD_BYTES_MAX: u16 = 1472;

/// Unidirectional streams that a device may have open to its server while nothing is transferred any more. quinn keeps a
/// table entry for each that it allows: it is most of an idle connection's memory.
pub const IDLE_UNI_STREAMS: u32 = 4;

/// Round trip assumed before one was measured. quinn's 333 ms makes the second of two simultaneous dials take a second.
pub const INITIAL_RTT: Duration = Duration::from_millis(50);

/// A connection ends when nothing was heard for this long: three keep-alives.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// A quiet connection sends this often. NATs forget UDP mappings after 30 s and more (RFC 4787 asks for two minutes).
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A master's quiet connection: a server that was started again is noticed at the next packet, and until then nobody's
/// request can reach the master.
pub const MASTER_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A straight connection between two members ends when nothing was heard for this long, so that what was asked for on it
/// is asked for through the server within three seconds. The time begins with the last packet that came or with the first
/// one sent after it that wants an answer, a keep-alive at the latest; on slow ways three times the probe timeout counts
/// instead (RFC 9000, section 10.1).
pub const STRAIGHT_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A quiet straight connection sends this often: three times before it ends.
pub const STRAIGHT_KEEP_ALIVE: Duration = Duration::from_millis(600);

/// A dial is given up after this long. Who is in a hurry drops it before and dials anew.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A dialler gives up a connection whose other end lets it open no control stream for this long.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// An incoming handshake is given up after this long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// With this many incoming handshakes in progress, others must first prove their address (QUIC Retry). It costs them a
/// round trip, so a few at once are let through.
pub const HANDSHAKES_BEFORE_RETRY: usize = 32;

/// Incoming handshakes in progress at most, those included that nobody has accepted yet; others are refused.
/// A thousand devices that return after a restart are let in within two or three tries.
pub const HANDSHAKES_MAX: usize = 512;

/// Attempts that wait for our first look at them. We look at once, so more than this is a flood.
pub const INCOMING_MAX: usize = 1024;

/// Bytes kept of one attempt before our first look at it: its first flight is two or three packets.
pub const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// The same for all attempts together.
pub const INCOMING_BUFFER_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

// Every idle stream and the control stream may be full and unread without stopping the connection.
const _: () = assert!((IDLE_UNI_STREAMS + 1) * STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(CONTROL_FRAME_BYTES_MAX + 4 <= STREAM_WINDOW_BYTES as usize);
const _: () = assert!(CONTROL_FRAME_BYTES_MAX + 4 <= CONTROL_QUEUE_BYTES_MAX);
const _: () = assert!(CONTROL_FRAME_BYTES_MAX as u64 + 4 <= SEND_WINDOW_CONTROL_BYTES);
const _: () = assert!(SEND_WINDOW_BYTES >= STREAM_WINDOW_BYTES as u64);
const _: () = assert!(MTU_BYTES <= UDP_PAYLOAD_BYTES_MAX);
const _: () = assert!(KEEP_ALIVE.as_secs() * 3 <= IDLE_TIMEOUT.as_secs());
const _: () = assert!(STRAIGHT_KEEP_ALIVE.as_millis() * 3 <= STRAIGHT_IDLE_TIMEOUT.as_millis());
const _: () = assert!(STRAIGHT_KEEP_ALIVE.as_millis() + STRAIGHT_IDLE_TIMEOUT.as_millis() < 3_000);
const _: () = assert!(HANDSHAKES_BEFORE_RETRY < HANDSHAKES_MAX);
