//! A master's backup file: what it holds, and how it is sealed with a passphrase. `docs/backup.md` says it byte by byte.
//!
//! A header in clear names the cost of the passphrase's hash; then come segments, each sealed under its own number, so
//! that none can be left out, added or moved, and the last one is known as the last.

use super::invite::AdmissionSecret;
use super::seal::TAG_BYTES;
use super::sign::Secret32;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

/// What a backup begins with.
pub const MAGIC: &[u8; 16] = b"bailiwick backup";
/// The version of the format.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of a segment's content: all but the last have as many.
pub const SEGMENT_BYTES: usize = 64 * 1024;
/// Bytes of [`Contents`], at most: a few keys and addresses.
pub const CONTENTS_BYTES_MAX: usize = 16 * 1024;
/// Characters of a passphrase, at least.
pub const PASSPHRASE_CHARS_MIN: usize = 8;
/// Bytes of a passphrase, at most.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

/// KiB of memory that a file may ask for: a hostile one can't take the machine's.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// Passes that a file may ask for.
const PASSES_MAX: u32 = 16;
/// Lanes that a file may ask for.
const LANES_MAX: u32 = 4;

/// Why a file is no backup that can be read. Each text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBackup {
    /// Something else.
    #[error("this is no backup of a bailiwick master")]
    Other,
    /// Made by a later version.
    #[error("this backup was made by a newer bailiwick (its format is {0}, this one knows {VERSION})")]
    Newer(u8),
    /// The header asks for more work than any bailiwick does.
    #[error("this backup's header is damaged: it asks for more memory or time than any bailiwick does")]
    Cost,
    /// The first segment does not open.
    #[error("the passphrase is wrong, or the file is damaged at its beginning")]
    Passphrase,
    /// A later one does not open, is missing, or holds something else.
    #[error("the backup is damaged or incomplete")]
    Damaged,
}

/// What the hash of a passphrase costs: Argon2id (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// 256 MiB and three passes: some 0.7 s on a machine of 2020.
    fn default() -> Cost {
        Cost { memory_kib: 256 * 1024, passes: 3, lanes: 1 }
    }
}

/// A backup's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupHeader {
    /// What the passphrase's hash costs.
    pub cost: Cost,
    /// Drawn for this file.
    pub salt: [u8; 16],
}

impl BackupHeader {
    /// The bytes at the file's beginning.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16] = VERSION;
        bytes[20..24].copy_from_slice(&self.cost.memory_kib.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.cost.passes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.cost.lanes.to_le_bytes());
        bytes[32..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads them, and refuses a cost that would take the machine's memory or hours.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<BackupHeader, BadBackup> {
        if &bytes[..16] != MAGIC {
            return Err(BadBackup::Other);
        }
        if bytes[16] != VERSION {
            return Err(if bytes[16] > VERSION { BadBackup::Newer(bytes[16]) } else { BadBackup::Other });
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let cost = Cost { memory_kib: word(20), passes: word(24), lanes: word(28) };
        let is_bounded = bytes[17..20] == [0; 3]
            && (1..=LANES_MAX).contains(&cost.lanes)
            && (1..=PASSES_MAX).contains(&cost.passes)
            && (8 * cost.lanes..=MEMORY_KIB_MAX).contains(&cost.memory_kib);
        if !is_bounded {
            return Err(BadBackup::Cost);
        }
        let mut salt = [0; 16];
        salt.copy_from_slice(&bytes[32..]);
        Ok(BackupHeader { cost, salt })
    }
}

/// The key of one backup file.
pub struct BackupKey {
    key: LessSafeKey,
    header: [u8; HEADER_BYTES],
}

impl BackupKey {
    /// Hashes the passphrase as the header says. Slow on purpose.
    pub fn derive(header: &BackupHeader, passphrase: &[u8]) -> Result<BackupKey, BadBackup> {
        let Cost { memory_kib, passes, lanes } = header.cost;
        let params = argon2::Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| BadBackup::Cost)?;
        let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let mut key = Secret32([0; 32]);
        argon.hash_password_into(passphrase, &header.salt, &mut key.0).map_err(|_| BadBackup::Cost)?;
        let key = UnboundKey::new(&AES_256_GCM, &key.0).expect("a key of 32 bytes");
        Ok(BackupKey { key: LessSafeKey::new(key), header: header.encode() })
    }

    /// Seals a segment in place.
    pub fn seal(&self, number: u64, last: bool, segment: &mut Vec<u8>) {
        self.key
            .seal_in_place_append_tag(nonce(number, last), Aad::from(self.header), segment)
            .expect("a segment is far below the cipher's limit");
    }

    /// Opens a segment in place.
    pub fn open(&self, number: u64, last: bool, segment: &mut Vec<u8>) -> Result<(), BadBackup> {
        let refused = if number == 0 { BadBackup::Passphrase } else { BadBackup::Damaged };
        if segment.len() < TAG_BYTES {
            return Err(BadBackup::Damaged);
        }
        let plain =
            self.key.open_in_place(nonce(number, last), Aad::from(self.header), segment).map_err(|_| refused)?.len();
        segment.truncate(plain);
        Ok(())
    }
}

/// A key serves one file, so the segments' numbers are nonces enough.
fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce[8] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// What a backup begins with, inside its seal; the database follows. No `Debug`: it holds keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// When it was made, in milliseconds since 1970 (UTC).
    pub made_ms: u64,
    /// The master's keys: Ed25519 seed and X25519 private key.
    pub identity: ([u8; 32], [u8; 32]),
    /// The server that the master runs itself, if it runs one.
    pub server: Option<OwnServer>,
    /// The ticket of the server that it uses otherwise.
    pub ticket: Option<String>,
    /// Bytes of the database that follows.
    pub database: u64,
}

/// A master's own server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnServer {
    /// Its keys.
    pub identity: ([u8; 32], [u8; 32]),
    /// Its keys of QUIC's stateless resets and connection ids: with them devices that were connected to the machine that
    /// was lost learn at their next packet that it is gone, not 45 s later.
    pub quic: Option<([u8; 32], [u8; 8])>,
    /// Its admission secret.
    pub admission: AdmissionSecret,
    /// Where it listens, and under it the addresses that a person said; one a line.
    pub place: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn header() -> BackupHeader {
        BackupHeader { cost: CHEAP, salt: [7; 16] }
    }

    #[test]
    fn a_header_comes_back_and_a_hostile_one_is_refused() {
        assert_eq!(BackupHeader::decode(&header().encode()), Ok(header()));
        let default = BackupHeader { cost: Cost::default(), salt: [1; 16] };
        assert_eq!(BackupHeader::decode(&default.encode()), Ok(default));
        let with = |cost: Cost| BackupHeader::decode(&BackupHeader { cost, salt: [0; 16] }.encode());
        let hostile = [
            Cost { memory_kib: u32::MAX, ..CHEAP },
            Cost { memory_kib: MEMORY_KIB_MAX + 1, ..CHEAP },
            Cost { memory_kib: 7, ..CHEAP },
            Cost { passes: 0, ..CHEAP },
            Cost { passes: PASSES_MAX + 1, ..CHEAP },
            Cost { lanes: 0, ..CHEAP },
            Cost { lanes: u32::MAX, ..CHEAP },
        ];
        for cost in hostile {
            assert_eq!(with(cost), Err(BadBackup::Cost), "{cost:?}");
        }
        let mut newer = header().encode();
        newer[16] = 2;
        assert_eq!(BackupHeader::decode(&newer), Err(BadBackup::Newer(2)));
        assert_eq!(BackupHeader::decode(&[0; HEADER_BYTES]), Err(BadBackup::Other));
    }

    #[test]
    fn a_segment_opens_in_its_place_and_with_its_passphrase_alone() {
        let key = BackupKey::derive(&header(), b"correct horse").unwrap();
        let mut sealed = b"segment".to_vec();
        key.seal(3, false, &mut sealed);
        let opens = |key: &BackupKey, number, last| {
            let mut segment = sealed.clone();
            key.open(number, last, &mut segment).map(|()| segment)
        };
        assert_eq!(opens(&key, 3, false), Ok(b"segment".to_vec()));
        assert_eq!(opens(&key, 2, false), Err(BadBackup::Damaged));
        assert_eq!(opens(&key, 3, true), Err(BadBackup::Damaged));
        assert_eq!(opens(&key, 0, false), Err(BadBackup::Passphrase));
        let other = BackupKey::derive(&header(), b"correct hors").unwrap();
        assert_eq!(opens(&other, 3, false), Err(BadBackup::Damaged));
        let salted = BackupHeader { salt: [8; 16], ..header() };
        assert_eq!(opens(&BackupKey::derive(&salted, b"correct horse").unwrap(), 3, false), Err(BadBackup::Damaged));
    }
}
