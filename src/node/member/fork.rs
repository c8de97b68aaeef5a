//! A log that has forked: the proof is kept, shown to the person and to others, and forgotten when a new generation ends
//! it. And what the members of an old log remember better than a log that began anew: who was expelled.

use super::core::MemberCore;
use super::pen::Pen;
use crate::state::chain::Fork;
use crate::state::conn::ConnId;
use crate::store::member::{DbError, MemberStore};
use crate::wire::frame::Frame;
use crate::wire::ids::Hash;
use crate::wire::limits::HEADERS_PER_FRAME_MAX;
use crate::wire::log::{SignedHead, SignedHeader};

/// Under this key lies the fork that a replica met.
const FORK: &str = "fork";
/// Under this one the head of the replica's end, once a newer one was shown.
pub(super) const TIP_HEAD: &str = "tip_head";
/// Under this one the head that shows it to others, if one does.
const FORK_HEAD: &str = "fork_head";
/// Under this one the header of the newest entry that the replica applied: the master may have ended before it signed a
/// head for it.
pub(super) const TIP_HEADER: &str = "tip_header";

/// The fork that is kept.
pub(super) fn kept_fork(store: &MemberStore) -> Result<Option<Fork>, DbError> {
    store.get(FORK)
}

impl MemberCore {
    /// A fork was met, or proved.
    pub(super) fn forked(&mut self, fork: &Fork, proof: Option<&SignedHead>) -> Result<(), DbError> {
        tracing::error!(at = %fork.at, "the master's log has forked");
        self.store.set(FORK, fork)?;
        if let Some(proof) = proof {
            self.store.set(FORK_HEAD, proof)?;
        }
        self.event("forked", vec![("at", fork.at.to_string())]);
        match self.link.current().filter(|_| self.is_let_in()) {
            Some(conn) => self.show_fork(conn),
            None => Ok(()),
        }
    }

    /// A new generation has begun: there is one log again.
    pub(super) fn fork_ended(&mut self) -> Result<(), DbError> {
        self.store.unset(FORK)?;
        self.store.unset(FORK_HEAD)?;
        self.event("fork_ended", Vec::new());
        Ok(())
    }

    /// Shows the server that head, so that the master and all others see both; and the header of this log's end, if that is
    /// where the log forked: the master alone can tell whether it signed that.
    pub(super) fn show_fork(&mut self, conn: ConnId) -> Result<(), DbError> {
        let Some(fork) = kept_fork(&self.store)? else { return Ok(()) };
        if let Some(proof) = self.store.get(FORK_HEAD)? {
            self.send(conn, Frame::Head(proof));
        }
        let header: Option<SignedHeader> = self.store.get(TIP_HEADER)?;
        if let Some(header) = header.filter(|header| Hash::of(&header.bytes) == fork.ours) {
            self.send(conn, Frame::Headers(vec![header]));
        }
        Ok(())
    }

    /// Shows the expulsions that the log doesn't know: it began anew from a backup, and nobody could tell it then. The
    /// server keeps them, and passes them on to the master, which enters them anew.
    pub(super) fn show_unlogged_expulsions(&mut self) -> Result<(), DbError> {
        let Some(conn) = self.link.current().filter(|_| self.is_let_in()) else { return Ok(()) };
        let Pen::Replica(replica) = &self.pen else { return Ok(()) };
        if !replica.is_caught_up() {
            return Ok(());
        }
        let is_logged = |header: &SignedHeader| {
            let Ok(header) = header.clone().verify(&self.group.master) else { return true };
            let change = header.expulsion();
            change.is_none_or(|change| {
                let device = replica.roster().by_key(&change.device);
                device.is_some_and(|device| device.standing.is_final())
            })
        };
        let mut unlogged = self.store.expulsions()?;
        unlogged.retain(|header| !is_logged(header));
        for page in unlogged.chunks(HEADERS_PER_FRAME_MAX) {
            self.send(conn, Frame::Headers(page.to_vec()));
        }
        Ok(())
    }
}
