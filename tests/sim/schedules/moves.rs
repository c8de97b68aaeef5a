//! The group changes its server.

use super::basics::{group, share};
use crate::world::World;
use bailiwick::wire::log::Standing;

/// Makes an invite for each of these nodes, and starts them with it.
fn invite_again(world: &mut World, nodes: &[usize]) {
    for node in nodes {
        world.invite();
        let so = world.run_till(30_000, |world| !world.invites.is_empty());
        world.check(so, "an invite");
        let invite = world.invites.remove(0);
        world.start_again_with(*node, &invite);
    }
}

#[test]
fn server_gone_for_good() {
    let mut world = group(70, 3);
    share(&mut world, 1, "photos", &[5; 3]);
    world.disapprove(&[3]);
    world.run_for(2_000);
    world.settle();
    let ticket = world.replace_server();
    // Somebody wants something meanwhile.
    world.share(2, "films", &[7; 2]);
    world.run_for(5_000);
    world.start_master_with(ticket);
    let so = world.run_till(60_000, |world| world.connected(0));
    world.check(so, "the master goes to the new server");
    world.run_for(10_000);
    let why = world.waits_for(1).unwrap_or_default();
    world.check(why.contains("waiting for the server"), &format!("members can't know of it: {why}"));
    invite_again(&mut world, &[1, 2, 3]);
    world.settle();
    for node in 0..3 {
        let files = world.nodes[node].store().files_page(None, &[], 0, 99).unwrap();
        world.check(files.len() == 5, "nothing is lost");
    }
    world.check(world.nodes_standing(Standing::Approved) == [1, 2], "nobody had to be approved again");
    let knows = !world.nodes[3].store().expulsions().unwrap().is_empty();
    world.check(knows, "the expelled is told at the new server, too");
}

/// A backup, and a server elsewhere: the machine that ran both is lost.
#[test]
fn import_to_another_server() {
    let mut world = group(71, 2);
    let backup = world.backup(0);
    share(&mut world, 1, "photos", &[5; 3]);
    let ticket = world.replace_server();
    world.crash(0);
    world.import(backup);
    world.start_master_with(ticket);
    let so = world.run_till(30_000, |world| world.connected(0));
    world.check(so, "the master goes to the new server");
    invite_again(&mut world, &[1, 2]);
    world.settle();
    let files = world.nodes[2].store().files_page(None, &[], 0, 99).unwrap();
    world.check(files.len() == 3, "the files are back");
    world.check(world.nodes_standing(Standing::Approved) == [1, 2], "nobody had to be approved again");
}
