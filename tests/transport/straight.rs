//! What two members need to meet without a server: probes on the socket of their connections, and an early end of silence.

use crate::common::*;
use bailiwick::net::chunks::{accept_chunk, open_chunk};
use bailiwick::net::connection::CloseReason;
use bailiwick::net::endpoint::{Config, Endpoint};
use bailiwick::wire::probe::Probe;
use bytes::Bytes;
use futures_util::FutureExt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;

#[tokio::test]
async fn probes_pass_beside_connections_and_come_from_their_port() {
    let (one, two) = (identity(1), identity(2));
    let anywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let here = Endpoint::bind(Config::new(anywhere, &one, [1; 32], 1)).unwrap();
    let there = Endpoint::bind(Config::new(anywhere, &two, [2; 32], 2)).unwrap();
    let at = |endpoint: &Endpoint| SocketAddr::from((Ipv4Addr::LOCALHOST, endpoint.local_addr().unwrap().port()));
    let (dialled, accepted) =
        within(async { tokio::join!(here.dial_straight(at(&there), two.device_key()), there.accept()) }).await;
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    let bytes = Bytes::from(vec![5; 4 << 20]);
    assert!(open_chunk(&dialled).now_or_never().is_none(), "who has just come may open no chunk stream");
    accepted.raise_streams(1);
    let mut sender = within(open_chunk(&dialled)).await.unwrap();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        sender.write(sent).await.unwrap();
        sender.finish();
    });
    let mut receiver = within(accept_chunk(&accepted)).await.unwrap();
    let (mut here_probes, mut there_probes) = (here.probes(), there.probes());
    for number in 0..100 {
        let [ping, pong] = [Probe::Ping { token: [7; 8], number }, Probe::Pong { token: [7; 8], number }];
        // One may be lost, as anywhere.
        let found = within(async {
            loop {
                here.send_probe(at(&there), &ping);
                tokio::select! {
                    found = there_probes.recv() => return found.unwrap(),
                    () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
                }
            }
        });
        let (from, probe) = found.await;
        assert_eq!(from, at(&here), "the port is that of the connections");
        assert!(matches!(probe, Probe::Ping { token, .. } if token == [7; 8]));
        there.send_probe(from, &pong);
    }
    let mut received = vec![0; 4 << 20];
    within(receiver.read_exact_into(&mut received)).await.unwrap();
    assert!(received == bytes);
    within(sending).await.unwrap();
    assert!(matches!(within(here_probes.recv()).await, Ok((from, Probe::Pong { .. })) if from == at(&there)));
}

/// Passes datagrams on between one dialler and one address, until it is dropped.
async fn forwarder(to: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let (outer, inner) = (UdpSocket::bind(ANY_PORT).await.unwrap(), UdpSocket::bind(ANY_PORT).await.unwrap());
    let address = outer.local_addr().unwrap();
    let (outer, inner) = (Arc::new(outer), Arc::new(inner));
    let task = tokio::spawn(async move {
        let (mut there, mut back) = ([0; 65_536], [0; 65_536]);
        let mut dialler = None;
        loop {
            tokio::select! {
                Ok((bytes, from)) = outer.recv_from(&mut there) => {
                    dialler = Some(from);
                    let _ = inner.send_to(&there[..bytes], to).await;
                }
                Ok((bytes, _)) = inner.recv_from(&mut back) => {
                    if let Some(dialler) = dialler {
                        let _ = outer.send_to(&back[..bytes], dialler).await;
                    }
                }
            }
        }
    });
    (address, task)
}

#[tokio::test]
async fn silence_ends_a_straight_connection_at_both_ends_and_no_other_one_so_soon() {
    let two = identity(2);
    let here = bind(1);
    let there = Endpoint::bind(Config { accepts_members: true, ..config(&two) }).unwrap();
    let server = bind(3);
    let (to_there, straight_way) = forwarder(there.local_addr().unwrap()).await;
    let (to_server, server_way) = forwarder(server.local_addr().unwrap()).await;
    let (straight, accepted) =
        within(async { tokio::join!(here.dial_straight(to_there, two.device_key()), there.accept()) }).await;
    let (straight, accepted) = (straight.unwrap(), accepted.unwrap());
    let relayed = within(here.dial(to_server, identity(3).device_key())).await.unwrap();
    // Quiet is not silent.
    tokio::select! {
        reason = straight.closed() => panic!("{reason}"),
        () = tokio::time::sleep(std::time::Duration::from_secs(4)) => {}
    }
    straight_way.abort();
    server_way.abort();
    let both = async { tokio::join!(straight.closed(), accepted.closed()) };
    tokio::select! {
        (one, other) = within(both) => assert_eq!((one, other), (CloseReason::TimedOut, CloseReason::TimedOut)),
        reason = relayed.closed() => panic!("the way through the server ends later: {reason}"),
    }
}
