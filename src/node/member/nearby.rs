//! Devices on the same local network: what this one announces, and which members those are that it sees.

use super::core::{Cx, MemberCore};
use super::io::Output;
use crate::state::paths::candidates::is_near;
use crate::state::random::draw;
use crate::wire::beacon::{Announcement, Beacon, BeaconKey};
use crate::wire::ids::{DeviceKey, GroupId, Hash};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// Beacons that are compared with the whole roster in one batch; the others' turn comes when they are seen again.
const LOOKED_UP_MAX: usize = 32;
/// Beacons of which it is known whose they are, or that they are nobody's, at most.
const KNOWN_MAX: usize = 1_024;

/// What is known of beacons.
pub(super) struct Nearby {
    key: BeaconKey,
    /// This device's own, once it was announced.
    own: Option<Beacon>,
    announced: Option<Announcement>,
    /// Whose they are, by the roster with this membership.
    known: HashMap<Beacon, Option<DeviceKey>>,
    membership: Hash,
}

impl Nearby {
    pub(super) fn new(group: &GroupId) -> Nearby {
        let key = BeaconKey::of(group);
        Nearby { key, own: None, announced: None, known: HashMap::new(), membership: Hash::ZERO }
    }
}

impl MemberCore {
    /// Devices of any group, or of none, are seen on the local network.
    pub(super) fn seen_nearby(&mut self, cx: &mut Cx<'_>, seen: Vec<(Beacon, SocketAddr)>) {
        let membership = self.tip().membership;
        if self.nearby.membership != membership || self.nearby.known.len() > KNOWN_MAX {
            self.nearby.known.clear();
            self.nearby.membership = membership;
        }
        let mut lookups = 0;
        let mut members: BTreeMap<DeviceKey, Vec<SocketAddr>> = BTreeMap::new();
        for (beacon, address) in seen {
            let known = self.nearby.known.get(&beacon).copied();
            let whose = known.or_else(|| {
                lookups += 1;
                (lookups <= LOOKED_UP_MAX).then(|| self.look_up(beacon))
            });
            if let Some(Some(device)) = whose
                && self.is_met(&device)
            {
                members.entry(device).or_default().push(address);
            }
        }
        self.paths.nearby(cx.now, &members);
    }

    fn look_up(&mut self, beacon: Beacon) -> Option<DeviceKey> {
        let is_of = |device: &DeviceKey| self.nearby.key.is_of(&beacon, device);
        let whose = self.roster().devices().map(|device| device.key).find(is_of);
        self.nearby.known.insert(beacon, whose);
        whose
    }

    /// Announces this device on its local network while it takes part in the group.
    pub(super) fn announce_nearby(&mut self, cx: &mut Cx<'_>, takes_part: bool) {
        let loopback = self.config.paths.near_loopback;
        let addresses: Vec<SocketAddr> =
            self.addresses.iter().filter(|address| is_near(address, loopback)).copied().collect();
        let is_there = takes_part && !addresses.is_empty();
        let announcement = is_there.then(|| {
            let Nearby { key, own, .. } = &mut self.nearby;
            let beacon = *own.get_or_insert_with(|| key.beacon(&self.key, draw(cx.random)));
            Announcement { beacon, addresses }
        });
        if self.nearby.announced != announcement {
            self.nearby.announced.clone_from(&announcement);
            self.outputs.push(Output::Announce(announcement));
        }
    }
}
