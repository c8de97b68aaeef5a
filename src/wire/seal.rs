//! The three seals: envelope (one to one), body (one to many), chunk. Sealing gives secrecy, never authenticity: that
//! comes from the master's signature, the sender's, or BLAKE3.

use super::ids::{ContentId, DeviceKey, EpochId, GroupId, Hash, SealKey};
use super::sign::{Identity, Secret32};
use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};

/// Bytes that a seal's tag adds.
pub const TAG_BYTES: usize = 16;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of an HPKE encapsulated key (X25519).
const ENCAPSULATED_BYTES: usize = 32;

/// Something sealed that does not open with the key at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not open with the key at hand")]
pub struct DoesNotOpen;

/// Seals `plain` to one device (HPKE base mode, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM).
pub fn seal_to(to: &SealKey, group: &GroupId, recipient: &DeviceKey, plain: &[u8]) -> Vec<u8> {
    let (encapsulated, sealed) = DH_KEM_X25519_HKDF_SHA256_AES_256
        .seal(&envelope_info(group), recipient.as_bytes(), plain, &HpkePublicKey(to.as_bytes().to_vec()))
        .expect("a usable key can be sealed to");
    let mut bytes = encapsulated.0;
    bytes.extend_from_slice(&sealed);
    bytes
}

/// Opens what was sealed to this device.
pub fn open_sealed(identity: &Identity, group: &GroupId, sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
    if sealed.len() < ENCAPSULATED_BYTES + TAG_BYTES {
        return Err(DoesNotOpen);
    }
    let (encapsulated, ciphertext) = sealed.split_at(ENCAPSULATED_BYTES);
    DH_KEM_X25519_HKDF_SHA256_AES_256
        .open(
            &EncapsulatedSecret(encapsulated.to_vec()),
            &envelope_info(group),
            identity.device_key().as_bytes(),
            ciphertext,
            &HpkePrivateKey::from(identity.open_key().0.to_vec()),
        )
        .map_err(|_| DoesNotOpen)
}

fn envelope_info(group: &GroupId) -> Vec<u8> {
    let mut info = b"bailiwick/1 envelope\0".to_vec();
    info.extend_from_slice(&group.0);
    info
}

/// An epoch's secret, with its id. No `Debug`; erased when dropped.
#[derive(Clone)]
pub struct Epoch {
    /// Which epoch.
    pub id: EpochId,
    /// What its members share.
    pub secret: Secret32,
}

/// A body, sealed to all who hold its epoch's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedBody {
    /// Whose secret opens it.
    pub epoch: EpochId,
    /// Random, fresh.
    pub nonce: [u8; NONCE_BYTES],
    /// The salted body and the tag.
    pub bytes: Vec<u8>,
}

impl SealedBody {
    /// Seals a salted body to the header that commits to it.
    pub fn seal(epoch: &Epoch, nonce: [u8; NONCE_BYTES], header: &Hash, salted: &[u8]) -> SealedBody {
        let mut bytes = salted.to_vec();
        body_key(epoch)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header.0), &mut bytes)
            .expect("a body is far below the cipher's limit");
        SealedBody { epoch: epoch.id, nonce, bytes }
    }

    /// Opens it; gives the salted body.
    pub fn open(mut self, epoch: &Epoch, header: &Hash) -> Result<Vec<u8>, DoesNotOpen> {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let length =
            body_key(epoch).open_in_place(nonce, Aad::from(header.0), &mut self.bytes).map_err(|_| DoesNotOpen)?.len();
        self.bytes.truncate(length);
        Ok(self.bytes)
    }
}

fn body_key(epoch: &Epoch) -> LessSafeKey {
    let key = derive(
        "bailiwick 2026 body key",
        &[&epoch.secret.0, &epoch.id.generation.to_le_bytes(), &epoch.id.number.to_le_bytes()],
    );
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("a key of 32 bytes"))
}

fn derive(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// How a chunk's bytes are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// Not at all: a direct connection is end-to-end already.
    Plain,
    /// AES-256-GCM, where the processor has it.
    Aes256Gcm,
    /// ChaCha20-Poly1305, elsewhere.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The faster one here.
    pub fn fastest() -> Cipher {
        if has_aes() { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 }
    }

    /// Its number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Cipher::Plain => 0,
            Cipher::Aes256Gcm => 1,
            Cipher::ChaCha20Poly1305 => 2,
        }
    }

    /// The cipher of a number.
    pub fn from_code(code: u8) -> Option<Cipher> {
        [Cipher::Plain, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305].into_iter().find(|cipher| cipher.code() == code)
    }

    /// Bytes that it adds to a chunk.
    pub fn overhead(self) -> usize {
        if self == Cipher::Plain { 0 } else { TAG_BYTES }
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// The key of one content's chunks in one epoch.
pub fn chunk_key(epoch: &Epoch, content: &ContentId, cipher: Cipher) -> Option<ChunkKey> {
    let algorithm = match cipher {
        Cipher::Plain => return None,
        Cipher::Aes256Gcm => &AES_256_GCM,
        Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    };
    let key = derive("bailiwick 2026 chunk key", &[&epoch.secret.0, &content.0, &[cipher.code()]]);
    Some(ChunkKey(LessSafeKey::new(UnboundKey::new(algorithm, &key).expect("a key of 32 bytes"))))
}

/// Seals and opens chunks of one content. No `Debug`.
pub struct ChunkKey(LessSafeKey);

impl ChunkKey {
    /// Seals `chunk` in place and appends the tag. `bound` is what the header says of it.
    pub fn seal(&self, nonce: [u8; NONCE_BYTES], bound: &[u8], chunk: &mut Vec<u8>) {
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), chunk)
            .expect("a chunk is far below the cipher's limit");
    }

    /// Opens `chunk` in place; its tag is cut off. After an error the buffer holds nothing of use.
    pub fn open(&self, nonce: [u8; NONCE_BYTES], bound: &[u8], chunk: &mut Vec<u8>) -> Result<(), DoesNotOpen> {
        let length = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound), chunk)
            .map_err(|_| DoesNotOpen)?
            .len();
        chunk.truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u32) -> Epoch {
        Epoch { id: EpochId { generation: 1, number }, secret: Secret32([number as u8; 32]) }
    }

    #[test]
    fn an_envelope_opens_for_its_recipient_in_its_group_only() {
        let (anna, bert) = (Identity::from_seeds([1; 32], [2; 32]), Identity::from_seeds([3; 32], [4; 32]));
        let group = GroupId([5; 32]);
        let sealed = seal_to(&anna.seal_key(), &group, &anna.device_key(), b"hello");
        assert_eq!(open_sealed(&anna, &group, &sealed).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(open_sealed(&bert, &group, &sealed), Err(DoesNotOpen));
        assert_eq!(open_sealed(&anna, &GroupId([6; 32]), &sealed), Err(DoesNotOpen));
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(open_sealed(&anna, &group, &changed), Err(DoesNotOpen), "byte {place}");
        }
        assert_eq!(open_sealed(&anna, &group, &sealed[..40]), Err(DoesNotOpen));
    }

    #[test]
    fn a_body_opens_in_its_epoch_and_for_its_header_only() {
        let sealed = SealedBody::seal(&epoch(1), [7; 12], &Hash([8; 32]), b"body");
        assert_eq!(sealed.clone().open(&epoch(1), &Hash([8; 32])).as_deref(), Ok(&b"body"[..]));
        assert_eq!(sealed.clone().open(&epoch(2), &Hash([8; 32])), Err(DoesNotOpen));
        assert_eq!(sealed.open(&epoch(1), &Hash([9; 32])), Err(DoesNotOpen));
    }

    #[test]
    fn a_chunk_opens_with_what_it_is_bound_to_only() {
        for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let key = chunk_key(&epoch(1), &ContentId([1; 16]), cipher).unwrap();
            let mut chunk = b"chunk".to_vec();
            key.seal([2; 12], b"bound", &mut chunk);
            assert_eq!(chunk.len(), 5 + cipher.overhead());
            assert_eq!(key.open([2; 12], b"other", &mut chunk.clone()), Err(DoesNotOpen));
            let other = chunk_key(&epoch(1), &ContentId([2; 16]), cipher).unwrap();
            assert_eq!(other.open([2; 12], b"bound", &mut chunk.clone()), Err(DoesNotOpen));
            key.open([2; 12], b"bound", &mut chunk).unwrap();
            assert_eq!(chunk, b"chunk");
        }
    }
}
