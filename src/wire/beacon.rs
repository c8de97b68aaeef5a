//! What a device says of itself on its local network. Who knows the group and its devices can tell which of them it is; to
//! others it is random bytes, new ones at each start.

use super::ids::{DeviceKey, GroupId, Hash};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

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
#[derive(Clone, PartialEq, Eq)]
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

/// The members of a group, among whom a beacon's device is looked for.
#[derive(Clone)]
pub struct Readers {
    key: BeaconKey,
    members: Arc<[DeviceKey]>,
    membership: Hash,
}

impl Readers {
    /// The members that a log with this membership hash names.
    pub fn new(key: BeaconKey, membership: Hash, members: impl IntoIterator<Item = DeviceKey>) -> Readers {
        Readers { key, members: members.into_iter().collect(), membership }
    }

    /// Which membership that is.
    pub fn membership(&self) -> Hash {
        self.membership
    }

    /// Whose beacon it is; none if it is no member's. Takes a keyed hash for each member, at most.
    pub fn whose(&self, beacon: &Beacon) -> Option<DeviceKey> {
        self.members.iter().find(|device| self.key.is_of(beacon, device)).copied()
    }

    /// Whether a device is among them.
    pub fn has(&self, device: &DeviceKey) -> bool {
        self.members.contains(device)
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }
}

impl PartialEq for Readers {
    fn eq(&self, other: &Readers) -> bool {
        self.membership == other.membership && self.key == other.key
    }
}

impl Eq for Readers {}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readers({} of {:?})", self.members.len(), self.membership)
    }
}

/// What a device says of itself on its local network, and what it takes to tell who others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Who it is, for who can tell.
    pub beacon: Beacon,
    /// Where; all with the port of its one socket.
    pub addresses: Vec<SocketAddr>,
    /// Whom it looks for.
    pub readers: Readers,
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
        let readers = |members: &[DeviceKey]| Readers::new(group.clone(), Hash::ZERO, members.iter().copied());
        assert_eq!(readers(&[master, laptop, phone]).whose(&beacon), Some(laptop));
        assert_eq!(readers(&[master, phone]).whose(&beacon), None);
        assert_eq!(Beacon::from_bytes(&bytes), Some(beacon));
        assert_eq!([&bytes[1..], &[&bytes[..], &[0]].concat(), &[]].map(Beacon::from_bytes), [None; 3]);
    }
}
