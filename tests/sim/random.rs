//! Random worlds: people do what people do, everything breaks at times, and in the end all must be well.

use crate::dice::Dice;
use crate::world::{Faults, World};
use bailiwick::node::local::Command;
use bailiwick::store::server_db::ServerStore;
use bailiwick::wire::log::Standing;

/// Worlds that the test runs if nothing else is said.
const SEEDS: u64 = 100;
/// Clients of a world, at most.
const CLIENTS_MAX: usize = 5;

pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn random_worlds() {
    let first = number("BAILIWICK_SIM_FIRST", 0);
    for seed in first..first + number("BAILIWICK_SIM_SEEDS", SEEDS) {
        run(seed);
    }
}

#[test]
fn a_seed_gives_the_same_world_twice() {
    assert_eq!(run(7), run(7));
}

fn run(seed: u64) -> blake3::Hash {
    let mut world = World::new(seed);
    let mut dice = Dice::new(!seed);
    let rate = dice.between(0, 3);
    let often = |often: u64| often.checked_div(rate).unwrap_or(0);
    world.faults = Faults { crash_before: often(900), crash_after: often(600), failed_write: often(900) };
    world.delay_max = [5, 40, 400][dice.below(3) as usize];
    world.model.removals_are_wished = true;
    for _ in 0..dice.between(30, 120) {
        act(&mut world, &mut dice);
        let pause = if dice.once_in(20) { dice.between(5_000, 120_000) } else { dice.between(1, 1_500) };
        world.run_for(pause);
    }
    world.settle();
    world.check_files();
    world.fingerprint.finalize()
}

pub(crate) fn act(world: &mut World, dice: &mut Dice) {
    let nodes = world.nodes.len() as u64;
    let anybody = dice.below(nodes) as usize;
    match dice.below(100) {
        0..12 => {
            if world.invites.is_empty() {
                world.invite();
            } else if world.nodes.len() <= CLIENTS_MAX {
                let invite = world.invites.remove(0);
                let name = if dice.once_in(3) { "laptop".to_owned() } else { format!("c{nodes}") };
                world.join(&name, &invite);
            }
        }
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
        28..45 if dice.once_in(2) => world.tinker(anybody, dice),
        28..45 => {
            let sizes: Vec<u64> = (0..dice.between(1, 4)).map(|_| size(dice)).collect();
            let folder = format!("s{}", dice.below(4));
            world.share(anybody, &folder, &sizes);
        }
        45..62 => {
            let files = world.files_of_others(anybody);
            if let Some(file) = dice.pick(&files) {
                world.ask(anybody, Command::Get { files: vec![file.clone()], dest: None, conflict: None });
            }
        }
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
        _ => world.run_for(dice.between(1_000, 60_000)),
    }
}

/// The server's machine comes back with nothing, or with what it had some time ago.
fn restore_server(world: &mut World, dice: &mut Dice) {
    let old = if dice.once_in(2) { world.server_backup() } else { ServerStore::open_in_memory().expect("a database") };
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
    world.run_for(dice.between(0, 20_000));
    world.crash(node);
    world.restore(node, old);
    world.run_for(dice.between(0, 5_000));
    world.start_node(node);
}

fn size(dice: &mut Dice) -> u64 {
    match dice.below(6) {
        0 => 0,
        1..5 => dice.between(1, 1 << 20),
        _ => dice.between(1 << 20, 12 << 20),
    }
}
