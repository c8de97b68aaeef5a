//! quinn's knobs, set once for every connection.

use super::congestion::Congestion;
use super::endpoint::{BindError, Config};
use super::limits::*;
use super::tls::{Credentials, Pin};
use aws_lc_rs::hmac;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, NoneTokenStore, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use std::sync::Arc;
use std::time::Duration;

/// The endpoint itself. The two keys outlive the process, so that peers of a killed one learn of its restart by a
/// stateless reset (RFC 9000, section 10.3).
pub(super) fn endpoint(config: &Config<'_>) -> Result<EndpointConfig, BindError> {
    // Only SHA-256 fits quinn's signature length.
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &config.reset_key);
    let cid_key = config.cid_key;
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    // quinn's 20 ms hold for all peers together: of 200, the last would learn after 23 s.
    endpoint.min_reset_interval(Duration::ZERO);
    endpoint.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).map_err(|error| BindError::Config(error.to_string()))?;
    Ok(endpoint)
}

/// For who is dialled. The dialler opens the one control stream.
pub(super) fn server(config: &Config<'_>, credentials: &Credentials) -> Result<ServerConfig, BindError> {
    let mut server = ServerConfig::with_crypto(Arc::new(credentials.server()?));
    let silence = if config.accepts_members { Silence::STRAIGHT } else { Silence::of(config) };
    server.transport_config(Arc::new(transport(config, silence, 1)?));
    server.max_incoming(INCOMING_MAX);
    server.incoming_buffer_size(INCOMING_BUFFER_BYTES);
    server.incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
    Ok(server)
}

/// What all dials to a server have in common.
pub(super) fn client(config: &Config<'_>) -> Result<Arc<TransportConfig>, BindError> {
    Ok(Arc::new(transport(config, Silence::of(config), 0)?))
}

/// What all dials straight to another member have in common.
pub(super) fn straight(config: &Config<'_>) -> Result<Arc<TransportConfig>, BindError> {
    Ok(Arc::new(transport(config, Silence::STRAIGHT, 0)?))
}

/// What a connection does about silence.
#[derive(Clone, Copy)]
struct Silence {
    end: Duration,
    keep_alive: Duration,
}

impl Silence {
    const STRAIGHT: Silence = Silence { end: STRAIGHT_IDLE_TIMEOUT, keep_alive: STRAIGHT_KEEP_ALIVE };

    fn of(config: &Config<'_>) -> Silence {
        Silence { end: config.idle_timeout, keep_alive: config.keep_alive }
    }
}

/// One dial: what all have in common, and the key that this one expects.
pub(super) fn client_config(
    transport: Arc<TransportConfig>,
    credentials: &Credentials,
    pin: Arc<Pin>,
) -> Result<quinn::ClientConfig, super::tls::TlsError> {
    let mut client = quinn::ClientConfig::new(Arc::new(credentials.client(pin)?));
    client.transport_config(transport);
    client.token_store(Arc::new(NoneTokenStore));
    Ok(client)
}

fn transport(config: &Config<'_>, silence: Silence, peer_bidi_streams: u32) -> Result<TransportConfig, BindError> {
    let idle = IdleTimeout::try_from(silence.end).map_err(|error| BindError::Config(error.to_string()))?;
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(peer_bidi_streams.into())
        .max_concurrent_uni_streams(config.first_uni_streams.into())
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(silence.keep_alive))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(Congestion::default()))
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(true);
    Ok(transport)
}
