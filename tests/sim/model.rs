//! What must be true in every world: a reference model that remembers what was decided, shown and acknowledged.

use crate::network::NodeId;
use crate::world::Node;
use bailiwick::state::requests::Outstanding;
use bailiwick::store::member::{LocalStatus, MemberStore};
use bailiwick::store::server_db::GroupRow;
use bailiwick::wire::codec::{decode, encode};
use bailiwick::wire::frame::{Class, Frame};
use bailiwick::wire::ids::{DeviceKey, FileId, Hash, Position};
use bailiwick::wire::log::{Body, MembershipChange, Policy, SignedHeader, Standing};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a server has on its disk.
#[derive(Default, Clone)]
pub(crate) struct ServerView {
    approved: HashSet<DeviceKey>,
    expelled: HashSet<DeviceKey>,
    /// Approved at some time: one batch may hold an approval and an expulsion.
    approvals: HashSet<DeviceKey>,
}

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
    /// Every entry that the master ever put on its disk.
    entries: HashSet<Hash>,
    tip: Position,
    /// Every file that ever was in the master's catalog, and those that are now.
    files_ever: HashSet<FileId>,
    files: HashSet<FileId>,
    /// Files that an entry removed.
    pub(crate) removed: HashSet<FileId>,
    /// Files that somebody asked to remove.
    pub(crate) wished_out: HashSet<FileId>,
    /// Names of files that went from a disk.
    pub(crate) gone: HashSet<String>,
    /// Whether nothing else may be removed.
    pub(crate) removals_are_wished: bool,
    /// The name of every file that ever was in the master's catalog.
    names: HashMap<FileId, String>,
    states: HashMap<Hash, (Hash, String)>,
    /// Files that were seen idle at their owner.
    idle: BTreeMap<FileId, DeviceKey>,
    seen: HashMap<NodeId, Position>,
    verified: HashMap<Hash, Option<(Position, MembershipChange)>>,
}

/// Where every device stands, by a store's membership headers.
pub(crate) fn changes_of(store: &MemberStore, master: &DeviceKey) -> HashMap<DeviceKey, MembershipChange> {
    let headers = store.membership_after(Position::default()).expect("a store");
    let mut devices: HashMap<DeviceKey, MembershipChange> = HashMap::new();
    for change in headers.into_iter().filter_map(|header| {
        let header = header.verify(master).ok()?;
        header.header().membership.clone()
    }) {
        put(&mut devices, change);
    }
    devices
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
            entries: HashSet::new(),
            tip: Position::default(),
            files_ever: HashSet::new(),
            files: HashSet::new(),
            removed: HashSet::new(),
            wished_out: HashSet::new(),
            gone: HashSet::new(),
            removals_are_wished: false,
            names: HashMap::new(),
            states: HashMap::new(),
            idle: BTreeMap::new(),
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
    pub(crate) fn master_committed(&mut self, store: &MemberStore) -> Result<(), String> {
        let Some(tip) = store.tip().expect("a store") else { return Ok(()) };
        // Until it has begun its generation, an imported master signs nothing.
        if tip.at == self.tip || store.importing().expect("a store").is_some() {
            return Ok(());
        }
        let generation_began = tip.at.generation > self.tip.generation;
        let after = if generation_began { Position { revision: 0, ..tip.at } } else { self.tip };
        for entry in store.entries_after(after, usize::MAX).expect("a store") {
            self.entries.insert(Hash::of(&entry.header.bytes));
            let body = entry.salted.get(32..).and_then(|bytes| decode::<Body>(bytes).ok());
            if let Some(Body::FileRemoved { files, .. }) = body {
                self.must_be_wished(&files)?;
                self.removed.extend(files);
            }
        }
        // Entries that restate are kept by nobody.
        self.entries.insert(tip.header);
        let may_go_back = self.master_was_restored && !self.master_was_imported;
        if tip.at < self.tip && !may_go_back {
            return Err(format!("the master signs at {} after {}", tip.at, self.tip));
        }
        self.tip = tip.at;
        let rows = store.files_page(None, &[], 0, u64::MAX).expect("a store");
        self.files = rows.iter().map(|row| row.file.id).collect();
        self.files_ever.extend(&self.files);
        self.names.extend(rows.iter().map(|row| (row.file.id, row.file.path.name().to_owned())));
        self.same_state("the master", store, tip.header)?;
        let standings = self.standings(store);
        self.nothing_lost(&standings)
    }

    /// Nothing leaves the catalog that nobody removed and that is on its owner's disk.
    fn must_be_wished(&self, files: &[FileId]) -> Result<(), String> {
        let is_wished = |file: &FileId| {
            self.wished_out.contains(file) || self.names.get(file).is_some_and(|name| self.gone.contains(name))
        };
        match files.iter().find(|file| !is_wished(file)) {
            Some(file) if self.removals_are_wished => Err(format!("{file} was removed and nobody wished it")),
            Some(_) | None => Ok(()),
        }
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
        let Some(tip) = store.tip().expect("a store") else { return Ok(()) };
        if self.seen.insert(node, tip.at) == Some(tip.at) {
            return Ok(());
        }
        self.remember_idle(key, store);
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
        // It stays out by itself, though nobody who was there could tell the imported master.
        if self.master_was_imported && expelled(&expulsions, &self.master).contains(&node.key()) {
            return None;
        }
        let standing = changes_of(master, &self.master).get(&node.key()).map(|change| change.standing);
        match standing {
            // Nobody told the imported master of it: it needs an invite, and says so.
            None if self.master_was_imported => None,
            None => Some("it is not registered".to_owned()),
            Some(Standing::Registered) => {
                let told: Option<SignedHeader> = store.get("registration").expect("a store");
                let curious = store.tip().expect("a store").is_some();
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
                self.wishes_unsettled(store)
            }
        }
    }

    fn wishes_unsettled(&self, store: &MemberStore) -> Option<String> {
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
        let open = store.open_transfers(0, 10).expect("a store");
        open.first().map(|one| format!("transfer {} of {} is still open", one.id, one.file))
    }
}

fn expelled(headers: &[SignedHeader], master: &DeviceKey) -> BTreeSet<DeviceKey> {
    let verified = headers.iter().filter_map(|header| header.clone().verify(master).ok());
    verified.filter_map(|header| header.expulsion().map(|change| change.device)).collect()
}
