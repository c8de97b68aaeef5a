//! How transfers wait and end, in words.

use crate::wire::frame::ChunkRefusal;
use crate::wire::path::RelPath;

/// Why a transfer does not move, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Outcome {
    /// It is there, verified.
    #[error("done")]
    Done,
    /// The server is away.
    #[error("waiting for the server")]
    ServerAway,
    /// The owner is not connected.
    #[error("waiting for the owner, who is away")]
    OwnerAway,
    /// There is no straight way to the owner, and its job wants no other.
    #[error("waiting for a direct connection")]
    NotStraight,
    /// The owner or the server said no, for now or for good.
    #[error("{0}")]
    Refused(ChunkRefusal),
    /// No room.
    #[error("the disk is full: free some space in the downloads folder; the download then goes on by itself")]
    DiskFull,
    /// Something else is at the destination.
    #[error(
        "there is something else at the destination already: get it with --conflict skip, rename or overwrite, or to another folder with -o"
    )]
    AlreadyThere,
    /// A folder is at the destination.
    #[error(
        "there is a folder of that name already, which is never replaced: get it with --conflict skip or rename, or to another folder with -o"
    )]
    FolderThere,
    /// A file lies where a folder is needed: at so many first parts of the destination's path.
    #[error(
        "there is a file where a folder is needed: move it elsewhere, or get this with --conflict skip or rename, or to another folder with -o"
    )]
    FileAbove(u8),
    /// Something else is at the destination, and the job leaves such files out.
    #[error("skipped: there is something else at the destination already")]
    Skipped,
    /// Another download to the same place is not over.
    #[error(
        "waiting for another download to the same place, which left a .bwpart file there; if there is none any more, remove that file"
    )]
    PlaceTaken,
    /// No room where the state lies.
    #[error(
        "the disk of the state directory is nearly full: free some space there; the download then goes on by itself"
    )]
    StateFull,
    /// The destination can't be written.
    #[error(
        "the destination can't be written: check that its disk is there and its permissions; the download then goes on by itself"
    )]
    CannotWrite,
    /// A link in the destination leads elsewhere.
    #[error("a part of the destination's path is a link, which is not followed; choose another folder with -o")]
    Jail,
    /// The destination lies in a state directory.
    #[error(
        "the destination lies in a state directory of bailiwick, which holds private keys; choose another folder with -o"
    )]
    StateDirectory,
    /// A name that this system can't hold.
    #[error("the destination's name is too long for this system")]
    NameTooLong,
    /// What came is not what the catalog says, again and again.
    #[error("what comes is not what the catalog says; the owner should run 'bailiwick scan' or restart its node")]
    Damaged,
    /// This device was expelled, or left.
    #[error("this device was expelled from the group, or leaves it")]
    Expelled,
    /// The file left the catalog, or its owner the group.
    #[error("removed: the file is not in the catalog any more")]
    Removed,
}

impl Outcome {
    /// Whether the transfer is over, rather than waiting.
    pub fn is_end(self) -> bool {
        match self {
            Outcome::Done
            | Outcome::AlreadyThere
            | Outcome::FolderThere
            | Outcome::FileAbove(_)
            | Outcome::Skipped
            | Outcome::Jail
            | Outcome::StateDirectory
            | Outcome::NameTooLong
            | Outcome::Damaged
            | Outcome::Expelled
            | Outcome::Removed => true,
            Outcome::Refused(reason) => is_final(reason),
            Outcome::ServerAway
            | Outcome::OwnerAway
            | Outcome::NotStraight
            | Outcome::DiskFull
            | Outcome::StateFull
            | Outcome::PlaceTaken
            | Outcome::CannotWrite => false,
        }
    }
}

/// Whether a refusal ends a transfer. All others may pass.
fn is_final(reason: ChunkRefusal) -> bool {
    match reason {
        ChunkRefusal::OwnerExpelled | ChunkRefusal::Malformed => true,
        ChunkRefusal::OwnerUnknown
        | ChunkRefusal::Changed
        | ChunkRefusal::Unknown
        | ChunkRefusal::OwnerAway
        | ChunkRefusal::OwnerStalled
        | ChunkRefusal::OverQuota
        | ChunkRefusal::Expired
        | ChunkRefusal::OwnerNotFresh
        | ChunkRefusal::Unreadable
        | ChunkRefusal::Paused
        | ChunkRefusal::NotReady => false,
    }
}

/// What became of the opening of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The part file is open, and holds what was claimed.
    Ready,
    /// What was claimed is nowhere: its part file was deleted or cut short. To be opened again without the claims.
    Anew,
    /// Its name is taken, or can't be: it is to be opened under this one.
    Elsewhere(RelPath),
    /// It waits or ends.
    Not(Outcome),
}

/// What became of a unit that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Verified, and written where it belongs.
    Verified,
    /// Not what the catalog says.
    Damaged,
    /// Its bytes stopped before their end; it is to be asked for again.
    Broken,
    /// It could not be opened yet: the epoch's secret is not here.
    NoSecret,
    /// It could not be written.
    NotWritten(Outcome),
}
