//! Transfers under changes: versions, pauses, ends.

use super::basics::{get_all, group, share};
use crate::world::World;
use bailiwick::node::local::{Command, Conflict, Reply};
use bailiwick::store::member::{LocalFile, TransferStanding};
use std::path::{Path, PathBuf};

/// Chunks of the film.
const CHUNKS: u64 = 24;

fn film() -> (PathBuf, PathBuf) {
    let share = PathBuf::from("/home/c1/films");
    (share.clone(), share.join("films0"))
}

/// The first client has another name in each world.
fn place(world: &World) -> (PathBuf, PathBuf) {
    let (share, path) = film();
    let home = PathBuf::from(format!("/home/{}", world.nodes[1].name));
    let below = |path: &Path| home.join(path.strip_prefix("/home/c1").expect("below"));
    (below(&share), below(&path))
}

/// By what its owner's person calls the upload of a file.
pub(crate) fn upload_id(file: &LocalFile) -> String {
    format!("up-{}", &file.meta.id.to_string().replace('-', "")[..8])
}

#[test]
fn version_under_download() {
    let mut went_over = 0;
    for seed in 60..64 {
        let mut world = group(seed, 4);
        share(&mut world, 1, "films", &[CHUNKS << 20]);
        let (share, path) = place(&world);
        for node in 2..=4 {
            get_all(&mut world, node);
        }
        // What the server has of the old version stays in its cache.
        let units = 2 + 4 * (seed - 60);
        let some = world.run_till(60_000, |world| (2..=4).any(|node| world.nodes[node].units >= units));
        let none = world.nodes[2..].iter().all(|node| node.disk.done.is_empty());
        world.check(some && none, "it changes while it comes");
        let mut versions = vec![world.nodes[1].disk.shared[&path].hash];
        for chunk in [3, 20] {
            world.change_file(1, &share, &path, chunk);
            versions.push(world.nodes[1].disk.shared[&path].hash);
            world.run_for(300);
        }
        world.settle();
        for node in 2..=4 {
            let got: Vec<_> = world.nodes[node].disk.done.values().copied().collect();
            world.check(got.len() == 1, "each has the film, once");
            // What was whole before the next version came stays. Whatever it is, its chunks are all of one version.
            world.check(versions.contains(&got[0]), "and it is a version as a whole");
            went_over += usize::from(got[0] == versions[2]);
            let units = world.nodes[node].units;
            world.check(units < CHUNKS * 2, "what is the same comes once");
        }
    }
    assert!(went_over >= 4, "{went_over} went over to the newest version");
}

/// Both changes come in one answer of the master; by the second one, the first transfer has left memory already.
#[test]
fn two_files_change_under_their_downloads() {
    for seed in 64..68 {
        let mut world = group(seed, 1);
        let shares = ["films", "songs"].map(|folder| {
            share(&mut world, 0, folder, &[CHUNKS << 20]);
            let share = PathBuf::from(format!("/home/{}/{folder}", world.nodes[0].name));
            (share.clone(), share.join(format!("{folder}0")))
        });
        let ids: Vec<String> = world.shared(0).iter().map(upload_id).collect();
        world.ask(0, Command::Pause { ids: ids.clone(), all: false });
        get_all(&mut world, 1);
        world.run_for(2_000);
        world.crash(1);
        for (share, path) in &shares {
            world.change_file(0, share, path, 3);
            world.run_for(1_000);
        }
        world.start_node(1);
        world.run_for(3_000);
        world.ask(0, Command::Resume { ids, all: false });
        world.settle();
        let newest: Vec<_> = shares.iter().map(|(_, path)| world.nodes[0].disk.shared[path].hash).collect();
        let got: Vec<_> = world.nodes[1].disk.done.values().copied().collect();
        world
            .check(got.len() == 2 && newest.iter().all(|hash| got.contains(hash)), "both come in their newest version");
    }
}

#[test]
fn paused_at_the_owner_and_killed_at_both_ends() {
    for seed in 70..76 {
        let mut world = group(seed, 2);
        share(&mut world, 1, "films", &[CHUNKS << 20]);
        let upload = upload_id(&world.shared(1)[0]);
        get_all(&mut world, 2);
        world.run_for(100 + 30 * (seed - 70));
        let token = world.ask(1, Command::Pause { ids: vec![upload.clone()], all: false });
        world.run_till(5_000, |world| world.nodes[1].replies.contains_key(&token));
        world.crash(1);
        world.crash_for(2, 50);
        world.run_for(2_000);
        world.start_node(1);
        world.run_for(30_000);
        world.check(world.nodes[2].disk.done.is_empty(), "the pause holds over restarts of both ends");
        let job = world.ask(2, Command::Jobs { job: Some(1) });
        world.run_till(5_000, |world| world.nodes[2].replies.contains_key(&job));
        let because = match world.nodes[2].replies.remove(&job) {
            Some(Ok(Reply::Jobs(rows))) => rows[0].reason.clone(),
            _ => None,
        };
        world.check(because.as_deref() == Some("paused by its owner"), "who waits is told why");
        world.ask(1, Command::Resume { ids: vec![upload], all: false });
        world.settle();
        world.check(world.nodes[2].disk.done.len() == 1, "it goes on by itself");
    }
}

/// Files of the first job that are in their place, and those that are known to be.
fn there_and_done(world: &World) -> (usize, usize) {
    let rows = world.nodes[2].store().transfers_of(1).expect("a store");
    let done = rows.iter().filter(|row| row.standing == TransferStanding::Done).count();
    let there = world.nodes[2].disk.done.keys().filter(|(folder, _)| folder != Path::new("/other")).count();
    (there, done)
}

#[test]
fn paused_cancelled_and_killed_at_any_point() {
    for seed in 80..100 {
        let mut world = group(seed, 2);
        share(&mut world, 1, "films", &[CHUNKS << 20, 5, 0]);
        let files = world.files_of_others(2);
        let other = Some(PathBuf::from("/other"));
        world.ask(2, Command::Get { files: files.clone(), dest: None, conflict: None, way: None });
        world.ask(2, Command::Get { files, dest: other, conflict: Some(Conflict::Rename), way: None });
        world.run_for(20 * (seed - 79));
        world.ask(2, Command::Pause { ids: Vec::new(), all: true });
        world.run_for(seed % 7);
        world.crash_for(2, 100);
        world.run_for(3_000);
        // Whole and in its place, but the process died before it heard of that; a paused job is not looked at again.
        let unheard = there_and_done(&world);
        let unheard = unheard.0 - unheard.1;
        world.ask(2, Command::Cancel { ids: vec!["1".to_owned()], all: false });
        world.run_for(seed % 5);
        world.crash_for(2, 100);
        world.run_for(3_000);
        // A crash may have come before the person was heard.
        for command in
            [Command::Cancel { ids: vec!["1".to_owned()], all: false }, Command::Resume { ids: Vec::new(), all: true }]
        {
            world.ask(2, command);
            world.run_for(500);
        }
        world.settle();
        let rows = world.nodes[2].store().transfers_of(1).expect("a store");
        let over = |row: &bailiwick::store::member::StoredTransfer| {
            matches!(row.standing, TransferStanding::Done | TransferStanding::Cancelled)
        };
        world.check(rows.iter().all(over), "what was cancelled is over");
        let (there, done) = there_and_done(&world);
        world.check(there >= done && there - done <= unheard, "finished files stay, and are told as done");
        let others = world.nodes[2].disk.done.keys().filter(|(folder, _)| folder == Path::new("/other")).count();
        world.check(others == 3, "the other job is done");
        world.check(world.nodes[2].disk.part_files() == 0, "no part file is left");
    }
}

#[test]
fn two_jobs_to_one_place() {
    let mut world = group(101, 2);
    share(&mut world, 1, "films", &[CHUNKS << 20]);
    let files = world.files_of_others(2);
    world.ask(2, Command::Get { files: files.clone(), dest: None, conflict: None, way: None });
    let twice = [files.clone(), files].concat();
    world.ask(2, Command::Get { files: twice[..1].to_vec(), dest: None, conflict: None, way: None });
    let path = world.files_of_others(2).remove(0);
    let dashed = path.replace('-', "");
    world.ask(2, Command::Get { files: vec![dashed], dest: None, conflict: Some(Conflict::Overwrite), way: None });
    world.run_for(1_000);
    world.settle();
    world.check(world.nodes[2].disk.done.len() == 1, "it is there once");
    let units = world.nodes[2].units;
    world.check(units <= CHUNKS + 2, "and came once");
    world.check(world.nodes[2].disk.part_files() == 0, "no part file is left");
}
