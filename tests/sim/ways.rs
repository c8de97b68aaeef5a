//! Random worlds in which much goes straight: large files, a slow server, and networks that change all the time.

use crate::dice::Dice;
use crate::random::get;
use crate::schedules::basics::{admit, share};
use crate::world::{Nat, World};

/// Local networks that devices come to.
const LANS: u64 = 3;

/// A group whose members share large files.
pub(crate) fn begin(world: &mut World, dice: &mut Dice) {
    admit(world, dice.between(1, 3) as usize);
    for node in 0..world.nodes.len() {
        let nat = any_nat(dice);
        world.moves(node, dice.below(LANS), nat);
        let sizes: Vec<u64> = (0..dice.between(1, 3)).map(|_| dice.between(2 << 20, 24 << 20)).collect();
        share(world, node, "films", &sizes);
    }
}

fn any_nat(dice: &mut Dice) -> Nat {
    [Nat::Open, Nat::Open, Nat::Filters, Nat::Filters, Nat::Blocks][dice.below(5) as usize]
}

/// Somebody does something that has to do with straight ways.
pub(crate) fn act(world: &mut World, dice: &mut Dice) {
    let node = dice.below(world.nodes.len() as u64) as usize;
    match dice.below(20) {
        0..9 => get(world, dice, node),
        9..14 => wander(world, dice, node),
        14 => world.crash_for(node, dice.between(10, 3_000)),
        15 => world.crash_server_for(dice.between(10, 30_000)),
        16 => world.lose_connections(node),
        17 if node > 0 && dice.once_in(4) => drop(world.disapprove(&[node])),
        18 => world.sleep(node, dice.between(100, 20_000)),
        _ => world.run_for(dice.between(100, 10_000)),
    }
}

/// Devices come to other networks, and networks become other ones.
pub(crate) fn wander(world: &mut World, dice: &mut Dice, node: usize) {
    if !world.has_straight_ways() {
        return world.run_for(dice.between(1, 5_000));
    }
    let other = dice.below(world.nodes.len() as u64) as usize;
    match dice.below(8) {
        0..3 => {
            let nat = any_nat(dice);
            world.moves(node, dice.below(LANS), nat);
        }
        3 => world.rebinds(node),
        4 => world.lies_about_addresses(node),
        _ if other == node => {}
        5 => world.black_hole(node, other, true),
        _ => world.black_hole(node, other, false),
    }
}
