use super::*;
use crate::store::member::{NewShare, Staged};
use crate::store::walk::Stamp;
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::Hash;
use crate::wire::log::FileKind;
use std::path::Path;

const ME: PublicId = PublicId([7; 16]);
const SHARE: &str = "/home/me/s";

fn rel(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn meta(number: u8) -> FileMeta {
    FileMeta {
        id: FileId([number; 16]),
        content: ContentId([number; 16]),
        path: rel(&format!("s/{number}")),
        kind: FileKind::File,
        size: 5,
        hash: Hash([number; 32]),
        chunk: ChunkSize::for_file(5),
        mtime_ms: 0,
        executable: false,
    }
}

/// A store that shares these files; the catalog has them, as of this generation.
fn store(files: &[u8], generation: u32) -> MemberStore {
    let store = MemberStore::open_in_memory().unwrap();
    let wish = rel("s");
    store.put_share(Path::new(SHARE), NewShare { wish: &wish, copy: false, exclude: None }).unwrap();
    for number in files {
        stage(&store, *number);
        store.put_file(&ME, &meta(*number)).unwrap();
        store.settle_local(ME, Some(ME), &[meta(*number)], generation).unwrap();
    }
    store
}

fn stage(store: &MemberStore, number: u8) {
    let stamp = Stamp { size: 5, mtime_ns: 0, inode: number.into(), device: 1 };
    let abs = PathBuf::from(format!("{SHARE}/{number}"));
    store.stage(Path::new(SHARE), &Staged { meta: meta(number), abs, stamp, list: Vec::new() }).unwrap();
}

fn status(store: &MemberStore, number: u8) -> Option<LocalStatus> {
    store.sighted(&rel(&format!("s/{number}"))).unwrap().map(|known| known.status)
}

fn drop_from_catalog(store: &MemberStore, number: u8) {
    store.drop_file(&ME, &meta(number).id).unwrap();
}

#[test]
fn what_was_accepted_in_this_generation_and_is_absent_was_removed() {
    let store = store(&[1, 2], 3);
    drop_from_catalog(&store, 1);
    store.reconcile_local(&ME, 3).unwrap();
    assert_eq!((status(&store, 1), status(&store, 2)), (Some(LocalStatus::Unlisted), Some(LocalStatus::Idle)));
    // It stays out, also in later generations.
    store.reconcile_local(&ME, 4).unwrap();
    stage(&store, 1);
    assert_eq!(status(&store, 1), Some(LocalStatus::Unlisted));
}

#[test]
fn what_a_new_generation_lacks_is_asked_for_again_under_its_id() {
    let store = store(&[1, 2], 3);
    drop_from_catalog(&store, 1);
    store.reconcile_local(&ME, 4).unwrap();
    assert_eq!((status(&store, 1), status(&store, 2)), (Some(LocalStatus::Syncing), Some(LocalStatus::Idle)));
    assert_eq!(store.staged(9).unwrap()[0].meta.id, meta(1).id);
    // What the new generation had is accepted in it: if that goes, it was removed.
    drop_from_catalog(&store, 2);
    store.reconcile_local(&ME, 4).unwrap();
    assert_eq!(status(&store, 2), Some(LocalStatus::Unlisted));
}

#[test]
fn a_wish_to_remove_survives_a_new_generation() {
    let store = store(&[1, 2], 3);
    store.leave(&ME, &rel("s/1")).unwrap();
    store.leave(&ME, &rel("s/2")).unwrap();
    drop_from_catalog(&store, 2);
    store.unlist_local(&[meta(2).id], 3).unwrap();
    // The log is that of a backup, in which both are.
    store.put_file(&ME, &meta(2)).unwrap();
    store.reconcile_local(&ME, 4).unwrap();
    let leaving: Vec<FileId> = store.leaving(9).unwrap().iter().map(|leave| leave.id).collect();
    assert_eq!(leaving, [meta(1).id, meta(2).id]);
}

#[test]
fn an_older_file_at_a_path_that_was_removed_goes_as_well() {
    let store = store(&[1], 3);
    store.unlist_local(&[meta(1).id], 3).unwrap();
    drop_from_catalog(&store, 1);
    let older = FileMeta { id: FileId([9; 16]), content: ContentId([9; 16]), ..meta(1) };
    store.put_file(&ME, &older).unwrap();
    store.reconcile_local(&ME, 4).unwrap();
    assert_eq!(store.leaving(9).unwrap(), [Leave { id: older.id, status: None }]);
}

#[test]
fn a_path_that_was_listed_anew_and_forgotten_is_listed() {
    let store = store(&[1], 3);
    store.unlist_local(&[meta(1).id], 3).unwrap();
    drop_from_catalog(&store, 1);
    // This database is a backup: later it was added again.
    let newer = FileMeta { id: FileId([9; 16]), content: ContentId([9; 16]), ..meta(1) };
    store.put_file(&ME, &newer).unwrap();
    store.settle_local(ME, Some(ME), std::slice::from_ref(&newer), 3).unwrap();
    assert_eq!(status(&store, 1), Some(LocalStatus::Syncing));
    assert_eq!(store.staged(9).unwrap()[0].meta.id, newer.id);
}

#[test]
fn copies_that_the_master_took_out_stay_until_their_owner_gives_them_up() {
    let store = store(&[1, 2, 3], 3);
    store.db.execute("UPDATE shares SET copy = 1", []).unwrap();
    let copy_of = |number: u8| PathBuf::from(format!("{SHARE}/{number}"));
    // One goes by its owner's wish, one by the master's, and one is absent from a snapshot.
    store.leave(&ME, &rel("s/1")).unwrap();
    for number in [1, 2, 3] {
        drop_from_catalog(&store, number);
    }
    store.unlist_local(&[meta(1).id, meta(2).id], 3).unwrap();
    store.reconcile_local(&ME, 3).unwrap();
    assert_eq!(store.taken_out(&[meta(1).id, meta(2).id, meta(3).id]).unwrap(), 2);
    assert_eq!(store.take_dropped_copies().unwrap(), [copy_of(1)]);
    let sum = &store.shares().unwrap()[0];
    assert_eq!((sum.removed, sum.taken_out), (2, 2));
    // Neither a scan nor another `add` asks the master again, nor forgets that there is a copy.
    store.relist(Some(&ME), &rel("s")).unwrap();
    let stamp = Stamp { size: 5, mtime_ns: 0, inode: 9, device: 1 };
    let again = Staged { meta: meta(2), abs: copy_of(9), stamp, list: Vec::new() };
    let outcome = store.stage(Path::new(SHARE), &again).unwrap();
    assert_eq!(outcome, crate::store::member::StageOutcome { news: false, replaced: Some(copy_of(9)) });
    assert_eq!(status(&store, 2), Some(LocalStatus::Unlisted));
    assert_eq!(store.take_dropped_copies().unwrap(), Vec::<PathBuf>::new());
    // An earlier log that lists it is mended, and that is no wish of the owner's.
    store.put_file(&ME, &meta(3)).unwrap();
    store.reconcile_local(&ME, 4).unwrap();
    drop_from_catalog(&store, 3);
    store.unlist_local(&[meta(3).id], 4).unwrap();
    assert_eq!(store.take_dropped_copies().unwrap(), Vec::<PathBuf>::new());
    store.leave(&ME, &rel("s")).unwrap();
    assert_eq!(store.take_dropped_copies().unwrap(), [copy_of(2), copy_of(3)]);
}

#[test]
fn what_was_not_seen_is_lost_unless_it_was_moved() {
    let store = store(&[1, 2, 3], 3);
    let row = |number: u8| store.local_row_at(&rel(&format!("s/{number}"))).unwrap().unwrap();
    // The content of 2 is at another path, too.
    let copy = FileMeta { hash: meta(2).hash, ..meta(4) };
    let stamp = Stamp { size: 5, mtime_ns: 0, inode: 4, device: 1 };
    let staged = Staged { meta: copy, abs: PathBuf::from("/home/me/s/4"), stamp, list: Vec::new() };
    store.stage(Path::new(SHARE), &staged).unwrap();
    store.note_lost(&[row(1), row(2)]).unwrap();
    let gone = store.lost(Some(&ME), Path::new(SHARE), &rel("s")).unwrap();
    assert_eq!(gone, Gone { live: 4, lost: 2, vanished: 1 });
    store.remove_lost(Some(&ME), &rel("s")).unwrap();
    assert_eq!((status(&store, 1), status(&store, 3)), (Some(LocalStatus::Gone), Some(LocalStatus::Idle)));
    // The catalog has one that this device, restored, knows nothing of.
    store.put_file(&ME, &meta(8)).unwrap();
    assert_eq!(store.lost(Some(&ME), Path::new(SHARE), &rel("s")).unwrap().lost, 1);
    assert_eq!(store.lost(None, Path::new(SHARE), &rel("s")).unwrap().lost, 0);
}

#[test]
fn what_was_refused_is_asked_for_again_when_it_is_added_again() {
    let store = store(&[], 3);
    stage(&store, 1);
    store.refuse_local(&meta(1).id, "no room").unwrap();
    stage(&store, 1);
    assert_eq!(status(&store, 1), Some(LocalStatus::Refused), "a scan does not ask again");
    store.relist(Some(&ME), &rel("s")).unwrap();
    assert_eq!(status(&store, 1), Some(LocalStatus::Syncing));
}

#[test]
fn a_folder_that_was_removed_stays_out_until_it_or_what_is_in_it_is_added() {
    let store = store(&[1], 3);
    store.leave(&ME, &rel("s/sub")).unwrap();
    assert!(store.is_kept_out(&rel("s/sub/x/y")).unwrap() && !store.is_kept_out(&rel("s/subway")).unwrap());
    store.relist(Some(&ME), &rel("s/sub/x")).unwrap();
    assert!(!store.is_kept_out(&rel("s/sub/x/y")).unwrap());
    store.leave(&ME, &rel("s/sub")).unwrap();
    store.relist(Some(&ME), &rel("s")).unwrap();
    assert!(!store.is_kept_out(&rel("s/sub/x")).unwrap());
}
