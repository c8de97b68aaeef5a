//! The devices of a group and where they stand. What is final stays: no later header changes it.

use crate::wire::ids::{DeviceKey, PublicId, SealKey};
use crate::wire::log::{Body, MembershipChange, Standing, VerifiedHeader};
use crate::wire::name::DeviceName;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: PublicId,
    /// Its Ed25519 key.
    pub key: DeviceKey,
    /// Its X25519 key.
    pub seal: SealKey,
    /// Where the log says that it stands.
    pub standing: Standing,
    /// Its name.
    pub name: DeviceName,
    /// The short code of its registration.
    pub code: String,
    /// Since when it stands there, by the master's clock, in milliseconds since 1970.
    pub since_ms: u64,
}

/// All devices that the log has named, the expelled ones too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    devices: BTreeMap<PublicId, Device>,
    by_key: HashMap<DeviceKey, PublicId>,
    /// What the living devices' names look like, and how many look so: an old log may hold names that look alike.
    looks: HashMap<String, usize>,
    living: usize,
    /// Expelled by a header that came before its turn: true already, though the log's end is not there yet.
    ahead: HashMap<DeviceKey, Standing>,
}

impl Roster {
    /// A roster of devices that were persisted.
    pub fn restore(
        devices: impl IntoIterator<Item = Device>,
        ahead: impl IntoIterator<Item = (DeviceKey, Standing)>,
    ) -> Roster {
        let mut roster = Roster { ahead: ahead.into_iter().collect(), ..Roster::default() };
        devices.into_iter().for_each(|device| roster.put(device));
        roster
    }

    /// Takes in what an entry says of devices.
    pub fn apply(&mut self, header: &VerifiedHeader, body: &Body) {
        match (&header.header().membership, body) {
            (Some(change), Body::GroupBegun { name, .. } | Body::ClientRegistered { name, .. }) => {
                self.put(device_of(change, name.clone(), header));
            }
            (Some(change), _) => self.set_standing(change, header.header().time_ms),
            (None, Body::ClientRenamed { id, name }) => self.rename(id, name),
            (None, _) => {}
        }
    }

    /// Takes in an expulsion that came before its turn. Says whether it is news.
    pub fn expel_ahead(&mut self, change: &MembershipChange) -> bool {
        let known = self.is_expelled(&change.device);
        self.ahead.entry(change.device).or_insert(change.standing);
        !known
    }

    /// The device with this id.
    pub fn device(&self, id: &PublicId) -> Option<&Device> {
        self.devices.get(id)
    }

    /// The device with this key.
    pub fn by_key(&self, key: &DeviceKey) -> Option<&Device> {
        self.by_key.get(key).and_then(|id| self.devices.get(id))
    }

    /// All devices, by id.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// The members: approved, and not expelled by a header that runs ahead.
    pub fn members(&self) -> impl Iterator<Item = &Device> {
        self.devices.values().filter(|device| self.is_member(&device.key))
    }

    /// Where a device stands now.
    pub fn standing(&self, key: &DeviceKey) -> Option<Standing> {
        let by_log = self.by_key(key).map(|device| device.standing);
        by_log.filter(|standing| standing.is_final()).or(self.ahead.get(key).copied()).or(by_log)
    }

    /// Whether a device is approved.
    pub fn is_member(&self, key: &DeviceKey) -> bool {
        self.standing(key) == Some(Standing::Approved)
    }

    /// Whether a device is out for ever.
    pub fn is_expelled(&self, key: &DeviceKey) -> bool {
        self.standing(key).is_some_and(Standing::is_final)
    }

    /// Whether a living device has a name that looks like this one.
    pub fn has_name(&self, name: &DeviceName) -> bool {
        name.looks().iter().any(|look| self.looks.contains_key(look))
    }

    /// Whether a living device but this one has a name that looks like this one.
    pub fn has_other_name(&self, device: &Device, name: &DeviceName) -> bool {
        let own = device.name.looks();
        let others = |look| self.looks.get(look).is_some_and(|count| *count > usize::from(own.contains(look)));
        name.looks().iter().any(others)
    }

    /// Devices that are neither expelled nor gone.
    pub fn living(&self) -> usize {
        self.living
    }

    fn put(&mut self, device: Device) {
        if !device.standing.is_final() {
            self.living += 1;
            self.add_looks(&device.name);
        }
        self.by_key.insert(device.key, device.id);
        self.devices.insert(device.id, device);
    }

    fn set_standing(&mut self, change: &MembershipChange, time_ms: u64) {
        let Some(device) = self.devices.get_mut(&change.id).filter(|device| !device.standing.is_final()) else {
            return;
        };
        if device.standing != change.standing {
            device.since_ms = time_ms;
        }
        device.standing = change.standing;
        if change.standing.is_final() {
            let name = device.name.clone();
            self.living -= 1;
            self.remove_looks(&name);
        }
    }

    fn rename(&mut self, id: &PublicId, name: &DeviceName) {
        let Some(device) = self.devices.get_mut(id) else { return };
        let before = std::mem::replace(&mut device.name, name.clone());
        if !device.standing.is_final() {
            self.remove_looks(&before);
            self.add_looks(name);
        }
    }

    fn add_looks(&mut self, name: &DeviceName) {
        name.looks().into_iter().for_each(|look| *self.looks.entry(look).or_default() += 1);
    }

    fn remove_looks(&mut self, name: &DeviceName) {
        for look in name.looks() {
            if let Entry::Occupied(mut count) = self.looks.entry(look) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

fn device_of(change: &MembershipChange, name: DeviceName, header: &VerifiedHeader) -> Device {
    Device {
        id: change.id,
        key: change.device,
        seal: change.seal,
        standing: change.standing,
        name,
        code: header.short_code(),
        since_ms: header.header().time_ms,
    }
}
