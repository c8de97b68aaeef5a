//! What members ask for: numbered, so that nothing is replayed and nothing is done twice.

use super::{Authority, Effect, LastRequest, Moment};
use crate::wire::codec::encode;
use crate::wire::envelope::{Answer, FileRefusal, Payload, Request, RequestRefusal};
use crate::wire::geometry::Geometry;
use crate::wire::ids::{FileId, Hash, PublicId};
use crate::wire::limits::{FILES_PER_DEVICE_MAX, FILES_PER_REQUEST_MAX, REQUEST_FILES_BYTES_MAX};
use crate::wire::log::{Body, FileMeta};
use crate::wire::name::DeviceName;
use std::collections::HashSet;

/// What the catalog holds of one file of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileFact {
    /// The owner and the row of the file with this id.
    pub by_id: Option<(PublicId, FileMeta)>,
    /// The id of the owner's file at this path.
    pub by_path: Option<FileId>,
}

/// What the catalog holds of a request's files, in the request's order.
pub type RequestFacts = Vec<FileFact>;

type Refused = Vec<(FileId, FileRefusal)>;

impl Authority {
    /// Decides a member's request, once for each number.
    pub fn request(
        &mut self,
        moment: &mut Moment<'_>,
        from: &PublicId,
        number: u64,
        generation: u32,
        request: Request,
        facts: &RequestFacts,
    ) {
        let Some(device) = self.roster.device(from).filter(|device| self.roster.is_member(&device.key)) else {
            return;
        };
        let (key, seal) = (device.key, device.seal);
        let answer = self.answer(moment, from, number, generation, request, facts);
        self.letter(key, seal, number, Payload::Answer(answer));
    }

    fn answer(
        &mut self,
        moment: &mut Moment<'_>,
        from: &PublicId,
        number: u64,
        generation: u32,
        request: Request,
        facts: &RequestFacts,
    ) -> Answer {
        let content = Hash::of(&encode(&(generation, &request)));
        let last = self.last.get(from);
        let last_number = last.map_or(0, |last| last.number);
        if let Some(last) = last.filter(|last| last.number == number && last.content == content) {
            return last.answer.clone();
        }
        if Some(number) != last_number.checked_add(1) {
            return Answer::StaleNumber { last: last_number };
        }
        if generation != self.tip.at.generation {
            return Answer::OtherGeneration;
        }
        let answer = self.decide(moment, from, request, facts);
        let record = LastRequest { number, content, answer: answer.clone() };
        self.last.insert(*from, record.clone());
        self.effects.push_back(Effect::Record(*from, record));
        answer
    }

    /// Decides a request; the master's own come here directly.
    pub fn decide(
        &mut self,
        moment: &mut Moment<'_>,
        from: &PublicId,
        request: Request,
        facts: &RequestFacts,
    ) -> Answer {
        match request {
            Request::AddFiles(files) => self.add_files(moment, from, files, facts),
            Request::ChangeFiles(files) => self.change_files(moment, from, files, facts),
            Request::RemoveFile(files) => self.remove_files(moment, from, &files, facts),
            Request::Rename(name) => self.rename(moment, from, name),
            Request::Leave => match self.leave(moment, from) {
                Ok(()) => self.done(Vec::new()),
                Err(_) => Answer::Refused(RequestRefusal::Master),
            },
        }
    }

    fn add_files(
        &mut self,
        moment: &mut Moment<'_>,
        owner: &PublicId,
        files: Vec<FileMeta>,
        facts: &RequestFacts,
    ) -> Answer {
        if !is_within_limits(&files, facts) {
            return Answer::Refused(RequestRefusal::Malformed);
        }
        let mut refused = Refused::new();
        let mut paths = HashSet::new();
        let mut ids = HashSet::new();
        let mut accepted = Vec::new();
        let mut count = self.files.get(owner).copied().unwrap_or(0);
        for (file, fact) in files.into_iter().zip(facts) {
            match judge_new(owner, &file, fact, count, &mut paths, &mut ids) {
                Verdict::Take => {
                    count += 1;
                    accepted.push(file);
                }
                Verdict::There => {}
                Verdict::Refuse(why) => refused.push((file.id, why)),
            }
        }
        self.files.insert(*owner, count);
        if !accepted.is_empty() {
            self.append(moment, None, Body::FilesAdded { owner: *owner, files: accepted });
        }
        self.done(refused)
    }

    fn change_files(
        &mut self,
        moment: &mut Moment<'_>,
        owner: &PublicId,
        files: Vec<FileMeta>,
        facts: &RequestFacts,
    ) -> Answer {
        if !is_within_limits(&files, facts) {
            return Answer::Refused(RequestRefusal::Malformed);
        }
        let is_own = |file: &FileMeta, fact: &FileFact| {
            fact.by_id.as_ref().is_some_and(|(of, row)| of == owner && row.path == file.path)
        };
        let mut refused = Refused::new();
        let mut accepted = Vec::new();
        for (file, fact) in files.into_iter().zip(facts) {
            if is_own(&file, fact) {
                accepted.push(file);
            } else {
                refused.push((file.id, FileRefusal::Unknown));
            }
        }
        if !accepted.is_empty() {
            self.append(moment, None, Body::FilesChanged { owner: *owner, files: accepted });
        }
        self.done(refused)
    }

    fn remove_files(
        &mut self,
        moment: &mut Moment<'_>,
        owner: &PublicId,
        files: &[FileId],
        facts: &RequestFacts,
    ) -> Answer {
        if files.len() > FILES_PER_REQUEST_MAX || files.len() != facts.len() {
            return Answer::Refused(RequestRefusal::Malformed);
        }
        let mut seen = HashSet::new();
        let own = |fact: &FileFact| fact.by_id.as_ref().is_some_and(|(of, _)| of == owner);
        let removed: Vec<FileId> =
            files.iter().zip(facts).filter(|(id, fact)| own(fact) && seen.insert(**id)).map(|(id, _)| *id).collect();
        if let Some(count) = self.files.get_mut(owner) {
            *count = count.saturating_sub(removed.len() as u64);
        }
        if !removed.is_empty() {
            self.append(moment, None, Body::FileRemoved { owner: *owner, files: removed });
        }
        self.done(Vec::new())
    }

    /// W12: the master's own decision about anybody's files, which are in the catalog.
    pub fn remove(&mut self, moment: &mut Moment<'_>, owner: &PublicId, files: Vec<FileId>) {
        if files.is_empty() || files.len() > FILES_PER_REQUEST_MAX {
            return;
        }
        if let Some(count) = self.files.get_mut(owner) {
            *count = count.saturating_sub(files.len() as u64);
        }
        self.append(moment, None, Body::FileRemoved { owner: *owner, files });
    }

    fn rename(&mut self, moment: &mut Moment<'_>, id: &PublicId, name: DeviceName) -> Answer {
        let Some(device) = self.roster.device(id).filter(|device| !device.standing.is_final()) else {
            return Answer::Refused(RequestRefusal::Malformed);
        };
        if device.name == name {
            return self.done(Vec::new());
        }
        if !name.is_clear() {
            return Answer::Refused(RequestRefusal::Malformed);
        }
        // A name that looks like one's own is no other's.
        if self.roster.has_other_name(device, &name) {
            return Answer::Refused(RequestRefusal::NameTaken);
        }
        self.append(moment, None, Body::ClientRenamed { id: *id, name });
        self.done(Vec::new())
    }

    fn done(&self, refused: Refused) -> Answer {
        Answer::Done { at: self.tip.at, refused }
    }
}

enum Verdict {
    Take,
    There,
    Refuse(FileRefusal),
}

fn judge_new(
    owner: &PublicId,
    file: &FileMeta,
    fact: &FileFact,
    count: u64,
    paths: &mut HashSet<crate::wire::path::RelPath>,
    ids: &mut HashSet<FileId>,
) -> Verdict {
    if let Some((of, row)) = &fact.by_id {
        let same = of == owner && row == file;
        return if same { Verdict::There } else { Verdict::Refuse(FileRefusal::IdTaken) };
    }
    if fact.by_path.is_some() || !paths.insert(file.path.clone()) {
        return Verdict::Refuse(FileRefusal::PathTaken);
    }
    if !ids.insert(file.id) {
        return Verdict::Refuse(FileRefusal::IdTaken);
    }
    if count >= FILES_PER_DEVICE_MAX { Verdict::Refuse(FileRefusal::Quota) } else { Verdict::Take }
}

fn is_within_limits(files: &[FileMeta], facts: &RequestFacts) -> bool {
    files.len() <= FILES_PER_REQUEST_MAX
        && files.len() == facts.len()
        && files.iter().all(|file| Geometry::new(file.size, file.chunk).is_ok())
        && encode(&files).len() <= REQUEST_FILES_BYTES_MAX
}
