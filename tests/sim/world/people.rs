//! What people do: ask, approve, disapprove, share.

use super::*;
use bailiwick::node::local::TransferState;

/// How long invites are good for, in milliseconds.
const INVITE_MS: u64 = 24 * 3_600_000;

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
        let until = self.wall(0) + INVITE_MS;
        self.ask_for(0, Command::Invite { expires_s: INVITE_MS / 1_000 }, Purpose::Invite(until));
    }

    /// A person at the master takes an invite back.
    pub(crate) fn revoke(&mut self, text: &str) {
        let Ok(invite) = Invite::parse(text) else { return };
        let id = bailiwick::wire::ids::hex(&invite.secret.id().0);
        // From now on it may be gone, whether or not the answer comes.
        self.model.promises.given.insert(text.to_owned());
        self.ask_for(0, Command::RevokeInvite { id }, Purpose::Revoke(text.to_owned()));
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

    pub(crate) fn ids_of(&self, nodes: &[NodeId]) -> Vec<String> {
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

    /// A person shares a path, or shares it again.
    pub(crate) fn add(&mut self, node: NodeId, path: &std::path::Path) -> u64 {
        let files = self.nodes[node].disk.shared.keys().filter(|file| file.starts_with(path)).cloned().collect();
        let (key, now) = (self.nodes[node].key(), self.now);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.model.promises.wished(key, name, now);
        let command = Command::Add { paths: vec![path.to_owned()], copy: false, exclude: Vec::new() };
        self.ask_for(node, command, Purpose::Share(path.to_owned(), files))
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
        if let (Some(purpose), Ok(reply)) = (purpose, &reply) {
            self.promised(node, purpose, reply);
        }
        self.nodes[node].replies.insert(token, reply);
    }

    /// What a person was told is a promise.
    fn promised(&mut self, node: NodeId, purpose: Purpose, reply: &Reply) {
        if let Reply::Transfers(rows) = reply {
            let silent = rows.iter().find(|row| {
                matches!(row.state, TransferState::Waiting | TransferState::Failed) && row.reason.is_none()
            });
            if let Some(row) = silent {
                self.fail(&format!("{} does not say why transfer {} waits", self.nodes[node].name, row.id));
            }
        }
        // A copy of a directory makes no promises for the other.
        if self.nodes[node].is_old_copy {
            return;
        }
        let promises = &mut self.model.promises;
        match (purpose, reply) {
            (Purpose::Invite(until), Reply::Invites(rows)) => {
                self.invites.extend(rows.iter().map(|row| row.invite.clone()));
                promises.invites.extend(rows.iter().map(|row| (row.invite.clone(), until)));
            }
            (Purpose::Revoke(text), _) => self.invites.retain(|invite| *invite != text),
            (Purpose::Approve(keys), _) => self.model.approved_acked.extend(keys),
            (Purpose::Disapprove(keys), _) => self.model.expelled_acked.extend(keys),
            (Purpose::Share(path, files), _) => {
                promises.shares.entry((node, path)).or_default().extend(files);
            }
            (Purpose::Other, Reply::Jobs(rows)) => promises.jobs.extend(rows.iter().map(|row| (node, row.job))),
            _ => {}
        }
    }
}
