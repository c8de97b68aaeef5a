//! Disks that are full, and have room again.

use crate::world::{World, noise, write};
use bailiwick::node::local::{JobRow, TransferState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// A small disk of its own, for as long as it lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: usize) -> Option<SmallDisk> {
        let size = format!("size={mib}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn a_full_disk_is_waited_for_and_keeps_its_reserve() {
    let mut world = World::new();
    world.config.downloads.disk_wait = Duration::from_millis(100);
    let dest = world.folder("small-disk");
    let Some(_disk) = SmallDisk::mount(&dest, 100) else {
        return eprintln!("skipped: this user may not mount a small disk");
    };
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), &noise(5, 24 * MIB + 3));
    write(&shared.join("small.txt"), b"small");
    laptop.add(&shared).await;
    master.until_files("the film", |rows| rows.len() == 2).await;
    write(&dest.join("filler"), &noise(6, 30 * MIB));
    let job = master.get("laptop:films", &dest).await.expect("it begins");
    let full = |row: &JobRow| {
        row.state == TransferState::Waiting
            && row.files_done == 1
            && row.reason.as_deref().is_some_and(|why| why.contains("the disk is full"))
    };
    let row = master.until_job(job, "the small file, and word of the full disk", full).await;
    assert_eq!(row.received_bytes, 5, "what has no room is not fetched: {row:?}");
    std::fs::remove_file(dest.join("filler")).expect("it goes");
    master.done(job).await;
    assert!(
        std::fs::read(dest.join("films/film.bin")).expect("the film") == noise(5, 24 * MIB + 3),
        "it is what was shared"
    );
    for node in [laptop, master, server] {
        node.stop().await;
    }
}
