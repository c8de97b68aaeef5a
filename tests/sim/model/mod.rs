//! What must be true in every world: a reference model that remembers what was decided, shown and acknowledged.

mod access;
mod promises;
mod rest;

pub(crate) use access::ServerView;

use crate::network::NodeId;
use bailiwick::store::member::{CatalogRow, LocalStatus, MemberStore};
use bailiwick::store::server_db::GroupRow;
use bailiwick::wire::codec::encode;
use bailiwick::wire::ids::{DeviceKey, FileId, Hash, Position, PublicId};
use bailiwick::wire::log::{Body, MembershipChange, Policy, SaltedBody, SignedHeader, Standing};
use bailiwick::wire::path::RelPath;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// See the module.
pub(crate) struct Model {
    /// The master's key.
    pub(crate) master: DeviceKey,
    /// Devices whose approval a person saw acknowledged.
    pub(crate) approved_acked: HashSet<DeviceKey>,
    /// Devices whose expulsion a person saw acknowledged.
    pub(crate) expelled_acked: HashSet<DeviceKey>,
    /// What the server has stored.
    pub(crate) server: ServerView,
    /// An old copy of the master may have signed: what is lost with it is lost.
    pub(crate) master_was_restored: bool,
    /// It came back by an import: it never signs at a place that was signed before.
    pub(crate) master_was_imported: bool,
    /// The server lied for a time.
    pub(crate) server_lied: bool,
    /// Every entry that the master ever put on its disk.
    entries: HashSet<Hash>,
    tip: Position,
    /// Every file that ever was in the master's catalog, and those that are now.
    files_ever: HashSet<FileId>,
    in_generation: HashSet<FileId>,
    files: HashSet<FileId>,
    states: HashMap<Hash, (Hash, String)>,
    /// Files that were seen idle at their owner.
    idle: BTreeMap<FileId, DeviceKey>,
    /// Where each file of the master's catalog lies now, and when a place was emptied.
    places: BTreeMap<FileId, Place>,
    emptied: HashMap<Place, u64>,
    /// Files that an entry removed.
    pub(crate) removed: HashSet<FileId>,
    /// Files that somebody asked to remove.
    pub(crate) wished_out: HashMap<FileId, u64>,
    /// Names of files that went from a disk.
    pub(crate) gone: HashSet<String>,
    /// Whether nothing else may be removed.
    pub(crate) removals_are_wished: bool,
    /// The name of every file that ever was in the master's catalog.
    names: HashMap<FileId, String>,
    /// When the master's membership became what, in the order of its log.
    memberships: Vec<(u64, Hash)>,
    /// What each node's disk held at its last commit.
    seen: HashMap<NodeId, Seen>,
    /// What people were told.
    pub(crate) promises: promises::Promises,
    verified: HashMap<Hash, Option<(Position, MembershipChange)>>,
}

/// An owner and a path.
type Place = (PublicId, RelPath);

/// What a node's disk held.
#[derive(Clone, Default)]
struct Seen {
    at: Position,
    expulsions: usize,
}

/// Where every device stands, by a store's membership headers.
pub(crate) fn changes_of(store: &MemberStore, master: &DeviceKey) -> HashMap<DeviceKey, MembershipChange> {
    let headers = store.membership_after(Position::default()).expect("a store");
    let mut devices: HashMap<DeviceKey, MembershipChange> = HashMap::new();
    for change in headers.into_iter().filter_map(|header| change_in(header, master)) {
        put(&mut devices, change);
    }
    devices
}

/// What a header changes, if the master signed it. A signature is checked once: worlds ask thousands of times.
fn change_in(header: SignedHeader, master: &DeviceKey) -> Option<MembershipChange> {
    thread_local! {
        static KNOWN: RefCell<HashMap<(DeviceKey, Hash), Option<MembershipChange>>> = RefCell::default();
    }
    const KNOWN_MAX: usize = 10_000;
    KNOWN.with_borrow_mut(|known| {
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        let key = (*master, Hash::of(&encode(&header)));
        let verify = || header.verify(master).ok()?.header().membership.clone();
        known.entry(key).or_insert_with(verify).clone()
    })
}

fn put(devices: &mut HashMap<DeviceKey, MembershipChange>, change: MembershipChange) {
    let is_final = devices.get(&change.device).is_some_and(|known| known.standing.is_final());
    if !is_final {
        devices.insert(change.device, change);
    }
}

/// One hash over all that two replicas of one revision must agree on.
pub(crate) fn digest(store: &MemberStore) -> Hash {
    let files = store.files_page(None, &[], 0, u64::MAX).expect("a store");
    let files: Vec<_> = files.into_iter().map(|row| (row.owner, row.file)).collect();
    let names: BTreeMap<_, _> = store.names().expect("a store").into_iter().collect();
    let membership = store.membership_after(Position::default()).expect("a store");
    let policy: Option<Policy> = store.get("policy").expect("a store");
    Hash::of(&encode(&(files, names, membership, policy.unwrap_or_default())))
}

impl Model {
    /// Nothing happened yet.
    pub(crate) fn new(master: DeviceKey) -> Model {
        Model {
            master,
            approved_acked: HashSet::new(),
            expelled_acked: HashSet::new(),
            server: ServerView::default(),
            master_was_restored: false,
            master_was_imported: false,
            server_lied: false,
            entries: HashSet::new(),
            tip: Position::default(),
            files_ever: HashSet::new(),
            in_generation: HashSet::new(),
            files: HashSet::new(),
            states: HashMap::new(),
            idle: BTreeMap::new(),
            places: BTreeMap::new(),
            emptied: HashMap::new(),
            removed: HashSet::new(),
            wished_out: HashMap::new(),
            gone: HashSet::new(),
            removals_are_wished: false,
            names: HashMap::new(),
            memberships: Vec::new(),
            promises: promises::Promises::default(),
            seen: HashMap::new(),
            verified: HashMap::new(),
        }
    }

    fn change(&mut self, header: &SignedHeader) -> Option<(Position, MembershipChange)> {
        let master = self.master;
        let verify = || {
            let header = header.clone().verify(&master).ok()?;
            Some((header.header().at, header.header().membership.clone()?))
        };
        self.verified.entry(Hash::of(&header.bytes)).or_insert_with(verify).clone()
    }

    fn standings(&mut self, store: &MemberStore) -> HashMap<DeviceKey, MembershipChange> {
        let mut devices = HashMap::new();
        for header in store.membership_after(Position::default()).expect("a store") {
            if let Some((_, change)) = self.change(&header) {
                put(&mut devices, change);
            }
        }
        devices
    }

    /// The master put a batch on its disk.
    pub(crate) fn master_committed(&mut self, now: u64, store: &MemberStore) -> Result<(), String> {
        let Some(tip) = store.tip().expect("a store") else { return Ok(()) };
        // Until it has begun its generation, an imported master signs nothing.
        if store.importing().expect("a store").is_some() {
            return Ok(());
        }
        let standings = self.standings(store);
        if tip.at == self.tip {
            return self.same_state("the master", store, tip.header);
        }
        let may_go_back = self.master_was_restored && !self.master_was_imported;
        if tip.at < self.tip && !may_go_back {
            return Err(format!("the master signs at {} after {}", tip.at, self.tip));
        }
        let generation_began = tip.at.generation > self.tip.generation;
        if generation_began {
            self.places.clear();
            self.emptied.clear();
            self.in_generation.clear();
        }
        let after = if generation_began { Position { revision: 0, ..tip.at } } else { self.tip };
        self.follow_log(now, after, store, &standings)?;
        // Entries that restate are kept by nobody.
        self.entries.insert(tip.header);
        if self.memberships.last().is_none_or(|(_, hash)| *hash != tip.membership) {
            self.memberships.push((now, tip.membership));
        }
        self.tip = tip.at;
        let rows = store.files_page(None, &[], 0, u64::MAX).expect("a store");
        self.catalog_changed(&rows, &standings)?;
        self.files = rows.iter().map(|row| row.file.id).collect();
        self.files_ever.extend(&self.files);
        self.in_generation.extend(&self.files);
        self.names.extend(rows.iter().map(|row| (row.file.id, row.file.path.name().to_owned())));
        self.nothing_lost(&standings)?;
        self.promises.one_device_an_invite(&standings)?;
        self.same_state("the master", store, tip.header)
    }

    fn follow_log(
        &mut self,
        now: u64,
        after: Position,
        store: &MemberStore,
        standings: &HashMap<DeviceKey, MembershipChange>,
    ) -> Result<(), String> {
        for entry in store.entries_after(after, usize::MAX).expect("a store") {
            self.entries.insert(Hash::of(&entry.header.bytes));
            let Ok(header) = entry.header.verify(&self.master) else { continue };
            if header.header().membership.is_some() {
                self.memberships.push((now, header.hash()));
            }
            let body = SaltedBody::check(entry.salted, header.header()).and_then(|salted| salted.body().ok());
            match body {
                Some(Body::FileRemoved { owner, files }) => {
                    let device = standings.values().find(|change| change.id == owner).map(|change| change.device);
                    if device.is_none_or(|device| !self.promises.copied.contains(&device)) {
                        self.must_be_wished(&files)?;
                    }
                    self.removed.extend(files);
                }
                // They may be gone again by the end of the batch.
                Some(Body::FilesAdded { files, .. }) => {
                    self.files_ever.extend(files.iter().map(|file| file.id));
                    self.names.extend(files.iter().map(|file| (file.id, file.path.name().to_owned())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a person wished a file of this name out of the catalog.
    pub(crate) fn was_wished_out(&self, path: &std::path::Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        self.wished_out.keys().any(|id| self.names.get(id).map(String::as_str) == name)
    }

    /// Nothing leaves the catalog that nobody removed and that is on its owner's disk.
    fn must_be_wished(&self, files: &[FileId]) -> Result<(), String> {
        let is_wished = |file: &FileId| {
            self.wished_out.contains_key(file) || self.names.get(file).is_some_and(|name| self.gone.contains(name))
        };
        match files.iter().find(|file| !is_wished(file)) {
            Some(file) if self.removals_are_wished => Err(format!("{file} was removed and nobody wished it")),
            Some(_) | None => Ok(()),
        }
    }

    /// No id is used twice, and what was removed comes back only because its owner's person wished it anew.
    fn catalog_changed(
        &mut self,
        rows: &[CatalogRow],
        standings: &HashMap<DeviceKey, MembershipChange>,
    ) -> Result<(), String> {
        let places: BTreeMap<FileId, Place> =
            rows.iter().map(|row| (row.file.id, (row.owner, row.file.path.clone()))).collect();
        for (id, place) in &self.places {
            // What went from its owner's disk comes back with it.
            let gone = self.gone.contains(place.1.name());
            let wished = self.wished_out.get(id).filter(|_| !places.contains_key(id) && !gone);
            if let Some(at) = wished {
                self.emptied.insert(place.clone(), *at);
            }
        }
        for (id, place) in places.iter().filter(|(id, _)| !self.places.contains_key(id)) {
            let owner = standings.values().find(|change| change.id == place.0).map(|change| change.device);
            if owner.is_some_and(|owner| self.promises.restored.contains(&owner)) || self.master_was_restored {
                continue;
            }
            if self.in_generation.contains(id) {
                return Err(format!("{id} is in the catalog a second time"));
            }
            let since = self.emptied.get(place).copied();
            let wished = |since| owner.is_some_and(|owner| self.promises.wished_since(&owner, &place.1, since));
            if since.is_some_and(|since| !wished(since)) {
                return Err(format!("{} was removed, and is back without anybody's wish", place.1));
            }
        }
        self.places = places;
        Ok(())
    }

    /// The master's directory is an older one now.
    pub(crate) fn master_restored(&mut self, store: &MemberStore) {
        self.master_was_restored = true;
        let tip = store.tip().expect("a store");
        self.tip = tip.map(|tip| tip.at).unwrap_or_default();
        self.client_restored(0, self.master);
    }

    /// A copy of the master, that runs beside it, put a batch on its disk.
    pub(crate) fn copy_committed(&mut self, store: &MemberStore) {
        let Some(tip) = store.tip().expect("a store") else { return };
        let start = Position { revision: 0, ..tip.at };
        for entry in store.entries_after(start, usize::MAX).expect("a store") {
            self.entries.insert(Hash::of(&entry.header.bytes));
        }
        let rows = store.files_page(None, &[], 0, u64::MAX).expect("a store");
        self.files_ever.extend(rows.iter().map(|row| row.file.id));
    }

    /// A client's directory is an older one now.
    pub(crate) fn client_restored(&mut self, node: NodeId, key: DeviceKey) {
        self.seen.remove(&node);
        self.promises.client_restored(node, key);
    }

    /// What was acknowledged is in the master's log.
    fn nothing_lost(&self, standings: &HashMap<DeviceKey, MembershipChange>) -> Result<(), String> {
        if self.master_was_restored {
            return Ok(());
        }
        let standing = |key: &DeviceKey| standings.get(key).map(|change| change.standing);
        for key in &self.approved_acked {
            if !matches!(standing(key), Some(Standing::Approved | Standing::Disapproved | Standing::Left)) {
                return Err(format!("an approval that was acknowledged is lost: {key:?}"));
            }
        }
        for key in &self.expelled_acked {
            if !standing(key).is_some_and(Standing::is_final) {
                return Err(format!("an expulsion that was acknowledged is lost: {key:?}"));
            }
        }
        for (file, owner) in &self.idle {
            let gone = standing(owner).is_some_and(Standing::is_final);
            if !gone && !self.files.contains(file) && !self.removed.contains(file) {
                return Err(format!("{file} was idle at its owner and is not in the master's catalog"));
            }
        }
        Ok(())
    }

    /// At one revision all hold the same; between two revisions nothing of that changes.
    fn same_state(&mut self, who: &str, store: &MemberStore, header: Hash) -> Result<(), String> {
        let state = digest(store);
        let (known, by) = self.states.entry(header).or_insert((state, who.to_owned()));
        if *known == state { Ok(()) } else { Err(format!("{who} and {by} differ at one revision")) }
    }

    /// A client put a batch on its disk.
    pub(crate) fn member_committed(
        &mut self,
        node: NodeId,
        name: &str,
        key: DeviceKey,
        store: &MemberStore,
    ) -> Result<(), String> {
        let expulsions = store.expulsions().expect("a store").len();
        let seen = self.seen.entry(node).or_default();
        if expulsions < seen.expulsions {
            return Err(format!("{name} forgot an expulsion"));
        }
        seen.expulsions = expulsions;
        let Some(tip) = store.tip().expect("a store") else { return Ok(()) };
        let before = std::mem::replace(&mut seen.at, tip.at);
        if before > tip.at {
            return Err(format!("{name} went back from {before} to {}", tip.at));
        }
        self.remember_idle(key, store);
        if before == tip.at {
            return self.same_state(name, store, tip.header);
        }
        if !self.entries.contains(&tip.header) {
            return Err(format!("{name} has an entry that the master has not on its disk: {}", tip.at));
        }
        let rows = store.files_page(None, &[], 0, u64::MAX).expect("a store");
        if let Some(row) = rows.iter().find(|row| !self.files_ever.contains(&row.file.id)) {
            return Err(format!("{name} shows {} before the master has it", row.file.id));
        }
        self.same_state(name, store, tip.header)
    }

    fn remember_idle(&mut self, key: DeviceKey, store: &MemberStore) {
        for share in store.shares().expect("a store") {
            for file in store.local_of(&share.path).expect("a store") {
                if file.status == LocalStatus::Idle {
                    self.idle.insert(file.meta.id, key);
                }
            }
        }
    }
}
