//! Leaving, names, and the rule for how long owners serve without the master.

use super::basics::{admit, get_all, group, share};
use super::restarts::keep_requests;
use crate::world::World;
use bailiwick::node::local::{Command, ErrorCode, Reply, Status};
use bailiwick::wire::log::Standing;

fn status(world: &mut World, node: usize) -> Status {
    let token = world.ask(node, Command::Status);
    world.run_till(5_000, |world| world.nodes[node].replies.contains_key(&token));
    match world.nodes[node].replies.remove(&token) {
        Some(Ok(Reply::Status(status))) => *status,
        other => world.fail(&format!("no status: {other:?}")),
    }
}

fn rename(world: &mut World, node: usize, name: &str) -> u64 {
    world.ask(node, Command::Rename { id: None, name: name.to_owned() })
}

fn name(world: &World, at: usize, of: usize) -> String {
    let key = world.nodes[of].key();
    let changes = crate::model::changes_of(world.nodes[at].store(), &world.model.master);
    let names = world.nodes[at].store().names().unwrap();
    changes.get(&key).and_then(|change| names.get(&change.id)).map(ToString::to_string).unwrap_or_default()
}

fn has_left(world: &World, at: usize, node: usize) -> bool {
    let changes = crate::model::changes_of(world.nodes[at].store(), &world.model.master);
    changes.get(&world.nodes[node].key()).is_some_and(|change| change.standing == Standing::Left)
}

#[test]
fn left_and_heard() {
    let mut world = group(60, 3);
    share(&mut world, 1, "photos", &[100; 5]);
    share(&mut world, 2, "films", &[200 << 20]);
    get_all(&mut world, 1);
    world.run_for(300);
    world.ask(1, Command::Leave { now: false });
    let gone = world.run_till(10_000, |world| world.nodes[1].has_left);
    world.check(gone, "it ends by itself");
    world.settle();
    for other in [0, 2, 3] {
        world.check(has_left(&world, other, 1), "everybody knows");
        let files = world.nodes[other].store().files_page(None, &[], 0, 99).unwrap();
        world.check(files.len() == 1, "its files are gone");
    }
    let epochs = |node: usize| world.nodes[node].store().epochs().unwrap().last().map(|epoch| epoch.id);
    world.check(epochs(2) == epochs(0) && epochs(1) != epochs(0), "the secret that it knows is not used any more");
}

/// The wish waits for the master, over restarts of the one who leaves; nothing of it is served meanwhile.
#[test]
fn left_while_the_master_is_away() {
    let mut world = group(61, 2);
    share(&mut world, 1, "photos", &[100; 5]);
    world.crash(0);
    world.run_for(2_000);
    world.ask(1, Command::Leave { now: false });
    world.run_for(5_000);
    let before = world.nodes[1].uploads;
    get_all(&mut world, 2);
    world.run_for(30_000);
    world.check(world.nodes[1].uploads == before, "it serves nothing");
    let now = status(&mut world, 1);
    let says = now.waiting.unwrap_or_default();
    world.check(now.leaving && says.contains("leaving") && says.contains("master"), &format!("it says so: {says}"));
    world.crash(1);
    world.run_for(1_000);
    world.start_node(1);
    world.run_for(20_000);
    let still = status(&mut world, 1).leaving;
    world.check(still, "and after a restart");
    world.start_node(0);
    let gone = world.run_till(60_000, |world| world.nodes[1].has_left);
    world.check(gone, "it ends by itself when the master is back");
    world.settle();
    world.check(has_left(&world, 0, 1) && has_left(&world, 2, 1), "everybody knows");
}

/// The directory is deleted before the master comes back: the group goes on, and the master's person can expel it.
#[test]
fn left_unheard() {
    let mut world = group(62, 2);
    share(&mut world, 1, "photos", &[100; 5]);
    world.crash(0);
    world.ask(1, Command::Leave { now: false });
    world.run_for(5_000);
    world.delete(1);
    world.start_node(0);
    world.run_for(60_000);
    world.check(!has_left(&world, 0, 1), "the master never hears of it");
    admit(&mut world, 1);
    share(&mut world, 3, "films", &[100; 5]);
    world.disapprove(&[1]);
    world.run_for(5_000);
    world.settle();
    for other in [0, 2, 3] {
        let files = world.nodes[other].store().files_page(None, &[], 0, 99).unwrap();
        world.check(files.len() == 5, "its files are gone");
    }
}

#[test]
fn left_at_once() {
    let mut world = group(63, 2);
    world.crash_server();
    world.ask(1, Command::Leave { now: true });
    world.run_for(1_000);
    world.check(world.nodes[1].has_left, "it waits for nobody");
    world.ask(0, Command::Leave { now: true });
    world.run_for(1_000);
    world.check(!world.nodes[0].has_left, "the master can't leave");
    world.settle();
}

/// Killed between any two steps, the one who leaves ends as one who has left.
#[test]
fn left_and_killed_on_the_way() {
    for batches in 0..12 {
        let mut world = group(6_400 + u64::from(batches), 2);
        share(&mut world, 1, "photos", &[100; 2]);
        world.ask(1, Command::Leave { now: false });
        world.run_for(5);
        let point = crate::world::CrashPoint::After(batches as usize % 3);
        world.nodes[1].crash_in = Some((batches, point));
        let gone = world.run_till(300_000, |world| world.nodes[1].has_left);
        world.check(gone, "it leaves in the end");
        world.settle();
        world.check(has_left(&world, 2, 1), "everybody knows");
    }
}

#[test]
fn renamed_and_refused() {
    let mut world = group(65, 2);
    let before = name(&world, 0, 1);
    rename(&mut world, 1, "notebook");
    world.run_for(5_000);
    world.settle();
    for at in 0..3 {
        world.check(name(&world, at, 1) == "notebook", &format!("{} is renamed at {at}", before));
    }
    let wish = status(&mut world, 1).rename;
    world.check(wish.is_none(), "nothing is left to be wished");
    // Only the case differs.
    rename(&mut world, 1, "NoteBook");
    world.run_for(5_000);
    world.settle();
    world.check(name(&world, 2, 1) == "NoteBook", "a rename that differs only in case works");
    // Somebody else has it, in another case; the wish is dropped, and is not asked for again.
    rename(&mut world, 2, "NOTEBOOK");
    world.run_for(5_000);
    let wish = status(&mut world, 2).rename;
    world.check(wish.is_some_and(|wish| wish.refused.is_some()), "it is told why not");
    rename(&mut world, 1, "phone");
    world.run_for(5_000);
    world.settle();
    world.check(name(&world, 0, 2) != "NOTEBOOK", "a wish that was refused is none any more");
}

/// A wish for a name waits for the master, over a restart, and goes through by itself.
#[test]
fn renamed_while_the_master_is_away() {
    let mut world = group(66, 2);
    world.crash(0);
    world.run_for(2_000);
    rename(&mut world, 1, "notebook");
    world.run_for(2_000);
    world.crash(1);
    world.start_node(1);
    world.run_for(5_000);
    let wish = status(&mut world, 1).rename;
    world.check(wish.is_some_and(|wish| wish.refused.is_none()), "the wish waits");
    world.start_node(0);
    world.run_for(30_000);
    world.settle();
    world.check(name(&world, 2, 1) == "notebook", "it went through");
}

/// Two devices that register by one name at once, and then both want another one.
#[test]
fn same_new_name() {
    let mut world = group(67, 3);
    rename(&mut world, 1, "tablet");
    rename(&mut world, 2, "Tablet");
    world.run_for(10_000);
    world.settle();
    let taken = [1, 2].map(|of| name(&world, 3, of).to_lowercase() == "tablet");
    world.check(taken[0] != taken[1], "one of them has it");
    let loser = if taken[0] { 2 } else { 1 };
    let wish = status(&mut world, loser).rename;
    world.check(wish.is_some_and(|wish| wish.refused.is_some()), "the other one is told why not");
}

/// Seconds from the master's end until an owner serves no more, with this policy.
fn serves_for(seed: u64, wait_s: u64) -> u64 {
    let mut world = group(seed, 2);
    share(&mut world, 1, "photos", &[100; 400]);
    let token = world.ask(0, Command::SetPolicy { master_away_wait_s: wait_s });
    world.run_for(5_000);
    world.check(matches!(world.nodes[0].replies.get(&token), Some(Ok(Reply::Policy(_)))), "the master sets it");
    world.settle();
    let mut files = world.files_of_others(2);
    let ask = |world: &mut World, files: &mut Vec<String>| {
        let before = world.nodes[1].uploads;
        world.ask(2, Command::Get { files: files.pop().into_iter().collect(), dest: None, conflict: None, way: None });
        world.run_for(2_000);
        world.nodes[1].uploads > before
    };
    let serves = ask(&mut world, &mut files);
    world.check(serves, "it serves while the master is there");
    world.crash(0);
    let away = world.now();
    let mut last = away;
    while world.now() < away + (wait_s + 60) * 1_000 && !files.is_empty() {
        if ask(&mut world, &mut files) {
            last = world.now();
        }
    }
    (last - away) / 1_000
}

#[test]
fn owners_keep_to_the_masters_policy() {
    let short = serves_for(68, 20);
    assert!((10..=23).contains(&short), "{short} s");
    let long = serves_for(69, 400);
    assert!((300..=403).contains(&long), "{long} s");
}

#[test]
fn a_policy_has_bounds() {
    let mut world = group(70, 1);
    for (node, wait_s, code) in
        [(0, 9, ErrorCode::Usage), (0, 30 * 86_400 + 1, ErrorCode::Usage), (1, 60, ErrorCode::WrongRole)]
    {
        let token = world.ask(node, Command::SetPolicy { master_away_wait_s: wait_s });
        world.run_for(1_000);
        let refused = matches!(world.nodes[node].replies.get(&token), Some(Err(error)) if error.code == code);
        world.check(refused, &format!("{wait_s} at {node}"));
    }
    let tip = world.nodes[0].store().tip().unwrap();
    world.ask(0, Command::SetPolicy { master_away_wait_s: 180 });
    world.run_for(1_000);
    world.check(world.nodes[0].store().tip().unwrap() == tip, "what holds already is no entry");
}

/// A name was another's when it was asked for, and is free a day later, when the server sends the request again.
#[test]
fn replayed_refusal() {
    let mut world = group(70, 2);
    rename(&mut world, 2, "tablet");
    world.run_for(2_000);
    let before = name(&world, 0, 1);
    let kept = keep_requests(&mut world, 1);
    rename(&mut world, 1, "Tablet");
    world.run_for(2_000);
    world.intercept = None;
    rename(&mut world, 2, "phone");
    world.run_for(86_400_000);
    world.check(name(&world, 0, 2) == "phone", "the name is free");
    let refused = kept.take();
    world.check(!refused.is_empty(), "it asked");
    for frame in refused {
        world.inject(1, frame);
        world.run_for(500);
    }
    world.settle();
    world.check(name(&world, 0, 1) == before, "a refusal is not undone by sending the request again");
    rename(&mut world, 1, "Tablet");
    world.run_for(2_000);
    world.settle();
    world.check(name(&world, 0, 1) == "Tablet", "but by asking again");
}
