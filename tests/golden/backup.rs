//! The backup file, byte by byte: `docs/backup.md` holds one.

use bailiwick::store::backup::{BackupReader, BackupWriter, read_header};
use bailiwick::wire::backup::{BackupHeader, BackupKey, Contents, Cost, OwnServer};
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::invite::AdmissionSecret;
use std::io::{Read, Write};

const DOCUMENT: &str = include_str!("../../docs/backup.md");
const HEADER: BackupHeader = BackupHeader { cost: Cost { memory_kib: 8, passes: 1, lanes: 1 }, salt: [7; 16] };

fn contents() -> Contents {
    let server = OwnServer {
        identity: ([3; 32], [4; 32]),
        quic: Some(([6; 32], [8; 8])),
        admission: AdmissionSecret([5; 16]),
        place: "[::]:4433".to_owned(),
    };
    Contents { made_ms: 1_000, identity: ([1; 32], [2; 32]), server: Some(server), ticket: None, database: 4 }
}

fn key() -> BackupKey {
    BackupKey::derive(&HEADER, b"correct horse").expect("a key")
}

fn golden() -> Vec<u8> {
    let block = DOCUMENT.lines().skip_while(|line| *line != "```golden name=backup").skip(1);
    let digits: String = block.take_while(|line| *line != "```").collect();
    data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap_or_default()
}

#[test]
fn a_backup_is_what_the_document_holds() {
    let mut writer = BackupWriter::begin(Vec::new(), &HEADER, key()).expect("a header");
    let encoded = encode(&contents());
    writer.write_all(&(encoded.len() as u32).to_le_bytes()).expect("memory");
    writer.write_all(&encoded).expect("memory");
    writer.write_all(b"data").expect("memory");
    let file = writer.finish().expect("memory");
    let expected = super::doc::shown("backup", &file);
    assert!(golden() == file, "docs/backup.md should say:\n\n{expected}\n");
}

#[test]
fn the_documents_backup_is_read() {
    let file = golden();
    let mut from = &file[..];
    assert_eq!(read_header(&mut from).expect("a header"), HEADER);
    let mut reader = BackupReader::begin(from, key());
    let mut length = [0; 4];
    reader.read_exact(&mut length).expect("a length");
    let mut encoded = vec![0; u32::from_le_bytes(length) as usize];
    reader.read_exact(&mut encoded).expect("contents");
    assert!(decode::<Contents>(&encoded).expect("contents") == contents());
    let mut database = Vec::new();
    reader.read_to_end(&mut database).expect("the rest");
    assert_eq!(database, b"data");
    reader.finish().expect("the end");
}
