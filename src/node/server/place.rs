//! Where a server listens and what its ticket names. Both are kept from the first start on, or invites would die.

use crate::net::endpoint::{BindError, Config, Endpoint};
use crate::node::identity::{Keys, state_error};
use crate::node::local::{ErrorCode, LocalError};
use crate::node::options::ServerPlace;
use crate::store::statedir::StateDir;
use crate::wire::invite::Address;
use crate::wire::limits::ADDRESSES_MAX;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port that a server tries first.
pub const DEFAULT_PORT: u16 = 4433;
/// Ports that are tried after it, before any is taken.
const PORTS_TRIED: u16 = 100;
/// The file that keeps where the server listens, and under it what a person said of how others reach it.
pub(in crate::node) const PLACE_FILE: &str = "server-place";

/// A server's place at its last start.
#[derive(Default)]
struct Kept {
    listen: Option<SocketAddr>,
    advertise: Vec<Address>,
}

impl Kept {
    fn read(dir: &StateDir) -> Result<Kept, LocalError> {
        let Some(bytes) = dir.read_secret(PLACE_FILE).map_err(state_error)? else { return Ok(Kept::default()) };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let listen = lines.next().and_then(|line| line.parse().ok());
        Ok(Kept { listen, advertise: lines.filter_map(Address::parse).collect() })
    }

    fn write(&self, dir: &StateDir) -> Result<(), LocalError> {
        let listen = self.listen.map(|listen| listen.to_string());
        let lines: Vec<String> = listen.into_iter().chain(self.advertise.iter().map(Address::to_string)).collect();
        dir.write_secret(PLACE_FILE, lines.join("\n").as_bytes()).map_err(state_error)
    }
}

/// Binds where a person said, else where the server was before, else to the first port that is free. Gives the endpoint
/// and the addresses that were said now or before.
pub(super) fn bind(dir: &StateDir, keys: &Keys, said: ServerPlace) -> Result<(Endpoint, Vec<Address>), LocalError> {
    let kept = Kept::read(dir)?;
    let ServerPlace { listen, advertise } = said;
    let ip = listen.or(kept.listen).map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |listen| listen.ip());
    let port = listen.map(|listen| listen.port()).filter(|port| *port != 0);
    let at = |port| Endpoint::bind(Config::new((ip, port).into(), &keys.identity, keys.reset_key, keys.cid_key));
    let bound = match (port.or(kept.listen.map(|kept| kept.port())), listen) {
        (Some(port), _) => at(port).map_err(|error| taken(port, &error)),
        (None, Some(_)) => at(0).map_err(|error| failed(&error)),
        (None, None) => first_free(at).map_err(|error| failed(&error)),
    };
    let endpoint = bound?;
    let port = endpoint.local_addr().map_err(|error| failed(&error))?.port();
    let advertise = if advertise.is_empty() { kept.advertise } else { advertise };
    Kept { listen: Some(SocketAddr::new(ip, port)), advertise: advertise.clone() }.write(dir)?;
    Ok((endpoint, advertise))
}

fn first_free(at: impl Fn(u16) -> Result<Endpoint, BindError>) -> Result<Endpoint, BindError> {
    for port in DEFAULT_PORT..DEFAULT_PORT + PORTS_TRIED {
        match at(port) {
            Err(BindError::Socket { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
    at(0)
}

fn taken(port: u16, error: &BindError) -> LocalError {
    LocalError::new(
        ErrorCode::Failed,
        error.to_string(),
        format!(
            "the server's port is {port}, and invites name it: stop what uses it; or choose another with --listen, \
             and give members new invites"
        ),
    )
}

fn failed(error: &dyn std::error::Error) -> LocalError {
    LocalError::new(ErrorCode::Failed, error.to_string(), "choose another address with --listen ADDR")
}

/// The addresses for a ticket: what a person said; else where it listens; else this machine's own.
pub(super) fn addresses(advertise: Vec<Address>, listen: SocketAddr, loopback_too: bool) -> Vec<Address> {
    if !advertise.is_empty() {
        return advertise.into_iter().take(ADDRESSES_MAX).collect();
    }
    if !listen.ip().to_canonical().is_unspecified() {
        return vec![Address::from(listen)];
    }
    let mut ips: Vec<IpAddr> = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| is_usable(ip, listen)).collect(),
        Err(error) => {
            tracing::warn!(%error, "this machine's addresses can't be read; use --advertise");
            Vec::new()
        }
    };
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.dedup();
    ips.truncate(ADDRESSES_MAX - 1);
    if ips.is_empty() || loopback_too {
        ips.push(Ipv4Addr::LOCALHOST.into());
    }
    ips.into_iter().map(|ip| Address::from(SocketAddr::new(ip, listen.port()))).collect()
}

/// Whether others can dial it: link-local addresses need a zone, which means nothing elsewhere.
fn is_usable(ip: &IpAddr, listen: SocketAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => listen.is_ipv6() && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_names_what_was_said_else_what_there_is() {
        let listen: SocketAddr = "[::]:4433".parse().unwrap();
        let said = Address::parse("relay.example:9").unwrap();
        assert_eq!(addresses(vec![said.clone()], listen, true), [said]);
        let one: SocketAddr = "127.0.0.1:5".parse().unwrap();
        assert_eq!(addresses(vec![], one, false), [Address::from(one)]);
        let own = addresses(vec![], listen, true);
        assert_eq!(own.last(), Some(&Address::parse("127.0.0.1:4433").unwrap()));
        assert!(own.len() <= ADDRESSES_MAX && !addresses(vec![], listen, false).is_empty());
    }
}
