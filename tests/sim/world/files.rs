//! What happens to files in random worlds: they change, they go, people remove them and add them again.

use super::*;
use bailiwick::store::member::LocalStatus;
use bailiwick::wire::ids::FileId;

impl World {
    /// Something happens to a file that somebody shares.
    pub(crate) fn tinker(&mut self, node: NodeId, dice: &mut Dice) {
        let on_disk: Vec<PathBuf> = self.nodes[node].disk.shared.keys().cloned().collect();
        match dice.below(6) {
            0 => {
                if let Some(path) = dice.pick(&on_disk).cloned() {
                    self.note(format!("{} changes {path:?}", self.nodes[node].name));
                    self.write_file(node, path, dice.between(0, 3 << 20));
                }
            }
            1 => {
                if let Some(path) = dice.pick(&on_disk).cloned() {
                    self.note(format!("{} deletes {path:?}", self.nodes[node].name));
                    self.nodes[node].disk.shared.remove(&path);
                    self.model.gone.insert(path.file_name().expect("a name").to_string_lossy().into_owned());
                }
            }
            2 => self.scan(node),
            3 => {
                let own: Vec<FileId> = self.shared(node).iter().map(|file| file.meta.id).collect();
                self.remove_one(node, dice, &own);
            }
            4 => {
                let rows = self.nodes[0].store().files_page(None, &[], 0, u64::MAX).expect("a store");
                let all: Vec<FileId> = rows.iter().map(|row| row.file.id).collect();
                self.remove_one(0, dice, &all);
            }
            _ => {
                if let Some(path) = dice.pick(&on_disk).cloned() {
                    self.add(node, &path);
                }
            }
        }
    }

    fn remove_one(&mut self, node: NodeId, dice: &mut Dice, files: &[FileId]) {
        if let Some(file) = dice.pick(files) {
            // The first wish counts: a later one finds nothing to remove, and may come after the file was wished in again.
            self.model.wished_out.entry(*file).or_insert(self.now);
            self.ask(node, Command::Remove { files: vec![file.to_string()], yes: true });
        }
    }

    /// Every file on a disk is in the catalog as it is, or stays out by somebody's wish.
    pub(crate) fn check_files(&mut self) {
        for node in 0..self.nodes.len() {
            self.scan(node);
        }
        self.run_for(5_000);
        self.settle();
        let members = self.nodes_standing(bailiwick::wire::log::Standing::Approved);
        let living = members.into_iter().chain([0]).filter(|node| self.nodes[*node].fatal.is_none());
        // What a device keeps that runs twice, or was restored, is not what its person said last.
        let living: Vec<NodeId> = living.filter(|node| !self.has_copies(*node)).collect();
        self.check_leftovers();
        for node in living {
            for file in self.shared(node) {
                let there = self.nodes[node].disk.shared.get(&file.abs);
                let row = self.nodes[0].store().file(&file.meta.id).expect("a store");
                let so = match file.status {
                    LocalStatus::Idle => there.is_some_and(|there| row.is_some_and(|row| row.file.hash == there.hash)),
                    LocalStatus::Unlisted | LocalStatus::Refused => row.is_none(),
                    LocalStatus::Syncing | LocalStatus::Leaving | LocalStatus::Gone | LocalStatus::Returning => false,
                };
                self.check(so, &format!("{:?} of {} is in the catalog as it is on disk", file, self.nodes[node].name));
            }
        }
    }

    /// Nothing unfinished is left at a device that is out and knows it.
    fn check_leftovers(&mut self) {
        for node in self.nodes_standing(bailiwick::wire::log::Standing::Disapproved) {
            let one = &self.nodes[node];
            // An older database knows nothing of a part that was begun after it.
            let is_known = !self.has_copies(node) && !self.model.promises.restored.contains(&one.key());
            if one.core.is_some() && is_known && self.model.shows_expelled(one.store(), &one.key()) {
                self.check(one.disk.part_files() == 0, &format!("no part file is left at {}", one.name));
            }
        }
    }
}
