//! Devices on the same local network, by multicast DNS (RFC 6762, RFC 6763). What stands in the records is random to who does
//! not know the group; instance and host have random names, too.

use crate::wire::beacon::{Announcement, Beacon};
use data_encoding::HEXLOWER;
use mdns_sd::{IfKind, IfPredicate, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The service type.
pub const SERVICE: &str = "_bailiwick._udp.local.";
/// The key in its TXT record that holds the beacon, in hexadecimal digits.
const BEACON: &str = "b";
/// Instances that are remembered as seen, at most.
const SEEN_MAX: usize = 256;
/// Addresses of one instance that are told, at most.
const ADDRESSES_MAX: usize = 16;
/// What is seen is told this often at most, whatever is announced.
const TELL_MIN: Duration = Duration::from_secs(1);
/// What is seen is told this often at least: who hears it forgets what is not told again.
const TELL_MAX: Duration = Duration::from_secs(30);

/// What is seen: beacons, each with an address.
pub type Seen = Vec<(Beacon, SocketAddr)>;

/// The two ends by which a node and its local network speak.
pub struct Lan {
    /// What the node says of itself; nothing ends it.
    pub announce: watch::Sender<Option<Announcement>>,
    /// All that is seen, whenever that changes, and from time to time.
    pub seen: mpsc::Receiver<Seen>,
}

impl Lan {
    /// The local networks of this machine. Nothing is sent before there is something to announce. Where multicast does not
    /// work nobody is seen, and nothing else happens.
    pub fn of_this_machine() -> Lan {
        let (announce, announced) = watch::channel(None);
        let (tell, seen) = mpsc::channel(1);
        tokio::spawn(run(announced, tell));
        Lan { announce, seen }
    }
}

async fn run(mut announced: watch::Receiver<Option<Announcement>>, tell: mpsc::Sender<Seen>) {
    loop {
        let Ok(announcement) = announced.wait_for(Option::is_some).await.map(|it| it.clone()) else { return };
        let Some(announcement) = announcement else { continue };
        match Station::start(&announcement) {
            Ok(station) => station.work(&mut announced, &tell).await,
            Err(error) => {
                return tracing::debug!(%error, "devices on the local network can't be found");
            }
        }
    }
}

/// An announced service, and what is seen of others.
struct Station {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    /// Instance and host.
    name: String,
    others: HashMap<String, Vec<(Beacon, SocketAddr)>>,
}

impl Station {
    fn start(announcement: &Announcement) -> mdns_sd::Result<Station> {
        let daemon = ServiceDaemon::new()?;
        // No neighbour in a public network need know.
        let private = IfPredicate::new(|interface| is_private(interface.ip()));
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(IfKind::Predicate(private))?;
        let events = daemon.browse(SERVICE)?;
        // Half of the tag: random to others, and another one at each start.
        let name = HEXLOWER.encode(&announcement.beacon.to_bytes()[24..]);
        let station = Station { daemon, events, name, others: HashMap::new() };
        station.announce(announcement)?;
        Ok(station)
    }

    /// Announces it, or announces it anew.
    fn announce(&self, announcement: &Announcement) -> mdns_sd::Result<()> {
        let ips: Vec<IpAddr> = announcement.addresses.iter().map(SocketAddr::ip).collect();
        let port = announcement.addresses.first().map_or(0, SocketAddr::port);
        let beacon = HEXLOWER.encode(&announcement.beacon.to_bytes());
        let host = format!("{}.local.", self.name);
        let record = [(BEACON, beacon.as_str())];
        self.daemon.register(ServiceInfo::new(SERVICE, &self.name, &host, &ips[..], port, &record[..])?)
    }

    /// Works until nothing is announced any more.
    async fn work(mut self, announced: &mut watch::Receiver<Option<Announcement>>, tell: &mpsc::Sender<Seen>) {
        let (mut told, mut changed) = (Instant::now(), false);
        loop {
            let next = told + if changed { TELL_MIN } else { TELL_MAX };
            tokio::select! {
                event = self.events.recv_async() => match event {
                    Ok(event) => changed |= self.saw(event),
                    Err(error) => return tracing::debug!(%error, "the local network is looked at no more"),
                },
                now = announced.changed() => {
                    let announcement = announced.borrow_and_update().clone();
                    match announcement.filter(|_| now.is_ok()) {
                        Some(announcement) => {
                            if let Err(error) = self.announce(&announcement) {
                                tracing::debug!(%error, "new addresses can't be announced on the local network");
                            }
                        }
                        None => return self.leave().await,
                    }
                }
                () = sleep_until(next) => {
                    (told, changed) = (Instant::now(), false);
                    if tell.send(self.others.values().flatten().copied().collect()).await.is_err() {
                        return self.leave().await;
                    }
                }
            }
        }
    }

    /// Says goodbye.
    async fn leave(self) {
        if let Ok(gone) = self.daemon.shutdown() {
            let _ = gone.recv_async().await;
        }
    }

    /// Whether it changes what is seen.
    fn saw(&mut self, event: ServiceEvent) -> bool {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let is_own =
                    service.fullname.strip_suffix(SERVICE).is_some_and(|name| name == format!("{}.", self.name));
                let is_known = self.others.contains_key(&service.fullname);
                if is_own || (!is_known && self.others.len() >= SEEN_MAX) {
                    return false;
                }
                let addresses = addresses(&service);
                self.others.insert(service.fullname.clone(), addresses.clone()) != Some(addresses)
            }
            ServiceEvent::ServiceRemoved(_, fullname) => self.others.remove(&fullname).is_some(),
            _ => false,
        }
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        // Its thread ends by this alone.
        let _ = self.daemon.shutdown();
    }
}

/// What a service says of itself, in a settled order; nothing, if that is no beacon.
fn addresses(service: &ResolvedService) -> Vec<(Beacon, SocketAddr)> {
    let text = service.get_property_val_str(BEACON).unwrap_or_default();
    let Some(beacon) = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| Beacon::from_bytes(&bytes)) else {
        return Vec::new();
    };
    let mut ips: Vec<IpAddr> =
        service.addresses.iter().map(ScopedIp::to_ip_addr).filter(|ip| is_private(*ip)).collect();
    ips.sort();
    ips.dedup();
    ips.truncate(ADDRESSES_MAX);
    ips.into_iter().map(|ip| (beacon, SocketAddr::new(ip, service.port))).collect()
}

/// Whether an address is of a local network.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}
