//! Old copies and second copies of a device's directory.

use super::basics::{group, share};
use crate::world::{Passing, World};
use bailiwick::node::local::{Command, Reply};
use bailiwick::store::member::LocalStatus;
use bailiwick::wire::frame::Frame;
use bailiwick::wire::log::Standing;

#[test]
fn restored_client() {
    let mut world = group(10, 2);
    share(&mut world, 1, "photos", &[5; 2]);
    let yesterday = world.backup(1);
    share(&mut world, 1, "films", &[5; 2]);
    world.crash(1);
    world.restore(1, yesterday);
    world.run_for(86_400_000);
    world.start_node(1);
    world.run_for(10_000);
    world.settle();
    share(&mut world, 1, "more", &[5; 2]);
    let idle = |world: &World| world.shared(1).iter().filter(|file| file.status == LocalStatus::Idle).count();
    world.check(idle(&world) == 4, "what it shares is in the catalog");
    share(&mut world, 1, "films", &[6; 2]);
    let files = world.nodes[2].store().files_page(None, &[], 0, 99).unwrap();
    world.check(files.len() == 6, "no path is there twice");
    world.check(idle(&world) == 6, "what it shares again is in the catalog");
}

fn says_that_it_is_old(world: &mut World) -> bool {
    world.waits_for(0).is_some_and(|why| why.contains("old one"))
}

#[test]
fn restored_master() {
    let mut world = group(11, 2);
    share(&mut world, 0, "photos", &[5; 2]);
    let (master, server) = (world.backup(0), world.server_backup());
    world.disapprove(&[2]);
    share(&mut world, 1, "films", &[5; 2]);
    let tip = world.nodes[1].store().tip().unwrap();
    world.crash(0);
    world.crash_server();
    world.model.master_was_restored = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    let old = world.run_till(60_000, |world| world.connected(0) && world.connected(1));
    world.check(old, "they are back");
    world.run_for(20_000);
    let so = says_that_it_is_old(&mut world);
    world.check(so, "the master says what it is");
    world.share(0, "more", &[5]);
    world.approve(&[1]);
    world.run_for(60_000);
    world.check(world.nodes[1].store().tip().unwrap() == tip, "it signs nothing");
}

#[test]
fn restored_master_alone() {
    let mut world = group(12, 2);
    let (master, server) = (world.backup(0), world.server_backup());
    share(&mut world, 1, "films", &[5; 2]);
    let tip = world.nodes[1].store().tip().unwrap();
    (0..3).for_each(|node| world.crash(node));
    world.crash_server();
    world.model.master_was_restored = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    world.run_for(300_000);
    world.nodes[0].is_old_copy = true;
    world.share(0, "more", &[5]);
    world.run_for(10_000);
    world.start_node(1);
    world.run_for(60_000);
    let so = says_that_it_is_old(&mut world);
    world.check(so, "the master says what it is");
    world.check(world.nodes[1].store().tip().unwrap() == tip, "the member keeps what it has");
    let why = world.waits_for(1).unwrap_or_default();
    world.check(why.contains("forked") || !why.is_empty(), &format!("the member says what is wrong: {why}"));
    world.run_for(600_000);
}

/// An old copy of the master signs further than the members' log went, before they come back: what they hold is older
/// than its newest head, and is not what it signed there.
#[test]
fn restored_master_far_ahead() {
    let mut world = group(18, 2);
    let (master, server) = (world.backup(0), world.server_backup());
    share(&mut world, 1, "films", &[5; 2]);
    let tip = world.nodes[1].store().tip().unwrap();
    (0..3).for_each(|node| world.crash(node));
    world.crash_server();
    world.model.master_was_restored = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    world.run_for(300_000);
    world.nodes[0].is_old_copy = true;
    for name in ["more", "still more", "and more"] {
        world.share(0, name, &[5]);
        world.run_for(10_000);
    }
    world.start_node(1);
    world.run_for(60_000);
    let why = world.waits_for(1).unwrap_or_default();
    world.check(why.contains("forked"), &format!("the member says what is wrong: {why}"));
    let why = world.waits_for(0).unwrap_or_default();
    world.check(why.contains("forked"), &format!("and so does the master: {why}"));
    world.check(world.nodes[1].store().tip().unwrap() == tip, "the member keeps what it has");
}

/// A device was approved after the copy was made, and comes back when the old copy has signed further than that: it is
/// let in nowhere, so that nobody compares its log with that of the master, but what it says in its hello tells.
fn approved_since_the_copy(seed: u64, device_is_first: bool) {
    let mut world = group(seed, 1);
    world.invite();
    assert!(world.run_till(30_000, |world| !world.invites.is_empty()), "an invite");
    let invite = world.invites.remove(0);
    let node = world.join("late", &invite);
    let registered = world.run_till(60_000, |world| world.nodes_standing(Standing::Registered).contains(&node));
    world.check(registered, "it is registered");
    world.settle();
    let (master, server) = (world.backup(0), world.server_backup());
    world.approve(&[node]);
    let caught_up = world.run_till(60_000, |world| {
        world.nodes[node].store().tip().unwrap().is_some() && world.nodes_standing(Standing::Approved).contains(&node)
    });
    world.check(caught_up, "it is in");
    (0..3).for_each(|node| world.crash(node));
    world.crash_server();
    world.model.master_was_restored = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    world.run_for(300_000);
    world.nodes[0].is_old_copy = true;
    for name in ["more", "still more"] {
        world.share(0, name, &[5]);
        world.run_for(10_000);
    }
    if device_is_first {
        world.crash(0);
    }
    world.start_node(node);
    world.run_for(5_000);
    if device_is_first {
        world.start_node(0);
    }
    world.run_for(60_000);
    let why = world.waits_for(0).unwrap_or_default();
    world.check(why.contains("forked"), &format!("the master says what is wrong: {why}"));
    let tip = world.nodes[0].store().tip().unwrap();
    world.share(0, "and more", &[5]);
    world.run_for(10_000);
    world.check(world.nodes[0].store().tip().unwrap() == tip, "it signs nothing more");
}

#[test]
fn restored_master_and_who_was_approved_since() {
    approved_since_the_copy(20, false);
    approved_since_the_copy(21, true);
}

/// The master was killed between an entry and its head, and restored from an older copy: all that members can show of the
/// log as it was is the entry's header.
#[test]
fn restored_master_whose_members_have_no_head() {
    let mut world = group(22, 2);
    let (master, server) = (world.backup(0), world.server_backup());
    world.intercept = Some(Box::new(|passing: &Passing<'_>| !matches!(passing.frame, Frame::Head(_))));
    world.share(0, "films", &[5; 2]);
    world.run_for(5_000);
    let tip = world.nodes[1].store().tip().unwrap();
    (0..3).for_each(|node| world.crash(node));
    world.crash_server();
    world.intercept = None;
    world.model.master_was_restored = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    world.run_for(300_000);
    world.nodes[0].is_old_copy = true;
    world.share(0, "more", &[5]);
    world.run_for(10_000);
    world.start_node(1);
    world.run_for(60_000);
    for node in [0, 1] {
        let why = world.waits_for(node).unwrap_or_default();
        world.check(why.contains("forked"), &format!("{node} says what is wrong: {why}"));
    }
    world.check(world.nodes[1].store().tip().unwrap() == tip, "the member keeps what it has");
}

/// Somebody asks something of an old copy of the master as soon as it starts: it waits for what members have to show.
#[test]
fn restored_master_at_work() {
    let mut world = group(17, 2);
    let (master, server) = (world.backup(0), world.server_backup());
    share(&mut world, 1, "films", &[5; 2]);
    let tip = world.nodes[1].store().tip().unwrap();
    (0..3).for_each(|node| world.crash(node));
    world.crash_server();
    world.model.master_was_restored = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    let own = world.nodes[0].store().tip().unwrap();
    world.share(0, "more", &[5]);
    world.disapprove(&[2]);
    world.run_for(1_000);
    world.start_node(1);
    world.start_node(2);
    world.run_for(60_000);
    let so = says_that_it_is_old(&mut world);
    world.check(so, "the master says what it is");
    world.check(world.nodes[0].store().tip().unwrap() == own, "it signs nothing");
    world.check(world.nodes[2].store().tip().unwrap() == tip, "and nobody hears anything of it");
}

/// Members that were idle when the newest entries came know of them, and show it to an old copy of the master.
#[test]
fn restored_master_and_idle_members() {
    let mut world = group(15, 2);
    let (master, server) = (world.backup(0), world.server_backup());
    share(&mut world, 0, "films", &[5; 2]);
    let tip = world.nodes[1].store().tip().unwrap();
    world.crash(0);
    world.crash_server();
    world.model.master_was_restored = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    world.run_for(60_000);
    let so = says_that_it_is_old(&mut world);
    world.check(so, "the master says what it is");
    world.check(world.nodes[2].store().tip().unwrap() == tip, "it signs nothing");
}

/// Files that a restored client does not know any more: who asks for them is told why it waits, until they are shared
/// again.
#[test]
fn restored_client_and_askers() {
    let mut world = group(16, 2);
    let yesterday = world.backup(1);
    share(&mut world, 1, "films", &[5; 2]);
    world.crash(1);
    world.restore(1, yesterday);
    world.start_node(1);
    world.run_for(10_000);
    super::basics::get_all(&mut world, 2);
    world.run_for(60_000);
    // In between it asks again.
    let told = (0..20).any(|_| {
        let token = world.ask(2, Command::Transfers { job: None });
        world.run_for(150);
        match world.nodes[2].replies.get(&token) {
            Some(Ok(Reply::Transfers(rows))) => rows.iter().all(|row| row.reason.is_some()),
            _ => false,
        }
    });
    world.check(told, "the asker says why it waits");
    // The person shares the folder again: the catalog's files get their contents back, under their own ids.
    world.add(1, std::path::Path::new("/home/c1/films"));
    world.run_for(1_000);
    world.settle();
    world.check(world.nodes[2].disk.done.len() == 2, "and then the transfers go on");
}

/// Of the two, one is connected and the other says that there is a second one.
fn one_of(world: &mut World, one: usize, other: usize) {
    world.run_for(120_000);
    let (first, second) = (world.waits_for(one), world.waits_for(other));
    let gave_up =
        |why: &Option<String>| why.as_ref().is_some_and(|why| why.contains("another process uses a copy of this"));
    world.check(gave_up(&first) != gave_up(&second), &format!("one goes on: {first:?} {second:?}"));
    let on = if gave_up(&first) { other } else { one };
    world.check(world.connected(on), "and is connected");
    let before = world.dials;
    world.run_for(600_000);
    world.check(world.dials == before, "they do not replace each other for ever");
}

#[test]
fn copied_client() {
    let mut world = group(13, 2);
    share(&mut world, 1, "photos", &[5; 2]);
    let copy = world.backup(1);
    let copy = world.copy_of(1, copy);
    one_of(&mut world, 1, copy);
}

#[test]
fn copied_master() {
    let mut world = group(14, 2);
    share(&mut world, 1, "photos", &[5; 2]);
    let copy = world.backup(0);
    world.run_for(2_000);
    let copy = world.copy_of(0, copy);
    one_of(&mut world, 0, copy);
}

/// Two copies of the master decide apart, and every head between them gets lost, by a server that forgets what was
/// broadcast: the headers alone must tell.
#[test]
fn copied_master_by_headers_alone() {
    let mut world = group(15, 2);
    world.invite();
    world.run_till(30_000, |world| !world.invites.is_empty());
    let invite = world.invites.remove(0);
    let third = world.join("c3", &invite);
    let so = world.run_till(30_000, |world| world.nodes_standing(Standing::Registered) == [third]);
    world.check(so, "a third device is registered");
    world.settle();
    let copy = world.backup(0);
    world.cut(0, true, true);
    world.crash(0);
    let copy = world.copy_of(0, copy);
    world.model.master_was_restored = true;
    world.intercept = Some(Box::new(|passing: &Passing<'_>| !matches!(passing.frame, Frame::Head(_))));
    world.run_for(20_000);
    world.share(copy, "photos", &[5]);
    world.run_for(2_000);
    let ids = world.ids_of(&[third]);
    world.ask(copy, Command::Approve { ids });
    world.run_for(2_000);
    let approved = |world: &World, node: usize| {
        let changes = crate::model::changes_of(world.nodes[node].store(), &world.model.master);
        changes.get(&world.nodes[third].key()).is_some_and(|change| change.standing == Standing::Approved)
    };
    world.check(approved(&world, copy) && approved(&world, 1), "one copy decides, and members hear of it");
    world.delete(copy);
    // The other one has no server; after its wait it signs.
    world.start_node(0);
    world.run_for(20_000);
    world.approve(&[third]);
    world.run_for(1_000);
    world.check(approved(&world, 0), "the other one decides, too");
    world.share(0, "films", &[5; 3]);
    world.run_for(5_000);
    world.crash_server();
    world.run_for(1_000);
    world.start_server();
    world.cut(0, false, false);
    let told = world.run_till(120_000, |world| world.connected(0));
    world.check(told, "it is back");
    world.run_for(5_000);
    let says = world.says_old_copy();
    world.check(says, "it says that it is not the only copy");
}

/// Whoever gave up says so of its transfers, too: they do not wait for a server that is there.
#[test]
fn copied_client_with_a_download() {
    let mut world = group(17, 2);
    share(&mut world, 2, "notes", &[5; 2]);
    world.crash(2);
    super::basics::get_all(&mut world, 1);
    world.run_for(5_000);
    let copy = world.backup(1);
    let copy = world.copy_of(1, copy);
    world.run_for(120_000);
    let gave_up = [1, copy].into_iter().find(|node| !world.connected(*node)).expect("one of the two");
    let token = world.ask(gave_up, Command::Transfers { job: None });
    world.run_for(100);
    let says_so = match world.nodes[gave_up].replies.get(&token) {
        Some(Ok(Reply::Transfers(rows))) => {
            let why = |reason: &Option<String>| reason.as_ref().is_some_and(|why| why.contains("another process uses"));
            rows.len() == 2 && rows.iter().all(|row| why(&row.reason))
        }
        _ => false,
    };
    world.check(says_so, "its transfers wait for a person");
}
