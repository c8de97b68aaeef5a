//! Tries pairs, several at a time but no client twice, once or many times, and makes a table of it.

use crate::group::Group;
use crate::kinds::Expected;
use crate::node::Node;
use crate::table::{maybe, say, show};
use crate::transfer::{Seen, Transfer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of every file: some are still to be asked for when the straight way is there.
const FILE: usize = 8 << 20;
/// Pairs at a time, if nothing else is said.
const AT_ONCE: usize = 4;

/// Two clients, and what is expected of them.
pub(crate) struct Pair {
    pub(crate) owner: String,
    pub(crate) asker: String,
    pub(crate) names: [&'static str; 2],
    pub(crate) expected: Expected,
}

impl Pair {
    pub(crate) fn name(&self) -> String {
        self.names.join(" × ")
    }
}

/// What a variable says, if it says something that makes sense.
pub(crate) fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// How often each pair is tried.
pub(crate) fn runs() -> usize {
    setting("BAILIWICK_LAB_RUNS").unwrap_or(1)
}

/// Whether something of this name is to be tried.
pub(crate) fn is_chosen(name: &str) -> bool {
    setting::<String>("BAILIWICK_LAB_ONLY").is_none_or(|only| name.contains(&only))
}

/// Tries all pairs so often, then prints the table; fails if one was not as expected.
pub(crate) fn try_all(group: &Group, pairs: &[Pair], mut nodes: BTreeMap<String, Node>, runs: usize) {
    let owners: BTreeSet<&String> = pairs.iter().map(|pair| &pair.owner).collect();
    let films: BTreeMap<&String, PathBuf> =
        owners.iter().map(|owner| (*owner, group.share(&nodes[*owner], owner, FILE))).collect();
    let mut seen: Vec<Vec<Seen>> = pairs.iter().map(|_| Vec::new()).collect();
    for run in 0..runs {
        if run > 0 {
            let askers: BTreeSet<&String> = pairs.iter().map(|pair| &pair.asker).collect();
            for asker in askers {
                if let Some(node) = nodes.remove(asker) {
                    // Nothing of the run before is left to it.
                    nodes.insert(asker.clone(), node.restarted("client"));
                }
            }
        }
        // What is measured is two devices that run, not how a router takes its time to map a port to one that starts.
        std::thread::scope(|scope| {
            nodes.values().for_each(|node| {
                scope.spawn(|| node.talk(|talk| talk.until_settled(&node.name)));
            });
        });
        let tried = side_by_side(pairs, |pair| {
            let dest = group.folder(&format!("got/{}-{}-{run}", pair.owner, pair.asker));
            let transfer = Transfer::begin(&nodes[&pair.asker], &pair.owner, &films[&pair.owner], dest);
            transfer.way(transfer.watch(|_, _| {}))
        });
        for (all, one) in seen.iter_mut().zip(tried) {
            all.push(one);
        }
        say(&format!("run {} of {runs} is over", run + 1));
    }
    tell(pairs, &seen);
}

/// Does something for every pair: several at a time, none that shares a client with one under way.
fn side_by_side(pairs: &[Pair], work: impl Fn(&Pair) -> Seen + Sync) -> Vec<Seen> {
    struct Board {
        waiting: Vec<usize>,
        busy: BTreeSet<String>,
        seen: BTreeMap<usize, Seen>,
    }
    let board = Board { waiting: (0..pairs.len()).collect(), busy: BTreeSet::new(), seen: BTreeMap::new() };
    let (board, freed) = (Mutex::new(board), Condvar::new());
    let worker = || {
        let mut held = board.lock().unwrap_or_else(PoisonError::into_inner);
        while !held.waiting.is_empty() {
            let is_free = |pair: &Pair| ![&pair.owner, &pair.asker].iter().any(|end| held.busy.contains(*end));
            let Some(at) = held.waiting.iter().position(|index| is_free(&pairs[*index])) else {
                held = freed.wait(held).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let index = held.waiting.remove(at);
            let pair = &pairs[index];
            held.busy.extend([pair.owner.clone(), pair.asker.clone()]);
            drop(held);
            let seen = work(pair);
            held = board.lock().unwrap_or_else(PoisonError::into_inner);
            held.busy.remove(&pair.owner);
            held.busy.remove(&pair.asker);
            held.seen.insert(index, seen);
            freed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..setting("BAILIWICK_LAB_AT_ONCE").unwrap_or(AT_ONCE) {
            scope.spawn(worker);
        }
    });
    board.into_inner().unwrap_or_else(PoisonError::into_inner).seen.into_values().collect()
}

fn tell(pairs: &[Pair], seen: &[Vec<Seen>]) {
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for (pair, seen) in pairs.iter().zip(seen) {
        let direct: Vec<Duration> = seen.iter().filter_map(|one| one.direct).collect();
        let as_expected = match pair.expected {
            Expected::Direct => direct.len() == seen.len(),
            Expected::Relayed => direct.is_empty(),
        };
        let reasons: BTreeSet<&str> = seen.iter().filter_map(|one| one.reason.as_deref()).collect();
        let says_why = seen.iter().all(|one| one.direct.is_some() || one.reason.is_some());
        if !as_expected || !says_why {
            wrong.push(pair.name());
        }
        let way = match (direct.len(), seen.len()) {
            (0, _) => "relayed".to_owned(),
            (1, 1) => "direct".to_owned(),
            (some, all) => format!("direct {some}/{all}"),
        };
        let first = middle(seen.iter().filter_map(|one| one.first()).collect());
        let mut row = pair.names.map(str::to_owned).to_vec();
        let carried = middle(seen.iter().filter_map(|one| one.carried).collect());
        let times = [first, middle(direct.clone()), direct.into_iter().max(), carried].map(maybe);
        row.push(way);
        row.extend(times);
        row.push(reasons.into_iter().collect::<Vec<_>>().join("; "));
        rows.push(row);
    }
    let head = [
        "owner's NAT",
        "asker's NAT",
        "way",
        "first byte",
        "direct after",
        "at most",
        "bytes by it",
        "why it is relayed",
    ];
    show(&head, &rows);
    assert!(wrong.is_empty(), "not as expected: {wrong:?}");
}

/// The median.
fn middle(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}
