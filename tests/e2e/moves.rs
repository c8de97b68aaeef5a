//! A group goes over to another server.

use crate::world::{World, invite, ticket, write};
use bailiwick::node::local::{Command, Link, Reply, StandingRow};
use bailiwick::wire::invite::{Invite, Ticket};

#[tokio::test(flavor = "multi_thread")]
async fn members_who_are_there_follow_the_master_to_its_new_server_and_others_come_with_an_invite() {
    let world = World::new();
    let (old, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("papers");
    write(&shared.join("a.txt"), b"a");
    phone.add(&shared).await;
    master.until_files("the file", |rows| rows.len() == 1).await;
    laptop.until_files("the file", |rows| rows.len() == 1).await;
    phone.stop().await;
    let new = world.server("new-server").await;
    let to = ticket(&new).await;
    master.stop().await;
    let master = world.master("desk", Some(&to)).await;
    // Its invites name the server that it is at.
    let key = Ticket::parse(&to).expect("a ticket").server.key;
    master
        .until("the new server", |node| async move {
            match node.ask(Command::Invite { expires_s: 60 }).await {
                Ok(Reply::Invites(rows)) => {
                    let invite = Invite::parse(&rows[0].invite).expect("an invite");
                    (invite.server.key == key).then_some(())
                }
                _ => None,
            }
        })
        .await;
    master.until_clients("the laptop there", |rows| rows.iter().any(|row| row.name == "laptop" && row.online)).await;
    old.stop().await;
    let more = world.folder("more");
    write(&more.join("b.txt"), b"b");
    laptop.add(&more).await;
    master.until_files("the second file", |rows| rows.len() == 2).await;
    laptop.stop().await;
    let laptop = world.client("laptop", None).await;
    laptop.until_status("the new server, from the start", |status| status.master == Link::Connected).await;
    // Who was away moves with an invite, and is who it was.
    let phone = world.client("phone", Some(&invite(&master).await)).await;
    phone.until_status("the new server", |status| status.master == Link::Connected).await;
    phone.until_standing(StandingRow::Approved).await;
    phone.until_files("all files", |rows| rows.len() == 2 && rows.iter().all(|row| row.available)).await;
    for node in [phone, laptop, master, new] {
        node.stop().await;
    }
}
