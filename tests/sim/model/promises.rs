//! What people were told: a command that is answered is a promise, kept over crashes, restarts and whatever else happens.

use super::*;
use std::path::PathBuf;

/// Promises, and what releases from them.
#[derive(Default)]
pub(crate) struct Promises {
    /// Shares that a node answered for, with the files that were there then.
    pub(crate) shares: BTreeMap<(NodeId, PathBuf), BTreeSet<PathBuf>>,
    /// Jobs that a node answered for.
    pub(crate) jobs: BTreeSet<(NodeId, u64)>,
    /// Invites that the master answered for: until when, on its own clock.
    pub(crate) invites: BTreeMap<String, u64>,
    /// Invites that are no longer promised: revoked, or given to a device.
    pub(crate) given: HashSet<String>,
    /// Devices whose directory was restored: what is lost with it is lost.
    pub(crate) restored: HashSet<DeviceKey>,
    /// Devices whose directory was copied: each copy's disk decides in its turn what the device has.
    pub(crate) copied: HashSet<DeviceKey>,
    /// Devices that erased their keys, whether or not the master heard of it: who wants their files waits, and says so.
    pub(crate) left: HashSet<DeviceKey>,
    /// Devices that know of their own expulsion, whatever the log says after an import.
    pub(crate) out: HashSet<DeviceKey>,
    /// With which invite each device came.
    came_with: HashMap<DeviceKey, String>,
    /// When a person last wished for a share's files, or for one of them, by its name.
    wishes: HashMap<(DeviceKey, String), u64>,
}

impl Promises {
    /// A person shares a folder or a file of one, or shares it again.
    pub(crate) fn wished(&mut self, owner: DeviceKey, share: &str, now: u64) {
        self.wishes.insert((owner, share.to_owned()), now);
    }

    /// Whether a person wished for a file's share after that time.
    pub(super) fn wished_since(&self, owner: &DeviceKey, path: &RelPath, since: u64) -> bool {
        let share = path.as_str().split('/').next().unwrap_or_default();
        let named = |name: &str| share == name || share.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        let itself = |name: &str| path.name() == name;
        self.wishes.iter().any(|((by, name), at)| by == owner && (named(name) || itself(name)) && *at > since)
    }

    /// A device is started with an invite.
    pub(crate) fn comes_with(&mut self, device: DeviceKey, invite: &str) {
        self.came_with.insert(device, invite.to_owned());
        self.given.insert(invite.to_owned());
    }

    pub(super) fn client_restored(&mut self, node: NodeId, key: DeviceKey) {
        self.restored.insert(key);
        self.shares.retain(|(of, _), _| *of != node);
        self.jobs.retain(|(of, _)| *of != node);
    }

    /// An invite lets one device in.
    pub(super) fn one_device_an_invite(&self, standings: &HashMap<DeviceKey, MembershipChange>) -> Result<(), String> {
        let mut used = HashSet::new();
        let twice = standings.keys().filter_map(|key| self.came_with.get(key)).find(|invite| !used.insert(*invite));
        match twice {
            Some(_) => Err("an invite let two devices in".to_owned()),
            None => Ok(()),
        }
    }
}
