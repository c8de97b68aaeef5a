//! The addresses at which this machine's interfaces can be reached.

use super::endpoint::Endpoint;
use std::net::SocketAddr;

/// The interfaces' addresses, each with the endpoint's port; those of the family that it does not listen to left out. Empty
/// where the system does not tell.
pub fn own(endpoint: &Endpoint) -> Vec<SocketAddr> {
    let Ok(local) = endpoint.local_addr() else { return Vec::new() };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "the interfaces can't be listed");
        Vec::new()
    });
    let ips = interfaces.iter().filter(|one| one.is_oper_up() || one.is_loopback()).map(if_addrs::Interface::ip);
    let mut addresses: Vec<SocketAddr> =
        ips.filter(|ip| ip.is_ipv4() || local.is_ipv6()).map(|ip| SocketAddr::new(ip, local.port())).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}
