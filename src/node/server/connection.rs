//! One connection's way in: its control stream, frame by frame, to the core. Nothing is decided here but what is no
//! frame at all.

use super::relay::Events;
use super::shell::Event;
use crate::net::connection::Connection;
use crate::net::control::{ControlError, ControlReceiver, accept_control};
use crate::net::endpoint::Endpoint;
use crate::net::limits::CONTROL_QUEUE_BYTES_MAX;
use crate::state::conn::ConnId;
use crate::wire::close::CloseCode;
use crate::wire::codec::decode;
use crate::wire::limits::STRANGER_FRAME_BYTES_MAX;
use crate::wire::probe::Probe;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;

/// How long a connection may take to open its control stream: it is what a dialler does first.
const CONTROL_WAIT: Duration = Duration::from_secs(10);

/// Pings of [`PINGS_SPAN`] that are looked at, at most: ten times what ten thousand devices send.
const PINGS_MAX: u32 = 5_000;
/// See [`PINGS_MAX`].
const PINGS_SPAN: Duration = Duration::from_secs(1);

/// Takes connections until the endpoint is closed.
pub(super) async fn accept(endpoint: Endpoint, events: Events) {
    let mut next = 0;
    while let Some(connection) = endpoint.accept().await {
        next += 1;
        let conn = ConnId(next);
        let (frame_limit, limits) = watch::channel(STRANGER_FRAME_BYTES_MAX);
        let connected = Event::Connected { conn, connection: connection.clone(), frame_limit };
        if events.send(connected).await.is_err() {
            return;
        }
        tokio::spawn(serve(conn, connection, limits, events.clone()));
    }
}

/// Passes pings on until the endpoint is gone; those that are too many are lost, as they might be on their way.
pub(super) async fn pings(mut probes: Receiver<(SocketAddr, Probe)>, events: Events) {
    let (mut since, mut count) = (Instant::now(), 0);
    loop {
        let (from, token) = match probes.recv().await {
            Ok((from, Probe::Ping { token, .. })) => (from, token),
            Ok((_, Probe::Pong { .. })) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        if since.elapsed() >= PINGS_SPAN {
            (since, count) = (Instant::now(), 0);
        }
        count += 1;
        if count <= PINGS_MAX && matches!(events.try_send(Event::Pinged { from, token }), Err(TrySendError::Closed(_)))
        {
            return;
        }
    }
}

async fn serve(conn: ConnId, connection: Connection, limits: watch::Receiver<usize>, events: Events) {
    match accept_control(&connection, CONTROL_QUEUE_BYTES_MAX, CONTROL_WAIT).await {
        Ok((sender, receiver)) => {
            let opened = events.send(Event::Opened { conn, sender }).await;
            if opened.is_ok() {
                let code = pass_on(conn, receiver, limits, &events).await;
                connection.close(code);
            }
        }
        Err(error) => {
            tracing::debug!(conn = conn.0, %error, "no control stream");
            connection.close(CloseCode::Protocol);
        }
    }
    // Fails when the server ends.
    let _ = events.send(Event::Closed { conn }).await;
}

/// Passes frames on until the stream ends; then says how to close.
async fn pass_on(
    conn: ConnId,
    mut receiver: ControlReceiver,
    mut limits: watch::Receiver<usize>,
    events: &Events,
) -> CloseCode {
    receiver.set_limit(*limits.borrow_and_update());
    let mut limited = true;
    loop {
        let received = tokio::select! {
            biased;
            changed = limits.changed(), if limited => {
                limited = changed.is_ok();
                receiver.set_limit(*limits.borrow_and_update());
                continue;
            }
            received = receiver.recv() => received,
        };
        let bytes = match received {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return CloseCode::Done,
            Err(error) => {
                tracing::debug!(conn = conn.0, %error, "the control stream is over");
                return code_of(&error);
            }
        };
        let Ok(frame) = decode(&bytes) else {
            tracing::debug!(conn = conn.0, "bytes that are no frame of this version");
            return CloseCode::Protocol;
        };
        if events.send(Event::Frame { conn, frame }).await.is_err() {
            return CloseCode::ShuttingDown;
        }
    }
}

fn code_of(error: &ControlError) -> CloseCode {
    match error {
        ControlError::TooLong { .. } | ControlError::Truncated | ControlError::Abandoned => CloseCode::Protocol,
        ControlError::Silent | ControlError::Lost(_) => CloseCode::Done,
    }
}
