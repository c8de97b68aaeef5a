//! What is at the destination already, names that it can't hold, and files that change while they come.

use crate::world::{Node, World, noise, write};
use bailiwick::node::local::{Command, Conflict, ErrorCode, JobRow, Reply, TransferRow, TransferState};
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;

/// An owner with three small files and a larger one, and somebody who sees them.
async fn papers(world: &World) -> (Node, Node, Node, Node, PathBuf) {
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("papers");
    for name in ["a.txt", "b.txt", "c.txt"] {
        write(&shared.join(name), name.as_bytes());
    }
    write(&shared.join("large.bin"), &noise(3, 2 * MIB + 7));
    laptop.add(&shared).await;
    phone.until_files("the papers", |rows| rows.len() == 4).await;
    (server, master, laptop, phone, shared)
}

async fn over(node: &Node, job: u64) -> (JobRow, Vec<TransferRow>) {
    let ended = |row: &JobRow| !matches!(row.state, TransferState::Waiting | TransferState::Running);
    let row = node.until_job(job, "the end of the job", ended).await;
    match node.ask(Command::Transfers { job: Some(job) }).await {
        Ok(Reply::Transfers(rows)) => (row, rows),
        other => panic!("{other:?}"),
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_nothing_is_fetched_if_something_is_in_the_way() {
    let world = World::new();
    let (server, master, laptop, phone, shared) = papers(&world).await;
    let dest = world.folder("got");
    write(&dest.join("papers/b.txt"), b"mine");
    write(&dest.join("papers/c.txt"), b"c.txt");
    let job = phone.get("laptop:papers", &dest).await.expect("it begins");
    let (row, rows) = over(&phone, job).await;
    assert_eq!((row.state, row.files_failed, row.received_bytes), (TransferState::Failed, 1, 0), "{row:?}");
    assert!(row.reason.as_deref().is_some_and(|why| why.contains("something else")), "{row:?}");
    let states: Vec<TransferState> = rows.iter().map(|row| row.state).collect();
    use TransferState::{Cancelled, Done, Failed};
    assert_eq!(states, [Cancelled, Failed, Done, Cancelled], "identical content is just done");
    assert_eq!(names(&dest.join("papers")), ["b.txt", "c.txt"], "nothing was fetched");
    assert_eq!(read(&dest.join("papers/b.txt")), b"mine");
    // Out of the way, and tried again: all of it comes.
    std::fs::remove_file(dest.join("papers/b.txt")).expect("it goes");
    phone.ask(Command::Resume { ids: vec![job.to_string()], all: false }).await.expect("it is tried again");
    phone.done(job).await;
    for name in ["a.txt", "b.txt", "c.txt", "large.bin"] {
        assert_eq!(read(&dest.join("papers").join(name)), read(&shared.join(name)), "{name}");
    }
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_skipped_renamed_or_overwritten_as_asked() {
    let world = World::new();
    let (server, master, laptop, phone, shared) = papers(&world).await;
    let place = |name: &str| {
        let dest = world.folder(name);
        write(&dest.join("papers/a.txt"), b"mine");
        write(&dest.join("papers/large.bin"), b"mine, too");
        std::fs::create_dir(dest.join("papers/b.txt")).expect("a folder");
        dest
    };
    let skip = place("skip");
    let job = phone.get_with("laptop:papers", &skip, Some(Conflict::Skip)).await.expect("it begins");
    let (row, _) = over(&phone, job).await;
    assert_eq!((row.state, row.files_done, row.files_skipped), (TransferState::Done, 1, 3), "{row:?}");
    assert_eq!(read(&skip.join("papers/a.txt")), b"mine");
    assert_eq!(names(&skip.join("papers")), ["a.txt", "b.txt", "c.txt", "large.bin"]);

    let rename = place("rename");
    let job = phone.get_with("laptop:papers", &rename, Some(Conflict::Rename)).await.expect("it begins");
    let (row, rows) = over(&phone, job).await;
    assert_eq!(row.state, TransferState::Done, "{row:?}");
    assert_eq!(rows[0].dest, Some(rename.join("papers/a (2).txt")), "its name is visible");
    let all = ["a (2).txt", "a.txt", "b (2).txt", "b.txt", "c.txt", "large (2).bin", "large.bin"];
    assert_eq!(names(&rename.join("papers")), all);
    assert_eq!(read(&rename.join("papers/large.bin")), b"mine, too");
    assert_eq!(read(&rename.join("papers/large (2).bin")), read(&shared.join("large.bin")));
    let again = phone.get_with("laptop:papers", &rename, Some(Conflict::Rename)).await.expect("it begins");
    let (row, _) = over(&phone, again).await;
    assert_eq!((row.state, row.received_bytes), (TransferState::Done, 0), "what is there under a number is there");
    assert_eq!(names(&rename.join("papers")), all);

    let overwrite = place("overwrite");
    let job = phone.get_with("laptop:papers", &overwrite, Some(Conflict::Overwrite)).await.expect("it begins");
    let (row, rows) = over(&phone, job).await;
    assert_eq!((row.files_done, row.files_failed), (3, 1), "a folder is never replaced by a file: {rows:?}");
    assert_eq!(read(&overwrite.join("papers/a.txt")), b"a.txt");
    assert_eq!(read(&overwrite.join("papers/large.bin")), read(&shared.join("large.bin")));
    assert!(overwrite.join("papers/b.txt").is_dir());
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_where_a_folder_is_needed_is_named_and_the_folder_can_have_a_number() {
    let world = World::new();
    let (server, master, laptop, phone, shared) = papers(&world).await;
    let place = |name: &str| {
        let dest = world.folder(name);
        write(&dest.join("papers"), b"a file");
        dest
    };
    for conflict in [Conflict::Fail, Conflict::Overwrite] {
        let dest = place("kept");
        let job = phone.get_with("laptop:papers", &dest, Some(conflict)).await.expect("it begins");
        let (row, _) = over(&phone, job).await;
        assert_eq!((row.state, row.files_done), (TransferState::Failed, 0), "{row:?}");
        let told = format!("{}: there is a file where a folder is needed", dest.join("papers").display());
        assert!(
            row.reason.as_deref().is_some_and(|why| why.starts_with(&told) && !why.contains("overwrite")),
            "{row:?}"
        );
    }
    let skip = place("skip");
    let job = phone.get_with("laptop:papers", &skip, Some(Conflict::Skip)).await.expect("it begins");
    let (row, _) = over(&phone, job).await;
    assert_eq!((row.state, row.files_skipped), (TransferState::Done, 4), "{row:?}");
    let rename = place("rename");
    // A file of that number is in the way, too; a folder of the next one is gone into, and what is in it keeps its name.
    write(&rename.join("papers (2)"), b"a file");
    write(&rename.join("papers (3)/a.txt"), b"mine");
    let job = phone.get_with("laptop:papers", &rename, Some(Conflict::Rename)).await.expect("it begins");
    let (row, rows) = over(&phone, job).await;
    assert_eq!((row.state, row.files_done), (TransferState::Done, 4), "{row:?} {rows:?}");
    assert_eq!(names(&rename), ["papers", "papers (2)", "papers (3)"]);
    let all = ["a (2).txt", "a.txt", "b.txt", "c.txt", "large.bin"];
    assert_eq!(names(&rename.join("papers (3)")), all);
    assert_eq!(read(&rename.join("papers (3)/a (2).txt")), b"a.txt");
    assert_eq!(read(&rename.join("papers (3)/large.bin")), read(&shared.join("large.bin")));
    assert_eq!(read(&rename.join("papers")), b"a file");
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_on_the_same_small_files_do_not_blame_the_disk() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("many");
    for number in 0..60u8 {
        write(&shared.join(format!("{number}.bin")), &noise(number, usize::from(number % 3) * 700));
    }
    laptop.add(&shared).await;
    phone.until_files("all", |rows| rows.len() == 60).await;
    let dest = world.folder("got");
    let jobs = [
        phone.get("laptop:many", &dest).await.expect("it begins"),
        phone.get("laptop:many/", &dest).await.expect("it begins"),
        phone.get("laptop:many//", &dest).await.expect("it begins"),
    ];
    for job in jobs {
        let ended = |row: &JobRow| {
            let blamed = row.reason.as_deref().is_some_and(|why| why.contains("can't be written"));
            assert!(!blamed, "nothing is wrong with the disk: {row:?}");
            !matches!(row.state, TransferState::Waiting | TransferState::Running)
        };
        let row = phone.until_job(job, "the end of the job", ended).await;
        assert_eq!((row.state, row.files_done), (TransferState::Done, 60), "{row:?}");
    }
    assert_eq!(names(&dest.join("many")).len(), 60);
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_file_was_added_again_is_not_resumed_but_begun_anew() {
    let world = World::new();
    let (server, master, laptop, phone, shared) = papers(&world).await;
    laptop.stop().await;
    phone.until_files("the owner to be away", |rows| rows.iter().all(|row| !row.available)).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:papers/large.bin", &dest).await.expect("it begins");
    let remove = Command::Remove { files: vec!["laptop:papers/large.bin".to_owned()], yes: false };
    master.ask(remove).await.expect("it goes");
    let (row, _) = over(&phone, job).await;
    assert!(row.state == TransferState::Failed && !row.resumable, "{row:?}");
    let laptop = world.client("laptop", None).await;
    laptop.until_files("that it is gone", |rows| rows.len() == 3).await;
    laptop.add(&shared.join("large.bin")).await;
    phone.until_files("it again", |rows| rows.len() == 4).await;
    let resumed = phone.ask(Command::Resume { ids: vec![job.to_string()], all: false }).await.unwrap_err();
    assert!(resumed.code == ErrorCode::Refused && resumed.hint.contains("get them again"), "{resumed:?}");
    let job = phone.get("laptop:papers/large.bin", &dest).await.expect("it begins");
    phone.done(job).await;
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_during_a_download_is_not_lost() {
    let world = World::new();
    let (server, master, laptop, phone, shared) = papers(&world).await;
    laptop.stop().await;
    phone.until_files("the owner to be away", |rows| rows.iter().all(|row| !row.available)).await;
    let mut jobs = Vec::new();
    for (name, conflict) in [("fail", Conflict::Fail), ("rename", Conflict::Rename)] {
        let dest = world.folder(name);
        let job = phone.get_with("laptop:papers/large.bin", &dest, Some(conflict)).await.expect("it begins");
        let part = dest.join("large.bin.bwpart");
        phone.until("its part file", |_| std::future::ready(part.exists().then_some(()))).await;
        write(&dest.join("large.bin"), b"mine");
        jobs.push((job, dest));
    }
    let laptop = world.client("laptop", None).await;
    let (row, _) = over(&phone, jobs[0].0).await;
    assert_eq!(row.state, TransferState::Failed, "{row:?}");
    let (row, rows) = over(&phone, jobs[1].0).await;
    assert_eq!(row.state, TransferState::Done, "{row:?}");
    assert_eq!(rows[0].dest, Some(jobs[1].1.join("large (2).bin")));
    assert_eq!(read(&jobs[1].1.join("large (2).bin")), read(&shared.join("large.bin")));
    for (_, dest) in &jobs {
        assert_eq!(read(&dest.join("large.bin")), b"mine");
        assert!(!names(dest).iter().any(|name| name.ends_with(".bwpart")), "{:?}", names(dest));
    }
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_comes_keeps_the_chunks_that_are_the_same() {
    let mut world = World::new();
    world.config.downloads.credit_min = 1 << 20;
    world.config.downloads.credit_max = 1 << 20;
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    let film = shared.join("film.bin");
    let total = 96 * MIB as u64;
    let mut bytes = noise(9, 96 * MIB);
    write(&film, &bytes);
    laptop.add(&shared).await;
    phone.until_files("the film", |rows| rows.len() == 1).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    phone.until_job(job, "some of it", |row| row.done_bytes > 4 * MIB as u64).await;
    // The last chunk changes, which surely is not there yet; the rest stays.
    bytes[96 * MIB - 1] ^= 1;
    // In one step: its owner looks at a file that changes at once, and would find it empty while it is written.
    let aside = world.folder("aside").join("film.bin");
    write(&aside, &bytes);
    std::fs::rename(&aside, &film).expect("a new version");
    laptop.add(&shared).await;
    let hash = blake3::hash(&bytes).to_hex().to_string();
    phone.until_files("the new version", |rows| rows[0].hash == hash).await;
    let row = phone.done(job).await;
    let there = names(&dest);
    assert!(read(&dest.join("film.bin")) == bytes, "it is the new version: {there:?}, {row:?}");
    let again = row.received_bytes - total;
    assert!(again < 8 * MIB as u64, "what is the same came once: {again} bytes too many");
    assert_eq!(names(&dest), ["film.bin"]);
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_goes_away_is_waited_for_or_begun_anew() {
    let world = World::new();
    let (server, master, laptop, phone, shared) = papers(&world).await;
    let gone = world.folder("gone");
    laptop.stop().await;
    phone.until_files("the owner to be away", |rows| rows.iter().all(|row| !row.available)).await;
    let job = phone.get("laptop:papers/large.bin", &gone).await.expect("it begins");
    phone.until("its part file", |_| std::future::ready(gone.join("large.bin.bwpart").exists().then_some(()))).await;
    std::fs::remove_dir_all(&gone).expect("it goes");
    let laptop = world.client("laptop", None).await;
    phone.done(job).await;
    assert_eq!(read(&gone.join("large.bin")), read(&shared.join("large.bin")));
    // A file where the folder should be: it waits, says so, and goes on when that is mended.
    let blocked = world.folder("blocked");
    std::fs::remove_dir(&blocked).expect("it goes");
    write(&blocked, b"not a folder");
    let job = phone.get("laptop:papers/a.txt", &blocked.join("below")).await;
    if let Ok(job) = job {
        let why = |row: &JobRow| row.state != TransferState::Running && row.reason.is_some();
        let row = phone.until_job(job, "a reason", why).await;
        assert!(row.state != TransferState::Done, "{row:?}");
    }
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_jobs_for_one_place_one_waits() {
    let world = World::new();
    let (server, master, laptop, phone, shared) = papers(&world).await;
    for number in 0..60 {
        write(&shared.join(format!("small{number}")), &noise(number, 700));
    }
    laptop.ask(Command::Scan { paths: Vec::new(), confirm: false }).await.expect("a scan");
    phone.until_files("all papers", |rows| rows.len() == 64).await;
    let dest = world.folder("got");
    let first = phone.get("laptop:papers", &dest).await.expect("it begins");
    let second = phone.get("laptop:papers/small7", &dest).await.expect("it begins");
    let third = phone.get("laptop:papers", &dest).await.expect("it begins");
    for job in [first, second, third] {
        let row = phone
            .until_job(job, "the end of the job", |row| {
                let blamed = row.reason.as_deref().is_some_and(|why| why.contains("can't be written"));
                assert!(!blamed, "the disk is not to blame: {row:?}");
                !matches!(row.state, TransferState::Waiting | TransferState::Running)
            })
            .await;
        assert_eq!(row.state, TransferState::Done, "{row:?}");
    }
    assert_eq!(names(&dest.join("papers")), names(&shared), "all are there, and no part file");
    assert_eq!(read(&dest.join("papers/small7")), read(&shared.join("small7")));
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}
