//! Who is let through a handshake: the key decides, and nothing else.

use crate::common::*;
use bailiwick::net::connection::Connection;
use bailiwick::net::dial::DialError;
use bailiwick::net::endpoint::Endpoint;
use bailiwick::net::tls::ALPN;
use quinn::{ConnectionError, TransportErrorCode};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Dials a bare server that presents these two, expecting the right key.
async fn dial_presented(certificate: &str, key: &str) -> Result<Connection, DialError> {
    let server = BareServer::new(presented(certificate, key), ALPN);
    within(bind(1).dial(server.address(), right_key())).await
}

/// Dials an endpoint of ours as a bare client that expects to be refused after its handshake, and makes sure that the
/// endpoint never hands it out: the next one accepted is somebody else.
async fn refusal_of(client: BareClient) -> ConnectionError {
    let server = bind(2);
    let error = match client.dial(&server).await {
        Ok(connection) => within(connection.closed()).await,
        Err(error) => error,
    };
    let good = bind(1);
    let dialled = within(good.dial(server.local_addr().unwrap(), identity(2).device_key())).await.unwrap();
    assert_eq!(within(server.accept()).await.unwrap().peer(), identity(1).device_key());
    drop(dialled);
    error
}

fn is_crypto_error(error: &ConnectionError) -> bool {
    let ConnectionError::ConnectionClosed(close) = error else { return false };
    (0x100..0x200).contains(&u64::from(close.error_code))
}

#[tokio::test]
async fn names_and_dates_of_a_certificate_do_not_count() {
    for certificate in ["right-key-expired.cert.der", "right-key-wrong-name.cert.der"] {
        let connection = dial_presented(certificate, "right.key.der").await.unwrap();
        assert_eq!(connection.peer(), right_key());

        let server = bind(2);
        let client = BareClient::new(Some(presented(certificate, "right.key.der")), ALPN);
        let _dialled = client.dial(&server).await.unwrap();
        assert_eq!(within(server.accept()).await.unwrap().peer(), right_key());
    }
}

#[tokio::test]
async fn another_key_is_refused_in_words() {
    let error = dial_presented("other-key.cert.der", "other.key.der").await.unwrap_err();
    assert!(matches!(error, DialError::WrongKey(_)), "{error:?}");
    assert!(error.to_string().ends_with("is not the one the invite names"), "{error}");
}

#[tokio::test]
async fn a_p256_key_is_refused_by_both_sides() {
    dial_presented("p256.cert.der", "p256.key.der").await.unwrap_err();
    let client = BareClient::new(Some(presented("p256.cert.der", "p256.key.der")), ALPN);
    let error = refusal_of(client).await;
    assert!(is_crypto_error(&error), "{error:?}");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_by_both_sides() {
    let error = dial_presented("right-key-expired.cert.der", "other.key.der").await.unwrap_err();
    assert!(matches!(error, DialError::Failed(..)), "{error:?}");
    let client = BareClient::new(Some(presented("right-key-expired.cert.der", "other.key.der")), ALPN);
    let error = refusal_of(client).await;
    assert!(is_crypto_error(&error), "{error:?}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let error = refusal_of(BareClient::new(None, ALPN)).await;
    assert!(is_crypto_error(&error), "{error:?}");
}

/// Lets everything arrive that the server sends after a handshake, tickets included: they come before its streams.
async fn settle(server: &Endpoint, dialled: &quinn::Connection) {
    let accepted = within(server.accept()).await.unwrap();
    let chunk = within(bailiwick::net::chunks::open_chunk(&accepted)).await.unwrap();
    chunk.finish();
    within(async { dialled.accept_uni().await.unwrap().read_to_end(0).await.unwrap() }).await;
}

#[tokio::test]
async fn no_session_is_resumed_by_our_server() {
    let server = bind(2);
    let client = BareClient::new(Some(presented("right-key-expired.cert.der", "right.key.der")), ALPN);
    for handshakes in 1..=2 {
        let dialled = client.dial(&server).await.unwrap();
        settle(&server, &dialled).await;
        assert_eq!(client.verifier.shown(), handshakes);
    }
}

#[tokio::test]
async fn no_session_is_resumed_by_our_dialler() {
    let server = BareServer::new(presented("right-key-expired.cert.der", "right.key.der"), ALPN);
    let dialler = bind(1);
    for handshakes in 1..=2 {
        let connection = within(dialler.dial(server.address(), right_key())).await.unwrap();
        // Streams are acknowledged only by who has finished the handshake.
        let chunk = within(bailiwick::net::chunks::open_chunk(&connection)).await.unwrap();
        let acknowledged = chunk.stopped();
        chunk.finish();
        within(acknowledged).await.unwrap();
        assert_eq!(server.verifier.shown(), handshakes);
    }
}

#[tokio::test]
async fn a_dialler_learns_that_there_is_no_common_version() {
    let server = BareServer::new(presented("right-key-expired.cert.der", "right.key.der"), b"bailiwick/2");
    let error = within(bind(1).dial(server.address(), right_key())).await.unwrap_err();
    assert!(matches!(error, DialError::NoCommonVersion(_)), "{error:?}");
    assert!(error.to_string().contains("no protocol version in common; update the older of the two"), "{error}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_versions_of_a_refused_dialler_are_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // The endpoint's tasks run on this thread, as the runtime has no other.
    let _guard = tracing::subscriber::set_default(subscriber);
    let client = BareClient::new(Some(presented("right-key-expired.cert.der", "right.key.der")), b"bailiwick/2");
    let error = client.dial(&bind(2)).await.unwrap_err();
    let ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
    assert_eq!(close.error_code, TransportErrorCode::crypto(120));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("offered=[\"bailiwick/2\"]"), "{text}");
}
