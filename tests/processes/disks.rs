//! The disk of a node's state is full, and has room again.

use crate::node::{Place, text};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A test that waits longer than this for one thing hangs.
const HANG: Duration = Duration::from_secs(240);
/// Files that are added while there is no room: many pages of a database.
const FILES: usize = 600;

/// A small disk of its own, for as long as it lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Ends a node in the background, whatever happens.
struct Ended<'a>(&'a Place, &'a Path);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.command(self.1, &["stop"]);
    }
}

fn fill(mut file: File) {
    while file.write(&[0; 512]).is_ok_and(|written| written > 0) {}
}

fn why(output: &Output) -> String {
    let error: Value = serde_json::from_slice(&output.stderr).expect("an error in JSON");
    text(&error, "error")
}

/// The log lies on that disk as well: what can't be logged must stop nothing.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn full_state_disk() {
    let place = Place::new();
    let disk = place.folder("disk");
    let Some(_disk) = SmallDisk::mount(&disk) else {
        return eprintln!("skipped: this user may not mount a small disk");
    };
    let (_server, master) = place.begun();
    let invite = text(&master.run(&["invite"])[0], "invite");
    let state = disk.join("laptop");
    let downloads = place.folder("downloads");
    let started = place.command(
        &state,
        &["client", "-d", "--name", "laptop", "--downloads", downloads.to_str().expect("text"), &invite],
    );
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let _ended = Ended(&place, &state);
    master.until(&["clients"], |rows| rows.as_array().is_some_and(|rows| rows.len() == 2));
    master.run(&["approve", "laptop"]);
    assert!(place.command(&state, &["wait", "approved"]).status.success());

    let papers = place.folder("papers");
    for number in 0..FILES {
        std::fs::write(papers.join(number.to_string()), number.to_string()).expect("a file");
    }
    fill(File::create(disk.join("filler")).expect("a file"));
    fill(OpenOptions::new().append(true).open(state.join("log")).expect("the log"));
    let add = ["add", papers.to_str().expect("text")];
    let refused = place.command(&state, &add);
    assert!(!refused.status.success() && why(&refused).contains("full"), "{refused:?}");
    let asked = place.command(&state, &["status"]);
    assert!(!asked.status.success() && why(&asked).contains("full"), "{asked:?}");

    std::fs::remove_file(disk.join("filler")).expect("it goes");
    let begun = Instant::now();
    while !place.command(&state, &["status"]).status.success() {
        assert!(begun.elapsed() < HANG, "it does not go on");
    }
    let added = place.command(&state, &add);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    master.until(&["files"], |rows| rows.as_array().is_some_and(|rows| rows.len() == FILES));
}
