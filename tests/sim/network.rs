//! Connections between nodes and the server: frames in order, with delays; chunk streams beside them.

use bailiwick::state::conn::ConnId;
use bailiwick::wire::close::CloseCode;
use bailiwick::wire::frame::{ChunkRange, Frame};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// An idle connection ends after this many milliseconds without a packet.
pub(crate) const IDLE_MS: u64 = 45_000;
/// Keep-alive packets go this often: a killed process that is back is noticed then, at the latest.
pub(crate) const KEEP_ALIVE_MS: u64 = 15_000;
/// A dial that nobody answers fails after this long.
pub(crate) const DIAL_MS: u64 = 5_000;
/// Frames that may wait for a receiver before the sender gives the connection up.
pub(crate) const LANE_FRAMES_MAX: usize = 4_000;

/// A node, by its place in the world.
pub(crate) type NodeId = usize;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The device.
    Node,
    /// The server.
    Server,
}

impl Side {
    /// The other one.
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Node => Side::Server,
            Side::Server => Side::Node,
        }
    }
}

/// What travels on a control stream, or ends it.
pub(crate) enum Piece {
    /// A frame.
    Frame(Box<Frame>),
    /// A close, with its code.
    Close(CloseCode),
}

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Lane {
    /// What is under way, with the time when it arrives.
    pub(crate) pieces: VecDeque<(u64, Piece)>,
    /// When the last piece arrives: the next one is no earlier.
    pub(crate) last_due: u64,
}

/// A connection.
pub(crate) struct Link {
    /// Its name at both ends.
    pub(crate) id: ConnId,
    /// The device's node.
    pub(crate) node: NodeId,
    /// Where the server saw its packets come from last.
    pub(crate) remote: Option<SocketAddr>,
    /// Whether the device has it open.
    pub(crate) node_open: bool,
    /// Whether the server has it open.
    pub(crate) server_open: bool,
    /// From the server to the device.
    pub(crate) to_node: Lane,
    /// From the device to the server.
    pub(crate) to_server: Lane,
}

impl Link {
    /// A connection that neither end has yet.
    pub(crate) fn new(id: ConnId, node: NodeId) -> Link {
        Link {
            id,
            node,
            remote: None,
            node_open: false,
            server_open: false,
            to_node: Lane::default(),
            to_server: Lane::default(),
        }
    }

    /// Whether a side has it open.
    pub(crate) fn is_open(&self, side: Side) -> bool {
        match side {
            Side::Node => self.node_open,
            Side::Server => self.server_open,
        }
    }

    /// A side has it no more, or now.
    pub(crate) fn set_open(&mut self, side: Side, open: bool) {
        match side {
            Side::Node => self.node_open = open,
            Side::Server => self.server_open = open,
        }
    }

    /// The lane that leads to a side.
    pub(crate) fn lane_to(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Node => &mut self.to_node,
            Side::Server => &mut self.to_server,
        }
    }
}

/// A frame's kind, for the record of events.
pub(crate) fn label(frame: &Frame) -> String {
    match frame {
        Frame::Hello(hello) => format!("Hello({:?}, head {})", hello.role, hello.head.is_some()),
        Frame::Welcome(welcome) => format!("Welcome({:?})", welcome.class),
        Frame::MasterRegister { .. } => "MasterRegister".into(),
        Frame::MasterRegisterAck(outcome) => format!("MasterRegisterAck({})", outcome.is_ok()),
        Frame::Headers(headers) => format!("Headers({})", headers.len()),
        Frame::HeadersStored(tip) => format!("HeadersStored({})", tip.at),
        Frame::Head(_) => "Head".into(),
        Frame::OpenInvites(open) => format!("OpenInvites({})", open.len()),
        Frame::Presence(list) => format!("Presence({})", list.len()),
        Frame::MasterBack(_) => "MasterBack".into(),
        Frame::ServerNotReady { number } => format!("ServerNotReady({number})"),
        Frame::Busy { number } => format!("Busy({number})"),
        Frame::RegistrationHeld(why) => format!("RegistrationHeld({why:?})"),
        Frame::ExpulsionRead => "ExpulsionRead".into(),
        Frame::RequestChunk { request, ranges, .. } => format!("RequestChunk({request}, {})", wanted(ranges)),
        Frame::UploadChunk { request, ranges } => format!("UploadChunk({request}, {})", wanted(ranges)),
        Frame::ChunkRefused { request, reason, .. } => format!("ChunkRefused({request}, {reason:?})"),
        Frame::CancelChunk { request, .. } => format!("CancelChunk({request})"),
        Frame::ClientRegister { number, .. } => format!("ClientRegister({number})"),
        Frame::Routed { number, envelope, .. } => format!("Routed({number}, {} bytes)", envelope.len()),
        Frame::Broadcast { .. } => "Broadcast".into(),
        Frame::Ping(_) => "Ping".into(),
        Frame::Pong(_) => "Pong".into(),
        Frame::PeerHello(_) => "PeerHello".into(),
        Frame::Observed(_) => "Observed".into(),
        Frame::Sight(_) => "Sight".into(),
    }
}

fn wanted(ranges: &[ChunkRange]) -> String {
    let each = |range: &ChunkRange| format!("{:?} {}+{}", range.content, range.first, range.count);
    ranges.iter().map(each).collect::<Vec<_>>().join(", ")
}
