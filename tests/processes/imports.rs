//! A master's machine is lost, and comes back from a backup.

use crate::node::{Node, Place, lasting_address, text};
use serde_json::Value;
use std::path::Path;

fn passphrase(place: &Place, words: &str) -> String {
    let path = place.path(&words.replace(' ', "-"));
    std::fs::write(&path, format!("{words}\n")).expect("a file");
    format!("@{}", path.display())
}

fn share(place: &Place, node: &Node, name: &str, bytes: &[u8]) {
    let path = place.folder("shared").join(name);
    std::fs::write(&path, bytes).expect("a file");
    node.run(&["add", path.to_str().expect("a path of text")]);
}

fn standing(rows: &Value, name: &str) -> String {
    let rows = rows.as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).map_or_else(String::new, |row| text(row, "standing"))
}

fn refused(place: &Place, directory: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = place.command(directory, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = error.lines().last().unwrap_or_default();
    (output.status.code().expect("an exit code"), serde_json::from_str(last).expect("an error in JSON"))
}

#[test]
fn imported_master() {
    let place = Place::new();
    let words = passphrase(&place, "correct horse battery");
    let wrong = passphrase(&place, "wrong horse battery");
    // It runs its own server, whose port and key come back with it.
    let master = place.start("desk", &["master", "--name", "desk", "--listen", &lasting_address()]);
    let laptop = place.member(&master, "laptop");
    let thief = place.member(&master, "thief");
    share(&place, &laptop, "early.txt", b"early");
    let backup = place.path("group.backup");
    let file = backup.to_str().expect("a path of text");
    let made = master.run(&["export", file, "--passphrase", &words]);
    assert_eq!(text(&made, "event"), "exported");
    let (code, error) = refused(&place, &master.state, &["export", file, "--passphrase", &words]);
    assert!(code == 2 && text(&error, "hint").contains("--force"), "{error}");
    let (code, _) = refused(&place, &master.state, &["export", "x", "--passphrase", "correct horse battery"]);
    assert_eq!(code, 2, "a passphrase on the command line is refused");

    // After the backup: an approval, an expulsion, files.
    let phone = place.member(&master, "phone");
    master.run(&["disapprove", "--yes", "thief"]);
    share(&place, &laptop, "late.txt", b"late");
    share(&place, &phone, "new.txt", b"new");
    phone.until(&["files"], |rows| rows.as_array().is_some_and(|rows| rows.len() == 3));
    master.kill();
    std::fs::remove_dir_all(place.path("desk")).expect("the machine is lost");

    let new = place.path("new");
    let (code, error) = refused(&place, &new, &["import", file, "--passphrase", &wrong]);
    assert!(code == 1 && text(&error, "error").contains("passphrase"), "{error}");
    let made = place.command(&new, &["import", file, "--passphrase", &words]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (code, _) = refused(&place, &new, &["import", file, "--passphrase", &words]);
    assert_eq!(code, 2, "a directory that is not empty stays as it is");

    let master = place.start("new", &["master"]);
    master.until(&["status"], |status| text(status, "revision").starts_with("2."));
    let rows = master.until(&["clients"], |rows| standing(rows, "phone") == "approved");
    assert_eq!((standing(&rows, "laptop"), standing(&rows, "thief")), ("approved".into(), "disapproved".into()));
    for node in [&master, &laptop, &phone] {
        node.until(&["files"], |rows| rows.as_array().is_some_and(|rows| rows.len() == 3));
    }
    // All show one code for a device, whatever it was before.
    let code = |rows: &Value| {
        rows.as_array().expect("rows").iter().find(|row| row["name"] == "laptop").map(|row| text(row, "code"))
    };
    let shown = code(&master.run(&["clients"]));
    assert_eq!(shown, code(&phone.run(&["clients"])));
    assert_eq!(shown, Some(text(&laptop.run(&["status"]), "code")));
    let got = place.folder("got");
    let got = got.to_str().expect("a path of text");
    phone.run(&["get", "laptop:late.txt", "-o", got]);
    assert_eq!(std::fs::read(place.path("got/late.txt")).expect("the file"), b"late");
    thief.until(&["status"], |status| text(status, "standing") == "disapproved");
}

#[test]
fn imported_master_beside_an_old_copy() {
    let place = Place::new();
    let words = passphrase(&place, "correct horse battery");
    let server = place.server();
    let ticket = text(&server.ready, "ticket");
    let old = place.start("desk", &["master", "--name", "desk", "--server", &ticket]);
    let laptop = place.member(&old, "laptop");
    let backup = place.path("group.backup");
    let file = backup.to_str().expect("a path of text");
    old.run(&["export", file, "--passphrase", &words]);
    old.stop();
    let new = place.path("new");
    assert!(place.command(&new, &["import", file, "--passphrase", &words]).status.success());
    let new = place.start("new", &["master"]);
    new.until(&["status"], |status| text(status, "revision").starts_with("2.") && status["waiting"].is_null());

    // Somebody starts the old machine after all: it says what it is, and is in nobody's way.
    let old = place.start("desk", &["master"]);
    let waits =
        |words: &'static str| move |status: &Value| status["waiting"].as_str().is_some_and(|why| why.contains(words));
    old.until(&["status"], waits("an old one"));
    let (code, error) = refused(&place, &old.state, &["invite"]);
    assert!(code == 5 && text(&error, "hint").contains("import"), "{error}");
    laptop.run(&["rename", "notebook"]);
    for node in [&new, &laptop] {
        node.until(&["clients"], |rows| standing(rows, "notebook") == "approved");
        assert!(node.run(&["status"])["waiting"].is_null());
    }
}
