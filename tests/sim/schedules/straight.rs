//! Downloads over straight ways that come, go and lie; the server carries on where they don't.

use super::basics::{admit, get_all, share};
use crate::network::Side;
use crate::world::{Nat, Passing, World};
use bailiwick::wire::frame::Frame;
use std::cell::Cell;
use std::rc::Rc;

/// Chunks of the film.
const CHUNKS: u64 = 200;
/// What an owner may still serve on an old word from the master, with what is under way then.
const FRESH_MS: u64 = 180_000 + 10_000;
/// Nothing comes for so long at most when a device moves: it asks, offers, is dialled, and a chunk takes its second.
const REPLACED_MS: u64 = 1_800;
/// Nothing comes for so long at most when a straight way ends without a word.
const STALL_MS: u64 = 3_000;

/// The first client shares a film; each behind such a NAT. All is slow enough for something to happen meanwhile.
fn cinema(seed: u64, nats: [Nat; 2]) -> World {
    cinema_of(seed, nats, CHUNKS)
}

fn cinema_of(seed: u64, nats: [Nat; 2], chunks: u64) -> World {
    let mut world = World::new(seed).with_straight_ways();
    admit(&mut world, 2);
    share(&mut world, 1, "films", &[chunks << 20]);
    for (node, nat) in [1, 2].into_iter().zip(nats) {
        world.moves(node, node as u64, nat);
        world.lose_connections(node);
    }
    world.run_for(60_000);
    (world.relay_delay_max, world.straight_delay_max) = (1_000, 1_000);
    world
}

/// The second client's download goes straight, and is not over.
fn goes_straight(world: &mut World) {
    get_all(world, 2);
    // What is asked of the server at first comes, then what is asked straight.
    let units = world.relay_delay_max + 2 * world.straight_delay_max;
    let straight = world.run_till(10_000 + units, |world| world.nodes[2].straight_units > 4);
    world.check(straight, "the download goes straight");
    world.check(is_under_way(world), "and is under way");
}

fn is_under_way(world: &World) -> bool {
    world.nodes[2].disk.done.is_empty()
}

/// Lets the download end, and gives the longest time in which nothing came.
fn longest_pause(world: &mut World) -> u64 {
    let (mut longest, mut last) = (0, (world.now(), world.nodes[2].units));
    while is_under_way(world) {
        world.run_for(20);
        let (now, units) = (world.now(), world.nodes[2].units);
        longest = longest.max(now - last.0);
        if units > last.1 {
            last = (now, units);
        }
        world.check(now - last.0 < 60_000, "the download goes on");
    }
    longest
}

#[test]
fn straight_through_nats_that_filter() {
    for seed in 800..804 {
        let mut world = cinema(seed, [Nat::Filters; 2]);
        goes_straight(&mut world);
        longest_pause(&mut world);
        let one = &world.nodes[2];
        world.check(one.straight_units * 2 > one.units, "most of it comes straight");
        world.settle();
    }
}

#[test]
fn no_straight_way_through_a_nat_that_blocks() {
    let mut world = cinema(805, [Nat::Blocks, Nat::Open]);
    get_all(&mut world, 2);
    longest_pause(&mut world);
    world.check(world.nodes[2].straight_units == 0, "all of it comes through the server");
}

#[test]
fn two_behind_nats_that_block_meet_on_their_network() {
    let mut world = cinema(806, [Nat::Blocks; 2]);
    world.moves(1, 7, Nat::Blocks);
    world.moves(2, 7, Nat::Blocks);
    world.run_for(5_000);
    goes_straight(&mut world);
    world.settle();
}

#[test]
fn black_hole_on_the_straight_way() {
    for seed in 810..818 {
        let mut world = cinema(seed, [Nat::Filters, Nat::Open]);
        goes_straight(&mut world);
        world.black_hole(1, 2, true);
        let pause = longest_pause(&mut world);
        world.check(pause <= STALL_MS, &format!("it goes on through the server, not after {pause} ms"));
        world.settle();
    }
}

#[test]
fn straight_again_after_the_network_changed() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 4] = [
        ("its NAT gives the owner another port", |world| world.rebinds(1)),
        ("its NAT gives the asker another port", |world| world.rebinds(2)),
        ("the owner moves", |world| world.moves(1, 5, Nat::Filters)),
        ("the asker moves", |world| world.moves(2, 6, Nat::Filters)),
    ];
    for (number, (what, change)) in changes.into_iter().enumerate() {
        let mut world = cinema_of(820 + number as u64, [Nat::Filters; 2], 10 * CHUNKS);
        (world.relay_delay_max, world.straight_delay_max) = (10_000, 10_000);
        goes_straight(&mut world);
        change(&mut world);
        // By then nothing is left of the way that was there before.
        world.run_for(3_000);
        let before = world.nodes[2].straight_units;
        let again = world.run_till(30_000, |world| world.nodes[2].straight_units > before + 10);
        world.check(again, &format!("{what}: it goes straight again"));
        longest_pause(&mut world);
        world.settle();
    }
}

#[test]
fn who_moves_asks_on_its_straight_ways_and_keeps_those_that_answer() {
    for (seed, node) in [(840, 1), (841, 2)] {
        let mut world = cinema_of(seed, [Nat::Filters; 2], 10 * CHUNKS);
        goes_straight(&mut world);
        let ways = world.straight_ways(node);
        world.moves_on(node, 8);
        world.run_for(5_000);
        world.check(is_under_way(&world) && world.straight_ways(node) == ways, "the same ways are there");
        longest_pause(&mut world);
        world.settle();
    }
}

#[test]
fn a_straight_way_that_does_not_answer_after_a_move_is_replaced_before_it_is_found_dead() {
    for (seed, node) in (842..850).flat_map(|seed| [(seed, 1), (seed, 2)]) {
        let mut world = cinema(seed, [Nat::Filters; 2]);
        goes_straight(&mut world);
        world.moves(node, 8, Nat::Filters);
        world.straight_ways_fall_silent(node);
        let pause = longest_pause(&mut world);
        world.check(pause <= REPLACED_MS, &format!("it goes on soon, not after {pause} ms"));
        world.settle();
    }
}

#[test]
fn who_loses_a_straight_way_asks_whether_the_server_hears_it_still() {
    for node in [1, 2] {
        let mut world = cinema(825, [Nat::Filters; 2]);
        goes_straight(&mut world);
        let asked = Rc::new(Cell::new(false));
        let heard = asked.clone();
        world.intercept = Some(Box::new(move |passing: &Passing<'_>| {
            let is_ping = matches!(passing.frame, Frame::Ping(_)) && passing.to == Side::Server;
            heard.set(heard.get() || is_ping && passing.node == node);
            // No offer arrives: else who notices first has another straight way before the other one loses its own.
            !matches!(passing.frame, Frame::Routed { .. })
        }));
        world.rebinds(1);
        let asks = world.run_till(4_000, |_| asked.get());
        world.check(asks, "it asks, and so opens its NAT");
        world.intercept = None;
        longest_pause(&mut world);
        world.settle();
    }
}

#[test]
fn straight_on_without_a_server() {
    let mut world = cinema(830, [Nat::Filters; 2]);
    goes_straight(&mut world);
    world.crash_server();
    let pause = longest_pause(&mut world);
    world.check(pause <= STALL_MS, &format!("the server's end is not noticed, not for {pause} ms"));
    world.settle();
}

#[test]
fn owner_killed_on_a_straight_way() {
    let mut world = cinema(831, [Nat::Filters; 2]);
    goes_straight(&mut world);
    world.crash_for(1, 1_000);
    longest_pause(&mut world);
    world.settle();
}

#[test]
fn straight_ways_to_addresses_of_others() {
    let mut world = cinema(832, [Nat::Open; 2]);
    for node in [1, 2] {
        world.lies_about_addresses(node);
    }
    goes_straight(&mut world);
    world.settle();
}

#[test]
fn expelled_on_a_straight_way() {
    let mut world = cinema(840, [Nat::Filters; 2]);
    (world.relay_delay_max, world.straight_delay_max) = (10_000, 10_000);
    goes_straight(&mut world);
    world.disapprove(&[2]);
    let knows = |world: &World| !world.nodes[1].store().expulsions().expect("a store").is_empty();
    let told = world.run_till(10_000, knows);
    world.check(told, "its peer hears of it");
    // What was sent before is on its way for as long as a packet takes; a connection that is closed carries none.
    let longest_way = world.delay_max;
    world.run_for(longest_way);
    let units = world.nodes[2].units;
    world.run_for(60_000);
    world.check(world.nodes[2].units == units, "not a byte comes after the round trip");
    world.check(is_under_way(&world), "and it does not have the film");
    world.settle();
}

#[test]
fn expulsion_hidden_from_who_serves_straight() {
    let mut world = cinema(841, [Nat::Filters; 2]);
    (world.relay_delay_max, world.straight_delay_max) = (60_000, 60_000);
    goes_straight(&mut world);
    world.intercept = Some(Box::new(move |passing: &Passing<'_>| match (passing.node, passing.to, passing.frame) {
        (0, Side::Server, Frame::Broadcast { .. } | Frame::Headers(_) | Frame::Head(_)) => false,
        // Every letter shows the newest head.
        (1, Side::Node, Frame::Routed { .. }) => false,
        _ => true,
    }));
    world.disapprove(&[2]);
    let (expelled_at, mut last) = (world.now(), world.now());
    let mut uploads = world.nodes[1].uploads;
    while world.now() < expelled_at + 2 * FRESH_MS {
        world.run_for(500);
        if world.nodes[1].uploads > std::mem::replace(&mut uploads, world.nodes[1].uploads) {
            last = world.now();
        }
    }
    world.check(last > expelled_at, "the owner does not know for a while");
    world.check(last <= expelled_at + FRESH_MS, &format!("the owner stops in time, not at {last}"));
    world.intercept = None;
    world.crash_server();
    world.settle();
}
