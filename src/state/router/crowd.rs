//! Counts of connections that are no members: in all and by network, so that one network can't use up the room.

use std::collections::HashMap;
use std::net::IpAddr;

/// What is counted as one: an IPv4 address, or the /64 of an IPv6 one, which is what a household gets at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Network {
    pub(super) fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&address.octets()[..8]);
                Network::V6(prefix)
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Crowd {
    all_max: usize,
    network_max: usize,
    all: usize,
    networks: HashMap<Network, usize>,
}

impl Crowd {
    pub(super) fn new(all_max: usize, network_max: usize) -> Crowd {
        Crowd { all_max, network_max, all: 0, networks: HashMap::new() }
    }

    /// Counts one more, if there is room.
    #[must_use]
    pub(super) fn enter(&mut self, network: Network) -> bool {
        let here = self.networks.get(&network).copied().unwrap_or(0);
        if self.all >= self.all_max || here >= self.network_max {
            return false;
        }
        self.all += 1;
        self.networks.insert(network, here + 1);
        true
    }

    pub(super) fn leave(&mut self, network: Network) {
        if let Some(here) = self.networks.get_mut(&network) {
            self.all -= 1;
            *here -= 1;
            if *here == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_does_not_use_up_the_room() {
        let mut crowd = Crowd::new(3, 2);
        let near = Network::of("2001:db8::1".parse().unwrap());
        assert_eq!(near, Network::of("2001:db8::ffff:1".parse().unwrap()));
        let far = Network::of("192.0.2.1".parse().unwrap());
        assert_eq!(far, Network::of("::ffff:192.0.2.1".parse().unwrap()));
        assert!(crowd.enter(near) && crowd.enter(near) && !crowd.enter(near));
        assert!(crowd.enter(far) && !crowd.enter(far));
        crowd.leave(near);
        assert!(crowd.enter(far));
        crowd.leave(far);
        crowd.leave(far);
        crowd.leave(near);
        assert_eq!((crowd.all, crowd.networks.len()), (0, 0));
    }
}
