//! The owner's side of W13: what is asked of this device, and whether it can be served.

use super::core::{Cx, MemberCore};
use super::io::{Output, Served, Upload, UploadSource};
use super::pen::Pen;
use crate::state::uploads::{Asked, Effect};
use crate::store::member::{DbError, LocalFile};
use crate::wire::frame::{ChunkRange, ChunkRefusal, Frame, ranges_of, within_limits};
use crate::wire::geometry::Geometry;
use crate::wire::ids::ContentId;
use std::sync::Arc;

impl MemberCore {
    pub(super) fn upload_asked(
        &mut self,
        cx: &mut Cx<'_>,
        request: u64,
        ranges: Vec<ChunkRange>,
    ) -> Result<(), DbError> {
        if self.wishes.is_leaving() {
            self.refuse(request, ranges, ChunkRefusal::Paused);
        } else if self.is_let_in() && within_limits(&ranges) {
            self.uploads.request(cx.now, cx.random, Asked { request, ranges });
        }
        Ok(())
    }

    pub(super) fn drain_uploads(&mut self) -> Result<bool, DbError> {
        let mut moved = false;
        while let Some(effect) = self.uploads.poll_effect() {
            moved = true;
            match effect {
                Effect::AskFreshness(nonce) => {
                    self.tell_master(0, crate::wire::envelope::Payload::FreshnessAsked(nonce));
                }
                Effect::Serve(asked) => self.serve(&asked)?,
                Effect::Refuse(asked, reason) => self.refuse(asked.request, asked.ranges, reason),
            }
        }
        Ok(moved)
    }

    fn refuse(&mut self, request: u64, ranges: Vec<ChunkRange>, reason: ChunkRefusal) {
        if let Some(conn) = self.link.current().filter(|_| !ranges.is_empty()) {
            self.send(conn, Frame::ChunkRefused { request, ranges, reason });
        }
    }

    fn serve(&mut self, asked: &Asked) -> Result<(), DbError> {
        let Some(conn) = self.link.current() else { return Ok(()) };
        if self.has_no_secret() {
            self.refuse(asked.request, asked.ranges.clone(), ChunkRefusal::NotReady);
            return Ok(());
        }
        let mut unknown = Vec::new();
        let mut source: Option<(ContentId, Box<UploadSource>)> = None;
        for range in &asked.ranges {
            if source.as_ref().is_none_or(|(content, _)| *content != range.content) {
                let file = self.store.local_content(&range.content)?;
                source = file.and_then(source_of).map(|source| (range.content, Box::new(source)));
            }
            for (content, index, length) in range.chunks() {
                let fits = source.as_ref().filter(|(_, source)| source.geometry.unit_len(index) == Some(length));
                let Some((_, source)) = fits else {
                    unknown.push((content, index, length));
                    continue;
                };
                let upload = Upload { conn, request: asked.request, content, index, length };
                self.outputs.push(Output::Upload(upload, source.clone()));
            }
        }
        self.refuse(asked.request, ranges_of(unknown), ChunkRefusal::Unknown);
        Ok(())
    }

    fn has_no_secret(&self) -> bool {
        match &self.pen {
            Pen::Master(_) => false,
            Pen::Replica(replica) => replica.newest_epoch().is_none(),
        }
    }

    pub(super) fn served(&mut self, cx: &mut Cx<'_>, upload: Upload, served: Served) -> Result<(), DbError> {
        match served {
            Served::Sent => self.activity.sent(cx.now, upload.content, u64::from(upload.length)),
            Served::Unwanted => {}
            Served::No(reason) => {
                if self.link.current() == Some(upload.conn) {
                    let range = ChunkRange::one(upload.content, upload.index, upload.length);
                    self.refuse(upload.request, vec![range], reason);
                }
                match reason {
                    ChunkRefusal::Changed => self.look_at_content(cx, &upload.content)?,
                    ChunkRefusal::Unreadable => self.scan_of_content(cx, &upload.content)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn source_of(file: LocalFile) -> Option<UploadSource> {
    let geometry = Geometry::new(file.meta.size, file.meta.chunk).ok()?;
    Some(UploadSource { path: file.abs, stamp: file.stamp, geometry, root: file.meta.hash, list: Arc::new(file.list) })
}
