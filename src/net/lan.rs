//! Devices on the same local network, by multicast DNS (RFC 6762, RFC 6763). What stands in the records is random to who does
//! not know the group; instance and host have random names, too.

use crate::wire::beacon::{Announcement, Beacon, Readers};
use crate::wire::ids::DeviceKey;
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
/// Instances that are remembered as seen, at most. They are members' alone: whatever else is announced takes no place.
const SEEN_MAX: usize = 1_024;
/// Instances with one beacon, at most. A device has one; more are copies, and the first that were seen count.
const COPIES_MAX: usize = 4;
/// Beacons are compared with so many members' between two tellings, at most; some 10 ms of work.
const COMPARED_MAX: usize = 100_000;
/// Addresses of one instance that are told, at most.
const ADDRESSES_MAX: usize = 16;
/// What is seen is told this often at most, whatever is announced.
const TELL_MIN: Duration = Duration::from_secs(1);
/// What is seen is told this often at least: who hears it forgets what is not told again. What was missed is looked at
/// again as often.
const TELL_MAX: Duration = Duration::from_secs(30);

/// What is seen: members, each with an address. Who was seen first comes first.
pub type Seen = Vec<(DeviceKey, SocketAddr)>;

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
    /// Where it was announced last.
    addresses: Vec<SocketAddr>,
    others: Others,
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
        let others = Others::of(announcement.readers.clone());
        let addresses = announcement.addresses.clone();
        let station = Station { daemon, events, name, addresses, others };
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
            let is_soon = changed || self.others.missed.is_some();
            let next = told + if is_soon { TELL_MIN } else { TELL_MAX };
            tokio::select! {
                event = self.events.recv_async() => match event {
                    Ok(event) => changed |= self.saw(event),
                    Err(error) => return tracing::debug!(%error, "the local network is looked at no more"),
                },
                now = announced.changed() => {
                    let announcement = announced.borrow_and_update().clone();
                    let Some(announcement) = announcement.filter(|_| now.is_ok()) else { return self.leave().await };
                    if self.addresses != announcement.addresses {
                        self.addresses.clone_from(&announcement.addresses);
                        if let Err(error) = self.announce(&announcement) {
                            tracing::debug!(%error, "new addresses can't be announced on the local network");
                        }
                    }
                    changed |= self.others.read_by(announcement.readers);
                }
                () = sleep_until(next) => {
                    (told, changed) = (Instant::now(), false);
                    if self.others.is_due_again(told) {
                        self.browse_again();
                    }
                    if tell.send(self.others.seen()).await.is_err() {
                        return self.leave().await;
                    }
                }
            }
        }
    }

    /// All that is known comes once more.
    fn browse_again(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.saw(event);
        }
        match self.daemon.browse(SERVICE) {
            Ok(events) => self.events = events,
            Err(error) => tracing::debug!(%error, "the local network can't be looked at again"),
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
                let Some(beacon) = beacon(&service).filter(|_| !is_own) else { return false };
                self.others.saw(&service.fullname, beacon, addresses(&service))
            }
            ServiceEvent::ServiceRemoved(_, fullname) => self.others.remove(&fullname),
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

/// One instance that says to be a member.
#[derive(Debug, PartialEq, Eq)]
struct Instance {
    /// Its place among those that were seen.
    number: u64,
    beacon: Beacon,
    device: DeviceKey,
    addresses: Vec<SocketAddr>,
}

/// The members that are seen. What is no member's beacon takes no place, so that nobody can crowd them out.
struct Others {
    readers: Readers,
    instances: HashMap<String, Instance>,
    /// How many were seen so far.
    count: u64,
    /// Comparisons since the last telling.
    compared: usize,
    /// Since when something is unread of which there was too much.
    missed: Option<Instant>,
    /// Whether all is to be read again by other readers.
    unread: bool,
}

impl Others {
    fn of(readers: Readers) -> Others {
        Others { readers, instances: HashMap::new(), count: 0, compared: 0, missed: None, unread: false }
    }

    /// Others are looked for from now on: those who are no members any more go. Whether that changes what is seen.
    fn read_by(&mut self, readers: Readers) -> bool {
        if readers == self.readers {
            return false;
        }
        self.instances.retain(|_, one| readers.has(&one.device));
        (self.readers, self.unread) = (readers, true);
        true
    }

    /// Whether all is to be looked at again.
    fn is_due_again(&mut self, now: Instant) -> bool {
        self.compared = 0;
        let is_due = self.unread || self.missed.is_some_and(|since| now - since >= TELL_MAX);
        if is_due {
            (self.unread, self.missed) = (false, None);
        }
        is_due
    }

    /// An instance says this of itself. Whether it changes what is seen.
    fn saw(&mut self, name: &str, beacon: Beacon, addresses: Vec<SocketAddr>) -> bool {
        if let Some(known) = self.instances.get_mut(name).filter(|known| known.beacon == beacon) {
            return std::mem::replace(&mut known.addresses, addresses.clone()) != addresses;
        }
        let changed = self.remove(name);
        if self.compared + self.readers.count() > COMPARED_MAX {
            self.missed.get_or_insert_with(Instant::now);
            return changed;
        }
        self.compared += self.readers.count();
        let Some(device) = self.readers.whose(&beacon) else { return changed };
        let copies = self.instances.values().filter(|one| one.beacon == beacon).count();
        if copies >= COPIES_MAX || self.instances.len() >= SEEN_MAX {
            return changed;
        }
        self.count += 1;
        self.instances.insert(name.to_owned(), Instance { number: self.count, beacon, device, addresses });
        true
    }

    fn remove(&mut self, name: &str) -> bool {
        self.instances.remove(name).is_some()
    }

    fn seen(&self) -> Seen {
        let mut instances: Vec<&Instance> = self.instances.values().collect();
        instances.sort_by_key(|one| one.number);
        let each = |one: &Instance| one.addresses.iter().map(|address| (one.device, *address)).collect::<Seen>();
        instances.into_iter().flat_map(each).collect()
    }
}

/// The beacon in a service's record.
fn beacon(service: &ResolvedService) -> Option<Beacon> {
    let text = service.get_property_val_str(BEACON)?;
    HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| Beacon::from_bytes(&bytes))
}

/// Where a service says to be, in a settled order.
fn addresses(service: &ResolvedService) -> Vec<SocketAddr> {
    let mut ips: Vec<IpAddr> =
        service.addresses.iter().map(ScopedIp::to_ip_addr).filter(|ip| is_private(*ip)).collect();
    ips.sort();
    ips.dedup();
    ips.truncate(ADDRESSES_MAX);
    ips.into_iter().map(|ip| SocketAddr::new(ip, service.port)).collect()
}

/// Whether an address is of a local network.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::beacon::BeaconKey;
    use crate::wire::ids::{GroupId, Hash};
    use crate::wire::sign::Identity;

    fn device(seed: u8) -> DeviceKey {
        Identity::from_seeds([seed; 32], [seed; 32]).device_key()
    }

    fn key() -> BeaconKey {
        BeaconKey::of(&GroupId::of(&device(1)))
    }

    fn readers(membership: u8, members: &[u8]) -> Readers {
        Readers::new(key(), Hash([membership; 32]), members.iter().map(|seed| device(*seed)))
    }

    fn at(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 7_000))
    }

    fn junk(number: u32) -> Beacon {
        let mut bytes = [0x5a; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Beacon::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn what_is_no_members_takes_no_place() {
        let mut others = Others::of(readers(1, &[2, 3]));
        for number in 0..10_000 {
            assert!(!others.saw(&format!("junk {number}"), junk(number), vec![at(9)]));
        }
        assert!(others.saw("laptop", key().beacon(&device(2), [7; 16]), vec![at(2)]));
        assert_eq!(others.seen(), [(device(2), at(2))]);
        assert!(others.saw("laptop", key().beacon(&device(2), [7; 16]), vec![at(4)]), "it is elsewhere");
        assert!(!others.saw("laptop", key().beacon(&device(2), [7; 16]), vec![at(4)]));
        assert_eq!(others.seen(), [(device(2), at(4))]);
        assert!(others.saw("laptop", junk(1), vec![at(4)]), "it is nobody any more");
        assert_eq!((others.seen(), others.remove("laptop")), (Vec::new(), false));
    }

    #[test]
    fn a_flood_is_read_so_far_and_the_rest_is_looked_at_again() {
        let mut others = Others::of(readers(1, &(2..102).collect::<Vec<u8>>()));
        let begun = Instant::now();
        for number in 0..2_000 {
            others.saw(&format!("junk {number}"), junk(number), vec![at(9)]);
        }
        let laptop = key().beacon(&device(2), [7; 16]);
        assert!(!others.saw("laptop", laptop, vec![at(2)]), "it came in the middle of it");
        assert!(!others.is_due_again(begun), "not at once, again and again");
        assert!(others.is_due_again(Instant::now() + TELL_MAX));
        assert!(others.saw("laptop", laptop, vec![at(2)]));
        assert!(!others.is_due_again(Instant::now() + TELL_MAX), "nothing is left");
    }

    #[test]
    fn copies_of_a_beacon_come_after_what_was_seen_first_and_are_few() {
        let mut others = Others::of(readers(1, &[2, 3]));
        let laptop = key().beacon(&device(2), [7; 16]);
        others.saw("laptop", laptop, vec![at(2)]);
        for number in 0..50 {
            others.saw(&format!("copy {number}"), laptop, vec![at(100 + number)]);
        }
        let seen = others.seen();
        assert_eq!((seen.len(), seen[0]), (COPIES_MAX, (device(2), at(2))));
        // After a restart it has another beacon.
        others.saw("laptop again", key().beacon(&device(2), [8; 16]), vec![at(3)]);
        assert!(others.seen().contains(&(device(2), at(3))));
    }

    #[test]
    fn who_becomes_a_member_is_read_then_and_who_is_none_any_more_goes() {
        let mut others = Others::of(readers(1, &[2]));
        let [laptop, phone] = [2, 3].map(|seed| key().beacon(&device(seed), [seed; 16]));
        assert!(others.saw("laptop", laptop, vec![at(2)]) && !others.saw("phone", phone, vec![at(3)]));
        assert!(!others.read_by(readers(1, &[2])) && !others.is_due_again(Instant::now()));
        assert!(others.read_by(readers(2, &[3])) && others.seen().is_empty());
        assert!(others.is_due_again(Instant::now()), "all comes once more");
        assert!(others.saw("phone", phone, vec![at(3)]) && !others.saw("laptop", laptop, vec![at(2)]));
    }
}
