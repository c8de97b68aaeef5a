//! Identities, positions and hashes. A value that exists is valid: what comes from outside is parsed, never cast.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Encodes bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// A key that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no usable public key (a point of small order)")]
pub struct BadKey;

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex(&self.0[..4]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }
    };
}

bytes32! {
    /// A BLAKE3 hash.
    Hash
}

impl Hash {
    /// The hash before the first entry of a log.
    pub const ZERO: Hash = Hash([0; 32]);

    /// The plain BLAKE3 hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }
}

bytes32! {
    /// A group: the BLAKE3 hash (keyed by context) of its master's device key.
    GroupId
}

impl GroupId {
    /// The group that `master` is the authority of.
    pub fn of(master: &DeviceKey) -> GroupId {
        GroupId(blake3::derive_key("bailiwick 2026 group id", &master.0))
    }
}

/// The encodings of Curve25519's points of small order, on the Edwards curve (RFC 8032), sign bit cleared.
/// A signature that verifies under such a key says nothing (it can be made to fit every message).
const SMALL_ORDER_EDWARDS: [[u8; 32]; 7] = {
    let mut zero = [0u8; 32];
    zero[31] = 0;
    let mut one = [0u8; 32];
    one[0] = 1;
    // p - 1, p and p + 1, where p = 2^255 - 19.
    let mut p_minus_1 = [0xffu8; 32];
    p_minus_1[0] = 0xec;
    p_minus_1[31] = 0x7f;
    let mut p = p_minus_1;
    p[0] = 0xed;
    let mut p_plus_1 = p_minus_1;
    p_plus_1[0] = 0xee;
    [
        zero,
        one,
        p_minus_1,
        p,
        p_plus_1,
        // The y coordinates of the points of order 8.
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// The same for Curve25519's Montgomery form (RFC 7748).
const SMALL_ORDER_MONTGOMERY: [[u8; 32]; 7] = {
    let e = SMALL_ORDER_EDWARDS;
    [
        e[0],
        e[1],
        e[2],
        e[3],
        e[4],
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
            0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
            0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
        ],
    ]
};

fn without_sign(mut bytes: [u8; 32]) -> [u8; 32] {
    bytes[31] &= 0x7f;
    bytes
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $refused:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "[u8; 32]", into = "[u8; 32]")]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes a key from outside; refuses the encodings of points of small order.
            pub fn parse(bytes: [u8; 32]) -> Result<Self, BadKey> {
                if $refused.contains(&without_sign(bytes)) { Err(BadKey) } else { Ok(Self(bytes)) }
            }

            /// The key's 32 bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl TryFrom<[u8; 32]> for $name {
            type Error = BadKey;
            fn try_from(bytes: [u8; 32]) -> Result<Self, BadKey> {
                Self::parse(bytes)
            }
        }

        impl From<$name> for [u8; 32] {
            fn from(key: $name) -> [u8; 32] {
                key.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex(&self.0[..4]))
            }
        }
    };
}

key! {
    /// A device's Ed25519 public key: what the device *is*, and what its TLS connections prove.
    DeviceKey, SMALL_ORDER_EDWARDS
}
key! {
    /// A device's X25519 public key: what things for its eyes alone are sealed to.
    SealKey, SMALL_ORDER_MONTGOMERY
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// An id of 16 random bytes, with the version and variant bits of a UUID v4 (RFC 9562).
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(*uuid::Builder::from_random_bytes(bytes).as_uuid().as_bytes())
            }

            /// Parses the form that [`fmt::Display`] prints.
            pub fn from_text(text: &str) -> Option<Self> {
                uuid::Uuid::try_parse(text).ok().map(|id| Self(*id.as_bytes()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex(&self.0[..4]))
            }
        }
    };
}

uuid_id! {
    /// A member as the group speaks of it; drawn by the master at registration.
    PublicId
}
uuid_id! {
    /// A file of the catalog; drawn by its owner and never used again.
    FileId
}
uuid_id! {
    /// One version of a file's content; random, so that it tells a relay nothing.
    ContentId
}
uuid_id! {
    /// An invite: a hash of its secret.
    InviteId
}

/// A place in a group's log. Ordered by generation, then by revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Position {
    /// Raised by one whenever the master's log is restored from a backup.
    pub generation: u32,
    /// Raised by one with each entry; the first entry has 1.
    pub revision: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.revision)
    }
}

/// An epoch of the group's key. Holds the generation, so that epochs of two generations cannot be mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpochId {
    /// The log's generation.
    pub generation: u32,
    /// Raised by one at each rotation within a generation.
    pub number: u32,
}

/// A set of devices that share epoch secrets. Today there is one: everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Audience(pub u32);

impl Audience {
    /// All approved members.
    pub const EVERYONE: Audience = Audience(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_small_order_are_refused() {
        for bytes in SMALL_ORDER_EDWARDS {
            let mut signed = bytes;
            signed[31] |= 0x80;
            assert_eq!(DeviceKey::parse(bytes), Err(BadKey));
            assert_eq!(DeviceKey::parse(signed), Err(BadKey));
        }
        for bytes in SMALL_ORDER_MONTGOMERY {
            assert_eq!(SealKey::parse(bytes), Err(BadKey));
        }
        assert!(DeviceKey::parse([7; 32]).is_ok());
    }

    #[test]
    fn positions_order_by_generation_first() {
        let old = Position { generation: 1, revision: 900 };
        let new = Position { generation: 2, revision: 1 };
        assert!(old < new);
    }
}
