//! From an address to a connection with a control stream, and from its frames to the core.

use super::core::MemberCore;
use super::dispatch::Event;
use super::io::{Input, Lost};
use crate::net::connection::{CloseReason, Connection};
use crate::net::control::{ControlError, ControlReceiver, ControlSender, accept_control, open_control};
use crate::net::endpoint::Endpoint;
use crate::net::limits::CONTROL_QUEUE_BYTES_MAX;
use crate::state::conn::ConnId;
use crate::wire::close::CloseCode;
use crate::wire::codec::encode;
use crate::wire::frame::Frame;
use crate::wire::ids::DeviceKey;
use crate::wire::invite::{Address, ServerAddress};
use crate::wire::limits::{FRAME_BYTES_MAX, STRANGER_FRAME_BYTES_MAX};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a name may take to be looked up.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long who dialled this device may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection, to a server or to another member.
pub(super) struct Dialed {
    pub(super) id: ConnId,
    pub(super) connection: Connection,
    pub(super) control: ControlSender,
    /// All addresses of the server, if it is one.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Dials all addresses of a server at once; then reads frames until the connection ends.
pub(super) async fn dial(
    endpoint: Endpoint,
    id: ConnId,
    attempt: u64,
    server: ServerAddress,
    events: mpsc::UnboundedSender<Event>,
    core: mpsc::Sender<Input>,
) {
    match connect(&endpoint, &server).await {
        Ok((addresses, connection, control, receiver)) => {
            let dialed = Dialed { id, connection: connection.clone(), control: control.clone(), addresses };
            // The dispatcher knows the connection before the core can speak of it.
            if events.send(Event::Dialed(dialed)).is_ok() && core.send(Input::Dialed(id, attempt)).await.is_ok() {
                let lost = read(id, receiver, &control, &connection, &core, true).await;
                let _ = core.send(Input::Lost(id, lost)).await;
                let _ = events.send(Event::Over(id));
            }
        }
        Err(why) => {
            let _ = core.send(Input::DialFailed(attempt, why)).await;
        }
    }
}

/// Dials a member straight; then reads frames until the connection ends.
pub(super) async fn dial_peer(
    endpoint: Endpoint,
    id: ConnId,
    number: u64,
    (key, address): (DeviceKey, SocketAddr),
    events: mpsc::UnboundedSender<Event>,
    core: mpsc::Sender<Input>,
) {
    let dialed = async {
        let connection = endpoint.dial_straight(address, key).await.map_err(|error| error.to_string())?;
        let control = open_control(&connection, CONTROL_QUEUE_BYTES_MAX).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((connection, control))
    };
    match dialed.await {
        Ok((connection, (control, receiver))) => {
            let dialed = Dialed { id, connection: connection.clone(), control: control.clone(), addresses: Vec::new() };
            if events.send(Event::Dialed(dialed)).is_ok() && core.send(Input::PeerDialed(number, id)).await.is_ok() {
                let lost = read(id, receiver, &control, &connection, &core, true).await;
                let _ = core.send(Input::Lost(id, lost)).await;
                let _ = events.send(Event::Over(id));
            }
        }
        Err(why) => drop(core.send(Input::PeerDialFailed(number, why)).await),
    }
}

/// Somebody dialled this device: the core looks at the key at once, and hears what is said on the control stream.
pub(super) async fn arrived(
    id: ConnId,
    connection: Connection,
    events: mpsc::UnboundedSender<Event>,
    core: mpsc::Sender<Input>,
) {
    if core.send(Input::PeerArrived(id, connection.peer())).await.is_err() {
        return;
    }
    let lost = match accept_control(&connection, CONTROL_QUEUE_BYTES_MAX, HELLO_TIMEOUT).await {
        Ok((control, mut receiver)) => {
            receiver.set_limit(STRANGER_FRAME_BYTES_MAX);
            let dialed = Dialed { id, connection: connection.clone(), control: control.clone(), addresses: Vec::new() };
            let _ = events.send(Event::Dialed(dialed));
            read(id, receiver, &control, &connection, &core, false).await
        }
        Err(_) => {
            connection.close(CloseCode::Protocol);
            lost(connection.closed().await)
        }
    };
    let _ = core.send(Input::Lost(id, lost)).await;
    let _ = events.send(Event::Over(id));
}

async fn connect(
    endpoint: &Endpoint,
    server: &ServerAddress,
) -> Result<(Vec<SocketAddr>, Connection, ControlSender, ControlReceiver), String> {
    let addresses = resolve(&server.addresses).await?;
    let connection = endpoint.dial_any(&addresses, server.key).await.map_err(|error| error.to_string())?;
    let (sender, receiver) =
        open_control(&connection, CONTROL_QUEUE_BYTES_MAX).await.map_err(|error| error.to_string())?;
    Ok((addresses, connection, sender, receiver))
}

async fn resolve(addresses: &[Address]) -> Result<Vec<SocketAddr>, String> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for address in addresses {
        match address {
            Address::V4(ip, port) => found.push(SocketAddr::new(IpAddr::from(*ip), *port)),
            Address::V6(ip, port) => found.push(SocketAddr::new(IpAddr::from(*ip), *port)),
            Address::Name(name, port) => {
                match tokio::time::timeout(LOOK_UP_TIMEOUT, tokio::net::lookup_host((name.as_str(), *port))).await {
                    Ok(Ok(resolved)) => found.extend(resolved),
                    Ok(Err(error)) => errors.push(format!("{name}: {error}")),
                    Err(_) => errors.push(format!("{name}: its address could not be looked up in time")),
                }
            }
        }
    }
    if found.is_empty() { Err(errors.join("; ")) } else { Ok(found) }
}

async fn read(
    id: ConnId,
    mut receiver: ControlReceiver,
    control: &ControlSender,
    connection: &Connection,
    core: &mpsc::Sender<Input>,
    mut is_known: bool,
) -> Lost {
    loop {
        let bytes = match receiver.recv().await {
            Ok(Some(bytes)) => bytes,
            // Closing what is over already would put this side's code in place of the other's.
            Err(ControlError::Lost(reason)) => return lost(reason),
            Ok(None) | Err(_) => break,
        };
        match MemberCore::decode_frame(&bytes) {
            Some(frame) => {
                // Who has said hello may say more: the core closes the connection if it may not.
                if matches!(frame, Frame::PeerHello(_)) {
                    is_known = true;
                }
                if is_known {
                    receiver.set_limit(FRAME_BYTES_MAX);
                }
                // At once: the server lets go who does not answer, and the core may be busy with a large snapshot.
                if let (Frame::Ping(number), true) = (&frame, is_known) {
                    let number = *number;
                    let _ = control.try_send(encode(&Frame::Pong(number)));
                }
                if core.send(Input::Frame(id, Box::new(frame))).await.is_err() {
                    return Lost::Broken;
                }
            }
            None => {
                tracing::warn!("the server sent something that this bailiwick does not know");
                connection.close(CloseCode::Protocol);
            }
        }
    }
    connection.close(CloseCode::Done);
    lost(connection.closed().await)
}

fn lost(reason: CloseReason) -> Lost {
    match reason {
        CloseReason::Peer(code) => Lost::Closed(code),
        CloseReason::Reset | CloseReason::TimedOut | CloseReason::LocallyClosed | CloseReason::Transport(_) => {
            Lost::Broken
        }
    }
}
