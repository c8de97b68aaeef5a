//! The master's log: headers in clear, bodies sealed, heads. The bytes that are signed are the bytes that travel;
//! they are verified first and decoded then, and never encoded again.

use super::codec::{decode, encode};
use super::geometry::ChunkSize;
use super::ids::{Audience, ContentId, DeviceKey, EpochId, FileId, GroupId, Hash, Position, PublicId, SealKey};
use super::limits::{ENTRY_BODY_BYTES_MAX, HEADER_BYTES_MAX, REVISION_MAX};
use super::name::DeviceName;
use super::path::RelPath;
use super::sign::{Context, Identity, Signature, verify};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a device stands in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// Known, and waiting for approval.
    Registered,
    /// A member.
    Approved,
    /// Expelled by the master, for ever.
    Disapproved,
    /// Gone by its own wish, for ever.
    Left,
}

impl Standing {
    /// Whether this standing is final: nothing undoes it.
    pub fn is_final(self) -> bool {
        matches!(self, Standing::Disapproved | Standing::Left)
    }
}

/// What a header says of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipChange {
    /// The device's id in the group.
    pub id: PublicId,
    /// Its Ed25519 key.
    pub device: DeviceKey,
    /// Its X25519 key.
    pub seal: SealKey,
    /// Where it stands from now on.
    pub standing: Standing,
    /// Drawn by the master for this header, so that nobody can choose keys to meet a short code.
    pub nonce: [u8; 16],
}

/// The part of an entry that a server can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The group.
    pub group: GroupId,
    /// The entry's place.
    pub at: Position,
    /// Hash of the header before; [`Hash::ZERO`] for the first.
    pub previous: Hash,
    /// Hash of the last header before this one that changed membership; [`Hash::ZERO`] for the first.
    pub previous_membership: Hash,
    /// The master's clock, in milliseconds since 1970 (UTC). For people; nothing is decided by it.
    pub time_ms: u64,
    /// For whom the body is.
    pub audience: Audience,
    /// The membership change, if this entry makes one.
    pub membership: Option<MembershipChange>,
    /// BLAKE3 of the salted body.
    pub body: Hash,
}

/// Why an entry, a head or a manifest is not the master's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTheMasters {
    /// The signature does not verify.
    #[error("it is not signed by the group's master")]
    Signature,
    /// Signed, but not something that this version can read.
    #[error("it is signed by the group's master, but needs a newer bailiwick")]
    Newer,
    /// Signed for another group.
    #[error("it belongs to another group")]
    Group,
    /// Over a limit.
    #[error("it is larger than any the master makes")]
    TooLarge,
}

/// A revision that no log reaches is nobody's.
fn check_position(at: Position) -> Result<(), NotTheMasters> {
    if at.revision <= REVISION_MAX { Ok(()) } else { Err(NotTheMasters::TooLarge) }
}

/// A header as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeader {
    /// The encoded [`Header`].
    pub bytes: Vec<u8>,
    /// The master's signature over them.
    pub signature: Signature,
}

impl SignedHeader {
    /// Signs a header as the master.
    pub fn sign(master: &Identity, header: &Header) -> VerifiedHeader {
        let bytes = encode(header);
        let signature = master.sign(Context::Header, &header.group, &bytes);
        let hash = Hash::of(&bytes);
        VerifiedHeader { signed: SignedHeader { bytes, signature }, header: header.clone(), hash }
    }

    /// Checks the signature, then decodes.
    pub fn verify(self, master: &DeviceKey) -> Result<VerifiedHeader, NotTheMasters> {
        if self.bytes.len() > HEADER_BYTES_MAX {
            return Err(NotTheMasters::TooLarge);
        }
        let group = GroupId::of(master);
        verify(master, Context::Header, &group, &self.bytes, &self.signature).map_err(|_| NotTheMasters::Signature)?;
        let header: Header = decode(&self.bytes).map_err(|_| NotTheMasters::Newer)?;
        if header.group != group {
            return Err(NotTheMasters::Group);
        }
        check_position(header.at)?;
        let hash = Hash::of(&self.bytes);
        Ok(VerifiedHeader { signed: self, header, hash })
    }
}

/// A header whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader {
    signed: SignedHeader,
    header: Header,
    hash: Hash,
}

impl VerifiedHeader {
    /// What it says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The form that travels.
    pub fn signed(&self) -> &SignedHeader {
        &self.signed
    }

    /// The hash that the next header links to.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The hash of the last membership header, once this header is part of the log.
    pub fn membership_hash(&self) -> Hash {
        if self.header.membership.is_some() { self.hash } else { self.header.previous_membership }
    }

    /// The change that this header makes, if its device can never come back.
    pub fn expulsion(&self) -> Option<&MembershipChange> {
        self.header.membership.as_ref().filter(|change| change.standing.is_final())
    }

    /// The short code that both screens show: 40 bits of the signed header, as eight Crockford symbols.
    pub fn short_code(&self) -> String {
        let digest = blake3::derive_key("bailiwick 2026 short code", &self.signed.bytes);
        let symbols = super::invite::crockford().encode(&digest[..5]);
        format!("{}-{}", &symbols[..4], &symbols[4..])
    }
}

/// The newest point of a log, as the master vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The group.
    pub group: GroupId,
    /// Place of the newest entry.
    pub at: Position,
    /// Its header's hash.
    pub header: Hash,
    /// Hash of the newest header that changed membership.
    pub membership: Hash,
    /// The nonce that this head answers; zero if nobody asked.
    pub nonce: [u8; 16],
}

impl Head {
    /// Whether two heads prove that the log forked: one place, two contents.
    pub fn forks_from(&self, other: &Head) -> bool {
        self.at == other.at && self.header != other.header
    }
}

/// A head as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// The encoded [`Head`].
    pub bytes: Vec<u8>,
    /// The master's signature over them.
    pub signature: Signature,
}

impl SignedHead {
    /// Signs a head as the master.
    pub fn sign(master: &Identity, head: &Head) -> SignedHead {
        let bytes = encode(head);
        let signature = master.sign(Context::Head, &head.group, &bytes);
        SignedHead { bytes, signature }
    }

    /// Checks the signature, then decodes.
    pub fn verify(&self, master: &DeviceKey) -> Result<Head, NotTheMasters> {
        let group = GroupId::of(master);
        verify(master, Context::Head, &group, &self.bytes, &self.signature).map_err(|_| NotTheMasters::Signature)?;
        let head: Head = decode(&self.bytes).map_err(|_| NotTheMasters::Newer)?;
        check_position(head.at)?;
        if head.group == group { Ok(head) } else { Err(NotTheMasters::Group) }
    }
}

/// What a catalog entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A file.
    File,
    /// An empty folder. Folders that hold something follow from their files' paths.
    Folder,
}

/// One row of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// The file, through all its versions.
    pub id: FileId,
    /// This version of its content.
    pub content: ContentId,
    /// Its path among its owner's files.
    pub path: RelPath,
    /// File or empty folder.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Plain BLAKE3 of the content.
    pub hash: Hash,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    /// Modification time, in milliseconds since 1970 (UTC).
    pub mtime_ms: i64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// What members do while the master is away, and other rules of the master's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How old an owner's word from the master may be while it serves, in milliseconds.
    pub master_away_wait_ms: u64,
    /// The same for what goes straight to a member, in milliseconds; what is less than the other counts as that.
    pub master_away_continue_ms: u64,
}

impl Policy {
    /// How old an owner's word from the master may be while it serves through the server.
    pub fn wait(&self) -> Duration {
        Duration::from_millis(self.master_away_wait_ms)
    }

    /// The same while it serves straight.
    pub fn continue_for(&self) -> Duration {
        self.wait().max(Duration::from_millis(self.master_away_continue_ms))
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { master_away_wait_ms: 180_000, master_away_continue_ms: 0 }
    }
}

/// The part of an entry that only members can read. One variant for each decision of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The first entry: the master itself.
    GroupBegun {
        /// The master's name.
        name: DeviceName,
        /// The first epoch.
        epoch: EpochId,
    },
    /// W4.
    ClientRegistered {
        /// The new device.
        id: PublicId,
        /// Its name, unique in the group.
        name: DeviceName,
    },
    /// W5.
    ClientApproved {
        /// The new member.
        id: PublicId,
    },
    /// W6.
    ClientDisapproved {
        /// The expelled device.
        id: PublicId,
    },
    /// A device that left by its own wish.
    ClientLeft {
        /// The device.
        id: PublicId,
    },
    /// A device with a new name.
    ClientRenamed {
        /// The device.
        id: PublicId,
        /// Its new name, unique in the group.
        name: DeviceName,
    },
    /// W9, W10.
    FilesAdded {
        /// Whose files.
        owner: PublicId,
        /// The rows.
        files: Vec<FileMeta>,
    },
    /// New versions of files that are there.
    FilesChanged {
        /// Whose files.
        owner: PublicId,
        /// The rows as they are now.
        files: Vec<FileMeta>,
    },
    /// W11, W12.
    FileRemoved {
        /// Whose files.
        owner: PublicId,
        /// Which.
        files: Vec<FileId>,
    },
    /// The master's rules.
    PolicySet(Policy),
    /// The group's servers, as texts that an invite could hold.
    ServersSet(Vec<super::invite::ServerAddress>),
    /// A new epoch of the group's key; its secret came before, to each device alone.
    EpochBegun(EpochId),
}

/// Bytes of salt before a body, so that its commitment says nothing about it.
pub const SALT_BYTES: usize = 32;

/// A body with its salt: what the header commits to.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedBody(Vec<u8>);

impl SaltedBody {
    /// Encodes a body behind its salt.
    pub fn new(salt: [u8; SALT_BYTES], body: &Body) -> SaltedBody {
        let mut bytes = salt.to_vec();
        bytes.extend_from_slice(&encode(body));
        SaltedBody(bytes)
    }

    /// Takes bytes from outside, if they are what `header` commits to.
    pub fn check(bytes: Vec<u8>, header: &Header) -> Option<SaltedBody> {
        let fits = bytes.len() >= SALT_BYTES && bytes.len() <= ENTRY_BODY_BYTES_MAX && Hash::of(&bytes) == header.body;
        fits.then_some(SaltedBody(bytes))
    }

    /// The bytes, salt first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the header commits to.
    pub fn commitment(&self) -> Hash {
        Hash::of(&self.0)
    }

    /// The body. An error means that the master has written something that this version does not know.
    pub fn body(&self) -> Result<Body, NotTheMasters> {
        decode(&self.0[SALT_BYTES..]).map_err(|_| NotTheMasters::Newer)
    }
}

impl std::fmt::Debug for SaltedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SaltedBody({} bytes)", self.0.len())
    }
}

/// An entry, checked: the header is the master's and the body is the one that it commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The header.
    pub header: VerifiedHeader,
    /// The body.
    pub body: SaltedBody,
}

/// What a whole snapshot is: signed once, good for every page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The group.
    pub group: GroupId,
    /// The log's place that the snapshot shows.
    pub at: Position,
    /// That entry's header hash.
    pub header: Hash,
    /// The membership hash there.
    pub membership: Hash,
    /// Number of pages.
    pub pages: u32,
    /// BLAKE3 over the pages' BLAKE3 hashes, in order.
    pub content: Hash,
}

/// A manifest as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedManifest {
    /// The encoded [`Manifest`].
    pub bytes: Vec<u8>,
    /// The master's signature over them.
    pub signature: Signature,
}

impl SignedManifest {
    /// Signs a manifest as the master.
    pub fn sign(master: &Identity, manifest: &Manifest) -> SignedManifest {
        let bytes = encode(manifest);
        let signature = master.sign(Context::Snapshot, &manifest.group, &bytes);
        SignedManifest { bytes, signature }
    }

    /// Checks the signature, then decodes.
    pub fn verify(&self, master: &DeviceKey) -> Result<Manifest, NotTheMasters> {
        let group = GroupId::of(master);
        verify(master, Context::Snapshot, &group, &self.bytes, &self.signature)
            .map_err(|_| NotTheMasters::Signature)?;
        let manifest: Manifest = decode(&self.bytes).map_err(|_| NotTheMasters::Newer)?;
        check_position(manifest.at)?;
        if manifest.group == group { Ok(manifest) } else { Err(NotTheMasters::Group) }
    }
}

/// One row of a snapshot page. All membership headers come first, oldest first: their chain can be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotRow {
    /// A header that changed membership.
    Membership(SignedHeader),
    /// A device's name.
    Name {
        /// The device.
        id: PublicId,
        /// Its name.
        name: DeviceName,
    },
    /// A file.
    File {
        /// Whose.
        owner: PublicId,
        /// The row.
        file: FileMeta,
    },
    /// The rules in force.
    Policy(Policy),
    /// The servers in force.
    Servers(Vec<super::invite::ServerAddress>),
}
