//! Where a log ends, and what a header is to it.

use crate::wire::ids::{Hash, Position};
use crate::wire::log::VerifiedHeader;
use serde::{Deserialize, Serialize};

/// The end of a log or of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTip {
    /// Place of the last entry; zero before the first.
    pub at: Position,
    /// Its header's hash.
    pub header: Hash,
    /// Hash of the last header that changed membership.
    pub membership: Hash,
}

/// What a header is to a log that ends somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The next entry.
    Next,
    /// Before the end, or the end itself.
    Old,
    /// After the end, with something missing between.
    Gap,
    /// It contradicts the log's end: the master signed two histories.
    Fork,
}

/// Two histories, both signed: one place of the log, two hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The place.
    pub at: Position,
    /// What this device has there.
    pub ours: Hash,
    /// What was shown to it.
    pub theirs: Hash,
}

impl LogTip {
    /// Before the first entry.
    pub const START: LogTip =
        LogTip { at: Position { generation: 0, revision: 0 }, header: Hash::ZERO, membership: Hash::ZERO };

    /// What `next` is to this log.
    pub fn judge(&self, next: &VerifiedHeader) -> Judgement {
        let header = next.header();
        if header.at == self.at {
            return if next.hash() == self.header { Judgement::Old } else { Judgement::Fork };
        }
        if header.at < self.at {
            return Judgement::Old;
        }
        let begins = *self == LogTip::START && header.at.revision == 1;
        let follows = header.at.generation == self.at.generation && header.at.revision == self.at.revision + 1;
        if !begins && !follows {
            return Judgement::Gap;
        }
        let linked = header.previous == self.header && header.previous_membership == self.membership;
        if linked { Judgement::Next } else { Judgement::Fork }
    }

    /// The end of the log once `next` is part of it.
    pub fn after(next: &VerifiedHeader) -> LogTip {
        LogTip { at: next.header().at, header: next.hash(), membership: next.membership_hash() }
    }
}
