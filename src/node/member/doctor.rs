//! `doctor`: how this device reaches the others, and what stands in the way.

use super::core::{Cx, MemberCore};
use crate::node::local::{AttemptRow, CONNECTED, CheckedRow, Diagnosis, ErrorCode, Link, LocalError, Reached, Reply};
use crate::state::paths::tried::{Checked, Tried};
use crate::state::roster::Device;
use crate::state::time::Time;
use crate::wire::ids::DeviceKey;
use crate::wire::log::Standing;

impl MemberCore {
    /// Tells what is known, and tries a device anew if one is named.
    pub(super) fn doctor(&mut self, cx: &mut Cx<'_>, id: Option<&str>) -> Result<Reply, LocalError> {
        if let Some(id) = id {
            if self.standing() != Some(Standing::Approved) {
                return Err(LocalError::new(
                    ErrorCode::NotNow,
                    "this device is not approved yet: it knows no others",
                    "the master approves it with 'bailiwick approve'; 'bailiwick status' says what it waits for",
                ));
            }
            let (id_of, key, is_member) = {
                let device = self.find_device(id)?;
                (device.id, device.key, self.roster().is_member(&device.key))
            };
            if key == self.key {
                return Err(LocalError::new(
                    ErrorCode::Usage,
                    format!("'{id}' is this device itself"),
                    "'bailiwick doctor' alone tells of it; name another device to try the way there",
                ));
            }
            if !is_member {
                return Err(LocalError::new(
                    ErrorCode::Failed,
                    format!("'{id}' is not an approved device of the group"),
                    "'bailiwick clients' shows who is; the master approves with 'bailiwick approve'",
                ));
            }
            // Nobody can pass an offer to who is away.
            let is_online = self.session.presence.get(&id_of).is_none_or(|presence| presence.online);
            if is_online || self.paths.is_near(&key) {
                self.paths.try_now(cx.now, key);
            }
        }
        Ok(Reply::Doctor(Box::new(self.diagnosis(cx.now))))
    }

    fn diagnosis(&self, now: Time) -> Diagnosis {
        let (mapping, filtering) = self.paths.nat();
        let others = self.roster().devices().filter(|device| device.key != self.key);
        let approved = others.filter(|device| self.roster().standing(&device.key) == Some(Standing::Approved));
        Diagnosis {
            server: if self.link.current().is_some() { Link::Connected } else { Link::Away },
            observed: self.session.observed.map(|address| address.to_string()),
            addresses: self.paths.own_candidates().iter().map(ToString::to_string).collect(),
            port_mapping: self.paths.port_mapping().to_string(),
            mapping: mapping.to_string(),
            filtering: filtering.map(|filtering| filtering.to_string()),
            devices: approved.map(|device| self.reached(now, device)).collect(),
        }
    }

    fn reached(&self, now: Time, device: &Device) -> Reached {
        let row = self.client_row(device);
        let tries = self.paths.tries(&device.key);
        Reached {
            id: row.id,
            name: row.name,
            path: row.path,
            reason: row.reason,
            trying: self.paths.is_tried(now, &device.key),
            nearby: self.paths.is_near(&device.key),
            address: None,
            rtt_ms: None,
            attempts: tries.map_or(0, |tries| tries.count),
            connected: tries.map_or(0, |tries| tries.direct),
            last: tries.and_then(|tries| tries.last.as_ref()).map(|last| self.attempt_row(now, &device.key, last)),
            conn: self.paths.current(&device.key).map(|conn| conn.0),
        }
    }

    fn attempt_row(&self, now: Time, key: &DeviceKey, tried: &Tried) -> AttemptRow {
        let outcome = tried.why.as_ref().map(|why| self.paths.told(key, why).to_string());
        AttemptRow {
            ago_ms: now.since(tried.ended).as_millis() as u64,
            took_ms: tried.took.as_millis() as u64,
            outcome: outcome.unwrap_or_else(|| CONNECTED.to_owned()),
            addresses: tried.addresses.iter().map(checked_row).collect(),
        }
    }
}

fn checked_row(checked: &Checked) -> CheckedRow {
    CheckedRow {
        address: checked.address.to_string(),
        offered: checked.offered,
        probes: checked.pings,
        answered_ms: checked.answered.map(|after| after.as_millis() as u64),
        refused: checked.refused,
    }
}
