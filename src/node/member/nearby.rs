//! Devices on the same local network: what this one announces, and which members it sees.

use super::core::{Cx, MemberCore};
use super::io::Output;
use crate::state::paths::candidates::is_near;
use crate::state::random::draw;
use crate::wire::beacon::{Announcement, Beacon, BeaconKey, Readers};
use crate::wire::ids::{DeviceKey, GroupId};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is announced.
pub(super) struct Nearby {
    key: BeaconKey,
    /// This device's own, once it was announced.
    own: Option<Beacon>,
    /// Who else is looked for.
    readers: Option<Readers>,
    announced: Option<Announcement>,
}

impl Nearby {
    pub(super) fn new(group: &GroupId) -> Nearby {
        Nearby { key: BeaconKey::of(group), own: None, readers: None, announced: None }
    }
}

impl MemberCore {
    /// Members are seen on the local network, as far as what is announced there can be believed.
    pub(super) fn seen_nearby(&mut self, cx: &mut Cx<'_>, seen: Vec<(DeviceKey, SocketAddr)>) {
        let mut members: BTreeMap<DeviceKey, Vec<SocketAddr>> = BTreeMap::new();
        for (device, address) in seen.into_iter().filter(|(device, _)| self.is_met(device)) {
            members.entry(device).or_default().push(address);
        }
        self.paths.nearby(cx.now, &members);
    }

    /// Announces this device on its local network while it takes part in the group.
    pub(super) fn announce_nearby(&mut self, cx: &mut Cx<'_>, takes_part: bool) {
        let loopback = self.config.paths.near_loopback;
        let addresses: Vec<SocketAddr> =
            self.addresses.iter().filter(|address| is_near(address, loopback)).copied().collect();
        let is_there = takes_part && !addresses.is_empty();
        let announcement = is_there.then(|| {
            let readers = self.readers();
            let Nearby { key, own, .. } = &mut self.nearby;
            let beacon = *own.get_or_insert_with(|| key.beacon(&self.key, draw(cx.random)));
            Announcement { beacon, addresses, readers }
        });
        if self.nearby.announced != announcement {
            self.nearby.announced.clone_from(&announcement);
            self.outputs.push(Output::Announce(announcement));
        }
    }

    /// Who is looked for: the members by the present log.
    fn readers(&mut self) -> Readers {
        let membership = self.tip().membership;
        match &self.nearby.readers {
            Some(readers) if readers.membership() == membership => readers.clone(),
            Some(_) | None => {
                let members = self.roster().members().map(|device| device.key).filter(|key| *key != self.key);
                let readers = Readers::new(self.nearby.key.clone(), membership, members);
                self.nearby.readers.insert(readers).clone()
            }
        }
    }
}
