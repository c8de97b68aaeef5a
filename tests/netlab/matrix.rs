//! Every pair of NATs: whether the straight way is found where there is one, and whether it is told why where there is
//! none.

use crate::group::Group;
use crate::kinds::{KINDS, ROOFS, expected, expected_under, is_tried, maps_ports};
use crate::link::Shape;
use crate::node::Node;
use crate::ports;
use crate::rights;
use crate::router::{House, Site};
use crate::runs::{Pair, is_chosen, runs, try_all};
use crate::space::Space;
use crate::table::say;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes a second of every link.
const RATE: u64 = 4 << 20;

/// What keeps a client's surroundings up.
enum Place {
    Site { _site: Site },
    House { _house: House },
}

#[test]
fn every_pair_of_nats_goes_straight_where_it_can_and_says_why_where_it_cannot() {
    if !rights::are_there() {
        return;
    }
    let pairs = pairs();
    let group = Group::new("matrix");
    let (_places, spaces) = build(&group, &pairs);
    // A few at once: each waits for the master most of the time.
    let mut spaces: Vec<_> = spaces.into_iter().collect();
    let mut nodes = BTreeMap::new();
    while !spaces.is_empty() {
        let some = spaces.split_off(spaces.len().saturating_sub(4));
        let begun = |(name, space): (String, Arc<Space>)| {
            let node = group.member(&name, space);
            (name, node)
        };
        let started: Vec<(String, Node)> = std::thread::scope(|scope| {
            let threads: Vec<_> = some.into_iter().map(|one| scope.spawn(|| begun(one))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a member")).collect()
        });
        nodes.extend(started);
    }
    try_all(&group, &pairs, nodes, runs());
}

fn pairs() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (i, one) in KINDS.iter().enumerate() {
        for (j, other) in KINDS.iter().enumerate().skip(i).filter(|(_, other)| is_tried(one, other)) {
            pairs.push(Pair {
                owner: format!("a{i}"),
                asker: format!("b{j}"),
                names: [one.name, other.name],
                expected: expected(one, other),
            });
        }
    }
    for (i, (name, roof)) in ROOFS.iter().enumerate() {
        pairs.push(Pair {
            owner: format!("c{i}"),
            asker: format!("d{i}"),
            names: ["behind one NAT", name],
            expected: expected_under(*roof),
        });
    }
    if !ports::is_there() {
        say("skipped: pairs whose routers map ports, for there is no 'miniupnpd' here");
        pairs.retain(|pair| !pair.names.iter().any(|name| maps_ports(name)));
    }
    pairs.retain(|pair| is_chosen(&pair.name()));
    pairs
}

/// The surroundings of all clients that are needed.
fn build(group: &Group, pairs: &[Pair]) -> (Vec<Place>, BTreeMap<String, Arc<Space>>) {
    let shape = Shape::home(RATE);
    let is_needed = |name: &String| pairs.iter().any(|pair| pair.owner == *name || pair.asker == *name);
    let (mut places, mut spaces) = (Vec::new(), BTreeMap::new());
    for (i, kind) in KINDS.iter().enumerate() {
        for (name, host) in [(format!("a{i}"), 2), (format!("b{i}"), 3)] {
            if is_needed(&name) {
                let site = Site::new(&group.net, kind.access, kind.families, host, shape);
                spaces.insert(name, site.space.clone());
                places.push(Place::Site { _site: site });
            }
        }
    }
    for (i, (_, roof)) in ROOFS.iter().enumerate().filter(|(i, _)| is_needed(&format!("c{i}"))) {
        let house = House::new(&group.net, *roof, shape);
        let [one, other] = house.spaces.clone();
        spaces.extend([(format!("c{i}"), one), (format!("d{i}"), other)]);
        places.push(Place::House { _house: house });
    }
    (places, spaces)
}
