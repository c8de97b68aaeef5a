//! What people do: ask, approve, disapprove, share.

use super::*;

impl World {
    /// A person asks a node for something; the answer comes later.
    pub(crate) fn ask(&mut self, node: NodeId, command: Command) -> u64 {
        self.ask_for(node, command, Purpose::Other)
    }

    pub(super) fn ask_for(&mut self, node: NodeId, command: Command, purpose: Purpose) -> u64 {
        self.note(format!("{} is asked for {command:?}", self.nodes[node].name));
        self.nodes[node].next_token += 1;
        let token = self.nodes[node].next_token;
        if self.nodes[node].core.is_some() {
            self.purposes.insert((node, token), purpose);
            self.tell(node, Input::Local(token, command));
        }
        token
    }

    /// A person at the master makes an invite.
    pub(crate) fn invite(&mut self) {
        self.ask_for(0, Command::Invite { expires_s: 24 * 3_600 }, Purpose::Invite);
    }

    /// A person at the master approves devices.
    pub(crate) fn approve(&mut self, nodes: &[NodeId]) -> u64 {
        let ids = self.ids_of(nodes);
        let keys = nodes.iter().map(|node| self.nodes[*node].key()).collect();
        self.ask_for(0, Command::Approve { ids }, Purpose::Approve(keys))
    }

    /// A person at the master disapproves devices.
    pub(crate) fn disapprove(&mut self, nodes: &[NodeId]) -> u64 {
        let ids = self.ids_of(nodes);
        let keys = nodes.iter().map(|node| self.nodes[*node].key()).collect();
        self.ask_for(0, Command::Disapprove { ids }, Purpose::Disapprove(keys))
    }

    pub(super) fn ids_of(&self, nodes: &[NodeId]) -> Vec<String> {
        let changes = changes_of(self.nodes[0].store(), &self.model.master);
        let id = |node: &NodeId| changes.get(&self.nodes[*node].key()).map(|change| change.id.to_string());
        nodes.iter().map(|node| id(node).unwrap_or_else(|| "0000000000".to_owned())).collect()
    }

    /// Somebody puts files on a disk, and shares their folder.
    pub(crate) fn share(&mut self, node: NodeId, folder: &str, sizes: &[u64]) -> PathBuf {
        let path = PathBuf::from(format!("/home/{}/{folder}", self.nodes[node].name));
        for (number, size) in sizes.iter().enumerate() {
            self.write_file(node, path.join(format!("{folder}{number}")), *size);
        }
        self.add(node, &path);
        path
    }

    /// Somebody shares a path, or shares it again.
    pub(crate) fn add(&mut self, node: NodeId, path: &std::path::Path) -> u64 {
        self.ask(node, Command::Add { paths: vec![path.to_owned()], copy: false, exclude: Vec::new() })
    }

    /// Somebody has all shares looked at.
    pub(crate) fn scan(&mut self, node: NodeId) {
        self.ask(node, Command::Scan { paths: Vec::new(), confirm: false });
    }

    /// Somebody writes a file with new content.
    pub(crate) fn write_file(&mut self, node: NodeId, path: PathBuf, size: u64) {
        let file = crate::plane::SharedFile::random(&mut self.dice, size);
        self.nodes[node].disk.shared.insert(path, file);
    }

    /// Somebody changes one chunk of a shared file, and lets the share be looked at.
    pub(crate) fn change_file(&mut self, node: NodeId, share: &std::path::Path, path: &std::path::Path, chunk: usize) {
        let changed = self.nodes[node].disk.shared[path].changed(&mut self.dice, chunk);
        self.nodes[node].disk.shared.insert(path.to_owned(), changed);
        self.add(node, share);
    }

    pub(super) fn replied(&mut self, node: NodeId, token: u64, reply: Result<Reply, LocalError>) {
        if let Err(error) = &reply {
            self.note(format!("{} is answered: {error}", self.nodes[node].name));
        }
        let purpose = self.purposes.remove(&(node, token));
        match (purpose, &reply) {
            (Some(Purpose::Invite), Ok(Reply::Invites(rows))) => {
                self.invites.extend(rows.iter().map(|row| row.invite.clone()));
            }
            (Some(Purpose::Approve(keys)), Ok(_)) if node == 0 => self.model.approved_acked.extend(keys),
            (Some(Purpose::Disapprove(keys)), Ok(_)) if node == 0 => self.model.expelled_acked.extend(keys),
            _ => {}
        }
        self.nodes[node].replies.insert(token, reply);
    }
}
