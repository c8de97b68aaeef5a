//! Chunks on the move: from owners into entries, from entries to askers.

use super::{Cache, Effect, EntryId, ForwardId, Stage, StreamId, Timer};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::chunk::ChunkHeader;
use crate::wire::close::StreamCode;
use crate::wire::frame::ChunkRefusal;

impl Cache {
    /// Only what was asked for comes in, from whom it was asked, as long as it was said to be.
    pub(super) fn arriving(&mut self, now: Time, conn: ConnId, stream: StreamId, header: &ChunkHeader) {
        let upload = (header.request, header.content, header.index);
        let id = self.owners.get(&conn).and_then(|owner| owner.uploads.get(&upload)).copied();
        let expected = id.and_then(|id| Some((id, self.entries.get_mut(&id)?))).filter(|(_, entry)| {
            let waited = matches!(entry.stage, Stage::Reserved { .. });
            waited && entry.key.length == header.length && header.stream_bytes() as u64 <= entry.bytes
        });
        let Some((id, entry)) = expected else {
            return self.effects.push_back(Effect::Stop { stream, code: StreamCode::NotWanted });
        };
        if let Stage::Reserved { upload, since } = entry.stage {
            entry.stage = Stage::Arriving { upload, since };
        }
        self.effects.push_back(Effect::Receive { stream, entry: id });
        self.heard(now, id);
        self.start_forwards(now, id);
    }

    /// An owner is sending.
    pub(super) fn heard(&mut self, now: Time, id: EntryId) {
        let Some(owner) = self.entries.get(&id).map(|entry| entry.owner) else { return };
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.heard = now;
        }
    }

    pub(super) fn complete(&mut self, now: Time, id: EntryId) {
        self.heard(now, id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Stage::Arriving { upload, .. } = entry.stage else { return };
        entry.stage = Stage::Complete { at: now };
        let until = now.after(self.config.ttl);
        let expiry = entry.timer.replace(until);
        let (owner, key) = (entry.owner, entry.key);
        let askers: Vec<ConnId> = entry.readers.iter().map(|reader| reader.asker).collect();
        self.release_owner(owner, id, Some((upload, key.content, key.index)));
        self.unschedule(expiry, Timer::Entry(id));
        self.timers.insert((until, Timer::Entry(id)));
        askers.into_iter().for_each(|asker| self.begins_to_read(now, asker));
        self.note_spare(id);
    }

    pub(super) fn broken(&mut self, id: EntryId) {
        if self.entries.get(&id).is_some_and(|entry| matches!(entry.stage, Stage::Arriving { .. })) {
            self.end_entry(id, ChunkRefusal::OwnerStalled);
        }
    }

    /// Sends an entry on its way to every reader that it is not on its way to.
    pub(super) fn start_forwards(&mut self, now: Time, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let complete = matches!(entry.stage, Stage::Complete { .. });
        let mut begun = Vec::new();
        for reader in entry.readers.iter_mut().filter(|reader| reader.forward.is_none()) {
            self.next += 1;
            let forward = ForwardId(self.next);
            reader.forward = Some(forward);
            self.forwards.insert(forward, (id, reader.asker, reader.request));
            let (asker, request) = (reader.asker, reader.request);
            self.effects.push_back(Effect::Forward { forward, entry: id, asker, request });
            begun.push(asker);
        }
        if complete {
            begun.into_iter().for_each(|asker| self.begins_to_read(now, asker));
            self.note_spare(id);
        }
    }

    pub(super) fn forwarding(&mut self, now: Time, forward: ForwardId) {
        if let Some((_, asker, _)) = self.forwards.get(&forward).copied() {
            self.asker_progressed(now, asker);
        }
    }

    /// An asker has all of a chunk, or wants no more of it.
    pub(super) fn forward_over(&mut self, now: Time, forward: ForwardId) {
        let Some((id, asker, request)) = self.forwards.get(&forward).copied() else { return };
        self.asker_progressed(now, asker);
        self.leave(id, asker, request, None);
    }
}
