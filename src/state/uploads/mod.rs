//! What this device serves: only while its word from the master is fresh, and only what it has. How old the word may be is
//! the master's rule: one for what passes the server, which could hide an expulsion, and one for straight connections.
//!
//! Freshness is asked for, never told: the head is as fresh as the nonce in it is old, on this device's own clock, and
//! counts only while this device's own roster has that head's membership hash.

use super::chain::LogTip;
use super::conn::ConnId;
use super::random::{Random, draw};
use super::time::Time;
use crate::wire::frame::{ChunkRange, ChunkRefusal, ranges_of};
use crate::wire::ids::{ContentId, Position};
use crate::wire::log::{Head, Policy};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// How uploads wait.
#[derive(Debug, Clone, Copy)]
pub struct UploadsConfig {
    /// How long a request waits for a fresh word from the master before it is refused.
    pub fresh_wait: Duration,
    /// How often a serving owner asks for a fresh word.
    pub refresh: Duration,
    /// Requests that wait for a fresh word, at most.
    pub held_max: usize,
}

impl Default for UploadsConfig {
    fn default() -> UploadsConfig {
        UploadsConfig { fresh_wait: Duration::from_secs(3), refresh: Duration::from_secs(60), held_max: 256 }
    }
}

/// A request to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// On which connection: the server's, or that of a member who asks straight.
    pub conn: ConnId,
    /// Whether that is straight to a member.
    pub straight: bool,
    /// The number that it has there.
    pub request: u64,
    /// Which chunks.
    pub ranges: Vec<ChunkRange>,
}

/// What the machine wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the master for a head with this nonce.
    AskFreshness([u8; 16]),
    /// Serve.
    Serve(Asked),
    /// Say no.
    Refuse(Asked, ChunkRefusal),
    /// Send no more of what goes straight, or of what passes the server: the word that it was begun on counts no more.
    Stop {
        /// Which of the two.
        straight: bool,
    },
}

/// The serving side of a device.
#[derive(Debug)]
pub struct Uploads {
    config: UploadsConfig,
    /// The master itself is always fresh.
    is_master: bool,
    fresh_for: Duration,
    /// The same over straight connections; never less.
    straight_for: Duration,
    /// When the nonce of the newest good head was drawn.
    fresh_at: Option<Time>,
    asked: Option<([u8; 16], Time)>,
    /// A head that this device's own roster has not reached yet, with the time its nonce was drawn.
    ahead: Option<(Head, Time)>,
    /// The place of a head that was shown, whose membership this device's roster has not reached: until then no word counts.
    overtaken: Option<Position>,
    reachable: bool,
    served_at: Option<Time>,
    /// Whether something was served through the server, and straight, that may still be on its way.
    serves: [bool; 2],
    held: VecDeque<(Asked, Time)>,
    effects: VecDeque<Effect>,
}

impl Uploads {
    /// Nothing served yet.
    pub fn new(config: UploadsConfig, is_master: bool) -> Uploads {
        Uploads {
            config,
            is_master,
            fresh_for: Policy::default().wait(),
            straight_for: Policy::default().continue_for(),
            fresh_at: None,
            asked: None,
            ahead: None,
            overtaken: None,
            reachable: false,
            served_at: None,
            serves: [false; 2],
            held: VecDeque::new(),
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The master's rule for how long its word counts.
    pub fn set_fresh_for(&mut self, fresh_for: Duration) {
        self.fresh_for = fresh_for;
    }

    /// The master's rule for how long its word counts over straight connections, if that is longer.
    pub fn set_straight_for(&mut self, straight_for: Duration) {
        self.straight_for = straight_for;
    }

    /// Whether this device may serve through the server.
    pub fn is_fresh(&self, now: Time) -> bool {
        self.may_serve(now, false)
    }

    /// Whether this device may serve, straight or through the server.
    pub fn may_serve(&self, now: Time, straight: bool) -> bool {
        let is_fresh = self.fresh_at.is_some_and(|at| now.since(at) < self.age_max(straight));
        self.is_master || (self.overtaken.is_none() && is_fresh)
    }

    fn age_max(&self, straight: bool) -> Duration {
        if straight { self.straight_for.max(self.fresh_for) } else { self.fresh_for }
    }

    /// When the nonce of the newest good word was drawn.
    pub fn fresh_at(&self) -> Option<Time> {
        self.fresh_at
    }

    /// An earlier process had a good word, whose nonce it drew at this time, on the same clock.
    pub fn restore_fresh(&mut self, now: Time, at: Time) {
        if at <= now {
            self.fresh_at = self.fresh_at.max(Some(at));
        }
    }

    /// Somebody shows a head that the master signed. If its membership is newer than this device's, the word that this
    /// device has counts for nothing until its roster is there.
    pub fn head_shown(&mut self, head: &Head, tip: &LogTip) {
        if head.at > tip.at && head.membership != tip.membership {
            self.overtaken = self.overtaken.max(Some(head.at));
        }
    }

    /// The way to the master is open, or not.
    pub fn master_reachable(&mut self, now: Time, random: &mut dyn Random, reachable: bool) {
        self.reachable = reachable;
        self.asked = None;
        if reachable && !self.held.is_empty() {
            self.ask(now, random);
        } else if !reachable {
            self.refuse_held();
        }
    }

    /// Somebody wants chunks.
    pub fn request(&mut self, now: Time, random: &mut dyn Random, asked: Asked) {
        if self.may_serve(now, asked.straight) {
            self.serve(now, asked);
            self.refresh(now, random);
            return;
        }
        if !self.reachable || self.held.len() >= self.config.held_max {
            self.effects.push_back(Effect::Refuse(asked, ChunkRefusal::OwnerNotFresh));
            return;
        }
        self.held.push_back((asked, now));
        if self.asked.is_none() {
            self.ask(now, random);
        }
    }

    /// A head came from the master, in answer to a nonce.
    pub fn head_came(&mut self, now: Time, random: &mut dyn Random, head: Head, tip: &LogTip) {
        let Some((_, drawn)) = self.asked.filter(|(nonce, _)| *nonce == head.nonce) else { return };
        self.asked = None;
        self.ahead = Some((head, drawn));
        self.roster_changed(now, random, tip);
    }

    /// This device's own roster may have reached, or left, what the newest head says. A membership change that the
    /// head does not know of makes the head worthless.
    pub fn roster_changed(&mut self, now: Time, random: &mut dyn Random, tip: &LogTip) {
        let reached = |head: &Head| head.membership == tip.membership;
        if let Some((_, drawn)) = self.ahead.take_if(|(head, _)| reached(head)) {
            self.fresh_at = self.fresh_at.max(Some(drawn));
        }
        self.overtaken.take_if(|at| *at <= tip.at);
        self.serve_held(now);
        if self.reachable && !self.held.is_empty() && self.asked.is_none() {
            self.ask(now, random);
        }
    }

    /// The server could not deliver the nonce.
    pub fn master_away(&mut self) {
        self.reachable = false;
        self.asked = None;
        self.refuse_held();
    }

    /// Since when a fresh word of the master is awaited, if one is.
    pub fn asked_at(&self) -> Option<Time> {
        self.asked.map(|(_, at)| at).filter(|_| self.reachable)
    }

    /// When to call [`Uploads::tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let held = self.held.front().map(|(_, since)| since.after(self.config.fresh_wait));
        let refresh = self.next_refresh();
        let stops = [false, true].into_iter().filter_map(|straight| self.stops_at(straight));
        held.into_iter().chain(refresh).chain(stops).min()
    }

    /// When what is on its way has to stop, unless there is another word by then.
    fn stops_at(&self, straight: bool) -> Option<Time> {
        let serves = self.serves[usize::from(straight)] && !self.is_master;
        let at = match self.overtaken {
            Some(_) => Time::default(),
            None => self.fresh_at?.after(self.age_max(straight)),
        };
        serves.then_some(at)
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time, random: &mut dyn Random) {
        while self.held.front().is_some_and(|(_, since)| now.since(*since) >= self.config.fresh_wait) {
            if let Some((asked, _)) = self.held.pop_front() {
                self.effects.push_back(Effect::Refuse(asked, ChunkRefusal::OwnerNotFresh));
            }
            self.asked = None;
        }
        for straight in [false, true] {
            if self.stops_at(straight).is_some_and(|at| at <= now) {
                self.serves[usize::from(straight)] = false;
                self.effects.push_back(Effect::Stop { straight });
            }
        }
        self.refresh(now, random);
    }

    fn serve(&mut self, now: Time, asked: Asked) {
        self.served_at = Some(now);
        self.serves[usize::from(asked.straight)] = true;
        self.effects.push_back(Effect::Serve(asked));
    }

    /// Nobody wants these units of a request any more. Those that wait for a fresh word are forgotten.
    pub fn cancel(&mut self, conn: ConnId, request: u64, ranges: &[ChunkRange]) {
        let over: HashSet<(ContentId, u32)> =
            ranges.iter().flat_map(ChunkRange::chunks).map(|(content, index, _)| (content, index)).collect();
        let of_it = |asked: &Asked| asked.conn == conn && asked.request == request;
        for (asked, _) in self.held.iter_mut().filter(|(asked, _)| of_it(asked)) {
            let left = asked.ranges.iter().flat_map(ChunkRange::chunks);
            asked.ranges = ranges_of(left.filter(|(content, index, _)| !over.contains(&(*content, *index))));
        }
        self.held.retain(|(asked, _)| !asked.ranges.is_empty());
    }

    /// A connection ended: nobody waits there.
    pub fn forget_held(&mut self, conn: ConnId) {
        self.held.retain(|(asked, _)| asked.conn != conn);
    }

    /// While it serves, an owner asks for a fresh word every minute.
    fn next_refresh(&self) -> Option<Time> {
        let served_lately = self.served_at? >= Time(self.fresh_at?.0);
        let due = self.fresh_at?.after(self.config.refresh.min(self.fresh_for / 3));
        (served_lately && self.reachable && self.asked.is_none() && !self.is_master).then_some(due)
    }

    fn refresh(&mut self, now: Time, random: &mut dyn Random) {
        if self.next_refresh().is_some_and(|due| due <= now) {
            self.ask(now, random);
        }
    }

    fn ask(&mut self, now: Time, random: &mut dyn Random) {
        let nonce = draw(random);
        self.asked = Some((nonce, now));
        self.effects.push_back(Effect::AskFreshness(nonce));
    }

    fn serve_held(&mut self, now: Time) {
        for (asked, since) in std::mem::take(&mut self.held) {
            if self.may_serve(now, asked.straight) {
                self.serve(now, asked);
            } else {
                self.held.push_back((asked, since));
            }
        }
    }

    fn refuse_held(&mut self) {
        for (asked, _) in self.held.drain(..) {
            self.effects.push_back(Effect::Refuse(asked, ChunkRefusal::OwnerNotFresh));
        }
    }
}

#[cfg(test)]
mod tests;
