//! Dialling, accepting, closing, and coming back after a crash.

use crate::common::*;
use bailiwick::net::chunks::open_chunk;
use bailiwick::net::connection::CloseReason;
use bailiwick::net::dial::DialError;
use bailiwick::net::endpoint::{BindError, Config, Endpoint};
use bailiwick::wire::close::CloseCode;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// A socket that swallows everything.
async fn hole() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(ANY_PORT).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let pair = pair().await;
    assert_eq!(pair.dialled.peer(), identity(2).device_key());
    assert_eq!(pair.accepted.peer(), identity(1).device_key());
    assert!(pair.dialled.sent_bytes() > 0 && pair.accepted.received_bytes() > 0);
    assert!(pair.dialled.rtt() > Duration::ZERO);
    assert_ne!(pair.dialled.stable_id(), pair.accepted.stable_id());
}

#[tokio::test]
async fn ipv4_is_ipv4_on_a_dual_stack_socket() {
    let (one, two) = (identity(1), identity(2));
    let anywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let dialler = Endpoint::bind(Config::new(anywhere, &one, [1; 32], 1)).unwrap();
    let acceptor = Endpoint::bind(Config::new(anywhere, &two, [2; 32], 2)).unwrap();
    let port = acceptor.local_addr().unwrap().port();
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for ip in [localhost, Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()] {
        let dialled = within(dialler.dial(SocketAddr::new(ip, port), two.device_key())).await.unwrap();
        let accepted = within(acceptor.accept()).await.unwrap();
        assert_eq!(dialled.remote(), SocketAddr::new(localhost, port));
        assert_eq!(accepted.remote().ip(), localhost);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let (_socket, address) = hole().await;
    let error = Endpoint::bind(Config::new(address, &identity(1), [0; 32], 0)).unwrap_err();
    assert!(matches!(error, BindError::Socket { .. }));
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
}

#[tokio::test]
async fn dialling_many_addresses_finds_the_one_that_works() {
    let (_socket, silent) = hole().await;
    let (dialler, right, wrong) = (bind(1), bind(2), bind(3));
    let addresses = [silent, wrong.local_addr().unwrap(), right.local_addr().unwrap()];
    let dialled = within(dialler.dial_any(&addresses, identity(2).device_key())).await.unwrap();
    assert_eq!(dialled.remote(), right.local_addr().unwrap());
    assert_eq!(within(right.accept()).await.unwrap().peer(), identity(1).device_key());
}

#[tokio::test]
async fn dialling_many_addresses_in_vain_says_why_for_each() {
    let one = identity(1);
    let mut config = config(&one);
    config.dial_timeout = Duration::from_millis(300);
    let dialler = Endpoint::bind(config).unwrap();
    let (_socket, silent) = hole().await;
    let wrong = bind(3);
    let wrong_address = wrong.local_addr().unwrap();
    let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 9);
    let error = within(dialler.dial_any(&[silent, wrong_address, v6, silent], identity(2).device_key())).await;
    let mut attempts = error.unwrap_err().0;
    attempts.sort_by_key(|attempt| attempt.to_string());
    let mut expected =
        vec![DialError::TimedOut(silent), DialError::WrongKey(wrong_address), DialError::Unreachable(v6)];
    expected.sort_by_key(|attempt| attempt.to_string());
    assert_eq!(attempts, expected);
    let nowhere = within(dialler.dial_any(&[], identity(2).device_key())).await.unwrap_err();
    assert_eq!(nowhere.to_string(), "there is no address to dial");
}

#[tokio::test]
async fn under_load_addresses_are_proved_first() {
    let pair = pair_with(|config| config.handshakes_before_retry = 0).await;
    assert_eq!(pair.accepted.peer(), identity(1).device_key());
}

#[tokio::test]
async fn without_a_place_a_dialler_is_refused_in_words() {
    let two = identity(2);
    let mut config = config(&two);
    config.handshakes_max = 1;
    let acceptor = Endpoint::bind(config).unwrap();
    let address = acceptor.local_addr().unwrap();
    let (first, second) = (bind(1), bind(3));
    let _held = within(first.dial(address, two.device_key())).await.unwrap();
    // The first keeps its place until somebody accepts it.
    let refused = within(second.dial(address, two.device_key())).await.unwrap_err();
    assert_eq!(refused, DialError::Refused(address));
    assert_eq!(within(acceptor.accept()).await.unwrap().peer(), identity(1).device_key());
    within(second.dial(address, two.device_key())).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_stands_still_delays_nobody() {
    let (dialler, acceptor) = (bind(1), bind(2));
    let address = acceptor.local_addr().unwrap();
    // The first packet of a dial, taken from a dial that nobody answers and sent on; no second one follows.
    let (socket, silent) = hole().await;
    let mut first_packet = [0; 1500];
    let dial = dialler.dial(silent, identity(2).device_key());
    let length = tokio::select! {
        received = socket.recv(&mut first_packet) => received.unwrap(),
        _ = dial => unreachable!("nobody answers"),
    };
    socket.send_to(&first_packet[..length], address).await.unwrap();
    // The acceptor has begun that handshake when it answers.
    within(socket.recv_from(&mut first_packet)).await.unwrap();
    let _dialled = within(dialler.dial(address, identity(2).device_key())).await.unwrap();
    assert_eq!(within(acceptor.accept()).await.unwrap().peer(), identity(1).device_key());
}

#[tokio::test]
async fn closing_tells_every_peer_and_ends_accepting() {
    let (dialler, acceptor) = (bind(1), bind(2));
    let address = acceptor.local_addr().unwrap();
    let dialled = within(dialler.dial(address, identity(2).device_key())).await.unwrap();
    let accepted = within(acceptor.accept()).await.unwrap();
    acceptor.close(CloseCode::ShuttingDown);
    assert_eq!(within(dialled.closed()).await, CloseReason::Peer(CloseCode::ShuttingDown));
    assert_eq!(within(accepted.closed()).await, CloseReason::LocallyClosed);
    assert!(within(acceptor.accept()).await.is_none());
    assert!(acceptor.wait_idle(Duration::from_secs(60)).await);
    let error = within(acceptor.dial(address, identity(2).device_key())).await.unwrap_err();
    assert_eq!(error, DialError::EndpointClosed);
}

/// A process that was killed says nothing; its successor, with the same keys and port, answers with a stateless reset.
#[test]
fn the_survivor_learns_of_a_restart_when_it_sends() {
    let reason = (0..20).find_map(|_| end_by_restart()).expect("the port is always taken by somebody else");
    assert_eq!(reason, CloseReason::Reset);
}

/// How a connection ends for the survivor; `None` if a test beside this one took the port before the successor did.
fn end_by_restart() -> Option<CloseReason> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (killed, surviving, restarted) = (runtime(), runtime(), runtime());
    let first = killed.block_on(async { bind(2) });
    let address = first.local_addr().unwrap();
    let survivor = surviving.block_on(async { bind(1) });
    let dialled = surviving.block_on(within(survivor.dial(address, identity(2).device_key()))).unwrap();
    let accepted = killed.block_on(within(first.accept())).unwrap();

    // Its tasks go first, so nothing is left that could send a close.
    killed.shutdown_timeout(Duration::from_secs(60));
    drop((first, accepted));

    let two = identity(2);
    let _second = match restarted.block_on(async { Endpoint::bind(Config { listen: address, ..config(&two) }) }) {
        Err(BindError::Socket { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => return None,
        other => other.unwrap(),
    };
    Some(surviving.block_on(within(async {
        // Fails if it has learned already, by the answer to a probe of its own.
        if let Ok(mut chunk) = open_chunk(&dialled).await {
            let _ = chunk.write(b"are you there?".as_slice().into()).await;
        }
        dialled.closed().await
    })))
}
