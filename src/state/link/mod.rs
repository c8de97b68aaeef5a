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
mod tests {
    use super::*;

    struct Middle;
    impl Random for Middle {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(128);
        }
    }

    fn up() -> Link {
        let mut link = Link::new(LinkConfig::default(), Time(0));
        link.tick(Time(0));
        assert_eq!(link.poll_effect(), Some(Effect::Dial(1)));
        link.dialed(ConnId(1));
        assert_eq!(link.poll_effect(), Some(Effect::Up(ConnId(1))));
        link.admitted();
        link
    }

    #[test]
    fn a_lost_link_is_dialled_again_soon_and_then_less_often() {
        let mut link = up();
        link.lost(Time(0), &mut Middle, ConnId(1), false);
        assert_eq!(link.poll_effect(), Some(Effect::Down(ConnId(1))));
        assert_eq!(link.poll_timeout(), Some(Time(200)));
        let (mut now, mut pauses) = (Time(200), Vec::new());
        for attempt in 2..8 {
            link.tick(now);
            assert_eq!(link.poll_effect(), Some(Effect::Dial(attempt)));
            link.dial_failed(now, &mut Middle, attempt);
            let next = link.poll_timeout().unwrap();
            pauses.push(next.0 - now.0);
            now = next;
        }
        assert_eq!(pauses, [400, 800, 1600, 2000, 2000, 2000]);
    }

    #[test]
    fn a_silent_link_is_pinged_and_then_dialled_beside() {
        let mut link = up();
        link.awaiting(Some(Time(0)));
        link.tick(Time(1_000));
        assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
        link.tick(Time(3_000));
        assert_eq!(link.poll_effect(), Some(Effect::Dial(2)));
        assert_eq!(link.poll_effect(), Some(Effect::Ping(ConnId(1), 3_000)), "it may be back");
        link.dialed(ConnId(2));
        assert_eq!(link.poll_effect(), Some(Effect::Down(ConnId(1))));
        assert_eq!(link.poll_effect(), Some(Effect::Close(ConnId(1))));
        assert_eq!(link.poll_effect(), Some(Effect::Up(ConnId(2))));
    }

    #[test]
    fn a_server_that_is_gone_is_given_up_and_dialled_on() {
        let mut link = up();
        link.awaiting(Some(Time(0)));
        let (mut now, mut dials, mut down_at) = (Time(0), 0, None);
        while now < Time(20_000) {
            now = link.poll_timeout().unwrap();
            // A request is repeated every three seconds.
            link.awaiting(Some(Time(now.0 / 3_000 * 3_000)));
            link.tick(now);
            while let Some(effect) = link.poll_effect() {
                match effect {
                    Effect::Dial(_) => dials += 1,
                    Effect::Down(ConnId(1)) => down_at = Some(now),
                    _ => {}
                }
            }
        }
        assert_eq!(down_at, Some(Time(8_000)));
        assert!(dials >= 8, "a dial without an answer gets another one beside it: {dials}");
        link.dialed(ConnId(2));
        assert_eq!(link.poll_effect(), Some(Effect::Up(ConnId(2))));
    }

    #[test]
    fn a_link_that_is_given_up_is_dialled_again_though_the_dial_beside_it_failed() {
        let mut link = up();
        link.awaiting(Some(Time(0)));
        for ms in 1..30_000 {
            link.awaiting(Some(Time(0)));
            link.tick(Time(ms));
            while let Some(effect) = link.poll_effect() {
                if let Effect::Dial(attempt) = effect {
                    link.dial_failed(Time(ms), &mut Middle, attempt);
                }
            }
        }
        assert_eq!(link.current(), None);
        assert!(link.poll_timeout().is_some(), "it goes on dialling");
    }

    #[test]
    fn dials_beside_a_silent_link_that_fail_at_once_have_pauses() {
        let mut link = up();
        link.awaiting(Some(Time(0)));
        let mut dials = 0;
        for ms in 1..7_999 {
            link.tick(Time(ms));
            while let Some(effect) = link.poll_effect() {
                if let Effect::Dial(attempt) = effect {
                    dials += 1;
                    link.dial_failed(Time(ms), &mut Middle, attempt);
                }
            }
            assert!(link.poll_timeout() > Some(Time(ms)));
        }
        assert!((3..=10).contains(&dials), "{dials}");
        assert_eq!(link.current(), Some(ConnId(1)));
        link.heard(Time(7_999));
        assert_eq!(link.poll_timeout(), None, "it speaks again, and nothing is dialled any more");
    }

    #[test]
    fn who_sleeps_right_after_a_ping_dials_when_it_wakes() {
        let mut link = up();
        link.awaiting(Some(Time(0)));
        link.tick(Time(1_000));
        assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
        link.tick(Time(3_600_000));
        assert_eq!(link.poll_effect(), Some(Effect::Down(ConnId(1))));
        assert_eq!(link.poll_effect(), Some(Effect::Close(ConnId(1))));
        assert_eq!(link.poll_effect(), Some(Effect::Dial(2)));
    }

    #[test]
    fn a_link_that_speaks_again_keeps_its_connection() {
        let mut link = up();
        link.awaiting(Some(Time(0)));
        link.tick(Time(1_000));
        link.tick(Time(3_000));
        while link.poll_effect().is_some() {}
        link.heard(Time(3_100));
        link.dialed(ConnId(2));
        assert_eq!(link.poll_effect(), Some(Effect::Close(ConnId(2))));
    }

    #[test]
    fn who_waits_and_hears_pings_once_a_second_and_no_more() {
        let mut link = up();
        let mut pings = 0;
        for ms in 0..10_000 {
            let now = Time(ms);
            link.awaiting(Some(Time(0)));
            link.tick(now);
            while let Some(effect) = link.poll_effect() {
                assert!(matches!(effect, Effect::Ping(..)), "{effect:?}");
                pings += 1;
                link.heard(now);
            }
        }
        assert_eq!(pings, 9);
    }

    #[test]
    fn a_quiet_link_is_pinged_when_a_person_looks() {
        let mut link = up();
        link.heard(Time(0));
        link.look(Time(500));
        assert_eq!(link.poll_effect(), None);
        link.look(Time(5_000));
        assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
        link.look(Time(5_100));
        assert_eq!(link.poll_effect(), None);
        link.heard(Time(5_200));
        link.awaiting(None);
        link.tick(Time(60_000));
        assert_eq!((drained(&mut link), link.current()), (Vec::new(), Some(ConnId(1))), "it has answered");
        // Nobody answers any more, and nothing else is awaited.
        link.look(Time(70_000));
        for at in (70_500..80_000).step_by(500) {
            link.awaiting(None);
            link.tick(Time(at));
        }
        assert!(drained(&mut link).contains(&Effect::Down(ConnId(1))), "the next look tells that it is away");
    }

    #[test]
    fn a_connection_in_doubt_is_pinged_at_once_and_another_dialled_two_seconds_later() {
        let mut link = up();
        link.heard(Time(0));
        link.doubt(Time(100_000));
        assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
        link.awaiting(None);
        for again in [100_500, 101_000, 101_500] {
            assert_eq!(link.poll_timeout(), Some(Time(again)));
            link.tick(Time(again));
            assert_eq!(
                drained(&mut link),
                [Effect::Ping(ConnId(1), again)],
                "a packet that is lost is not all that is sent"
            );
            link.doubt(Time(again));
        }
        link.tick(Time(101_999));
        assert_eq!(drained(&mut link), [], "changes that follow one another put nothing off");
        link.tick(Time(102_000));
        assert_eq!(drained(&mut link), [Effect::Dial(2), Effect::Ping(ConnId(1), 102_000)]);
        link.dialed(ConnId(2));
        assert_eq!(drained(&mut link), [Effect::Down(ConnId(1)), Effect::Close(ConnId(1)), Effect::Up(ConnId(2))]);
    }

    fn drained(link: &mut Link) -> Vec<Effect> {
        std::iter::from_fn(|| link.poll_effect()).collect()
    }

    #[test]
    fn who_has_moved_gets_another_connection_though_the_first_one_lives() {
        let mut link = up();
        link.moved(Time(100_000));
        assert_eq!(drained(&mut link), [Effect::Ping(ConnId(1), 100_000), Effect::Dial(2)]);
        link.heard(Time(100_040));
        link.dialed(ConnId(2));
        assert_eq!(drained(&mut link), [Effect::Down(ConnId(1)), Effect::Close(ConnId(1)), Effect::Up(ConnId(2))]);
        link.heard(Time(100_050));
        link.dialed(ConnId(3));
        assert_eq!(drained(&mut link), [Effect::Close(ConnId(3))], "one is enough");
    }

    #[test]
    fn who_has_moved_and_reaches_nobody_keeps_a_connection_that_lives_and_gives_up_one_that_does_not() {
        for lives in [true, false] {
            let mut link = up();
            link.moved(Time(100_000));
            if lives {
                link.heard(Time(100_040));
            }
            link.dial_failed(Time(100_100), &mut Middle, 2);
            drained(&mut link);
            for ms in (100_100..108_000).step_by(10) {
                link.awaiting(None);
                link.tick(Time(ms));
            }
            let then = drained(&mut link);
            assert_eq!(then.is_empty(), lives, "{then:?}");
            assert_eq!(link.current().is_some(), lives);
        }
    }

    #[test]
    fn a_connection_in_doubt_that_answers_stays() {
        let mut link = up();
        link.doubt(Time(100_000));
        link.poll_effect();
        link.heard(Time(100_040));
        link.awaiting(None);
        link.tick(Time(110_000));
        assert_eq!((link.poll_effect(), link.poll_timeout()), (None, None));
    }

    #[test]
    fn who_is_between_two_dials_dials_at_once_when_the_network_may_have_changed() {
        let mut link = Link::new(LinkConfig::default(), Time(0));
        link.tick(Time(0));
        link.dial_failed(Time(900_000), &mut Middle, 1);
        assert!(link.poll_timeout() > Some(Time(900_100)));
        assert_eq!(link.poll_effect(), Some(Effect::Dial(1)));
        link.doubt(Time(900_100));
        assert_eq!(link.poll_effect(), Some(Effect::Dial(2)));
        link.doubt(Time(900_200));
        assert_eq!(link.poll_effect(), None, "it dials already");
    }

    #[test]
    fn a_link_that_ended_is_never_due_whatever_is_awaited_on_its_last_connection() {
        let mut link = up();
        link.awaiting(Some(Time(0)));
        link.end(Ended::Expelled);
        link.awaiting(Some(Time(0)));
        link.tick(Time(60_000));
        assert_eq!((link.poll_effect(), link.poll_timeout()), (None, None));
    }

    #[test]
    fn who_is_replaced_without_having_dialled_stops() {
        let mut link = up();
        link.lost(Time(0), &mut Middle, ConnId(1), true);
        assert_eq!(link.ended(), Some(Ended::Replaced));
        assert_eq!(link.poll_timeout(), None);
    }
}
