//! The server's decisions: who is admitted, what is passed on to whom. It reads headers and heads, which the masters
//! sign, and makes none: it can refuse and forget, but not let anybody in.
//!
//! Invariants: what an [`Effect::Persist`] says comes before every [`Effect::Send`] that tells anyone about it. A
//! connection is in one phase; it gets routed frames, broadcasts and chunks only as approved, in a group that is
//! settled. After [`Effect::Close`] nothing more is said of a connection.

mod admission;
mod config;
mod crowd;
mod headers;
mod liveness;
mod membership;
mod peer;
mod presence;
mod queue;
mod routing;
mod sight;
#[cfg(test)]
mod tests;

pub use config::RouterConfig;
pub use membership::Record;

use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::close::CloseCode;
use crate::wire::frame::{ChunkRange, ChunkRefusal, Class, Frame};
use crate::wire::ids::{DeviceKey, GroupId, InviteId, PublicId};
use crate::wire::invite::AdmissionSecret;
use crate::wire::log::{NotTheMasters, SignedHead, SignedHeader};
use crate::wire::probe::ProbeToken;
use crowd::Crowd;
use membership::Membership;
use peer::{Peer, Phase};
use presence::Presence;
use queue::MasterQueue;
use sight::Sights;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;

/// What happens to a router.
pub enum Input {
    /// A device has connected, and proved its key.
    Connected {
        /// The connection.
        conn: ConnId,
        /// The device.
        peer: DeviceKey,
        /// Where from.
        remote: SocketAddr,
    },
    /// Its packets come from elsewhere: its NAT gave it another port, or it moved (RFC 9000, section 9).
    Moved {
        /// The connection.
        conn: ConnId,
        /// Where from.
        remote: SocketAddr,
    },
    /// A ping came, beside all connections.
    Pinged {
        /// Where from.
        from: SocketAddr,
        /// Its token.
        token: ProbeToken,
    },
    /// A frame came.
    Frame {
        /// On which connection.
        conn: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// What [`Effect::SendCounted`] counted was handed to the network.
    Sent {
        /// On which connection.
        conn: ConnId,
        /// How many of the counted bytes.
        bytes: usize,
    },
    /// A connection has ended.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// Time has passed: [`Router::poll_timeout`] said when to come.
    Tick,
}

/// What a router wants done, in this order.
pub enum Effect {
    /// Store this before doing any effect that follows.
    Persist(Record),
    /// A connection's class is new: what it may send has other limits from now on.
    Classed {
        /// Which connection.
        conn: ConnId,
        /// Its class.
        class: Class,
    },
    /// Send a frame.
    Send {
        /// To these connections.
        to: Vec<ConnId>,
        /// The frame.
        frame: Frame,
    },
    /// Send a frame to a master, and report it as [`Input::Sent`] once it is handed to the network.
    SendCounted {
        /// To this connection.
        conn: ConnId,
        /// The frame.
        frame: Frame,
        /// What to report.
        bytes: usize,
    },
    /// Do this with chunks.
    Chunks(ChunkOrder),
    /// Close a connection. It is forgotten already.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        code: CloseCode,
    },
}

/// What admitted devices want of the relay.
pub enum ChunkOrder {
    /// Chunks are asked for.
    Ask {
        /// By whom.
        asker: ConnId,
        /// The asker's number.
        request: u64,
        /// In which group.
        group: GroupId,
        /// Of whom.
        owner: PublicId,
        /// The owner's connection.
        owner_conn: ConnId,
        /// Which.
        ranges: Vec<ChunkRange>,
    },
    /// Chunks are not wanted any more.
    Cancel {
        /// By whom.
        asker: ConnId,
        /// The asker's number.
        request: u64,
        /// Which.
        ranges: Vec<ChunkRange>,
    },
    /// An owner does not send chunks.
    Refused {
        /// Which owner.
        owner: ConnId,
        /// The relay's number.
        request: u64,
        /// Which.
        ranges: Vec<ChunkRange>,
        /// Why.
        reason: ChunkRefusal,
    },
    /// A connection is no longer there, or no longer admitted: whatever it asked for or sends is over.
    Gone {
        /// Which.
        conn: ConnId,
        /// What to tell who waits for its chunks.
        reason: ChunkRefusal,
    },
    /// A device is expelled: nothing of it is kept.
    Expelled {
        /// In which group.
        group: GroupId,
        /// Which device.
        owner: PublicId,
    },
}

/// What was stored of a group.
pub struct StoredGroup {
    /// Its master.
    pub master: DeviceKey,
    /// The newest head.
    pub head: Option<SignedHead>,
    /// The chain of membership headers, oldest first.
    pub chain: Vec<SignedHeader>,
    /// All headers that expel.
    pub expulsions: Vec<SignedHeader>,
}

/// One group.
struct Group {
    membership: Membership,
    /// Every device of the group that is connected, with its newest connection.
    connected: BTreeMap<DeviceKey, ConnId>,
    approved: BTreeSet<ConnId>,
    master: Option<Master>,
    presence: Presence,
    /// The head that proves that two copies of the master have signed.
    fork: Option<SignedHead>,
    /// The newest header that the master broadcast since this server started.
    last_broadcast: Option<SignedHeader>,
}

impl Group {
    fn new(membership: Membership) -> Group {
        Group {
            membership,
            connected: BTreeMap::new(),
            approved: BTreeSet::new(),
            master: None,
            presence: Presence::default(),
            fork: None,
            last_broadcast: None,
        }
    }

    /// Everybody who hears the group's news.
    fn members(&self) -> Vec<ConnId> {
        self.approved.iter().copied().chain(self.master.as_ref().map(|master| master.conn)).collect()
    }
}

/// A master that is connected and registered.
struct Master {
    conn: ConnId,
    /// Whether its head came on this connection.
    shown: bool,
    /// `None` until it has told them.
    invites: Option<HashSet<InviteId>>,
    queue: MasterQueue,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Connection(ConnId),
    Answer(ConnId),
    Presence(GroupId),
}

/// See the module.
pub struct Router {
    config: RouterConfig,
    admission: AdmissionSecret,
    started: Time,
    groups: HashMap<GroupId, Group>,
    peers: HashMap<ConnId, Peer>,
    timers: BTreeSet<(Time, Timer)>,
    silent: Crowd,
    strangers: Crowd,
    sights: Sights,
    effects: VecDeque<Effect>,
}

impl Router {
    /// A router that knows what was stored. An error means that the store was written by a newer bailiwick.
    pub fn new(
        now: Time,
        config: RouterConfig,
        admission: AdmissionSecret,
        stored: Vec<StoredGroup>,
    ) -> Result<Router, NotTheMasters> {
        let mut groups = HashMap::new();
        for group in stored {
            let StoredGroup { master, head, chain, expulsions } = group;
            let membership = Membership::restore(master, config.headers_per_group_max, head, chain, expulsions)?;
            groups.insert(GroupId::of(&master), Group::new(membership));
        }
        let silent = Crowd::new(config.silent_max, config.silent_per_address);
        let strangers = Crowd::new(config.strangers_max, config.strangers_per_address);
        let (peers, timers, effects) = (HashMap::new(), BTreeSet::new(), VecDeque::new());
        let sights = Sights::default();
        Ok(Router { config, admission, started: now, groups, peers, timers, silent, strangers, sights, effects })
    }

    /// Takes in what happened. Drain [`Router::poll_effect`] after it.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Connected { conn, peer, remote } => self.connected(now, conn, peer, remote),
            Input::Moved { conn, remote } => self.moved(conn, remote),
            Input::Pinged { from, token } => self.sighted(from, &token),
            Input::Frame { conn, frame } => self.frame(now, conn, frame),
            Input::Sent { conn, bytes } => self.sent(now, conn, bytes),
            Input::Closed { conn } => self.forget(now, conn),
            Input::Tick => {}
        }
        self.fire_timers(now);
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What a ticket says from now on.
    pub fn set_admission(&mut self, admission: AdmissionSecret) {
        self.admission = admission;
    }

    /// Groups that it holds.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// When to come again with [`Input::Tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn fire_timers(&mut self, now: Time) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Connection(conn) => self.overstayed(now, conn),
                Timer::Answer(conn) => self.look_for_answer(now, conn),
                Timer::Presence(group) => self.flush_presence(now, group),
            }
        }
    }

    /// A frame that the connection's phase allows goes to who decides about it; one that only an earlier phase allowed
    /// was under way when the phase changed, and is dropped.
    fn frame(&mut self, now: Time, conn: ConnId, frame: Frame) {
        self.heard_of(conn);
        let Some(peer) = self.peers.get(&conn) else { return };
        if !peer.phase.permits(&frame) {
            if !matches!(peer.phase, Phase::Leaving(_)) && !peer.permitted_before(&frame) {
                tracing::debug!(conn = conn.0, phase = ?peer.phase, "a frame that is not for it to send");
                self.close(now, conn, CloseCode::Protocol);
            }
            return;
        }
        match frame {
            Frame::Hello(hello) => self.hello(now, conn, hello),
            Frame::MasterRegister { admission } => self.register_master(now, conn, admission),
            Frame::Headers(headers) => self.headers(now, conn, headers),
            Frame::Head(head) => self.head(now, conn, head),
            Frame::OpenInvites(invites) => self.open_invites(now, conn, invites),
            Frame::ExpulsionRead => self.expulsion_read(now, conn),
            Frame::RequestChunk { request, owner, ranges } => self.request_chunk(now, conn, request, owner, ranges),
            Frame::CancelChunk { request, ranges } => {
                self.effects.push_back(Effect::Chunks(ChunkOrder::Cancel { asker: conn, request, ranges }));
            }
            Frame::ChunkRefused { request, ranges, reason } => {
                self.effects.push_back(Effect::Chunks(ChunkOrder::Refused { owner: conn, request, ranges, reason }));
            }
            Frame::ClientRegister { from: _, invite, number, envelope } => {
                self.client_register(now, conn, invite, number, envelope);
            }
            Frame::Routed { peer, number, envelope } => self.route(now, conn, peer, number, envelope),
            Frame::Broadcast { header, body } => self.broadcast(now, conn, header, body),
            Frame::Sight(token) => self.sight_announced(conn, token),
            Frame::Ping(number) => self.send(conn, Frame::Pong(number)),
            // That it came is all that counts.
            Frame::Pong(_)
            // No phase permits these: only a server says them.
            | Frame::Welcome(_)
            | Frame::MasterRegisterAck(_)
            | Frame::HeadersStored(_)
            | Frame::Presence(_)
            | Frame::MasterBack(_)
            | Frame::ServerNotReady { .. }
            | Frame::Busy { .. }
            | Frame::RegistrationHeld(_)
            | Frame::PeerHello(_)
            | Frame::Observed(_)
            | Frame::UploadChunk { .. } => {}
        }
    }

    fn send(&mut self, conn: ConnId, frame: Frame) {
        self.effects.push_back(Effect::Send { to: vec![conn], frame });
    }

    fn send_all(&mut self, to: Vec<ConnId>, frame: Frame) {
        if !to.is_empty() {
            self.effects.push_back(Effect::Send { to, frame });
        }
    }

    /// The group of a connection that has said hello to one that is known.
    fn group_of(&self, conn: ConnId) -> Option<GroupId> {
        self.peers.get(&conn)?.group.filter(|group| self.groups.contains_key(group))
    }
}
