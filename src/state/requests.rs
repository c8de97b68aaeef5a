//! A member's requests: a client keeps what it wants, not what it asked. The difference between what it wants and what
//! the catalog says makes its next request; one is outstanding at a time.
//!
//! A request is repeated, letter by letter, until its answer came; then the difference is looked at anew. So a lost
//! request, a late answer and a killed process mend by one rule.

use super::time::Time;
use crate::wire::envelope::{Answer, FileRefusal, Request, RequestRefusal};
use crate::wire::ids::{FileId, Position};
use std::collections::VecDeque;
use std::time::Duration;

/// How requests wait.
#[derive(Debug, Clone, Copy)]
pub struct RequestsConfig {
    /// How long an answer may take, with the master present, before the request is repeated.
    pub answer_wait: Duration,
}

impl Default for RequestsConfig {
    fn default() -> RequestsConfig {
        RequestsConfig { answer_wait: Duration::from_secs(3) }
    }
}

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outstanding {
    /// Its number.
    pub number: u64,
    /// The generation that it was made in.
    pub generation: u32,
    /// The request.
    pub request: Request,
}

/// What the machine wants done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Look up the difference, and say [`Requests::difference`].
    LookUp,
    /// Persist the last number used and what is outstanding.
    Keep(u64, Option<Outstanding>),
    /// Send the request to the master.
    Send(Outstanding),
    /// These files were refused, and are not asked for again.
    FilesRefused(Vec<(FileId, FileRefusal)>),
    /// A request was refused as a whole, and is not asked for again.
    Refused(Request, RequestRefusal),
}

/// One device's requests to its master.
#[derive(Debug)]
pub struct Requests {
    config: RequestsConfig,
    number: u64,
    outstanding: Option<Outstanding>,
    sent: Option<Time>,
    /// The replica must get here before the difference means something.
    wait_for: Position,
    at: Position,
    ready: bool,
    looking: bool,
    wanted: bool,
    effects: VecDeque<Effect>,
}

impl Requests {
    /// Requests go on from what was persisted.
    pub fn restore(config: RequestsConfig, number: u64, outstanding: Option<Outstanding>) -> Requests {
        Requests {
            config,
            number,
            outstanding,
            sent: None,
            wait_for: Position::default(),
            at: Position::default(),
            ready: false,
            looking: false,
            wanted: true,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Requests::tick`].
    pub fn poll_timeout(&self) -> Option<Time> {
        let sent = self.sent.filter(|_| self.ready)?;
        Some(sent.after(self.config.answer_wait))
    }

    /// Since when an answer is awaited, if one is.
    pub fn sent_at(&self) -> Option<Time> {
        self.sent.filter(|_| self.ready)
    }

    /// Whether the master can be asked, and where the replica is: caught up, at `at`.
    pub fn ready(&mut self, now: Time, ready: bool, at: Position) {
        let was_ready = std::mem::replace(&mut self.ready, ready);
        self.at = at;
        if ready && !was_ready {
            self.sent = None;
        }
        self.go_on(now);
    }

    /// What this device wants may have changed.
    pub fn wishes_changed(&mut self, now: Time) {
        self.wanted = true;
        self.go_on(now);
    }

    /// The difference, as a request; nothing if there is none.
    pub fn difference(&mut self, now: Time, request: Option<Request>) {
        self.looking = false;
        let Some(request) = request else { return };
        // After this request there may be more.
        self.wanted = true;
        self.number += 1;
        let outstanding = Outstanding { number: self.number, generation: self.at.generation, request };
        self.outstanding = Some(outstanding);
        self.keep();
        self.go_on(now);
    }

    /// The master's answer to a numbered request.
    pub fn answered(&mut self, now: Time, number: u64, answer: Answer) {
        let Some(outstanding) = self.outstanding.take_if(|outstanding| outstanding.number == number) else { return };
        self.sent = None;
        self.wanted = true;
        match answer {
            Answer::Done { at, refused } => {
                self.wait_for = at;
                if !refused.is_empty() {
                    self.effects.push_back(Effect::FilesRefused(refused));
                }
            }
            Answer::StaleNumber { last } => self.number = last,
            Answer::OtherGeneration => {}
            Answer::Refused(why) => self.effects.push_back(Effect::Refused(outstanding.request, why)),
        }
        self.keep();
        self.go_on(now);
    }

    /// The server could not deliver it: the master is away, or too much waits. It goes again later.
    pub fn not_delivered(&mut self, now: Time, busy: bool) {
        if busy {
            self.sent = Some(now);
        } else {
            self.ready = false;
            self.sent = None;
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) {
        if self.sent.is_some_and(|sent| now.since(sent) >= self.config.answer_wait) {
            self.sent = None;
            self.go_on(now);
        }
    }

    fn keep(&mut self) {
        self.effects.push_back(Effect::Keep(self.number, self.outstanding.clone()));
    }

    fn go_on(&mut self, now: Time) {
        if !self.ready {
            return;
        }
        if let Some(outstanding) = &self.outstanding {
            if self.sent.is_none() {
                self.sent = Some(now);
                self.effects.push_back(Effect::Send(outstanding.clone()));
            }
        } else if self.wanted && !self.looking && self.at >= self.wait_for {
            self.wanted = false;
            self.looking = true;
            self.effects.push_back(Effect::LookUp);
        }
    }
}
