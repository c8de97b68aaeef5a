//! The master's rules for its members (W2): what is asked of them, and how they show.

use super::core::{Cx, MemberCore};
use super::opening::failed;
use crate::node::local::{ErrorCode, LocalError, MASTER_AWAY, PolicyRow, Reply};
use crate::wire::limits::{MASTER_AWAY_WAIT_MAX, MASTER_AWAY_WAIT_MIN};
use crate::wire::log::Policy;
use std::time::Duration;

impl MemberCore {
    /// `policy`: the rules of the group, as far as this device knows them.
    pub(super) fn policy(&self) -> Result<Reply, LocalError> {
        let policy: Policy = self.store.get("policy").map_err(failed)?.unwrap_or_default();
        let wait_s = policy.master_away_wait_ms / 1_000;
        Ok(Reply::Policy(vec![PolicyRow { key: MASTER_AWAY.to_owned(), wait_s }]))
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
        let now: Policy = self.store.get("policy").map_err(failed)?.unwrap_or_default();
        let policy = Policy { master_away_wait_ms: wait_s * 1_000 };
        if now != policy {
            self.with_authority(cx, |authority, moment| authority.set_policy(moment, policy));
            self.drain_pen(cx).map_err(failed)?;
        }
        self.policy()
    }
}
