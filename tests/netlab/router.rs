//! Where a client sits: its address, what is between it and the internet, and the link by which it gets there.

use crate::link::{Hole, Link, Shape};
use crate::nat::{self, Nat};
use crate::ports::{Mapper, Protocol};
use crate::space::Space;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The server's addresses, and those of its end of the wire.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(crate) const SERVER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);

/// What a client has of both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Families {
    V4,
    V6,
    Both,
    /// Addresses of both, and nothing of IPv4 gets anywhere.
    V4Broken,
    /// The same with IPv6.
    V6Broken,
}

/// What is between a client and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Nothing: it has a public address.
    Open,
    /// A router. For IPv6 it is a firewall.
    Home(Nat),
    /// A symmetric router that maps a port when it is asked.
    Maps(Protocol),
    /// A router behind its provider's NAT; both are port-restricted.
    Carrier,
    /// A port-restricted router that lets UDP pass to and from the server alone.
    ServerAlone,
}

/// The internet: a router that everybody has a link to.
pub(crate) struct Internet {
    pub(crate) space: Arc<Space>,
    next: AtomicU8,
}

impl Internet {
    pub(crate) fn new() -> Internet {
        let space = Arc::new(Space::new("net").expect("a namespace"));
        space.forward();
        Internet { space, next: AtomicU8::new(0) }
    }

    /// A host with public addresses and a wire that costs nothing: the server (1), the master (2).
    pub(crate) fn host(&self, label: &str, number: u8) -> Arc<Space> {
        let space = Space::new(label).expect("a namespace");
        let to = format!("to-{label}");
        self.space.wire(&to, &space, "eth");
        let (here, there) = (4 * number - 3, 4 * number - 2);
        self.space.ip(&format!("addr add 198.51.100.{here}/30 dev {to}\naddr add 2001:db8:{number}::1/64 dev {to}"));
        space.ip(&format!("addr add 198.51.100.{there}/30 dev eth\naddr add 2001:db8:{number}::2/64 dev eth"));
        space.ip(&format!("route add default via 198.51.100.{here}\nroute add default via 2001:db8:{number}::1"));
        Arc::new(space)
    }

    /// Links a namespace to the internet by its interface `wan`.
    fn link(&self, space: &Arc<Space>, net: Net, families: Families, shape: Shape) -> Customer {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = interface(number);
        let link =
            Link::new([(self.space.clone(), name.clone()), (space.clone(), "wan".to_owned())], shape, number.into());
        let customer = Customer { number, net, link };
        if families != Families::V6 {
            let (gateway, wan) = (customer.gateway(), customer.wan());
            self.space.ip(&format!("addr add {gateway}/30 dev {name}"));
            space.ip(&format!("addr add {wan}/30 dev wan\nroute add default via {gateway} dev wan"));
        }
        if families != Families::V4 {
            let (net, wan, lan) = (customer.address_6(1), customer.address_6(2), customer.lan_6());
            self.space.ip(&format!("addr add {net}/64 dev {name}\nroute add {lan} via {wan} dev {name}"));
            space.ip(&format!("addr add {wan}/64 dev wan\nroute add default via {net} dev wan"));
        }
        match families {
            Families::V4Broken => customer.link.dig(Hole::V4),
            Families::V6Broken => customer.link.dig(Hole::V6),
            Families::V4 | Families::V6 | Families::Both => {}
        }
        customer
    }
}

fn interface(number: u8) -> String {
    format!("c{number}")
}

/// The first three numbers of an IPv4 address.
type Net = [u8; 3];

/// Where customers are: a network for documentation (RFC 5737).
const CUSTOMERS: Net = [203, 0, 113];
/// Where those are whose routers map ports. miniupnpd does that for no address that is reserved; nobody uses these.
const MAPPERS: Net = [1, 2, 3];

/// A place in the internet.
pub(crate) struct Customer {
    number: u8,
    net: Net,
    pub(crate) link: Link,
}

impl Customer {
    /// Its outer IPv4 address.
    pub(crate) fn wan(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// Its provider's.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, 4 * self.number + host)
    }

    /// The interface of the internet that leads to it.
    pub(crate) fn interface(&self) -> String {
        interface(self.number)
    }

    fn address_6(&self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0x100 + u16::from(self.number), 0, 0, 0, 0, host)
    }

    fn lan_6(&self) -> String {
        format!("2001:db8:{:x}:1::/64", 0x100 + u16::from(self.number))
    }

    fn lan_address_6(&self, host: u16) -> String {
        format!("2001:db8:{:x}:1::{host:x}", 0x100 + u16::from(self.number))
    }
}

/// A client's place, with all that is before it.
pub(crate) struct Site {
    /// Where the client runs.
    pub(crate) space: Arc<Space>,
    /// What maps ports in the router, if something does.
    _mapper: Option<Mapper>,
    /// The router next to it, if there is one.
    pub(crate) router: Option<Arc<Space>>,
    /// The provider's NAT, if there is one.
    _carrier: Option<Arc<Space>>,
    pub(crate) customer: Customer,
    /// The client's own IPv4 address, or what it would be.
    pub(crate) own: Ipv4Addr,
}

impl Site {
    /// Clients of one kind of place have the same addresses behind their routers, but for the last number: private
    /// networks are alike.
    pub(crate) fn new(net: &Internet, access: Access, families: Families, host: u8, shape: Shape) -> Site {
        let space = Arc::new(Space::new("client").expect("a namespace"));
        if access == Access::Open {
            let customer = net.link(&space, CUSTOMERS, families, shape);
            let own = customer.wan();
            return Site { space, _mapper: None, router: None, _carrier: None, customer, own };
        }
        let own = Ipv4Addr::new(192, 168, 1, host);
        let router = router();
        let (customer, carrier) = match access {
            Access::Carrier => {
                let carrier = self::router();
                let customer = net.link(&carrier, CUSTOMERS, families, shape);
                carrier.wire("lan", &router, "wan");
                carrier.ip("addr add 100.64.0.1/24 dev lan");
                router.ip("addr add 100.64.0.2/24 dev wan\nroute add default via 100.64.0.1");
                carrier.nft(&Nat::PortRestricted.rules(Ipv4Addr::new(100, 64, 0, 2), false));
                (customer, Some(carrier))
            }
            Access::Maps(_) => (net.link(&router, MAPPERS, families, shape), None),
            Access::Open | Access::Home(_) | Access::ServerAlone => {
                (net.link(&router, CUSTOMERS, families, shape), None)
            }
        };
        let nat = match access {
            Access::Home(nat) => nat,
            Access::Maps(_) => Nat::Symmetric,
            Access::Open | Access::Carrier | Access::ServerAlone => Nat::PortRestricted,
        };
        router.nft(&nat.rules(own, matches!(access, Access::Maps(_))));
        router.nft(&nat::firewall());
        if access == Access::ServerAlone {
            router.nft(&nat::no_udp_but(SERVER));
        }
        router.wire("lan", &space, "eth");
        if families != Families::V6 {
            router.ip("addr add 192.168.1.1/24 dev lan");
            space.ip(&format!("addr add {own}/24 dev eth\nroute add default via 192.168.1.1"));
        }
        if families != Families::V4 {
            let (there, here) = (customer.lan_address_6(1), customer.lan_address_6(host.into()));
            router.ip(&format!("addr add {there}/64 dev lan"));
            space.ip(&format!("addr add {here}/64 dev eth\nroute add default via {there}"));
        }
        let mapper = match access {
            Access::Maps(protocol) => Some(Mapper::start(&router, protocol, Ipv4Addr::new(192, 168, 1, 0))),
            Access::Open | Access::Home(_) | Access::Carrier | Access::ServerAlone => None,
        };
        Site { space, _mapper: mapper, router: Some(router), _carrier: carrier, customer, own }
    }

    /// Its outer IPv4 address.
    pub(crate) fn wan(&self) -> IpAddr {
        self.customer.wan().into()
    }
}

fn router() -> Arc<Space> {
    let router = Space::new("router").expect("a namespace");
    router.forward();
    Arc::new(router)
}

/// Two clients behind one router.
pub(crate) struct House {
    pub(crate) spaces: [Arc<Space>; 2],
    _router: Arc<Space>,
    _customer: Customer,
}

impl House {
    /// On one network, or on two that reach each other by a hairpin or not at all.
    pub(crate) fn new(net: &Internet, kind: Roof, shape: Shape) -> House {
        let router = router();
        let customer = net.link(&router, CUSTOMERS, Families::V4, shape);
        let spaces = [2, 3].map(|host| {
            let space = Space::new("client").expect("a namespace");
            router.wire(&format!("lan{host}"), &space, "eth");
            (host, space)
        });
        match kind {
            Roof::Together { hairpin } => {
                router.ip(
                    "link add lan type bridge\nlink set lan up\nlink set lan2 master lan\nlink set lan3 master lan",
                );
                router.ip("addr add 192.168.1.1/24 dev lan");
                router.nft(&nat::apart(hairpin, customer.wan()));
            }
            Roof::Apart { hairpin } => {
                router.ip("addr add 192.168.2.1/24 dev lan2\naddr add 192.168.3.1/24 dev lan3");
                router.nft(&nat::apart(hairpin, customer.wan()));
            }
        }
        let spaces = spaces.map(|(host, space)| {
            let net = if let Roof::Apart { .. } = kind { host } else { 1 };
            space.ip(&format!("addr add 192.168.{net}.{host}/24 dev eth\nroute add default via 192.168.{net}.1"));
            Arc::new(space)
        });
        House { spaces, _router: router, _customer: customer }
    }
}

/// Two clients behind one NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roof {
    /// On one network.
    Together { hairpin: bool },
    /// On two networks, as guests are.
    Apart { hairpin: bool },
}
