//! NATs in RFC 4787's terms, as rules of nftables.
//!
//! Masquerading keeps a packet's source port where it is free, and behind these routers it is: the mapping is
//! endpoint-independent then. Conntrack lets in answers alone, which is address- and port-dependent filtering; what
//! filters less sends some of the rest to the inside.

use std::net::Ipv4Addr;

/// How a router maps and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nat {
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestricted,
    /// Address- and port-dependent mapping and filtering.
    Symmetric,
}

/// How long a set remembers what was sent.
const REMEMBERED: &str = "120s";

impl Nat {
    /// The rules for IPv4. `inside` is who is behind it; `serves` says whether they may ask the router itself for something.
    pub(crate) fn rules(self, inside: Ipv4Addr, serves: bool) -> String {
        let own = if serves { "iifname \"lan\" accept;" } else { "" };
        let out = "iifname != \"wan\" oifname \"wan\"";
        let (set, learn, lead) = match self {
            Nat::FullCone => (
                "type inet_service;",
                format!("{out} update @known {{ udp sport }};"),
                format!("iifname \"wan\" udp dport @known dnat to {inside};"),
            ),
            Nat::AddressRestricted => (
                "type ipv4_addr . inet_service;",
                format!("{out} update @known {{ ip daddr . udp sport }};"),
                format!("iifname \"wan\" ip saddr . udp dport @known dnat to {inside};"),
            ),
            Nat::PortRestricted | Nat::Symmetric => ("type inet_service;", String::new(), String::new()),
        };
        let how = if self == Nat::Symmetric { " random,fully-random" } else { "" };
        format!(
            "table ip lab {{
                set known {{ {set} flags dynamic,timeout; timeout {REMEMBERED}; }}
                chain input {{ type filter hook input priority filter; {own} {DROP_NEW} }}
                chain forward {{ type filter hook forward priority filter; {learn}
                    {DROP_STRANGERS} }}
                chain pre {{ type nat hook prerouting priority dstnat; {lead} }}
                chain post {{ type nat hook postrouting priority srcnat; oifname \"wan\" masquerade{how}; }}
            }}"
        )
    }
}

/// For IPv6 a router translates nothing, and lets answers in alone.
pub(crate) fn firewall() -> String {
    format!("table ip6 lab {{ chain forward {{ type filter hook forward priority filter; {DROP_STRANGERS} }}; }}")
}

/// No UDP passes but to and from one address.
pub(crate) fn no_udp_but(server: Ipv4Addr) -> String {
    format!(
        "table ip lab_udp {{ chain forward {{ type filter hook forward priority filter - 1;
            oifname \"wan\" ip daddr != {server} meta l4proto udp drop
            iifname \"wan\" ip saddr != {server} meta l4proto udp drop; }}; }}"
    )
}

/// One NAT for two networks that don't reach each other but by its outer address `wan`, if it knows hairpinning (RFC
/// 4787, section 6): a packet to a mapped port goes to its inside, and comes from the sender's mapped port.
pub(crate) fn apart(hairpin: bool, wan: Ipv4Addr) -> String {
    let (lead, mask) = match hairpin {
        true => (
            format!("iifname != \"wan\" ip daddr {wan} dnat to udp dport map @inside;"),
            format!("oifname != \"wan\" ct status dnat snat to {wan};"),
        ),
        false => Default::default(),
    };
    format!(
        "table ip lab {{
            map inside {{ type inet_service : ipv4_addr; flags dynamic,timeout; timeout {REMEMBERED}; }}
            chain input {{ type filter hook input priority filter; {DROP_NEW} }}
            chain forward {{ type filter hook forward priority filter;
                oifname \"wan\" update @inside {{ udp sport : ip saddr }}
                ct status dnat accept
                iifname \"lan2\" oifname \"lan3\" drop
                iifname \"lan3\" oifname \"lan2\" drop
                {DROP_STRANGERS} }}
            chain pre {{ type nat hook prerouting priority dstnat; {lead} }}
            chain post {{ type nat hook postrouting priority srcnat; oifname \"wan\" masquerade
                {mask} }}
        }}"
    )
}

/// Without this a packet that nobody asked for would be the router's own, and conntrack would keep its ports: the mapping
/// of a packet that leaves between the same two a moment later had to be another one. No router in a shop does that.
const DROP_NEW: &str = "iifname != \"lo\" meta l4proto udp ct state new drop;";
/// Answers pass, and what was sent to the inside.
const DROP_STRANGERS: &str = "iifname \"wan\" ct state established,related accept
                    iifname \"wan\" ct status dnat accept
                    iifname \"wan\" drop;";
