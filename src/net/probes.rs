//! Probes travel on QUIC's own socket, for it is that socket's ports in NATs that they open. They are sifted out of what
//! comes in before QUIC sees it.

use crate::wire::probe::{PROBE_BYTES, Probe};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Probes that wait to be looked at; while there are more the oldest are dropped, and come again.
const WAITING_MAX: usize = 256;

/// A socket that hands out probes instead of giving them to QUIC.
#[derive(Debug)]
pub(super) struct Sieve {
    socket: Arc<dyn AsyncUdpSocket>,
    probes: Sender<(SocketAddr, Probe)>,
}

impl Sieve {
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>) -> Sieve {
        Sieve { socket, probes: channel(WAITING_MAX).0 }
    }

    /// The probes that come in from now on.
    pub(super) fn probes(&self) -> Receiver<(SocketAddr, Probe)> {
        self.probes.subscribe()
    }

    /// Sends a probe. One that finds no room, or no way, is lost as it might be on its way.
    pub(super) fn send(&self, to: SocketAddr, probe: &Probe) {
        let is_v6 = self.socket.local_addr().is_ok_and(|local| local.is_ipv6());
        let destination = match to.ip() {
            IpAddr::V4(ip) if is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        let contents = &probe.encode();
        let sent =
            self.socket.try_send(&Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None });
        if let Err(error) = sent {
            tracing::trace!(%to, %error, "a probe was not sent");
        }
    }

    /// Takes the probes out of what one call received. The system may hand several datagrams over as one piece: all but
    /// the last have one length.
    fn sift(&self, meta: &mut RecvMeta, bytes: &[u8]) {
        let stride = meta.stride.max(1);
        let tail = match (stride, meta.len % stride) {
            (PROBE_BYTES, _) => meta.len,
            // One datagram, of another length than a probe's: QUIC's.
            (_, last) if last != PROBE_BYTES => return,
            (_, last) => last,
        };
        let Some(rest) = meta.len.checked_sub(tail).filter(|_| tail > 0) else { return };
        let Some(datagrams) = bytes.get(rest..meta.len) else { return };
        for datagram in datagrams.chunks(PROBE_BYTES) {
            if let Some(probe) = Probe::decode(datagram) {
                // Nobody may be listening.
                let _ = self.probes.send((super::connection::canonical(meta.addr), probe));
            }
        }
        meta.len = rest;
    }
}

impl AsyncUdpSocket for Sieve {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (meta, bytes) in meta.iter_mut().zip(bufs.iter()).take(count) {
                self.sift(meta, bytes);
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn::Runtime;

    const FROM: &str = "192.0.2.1:9";

    fn meta(len: usize, stride: usize) -> RecvMeta {
        RecvMeta { addr: FROM.parse().unwrap(), len, stride, ecn: None, dst_ip: None }
    }

    #[tokio::test]
    async fn probes_are_sifted_out_alone_in_a_row_and_behind_packets_of_quic() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sieve = Sieve::new(quinn::TokioRuntime.wrap_udp_socket(socket).unwrap());
        let mut probes = sieve.probes();
        let probe = Probe::Ping { token: [7; 8], number: 3 };
        let mut sifted = |bytes: &[u8], stride: usize| {
            let mut meta = meta(bytes.len(), stride);
            sieve.sift(&mut meta, bytes);
            let found: Vec<_> = std::iter::from_fn(|| probes.try_recv().ok()).collect();
            assert!(found.iter().all(|found| *found == (FROM.parse().unwrap(), probe)));
            (meta.len, found.len())
        };
        let one = probe.encode();
        let quic = [0x40; 1_200];
        assert_eq!(sifted(&one, PROBE_BYTES), (0, 1));
        assert_eq!(sifted(&[one, one, one].concat(), PROBE_BYTES), (0, 3));
        assert_eq!(sifted(&quic, 1_200), (1_200, 0));
        assert_eq!(sifted(&[&quic[..], &quic, &one].concat(), 1_200), (2_400, 1));
        // The last packet of a burst may be of any length.
        assert_eq!(sifted(&[&quic[..], &quic[..2 * PROBE_BYTES]].concat(), 1_200), (1_226, 0));
        assert_eq!(sifted(&[&quic[..], &quic[..39 * PROBE_BYTES]].concat(), 1_200), (1_707, 0));
        // Too short for QUIC, and no probe: it goes nowhere.
        assert_eq!(sifted(&[0x40; PROBE_BYTES], PROBE_BYTES), (0, 0));
        assert_eq!(sifted(&[], 0), (0, 0));
    }
}
