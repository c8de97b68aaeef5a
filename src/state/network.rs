//! What a device notices of its surroundings: that its addresses are others than before, and that it slept.

use super::time::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// The addresses are listed this often also when nothing tells of a change.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// The clock that counts sleep is ahead of the other one by more than this since the last look: the machine slept.
const SLEPT: Duration = Duration::from_secs(1);
/// A look that comes so much later than it was meant to: the process was stopped, or the clocks don't tell of sleep.
const LATE: Duration = Duration::from_secs(5);

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The one that counts the time that the machine sleeps.
    pub now: Time,
    /// The one that doesn't.
    pub awake: Time,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Network {
    clocks: Option<Clocks>,
    listed: Option<(Time, Vec<SocketAddr>)>,
}

impl Network {
    /// How long to wait for the next look at the clocks.
    pub const LOOK_EVERY: Duration = Duration::from_secs(2);

    /// Looks at the clocks. Says whether the machine slept since the last look.
    pub fn slept(&mut self, clocks: Clocks) -> bool {
        let Some(before) = self.clocks.replace(clocks) else { return false };
        let (all, awake) = (clocks.now.since(before.now), clocks.awake.since(before.awake));
        all.saturating_sub(awake) > SLEPT || all > Self::LOOK_EVERY + LATE
    }

    /// Whether the addresses are to be listed though nothing tells of a change.
    pub fn is_list_due(&self, now: Time) -> bool {
        self.listed.as_ref().is_none_or(|(at, _)| now.since(*at) >= LIST_EVERY)
    }

    /// The addresses were listed. Says whether they are others than before.
    pub fn listed(&mut self, now: Time, addresses: &[SocketAddr]) -> bool {
        let changed = self.listed.as_ref().is_none_or(|(_, before)| before != addresses);
        self.listed = Some((now, addresses.to_vec()));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: u64, awake: u64) -> Clocks {
        Clocks { now: Time(now), awake: Time(awake) }
    }

    #[test]
    fn sleep_shows_in_the_clocks_or_in_a_late_look() {
        let mut network = Network::default();
        assert!(!network.slept(at(5_000_000, 1_000)), "what was before the first look is nobody's");
        assert!(!network.slept(at(5_002_100, 3_100)));
        assert!(!network.slept(at(5_003_100, 3_200)), "a second is within what clocks may differ by");
        assert!(network.slept(at(5_005_000, 3_900)));
        assert!(!network.slept(at(5_007_000, 5_900)), "once");
        // Clocks that both count it, or neither: the look is late.
        assert!(network.slept(at(5_017_000, 15_900)));
        assert!(!network.slept(at(5_022_000, 20_900)), "a busy machine is late as well");
    }

    #[test]
    fn addresses_are_news_when_they_are_others() {
        let mut network = Network::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (lan, other) = (address("192.168.1.2:7"), address("10.0.0.2:7"));
        assert!(network.is_list_due(Time(0)) && network.listed(Time(0), &[lan]));
        assert!(!network.is_list_due(Time(9_999)) && network.is_list_due(Time(10_000)));
        assert!(!network.listed(Time(10_000), &[lan]));
        assert!(network.listed(Time(10_500), &[other, lan]));
        assert!(!network.is_list_due(Time(20_000)), "the last listing counts, whatever it was for");
        assert!(network.listed(Time(20_500), &[]));
    }
}
