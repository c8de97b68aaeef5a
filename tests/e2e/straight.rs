//! W24: straight between two devices, with the server underneath.

use crate::membership::copy_dir;
use crate::transfers::{film, same, slow_world, transfers};
use crate::world::{Node, noise, write};
use bailiwick::node::local::{
    ClientRow, Command, Diagnosis, JobRow, Link, PathRow, Reply, StandingRow, TransferState, Way,
};

fn of<'a>(rows: &'a [ClientRow], name: &str) -> &'a ClientRow {
    rows.iter().find(|row| row.name == name).expect("a device of this name")
}

fn goes_straight(row: &JobRow) -> bool {
    row.path == Some(PathRow::Direct) && row.state == TransferState::Running
}

#[tokio::test(flavor = "multi_thread")]
async fn w24_a_download_goes_over_to_the_straight_way_and_needs_the_server_no_more() {
    let world = slow_world();
    let (server, master, laptop, phone, original) = film(&world, 192).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    phone.until_job(job, "the straight way", goes_straight).await;
    let clients = phone.clients().await;
    assert_eq!((of(&clients, "laptop").path, of(&clients, "laptop").reason.as_deref()), (Some(PathRow::Direct), None));
    server.stop().await;
    let gone = phone.until_status("the server to be away", |status| status.server == Link::Away).await;
    let before = phone.until_job(job, "the row", |_| true).await.done_bytes;
    let went_on = |row: &JobRow| row.done_bytes >= before + (4 << 20) || row.state == TransferState::Done;
    let row = phone.until_job(job, "more of it, without a server", went_on).await;
    assert_eq!((gone.server, row.path), (Link::Away, Some(PathRow::Direct)));
    let server = world.server("server").await;
    phone.done(job).await;
    same(&original, &dest.join("film.bin"));
    let came = phone.until_job(job, "the row", |_| true).await.path;
    assert!(came.is_some());
    assert_eq!(transfers(&phone, Some(job)).await[0].path, came, "what is over says how it came");
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w24_who_is_expelled_in_the_middle_of_a_straight_download_gets_no_more_of_it() {
    let world = slow_world();
    let (server, master, laptop, phone, _) = film(&world, 512).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    phone.until_job(job, "the straight way", goes_straight).await;
    let ids = vec![phone.status().await.id.expect("an id")];
    master.ask(Command::Disapprove { ids }).await.expect("it is out");
    laptop.until_clients("its expulsion", |rows| of(rows, "phone").standing == StandingRow::Disapproved).await;
    assert_eq!(of(&laptop.clients().await, "phone").path, None);
    phone.until_standing(StandingRow::Disapproved).await;
    phone.until_job(job, "the end of the download", |row| row.state == TransferState::Failed).await;
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

/// One directory, copied, runs twice: who is not the newer one stops for good, also where no server passes anything.
#[tokio::test(flavor = "multi_thread")]
async fn w24_who_is_replaced_by_a_copy_of_its_directory_has_no_straight_way_any_more() {
    let world = slow_world();
    let (server, master, laptop, phone, _) = film(&world, 512).await;
    let dir = phone.dir.clone();
    phone.stop().await;
    copy_dir(&dir, &dir.with_file_name("phone-copy"));
    let phone = world.client("phone", None).await;
    let job = phone.get("laptop:films/film.bin", &world.folder("got")).await.expect("it begins");
    phone.until_job(job, "the straight way", goes_straight).await;
    let copy = world.client_as("phone-copy", "phone", None).await;
    copy.until_status("the master", |status| status.master == Link::Connected).await;
    let says_so =
        |text: &Option<String>| text.as_deref().is_some_and(|text| text.contains("copy of this device's state"));
    phone.until_status("that it is replaced", |status| says_so(&status.waiting)).await;
    phone.until_clients("no straight way", |rows| of(rows, "laptop").path.is_none()).await;
    assert_ne!(phone.until_job(job, "the row", |_| true).await.state, TransferState::Done);
    for node in [copy, phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w24_a_way_through_the_server_has_a_reason() {
    let mut world = slow_world();
    world.config.paths.enabled = false;
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    world.config.paths.enabled = true;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), &noise(7, 64 << 20));
    laptop.add(&shared).await;
    phone.until_files("the film", |rows| rows.len() == 1).await;
    let dest = world.folder("got");
    let job = phone.get_by("laptop:films/film.bin", &dest, None, None).await.expect("it begins");
    let says_why = |rows: &[ClientRow]| {
        let laptop = of(rows, "laptop");
        laptop.path == Some(PathRow::Relay)
            && laptop.reason.as_deref().is_some_and(|why| why.contains("the server alone"))
    };
    phone.until_clients("the reason", says_why).await;
    let row = phone.done(job).await;
    assert_eq!(row.path, Some(PathRow::Relay));
    same(&shared.join("film.bin"), &dest.join("film.bin"));
    // What it is in itself it says as well, and what to do.
    assert!(laptop.status().await.relay_only && !phone.status().await.relay_only);
    let own = diagnosed(&laptop, Some("phone")).await;
    let to_phone = own.devices.iter().find(|device| device.name == "phone").expect("it is listed");
    assert!(own.addresses.is_empty() && !to_phone.trying, "{own:?}");
    assert!(to_phone.reason.as_deref().is_some_and(|why| why.contains("--relay-only=false")), "{own:?}");
    let before = world.folder("direct");
    let waits = phone.get_by("laptop:films/film.bin", &before, None, Some(Way::Direct)).await.expect("it begins");
    let says_what_to_do = |why: &str| why.contains("--relay-only instead of --direct-only");
    phone.until_job(waits, "advice", |row| row.reason.as_deref().is_some_and(says_what_to_do)).await;
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w24_a_device_that_is_named_to_the_doctor_is_tried_at_once() {
    let world = slow_world();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    laptop.until_clients("the other one", |rows| rows.iter().any(|row| row.name == "phone" && row.online)).await;
    phone.until_clients("the other one", |rows| rows.iter().any(|row| row.name == "laptop" && row.online)).await;
    let before = diagnosed(&phone, Some("laptop")).await;
    assert!(before.observed.is_some() && !before.addresses.is_empty(), "{before:?}");
    phone.until_clients("a direct connection", |rows| of(rows, "laptop").path == Some(PathRow::Direct)).await;
    let after = diagnosed(&phone, None).await;
    let laptop_row = after.devices.iter().find(|device| device.name == "laptop").expect("it is listed");
    assert_eq!((laptop_row.attempts, laptop_row.connected, laptop_row.trying), (1, 1, false), "{after:?}");
    assert!(laptop_row.address.is_some() && laptop_row.rtt_ms.is_some(), "{after:?}");
    let last = laptop_row.last.as_ref().expect("an attempt");
    assert_eq!(last.outcome, "connected");
    // The other device may have dialled before an answer came.
    assert!(last.addresses.iter().any(|one| one.probes > 0), "{last:?}");
    let refused = phone.ask(Command::Doctor { id: Some("phone".to_owned()) }).await;
    assert!(refused.is_err_and(|error| error.error.contains("this device itself")));
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

async fn diagnosed(node: &Node, id: Option<&str>) -> Diagnosis {
    match node.ask(Command::Doctor { id: id.map(str::to_owned) }).await.expect("an answer") {
        Reply::Doctor(found) => *found,
        other => panic!("{other:?}"),
    }
}
