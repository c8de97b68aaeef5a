//! Whether this copy of the master may sign. A log must not fork at its source: a copy that may be an old one signs
//! nothing new until its server, and the devices that are connected, have shown their heads.

use super::import::ImportConfig;
use crate::state::chain::LogTip;
use crate::state::time::Time;
use crate::wire::ids::{Hash, Position, hex};
use crate::wire::log::Head;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a starting master waits.
#[derive(Debug, Clone, Copy)]
pub struct GateConfig {
    /// How long it waits for its server and for the devices that come back to it, at most.
    pub wait: Duration,
}

impl Default for GateConfig {
    fn default() -> GateConfig {
        GateConfig { wait: Duration::from_secs(5) }
    }
}

/// Somebody has shown a head that this copy's log does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaleCopy {
    /// Where this copy's log ends.
    pub own: Position,
    /// The place that was shown.
    pub shown: Position,
    /// This log's hash at that place and the one that was shown, if this log reaches so far: then both were signed.
    pub fork: Option<(Hash, Hash)>,
}

/// What a person does about an old copy.
pub const STALE_HINT: &str = "stop this node and run the newest copy of the master's state directory; if there is none, \
     use 'bailiwick export FILE' here and 'bailiwick import FILE' into a new state directory: the import brings all \
     copies together, and nothing that anybody still has is lost";

impl std::fmt::Display for StaleCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StaleCopy { own, shown, fork } = self;
        match fork {
            Some((ours, theirs)) => write!(
                f,
                "the master's log has forked at {shown}: this copy signed {} there, an old one or a newer one signed {}; \
                 this copy signs nothing more",
                short(ours),
                short(theirs)
            ),
            None => write!(
                f,
                "this copy of the master is an old one: its log ends at {own}, and {shown} was signed already; it signs \
                 nothing more"
            ),
        }
    }
}

/// The first digits of a hash, for people to compare.
pub fn short(hash: &Hash) -> String {
    hex(&hash.0[..4])
}

/// The state of a master that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may sign.
    Open,
    /// It waits for others' heads, until this time.
    Waiting(Time),
    /// It was imported from a backup, and takes in what others show until this time, once a server took it.
    Importing(Option<Time>),
    /// It must not.
    Closed(StaleCopy),
}

impl Gate {
    /// The gate of a master that starts. A log that nobody can have seen is exempt.
    pub fn at_start(now: Time, seen_by_others: bool, config: &GateConfig) -> Gate {
        if seen_by_others { Gate::Waiting(now.after(config.wait)) } else { Gate::Open }
    }

    /// The server has answered. It knows the newest head that any device showed it, so if it has been up for long
    /// enough that devices have come back, or never knew the group, its word suffices.
    pub fn server_answered(&mut self, knew_group: bool, up: Duration, config: &GateConfig) {
        if matches!(self, Gate::Waiting(_)) && (!knew_group || up >= config.wait) {
            *self = Gate::Open;
        }
    }

    /// A server took an imported master: from now on others can show what they know.
    pub fn server_took_import(&mut self, now: Time, config: &ImportConfig) {
        if *self == Gate::Importing(None) {
            *self = Gate::Importing(Some(now.after(config.wait)));
        }
    }

    /// A head was shown, then or at any later time. `held` is the hash that this log has at its place, if it has one.
    pub fn head_shown(&mut self, shown: &Head, own: &LogTip, held: Option<Hash>) {
        if matches!(self, Gate::Importing(_) | Gate::Closed(_)) {
            return;
        }
        let held = if shown.at == own.at { Some(own.header) } else { held };
        let fork = held.filter(|held| *held != shown.header).map(|held| (held, shown.header));
        if shown.at > own.at || fork.is_some() {
            *self = Gate::Closed(StaleCopy { own: own.at, shown: shown.at, fork });
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) {
        if matches!(self, Gate::Waiting(until) if *until <= now) {
            *self = Gate::Open;
        }
    }

    /// When to call [`Gate::tick`], or to look whether an import is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self {
            Gate::Waiting(until) => Some(*until),
            Gate::Importing(until) => *until,
            Gate::Open | Gate::Closed(_) => None,
        }
    }
}
