//! What is under way, on stderr: a line that moves on a terminal, else a plain line every few seconds.

use super::output::{Output, clean};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line is printed: often enough to see that it moves, seldom enough for a log.
const PLAIN_INTERVAL: Duration = Duration::from_secs(3);
/// How often the line on a terminal is drawn, a second.
const DRAWN_PER_SECOND: u8 = 8;

/// One line of progress.
pub(super) struct Progress {
    output: Output,
    /// On a terminal.
    bar: Option<ProgressBar>,
    /// When the last plain line was printed, and what it said.
    last: Option<(Instant, String)>,
}

impl Progress {
    /// Progress of something whose length isn't known.
    pub(super) fn new(output: Output) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
            ProgressBar::with_draw_target(None, target).with_style(style("{wide_msg}"))
        });
        Progress { output, bar, last: None }
    }

    /// Shows where things are.
    pub(super) fn say(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(clean(text).into_owned()),
            None => self.say_plainly(text),
        }
    }

    /// Shows where things are, with a bar that is filled to `done` of `total`.
    pub(super) fn fill(&mut self, done: u64, total: u64, text: &str) {
        match &self.bar {
            Some(bar) => {
                if bar.length() != Some(total) {
                    bar.set_style(style("{percent:>3}% [{bar:24}] {wide_msg}"));
                    bar.set_length(total);
                }
                bar.set_position(done);
                bar.set_message(clean(text).into_owned());
            }
            None => {
                let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(0);
                self.say_plainly(&format!("{percent}% {text}"));
            }
        }
    }

    /// Says something that stays, above the line.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(text)),
            None => self.output.note(text),
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The first line comes after an interval too: what is short needs none.
    fn say_plainly(&mut self, text: &str) {
        let (at, said) = self.last.get_or_insert_with(|| (Instant::now(), String::new()));
        if at.elapsed() >= PLAIN_INTERVAL && *said != text {
            self.output.note(text);
            self.last = Some((Instant::now(), text.to_owned()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
