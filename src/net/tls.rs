//! TLS 1.3 with one kind of key. A certificate is an envelope for an Ed25519 key and nothing else in it counts: no
//! name, no date, no issuer. That its sender holds the key is proved by the handshake's signature, every time anew:
//! no session is ever resumed.

use crate::wire::ids::DeviceKey;
use crate::wire::sign::Identity;
use aws_lc_rs::signature::Ed25519KeyPair;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme, version,
};
use std::sync::{Arc, OnceLock};

/// The protocol's major version, as TLS negotiates it (RFC 7301).
pub const ALPN: &[u8] = b"bailiwick/1";

/// The name in every certificate and dial. TLS wants one; nobody looks at it, and it is never sent in clear.
pub const NAME: &str = "bailiwick";

/// TLS cannot be set up with this device's key.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

/// This device's side of every handshake: its key, and a certificate made of it at start.
#[derive(Debug, Clone)]
pub struct Credentials {
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
}

impl Credentials {
    /// Makes the certificate of `identity`'s signing key.
    pub fn new(identity: &Identity) -> Result<Credentials, TlsError> {
        let pkcs8 = Ed25519KeyPair::from_seed_unchecked(&identity.sign_seed().0)
            .map_err(|error| TlsError(error.to_string()))?
            .to_pkcs8v1()
            .map_err(|error| TlsError(error.to_string()))?;
        let der = PrivatePkcs8KeyDer::from(pkcs8.as_ref());
        let certificate = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)
            .and_then(|key| rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key))
            .map_err(|error| TlsError(error.to_string()))?;
        let provider = Arc::new(provider());
        let chain = vec![certificate.der().clone()];
        let certified = CertifiedKey::from_der(chain, der.clone_key().into(), &provider)
            .map_err(|error| TlsError(error.to_string()))?;
        Ok(Credentials { provider, certified: Arc::new(certified) })
    }

    /// The configuration to accept with: any usable Ed25519 key, which [`peer_key`] tells afterwards.
    pub(super) fn server(&self) -> Result<QuicServerConfig, TlsError> {
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| TlsError(error.to_string()))?
            .with_client_cert_verifier(Arc::new(AnyDevice))
            .with_cert_resolver(Arc::new(Presented(self.certified.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        QuicServerConfig::try_from(config).map_err(|error| TlsError(error.to_string()))
    }

    /// The configuration to dial with: nobody but the device that `pin` names.
    pub(super) fn client(&self, pin: Arc<Pin>) -> Result<QuicClientConfig, TlsError> {
        let own: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(self.certified.clone()));
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| TlsError(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(pin)
            .with_client_cert_resolver(own);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        QuicClientConfig::try_from(config).map_err(|error| TlsError(error.to_string()))
    }
}

/// The key of a certificate, if it is a usable one of Ed25519 (RFC 8410).
pub fn key_of(certificate: &CertificateDer<'_>) -> Result<DeviceKey, Error> {
    const ED25519_SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let key = spki.strip_prefix(&ED25519_SPKI_PREFIX).and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.and_then(|key| DeviceKey::parse(key).ok()).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// The key that the peer of a finished handshake has proved.
pub(super) fn peer_key(connection: &quinn::Connection) -> Option<DeviceKey> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    key_of(chain.first()?).ok()
}

/// aws-lc-rs, with Ed25519 as its only signature. The cipher suite that QUIC's initial keys need is among its defaults.
fn provider() -> CryptoProvider {
    CryptoProvider { signature_verification_algorithms: ED25519_ONLY, ..rustls::crypto::aws_lc_rs::default_provider() }
}

static ED25519_ONLY: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::aws_lc_rs::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::aws_lc_rs::ED25519])],
};

/// The dialler's check: the one key that it expects. Remembers whether another one answered, for the error's words.
#[derive(Debug)]
pub(super) struct Pin {
    expect: DeviceKey,
    other: OnceLock<()>,
}

impl Pin {
    pub(super) fn new(expect: DeviceKey) -> Pin {
        Pin { expect, other: OnceLock::new() }
    }

    pub(super) fn other_key_answered(&self) -> bool {
        self.other.get().is_some()
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if key_of(end_entity).is_ok_and(|key| key == self.expect) {
            return Ok(ServerCertVerified::assertion());
        }
        self.other.get_or_init(|| ());
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &ED25519_ONLY)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ED25519_ONLY.supported_schemes()
    }
}

/// The acceptor's check: whoever proves a usable Ed25519 key. Whether it is admitted is decided by what it says next.
#[derive(Debug)]
struct AnyDevice;

impl ClientCertVerifier for AnyDevice {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_of(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &ED25519_ONLY)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ED25519_ONLY.supported_schemes()
    }
}

/// Presents our certificate, and logs a dialler that speaks no version of ours: TLS tells neither end what the other
/// offered.
#[derive(Debug)]
struct Presented(Arc<CertifiedKey>);

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered: Vec<&[u8]> = hello.alpn().map(|offered| offered.take(OFFERS_LOGGED).collect()).unwrap_or_default();
        if !offered.contains(&ALPN) {
            let offered: Vec<String> = offered.iter().map(|offer| offer.escape_ascii().to_string()).collect();
            tracing::info!(?offered, ours = %ALPN.escape_ascii(), "refused a dialler without a protocol version of ours");
        }
        Some(self.0.clone())
    }
}

/// Versions of a dialler's list that are looked at; a list longer than this is nobody's who means us.
const OFFERS_LOGGED: usize = 8;
