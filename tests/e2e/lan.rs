//! W24 on a local network: devices that see each other go on without a server.

use crate::transfers::same;
use crate::world::{Node, World, noise, write};
use bailiwick::net::lan::Lan;
use bailiwick::node::local::{ClientRow, Command, Direction, JobRow, Link, PathRow, PolicyRow, Reply, TransferState};
use bailiwick::wire::beacon::Announcement;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// A local network without packets: what one node announces all others see.
#[derive(Clone, Default)]
pub(crate) struct Air(Arc<watch::Sender<BTreeMap<u64, Announcement>>>);

impl Air {
    /// One more node's place in it.
    pub(crate) fn join(&self) -> Lan {
        let (announce, mut announced) = watch::channel(None);
        let (tell, seen) = mpsc::channel(1);
        let own = next_number();
        let Air(air) = self.clone();
        tokio::spawn(async move {
            let mut others = air.subscribe();
            others.mark_changed();
            loop {
                tokio::select! {
                    still_there = announced.changed() => {
                        let said: Option<Announcement> = announced.borrow_and_update().clone();
                        let said = said.filter(|_| still_there.is_ok());
                        air.send_modify(|air| match said {
                            Some(said) => drop(air.insert(own, said)),
                            None => drop(air.remove(&own)),
                        });
                        if still_there.is_err() {
                            return;
                        }
                    }
                    _ = others.changed() => {
                        let there = others.borrow_and_update().clone();
                        let readers = announced.borrow().as_ref().map(|said| said.readers.clone());
                        let whose = |beacon| readers.as_ref().and_then(|readers| readers.whose(beacon));
                        let others = there.iter().filter(|(id, _)| **id != own).map(|(_, one)| one);
                        let members = others.filter_map(|one| Some((whose(&one.beacon)?, one)));
                        let all = members.flat_map(|(who, one)| one.addresses.iter().map(move |at| (who, *at)));
                        // A node that ends hears nothing any more; that it is gone shows above.
                        let _ = tell.send(all.collect()).await;
                    }
                }
            }
        });
        Lan { announce, seen }
    }
}

fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn lan_world() -> World {
    let mut world = World::new();
    world.config.paths.enabled = true;
    world.config.paths.near_loopback = true;
    world.air = Some(Air::default());
    world
}

fn of<'a>(rows: &'a [ClientRow], name: &str) -> &'a ClientRow {
    rows.iter().find(|row| row.name == name).expect("a device of this name")
}

async fn policy(node: &Node) -> PolicyRow {
    match node.ask(Command::Policy).await {
        Ok(Reply::Policy(mut rows)) => rows.remove(0),
        other => panic!("{other:?}"),
    }
}

/// A group of three in which the laptop has served the phone once; then the server and the master are gone, and both are
/// started again.
async fn left_alone(world: &World, continue_s: Option<u64>) -> (Node, Node, PathBuf) {
    let (server, master) = world.begun().await;
    let laptop = world.member(&master, "laptop").await;
    let phone = world.member(&master, "phone").await;
    let shared = world.folder("films");
    write(&shared.join("first.bin"), &noise(6, 1 << 20));
    write(&shared.join("second.bin"), &noise(7, 24 << 20));
    laptop.add(&shared).await;
    phone.until_files("the films", |rows| rows.len() == 2).await;
    if let Some(master_away_continue_s) = continue_s {
        master.ask(Command::SetContinue { master_away_continue_s }).await.expect("it may");
        while policy(&laptop).await.continue_s != master_away_continue_s {
            tokio::task::yield_now().await;
        }
    }
    let job = phone.get("laptop:films/first.bin", &world.folder("got")).await.expect("it begins");
    phone.done(job).await;
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
    let (laptop, phone) = (world.client("laptop", None).await, world.client("phone", None).await);
    (laptop, phone, shared.join("second.bin"))
}

#[tokio::test(flavor = "multi_thread")]
async fn w24_devices_on_one_network_begin_a_transfer_without_server_and_master() {
    let world = lan_world();
    let (laptop, phone, original) = left_alone(&world, Some(8 * 3_600)).await;
    let dest = world.folder("got");
    let job = phone.get("laptop:films/second.bin", &dest).await.expect("it begins");
    let row = phone.done(job).await;
    assert_eq!(row.path, Some(PathRow::Direct));
    same(&original, &dest.join("second.bin"));
    let rows = phone.clients().await;
    let row = of(&rows, "laptop");
    assert_eq!((row.online, row.path), (true, Some(PathRow::Direct)));
    assert_eq!(row.reason.as_deref(), Some("direct; the server can't be reached"));
    assert_eq!(phone.status().await.server, Link::Away);
    for node in [phone, laptop] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w24_an_owner_that_may_not_go_on_without_the_master_says_so() {
    let mut world = lan_world();
    let (laptop, phone, _) = left_alone(&world, None).await;
    laptop.stop().await;
    // What it would be after a reboot.
    world.config.boot = Some([7; 16]);
    let laptop = world.client("laptop", None).await;
    let job = phone.get("laptop:films/second.bin", &world.folder("got")).await.expect("it begins");
    let waits = |row: &JobRow| {
        row.state == TransferState::Waiting && row.reason.as_deref().is_some_and(|why| why.contains("master"))
    };
    let row = phone.until_job(job, "the reason", waits).await;
    assert_eq!((row.done_bytes, row.path), (0, None), "nothing moves by any way");
    laptop
        .until("what the owner's person sees", |node| async move {
            let Ok(Reply::Transfers(rows)) = node.ask(Command::Transfers { job: None }).await else { return None };
            let up = rows.iter().find(|row| row.direction == Direction::Up)?;
            let waits = up.reason.as_deref().is_some_and(|why| why.starts_with("waiting for the master"));
            (up.state == TransferState::Waiting && waits).then_some(())
        })
        .await;
    for node in [phone, laptop] {
        node.stop().await;
    }
}
