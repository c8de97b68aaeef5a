use super::*;
use crate::node::member::{Cx, MemberConfig, MemberCore, Name, Start};
use crate::state::random::Random;
use crate::state::time::Time;
use crate::wire::invite::{Address, ServerAddress, Ticket};
use crate::wire::name::DeviceName;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use tempfile::TempDir;

const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
const WORDS: &[u8] = b"correct horse";

struct Zeros;
impl Random for Zeros {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(9);
    }
}

fn identity() -> Identity {
    Identity::from_seeds([1; 32], [2; 32])
}

/// A master's directory, with a group in it and a server of its own.
fn master(root: &TempDir) -> PathBuf {
    let path = root.path().join("desk");
    let dir = StateDir::open(&path).unwrap();
    dir.write_secret(ROLE_FILE, b"master").unwrap();
    dir.write_secret(IDENTITY_FILE, &file_of_seeds(&([1; 32], [2; 32]))).unwrap();
    dir.write_secret(SERVER_FILES.0, &file_of_seeds(&([3; 32], [4; 32]))).unwrap();
    dir.write_secret(SERVER_FILES.1, &[6; 40]).unwrap();
    dir.write_secret(PLACE_FILE, b"[::]:4433\nvps.example.org:4433").unwrap();
    let mut server = ServerStore::open(&dir.path(DB_FILE)).unwrap();
    server.set_admission(&AdmissionSecret([5; 16])).unwrap();
    core(&path);
    path
}

fn core(path: &Path) -> MemberCore {
    let store = MemberStore::open(&path.join(MEMBER_DB)).unwrap();
    let server = ServerAddress { key: identity().device_key(), addresses: vec![Address::V4([192, 0, 2, 1], 4433)] };
    let ticket = Box::new(Ticket { server, admission: AdmissionSecret([5; 16]) });
    let name = Name { chosen: None, fallback: DeviceName::parse("desk").unwrap() };
    let mut cx = Cx { now: Time(0), wall_ms: 1_000, random: &mut Zeros };
    let start = Start::Master { ticket, name };
    MemberCore::open(store, Arc::new(identity()), MemberConfig::default(), start, path.join("d"), &mut cx).unwrap()
}

fn out(path: &Path, file: &Path, force: bool) -> Result<Summary, LocalError> {
    export(path, file, WORDS, CHEAP, [7; 16], force)
}

fn into(file: &Path, path: &Path, passphrase: &[u8]) -> Result<Summary, LocalError> {
    Sealed::open(file)?.import(path, passphrase)
}

#[test]
fn a_master_comes_back_with_keys_log_and_server() {
    let root = tempfile::tempdir().unwrap();
    let (path, file, new) = (master(&root), root.path().join("backup"), root.path().join("new"));
    // While another connection is in the middle of a write.
    let busy = MemberStore::open(&path.join(MEMBER_DB)).unwrap();
    busy.begin().unwrap();
    busy.set("half", &1u32).unwrap();
    let made = out(&path, &file, false).unwrap();
    busy.rollback();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!((made.revision.as_str(), made.with_server), ("1.1", true));
    let left: Vec<_> = fs::read_dir(&path).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("export")), "{left:?}");

    let back = into(&file, &new, WORDS).unwrap();
    assert_eq!((back.group, &back.revision, back.made_ms), (made.group, &made.revision, made.made_ms));
    for name in [IDENTITY_FILE, SERVER_FILES.0, SERVER_FILES.1, PLACE_FILE, ROLE_FILE] {
        assert_eq!(fs::read(new.join(name)).unwrap(), fs::read(path.join(name)).unwrap(), "{name}");
    }
    for entry in fs::read_dir(&new).unwrap().flatten() {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert!(!new.join(IMPORTING_FILE).exists() && !new.join("quic").exists());
    let server = ServerStore::open(&new.join(DB_FILE)).unwrap();
    assert!(server.admission().unwrap() == Some(AdmissionSecret([5; 16])) && server.groups().unwrap().is_empty());
    let store = MemberStore::open(&new.join(MEMBER_DB)).unwrap();
    assert_eq!(store.importing().unwrap(), Some(1));
    assert_eq!(store.get::<u32>("half").unwrap(), None, "what was not committed is not in it");
}

#[test]
fn a_file_is_not_written_over_unless_asked_and_a_directory_never() {
    let root = tempfile::tempdir().unwrap();
    let (path, file, new) = (master(&root), root.path().join("backup"), root.path().join("new"));
    fs::write(&file, b"mine").unwrap();
    assert_eq!(out(&path, &file, false).unwrap_err().code, ErrorCode::Usage);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    out(&path, &file, true).unwrap();
    assert!(!root.path().join("backup.new").exists());
    let before = fs::read(path.join(IDENTITY_FILE)).unwrap();
    let refused = into(&file, &path, WORDS).unwrap_err();
    assert!(refused.error.contains("not empty") && refused.hint.contains("--profile"), "{refused:?}");
    assert_eq!(fs::read(path.join(IDENTITY_FILE)).unwrap(), before);
    fs::create_dir(&new).unwrap();
    fs::write(new.join("letter.txt"), b"dear").unwrap();
    assert_eq!(into(&file, &new, WORDS).unwrap_err().code, ErrorCode::Usage);
    assert_eq!(fs::read_dir(&new).unwrap().count(), 1);
}

#[test]
fn nothing_but_a_file_is_written_over() {
    let root = tempfile::tempdir().unwrap();
    let (path, link) = (master(&root), root.path().join("link"));
    std::os::unix::fs::symlink(root.path().join("elsewhere"), &link).unwrap();
    fs::create_dir(root.path().join("folder")).unwrap();
    for target in [link.as_path(), &root.path().join("folder"), Path::new("/dev/null")] {
        let error = out(&path, target, true).unwrap_err();
        assert!(error.code == ErrorCode::Usage && error.error.contains("no file"), "{error:?}");
    }
    assert!(link.symlink_metadata().unwrap().is_symlink() && !root.path().join("elsewhere").exists());
}

#[test]
fn what_is_wrong_with_a_backup_is_said_and_nothing_is_made() {
    let root = tempfile::tempdir().unwrap();
    let (path, file, new) = (master(&root), root.path().join("backup"), root.path().join("new"));
    out(&path, &file, false).unwrap();
    let good = fs::read(&file).unwrap();
    let tried = |bytes: &[u8], passphrase: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let error = into(&file, &new, passphrase).unwrap_err();
        let left =
            fs::read_dir(&new).map_or(0, |names| names.flatten().filter(|name| name.file_name() != "lock").count());
        assert_eq!(left, 0, "{error}");
        assert!(!error.hint.is_empty());
        error.error
    };
    assert!(tried(&good, b"wrong horse").contains("passphrase is wrong"));
    assert!(tried(b"PNG", WORDS).contains("no backup"));
    let mut newer = good.clone();
    newer[16] = 9;
    assert!(tried(&newer, WORDS).contains("newer"));
    let mut greedy = good.clone();
    greedy[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(tried(&greedy, WORDS).contains("more memory"));
    assert!(tried(&good[..good.len() - 1], WORDS).contains("damaged"));
    assert!(tried(&good[..good.len() / 2], WORDS).contains("damaged"));
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(tried(&flipped, WORDS).contains("damaged"));
    fs::write(&file, &good).unwrap();
    into(&file, &new, WORDS).unwrap();
}

#[test]
fn an_import_that_was_cut_off_is_begun_anew_and_starts_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (path, file, new) = (master(&root), root.path().join("backup"), root.path().join("new"));
    out(&path, &file, false).unwrap();
    let dir = StateDir::open(&new).unwrap();
    dir.write_secret(IMPORTING_FILE, b"").unwrap();
    fs::write(new.join(MEMBER_DB), b"half").unwrap();
    fs::write(new.join(IDENTITY_FILE), b"half").unwrap();
    let refused = crate::node::run::check_role(&dir, "master").unwrap_err();
    assert!(refused.hint.contains("import"), "{refused:?}");
    drop(dir);
    into(&file, &new, WORDS).unwrap();
    assert_eq!(fs::read(new.join(IDENTITY_FILE)).unwrap(), fs::read(path.join(IDENTITY_FILE)).unwrap());
    crate::node::run::check_role(&StateDir::open(&new).unwrap(), "master").unwrap();
}

#[test]
fn only_a_master_with_its_keys_is_exported() {
    let root = tempfile::tempdir().unwrap();
    let (path, file) = (master(&root), root.path().join("backup"));
    assert_eq!(out(root.path(), &file, false).unwrap_err().code, ErrorCode::WrongRole);
    fs::remove_file(path.join(IDENTITY_FILE)).unwrap();
    assert!(out(&path, &file, false).unwrap_err().error.contains("identity"));
    assert!(!file.exists());
    // And a start never draws new keys for a group that is there.
    let dir = StateDir::open(&path).unwrap();
    let Err(error) = crate::node::identity::keys(&dir) else { panic!("new keys") };
    assert!(error.error.contains("identity") && error.hint.contains("import"), "{error:?}");
    fs::write(path.join(IDENTITY_FILE), b"").unwrap();
    assert!(crate::node::identity::keys(&dir).is_err());
    assert_eq!(fs::read(path.join(IDENTITY_FILE)).unwrap(), b"");
    fs::remove_file(path.join(SERVER_FILES.0)).unwrap();
    let Err(error) = crate::node::identity::server_keys(&dir) else { panic!("new keys") };
    assert!(error.error.contains("server-identity"), "{error:?}");
}
