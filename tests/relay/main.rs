//! A real server on real sockets, between a master and members that speak the protocol and nothing else.

mod fakes;
mod group;

use bailiwick::net::chunks::open_chunk;
use bailiwick::net::connection::CloseReason;
use bailiwick::node::local::LocalError;
use bailiwick::node::options::ServerPlace;
use bailiwick::node::server::core::CoreConfig;
use bailiwick::node::server::{ServerConfig, ServerHandle, start};
use bailiwick::store::statedir::StateDir;
use bailiwick::wire::close::CloseCode;
use bailiwick::wire::frame::{ChunkRange, ChunkRefusal, Class, Frame, MasterRefusal, Role};
use bailiwick::wire::ids::InviteId;
use bailiwick::wire::invite::{Address, AdmissionSecret, Ticket};
use fakes::send;
use futures_util::FutureExt;
use group::{Fake, MIB, content, key, within};
use std::path::Path;
use std::sync::Arc;

fn try_server(path: &Path) -> Result<ServerHandle, LocalError> {
    let dir = Arc::new(StateDir::open(path).unwrap());
    let place = ServerPlace { listen: Some("127.0.0.1:0".parse().unwrap()), advertise: vec![] };
    start(ServerConfig { dir, place, loopback: false, core: CoreConfig::default() })
}

fn server(path: &Path) -> ServerHandle {
    try_server(path).unwrap()
}

/// A server that was stopped in this process: its socket goes with the last task of its endpoint.
async fn server_again(path: &Path) -> ServerHandle {
    within(async {
        loop {
            match try_server(path) {
                Ok(server) => return server,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_chunk_goes_from_owner_to_askers_and_is_uploaded_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let _master = Fake::master(&server, &[1, 2, 3]).await;
    let mut owner = Fake::member(&server, 1).await;
    let askers = [Fake::member(&server, 2).await, Fake::member(&server, 3).await];
    askers[0].ask(77, 1, 5, 1);
    let upload = owner.hear(|frame| match frame {
        Frame::UploadChunk { request, ranges } => Some((request, ranges)),
        _ => None,
    });
    let (request, ranges) = upload.await;
    assert_eq!(ranges, [ChunkRange::one(content(), 5, MIB)]);
    askers[1].ask(78, 1, 5, 1);
    send(&owner.connection, request, content(), 5, MIB).await;
    let header = askers[0].take().await;
    assert_eq!((header.request, header.index, header.nonce), (77, 5, [9; 12]));
    assert_eq!(askers[1].take().await.request, 78);
    server.stop().await;
}

#[tokio::test]
async fn what_was_not_asked_for_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let _master = Fake::master(&server, &[1, 2]).await;
    let mut owner = Fake::member(&server, 1).await;
    let asker = Fake::member(&server, 2).await;
    assert!(open_chunk(&owner.connection).now_or_never().is_none(), "of whom nothing was asked may open no stream");
    asker.ask(1, 1, 0, 3);
    owner.hear(|frame| matches!(frame, Frame::UploadChunk { .. }).then_some(())).await;
    let mut stream = within(open_chunk(&owner.connection)).await.unwrap();
    let stopped = stream.stopped();
    within(stream.write(vec![1, 0].into())).await.unwrap();
    within(stream.write(vec![0; 56].into())).await.unwrap();
    let code = within(stopped).await;
    assert!(matches!(code, Ok(Some(_))), "{code:?}");
}

#[tokio::test]
async fn an_owner_that_goes_and_one_that_says_no_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let _master = Fake::master(&server, &[1, 2]).await;
    let mut owner = Fake::member(&server, 1).await;
    let mut asker = Fake::member(&server, 2).await;
    let refusal = |frame| match frame {
        Frame::ChunkRefused { request, reason, .. } => Some((request, reason)),
        _ => None,
    };
    let upload = |frame| match frame {
        Frame::UploadChunk { request, ranges } => Some((request, ranges)),
        _ => None,
    };
    asker.ask(1, 1, 0, 3);
    let (request, ranges) = owner.hear(upload).await;
    owner.say(&Frame::ChunkRefused { request, ranges, reason: ChunkRefusal::Paused });
    assert_eq!(asker.hear(refusal).await, (1, ChunkRefusal::Paused));
    asker.ask(2, 1, 0, 3);
    owner.hear(upload).await;
    drop(owner);
    assert_eq!(asker.hear(refusal).await, (2, ChunkRefusal::OwnerAway));
    asker.ask(3, 1, 0, 3);
    assert_eq!(asker.hear(refusal).await, (3, ChunkRefusal::OwnerAway));
    asker.ask(4, 9, 0, 3);
    assert_eq!(asker.hear(refusal).await, (4, ChunkRefusal::OwnerUnknown));
}

/// Resident memory of this process, in bytes: server, owner and askers together.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The next test measures the memory of its process, so it has one of its own.
#[test]
fn memory_stays_bounded_in_a_process_of_its_own() {
    let program = std::env::current_exe().unwrap();
    let name = "a_stalled_asker_holds_up_nobody_and_memory_stays_bounded";
    let output = std::process::Command::new(program).args(["--exact", name, "--ignored"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Two askers fill the cache and read nothing; then another one reads 256 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, alone in its process"]
async fn a_stalled_asker_holds_up_nobody_and_memory_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let _master = Fake::master(&server, &[1, 2, 3, 4]).await;
    tokio::spawn(Fake::member(&server, 1).await.serve());
    let mut stalled = Fake::idle_member(&server, 2).await;
    stalled.ask(1, 1, 1_000, 32);
    let also_stalled = Fake::idle_member(&server, 4).await;
    also_stalled.ask(1, 1, 2_000, 32);
    let reader = Fake::member(&server, 3).await;
    let before = resident();
    let mut grown = 0;
    for first in (0..256).step_by(16) {
        reader.ask(first.into(), 1, first, 16);
        for _ in 0..16 {
            assert_eq!(reader.take().await.request, u64::from(first));
        }
        grown = grown.max(resident().saturating_sub(before));
    }
    assert!(grown < 192 << 20, "grown by {} MiB", grown >> 20);
    let given_up = stalled.hear(|frame| match frame {
        Frame::ChunkRefused { request: 1, reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(given_up.await, ChunkRefusal::Expired, "it made room for who reads");
    // Once it reads, it is served as everybody.
    stalled.ask(2, 1, 3_000, 1);
    stalled.take_of(2).await;
    server.stop().await;
}

#[tokio::test]
async fn routed_frames_and_broadcasts_pass() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut master = Fake::master(&server, &[1, 2]).await;
    let mut one = Fake::member(&server, 1).await;
    let two = Fake::member(&server, 2).await;
    two.say(&Frame::Routed { peer: key(1), number: 4, envelope: vec![1; 300_000] });
    let from = one.hear(|frame| match frame {
        Frame::Routed { peer, number: 4, envelope } if envelope.len() == 300_000 => Some(peer),
        _ => None,
    });
    assert_eq!(from.await, key(2));
    for number in 0..8 {
        one.say(&Frame::Routed { peer: key(0), number, envelope: vec![2; 250_000] });
    }
    for expected in 0..8 {
        let number = master.hear(|frame| match frame {
            Frame::Routed { number, .. } => Some(number),
            _ => None,
        });
        assert_eq!(number.await, expected, "in order, and more than a window of them");
    }
}

#[tokio::test]
async fn a_restarted_server_knows_its_groups_and_keeps_its_port_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let first = server(dir.path());
    let ticket = first.ticket();
    let master = Fake::master(&first, &[1]).await;
    first.stop().await;
    let closed = within(master.connection.closed()).await;
    assert_eq!(closed, CloseReason::Peer(CloseCode::ShuttingDown));
    let second = server_again(dir.path()).await;
    assert!(second.ticket() == ticket);
    assert!(Ticket::parse(&ticket.to_string()).is_ok());
    assert_eq!(second.ticket().server.addresses, [Address::from(second.listen())]);
    let load = second.load().await.unwrap();
    assert_eq!(load.groups, 1);
    Fake::member(&second, 1).await;
}

#[tokio::test]
async fn a_ticket_that_was_rotated_admits_no_new_group() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server(dir.path());
    let old = server.ticket().admission;
    let new = server.rotate_ticket().await.unwrap();
    assert!(new.admission != old && server.ticket() == new);
    let mut master = Fake::dial(&server, 0, Role::Master).await;
    master.say(&Frame::MasterRegister { admission: Some(AdmissionSecret(old.0)) });
    let refusal = master.hear(|frame| match frame {
        Frame::MasterRegisterAck(Err(refusal)) => Some(refusal),
        _ => None,
    });
    assert_eq!(refusal.await, MasterRefusal::Admission);
}

#[tokio::test]
async fn a_stranger_may_say_little() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let _master = Fake::master(&server, &[1]).await;
    let mut stranger = Fake::dial(&server, 9, Role::Client).await;
    assert_eq!(stranger.class().await, Class::Stranger);
    let envelope = vec![0; 100_000];
    stranger.say(&Frame::ClientRegister { from: key(9), invite: InviteId([1; 16]), number: 1, envelope });
    assert_eq!(within(stranger.connection.closed()).await, CloseReason::Peer(CloseCode::Protocol));
    let mut garbage = Fake::dial(&server, 1, Role::Client).await;
    assert_eq!(garbage.class().await, Class::Approved);
    garbage.sender.try_send(vec![0xff; 10]).unwrap();
    assert_eq!(within(garbage.connection.closed()).await, CloseReason::Peer(CloseCode::Protocol));
    let replaced = Fake::member(&server, 1).await;
    let _newer = Fake::member(&server, 1).await;
    assert_eq!(within(replaced.connection.closed()).await, CloseReason::Peer(CloseCode::Replaced));
}
