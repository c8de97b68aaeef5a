//! The import of a backup that somebody made to harm, and knows the passphrase of: it ends with a master's directory, or
//! with an error and a directory that another import can use. Never with half of one.

use crate::{Bytes, Counter, backup};
use bailiwick::node::backup::Sealed;
use bailiwick::node::member::{Cx, MemberConfig, MemberCore, Name, Start};
use bailiwick::state::time::Time;
use bailiwick::store::member::MemberStore;
use bailiwick::wire::backup::{Contents, OwnServer};
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::invite::{Address, AdmissionSecret, ServerAddress, Ticket};
use bailiwick::wire::name::DeviceName;
use bailiwick::wire::sign::Identity;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const KEYS: ([u8; 32], [u8; 32]) = ([1; 32], [2; 32]);

/// A folder of this process, in memory where the system has such a place.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = above.join(format!("bailiwick-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    })
}

/// A master's database as an export holds it.
fn database() -> &'static [u8] {
    static DATABASE: OnceLock<Vec<u8>> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let store = MemberStore::open_in_memory().expect("a database");
        let identity = Arc::new(Identity::from_seeds(KEYS.0, KEYS.1));
        let address = Address::parse("192.0.2.1:4433").expect("an address");
        let server = ServerAddress { key: identity.device_key(), addresses: vec![address] };
        let ticket = Box::new(Ticket { server, admission: AdmissionSecret([3; 16]) });
        let name = Name { chosen: None, fallback: DeviceName::parse("desk").expect("a name") };
        let mut random = Counter::default();
        let mut cx = Cx { now: Time(0), wall_ms: 1_000, random: &mut random };
        let start = Start::Master { ticket, name };
        let core = MemberCore::open(store, identity, MemberConfig::default(), start, PathBuf::from("/none"), &mut cx);
        let path = folder().join("base.db");
        core.expect("a master").store().copy_to(&path).expect("a copy");
        let bytes = fs::read(&path).expect("it is there");
        let _ = fs::remove_file(path);
        bytes
    })
}

fn contents() -> Contents {
    let server = OwnServer {
        identity: ([5; 32], [6; 32]),
        quic: Some(([7; 32], [8; 8])),
        admission: AdmissionSecret([9; 16]),
        place: "[::]:4433\n".to_owned(),
    };
    let database = database().len() as u64;
    Contents { made_ms: 1, identity: KEYS, server: Some(server), ticket: None, database }
}

/// What is sealed: contents, some of them as the fuzzer says, and the database with bytes changed.
fn plain(mut bytes: Bytes<'_>) -> Vec<u8> {
    let how = bytes.byte();
    let encoded = match how % 4 {
        0 | 1 => encode(&contents()),
        2 => {
            let mut encoded = encode(&contents());
            for _ in 0..bytes.below(4) {
                let at = usize::from(bytes.byte()) % encoded.len();
                encoded[at] = bytes.byte();
            }
            encoded
        }
        _ => bytes.some().to_vec(),
    };
    let length = if how >= 250 { bytes.number() as u32 } else { encoded.len() as u32 };
    let mut database = database().to_vec();
    while let [page, high, low, value, rest @ ..] = bytes.0 {
        let at = usize::from(*page) * 4_096 + usize::from(u16::from_be_bytes([*high, *low]) % 4_096);
        if let Some(place) = database.get_mut(at) {
            *place = *value;
        } else if *page == 255 {
            database.truncate(at % 200_000);
        }
        bytes.0 = rest;
    }
    [&length.to_le_bytes()[..], &encoded, &database].concat()
}

/// The bytes say what is in the file.
pub fn run(bytes: &[u8]) {
    let plain = plain(Bytes(bytes));
    let (file, state) = (folder().join("backup"), folder().join("state"));
    let _ = fs::remove_dir_all(&state);
    fs::write(&file, backup::written(&plain)).expect("a file");
    let imported = Sealed::open(&file).expect("its header is whole").import(&state, backup::PASSPHRASE);
    let names = || fs::read_dir(&state).into_iter().flatten().flatten().map(|entry| entry.file_name());
    match imported {
        Ok(_) => {
            assert!(names().any(|name| name == "role") && names().all(|name| name != "importing"));
            let store = MemberStore::open_beside(&state.join("member.db")).expect("it was checked");
            assert!(store.importing().is_ok_and(|importing| importing.is_some()));
        }
        Err(error) => {
            assert!(!error.hint.is_empty());
            assert!(names().all(|name| name != "identity"), "nothing can be started");
            let again = fs::write(&file, backup::written(&whole())).map(|()| Sealed::open(&file));
            let again = again.expect("a file").expect("a header").import(&state, backup::PASSPHRASE);
            assert!(again.is_ok(), "the directory can be used by the next import");
        }
    }
}

fn whole() -> Vec<u8> {
    let encoded = encode(&contents());
    debug_assert!(decode::<Contents>(&encoded).is_ok());
    [&(encoded.len() as u32).to_le_bytes()[..], &encoded, database()].concat()
}

/// A whole one, and some that are changed.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0],
        vec![2, 1, 3, 9],
        vec![3, 4, 1, 2, 3, 4],
        vec![0, 0, 0, 60, 2],
        vec![0, 1, 0, 8, 255],
        vec![0, 255, 0, 9, 0],
    ]
}
