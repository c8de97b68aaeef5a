//! Everything between two parties that passes a server: signed by the sender, then sealed to the receiver.

use super::codec::{decode, encode};
use super::ids::{DeviceKey, EpochId, FileId, GroupId, Position, SealKey};
use super::invite::InviteSecret;
use super::limits::ENVELOPE_BYTES_MAX;
use super::log::{FileMeta, SignedHead, SignedHeader, SignedManifest};
use super::name::DeviceName;
use super::probe::ProbeToken;
use super::seal::{Epoch, open_sealed, seal_to};
use super::sign::{Context, Identity, Secret32, Signature, verify};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What an envelope holds, once open.
#[derive(Clone, Serialize, Deserialize)]
pub struct Letter {
    /// Who signed it.
    pub from: DeviceKey,
    /// For whom it is.
    pub to: DeviceKey,
    /// The request's number, or that of the request that this answers; zero where there is none.
    pub number: u64,
    /// The newest head that the sender has.
    pub head: Option<SignedHead>,
    /// What it says.
    pub payload: Payload,
}

/// Why an envelope is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEnvelope {
    /// Sealed to somebody else, or damaged.
    #[error("the envelope does not open with this device's key")]
    DoesNotOpen,
    /// Signed by somebody else than it says, or than the server says.
    #[error("the envelope is not signed by the device that it is said to come from")]
    Sender,
    /// Over the limit.
    #[error("the envelope is larger than any can be")]
    TooLarge,
    /// Not a letter of this version.
    #[error("the envelope holds something that this bailiwick does not know; update it")]
    Malformed,
}

impl Letter {
    /// Signs and seals.
    pub fn seal(&self, sender: &Identity, group: &GroupId, to: &SealKey) -> Vec<u8> {
        let bytes = encode(self);
        let signature = sender.sign(Context::Envelope, group, &bytes);
        seal_to(to, group, &self.to, &encode(&(bytes, signature)))
    }

    /// Opens, checks the signature of `from`, and decodes.
    pub fn open(receiver: &Identity, group: &GroupId, from: &DeviceKey, sealed: &[u8]) -> Result<Letter, BadEnvelope> {
        if sealed.len() > ENVELOPE_BYTES_MAX {
            return Err(BadEnvelope::TooLarge);
        }
        let plain = open_sealed(receiver, group, sealed).map_err(|_| BadEnvelope::DoesNotOpen)?;
        let (bytes, signature): (Vec<u8>, Signature) = decode(&plain).map_err(|_| BadEnvelope::Malformed)?;
        verify(from, Context::Envelope, group, &bytes, &signature).map_err(|_| BadEnvelope::Sender)?;
        let letter: Letter = decode(&bytes).map_err(|_| BadEnvelope::Malformed)?;
        let parties_agree = letter.from == *from && letter.to == receiver.device_key();
        if parties_agree { Ok(letter) } else { Err(BadEnvelope::Sender) }
    }
}

/// An epoch's secret as it travels to one device. No `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct EpochSecret {
    /// Which epoch.
    pub id: EpochId,
    secret: [u8; 32],
}

impl From<&Epoch> for EpochSecret {
    fn from(epoch: &Epoch) -> EpochSecret {
        EpochSecret { id: epoch.id, secret: epoch.secret.0 }
    }
}

impl From<EpochSecret> for Epoch {
    fn from(epoch: EpochSecret) -> Epoch {
        Epoch { id: epoch.id, secret: Secret32(epoch.secret) }
    }
}

/// One entry, for one device that catches up: the envelope seals it, so the body is plain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainEntry {
    /// The header.
    pub header: SignedHeader,
    /// The salted body.
    pub salted: Vec<u8>,
}

/// What a letter says.
#[derive(Clone, Serialize, Deserialize)]
pub enum Payload {
    /// `ClientRegister`: a device asks to be known. To the master.
    ClientRegister {
        /// The invite's secret.
        secret: InviteSecret,
        /// The device's X25519 key.
        seal: SealKey,
        /// The name that it would like.
        name: DeviceName,
    },
    /// `ClientRegisterAck`: what came of it. From the master.
    ClientRegisterAck(Result<SignedHeader, RegisterRefusal>),
    /// A member asks the master for a decision. To the master.
    Request {
        /// The log's generation that the request was made in.
        generation: u32,
        /// What is asked.
        request: Request,
    },
    /// What the master decided. From the master.
    Answer(Answer),
    /// A member lacks entries, a page or an epoch's secret. To the master.
    CatchUp(CatchUp),
    /// Entries that follow what the member has. From the master.
    Entries {
        /// In order, without a gap.
        entries: Vec<PlainEntry>,
        /// The secrets that are in use.
        epochs: Vec<EpochSecret>,
    },
    /// A page of a snapshot. From the master.
    Page {
        /// The whole, signed.
        manifest: SignedManifest,
        /// Which page, from zero.
        page: u32,
        /// Its bytes: postcard of a list of rows.
        bytes: Vec<u8>,
        /// The secrets that are in use.
        epochs: Vec<EpochSecret>,
    },
    /// Epoch secrets, to each device alone, before the entry that begins the epoch. From the master.
    EpochSecrets(Vec<EpochSecret>),
    /// An owner asks for a head that is as fresh as this nonce. To the master.
    FreshnessAsked([u8; 16]),
    /// The head, signed with the nonce. From the master.
    Freshness(SignedHead),
    /// Where the sender may be reached straight. From a member to another one.
    PathOffer(PathOffer),
}

/// Where a device may be reached straight, for one attempt to do so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathOffer {
    /// What probes to the sender have to say.
    pub token: ProbeToken,
    /// The addresses, [`CANDIDATES_MAX`](super::limits::CANDIDATES_MAX) at most.
    pub candidates: Vec<SocketAddr>,
    /// Whether the receiver's own offer is awaited.
    pub answer: bool,
}

/// What a member that catches up has, and lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// The newest entry that it applied; zero if none.
    pub since: Position,
    /// The page that it wants, if it is loading a snapshot: the snapshot's place and the page.
    pub page: Option<(Position, u32)>,
}

/// Why a registration was refused. Each text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RegisterRefusal {
    /// No invite with this secret is open: used, expired, revoked or never made.
    #[error("the invite was used, has expired or was revoked; ask the master for a new one")]
    InviteNotOpen,
    /// The device was expelled or left.
    #[error("this device was expelled from the group, which is final; use a new state directory and a new invite")]
    Expelled,
    /// The group has as many devices as it can hold.
    #[error("the group has as many devices as it can hold; ask the master to remove some")]
    GroupFull,
}

/// What a member asks of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// W9.
    AddFiles(Vec<FileMeta>),
    /// New versions of files that are in the catalog.
    ChangeFiles(Vec<FileMeta>),
    /// W11.
    RemoveFile(Vec<FileId>),
    /// Another name.
    Rename(DeviceName),
    /// To leave, for ever.
    Leave,
}

/// What the master says to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Decided, all but what is refused; the entry is at `at` (the log's head, if nothing was left to decide).
    Done {
        /// Where.
        at: Position,
        /// The files that were not taken, and why.
        refused: Vec<(FileId, FileRefusal)>,
    },
    /// The number is not the next: catch up, and ask anew with one above `last`.
    StaleNumber {
        /// The last number that was decided.
        last: u64,
    },
    /// The request is of another generation: catch up, and ask anew.
    OtherGeneration,
    /// Refused as a whole.
    Refused(RequestRefusal),
}

/// Why one file was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum FileRefusal {
    /// Another file of this owner has the path.
    #[error("another file of this device has this path")]
    PathTaken,
    /// The id is in use, or was.
    #[error("the file's id was used before")]
    IdTaken,
    /// The owner has as many files as a device may have.
    #[error("this device has as many files in the catalog as a device may have; remove some")]
    Quota,
    /// There is no such file of this owner.
    #[error("there is no such file")]
    Unknown,
}

/// Why a request was refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RequestRefusal {
    /// It breaks a limit that every member knows.
    #[error("the request breaks a limit; update this bailiwick")]
    Malformed,
    /// Somebody else has that name.
    #[error("another device of the group has this name, or one that looks like it")]
    NameTaken,
    /// The master can't do that to itself.
    #[error("the master can neither leave nor be disapproved")]
    Master,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_believed_from_its_signer_only() {
        let (anna, bert) = (Identity::from_seeds([1; 32], [2; 32]), Identity::from_seeds([3; 32], [4; 32]));
        let group = GroupId([5; 32]);
        let letter = Letter {
            from: anna.device_key(),
            to: bert.device_key(),
            number: 7,
            head: None,
            payload: Payload::FreshnessAsked([6; 16]),
        };
        let sealed = letter.seal(&anna, &group, &bert.seal_key());
        let opened = Letter::open(&bert, &group, &anna.device_key(), &sealed).unwrap();
        assert_eq!(opened.number, 7);
        assert_eq!(Letter::open(&bert, &group, &bert.device_key(), &sealed).err(), Some(BadEnvelope::Sender));
        assert_eq!(Letter::open(&anna, &group, &anna.device_key(), &sealed).err(), Some(BadEnvelope::DoesNotOpen));
        let forged = letter.seal(&bert, &group, &bert.seal_key());
        assert_eq!(Letter::open(&bert, &group, &bert.device_key(), &forged).err(), Some(BadEnvelope::Sender));
    }
}
