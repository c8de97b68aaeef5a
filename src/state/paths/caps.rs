//! How often this device sends to one address without being asked: neither a member nor a server can aim it at a third
//! party.

use super::super::time::Time;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The span over which is counted.
const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are counted at a time; while there are more, new ones get nothing.
const ADDRESSES_MAX: usize = 4_096;

/// So many of something in a minute, from the first on.
#[derive(Debug)]
pub(super) struct Minute {
    since: Time,
    count: u32,
}

impl Minute {
    pub(super) fn new(now: Time) -> Minute {
        Minute { since: now, count: 0 }
    }

    /// Counts one more, if it may be.
    pub(super) fn take(&mut self, now: Time, max: u32) -> bool {
        if self.is_over(now) {
            *self = Minute::new(now);
        }
        let may = self.count < max;
        self.count += u32::from(may);
        may
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        now.since(self.since) >= SPAN
    }
}

/// Counts by address, whatever the port, over a minute.
#[derive(Debug)]
pub(super) struct Cap {
    max: u32,
    counts: BTreeMap<IpAddr, Minute>,
}

impl Cap {
    pub(super) fn new(max: u32) -> Cap {
        Cap { max, counts: BTreeMap::new() }
    }

    /// Counts one more, if it may be.
    pub(super) fn take(&mut self, now: Time, to: IpAddr) -> bool {
        if !self.counts.contains_key(&to) && self.counts.len() >= ADDRESSES_MAX {
            self.counts.retain(|_, minute| !minute.is_over(now));
            if self.counts.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        self.counts.entry(to).or_insert_with(|| Minute::new(now)).take(now, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_so_many_a_minute() {
        let mut cap = Cap::new(3);
        let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let taken = |cap: &mut Cap, now, to| (0..9).filter(|_| cap.take(Time(now), to)).count();
        assert_eq!(taken(&mut cap, 0, one), 3);
        assert_eq!(taken(&mut cap, 59_999, one), 0);
        assert_eq!(taken(&mut cap, 59_999, other), 3);
        assert_eq!(taken(&mut cap, 60_000, one), 3);
    }

    #[test]
    fn a_flood_of_addresses_takes_a_bounded_amount_of_memory() {
        let mut cap = Cap::new(1);
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let taken = (0..10_000).filter(|number| cap.take(Time(0), address(*number))).count();
        assert_eq!(taken, ADDRESSES_MAX);
        assert!(cap.take(Time(60_000), address(9_999)));
    }
}
