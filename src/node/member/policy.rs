//! The master's rules for its members (W2): what is asked of them, and how they show.

use super::core::{Cx, MemberCore};
use super::opening::failed;
use crate::node::local::{ErrorCode, LocalError, MASTER_AWAY, PolicyRow, Reply};
use crate::state::time::Time;
use crate::store::member::DbError;
use crate::wire::limits::{MASTER_AWAY_CONTINUE_MAX, MASTER_AWAY_WAIT_MAX, MASTER_AWAY_WAIT_MIN};
use crate::wire::log::Policy;
use std::time::Duration;

/// A boot of the system, from which its clock counts.
pub type BootId = [u8; 16];

/// Where the newest fresh word is kept: the boot, and the time on its clock at which the word was asked for. On another
/// boot's clock it would mean nothing, and a clock that people set could be set back.
pub(super) const FRESH: &str = "fresh";

impl MemberCore {
    /// `policy`: the rules of the group, as far as this device knows them.
    pub(super) fn policy(&self) -> Result<Reply, LocalError> {
        let policy = self.kept_policy()?;
        let (wait_s, continue_s) = (policy.wait().as_secs(), policy.continue_for().as_secs());
        Ok(Reply::Policy(vec![PolicyRow { key: MASTER_AWAY.to_owned(), wait_s, continue_s }]))
    }

    fn kept_policy(&self) -> Result<Policy, LocalError> {
        Ok(self.store.get("policy").map_err(failed)?.unwrap_or_default())
    }

    /// The master's rules are these now.
    pub(super) fn policy_holds(&mut self, policy: &Policy) {
        self.uploads.set_fresh_for(policy.wait());
        self.uploads.set_straight_for(policy.continue_for());
    }

    /// `policy master-away wait=TIME`: how long owners go on serving without a word from the master.
    pub(super) fn set_master_away_wait(&mut self, cx: &mut Cx<'_>, wait_s: u64) -> Result<Reply, LocalError> {
        self.must_be_master()?;
        if !(MASTER_AWAY_WAIT_MIN..=MASTER_AWAY_WAIT_MAX).contains(&Duration::from_secs(wait_s)) {
            let (min, max) = (MASTER_AWAY_WAIT_MIN.as_secs(), MASTER_AWAY_WAIT_MAX.as_secs() / 86_400);
            return Err(LocalError::new(
                ErrorCode::Usage,
                format!("owners may wait for the master between {min} seconds and {max} days"),
                "give a time between, such as 'bailiwick policy master-away wait=3m'",
            ));
        }
        let now = self.kept_policy()?;
        self.set_policy(cx, &now, Policy { master_away_wait_ms: wait_s * 1_000, ..now.clone() })
    }

    /// `policy master-away continue=TIME`: the same over straight connections.
    pub(super) fn set_master_away_continue(&mut self, cx: &mut Cx<'_>, continue_s: u64) -> Result<Reply, LocalError> {
        self.must_be_master()?;
        let now = self.kept_policy()?;
        if !(now.wait()..=MASTER_AWAY_CONTINUE_MAX).contains(&Duration::from_secs(continue_s)) {
            let max = MASTER_AWAY_CONTINUE_MAX.as_secs() / 86_400;
            return Err(LocalError::new(
                ErrorCode::Usage,
                format!(
                    "owners may go on over direct connections for as long as they wait in any case (`wait`) or longer, up to {max} days"
                ),
                "give a time between, such as 'bailiwick policy master-away continue=8h'",
            ));
        }
        self.set_policy(cx, &now, Policy { master_away_continue_ms: continue_s * 1_000, ..now.clone() })
    }

    fn set_policy(&mut self, cx: &mut Cx<'_>, now: &Policy, policy: Policy) -> Result<Reply, LocalError> {
        if *now != policy {
            self.with_authority(cx, |authority, moment| authority.set_policy(moment, policy));
            self.drain_pen(cx).map_err(failed)?;
        }
        self.policy()
    }

    /// A fresh word outlives this process, where boots can be told apart.
    pub(super) fn keep_fresh(&mut self) -> Result<(), DbError> {
        let fresh = self.uploads.fresh_at();
        if let (Some(boot), Some(at)) = (self.config.boot, fresh)
            && self.kept_fresh != fresh
        {
            self.store.set(FRESH, &(boot, at.0))?;
            self.kept_fresh = fresh;
        }
        Ok(())
    }

    /// The fresh word that an earlier process of this boot kept, and the head that it was shown last.
    pub(super) fn restore_fresh(&mut self, now: Time) -> Result<(), DbError> {
        let kept: Option<(BootId, u64)> = self.store.get(FRESH)?;
        if let Some((boot, at)) = kept
            && self.config.boot == Some(boot)
        {
            self.uploads.restore_fresh(now, Time(at));
        }
        if let Some(head) = self.own_head().filter(|_| !self.is_master())
            && let Ok(head) = head.verify(&self.group.master)
        {
            let tip = self.tip();
            self.uploads.head_shown(&head, &tip);
        }
        self.kept_fresh = self.uploads.fresh_at();
        Ok(())
    }
}
