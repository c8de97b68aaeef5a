//! Who is connected, told to members: all of it to who comes, then changes, several together. It is not in the log: a
//! lie costs availability only, and it is forgotten when the server stops.

use super::{Group, Router, Timer};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::frame::{Frame, Present};
use crate::wire::ids::{DeviceKey, GroupId, PublicId};
use crate::wire::limits::PRESENCE_PER_FRAME_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// When a device was seen.
#[derive(Debug, Clone, Copy)]
enum Seen {
    Now,
    Last(Time),
}

/// What one group's members are told.
#[derive(Debug, Default)]
pub(super) struct Presence {
    seen: BTreeMap<DeviceKey, Seen>,
    changed: BTreeSet<DeviceKey>,
    told: Option<Time>,
    due: bool,
}

impl Seen {
    fn row(self, now: Time, id: PublicId) -> Present {
        match self {
            Seen::Now => Present { id, online: true, since_ms: 0 },
            Seen::Last(at) => {
                let since_ms = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
                Present { id, online: false, since_ms }
            }
        }
    }
}

impl Group {
    fn presence_row(&self, now: Time, (device, seen): (&DeviceKey, &Seen)) -> Option<Present> {
        Some(seen.row(now, self.membership.id_of(device)?))
    }
}

impl Router {
    pub(super) fn came(&mut self, now: Time, group: GroupId, device: DeviceKey) {
        self.seen(now, group, device, Seen::Now);
    }

    pub(super) fn went(&mut self, now: Time, group: GroupId, device: DeviceKey) {
        self.seen(now, group, device, Seen::Last(now));
    }

    fn seen(&mut self, now: Time, id: GroupId, device: DeviceKey, seen: Seen) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.presence.seen.insert(device, seen);
        group.presence.changed.insert(device);
        if !group.presence.due {
            group.presence.due = true;
            let pause = self.config.presence_pause;
            let at = group.presence.told.map_or(now, |told| told.after(pause).max(now));
            self.timers.insert((at, Timer::Presence(id)));
        }
    }

    /// Tells all that is known to one connection.
    pub(super) fn tell_presence(&mut self, now: Time, id: GroupId, conn: ConnId) {
        let Some(group) = self.groups.get(&id) else { return };
        let rows = group.presence.seen.iter().filter_map(|seen| group.presence_row(now, seen)).collect();
        self.send_presence(vec![conn], rows);
    }

    /// Tells everybody what changed since the last time.
    pub(super) fn flush_presence(&mut self, now: Time, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.presence.due = false;
        group.presence.told = Some(now);
        let changed = std::mem::take(&mut group.presence.changed);
        let rows = changed
            .iter()
            .filter_map(|device| group.presence_row(now, group.presence.seen.get_key_value(device)?))
            .collect();
        let to = group.members();
        self.send_presence(to, rows);
    }

    fn send_presence(&mut self, to: Vec<ConnId>, rows: Vec<Present>) {
        for page in rows.chunks(PRESENCE_PER_FRAME_MAX) {
            self.send_all(to.clone(), Frame::Presence(page.to_vec()));
        }
    }
}
