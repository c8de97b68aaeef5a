//! A log that begins anew, in a higher generation, after its master came back from a backup.
//!
//! What the old log said of devices is taken from every membership header of this master that anybody still has: the
//! backup's, and those that server and members show. An expulsion counts wherever it is found; an approval counts unless
//! the device was expelled. Nothing is signed in an old generation.

use super::{Authority, Effect, Moment};
use crate::state::chain::LogTip;
use crate::state::random::draw;
use crate::state::roster::Roster;
use crate::wire::ids::{DeviceKey, EpochId, GroupId, Hash, InviteId, Position, PublicId};
use crate::wire::log::{Body, Entry, MembershipChange, Standing, VerifiedHeader};
use crate::wire::name::DeviceName;
use crate::wire::seal::Epoch;
use crate::wire::sign::{Identity, Secret32};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long an imported master listens before it begins its generation.
#[derive(Debug, Clone, Copy)]
pub struct ImportConfig {
    /// From when a server took it. A device learns after 45 s at most that its connection to a machine that was lost is
    /// over, and dials every 12.5 s at least: so all that are on show what they know in this time.
    pub wait: Duration,
}

impl Default for ImportConfig {
    fn default() -> ImportConfig {
        ImportConfig { wait: Duration::from_secs(60) }
    }
}

/// What is known of the old log.
pub struct Seen {
    /// All its membership headers that were found, in any order, of any generation, some perhaps twice.
    pub headers: Vec<VerifiedHeader>,
    /// Names, as far as the backup has them.
    pub names: HashMap<PublicId, DeviceName>,
    /// The highest generation that was seen in any header or head.
    pub generation: u32,
    /// Invites that were opened since the import.
    pub invites: BTreeMap<InviteId, u64>,
    /// Files in the catalog, by owner.
    pub files: HashMap<PublicId, u64>,
    /// What the master is called if the backup's names lack it.
    pub own_name: DeviceName,
}

/// A device as the old log left it.
struct Restated {
    /// Where it was named first, for a stable order.
    first: (Position, Hash),
    /// What the newest header says of it, with the standing that counts.
    newest: (Position, Hash),
    change: MembershipChange,
}

impl Authority {
    /// Begins the next generation: the master, a fresh epoch, then every device in one entry each.
    pub fn import(identity: Arc<Identity>, seen: Seen, moment: &mut Moment<'_>) -> Authority {
        let Seen { headers, names, generation, invites, files, own_name } = seen;
        let me = identity.device_key();
        let highest = headers.iter().map(|header| header.header().at.generation).max().unwrap_or(0).max(generation);
        let generation = highest.saturating_add(1);
        let epoch = Epoch { id: EpochId { generation, number: 1 }, secret: Secret32(draw(moment.random)) };
        let mut authority = Authority {
            group: GroupId::of(&me),
            identity,
            tip: LogTip { at: Position { generation, revision: 0 }, ..LogTip::START },
            roster: Roster::default(),
            epoch: epoch.clone(),
            invites,
            last: HashMap::new(),
            files,
            headers: 0,
            effects: VecDeque::from([Effect::NewEpoch(epoch.clone())]),
        };
        let mut devices = restated(&headers);
        let own = devices.remove(&me).map(|own| own.change.id);
        let own = own.unwrap_or_else(|| PublicId::from_random(draw(moment.random)));
        let change = MembershipChange {
            id: own,
            device: me,
            seal: authority.identity.seal_key(),
            standing: Standing::Approved,
            nonce: draw(moment.random),
        };
        let name = names.get(&own).cloned().unwrap_or(own_name);
        authority.restate(moment, change, Body::GroupBegun { name, epoch: epoch.id });
        let mut devices: Vec<Restated> = devices.into_values().collect();
        devices.sort_by_key(|device| device.first);
        for Restated { change, .. } in devices {
            let name = names.get(&change.id).cloned().unwrap_or_else(|| made_up(&change.id));
            let is_final = change.standing.is_final();
            let name = if is_final { name } else { name.made_unique(|name| authority.roster.has_name(name)) };
            if is_final {
                authority.files.remove(&change.id);
            }
            let change = MembershipChange { nonce: draw(moment.random), ..change };
            let body = Body::ClientRegistered { id: change.id, name };
            authority.restate(moment, change, body);
        }
        authority
    }

    /// An entry that members come to know by snapshot alone: it is another log than the one that they have.
    fn restate(&mut self, moment: &mut Moment<'_>, change: MembershipChange, body: Body) {
        let (header, body_bytes) = self.sign_next(moment, Some(change), &body);
        let entry = Entry { header, body: body_bytes };
        self.effects.push_back(Effect::Restate(Box::new(entry), Box::new(body)));
    }
}

/// Every device of the old log, by its key. What is final anywhere is final.
fn restated(headers: &[VerifiedHeader]) -> HashMap<DeviceKey, Restated> {
    let mut devices: HashMap<DeviceKey, Restated> = HashMap::new();
    for header in headers {
        let Some(change) = &header.header().membership else { continue };
        let place = (header.header().at, header.hash());
        match devices.get_mut(&change.device) {
            None => {
                devices.insert(change.device, Restated { first: place, newest: place, change: change.clone() });
            }
            Some(device) => {
                let standing = stronger(device.change.standing, change.standing);
                device.first = device.first.min(place);
                if place > device.newest {
                    device.newest = place;
                    device.change = change.clone();
                }
                device.change.standing = standing;
            }
        }
    }
    devices
}

/// Which of two standings counts, whatever their order.
fn stronger(one: Standing, other: Standing) -> Standing {
    let rank = |standing: Standing| match standing {
        Standing::Registered => 0,
        Standing::Approved => 1,
        Standing::Left => 2,
        Standing::Disapproved => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

/// A name for a device that the backup doesn't know. It asks for its old one itself.
fn made_up(id: &PublicId) -> DeviceName {
    let digits: String = id.to_string().chars().filter(char::is_ascii_hexdigit).take(6).collect();
    DeviceName::parse(&format!("device-{digits}")).expect("digits are a name")
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
