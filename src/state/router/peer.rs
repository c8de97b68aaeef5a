//! One connection as the router sees it: where it is in its life, and what it may say there.

use super::crowd::Network;
use super::liveness::Expected;
use super::queue::Pace;
use crate::state::time::Time;
use crate::wire::close::CloseCode;
use crate::wire::frame::Frame;
use crate::wire::ids::{DeviceKey, GroupId};
use crate::wire::log::SignedHead;
use std::net::SocketAddr;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Has not said hello.
    Silent,
    /// Says that it is a master, and has not registered.
    MasterToBe,
    /// The group's master, registered.
    Master,
    /// A device that is no member.
    Stranger,
    /// A device that waits for approval.
    Registered,
    /// A member.
    Approved,
    /// A device of a group that is not settled.
    Unsettled,
    /// Was told why it must go, and may read that; then it is closed with this code.
    Leaving(CloseCode),
}

impl Phase {
    /// Phases in which a device is what the membership says, and changes with it.
    pub(super) fn follows_membership(self) -> bool {
        match self {
            Phase::Stranger | Phase::Registered | Phase::Approved | Phase::Unsettled => true,
            Phase::Silent | Phase::MasterToBe | Phase::Master | Phase::Leaving(_) => false,
        }
    }

    /// What may be said in this phase.
    pub(super) fn permits(self, frame: &Frame) -> bool {
        use Phase::{Approved, Leaving, Master, MasterToBe, Registered, Silent, Stranger, Unsettled};
        match frame {
            Frame::Hello(_) => matches!(self, Silent),
            Frame::MasterRegister { .. } => matches!(self, MasterToBe),
            Frame::Headers(_) => matches!(self, Approved | Unsettled | Master),
            Frame::Head(_) => matches!(self, Registered | Approved | Unsettled | Master),
            Frame::OpenInvites(_) | Frame::Broadcast { .. } => matches!(self, Master),
            Frame::ExpulsionRead => matches!(self, Registered | Approved | Unsettled | Leaving(_)),
            Frame::RequestChunk { .. } | Frame::ChunkRefused { .. } | Frame::CancelChunk { .. } => {
                matches!(self, Approved | Master)
            }
            Frame::ClientRegister { .. } => matches!(self, Stranger | Registered),
            Frame::Routed { .. } | Frame::Sight(_) => matches!(self, Approved | Master),
            Frame::Ping(_) | Frame::Pong(_) => !matches!(self, Silent),
            Frame::Welcome(_)
            | Frame::MasterRegisterAck(_)
            | Frame::HeadersStored(_)
            | Frame::Presence(_)
            | Frame::MasterBack(_)
            | Frame::ServerNotReady { .. }
            | Frame::Busy { .. }
            | Frame::RegistrationHeld(_)
            | Frame::PeerHello(_)
            | Frame::Observed(_)
            | Frame::UploadChunk { .. } => false,
        }
    }
}

/// In which crowd a connection is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Silent,
    Stranger,
    Nowhere,
}

/// See the module.
pub(super) struct Peer {
    pub(super) device: DeviceKey,
    /// Where it came from: there it is counted.
    pub(super) remote: SocketAddr,
    /// Where its packets come from now.
    pub(super) observed: SocketAddr,
    pub(super) group: Option<GroupId>,
    pub(super) phase: Phase,
    /// The phases that it was in before.
    pub(super) earlier: Vec<Phase>,
    pub(super) counted: Counted,
    /// When its phase ends by itself.
    pub(super) deadline: Option<Time>,
    /// What it is expected to answer.
    pub(super) expected: Option<Expected>,
    /// What it said in its hello: a group that is new here can check it only once it has registered.
    pub(super) hello_head: Option<SignedHead>,
    pub(super) pace: Pace,
}

impl Peer {
    pub(super) fn new(device: DeviceKey, remote: SocketAddr) -> Peer {
        Peer {
            device,
            remote,
            observed: remote,
            group: None,
            phase: Phase::Silent,
            earlier: Vec::new(),
            counted: Counted::Silent,
            deadline: None,
            expected: None,
            hello_head: None,
            pace: Pace::default(),
        }
    }

    pub(super) fn network(&self) -> Network {
        Network::of(self.remote.ip())
    }

    /// Whether a frame was in order before the phase changed.
    pub(super) fn permitted_before(&self, frame: &Frame) -> bool {
        let hello = matches!(frame, Frame::Hello(_));
        !hello && self.earlier.iter().any(|phase| phase.permits(frame))
    }

    /// Goes over to another phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        if !self.earlier.contains(&self.phase) {
            self.earlier.push(self.phase);
        }
        self.phase = phase;
    }
}
