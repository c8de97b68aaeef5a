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
    /// How long files stay staged for a master that is present and does not answer (W9). While it is away the clock
    /// stands still.
    pub staging_wait: Duration,
}

impl Default for RequestsConfig {
    fn default() -> RequestsConfig {
        RequestsConfig { answer_wait: Duration::from_secs(3), staging_wait: Duration::from_secs(600) }
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
    /// The master was there and did not answer: what is staged is to be dropped, until it is wished anew.
    GaveUp,
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
    /// How long the master has been there without an answer, and since when that is counted on.
    silence: Duration,
    silent_since: Option<Time>,
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
            silence: Duration::ZERO,
            silent_since: None,
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
        let given_up =
            self.silent_since.map(|since| since.after(self.config.staging_wait.saturating_sub(self.silence)));
        let again = sent.after(self.config.answer_wait);
        Some(given_up.map_or(again, |at| at.min(again)))
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
        if !ready {
            self.count_silence(now);
            self.silent_since = None;
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
        // Only a master that is out of its mind has answered so many.
        self.number = self.number.saturating_add(1);
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
        (self.silence, self.silent_since) = (Duration::ZERO, None);
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
            self.count_silence(now);
            self.silent_since = None;
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Time) {
        self.count_silence(now);
        if self.silence >= self.config.staging_wait {
            self.give_up();
        }
        if self.sent.is_some_and(|sent| now.since(sent) >= self.config.answer_wait) {
            self.sent = None;
            self.go_on(now);
        }
    }

    fn count_silence(&mut self, now: Time) {
        if let Some(since) = &mut self.silent_since {
            self.silence += now.since(*since);
            *since = now;
        }
    }

    /// What leaves staging is asked for no more; a wish to remove, or another name, stays.
    fn give_up(&mut self) {
        (self.silence, self.silent_since) = (Duration::ZERO, None);
        let stages = |one: &mut Outstanding| matches!(one.request, Request::AddFiles(_) | Request::ChangeFiles(_));
        if self.outstanding.take_if(stages).is_some() {
            self.sent = None;
            self.keep();
            self.effects.push_back(Effect::GaveUp);
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
                self.silent_since.get_or_insert(now);
                self.effects.push_back(Effect::Send(outstanding.clone()));
            }
        } else if self.wanted && !self.looking && self.at >= self.wait_for {
            self.wanted = false;
            self.looking = true;
            self.effects.push_back(Effect::LookUp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { generation: 1, revision: 1 };

    fn asked(request: Request) -> Requests {
        let mut requests = Requests::restore(RequestsConfig::default(), 0, None);
        requests.ready(Time(0), true, AT);
        assert!(matches!(requests.poll_effect(), Some(Effect::LookUp)));
        requests.difference(Time(0), Some(request));
        assert!(drain(&mut requests).iter().any(|effect| matches!(effect, Effect::Send(_))));
        requests
    }

    fn drain(requests: &mut Requests) -> Vec<Effect> {
        std::iter::from_fn(|| requests.poll_effect()).collect()
    }

    /// Lets time pass until `end`, at each moment that the machine asks for. Says whether it gave up.
    fn run(requests: &mut Requests, end: u64) -> bool {
        let mut gave_up = false;
        while let Some(at) = requests.poll_timeout().filter(|at| at.0 <= end) {
            requests.tick(at);
            gave_up |= drain(requests).iter().any(|effect| matches!(effect, Effect::GaveUp));
        }
        requests.tick(Time(end));
        gave_up | drain(requests).iter().any(|effect| matches!(effect, Effect::GaveUp))
    }

    #[test]
    fn staging_ends_if_a_master_that_is_there_does_not_answer() {
        let mut requests = asked(Request::AddFiles(Vec::new()));
        assert!(!run(&mut requests, 599_000));
        assert!(run(&mut requests, 601_000));
        assert!(requests.outstanding.is_none() && !run(&mut requests, 9_000_000));
        // It is wished anew: the number goes on.
        requests.wishes_changed(Time(9_000_000));
        requests.difference(Time(9_000_000), Some(Request::AddFiles(Vec::new())));
        assert_eq!(requests.outstanding.as_ref().map(|one| one.number), Some(2));
    }

    #[test]
    fn the_clock_stands_still_while_the_master_is_away_and_begins_anew_with_an_answer() {
        let mut requests = asked(Request::AddFiles(Vec::new()));
        assert!(!run(&mut requests, 500_000));
        requests.ready(Time(500_000), false, AT);
        assert!(!run(&mut requests, 50_000_000));
        requests.ready(Time(50_000_000), true, AT);
        assert!(!run(&mut requests, 50_090_000));
        requests.not_delivered(Time(50_090_000), false);
        requests.ready(Time(60_000_000), true, AT);
        assert!(!run(&mut requests, 60_009_000));
        assert!(run(&mut requests, 60_011_000));

        let mut requests = asked(Request::AddFiles(Vec::new()));
        assert!(!run(&mut requests, 500_000));
        requests.answered(Time(500_000), 1, Answer::StaleNumber { last: 7 });
        requests.difference(Time(500_000), Some(Request::AddFiles(Vec::new())));
        assert!(!run(&mut requests, 1_099_000));
    }

    #[test]
    fn a_last_number_that_is_the_last_of_all_ends_nothing() {
        let mut requests = asked(Request::RemoveFile(Vec::new()));
        requests.answered(Time(1), 1, Answer::StaleNumber { last: u64::MAX });
        requests.difference(Time(1), Some(Request::RemoveFile(Vec::new())));
        assert_eq!(requests.outstanding.as_ref().map(|one| one.number), Some(u64::MAX));
    }

    #[test]
    fn a_wish_to_remove_is_never_given_up() {
        let mut requests = asked(Request::RemoveFile(Vec::new()));
        assert!(!run(&mut requests, 100_000_000));
        assert!(requests.outstanding.is_some());
    }
}
