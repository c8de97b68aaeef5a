//! Endpoints of ours, and peers made of bare quinn and rustls that do what ours never would.

use bailiwick::net::connection::Connection;
use bailiwick::net::endpoint::{Config, Endpoint};
use bailiwick::wire::ids::DeviceKey;
use bailiwick::wire::sign::Identity;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Guards against hanging; says nothing about how long things take.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("the test hangs")
}

pub(crate) fn identity(number: u8) -> Identity {
    Identity::from_seeds([number; 32], [number; 32])
}

/// One that takes chunks of anybody at once.
pub(crate) fn config(identity: &Identity) -> Config<'_> {
    Config { first_uni_streams: 4, ..Config::new(ANY_PORT, identity, [3; 32], 3) }
}

pub(crate) fn bind(number: u8) -> Endpoint {
    Endpoint::bind(config(&identity(number))).unwrap()
}

/// Two endpoints of ours and the connection between them, as its dialler and its acceptor see it.
pub(crate) struct Pair {
    pub(crate) dialled: Connection,
    pub(crate) accepted: Connection,
    _endpoints: [Endpoint; 2],
}

pub(crate) async fn pair() -> Pair {
    pair_with(|_| ()).await
}

/// The same, with the acceptor's configuration changed.
pub(crate) async fn pair_with(change: impl FnOnce(&mut Config<'_>)) -> Pair {
    let acceptor = identity(2);
    let mut config = config(&acceptor);
    change(&mut config);
    let acceptor_end = Endpoint::bind(config).unwrap();
    let dialler_end = bind(1);
    let address = acceptor_end.local_addr().unwrap();
    let (dialled, accepted) =
        within(async { tokio::join!(dialler_end.dial(address, acceptor.device_key()), acceptor_end.accept()) }).await;
    Pair { dialled: dialled.unwrap(), accepted: accepted.unwrap(), _endpoints: [dialler_end, acceptor_end] }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("certs").join(name)).unwrap()
}

/// The identity of an Ed25519 fixture: its PKCS#8 form ends with the seed (RFC 8410).
pub(crate) fn fixture_identity(key: &str) -> Identity {
    let der = fixture(key);
    Identity::from_seeds(der[der.len() - 32..].try_into().unwrap(), [0; 32])
}

pub(crate) fn right_key() -> DeviceKey {
    fixture_identity("right.key.der").device_key()
}

pub(crate) fn aws_lc() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A certificate and a private key, which need not belong together.
pub(crate) fn presented(certificate: &str, key: &str) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::try_from(fixture(key)).unwrap();
    let key = aws_lc().key_provider.load_private_key(key).unwrap();
    let certified = CertifiedKey::new(vec![CertificateDer::from(fixture(certificate))], key);
    Arc::new(SingleCertAndKey::from(certified))
}

/// Accepts every certificate, and counts how many it was shown.
#[derive(Debug, Default)]
pub(crate) struct Credulous(AtomicUsize);

impl Credulous {
    pub(crate) fn shown(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A bare client; without `own` it has no certificate.
pub(crate) struct BareClient {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
    pub(crate) verifier: Arc<Credulous>,
}

impl BareClient {
    pub(crate) fn new(own: Option<Arc<SingleCertAndKey>>, alpn: &[u8]) -> BareClient {
        let verifier = Arc::new(Credulous::default());
        let builder = rustls::ClientConfig::builder_with_provider(aws_lc())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut tls = match own {
            Some(own) => builder.with_client_cert_resolver(own),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        BareClient { endpoint: quinn::Endpoint::client(ANY_PORT).unwrap(), config, verifier }
    }

    pub(crate) async fn dial(&self, server: &Endpoint) -> Result<quinn::Connection, quinn::ConnectionError> {
        let address = server.local_addr().unwrap();
        within(self.endpoint.connect_with(self.config.clone(), address, "bailiwick").unwrap()).await
    }
}

/// A bare server that takes any client, and resumes sessions if one likes to.
pub(crate) struct BareServer {
    endpoint: quinn::Endpoint,
    pub(crate) verifier: Arc<Credulous>,
}

impl BareServer {
    pub(crate) fn new(own: Arc<SingleCertAndKey>, alpn: &[u8]) -> BareServer {
        let verifier = Arc::new(Credulous::default());
        let mut tls = rustls::ServerConfig::builder_with_provider(aws_lc())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(own);
        tls.alpn_protocols = vec![alpn.to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::server(config, ANY_PORT).unwrap();
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Some(incoming) = accepting.accept().await {
                held.push(incoming.await);
            }
        });
        BareServer { endpoint, verifier }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }
}
