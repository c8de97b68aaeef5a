//! A master that came back from a backup: it listens, takes in what others still know, and begins a new generation in
//! one transaction. If it dies before that, it listens again at its next start.

use super::core::{Cx, MemberCore};
use super::pen::Pen;
use crate::state::authority::{Authority, Gate, Seen};
use crate::state::conn::ConnId;
use crate::store::member::DbError;
use crate::wire::ids::{Position, PublicId};
use crate::wire::log::{SignedHead, VerifiedHeader};
use crate::wire::name::DeviceName;

impl MemberCore {
    /// Whether this master was imported and has not begun its generation.
    pub(super) fn is_importing(&self) -> bool {
        matches!(&self.pen, Pen::Master(master) if matches!(master.gate, Gate::Importing(_)))
    }

    /// A head was shown to it: its own generation must be higher.
    pub(super) fn note_head(&self, head: &SignedHead) -> Result<(), DbError> {
        match head.verify(&self.key) {
            Ok(head) if self.is_importing() => self.store.saw_generation(head.at.generation),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A membership header was shown to it.
    pub(super) fn note_header(&self, header: &VerifiedHeader) -> Result<(), DbError> {
        if !self.is_importing() {
            return Ok(());
        }
        self.store.saw_generation(header.header().at.generation)?;
        self.store.keep_shown(header)
    }

    /// Begins the new generation, if it is time.
    pub(super) fn begin_generation_if_due(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        let Some(conn) = self.registered_conn() else { return Ok(()) };
        let is_due = matches!(&self.pen, Pen::Master(master) if matches!(master.gate, Gate::Importing(Some(until)) if until <= cx.now));
        if is_due { self.begin_generation(cx, conn) } else { Ok(()) }
    }

    fn begin_generation(&mut self, cx: &mut Cx<'_>, conn: ConnId) -> Result<(), DbError> {
        let seen = self.seen()?;
        let authority = Authority::import(self.identity.clone(), seen, &mut cx.moment());
        self.store.begin_generation()?;
        let generation = authority.tip().at.generation;
        self.me = Some(authority.id());
        let living = authority.roster().devices().filter(|device| !device.standing.is_final());
        let living: Vec<_> = living.map(|device| device.id).collect();
        let Pen::Master(master) = &mut self.pen else { return Ok(()) };
        master.authority = authority;
        master.gate = Gate::Open;
        self.drain_pen(cx)?;
        self.store.keep_files_of(&living)?;
        if let Some(me) = self.me {
            self.store.reconcile_local(&me, generation)?;
        }
        self.scan_all(cx)?;
        let tip = self.tip();
        self.uploads.roster_changed(cx.now, cx.random, &tip);
        self.look_for_lost_transfers(cx)?;
        self.show_headers(conn, None)?;
        self.tell_invites(cx.wall_ms);
        tracing::info!(generation, "the log begins anew");
        self.event("generation_begun", vec![("generation", generation.to_string())]);
        Ok(())
    }

    /// This client's id and name, and the generation that gave it those.
    pub(super) fn own_place(&self) -> Option<(PublicId, DeviceName, u32)> {
        let own = self.roster().by_key(&self.key)?;
        Some((own.id, own.name.clone(), self.tip().at.generation))
    }

    /// A new generation may know this client by another id, or by a made-up name: it goes by that id, and asks for the
    /// name that it had. It may list files that were deleted and forgotten since: its shares are looked at.
    pub(super) fn after_generation(
        &mut self,
        cx: &mut Cx<'_>,
        before: Option<(PublicId, DeviceName, u32)>,
    ) -> Result<(), DbError> {
        let Some((id, name, generation)) = self.own_place() else { return Ok(()) };
        if self.me != Some(id) {
            self.me = Some(id);
            self.store.set("me", &id)?;
            self.store.reconcile_local(&id, generation)?;
        }
        match before {
            Some((_, old, earlier)) if generation > earlier => {
                if old != name {
                    self.wish_name_of_before(old)?;
                }
                self.scan_all(cx)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn seen(&self) -> Result<Seen, DbError> {
        let own = self.store.membership_after(Position::default())?;
        let others = self.store.shown()?.into_iter().chain(self.store.expulsions()?);
        let headers = own.into_iter().chain(others).filter_map(|header| header.verify(&self.key).ok()).collect();
        let invites = self.store.invites()?.into_iter().map(|(id, _, expires)| (id, expires)).collect();
        Ok(Seen {
            headers,
            names: self.store.names()?,
            generation: self.store.importing()?.unwrap_or(0),
            invites,
            files: self.store.file_counts()?,
            own_name: self.name.clone(),
        })
    }
}
