//! What keeps senders apart: a pace for each, and a queue for each towards the master, served in turn. No member can
//! crowd out the others or close the master's connection.

use super::config::RouterConfig;
use crate::state::time::Time;
use crate::wire::frame::Frame;
use crate::wire::ids::DeviceKey;
use std::collections::{HashMap, VecDeque};

/// How much a sender has sent lately. Levels fall with time, and a frame that would overflow one is refused.
#[derive(Debug, Default)]
pub(super) struct Pace {
    at: Time,
    frames_milli: u64,
    bytes_milli: u64,
}

impl Pace {
    /// Counts a frame, if it is not too much.
    #[must_use]
    pub(super) fn take(&mut self, now: Time, bytes: usize, config: &RouterConfig) -> bool {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.at = self.at.max(now);
        self.frames_milli = self.frames_milli.saturating_sub(passed.saturating_mul(config.frames_per_second));
        self.bytes_milli = self.bytes_milli.saturating_sub(passed.saturating_mul(config.bytes_per_second));
        let frames = self.frames_milli + 1_000;
        let bytes = self.bytes_milli + bytes as u64 * 1_000;
        let burst = config.burst_seconds * 1_000;
        if frames > config.frames_per_second * burst || bytes > config.bytes_per_second * burst {
            return false;
        }
        (self.frames_milli, self.bytes_milli) = (frames, bytes);
        true
    }
}

/// Who shares one queue towards the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sender {
    /// All who are not approved: their keys cost nothing, so that they count as one.
    Strangers,
    /// A member.
    Member(DeviceKey),
}

/// A frame on its way to the master.
pub(super) struct Waiting {
    /// From whom.
    pub(super) from: DeviceKey,
    /// Its number there.
    pub(super) number: u64,
    /// The frame as the master gets it.
    pub(super) frame: Frame,
    /// Bytes of its envelope.
    pub(super) bytes: usize,
}

/// The queues towards one master.
#[derive(Default)]
pub(super) struct MasterQueue {
    queues: HashMap<Sender, VecDeque<Waiting>>,
    turns: VecDeque<Sender>,
    under_way: usize,
}

impl MasterQueue {
    /// Queues a frame; false if its sender has too much waiting.
    #[must_use]
    pub(super) fn offer(&mut self, sender: Sender, waiting: Waiting, config: &RouterConfig) -> bool {
        let queue = self.queues.entry(sender).or_default();
        let bytes: usize = queue.iter().map(|waiting| waiting.bytes).sum();
        if queue.len() >= config.master_queue_frames || bytes + waiting.bytes > config.master_queue_bytes {
            return false;
        }
        if queue.is_empty() {
            self.turns.push_back(sender);
        }
        queue.push_back(waiting);
        true
    }

    /// The next frame to send, one from each sender in turn, while not too much is under way.
    pub(super) fn next(&mut self, config: &RouterConfig) -> Option<Waiting> {
        if self.under_way >= config.master_window_bytes {
            return None;
        }
        let sender = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&sender)?;
        let waiting = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&sender);
        } else {
            self.turns.push_back(sender);
        }
        self.under_way += waiting.bytes;
        Some(waiting)
    }

    /// These bytes were handed to the network.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    /// Drops what a device has waiting.
    pub(super) fn drop_sender(&mut self, device: &DeviceKey) {
        let sender = Sender::Member(*device);
        if self.queues.remove(&sender).is_some() {
            self.turns.retain(|turn| *turn != sender);
        }
    }

    /// All that waits, as nothing of it will be sent.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.queues.into_values().flatten()
    }
}
