//! A member's way to its server: when to dial, when to wait, when to dial anew beside a connection that went silent.

use super::conn::ConnId;
use super::random::{Random, draw};
use super::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How a link waits.
#[derive(Debug, Clone, Copy)]
pub struct LinkConfig {
    /// First pause between two dials.
    pub retry_min: Duration,
    /// Longest pause, for as long as the server may come back at any moment.
    pub retry_max: Duration,
    /// How long that is.
    pub patience: Duration,
    /// Pause after that.
    pub retry_late: Duration,
    /// A dial without an answer gets another one beside it after this long.
    pub dial_wait: Duration,
    /// Who waits and hears nothing for this long asks whether the other end is there.
    pub ping_after: Duration,
    /// And asks again so often. Each is a packet of its own: QUIC repeats what is lost at pauses that double, and a network
    /// that was away for seconds and is back would wait for seconds more.
    pub ping_again: Duration,
    /// Who waits and hears nothing for this long dials anew beside the connection.
    pub redial_after: Duration,
    /// Who waits and hears nothing for this long, on the connection or of a new one, gives the connection up: the server
    /// is away, and whoever waits is told so. QUIC's own idle end would take most of a minute.
    pub give_up_after: Duration,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(2),
            patience: Duration::from_secs(600),
            retry_late: Duration::from_secs(10),
            dial_wait: Duration::from_secs(2),
            ping_after: Duration::from_secs(1),
            ping_again: Duration::from_millis(500),
            redial_after: Duration::from_secs(3),
            give_up_after: Duration::from_secs(8),
        }
    }
}

/// How long another connection is wanted beside one that is heard, after this device's addresses changed.
const MOVED_FOR: Duration = Duration::from_secs(10);

/// What a link wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Dial the server; the number tells attempts apart.
    Dial(u64),
    /// Send a ping with this number.
    Ping(ConnId, u64),
    /// This connection is the link now.
    Up(ConnId),
    /// This connection is the link no more.
    Down(ConnId),
    /// Close this connection: there is a better one, or none is wanted.
    Close(ConnId),
}

/// Why a link dials no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Another process uses the same identity.
    #[error(
        "another process uses a copy of this device's state directory; stop one of the two, and start the one that is to stay again (a second device needs a state directory and an invite of its own)"
    )]
    Replaced,
    /// This device is out.
    #[error("this device was expelled from the group or has left it")]
    Expelled,
}

/// A link.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    current: Option<ConnId>,
    /// When the newest dial began, if its outcome is awaited.
    dialing: Option<Time>,
    retry_at: Option<Time>,
    failures: u32,
    down_since: Option<Time>,
    attempt: u64,
    /// Something is awaited on the current connection; nothing was heard since.
    awaited: Option<Time>,
    /// When something was heard last.
    heard: Time,
    /// When it was asked first whether the other end is there, since something was heard.
    pinged: Option<Time>,
    /// When it was asked last.
    pinged_last: Time,
    /// Since when the connection is in doubt, for the network may have changed.
    doubted: Option<Time>,
    /// Since when another connection is wanted though this one may be heard: only a new one tells where this device is seen.
    moved: Option<Time>,
    ended: Option<Ended>,
    effects: VecDeque<Effect>,
}

impl Link {
    /// A link that dials at once.
    pub fn new(config: LinkConfig, now: Time) -> Link {
        Link {
            config,
            current: None,
            dialing: None,
            retry_at: Some(now),
            failures: 0,
            down_since: Some(now),
            attempt: 0,
            awaited: None,
            heard: now,
            pinged: None,
            pinged_last: now,
            doubted: None,
            moved: None,
            ended: None,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The connection that is the link now.
    pub fn current(&self) -> Option<ConnId> {
        self.current
    }

    /// Why it dials no more.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// A dial succeeded.
    pub fn dialed(&mut self, conn: ConnId) {
        let needed = self.current.is_none() || self.is_dialing() || self.moved.is_some();
        let wanted = self.ended.is_none() && needed;
        if !wanted {
            self.effects.push_back(Effect::Close(conn));
            return;
        }
        if let Some(old) = self.current.take() {
            self.effects.push_back(Effect::Down(old));
            self.effects.push_back(Effect::Close(old));
        }
        self.dialing = None;
        self.retry_at = None;
        self.current = Some(conn);
        self.awaited = None;
        self.pinged = None;
        self.doubted = None;
        self.moved = None;
        self.effects.push_back(Effect::Up(conn));
    }

    /// The other side took this device in: the next loss is retried quickly again.
    pub fn admitted(&mut self) {
        self.failures = 0;
        self.down_since = None;
    }

    /// A dial failed.
    pub fn dial_failed(&mut self, now: Time, random: &mut dyn Random, attempt: u64) {
        if attempt == self.attempt {
            self.dialing = None;
            self.moved = None;
            // One beside a connection that is silent, too: it may fail at once, over and over.
            if self.current.is_none() || self.pinged.is_some() {
                self.retry_later(now, random);
            }
        }
    }

    /// A connection ended; `replaced` if the server says that a newer one of this device took its place.
    pub fn lost(&mut self, now: Time, random: &mut dyn Random, conn: ConnId, replaced: bool) {
        if self.current != Some(conn) {
            return;
        }
        self.current = None;
        self.awaited = None;
        self.doubted = None;
        self.effects.push_back(Effect::Down(conn));
        if replaced && !self.is_dialing() {
            return self.end(Ended::Replaced);
        }
        self.down_since.get_or_insert(now);
        if self.dialing.is_none() {
            self.retry_later(now, random);
        }
    }

    /// The server is another one now, or the network may be: dial at once, beside what there is.
    pub fn dial_now(&mut self, now: Time) {
        if self.ended.is_none() {
            self.failures = 0;
            self.dial(now);
        }
    }

    /// Leaves the present connection and dials at once: the server is to be another one.
    pub fn redial(&mut self, now: Time) {
        if self.ended.is_some() {
            return;
        }
        if let Some(old) = self.current.take() {
            self.effects.push_back(Effect::Down(old));
            self.effects.push_back(Effect::Close(old));
        }
        self.awaited = None;
        self.doubted = None;
        self.failures = 0;
        self.down_since = Some(now);
        self.dial(now);
    }

    /// No more dialling.
    pub fn end(&mut self, why: Ended) {
        self.ended = Some(why);
        self.retry_at = None;
        self.dialing = None;
    }

    /// Something came in.
    pub fn heard(&mut self, now: Time) {
        self.heard = now;
        self.awaited = None;
        self.pinged = None;
        self.doubted = None;
        self.moved.take_if(|at| now.since(*at) >= MOVED_FOR);
        if self.current.is_some() && self.moved.is_none() {
            self.dialing = None;
            if self.retry_at.take().is_some() {
                self.failures = 0;
            }
        }
    }

    /// The network may be another one, or the machine slept: the connection is asked at once whether its other end is
    /// there, and who is between two dials dials now.
    pub fn doubt(&mut self, now: Time) {
        match self.current {
            _ if self.ended.is_some() => {}
            Some(conn) if self.doubted.is_none() => {
                self.doubted = Some(now);
                self.awaited = Some(now);
                self.ping(now, conn);
            }
            None if self.retry_at.is_some() => self.dial_now(now),
            Some(_) | None => {}
        }
    }

    /// An address of this device is gone: its connection is in doubt, and another one is dialled at once beside it. The
    /// first is left for it even if it goes on from another address.
    pub fn moved(&mut self, now: Time) {
        self.doubt(now);
        if self.ended.is_none() && self.dialing.is_none() {
            self.moved = Some(now);
            self.dial_now(now);
        }
    }

    /// Whether bytes or an answer are awaited on the current connection, and since when. What was heard since then
    /// shows that the other end is there.
    pub fn awaiting(&mut self, since: Option<Time>) {
        let since = since.or(self.doubted);
        self.awaited = since.filter(|_| self.current.is_some()).map(|since| since.max(self.heard));
    }

    /// A person looks: a connection on which nothing was heard for a while is in doubt, so that a server that was killed is
    /// noticed now, whether or not it is back, and not when QUIC finds it silent.
    pub fn look(&mut self, now: Time) {
        if self.current.is_some() && self.pinged.is_none() && now.since(self.heard) >= self.config.ping_after {
            self.doubt(now);
        }
    }

    fn ping(&mut self, now: Time, conn: ConnId) {
        self.pinged.get_or_insert(now);
        self.pinged_last = now;
        self.effects.push_back(Effect::Ping(conn, now.0));
    }

    /// When to call [`Link::tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        // A connection may be left that its other end closes; nothing is done about it any more.
        if self.ended.is_some() {
            return None;
        }
        let redial = self.dialing.map(|since| since.after(self.config.dial_wait));
        let awaited = self.awaited.map(|_| match self.pinged {
            None => self.silent_for(self.config.ping_after),
            Some(_) if self.is_dialing() => self.silent_for(self.config.give_up_after),
            Some(_) => self.silent_for(self.config.redial_after),
        });
        let again = self.awaited.and(self.pinged).map(|_| self.pinged_last.after(self.config.ping_again));
        self.retry_at.into_iter().chain(redial).chain(awaited).chain(again).min()
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) {
        if self.ended.is_some() {
            return;
        }
        let unanswered = self.dialing.is_some_and(|since| now.since(since) >= self.config.dial_wait);
        if unanswered || self.retry_at.is_some_and(|at| at <= now) {
            self.dial(now);
        }
        let (Some(conn), Some(_)) = (self.current, self.awaited) else { return };
        let silent = |pause| self.silent_for(pause) <= now;
        if self.pinged.is_none() {
            if silent(self.config.ping_after) {
                self.ping(now, conn);
            }
        } else if silent(self.config.give_up_after) {
            self.current = None;
            self.awaited = None;
            self.doubted = None;
            self.down_since.get_or_insert(now);
            self.effects.push_back(Effect::Down(conn));
            self.effects.push_back(Effect::Close(conn));
            // Who slept from the ping until now has not dialled beside it.
            if !self.is_dialing() {
                self.dial(now);
            }
        } else {
            if silent(self.config.redial_after) && !self.is_dialing() {
                self.dial(now);
            }
            if self.pinged_last.after(self.config.ping_again) <= now {
                self.ping(now, conn);
            }
        }
    }

    /// Whether a dial is under way, or about to be.
    fn is_dialing(&self) -> bool {
        self.dialing.is_some() || self.retry_at.is_some()
    }

    /// When nothing will have been heard for this long. What is awaited may be asked for again and again; from the ping
    /// on, its time counts.
    fn silent_for(&self, pause: Duration) -> Time {
        match (self.pinged, self.awaited) {
            (Some(pinged), _) => pinged.after(pause.saturating_sub(self.config.ping_after)),
            (None, Some(since)) => since.after(pause),
            (None, None) => self.heard.after(pause),
        }
    }

    fn dial(&mut self, now: Time) {
        self.retry_at = None;
        self.attempt += 1;
        self.dialing = Some(now);
        self.effects.push_back(Effect::Dial(self.attempt));
    }

    fn retry_later(&mut self, now: Time, random: &mut dyn Random) {
        if self.ended.is_some() {
            return;
        }
        let down_since = self.down_since.unwrap_or(now);
        if self.current.is_none() {
            self.down_since = Some(down_since);
        }
        let pause = if now.since(down_since) >= self.config.patience {
            self.config.retry_late
        } else {
            self.config.retry_min.saturating_mul(1 << self.failures.min(8)).min(self.config.retry_max)
        };
        self.failures += 1;
        let [jitter] = draw(random);
        // Between three quarters and five quarters, so that a thousand clients do not come back in step.
        let pause = pause * (192 + u32::from(jitter) / 2) / 256;
        self.retry_at = Some(now.after(pause));
    }
}

#[cfg(test)]
mod tests;
