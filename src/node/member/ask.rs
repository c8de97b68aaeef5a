//! A member's own requests: what it wants in the catalog and the catalog lacks.

use super::core::{Cx, MemberCore};
use super::pen::Pen;
use crate::state::requests::Effect;
use crate::store::member::{DbError, LocalFile};
use crate::wire::codec::encode;
use crate::wire::envelope::{Answer, Payload, Request};
use crate::wire::frame::Class;
use crate::wire::limits::{FILES_PER_REQUEST_MAX, REQUEST_FILES_BYTES_MAX};
use crate::wire::log::FileMeta;

impl MemberCore {
    /// Tells the requests whether the master can be asked, and where the replica is.
    pub(super) fn refresh_requests(&mut self, cx: &mut Cx<'_>) {
        let ready = match &self.pen {
            Pen::Replica(replica) => {
                self.session.class == Some(Class::Approved)
                    && self.session.master_online
                    && replica.is_caught_up()
                    && replica.stopped().is_none()
                    && replica.roster().is_member(&self.key)
            }
            Pen::Master(_) => false,
        };
        self.requests.ready(cx.now, ready, self.pen.tip().at);
    }

    pub(super) fn drain_requests(&mut self, cx: &mut Cx<'_>) -> Result<bool, DbError> {
        let mut moved = false;
        while let Some(effect) = self.requests.poll_effect() {
            moved = true;
            match effect {
                Effect::LookUp => {
                    let request = self.difference(cx)?;
                    self.requests.difference(cx.now, request);
                }
                Effect::Keep(number, outstanding) => self.store.set("requests", &(number, outstanding))?,
                Effect::Send(outstanding) => {
                    let payload = Payload::Request { generation: outstanding.generation, request: outstanding.request };
                    self.tell_master(outstanding.number, payload);
                }
                Effect::FilesRefused(refused) => {
                    for (id, why) in refused {
                        self.store.refuse_local(&id, &why.to_string())?;
                    }
                }
                Effect::Refused(request, why) => self.refused_whole(&request, &why.to_string())?,
                Effect::GaveUp => self.staging_dropped()?,
            }
        }
        Ok(moved)
    }

    fn refused_whole(&mut self, request: &Request, why: &str) -> Result<(), DbError> {
        tracing::warn!(why, "the master refused a request");
        match request {
            Request::AddFiles(files) | Request::ChangeFiles(files) => {
                files.iter().try_for_each(|file| self.store.refuse_local(&file.id, why))
            }
            Request::Rename(name) => self.name_refused(name, why),
            Request::RemoveFile(_) | Request::Leave => Ok(()),
        }
    }

    /// What this device wants in the catalog and the catalog lacks, as the next request.
    fn difference(&mut self, cx: &mut Cx<'_>) -> Result<Option<Request>, DbError> {
        let Some(me) = self.me else { return Ok(None) };
        self.drop_fulfilled_wish()?;
        if let Some(request) = self.wish_request() {
            return Ok(Some(request));
        }
        let unwanted = self.unwanted(cx, &me)?;
        if !unwanted.is_empty() {
            return Ok(Some(Request::RemoveFile(unwanted)));
        }
        let generation = self.pen.tip().at.generation;
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for LocalFile { mut meta, .. } in self.store.staged(FILES_PER_REQUEST_MAX)? {
            if let Some(row) = self.store.file_at(&me, &meta.path)?.filter(|row| row.file.id != meta.id) {
                // The catalog has this path from a time that this device's database, restored, does not remember.
                self.store.rename_local(&meta.id, &row.file.id)?;
                meta.id = row.file.id;
            }
            match self.store.file(&meta.id)?.filter(|row| row.owner == me) {
                None => new.push(meta),
                // The answer was lost, or came before this device's database was restored.
                Some(row) if row.file == meta => self.store.settle_local(me, Some(me), &[meta], generation)?,
                Some(_) => changed.push(meta),
            }
        }
        let new = within_bytes(new);
        if !new.is_empty() {
            return Ok(Some(Request::AddFiles(new)));
        }
        let changed = within_bytes(changed);
        Ok((!changed.is_empty()).then_some(Request::ChangeFiles(changed)))
    }

    /// The master's own wishes need no letter. Until its gate opens they wait.
    pub(super) fn decide_own(&mut self, cx: &mut Cx<'_>) -> Result<bool, DbError> {
        let Pen::Master(master) = &self.pen else { return Ok(false) };
        if master.gate != crate::state::authority::Gate::Open {
            return Ok(false);
        }
        let Some(request) = self.difference(cx)? else { return Ok(false) };
        let Some(me) = self.me else { return Ok(false) };
        let facts = self.facts_of(&me, &request)?;
        let answer =
            self.with_authority(cx, |authority, moment| authority.decide(moment, &me, request.clone(), &facts));
        match answer {
            Some(Answer::Done { refused, .. }) => {
                for (id, why) in refused {
                    self.store.refuse_local(&id, &why.to_string())?;
                }
            }
            Some(Answer::Refused(why)) => self.refused_whole(&request, &why.to_string())?,
            Some(Answer::StaleNumber { .. } | Answer::OtherGeneration) | None => {}
        }
        self.drain_pen(cx)?;
        Ok(true)
    }
}

/// As many of the files as fit a request.
fn within_bytes(files: Vec<FileMeta>) -> Vec<FileMeta> {
    let mut bytes = 8;
    files
        .into_iter()
        .take_while(|file| {
            bytes += encode(file).len();
            bytes <= REQUEST_FILES_BYTES_MAX
        })
        .collect()
}
