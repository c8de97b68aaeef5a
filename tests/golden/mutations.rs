//! Bytes from a peer never panic: they are decoded, or they are refused.

use super::strategies::{self, Hidden};
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::envelope::{Letter, Payload};
use bailiwick::wire::frame::Frame;
use bailiwick::wire::ids::{DeviceKey, SealKey};
use bailiwick::wire::invite::{Address, Invite, Ticket};
use bailiwick::wire::log::{Body, FileMeta, Head, Header, Manifest, SaltedBody, SignedHeader, SnapshotRow};
use bailiwick::wire::seal::SealedBody;
use bailiwick::wire::sign::{Identity, Signature};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Decodes bytes as everything that they could be.
fn decode_as_all(bytes: &[u8]) {
    let _ = decode::<Frame>(bytes);
    let _ = decode::<Letter>(bytes);
    let _ = decode::<Payload>(bytes);
    let _ = decode::<(Vec<u8>, Signature)>(bytes);
    let _ = decode::<Header>(bytes);
    let _ = decode::<Head>(bytes);
    let _ = decode::<Manifest>(bytes);
    let _ = decode::<SignedHeader>(bytes);
    let _ = decode::<Body>(bytes);
    let _ = decode::<FileMeta>(bytes);
    let _ = decode::<Vec<SnapshotRow>>(bytes);
    let _ = decode::<SealedBody>(bytes);
    let _ = decode::<Invite>(bytes);
    let _ = decode::<Ticket>(bytes);
    let _ = decode::<DeviceKey>(bytes);
    let _ = decode::<SealKey>(bytes);
    if let Ok(header) = bytes.try_into() {
        let _ = ChunkHeader::decode(header);
    }
}

/// Bytes changed in a few places, then cut or made longer.
fn mutated(mut bytes: Vec<u8>, changes: &[(Index, u8)], cut: Index, more: &[u8]) -> Vec<u8> {
    if !bytes.is_empty() {
        changes.iter().for_each(|(place, byte)| *place.get_mut(&mut bytes) = *byte);
        bytes.truncate(cut.index(bytes.len() * 4));
    }
    bytes.extend_from_slice(more);
    bytes
}

fn mutation() -> impl Strategy<Value = (Vec<(Index, u8)>, Index, Vec<u8>)> {
    (vec(any::<(Index, u8)>(), 0..4), any::<Index>(), vec(any::<u8>(), 0..3))
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..600)) {
        decode_as_all(&bytes);
    }

    #[test]
    fn bytes_that_were_a_frame(Hidden(frame) in strategies::frame(), (changes, cut, more) in mutation()) {
        decode_as_all(&mutated(encode(&frame), &changes, cut, &more));
    }

    #[test]
    fn bytes_that_were_a_letter(Hidden(letter) in strategies::letter(), (changes, cut, more) in mutation()) {
        decode_as_all(&mutated(encode(&letter), &changes, cut, &more));
    }

    #[test]
    fn bytes_that_were_of_the_log(
        header in strategies::header(),
        body in strategies::body(),
        rows in vec(strategies::row(), 0..5),
        (changes, cut, more) in mutation(),
    ) {
        for bytes in [encode(&header), encode(&body), encode(&rows)] {
            decode_as_all(&mutated(bytes, &changes, cut, &more));
        }
        let salted = mutated(SaltedBody::new([1; 32], &body).as_bytes().to_vec(), &changes, cut, &more);
        let committing = Header { body: bailiwick::wire::ids::Hash::of(&salted), ..header };
        if let Some(salted) = SaltedBody::check(salted, &committing) {
            let _ = salted.body();
        }
    }

    #[test]
    fn bytes_that_were_a_chunk_header(header in strategies::chunk_header(), place in 0..58usize, byte: u8) {
        let mut bytes = header.encode();
        bytes[place] = byte;
        if let Ok(other) = ChunkHeader::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn sealed_bytes(Hidden(letter) in strategies::letter(), (changes, cut, more) in mutation()) {
        let (anna, bert) = (Identity::from_seeds([1; 32], [2; 32]), Identity::from_seeds([3; 32], [4; 32]));
        let sealed = letter.seal(&anna, &strategies::GROUP, &bert.seal_key());
        let changed = mutated(sealed.clone(), &changes, cut, &more);
        let opened = Letter::open(&bert, &strategies::GROUP, &anna.device_key(), &changed);
        prop_assert!(opened.is_err(), "only a letter from anna to bert opens");
    }

    #[test]
    fn any_text(text in ".{0,200}") {
        let _ = Invite::parse(&text);
        let _ = Ticket::parse(&text);
        let _ = Address::parse(&text);
        let _ = Invite::parse(&format!("bwi1{text}"));
        let _ = Ticket::parse(&format!("bwt1{text}"));
    }

    #[test]
    fn text_that_was_an_invite(Hidden(invite) in strategies::invite(), place: Index, c in "[a-z2-7]") {
        let text = invite.to_string();
        let at = place.index(text.len());
        let changed = format!("{}{c}{}", &text[..at], &text[at + 1..]);
        if let Ok(other) = Invite::parse(&changed) {
            prop_assert!(other == invite);
        }
    }
}
