//! Every pair of roles is killed at once and started again in both orders: what was asked before goes through after.

use crate::node::{Node, Place, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The roles that a pair is made of.
const ROLES: [&str; 4] = ["server", "desk", "laptop", "phone"];

type Nodes = BTreeMap<&'static str, Node>;

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path.to_str().expect("a path of text").to_owned()
}

fn start(place: &Place, role: &str) -> Node {
    match role {
        "server" => place.server(),
        "desk" => place.start("desk", &["master"]),
        other => place.again(other),
    }
}

fn one_row(rows: &Value) -> bool {
    rows.as_array().is_some_and(|rows| rows.len() == 1)
}

/// All that a group does, once: a file that the laptop shares comes to the phone, as it is.
fn works(place: &Place, nodes: &Nodes, round: &str) {
    let name = format!("{round}.txt");
    let bytes = round.repeat(1_000);
    let path = write(&place.folder("papers"), &name, bytes.as_bytes());
    nodes["laptop"].run(&["add", &path]);
    nodes["phone"].until(&["files", &name], one_row);
    nodes["phone"].run(&["get", &format!("laptop:{name}")]);
    let got = std::fs::read(place.path("phone-downloads").join(&name)).expect("the file");
    assert!(got == bytes.as_bytes(), "{name} differs");
}

/// Kills two; the laptop has asked for something just before, or asks while the others are gone.
fn kill(nodes: &mut Nodes, pair: [&str; 2], wish: &str) {
    let before = pair.contains(&"laptop").then(|| nodes["laptop"].begin(&["add", wish]));
    for role in pair {
        nodes.remove(role).expect("it runs").kill();
    }
    match before {
        Some(mut asking) => drop(asking.wait()),
        None => drop(nodes["laptop"].output(&["add", "--no-wait", wish])),
    }
}

#[test]
fn every_pair_of_roles_restarted_in_both_orders() {
    let place = Place::new();
    let (server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let phone = place.member(&master, "phone");
    let mut nodes = Nodes::from([("server", server), ("desk", master), ("laptop", laptop), ("phone", phone)]);
    works(&place, &nodes, "before");
    for first in ROLES {
        for second in ROLES.into_iter().filter(|second| *second != first) {
            let round = format!("{first}-then-{second}");
            let wish = write(&place.folder("papers"), &format!("{round}-wish.txt"), round.as_bytes());
            kill(&mut nodes, [first, second], &wish);
            nodes.insert(first, start(&place, first));
            nodes.insert(second, start(&place, second));
            works(&place, &nodes, &round);
            let shares = nodes["laptop"].run(&["shares"]);
            let kept = shares.as_array().expect("rows").iter().any(|row| text(row, "path") == wish);
            assert!(kept || [first, second].contains(&"laptop"), "{round}: the wish is gone: {shares}");
            if kept {
                nodes["phone"].until(&["files", &format!("{round}-wish")], one_row);
            }
        }
    }
    let rows = nodes["desk"].run(&["clients"]);
    assert!(rows.as_array().expect("rows").iter().all(|row| text(row, "standing") == "approved"), "{rows}");
}
