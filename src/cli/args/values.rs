//! Values of arguments, and why a text is none.

use crate::wire::invite::Address;
use crate::wire::name::DeviceName;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An address with its port, or a port of all addresses.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    match (text.parse(), port) {
        (Ok(address), _) => Ok(address),
        (Err(_), Ok(port)) => Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)),
        (Err(_), Err(_)) => Err("expected ADDRESS:PORT, such as 0.0.0.0:4433 or [::]:4433, or a PORT".to_owned()),
    }
}

/// How others reach a server.
pub(super) fn advertised_address(text: &str) -> Result<Address, String> {
    Address::parse(text).ok_or_else(|| "expected HOST:PORT, such as vps.example.org:4433".to_owned())
}

/// A device's name.
pub(super) fn device_name(text: &str) -> Result<DeviceName, String> {
    DeviceName::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_addresses_may_be_ports_alone() {
        assert_eq!(listen_address("127.0.0.1:0"), Ok("127.0.0.1:0".parse().unwrap()));
        for text in ["4433", ":4433", "[::]:4433"] {
            assert_eq!(listen_address(text), Ok("[::]:4433".parse().unwrap()), "{text}");
        }
        for text in ["", "host:4433", "1.2.3.4", "99999"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }
}
