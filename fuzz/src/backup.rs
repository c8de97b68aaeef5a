//! The sealed stream of a backup. What reads to its end is what the writer would have written, byte by byte: no segment
//! is left out, added, moved or changed.

use crate::Bytes;
use bailiwick::store::backup::{BackupReader, BackupWriter, bad_backup, read_header};
use bailiwick::wire::backup::{BackupHeader, BackupKey, Cost, SEGMENT_BYTES};
use bailiwick::wire::seal::TAG_BYTES;
use std::io::{self, Read, Write};

pub(crate) const HEADER: BackupHeader =
    BackupHeader { cost: Cost { memory_kib: 8, passes: 1, lanes: 1 }, salt: [5; 16] };
pub(crate) const PASSPHRASE: &[u8] = b"open sesame";

pub(crate) fn key() -> BackupKey {
    BackupKey::derive(&HEADER, PASSPHRASE).expect("a cost within the limits")
}

/// A file as the writer makes it.
pub(crate) fn written(plain: &[u8]) -> Vec<u8> {
    let mut writer = BackupWriter::begin(Vec::new(), &HEADER, key()).expect("memory takes it");
    writer.write_all(plain).and_then(|()| writer.finish()).expect("memory takes it")
}

fn read(file: &[u8]) -> io::Result<Vec<u8>> {
    let mut from = file;
    let header = read_header(&mut from)?;
    let cheap = header.cost.memory_kib <= 64 && header.cost.passes <= 2;
    // A costly one is slow on purpose.
    let key = if cheap { BackupKey::derive(&header, PASSPHRASE).map_err(io::Error::other)? } else { key() };
    let mut reader = BackupReader::begin(from, key);
    let mut plain = Vec::new();
    reader.read_to_end(&mut plain)?;
    reader.finish()?;
    Ok(plain)
}

/// The first byte says whether the rest is a file, or says how one is put together.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let file = match bytes.byte() % 4 {
        0 => bytes.0.to_vec(),
        1 => [&HEADER.encode()[..], bytes.0].concat(),
        _ => put_together(bytes),
    };
    match read(&file) {
        // Another header is another key.
        Ok(_) if !file.starts_with(&HEADER.encode()) => {}
        Ok(plain) => {
            let mut whole = written(&plain);
            // Who knows the passphrase may end with an empty segment of its own. The writer does not.
            if !plain.is_empty() && plain.len() % SEGMENT_BYTES == 0 && file.len() == whole.len() + TAG_BYTES {
                whole = ended_apart(&plain);
            }
            assert!(file == whole, "what is read is what was written");
        }
        Err(error) => drop(bad_backup(&error).map(|why| why.to_string())),
    }
}

fn ended_apart(plain: &[u8]) -> Vec<u8> {
    let (key, mut file) = (key(), HEADER.encode().to_vec());
    for (number, content) in plain.chunks(SEGMENT_BYTES).chain([&[][..]]).enumerate() {
        let mut segment = content.to_vec();
        key.seal(number as u64, content.is_empty(), &mut segment);
        file.extend_from_slice(&segment);
    }
    file
}

/// Segments under numbers of the fuzzer's, of lengths at the edges, some of them damaged.
fn put_together(mut bytes: Bytes<'_>) -> Vec<u8> {
    let mut file = HEADER.encode().to_vec();
    let key = key();
    let mut next = 0;
    while let Some(step) = bytes.next() {
        let fill = bytes.byte();
        let length = [0, 1, 17, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1][usize::from(step >> 5) % 6];
        let mut segment = vec![fill; length];
        let number = if step & 1 == 0 { next } else { bytes.below(6) };
        key.seal(number, step & 2 != 0, &mut segment);
        next = number + 1;
        match step >> 2 & 7 {
            0 => {
                let at = usize::from(bytes.byte()) * 257 % segment.len();
                segment[at] ^= 1;
            }
            1 => segment.truncate(usize::from(bytes.byte())),
            2 => segment.extend_from_slice(bytes.some()),
            _ => {}
        }
        file.extend_from_slice(&segment);
        if file.len() > 8 * SEGMENT_BYTES {
            break;
        }
    }
    file
}

/// Whole files and their recipes.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = |plain: &[u8]| [vec![0], written(plain)].concat();
    let full = 4 << 5 | 3 << 2;
    vec![
        whole(b""),
        whole(b"some bytes"),
        vec![2, 1 << 5 | 3 << 2 | 2, 7],
        vec![2, full, 7, 1 << 5 | 3 << 2 | 2, 7],
        vec![2, full, 7, full | 2, 7],
        vec![2, full, 7, full | 1 | 2, 7, 1],
        vec![2, full, 7, 2, 7, 9],
    ]
}
