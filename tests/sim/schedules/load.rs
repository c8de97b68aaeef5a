//! Full caches, stalled askers, owners that vanish, members that want everything.

use super::basics::{admit, get_all, group, share};
use crate::world::World;
use bailiwick::node::member::MemberConfig;
use bailiwick::node::server::core::CoreConfig;
use bailiwick::state::cache::CacheConfig;
use bailiwick::store::member::LocalStatus;
use bailiwick::wire::frame::Frame;

fn small_cache(seed: u64) -> World {
    let cache = CacheConfig::with_capacity(9 << 20);
    World::with(seed, MemberConfig::default(), CoreConfig { cache, ..CoreConfig::default() })
}

#[test]
fn full_cache() {
    let mut world = small_cache(40);
    admit(&mut world, 4);
    share(&mut world, 1, "films", &[30 << 20, 1 << 20]);
    for node in 2..=4 {
        get_all(&mut world, node);
        world.nodes[node].stalled = true;
    }
    world.run_for(60_000);
    world.nodes[3].stalled = false;
    let done = world.run_till(200_000, |world| world.nodes[3].disk.done.len() == 2);
    world.check(done, "the one that recovers gets its files while the others stall");
    world.settle();
    for node in 2..=4 {
        world.check(world.nodes[node].disk.done.len() == 2, "the others get them in the end");
    }
}

#[test]
fn vanishing_owner() {
    let mut world = small_cache(41);
    admit(&mut world, 3);
    share(&mut world, 1, "films", &[30 << 20]);
    share(&mut world, 2, "music", &[30 << 20]);
    get_all(&mut world, 3);
    world.run_for(30);
    world.cut(1, true, true);
    let done = world.run_till(120_000, |world| world.nodes[3].disk.done.len() == 1);
    world.check(done, "the other owner's file comes");
    world.settle();
    world.check(world.nodes[3].disk.done.len() == 2, "and then this one's");
}

#[test]
fn greedy_member() {
    let mut world = group(42, 3);
    share(&mut world, 0, "films", &[64 << 20, 64 << 20]);
    get_all(&mut world, 3);
    let peer = world.model.master;
    for round in 0..30u64 {
        for number in 0..100 {
            world.inject(3, Frame::Routed { peer, number: 1_000_000 + round * 100 + number, envelope: vec![7; 9_000] });
        }
        world.run_for(20);
    }
    world.share(1, "photos", &[5; 3]);
    let there = |world: &World| world.nodes[2].store().files_page(None, &[], 0, 9).unwrap().len() == 5;
    let so = world.run_till(5_000, there);
    world.check(so, "another one's request goes through at once");
    get_all(&mut world, 2);
    world.settle();
    world.check(world.nodes[2].disk.done.len() == 5, "another one's downloads, too");
}

#[test]
fn slow_owner() {
    let mut world = group(43, 2);
    share(&mut world, 1, "films", &[3 << 20]);
    let dials = world.dials;
    get_all(&mut world, 2);
    world.run_for(40);
    world.sleep(1, 8_000);
    world.run_for(8_000);
    world.check(world.dials == dials, "an asker that waits for a slow owner does not leave its server");
    world.settle();
    world.check(world.nodes[2].disk.done.len() == 1, "it is there");
}

/// Everybody has wishes when the master comes back, and everybody comes back when the server does. What a server says to
/// 10,000 that return is in the router's own tests.
#[test]
fn all_at_once() {
    const CLIENTS: usize = 50;
    const WISHES: usize = 20;
    let mut world = group(44, CLIENTS);
    world.crash(0);
    world.run_for(1_000);
    for node in 1..=CLIENTS {
        world.share(node, "photos", &[5; WISHES]);
    }
    world.run_for(30_000);
    world.start_node(0);
    let files =
        |world: &World, node: usize, status| world.shared(node).iter().filter(|file| file.status == status).count();
    let all = |world: &World| (1..=CLIENTS).all(|node| files(world, node, LocalStatus::Idle) == WISHES);
    let done = world.run_till(60_000, all);
    world.check(done, "a thousand wishes are fulfilled within a minute");
    world.settle();
    let tip = world.nodes[0].store().tip().unwrap();
    let dials = world.dials;
    world.crash_server();
    world.run_for(10_000);
    world.start_server();
    let back = world.run_till(60_000, |world| (0..=CLIENTS).all(|node| world.connected(node)));
    world.check(back, "all are back within a minute: a connection that died is noticed after 45 s at most");
    world.settle();
    world.check(world.nodes[0].store().tip().unwrap() == tip, "and nobody had anything to say");
    world.check(world.dials - dials <= 20 * CLIENTS as u64, "nor dialled without a pause");
}
