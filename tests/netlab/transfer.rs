//! One download, and what is seen of it from outside.

use crate::node::{HANG, Node, Talk};
use bailiwick::node::local::{Command as Ask, JobRow, PathRow, Reply, TransferState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// What was seen. Times count from the question on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// When there was a direct connection, first.
    pub(crate) direct: Option<Duration>,
    /// Each time that more had come and was checked, with how much there was.
    pub(crate) moves: Vec<(Duration, u64)>,
    /// When bytes of the file had come by it.
    pub(crate) carried: Option<Duration>,
    /// Each change of the connection, as it was seen.
    pub(crate) ways: Vec<(Duration, PathRow)>,
    /// Why it is not direct.
    pub(crate) reason: Option<String>,
}

impl Seen {
    /// When the first bytes were there.
    pub(crate) fn first(&self) -> Option<Duration> {
        self.moves.first().map(|(at, _)| *at)
    }

    /// When all was there.
    pub(crate) fn done(&self) -> Duration {
        self.moves.last().map_or(Duration::ZERO, |(at, _)| *at)
    }

    /// The longest time without progress, with when it began: of those that ended after some time.
    pub(crate) fn longest(&self, after: Duration) -> (Duration, Duration) {
        let pauses = self.moves.windows(2).filter(|two| two[1].0 > after).map(|two| (two[1].0 - two[0].0, two[0].0));
        pauses.max().unwrap_or_default()
    }

    /// How long it took from then to the next progress.
    pub(crate) fn next(&self, after: Duration) -> Option<Duration> {
        self.moves.iter().map(|(at, _)| *at).find(|at| *at > after).map(|at| at - after)
    }
}

/// A download that is under way.
pub(crate) struct Transfer<'a> {
    asker: &'a Node,
    owner: String,
    job: u64,
    begun: Instant,
    original: PathBuf,
    copy: PathBuf,
}

impl<'a> Transfer<'a> {
    /// Asks for what [`Group::share`](crate::group::Group::share) shares.
    pub(crate) fn begin(asker: &'a Node, owner: &str, original: &Path, dest: PathBuf) -> Transfer<'a> {
        let name = original.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let file = format!("{owner}:{name}");
        let (begun, job) = asker.talk(|talk| {
            talk.until(&file, |talk| talk.files(&file).into_iter().next());
            // As far as the other device is there: what is measured begins with two that are.
            talk.until(owner, |talk| talk.client(owner).filter(|row| row.online));
            let begun = Instant::now();
            let ask = Ask::Get { files: vec![file.clone()], dest: Some(dest.clone()), conflict: None, way: None };
            let Reply::Jobs(rows) = talk.ask(&ask) else { panic!("no job") };
            (begun, rows.first().expect("a job").job)
        });
        Transfer { asker, owner: owner.to_owned(), job, begun, original: original.to_owned(), copy: dest.join(name) }
    }

    /// How far it is.
    pub(crate) fn row(&self) -> JobRow {
        self.asker.talk(|talk| talk.job(self.job))
    }

    /// Looks on until it is so far.
    pub(crate) fn until(&self, what: &str, mut is_far: impl FnMut(&JobRow, Option<PathRow>) -> bool + Send) -> JobRow {
        self.asker.talk(|talk| {
            talk.until(what, |talk| {
                let row = talk.job(self.job);
                is_far(&row, talk.way(self.job)).then_some(row)
            })
        })
    }

    /// When it was asked for.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Looks on until it has ended, and checks what came. `step` is told how far it is.
    pub(crate) fn watch(&self, mut step: impl FnMut(&JobRow, Option<PathRow>) + Send) -> Seen {
        let seen = self.asker.talk(|talk| {
            let mut seen = Seen::default();
            loop {
                let row = talk.job(self.job);
                let now = self.begun.elapsed();
                let (moved, last) = seen.moves.last().copied().unwrap_or_default();
                if row.received_bytes > last || row.state == TransferState::Done {
                    seen.moves.push((now, row.received_bytes));
                }
                if row.path == Some(PathRow::Direct) {
                    seen.carried.get_or_insert(now);
                }
                let way = talk.way(self.job);
                if let Some(path) = way.filter(|path| seen.ways.last().map(|(_, path)| path) != Some(path)) {
                    seen.ways.push((now, path));
                }
                if row.state == TransferState::Done {
                    return seen;
                }
                assert!(row.state != TransferState::Failed, "{row:?}");
                assert!(now - moved < HANG, "no progress: {row:?}");
                step(&row, way);
                std::thread::sleep(LOOK);
            }
        });
        let [copy, original] = [&self.copy, &self.original].map(|path| std::fs::read(path).expect("the file"));
        assert!(copy == original, "{} differs", self.copy.display());
        let direct = seen.ways.iter().find(|(_, path)| *path == PathRow::Direct).map(|(at, _)| *at);
        Seen { direct, ..seen }
    }

    /// Waits until it is known how the two reach each other.
    pub(crate) fn way(&self, mut seen: Seen) -> Seen {
        let owner = |talk: &Talk| talk.client(&self.owner).expect("the owner");
        let row = self.asker.talk(|talk| {
            talk.until("the way", |talk| {
                let row = owner(talk);
                let told = row.reason.as_deref().is_some_and(|why| why.contains(": "));
                (row.path == Some(PathRow::Direct) || told).then_some(row)
            })
        });
        if row.path == Some(PathRow::Direct) {
            seen.direct.get_or_insert(self.begun.elapsed());
        }
        seen.reason = row.reason.map(|why| why.replacen("relayed by the server: ", "", 1));
        seen
    }
}
