//! What benches have of QUIC without the product, and copies of a bench's program in another role.

use crate::group::ANY_PORT;
use aws_lc_rs::signature::Ed25519KeyPair;
use bailiwick::net::limits::*;
use bailiwick::net::tls::{ALPN, NAME};
use bailiwick::wire::sign::Identity;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{MtuDiscoveryConfig, ServerConfig, TransportConfig};
use rustls::pki_types::PrivatePkcs8KeyDer;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// The variable that says what a copy of a bench's program is.
pub(crate) const ROLE: &str = "BAILIWICK_BENCH_ROLE";

/// One thread a device, as the product has.
pub(crate) fn one_thread() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().expect("a runtime")
}

/// A copy of this program in a role.
pub(crate) struct Process {
    child: Child,
    /// Its first line, which says that it serves.
    pub(crate) ready: String,
    /// Kept open, for it may say more.
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Process {
    pub(crate) fn start(role: &str, arguments: &[&Path]) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(arguments)
            .env(ROLE, role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("a line");
        Process { child, ready, _stdout: stdout }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The product's transport, without its checks of who dials; a peer may open so many streams.
pub(crate) fn quinn_server(identity: &Identity, uni_streams: u32) -> ServerConfig {
    let pair = Ed25519KeyPair::from_seed_unchecked(&identity.sign_seed().0).expect("a key");
    let pkcs8 = pair.to_pkcs8v1().expect("its encoding");
    let der = PrivatePkcs8KeyDer::from(pkcs8.as_ref());
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).expect("a key");
    let parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], der.clone_key().into())
        .expect("a certificate and its key");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(uni_streams.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None);
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("a suite for QUIC")));
    server.transport_config(Arc::new(transport));
    server
}

/// With the product's buffers.
pub(crate) fn socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.bind(&ANY_PORT.into()).expect("a port");
    let granted = |bytes: std::io::Result<usize>| bytes.is_ok_and(|bytes| bytes >= SOCKET_BUFFER_BYTES);
    #[cfg(target_os = "linux")]
    {
        // Refused without CAP_NET_ADMIN; then the system's limit holds.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER_BYTES);
    }
    if !granted(socket.recv_buffer_size()) {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    }
    if !granted(socket.send_buffer_size()) {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    }
    socket.set_nonblocking(true).expect("a socket that does not block");
    socket.into()
}
