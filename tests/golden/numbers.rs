//! The tables of limits and codes in the document.

use super::doc;
use bailiwick::wire::close::{CloseCode, StreamCode};
use bailiwick::wire::{geometry, limits, path};
use std::fmt::Debug;

#[test]
fn limits_are_those_of_the_document() {
    let limits = [
        ("FRAME_BYTES_MAX", limits::FRAME_BYTES_MAX as u64),
        ("STRANGER_FRAME_BYTES_MAX", limits::STRANGER_FRAME_BYTES_MAX as u64),
        ("ENVELOPE_BYTES_MAX", limits::ENVELOPE_BYTES_MAX as u64),
        ("HEADER_BYTES_MAX", limits::HEADER_BYTES_MAX as u64),
        ("ENTRY_BODY_BYTES_MAX", limits::ENTRY_BODY_BYTES_MAX as u64),
        ("PAGE_BYTES_MAX", limits::PAGE_BYTES_MAX as u64),
        ("CATCH_UP_BYTES", limits::CATCH_UP_BYTES as u64),
        ("FILES_PER_REQUEST_MAX", limits::FILES_PER_REQUEST_MAX as u64),
        ("REQUEST_FILES_BYTES_MAX", limits::REQUEST_FILES_BYTES_MAX as u64),
        ("HEADERS_PER_FRAME_MAX", limits::HEADERS_PER_FRAME_MAX as u64),
        ("RANGES_PER_FRAME_MAX", limits::RANGES_PER_FRAME_MAX as u64),
        ("PRESENCE_PER_FRAME_MAX", limits::PRESENCE_PER_FRAME_MAX as u64),
        ("INVITES_MAX", limits::INVITES_MAX as u64),
        ("NAME_BYTES_MAX", limits::NAME_BYTES_MAX as u64),
        ("ADDRESSES_MAX", limits::ADDRESSES_MAX as u64),
        ("MEMBERS_MAX", limits::MEMBERS_MAX as u64),
        ("MEMBERSHIP_HEADERS_MAX", limits::MEMBERSHIP_HEADERS_MAX as u64),
        ("FILES_PER_DEVICE_MAX", limits::FILES_PER_DEVICE_MAX),
        ("PATH_BYTES_MAX", path::PATH_BYTES_MAX as u64),
        ("COMPONENT_BYTES_MAX", path::COMPONENT_BYTES_MAX as u64),
        ("PATH_DEPTH_MAX", path::PATH_DEPTH_MAX as u64),
        ("CHUNK_BYTES_MAX", geometry::CHUNK_BYTES_MAX.into()),
        ("CHUNKS_MAX", geometry::CHUNKS_MAX.into()),
        ("LARGE_FILE_BYTES", geometry::LARGE_FILE_BYTES),
        ("LIST_PART_BYTES", geometry::LIST_PART_BYTES.into()),
        ("CHUNK_TTL", limits::CHUNK_TTL.as_secs()),
        ("SLOWEST_RATE", limits::SLOWEST_RATE),
    ];
    let rows = doc::rows("## 17 Limits");
    assert_eq!(rows.len(), limits.len());
    for ((limit, value), row) in limits.iter().zip(rows) {
        assert_eq!(row[0], format!("`{limit}`"));
        let digits: String = row[1].chars().take_while(|c| *c != ' ').filter(char::is_ascii_digit).collect();
        assert_eq!(digits, value.to_string(), "{limit}");
    }
}

#[test]
fn codes_are_those_of_the_document() {
    let rows = doc::rows("### 2.4 Codes");
    let written: Vec<String> = rows.iter().map(|row| format!("{} {}", row[0], row[1])).collect();
    let closes = CloseCode::KNOWN.iter().map(|code| numbered(*code));
    let streams = StreamCode::KNOWN.iter().map(|code| numbered(*code));
    assert_eq!(written, closes.chain(streams).collect::<Vec<_>>());
}

fn numbered<C: Copy + Debug + Into<u64>>(code: C) -> String {
    format!("{} {code:?}", code.into())
}
