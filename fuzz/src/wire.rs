//! Everything that travels in postcard, and the two headers of fixed layout. A decoder gives an error, or a value that
//! encodes to bytes that decode to the same, no longer than those that came; and it takes no memory that its input does
//! not account for.

use crate::{golden, heap};
use bailiwick::node::member::Group;
use bailiwick::state::authority::StaleCopy;
use bailiwick::state::chain::Fork;
use bailiwick::state::requests::Outstanding;
use bailiwick::wire::backup::{BackupHeader, Contents, HEADER_BYTES};
use bailiwick::wire::chunk::{CHUNK_HEADER_BYTES, ChunkHeader};
use bailiwick::wire::codec::{DecodeError, decode, encode};
use bailiwick::wire::envelope::{Answer, Letter, Payload, Request};
use bailiwick::wire::frame::{ChunkRange, Frame, ranges_of, within_limits};
use bailiwick::wire::geometry::{CHUNK_BYTES_MAX, ChunkSize, Geometry, Unit};
use bailiwick::wire::ids::{DeviceKey, SealKey};
use bailiwick::wire::invite::{Invite, ServerAddress, Ticket};
use bailiwick::wire::limits::CHUNKS_PER_FRAME_MAX;
use bailiwick::wire::log::{
    Body, FileMeta, Head, Header, Manifest, Policy, SignedHead, SignedHeader, SignedManifest, SnapshotRow,
};
use bailiwick::wire::seal::SealedBody;
use bailiwick::wire::sign::Signature;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that a decoder may take whatever its input is: serde reserves up to a mebibyte for a list.
const HEAP_BASE: usize = 4 << 20;
/// Bytes that it may take for each byte of its input.
const HEAP_PER_BYTE: usize = 512;

fn round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (decoded, peak) = heap::peak(|| decode::<T>(bytes));
    assert!(peak <= HEAP_BASE + HEAP_PER_BYTE * bytes.len(), "{peak} bytes of memory for {} bytes", bytes.len());
    let value = decoded.ok()?;
    let again = encode(&value);
    assert!(again.len() <= bytes.len(), "what this version writes is the shortest");
    let back = decode::<T>(&again).expect("what was encoded decodes");
    assert_eq!(encode(&back), again, "one value, one encoding");
    let longer = [bytes, &[0]].concat();
    assert_eq!(decode::<T>(&longer).err(), Some(DecodeError::Trailing), "it ends where its bytes end");
    Some(value)
}

/// The first byte says which decoder reads the rest.
pub fn run(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 29 {
        0 => frame(rest),
        1 => drop(round_trip::<Payload>(rest)),
        2 => drop(round_trip::<Header>(rest)),
        3 => drop(round_trip::<Body>(rest).map(|body| files_of(&body))),
        4 => drop(round_trip::<SignedHeader>(rest)),
        5 => drop(round_trip::<SignedHead>(rest)),
        6 => drop(round_trip::<Head>(rest)),
        7 => drop(round_trip::<Manifest>(rest)),
        8 => drop(round_trip::<SignedManifest>(rest)),
        9 => drop(round_trip::<Vec<SnapshotRow>>(rest)),
        10 => drop(round_trip::<Letter>(rest)),
        11 => drop(round_trip::<(Vec<u8>, Signature)>(rest)),
        12 => drop(round_trip::<SealedBody>(rest)),
        13 => drop(round_trip::<FileMeta>(rest).map(|file| geometry(file.size, file.chunk))),
        14 => drop(round_trip::<Request>(rest)),
        15 => drop(round_trip::<Answer>(rest)),
        16 => drop(round_trip::<Contents>(rest)),
        17 => drop(round_trip::<Invite>(rest)),
        18 => drop(round_trip::<Ticket>(rest)),
        19 => drop(round_trip::<ServerAddress>(rest)),
        20 => drop(round_trip::<Policy>(rest)),
        21 => drop(round_trip::<Outstanding>(rest)),
        22 => drop(round_trip::<Group>(rest)),
        23 => drop(round_trip::<Fork>(rest)),
        24 => drop(round_trip::<StaleCopy>(rest)),
        25 => drop((round_trip::<DeviceKey>(rest), round_trip::<SealKey>(rest))),
        26 => chunk_header(rest),
        27 => backup_header(rest),
        _ => {
            let Some((size, [chunk])) = rest.split_first_chunk::<8>() else { return };
            ChunkSize::parse(*chunk).into_iter().for_each(|chunk| geometry(u64::from_le_bytes(*size), chunk));
        }
    }
}

fn frame(bytes: &[u8]) {
    match round_trip::<Frame>(bytes) {
        Some(
            Frame::RequestChunk { ranges, .. }
            | Frame::UploadChunk { ranges, .. }
            | Frame::ChunkRefused { ranges, .. }
            | Frame::CancelChunk { ranges, .. },
        ) if within_limits(&ranges) => {
            let chunks: Vec<_> = ranges.iter().flat_map(ChunkRange::chunks).collect();
            assert!(chunks.len() as u64 <= CHUNKS_PER_FRAME_MAX);
            let joined = ranges_of(chunks.iter().copied());
            assert!(joined.iter().flat_map(ChunkRange::chunks).eq(chunks), "joined, and apart again");
        }
        _ => {}
    }
}

fn files_of(body: &Body) {
    if let Body::FilesAdded { files, .. } | Body::FilesChanged { files, .. } = body {
        files.iter().for_each(|file| geometry(file.size, file.chunk));
    }
}

/// Units lie one after the other, each within the file, and end where the file ends.
fn geometry(size: u64, chunk: ChunkSize) {
    let Ok(geometry) = Geometry::new(size, chunk) else { return };
    let chunks = geometry.chunk_count();
    assert_eq!(geometry.chunk_len(chunks), None);
    assert_eq!(chunks == 0, size == 0);
    for index in [0, chunks / 2, chunks.saturating_sub(1)] {
        let Some(length) = geometry.chunk_len(index) else { continue };
        assert!((1..=CHUNK_BYTES_MAX).contains(&length));
        assert!(geometry.chunk_offset(index) + u64::from(length) <= size);
    }
    if chunks > 0 {
        let last = chunks - 1;
        assert_eq!(geometry.chunk_offset(last) + u64::from(geometry.chunk_len(last).expect("a chunk")), size);
    }
    let parts = geometry.list_part_count();
    let listed: u64 =
        (0..parts).map(|part| u64::from(geometry.unit_len(Unit::ListPart(part).index()).expect("a part"))).sum();
    assert_eq!(listed, geometry.list_len());
    assert_eq!(geometry.unit_len(Unit::ListPart(parts).index()), None);
}

fn chunk_header(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<{ CHUNK_HEADER_BYTES }>() else { return };
    if let Ok(header) = ChunkHeader::decode(bytes) {
        assert_eq!(&header.encode(), bytes, "one header, one encoding");
        assert!(header.stream_bytes() <= CHUNK_BYTES_MAX as usize + 16);
    }
}

fn backup_header(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<{ HEADER_BYTES }>() else { return };
    if let Ok(header) = BackupHeader::decode(bytes) {
        assert_eq!(&header.encode(), bytes, "one header, one encoding");
        assert!(header.cost.memory_kib <= 1 << 20 && header.cost.passes <= 16 && header.cost.lanes <= 4);
    }
}

/// The golden values, each behind the number of its decoder.
pub fn seeds() -> Vec<Vec<u8>> {
    let known = [
        (0, "frame-"),
        (1, "payload-"),
        (2, "header"),
        (3, "body-"),
        (4, "signed-header"),
        (5, "signed-head"),
        (6, "head"),
        (7, "manifest"),
        (8, "signed-manifest"),
        (9, "page"),
        (10, "letter"),
        (11, "signed-letter"),
        (12, "sealed-body"),
        (13, "file-meta"),
        (14, "request-"),
        (15, "answer-"),
        (17, "invite"),
        (18, "ticket"),
        (19, "server-address"),
        (25, "device-key"),
        (26, "chunk-header"),
    ];
    let mut seeds: Vec<Vec<u8>> =
        known.into_iter().flat_map(|(which, prefix)| golden::behind(which, golden::blocks(prefix))).collect();
    let cost = bailiwick::wire::backup::Cost { memory_kib: 8, passes: 1, lanes: 1 };
    seeds.push([vec![27], BackupHeader { cost, salt: [7; 16] }.encode().to_vec()].concat());
    let identity = ([1; 32], [2; 32]);
    let contents = Contents { made_ms: 1, identity, server: None, ticket: Some("bwt1".into()), database: 9 };
    seeds.push([vec![16], encode(&contents)].concat());
    seeds.push(vec![28, 1, 0, 0, 0, 1, 0, 0, 0, 20]);
    seeds
}
