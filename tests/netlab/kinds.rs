//! The kinds of places that are paired, and what is expected of a pair.

use crate::nat::Nat;
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
pub(crate) const KINDS: [Kind; 11] = [
    kind("none", Access::Open, Families::V4),
    kind("full-cone", Access::Home(Nat::FullCone), Families::V4),
    kind("address-restricted", Access::Home(Nat::AddressRestricted), Families::V4),
    kind("port-restricted", HOME, Families::V4),
    kind("double (CGNAT)", Access::Carrier, Families::V4),
    kind("symmetric", Access::Home(Nat::Symmetric), Families::V4),
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

/// Whether a straight way is possible between two places.
pub(crate) fn is_direct(one: &Kind, other: &Kind) -> bool {
    let six = |kind: &Kind| matches!(kind.families, Families::V6 | Families::Both | Families::V4Broken);
    let four = |kind: &Kind| matches!(kind.families, Families::V4 | Families::Both | Families::V6Broken);
    let filters_ports = |kind: &Kind| {
        matches!(kind.access, Access::Carrier | Access::Home(Nat::PortRestricted | Nat::Symmetric))
    };
    let symmetric = |kind: &Kind| kind.access == Access::Home(Nat::Symmetric);
    let blocked = |kind: &Kind| kind.access == Access::ServerAlone;
    let in_vain = symmetric(one) && filters_ports(other) || symmetric(other) && filters_ports(one);
    let passes = !blocked(one) && !blocked(other) && !in_vain;
    six(one) && six(other) || four(one) && four(other) && passes
}

/// The same for two clients behind one NAT.
pub(crate) fn is_direct_under(roof: Roof) -> bool {
    !matches!(roof, Roof::Apart { hairpin: false })
}

/// Whether a pair tells more than others do: all of IPv4 among themselves, those with IPv6 among themselves, and those
/// with IPv6 and one of IPv4's.
pub(crate) fn is_tried(one: &Kind, other: &Kind) -> bool {
    let four = |kind: &Kind| kind.families == Families::V4;
    four(one) == four(other) || [one, other].iter().any(|kind| four(kind) && kind.access == HOME)
}
