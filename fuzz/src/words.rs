//! What people type or carry: invites, tickets, addresses, names, paths. A text that is taken comes back from
//! what it was taken for, and breaks none of the rules of the protocol's §4, written here a second time.

use crate::golden;
use bailiwick::wire::ids::{FileId, PublicId};
use bailiwick::wire::invite::{
    Address, AdmissionSecret, BadWord, INVITE_TAG, Invite, ServerAddress, TICKET_TAG, Ticket,
};
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::path::RelPath;
use bailiwick::wire::sign::Identity;

/// The first byte says what the rest is taken for.
pub fn run(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match which % 9 {
        0 => invite(&text),
        1 => ticket(&text),
        // The fuzzer can't find checksums.
        2 => invite(&word(INVITE_TAG, rest)),
        3 => ticket(&word(TICKET_TAG, rest)),
        4 => address(&text),
        5 => path(&text),
        6 => name(&text),
        7 => {
            if let Some(id) = PublicId::from_text(&text) {
                assert_eq!(PublicId::from_text(&id.to_string()), Some(id));
            }
            assert_eq!(FileId::from_text(&text).map(|id| id.0), PublicId::from_text(&text).map(|id| id.0));
        }
        _ => lines(&text),
    }
}

/// Bytes as a word whose checksum is right; by the rule of the protocol's §9.
fn word(tag: &str, bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let sum =
        blake3::Hasher::new_derive_key("bailiwick 2026 word checksum").update(tag.as_bytes()).update(bytes).finalize();
    let bytes = [bytes, &sum.as_bytes()[..4]].concat();
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let symbol = |at: usize| (0..5).fold(0, |sum, n| sum << 1 | bit(at + n));
    let text = (0..bytes.len() * 8).step_by(5).map(|at| char::from(SYMBOLS[usize::from(symbol(at))]));
    tag.chars().chain(text).collect()
}

fn invite(text: &str) {
    match Invite::parse(text) {
        Ok(invite) => {
            assert!(Invite::parse(&invite.to_string()) == Ok(invite.clone()));
            assert!(matches!(Ticket::parse(text), Err(BadWord::Other(_))), "it is one of the two");
            server(&invite.server);
        }
        Err(why) => drop(why.to_string()),
    }
}

fn ticket(text: &str) {
    match Ticket::parse(text) {
        Ok(ticket) => {
            assert!(Ticket::parse(&ticket.to_string()) == Ok(ticket.clone()));
            assert!(matches!(Invite::parse(text), Err(BadWord::Other(_))), "it is one of the two");
            server(&ticket.server);
        }
        Err(why) => drop(why.to_string()),
    }
}

fn server(server: &ServerAddress) {
    assert!((1..=8).contains(&server.addresses.len()));
    for address in &server.addresses {
        let text = address.to_string();
        assert!(!text.ends_with(":0") && text.is_ascii() && !text.contains(char::is_whitespace), "{text}");
    }
}

/// An address that a person may give is one that a ticket can carry.
fn address(text: &str) {
    let Some(address) = Address::parse(text) else { return };
    assert_eq!(Address::parse(&address.to_string()), Some(address.clone()));
    let key = Identity::from_seeds([1; 32], [2; 32]).device_key();
    let server = ServerAddress { key, addresses: vec![address] };
    let ticket = Ticket { server, admission: AdmissionSecret([3; 16]) };
    assert!(Ticket::parse(&ticket.to_string()) == Ok(ticket), "{text}");
}

/// §4.7's characters.
fn is_excluded(c: char) -> bool {
    let n = u32::from(c);
    n < 0x20
        || (0x7f..0xa0).contains(&n)
        || n == 0x61c
        || (0x200b..=0x200f).contains(&n)
        || (0x2028..=0x202e).contains(&n)
        || (0x2060..=0x206f).contains(&n)
        || n == 0xfeff
        || (0xfff9..=0xfffb).contains(&n)
        || (0xe0000..=0xe007f).contains(&n)
}

fn path(text: &str) {
    let good = text.len() <= 1_024
        && text.split('/').count() <= 64
        && text.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
        && !text.contains(|c| c == '\\' || is_excluded(c));
    let parsed = RelPath::parse(text);
    assert_eq!(parsed.is_ok(), good, "{text:?}");
    let Ok(path) = parsed else { return };
    assert_eq!(path.as_str(), text);
    assert!(path.is_within(&path));
    assert_eq!(path.components().last(), Some(path.name()));
    if let Ok(longer) = path.join(path.name()) {
        assert!(longer.is_within(&path) && !path.is_within(&longer));
    }
}

fn name(text: &str) {
    let good = (1..=64).contains(&text.len())
        && text.trim() == text
        && !text.contains(|c| c == ':' || c == '/' || is_excluded(c));
    let parsed = DeviceName::parse(text);
    assert_eq!(parsed.is_ok(), good, "{text:?}");
    let Ok(name) = parsed else { return };
    let mut taken = Vec::new();
    for _ in 0..12 {
        let unique = name.made_unique(|name| taken.contains(&name.folded()));
        assert!(DeviceName::parse(unique.as_str()).is_ok(), "{unique:?}");
        assert!(!taken.contains(&unique.folded()));
        taken.push(unique.folded());
    }
}

fn lines(text: &str) {
    for line in text.lines().take(4) {
        path(line);
        address(line);
        name(line);
    }
}

/// Words, names and paths that are real.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = golden::behind(2, golden::blocks("invite")).collect();
    seeds.extend(golden::behind(3, golden::blocks("ticket")));
    seeds.extend(golden::blocks("invite").iter().map(|raw| format!("\0{}", word(INVITE_TAG, raw)).into_bytes()));
    seeds.extend(golden::blocks("ticket").iter().map(|raw| format!("\u{1}{}", word(TICKET_TAG, raw)).into_bytes()));
    let texts = [
        (4, "192.0.2.1:4433"),
        (4, "[2001:db8::1]:4433"),
        (4, "server.example:4433"),
        (5, "Pictures/2024/a b.jpg"),
        (6, "Laptop"),
        (7, "d1d1d1d1-d1d1-d1d1-d1d1-d1d1d1d1d1d1"),
        (8, "a/b\nlaptop\nhost:1"),
    ];
    seeds.extend(texts.map(|(which, text)| [&[which], text.as_bytes()].concat()));
    seeds
}
