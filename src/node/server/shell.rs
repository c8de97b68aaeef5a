//! The shell of a server: one thread that owns the core and all that its outputs are carried out with.
//!
//! Invariant: this thread never waits for a peer. What is sent is queued, what is read comes as an [`Event`], and chunk
//! bytes pass in tasks of their own.

use super::core::{ServerCore, ServerInput, ServerOutput};
use super::relay::{self, Events, Forwarding, Segments};
use crate::net::chunks::ChunkReceiver;
use crate::net::connection::Connection;
use crate::net::control::{ControlSender, SendError};
use crate::net::limits::IDLE_UNI_STREAMS;
use crate::node::clock;
use crate::node::local::ServerLoad;
use crate::state::cache::{EntryId, ForwardId, StreamId};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::store::member::DbError;
use crate::wire::chunk::ChunkHeader;
use crate::wire::close::CloseCode;
use crate::wire::codec::encode;
use crate::wire::frame::{Class, Frame};
use crate::wire::invite::AdmissionSecret;
use crate::wire::limits::{FRAME_BYTES_MAX, STRANGER_FRAME_BYTES_MAX};
use crate::wire::probe::ProbeToken;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Events that are decided in one transaction, at most.
const BATCH: usize = 128;
/// How often the core looks for what is due when nothing else wakes it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often it looks whether a master has taken what was counted.
const COUNTED_WAIT: Duration = Duration::from_millis(5);
/// Bytes that still wait for a master when what was counted is taken as sent: enough to keep a link busy until the next
/// look.
const COUNTED_LOW: usize = 256 * 1024;
/// Chunk streams that an owner may have open while it sends. With tiny chunks they are all that limits the rate.
const BUSY_UNI_STREAMS: u32 = 256;
/// How long after its last chunk an owner counts as sending.
const BUSY: Duration = Duration::from_secs(10);
/// How long to wait after a failed write, so that a full disk costs no processor.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What the core's thread is told.
pub(super) enum Event {
    Connected { conn: ConnId, connection: Connection, frame_limit: watch::Sender<usize> },
    Opened { conn: ConnId, sender: ControlSender },
    Pinged { from: SocketAddr, token: ProbeToken },
    Frame { conn: ConnId, frame: Frame },
    Closed { conn: ConnId },
    Arriving { conn: ConnId, header: ChunkHeader, stream: ChunkReceiver },
    Progress(EntryId),
    Complete(EntryId),
    Broken(EntryId),
    Forwarding(ForwardId),
    Forwarded(ForwardId),
    Unwanted(ForwardId),
    SetAdmission(AdmissionSecret, oneshot::Sender<Result<(), DbError>>),
    Load(oneshot::Sender<ServerLoad>),
    Stop,
}

/// A connection that the core knows.
struct Live {
    connection: Connection,
    /// Where its packets came from last.
    remote: SocketAddr,
    sender: Option<ControlSender>,
    frame_limit: watch::Sender<usize>,
    /// The task that takes its chunk streams, while it may open any.
    streams: Option<AbortHandle>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.streams.take().into_iter().for_each(|task| task.abort());
    }
}

/// An entry whose task holds its bytes.
struct Incoming {
    header: ChunkHeader,
    readers: mpsc::UnboundedSender<Segments>,
}

/// See the module.
pub(super) struct Shell {
    core: ServerCore,
    runtime: Handle,
    events: Events,
    live: HashMap<ConnId, Live>,
    streams: HashMap<StreamId, (ChunkHeader, ChunkReceiver)>,
    entries: HashMap<EntryId, Incoming>,
    forwards: HashMap<ForwardId, oneshot::Sender<crate::wire::close::StreamCode>>,
    counted: BTreeMap<ConnId, usize>,
    busy: BTreeMap<ConnId, Time>,
    /// What outputs led to, for the next round.
    inputs: Vec<ServerInput>,
    next_stream: u64,
    stopping: bool,
}

impl Shell {
    pub(super) fn new(core: ServerCore, runtime: Handle, events: Events) -> Shell {
        Shell {
            core,
            runtime,
            events,
            live: HashMap::new(),
            streams: HashMap::new(),
            entries: HashMap::new(),
            forwards: HashMap::new(),
            counted: BTreeMap::new(),
            busy: BTreeMap::new(),
            inputs: Vec::new(),
            next_stream: 0,
            stopping: false,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let runtime = self.runtime.clone();
        let mut batch = Vec::with_capacity(BATCH);
        while !self.stopping {
            let wait = self.wait();
            let received = runtime.block_on(async { timeout(wait, events.recv_many(&mut batch, BATCH)).await });
            if received.is_ok_and(|count| count == 0) {
                return;
            }
            batch.drain(..).for_each(|event| self.take(event));
            self.round();
        }
    }

    fn wait(&self) -> Duration {
        if !self.inputs.is_empty() {
            return Duration::ZERO;
        }
        let due = self.core.poll_timeout().map_or(LONGEST_WAIT, |at| at.since(clock::now()).min(LONGEST_WAIT));
        if self.counted.is_empty() { due } else { due.min(COUNTED_WAIT) }
    }

    /// One transaction, and what follows from it.
    fn round(&mut self) {
        self.report_counted();
        let mut inputs = std::mem::take(&mut self.inputs);
        inputs.push(ServerInput::Tick);
        match self.core.handle(clock::now(), inputs) {
            Ok(outputs) => outputs.into_iter().for_each(|output| self.carry_out(output)),
            Err(error) => self.start_over(&error),
        }
        self.calm_down();
    }

    /// Makes an input of an event.
    fn take(&mut self, event: Event) {
        let input = match event {
            Event::Connected { conn, connection, frame_limit } => {
                let (peer, remote) = (connection.peer(), connection.remote());
                self.live.insert(conn, Live { connection, remote, sender: None, frame_limit, streams: None });
                ServerInput::Connected { conn, peer, remote }
            }
            Event::Pinged { from, token } => ServerInput::Pinged { from, token },
            Event::Opened { conn, sender } => {
                self.live.entry(conn).and_modify(|live| live.sender = Some(sender));
                return;
            }
            Event::Frame { conn, frame } => {
                if let Some(live) = self.live.get_mut(&conn) {
                    let remote = live.connection.remote();
                    if std::mem::replace(&mut live.remote, remote) != remote {
                        self.inputs.push(ServerInput::Moved { conn, remote });
                    }
                }
                ServerInput::Frame { conn, frame }
            }
            Event::Closed { conn } => {
                self.forget(conn);
                ServerInput::Closed { conn }
            }
            Event::Arriving { conn, header, stream } => {
                self.next_stream += 1;
                let id = StreamId(self.next_stream);
                self.streams.insert(id, (header, stream));
                self.busy.entry(conn).and_modify(|until| *until = clock::now().after(BUSY));
                ServerInput::Arriving { conn, stream: id, header }
            }
            Event::Progress(entry) => ServerInput::Progress(entry),
            Event::Complete(entry) => ServerInput::Complete(entry),
            Event::Broken(entry) => ServerInput::Broken(entry),
            Event::Forwarding(forward) => ServerInput::Forwarding(forward),
            Event::Forwarded(forward) => {
                self.forwards.remove(&forward);
                ServerInput::Forwarded(forward)
            }
            Event::Unwanted(forward) => {
                self.forwards.remove(&forward);
                ServerInput::Unwanted(forward)
            }
            Event::SetAdmission(admission, done) => {
                // Nobody may wait for the answer any more.
                return drop(done.send(self.core.set_admission(admission)));
            }
            Event::Load(reply) => {
                let load = ServerLoad { groups: self.core.groups() as u64, connections: self.live.len() as u64 };
                return drop(reply.send(load));
            }
            Event::Stop => {
                self.stopping = true;
                return;
            }
        };
        self.inputs.push(input);
    }

    fn carry_out(&mut self, output: ServerOutput) {
        match output {
            ServerOutput::Classed { conn, class } => self.classed(conn, class),
            ServerOutput::Send { to, frame } => self.send(&to, &frame),
            ServerOutput::SendCounted { conn, frame, bytes } => {
                *self.counted.entry(conn).or_default() += bytes;
                self.send(&[conn], &frame);
            }
            ServerOutput::Close { conn, code } => self.close(conn, code),
            ServerOutput::Receive { stream, entry } => self.receive(stream, entry),
            ServerOutput::StopStream { stream, code } => {
                if let Some((_, stream)) = self.streams.remove(&stream) {
                    stream.stop(code);
                }
            }
            ServerOutput::Forward { forward, entry, asker, request } => self.forward(forward, entry, asker, request),
            ServerOutput::EndForward { forward, code } => {
                // Fails if it has just ended by itself.
                self.forwards.remove(&forward).map(|ended| ended.send(code));
            }
            ServerOutput::Drop { entry } => drop(self.entries.remove(&entry)),
        }
    }

    fn classed(&mut self, conn: ConnId, class: Class) {
        let Some(live) = self.live.get_mut(&conn) else { return };
        let (frames, chunks) = match class {
            Class::Approved | Class::Master => (FRAME_BYTES_MAX, true),
            Class::Unsettled | Class::Registered => (FRAME_BYTES_MAX, false),
            Class::Stranger | Class::Expelled | Class::UnknownGroup => (STRANGER_FRAME_BYTES_MAX, false),
        };
        live.frame_limit.send_replace(frames);
        if !chunks {
            live.streams.take().into_iter().for_each(|task| task.abort());
        } else if live.streams.is_none() {
            let taking = relay::accept_streams(conn, live.connection.clone(), self.events.clone());
            live.streams = Some(self.runtime.spawn(taking).abort_handle());
        }
    }

    /// Encoded once for all who get it.
    fn send(&mut self, to: &[ConnId], frame: &Frame) {
        let bytes = Bytes::from(encode(frame));
        for conn in to {
            if matches!(frame, Frame::UploadChunk { .. }) {
                self.make_busy(*conn);
            }
            let Some(sender) = self.live.get(conn).and_then(|live| live.sender.as_ref()) else { continue };
            match sender.try_send(bytes.clone()) {
                Ok(()) | Err(SendError::Over) => {}
                Err(SendError::TooSlow) => self.drop_peer(*conn, CloseCode::TooSlow),
                Err(SendError::TooLong) => self.drop_peer(*conn, CloseCode::Internal),
            }
        }
    }

    /// Closes a connection that the core still knows.
    fn drop_peer(&mut self, conn: ConnId, code: CloseCode) {
        tracing::debug!(conn = conn.0, %code, "closing");
        self.close(conn, code);
        self.inputs.push(ServerInput::Closed { conn });
    }

    fn close(&mut self, conn: ConnId, code: CloseCode) {
        if let Some(live) = self.live.get(&conn) {
            live.connection.close(code);
        }
        self.forget(conn);
    }

    fn forget(&mut self, conn: ConnId) {
        self.live.remove(&conn);
        self.counted.remove(&conn);
        self.busy.remove(&conn);
    }

    fn receive(&mut self, stream: StreamId, entry: EntryId) {
        let Some((header, stream)) = self.streams.remove(&stream) else { return };
        let (readers, come) = mpsc::unbounded_channel();
        self.entries.insert(entry, Incoming { header, readers });
        self.runtime.spawn(relay::receive(entry, header.stream_bytes(), stream, come, self.events.clone()));
    }

    fn forward(&mut self, forward: ForwardId, entry: EntryId, asker: ConnId, request: u64) {
        let Some((live, incoming)) = self.live.get(&asker).zip(self.entries.get(&entry)) else { return };
        let (reader, segments) = mpsc::unbounded_channel();
        if incoming.readers.send(reader).is_err() {
            tracing::debug!(entry = entry.0, "an entry broke off before it was passed on");
        }
        let (end, ended) = oneshot::channel();
        self.forwards.insert(forward, end);
        let header = ChunkHeader { request, ..incoming.header };
        let (connection, events) = (live.connection.clone(), self.events.clone());
        self.runtime.spawn(Forwarding { forward, connection, header, segments, ended, events }.run());
    }

    /// Tells the core what masters have taken of what was counted.
    fn report_counted(&mut self) {
        let live = &self.live;
        let taken = |conn: &ConnId| {
            let sender = live.get(conn).and_then(|live| live.sender.as_ref());
            sender.is_none_or(|sender| sender.queued_bytes() < COUNTED_LOW)
        };
        let inputs = &mut self.inputs;
        self.counted.retain(|conn, bytes| {
            let taken = taken(conn);
            if taken {
                inputs.push(ServerInput::Sent { conn: *conn, bytes: *bytes });
            }
            !taken
        });
    }

    /// Streams that may be open are most of an idle connection's memory, so they are many only while they are used.
    fn make_busy(&mut self, conn: ConnId) {
        let Some(live) = self.live.get(&conn) else { return };
        if self.busy.insert(conn, clock::now().after(BUSY)).is_none() {
            live.connection.raise_streams(BUSY_UNI_STREAMS);
        }
    }

    fn calm_down(&mut self) {
        let now = clock::now();
        let live = &self.live;
        self.busy.retain(|conn, until| {
            let busy = *until > now;
            if let Some(live) = live.get(conn).filter(|_| !busy) {
                live.connection.raise_streams(IDLE_UNI_STREAMS);
            }
            busy
        });
    }

    /// The core has forgotten everybody, as it could not store what they said.
    fn start_over(&mut self, error: &dyn std::error::Error) {
        tracing::warn!(%error, "closing all connections: they come back when the disk is well");
        self.live.drain().for_each(|(_, live)| live.connection.close(CloseCode::Internal));
        self.streams.clear();
        self.entries.clear();
        self.forwards.clear();
        self.counted.clear();
        self.busy.clear();
        self.inputs.clear();
        std::thread::sleep(STORE_PAUSE);
    }
}
