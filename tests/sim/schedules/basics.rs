//! What must work when nothing goes wrong.

use crate::world::World;
use bailiwick::node::local::Command;
use bailiwick::wire::log::Standing;

/// A world with this many approved clients, at rest.
pub(crate) fn group(seed: u64, clients: usize) -> World {
    let mut world = World::new(seed);
    admit(&mut world, clients);
    world
}

/// Lets so many new clients in, and waits until all is quiet.
pub(crate) fn admit(world: &mut World, clients: usize) {
    for number in 0..clients {
        world.run_for(500);
        world.invite();
        assert!(world.run_till(30_000, |world| !world.invites.is_empty()), "an invite");
        let invite = world.invites.remove(0);
        let node = world.join(&format!("c{}", world.nodes.len() + number), &invite);
        let registered = world.run_till(60_000, |world| world.nodes_standing(Standing::Registered).contains(&node));
        assert!(registered, "{node} is registered");
        world.approve(&[node]);
        let approved = world.run_till(60_000, |world| world.nodes_standing(Standing::Approved).contains(&node));
        assert!(approved, "{node} is approved");
    }
    world.settle();
}

/// One node shares a folder with files of these sizes; waits until all have them.
pub(crate) fn share(world: &mut World, node: usize, folder: &str, sizes: &[u64]) {
    world.share(node, folder, sizes);
    world.run_for(1_000);
    world.settle();
}

/// A node asks for all files of others.
pub(crate) fn get_all(world: &mut World, node: usize) {
    let files = world.files_of_others(node);
    assert!(!files.is_empty(), "there are files");
    world.ask(node, Command::Get { files, dest: None, conflict: None, way: None });
}

#[test]
fn a_group_shares_and_downloads() {
    let mut world = group(1, 3);
    share(&mut world, 1, "photos", &[0, 17, 1 << 20, (3 << 20) + 5]);
    share(&mut world, 0, "films", &[9 << 20]);
    for node in 1..=3 {
        assert_eq!(world.nodes[node].store().files_page(None, &[], 0, 100).unwrap().len(), 5);
    }
    get_all(&mut world, 2);
    get_all(&mut world, 0);
    world.run_for(1_000);
    world.settle();
    world.check(world.nodes[2].disk.done.len() == 5, "all of them are there");
    world.check(world.nodes[0].disk.done.len() == 4, "the master has them, too");
}
