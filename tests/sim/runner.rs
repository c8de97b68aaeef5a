//! Runs random worlds: so many, or for so long, on all cores; says which seeds failed, with what happened before.
//!
//! | variable | what it sets |
//! |---|---|
//! | `BAILIWICK_SIM_SEEDS` | how many worlds |
//! | `BAILIWICK_SIM_FIRST` | the first seed |
//! | `BAILIWICK_SIM_FOR` | for how long instead: `90s`, `30m`, `8h` |
//! | `BAILIWICK_SIM_THREADS` | how many at once; one for each core if it is not set |
//! | `BAILIWICK_SIM_GO_ON` | `1`: after a failure, too |
//! | `BAILIWICK_SIM_TRACE` | `1`: print all events of a world that failed rather than the last ones |

use crate::random;
use crate::world::{Coverage, Violation};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Worlds that the test runs if nothing else is said.
const SEEDS: u64 = 100;
/// A word about how far it is comes this often.
const WORD_EVERY: Duration = Duration::from_secs(30);

/// What is to be run.
struct Plan {
    first: u64,
    seeds: u64,
    until: Option<Instant>,
    threads: usize,
    go_on: bool,
}

/// What was run.
#[derive(Default)]
pub(crate) struct Summary {
    /// Worlds that were run to their end, or to their violation.
    pub(crate) worlds: u64,
    /// Seeds that failed.
    pub(crate) failed: Vec<u64>,
    /// What the faults hit.
    pub(crate) coverage: Coverage,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    variable(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    Some(Duration::from_secs(digits.parse::<u64>().ok()? * seconds))
}

impl Plan {
    fn from_environment() -> Plan {
        let time = variable("BAILIWICK_SIM_FOR").map(|text| {
            duration(&text).unwrap_or_else(|| panic!("BAILIWICK_SIM_FOR={text}: give a number and s, m or h"))
        });
        let seeds = if time.is_some() { u64::MAX } else { SEEDS };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Plan {
            first: number("BAILIWICK_SIM_FIRST", 0),
            seeds: number("BAILIWICK_SIM_SEEDS", seeds),
            until: time.map(|time| Instant::now() + time),
            threads: number("BAILIWICK_SIM_THREADS", cores as u64) as usize,
            go_on: number("BAILIWICK_SIM_GO_ON", 0) == 1,
        }
    }
}

/// Runs worlds as the environment says.
pub(crate) fn run() -> Summary {
    let plan = Plan::from_environment();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    let (began, last_word) = (Instant::now(), Mutex::new(Instant::now()));
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let offset = next.fetch_add(1, Ordering::Relaxed);
                    let over = plan.until.is_some_and(|until| Instant::now() >= until);
                    if over || offset >= plan.seeds || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = plan.first + offset;
                    let ran = one(seed);
                    let mut summary = summary.lock().expect("no world panics here");
                    summary.worlds += 1;
                    match ran {
                        Ok(coverage) => summary.coverage.add(&coverage),
                        Err(why) => {
                            say(&why);
                            summary.failed.push(seed);
                            stop.store(!plan.go_on, Ordering::Relaxed);
                        }
                    }
                    let mut last = last_word.lock().expect("no world panics here");
                    if last.elapsed() >= WORD_EVERY {
                        *last = Instant::now();
                        say(&format!(
                            "{} worlds in {:.0} s, seeds {} to {seed}, {} failed",
                            summary.worlds,
                            began.elapsed().as_secs_f64(),
                            plan.first,
                            summary.failed.len()
                        ));
                    }
                }
            });
        }
    });
    let summary = summary.into_inner().expect("no world panics here");
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("{} worlds from seed {} in {seconds:.1} s; failed: {:?}", summary.worlds, plan.first, summary.failed));
    say(&summary.coverage.to_string());
    summary
}

fn one(seed: u64) -> Result<Coverage, String> {
    crate::world::hunting(true);
    let ran = catch_unwind(AssertUnwindSafe(|| random::run(seed)));
    crate::world::hunting(false);
    ran.map(|ran| ran.coverage).map_err(|payload| match payload.downcast::<Violation>() {
        Ok(violation) => violation.0,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            format!("seed={seed}: panicked: {text}")
        }
    })
}

#[allow(clippy::print_stderr)]
fn say(what: &str) {
    eprintln!("{what}");
}

#[test]
fn durations_are_read() {
    assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
    assert_eq!(duration("30m"), Some(Duration::from_secs(1_800)));
    assert_eq!(duration("8h"), Some(Duration::from_secs(28_800)));
    assert_eq!(duration("8"), None);
    assert_eq!(duration(""), None);
}
