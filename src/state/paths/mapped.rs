//! A port that the router maps to this device: when it is asked for one, and what came of it.
//!
//! A mapped port lets in whoever sends to it, whatever the NAT filters and however it maps the rest. PCP (RFC 6887),
//! NAT-PMP (RFC 6886) and UPnP IGD are for IPv4 here: IPv6 has no NAT, and its address needs none.

use super::candidates::{Reach, reach};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What is known of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, thiserror::Error)]
pub enum PortMapping {
    /// The router is not to be asked.
    #[error("none: this node was started with --no-port-mapping or --relay-only")]
    Off,
    /// No NAT for IPv4 is between this device and the server, as far as shows.
    #[default]
    #[error("none: no NAT for IPv4 shows between this device and the server")]
    NotAsked,
    /// No answer yet.
    #[error("asked for")]
    Asked,
    /// None, however it was asked.
    #[error("none: the router answers neither UPnP nor PCP nor NAT-PMP, or refuses")]
    Refused,
    /// At this address.
    #[error("{0}")]
    At(SocketAddr),
}

/// What shows that the router is another one than before: this device's private addresses, and the address that the
/// server sees.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    private: BTreeSet<IpAddr>,
    seen: IpAddr,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    asked: Option<Place>,
    now: PortMapping,
}

impl Mapped {
    /// This device's own addresses, and where the server sees it. Says whether the router is to be asked from now on, or
    /// asked anew; nothing if all stays as it is.
    pub(super) fn place(&mut self, own: &BTreeSet<IpAddr>, server: Option<SocketAddr>) -> Option<bool> {
        // Without a server it stays as it was.
        let seen = server?;
        let place = behind_nat(own, seen);
        if place == self.asked {
            return None;
        }
        let asks = place.is_some();
        self.now = if asks { PortMapping::Asked } else { PortMapping::NotAsked };
        self.asked = place;
        Some(asks)
    }

    /// What the router says.
    pub(super) fn answered(&mut self, address: Option<SocketAddr>) {
        if self.asked.is_some() {
            self.now = address.map_or(PortMapping::Refused, PortMapping::At);
        }
    }

    pub(super) fn now(&self) -> PortMapping {
        self.now
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        if let PortMapping::At(address) = self.now { Some(address) } else { None }
    }
}

/// The place, if there is a NAT for IPv4 at it: the server is elsewhere and sees an address that is not this device's own;
/// or it sees IPv6, and this device has nothing for IPv4 but private addresses.
fn behind_nat(own: &BTreeSet<IpAddr>, seen: SocketAddr) -> Option<Place> {
    let seen = SocketAddr::new(seen.ip().to_canonical(), seen.port());
    let reach_of = |ip: &IpAddr| reach(&SocketAddr::new(*ip, seen.port()));
    let of_four = |wanted: Reach| own.iter().filter(move |ip| ip.is_ipv4() && reach_of(ip) == Some(wanted));
    let private: BTreeSet<IpAddr> = of_four(Reach::Private).copied().collect();
    let is_translated = match seen.ip() {
        IpAddr::V4(ip) => !own.contains(&ip.into()),
        IpAddr::V6(_) => of_four(Reach::Public).next().is_none(),
    };
    let is_asked = reach(&seen) == Some(Reach::Public) && is_translated && !private.is_empty();
    is_asked.then(|| Place { private, seen: seen.ip() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn at(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_router_is_asked_where_there_is_a_nat_and_again_when_it_is_another_one() {
        let mut mapped = Mapped::default();
        let home = ips(&["127.0.0.1", "192.168.1.5", "::1"]);
        assert_eq!(mapped.place(&home, None), None, "nothing shows a NAT yet");
        assert_eq!(mapped.place(&home, at("[::ffff:198.51.100.7]:4001")), Some(true));
        assert_eq!(mapped.now(), PortMapping::Asked);
        mapped.answered(at("198.51.100.7:9"));
        assert_eq!(mapped.address(), at("198.51.100.7:9"));
        assert_eq!(mapped.place(&home, at("198.51.100.7:4002")), None, "the same router maps another port");
        assert_eq!(mapped.place(&home, None), None);
        assert_eq!(mapped.address(), at("198.51.100.7:9"));
        assert_eq!(mapped.place(&home, at("198.51.100.8:4002")), Some(true));
        assert_eq!(mapped.address(), None, "it may be another router");
        mapped.answered(None);
        assert_eq!(mapped.now(), PortMapping::Refused);
        assert_eq!(mapped.place(&ips(&["192.168.7.5"]), at("198.51.100.8:4002")), Some(true));
        assert_eq!(mapped.place(&ips(&["198.51.100.8"]), at("198.51.100.8:4002")), Some(false));
        mapped.answered(at("198.51.100.7:9"));
        assert_eq!(mapped.now(), PortMapping::NotAsked, "an answer that comes late counts for nothing");
    }

    #[test]
    fn nobody_is_asked_where_no_nat_shows() {
        let is_asked = |own: &[&str], seen: &str| Mapped::default().place(&ips(own), at(seen)).is_some();
        assert!(!is_asked(&["127.0.0.1"], "127.0.0.1:7"));
        assert!(!is_asked(&["192.168.1.5"], "192.168.1.5:7"), "the server is in this network");
        assert!(!is_asked(&["203.0.113.4", "10.0.0.1"], "203.0.113.4:7"), "a public address of its own");
        assert!(!is_asked(&["2001:db8::5"], "[2001:db8::5]:7"), "IPv6 alone");
        assert!(!is_asked(&["2001:db8::5", "203.0.113.4", "10.0.0.1"], "[2001:db8::5]:7"));
        assert!(
            is_asked(&["2001:db8::5", "192.168.1.5"], "[2001:db8::5]:7"),
            "IPv4 has a NAT that the server does not see"
        );
        assert!(is_asked(&["100.64.0.9"], "198.51.100.7:7"), "a provider's NAT");
    }
}
