//! Addresses at which a device may be reached: which of them count, and which are tried first.

use crate::wire::limits::CANDIDATES_MAX;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How near an address is. The nearer one is preferred where several work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, RFC 3927), or one behind a provider's NAT (RFC 6598).
    Private,
    /// The rest.
    Public,
}

/// How near an address is; none for what is nobody's: unspecified, multicast, broadcast, port zero, and link-local IPv6,
/// which means something on one interface alone.
pub fn reach(address: &SocketAddr) -> Option<Reach> {
    if address.port() == 0 {
        return None;
    }
    match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() => None,
        IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.octets()[0] >= 240 => None,
        IpAddr::V4(ip) if ip.is_loopback() => Some(Reach::Loopback),
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || is_shared(ip) => Some(Reach::Private),
        IpAddr::V4(_) => Some(Reach::Public),
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() => None,
        IpAddr::V6(ip) if ip.is_loopback() => Some(Reach::Loopback),
        IpAddr::V6(ip) if ip.is_unique_local() => Some(Reach::Private),
        IpAddr::V6(_) => Some(Reach::Public),
    }
}

/// Whether an address is of a local network: a private one (RFC 1918, RFC 4193) or link-local IPv4 (RFC 3927); with
/// `loopback` this machine's as well.
pub fn is_near(address: &SocketAddr, loopback: bool) -> bool {
    let is_shared = matches!(address.ip().to_canonical(), IpAddr::V4(ip) if is_shared(ip));
    match reach(address) {
        Some(Reach::Loopback) => loopback,
        Some(Reach::Private) => !is_shared,
        Some(Reach::Public) | None => false,
    }
}

/// 100.64.0.0/10, between customers and their provider's NAT (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

/// The candidates of a list that count, each once, in their order, [`CANDIDATES_MAX`] at most. Loopback ones count for
/// devices that meet at a server on their own machine: to others they mean something else.
pub fn usable(candidates: impl IntoIterator<Item = SocketAddr>, loopback: bool) -> Vec<SocketAddr> {
    let mut kept: Vec<SocketAddr> = Vec::new();
    for candidate in candidates {
        let candidate = SocketAddr::new(candidate.ip().to_canonical(), candidate.port());
        let counts = reach(&candidate).is_some_and(|reach| loopback || reach != Reach::Loopback);
        if counts && !kept.contains(&candidate) && kept.len() < CANDIDATES_MAX {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn nobodys_addresses_are_no_candidates() {
        let nobodys = addresses(&[
            "0.0.0.0:1",
            "0.1.2.3:1",
            "224.0.0.251:5353",
            "239.1.1.1:1",
            "240.0.0.1:1",
            "255.255.255.255:1",
            "192.0.2.1:0",
            "[::]:1",
            "[ff02::fb]:5353",
            "[fe80::1]:1",
            "[::ffff:224.0.0.1]:1",
        ]);
        assert_eq!(usable(nobodys, true), []);
    }

    #[test]
    fn candidates_count_once_and_loopback_only_where_it_means_the_same() {
        let given = addresses(&["127.0.0.1:7", "[::1]:7", "192.168.1.2:7", "[::ffff:192.168.1.2]:7", "198.51.100.1:7"]);
        assert_eq!(usable(given.clone(), false), addresses(&["192.168.1.2:7", "198.51.100.1:7"]));
        assert_eq!(usable(given, true).len(), 4);
        let many = (1..100).map(|port| SocketAddr::from(([192, 168, 1, 2], port)));
        assert_eq!(usable(many, false).len(), CANDIDATES_MAX);
    }

    #[test]
    fn only_addresses_of_local_networks_are_near() {
        let near = addresses(&["10.0.0.1:1", "172.16.0.1:1", "192.168.1.1:1", "169.254.1.1:1", "[fd00::1]:1"]);
        assert!(near.iter().all(|address| is_near(address, false)));
        let far = addresses(&["198.51.100.1:1", "100.64.0.1:1", "[2001:db8::1]:1", "[fe80::1]:1", "10.0.0.1:0"]);
        assert!(!far.iter().any(|address| is_near(address, true)));
        let own = addresses(&["127.0.0.1:1", "[::1]:1"]);
        assert!(own.iter().all(|address| is_near(address, true) && !is_near(address, false)));
    }

    #[test]
    fn the_nearer_comes_first() {
        let [host, lan, cgnat, ula, public] =
            ["127.0.0.1:1", "10.0.0.1:1", "100.64.0.1:1", "[fd00::1]:1", "[2001:db8::1]:1"]
                .map(|text| reach(&text.parse().unwrap()).unwrap());
        assert!(host < lan && lan == cgnat && cgnat == ula && ula < public);
    }
}
