//! One test a row, by its name.

use crate::world::{World, approve, disapprove, invite, noise, ticket, write};
use bailiwick::node::local::{Command, ErrorCode, FileRow, FileStatus, Link, Reply, StandingRow, TransferState};
use std::path::Path;

fn same(left: &Path, right: &Path) {
    assert!(std::fs::read(left).expect("source") == std::fs::read(right).expect("copy"), "{right:?} differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn w1_a_master_registers_or_hears_why_not() {
    let world = World::new();
    let (server, master) = world.begun().await;
    master.until_status("the server", |status| status.server == Link::Connected).await;
    let other = World::new();
    let foreign = other.server("server").await;
    let wrong = {
        // The right server with another one's secret.
        let mut own = bailiwick::wire::invite::Ticket::parse(&ticket(&server).await).unwrap();
        own.admission = bailiwick::wire::invite::Ticket::parse(&ticket(&foreign).await).unwrap().admission;
        own.to_string()
    };
    let refused = world.master("intruder", Some(&wrong)).await.ended().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Refused);
    assert!(refused.error.contains("ticket"), "{}", refused.error);
    foreign.stop().await;
    master.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w2_w3_what_is_asked_while_the_master_is_away_waits_visibly_and_goes_through_when_it_is_back() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let open = invite(&master).await;
    master.stop().await;
    laptop.until_status("the master to be away", |status| status.master == Link::Away).await;
    let shared = world.folder("papers");
    write(&shared.join("a.txt"), b"a");
    laptop.add(&shared).await;
    let newcomer = world.client("newcomer", Some(&open)).await;
    let waits = |text: &Option<String>| text.as_deref().is_some_and(|text| text.contains("waiting for the master"));
    newcomer.until_status("word of its waiting", |status| waits(&status.waiting)).await;
    laptop
        .until("word of the share's waiting", |node| async move {
            match node.ask(Command::Shares).await {
                Ok(Reply::Shares(rows)) => (rows[0].syncing == 1 && waits(&rows[0].reason)).then_some(()),
                _ => None,
            }
        })
        .await;
    assert!(laptop.files().await.is_empty(), "nothing has happened before the master's entry");
    let master = world.master("desk", None).await;
    master.until_files("the file", |rows| rows.len() == 1).await;
    laptop.until_files("its own file", |rows| rows.len() == 1).await;
    newcomer.until_standing(StandingRow::Registered).await;
    for node in [newcomer, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w4_w5_a_client_registers_and_is_approved_with_one_code_on_both_screens() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let photos = world.folder("photos");
    write(&photos.join("one.jpg"), b"one");
    master.add(&photos).await;
    let text = invite(&master).await;
    let laptop = world.client("laptop", Some(&text)).await;
    let status = laptop.until_standing(StandingRow::Registered).await;
    let id = status.id.expect("an id");
    let rows = master.until_clients("the new device", |rows| rows.iter().any(|row| row.id == id)).await;
    let row = rows.iter().find(|row| row.id == id).expect("the device");
    assert_eq!(row.standing, StandingRow::Registered);
    assert_eq!(row.code, status.code, "both screens show one code");
    assert!(laptop.files().await.is_empty() && laptop.clients().await.is_empty(), "it sees nothing before approval");
    approve(&master, &id).await;
    laptop.until_standing(StandingRow::Approved).await;
    laptop.until_files("the catalog", |rows| rows.len() == 1).await;
    let second = world.client("second", Some(&text)).await.ended().await.unwrap_err();
    assert_eq!(second.code, ErrorCode::Refused, "an invite lets one device in");
    let phone = world.member(&master, "Laptop").await;
    let rows = laptop.until_clients("the other device", |rows| rows.len() == 3).await;
    let mut names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Laptop-2", "desk", "laptop"]);
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w6_a_disapproved_client_is_out_for_ever() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("notes");
    write(&shared.join("n.txt"), b"n");
    phone.add(&shared).await;
    laptop.until_files("the phone's file", |rows| rows.len() == 1).await;
    let id = phone.status().await.id.expect("an id");
    // A job that can't go on is under way when it is expelled.
    let of_laptop = world.folder("of-laptop");
    write(&of_laptop.join("l.txt"), b"l");
    laptop.add(&of_laptop).await;
    phone.until_files("the laptop's file", |rows| rows.len() == 2).await;
    laptop.stop().await;
    phone.until_files("the laptop to be away", |rows| rows.iter().any(|row| !row.available)).await;
    let job = phone.get("laptop:of-laptop", &world.folder("got")).await.expect("it is remembered");
    disapprove(&master, &id).await;
    phone.until_standing(StandingRow::Disapproved).await;
    let row = phone.until_job(job, "its end", |row| row.state == TransferState::Failed).await;
    assert_eq!(row.code, Some(ErrorCode::Refused), "{row:?}");
    let laptop = world.client("laptop", None).await;
    laptop.until_files("the phone's file to go", |rows| rows.len() == 1 && rows[0].owner_name == "laptop").await;
    laptop
        .until_clients("the phone's standing", |rows| {
            rows.iter().any(|row| row.id == id && row.standing == StandingRow::Disapproved)
        })
        .await;
    let again = master.ask(Command::Approve { ids: vec![id.clone()] }).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Refused);
    // Over restarts of everything it stays out.
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
    let server = world.server("server").await;
    let phone = world.client("phone", None).await;
    let master = world.master("desk", None).await;
    let laptop = world.client("laptop", None).await;
    laptop.until_status("the master", |status| status.master == Link::Connected).await;
    assert_eq!(phone.status().await.standing, Some(StandingRow::Disapproved));
    assert!(laptop.files().await.iter().all(|row| row.owner_name != "phone"));
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w7_w8_w17_who_comes_back_is_known_by_its_key_and_gets_what_it_missed() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let id = laptop.status().await.id.expect("an id");
    laptop.stop().await;
    let is_online = |rows: &[bailiwick::node::local::ClientRow], online| {
        rows.iter().any(|row| row.id == id && row.online == online)
    };
    master.until_clients("the laptop to be away", |rows| is_online(rows, false)).await;
    let shared = world.folder("music");
    write(&shared.join("m.ogg"), b"m");
    master.add(&shared).await;
    master.until_files("its own file", |rows| rows.len() == 1).await;
    let laptop = world.client("laptop", None).await;
    laptop.until_files("what it missed", |rows| rows.len() == 1).await;
    assert_eq!(laptop.status().await.id, Some(id.clone()));
    master.until_clients("the laptop to be back", |rows| is_online(rows, true)).await;
    // The same for the server going away and coming back.
    server.stop().await;
    laptop.until_status("the server to be away", |status| status.server == Link::Away).await;
    let server = world.server("server").await;
    laptop.until_status("the master", |status| status.master == Link::Connected).await;
    write(&shared.join("n.ogg"), b"n");
    master.add(&shared).await;
    laptop.until_files("the new file", |rows| rows.len() == 2).await;
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w9_w10_added_files_are_staged_and_then_in_every_catalog() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let (of_client, of_master) = (world.folder("client"), world.folder("master"));
    write(&of_client.join("c.txt"), b"of the client");
    write(&of_master.join("m.txt"), b"of the master");
    laptop.add(&of_client).await;
    master.add(&of_master).await;
    for node in [&laptop, &phone, &master] {
        let idle = |row: &FileRow| row.status == FileStatus::Idle && row.available;
        let rows = node.until_files("both files", |rows| rows.len() == 2 && rows.iter().all(idle)).await;
        let hash = blake3::hash(b"of the client").to_hex().to_string();
        assert!(rows.iter().any(|row| row.path == "client/c.txt" && row.hash == hash && row.owner_name == "laptop"));
    }
    let shares = laptop
        .until("an idle share", |node| async move {
            match node.ask(Command::Shares).await {
                Ok(Reply::Shares(rows)) => (rows[0].syncing == 0 && !rows[0].scanning).then_some(rows),
                _ => None,
            }
        })
        .await;
    assert_eq!((shares[0].files, shares[0].bytes), (1, 13));
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w13_w14_a_download_is_verified_and_a_refusal_says_why() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), &noise(1, 9 * 1024 * 1024 + 123));
    laptop.add(&shared).await;
    phone.until_files("the film", |rows| rows.len() == 1).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it begins");
    let row = phone.done(job).await;
    same(&shared.join("film.bin"), &dest.join("film.bin"));
    assert_eq!(row.done_bytes, 9 * 1024 * 1024 + 123);
    assert!(row.received_bytes >= row.done_bytes && row.received_bytes < row.done_bytes + (1 << 20));
    let leftovers: Vec<_> = std::fs::read_dir(&dest).unwrap().collect();
    assert_eq!(leftovers.len(), 1, "no part file is left");
    // The master fetches by the same code.
    let at_master = world.folder("at-master");
    let job = master.get("laptop:films", &at_master).await.expect("it begins");
    master.done(job).await;
    same(&shared.join("film.bin"), &at_master.join("films/film.bin"));
    // A file that is named twice comes once.
    let files = vec!["laptop:films/film.bin".to_owned(), "laptop:films/film.bin".to_owned()];
    let twice = Command::Get { files, dest: Some(world.folder("twice")), conflict: None, way: None };
    match phone.ask(twice).await {
        Ok(Reply::Jobs(rows)) => assert_eq!(phone.done(rows[0].job).await.files, 1),
        other => panic!("{other:?}"),
    }
    // Refused before any byte, in words.
    let unknown = phone.get("laptop:films/other.bin", &dest).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound);
    let there = world.folder("there");
    write(&there.join("film.bin"), b"something else");
    let job = phone.get("laptop:films/film.bin", &there).await.expect("it begins");
    let row = phone.until_job(job, "its failure", |row| row.state == TransferState::Failed).await;
    assert!(row.reason.expect("a reason").contains("something else"));
    assert_eq!(std::fs::read(there.join("film.bin")).unwrap(), b"something else");
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w13_a_download_waits_for_its_owner_and_goes_on_when_it_is_back() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    write(&shared.join("film.bin"), &noise(2, 3 * 1024 * 1024));
    laptop.add(&shared).await;
    phone.until_files("the film", |rows| rows.len() == 1).await;
    laptop.stop().await;
    phone.until_files("the film to be unavailable", |rows| !rows[0].available).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/film.bin", &dest).await.expect("it is remembered");
    let row = phone.until_job(job, "a reason", |row| row.state == TransferState::Waiting && row.reason.is_some()).await;
    assert!(row.reason.expect("a reason").contains("laptop"));
    // The wish outlives the asker, too.
    phone.stop().await;
    let phone = world.client("phone", None).await;
    let laptop = world.client("laptop", None).await;
    phone.done(job).await;
    same(&shared.join("film.bin"), &dest.join("film.bin"));
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w15_a_server_remembers_members_and_no_file() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop-marker-4711").await;
    let shared = world.folder("folder-marker-4711");
    write(&shared.join("file-marker-4711.txt"), b"content-marker-4711");
    laptop.add(&shared).await;
    let dest = world.folder("got");
    master.until_files("the file", |rows| rows.len() == 1).await;
    let job = master.get("laptop-marker-4711:folder-marker-4711", &dest).await.expect("it begins");
    master.done(job).await;
    let server_dir = server.dir.clone();
    let client_dir = laptop.dir.clone();
    for node in [laptop, master, server] {
        node.stop().await;
    }
    let holds = |dir: &Path, marker: &[u8]| {
        let files = walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_file());
        files
            .into_iter()
            .any(|file| std::fs::read(file.path()).unwrap().windows(marker.len()).any(|window| window == marker))
    };
    for marker in [&b"laptop-marker-4711"[..], b"folder-marker-4711", b"file-marker-4711", b"content-marker-4711"] {
        assert!(!holds(&server_dir, marker), "{}", String::from_utf8_lossy(marker));
    }
    for marker in [&b"laptop-marker-4711"[..], b"folder-marker-4711", b"file-marker-4711"] {
        assert!(holds(&client_dir, marker), "{}", String::from_utf8_lossy(marker));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w21_a_folder_comes_as_the_tree_it_is() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shared = world.folder("tree");
    write(&shared.join("a/b/c.txt"), b"deep");
    write(&shared.join(".hidden"), b"hidden");
    write(&shared.join("empty.txt"), b"");
    write(&shared.join("run.sh"), b"#!/bin/sh\n");
    std::fs::create_dir_all(shared.join("nothing/here")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", shared.join("link")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(shared.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for number in 0..500 {
        write(&shared.join(format!("many/{number}.txt")), format!("file {number}").as_bytes());
    }
    master.add(&shared).await;
    laptop.until_files("the tree", |rows| rows.len() == 505).await;
    let dest = world.folder("got");
    let job = laptop.get("desk:tree", &dest).await.expect("it begins");
    let row = laptop.done(job).await;
    assert_eq!((row.files, row.files_done), (505, 505));
    let got = dest.join("tree");
    for file in ["a/b/c.txt", ".hidden", "empty.txt", "run.sh", "many/0.txt", "many/499.txt"] {
        same(&shared.join(file), &got.join(file));
        let time = |path: &Path| path.metadata().unwrap().modified().unwrap();
        let (left, right) = (time(&shared.join(file)), time(&got.join(file)));
        let gap = left.duration_since(right).unwrap_or_else(|error| error.duration());
        assert!(gap.as_millis() <= 1, "{file}: {gap:?}");
    }
    assert!(got.join("nothing/here").is_dir());
    assert!(!got.join("link").exists(), "links are not followed");
    assert_eq!(got.join("run.sh").metadata().unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(got.join(".hidden").metadata().unwrap().permissions().mode() & 0o111, 0);
    let shares = master.shares().await;
    assert_eq!(shares[0].skipped_count, 1, "{:?}", shares[0].skipped);
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

/// Locks around something else: a pool of empty buffers, and the receiving end of finished handshakes.
const EXEMPT: [&str; 2] = ["buffers.rs", "accept.rs"];

/// W19 is a property of the code: each piece of state has one owner and is reached by messages.
#[test]
fn w19_no_shared_locks_around_clients_or_files() {
    let sources = walkdir::WalkDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let locks: Vec<String> = sources
        .into_iter()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
        .filter(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("a source");
            ["Mutex", "RwLock", "DashMap"].iter().any(|lock| text.contains(lock))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !EXEMPT.contains(&name.as_str()))
        .collect();
    assert!(locks.is_empty(), "{locks:?}");
}
