//! The control stream: framing, limits, order, and room when chunks fill the link.

use crate::common::*;
use bailiwick::net::chunks::open_chunk;
use bailiwick::net::control::{ControlError, ControlReceiver, ControlSender, SendError, accept_control, open_control};
use bailiwick::net::endpoint::Endpoint;
use bailiwick::net::limits::{CONTROL_FRAME_BYTES_MAX, CONTROL_QUEUE_BYTES_MAX};
use bailiwick::net::tls::ALPN;
use bytes::Bytes;
use futures_util::FutureExt;
use std::sync::mpsc;
use std::time::Duration;

const HANG: Duration = Duration::from_secs(60);

/// Both ends of one control stream, the dialler's first; each other's `hello` is read.
async fn both(pair: &Pair) -> ((ControlSender, ControlReceiver), (ControlSender, ControlReceiver)) {
    let mut dialler = open_control(&pair.dialled, CONTROL_QUEUE_BYTES_MAX).await.unwrap();
    dialler.0.try_send("hello").unwrap();
    let mut acceptor = accept_control(&pair.accepted, CONTROL_QUEUE_BYTES_MAX, HANG).await.unwrap();
    assert_eq!(next(&mut acceptor.1).await, "hello");
    acceptor.0.try_send("hello").unwrap();
    assert_eq!(next(&mut dialler.1).await, "hello");
    (dialler, acceptor)
}

async fn next(receiver: &mut ControlReceiver) -> Bytes {
    within(receiver.recv()).await.unwrap().unwrap()
}

/// A control stream of ours whose dialler writes what it likes.
async fn misused() -> (Endpoint, quinn::SendStream, ControlReceiver, quinn::Connection) {
    let server = bind(2);
    let client = BareClient::new(Some(presented("right-key-expired.cert.der", "right.key.der")), ALPN);
    let dialled = client.dial(&server).await.unwrap();
    let (mut send, _) = dialled.open_bi().await.unwrap();
    send.write_all(&[0; 4]).await.unwrap();
    let accepted = within(server.accept()).await.unwrap();
    let (_, mut receiver) = accept_control(&accepted, CONTROL_QUEUE_BYTES_MAX, HANG).await.unwrap();
    assert_eq!(next(&mut receiver).await, "");
    (server, send, receiver, dialled)
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order() {
    let pair = pair().await;
    let (mut dialler, mut acceptor) = both(&pair).await;
    let frames: Vec<Bytes> =
        [0, 1, 5, CONTROL_FRAME_BYTES_MAX, 2, 70_000].iter().map(|len| vec![*len as u8; *len].into()).collect();
    for frame in &frames {
        dialler.0.try_send(frame.clone()).unwrap();
        acceptor.0.clone().try_send(frame.clone()).unwrap();
    }
    for frame in &frames {
        assert_eq!(next(&mut acceptor.1).await, frame);
        assert_eq!(next(&mut dialler.1).await, frame);
    }
    drop(dialler.0);
    assert_eq!(within(acceptor.1.recv()).await, Ok(None));
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_at_both_ends() {
    let pair = pair().await;
    let (dialler, mut acceptor) = both(&pair).await;
    assert_eq!(dialler.0.try_send(vec![0; CONTROL_FRAME_BYTES_MAX + 1]), Err(SendError::TooLong));
    acceptor.1.set_limit(64);
    dialler.0.try_send(vec![0; 64]).unwrap();
    dialler.0.try_send(vec![0; 65]).unwrap();
    assert_eq!(next(&mut acceptor.1).await.len(), 64);
    assert_eq!(within(acceptor.1.recv()).await, Err(ControlError::TooLong { bytes: 65, limit: 64 }));
}

#[tokio::test]
async fn a_length_is_refused_before_its_bytes_come() {
    let (_server, mut send, mut receiver, _dialled) = misused().await;
    send.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let expected = ControlError::TooLong { bytes: u32::MAX as usize, limit: CONTROL_FRAME_BYTES_MAX };
    assert_eq!(within(receiver.recv()).await, Err(expected));
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_an_error() {
    let (_server, mut send, mut receiver, _dialled) = misused().await;
    send.write_all(b"\x03\0\0\0ab").await.unwrap();
    send.finish().unwrap();
    assert_eq!(within(receiver.recv()).await, Err(ControlError::Truncated));
}

#[tokio::test]
async fn dropping_a_receive_loses_nothing() {
    let (_server, mut send, mut receiver, _dialled) = misused().await;
    for piece in [b"\x03\0".as_slice(), b"\0\0a", b"bc\x01\0\0\0"] {
        send.write_all(piece).await.unwrap();
        for _ in 0..100 {
            if let Some(frame) = receiver.recv().now_or_never() {
                assert_eq!(frame.unwrap().unwrap(), "abc");
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    send.write_all(b"d").await.unwrap();
    let mut last = next(&mut receiver).await;
    if last == "abc" {
        last = next(&mut receiver).await;
    }
    assert_eq!(last, "d");
}

#[tokio::test]
async fn a_queue_that_overflows_says_too_slow_and_never_waits() {
    let pair = pair().await;
    let (sender, _receiver) = open_control(&pair.dialled, 1000).await.unwrap();
    // The writer does not run in between: this test's runtime has one thread.
    for _ in 0..10 {
        sender.try_send(vec![0; 96]).unwrap();
    }
    assert_eq!(sender.try_send(vec![]), Err(SendError::TooSlow));
    let (_, mut accepted) = accept_control(&pair.accepted, 1000, HANG).await.unwrap();
    for _ in 0..10 {
        assert_eq!(next(&mut accepted).await.len(), 96);
    }
    assert_eq!(sender.try_send(vec![0; 96]), Ok(()));
}

#[tokio::test]
async fn a_peer_that_opens_no_control_stream_is_silent() {
    let pair = pair().await;
    let outcome = accept_control(&pair.accepted, 1000, Duration::from_millis(1)).await;
    assert!(matches!(outcome, Err(ControlError::Silent)));
}

#[tokio::test]
async fn a_peer_that_lets_us_open_no_control_stream_is_silent() {
    let pair = pair().await;
    // The one that it allows is taken.
    let _control = open_control(&pair.dialled, 1000).await.unwrap();
    let outcome = within(open_control(&pair.dialled, 1000)).await;
    assert!(matches!(outcome, Err(ControlError::Silent)));
}

/// The acceptor freezes (its runtime is not driven), so nothing is acknowledged and chunks fill the send window: QUIC
/// must still take control frames.
#[test]
fn chunks_that_fill_the_link_leave_room_for_control() {
    let (tell_address, address) = mpsc::channel();
    let (thaw, thawed) = mpsc::channel::<()>();
    let (tell_frozen, frozen) = mpsc::channel();
    let acceptor = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let held = runtime.block_on(async {
            let endpoint = bind(2);
            tell_address.send(endpoint.local_addr().unwrap()).unwrap();
            let connection = within(endpoint.accept()).await.unwrap();
            let mut control = accept_control(&connection, 1000, HANG).await.unwrap();
            assert_eq!(next(&mut control.1).await, "hello");
            (endpoint, connection, control)
        });
        tell_frozen.send(()).unwrap();
        thawed.recv().unwrap();
        drop(held);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(within(async {
        let endpoint = bind(1);
        let connection = endpoint.dial(address.recv().unwrap(), identity(2).device_key()).await.unwrap();
        let (control, _receiver) = open_control(&connection, 100).await.unwrap();
        control.try_send("hello").unwrap();
        while let Err(mpsc::TryRecvError::Empty) = frozen.try_recv() {
            tokio::task::yield_now().await;
        }
        let mut chunks = Vec::new();
        for _ in 0..4 {
            let mut chunk = open_chunk(&connection).await.unwrap();
            while chunk.write(vec![0; 1 << 16].into()).now_or_never().is_some() {}
            chunks.push(chunk);
        }
        control.try_send(vec![0; 90]).unwrap();
        // The next fits only when QUIC has taken the one before.
        while let Err(error) = control.try_send(vec![0; 90]) {
            assert_eq!(error, SendError::TooSlow);
            tokio::task::yield_now().await;
        }
    }));
    thaw.send(()).unwrap();
    acceptor.join().unwrap();
}
