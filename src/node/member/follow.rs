//! A client's replica: what it applies, and what it asks for.

use super::core::{Cx, MemberCore};
use super::fork::{TIP_HEAD, TIP_HEADER};
use super::io::Output;
use super::opening::{load_roster, tip_of};
use super::pen::Pen;
use crate::state::replica::{Effect, content_of};
use crate::store::member::DbError;
use crate::wire::envelope::Payload;
use crate::wire::log::{Manifest, Policy};

impl MemberCore {
    pub(super) fn drain_replica(&mut self, cx: &mut Cx<'_>) -> Result<bool, DbError> {
        let mut moved = false;
        while let Pen::Replica(replica) = &mut self.pen
            && let Some(effect) = replica.poll_effect()
        {
            moved = true;
            self.follow(cx, effect)?;
        }
        if moved {
            self.refresh_requests(cx);
        }
        Ok(moved)
    }

    fn follow(&mut self, cx: &mut Cx<'_>, effect: Effect) -> Result<(), DbError> {
        match effect {
            Effect::Apply(entry, body) => {
                self.store.apply(&entry, &body, self.me, false)?;
                self.store.set(TIP_HEADER, entry.header.signed())?;
                self.applied(cx, &entry, &body)?;
            }
            Effect::KeepEpochs(epochs) => {
                epochs.iter().try_for_each(|epoch| self.store.keep_epoch(epoch))?;
                let epochs = self.store.epochs()?;
                self.outputs.push(Output::Epochs(epochs));
            }
            Effect::Expelled(header) => {
                if let Some(change) = header.expulsion() {
                    let change = change.clone();
                    self.store.keep_expulsion(&change.device, &header)?;
                    self.cut_ties(cx, &change)?;
                }
            }
            Effect::Forked(fork, proof) => self.forked(&fork, proof.as_ref())?,
            Effect::ForkEnded => self.fork_ended()?,
            Effect::KeepTipHead(head) => self.store.set(TIP_HEAD, &head)?,
            Effect::KeepHead(head) => self.store.set("head", &head)?,
            Effect::KeepPage(manifest, page, bytes) => self.store.keep_page(&manifest, page, &bytes)?,
            Effect::Load(manifest) => self.load(cx, &manifest)?,
            Effect::Ask(asked) => self.tell_master(0, Payload::CatchUp(asked)),
            Effect::CaughtUp => {}
        }
        Ok(())
    }

    /// Puts a snapshot in place of the replica, if it is what the master signed.
    fn load(&mut self, cx: &mut Cx<'_>, manifest: &Manifest) -> Result<(), DbError> {
        let is_whole = content_of(self.store.loading_hashes()?) == manifest.content;
        let outcome = if is_whole {
            if !self.store.swap_in(manifest, &self.group.master, self.me)? {
                return Err(DbError::Damaged("the master's snapshot holds what no master writes".to_owned()));
            }
            let tip = self.store.tip()?.as_ref().map(tip_of);
            tip.map(|tip| Ok::<_, DbError>((tip, load_roster(&self.store, &self.group.master)?))).transpose()?
        } else {
            tracing::warn!("a snapshot came damaged; asking again");
            self.store.forget_loading()?;
            None
        };
        let before = self.own_place();
        if let Pen::Replica(replica) = &mut self.pen {
            replica.loaded(cx.now, outcome);
        }
        self.servers_changed(cx)?;
        self.after_generation(cx, before)?;
        // What the catalog lacks now may be another difference.
        self.requests.wishes_changed(cx.now);
        self.show_unlogged_expulsions()?;
        if let (None, Some(header)) = (&self.registration, self.store.registration_of(&self.key)?) {
            self.registered(header)?;
        }
        let policy: Policy = self.store.get("policy")?.unwrap_or_default();
        self.policy_holds(&policy);
        let tip = self.tip();
        self.uploads.roster_changed(cx.now, cx.random, &tip);
        self.event("caught_up", vec![("revision", tip.at.to_string())]);
        self.tidy_shares()?;
        self.look_for_lost_transfers(cx)
    }
}
