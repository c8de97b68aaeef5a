//! What must hold at any time, and what must come to rest.

use super::*;

impl World {
    /// A node's batch is on disk: everything that must hold at any time holds.
    pub(super) fn committed(&mut self, node: NodeId) {
        let one = &self.nodes[node];
        let Some(core) = &one.core else { return };
        let checked = if one.is_master() && !one.is_old_copy {
            self.model.master_committed(core.store())
        } else if one.is_master() {
            Ok(())
        } else {
            self.model.member_committed(node, &one.name, one.key(), core.store())
        };
        if let Err(why) = checked {
            self.fail(&why);
        }
    }

    /// Ends all faults, waits until everything has come to rest, and checks that it did.
    pub(crate) fn settle(&mut self) {
        self.faults = Faults::default();
        self.intercept = None;
        self.note("--- faults end ---".to_owned());
        for node in 0..self.nodes.len() {
            self.nodes[node].stalled = false;
            self.nodes[node].crash_in = None;
            self.nodes[node].frozen_until = self.nodes[node].frozen_until.min(self.now);
            self.cut(node, false, false);
            self.start_node(node);
            self.wake_at(node, self.now);
        }
        self.server.crash_in = None;
        self.start_server();
        let end = self.now + SETTLE_MS;
        loop {
            self.run_for(2_000);
            let Some(why) = self.unsettled() else { break };
            if self.now >= end {
                self.fail(&format!("it never settles: {why}"));
            }
        }
        self.run_for(5_000);
        if let Some(why) = self.unsettled() {
            self.fail(&format!("it settled and did not stay so: {why}"));
        }
    }

    /// What has not come to rest yet.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let master = &self.nodes[0];
        if master.store().importing().expect("a store").is_some() {
            return Some("the imported master still listens".to_owned());
        }
        let groups = self.server_backup().groups().expect("a store");
        self.model.server_unsettled(&groups, master.store()).or_else(|| {
            self.nodes.iter().skip(1).filter(|node| !node.is_old_copy).find_map(|node| {
                let why = self.model.member_unsettled(node, master.store())?;
                Some(format!("{}: {why}", node.name))
            })
        })
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
