//! A role's state directory comes back from a copy that is older than what happened since: the group goes on, or the
//! person is told in words what to do; what was acknowledged to the others is not lost.

use crate::node::{Node, Place, text};
use serde_json::Value;

/// Shares a file at a node and waits until the catalog has it.
fn add(place: &Place, owner: &Node, name: &str) {
    let path = place.folder("papers").join(name);
    std::fs::write(&path, name.repeat(1_000)).expect("a file");
    owner.run(&["add", path.to_str().expect("a path of text")]);
}

/// Gets a file of the laptop at the phone.
fn get(place: &Place, phone: &Node, name: &str) {
    phone.until(&["files", name], |rows| rows.as_array().is_some_and(|rows| rows.len() == 1));
    phone.run(&["get", &format!("laptop:{name}")]);
    let got = std::fs::read(place.path("phone-downloads").join(name)).expect("the file");
    assert!(got == name.repeat(1_000).as_bytes(), "{name} differs");
}

/// Copies a node's state as a power cut would leave it, and goes on.
fn backed_up(place: &Place, node: Node, name: &str, start: impl Fn() -> Node) -> Node {
    node.kill();
    place.copy(name, "backup");
    start()
}

/// Brings the copy back, which knows nothing of what came after it.
fn restored(place: &Place, node: Node, name: &str, start: impl Fn() -> Node) -> Node {
    node.kill();
    place.copy("backup", name);
    start()
}

fn files(node: &Node) -> usize {
    node.run(&["files"]).as_array().expect("rows").len()
}

#[test]
fn restored_owner() {
    let place = Place::new();
    let (_server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let phone = place.member(&master, "phone");
    add(&place, &laptop, "before.txt");
    let laptop = backed_up(&place, laptop, "laptop", || place.again("laptop"));
    add(&place, &laptop, "after.txt");
    get(&place, &phone, "after.txt");
    let laptop = restored(&place, laptop, "laptop", || place.again("laptop"));
    get(&place, &phone, "before.txt");
    add(&place, &laptop, "later.txt");
    get(&place, &phone, "later.txt");
    // Its numbers of that day are used up; it shares the file again that it had forgotten, and it is there once.
    add(&place, &laptop, "after.txt");
    std::fs::remove_file(place.path("phone-downloads/after.txt")).expect("the copy");
    get(&place, &phone, "after.txt");
    for node in [&master, &laptop, &phone] {
        node.until(&["files"], |rows| rows.as_array().is_some_and(|rows| rows.len() == 3));
    }
}

#[test]
fn restored_asker() {
    let place = Place::new();
    let (_server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let phone = place.member(&master, "phone");
    add(&place, &laptop, "before.txt");
    get(&place, &phone, "before.txt");
    let phone = backed_up(&place, phone, "phone", || place.again("phone"));
    for name in ["one.txt", "two.txt"] {
        add(&place, &laptop, name);
        get(&place, &phone, name);
    }
    let phone = restored(&place, phone, "phone", || place.again("phone"));
    // It catches up, and what lies there already is not fetched again.
    let rows = phone.until(&["files"], |rows| rows.as_array().is_some_and(|rows| rows.len() == 3));
    assert!(rows.as_array().is_some());
    let rows = phone.run(&["get", "laptop:one.txt"]);
    let received: Vec<&Value> = rows.as_array().expect("rows").iter().map(|row| &row["received_bytes"]).collect();
    assert_eq!(received, [0], "identical content is as good as a download");
    add(&place, &laptop, "three.txt");
    get(&place, &phone, "three.txt");
}

#[test]
fn restored_server() {
    let place = Place::new();
    let (server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let server = backed_up(&place, server, "server", || place.server());
    master.run(&["wait", "connected"]);
    let phone = place.member(&master, "phone");
    let tablet = place.member(&master, "tablet");
    add(&place, &laptop, "paper.txt");
    get(&place, &phone, "paper.txt");
    master.run(&["disapprove", "--yes", "tablet"]);
    tablet.until(&["status"], |status| text(status, "standing") == "disapproved");
    let _server = restored(&place, server, "server", || place.server());
    // Whoever comes first brings it up to date; the phone, which it never knew, is a member, and the tablet is out.
    phone.run(&["wait", "approved"]);
    add(&place, &laptop, "later.txt");
    get(&place, &phone, "later.txt");
    tablet.kill();
    let tablet = place.again("tablet");
    tablet.until(&["status"], |status| text(status, "standing") == "disapproved");
    assert_eq!(files(&phone), 2);
}

#[test]
fn restored_master() {
    let place = Place::new();
    let (_server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let phone = place.member(&master, "phone");
    add(&place, &laptop, "before.txt");
    let master = backed_up(&place, master, "desk", || place.start("desk", &["master"]));
    master.run(&["wait", "connected"]);
    add(&place, &laptop, "after.txt");
    phone.until(&["files"], |rows| rows.as_array().is_some_and(|rows| rows.len() == 2));
    let master = restored(&place, master, "desk", || place.start("desk", &["master"]));
    // It says what it is and what to do, and signs nothing.
    let status =
        master.until(&["status"], |status| status["waiting"].as_str().is_some_and(|why| why.contains("old one")));
    assert!(text(&status, "waiting").contains("import"), "{status}");
    let refused = master.output(&["disapprove", "--yes", "phone"]);
    assert_eq!(refused.status.code(), Some(5));
    let error: Value = serde_json::from_slice(&refused.stderr).expect("an error in JSON");
    assert!(text(&error, "hint").contains("import"), "{error}");
    // What was acknowledged is there. An old copy's word is no fresh one, so owners wait, and say so.
    assert_eq!(files(&laptop), 2);
    let refused = phone.output(&["get", "--no-wait", "laptop:after.txt"]);
    assert_eq!(refused.status.code(), Some(5));
    let error: Value = serde_json::from_slice(&refused.stderr).expect("an error in JSON");
    assert!(text(&error, "error").contains("waits for the master"), "{error}");
}
