//! What travels, byte by byte: `docs/protocol.md` holds the bytes, and these tests hold the code to them.
//!
//! A test that fails prints the block as the code would have it. Whoever changes the document by that changes the
//! protocol, and says so in CHANGELOG.md.

mod backup;
mod doc;
mod fixtures;
mod mutations;
mod numbers;
mod round_trips;
mod strategies;

use fixtures::{Fixture, fixtures};
use std::collections::BTreeSet;
use std::fmt::Debug;

#[test]
fn every_fixture_encodes_to_the_bytes_of_the_document() {
    let golden = doc::golden();
    let wrong: Vec<String> = fixtures()
        .iter()
        .filter(|fixture| !fixture.is_what_the_document_holds(&golden))
        .map(|fixture| doc::shown(fixture.label, &fixture.bytes))
        .collect();
    assert!(wrong.is_empty(), "docs/protocol.md should say:\n\n{}\n", wrong.join("\n\n"));
}

#[test]
fn every_fixture_decodes_back_and_takes_no_byte_more_or_less() {
    let golden = doc::golden();
    for Fixture { label, decode, .. } in fixtures() {
        let (Some(decode), Some(bytes)) = (decode, golden.get(label)) else { continue };
        assert_eq!(decode(bytes).as_ref(), Some(bytes), "{label} does not come back");
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(decode(&longer), None, "{label} is taken with a byte more");
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None, "{label} is taken with a byte less");
    }
}

#[test]
fn document_and_fixtures_have_the_same_labels() {
    let all = fixtures();
    let fixtures: BTreeSet<&str> = all.iter().map(|fixture| fixture.label).collect();
    assert_eq!(fixtures.len(), all.len(), "two fixtures have one label");
    let golden = doc::golden();
    let document: BTreeSet<&str> = golden.keys().map(String::as_str).collect();
    assert_eq!(document, fixtures);
}

/// A variant without a fixture shows: the number after the last one with a fixture must be unknown.
#[test]
fn every_variant_has_a_fixture() {
    use bailiwick::wire::{envelope, frame, log};
    let all = fixtures();
    every_variant::<frame::Frame>(&all, "frame-");
    every_variant::<envelope::Payload>(&all, "payload-");
    every_variant::<envelope::Request>(&all, "request-");
    every_variant::<envelope::Answer>(&all, "answer-");
    every_variant::<log::Body>(&all, "body-");
    every_variant::<log::SnapshotRow>(&all, "row-");
}

fn every_variant<T: serde::de::DeserializeOwned>(fixtures: &[Fixture], prefix: &str) {
    let variants = fixtures.iter().filter(|fixture| fixture.label.starts_with(prefix) && fixture.decode.is_some());
    let numbers: BTreeSet<u8> = variants.map(|fixture| fixture.bytes[0]).collect();
    let count = numbers.len() as u8;
    assert_eq!(numbers, (0..count).collect(), "{prefix}");
    assert!(is_unknown::<T>(count), "{prefix}: variant {count} has no fixture");
}

fn is_unknown<T: serde::de::DeserializeOwned>(variant: u8) -> bool {
    matches!(postcard::from_bytes::<T>(&[variant]), Err(postcard::Error::SerdeDeCustom))
}

#[test]
fn the_numbers_of_plain_enums_are_those_of_the_document() {
    use bailiwick::wire::{envelope, frame, log};
    numbered::<frame::Role>("role");
    numbered::<frame::Class>("class");
    numbered::<frame::MasterRefusal>("master-refusal");
    numbered::<frame::HeldRegistration>("held-registration");
    numbered::<frame::ChunkRefusal>("chunk-refusal");
    numbered::<envelope::RegisterRefusal>("register-refusal");
    numbered::<envelope::FileRefusal>("file-refusal");
    numbered::<envelope::RequestRefusal>("request-refusal");
    numbered::<log::Standing>("standing");
    numbered::<log::FileKind>("file-kind");
    let known = ["role", "class", "master-refusal", "held-registration", "chunk-refusal", "register-refusal"];
    let known = known.into_iter().chain(["file-refusal", "request-refusal", "standing", "file-kind"]);
    assert_eq!(doc::blocks("numbers").keys().map(String::as_str).collect::<BTreeSet<_>>(), known.collect());
}

fn numbered<T: serde::de::DeserializeOwned + Debug>(label: &str) {
    let expected: Vec<String> = (0..u8::MAX)
        .map_while(|number| postcard::from_bytes::<T>(&[number]).ok().map(|value| format!("{number} {value:?}")))
        .collect();
    assert!(is_unknown::<T>(expected.len() as u8), "{label} is not a plain enum");
    let written = doc::blocks("numbers").remove(label).unwrap_or_default();
    assert_eq!(
        written,
        expected,
        "docs/protocol.md should say:\n\n```numbers name={label}\n{}\n```",
        expected.join("\n")
    );
}
