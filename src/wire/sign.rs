//! Signatures. Every signature covers a context of its own and the group's id, so that none can stand for another.

use super::ids::{DeviceKey, GroupId, SealKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What a signature is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// An entry's header.
    Header,
    /// A head of the log.
    Head,
    /// An envelope between two parties.
    Envelope,
    /// The manifest of a snapshot.
    Snapshot,
}

impl Context {
    const fn label(self) -> &'static [u8] {
        match self {
            Context::Header => b"bailiwick/1 header\0",
            Context::Head => b"bailiwick/1 head\0",
            Context::Envelope => b"bailiwick/1 envelope\0",
            Context::Snapshot => b"bailiwick/1 snapshot\0",
        }
    }
}

/// An Ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (low, high) = self.0.split_at(32);
        (<[u8; 32]>::try_from(low).unwrap_or_default(), <[u8; 32]>::try_from(high).unwrap_or_default())
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Ok(Signature(bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}

/// A signature that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// 32 secret bytes. No `Debug`, no `Display`; erased when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret32(pub [u8; 32]);

/// A device's two private keys: Ed25519 to sign and to prove itself by, X25519 to open what is sealed to it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Identity {
    sign: Secret32,
    open: Secret32,
    #[zeroize(skip)]
    device: DeviceKey,
}

impl Identity {
    /// Makes an identity of two independent random seeds. Both give usable keys: a clamped scalar never yields a
    /// point of small order from the base point.
    pub fn from_seeds(sign: [u8; 32], open: [u8; 32]) -> Identity {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(pair(&sign).public_key().as_ref());
        let device = DeviceKey::parse(bytes).expect("a key made from a seed is a usable one");
        Identity { sign: Secret32(sign), open: Secret32(open), device }
    }

    /// The Ed25519 seed (RFC 8032's private key).
    pub fn sign_seed(&self) -> &Secret32 {
        &self.sign
    }

    /// The X25519 private key (RFC 7748).
    pub fn open_key(&self) -> &Secret32 {
        &self.open
    }

    /// The public Ed25519 key.
    pub fn device_key(&self) -> DeviceKey {
        self.device
    }

    /// The public X25519 key.
    pub fn seal_key(&self) -> SealKey {
        let key = aws_lc_rs::agreement::PrivateKey::from_private_key(&aws_lc_rs::agreement::X25519, &self.open.0)
            .expect("any 32 bytes are an X25519 private key");
        let public = key.compute_public_key().expect("an X25519 private key has a public key");
        let mut bytes = [0; 32];
        bytes.copy_from_slice(public.as_ref());
        SealKey::parse(bytes).expect("a key made from a seed is a usable one")
    }

    /// Signs `bytes` for `context` in `group`.
    pub fn sign(&self, context: Context, group: &GroupId, bytes: &[u8]) -> Signature {
        let signature = pair(&self.sign.0).sign(&message(context, group, bytes));
        let mut out = [0; 64];
        out.copy_from_slice(signature.as_ref());
        Signature(out)
    }
}

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed")
}

/// Checks that `key` signed `bytes` for `context` in `group`.
pub fn verify(
    key: &DeviceKey,
    context: Context,
    group: &GroupId,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(&ED25519, key.as_bytes())
        .verify(&message(context, group, bytes), &signature.0)
        .map_err(|_| BadSignature)
}

fn message(context: Context, group: &GroupId, bytes: &[u8]) -> Vec<u8> {
    let label = context.label();
    let mut message = Vec::with_capacity(label.len() + 32 + bytes.len());
    message.extend_from_slice(label);
    message.extend_from_slice(&group.0);
    message.extend_from_slice(bytes);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_context_group_and_bytes_only() {
        let identity = Identity::from_seeds([1; 32], [2; 32]);
        let key = identity.device_key();
        let group = GroupId::of(&key);
        let signature = identity.sign(Context::Head, &group, b"x");
        assert_eq!(verify(&key, Context::Head, &group, b"x", &signature), Ok(()));
        assert_eq!(verify(&key, Context::Header, &group, b"x", &signature), Err(BadSignature));
        assert_eq!(verify(&key, Context::Head, &GroupId([0; 32]), b"x", &signature), Err(BadSignature));
        assert_eq!(verify(&key, Context::Head, &group, b"y", &signature), Err(BadSignature));
        let other = Identity::from_seeds([3; 32], [2; 32]).device_key();
        assert_eq!(verify(&other, Context::Head, &group, b"x", &signature), Err(BadSignature));
    }
}
