//! Random worlds: people do what people do, everything breaks at times, and in the end all must be well.

use crate::dice::Dice;
use crate::schedules::transfers::upload_id;
use crate::ways;
use crate::world::{Coverage, Faults, Lies, World};
use bailiwick::node::local::{Command, Conflict, Way};
use bailiwick::store::server_db::ServerStore;
use bailiwick::wire::log::Standing;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Clients of a world, at most.
const CLIENTS_MAX: usize = 5;

/// So many worlds must have seen a crash before every kind of output.
const COVERING: u64 = 10_000;

/// What a world came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// A fingerprint of all that happened.
    pub(crate) fingerprint: blake3::Hash,
    /// What the faults hit.
    pub(crate) coverage: Coverage,
}

#[test]
fn random_worlds() {
    let summary = crate::runner::run();
    assert!(summary.failed.is_empty(), "{} of {} worlds failed", summary.failed.len(), summary.worlds);
    if summary.worlds >= COVERING {
        let missed = summary.coverage.missed();
        assert!(missed.is_empty(), "no process died before it did one of these: {missed:?}");
    }
}

#[test]
fn a_seed_gives_the_same_world_twice() {
    assert_eq!(run(7), run(7));
}

/// One world, from its seed.
pub(crate) fn run(seed: u64) -> Ran {
    let mut dice = Dice::new(!seed);
    let world = World::new(seed);
    let mut world = if dice.once_in(4) { world } else { world.with_straight_ways() };
    let carries_straight = world.has_straight_ways() && dice.once_in(2);
    if carries_straight {
        ways::begin(&mut world, &mut dice);
    }
    let rate = dice.between(0, 3);
    let often = |often: u64| often.checked_div(rate).unwrap_or(0);
    world.faults = Faults {
        crash_before: often(900),
        crash_after: often(600),
        failed_write: often(900),
        broken_unit: often(60),
        failed_sync: often(200),
    };
    world.delay_max = [5, 40, 400, 1_000][dice.below(4) as usize];
    world.straight_delay_max = [0, 1_000, 4_000][dice.below(3) as usize];
    world.relay_delay_max = if carries_straight { 5_000 } else { [0, 0, 2_000][dice.below(3) as usize] };
    world.model.removals_are_wished = true;
    let ends = Ending::draw(&mut dice);
    for _ in 0..dice.between(30, 120) {
        if carries_straight && !dice.once_in(3) {
            ways::act(&mut world, &mut dice);
        } else {
            act(&mut world, &mut dice);
        }
        let pause = if dice.once_in(20) { dice.between(5_000, 120_000) } else { dice.between(1, 1_500) };
        world.run_for(pause);
    }
    end(&mut world, &mut dice, ends);
    if !world.model.master_was_restored {
        world.check_files();
    }
    world.check_answers();
    Ran { fingerprint: world.fingerprint.finalize(), coverage: std::mem::take(&mut world.coverage) }
}

/// How a world ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// All faults end, and everything comes to rest.
    Rest,
    /// The master's directory is an older one: it goes on, or says that it is an old copy.
    OldMaster,
    /// The master is imported from a backup: a new generation begins.
    Import,
    /// The master's directory is copied, and both run: one of them goes on, or both say what is wrong.
    TwoMasters,
}

impl Ending {
    fn draw(dice: &mut Dice) -> Ending {
        match dice.below(12) {
            0 => Ending::OldMaster,
            1 => Ending::TwoMasters,
            2 => Ending::Import,
            _ => Ending::Rest,
        }
    }
}

fn end(world: &mut World, dice: &mut Dice, ending: Ending) {
    match ending {
        Ending::Rest => world.settle(),
        Ending::OldMaster => {
            let old = world.backup(0);
            let server = dice.once_in(2).then(|| world.server_backup());
            for _ in 0..dice.below(8) {
                act(world, dice);
                world.run_for(dice.between(1, 3_000));
            }
            world.coverage.event("restored master");
            world.crash(0);
            world.restore(0, old);
            if let Some(server) = server {
                world.crash_server();
                world.replace_server_store(server);
            }
            for _ in 0..dice.below(4) {
                world.start_node(0);
                world.start_server();
                act(world, dice);
                world.run_for(dice.between(1, 30_000));
            }
            world.settle();
        }
        Ending::Import => {
            let old = world.backup(0);
            for _ in 0..dice.below(12) {
                act(world, dice);
                world.run_for(dice.between(1, 3_000));
            }
            world.coverage.event("imported master");
            world.import(old);
            for _ in 0..dice.below(6) {
                act(world, dice);
                world.run_for(dice.between(1, 30_000));
            }
            world.settle();
        }
        Ending::TwoMasters => {
            world.coverage.event("copied master");
            let copy = world.backup(0);
            world.run_for(dice.between(0, 5_000));
            world.model.master_was_restored = true;
            world.copy_of(0, copy);
            for _ in 0..dice.below(4) {
                act(world, dice);
                world.run_for(dice.between(1, 30_000));
            }
            world.settle();
        }
    }
}

pub(crate) fn act(world: &mut World, dice: &mut Dice) {
    let nodes = world.nodes.len() as u64;
    let anybody = dice.below(nodes) as usize;
    match dice.below(134) {
        0..12 => join(world, dice),
        12..25 => {
            let waiting = world.nodes_standing(Standing::Registered);
            if let Some(node) = dice.pick(&waiting) {
                world.approve(&[*node]);
            }
        }
        25..28 => {
            let all: Vec<usize> = (1..world.nodes.len()).collect();
            if let Some(node) = dice.pick(&all) {
                world.disapprove(&[*node]);
            }
        }
        28..43 if dice.once_in(2) => world.tinker(anybody, dice),
        28..43 => {
            let sizes: Vec<u64> = (0..dice.between(1, 4)).map(|_| size(dice)).collect();
            let folder = format!("s{}", dice.below(4));
            world.share(anybody, &folder, &sizes);
        }
        43..46 => change_files(world, dice, anybody),
        46..59 => get(world, dice, anybody),
        59..62 => control_transfers(world, dice, anybody),
        62..70 => world.crash_for(anybody, dice.between(10, 30_000)),
        70..74 => world.crash_server_for(dice.between(10, 60_000)),
        74..80 => world.cut(anybody, dice.once_in(2), dice.once_in(2)),
        80..88 => world.cut(anybody, false, false),
        88..92 => world.lose_connections(anybody),
        92..94 => world.sleep(anybody, dice.between(100, 120_000)),
        94 => world.set_clock(anybody, dice.between(0, 8_000_000) as i64 - 4_000_000),
        95 => restore_client(world, dice, anybody),
        96 => restore_server(world, dice),
        97 => {
            let stalled = dice.once_in(3);
            world.nodes[anybody].stalled = stalled;
        }
        98..100 => world.stop(anybody, dice.between(10, 10_000)),
        100..102 => {
            let full = dice.once_in(2);
            world.fill_disk(anybody, full);
        }
        102 => world.spoil_part(anybody, dice.between(10, 5_000)),
        103..105 => lie(world, dice, anybody),
        105..107 => world.lie_no_more(),
        107 => copy_client(world, dice, anybody),
        108..110 => {
            let invites: Vec<String> = world.model.promises.invites.keys().cloned().collect();
            if let Some(invite) = dice.pick(&invites) {
                world.revoke(invite);
            }
        }
        110..114 => {
            let question = [Command::Status, Command::Clients, Command::Transfers { job: None }, Command::Shares];
            world.ask(anybody, question[dice.below(4) as usize].clone());
        }
        114..116 => {
            let name = ["laptop", "Laptop", "desk", "c1", "tablet", "phone"][dice.below(6) as usize].to_owned();
            world.ask(anybody, Command::Rename { id: None, name });
        }
        116 if dice.once_in(3) => {
            world.coverage.event("leave");
            world.ask(anybody, Command::Leave { now: dice.once_in(4) });
        }
        117 => {
            let rule = match dice.below(3) {
                0 => Command::SetContinue { master_away_continue_s: dice.between(10, 9_000) },
                _ => Command::SetPolicy { master_away_wait_s: dice.between(10, 900) },
            };
            world.ask(0, rule);
        }
        120..134 => ways::wander(world, dice, anybody),
        _ => world.run_for(dice.between(1_000, 60_000)),
    }
}

/// Somebody comes with an invite, sometimes with one that another device has used.
fn join(world: &mut World, dice: &mut Dice) {
    let used: Vec<String> = world.model.promises.given.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let invite = match dice.pick(&used) {
        Some(used) if dice.once_in(8) => used.clone(),
        _ if world.invites.is_empty() => return world.invite(),
        _ => world.invites[0].clone(),
    };
    if world.nodes.len() > CLIENTS_MAX {
        return;
    }
    world.invites.retain(|one| *one != invite);
    let name = if dice.once_in(3) { "laptop".to_owned() } else { format!("c{}", world.nodes.len()) };
    world.join(&name, &invite);
}

/// Somebody wants a file or two, mostly where all goes, and says at times what is to become of what is there.
pub(crate) fn get(world: &mut World, dice: &mut Dice, node: usize) {
    let all = world.files_of_others(node);
    let Some(file) = dice.pick(&all).cloned() else { return };
    let mut files = vec![file];
    files.extend(dice.pick(&all).filter(|_| dice.once_in(4)).cloned());
    let conflict = match dice.below(8) {
        0 => Some(Conflict::Skip),
        1 => Some(Conflict::Rename),
        2 => Some(Conflict::Overwrite),
        _ => None,
    };
    let dest = dice.once_in(6).then(|| PathBuf::from(format!("/home/{}/got", world.nodes[node].name)));
    let way = match dice.below(10) {
        0 => Some(Way::Relay),
        1 if world.has_straight_ways() => Some(Way::Direct),
        _ => None,
    };
    world.ask(node, Command::Get { files, dest, conflict, way });
}

/// Somebody stops what is under way, at either end, or lets it go on; in the end everything goes on.
fn control_transfers(world: &mut World, dice: &mut Dice, node: usize) {
    let jobs: Vec<u64> = world.model.promises.jobs.iter().filter(|(of, _)| *of == node).map(|(_, job)| *job).collect();
    let all = dice.once_in(4);
    let ids: Vec<String> = match dice.pick(&jobs) {
        _ if all => Vec::new(),
        Some(job) if !dice.once_in(3) => vec![job.to_string()],
        _ => {
            let shared = world.shared(node);
            let Some(file) = dice.pick(&shared) else { return };
            vec![upload_id(file)]
        }
    };
    world.people_pause = true;
    let command = match dice.below(7) {
        0..4 => Command::Pause { ids, all },
        4..6 => Command::Resume { ids, all },
        _ => Command::Cancel { ids, all },
    };
    world.coverage.event("transfers controlled");
    world.ask(node, command);
}

/// Somebody works on shared files: some get another content, some go; the folder is shared again, or nobody thinks of it.
fn change_files(world: &mut World, dice: &mut Dice, node: usize) {
    let files: Vec<PathBuf> = world.nodes[node].disk.shared.keys().cloned().collect();
    let Some(file) = dice.pick(&files).cloned() else { return };
    world.coverage.event("file changed on disk");
    world.write_file(node, file.clone(), size(dice));
    if let (true, Some(folder)) = (dice.once_in(2), file.parent()) {
        world.add(node, folder);
    }
}

fn lie(world: &mut World, dice: &mut Dice, about: usize) {
    let lies = match dice.below(4) {
        0 => Lies::Drops(dice.between(2, 30)),
        1 => Lies::Repeats(dice.between(2, 10)),
        _ => Lies::Hides(about),
    };
    world.lie(lies);
}

/// The server's machine comes back with nothing, or with what it had some time ago.
fn restore_server(world: &mut World, dice: &mut Dice) {
    let old = if dice.once_in(2) { world.server_backup() } else { ServerStore::open_in_memory().expect("a database") };
    world.coverage.event("restored server");
    world.run_for(dice.between(0, 20_000));
    world.crash_server();
    world.replace_server_store(old);
    world.run_for(dice.between(0, 5_000));
    world.start_server();
}

/// A client comes back with what it had some time ago.
fn restore_client(world: &mut World, dice: &mut Dice, node: usize) {
    if node == 0 || world.nodes[node].fatal.is_some() {
        return;
    }
    let old = world.backup(node);
    world.coverage.event("restored client");
    world.run_for(dice.between(0, 20_000));
    world.crash(node);
    world.restore(node, old);
    world.run_for(dice.between(0, 5_000));
    world.start_node(node);
}

/// A client's directory is copied, and both run.
fn copy_client(world: &mut World, dice: &mut Dice, node: usize) {
    let can = node != 0 && world.nodes[node].fatal.is_none() && !world.has_copies(node);
    if !can || world.nodes.len() > CLIENTS_MAX {
        return;
    }
    world.coverage.event("copied client");
    let copy = world.backup(node);
    world.run_for(dice.between(0, 20_000));
    world.copy_of(node, copy);
}

fn size(dice: &mut Dice) -> u64 {
    match dice.below(6) {
        0 => 0,
        1..5 => dice.between(1, 1 << 20),
        _ => dice.between(1 << 20, 12 << 20),
    }
}
