//! How a master brings others up to its head: by entries, or by a snapshot for who is new or too far behind.

use super::core::{Cx, MemberCore};
use super::io::Output;
use super::pen::Pen;
use crate::state::conn::ConnId;
use crate::state::replica::content_of;
use crate::state::roster::Device;
use crate::store::member::DbError;
use crate::wire::envelope::{CatchUp, EpochSecret, Payload};
use crate::wire::ids::Position;
use crate::wire::limits::CATCH_UP_BYTES;
use crate::wire::log::{Manifest, SignedManifest};

impl MemberCore {
    pub(super) fn catch_up_asked(&mut self, cx: &mut Cx<'_>, device: &Device, asked: CatchUp) -> Result<(), DbError> {
        self.session.catching_up.push(device.id, asked);
        self.next_catch_up(cx)
    }

    /// The answer of before has left.
    pub(super) fn bulk_drained(&mut self, cx: &mut Cx<'_>, conn: ConnId) -> Result<(), DbError> {
        if self.link.current() == Some(conn) {
            self.session.catching_up.under_way = false;
        }
        self.next_catch_up(cx)
    }

    fn next_catch_up(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        while !self.session.catching_up.under_way
            && let Some((id, asked)) = self.session.catching_up.waiting.pop_front()
        {
            if let Some(device) = self.roster().device(&id).cloned() {
                self.answer_catch_up(cx, &device, asked)?;
            }
        }
        Ok(())
    }

    fn answer_catch_up(&mut self, cx: &mut Cx<'_>, device: &Device, asked: CatchUp) -> Result<(), DbError> {
        if !self.roster().is_member(&device.key) {
            return Ok(());
        }
        let tip = self.tip();
        let epochs = self.secrets();
        let oldest = self.store.oldest_entry(tip.at.generation)?.unwrap_or(u64::MAX);
        let follows = asked.since.generation == tip.at.generation
            && asked.since.revision > 0
            && asked.since.revision.saturating_add(1) >= oldest;
        let payload = match asked.page {
            Some((at, page)) => match self.store.spooled_page(at, page, cx.wall_ms)? {
                Some((manifest, bytes)) => Payload::Page { manifest, page, bytes, epochs },
                None => self.first_page(cx, epochs)?,
            },
            None if follows || asked.since == tip.at => {
                Payload::Entries { entries: self.store.entries_after(asked.since, CATCH_UP_BYTES)?, epochs }
            }
            None => self.first_page(cx, epochs)?,
        };
        if let Some((conn, frame)) = self.letter(device.key, device.seal, 0, payload) {
            self.session.catching_up.under_way = true;
            self.outputs.push(Output::SendBulk(conn, Box::new(frame)));
        }
        Ok(())
    }

    fn secrets(&self) -> Vec<EpochSecret> {
        match &self.pen {
            Pen::Master(master) => master.authority.secrets(),
            Pen::Replica(_) => Vec::new(),
        }
    }

    /// The first page of a snapshot: of the newest one, if it is new enough, or of one made now.
    fn first_page(&mut self, cx: &mut Cx<'_>, epochs: Vec<EpochSecret>) -> Result<Payload, DbError> {
        let at = self.snapshot(cx)?;
        match self.store.spooled_page(at, 0, cx.wall_ms)? {
            Some((manifest, bytes)) => Ok(Payload::Page { manifest, page: 0, bytes, epochs }),
            None => Err(DbError::Damaged("a snapshot that was just made is not there".to_owned())),
        }
    }

    fn snapshot(&mut self, cx: &mut Cx<'_>) -> Result<Position, DbError> {
        let tip = self.tip();
        let config = self.config.snapshots;
        let newest = self.store.spools()?.pop();
        let made_ms: u64 = self.store.get("snapshot_made")?.unwrap_or(0);
        let lately = cx.wall_ms.saturating_sub(made_ms) < config.pause.as_millis() as u64;
        if let Some(at) = newest.filter(|at| *at == tip.at || (lately && at.generation == tip.at.generation)) {
            return Ok(at);
        }
        let hashes = self.store.spool(tip.at)?;
        let manifest = Manifest {
            group: self.group.id(),
            at: tip.at,
            header: tip.header,
            membership: tip.membership,
            pages: hashes.len() as u32,
            content: content_of(hashes),
        };
        let signed = SignedManifest::sign(&self.identity, &manifest);
        self.store.keep_spool(tip.at, &signed, cx.wall_ms)?;
        self.store.set("snapshot_made", &cx.wall_ms)?;
        self.drop_what_nobody_needs(cx.wall_ms, tip.at)?;
        Ok(tip.at)
    }

    /// No entry newer than the oldest snapshot is deleted: who loads that one needs all that follow.
    fn drop_what_nobody_needs(&mut self, wall_ms: u64, newest: Position) -> Result<(), DbError> {
        let config = self.config.snapshots;
        self.store.drop_spools(wall_ms.saturating_sub(config.life.as_millis() as u64))?;
        let oldest = self.store.spools()?.first().copied().unwrap_or(newest);
        let kept = newest.revision.saturating_sub(config.entries_kept);
        let keep_from = Position { revision: kept.min(oldest.revision.saturating_add(1)), ..oldest };
        self.store.drop_entries_before(keep_from)
    }
}
