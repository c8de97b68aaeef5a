//! Ends: of one asker's interest, of a whole entry, of a connection. Each chunk that was asked for ends once.

use super::asker::Want;
use super::outbox::Word;
use super::{Cache, Effect, EntryId, Stage, Timer};
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::wire::close::StreamCode;
use crate::wire::frame::{ChunkRange, ChunkRefusal};
use crate::wire::ids::{GroupId, PublicId};

impl Cache {
    pub(super) fn cancel(&mut self, conn: ConnId, request: u64, ranges: &[ChunkRange]) {
        let most = self.config.asker_chunks_max * 2;
        for (content, index, _) in ranges.iter().flat_map(ChunkRange::chunks).take(most) {
            let Some(asker) = self.askers.get(&conn) else { return };
            if let Some(entry) = asker.entry_of(&(request, content, index)) {
                self.leave(entry, conn, request, Some(StreamCode::Cancelled));
            }
        }
    }

    pub(super) fn owner_refused(
        &mut self,
        now: Time,
        conn: ConnId,
        upload: u64,
        ranges: &[ChunkRange],
        reason: ChunkRefusal,
    ) {
        let most = self.config.asker_chunks_max * 2;
        for (content, index, _) in ranges.iter().flat_map(ChunkRange::chunks).take(most) {
            let Some(owner) = self.owners.get_mut(&conn) else { return };
            owner.heard = now;
            if let Some(entry) = owner.uploads.remove(&(upload, content, index)) {
                self.end_entry(entry, reason);
            }
        }
    }

    /// One asker's interest in an entry ends. If it was the last, what is not here yet is not asked for any more.
    pub(super) fn leave(&mut self, id: EntryId, conn: ConnId, request: u64, end_forward: Option<StreamCode>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let place = entry.readers.iter().position(|reader| reader.asker == conn && reader.request == request);
        let Some(place) = place else { return };
        let reader = entry.readers.swap_remove(place);
        let (want, complete) = ((request, entry.key.content, entry.key.index), is_complete(entry.stage));
        let alone = entry.readers.is_empty();
        if let Some(forward) = reader.forward {
            self.forwards.remove(&forward);
            if let Some(code) = end_forward {
                self.effects.push_back(Effect::EndForward { forward, code });
            }
        }
        self.forget_want(conn, &want, complete && reader.forward.is_some());
        if alone && !complete {
            self.end_entry(id, ChunkRefusal::Expired);
        } else {
            self.charge_anew(id);
            self.note_spare(id);
        }
        self.tidy_asker(conn);
    }

    fn forget_want(&mut self, conn: ConnId, want: &Want, reading: bool) {
        if let Some(asker) = self.askers.get_mut(&conn) {
            asker.remove(want);
        }
        if reading {
            self.ends_to_read(conn);
        }
    }

    /// An entry ends: whoever still waits for it is told why.
    pub(super) fn end_entry(&mut self, id: EntryId, reason: ChunkRefusal) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.keys.remove(&entry.key);
        if let Some((read, at)) = entry.spare {
            self.spare.remove(&(read, at, id));
        }
        self.unschedule(entry.timer, Timer::Entry(id));
        let chunk = (entry.key.content, entry.key.index, entry.key.length);
        let upload = match entry.stage {
            Stage::Reserved { upload, .. } | Stage::Arriving { upload, .. } => Some(upload),
            Stage::Queued | Stage::Complete { .. } => None,
        };
        let was_asked = upload.map(|upload| (upload, entry.key.content, entry.key.index));
        let told_owner = self.release_owner(entry.owner, id, was_asked);
        if let Some(upload) = upload.filter(|_| told_owner) {
            self.outbox.add(entry.owner, upload, Word::Cancel, chunk);
        }
        if matches!(entry.stage, Stage::Arriving { .. } | Stage::Complete { .. }) {
            self.effects.push_back(Effect::Drop { entry: id });
        }
        let code = if is_complete(entry.stage) { StreamCode::CacheExpired } else { StreamCode::Failed };
        for reader in &entry.readers {
            if let Some(forward) = reader.forward {
                self.forwards.remove(&forward);
                self.effects.push_back(Effect::EndForward { forward, code });
            }
            let want = (reader.request, entry.key.content, entry.key.index);
            self.forget_want(reader.asker, &want, is_complete(entry.stage) && reader.forward.is_some());
            self.outbox.add(reader.asker, reader.request, Word::Refused(reason), chunk);
        }
        if entry.stage != Stage::Queued {
            self.used -= entry.bytes;
        }
        if let Some(payer) = entry.payer {
            self.discharge(payer, entry.bytes);
        }
        entry.readers.iter().for_each(|reader| self.tidy_asker(reader.asker));
    }

    /// Takes an entry off an owner's list; true if the owner still believes that it was asked for it.
    pub(super) fn release_owner(
        &mut self,
        conn: ConnId,
        id: EntryId,
        upload: Option<(u64, crate::wire::ids::ContentId, u32)>,
    ) -> bool {
        let Some(owner) = self.owners.get_mut(&conn) else { return false };
        owner.entries.remove(&id);
        let asked = upload.is_some_and(|upload| owner.uploads.remove(&upload).is_some());
        let timer = owner.timer;
        if owner.entries.is_empty() {
            self.owners.remove(&conn);
            self.unschedule(timer, Timer::Owner(conn));
        }
        asked
    }

    /// A connection is over, for whatever it asked for and whatever it was asked for.
    pub(super) fn gone(&mut self, conn: ConnId, reason: ChunkRefusal) {
        for ((request, _, _), entry) in self.askers.get(&conn).map(super::Asker::all).unwrap_or_default() {
            self.leave(entry, conn, request, Some(StreamCode::Cancelled));
        }
        let mut sent = match self.owners.remove(&conn) {
            Some(owner) => {
                self.unschedule(owner.timer, Timer::Owner(conn));
                owner.entries.into_iter().collect()
            }
            None => Vec::new(),
        };
        sent.sort_unstable();
        sent.into_iter().for_each(|entry| self.end_entry(entry, reason));
    }

    pub(super) fn expelled(&mut self, group: GroupId, owner: PublicId) {
        let of_it = self.entries.iter().filter(|(_, entry)| entry.key.group == group && entry.key.owner == owner);
        let mut ids: Vec<EntryId> = of_it.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.end_entry(id, ChunkRefusal::OwnerExpelled));
    }
}

fn is_complete(stage: Stage) -> bool {
    matches!(stage, Stage::Complete { .. })
}
