//! What people carry from one device to another: invites and server tickets, as one word of text each.
//!
//! A word is a tag, then base32 (RFC 4648, either case, no padding) of the postcard bytes and a checksum of 4 bytes.

use super::codec::{decode, encode};
use super::ids::{DeviceKey, GroupId, InviteId, SealKey};
use super::limits::ADDRESSES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an invite begins with.
pub const INVITE_TAG: &str = "bwi1";
/// What a ticket begins with.
pub const TICKET_TAG: &str = "bwt1";

/// Crockford's base32 alphabet, for codes that people read aloud.
pub fn crockford() -> data_encoding::Encoding {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    spec.encoding().expect("the alphabet has 32 different symbols")
}

/// Why a text is no invite or no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWord {
    /// Another kind of text.
    #[error("it does not begin with '{0}'")]
    Tag(&'static str),
    /// A ticket where an invite should be, or the other way round.
    #[error("it is {0}")]
    Other(&'static str),
    /// Characters changed or missing.
    #[error("it is damaged or incomplete: copy it again, whole")]
    Damaged,
}

/// Where a server can be reached.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Address {
    /// IPv4 address and UDP port.
    V4([u8; 4], u16),
    /// IPv6 address and UDP port.
    V6([u8; 16], u16),
    /// A name for the DNS and a UDP port.
    Name(String, u16),
}

impl Address {
    /// Parses `HOST:PORT`; `HOST` is a name, an IPv4 address or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Address> {
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return (address.port() != 0).then(|| Address::from(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
        is_name.then(|| Address::Name(host.to_owned(), port))
    }
}

impl From<std::net::SocketAddr> for Address {
    fn from(address: std::net::SocketAddr) -> Address {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Address::V4(ip.octets(), address.port()),
            IpAddr::V6(ip) => Address::V6(ip.octets(), address.port()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::V4(ip, port) => write!(f, "{}:{port}", Ipv4Addr::from(*ip)),
            Address::V6(ip, port) => write!(f, "[{}]:{port}", Ipv6Addr::from(*ip)),
            Address::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server: its key and the addresses to try, all at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerAddress {
    /// The server's own Ed25519 key, which a dial pins.
    pub key: DeviceKey,
    /// Where to find it.
    pub addresses: Vec<Address>,
}

/// The 128 random bits that make an invite worth something. No `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteSecret(pub [u8; 16]);

impl InviteSecret {
    /// The invite's id, which tells nothing about the secret.
    pub fn id(&self) -> InviteId {
        let digest = blake3::derive_key("bailiwick 2026 invite id", &self.0);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        InviteId(bytes)
    }
}

/// An invite into a group.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The group's server.
    pub server: ServerAddress,
    /// The master's Ed25519 key; the group's id is its hash.
    pub master: DeviceKey,
    /// The master's X25519 key.
    pub seal: SealKey,
    /// One use.
    pub secret: InviteSecret,
}

impl Invite {
    /// The group that it leads into.
    pub fn group(&self) -> GroupId {
        GroupId::of(&self.master)
    }

    /// Parses an invite's text.
    pub fn parse(text: &str) -> Result<Invite, BadWord> {
        let invite: Invite =
            from_word(text, INVITE_TAG, TICKET_TAG, "a server's ticket; an invite begins with 'bwi1'")?;
        check_addresses(&invite.server).map(|()| invite)
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_word(INVITE_TAG, self))
    }
}

/// What lets a master bring its group to a server. No `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionSecret(pub [u8; 16]);

/// A server's ticket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The server.
    pub server: ServerAddress,
    /// What it asks of a master that it doesn't know.
    pub admission: AdmissionSecret,
}

impl Ticket {
    /// Parses a ticket's text.
    pub fn parse(text: &str) -> Result<Ticket, BadWord> {
        let ticket: Ticket =
            from_word(text, TICKET_TAG, INVITE_TAG, "an invite for a client; a server's ticket begins with 'bwt1'")?;
        check_addresses(&ticket.server).map(|()| ticket)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_word(TICKET_TAG, self))
    }
}

fn check_addresses(server: &ServerAddress) -> Result<(), BadWord> {
    let well_formed = |address: &Address| match address {
        Address::Name(..) => Address::parse(&address.to_string()).as_ref() == Some(address),
        Address::V4(_, port) | Address::V6(_, port) => *port != 0,
    };
    let fits = !server.addresses.is_empty() && server.addresses.len() <= ADDRESSES_MAX;
    if fits && server.addresses.iter().all(well_formed) { Ok(()) } else { Err(BadWord::Damaged) }
}

fn checksum(tag: &str, bytes: &[u8]) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new_derive_key("bailiwick 2026 word checksum");
    hasher.update(tag.as_bytes()).update(bytes);
    let mut sum = [0; 4];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

fn to_word<T: Serialize>(tag: &str, value: &T) -> String {
    let mut bytes = encode(value);
    let sum = checksum(tag, &bytes);
    bytes.extend_from_slice(&sum);
    let text = data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
    format!("{tag}{text}")
}

fn from_word<T: DeserializeOwned>(
    text: &str,
    tag: &'static str,
    other: &str,
    told: &'static str,
) -> Result<T, BadWord> {
    let text = text.trim().to_ascii_lowercase();
    if text.starts_with(other) {
        return Err(BadWord::Other(told));
    }
    let word = text.strip_prefix(tag).ok_or(BadWord::Tag(tag))?;
    let bytes =
        data_encoding::BASE32_NOPAD.decode(word.to_ascii_uppercase().as_bytes()).map_err(|_| BadWord::Damaged)?;
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(BadWord::Damaged)?;
    if *sum != checksum(tag, body) {
        return Err(BadWord::Damaged);
    }
    decode(body).map_err(|_| BadWord::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sign::Identity;

    fn server() -> ServerAddress {
        let key = Identity::from_seeds([9; 32], [9; 32]).device_key();
        let addresses = ["192.0.2.1:4433", "[2001:db8::1]:4433", "server.example:4433"];
        ServerAddress { key, addresses: addresses.iter().map(|text| Address::parse(text).unwrap()).collect() }
    }

    #[test]
    fn words_come_back_in_either_case_and_say_what_is_wrong_with_them() {
        let master = Identity::from_seeds([1; 32], [2; 32]);
        let invite = Invite {
            server: server(),
            master: master.device_key(),
            seal: master.seal_key(),
            secret: InviteSecret([7; 16]),
        };
        let text = invite.to_string();
        assert!(Invite::parse(&text).unwrap() == invite);
        assert!(Invite::parse(&text.to_ascii_uppercase()).unwrap() == invite);
        assert_eq!(Invite::parse(&text[..text.len() - 3]).err(), Some(BadWord::Damaged));
        assert_eq!(Invite::parse("hello").err(), Some(BadWord::Tag("bwi1")));
        let ticket = Ticket { server: server(), admission: AdmissionSecret([8; 16]) }.to_string();
        assert!(matches!(Invite::parse(&ticket), Err(BadWord::Other(_))));
        assert!(matches!(Ticket::parse(&text), Err(BadWord::Other(_))));
        for place in 4..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'a' { b'b' } else { b'a' };
            assert!(Invite::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "changed at {place}");
        }
    }

    #[test]
    fn addresses_are_parsed_strictly() {
        for bad in ["", "host", "host:", "host:0", "192.0.2.1:0", "[::1]:0", "ho st:1", "host:99999", "a\u{202e}:1"] {
            assert!(Address::parse(bad).is_none(), "{bad:?}");
        }
    }
}
