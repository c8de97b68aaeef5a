//! Incoming handshakes, all at once. Each holds one of a bounded number of places from the first look until somebody
//! accepts the connection; a slow or hostile one holds nothing else.

use super::connection::{Connection, canonical};
use super::endpoint::Config;
use super::tls::peer_key;
use quinn::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// How many handshakes at once, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    before_retry: usize,
    max: usize,
    timeout: Duration,
}

impl Policy {
    pub(super) fn of(config: &Config<'_>) -> Policy {
        Policy {
            before_retry: config.handshakes_before_retry,
            max: config.handshakes_max,
            timeout: config.handshake_timeout,
        }
    }
}

/// Connections that wait to be accepted. The queue needs no bound of its own: each of them holds a place.
#[derive(Debug)]
pub(super) struct Arrivals {
    queue: Mutex<UnboundedReceiver<Arrival>>,
    task: JoinHandle<()>,
}

type Arrival = (Connection, OwnedSemaphorePermit);

impl Arrivals {
    pub(super) async fn next(&self) -> Option<Connection> {
        let (connection, _place) = self.queue.lock().await.recv().await?;
        Some(connection)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes handshakes until `endpoint` is closed or the result is dropped.
pub(super) fn start(endpoint: quinn::Endpoint, policy: Policy) -> Arrivals {
    let (arrived, queue) = unbounded_channel();
    let task = tokio::spawn(take(endpoint, policy, arrived));
    Arrivals { queue: Mutex::new(queue), task }
}

async fn take(endpoint: quinn::Endpoint, policy: Policy, arrived: UnboundedSender<Arrival>) {
    let places = Arc::new(Semaphore::new(policy.max));
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                if let Some((incoming, place)) = screen(incoming, policy, &places) {
                    handshakes.spawn(shake(incoming, place, policy.timeout, arrived.clone()));
                }
            }
            Some(_) = handshakes.join_next() => {}
        }
    }
    // What is under way ends by itself: its endpoint is closed.
    while handshakes.join_next().await.is_some() {}
}

/// Lets an attempt in if there is a place, and if it has proved its address when places are getting few.
fn screen(incoming: Incoming, policy: Policy, places: &Arc<Semaphore>) -> Option<(Incoming, OwnedSemaphorePermit)> {
    let in_progress = policy.max - places.available_permits();
    if in_progress >= policy.before_retry && !incoming.remote_address_validated() {
        tracing::debug!(remote = %canonical(incoming.remote_address()), "asked a dialler to prove its address");
        // Cannot fail: an address that is not validated may be asked.
        let _ = incoming.retry();
        return None;
    }
    match places.clone().try_acquire_owned() {
        Ok(place) => Some((incoming, place)),
        Err(_) => {
            tracing::debug!(remote = %canonical(incoming.remote_address()), "refused a dialler: too many handshakes");
            incoming.refuse();
            None
        }
    }
}

async fn shake(incoming: Incoming, place: OwnedSemaphorePermit, limit: Duration, arrived: UnboundedSender<Arrival>) {
    let remote = canonical(incoming.remote_address());
    let connection = match timeout(limit, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "a handshake failed"),
        Err(_) => return tracing::debug!(%remote, "a handshake took too long"),
    };
    // A handshake that finished has a checked certificate, so there is a key.
    if let Some(peer) = peer_key(&connection) {
        // Nobody accepts any more: dropping the connection closes it.
        let _ = arrived.send((Connection::new(connection, peer), place));
    }
}
