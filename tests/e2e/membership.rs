//! Who belongs, under which name, by whose wish: leaving, renaming, mistakes, copies, and coming back by one's key.

use crate::world::{Node, World, approve, disapprove, invite, ticket, write};
use bailiwick::node::local::{ClientRow, Command, ErrorCode, Link, LocalError, Reply, StandingRow};
use std::path::Path;

async fn rename(node: &Node, id: Option<&str>, name: &str) -> Result<Reply, LocalError> {
    node.ask(Command::Rename { id: id.map(str::to_owned), name: name.to_owned() }).await
}

fn called<'a>(rows: &'a [ClientRow], name: &str) -> Option<&'a ClientRow> {
    rows.iter().find(|row| row.name == name)
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_erases_its_keys_and_is_out_for_ever() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("notes");
    write(&shared.join("n.txt"), b"n");
    phone.add(&shared).await;
    laptop.until_files("the phone's file", |rows| rows.len() == 1).await;
    let (id, dir) = (phone.status().await.id.expect("an id"), phone.dir.clone());
    assert_eq!(master.ask(Command::Leave { now: true }).await.unwrap_err().code, ErrorCode::Refused);
    phone.ask(Command::Leave { now: false }).await.expect("it may leave");
    phone.ended().await.expect("it ends by itself");
    for gone in ["identity", "quic", "member.db", "member.db-wal", "member.db-shm"] {
        assert!(!dir.join(gone).exists(), "{gone} is still there");
    }
    let again = world.client("phone", None).await.ended().await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Refused);
    assert!(again.error.contains("left") && again.hint.contains("new state directory"), "{again:?}");
    let left = |rows: &[ClientRow]| rows.iter().any(|row| row.id == id && row.standing == StandingRow::Left);
    for node in [&laptop, &master] {
        node.until_clients("that it has left", left).await;
        node.until_files("its files to go", <[_]>::is_empty).await;
    }
    // Its name is free, and its person can begin anew.
    let new = world.client_as("phone-2", "phone", Some(&invite(&master).await)).await;
    let status = new.until_standing(StandingRow::Registered).await;
    assert!(status.id.as_ref() != Some(&id));
    approve(&master, &status.id.expect("an id")).await;
    new.until_standing(StandingRow::Approved).await;
    assert_eq!(new.status().await.name.as_deref(), Some("phone"));
    for node in [new, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_the_master_is_away_waits_visibly_and_ends_when_it_is_back() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    master.stop().await;
    phone.until_status("the master to be away", |status| status.master == Link::Away).await;
    phone.ask(Command::Leave { now: false }).await.expect("a wish");
    let says = |text: &Option<String>| {
        text.as_deref().is_some_and(|text| text.contains("leaving") && text.contains("waiting for the master"))
    };
    phone.until_status("word of its waiting", |status| status.leaving && says(&status.waiting)).await;
    let refused = phone.get("laptop:x", &world.folder("got")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Refused, "{refused:?}");
    phone.stop().await;
    let phone = world.client("phone", None).await;
    phone.until_status("the same after a restart", |status| says(&status.waiting)).await;
    let master = world.master("desk", None).await;
    phone.ended().await.expect("it ends by itself");
    laptop.until_clients("it to be gone", |rows| rows.iter().any(|row| row.standing == StandingRow::Left)).await;
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_yet_leaves_at_once_or_not_at_all() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let phone = world.client("phone", Some(&invite(&master).await)).await;
    let id = phone.until_standing(StandingRow::Registered).await.id.expect("an id");
    let error = phone.ask(Command::Leave { now: false }).await.unwrap_err();
    assert!(error.code == ErrorCode::NotNow && error.hint.contains("--now"), "{error:?}");
    phone.ask(Command::Leave { now: true }).await.expect("at once");
    phone.ended().await.expect("it ends");
    // The master's person takes it off the list. Nobody needs to be approved for that.
    disapprove(&master, &id).await;
    let rows = master.clients().await;
    assert!(rows.iter().any(|row| row.id == id && row.standing == StandingRow::Disapproved));
    // One that is there hears of it, and shows it over a restart.
    let tablet = world.client("tablet", Some(&invite(&master).await)).await;
    let id = tablet.until_standing(StandingRow::Registered).await.id.expect("an id");
    disapprove(&master, &id).await;
    tablet.until_standing(StandingRow::Disapproved).await;
    tablet.stop().await;
    let tablet = world.client("tablet", None).await;
    assert_eq!(tablet.status().await.standing, Some(StandingRow::Disapproved));
    tablet.stop().await;
    master.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_changed_by_its_device_or_by_the_master() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    rename(&laptop, None, "notebook").await.expect("a wish");
    laptop.until_clients("its new name", |rows| called(rows, "notebook").is_some_and(|row| row.is_self)).await;
    phone.until_clients("the new name", |rows| called(rows, "notebook").is_some()).await;
    // At the master any device's, at once; also where only the case differs.
    rename(&master, Some("phone"), "Phone").await.expect("it is free");
    assert!(called(&master.clients().await, "Phone").is_some());
    let taken = rename(&master, Some("desk"), "NOTEBOOK").await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::Refused);
    let itself = master.ask(Command::Approve { ids: vec!["desk".to_owned()] }).await.unwrap_err();
    assert_eq!(itself.code, ErrorCode::Failed);
    // A name that is the beginning of another's id: nobody is mistaken for anybody.
    let (id, other) = (laptop.status().await.id.expect("an id"), phone.status().await.id.expect("an id"));
    rename(&master, Some("Phone"), &id[..8]).await.expect("it is free");
    for command in [
        Command::Approve { ids: vec![id[..8].to_owned()] },
        Command::Disapprove { ids: vec![id[..8].to_owned()] },
        Command::Rename { id: Some(id[..8].to_owned()), name: "x".to_owned() },
    ] {
        let unclear = master.ask(command).await.unwrap_err();
        assert_eq!(unclear.code, ErrorCode::Ambiguous);
        let codes = master.clients().await.into_iter().filter_map(|row| row.code).collect::<Vec<_>>();
        let told = [&id, &other].into_iter().chain(&codes).all(|text| unclear.error.contains(text.as_str()));
        assert!(told && codes.len() == 2, "{unclear:?}");
    }
    phone.until_status("that it is called otherwise", |status| status.asked_name.as_deref() == Some("phone")).await;
    rename(&master, Some(&other), "Phone").await.expect("a whole id means one");
    let others = rename(&laptop, Some("Phone"), "x").await;
    assert!(matches!(others, Err(error) if matches!(error.code, ErrorCode::WrongRole | ErrorCode::NotFound)));
    // A name that somebody has comes back as words.
    rename(&laptop, None, "DESK").await.expect("a wish");
    let status = laptop
        .until_status("the refusal", |status| status.rename.as_ref().is_some_and(|wish| wish.refused.is_some()))
        .await;
    assert_eq!(status.name.as_deref(), Some("notebook"));
    // Another --name than before is the same wish; the one of before is none.
    laptop.stop().await;
    let laptop = world.client_as("laptop", "tablet", None).await;
    laptop.until_clients("the name it was started with", |rows| called(rows, "tablet").is_some()).await;
    laptop.stop().await;
    rename(&master, Some("tablet"), "book").await.expect("it is free");
    let laptop = world.client_as("laptop", "tablet", None).await;
    laptop.until_clients("the name that the master gave", |rows| called(rows, "book").is_some()).await;
    assert!(laptop.status().await.rename.is_none(), "the name of the last start is no wish");
    for node in [laptop, phone, master, server] {
        node.stop().await;
    }
    let server = world.server("server").await;
    let master = world.master_as("desk", "tower").await;
    master.until_clients("the master's own", |rows| called(rows, "tower").is_some_and(|row| row.is_self)).await;
    master.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w2_the_masters_policy_is_every_members_and_outlives_restarts() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let shows = |reply: &Result<Reply, LocalError>, wait_s: u64| matches!(reply, Ok(Reply::Policy(rows)) if rows[0].key == "master-away" && rows[0].wait_s == wait_s);
    assert!(shows(&laptop.ask(Command::Policy).await, 180));
    let refused = laptop.ask(Command::SetPolicy { master_away_wait_s: 60 }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongRole);
    master.ask(Command::SetPolicy { master_away_wait_s: 600 }).await.expect("it may");
    let there = |node: bailiwick::node::local::NodeHandle| async move {
        matches!(node.ask(Command::Policy).await, Ok(Reply::Policy(rows)) if rows[0].wait_s == 600).then_some(())
    };
    laptop.until("the policy", there).await;
    let phone = world.member(&master, "phone").await;
    phone.until("the policy by snapshot", there).await;
    laptop.stop().await;
    master.stop().await;
    let laptop = world.client("laptop", None).await;
    assert!(shows(&laptop.ask(Command::Policy).await, 600));
    for node in [phone, laptop, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w6_a_mistaken_disapproval_says_how_to_begin_anew() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let phone = world.member(&master, "phone").await;
    let id = phone.status().await.id.expect("an id");
    disapprove(&master, &id).await;
    let status = phone.until_standing(StandingRow::Disapproved).await;
    let says = status.waiting.expect("words");
    assert!(says.contains("new state directory") && says.contains("new invite"), "{says}");
    let refused = master.ask(Command::Approve { ids: vec![id.clone()] }).await.unwrap_err();
    assert!(refused.hint.contains("new state directory") && refused.hint.contains("new invite"), "{refused:?}");
    let renamed = rename(&master, Some(&id), "x").await.unwrap_err();
    assert_eq!(renamed.code, ErrorCode::Refused);
    // An invite of the group does not bring the old keys back, the new directory works, under the old name.
    phone.stop().await;
    let text = invite(&master).await;
    let old = world.client("phone", Some(&text)).await;
    assert_eq!(old.until_standing(StandingRow::Disapproved).await.id, Some(id.clone()));
    let new = world.client_as("phone-2", "phone", Some(&text)).await;
    let registered = new.until_standing(StandingRow::Registered).await.id.expect("an id");
    approve(&master, &registered).await;
    new.until_standing(StandingRow::Approved).await;
    new.until_clients("its name", |rows| rows.iter().any(|row| row.name == "phone" && row.is_self)).await;
    for node in [old, new, master, server] {
        node.stop().await;
    }
}

/// W17 for all three roles: whoever is restarted, in whatever order, is who it was.
#[tokio::test(flavor = "multi_thread")]
async fn w17_master_client_and_server_come_back_by_their_keys() {
    let world = World::new();
    let (mut server, mut master) = world.begun().await;
    let mut laptop = world.member(&master, "laptop").await;
    let ids = |rows: Vec<ClientRow>| rows.into_iter().map(|row| (row.id, row.code, row.standing)).collect::<Vec<_>>();
    let (before, of_server) = (ids(master.clients().await), ticket(&server).await);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        for who in order {
            match who {
                0 => {
                    server.stop().await;
                    server = world.server("server").await;
                    assert_eq!(ticket(&server).await, of_server);
                }
                1 => {
                    master.stop().await;
                    master = world.master("desk", None).await;
                }
                _ => {
                    laptop.stop().await;
                    laptop = world.client("laptop", None).await;
                }
            }
        }
        laptop.until_status("the master", |status| status.master == Link::Connected).await;
        let online = |rows: &[ClientRow]| rows.len() == 2 && rows.iter().all(|row| row.online);
        master.until_clients("the laptop", online).await;
        assert_eq!(ids(master.clients().await), before, "nobody registered anew");
        assert_eq!(ids(laptop.clients().await), before);
        assert_eq!(ticket(&server).await, of_server);
        assert_eq!(laptop.status().await.standing, Some(StandingRow::Approved));
    }
    for node in [laptop, master, server] {
        node.stop().await;
    }
}

/// One directory, copied, runs twice: exactly one goes on, and the other says why it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_copied_client_says_that_its_state_is_in_use_elsewhere() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let dir = laptop.dir.clone();
    laptop.stop().await;
    copy_dir(&dir, &dir.with_file_name("laptop-copy"));
    let laptop = world.client("laptop", None).await;
    laptop.until_status("the master", |status| status.master == Link::Connected).await;
    let copy = world.client_as("laptop-copy", "laptop", None).await;
    copy.until_status("the master", |status| status.master == Link::Connected).await;
    let in_use =
        |text: &Option<String>| text.as_deref().is_some_and(|text| text.contains("copy of this device's state"));
    laptop.until_status("that it is replaced", |status| status.server == Link::Away && in_use(&status.waiting)).await;
    // Whoever is started again is the newer one.
    laptop.stop().await;
    let laptop = world.client("laptop", None).await;
    copy.until_status("that it is replaced in turn", |status| in_use(&status.waiting)).await;
    let status = laptop.until_status("the master", |status| status.master == Link::Connected).await;
    assert_eq!(status.waiting, None);
    for node in [copy, laptop, master, server] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_ticket_keeps_the_groups_that_are_there_and_lets_no_other_in() {
    let world = World::new();
    let (server, master) = world.begun().await;
    master.until_status("the server", |status| status.server == Link::Connected).await;
    let old = ticket(&server).await;
    let new = match server.ask(Command::RotateTicket).await {
        Ok(Reply::Ticket(row)) => row.ticket,
        other => panic!("{other:?}"),
    };
    assert!(new != old && new == ticket(&server).await);
    master.stop().await;
    let master = world.master("desk", None).await;
    master.until_status("the server", |status| status.server == Link::Connected).await;
    let refused = world.master("late", Some(&old)).await.ended().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Refused);
    let other = world.master("other", Some(&new)).await;
    other.until_status("the server at the other", |status| status.server == Link::Connected).await;
    for node in [other, master, server] {
        node.stop().await;
    }
}
