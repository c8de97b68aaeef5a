//! The way to the server. Whatever the network does, and however long the machine sleeps: there is one connection, or it
//! is being dialled, or it has said why it does neither; no connection is left open, and nobody dials without a pause.

use crate::{Bytes, Counter, keep_time};
use bailiwick::state::conn::ConnId;
use bailiwick::state::link::{Effect, Ended, Link, LinkConfig};
use bailiwick::state::time::Time;
use std::collections::BTreeSet;

struct World {
    link: Link,
    random: Counter,
    now: Time,
    /// Connections that are open, as the shell has them.
    open: BTreeSet<ConnId>,
    up: Option<ConnId>,
    attempts: u64,
    /// Dials in the present second.
    dials: (u64, u32),
    /// Dials that somebody wanted at once.
    wanted: u32,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let link = Link::new(LinkConfig::default(), Time(0));
    let (open, up, dials) = (BTreeSet::new(), None, (0, 0));
    let mut world = World { link, random: Counter::default(), now: Time(0), open, up, attempts: 0, dials, wanted: 0 };
    let mut next = 0;
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time();
        world.step(step, &mut bytes, &mut next);
        world.drain();
        world.pass_time();
        world.check();
    }
}

impl World {
    fn pass_time(&mut self) {
        let now = self.now;
        for _ in 0..64 {
            if self.link.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.link.tick(now);
            self.drain();
        }
        keep_time(&mut self.link, now, Link::poll_timeout, |_, _| {});
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>, next: &mut u64) {
        let now = self.now;
        match step % 13 {
            0 | 1 => {
                *next += 1;
                self.open.insert(ConnId(*next));
                self.link.dialed(ConnId(*next));
            }
            2 => {
                let attempt = self.attempts.saturating_sub(bytes.below(3));
                self.link.dial_failed(now, &mut self.random, attempt);
            }
            3 | 4 => {
                let conn = if bytes.once_in(3) { ConnId(bytes.below(*next + 2)) } else { self.up.unwrap_or(ConnId(0)) };
                self.open.remove(&conn);
                self.link.lost(now, &mut self.random, conn, bytes.once_in(16));
            }
            5 => self.link.heard(now),
            6 => {
                let since = Time(now.0.saturating_sub(bytes.pause()));
                self.link.awaiting((!bytes.once_in(3)).then_some(since));
            }
            7 => self.link.look(now),
            8 => self.link.admitted(),
            9 => {
                self.wanted += 1;
                self.link.dial_now(now);
            }
            10 => {
                self.wanted += 1;
                self.link.redial(now);
            }
            11 if bytes.once_in(16) => self.link.end(Ended::Expelled),
            _ => self.link.tick(now),
        }
    }

    fn drain(&mut self) {
        while let Some(effect) = self.link.poll_effect() {
            match effect {
                Effect::Dial(attempt) => {
                    assert_eq!(self.link.ended(), None, "it has ended");
                    assert_eq!(attempt, self.attempts + 1, "a number is used once");
                    self.attempts = attempt;
                    let second = self.now.0 / 1_000;
                    self.dials = if self.dials.0 == second { (second, self.dials.1 + 1) } else { (second, 1) };
                    assert!(self.dials.1 <= 16 + self.wanted, "it dials without a pause");
                }
                Effect::Up(conn) => {
                    assert!(self.up.replace(conn).is_none(), "one connection at a time");
                    assert!(self.open.contains(&conn));
                }
                Effect::Down(conn) => assert_eq!(self.up.take(), Some(conn)),
                Effect::Close(conn) => assert!(self.open.remove(&conn), "it is closed already"),
                Effect::Ping(conn, _) => assert_eq!(Some(conn), self.up),
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.up, self.link.current());
        assert!(self.open.iter().all(|conn| Some(*conn) == self.up), "a connection is left open");
        let goes_on = self.link.current().is_some() || self.link.poll_timeout().is_some();
        assert!(self.link.ended().is_some() || goes_on, "it goes on");
    }
}

/// Up and lost; silent, pinged and dialled beside; replaced; asleep.
pub fn seeds() -> Vec<Vec<u8>> {
    let up = vec![12, 0, 0, 0, 8, 0];
    let lost = vec![3, 0, 0, 0];
    let silent = vec![6, 0, 0, 0, 12, 190, 12, 190, 12, 190];
    let failed = vec![2, 0, 0, 12, 200, 2, 0, 0, 12, 210];
    vec![
        [&up[..], &lost, &failed, &up].concat(),
        [&up[..], &silent, &up].concat(),
        [&up[..], &silent, &failed, &[12, 255], &up].concat(),
        [&up[..], &[3, 0, 0, 15]].concat(),
        [&up[..], &[9, 0, 1, 0, 10, 0, 0, 0, 11, 0, 15]].concat(),
    ]
}
