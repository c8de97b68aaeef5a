//! A master leaves the server in its own process.

use crate::node::{Place, lasting_address, text};
use bailiwick::wire::invite::{Invite, Ticket};
use std::os::unix::fs::PermissionsExt;

#[test]
fn moved_master() {
    let place = Place::new();
    let master = place.start("desk", &["master", "--name", "desk", "--listen", &lasting_address()]);
    let laptop = place.member(&master, "laptop");
    let server = place.server();
    let ticket = text(&server.ready, "ticket");
    master.stop();
    std::fs::set_permissions(place.path("desk"), PermissionsExt::from_mode(0o755)).expect("a mode");
    let master = place.start("desk", &["master", "--server", &ticket]);
    let log = std::fs::read_to_string(place.path("desk.log")).expect("a log");
    assert!(log.contains("chmod 700"), "a directory that others can look into is warned about");
    if let Some(invite) = master.ready["invite"].as_str() {
        let named = |text: &str| Invite::parse(text).expect("an invite").server.key;
        assert_eq!(named(invite), Ticket::parse(&ticket).expect("a ticket").server.key, "none for the old server");
    }
    // It tells at the old server, and goes.
    master.until(&["status"], |status| status["waiting"].is_null());
    let online = |rows: &serde_json::Value| {
        let rows = rows.as_array().expect("rows");
        rows.iter().any(|row| row["name"] == "laptop" && row["online"] == true)
    };
    master.until(&["clients"], online);
    // From now on there is no server in its process.
    master.stop();
    let master = place.start("desk", &["master"]);
    laptop.run(&["wait", "master"]);
    master.until(&["clients"], online);
    let path = place.folder("shared").join("new.txt");
    std::fs::write(&path, b"new").expect("a file");
    laptop.run(&["add", path.to_str().expect("a path of text")]);
    master.until(&["files"], |rows| rows.as_array().is_some_and(|rows| rows.len() == 1));
}
