//! Carries out what the core wants: one task that owns the connections and the questions of the local API.

use super::dial::{self, Dialed};
use super::io::{Input, Output};
use super::plane::Command as PlaneCommand;
use super::prepare::prepare;
use super::shell::Ending;
use crate::net::connection::Connection;
use crate::net::control::ControlSender;
use crate::net::endpoint::Endpoint;
use crate::node::local::{self, Command, ErrorCode, Link, LocalError, LocalRequest, Reply, now_rfc3339};
use crate::state::conn::ConnId;
use crate::wire::beacon::Announcement;
use crate::wire::close::CloseCode;
use crate::wire::codec::encode;
use crate::wire::frame::{Frame, PROTOCOL_VERSION, PeerHello};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// What the dispatcher is told.
pub(super) enum Event {
    /// What the core wants, in order.
    Outputs(Vec<Output>),
    /// A dial succeeded, or who arrived opened its control stream.
    Dialed(Dialed),
    /// Somebody dialled this device.
    Arrived(Connection),
    /// A connection is over.
    Over(ConnId),
    /// The local API asks.
    Asked(LocalRequest),
    /// The state could not be written, for this reason: all connections are over, and nothing is decided until the
    /// next outputs.
    Lost(String),
    /// The time to claim what is there is over.
    Stopped,
}

/// Bytes that may wait for the network when the next large frame joins them: enough to keep it busy for a moment, and
/// little beside the queue's limit.
const BULK_QUEUED_MAX: usize = 512 * 1024;
/// How often that is looked at.
const BULK_LOOK: Duration = Duration::from_millis(5);

/// How long a stopping node may take to claim what it has downloaded; what it could not claim comes again.
const LAST_CLAIMS: Duration = Duration::from_millis(500);

/// What a node's answers are completed with.
pub(super) struct Surroundings {
    pub(super) state_dir: PathBuf,
    pub(super) api: String,
}

/// What a dispatcher is made of.
pub(super) struct Parts {
    pub(super) endpoint: Endpoint,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) core: mpsc::Sender<Input>,
    pub(super) plane: mpsc::UnboundedSender<PlaneCommand>,
    /// Where this device is announced on its local network, if it is.
    pub(super) lan: Option<watch::Sender<Option<Announcement>>>,
    /// The router, if it is asked for a port.
    pub(super) router: Option<watch::Sender<Option<NonZeroU16>>>,
    pub(super) watchers: broadcast::Sender<local::Event>,
    pub(super) surroundings: Surroundings,
    /// Told once, when the node ends; gone then.
    pub(super) stop: Option<oneshot::Sender<Result<Ending, LocalError>>>,
}

pub(super) struct Dispatcher {
    parts: Parts,
    connections: HashMap<ConnId, (Connection, ControlSender)>,
    /// All addresses of a server, for the connection to it.
    servers: HashMap<ConnId, Vec<SocketAddr>>,
    /// Those that have no control stream yet.
    arrived: HashMap<ConnId, Connection>,
    /// The connection whose chunk streams are taken.
    streaming: Option<ConnId>,
    questions: HashMap<u64, oneshot::Sender<Result<Reply, LocalError>>>,
    next_connection: u64,
    next_question: u64,
    /// What whoever asks is told while there is no core.
    lost: Option<LocalError>,
}

impl Dispatcher {
    pub(super) fn new(parts: Parts) -> Dispatcher {
        Dispatcher {
            parts,
            connections: HashMap::new(),
            servers: HashMap::new(),
            arrived: HashMap::new(),
            streaming: None,
            questions: HashMap::new(),
            next_connection: 0,
            next_question: 0,
            lost: None,
        }
    }

    /// Works until the node is stopped.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Outputs(outputs) => {
                    self.lost = None;
                    outputs.into_iter().for_each(|output| self.carry_out(output));
                }
                Event::Arrived(connection) => self.arrived(connection),
                Event::Dialed(dialed) => {
                    self.arrived.remove(&dialed.id);
                    if !dialed.addresses.is_empty() {
                        self.servers.insert(dialed.id, dialed.addresses);
                    }
                    self.connections.insert(dialed.id, (dialed.connection, dialed.control));
                }
                Event::Over(id) => {
                    self.arrived.remove(&id);
                    self.servers.remove(&id);
                    self.connections.remove(&id);
                }
                Event::Asked(request) => self.asked(request),
                Event::Stopped => self.end(Ok(Ending::Stopped)),
                Event::Lost(why) => {
                    self.close_all(CloseCode::Internal);
                    let lost = LocalError::new(
                        ErrorCode::Failed,
                        format!("the state could not be written: {why}"),
                        "the node goes on by itself when the disk can be written; then do it again",
                    );
                    self.questions.drain().for_each(|(_, question)| drop(question.send(Err(lost.clone()))));
                    self.lost = Some(lost);
                }
            }
            if self.parts.stop.is_none() {
                break;
            }
        }
        self.close_all(CloseCode::Done);
    }

    fn close_all(&mut self, code: CloseCode) {
        for (_, (connection, _)) in self.connections.drain() {
            connection.close(code);
        }
        self.arrived.drain().for_each(|(_, connection)| connection.close(code));
    }

    fn new_id(&mut self) -> ConnId {
        self.next_connection += 1;
        ConnId(self.next_connection)
    }

    fn arrived(&mut self, connection: Connection) {
        // The core, which closes whom it does not know, waits for its disk.
        if self.lost.is_some() {
            return connection.close(CloseCode::Internal);
        }
        let id = self.new_id();
        self.arrived.insert(id, connection.clone());
        let (events, core) = (self.parts.events.clone(), self.parts.core.clone());
        tokio::spawn(dial::arrived(id, connection, events, core));
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial(attempt, server) => {
                let id = self.new_id();
                let (endpoint, events, core) =
                    (self.parts.endpoint.clone(), self.parts.events.clone(), self.parts.core.clone());
                tokio::spawn(dial::dial(endpoint, id, attempt, server, events, core));
            }
            Output::DialPeer(number, key, address) => {
                let id = self.new_id();
                let (endpoint, events, core) =
                    (self.parts.endpoint.clone(), self.parts.events.clone(), self.parts.core.clone());
                tokio::spawn(dial::dial_peer(endpoint, id, number, (key, address), events, core));
            }
            Output::Announce(announcement) => {
                if let Some(lan) = &self.parts.lan {
                    lan.send_replace(announcement);
                }
            }
            Output::MapPort(asks) => {
                if let (Some(router), Ok(local)) = (&self.parts.router, self.parts.endpoint.local_addr()) {
                    router.send_replace(NonZeroU16::new(local.port()).filter(|_| asks));
                }
            }
            Output::Probe(to, probe) => self.parts.endpoint.send_probe(to, &probe),
            Output::ProbeServer(id, six, probe) => {
                // One of them, always the same: others may be reached from another address, and the server tells of changes.
                let mut addresses = self.servers.get(&id).into_iter().flatten();
                if let Some(address) = addresses.find(|address| address.ip().to_canonical().is_ipv6() == six) {
                    self.parts.endpoint.send_probe(*address, &probe);
                }
            }
            Output::PeerHello(id, group, head) => {
                if let Some((connection, control)) = self.connections.get(&id) {
                    let observed = connection.remote();
                    let hello = Frame::PeerHello(PeerHello { version: PROTOCOL_VERSION, group, head, observed });
                    let _ = control.try_send(encode(&hello));
                }
            }
            Output::PeerStreams(id, group, streams) => {
                if let Some((connection, _)) = self.connections.get(&id) {
                    connection.raise_streams(streams);
                    self.tell_plane(PlaneCommand::PeerStreams(id, connection.clone(), group));
                }
            }
            Output::Send(id, frame) => {
                if let Some((connection, control)) = self.connections.get(&id)
                    && let Err(error) = control.try_send(encode(&*frame))
                {
                    tracing::warn!(%error, "a frame can't be sent");
                    connection.close(CloseCode::TooSlow);
                }
            }
            Output::SendBulk(id, frame) => {
                let Some((connection, control)) = self.connections.get(&id) else { return };
                if let Err(error) = control.try_send(encode(&*frame)) {
                    tracing::warn!(%error, "a frame can't be sent");
                    return connection.close(CloseCode::TooSlow);
                }
                let (connection, control, core) = (connection.clone(), control.clone(), self.parts.core.clone());
                tokio::spawn(async move {
                    let drained = async {
                        while control.queued_bytes() > BULK_QUEUED_MAX {
                            tokio::time::sleep(BULK_LOOK).await;
                        }
                    };
                    tokio::select! {
                        () = drained => drop(core.send(Input::Drained(id)).await),
                        _ = connection.closed() => {}
                    }
                });
            }
            Output::Close(id, code) => {
                let arrived = self.arrived.remove(&id);
                let connection = self.connections.remove(&id).map(|(connection, _)| connection).or(arrived);
                if let Some(connection) = connection {
                    connection.close(code);
                }
            }
            Output::Streams(id, group, streams) => {
                if let Some((connection, _)) = self.connections.get(&id) {
                    connection.raise_streams(streams);
                    if self.streaming.replace(id) != Some(id) {
                        self.tell_plane(PlaneCommand::Streams(connection.clone(), group));
                    }
                }
            }
            Output::Upload(upload, source) => {
                if let Some((connection, _)) = self.connections.get(&upload.conn) {
                    self.tell_plane(PlaneCommand::Upload(connection.clone(), upload, source));
                }
            }
            Output::Unsend(conn, request, ranges) => self.tell_plane(PlaneCommand::Unsend(conn, request, ranges)),
            Output::StopUploads(which) => self.tell_plane(PlaneCommand::StopUploads(which)),
            Output::Epochs(epochs) => self.tell_plane(PlaneCommand::Epochs(epochs)),
            Output::Open(place) => self.tell_plane(PlaneCommand::Open(place)),
            Output::Expect(request, units, by) => self.tell_plane(PlaneCommand::Expect(request, units, by)),
            Output::Join(request, units) => self.tell_plane(PlaneCommand::Join(request, units)),
            Output::Forget(request, units) => self.tell_plane(PlaneCommand::Forget(request, units)),
            Output::Sync(transfer, chunks) => self.tell_plane(PlaneCommand::Sync(transfer, chunks)),
            Output::Look(job, folder, looks) => self.tell_plane(PlaneCommand::Look(job, folder, looks)),
            Output::Finish(transfers) => self.tell_plane(PlaneCommand::Finish(transfers)),
            Output::Drop(transfer, leftover) => self.tell_plane(PlaneCommand::Drop(transfer, leftover)),
            Output::Scan(id, order) => self.tell_plane(PlaneCommand::Scan(id, order)),
            Output::Hash(id, files) => self.tell_plane(PlaneCommand::Hash(id, files)),
            Output::EndScan(id) => self.tell_plane(PlaneCommand::EndScan(id)),
            Output::DeleteCopies(copies) => self.tell_plane(PlaneCommand::DeleteCopies(copies)),
            Output::Reply(token, reply) => self.reply(token, reply),
            Output::Event(event, detail) => self.announce(event, detail),
            Output::Fatal(error) => self.end(Err(error)),
            Output::Stopped => self.end(Ok(Ending::Stopped)),
            Output::Erase => self.end(Ok(Ending::Left)),
        }
    }

    fn tell_plane(&self, command: PlaneCommand) {
        let _ = self.parts.plane.send(command);
    }

    fn end(&mut self, outcome: Result<Ending, LocalError>) {
        if let Some(stop) = self.parts.stop.take() {
            let _ = stop.send(outcome);
        }
    }

    fn reply(&mut self, token: u64, reply: Result<Reply, LocalError>) {
        let Some(question) = self.questions.remove(&token) else { return };
        let completed = reply.map(|reply| match reply {
            Reply::Status(mut status) => {
                status.state_dir.clone_from(&self.parts.surroundings.state_dir);
                status.api.clone_from(&self.parts.surroundings.api);
                status.server_rtt_ms = self.server_rtt_ms().filter(|_| status.server == Link::Connected);
                Reply::Status(status)
            }
            Reply::Doctor(mut found) => {
                for device in &mut found.devices {
                    let connection = device.conn.and_then(|conn| self.connection(conn));
                    device.address = connection.map(|connection| connection.remote().to_string());
                    device.rtt_ms = connection.map(|connection| connection.rtt().as_millis() as u64);
                }
                Reply::Doctor(found)
            }
            Reply::Clients(mut rows) => {
                for row in &mut rows {
                    let connection = row.conn.and_then(|conn| self.connection(conn));
                    row.rtt_ms = connection.map(|connection| connection.rtt().as_millis() as u64);
                }
                Reply::Clients(rows)
            }
            other => other,
        });
        let _ = question.send(completed);
    }

    fn connection(&self, conn: u64) -> Option<&Connection> {
        self.connections.get(&ConnId(conn)).map(|(connection, _)| connection)
    }

    /// The round trip to the server, on the connection that chunks come on.
    fn server_rtt_ms(&self) -> Option<u64> {
        let (connection, _) = self.connections.get(&self.streaming?)?;
        Some(connection.rtt().as_millis() as u64)
    }

    fn announce(&self, event: &'static str, detail: Vec<(&'static str, String)>) {
        tracing::debug!(event, "happened");
        let detail = detail.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        // Nobody may be watching.
        let _ = self.parts.watchers.send(local::Event { event: event.to_owned(), time: now_rfc3339(), detail });
    }

    fn asked(&mut self, request: LocalRequest) {
        let LocalRequest { command, reply } = request;
        match command {
            Command::Stop => {
                self.announce("stopping", Vec::new());
                let _ = reply.send(Ok(Reply::Done));
                let (core, events) = (self.parts.core.clone(), self.parts.events.clone());
                tokio::spawn(async move {
                    let _ = core.send(Input::Stopping).await;
                    tokio::time::sleep(LAST_CLAIMS).await;
                    let _ = events.send(Event::Stopped);
                });
            }
            command => {
                if let Some(lost) = &self.lost {
                    return drop(reply.send(Err(lost.clone())));
                }
                self.next_question += 1;
                let token = self.next_question;
                self.questions.insert(token, reply);
                let core = self.parts.core.clone();
                tokio::spawn(async move {
                    let input = match tokio::task::spawn_blocking(move || prepare(command)).await {
                        Ok(Ok(command)) => Input::Local(token, command),
                        Ok(Err(error)) => Input::Refused(token, error),
                        Err(_) => return,
                    };
                    let _ = core.send(input).await;
                });
            }
        }
    }
}
