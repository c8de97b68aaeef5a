//! How often this device sends to one address without being asked: neither a member nor a server can aim it at a third
//! party, nor use up what others may have sent there.

use super::super::time::Time;
use crate::wire::ids::DeviceKey;
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

/// Counts probes, in all and those for the sake of each device.
#[derive(Debug)]
pub(super) struct ProbeCap {
    max_of_device: u32,
    of_devices: BTreeMap<(DeviceKey, IpAddr), Minute>,
    all: Cap,
}

impl ProbeCap {
    pub(super) fn new(max: u32, max_of_device: u32) -> ProbeCap {
        ProbeCap { max_of_device, of_devices: BTreeMap::new(), all: Cap::new(max) }
    }

    /// Counts one more to an address, for the sake of a device, if it may be.
    pub(super) fn take(&mut self, now: Time, device: DeviceKey, to: IpAddr) -> bool {
        if self.of_devices.len() >= ADDRESSES_MAX {
            self.of_devices.retain(|_, minute| !minute.is_over(now));
        }
        if self.of_devices.len() >= ADDRESSES_MAX && !self.of_devices.contains_key(&(device, to)) {
            return false;
        }
        let of_device = self.of_devices.entry((device, to)).or_insert_with(|| Minute::new(now));
        of_device.take(now, self.max_of_device) && self.all.take(now, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sign::Identity;

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

    #[test]
    fn one_device_cannot_use_up_what_another_one_needs() {
        let mut cap = ProbeCap::new(10, 6);
        let [one, other] = [1, 2].map(|seed| Identity::from_seeds([seed; 32], [seed; 32]).device_key());
        let to = IpAddr::from([192, 0, 2, 1]);
        let mut taken = |now, device| (0..9).filter(|_| cap.take(Time(now), device, to)).count();
        assert_eq!(taken(0, one), 6);
        assert_eq!(taken(0, one), 0);
        assert_eq!(taken(0, other), 4, "all together get no more than that");
        assert_eq!(taken(60_000, other), 6);
    }
}
