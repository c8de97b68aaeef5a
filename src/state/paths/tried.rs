//! What came of attempts to reach a device straight, for people who want to know why it is relayed.

use super::punch::{Attempt, Why};
use crate::state::time::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// An address of the other device, as an attempt found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Which.
    pub address: SocketAddr,
    /// Whether the other device named it; else a ping came from there.
    pub offered: bool,
    /// Pings that were sent there.
    pub pings: u32,
    /// How long after the attempt began the first answer came.
    pub answered: Option<Duration>,
    /// Whether a dial there failed.
    pub refused: bool,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// When it was over.
    pub ended: Time,
    /// How long it took.
    pub took: Duration,
    /// Why nothing came of it; none if a connection did.
    pub why: Option<Why>,
    /// What it tried.
    pub addresses: Vec<Checked>,
}

/// All attempts to reach one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many there were.
    pub count: u32,
    /// How many of them led to a connection.
    pub direct: u32,
    /// The last one.
    pub last: Option<Tried>,
}

impl Tries {
    /// An attempt is over.
    pub(super) fn ended(&mut self, now: Time, attempt: &Attempt, why: Option<Why>) {
        self.count = self.count.saturating_add(1);
        self.direct = self.direct.saturating_add(u32::from(why.is_none()));
        let took = now.since(attempt.since());
        self.last = Some(Tried { ended: now, took, why, addresses: attempt.checked() });
    }
}
