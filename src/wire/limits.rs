//! Limits of what travels. Each has a unit and a reason; relations between them are asserted at compile time.

use std::time::Duration;

/// Bytes of one entry's salted body, at most: longer news are several entries.
pub const ENTRY_BODY_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a header: a few hashes and, at most, one membership change.
pub const HEADER_BYTES_MAX: usize = 512;
/// The last revision of a generation: at a thousand entries a second, 142 years. Databases hold it as a signed number.
pub const REVISION_MAX: u64 = (1 << 52) - 1;
/// Bytes of an envelope, sealed: an entry or a page of a snapshot, with its signature, head and epoch secrets.
pub const ENVELOPE_BYTES_MAX: usize = 304 * 1024;
/// Bytes of one control frame: an envelope with its address.
pub const FRAME_BYTES_MAX: usize = 320 * 1024;
/// Bytes of a frame from a stranger: a hello or one registration.
pub const STRANGER_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Bytes of content in one snapshot page, so that it fits an envelope.
pub const PAGE_BYTES_MAX: usize = 192 * 1024;
/// Bytes of entries answered in one catching-up envelope. The first entry always goes, whatever its size.
pub const CATCH_UP_BYTES: usize = 192 * 1024;
/// Files in one `AddFiles`: with the longest paths they still fit an entry.
pub const FILES_PER_REQUEST_MAX: usize = 1_500;
/// Bytes of files' rows in one `AddFiles`, at most.
pub const REQUEST_FILES_BYTES_MAX: usize = 200 * 1024;
/// Membership headers in one frame.
pub const HEADERS_PER_FRAME_MAX: usize = 256;
/// Ranges in one chunk request or refusal; a longer list is several frames.
pub const RANGES_PER_FRAME_MAX: usize = 2_048;
/// Chunks that one request or refusal may name: what an asker may have outstanding. Ranges are short and name many.
pub const CHUNKS_PER_FRAME_MAX: u64 = 8_192;
/// Presence rows in one frame.
pub const PRESENCE_PER_FRAME_MAX: usize = 4_096;
/// Open invites that a master keeps, and tells its server, at most.
pub const INVITES_MAX: usize = 1_000;
/// Bytes of a device's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Addresses in an invite or a ticket.
pub const ADDRESSES_MAX: usize = 8;
/// Addresses at which a device says that it may be reached.
pub const CANDIDATES_MAX: usize = 16;
/// Devices of a group, the expelled not counted: what one roster in memory and one screen are made for.
pub const MEMBERS_MAX: usize = 10_000;
/// Membership headers of a group, over all its devices that ever were: what a server keeps for it. A master registers
/// nobody whose approval or expulsion, or that of the others, might not find room any more.
pub const MEMBERSHIP_HEADERS_MAX: usize = 40_000;
/// Files that one device may have in the catalog.
pub const FILES_PER_DEVICE_MAX: u64 = 1_000_000;

/// The shortest time that a policy can let owners serve without a word from the master: three questions fit into it.
pub const MASTER_AWAY_WAIT_MIN: Duration = Duration::from_secs(10);
/// The longest: what a server that hides an expulsion can gain.
pub const MASTER_AWAY_WAIT_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The longest time that a policy can let owners go on over straight connections: what who was expelled, and is on one
/// network with an owner that hears nothing, can gain.
pub const MASTER_AWAY_CONTINUE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How long a chunk stays with a server after its last byte came in.
pub const CHUNK_TTL: Duration = Duration::from_secs(120);
/// The slowest asker that is supported, in bytes a second.
pub const SLOWEST_RATE: u64 = 64 * 1024;

const _: () = assert!(MASTER_AWAY_WAIT_MAX.as_secs() <= MASTER_AWAY_CONTINUE_MAX.as_secs());
const _: () = assert!(ENTRY_BODY_BYTES_MAX + HEADER_BYTES_MAX + 4096 < ENVELOPE_BYTES_MAX);
const _: () = assert!(PAGE_BYTES_MAX + HEADER_BYTES_MAX + 4096 < ENVELOPE_BYTES_MAX);
const _: () = assert!(ENVELOPE_BYTES_MAX + 1024 < FRAME_BYTES_MAX);
const _: () = assert!(HEADERS_PER_FRAME_MAX * (HEADER_BYTES_MAX + 80) < FRAME_BYTES_MAX);
const _: () = assert!(RANGES_PER_FRAME_MAX * 40 < FRAME_BYTES_MAX);
const _: () = assert!(PRESENCE_PER_FRAME_MAX * 32 < FRAME_BYTES_MAX);
const _: () = assert!(3 * MEMBERS_MAX < MEMBERSHIP_HEADERS_MAX);
const _: () = assert!(REQUEST_FILES_BYTES_MAX + 4096 < ENTRY_BODY_BYTES_MAX);
const _: () = assert!(super::geometry::CHUNK_BYTES_MAX as u64 / SLOWEST_RATE < CHUNK_TTL.as_secs());
