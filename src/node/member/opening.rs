//! How a core is opened: from what was persisted, or as a new member.

use super::core::{Cx, Group, MemberConfig, MemberCore, Name, Start};
use super::fetch::Openings;
use super::fork::{TIP_HEAD, kept_fork};
use super::moving::Servers;
use super::pen::Pen;
use super::session::Session;
use super::wishes::Wishes;
use crate::node::local::{ErrorCode, LocalError};
use crate::state::authority::{self, Authority, Gate, LastRequest, StaleCopy};
use crate::state::chain::LogTip;
use crate::state::downloads::Downloads;
use crate::state::link::{Ended, Link};
use crate::state::paths::Paths;
use crate::state::random::draw;
use crate::state::replica::{self, Replica};
use crate::state::requests::{Outstanding, Requests};
use crate::state::roster::{Device, Roster};
use crate::state::uploads::Uploads;
use crate::store::member::{DbError, MemberStore, StoredTip};
use crate::wire::ids::{DeviceKey, Hash, Position, PublicId};
use crate::wire::invite::{Invite, Ticket};
use crate::wire::log::Policy;
use crate::wire::name::DeviceName;
use crate::wire::seal::Epoch;
use crate::wire::sign::Identity;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) fn failed(error: DbError) -> LocalError {
    LocalError::new(ErrorCode::Failed, error.to_string(), "nothing was changed; mend that and do it again")
}

/// A client that was never given an invite.
pub fn no_group() -> LocalError {
    LocalError::new(
        ErrorCode::Usage,
        "this device belongs to no group yet",
        "start it once with an invite: 'bailiwick client INVITE'; the master makes one with 'bailiwick invite'",
    )
}

pub(super) fn restore(
    store: MemberStore,
    identity: Arc<Identity>,
    config: MemberConfig,
    start: Start,
    downloads_dir: PathBuf,
    cx: &mut Cx<'_>,
) -> Result<MemberCore, LocalError> {
    let key = identity.device_key();
    let is_master = matches!(start, Start::Master { .. });
    check_device(&store, &key)?;
    let name_before: Option<DeviceName> = store.get("name").map_err(failed)?;
    let (group, name, moving) = group_and_name(&store, &identity, start)?;
    store.set("group", &group).map_err(failed)?;
    store.set("name", &name).map_err(failed)?;
    store.set("downloads", &downloads_dir.to_string_lossy().into_owned()).map_err(failed)?;
    let pen = if is_master {
        restore_master(&store, identity.clone(), &config, &name, cx)
    } else {
        restore_replica(&store, &group, key, &config)
    }
    .map_err(failed)?;
    let kept: Option<(u64, Option<Outstanding>)> = store.get("requests").map_err(failed)?;
    let (number, outstanding) = kept.unwrap_or_default();
    let mut uploads = Uploads::new(config.uploads, is_master);
    let policy: Policy = store.get("policy").map_err(failed)?.unwrap_or_default();
    uploads.set_fresh_for(policy.wait());
    uploads.set_straight_for(policy.continue_for());
    let mut link = Link::new(config.link, cx.now);
    if pen.roster().is_expelled(&key) {
        link.end(Ended::Expelled);
    }
    let me = match &pen {
        Pen::Master(master) => Some(master.authority.id()),
        Pen::Replica(_) => store.get("me").map_err(failed)?,
    };
    store.forget_stale_pauses().map_err(failed)?;
    let paused_uploads = store.paused_uploads().map_err(failed)?.into_iter().collect();
    let mut core = MemberCore {
        me,
        registration: store.get("registration").map_err(failed)?,
        link,
        session: Session::default(),
        servers: Servers::new(store.get("servers").map_err(failed)?.unwrap_or_default(), moving, cx.now),
        requests: Requests::restore(config.requests, number, outstanding),
        uploads,
        kept_fresh: None,
        downloads: Downloads::new(config.downloads),
        openings: Openings::new(u64::from_le_bytes(draw(cx.random))),
        paused_uploads,
        loaded: 0,
        activity: super::activity::Activity::default(),
        scans: super::scan::Scans::default(),
        paths: Paths::new(config.paths, key),
        nearby: super::nearby::Nearby::new(&group.id()),
        addresses: Vec::new(),
        shown_membership: Hash::ZERO,
        downloads_dir,
        held_because: None,
        wishes: Wishes::restore(&store).map_err(failed)?,
        outputs: Vec::new(),
        store,
        identity,
        key,
        config,
        group,
        name,
        pen,
    };
    core.restore_fresh(cx.now).map_err(failed)?;
    core.wish_name_of_start(name_before).map_err(failed)?;
    core.begin(cx).map_err(failed)?;
    Ok(core)
}

/// Keys and database are of one device: with another one's keys this one's log and files would be its.
fn check_device(store: &MemberStore, key: &DeviceKey) -> Result<(), LocalError> {
    match store.get::<DeviceKey>("device").map_err(failed)? {
        Some(device) if device != *key => Err(LocalError::new(
            ErrorCode::Failed,
            "the keys and the database in the state directory are of two devices",
            "put back the file 'identity', or 'member.db', that belongs here; nothing was changed",
        )),
        Some(_) => Ok(()),
        None => store.set("device", key).map_err(failed),
    }
}

/// The group, this device's name, and the ticket of the server that a master moves its group to.
fn group_and_name(
    store: &MemberStore,
    identity: &Identity,
    start: Start,
) -> Result<(Group, DeviceName, Option<Ticket>), LocalError> {
    let kept: Option<Group> = store.get("group").map_err(failed)?;
    let kept_name: Option<DeviceName> = store.get("name").map_err(failed)?;
    let named = |name: Name| name.chosen.or(kept_name).unwrap_or(name.fallback);
    match start {
        Start::Master { ticket, name } => {
            let moves = kept.as_ref().is_some_and(|kept| kept.server.key != ticket.server.key);
            let group = match kept.filter(|_| moves) {
                Some(kept) => kept,
                None => Group {
                    master: identity.device_key(),
                    seal: identity.seal_key(),
                    server: ticket.server.clone(),
                    invite: None,
                    admission: Some(ticket.admission),
                },
            };
            Ok((group, named(name), moves.then_some(*ticket)))
        }
        Start::Client { invite, name } => match (kept, invite) {
            (None, None) => Err(no_group()),
            (Some(kept), Some(invite)) if kept.master != invite.master => Err(LocalError::new(
                ErrorCode::Usage,
                "the invite is for another group than the one this state directory belongs to",
                "give the other group a directory of its own with --state or --profile",
            )),
            // An invite of one's own group is a change of server.
            (Some(kept), Some(invite)) => {
                Ok((Group { server: invite.server.clone(), invite: Some(invite.secret), ..kept }, named(name), None))
            }
            (Some(kept), None) => Ok((kept, named(name), None)),
            (None, Some(invite)) => {
                let Invite { server, master, seal, secret } = *invite;
                Ok((Group { master, seal, server, invite: Some(secret), admission: None }, named(name), None))
            }
        },
    }
}

fn restore_master(
    store: &MemberStore,
    identity: Arc<Identity>,
    config: &MemberConfig,
    name: &DeviceName,
    cx: &mut Cx<'_>,
) -> Result<Pen, DbError> {
    let master_key = identity.device_key();
    let Some(tip) = store.tip()? else {
        let authority = Authority::found(identity, name.clone(), &mut cx.moment());
        return Ok(Pen::master(authority, Gate::Open));
    };
    let roster = load_roster(store, &master_key)?;
    let seen_by_others = roster.devices().count() > 1;
    let newest = store.epochs()?.pop();
    let epoch = newest.ok_or_else(|| DbError::Damaged("the group's secrets are missing".to_owned()))?;
    let last = store
        .last_requests()?
        .into_iter()
        .map(|(id, number, content, answer)| (id, LastRequest { number, content, answer }))
        .collect();
    let restored = authority::Restored {
        tip: tip_of(&tip),
        roster,
        epoch,
        invites: store.invites()?.into_iter().map(|(id, _, expires)| (id, expires)).collect(),
        last,
        files: store.file_counts()?,
        headers: store.membership_count()?,
    };
    let gate = match (store.importing()?, store.get::<StaleCopy>("stale")?) {
        (Some(_), _) => Gate::Importing(None),
        (None, Some(stale)) => Gate::Closed(stale),
        (None, None) => Gate::at_start(cx.now, seen_by_others, &config.gate),
    };
    Ok(Pen::master(Authority::restore(identity, restored), gate))
}

fn restore_replica(store: &MemberStore, group: &Group, key: DeviceKey, config: &MemberConfig) -> Result<Pen, DbError> {
    let restored = replica::Restored {
        tip: store.tip()?.as_ref().map(tip_of),
        roster: load_roster(store, &group.master)?,
        epochs: store.epochs()?,
        head: store.head()?,
        tip_head: store.get(TIP_HEAD)?,
        loading: store.loading()?,
        fork: kept_fork(store)?,
    };
    Ok(Pen::Replica(Box::new(Replica::restore(config.replica, group.master, key, restored))))
}

pub(super) fn tip_of(tip: &StoredTip) -> LogTip {
    LogTip { at: tip.at, header: tip.header, membership: tip.membership }
}

/// The roster follows from the membership headers and the names.
pub(super) fn load_roster(store: &MemberStore, master: &DeviceKey) -> Result<Roster, DbError> {
    let names = store.names()?;
    let mut devices: HashMap<PublicId, Device> = HashMap::new();
    let mut order = VecDeque::new();
    for header in store.membership_after(Position::default())? {
        let header = header.verify(master).map_err(|error| DbError::Damaged(error.to_string()))?;
        let Some(change) = &header.header().membership else { continue };
        match devices.get_mut(&change.id) {
            Some(device) if device.standing.is_final() => {}
            Some(device) => {
                if device.standing != change.standing {
                    device.since_ms = header.header().time_ms;
                }
                device.standing = change.standing;
            }
            None => {
                let name = names.get(&change.id).cloned();
                let name = name.ok_or_else(|| DbError::Damaged("a device has no name".to_owned()))?;
                order.push_back(change.id);
                devices.insert(
                    change.id,
                    Device {
                        id: change.id,
                        key: change.device,
                        seal: change.seal,
                        standing: change.standing,
                        name,
                        code: header.short_code(),
                        since_ms: header.header().time_ms,
                    },
                );
            }
        }
    }
    let ahead = store.expulsions()?.into_iter().filter_map(|header| {
        let header = header.verify(master).ok()?;
        header.expulsion().map(|change| (change.device, change.standing))
    });
    Ok(Roster::restore(order.iter().filter_map(|id| devices.remove(id)), ahead))
}

/// The newest secrets, for the data plane.
pub(super) fn epochs_for_chunks(pen: &Pen, store: &MemberStore) -> Result<Vec<Epoch>, DbError> {
    match pen {
        Pen::Master(master) => {
            let mut epochs = store.epochs()?;
            epochs.retain(|epoch| epoch.id != master.authority.epoch().id);
            epochs.push(master.authority.epoch().clone());
            Ok(epochs)
        }
        Pen::Replica(_) => store.epochs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_another_device_do_not_open_a_database() {
        let store = MemberStore::open_in_memory().unwrap();
        let [mine, other] = [1, 2].map(|seed| Identity::from_seeds([seed; 32], [seed; 32]).device_key());
        check_device(&store, &mine).unwrap();
        check_device(&store, &mine).unwrap();
        assert!(check_device(&store, &other).unwrap_err().error.contains("of two devices"));
    }
}
