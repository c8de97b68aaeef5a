//! What people see at the end: every command that was answered was a promise, and whoever waits says why.

use super::*;
use bailiwick::node::local::{ClientRow, StandingRow, Status, TransferState};
use bailiwick::store::member::LocalStatus;
use bailiwick::wire::log::Standing;

/// How long an answer may take.
const ANSWER_MS: u64 = 30_000;

/// How long a device may be on its way back to a server that it has lost.
const RETURN_MS: u64 = 60_000;

impl World {
    /// A node's answer; nothing if it does not run.
    fn answer(&mut self, node: NodeId, command: Command) -> Option<Reply> {
        self.nodes[node].core.as_ref()?;
        let what = format!("{command:?}");
        let token = self.ask(node, command);
        if !self.run_till(ANSWER_MS, |world| world.nodes[node].replies.contains_key(&token)) {
            self.fail(&format!("{} does not answer {what}", self.nodes[node].name));
        }
        match self.nodes[node].replies.remove(&token) {
            Some(Ok(reply)) => Some(reply),
            Some(Err(error)) => self.fail(&format!("{} answers {what}: {error}", self.nodes[node].name)),
            None => None,
        }
    }

    /// Checks all that people were told, once everything is at rest.
    pub(crate) fn check_answers(&mut self) {
        self.faults = Faults::default();
        let at_master = match self.answer(0, Command::Clients) {
            Some(Reply::Clients(rows)) => rows,
            _ => Vec::new(),
        };
        for node in 0..self.nodes.len() {
            let Some(Reply::Status(status)) = self.answer(node, Command::Status) else { continue };
            let status = self.check_status(node, *status);
            if let Some(Reply::Clients(rows)) = self.answer(node, Command::Clients) {
                let is_member = status.standing == Some(StandingRow::Approved);
                // The copy that is not on may not have noticed yet.
                let alone = !self.has_copies(node);
                if is_member && alone && status.waiting.is_none() && !self.model.master_was_restored {
                    self.check_devices(node, &at_master, &rows);
                }
            }
            self.answer(node, Command::Transfers { job: None });
        }
        self.check_invites();
        self.check_jobs();
        if !self.model.master_was_restored {
            self.check_shares();
        }
    }

    /// Who has no reason to wait says none, if not at once; who waits says why.
    fn check_status(&mut self, node: NodeId, mut status: Status) -> Status {
        if status.waiting.as_ref().is_some_and(String::is_empty) {
            self.fail(&format!("{} waits and does not say why", self.nodes[node].name));
        }
        let standing = self.standing_of(node);
        if self.model.master_was_restored {
            return status;
        }
        // Of several copies one is told that it is out; the others may not even have noticed that nobody hears them.
        if status.waiting.is_none() && standing != Some(Standing::Approved) && !self.has_copies(node) {
            self.fail(&format!("{} is {standing:?} and does not say what it waits for", self.nodes[node].name));
        }
        let end = self.now + RETURN_MS;
        while standing == Some(Standing::Approved) && !self.has_copies(node) && status.waiting.is_some() {
            if self.now >= end {
                let (name, why) = (&self.nodes[node].name, status.waiting.unwrap_or_default());
                self.fail(&format!("{name} says that it waits, with nothing to wait for: {why}"));
            }
            self.run_for(1_000);
            match self.answer(node, Command::Status) {
                Some(Reply::Status(now)) => status = *now,
                _ => break,
            }
        }
        status
    }

    fn standing_of(&self, node: NodeId) -> Option<Standing> {
        let changes = changes_of(self.nodes[0].store(), &self.model.master);
        changes.get(&self.nodes[node].key()).map(|change| change.standing)
    }

    /// Every member shows the same devices as the master.
    fn check_devices(&self, node: NodeId, at_master: &[ClientRow], here: &[ClientRow]) {
        let told = |rows: &[ClientRow]| {
            let rows = rows.iter().map(|row| (row.id.clone(), row.name.clone(), format!("{:?}", row.standing)));
            rows.collect::<BTreeSet<_>>()
        };
        if told(at_master) != told(here) {
            self.fail(&format!(
                "{} shows other devices than the master:\n{:?}\n{:?}",
                self.nodes[node].name,
                told(here),
                told(at_master)
            ));
        }
    }

    /// An invite that was made is there until it is used, taken back, or too old.
    fn check_invites(&mut self) {
        let Some(Reply::Invites(rows)) = self.answer(0, Command::Invites) else { return };
        let now = self.wall(0);
        let promises = &self.model.promises;
        let open = |(text, until): (&String, &u64)| *until > now + ANSWER_MS && !promises.given.contains(text);
        let lost = promises.invites.iter().find(|(text, until)| {
            open((text, until)) && !rows.iter().any(|row| row.invite == **text) && !self.model.master_was_restored
        });
        if lost.is_some() {
            self.fail("an invite that was given out is lost");
        }
    }

    /// A download that was accepted is done, or says why not.
    fn check_jobs(&mut self) {
        for (node, job) in self.model.promises.jobs.clone() {
            // What a restored owner does not know of any more waits until it is shared again.
            if self.has_copies(node) || !self.model.promises.restored.is_empty() {
                continue;
            }
            let Some(Reply::Jobs(rows)) = self.answer(node, Command::Jobs { job: Some(job) }) else { continue };
            let name = &self.nodes[node].name;
            let Some(row) = rows.first() else { self.fail(&format!("{name} lost its job {job}")) };
            let over = match row.state {
                TransferState::Done | TransferState::Cancelled => true,
                TransferState::Failed | TransferState::Paused => row.reason.is_some(),
                TransferState::Waiting if !self.model.promises.left.is_empty() => row.reason.is_some(),
                TransferState::Waiting | TransferState::Running => {
                    // Nothing comes to rest at a master that is an old copy.
                    self.model.master_was_restored && (row.state == TransferState::Running || row.reason.is_some())
                }
            };
            if !over {
                self.fail(&format!("{name}: job {job} is {:?}: {:?}", row.state, row.reason));
            }
        }
    }

    /// What was shared is in the catalog, or out of it for a reason.
    fn check_shares(&mut self) {
        for ((node, _), files) in self.model.promises.shares.clone() {
            let standing = self.standing_of(node);
            let member = node == 0 || standing == Some(Standing::Approved);
            if !member || self.nodes[node].fatal.is_some() || self.has_copies(node) {
                continue;
            }
            let name = &self.nodes[node].name;
            // A path inside of a share is that share's.
            let local = self.shared(node);
            for file in files.iter().filter(|file| self.nodes[node].disk.shared.contains_key(*file)) {
                match local.iter().find(|one| one.abs == **file) {
                    // A share ends with the removal of all that it is.
                    None if self.model.was_wished_out(file) => {}
                    None => self.fail(&format!("{name} lost {} of a share", file.display())),
                    Some(one) if one.status == LocalStatus::Syncing => {
                        self.fail(&format!("{name}: {} is never listed", file.display()));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
