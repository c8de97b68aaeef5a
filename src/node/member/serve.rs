//! The owner's side of W13: what is asked of this device, and whether it can be served.

use super::core::{Cx, MemberCore};
use super::io::{Output, Served, Upload, UploadSource, Withdrawn};
use super::pen::Pen;
use crate::node::local::PathRow;
use crate::state::conn::ConnId;
use crate::state::time::Time;
use crate::state::uploads::{Asked, Effect};
use crate::store::member::{DbError, LocalFile};
use crate::wire::frame::{ChunkRange, ChunkRefusal, Frame, ranges_of, within_limits};
use crate::wire::geometry::{Geometry, Unit};
use crate::wire::ids::ContentId;
use std::sync::Arc;

impl MemberCore {
    pub(super) fn upload_asked(&mut self, cx: &mut Cx<'_>, asked: Asked) -> Result<(), DbError> {
        if self.wishes.is_leaving() {
            self.refuse(asked, ChunkRefusal::Paused);
        } else if self.may_serve(asked.conn) && within_limits(&asked.ranges) {
            self.uploads.request(cx.now, cx.random, asked);
        }
        Ok(())
    }

    pub(super) fn drain_uploads(&mut self, now: Time) -> Result<bool, DbError> {
        let mut moved = false;
        while let Some(effect) = self.uploads.poll_effect() {
            moved = true;
            match effect {
                Effect::AskFreshness(nonce) => {
                    self.tell_master(0, crate::wire::envelope::Payload::FreshnessAsked(nonce));
                }
                Effect::Serve(asked) => self.serve(&asked)?,
                Effect::Refuse(asked, reason) => self.refuse_and_show(now, asked, reason),
                Effect::Stop { straight } => self.outputs.push(Output::StopUploads(Withdrawn::Stale { straight })),
            }
        }
        Ok(moved)
    }

    /// The owner's person sees why nothing goes out.
    fn refuse_and_show(&mut self, now: Time, asked: Asked, reason: ChunkRefusal) {
        let path = if asked.straight { PathRow::Direct } else { PathRow::Relay };
        for range in asked.ranges.iter().filter(|_| reason == ChunkRefusal::OwnerNotFresh) {
            self.activity.held_back(now, range.content, path);
        }
        self.refuse(asked, reason);
    }

    fn refuse(&mut self, asked: Asked, reason: ChunkRefusal) {
        let Asked { conn, request, ranges, .. } = asked;
        if !ranges.is_empty() && self.is_served(conn) {
            self.send(conn, Frame::ChunkRefused { request, ranges, reason });
        }
    }

    /// Whether somebody at the other end of a connection is served.
    fn is_served(&self, conn: ConnId) -> bool {
        self.link.current() == Some(conn) || self.paths.peer_of(conn).is_some_and(|(_, verified)| verified)
    }

    /// Whether what is asked on a connection may be served: the server lets in who is a member, and a member that asks
    /// straight is looked up in this device's own roster before it comes here.
    fn may_serve(&self, conn: ConnId) -> bool {
        if self.link.current() == Some(conn) { self.is_let_in() } else { self.is_served(conn) }
    }

    fn serve(&mut self, asked: &Asked) -> Result<(), DbError> {
        let (conn, request) = (asked.conn, asked.request);
        if !self.is_served(conn) {
            return Ok(());
        }
        if self.has_no_secret() {
            self.refuse(asked.clone(), ChunkRefusal::NotReady);
            return Ok(());
        }
        // A straight connection is sealed from end to end itself.
        let sealed = self.link.current() == Some(conn);
        let (mut unknown, mut paused) = (Vec::new(), Vec::new());
        let mut source: Option<(ContentId, Box<UploadSource>)> = None;
        for range in &asked.ranges {
            if source.as_ref().is_none_or(|(content, _)| *content != range.content) {
                let file = self.store.local_content(&range.content)?;
                if file.as_ref().is_some_and(|file| self.paused_uploads.contains(&file.meta.id)) {
                    paused.push(*range);
                    continue;
                }
                source = file.and_then(source_of).map(|source| (range.content, Box::new(source)));
            }
            for (content, index, length) in range.chunks() {
                let fits = source.as_ref().filter(|(_, source)| source.geometry.unit_len(index) == Some(length));
                let Some((_, source)) = fits else {
                    unknown.push((content, index, length));
                    continue;
                };
                let upload = Upload { conn, request, content, index, length, sealed };
                self.outputs.push(Output::Upload(upload, source.clone()));
            }
        }
        self.refuse(Asked { ranges: ranges_of(unknown), ..asked.clone() }, ChunkRefusal::Unknown);
        self.refuse(Asked { ranges: paused, ..asked.clone() }, ChunkRefusal::Paused);
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
            Served::Sent => {
                let path = if upload.sealed { PathRow::Relay } else { PathRow::Direct };
                self.paths.used(cx.now, upload.conn);
                let unit = Unit::from_index(upload.index);
                self.activity.sent(cx.now, upload.content, unit, u64::from(upload.length), path);
            }
            Served::Unwanted => {}
            Served::No(reason) => {
                let ranges = vec![ChunkRange::one(upload.content, upload.index, upload.length)];
                let asked = Asked { conn: upload.conn, straight: !upload.sealed, request: upload.request, ranges };
                self.refuse_and_show(cx.now, asked, reason);
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
