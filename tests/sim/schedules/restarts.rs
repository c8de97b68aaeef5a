//! Processes that die at the worst moment, and come back.

use super::basics::{admit, group, share};
use crate::network::Side;
use crate::world::{CrashPoint, Passing, World};
use bailiwick::node::local::Command;
use bailiwick::store::member::LocalStatus;
use bailiwick::wire::frame::Frame;
use bailiwick::wire::log::Standing;
use std::cell::RefCell;
use std::rc::Rc;

fn all_idle(world: &World, node: usize, count: usize) -> bool {
    let files = world.shared(node);
    files.len() == count && files.iter().all(|file| file.status == LocalStatus::Idle)
}

#[test]
fn quick_restart() {
    for seed in 0..6 {
        let mut world = group(100 + seed, 2);
        world.share(1, "photos", &[5; 3]);
        // The batch that the request is in.
        world.nodes[0].crash_in = Some((0, CrashPoint::Before));
        let died = world.run_till(20_000, |world| world.nodes[0].core.is_none());
        world.check(died, "the master dies");
        world.run_for(50);
        world.start_node(0);
        let done = world.run_till(60_000, |world| all_idle(world, 1, 3));
        world.check(done, "the request does not wait for ever");
        let tip = |world: &World, node: usize| world.nodes[node].store().tip().unwrap();
        let learnt = world.run_till(2_000, |world| tip(world, 1) == tip(world, 2));
        world.check(learnt, "a member that was idle since has learnt the head");
        world.settle();
    }
}

#[test]
fn persisted_not_sent() {
    for told in 0..4 {
        let mut world = group(200 + told as u64, 2);
        world.nodes[0].crash_in = Some((1, CrashPoint::After(told)));
        world.share(0, "films", &[7; 2]);
        world.run_for(120_000);
        world.start_node(0);
        world.settle();
        world.check(world.nodes[2].store().files_page(None, &[], 0, 9).unwrap().len() == 2, "the files are everywhere");
        world.disapprove(&[2]);
        world.nodes[0].crash_in = Some((0, CrashPoint::After(told)));
        world.run_for(120_000);
        world.start_node(0);
        world.settle();
        let expelled = world.nodes_standing(Standing::Disapproved);
        world.check(expelled == [2], "what is on the master's disk counts");
    }
}

#[test]
fn answered_not_heard() {
    for seed in 0..4 {
        let mut world = group(300 + seed, 2);
        world.intercept = Some(Box::new(|passing: &Passing<'_>| {
            let news = matches!(passing.frame, Frame::Broadcast { .. } | Frame::Routed { .. });
            !(passing.node == 1 && passing.to == Side::Node && news)
        }));
        world.share(1, "photos", &[5; 3]);
        let so = world.run_till(10_000, |world| world.shared(1).len() == 3);
        world.check(so, "staged");
        let old = world.backup(1);
        let there = |world: &World| world.nodes[0].store().files_page(None, &[], 0, 9).unwrap().len() == 3;
        let so = world.run_till(20_000, there);
        world.check(so, "the master has them");
        world.crash(1);
        world.intercept = None;
        if seed % 2 == 0 {
            world.restore(1, old);
        }
        world.start_node(1);
        world.settle();
        world.check(all_idle(&world, 1, 3), "none is lost");
        world.check(there(&world), "none is there twice");
    }
}

/// A server that keeps all that a device sends to the master.
pub(super) fn keep_requests(world: &mut World, node: usize) -> Rc<RefCell<Vec<Frame>>> {
    let kept: Rc<RefCell<Vec<Frame>>> = Rc::default();
    let keep = kept.clone();
    world.intercept = Some(Box::new(move |passing: &Passing<'_>| {
        if passing.node == node && passing.to == Side::Server && matches!(passing.frame, Frame::Routed { .. }) {
            keep.borrow_mut().push(passing.frame.clone());
        }
        true
    }));
    kept
}

#[test]
fn replayed_requests() {
    let mut world = group(7, 2);
    let kept = keep_requests(&mut world, 1);
    world.share(1, "photos", &[5; 3]);
    world.run_for(3_000);
    world.share(1, "films", &[5; 3]);
    world.run_for(3_000);
    let tip = world.nodes[0].store().tip().unwrap();
    world.run_for(86_400_000);
    for frame in kept.take() {
        world.inject(1, frame);
        world.run_for(500);
    }
    world.settle();
    world.check(world.nodes[0].store().tip().unwrap() == tip, "nothing is done twice");
    world.share(1, "more", &[5; 3]);
    world.run_for(2_000);
    world.settle();
    world.check(all_idle(&world, 1, 9), "and what is new goes through");
}

/// What a group does in its first minute, with one process dying at its batch number `batch`.
fn story(seed: u64, victim: Option<usize>, batch: u32, point: CrashPoint) {
    let mut world = World::new(seed);
    match victim {
        Some(node) if node < world.nodes.len() => world.nodes[node].crash_in = Some((batch, point)),
        Some(_) => {}
        None => world.server.crash_in = Some((batch, point)),
    }
    world.invite();
    world.run_for(300);
    world.invite();
    for wanted in 1..=2 {
        if !world.run_till(20_000, |world| !world.invites.is_empty()) {
            world.start_node(0);
            world.invite();
            world.run_for(10_000);
        }
        if world.invites.is_empty() {
            world.fail("no invite");
        }
        let invite = world.invites.remove(0);
        let node = world.join("laptop", &invite);
        assert_eq!(node, wanted);
        if victim == Some(node) {
            world.nodes[node].crash_in = Some((batch, point));
        }
        let registered = |world: &World| world.nodes_standing(Standing::Registered).contains(&node);
        world.run_till(60_000, registered);
        world.approve(&[node]);
        world.run_for(500);
    }
    world.share(1, "photos", &[0, 5, 3 << 20]);
    world.share(0, "films", &[5, 9 << 20]);
    world.run_for(2_000);
    for node in [0, 2] {
        let files = world.files_of_others(node);
        world.ask(node, Command::Get { files, dest: None, conflict: None, way: None });
    }
    world.run_for(3_000);
    world.disapprove(&[2]);
    world.run_for(2_000);
    world.settle();
    for node in world.nodes_standing(Standing::Registered) {
        world.approve(&[node]);
    }
    world.settle();
}

#[test]
fn power_cut() {
    // `BAILIWICK_SIM_FIRST` moves the moments.
    let first = std::env::var("BAILIWICK_SIM_FIRST").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0) % 4;
    for batch in (first..60 + first).step_by(4) {
        for victim in [Some(0), Some(1), None] {
            let told = batch as usize % 5;
            story(400 + u64::from(batch), victim, batch, CrashPoint::After(told));
        }
        story(400 + u64::from(batch), Some(batch as usize % 2), batch + 1, CrashPoint::Before);
    }
}

#[test]
fn slept() {
    let mut world = group(8, 2);
    share(&mut world, 1, "films", &[30 << 20, 30 << 20]);
    let files = world.files_of_others(2);
    world.ask(2, Command::Get { files, dest: None, conflict: None, way: None });
    world.run_for(150);
    world.sleep(2, 3_600_000);
    world.run_for(3_600_000);
    world.run_for(300);
    world.sleep(1, 3_600_000);
    world.run_for(3_600_000);
    world.settle();
    world.check(world.nodes[2].disk.done.len() == 2, "both are there");
}

#[test]
fn same_name() {
    let mut world = group(9, 1);
    world.invite();
    world.invite();
    world.run_for(500);
    for _ in 0..2 {
        let invite = world.invites.remove(0);
        world.join("laptop", &invite);
    }
    world.run_for(5_000);
    world.approve(&[2, 3]);
    world.run_for(2_000);
    world.settle();
    let mut names: Vec<String> = world.nodes[1].store().names().unwrap().values().map(|name| name.folded()).collect();
    names.sort();
    assert_eq!(names, ["c1", "desk", "laptop", "laptop-2"]);
    admit(&mut world, 1);
}
