//! W18: what travels, as somebody sees it who sits on the wire.

use crate::world::{World, approve, invite, noise, write};
use bailiwick::node::local::{StandingRow, Way};
use bailiwick::wire::invite::Invite;
use bailiwick::wire::sign::Identity;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;

/// Passes one client's datagrams on to a server and back, and keeps all of them.
struct Tap {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    async fn before(server: SocketAddr) -> Tap {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
        back.connect(server).await.expect("a server");
        let (address, seen) = (front.local_addr().expect("an address"), Arc::new(Mutex::new(Vec::new())));
        let client = Arc::new(Mutex::new(None));
        let (inner, outer, to, all) = (back.clone(), front.clone(), client.clone(), seen.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 65_536];
            while let Ok(length) = inner.recv(&mut buffer).await {
                all.lock().expect("seen").push(buffer[..length].to_vec());
                let to: Option<SocketAddr> = *to.lock().expect("a client");
                if let Some(to) = to {
                    let _ = outer.send_to(&buffer[..length], to).await;
                }
            }
        });
        let all = seen.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 65_536];
            while let Ok((length, from)) = front.recv_from(&mut buffer).await {
                all.lock().expect("seen").push(buffer[..length].to_vec());
                *client.lock().expect("a client") = Some(from);
                let _ = back.send(&buffer[..length]).await;
            }
        });
        Tap { address, seen }
    }

    /// Whether these bytes were in a datagram.
    fn saw(&self, marker: &[u8]) -> bool {
        self.seen.lock().expect("seen").iter().any(|datagram| datagram.windows(marker.len()).any(|part| part == marker))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w18_the_wire_shows_nothing_and_only_the_invites_server_is_spoken_to() {
    let world = World::new();
    let (server, master) = world.begun().await;
    let shared = world.folder("diary-of-a-marker");
    let content = noise(9, 300_000);
    write(&shared.join("marked-page.txt"), &content);
    master.add(&shared).await;

    let mut tapped = Invite::parse(&invite(&master).await).expect("an invite");
    let tap = Tap::before(tapped.server.addresses[0].to_string().parse().expect("a numeric address")).await;
    tapped.server.addresses = vec![tap.address.into()];
    let laptop = world.client("marked-laptop", Some(&tapped.to_string())).await;
    let id = laptop.until_standing(StandingRow::Registered).await.id.expect("an id");
    approve(&master, &id).await;
    laptop.until_files("the page", |rows| rows.len() == 1).await;
    let dest = world.folder("got");
    let relayed = laptop.get_by("desk:diary-of-a-marker", &dest, None, Some(Way::Relay));
    let job = relayed.await.expect("it begins");
    laptop.done(job).await;
    assert!(std::fs::read(dest.join("diary-of-a-marker/marked-page.txt")).expect("it came") == content);
    assert!(tap.seen.lock().expect("seen").iter().map(Vec::len).sum::<usize>() > content.len(), "all went by the tap");
    for marker in [&b"marked-page"[..], b"diary-of", b"marked-laptop", &content[1_000..1_016], &tapped.secret.0] {
        assert!(!tap.saw(marker), "{marker:?} went by in the clear");
    }

    // Another one at the server's address: its key is not the one that the invite names.
    let mut elsewhere = Invite::parse(&invite(&master).await).expect("an invite");
    elsewhere.server.key = Identity::from_seeds([1; 32], [2; 32]).device_key();
    let phone = world.client("phone", Some(&elsewhere.to_string())).await;
    phone
        .until_status("why it goes nowhere", |status| {
            status.waiting.as_deref().is_some_and(|why| why.contains("is not the one the invite names"))
        })
        .await;
    for node in [phone, laptop, master, server] {
        node.stop().await;
    }
}
