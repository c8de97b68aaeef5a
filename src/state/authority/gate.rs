//! Whether this copy of the master may sign. A log must not fork at its source: a copy that may be an old one signs
//! nothing new until its server, and the devices that are connected, have shown their heads.

use crate::state::chain::LogTip;
use crate::state::time::Time;
use crate::wire::log::Head;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this copy of the master is an old one: its log ends at {own}, and {shown} was signed already; it signs nothing more. Run the newest copy instead"
)]
pub struct StaleCopy {
    /// Where this copy's log ends.
    pub own: crate::wire::ids::Position,
    /// The place that was shown.
    pub shown: crate::wire::ids::Position,
}

/// The state of a master that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may sign.
    Open,
    /// It waits for others' heads, until this time.
    Waiting(Time),
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

    /// A head was shown, then or at any later time.
    pub fn head_shown(&mut self, shown: &Head, own: &LogTip) {
        if shown.at > own.at || own.contradicts(shown) {
            *self = Gate::Closed(StaleCopy { own: own.at, shown: shown.at });
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) {
        if matches!(self, Gate::Waiting(until) if *until <= now) {
            *self = Gate::Open;
        }
    }
}
