//! What a device says of itself on its local network. Who knows the group and its devices can tell which of them it is; to
//! others it is random bytes, new ones at each start.

use super::ids::{DeviceKey, GroupId};
use std::net::SocketAddr;

/// Bytes of a beacon.
pub const BEACON_BYTES: usize = SALT_BYTES + TAG_BYTES;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// What the key is derived for.
const CONTEXT: &str = "bailiwick 2026 beacon";

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Beacon {
    salt: [u8; SALT_BYTES],
    tag: [u8; TAG_BYTES],
}

/// What it takes to read the beacons of a group.
#[derive(Clone)]
pub struct BeaconKey([u8; 32]);

impl BeaconKey {
    /// That of a group.
    pub fn of(group: &GroupId) -> BeaconKey {
        BeaconKey(blake3::derive_key(CONTEXT, &group.0))
    }

    /// The beacon of a device, with a salt that was drawn for it.
    pub fn beacon(&self, device: &DeviceKey, salt: [u8; SALT_BYTES]) -> Beacon {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&salt).update(device.as_bytes());
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_BYTES]);
        Beacon { salt, tag }
    }

    /// Whether a beacon is that of a device.
    pub fn is_of(&self, beacon: &Beacon, device: &DeviceKey) -> bool {
        self.beacon(device, beacon.salt) == *beacon
    }
}

impl Beacon {
    /// Its bytes: salt, then tag.
    pub fn to_bytes(&self) -> [u8; BEACON_BYTES] {
        let mut bytes = [0; BEACON_BYTES];
        bytes[..SALT_BYTES].copy_from_slice(&self.salt);
        bytes[SALT_BYTES..].copy_from_slice(&self.tag);
        bytes
    }

    /// Reads it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Beacon> {
        let (salt, tag) = bytes.split_first_chunk()?;
        Some(Beacon { salt: *salt, tag: tag.try_into().ok()? })
    }
}

/// A beacon, and the addresses at which its device is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Who it is, for who can tell.
    pub beacon: Beacon,
    /// Where; all with the port of its one socket.
    pub addresses: Vec<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sign::Identity;

    #[test]
    fn a_beacon_tells_who_knows_the_group_which_device_it_is_and_nobody_else_anything() {
        let [master, laptop, phone] = [1, 2, 3].map(|seed| Identity::from_seeds([seed; 32], [seed; 32]).device_key());
        let [group, other] = [master, laptop].map(|key| BeaconKey::of(&GroupId::of(&key)));
        let beacon = group.beacon(&laptop, [7; 16]);
        assert!(group.is_of(&beacon, &laptop) && !group.is_of(&beacon, &phone));
        assert!(!other.is_of(&beacon, &laptop));
        assert_ne!(group.beacon(&laptop, [8; 16]).tag, beacon.tag, "two starts have nothing in common");
        let bytes = beacon.to_bytes();
        assert_eq!(Beacon::from_bytes(&bytes), Some(beacon));
        assert_eq!([&bytes[1..], &[&bytes[..], &[0]].concat(), &[]].map(Beacon::from_bytes), [None; 3]);
    }
}
