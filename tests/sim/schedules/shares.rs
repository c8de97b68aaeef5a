//! Files that people remove, change and lose, and the catalog that follows.

use super::basics::{admit, get_all, group, share};
use crate::network::Side;
use crate::world::{Passing, World};
use bailiwick::node::local::{Command, ErrorCode, Reply, ShareRow};
use bailiwick::node::member::MemberConfig;
use bailiwick::node::server::core::CoreConfig;
use bailiwick::store::member::LocalStatus;
use bailiwick::wire::frame::Frame;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn remove(world: &mut World, node: usize, file: &str) -> u64 {
    world.ask(node, Command::Remove { files: vec![file.to_owned()], yes: true })
}

fn paths(world: &World, node: usize) -> Vec<String> {
    let rows = world.nodes[node].store().files_page(None, &[], 0, 10_000).unwrap();
    rows.into_iter().map(|row| row.file.path.to_string()).collect()
}

fn status_of(world: &World, node: usize, path: &str) -> Option<LocalStatus> {
    world.shared(node).into_iter().find(|file| file.meta.path.as_str() == path).map(|file| file.status)
}

fn share_rows(world: &mut World, node: usize) -> Vec<ShareRow> {
    let token = world.ask(node, Command::Shares);
    world.run_till(5_000, |world| world.nodes[node].replies.contains_key(&token));
    match world.nodes[node].replies.remove(&token) {
        Some(Ok(Reply::Shares(rows))) => rows,
        other => world.fail(&format!("no rows: {other:?}")),
    }
}

fn scan(world: &mut World, node: usize) {
    world.scan(node);
    world.run_for(1_000);
}

#[test]
fn removed_while_away() {
    // By entries, by a snapshot, and by a snapshot after the owner's process was killed and its directory is older.
    for way in 0..3 {
        let mut config = MemberConfig::default();
        config.snapshots.entries_kept = if way == 0 { 1_000 } else { 3 };
        config.snapshots.pause = Duration::from_secs(1);
        let mut world = World::with(600 + way, config, CoreConfig::default());
        admit(&mut world, 2);
        share(&mut world, 1, "photos", &[5; 4]);
        let old = world.backup(1);
        world.crash(1);
        let removed = remove(&mut world, 0, "c1:photos/photos1");
        world.run_for(1_000);
        world.check(
            matches!(world.nodes[0].replies.get(&removed), Some(Ok(Reply::Files(rows))) if rows.len() == 1),
            "one",
        );
        for day in 0..6 {
            share(&mut world, 2, &format!("day{day}"), &[5]);
            world.crash(1);
        }
        world.run_for(86_400_000);
        if way == 2 {
            world.restore(1, old);
        }
        world.start_node(1);
        world.settle();
        scan(&mut world, 1);
        world.crash_for(1, 100);
        world.run_for(1_000);
        scan(&mut world, 1);
        world.settle();
        world.check(!paths(&world, 0).contains(&"photos/photos1".to_owned()), "it is not added again");
        world.check(status_of(&world, 1, "photos/photos1") == Some(LocalStatus::Unlisted), "it stays out");
        world.check(world.nodes[1].disk.shared.len() == 4, "the person's own file is there");
        world.add(1, Path::new("/home/c1/photos/photos1"));
        world.run_for(1_000);
        world.settle();
        world.check(paths(&world, 0).contains(&"photos/photos1".to_owned()), "until a person adds it again");
        let shares = share_rows(&mut world, 1).len();
        world.check(shares == 1, "which makes no second share");
    }
}

#[test]
fn unlist_scan_add() {
    for away in [false, true] {
        let mut world = group(610 + u64::from(away), 2);
        let folder = world.share(1, "photos", &[5; 3]);
        world.run_for(1_000);
        world.settle();
        if away {
            world.crash(0);
            world.run_for(60_000);
        }
        remove(&mut world, 1, "c1:photos/photos1");
        world.run_for(1_000);
        if away {
            world.check(paths(&world, 1).len() == 3, "nothing is removed before the master's entry");
            world.check(status_of(&world, 1, "photos/photos1") == Some(LocalStatus::Leaving), "the wish is kept");
            world.crash(1);
            world.start_node(1);
            world.run_for(1_000);
            world.start_node(0);
        }
        world.settle();
        world.check(paths(&world, 2) == ["photos/photos0", "photos/photos2"], "it is out");
        scan(&mut world, 1);
        world.settle();
        world.check(paths(&world, 2).len() == 2, "a scan does not list it again");
        world.write_file(1, folder.join("photos1"), 9);
        scan(&mut world, 1);
        world.settle();
        world.check(paths(&world, 2).len() == 2, "nor if it changes");
        let before = world.model.removed.clone();
        world.add(1, &folder.join("photos1"));
        world.run_for(1_000);
        world.settle();
        let file = world.shared(1).into_iter().find(|file| file.meta.path.as_str() == "photos/photos1").unwrap();
        world.check(file.status == LocalStatus::Idle && !before.contains(&file.meta.id), "it is in, as a new file");
        world.write_file(1, folder.join("photos1"), 11);
        scan(&mut world, 1);
        world.settle();
        let row = world.nodes[2].store().file(&file.meta.id).unwrap().unwrap();
        world.check(row.file.size == 11 && row.file.content != file.meta.content, "it changed under its id");
        remove(&mut world, 0, "c1:photos/photos1");
        world.run_for(1_000);
        scan(&mut world, 1);
        world.settle();
        world.check(paths(&world, 2).len() == 2, "and is out again");
    }
}

/// Removing and adding again, faster than the master answers.
#[test]
fn removed_and_added_at_once() {
    for pause in [0, 5, 30, 60, 120] {
        let mut world = group(620 + pause, 2);
        let folder = world.share(1, "photos", &[5; 3]);
        world.run_for(1_000);
        world.settle();
        remove(&mut world, 1, "c1:photos/photos0");
        world.run_for(pause);
        world.add(1, &folder.join("photos0"));
        world.run_for(pause);
        remove(&mut world, 1, "c1:photos");
        world.run_for(pause);
        world.add(1, &folder);
        world.run_for(1_000);
        world.settle();
        let idle = world.shared(1).iter().filter(|file| file.status == LocalStatus::Idle).count();
        world.check(idle == 3 && paths(&world, 2).len() == 3, "the last wish counts");
    }
}

/// What was staged by mistake is removed before the master has answered for it.
#[test]
fn removed_before_it_was_answered() {
    for pause in [0, 20, 40, 60, 80, 100] {
        let mut world = group(670 + pause, 2);
        world.share(1, "photos", &[5; 3]);
        let staged = world.run_till(5_000, |world| world.shared(1).len() == 3);
        world.check(staged, "they are staged");
        world.run_for(pause);
        remove(&mut world, 1, "c1:photos/photos0");
        world.run_for(1_000);
        world.settle();
        world.check(paths(&world, 2) == ["photos/photos1", "photos/photos2"], "it is out in the end");
        world.check(status_of(&world, 1, "photos/photos0") == Some(LocalStatus::Unlisted), "and stays out");
    }
}

#[test]
fn a_removed_share_ends_and_a_removed_folder_stays_out() {
    let mut world = group(630, 2);
    let folder = world.share(1, "photos", &[5; 2]);
    world.write_file(1, folder.join("2024/a"), 7);
    scan(&mut world, 1);
    world.settle();
    remove(&mut world, 1, "c1:photos/2024");
    world.settle();
    world.write_file(1, folder.join("2024/b"), 7);
    scan(&mut world, 1);
    world.settle();
    world.check(paths(&world, 2).len() == 2, "what is new in a removed folder stays out");
    remove(&mut world, 1, "c1:photos");
    world.run_for(1_000);
    world.settle();
    world.write_file(1, folder.join("c"), 7);
    scan(&mut world, 1);
    world.settle();
    let shares = share_rows(&mut world, 1).len();
    world.check(paths(&world, 2).is_empty() && shares == 0, "the share is over");
    world.check(world.nodes[1].disk.shared.len() == 5, "the person's folder stays");
}

#[test]
fn nobody_removes_what_is_another_ones() {
    let mut world = group(631, 2);
    share(&mut world, 1, "photos", &[5; 2]);
    let token = remove(&mut world, 2, "c1:photos");
    world.run_for(1_000);
    let refused = matches!(world.nodes[2].replies.get(&token), Some(Err(error)) if error.code == ErrorCode::Refused);
    world.check(refused, "it is refused");
    world.settle();
    world.check(paths(&world, 0).len() == 2, "and nothing is removed");
}

#[test]
fn w9_time_out() {
    let mut world = group(660, 2);
    // The master is there, and nothing that it is asked ever arrives.
    world.intercept = Some(Box::new(|passing: &Passing<'_>| {
        !(passing.node == 1 && passing.to == Side::Server && matches!(passing.frame, Frame::Routed { .. }))
    }));
    let folder = world.share(1, "photos", &[5; 3]);
    world.run_for(500_000);
    world.check(world.shared(1).len() == 3, "they are staged");
    // While it is away nobody counts; that it is away is noticed within 45 s.
    world.crash(0);
    world.run_for(3_600_000);
    world.start_node(0);
    world.run_for(30_000);
    world.check(world.shared(1).len() == 3, "they are still staged");
    world.run_for(110_000);
    world.check(world.shared(1).is_empty(), "and then no more");
    let row = share_rows(&mut world, 1).remove(0);
    let said = row.skipped.iter().any(|what| what.contains("did not answer"));
    world.check(said && row.skipped_count == 3 && row.syncing == 0, &format!("it says so: {row:?}"));
    world.intercept = None;
    world.run_for(10_000);
    world.add(1, &folder);
    world.run_for(1_000);
    world.settle();
    world.check(paths(&world, 2).len() == 3, "added again, they are in");
    let row = share_rows(&mut world, 1).remove(0);
    world.check(row.skipped_count == 0, &format!("and nothing is said any more: {row:?}"));
}

/// Files come, change, become folders, and go; a download of one that goes ends and says so.
#[test]
fn a_shared_folder_is_live() {
    let mut world = group(640, 2);
    let folder = world.share(1, "photos", &[5, 5, 30 << 20]);
    world.run_for(1_000);
    world.settle();
    get_all(&mut world, 2);
    world.run_for(80);
    world.nodes[1].disk.shared.remove(&folder.join("photos2"));
    world.nodes[1].disk.shared.remove(&folder.join("photos0"));
    world.write_file(1, folder.join("photos0/in"), 5);
    world.write_file(1, folder.join("new"), 5);
    scan(&mut world, 1);
    world.settle();
    world.check(paths(&world, 2) == ["photos/new", "photos/photos0/in", "photos/photos1"], "the catalog follows");
    let token = world.ask(2, Command::Transfers { job: None });
    world.run_for(200);
    let Some(Ok(Reply::Transfers(rows))) = world.nodes[2].replies.get(&token) else { world.fail("no transfers") };
    let removed = rows.iter().any(|row| row.reason.as_deref().is_some_and(|why| why.contains("not in the catalog")));
    world.check(removed, "the download of what went says so");
    // What comes back is a file like any other.
    world.write_file(1, folder.join("photos2"), 9);
    scan(&mut world, 1);
    world.settle();
    world.check(paths(&world, 2).len() == 4, "and it is back");
}

#[test]
fn half_gone() {
    let mut world = group(650, 2);
    let folder: PathBuf = world.share(1, "disk", &[5; 30]);
    world.run_for(1_000);
    world.settle();
    // The disk is not mounted at the next start.
    world.crash(1);
    world.nodes[1].disk.away.insert(folder.clone());
    world.start_node(1);
    world.run_for(5_000);
    world.settle();
    world.check(paths(&world, 2).len() == 30, "nothing is removed");
    let row = share_rows(&mut world, 1).remove(0);
    world.check(row.missing == 30, &format!("it is counted: {row:?}"));
    world.check(row.reason.is_some_and(|why| why.contains("scan --confirm")), "and said what to do");
    get_all(&mut world, 2);
    world.run_for(60_000);
    let token = world.ask(2, Command::Transfers { job: None });
    world.run_for(500);
    let Some(Ok(Reply::Transfers(rows))) = world.nodes[2].replies.get(&token) else { world.fail("no transfers") };
    world.check(rows.iter().all(|row| row.reason.is_some()), "who asks is told why it waits");
    // Mounted again: it heals by itself.
    world.nodes[1].disk.away.clear();
    world.run_for(8 * 3_600_000);
    world.settle();
    let row = share_rows(&mut world, 1).remove(0);
    world.check(row.missing == 0 && row.reason.is_none(), &format!("it has healed: {row:?}"));
    world.check(world.nodes[2].disk.done.len() == 30, "and the transfers went on");
    // Half of it goes; a person says that it is meant.
    for number in 0..16 {
        world.nodes[1].disk.shared.remove(&folder.join(format!("disk{number}")));
    }
    scan(&mut world, 1);
    world.settle();
    world.check(paths(&world, 2).len() == 30, "half of it is asked");
    world.ask(1, Command::Scan { paths: vec![folder], confirm: true });
    world.run_for(1_000);
    world.settle();
    world.check(paths(&world, 2).len() == 14, "and goes when a person says so");
}
