//! Processes: started, killed, started again on what was on their disks.

use super::*;

impl World {
    /// Starts a node's process, if it doesn't run and has not ended by itself.
    pub(crate) fn start_node(&mut self, node: NodeId) {
        if self.nodes[node].core.is_some() || self.nodes[node].fatal.is_some() {
            return;
        }
        self.nodes[node].inbox.clear();
        self.note(format!("{} starts", self.nodes[node].name));
        self.nodes[node].life += 1;
        self.nodes[node].plane = Plane::default();
        self.nodes[node].spot.new_process();
        self.nodes[node].alive = true;
        self.open_core(node);
    }

    pub(super) fn open_core(&mut self, node: NodeId) {
        let (now, wall_ms) = (Time(self.now), self.wall(node));
        let one = &mut self.nodes[node];
        let Some(store) = one.store.take() else { return };
        store.set_read_only(false).expect("a pragma");
        let downloads = PathBuf::from(format!("/downloads/{}", one.name));
        let (identity, config, start) = (one.identity.clone(), one.config, one.start.clone());
        let mut cx = Cx { now, wall_ms, random: &mut self.dice };
        match MemberCore::open(store, identity, config, start, downloads, &mut cx) {
            Ok(core) => self.nodes[node].core = Some(core),
            Err(error) => self.fail(&format!("{} can't be opened: {error}", self.nodes[node].name)),
        }
        self.nodes[node].checked = None;
        self.committed(node);
        if config.paths.enabled {
            self.tell_addresses(node);
        }
        self.wake_at(node, self.now);
    }

    /// A node's process is killed.
    pub(crate) fn crash(&mut self, node: NodeId) {
        if !std::mem::take(&mut self.nodes[node].alive) {
            return;
        }
        self.note(format!("{} is killed", self.nodes[node].name));
        let one = &mut self.nodes[node];
        if let Some(core) = one.core.take() {
            one.store = Some(core.into_store());
        }
        one.life += 1;
        one.inbox.clear();
        one.wake_at = None;
        one.disk.power_cut(&mut self.dice);
        self.purposes.retain(|(of, _), _| *of != node);
        let links: Vec<ConnId> =
            self.links.values().filter(|link| link.node == node && link.node_open).map(|link| link.id).collect();
        for conn in links {
            self.vanish(conn, Side::Node);
        }
        self.leaves_straight_ways(node, None);
    }

    /// A person deletes a device's directory: it is never there again.
    pub(crate) fn delete(&mut self, node: NodeId) {
        self.crash(node);
        self.nodes[node].fatal = Some(LocalError::new(ErrorCode::Failed, "its directory is deleted", ""));
    }

    /// Kills a node, and starts it again later.
    pub(crate) fn crash_for(&mut self, node: NodeId, ms: u64) {
        self.crash(node);
        self.at(self.now + ms, Event::Restart(node));
    }

    /// A person ends a node's process, which ends cleanly; it is started again later.
    pub(crate) fn stop(&mut self, node: NodeId, ms: u64) {
        if self.nodes[node].core.is_some() {
            self.note(format!("{} is told to stop", self.nodes[node].name));
            self.coverage.event("clean stop");
            self.nodes[node].restart_after = ms;
            self.tell(node, Input::Stopping);
        }
    }

    /// There is no room on a node's disk, or there is again.
    pub(crate) fn fill_disk(&mut self, node: NodeId, full: bool) {
        self.note(format!("{}: disk full {full}", self.nodes[node].name));
        if full {
            self.coverage.event("disk full");
        }
        self.nodes[node].disk.full = full;
    }

    /// While a node does not run, somebody deletes one of its part files, or cuts it short.
    pub(crate) fn spoil_part(&mut self, node: NodeId, ms: u64) {
        self.crash(node);
        if self.nodes[node].disk.spoil_part(&mut self.dice) {
            self.note(format!("{}: a part file is spoiled", self.nodes[node].name));
            self.coverage.event("part file spoiled");
        }
        self.at(self.now + ms, Event::Restart(node));
    }

    /// Whether several processes run on copies of this node's directory.
    pub(crate) fn has_copies(&self, node: NodeId) -> bool {
        let key = self.nodes[node].key();
        self.nodes.iter().filter(|one| one.key() == key).count() > 1
    }

    /// One end of a connection is gone without a word. What was under way from there may be lost from some frame on.
    pub(super) fn vanish(&mut self, conn: ConnId, side: Side) {
        let quick = self.dice.once_in(2);
        let learns = if quick { self.dice.between(1, 2_000) } else { self.dice.between(1_000, IDLE_MS) };
        let kept = self.dice.below(8) as usize;
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.set_open(side, false);
        link.lane_to(side).pieces.clear();
        link.lane_to(side.other()).pieces.truncate(kept);
        self.at(self.now + learns, Event::Dies(conn, side.other()));
    }

    /// Starts the server, if it doesn't run.
    pub(crate) fn start_server(&mut self) {
        if self.server.core.is_some() {
            return;
        }
        self.note("server starts".to_owned());
        self.server.life += 1;
        self.server.checked = None;
        let Some(store) = self.server.store.take() else { return };
        store.set_read_only(false).expect("a pragma");
        let core = ServerCore::open(Time(self.now), self.server.config.clone(), store, self.server.admission);
        match core {
            Ok(core) => self.server.core = Some(core),
            Err(error) => self.fail(&format!("the server can't start: {error}")),
        }
        self.wake_server_at(self.now);
    }

    /// The server's process is killed.
    pub(crate) fn crash_server(&mut self) {
        let Some(core) = self.server.core.take() else { return };
        self.note("server is killed".to_owned());
        self.server.store = Some(core.into_store());
        self.server.life += 1;
        self.server.inbox.clear();
        self.server.wake_at = None;
        self.forget_server_connections();
    }

    pub(super) fn forget_server_connections(&mut self) {
        self.server.entries.clear();
        self.server.forwards.clear();
        self.streams.clear();
        let links: Vec<ConnId> = self.links.values().filter(|link| link.server_open).map(|link| link.id).collect();
        for conn in links {
            self.vanish(conn, Side::Server);
        }
    }

    /// Kills the server, and starts it again later.
    pub(crate) fn crash_server_for(&mut self, ms: u64) {
        self.crash_server();
        self.at(self.now + ms, Event::RestartServer);
    }

    /// The server's database becomes this one, while it is down.
    pub(crate) fn replace_server_store(&mut self, store: ServerStore) {
        assert!(self.server.core.is_none(), "the server runs");
        self.server.store = Some(store);
        self.model.server_forgot();
    }

    /// A copy of the server's database as it is now.
    pub(crate) fn server_backup(&self) -> ServerStore {
        self.server_store().copy_in_memory().expect("a copy")
    }

    /// The server's database, whether it runs or not.
    pub(super) fn server_store(&self) -> &ServerStore {
        match (&self.server.core, &self.server.store) {
            (Some(core), _) => core.store(),
            (None, Some(store)) => store,
            (None, None) => unreachable!("a server has its store or its core"),
        }
    }

    /// A copy of a node's database as it is now.
    pub(crate) fn backup(&self, node: NodeId) -> MemberStore {
        self.nodes[node].store().copy_in_memory().expect("a copy")
    }

    /// The master's machine is lost; a person imports a backup on another one.
    pub(crate) fn import(&mut self, backup: MemberStore) {
        self.crash(0);
        self.note("the master is imported from a backup".to_owned());
        backup.prepare_import().expect("a store");
        self.model.master_was_restored = true;
        self.model.master_was_imported = true;
        self.restore(0, backup);
        self.start_node(0);
    }

    /// The server's machine is lost, and another server takes its place, with keys and an address of its own. Gives its
    /// ticket.
    pub(crate) fn replace_server(&mut self) -> Ticket {
        self.crash_server();
        self.note("the server is gone for good; there is another one".to_owned());
        let key = new_identity(&mut self.dice).device_key();
        self.server.address = ServerAddress { key, addresses: vec![Address::V4([192, 0, 2, 2], 4433)] };
        self.server.admission = AdmissionSecret(draw(&mut self.dice));
        self.replace_server_store(ServerStore::open_in_memory().expect("a database"));
        self.start_server();
        Ticket { server: self.server.address.clone(), admission: self.server.admission }
    }

    /// A person starts the master again, with a server's ticket.
    pub(crate) fn start_master_with(&mut self, ticket: Ticket) {
        self.crash(0);
        self.nodes[0].start = Start::Master { ticket: Box::new(ticket), name: named("desk") };
        self.start_node(0);
    }

    /// A person starts a client again, with an invite.
    pub(crate) fn start_again_with(&mut self, node: NodeId, invite: &str) {
        self.crash(node);
        self.nodes[node].fatal = None;
        let before = self.nodes[node].start.clone();
        let invite = Some(Box::new(Invite::parse(invite).expect("an invite")));
        self.nodes[node].start = Start::Client { invite, name: named(&self.nodes[node].name) };
        self.start_node(node);
        self.nodes[node].start = before;
    }

    /// A node's database becomes this older one, while it is down.
    pub(crate) fn restore(&mut self, node: NodeId, store: MemberStore) {
        assert!(self.nodes[node].core.is_none(), "it runs");
        self.note(format!("{} is restored from a backup", self.nodes[node].name));
        if node == 0 {
            self.model.master_restored(&store);
        } else {
            self.model.client_restored(node, self.nodes[node].key());
        }
        self.nodes[node].store = Some(store);
        self.nodes[node].fatal = None;
    }
}
