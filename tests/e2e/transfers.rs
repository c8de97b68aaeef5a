//! W14 and W16: transfers that people pause, let go on and end, from either end and over restarts.

use crate::world::{Node, World, noise, write};
use bailiwick::node::local::{
    Command, Controlled, ErrorCode, JobRow, LocalError, Reply, StandingRow, TransferRow, TransferState,
};
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;

/// A world in which one chunk is under way at a time, so that a person is quicker than a transfer.
pub(crate) fn slow_world() -> World {
    let mut world = World::new();
    world.config.downloads.credit_min = 1 << 20;
    world.config.downloads.credit_max = 1 << 20;
    world
}

/// An owner with a film of this size, and somebody who sees it.
pub(crate) async fn film(world: &World, mib: usize) -> (Node, Node, Node, Node, PathBuf) {
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), &noise(7, mib * MIB));
    laptop.add(&shared).await;
    phone.until_files("the film", |rows| rows.len() == 1).await;
    (server, master, laptop, phone, shared.join("film.bin"))
}

async fn controlled(node: &Node, command: Command) -> Result<Controlled, LocalError> {
    match node.ask(command).await? {
        Reply::Controlled(controlled) => Ok(controlled),
        other => panic!("{other:?}"),
    }
}

async fn pause(node: &Node, id: &str) -> Result<Controlled, LocalError> {
    controlled(node, Command::Pause { ids: vec![id.to_owned()], all: false }).await
}

async fn resume(node: &Node, id: &str) -> Result<Controlled, LocalError> {
    controlled(node, Command::Resume { ids: vec![id.to_owned()], all: false }).await
}

async fn cancel(node: &Node, id: &str) -> Result<Controlled, LocalError> {
    controlled(node, Command::Cancel { ids: vec![id.to_owned()], all: false }).await
}

pub(crate) async fn transfers(node: &Node, job: Option<u64>) -> Vec<TransferRow> {
    match node.ask(Command::Transfers { job }).await {
        Ok(Reply::Transfers(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = walkdir::WalkDir::new(folder)
        .min_depth(1)
        .into_iter()
        .flatten()
        .map(|entry| entry.path().strip_prefix(folder).expect("below").display().to_string())
        .collect();
    names.sort_unstable();
    names
}

pub(crate) fn same(left: &Path, right: &Path) {
    assert!(std::fs::read(left).expect("source") == std::fs::read(right).expect("copy"), "{right:?} differs");
}

fn moving(row: &JobRow) -> bool {
    row.state == TransferState::Running && row.done_bytes > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_hears_of_files_by_name_and_of_the_end_of_a_job() {
    let world = World::new();
    let (server, master, laptop, phone, _) = film(&world, 3).await;
    let mut events = phone.watch();
    let job = phone.get("laptop:films", &world.folder("got")).await.expect("it begins");
    phone.done(job).await;
    // Ends with the node: each event that is waited for must be among those before.
    phone.stop().await;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        let text = |name: &str| event.detail.get(name).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
        seen.push([event.event.clone(), text("file"), text("what"), text("state"), text("files")]);
    }
    assert!(seen.contains(&["transfer", "films/film.bin", "", "done", ""].map(str::to_owned)), "{seen:?}");
    let ended: Vec<_> = seen.iter().filter(|event| event[0] == "job" && event[3] == "done").collect();
    assert_eq!(ended, [&["job", "", "laptop:films", "done", "1 of 1"].map(str::to_owned)], "{seen:?}");
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w16_a_paused_download_keeps_what_it_has_and_goes_on_over_restarts() {
    let world = slow_world();
    let (server, master, laptop, phone, film) = film(&world, 96).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    phone.until_job(job, "some bytes", moving).await;
    let rows = pause(&phone, &job.to_string()).await.expect("it pauses");
    assert_eq!(rows.jobs[0].state, TransferState::Paused, "{rows:?}");
    assert!(rows.jobs[0].reason.as_deref().is_some_and(|why| why.contains("resume")), "{rows:?}");
    // It is still, and stays so over restarts of both ends.
    for node in [phone, laptop] {
        node.stop().await;
    }
    let laptop = world.client("laptop", None).await;
    let phone = world.client("phone", None).await;
    phone.until_files("the owner", |rows| rows.iter().all(|row| row.available)).await;
    let before = phone.until_job(job, "the pause", |row| row.state == TransferState::Paused).await;
    let total = 96 * MIB as u64;
    assert!(before.done_bytes > 0 && before.done_bytes < total, "{before:?}");
    assert_eq!(names(&dest), ["film.bin.bwpart"]);
    let row = transfers(&phone, Some(job)).await.remove(0);
    assert_eq!((row.state, row.rate), (TransferState::Paused, 0));
    resume(&phone, &job.to_string()).await.expect("it goes on");
    let row = phone.done(job).await;
    same(&film, &dest.join("film.bin"));
    assert_eq!(names(&dest), ["film.bin"]);
    let again = row.received_bytes - total;
    assert!(again < 4 * MIB as u64, "what was there came not again: {again}");
    let over = pause(&phone, &job.to_string()).await.unwrap_err();
    assert!(over.error.contains("over"), "{over}");
    let unknown = pause(&phone, "999").await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound);
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

/// What was claimed was verified when it came. If something else writes to the part file afterwards, the file is not
/// called done before it is what the catalog says.
#[tokio::test(flavor = "multi_thread")]
async fn w16_a_part_that_was_changed_during_a_pause_does_not_pass_for_the_file() {
    let world = slow_world();
    let (server, master, laptop, phone, film) = film(&world, 32).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    phone.until_job(job, "some bytes", moving).await;
    pause(&phone, &job.to_string()).await.expect("it pauses");
    let part = dest.join("film.bin.bwpart");
    let mut bytes = std::fs::read(&part).expect("a part");
    let claimed = bytes.iter().position(|byte| *byte != 0).expect("something came");
    bytes[claimed] ^= 1;
    std::fs::write(&part, bytes).expect("it is changed");
    resume(&phone, &job.to_string()).await.expect("it goes on");
    phone.done(job).await;
    same(&film, &dest.join("film.bin"));
    assert_eq!(names(&dest), ["film.bin"]);
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w6_nothing_stays_of_what_an_expelled_device_had_paused() {
    let world = slow_world();
    let (server, master, laptop, phone, _) = film(&world, 32).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    phone.until_job(job, "some bytes", moving).await;
    pause(&phone, &job.to_string()).await.expect("it pauses");
    phone.until_job(job, "the pause", |row| row.state == TransferState::Paused).await;
    let ids = vec![phone.status().await.id.expect("an id")];
    master.ask(Command::Disapprove { ids }).await.expect("it is out");
    phone.until_standing(StandingRow::Disapproved).await;
    phone.until("the part to be gone", |_| async { names(&dest).is_empty().then_some(()) }).await;
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w16_a_cancelled_job_leaves_finished_files_and_nothing_else() {
    let world = slow_world();
    let (server, master, laptop, phone, film) = film(&world, 96).await;
    write(&film.with_file_name("a-small.txt"), b"small");
    laptop.add(film.parent().expect("a folder")).await;
    phone.until_files("both", |rows| rows.len() == 2).await;
    let dest = world.folder("got");
    // The small one comes first, for it sorts before the film.
    let job = phone.get("laptop:films", &dest).await.expect("it begins");
    phone.until_job(job, "the small one", |row| row.files_done == 1 && row.done_bytes > MIB as u64).await;
    let rows = cancel(&phone, &job.to_string()).await.expect("it ends");
    assert_eq!(rows.jobs[0].state, TransferState::Cancelled);
    phone
        .until("the part file to go", |_| {
            let there = names(&dest);
            async move { (there == ["films", "films/a-small.txt"]).then_some(()) }
        })
        .await;
    let rows = transfers(&phone, Some(job)).await;
    assert_eq!(rows.iter().map(|row| row.state).collect::<Vec<_>>(), [TransferState::Done, TransferState::Cancelled]);
    let gone = resume(&phone, &job.to_string()).await.unwrap_err();
    assert!(gone.error.contains("cancelled"), "{gone}");
    // Over a restart it stays so; the same words begin another job.
    phone.stop().await;
    let phone = world.client("phone", None).await;
    let row = phone.until_job(job, "its state", |_| true).await;
    assert_eq!((row.state, row.files_done), (TransferState::Cancelled, 1));
    let second = phone.get("laptop:films", &dest).await.expect("it begins anew");
    assert_ne!(second, job);
    phone.done(second).await;
    same(&film, &dest.join("films/film.bin"));
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w16_a_failed_job_is_tried_again_when_it_is_resumed() {
    let world = World::new();
    let (server, master, laptop, phone, film) = film(&world, 2).await;
    let dest = world.folder("got");
    write(&dest.join("film.bin"), b"in the way");
    let job = phone.get("laptop:films/film.bin", &dest).await;
    let job = match job {
        Ok(job) => job,
        Err(error) => panic!("{error}"),
    };
    phone.until_job(job, "its failure", |row| row.state == TransferState::Failed).await;
    std::fs::remove_file(dest.join("film.bin")).expect("it goes");
    resume(&phone, &job.to_string()).await.expect("it is tried again");
    phone.done(job).await;
    same(&film, &dest.join("film.bin"));
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w16_all_that_is_under_way_is_paused_and_goes_on_at_once() {
    let world = World::new();
    let (server, master, laptop, phone, film) = film(&world, 2).await;
    laptop.stop().await;
    phone.until_files("the owner to be away", |rows| !rows[0].available).await;
    let places = [world.folder("one"), world.folder("two")];
    let mut jobs = Vec::new();
    for dest in &places {
        jobs.push(phone.get("laptop:films/film.bin", dest).await.expect("it begins"));
    }
    assert_ne!(jobs[0], jobs[1], "another place is another job");
    assert_eq!(phone.get("laptop:films/film.bin", &places[0]).await, Ok(jobs[0]), "the same joins");
    let all = controlled(&phone, Command::Pause { ids: Vec::new(), all: true }).await.expect("all");
    assert_eq!(all.jobs.iter().map(|row| row.state).collect::<Vec<_>>(), [TransferState::Paused; 2]);
    let laptop = world.client("laptop", None).await;
    phone.until_files("the owner", |rows| rows[0].available).await;
    assert_eq!(phone.until_job(jobs[0], "it", |_| true).await.state, TransferState::Paused);
    let all = controlled(&phone, Command::Resume { ids: Vec::new(), all: true }).await.expect("all");
    assert_eq!(all.jobs.len(), 2);
    for (job, dest) in jobs.iter().zip(&places) {
        phone.done(*job).await;
        same(&film, &dest.join("film.bin"));
    }
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w16_an_owner_pauses_an_upload_and_who_fetches_waits_with_that_reason() {
    let world = slow_world();
    let (server, master, laptop, phone, film) = film(&world, 96).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    phone.until_job(job, "some bytes", moving).await;
    let upload = laptop
        .until("the upload's row", |node| async move {
            match node.ask(Command::Transfers { job: None }).await {
                Ok(Reply::Transfers(rows)) => rows.into_iter().find(|row| row.id.starts_with("up-")),
                _ => None,
            }
        })
        .await;
    let rows = pause(&laptop, &upload.id).await.expect("it pauses");
    assert_eq!((rows.uploads[0].state, rows.jobs.len()), (TransferState::Paused, 0));
    let by_owner = |row: &JobRow| {
        row.state == TransferState::Waiting
            && row.reason.as_deref().is_some_and(|why| why.contains("paused by its owner"))
    };
    phone.until_job(job, "the owner's pause", by_owner).await;
    // It holds over restarts of both ends, and whoever asks is told.
    for node in [phone, laptop] {
        node.stop().await;
    }
    let laptop = world.client("laptop", None).await;
    let phone = world.client("phone", None).await;
    let row = phone.until_job(job, "the owner's pause", by_owner).await;
    assert!(row.done_bytes < 96 * MIB as u64);
    let shown = transfers(&laptop, None).await;
    assert_eq!(
        shown.iter().map(|row| (row.id.clone(), row.state)).collect::<Vec<_>>(),
        [(upload.id.clone(), TransferState::Paused)]
    );
    // It is the file that is paused, not what happens to be asked for: the others come.
    write(&film.with_file_name("other.txt"), b"other");
    laptop.add(film.parent().expect("a folder")).await;
    phone.until_files("the other one", |rows| rows.len() == 2).await;
    let other = phone.get("laptop:films/other.txt", &dest).await.expect("it begins");
    phone.done(other).await;
    let all = controlled(&laptop, Command::Resume { ids: Vec::new(), all: true }).await.expect("all");
    assert_eq!(all.uploads.len(), 1);
    phone.done(job).await;
    same(&film, &dest.join("film.bin"));
    let usage = cancel(&laptop, &upload.id).await.unwrap_err();
    assert_eq!(usage.code, ErrorCode::Usage);
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}
