//! What the faults of a world hit: which outputs a crash left undone, and how often each fault happened.

use super::*;
use std::fmt;

/// Counts, by what was hit.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// The first output that a crash left undone, by role and kind; `nothing` if all of them were done.
    pub(crate) crashes: BTreeMap<(Role, &'static str), u64>,
    /// Faults and actions, by name.
    pub(crate) events: BTreeMap<&'static str, u64>,
}

/// Whose process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The master.
    Master,
    /// A client.
    Client,
    /// The server.
    Server,
}

impl Coverage {
    /// Another world's counts come on top.
    pub(crate) fn add(&mut self, other: &Coverage) {
        for (key, count) in &other.crashes {
            *self.crashes.entry(*key).or_default() += count;
        }
        for (key, count) in &other.events {
            *self.events.entry(key).or_default() += count;
        }
    }

    /// Something happened.
    pub(crate) fn event(&mut self, name: &'static str) {
        *self.events.entry(name).or_default() += 1;
    }

    /// Kinds of outputs that no crash left undone, of members and of the server.
    pub(crate) fn missed(&self) -> Vec<String> {
        let hit = |role, kind: &&'static str| self.crashes.contains_key(&(role, *kind));
        let of_members = OUTPUTS.iter().filter(|kind| !hit(Role::Master, kind) && !hit(Role::Client, kind));
        let of_server = SERVER_OUTPUTS.iter().filter(|kind| !hit(Role::Server, kind));
        let of_server = of_server.map(|kind| format!("server: {kind}"));
        of_members.map(|kind| (*kind).to_owned()).chain(of_server).collect()
    }

    /// A process died before it did this.
    pub(crate) fn crash(&mut self, role: Role, undone: Option<&'static str>) {
        *self.crashes.entry((role, undone.unwrap_or("nothing"))).or_default() += 1;
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "crashes, by the first output that was left undone:")?;
        for ((role, kind), count) in &self.crashes {
            writeln!(out, "  {role:?} {kind}: {count}")?;
        }
        writeln!(out, "what happened:")?;
        self.events.iter().try_for_each(|(name, count)| writeln!(out, "  {name}: {count}"))
    }
}

/// How many times likelier than elsewhere a crash is before an output of a kind that few batches have.
pub(super) fn rarity(kind: &str) -> Option<u64> {
    match kind {
        "Upload" | "Forward" | "Close" | "Expect" => Some(20),
        "Sync" | "Finish" | "Forget" | "EndForward" | "Receive" | "Drop" => Some(100),
        "StopStream" => Some(1_000),
        _ => None,
    }
}

/// Every kind of output of a member.
const OUTPUTS: &[&str] = &[
    "Dial", "Send", "SendBulk", "Close", "Streams", "Epochs", "Open", "Expect", "Forget", "Sync", "Finish", "Drop",
    "Upload", "Scan", "Hash", "Reply", "Event",
];

/// Every kind of output of a server.
const SERVER_OUTPUTS: &[&str] =
    &["Classed", "Send", "SendCounted", "Close", "Receive", "StopStream", "Forward", "EndForward", "Drop"];

/// A member's output, by its kind.
pub(super) fn kind(output: &Output) -> &'static str {
    match output {
        Output::Dial(..) => "Dial",
        Output::Send(..) => "Send",
        Output::SendBulk(..) => "SendBulk",
        Output::Close(..) => "Close",
        Output::Streams(..) => "Streams",
        Output::Announce(_) => "Announce",
        Output::MapPort(_) => "MapPort",
        Output::DialPeer(..) => "DialPeer",
        Output::Probe(..) => "Probe",
        Output::ProbeServer(..) => "ProbeServer",
        Output::PeerHello(..) => "PeerHello",
        Output::PeerStreams(..) => "PeerStreams",
        Output::Epochs(_) => "Epochs",
        Output::Open(_) => "Open",
        Output::Expect(..) => "Expect",
        Output::Forget(..) => "Forget",
        Output::Join(..) => "Join",
        Output::Look(..) => "Look",
        Output::Unsend(..) => "Unsend",
        Output::StopUploads(_) => "StopUploads",
        Output::Sync(..) => "Sync",
        Output::Finish(_) => "Finish",
        Output::Drop(..) => "Drop",
        Output::Upload(..) => "Upload",
        Output::Scan(..) => "Scan",
        Output::Hash(..) => "Hash",
        Output::EndScan(_) => "EndScan",
        Output::DeleteCopies(_) => "DeleteCopies",
        Output::Reply(..) => "Reply",
        Output::Event(..) => "Event",
        Output::Stopped => "Stopped",
        Output::Erase => "Erase",
        Output::Fatal(_) => "Fatal",
    }
}

/// A server's output, by its kind.
pub(super) fn server_kind(output: &ServerOutput) -> &'static str {
    match output {
        ServerOutput::Classed { .. } => "Classed",
        ServerOutput::Send { .. } => "Send",
        ServerOutput::SendCounted { .. } => "SendCounted",
        ServerOutput::Close { .. } => "Close",
        ServerOutput::Receive { .. } => "Receive",
        ServerOutput::StopStream { .. } => "StopStream",
        ServerOutput::Forward { .. } => "Forward",
        ServerOutput::EndForward { .. } => "EndForward",
        ServerOutput::Drop { .. } => "Drop",
    }
}
