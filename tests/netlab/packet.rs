//! What the emulator has to know of a packet of IP.

use std::net::IpAddr;

/// From where and to where; none for what is no IP.
pub(crate) fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    fn bytes<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
        packet.get(at..at + N)?.try_into().ok()
    }
    match packet.first()? >> 4 {
        4 => Some((bytes::<4>(packet, 12)?.into(), bytes::<4>(packet, 16)?.into())),
        6 => Some((bytes::<16>(packet, 8)?.into(), bytes::<16>(packet, 24)?.into())),
        _ => None,
    }
}

#[test]
fn ends_of_both_families_are_found() {
    let mut four = [0; 20];
    four[0] = 0x45;
    four[12..].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    assert_eq!(ends(&four), Some(([192, 0, 2, 1].into(), [192, 0, 2, 2].into())));
    let mut six = [0; 40];
    six[0] = 0x60;
    (six[23], six[39]) = (1, 2);
    assert_eq!(ends(&six), Some(("::1".parse().expect("an address"), "::2".parse().expect("an address"))));
    assert_eq!(ends(&four[..19]), None);
    assert_eq!(ends(&[]), None);
}
