//! What has come to rest, and what has not.

use super::*;
use crate::world::Node;
use bailiwick::state::requests::Outstanding;
use bailiwick::store::member::StoredTransfer;
use bailiwick::wire::name::DeviceName;

impl Model {
    /// What the server still lacks.
    pub(crate) fn server_unsettled(&self, groups: &[GroupRow], master: &MemberStore) -> Option<String> {
        let Some(group) = groups.iter().find(|group| group.master == self.master) else {
            return Some("the server does not know the group".to_owned());
        };
        let chain = master.membership_after(Position::default()).expect("a store");
        if group.chain != chain {
            return Some("the server's membership is not the master's".to_owned());
        }
        let head = group.head.as_ref().and_then(|head| head.verify(&self.master).ok());
        let tip = master.tip().expect("a store");
        if head.map(|head| head.header) != tip.map(|tip| tip.header) {
            return Some("the server's head is not the master's".to_owned());
        }
        let master: BTreeSet<_> = expelled(&master.expulsions().expect("a store"), &self.master);
        (expelled(&group.expulsions, &self.master) != master).then(|| "the server lacks expulsions".to_owned())
    }

    /// What a client still lacks, that runs and is connected.
    pub(crate) fn member_unsettled(&self, node: &Node, master: &MemberStore) -> Option<String> {
        if node.fatal.is_some() {
            return None;
        }
        let store = node.store();
        let expulsions = store.expulsions().expect("a store");
        // An expulsion that an old master has forgotten, and nobody but the expelled device knows, which comes no more.
        if self.master_was_restored && self.shows_expelled(store, &node.key()) {
            return None;
        }
        let standing = changes_of(master, &self.master).get(&node.key()).map(|change| change.standing);
        match standing {
            // What nobody could show to an imported master is lost with it; the device says that it needs an invite.
            None if self.master_was_restored => None,
            None => Some("it is not registered".to_owned()),
            Some(Standing::Registered) => {
                let told: Option<SignedHeader> = store.get("registration").expect("a store");
                // Whose approval a lying server kept from an imported master is asked for anew, and holds what it had.
                let had_approval = self.master_was_imported && self.server_lied;
                let curious = store.tip().expect("a store").is_some() && !had_approval;
                if curious {
                    return Some("it is not approved, and holds entries".to_owned());
                }
                told.is_none().then(|| "it does not know that it is registered".to_owned())
            }
            Some(Standing::Disapproved | Standing::Left) => {
                let knows = expelled(&expulsions, &self.master).contains(&node.key());
                (!knows).then(|| "it does not know that it is expelled".to_owned())
            }
            Some(Standing::Approved) => {
                if store.tip().expect("a store") != master.tip().expect("a store") {
                    return Some("it is not at the master's head".to_owned());
                }
                let known = expelled(&expulsions, &self.master);
                if known != expelled(&master.expulsions().expect("a store"), &self.master) {
                    return Some("its expulsions are not the master's".to_owned());
                }
                self.wishes_unsettled(node)
            }
        }
    }

    /// Whether a store holds the header that expels a device.
    pub(crate) fn shows_expelled(&self, store: &MemberStore, key: &DeviceKey) -> bool {
        expelled(&store.expulsions().expect("a store"), &self.master).contains(key)
    }

    /// What a device still wants.
    pub(crate) fn wishes_unsettled(&self, node: &Node) -> Option<String> {
        let store = node.store();
        if let Some(file) = store.staged(1).expect("a store").first() {
            return Some(format!("{} is still syncing", file.meta.path));
        }
        if let Some(leave) = store.leaving(1).expect("a store").first() {
            return Some(format!("{} is still leaving", leave.id));
        }
        for share in store.shares().expect("a store") {
            let of = store.local_of(&share.path).expect("a store");
            let lost = of.iter().find(|file| {
                let row = store.file(&file.meta.id).expect("a store");
                file.status == LocalStatus::Idle && row.is_none_or(|row| row.file != file.meta)
            });
            if let Some(lost) = lost {
                return Some(format!("{} is said to be in the catalog, and is not", lost.meta.path));
            }
        }
        let kept: Option<(u64, Option<Outstanding>)> = store.get("requests").expect("a store");
        if let Some((number, Some(_))) = kept {
            return Some(format!("request {number} has no answer"));
        }
        let kept: Option<NameWish> = store.get("name_wish").expect("a store");
        if let Some(wish) = kept.filter(|wish| wish.refused.is_none()) {
            return Some(format!("it is not called {} yet", wish.name));
        }
        let open = store.open_transfers(0, usize::MAX).expect("a store");
        // What a restored owner does not know of any more waits, with its reason, until it is shared again; so does what
        // an owner had that is gone for ever and could not say so.
        let devices = changes_of(store, &self.master);
        let restored = |owner| {
            let owner = devices.values().find(|change| change.id == owner);
            let promises = &self.promises;
            let is_none = |change: &MembershipChange| {
                // The log of a backup may hold a device for a member that keeps to its expulsion.
                let keeps_out = change.standing == Standing::Approved && promises.out.contains(&change.device);
                keeps_out || promises.restored.contains(&change.device) || promises.left.contains(&change.device)
            };
            owner.is_some_and(is_none)
        };
        let folder = |one: &StoredTransfer| store.job_dest(one.job).expect("a store");
        // What goes to the same place waits with it. Who died before it was told that the place is another's thinks that it
        // may have a part file there.
        let is_behind = |one: &StoredTransfer| {
            let holds = |other: &StoredTransfer| {
                let has_part = other.part && (!one.part || node.has_place(other.id) && !node.has_place(one.id));
                has_part && other.dest == one.dest && folder(other) == folder(one)
            };
            open.iter().any(|other| restored(other.owner) && holds(other))
        };
        // Who was restored finds parts that it does not know of, and takes over none: a person removes them.
        let is_in_the_way = |one: &StoredTransfer| {
            let place = store.job_place(one.job).expect("a store");
            let found = !one.part && place.is_some_and(|place| node.disk.has_part(&place.dest, &one.dest));
            found && self.promises.restored.contains(&node.key())
        };
        open.iter()
            .find(|one| !restored(one.owner) && !is_behind(one) && !is_in_the_way(one))
            .map(|one| format!("transfer {} of {} is still open", one.id, one.file))
    }
}

/// How a wish for a name is kept.
#[derive(serde::Deserialize)]
struct NameWish {
    name: DeviceName,
    refused: Option<String>,
}

fn expelled(headers: &[SignedHeader], master: &DeviceKey) -> BTreeSet<DeviceKey> {
    let verified = headers.iter().filter_map(|header| header.clone().verify(master).ok());
    verified.filter_map(|header| header.expulsion().map(|change| change.device)).collect()
}
