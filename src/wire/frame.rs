//! Control frames: one bidirectional stream a connection, each frame the postcard bytes of one [`Frame`].
//!
//! Three kinds: *hop* (between the two ends of a connection), *routed* (an envelope that the server passes on) and
//! *broadcast* (a header that the server reads, with a body that it can't).

use super::ids::{ContentId, DeviceKey, GroupId, Hash, InviteId, Position, PublicId};
use super::invite::AdmissionSecret;
use super::limits::{CHUNKS_PER_FRAME_MAX, RANGES_PER_FRAME_MAX};
use super::log::{SignedHead, SignedHeader};
use super::probe::ProbeToken;
use super::seal::SealedBody;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The protocol's minor version; the major one is in the ALPN.
pub const PROTOCOL_VERSION: u16 = 1;

/// What travels on a control stream.
#[derive(Clone, Serialize, Deserialize)]
pub enum Frame {
    /// Hop. The dialler's first frame.
    Hello(Hello),
    /// Hop. The server's first frame.
    Welcome(Welcome),
    /// Hop, from a master (W1).
    MasterRegister {
        /// What the ticket says; needed where the server doesn't know the group yet.
        admission: Option<AdmissionSecret>,
    },
    /// Hop, to a master (W1).
    MasterRegisterAck(Result<MasterRegistered, MasterRefusal>),
    /// Hop. Membership headers, oldest first. From a master or a member to the server, which lacks them; from the
    /// server to a device: the one that says where it stands.
    Headers(Vec<SignedHeader>),
    /// Hop, from the server: all membership headers up to this one are on its disk.
    HeadersStored(Tip),
    /// Hop. The newest head that the sender was shown.
    Head(SignedHead),
    /// Hop, from a master: the invites that are open, all of them.
    OpenInvites(Vec<InviteId>),
    /// Hop, from the server: who is connected (W7, W8).
    Presence(Vec<Present>),
    /// Hop, from the server: the master has connected anew (W3).
    MasterBack(SignedHead),
    /// Hop, from the server: the routed frame with this number was not delivered, for the master is away (W2).
    ServerNotReady {
        /// The routed frame's number.
        number: u64,
    },
    /// Hop, from the server: the routed frame with this number was dropped, for too many wait; try again.
    Busy {
        /// The routed frame's number.
        number: u64,
    },
    /// Hop, from the server to a stranger: why its registration goes no further.
    RegistrationHeld(HeldRegistration),
    /// Hop, from a device: it has read the header that expels it; the server may close.
    ExpulsionRead,
    /// Hop, asker to server (W13).
    RequestChunk {
        /// The asker's number for this request.
        request: u64,
        /// Whose content.
        owner: PublicId,
        /// Which chunks.
        ranges: Vec<ChunkRange>,
    },
    /// Hop, server to owner (W13).
    UploadChunk {
        /// The server's number for this request.
        request: u64,
        /// Which chunks.
        ranges: Vec<ChunkRange>,
    },
    /// Hop, to who asked: these chunks will not come, and why.
    ChunkRefused {
        /// The receiver's number for the request.
        request: u64,
        /// Which chunks.
        ranges: Vec<ChunkRange>,
        /// Why.
        reason: ChunkRefusal,
    },
    /// Hop, asker to server and server to owner: these chunks are not wanted any more.
    CancelChunk {
        /// The receiver's number for the request was this one of the sender's.
        request: u64,
        /// Which chunks.
        ranges: Vec<ChunkRange>,
    },
    /// Routed. A stranger's registration (W4); the server puts the sender's key in place of nothing.
    ClientRegister {
        /// The sender; what the server writes is what it authenticated.
        from: DeviceKey,
        /// The invite that it holds.
        invite: InviteId,
        /// The sender's number for this frame.
        number: u64,
        /// To the master.
        envelope: Vec<u8>,
    },
    /// Routed. On its way to the server `peer` is the receiver; from the server it is the sender.
    Routed {
        /// The other party.
        peer: DeviceKey,
        /// The sender's number for this frame, for `ServerNotReady` and `Busy`.
        number: u64,
        /// For that party alone.
        envelope: Vec<u8>,
    },
    /// Broadcast, from the master to every approved device. Its name in WORKFLOW's rows is its body's.
    Broadcast {
        /// In clear.
        header: SignedHeader,
        /// Sealed to the group.
        body: SealedBody,
    },
    /// Hop. Who waits and hears nothing asks whether the other end is there; it answers with the same number.
    Ping(u64),
    /// Hop. The answer.
    Pong(u64),
    /// Hop, on a connection between two members: each one's first frame.
    PeerHello(PeerHello),
    /// Hop, from the server: where the receiver's packets come from now; a NAT gave it another port, or it moved.
    Observed(SocketAddr),
    /// Hop, to the server: pings with this token that come by the IP family that this connection does not use are the
    /// sender's. The server answers with `Observed`, whenever one comes from elsewhere than the last one.
    Sight(ProbeToken),
}

/// What two members say first when they meet without a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// The protocol's minor version.
    pub version: u16,
    /// Of which group.
    pub group: GroupId,
    /// The newest head that the sender was shown: nothing of a file goes to who may be out by it.
    pub head: Option<SignedHead>,
    /// Where the receiver's packets come from, as the sender sees it.
    pub observed: SocketAddr,
}

/// What a dialler says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's minor version.
    pub version: u16,
    /// Name and version of the program, for the other side's log.
    pub software: String,
    /// As what it comes.
    pub role: Role,
    /// To which group.
    pub group: GroupId,
    /// The newest head that it was shown.
    pub head: Option<SignedHead>,
}

/// As what a device dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// As the group's master.
    Master,
    /// As a client.
    Client,
}

/// What a server answers to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol's minor version.
    pub version: u16,
    /// Name and version of the program.
    pub software: String,
    /// What the dialler is to this server.
    pub class: Class,
    /// The newest head that the server was shown.
    pub head: Option<SignedHead>,
    /// The newest membership header that it holds.
    pub tip: Option<Tip>,
    /// The address that the server sees.
    pub observed: SocketAddr,
}

/// What a dialler is to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Unknown: may register, and has 10 s.
    Stranger,
    /// Known to the master and not approved.
    Registered,
    /// A member.
    Approved,
    /// The group's master, or who says so; it must register (W1).
    Master,
    /// Expelled or gone: gets the header that says so, and nothing else.
    Expelled,
    /// The server lacks membership headers, and lets nobody in until it has them.
    Unsettled,
    /// The server doesn't know the group.
    UnknownGroup,
}

/// A membership header's place and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Its place.
    pub at: Position,
    /// Its hash.
    pub hash: Hash,
}

/// What a server tells a master that it registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterRegistered {
    /// The newest membership header that it holds.
    pub tip: Option<Tip>,
    /// The newest head that it was shown.
    pub head: Option<SignedHead>,
    /// How long the server has been up, in milliseconds: members may not have come back yet.
    pub up_ms: u64,
}

/// Why a server doesn't take a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MasterRefusal {
    /// The group is new to the server, and the ticket's secret is not its own.
    #[error(
        "the server does not know this group and its ticket is not valid (any more); get its present one with 'bailiwick ticket' there and start the master with --server TICKET"
    )]
    Admission,
    /// The server holds as many groups as it takes.
    #[error("the server holds as many groups as it takes; use another server")]
    ServerFull,
    /// The key that dialled is not the group's.
    #[error("this device's key is not the group's master key")]
    Key,
    /// The server knows of a newer generation of the log than this copy of the master.
    #[error("a newer copy of this master has taken the group over, after an import; stop this one")]
    Superseded,
}

/// Why a stranger's registration goes no further for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HeldRegistration {
    /// The master is away, or has not said yet which invites are open (W2).
    #[error("waiting for the master")]
    ServerNotReady,
    /// The master has said which invites are open, and this is none of them.
    #[error("the invite was used, has expired or was revoked; ask the master for a new one")]
    InviteNotOpen,
    /// Too many registrations wait.
    #[error("too many devices are registering; trying again")]
    Busy,
}

/// Whether a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// The device.
    pub id: PublicId,
    /// Now?
    pub online: bool,
    /// Milliseconds since it was last seen; zero while it is online.
    pub since_ms: u64,
}

/// Consecutive chunks of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRange {
    /// Which content.
    pub content: ContentId,
    /// The first chunk.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Plain bytes of each but the last.
    pub bytes: u32,
    /// Plain bytes of the last.
    pub last_bytes: u32,
}

impl ChunkRange {
    /// One chunk.
    pub fn one(content: ContentId, index: u32, bytes: u32) -> ChunkRange {
        ChunkRange { content, first: index, count: 1, bytes, last_bytes: bytes }
    }

    /// The chunks, each with its plain length. Empty if the range makes no sense.
    pub fn chunks(&self) -> impl Iterator<Item = (ContentId, u32, u32)> + use<> {
        let range = *self;
        let end = range.first.checked_add(range.count).unwrap_or(range.first);
        (range.first..end).map(move |index| {
            let bytes = if index + 1 == end { range.last_bytes } else { range.bytes };
            (range.content, index, bytes)
        })
    }
}

/// Whether ranges from a peer name no more than a frame may.
pub fn within_limits(ranges: &[ChunkRange]) -> bool {
    let chunks: u64 = ranges.iter().map(|range| u64::from(range.count)).sum();
    ranges.len() <= RANGES_PER_FRAME_MAX && chunks <= CHUNKS_PER_FRAME_MAX
}

/// Joins chunks that follow each other into ranges.
pub fn ranges_of(chunks: impl IntoIterator<Item = (ContentId, u32, u32)>) -> Vec<ChunkRange> {
    let mut ranges: Vec<ChunkRange> = Vec::new();
    for (content, index, bytes) in chunks {
        let joined = ranges.last_mut().filter(|last| {
            last.content == content && last.first + last.count == index && last.bytes == last.last_bytes
        });
        match joined {
            Some(last) => {
                last.count += 1;
                last.last_bytes = bytes;
            }
            None => ranges.push(ChunkRange::one(content, index, bytes)),
        }
    }
    ranges
}

/// Why chunks will not come. The texts are for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
pub enum ChunkRefusal {
    /// Said by the server: no member has this id.
    #[error("the owner is not a member of the group")]
    OwnerUnknown,
    /// Said by the server: the owner was expelled or left.
    #[error("the owner was expelled or has left")]
    OwnerExpelled,
    /// Said by the server: the owner is not connected.
    #[error("the owner is away")]
    OwnerAway,
    /// Said by the server: the owner sent nothing for a while.
    #[error("the owner sends nothing")]
    OwnerStalled,
    /// Said by the server: the asker has more outstanding than it may.
    #[error("more was asked for at once than the server allows")]
    OverQuota,
    /// Said by the server: it could not keep them until they were read; ask again.
    #[error("the server could not keep it any longer; asking again")]
    Expired,
    /// Said by the server: a request that no good peer makes.
    #[error("the request makes no sense to the server; update this bailiwick")]
    Malformed,
    /// Said by the owner: it has heard nothing from the master for longer than the policy allows.
    #[error("the owner waits for the master: `bailiwick policy` shows for how long owners go on without it")]
    OwnerNotFresh,
    /// Said by the owner: it has no such content (any more).
    #[error("the owner does not have this version of the file any more")]
    Unknown,
    /// Said by the owner: the file changed on its disk.
    #[error("the file has changed at its owner")]
    Changed,
    /// Said by the owner: the file is gone or can't be read.
    #[error("the file can't be read at its owner")]
    Unreadable,
    /// Said by the owner: a person paused it there.
    #[error("paused by its owner")]
    Paused,
    /// Said by the owner: it lacks the secrets to seal with.
    #[error("the owner is catching up")]
    NotReady,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_come_apart() {
        let (a, b) = (ContentId([1; 16]), ContentId([2; 16]));
        let chunks = vec![(a, 0, 10), (a, 1, 10), (a, 2, 4), (b, 0, 7), (b, 5, 7)];
        let ranges = ranges_of(chunks.clone());
        assert_eq!(ranges.len(), 3);
        assert_eq!(ranges.iter().flat_map(ChunkRange::chunks).collect::<Vec<_>>(), chunks);
    }

    #[test]
    fn a_range_past_the_end_of_numbers_is_empty() {
        let range = ChunkRange { content: ContentId([1; 16]), first: u32::MAX, count: 2, bytes: 1, last_bytes: 1 };
        assert_eq!(range.chunks().count(), 0);
    }
}
