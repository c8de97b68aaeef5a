//! SIGKILL in the middle: the download ends by itself, and asks for little twice.

use crate::node::{Node, Place, number, text};
use serde_json::Value;

const SIZE: usize = 96 << 20;
/// What may come twice for each kill: an asker's credit, and what was there and not claimed yet.
const TWICE_MAX: u64 = 64 << 20;

fn film(place: &Place, owner: &Node) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let path = place.folder("films").join("film.bin");
    std::fs::write(&path, &bytes).expect("a file");
    owner.run(&["add", path.to_str().expect("a path of text")]);
    bytes
}

/// Begins to download, and waits until it is under way.
fn begin(asker: &Node) -> u64 {
    asker.until(&["files"], |rows| rows.as_array().is_some_and(|rows| !rows.is_empty()));
    let rows = asker.run(&["get", "--detach", "laptop:film.bin"]);
    let job = rows[0]["job"].as_u64().expect("a job");
    asker.until(&["transfers"], |rows| number(of(rows, job), "done_bytes") > SIZE as u64 / 5);
    job
}

fn of(rows: &Value, job: u64) -> &Value {
    let rows = rows.as_array().expect("rows");
    rows.iter().find(|row| row["job"] == job).expect("the transfer")
}

fn end(place: &Place, asker: &Node, job: u64, bytes: &[u8]) {
    let rows = asker.until(&["transfers"], |rows| text(of(rows, job), "state") == "done");
    let row = of(&rows, job);
    assert!(number(row, "received_bytes") <= SIZE as u64 + TWICE_MAX, "{row}");
    let got = std::fs::read(place.path("phone-downloads/film.bin")).expect("the film");
    assert!(got == bytes, "the film differs");
    assert!(!place.path("phone-downloads/film.bin.bwpart").exists(), "a part file is left");
}

/// A group in the middle of a download by the phone from the laptop.
struct Stage {
    server: Node,
    master: Node,
    laptop: Node,
    phone: Node,
    bytes: Vec<u8>,
    job: u64,
}

fn stage(place: &Place) -> Stage {
    let (server, master) = place.begun();
    let laptop = place.member(&master, "laptop");
    let phone = place.member(&master, "phone");
    let bytes = film(place, &laptop);
    let job = begin(&phone);
    Stage { server, master, laptop, phone, bytes, job }
}

#[test]
fn killed_asker() {
    let place = Place::new();
    let Stage { server: _server, master: _master, laptop: _laptop, phone, bytes, job } = stage(&place);
    phone.kill();
    let phone = place.again("phone");
    end(&place, &phone, job, &bytes);
}

#[test]
fn killed_owner() {
    let place = Place::new();
    let Stage { server: _server, master: _master, laptop, phone, bytes, job } = stage(&place);
    laptop.kill();
    let _laptop = place.again("laptop");
    end(&place, &phone, job, &bytes);
}

#[test]
fn killed_server() {
    let place = Place::new();
    let Stage { server, master: _master, laptop: _laptop, phone, bytes, job } = stage(&place);
    server.kill();
    let _server = place.server();
    end(&place, &phone, job, &bytes);
}

#[test]
fn killed_master() {
    let place = Place::new();
    let Stage { server: _server, master, laptop: _laptop, phone, bytes, job } = stage(&place);
    master.kill();
    // Transfers between approved peers go on without the master.
    end(&place, &phone, job, &bytes);
    let _master = place.start("desk", &["master"]);
    phone.run(&["wait", "master"]);
}
