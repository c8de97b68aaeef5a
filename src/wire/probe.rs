//! Probes: datagrams of 13 bytes beside QUIC on the same socket. By them two devices find out whether anything passes
//! straight between them, and open their NATs. They are small, so that nobody gains by having them sent to a third party.

/// Bytes of a probe.
pub const PROBE_BYTES: usize = 13;

/// First byte of a ping. QUIC's packets have the bit 0x40 of their first byte set (RFC 9000, section 17).
const PING: u8 = 0x20;
/// First byte of a pong.
const PONG: u8 = 0x21;

/// What a device draws for one attempt to reach one other, and tells it in an envelope: who knows it is answered.
pub type ProbeToken = [u8; 8];

/// A probe: byte 0 is the kind, 8 bytes the token, 4 bytes the number, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Is anybody there?
    Ping {
        /// The receiver's token.
        token: ProbeToken,
        /// The sender's number for it.
        number: u32,
    },
    /// The answer.
    Pong {
        /// The sender's token, the one that the ping had.
        token: ProbeToken,
        /// The ping's number.
        number: u32,
    },
}

impl Probe {
    /// Its bytes.
    pub fn encode(&self) -> [u8; PROBE_BYTES] {
        let (kind, token, number) = match self {
            Probe::Ping { token, number } => (PING, token, number),
            Probe::Pong { token, number } => (PONG, token, number),
        };
        let mut bytes = [0; PROBE_BYTES];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(token);
        bytes[9..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    /// The probe in a datagram, if it is one.
    pub fn decode(datagram: &[u8]) -> Option<Probe> {
        let bytes = <&[u8; PROBE_BYTES]>::try_from(datagram).ok()?;
        let (token, number) = bytes[1..].split_first_chunk()?;
        let (token, number) = (*token, u32::from_le_bytes(number.try_into().ok()?));
        match bytes[0] {
            PING => Some(Probe::Ping { token, number }),
            PONG => Some(Probe::Pong { token, number }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_back_as_they_went_and_nothing_else_is_one() {
        let token = [1, 2, 3, 4, 5, 6, 7, 8];
        for probe in [Probe::Ping { token, number: 9 }, Probe::Pong { token, number: u32::MAX }] {
            let bytes = probe.encode();
            assert_eq!(Probe::decode(&bytes), Some(probe));
            assert_eq!(bytes[0] & 0xc0, 0, "no packet of QUIC begins so");
            assert_eq!(Probe::decode(&bytes[..12]), None);
        }
        assert_eq!(Probe::decode(&[0x40; PROBE_BYTES]), None);
        assert_eq!(Probe::decode(&[0; 14]), None);
    }
}
