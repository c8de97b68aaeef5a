//! What can be told of the NAT that this device is behind, in the terms of RFC 4787.
//!
//! Where others see its packets come from tells how it maps (section 4.1); a ping that comes in from where nothing was
//! sent tells how it filters (section 5).

use super::candidates::{Reach, reach};
use crate::wire::ids::DeviceKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Devices whose view is remembered, at most.
const OBSERVERS_MAX: usize = 32;

/// How it gives ports to what this device sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mapping {
    /// There is none: the server sees an address of this device's own.
    #[error("none: this device has a public address")]
    None,
    /// The server is in the same network.
    #[error("not known: the server is in this network, and sees this device in it")]
    Inside,
    /// All see the same address and port.
    #[error("endpoint-independent")]
    EndpointIndependent,
    /// Some see another one than others.
    #[error("address-dependent, or address- and port-dependent (symmetric)")]
    Dependent,
    /// Only the server has seen it yet, or nobody.
    #[error("not known yet: it shows when another device elsewhere sees this one")]
    Unknown,
}

/// Whom it lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Filtering {
    /// Somebody came in from an address and port where this device had sent nothing, but something to that address.
    #[error("address-dependent or less")]
    AddressDependent,
    /// Somebody came in from an address where this device had sent nothing.
    #[error("endpoint-independent, or none")]
    EndpointIndependent,
}

/// What others see.
#[derive(Debug, Default)]
pub(super) struct Views {
    own: BTreeSet<IpAddr>,
    server: Option<SocketAddr>,
    peers: BTreeMap<DeviceKey, SocketAddr>,
    filtering: Option<Filtering>,
}

impl Views {
    /// Where this device is now, and where the server sees it. What peers saw before a change counts no more.
    pub(super) fn place(&mut self, own: impl IntoIterator<Item = IpAddr>, server: Option<SocketAddr>) {
        let (own, server) = (own.into_iter().collect(), server.map(canonical));
        if (&self.own, self.server) != (&own, server) {
            *self = Views { own, server, ..Views::default() };
        }
    }

    /// A device says where this one's packets come from.
    pub(super) fn seen(&mut self, by: DeviceKey, at: SocketAddr) {
        let room = self.peers.len() < OBSERVERS_MAX || self.peers.contains_key(&by);
        // In its own network it is seen as it is.
        if room && reach(&canonical(at)) == Some(Reach::Public) {
            self.peers.insert(by, canonical(at));
        }
    }

    /// A device is no member any more: what it said counts no more.
    pub(super) fn forget(&mut self, by: &DeviceKey) {
        self.peers.remove(by);
    }

    /// Whether the way to an address leads through the NAT that the server sees.
    pub(super) fn is_outside(&self, at: &SocketAddr) -> bool {
        let of_family = self.server.filter(|server| server.is_ipv4() == at.is_ipv4());
        of_family.is_some_and(|server| reach(at) == Some(Reach::Public) && at.ip() != server.ip())
    }

    /// A ping came in; says what had been sent to where it came from.
    pub(super) fn came_in(&mut self, from: &SocketAddr, sent_to: impl Iterator<Item = SocketAddr> + Clone) {
        if reach(from) != Some(Reach::Public) || sent_to.clone().any(|to| to == *from) {
            return;
        }
        let known = sent_to.into_iter().any(|to| to.ip() == from.ip());
        let shown = if known { Filtering::AddressDependent } else { Filtering::EndpointIndependent };
        self.filtering = self.filtering.max(Some(shown));
    }

    pub(super) fn mapping(&self) -> Mapping {
        let Some(server) = self.server else { return Mapping::Unknown };
        if reach(&server) != Some(Reach::Public) {
            return Mapping::Inside;
        }
        if self.own.contains(&server.ip()) {
            return Mapping::None;
        }
        let alike = self.peers.values().filter(|seen| seen.is_ipv4() == server.is_ipv4()).map(|seen| *seen == server);
        match alike.reduce(|all, one| all && one) {
            None => Mapping::Unknown,
            Some(true) => Mapping::EndpointIndependent,
            Some(false) => Mapping::Dependent,
        }
    }

    pub(super) fn filtering(&self) -> Option<Filtering> {
        self.filtering
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sign::Identity;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn key(seed: u8) -> DeviceKey {
        Identity::from_seeds([seed; 32], [seed; 32]).device_key()
    }

    fn views(server: &str) -> Views {
        let mut views = Views::default();
        views.place([at("192.168.1.5:1").ip()], Some(at(server)));
        views
    }

    #[test]
    fn mapping_is_what_others_agree_on() {
        let mut one = views("198.51.100.7:4001");
        assert_eq!(one.mapping(), Mapping::Unknown);
        one.seen(key(1), at("192.168.1.5:7"));
        assert_eq!(one.mapping(), Mapping::Unknown, "its own network sees no NAT");
        one.seen(key(1), at("[::ffff:198.51.100.7]:4001"));
        assert_eq!(one.mapping(), Mapping::EndpointIndependent);
        one.seen(key(2), at("198.51.100.7:4002"));
        assert_eq!(one.mapping(), Mapping::Dependent);
        one.place([at("192.168.1.5:1").ip()], Some(at("198.51.100.7:9")));
        assert_eq!(one.mapping(), Mapping::Unknown, "what was seen before it moved counts no more");
        assert_eq!(views("192.168.1.5:7").mapping(), Mapping::Inside);
        let mut open = Views::default();
        open.place([at("198.51.100.7:1").ip()], Some(at("198.51.100.7:4001")));
        assert_eq!(open.mapping(), Mapping::None);
    }

    #[test]
    fn filtering_shows_in_what_comes_in_unasked() {
        let mut one = views("198.51.100.7:4001");
        let sent = [at("203.0.113.1:5"), at("10.0.0.1:5")];
        one.came_in(&sent[0], sent.into_iter());
        assert_eq!(one.filtering(), None);
        one.came_in(&at("10.0.0.9:6"), sent.into_iter());
        assert_eq!(one.filtering(), None, "a local network has no NAT");
        one.came_in(&at("203.0.113.1:6"), sent.into_iter());
        assert_eq!(one.filtering(), Some(Filtering::AddressDependent));
        one.came_in(&at("203.0.113.2:6"), sent.into_iter());
        one.came_in(&at("203.0.113.1:7"), sent.into_iter());
        assert_eq!(one.filtering(), Some(Filtering::EndpointIndependent));
    }
}
