//! What must hold at any time, and what must come to rest.

use super::*;
use bailiwick::node::local::TransferState;

impl World {
    /// A node's batch is on disk: everything that must hold at any time holds. Says whether anything was written.
    pub(super) fn committed(&mut self, node: NodeId) -> bool {
        let one = &mut self.nodes[node];
        let Some(core) = &one.core else { return false };
        let writes = Some(core.store().writes());
        if std::mem::replace(&mut one.checked, writes) == writes {
            return false;
        }
        let one = &self.nodes[node];
        let Some(core) = &one.core else { return false };
        let checked = if one.is_master() && !one.is_old_copy {
            self.model.master_committed(self.now, core.store())
        } else if one.is_master() {
            self.model.copy_committed(core.store());
            Ok(())
        } else {
            self.model.member_committed(node, &one.name, one.key(), core.store())
        };
        if let Err(why) = checked.and_then(|()| one.disk.holds_claims(core.store())) {
            self.fail(&format!("{}: {why}", one.name));
        }
        true
    }

    /// Ends all faults, waits until everything has come to rest, and checks that it did.
    pub(crate) fn settle(&mut self) {
        self.faults = Faults::default();
        self.intercept = None;
        self.holes.clear();
        self.lie_no_more();
        self.note("--- faults end ---".to_owned());
        for node in 0..self.nodes.len() {
            self.nodes[node].stalled = false;
            self.nodes[node].disk.full = false;
            self.nodes[node].crash_in = None;
            self.nodes[node].frozen_until = self.nodes[node].frozen_until.min(self.now);
            self.cut(node, false, false);
            if self.has_straight_ways() {
                self.opens_nat(node);
            }
            self.start_node(node);
            self.wake_at(node, self.now);
        }
        self.server.crash_in = None;
        self.start_server();
        if self.people_pause {
            for node in 0..self.nodes.len() {
                self.ask(node, Command::Resume { ids: Vec::new(), all: true });
            }
        }
        let (begun, end) = (self.now, self.now + SETTLE_MS);
        // At rest is what is so twice: somebody may just have noticed that a file has changed.
        let mut rested = false;
        loop {
            self.run_for(if rested { 5_000 } else { 2_000 });
            let unsettled = self.unsettled();
            if rested && unsettled.is_none() {
                break;
            }
            rested = unsettled.is_none();
            if let Some(why) = unsettled.filter(|_| self.now >= end) {
                self.note_transfers();
                self.fail(&format!("it never settles: {why}"));
            }
        }
        self.longest_settle = self.longest_settle.max(self.now - begun);
    }

    /// What everybody says of what is not done, for whoever looks into it.
    fn note_transfers(&mut self) {
        for node in 0..self.nodes.len() {
            let token = self.ask(node, Command::Transfers { job: None });
            self.run_till(5_000, |world| world.nodes[node].replies.contains_key(&token));
            let Some(Ok(Reply::Transfers(rows))) = self.nodes[node].replies.remove(&token) else { continue };
            for row in rows.iter().filter(|row| row.state != TransferState::Done) {
                let note = format!(
                    "{}: {:?} {} is {:?}: {:?}",
                    self.nodes[node].name, row.direction, row.file, row.state, row.reason
                );
                self.note(note);
            }
        }
    }

    /// What has not come to rest yet.
    pub(crate) fn unsettled(&mut self) -> Option<String> {
        if self.model.master_was_restored && self.says_old_copy() {
            return None;
        }
        // The head that would show it to the master may be what the server dropped.
        if self.model.master_was_restored && self.model.server_lied && self.a_member_says_fork() {
            return None;
        }
        let out = self.nodes.iter().filter(|node| self.model.shows_expelled(node.store(), &node.key()));
        self.model.promises.out = out.map(Node::key).collect();
        let masters = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_master());
        let Some(master) = masters.into_iter().find(|node| self.connected(*node)) else {
            return Some("no master is connected".to_owned());
        };
        let groups = self.server_store().groups().expect("a store");
        let log = self.nodes[master].store();
        if log.importing().expect("a store").is_some() {
            return Some("the imported master still listens".to_owned());
        }
        let of_master = || self.model.wishes_unsettled(&self.nodes[master]).map(|why| format!("the master: {why}"));
        self.model.server_unsettled(&groups, log).or_else(of_master).or_else(|| {
            self.nodes.iter().enumerate().filter(|(_, node)| !node.is_master()).find_map(|(id, node)| {
                if self.has_copies(id) {
                    return self.copies_unsettled(id, log);
                }
                let why = self.model.member_unsettled(node, log)?;
                Some(format!("{}: {why}", node.name))
            })
        })
    }

    /// Of several processes on one directory one is connected, in the end.
    fn copies_unsettled(&self, node: NodeId, log: &MemberStore) -> Option<String> {
        let key = self.nodes[node].key();
        let copies: Vec<NodeId> = (0..self.nodes.len()).filter(|one| self.nodes[*one].key() == key).collect();
        let on: Vec<NodeId> = copies.into_iter().filter(|one| self.connected(*one)).collect();
        match on.as_slice() {
            [one] => {
                let why = self.model.member_unsettled(&self.nodes[*one], log)?;
                Some(format!("{}: {why}", self.nodes[*one].name))
            }
            // Who is expelled is let read that, and no more; who can't come in at all says so, and ends.
            [] if self.knows_expelled(node) || self.nodes.iter().any(|one| one.key() == key && one.fatal.is_some()) => {
                None
            }
            on => Some(format!("{} of the copies of {} are connected", on.len(), self.nodes[node].name)),
        }
    }

    fn knows_expelled(&self, node: NodeId) -> bool {
        let key = self.nodes[node].key();
        let copies = self.nodes.iter().filter(|one| one.key() == key);
        copies.into_iter().any(|one| self.model.shows_expelled(one.store(), &key))
    }

    /// Whether a master says that it is an old copy, which a person must replace.
    pub(crate) fn says_old_copy(&mut self) -> bool {
        let masters: Vec<NodeId> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_master()).collect();
        masters
            .into_iter()
            .any(|node| self.waits_for(node).is_some_and(|why| why.contains("old one") || why.contains("forked")))
    }

    fn a_member_says_fork(&mut self) -> bool {
        let members: Vec<NodeId> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_master()).collect();
        members.into_iter().any(|node| self.waits_for(node).is_some_and(|why| why.contains("forked")))
    }

    /// The group's id.
    pub(crate) fn group(&self) -> GroupId {
        GroupId::of(&self.model.master)
    }

    /// The nodes that are a given standing's, as the master's log says.
    pub(crate) fn nodes_standing(&self, standing: bailiwick::wire::log::Standing) -> Vec<NodeId> {
        let changes = changes_of(self.nodes[0].store(), &self.model.master);
        let is = |node: &NodeId| changes.get(&self.nodes[*node].key()).is_some_and(|one| one.standing == standing);
        (1..self.nodes.len()).filter(is).collect()
    }

    /// Ids of the files in a node's catalog that others share.
    pub(crate) fn files_of_others(&self, node: NodeId) -> Vec<String> {
        let me =
            changes_of(self.nodes[node].store(), &self.model.master).get(&self.nodes[node].key()).map(|one| one.id);
        let rows = self.nodes[node].store().files_page(None, &[], 0, u64::MAX).expect("a store");
        rows.iter().filter(|row| Some(row.owner) != me).map(|row| row.file.id.to_string()).collect()
    }

    /// How many connections are up, as far as the devices know.
    pub(crate) fn connected(&self, node: NodeId) -> bool {
        self.links.values().any(|link| link.node == node && link.node_open && link.server_open)
    }

    /// What a node says that it waits for, in words.
    pub(crate) fn waits_for(&mut self, node: NodeId) -> Option<String> {
        let token = self.ask(node, Command::Status);
        self.run_till(5_000, |world| world.nodes[node].replies.contains_key(&token));
        match self.nodes[node].replies.remove(&token) {
            Some(Ok(Reply::Status(status))) => status.waiting,
            Some(Ok(_) | Err(_)) | None => None,
        }
    }

    /// A node's status of a file that it shares, by its place on disk.
    pub(crate) fn shared(&self, node: NodeId) -> Vec<LocalFile> {
        let store = self.nodes[node].store();
        let shares = store.shares().expect("a store");
        shares.iter().flat_map(|share| store.local_of(&share.path).expect("a store")).collect()
    }
}
