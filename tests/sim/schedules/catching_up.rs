//! Replicas that are far behind, and secrets that come late.

use super::basics::{admit, get_all, group, share};
use crate::network::Side;
use crate::world::{Passing, World};
use bailiwick::node::member::MemberConfig;
use bailiwick::node::server::core::CoreConfig;
use bailiwick::wire::frame::Frame;
use std::time::Duration;

/// A world whose master keeps few entries, and makes snapshots often.
fn forgetful(seed: u64, pause_ms: u64) -> World {
    let mut config = MemberConfig::default();
    config.snapshots.entries_kept = 3;
    config.snapshots.pause = Duration::from_millis(pause_ms);
    World::with(seed, config, CoreConfig::default())
}

#[test]
fn month_away() {
    for seed in 0..2 {
        let mut world = forgetful(20 + seed, 60_000);
        admit(&mut world, 2);
        share(&mut world, 0, "archive", &[1; 2_500]);
        world.crash(2);
        for day in 0..6 {
            share(&mut world, 1, &format!("day{day}"), &[5; 2]);
            admit(&mut world, 1);
            world.crash(2);
        }
        world.run_for(30 * 86_400_000);
        world.delay_max = 300;
        world.start_node(2);
        for entry in 0..(8 + 18 * seed) {
            world.share(1, &format!("now{entry}"), &[5]);
            world.run_for(150);
        }
        // Silence follows, whatever it had to drop meanwhile.
        let at_head = |world: &World| world.nodes[2].store().tip().unwrap() == world.nodes[0].store().tip().unwrap();
        let so = world.run_till(60_000, at_head);
        world.check(so, "it catches up by itself");
        world.settle();
    }
}

#[test]
fn slow_snapshot() {
    let mut world = forgetful(25, 500);
    admit(&mut world, 1);
    share(&mut world, 0, "archive", &[1; 3_500]);
    world.delay_max = 2_000;
    for round in 0..6 {
        world.invite();
        world.run_till(10_000, |world| !world.invites.is_empty());
        let invite = world.invites.remove(0);
        let node = world.join("late", &invite);
        world
            .run_till(30_000, |world| world.nodes_standing(bailiwick::wire::log::Standing::Registered).contains(&node));
        world.approve(&[node]);
        for entry in 0..6 {
            world.share(0, &format!("new{round}-{entry}"), &[5]);
            world.run_for(700);
        }
    }
    world.settle();
}

/// Two expulsions, and so two new epochs, while one member does not get some of the frames and a transfer runs.
fn rotate_without(lost: fn(&Frame) -> bool, seed: u64) {
    let mut world = group(seed, 4);
    share(&mut world, 1, "films", &[40 << 20]);
    share(&mut world, 2, "music", &[40 << 20]);
    get_all(&mut world, 1);
    get_all(&mut world, 2);
    world.run_for(60);
    world.intercept = Some(Box::new(move |passing: &Passing<'_>| {
        !(passing.node == 2 && passing.to == Side::Node && lost(passing.frame))
    }));
    world.disapprove(&[3]);
    world.run_for(50);
    world.disapprove(&[4]);
    world.run_for(700);
    world.intercept = None;
    world.settle();
    world.check(world.nodes[1].disk.done.len() == 1, "one way");
    world.check(world.nodes[2].disk.done.len() == 1, "the other way");
}

#[test]
fn key_before_header() {
    rotate_without(|frame| matches!(frame, Frame::Broadcast { .. }), 30);
}

#[test]
fn header_before_key() {
    rotate_without(|frame| matches!(frame, Frame::Routed { .. }), 31);
}
