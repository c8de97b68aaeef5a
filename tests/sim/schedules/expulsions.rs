//! Who is expelled gets nothing more, whatever servers do and whoever is away.

use super::basics::{group, share};
use crate::network::Side;
use crate::world::{Passing, World};
use bailiwick::node::local::Command;
use bailiwick::store::server_db::ServerStore;
use bailiwick::wire::envelope::{Letter, Payload};
use bailiwick::wire::frame::{Class, Frame};
use bailiwick::wire::ids::Position;
use std::cell::RefCell;
use std::rc::Rc;

/// What an owner may still serve on an old word from the master, with what is under way then.
const FRESH_MS: u64 = 180_000 + 10_000;

/// A device asks for one file after another for so long; gives when the last upload at the owner began.
fn asks_on(world: &mut World, asker: usize, owner: usize, ms: u64) -> Option<u64> {
    let (end, mut last) = (world.now() + ms, None);
    let mut files = world.files_of_others(asker);
    while world.now() < end {
        if let Some(file) = files.pop() {
            world.ask(asker, Command::Get { files: vec![file], dest: None, conflict: None, way: None });
        }
        let before = world.nodes[owner].uploads;
        world.run_for(3_000);
        if world.nodes[owner].uploads > before {
            last = Some(world.now());
        }
    }
    last
}

#[test]
fn hidden_expulsion() {
    let mut world = group(2, 2);
    share(&mut world, 1, "photos", &[100; 120]);
    let serves = asks_on(&mut world, 2, 1, 5_000).is_some();
    world.check(serves, "the owner has a fresh word of the master");
    let owner = world.nodes[1].identity.clone();
    let (group, master) = (world.group(), world.model.master);
    world.intercept = Some(Box::new(move |passing: &Passing<'_>| match (passing.node, passing.to, passing.frame) {
        (0, Side::Server, Frame::Broadcast { .. } | Frame::Headers(_) | Frame::Head(_)) => false,
        (1, Side::Node, Frame::Routed { envelope, .. }) => {
            let letter = Letter::open(&owner, &group, &master, envelope);
            !letter.is_ok_and(|letter| matches!(letter.payload, Payload::Entries { .. } | Payload::Page { .. }))
        }
        _ => true,
    }));
    world.disapprove(&[2]);
    let expelled_at = world.now();
    let last = asks_on(&mut world, 2, 1, 400_000);
    let last = last.unwrap_or(expelled_at);
    world.check(last <= expelled_at + FRESH_MS, &format!("the owner stops in time, not at {last}"));
    // An honest server takes its place; it is told what the other one was told.
    world.intercept = None;
    world.crash_server();
    world.settle();
    world.check(world.nodes[2].store().expulsions().unwrap().len() == 1, "it knows");
}

#[test]
fn expelled_while_server_down() {
    let mut world = group(3, 2);
    share(&mut world, 1, "photos", &[100; 120]);
    world.crash_server();
    world.disapprove(&[2]);
    world.run_for(100);
    world.check(world.model.expelled_acked.len() == 1, "the person was told that it is done");
    world.crash(0);
    world.start_server();
    let expelled_at = world.now();
    let last = asks_on(&mut world, 2, 1, 400_000).unwrap_or(expelled_at);
    world.check(last <= expelled_at + FRESH_MS, &format!("the owner stops in time, not at {last}"));
    world.settle();
    let so = asks_on(&mut world, 2, 1, 10_000).is_none();
    world.check(so, "it gets nothing more");
}

/// Keeps a record of the classes that a node is welcomed with, and of whatever only members get.
fn watch(world: &mut World, node: usize) -> Rc<RefCell<Vec<String>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let record = seen.clone();
    world.intercept = Some(Box::new(move |passing: &Passing<'_>| {
        if passing.node == node && passing.to == Side::Node {
            match passing.frame {
                Frame::Welcome(welcome) if welcome.class != Class::Approved => {}
                Frame::Headers(_) | Frame::Pong(_) | Frame::RegistrationHeld(_) => {}
                other => record.borrow_mut().push(crate::network::label(other)),
            }
        }
        // The headers come one by one instead.
        !(passing.node == 0 && passing.to == Side::Server && matches!(passing.frame, Frame::Headers(_)))
    }));
    seen
}

#[test]
fn half_told_server() {
    let mut world = group(4, 2);
    share(&mut world, 1, "photos", &[100; 3]);
    world.crash(2);
    world.disapprove(&[2]);
    world.run_for(2_000);
    world.crash_server();
    world.replace_server_store(ServerStore::open_in_memory().unwrap());
    let seen = watch(&mut world, 2);
    world.start_server();
    world.start_node(2);
    world.run_for(8_000);
    let headers = world.nodes[0].store().membership_after(Position::default()).unwrap();
    for header in headers {
        world.inject(0, Frame::Headers(vec![header]));
        world.run_for(3_000);
    }
    let seen = seen.take();
    world.check(seen.is_empty(), &format!("the expelled one gets nothing: {seen:?}"));
    world.settle();
}

#[test]
fn yesterdays_server() {
    let mut world = group(5, 3);
    share(&mut world, 1, "photos", &[100; 150]);
    let yesterday = world.server_backup();
    world.crash(1);
    world.crash(2);
    world.disapprove(&[2]);
    world.run_for(3_000);
    world.crash(0);
    world.crash(3);
    world.crash_server();
    world.replace_server_store(yesterday);
    world.run_for(86_400_000);
    world.start_server();
    world.start_node(2);
    world.start_node(1);
    let served = asks_on(&mut world, 2, 1, 60_000);
    world.check(served.is_none(), "an owner that was away has no fresh word, and serves nobody");
    world.start_node(3);
    let knows = |world: &World| !world.nodes[2].store().expulsions().unwrap().is_empty();
    let so = world.run_till(60_000, knows);
    world.check(so, "a member's word about the expulsion is enough");
    world.settle();
}
