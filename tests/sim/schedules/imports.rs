//! A master that comes back from a backup begins a new generation, and nobody loses what others still have.

use super::basics::{admit, group, share};
use crate::dice::Dice;
use crate::runner::number;
use crate::world::{Faults, World};
use bailiwick::node::local::{Command, Reply};
use bailiwick::store::member::{LocalStatus, MemberStore};
use bailiwick::store::server_db::ServerStore;
use bailiwick::wire::frame::Frame;
use bailiwick::wire::ids::EpochId;
use bailiwick::wire::log::Standing;

/// How long an imported master listens, and a little more.
const LISTENS_MS: u64 = 70_000;

fn generation(world: &World, node: usize) -> u32 {
    world.nodes[node].store().tip().unwrap().map_or(0, |tip| tip.at.generation)
}

fn files(world: &World, node: usize) -> usize {
    world.nodes[node].store().files_page(None, &[], 0, u64::MAX).unwrap().len()
}

fn name_of(world: &World, node: usize) -> String {
    let key = world.nodes[node].key();
    let changes = crate::model::changes_of(world.nodes[0].store(), &world.model.master);
    let names = world.nodes[0].store().names().unwrap();
    names[&changes[&key].id].to_string()
}

/// A group whose backup is older than three approvals, two disapprovals and 1,000 files. Nodes 1 to 3 were members when
/// it was made; 4 to 6 came later; 2 and 4 were expelled later.
fn story(seed: u64) -> (World, MemberStore, ServerStore) {
    let mut world = group(seed, 3);
    share(&mut world, 1, "photos", &[5; 3]);
    share(&mut world, 2, "gone", &[5; 2]);
    let backup = (world.backup(0), world.server_backup());
    admit(&mut world, 3);
    world.disapprove(&[2, 4]);
    world.run_for(2_000);
    share(&mut world, 3, "music", &[7; 500]);
    share(&mut world, 5, "films", &[7; 500]);
    (world, backup.0, backup.1)
}

/// What must be so whoever was there, and when.
fn all_is_back(world: &mut World) {
    let standing = |world: &World, standing| world.nodes_standing(standing);
    world.check(standing(world, Standing::Approved) == [1, 3, 5, 6], "the approved are members");
    world.check(standing(world, Standing::Disapproved) == [2, 4], "the expelled are out");
    for node in [0, 1, 3, 5, 6] {
        world.check(generation(world, node) == generation(world, 0), "all are in the new generation");
        world.check(files(world, node) == 1_003, &format!("the files are back: {}", files(world, node)));
    }
    for node in [3, 5] {
        let idle = world.shared(node).iter().all(|file| file.status == LocalStatus::Idle);
        world.check(idle, "owners know that they are");
    }
    let names: Vec<String> = [5, 6].iter().map(|node| name_of(world, *node)).collect();
    let own: Vec<String> = [5, 6].iter().map(|node| world.nodes[*node].name.clone()).collect();
    world.check(names == own, &format!("those whom the backup did not know have their names: {names:?}"));
    let epochs = world.nodes[1].store().epochs().unwrap();
    let newest = epochs.last().map(|epoch| epoch.id);
    world.check(newest.is_some_and(|id: EpochId| id.generation == generation(world, 0)), "the epoch is a new one");
    let mut some = world.files_of_others(6);
    some.truncate(12);
    world.ask(6, Command::Get { files: some, dest: None, conflict: Default::default(), way: None });
    world.run_for(1_000);
    world.settle();
    world.check(world.nodes[6].disk.done.len() == 12, "what others share comes");
}

#[test]
fn import_old_backup() {
    let (mut world, backup, _) = story(40);
    let ids: Vec<_> = world.shared(5).iter().map(|file| file.meta.id).collect();
    world.import(backup);
    let begun = world.run_till(LISTENS_MS, |world| generation(world, 0) == 2);
    world.check(begun, "the new generation begins");
    world.settle();
    all_is_back(&mut world);
    let now: Vec<_> = world.shared(5).iter().map(|file| file.meta.id).collect();
    world.check(ids == now, "under the same ids");
}

/// A file that its owner deleted since the backup was made comes back with the log, and goes again.
#[test]
fn import_and_a_file_that_was_deleted_since() {
    let mut world = group(57, 2);
    let folder = world.share(1, "photos", &[5; 3]);
    world.run_for(1_000);
    world.settle();
    let backup = world.backup(0);
    world.nodes[1].disk.shared.remove(&folder.join("photos1"));
    world.scan(1);
    world.run_for(1_000);
    world.settle();
    world.check(files(&world, 2) == 2, "it is gone");
    world.crash(0);
    world.import(backup);
    world.run_for(LISTENS_MS);
    world.settle();
    world.check(generation(&world, 2) > 1, "the log began anew");
    world.check(files(&world, 2) == 2, "it is gone still");
}

/// The server's machine is the master's: its key and port are in the backup, its database is not.
#[test]
fn import_old_backup_and_no_server_database() {
    let (mut world, backup, _) = story(41);
    world.crash_server();
    world.replace_server_store(ServerStore::open_in_memory().unwrap());
    world.import(backup);
    world.run_for(700_000);
    world.start_server();
    let begun = world.run_till(LISTENS_MS, |world| generation(world, 0) == 2);
    world.check(begun, "the new generation begins");
    world.settle();
    all_is_back(&mut world);
}

/// The server's directory is restored, too.
#[test]
fn import_old_backup_and_old_server() {
    let (mut world, backup, server) = story(42);
    world.crash_server();
    world.replace_server_store(server);
    world.start_server();
    world.import(backup);
    world.settle();
    all_is_back(&mut world);
}

/// The server's database is lost, and of the members one is there that knows all; the others come later.
#[test]
fn import_old_backup_while_most_are_away() {
    let (mut world, backup, _) = story(43);
    (1..=6).for_each(|node| world.crash(node));
    world.crash_server();
    world.replace_server_store(ServerStore::open_in_memory().unwrap());
    world.start_server();
    world.import(backup);
    world.start_node(5);
    let begun = world.run_till(LISTENS_MS, |world| generation(world, 0) == 2);
    world.check(begun, "the new generation begins");
    world.run_for(86_400_000);
    world.settle();
    all_is_back(&mut world);
}

/// Nobody was there who knew of an expulsion: it counts from when somebody shows it, and is in the log then.
#[test]
fn import_before_anybody_tells_of_an_expulsion() {
    let (mut world, backup, _) = story(44);
    (1..=6).for_each(|node| world.crash(node));
    world.crash_server();
    world.replace_server_store(ServerStore::open_in_memory().unwrap());
    world.start_server();
    world.import(backup);
    let begun = world.run_till(LISTENS_MS, |world| generation(world, 0) == 2);
    world.check(begun, "the new generation begins");
    world.run_for(5_000);
    world.start_node(1);
    let knows = |world: &World| world.nodes_standing(Standing::Disapproved).contains(&2);
    let so = world.run_till(60_000, knows);
    world.check(so, "an expulsion that comes late is entered");
    // Those whom nobody knew any more need an invite.
    world.start_node(5);
    world.run_for(60_000);
    let why = world.waits_for(5).unwrap_or_default();
    world.check(why.contains("invite"), &format!("an approved device that nobody told of hears what to do: {why}"));
    world.invite();
    world.run_for(2_000);
    let invite = world.invites.remove(0);
    world.start_again_with(5, &invite);
    let waits = |world: &World| world.nodes_standing(Standing::Registered).contains(&5);
    let so = world.run_till(30_000, waits);
    world.check(so, "with it the device is in the inbox");
    world.approve(&[5]);
    let so = world.run_till(120_000, |world| world.shared(5).iter().all(|file| file.status == LocalStatus::Idle));
    world.check(so, "and its files are back");
    world.start_node(4);
    world.run_for(30_000);
    world.check(!world.nodes_standing(Standing::Approved).contains(&4), "the expelled stay out");
}

/// A master that dies in the middle of importing goes on with it.
#[test]
fn import_interrupted() {
    for seed in 50..53 {
        let (mut world, backup, _) = story(seed);
        world.import(backup);
        world.run_for(15_000);
        world.crash(0);
        world.run_for(5_000);
        world.start_node(0);
        world.faults = Faults { failed_write: 30, ..Faults::default() };
        let begun = world.run_till(600_000, |world| generation(world, 0) == 2);
        world.check(begun, "the new generation begins");
        // Of what it said then, nobody has heard much.
        world.crash(0);
        world.run_for(10_000);
        world.start_node(0);
        world.settle();
        all_is_back(&mut world);
        world.check(generation(&world, 0) == 2, "it is begun once");
    }
}

/// The old master is alive somewhere: of the two, the one with the older log signs nothing more.
#[test]
fn import_while_the_old_master_lives() {
    let (mut world, backup, _) = story(60);
    let old = world.backup(0);
    world.import(backup);
    world.settle();
    let tip = world.nodes[0].store().tip().unwrap();
    let copy = world.copy_of(0, old);
    world.run_for(30_000);
    world.crash(0);
    world.share(copy, "more", &[5]);
    let token = world.ask(copy, Command::Approve { ids: vec!["c5".to_owned()] });
    world.run_for(60_000);
    let why = world.waits_for(copy).unwrap_or_default();
    world.check(
        why.contains("old one") && why.contains("import"),
        &format!("it says what it is, and what to do: {why}"),
    );
    world.check(!matches!(world.nodes[copy].replies.get(&token), Some(Ok(Reply::Clients(_)))), "it signs nothing");
    world.check(world.nodes[1].store().tip().unwrap() == tip, "members stay where they are");
    world.crash(copy);
    world.crash_server();
    world.start_node(copy);
    world.run_for(60_000);
    let why = world.waits_for(copy).unwrap_or_default();
    world.check(why.contains("old one"), "it remembers that, with nobody there to tell it");
    world.crash(copy);
    world.settle();
}

/// Two copies of a master signed at one place. All who see both stop and say so; an import ends it for all of them.
#[test]
fn fork_and_import() {
    let mut world = group(61, 2);
    share(&mut world, 1, "photos", &[5; 2]);
    let (master, server) = (world.backup(0), world.server_backup());
    share(&mut world, 1, "films", &[5]);
    (0..3).for_each(|node| world.crash(node));
    world.crash_server();
    // An old copy signs at the same place, while nobody is there who could say so.
    world.model.master_was_restored = true;
    world.nodes[0].is_old_copy = true;
    world.restore(0, master);
    world.replace_server_store(server);
    world.start_server();
    world.start_node(0);
    world.run_for(10_000);
    world.share(0, "more", &[5]);
    world.run_for(10_000);
    world.start_node(1);
    world.start_node(2);
    world.run_for(30_000);
    for node in 0..3 {
        let why = world.waits_for(node).unwrap_or_default();
        let says = why.contains("forked at 1.") && why.contains("export") && why.contains("import");
        world.check(says, &format!("{node} says what happened, and what to do: {why}"));
    }
    // It survives restarts, whoever is there.
    (0..3).for_each(|node| world.crash(node));
    world.crash_server();
    for node in 0..3 {
        world.start_node(node);
        world.run_for(10_000);
        let why = world.waits_for(node).unwrap_or_default();
        world.check(why.contains("forked at 1."), &format!("{node} remembers: {why}"));
    }
    world.start_server();
    let export = world.backup(0);
    world.nodes[0].is_old_copy = false;
    world.import(export);
    world.settle();
    world.check(generation(&world, 2) == 2, "a new generation ends it");
    world.check(files(&world, 2) == 4, "nothing is lost");
    for node in 0..3 {
        let why = world.waits_for(node).unwrap_or_default();
        world.check(!why.contains("fork"), &format!("{node} goes on: {why}"));
    }
}

/// A request and an invite of the old generation are void.
#[test]
fn old_requests_and_invites_are_void() {
    let mut world = group(62, 2);
    world.invite();
    world.run_for(2_000);
    let old = world.invites.remove(0);
    let backup = world.backup(0);
    world.cut(1, false, true);
    world.share(1, "films", &[5]);
    world.run_for(3_000);
    world.import(backup);
    let begun = world.run_till(LISTENS_MS, |world| generation(world, 0) == 2);
    world.check(begun, "the new generation begins");
    world.cut(1, false, false);
    let late = world.join("late", &old);
    world.run_for(30_000);
    world.check(world.nodes[late].fatal.is_some(), "an old invite opens nothing");
    world.settle();
    world.check(files(&world, 2) == 1, "a request of the old generation is made anew in the new one");
    let stale = world.nodes[0].store().membership_after(Default::default()).unwrap();
    world.inject(1, Frame::Headers(stale));
    world.settle();
}

/// Anything happens before and after an import, and during it; everybody who is known comes to rest.
#[test]
fn random_imports() {
    let first = number("BAILIWICK_SIM_FIRST", 0);
    for seed in first..first + number("BAILIWICK_SIM_SEEDS", 24) {
        let mut world = World::new(seed);
        let mut dice = Dice::new(!seed);
        world.faults = Faults { crash_before: 900, crash_after: 600, failed_write: 900, ..Faults::default() };
        let acts = |world: &mut World, dice: &mut Dice, count: u64| {
            for _ in 0..count {
                crate::random::act(world, dice);
                world.run_for(dice.between(1, 2_500));
            }
        };
        acts(&mut world, &mut dice, 40);
        let backup = world.backup(0);
        let before = dice.between(1, 25);
        acts(&mut world, &mut dice, before);
        if dice.once_in(3) {
            world.crash_server();
            world.replace_server_store(ServerStore::open_in_memory().unwrap());
        }
        world.import(backup);
        acts(&mut world, &mut dice, 60);
        world.settle();
        world.check(generation(&world, 0) >= 2, "the new generation began");
        // What any member knows of an expulsion, the log knows.
        let members = world.nodes_standing(Standing::Approved);
        for member in &members {
            for header in world.nodes[*member].store().expulsions().unwrap() {
                let header = header.verify(&world.model.master).unwrap();
                let expelled = header.expulsion().unwrap().device;
                // One that is expelled keeps to that by itself, and tells nobody; so does a copy of it.
                let key = |node: &usize| world.nodes[*node].key();
                let back = key(member) != expelled && members.iter().any(|node| key(node) == expelled);
                world.check(!back, &format!("{member} knows of an expulsion that the log forgot"));
            }
        }
    }
}
