//! A port of the router for this device: PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP IGD, for IPv4.
//!
//! What the router says is believed as little as what a peer says: the address is one more candidate.

use portmapper::{Client, Config};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// A router that has mapped nothing after this time does not.
const ANSWER: Duration = Duration::from_secs(4);
/// One that did not is asked again after this time.
const RETRY: Duration = Duration::from_secs(600);
/// How long it may take to give a port back; what is not given back ends by itself, after two hours at most.
pub const GIVE_BACK: Duration = Duration::from_millis(700);

/// The two ends by which a node and its router speak.
pub struct PortMap {
    /// Which port is to be mapped, or none. Whatever is sent has the router asked anew; when this end is gone, the port is
    /// given back.
    pub ask: watch::Sender<Option<NonZeroU16>>,
    /// At which address it is mapped, whenever that changes; none when the router does not map it. Ends after the port was
    /// given back.
    pub mapped: mpsc::Receiver<Option<SocketAddr>>,
}

impl PortMap {
    /// The router that this machine's way out of its network leads through. Nothing is sent before a port is asked for.
    pub fn of_this_machine() -> PortMap {
        let (ask, asked) = watch::channel(None);
        let (tell, mapped) = mpsc::channel(1);
        tokio::spawn(run(asked, tell));
        PortMap { ask, mapped }
    }
}

async fn run(mut asked: watch::Receiver<Option<NonZeroU16>>, tell: mpsc::Sender<Option<SocketAddr>>) {
    loop {
        let port = *asked.borrow_and_update();
        let goes_on = match port {
            Some(port) => keep(port, &mut asked, &tell).await,
            None => asked.changed().await.is_ok(),
        };
        if !goes_on {
            return;
        }
    }
}

/// Keeps a port mapped until something else is asked for. Says whether anything may be asked for any more.
async fn keep(
    port: NonZeroU16,
    asked: &mut watch::Receiver<Option<NonZeroU16>>,
    tell: &mpsc::Sender<Option<SocketAddr>>,
) -> bool {
    // What is known of one router counts for no other one, so each time this begins from nothing.
    let client = Client::new(Config::default());
    let mut external = client.watch_external_address();
    let mut told = None;
    let mut next = Instant::now();
    let mut tries = 0_u32;
    let goes_on = loop {
        let now = external.borrow_and_update().map(SocketAddr::from);
        let is_known = now.is_some() || told.flatten().is_some() || tries > 1;
        if is_known && told != Some(now) {
            tracing::debug!(?now, "the router's answer");
            told = Some(now);
            if tell.send(now).await.is_err() {
                break false;
            }
        }
        tokio::select! {
            changed = asked.changed() => break changed.is_ok(),
            changed = external.changed() => if changed.is_err() { break false },
            () = sleep_until(next) => {
                tries = tries.saturating_add(1);
                next = Instant::now() + if tries == 1 { ANSWER } else { RETRY };
                if now.is_none() {
                    // What is asked before it is known which protocol the router speaks comes late, or not at all.
                    let _ = timeout(ANSWER, client.probe()).await;
                    client.update_local_port(port);
                    client.procure_mapping();
                }
            }
        }
    };
    give_back(&client).await;
    goes_on
}

async fn give_back(client: &Client) {
    if client.watch_external_address().borrow().is_some() {
        client.deactivate();
        // Requests are handled one after the other: when this one is, the port has been given back.
        let _ = timeout(GIVE_BACK, client.probe()).await;
    }
}
