//! A member's copy of the log: follows it entry by entry, and asks the master, one request at a time, until it is at
//! the newest head that it was shown.
//!
//! Invariant: nothing is applied that is not signed by the master and linked to what was applied before. Expulsions
//! alone may run ahead.

use super::authority::short;
use super::chain::{Fork, Judgement, LogTip};
use super::roster::Roster;
use super::time::Time;
use crate::wire::envelope::{CatchUp, PlainEntry};
use crate::wire::ids::{DeviceKey, EpochId, Hash, Position};
use crate::wire::log::{Body, Entry, Manifest, SaltedBody, SignedHead, SignedHeader, SignedManifest, VerifiedHeader};
use crate::wire::seal::{Epoch, SealedBody};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How a replica waits.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaConfig {
    /// How long an answer to a catching-up request may take before it is asked for again.
    pub answer_wait: Duration,
}

impl Default for ReplicaConfig {
    fn default() -> ReplicaConfig {
        ReplicaConfig { answer_wait: Duration::from_secs(3) }
    }
}

/// Why a replica applies nothing more. Each text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// An entry of unknown kind.
    #[error("the master has written something that this bailiwick does not know; update bailiwick on this device")]
    NeedsNewer,
    /// Two histories, both signed.
    #[error(
        "the master's log has forked at {}: one copy of the master signed {} there, another one {}; nothing more is taken from either. The master's person ends it: 'bailiwick export FILE' at the newest copy, then 'bailiwick import FILE' into a new state directory; this device then goes on by itself",
        .0.at, short(&.0.ours), short(&.0.theirs)
    )]
    Fork(Fork),
    /// This device is out, for ever.
    #[error(
        "this device was expelled from the group or has left it, which is final; to come back use a new state directory and a new invite"
    )]
    Expelled,
}

/// What a replica wants done, in order.
pub enum Effect {
    /// Persist an entry with what it changes.
    Apply(Box<Entry>, Box<Body>),
    /// Persist epoch secrets.
    KeepEpochs(Vec<Epoch>),
    /// Persist an expulsion, whatever its place, and cut all ties with the device.
    Expelled(Box<VerifiedHeader>),
    /// Persist the newest head that was shown.
    KeepHead(SignedHead),
    /// Persist one page of a snapshot.
    KeepPage(Manifest, u32, Vec<u8>),
    /// All pages are there: check them and swap the snapshot in, then say [`Replica::loaded`].
    Load(Manifest),
    /// Persist the head of this replica's end: a newer one was shown.
    KeepTipHead(SignedHead),
    /// Persist a fork, with the head that shows others that there are two logs, if one does; show that to the server.
    Forked(Fork, Option<SignedHead>),
    /// A new generation has ended the fork: persist that.
    ForkEnded,
    /// Ask the master.
    Ask(CatchUp),
    /// This replica is at the newest head that it was shown.
    CaughtUp,
}

/// What a replica is restored from.
#[derive(Default)]
pub struct Restored {
    /// Where it ends.
    pub tip: Option<LogTip>,
    /// The devices.
    pub roster: Roster,
    /// The epoch secrets that it holds.
    pub epochs: Vec<Epoch>,
    /// The newest head that it was shown.
    pub head: Option<SignedHead>,
    /// The head of its end, if it was shown a newer one since.
    pub tip_head: Option<SignedHead>,
    /// The snapshot that it was loading, and the pages that it has.
    pub loading: Option<(Manifest, u32)>,
    /// The fork that it met.
    pub fork: Option<Fork>,
}

/// A replica.
pub struct Replica {
    config: ReplicaConfig,
    master: DeviceKey,
    me: DeviceKey,
    tip: LogTip,
    roster: Roster,
    epochs: BTreeMap<EpochId, Epoch>,
    head: Option<SignedHead>,
    /// The place of that head. Broadcasts and entries, which show no head, may be ahead of it.
    head_at: Position,
    /// The head of where it ended when it was shown a newer one: should the log fork here, others are shown this one.
    tip_head: Option<SignedHead>,
    shown: Position,
    loading: Option<(Manifest, u32)>,
    asked: Option<Time>,
    reachable: bool,
    stopped: Option<Stopped>,
    /// Whether two heads show it, which others can be shown.
    fork_is_proved: bool,
    effects: VecDeque<Effect>,
}

impl Replica {
    /// A replica of `master`'s log at the device `me`.
    pub fn restore(config: ReplicaConfig, master: DeviceKey, me: DeviceKey, restored: Restored) -> Replica {
        let Restored { tip, roster, epochs, head, tip_head, loading, fork } = restored;
        let head_at = head.as_ref().and_then(|head| head.verify(&master).ok()).map(|head| head.at).unwrap_or_default();
        let expelled = roster.is_expelled(&me);
        Replica {
            config,
            master,
            me,
            tip: tip.unwrap_or(LogTip::START),
            roster,
            epochs: epochs.into_iter().map(|epoch| (epoch.id, epoch)).collect(),
            head,
            head_at,
            tip_head,
            shown: head_at,
            loading,
            asked: None,
            reachable: false,
            stopped: if expelled { Some(Stopped::Expelled) } else { fork.map(Stopped::Fork) },
            fork_is_proved: false,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Replica::tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let asked = self.asked.filter(|_| self.reachable)?;
        Some(asked.after(self.config.answer_wait))
    }

    /// Where it ends.
    pub fn tip(&self) -> &LogTip {
        &self.tip
    }

    /// The devices.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The newest epoch whose secret is here.
    pub fn newest_epoch(&self) -> Option<&Epoch> {
        self.epochs.last_key_value().map(|(_, epoch)| epoch)
    }

    /// The secret of an epoch.
    pub fn epoch(&self, id: &EpochId) -> Option<&Epoch> {
        self.epochs.get(id)
    }

    /// The newest head that it was shown.
    pub fn head(&self) -> Option<&SignedHead> {
        self.head.as_ref()
    }

    /// Why it applies nothing more.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Since when an answer of the master is awaited, if one is.
    pub fn asked_at(&self) -> Option<Time> {
        self.asked.filter(|_| self.reachable)
    }

    /// Whether it holds all that it knows of.
    pub fn is_caught_up(&self) -> bool {
        self.tip.at >= self.shown && self.tip.at.revision > 0
    }

    /// The way to the master is open, or not. A new way means that what was asked on the old one may be lost.
    pub fn master_reachable(&mut self, now: Time, reachable: bool) {
        self.reachable = reachable;
        self.asked = None;
        self.ask_if_behind(now);
    }

    /// Somebody showed a head. Returns whether it is the master's.
    pub fn head_shown(&mut self, now: Time, signed: &SignedHead) -> bool {
        let Ok(head) = signed.verify(&self.master) else { return false };
        let known = self.head.as_ref().and_then(|known| known.verify(&self.master).ok());
        self.end_fork(head.at);
        let ours = [Some((self.tip.at, self.tip.header)), known.map(|known| (known.at, known.header))];
        let ours = ours.into_iter().flatten().find(|(at, header)| *at == head.at && *header != head.header);
        if let Some((at, ours)) = ours {
            self.fork(Fork { at, ours, theirs: head.header }, Some(signed.clone()), true);
            return true;
        }
        self.shown = self.shown.max(head.at);
        if self.head.is_none() || head.at > self.head_at {
            if let Some(head) = self.head.take().filter(|head| self.is_of_tip(head)) {
                self.tip_head = Some(head.clone());
                self.effects.push_back(Effect::KeepTipHead(head));
            }
            self.head_at = head.at;
            self.head = Some(signed.clone());
            self.effects.push_back(Effect::KeepHead(signed.clone()));
        }
        self.ask_if_behind(now);
        true
    }

    /// Membership headers were shown outside of the log's order; only expulsions count so.
    pub fn headers_shown(&mut self, headers: Vec<SignedHeader>) {
        for header in headers {
            if let Ok(header) = header.verify(&self.master) {
                self.take_expulsion(&header);
            }
        }
    }

    /// Epoch secrets came from the master.
    pub fn epochs_came(&mut self, epochs: Vec<Epoch>) {
        let new: Vec<Epoch> = epochs.into_iter().filter(|epoch| !self.epochs.contains_key(&epoch.id)).collect();
        if !new.is_empty() {
            self.epochs.extend(new.iter().map(|epoch| (epoch.id, epoch.clone())));
            self.effects.push_back(Effect::KeepEpochs(new));
        }
    }

    /// Something is sealed under an epoch whose secret is not here: any answer of the master brings the present ones.
    pub fn secret_missing(&mut self, now: Time) {
        if self.reachable && self.asked.is_none() && self.stopped.is_none() {
            self.asked = Some(now);
            self.effects.push_back(Effect::Ask(CatchUp { since: self.tip.at, page: None }));
        }
    }

    /// A broadcast came.
    pub fn broadcast(&mut self, now: Time, header: SignedHeader, body: SealedBody) {
        let Ok(header) = header.verify(&self.master) else { return };
        self.take_expulsion(&header);
        self.end_fork(header.header().at);
        self.shown = self.shown.max(header.header().at);
        if self.stopped.is_some() {
            return;
        }
        match self.tip.judge(&header) {
            Judgement::Next if self.loading.is_none() => self.open_and_apply(header, body),
            Judgement::Next | Judgement::Gap | Judgement::Old => {}
            Judgement::Fork => self.fork_by(&header),
        }
        self.ask_if_behind(now);
    }

    fn open_and_apply(&mut self, header: VerifiedHeader, body: SealedBody) {
        let Some(epoch) = self.epochs.get(&body.epoch) else { return };
        let Ok(salted) = body.open(epoch, &header.hash()) else { return };
        self.apply(header, salted);
    }

    /// Entries that were asked for came.
    pub fn entries_came(&mut self, now: Time, entries: Vec<PlainEntry>) {
        for PlainEntry { header, salted } in entries {
            let Ok(header) = header.verify(&self.master) else { break };
            self.shown = self.shown.max(header.header().at);
            self.take_expulsion(&header);
            if self.stopped.is_some() {
                return;
            }
            match self.tip.judge(&header) {
                Judgement::Next => {
                    // An answer that brings nothing is no reason to ask again at once.
                    if !self.apply(header, salted) {
                        break;
                    }
                    self.asked = None;
                }
                Judgement::Old => {}
                Judgement::Gap => break,
                Judgement::Fork => self.fork_by(&header),
            }
        }
        self.ask_if_behind(now);
    }

    /// A page of a snapshot came.
    pub fn page_came(&mut self, now: Time, manifest: &SignedManifest, page: u32, bytes: Vec<u8>) {
        let Ok(manifest) = manifest.verify(&self.master) else { return };
        if let Some((loading, next)) = self.loading.as_ref().filter(|(loading, _)| *loading == manifest) {
            if page < *next && loading.at > self.tip.at {
                // The answer to a question that was repeated because this one was late.
                return;
            }
            if page == *next && page < manifest.pages && manifest.at > self.tip.at {
                return self.take_page(now, manifest, page, bytes);
            }
        } else if page == 0 && manifest.pages > 0 && manifest.at > self.tip.at {
            // The first snapshot, or another one than was being loaded: that one is gone, so this one begins.
            return self.take_page(now, manifest, 0, bytes);
        } else if self.loading.is_some() {
            return;
        }
        self.loading = None;
        self.ask_if_behind(now);
    }

    fn take_page(&mut self, now: Time, manifest: Manifest, page: u32, bytes: Vec<u8>) {
        self.asked = None;
        self.shown = self.shown.max(manifest.at);
        self.effects.push_back(Effect::KeepPage(manifest.clone(), page, bytes));
        self.loading = Some((manifest.clone(), page + 1));
        if page + 1 == manifest.pages {
            self.effects.push_back(Effect::Load(manifest));
        } else {
            self.ask_if_behind(now);
        }
    }

    /// The snapshot was swapped in, with these devices; or it was not what its manifest says, and is dropped.
    pub fn loaded(&mut self, now: Time, outcome: Option<(LogTip, Roster)>) {
        self.loading = None;
        // A snapshot that was dropped is not asked for again at once.
        self.asked = outcome.is_none().then_some(now);
        if let Some((tip, roster)) = outcome {
            self.tip = tip;
            self.roster = roster;
            if self.roster.is_expelled(&self.me) {
                self.stop(Stopped::Expelled);
            }
        }
        self.ask_if_behind(now);
    }

    /// The server could not deliver what was asked: the master is away.
    pub fn master_away(&mut self) {
        self.reachable = false;
        self.asked = None;
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) {
        let overdue = self.asked.is_some_and(|asked| now.since(asked) >= self.config.answer_wait);
        if overdue {
            self.asked = None;
            self.ask_if_behind(now);
        }
    }

    /// Says whether it was applied: what does not fit its header is not, and what only a newer version knows.
    fn apply(&mut self, header: VerifiedHeader, salted: Vec<u8>) -> bool {
        let Some(salted) = SaltedBody::check(salted, header.header()) else { return false };
        let Ok(body) = salted.body() else {
            self.stop(Stopped::NeedsNewer);
            return false;
        };
        self.tip = LogTip::after(&header);
        self.roster.apply(&header, &body);
        self.effects.push_back(Effect::Apply(Box::new(Entry { header, body: salted }), Box::new(body)));
        if self.is_caught_up() {
            self.effects.push_back(Effect::CaughtUp);
        }
        true
    }

    fn take_expulsion(&mut self, header: &VerifiedHeader) {
        let Some(change) = header.expulsion() else { return };
        if self.roster.expel_ahead(change) {
            self.effects.push_back(Effect::Expelled(Box::new(header.clone())));
        }
        if change.device == self.me {
            self.stop(Stopped::Expelled);
        }
    }

    /// An entry that is not what follows, or is not what is there.
    fn fork_by(&mut self, header: &VerifiedHeader) {
        let (at, theirs) = (header.header().at, header.hash());
        let fork = if at == self.tip.at {
            Fork { at, ours: self.tip.header, theirs }
        } else {
            // It says itself what it follows; and that is not what is here.
            Fork { at: self.tip.at, ours: self.tip.header, theirs: header.header().previous }
        };
        let of_tip = self.head.iter().chain(&self.tip_head).find(|head| self.is_of_tip(head));
        let of_tip = of_tip.cloned();
        self.fork(fork, of_tip, false);
    }

    fn is_of_tip(&self, head: &SignedHead) -> bool {
        head.verify(&self.master).is_ok_and(|head| (head.at, head.header) == (self.tip.at, self.tip.header))
    }

    /// `to_show` proves it to whoever follows the other log; `proved` if it is a head of that one.
    fn fork(&mut self, fork: Fork, to_show: Option<SignedHead>, proved: bool) {
        let is_known = matches!(self.stopped, Some(Stopped::Fork(_)));
        if is_known && (!proved || self.fork_is_proved) {
            return;
        }
        self.fork_is_proved = proved;
        self.effects.push_back(Effect::Forked(fork, to_show));
        self.stop(Stopped::Fork(fork));
    }

    /// A higher generation is another log: what forked is over.
    fn end_fork(&mut self, shown: Position) {
        if let Some(Stopped::Fork(fork)) = self.stopped
            && shown.generation > fork.at.generation
        {
            self.stopped = None;
            self.fork_is_proved = false;
            self.effects.push_back(Effect::ForkEnded);
        }
    }

    fn stop(&mut self, why: Stopped) {
        if self.stopped != Some(Stopped::Expelled) {
            self.stopped = Some(why);
        }
    }

    fn ask_if_behind(&mut self, now: Time) {
        let may_ask = self.stopped.is_none() && self.reachable && self.asked.is_none();
        if !may_ask || self.is_caught_up() {
            return;
        }
        self.asked = Some(now);
        let page = self.loading.as_ref().map(|(manifest, next)| (manifest.at, *next));
        self.effects.push_back(Effect::Ask(CatchUp { since: self.tip.at, page }));
    }
}

/// What a manifest's content hash is made of: the pages' hashes, in order.
pub fn content_of(pages: impl IntoIterator<Item = Hash>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for page in pages {
        hasher.update(&page.0);
    }
    Hash(*hasher.finalize().as_bytes())
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
