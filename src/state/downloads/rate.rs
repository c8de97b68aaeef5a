//! Bytes a second, over the last seconds.

use crate::state::time::Time;
use std::collections::VecDeque;

/// How far back a rate looks, in milliseconds.
const WINDOW_MS: u64 = 3_000;
/// Bytes are counted together in slots of this many milliseconds.
const SLOT_MS: u64 = 250;

/// A rate over a sliding window.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    slots: VecDeque<(u64, u64)>,
}

impl Rate {
    /// Bytes came.
    pub fn add(&mut self, now: Time, bytes: u64) {
        let slot = now.0 / SLOT_MS;
        match self.slots.back_mut() {
            Some((last, sum)) if *last == slot => *sum += bytes,
            _ => self.slots.push_back((slot, bytes)),
        }
        while self.slots.front().is_some_and(|(first, _)| (slot - first) * SLOT_MS > WINDOW_MS) {
            self.slots.pop_front();
        }
    }

    /// Bytes a second.
    pub fn per_second(&self, now: Time) -> u64 {
        let slot = now.0 / SLOT_MS;
        let recent = self.slots.iter().filter(|(at, _)| slot.saturating_sub(*at) * SLOT_MS <= WINDOW_MS);
        let (mut first, mut bytes) = (slot, 0);
        for (at, sum) in recent {
            first = first.min(*at);
            bytes += sum;
        }
        let span = ((slot - first + 1) * SLOT_MS).min(WINDOW_MS);
        bytes * 1_000 / span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(Time(0)), 0);
        for second in 0..20 {
            rate.add(Time(second * 500), 1_000);
        }
        let now = rate.per_second(Time(9_600));
        assert!((1_700..=2_400).contains(&now), "{now}");
        assert_eq!(rate.per_second(Time(60_000)), 0);
    }
}
