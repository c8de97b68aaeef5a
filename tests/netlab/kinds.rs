//! The kinds of places that are paired, and what is expected of a pair.

use crate::nat::Nat;
use crate::ports::Protocol;
use crate::router::{Access, Families, Roof};

/// A place, with its name in the table.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) access: Access,
    pub(crate) families: Families,
}

const fn kind(name: &'static str, access: Access, families: Families) -> Kind {
    Kind { name, access, families }
}

const HOME: Access = Access::Home(Nat::PortRestricted);

/// Those of IPv4, then those with IPv6.
pub(crate) const KINDS: [Kind; 13] = [
    kind("none", Access::Open, Families::V4),
    kind("full-cone", Access::Home(Nat::FullCone), Families::V4),
    kind("address-restricted", Access::Home(Nat::AddressRestricted), Families::V4),
    kind("port-restricted", HOME, Families::V4),
    kind("double (CGNAT)", Access::Carrier, Families::V4),
    kind("symmetric", Access::Home(Nat::Symmetric), Families::V4),
    kind("symmetric, PCP", Access::Maps(Protocol::Pcp), Families::V4),
    kind("symmetric, UPnP", Access::Maps(Protocol::Upnp), Families::V4),
    kind("UDP blocked", Access::ServerAlone, Families::V4),
    kind("IPv6 only", HOME, Families::V6),
    kind("dual stack", HOME, Families::Both),
    kind("dual, IPv4 broken", HOME, Families::V4Broken),
    kind("dual, IPv6 broken", HOME, Families::V6Broken),
];

/// Clients behind one NAT, with the names in the table.
pub(crate) const ROOFS: [(&str, Roof); 4] = [
    ("one network, hairpin", Roof::Together { hairpin: true }),
    ("one network, no hairpin", Roof::Together { hairpin: false }),
    ("two networks, hairpin", Roof::Apart { hairpin: true }),
    ("two networks, no hairpin", Roof::Apart { hairpin: false }),
];

/// Whether the router of the kind of this name maps ports.
pub(crate) fn maps_ports(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name && matches!(kind.access, Access::Maps(_)))
}

/// What is expected of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Direct,
    Relayed,
}

/// What is expected of two places.
pub(crate) fn expected(one: &Kind, other: &Kind) -> Expected {
    let six = |kind: &Kind| matches!(kind.families, Families::V6 | Families::Both | Families::V4Broken);
    let four = |kind: &Kind| matches!(kind.families, Families::V4 | Families::Both | Families::V6Broken);
    let filters_ports =
        |kind: &Kind| matches!(kind.access, Access::Carrier | Access::Home(Nat::PortRestricted | Nat::Symmetric));
    let symmetric = |kind: &Kind| kind.access == Access::Home(Nat::Symmetric);
    let blocked = |kind: &Kind| kind.access == Access::ServerAlone;
    // A mapped port lets everybody in.
    let in_vain = symmetric(one) && filters_ports(other) || symmetric(other) && filters_ports(one);
    let passes = !blocked(one) && !blocked(other) && !in_vain;
    match (six(one) && six(other), four(one) && four(other) && passes) {
        (true, _) => Expected::Direct,
        (false, true) => Expected::Direct,
        (false, false) => Expected::Relayed,
    }
}

/// The same for two clients behind one NAT.
pub(crate) fn expected_under(roof: Roof) -> Expected {
    if roof == (Roof::Apart { hairpin: false }) { Expected::Relayed } else { Expected::Direct }
}

/// Whether a pair tells more than others do: all of IPv4 among themselves, those with IPv6 among themselves, those
/// with IPv6 and one of IPv4's, and those whose routers map ports with each other and with NATs that are hard to pass.
pub(crate) fn is_tried(one: &Kind, other: &Kind) -> bool {
    let maps = |kind: &Kind| matches!(kind.access, Access::Maps(_));
    let is_hard = |kind: &Kind| maps(kind) || kind.access == HOME || kind.access == Access::Home(Nat::Symmetric);
    if maps(one) || maps(other) {
        return is_hard(one) && is_hard(other) && one.families == other.families;
    }
    let four = |kind: &Kind| kind.families == Families::V4;
    four(one) == four(other) || [one, other].iter().any(|kind| four(kind) && kind.access == HOME)
}
