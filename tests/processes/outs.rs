//! Who was disapproved stays out, whatever is killed, lost or restored.

use crate::node::{Node, Place, text};

fn share(place: &Place, owner: &Node) {
    let path = place.folder("papers").join("paper.txt");
    std::fs::write(&path, b"for members").expect("a file");
    owner.run(&["add", path.to_str().expect("a path of text")]);
}

fn is_out(node: &Node) {
    node.until(&["status"], |status| text(status, "standing") == "disapproved");
    let refused = node.output(&["get", "--no-wait", "desk:paper.txt"]);
    assert!(!refused.status.success());
}

fn disapprove(master: &Node, name: &str) {
    master.run(&["disapprove", "--yes", name]);
}

#[test]
fn expelled_while_server_down() {
    let place = Place::new();
    let (server, master) = place.begun();
    let phone = place.member(&master, "phone");
    share(&place, &master);
    server.kill();
    disapprove(&master, "phone");
    master.kill();
    let server = place.server();
    // The server can't know yet; there is nobody to serve the phone either.
    phone.until(&["status"], |status| text(status, "server") == "connected");
    let master = place.start("desk", &["master"]);
    is_out(&phone);
    // In any order, after restarts of everything.
    for node in [phone, server, master] {
        node.kill();
    }
    let phone = place.again("phone");
    is_out(&phone);
    let _server = place.server();
    let master = place.start("desk", &["master"]);
    let rows = master.run(&["clients"]);
    let row = rows.as_array().expect("rows").iter().find(|row| row["name"] == "phone").expect("the phone");
    assert_eq!(text(row, "standing"), "disapproved");
}

#[test]
fn yesterdays_server() {
    let place = Place::new();
    let (server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let phone = place.member(&master, "phone");
    share(&place, &laptop);
    server.stop();
    place.copy("server", "yesterday");
    let server = place.server();
    master.run(&["wait", "connected"]);
    laptop.run(&["wait", "master"]);
    // The phone never hears of it: it is off.
    phone.kill();
    disapprove(&master, "phone");
    laptop.until(&["clients"], |rows| {
        rows.as_array().expect("rows").iter().any(|row| row["name"] == "phone" && row["standing"] == "disapproved")
    });
    master.kill();
    server.kill();
    laptop.kill();
    place.copy("yesterday", "server");
    let _server = place.server();
    // The server takes the phone for a member; but no owner is there, and the first who knows better tells it.
    let phone = place.again("phone");
    phone.until(&["status"], |status| text(status, "server") == "connected");
    let _laptop = place.again("laptop");
    is_out(&phone);
}

#[test]
fn server_without_its_database() {
    let place = Place::new();
    let (server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let phone = place.member(&master, "phone");
    share(&place, &master);
    phone.kill();
    disapprove(&master, "phone");
    server.kill();
    for file in ["server.db", "server.db-wal", "server.db-shm"] {
        let _ = std::fs::remove_file(place.path("server").join(file));
    }
    let _server = place.server();
    let phone = place.again("phone");
    // A server that lost its secret does not take a group on the old ticket's word: the person gives the new one.
    master.until(&["status"], |status| status["waiting"].is_string() || text(status, "server") == "connected");
    drop(master);
    let ticket = text(&_server.run(&["ticket"]), "ticket");
    let _master = place.start("desk", &["master", "--server", &ticket]);
    is_out(&phone);
    laptop.run(&["wait", "master"]);
    laptop.run(&["get", "desk:paper.txt"]);
}
