//! What people share, change and remove: W9's time-out, W11, W12 and W21 over months.

use crate::world::{Node, World, noise, write};
use bailiwick::node::local::{
    Command, ErrorCode, FileRow, FileStatus, Link, LocalError, Reply, ShareRow, TransferState,
};
use std::fs;
use std::path::Path;
use std::time::Duration;

async fn remove(node: &Node, file: &str) -> Result<Vec<FileRow>, LocalError> {
    match node.ask(Command::Remove { files: vec![file.to_owned()], yes: true }).await? {
        Reply::Files(rows) => Ok(rows),
        other => panic!("{other:?}"),
    }
}

async fn scan(node: &Node, confirm: bool, paths: &[&Path]) {
    let paths = paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf())).collect();
    node.ask(Command::Scan { paths, confirm }).await.expect("it is looked at");
}

async fn until_share(node: &Node, what: &str, wish: impl Fn(&ShareRow) -> bool) -> ShareRow {
    node.until(what, |node| {
        let wish = &wish;
        async move {
            match node.ask(Command::Shares).await {
                Ok(Reply::Shares(rows)) => rows.into_iter().next().filter(wish),
                _ => None,
            }
        }
    })
    .await
}

fn quiet(share: &ShareRow) -> bool {
    !share.scanning && share.syncing == 0 && share.leaving == 0
}

fn has_part(folder: &Path) -> bool {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|end| end == "bwpart"))
}

#[tokio::test(flavor = "multi_thread")]
async fn w11_a_client_removes_its_own_file_once_the_master_has_said_so() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), &noise(1, 3 << 20));
    write(&shared.join("other.txt"), b"other");
    laptop.add(&shared).await;
    phone.until_files("both", |rows| rows.len() == 2).await;
    let not_own = remove(&phone, "laptop:films/film.bin").await.unwrap_err();
    assert_eq!(not_own.code, ErrorCode::Refused);
    // The master is away: nothing happens, and the wish outlives the process.
    master.stop().await;
    laptop.until_status("the master to be away", |status| status.master == Link::Away).await;
    assert_eq!(remove(&laptop, "laptop:films/film.bin").await.unwrap().len(), 1);
    let row = until_share(&laptop, "word of its waiting", |share| share.leaving == 1 && share.reason.is_some()).await;
    assert!(row.reason.expect("a reason").contains("waiting for the master"));
    assert_eq!(laptop.files().await.len(), 2, "nothing is removed before the master's entry");
    laptop.stop().await;
    let laptop = world.client("laptop", None).await;
    let master = world.master("desk", None).await;
    for node in [&master, &phone, &laptop] {
        node.until_files("one", |rows| rows.len() == 1 && rows[0].path == "films/other.txt").await;
    }
    assert!(shared.join("film.bin").exists(), "a person's own file is never deleted");
    // It stays out, over scans and restarts, until it is added again.
    scan(&laptop, false, &[]).await;
    until_share(&laptop, "the end of the scan", quiet).await;
    laptop.stop().await;
    let laptop = world.client("laptop", None).await;
    scan(&laptop, false, &[]).await;
    let row = until_share(&laptop, "the end of the scan", |share| quiet(share) && share.last_scan.is_some()).await;
    assert_eq!((row.files, row.removed), (1, 1));
    assert_eq!(phone.files().await.len(), 1);
    laptop.add(&shared.join("film.bin")).await;
    phone.until_files("both again", |rows| rows.len() == 2).await;
    // All of it ends the share.
    remove(&laptop, "laptop:films").await.expect("it is removed");
    phone.until_files("none", <[FileRow]>::is_empty).await;
    write(&shared.join("new.txt"), b"new");
    laptop
        .until("the share's end", |node| async move {
            matches!(node.ask(Command::Shares).await, Ok(Reply::Shares(rows)) if rows.is_empty()).then_some(())
        })
        .await;
    assert!(shared.join("other.txt").exists());
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w12_the_master_removes_files_and_downloads_of_them_stop_and_clean_up() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    for number in 0..3 {
        write(&shared.join(format!("film{number}.bin")), &noise(number, 24 << 20));
    }
    laptop.add(&shared).await;
    phone.until_files("all", |rows| rows.len() == 3).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film0.bin", &dest).await.expect("it begins");
    phone.until_job(job, "some bytes", |row| row.received_bytes > 0).await;
    // One whose owner is away, and that has begun.
    let waiting = phone.get("laptop:films/film1.bin", &dest).await.expect("it begins");
    phone.until_job(waiting, "some bytes", |row| row.received_bytes > 0).await;
    laptop.stop().await;
    phone.until_files("the laptop to be away", |rows| rows.iter().any(|row| !row.available)).await;
    let mut jobs = vec![job, waiting];
    let mut open = Vec::new();
    for job in jobs.drain(..) {
        let row = phone.until_job(job, "a state", |_| true).await;
        if row.state != TransferState::Done {
            open.push(job);
        }
    }
    let short = Command::Remove { files: vec!["laptop:".to_owned()], yes: false };
    let unsure = master.ask(short).await.unwrap_err();
    assert_eq!(unsure.code, ErrorCode::Unconfirmed);
    assert!(unsure.error.contains("3 files of laptop"), "{unsure:?}");
    assert_eq!(master.files().await.len(), 3, "nothing is removed before a person agrees");
    let rows = remove(&master, "laptop:films").await.expect("the master removes anybody's");
    assert_eq!(rows.len(), 3);
    for node in [&master, &phone] {
        node.until_files("none", <[FileRow]>::is_empty).await;
    }
    for job in open {
        let row = phone.until_job(job, "its end", |row| row.state == TransferState::Failed).await;
        assert!(row.reason.expect("a reason").contains("not in the catalog"), "it says so");
    }
    phone
        .until("no part file", |_| {
            let dest = dest.clone();
            async move { (!has_part(&dest)).then_some(()) }
        })
        .await;
    // Its owner learns when it is back, and leaves it out.
    let laptop = world.client("laptop", None).await;
    let row = until_share(&laptop, "the news", |share| share.removed == 3).await;
    assert_eq!(row.taken_out, 3, "it was not this device's wish");
    assert_eq!(row.files, 0);
    scan(&laptop, false, &[]).await;
    until_share(&laptop, "the end of the scan", quiet).await;
    assert!(master.files().await.is_empty());
    assert!(shared.join("film0.bin").exists());
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

/// Downloads that wait, are not in memory, or whose node was down and too far behind to learn of it by entries.
#[tokio::test(flavor = "multi_thread")]
async fn w12_downloads_that_are_not_in_memory_clean_up_too() {
    let mut world = World::new();
    world.config.snapshots.entries_kept = 1;
    world.config.snapshots.pause = Duration::ZERO;
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    for number in 0..3 {
        write(&shared.join(format!("film{number}.bin")), &noise(number, 60 << 20));
    }
    laptop.add(&shared).await;
    phone.until_files("all", |rows| rows.len() == 3).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films", &dest).await.expect("it begins");
    phone
        .until("part files", |_| {
            let dest = dest.clone();
            async move { has_part(&dest).then_some(()) }
        })
        .await;
    laptop.stop().await;
    phone.stop().await;
    remove(&master, "laptop:films").await.expect("it is removed");
    // Nothing is left of the entries that it missed.
    let other = world.folder("other");
    for number in 0..4 {
        write(&other.join(format!("{number}")), b"other");
        master.add(&other).await;
        master.until_files("the next", |rows| rows.len() == number + 1).await;
    }
    world.config.downloads.files_max = 1;
    let phone = world.client("phone", None).await;
    let row = phone.until_job(job, "its end", |row| row.state == TransferState::Failed).await;
    assert!(row.reason.expect("a reason").starts_with("removed"), "it says so");
    phone
        .until("no part file", |_| {
            let dest = dest.clone();
            async move { (!has_part(&dest)).then_some(()) }
        })
        .await;
    for node in [phone, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w21_a_shared_folder_is_followed() {
    let mut world = World::new();
    world.config.scan.pause = Duration::from_millis(200);
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shared = world.folder("docs");
    for number in 0..3 {
        write(&shared.join(format!("{number}.txt")), format!("file {number}").as_bytes());
    }
    master.add(&shared).await;
    let rows = laptop.until_files("the folder", |rows| rows.len() == 3).await;
    let id = rows.iter().find(|row| row.path == "docs/0.txt").expect("a row").id.clone();
    // New, changed, gone; a file that becomes a folder; nobody says a word.
    write(&shared.join("0.txt"), b"another content");
    write(&shared.join("new/n.txt"), b"new");
    fs::remove_file(shared.join("1.txt")).unwrap();
    fs::remove_file(shared.join("2.txt")).unwrap();
    write(&shared.join("2.txt/in.txt"), b"in a folder");
    let hash = blake3::hash(b"another content").to_hex().to_string();
    let is_so = |rows: &[FileRow]| {
        let paths: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
        paths == ["docs/0.txt", "docs/2.txt/in.txt", "docs/new/n.txt"] && rows[0].hash == hash
    };
    let rows = laptop.until_files("the folder as it is now", is_so).await;
    assert_eq!(rows[0].id, id, "a changed file is the same file");
    let dest = world.folder("got");
    let job = laptop.get("desk:docs", &dest).await.expect("it begins");
    laptop.done(job).await;
    assert_eq!(fs::read(dest.join("docs/0.txt")).unwrap(), b"another content");
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w21_a_folder_that_is_not_there_is_not_taken_for_deleted() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shared = world.folder("disk");
    for number in 0..4 {
        write(&shared.join(format!("{number}.txt")), format!("file {number}").as_bytes());
    }
    laptop.add(&shared).await;
    master.until_files("the folder", |rows| rows.len() == 4).await;
    let aside = world.folder("aside").join("disk");
    fs::rename(&shared, &aside).unwrap();
    scan(&laptop, false, &[]).await;
    let row = until_share(&laptop, "word of it", |share| share.missing == 4 && quiet(share)).await;
    assert!(row.reason.as_deref().is_some_and(|why| why.contains("scan --confirm")), "{row:?}");
    assert_eq!(master.files().await.len(), 4);
    // Who asks is told, and waits; it heals when the files are back.
    let dest = world.folder("got");
    let job = master.get("laptop:disk", &dest).await.expect("it begins");
    let told = |reason: &Option<String>| reason.as_deref().is_some_and(|why| why.contains("can't be read"));
    master.until_job(job, "the reason", |row| row.state == TransferState::Waiting && told(&row.reason)).await;
    fs::rename(&aside, &shared).unwrap();
    scan(&laptop, false, &[]).await;
    until_share(&laptop, "it to heal", |share| share.missing == 0 && quiet(share)).await;
    master.done(job).await;
    // Gone for good: a person says so.
    fs::remove_dir_all(&shared).unwrap();
    scan(&laptop, true, &[&shared]).await;
    master.until_files("none", <[FileRow]>::is_empty).await;
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w13_a_file_that_changes_while_somebody_waits_comes_in_its_new_version() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), &noise(1, 5 << 20));
    laptop.add(&shared).await;
    master.until_files("the film", |rows| rows.len() == 1).await;
    write(&shared.join("film.bin"), &noise(2, 6 << 20));
    // Nobody scans: that it is asked for is enough.
    let dest = world.folder("got");
    let job = master.get("laptop:films/film.bin", &dest).await.expect("it begins");
    master.done(job).await;
    assert!(fs::read(dest.join("film.bin")).unwrap() == noise(2, 6 << 20), "it is the new version");
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w13_a_file_that_kept_its_size_and_time_and_changed_comes_in_its_new_version() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shared = world.folder("safe");
    let paths = [shared.join("vault"), world.folder("alone").join("vault")];
    let rewrite = |seed: u8| {
        for path in &paths {
            write(path, &noise(seed, 2 << 20));
            let file = fs::File::options().write(true).open(path).expect("it is there");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).expect("a time");
        }
    };
    rewrite(1);
    laptop.add(&shared).await;
    laptop.add(&paths[1]).await;
    master.until_files("both", |rows| rows.len() == 2).await;
    rewrite(2);
    let dest = world.folder("got");
    for what in ["laptop:safe/vault", "laptop:vault"] {
        let job = master.get(what, &dest).await.expect("it begins");
        master.done(job).await;
        let got = fs::read(dest.join("vault")).expect("it came");
        assert!(got == noise(2, 2 << 20), "{what} is the new version");
        fs::remove_file(dest.join("vault")).expect("it is there");
    }
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w21_what_is_excluded_is_not_shared_or_no_longer() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let shared = world.folder("src");
    for path in ["main.rs", "a.tmp", "target/big.o", "sub/b.tmp", ".DS_Store"] {
        write(&shared.join(path), path.as_bytes());
    }
    let add = |exclude: &[&str]| Command::Add {
        paths: vec![shared.clone()],
        copy: false,
        exclude: exclude.iter().map(|pattern| (*pattern).to_owned()).collect(),
    };
    master.ask(add(&["*.tmp"])).await.expect("it is shared");
    master.until_files("the rest", |rows| rows.len() == 3 && rows.iter().all(|row| !row.path.ends_with(".tmp"))).await;
    let row = until_share(&master, "the exclusions", quiet).await;
    assert_eq!(row.exclude, ["*.tmp"]);
    let paths = |rows: &[FileRow]| rows.iter().map(|row| row.path.clone()).collect::<Vec<_>>();
    master.ask(add(&["/target"])).await.expect("it is shared");
    let other = |rows: &[FileRow]| paths(rows) == ["src/a.tmp", "src/main.rs", "src/sub/b.tmp"];
    master.until_files("other exclusions", other).await;
    assert!(shared.join("target/big.o").exists());
    let bad = master.ask(add(&["[x"])).await.unwrap_err();
    assert_eq!(bad.code, ErrorCode::Usage);
    for node in [master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w9_files_leave_staging_if_a_master_that_is_there_does_not_answer() {
    let mut world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    for node in [master, laptop, server] {
        node.stop().await;
    }
    // A master that starts is there, and decides nothing before it has heard what others have seen.
    world.config.gate.wait = Duration::from_secs(15);
    world.config.requests.staging_wait = Duration::from_millis(300);
    world.config.scan.pause = Duration::from_secs(1);
    let server = world.server("server").await;
    let laptop = world.client("laptop", None).await;
    let master = world.master("desk", None).await;
    laptop.until_status("the master", |status| status.master == Link::Connected).await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), b"film");
    laptop.add(&shared).await;
    let row =
        until_share(&laptop, "word of it", |share| share.skipped.iter().any(|what| what.contains("did not answer")))
            .await;
    assert_eq!(row.skipped_count, 1, "{row:?}");
    // The scans that follow stage it again, and once it is answered it is in.
    master.until_files("the film", |rows| rows.len() == 1).await;
    until_share(&laptop, "nothing to say", |share| quiet(share) && share.skipped_count == 0).await;
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

fn copies(node: &Node) -> usize {
    fs::read_dir(node.dir.join("copies")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn w11_w12_copies_outlive_their_originals_and_go_by_their_owners_wish_alone() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shared = world.folder("report");
    write(&shared.join("a.bin"), &noise(1, 3 << 20));
    write(&shared.join("b.txt"), b"b");
    let add = Command::Add { paths: vec![shared.clone()], copy: true, exclude: Vec::new() };
    laptop.ask(add.clone()).await.expect("it is shared");
    master.until_files("both", |rows| rows.len() == 2).await;
    until_share(&laptop, "the end of the scan", quiet).await;
    fs::remove_dir_all(&shared).unwrap();
    // An orphan of a process that was killed goes at the next start.
    laptop.stop().await;
    let state = world.folder("state").join("laptop");
    write(&state.join("copies").join("00".repeat(16)), b"nobody's");
    let laptop = world.client("laptop", None).await;
    let two = || async { (copies(&laptop) == 2).then_some(()) };
    laptop.until("the orphan to go", |_| two()).await;
    let dest = world.folder("got");
    let job = master.get("laptop:report", &dest).await.expect("it begins");
    master.done(job).await;
    assert!(fs::read(dest.join("report/a.bin")).unwrap() == noise(1, 3 << 20));
    // A second copy replaces the first.
    write(&shared.join("a.bin"), b"newer");
    write(&shared.join("b.txt"), b"b");
    laptop.ask(add).await.expect("it is shared");
    master.until_files("the newer", |rows| rows.iter().any(|row| row.size == 5)).await;
    until_share(&laptop, "the end of the scan", quiet).await;
    laptop.until("the first copy to go", |_| two()).await;
    // Nothing is deleted before the entry came.
    master.stop().await;
    laptop.until_status("the master to be away", |status| status.master == Link::Away).await;
    remove(&laptop, "laptop:report/b.txt").await.expect("it is wished");
    until_share(&laptop, "the wish", |share| share.leaving == 1).await;
    assert_eq!(copies(&laptop), 2);
    let master = world.master("desk", None).await;
    master.until_files("one", |rows| rows.len() == 1).await;
    laptop.until("its copy to go", |_| async { (copies(&laptop) == 1).then_some(()) }).await;
    // What the master takes out stays with its owner, who may have nothing else of it, until the owner gives it up.
    fs::remove_dir_all(&shared).unwrap();
    remove(&master, "laptop:report").await.expect("it is removed");
    until_share(&laptop, "word of it", |share| share.taken_out == 1 && quiet(share)).await;
    laptop.stop().await;
    let laptop = world.client("laptop", None).await;
    laptop.until_status("the master to be there", |status| status.master == Link::Connected).await;
    write(&shared.join("c.txt"), b"c");
    laptop
        .ask(Command::Add { paths: vec![shared.clone()], copy: true, exclude: Vec::new() })
        .await
        .expect("it is shared");
    master.until_files("what is new", |rows| rows.len() == 1 && rows[0].path == "report/c.txt").await;
    let row = until_share(&laptop, "the end of the scan", quiet).await;
    assert_eq!((row.taken_out, copies(&laptop)), (1, 2));
    remove(&laptop, "laptop:report/c.txt").await.expect("it is removed");
    laptop.until("its copy to go", |_| async { (copies(&laptop) == 1).then_some(()) }).await;
    assert_eq!(remove(&laptop, "laptop:report/a.bin").await.expect("it is given up").len(), 1);
    laptop.until("the other copy to go", |_| async { (copies(&laptop) == 0).then_some(()) }).await;
    assert!(shared.join("c.txt").exists(), "a person's own file is never deleted");
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w14_a_removed_file_is_idle_nowhere() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), b"film");
    master.add(&shared).await;
    let rows = master.until_files("the film", |rows| rows.len() == 1).await;
    assert_eq!(rows[0].status, FileStatus::Idle);
    // What people say instead of NAME:PATH is understood well enough to tell them.
    let path = shared.canonicalize().unwrap().join("film.bin");
    for (text, told) in [
        (path.to_str().unwrap(), "'desk:films/film.bin'"),
        ("/no/such/path", "NAME:PATH"),
        ("desk", "'desk:'"),
        ("desk:*", "patterns are not known"),
    ] {
        let no = remove(&master, text).await.unwrap_err();
        assert!(no.hint.contains(told), "{text}: {no:?}");
    }
    let removed = remove(&master, &rows[0].id).await.expect("an id will do");
    assert_eq!(removed[0].id, rows[0].id);
    master.until_files("none", <[FileRow]>::is_empty).await;
    let none = remove(&master, "desk:films/film.bin").await;
    assert_eq!(none.unwrap_err().code, ErrorCode::NotFound);
    for node in [master, server] {
        node.stop().await;
    }
}
