//! Whatever is encoded comes back, and takes no byte more.

use super::strategies::{self, Hidden};
use bailiwick::wire::chunk::ChunkHeader;
use bailiwick::wire::codec::{DecodeError, decode, encode};
use bailiwick::wire::invite::{Invite, Ticket};
use bailiwick::wire::log::SaltedBody;
use bailiwick::wire::sign::{Context, Identity, verify};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Compares encodings: some of what travels holds secrets, and has no `PartialEq`.
fn comes_back<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let mut bytes = encode(value);
    let Ok(back) = decode::<T>(&bytes) else { panic!("{bytes:?} does not decode") };
    assert_eq!(encode(&back), bytes);
    bytes.push(0);
    assert_eq!(decode::<T>(&bytes).err(), Some(DecodeError::Trailing));
    back
}

proptest! {
    #[test]
    fn frames(Hidden(frame) in strategies::frame()) {
        comes_back(&frame);
    }

    #[test]
    fn letters(Hidden(letter) in strategies::letter()) {
        comes_back(&letter);
        let signature = Identity::from_seeds([1; 32], [2; 32]).sign(Context::Envelope, &strategies::GROUP, &encode(&letter));
        comes_back(&(encode(&letter), signature));
    }

    #[test]
    fn headers_and_heads(
        header in strategies::header(),
        head in strategies::head(),
        manifest in strategies::manifest(),
    ) {
        prop_assert_eq!(comes_back(&header), header);
        prop_assert_eq!(comes_back(&head), head);
        prop_assert_eq!(comes_back(&manifest), manifest);
    }

    #[test]
    fn bodies(body in strategies::body(), salt: [u8; 32], header in strategies::header()) {
        prop_assert_eq!(comes_back(&body), body.clone());
        let salted = SaltedBody::new(salt, &body);
        let committing = bailiwick::wire::log::Header { body: salted.commitment(), ..header.clone() };
        let checked = SaltedBody::check(salted.as_bytes().to_vec(), &committing).unwrap();
        prop_assert_eq!(checked.body(), Ok(body));
        prop_assert!(SaltedBody::check(salted.as_bytes().to_vec(), &header).is_none());
    }

    #[test]
    fn pages(rows in vec(strategies::row(), 0..8)) {
        prop_assert_eq!(comes_back(&rows), rows);
    }

    #[test]
    fn chunk_headers(header in strategies::chunk_header()) {
        prop_assert_eq!(ChunkHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn words(Hidden(invite) in strategies::invite(), Hidden(ticket) in strategies::ticket()) {
        prop_assert!(Invite::parse(&invite.to_string()).is_ok_and(|back| back == invite));
        prop_assert!(Ticket::parse(&ticket.to_string()).is_ok_and(|back| back == ticket));
    }

    #[test]
    fn signatures(bytes in vec(any::<u8>(), 0..100), seed: [u8; 32]) {
        let identity = Identity::from_seeds(seed, [2; 32]);
        let signature = identity.sign(Context::Head, &strategies::GROUP, &bytes);
        prop_assert!(comes_back(&signature) == signature);
        prop_assert!(verify(&identity.device_key(), Context::Head, &strategies::GROUP, &bytes, &signature).is_ok());
    }
}
