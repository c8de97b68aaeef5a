//! A member's requests. Whatever the master answers, and wherever the process is killed: what is sent is on disk before,
//! one at a time, a request that is repeated is the same letter by letter, and nothing is asked before the replica has
//! seen what the last one came to.

use crate::{Bytes, keep_time};
use bailiwick::state::requests::{Effect, Outstanding, Requests, RequestsConfig};
use bailiwick::state::time::Time;
use bailiwick::wire::envelope::{Answer, FileRefusal, Request, RequestRefusal};
use bailiwick::wire::ids::{FileId, Position};
use bailiwick::wire::name::DeviceName;

struct World {
    requests: Requests,
    now: Time,
    at: Position,
    ready: bool,
    /// What is on the disk.
    kept: (u64, Option<Outstanding>),
    /// The replica must get here before the next request is made, until a restart.
    wait_for: Position,
    /// The number that was sent last, and when.
    sent: Option<(u64, Time)>,
    looking: bool,
}

/// Bytes are steps.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let requests = Requests::restore(RequestsConfig::default(), 0, None);
    let at = Position { generation: 1, revision: 1 };
    let (kept, wait_for) = ((0, None), Position::default());
    let mut world = World { requests, now: Time(0), at, ready: false, kept, wait_for, sent: None, looking: false };
    while let Some(step) = bytes.next() {
        world.now = Time(world.now.0 + bytes.pause());
        world.pass_time(&mut bytes);
        world.step(step, &mut bytes);
        world.drain(&mut bytes);
        world.pass_time(&mut bytes);
    }
}

impl World {
    fn pass_time(&mut self, bytes: &mut Bytes<'_>) {
        let now = self.now;
        for _ in 0..64 {
            if self.requests.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.requests.tick(now);
            self.drain(bytes);
        }
        keep_time(&mut self.requests, now, Requests::poll_timeout, |_, _| {});
    }

    fn step(&mut self, step: u8, bytes: &mut Bytes<'_>) {
        let now = self.now;
        match step % 10 {
            0 | 1 => {
                self.ready = !bytes.once_in(4);
                if !bytes.once_in(4) {
                    self.at.revision += bytes.below(3);
                }
                self.requests.ready(now, self.ready, self.at);
                self.sent = None;
            }
            2 => self.requests.wishes_changed(now),
            3 => {
                let busy = bytes.once_in(2);
                self.ready &= busy;
                self.requests.not_delivered(now, busy);
                self.sent = None;
            }
            4..=7 => self.answer(bytes),
            8 if bytes.once_in(4) => {
                self.requests = Requests::restore(RequestsConfig::default(), self.kept.0, self.kept.1.clone());
                (self.ready, self.wait_for, self.sent, self.looking) = (false, Position::default(), None, false);
            }
            _ => self.requests.tick(now),
        }
    }

    fn answer(&mut self, bytes: &mut Bytes<'_>) {
        let number = if bytes.once_in(4) { bytes.number() } else { self.kept.0 };
        let at = Position { generation: 1, revision: self.at.revision + bytes.below(3) };
        let answer = match bytes.byte() % 5 {
            0 | 1 => {
                let refused = vec![(FileId([1; 16]), FileRefusal::Quota); bytes.below(2) as usize];
                Answer::Done { at, refused }
            }
            2 => Answer::StaleNumber { last: bytes.number() },
            3 => Answer::OtherGeneration,
            _ => Answer::Refused(RequestRefusal::Malformed),
        };
        let awaited = self.kept.1.as_ref().is_some_and(|outstanding| outstanding.number == number);
        if let (true, Answer::Done { at, .. }) = (awaited, &answer) {
            self.wait_for = *at;
        }
        self.requests.answered(self.now, number, answer);
        if awaited {
            self.sent = None;
        }
    }

    fn drain(&mut self, bytes: &mut Bytes<'_>) {
        while let Some(effect) = self.requests.poll_effect() {
            match effect {
                Effect::LookUp => {
                    assert!(self.kept.1.is_none() && !self.looking, "one request at a time");
                    assert!(self.ready && self.at >= self.wait_for, "what the last one came to is not here");
                    let request = match bytes.byte() % 4 {
                        0 => None,
                        1 => Some(Request::AddFiles(Vec::new())),
                        2 => Some(Request::RemoveFile(vec![FileId([bytes.byte(); 16])])),
                        _ => DeviceName::parse("x").ok().map(Request::Rename),
                    };
                    self.looking = false;
                    self.requests.difference(self.now, request);
                }
                Effect::Keep(number, outstanding) => {
                    assert!(outstanding.as_ref().is_none_or(|it| it.number == number));
                    let same = |one: &Outstanding| self.kept.1.as_ref().is_none_or(|before| before == one);
                    assert!(outstanding.as_ref().is_none_or(same), "what is outstanding does not change");
                    self.kept = (number, outstanding);
                }
                Effect::Send(outstanding) => {
                    assert_eq!(self.kept, (outstanding.number, Some(outstanding)), "on disk before it is sent");
                    assert!(self.ready, "nobody is there");
                    let wait = RequestsConfig::default().answer_wait;
                    let early = self.sent.is_some_and(|(of, at)| of == self.kept.0 && self.now.since(at) < wait);
                    assert!(!early, "before an answer can have come");
                    self.sent = Some((self.kept.0, self.now));
                }
                Effect::GaveUp => assert!(self.kept.1.is_none()),
                Effect::FilesRefused(_) | Effect::Refused(..) => {}
            }
        }
    }
}

/// A request that is answered, one that is repeated and given up, one that a restart finds.
pub fn seeds() -> Vec<Vec<u8>> {
    let ready = vec![0, 0, 0, 0, 1, 1];
    let done = vec![4, 0, 0, 0, 0, 0, 2];
    let stale = vec![4, 0, 0, 0, 2, 7, 2];
    let tick = vec![9, 253];
    let restart = vec![8, 0, 3];
    vec![
        [&ready[..], &done, &ready, &done].concat(),
        [&ready[..], &stale, &ready, &done].concat(),
        [&ready[..], &tick, &tick, &ready].concat(),
        [&ready[..], &restart, &ready, &done].concat(),
        [&ready[..], &[4, 0, 0, 0, 2, 248, 1, 0, 0, 0, 0, 1, 1]].concat(),
    ]
}
