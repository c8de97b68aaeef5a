//! Who may get what: what a server sends, held against what is on its disk; what an owner serves, against the master's log.

use super::*;
use bailiwick::wire::frame::{Class, Frame};

/// What a server has on its disk.
#[derive(Default, Clone)]
pub(crate) struct ServerView {
    approved: HashSet<DeviceKey>,
    expelled: HashSet<DeviceKey>,
    /// Approved at some time: one batch may hold an approval and an expulsion.
    approvals: HashSet<DeviceKey>,
}

impl Model {
    /// The server's database is an older one, or none.
    pub(crate) fn server_forgot(&mut self) {
        self.server = ServerView::default();
    }

    /// The server put a batch on its disk.
    pub(crate) fn server_committed(&mut self, groups: &[GroupRow]) -> Result<(), String> {
        let before = std::mem::take(&mut self.server);
        let Some(group) = groups.iter().find(|group| group.master == self.master) else { return Ok(()) };
        let mut devices = HashMap::new();
        let mut view = ServerView::default();
        for header in &group.chain {
            if let Some((_, change)) = self.change(header) {
                if change.standing == Standing::Approved {
                    view.approvals.insert(change.device);
                }
                put(&mut devices, change);
            }
        }
        let expelled =
            group.expulsions.iter().filter_map(|header| self.change(header)).map(|(_, change)| change.device);
        view.expelled = expelled.collect();
        for (key, change) in devices {
            if change.standing.is_final() {
                view.expelled.insert(key);
            } else if change.standing == Standing::Approved && !view.expelled.contains(&key) {
                view.approved.insert(key);
            }
        }
        if let Some(key) = before.expelled.iter().find(|key| !view.expelled.contains(key)) {
            return Err(format!("the server forgot that {key:?} is expelled"));
        }
        self.server = view;
        Ok(())
    }

    /// Whether the server may send a device this frame, by what it had on disk before the batch and has now.
    pub(crate) fn may_get(&self, before: &ServerView, key: DeviceKey, frame: &Frame) -> Result<(), String> {
        let no = |why: &str| Err(format!("{} ({why})", crate::network::label(frame)));
        if before.expelled.contains(&key) && self.server.expelled.contains(&key) {
            return match frame {
                Frame::Welcome(welcome) if welcome.class == Class::Expelled && welcome.head.is_none() => Ok(()),
                Frame::Headers(headers) if self.only_about(headers, key) => Ok(()),
                Frame::Pong(_) => Ok(()),
                _ => no("it is expelled"),
            };
        }
        if self.is_member(before, key) || key == self.master {
            return Ok(());
        }
        match frame {
            Frame::Welcome(welcome) => match welcome.class {
                Class::Approved | Class::Master => no("it is not a member"),
                Class::Stranger | Class::Registered | Class::Expelled | Class::Unsettled | Class::UnknownGroup => {
                    Ok(())
                }
            },
            Frame::Headers(headers) if self.only_about(headers, key) => Ok(()),
            Frame::HeadersStored(_) | Frame::RegistrationHeld(_) | Frame::Routed { .. } | Frame::Pong(_) => Ok(()),
            _ => no("it is not a member"),
        }
    }

    fn is_member(&self, before: &ServerView, key: DeviceKey) -> bool {
        let lately = self.server.approvals.contains(&key) && !before.expelled.contains(&key);
        before.approved.contains(&key) || self.server.approved.contains(&key) || lately
    }

    fn only_about(&self, headers: &[SignedHeader], key: DeviceKey) -> bool {
        headers.iter().all(|header| {
            let verified = header.clone().verify(&self.master).ok();
            verified.is_some_and(|header| header.header().membership.as_ref().is_some_and(|one| one.device == key))
        })
    }

    /// Whether the server may pass chunks on to a device.
    pub(crate) fn may_get_chunks(&self, before: &ServerView, key: DeviceKey) -> Result<(), String> {
        if self.is_member(before, key) { Ok(()) } else { Err("a chunk, though it is not a member".to_owned()) }
    }

    /// Whether an owner may serve with this membership: it was the master's at some time in the last `fresh_for_ms`.
    pub(crate) fn may_serve(&self, now: u64, membership: Hash, fresh_for_ms: u64) -> Result<(), String> {
        let Some(place) = self.memberships.iter().rposition(|(_, hash)| *hash == membership) else {
            return Err("serves with a membership that is not the master's".to_owned());
        };
        match self.memberships.get(place + 1) {
            Some((until, _)) if now > until + fresh_for_ms => {
                Err(format!("serves {} ms after its membership was replaced", now - until))
            }
            Some(_) | None => Ok(()),
        }
    }
}
