//! Walking and hashing a share. Blocks, and runs on the pool. What it sees goes to the core in batches, which answers
//! what of it is new or changed; so neither side ever holds a whole share.

use crate::node::clock::SystemRandom;
use crate::node::member::io::{Input, ScanId, ScanOrder, ScanReport, Sighting};
use crate::state::guard::Root;
use crate::state::random::draw;
use crate::store::copies::Copies;
use crate::store::exclude::Exclusions;
use crate::store::member::Staged;
use crate::store::read::{ReadError, hash_file};
use crate::store::walk::{Found, Kind, Skipped, Step, Walk, Why, shown};
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::{ContentId, FileId, Hash};
use crate::wire::log::{FileKind, FileMeta};
use crate::wire::path::RelPath;
use rustix::fs::{Access, access};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Files of one batch that the core compares with what it knows.
const SIGHTED_FILES: usize = 1_024;
/// Hashed files of one batch, at most.
const STAGED_FILES: usize = 256;
/// Skipped things that are told in words; the rest is counted.
const SKIPPED_TOLD: usize = 20;

/// A share, or one file of it, to look at.
pub(super) struct Scan {
    pub(super) id: ScanId,
    pub(super) order: ScanOrder,
    pub(super) state_dir: PathBuf,
    /// Which files of the last batch are to be hashed; ends when the core wants no more.
    pub(super) answers: mpsc::Receiver<Vec<u32>>,
    pub(super) core: mpsc::Sender<Input>,
    /// Time spent on waiting and hashing.
    pub(super) aside: Duration,
}

#[derive(Default)]
struct Batch {
    found: Vec<Found>,
    unreadable: Vec<RelPath>,
}

/// The core is gone, or wants no more of this scan.
struct Over;

/// Looks at a share, to its end or as long as the core wants.
pub(super) fn scan(mut scan: Scan) {
    let mut report = ScanReport { root: root_of(&scan.order.path), ..ScanReport::default() };
    if scan.walk(&mut report).is_ok() {
        let _ = scan.core.blocking_send(Input::ScanEnded(scan.id, Box::new(report)));
    }
}

impl Scan {
    fn walk(&mut self, report: &mut ScanReport) -> Result<(), Over> {
        let began = Instant::now();
        let order = self.order.clone();
        let exclusions = Exclusions::parse(&order.exclude).unwrap_or_default();
        let mut walk = Walk::new(&order.path, &order.name, &self.state_dir).excluding(exclusions);
        let mut batch = Batch::default();
        for step in walk.by_ref() {
            match step {
                Step::Found(found) => match readable(&found) {
                    Ok(()) => batch.found.push(found),
                    Err(why) => {
                        report.fail(format!("{}: {why}", found.rel));
                        batch.unreadable.push(found.rel);
                    }
                },
                Step::Skipped(Skipped { path, rel, why: why @ Why::Unreadable(_) }) => {
                    let missing_root = matches!(report.root, Root::Missing(_));
                    if !missing_root {
                        report.fail(format!("{path}: {why}"));
                        batch.unreadable.extend(rel);
                    }
                }
                Step::Skipped(Skipped { path, why, .. }) => report.skip(format!("{path}: {why}")),
            }
            if batch.found.len() + batch.unreadable.len() >= SIGHTED_FILES {
                self.compare(std::mem::take(&mut batch), report)?;
            }
        }
        let leftovers = walk.leftovers();
        self.compare(batch, report)?;
        if leftovers > 0 {
            let files = if leftovers == 1 {
                "1 unfinished download".to_owned()
            } else {
                format!("{leftovers} unfinished downloads")
            };
            report.told.push(format!("{files} (.bwpart): never shared"));
            report.skipped_count += leftovers;
        }
        report.walked = began.elapsed().saturating_sub(self.aside);
        Ok(())
    }

    /// Asks the core what of a batch is new or changed, and hashes that.
    fn compare(&mut self, batch: Batch, report: &mut ScanReport) -> Result<(), Over> {
        let Batch { found, unreadable } = batch;
        if let Some(root) = found.first().filter(|one| one.rel == self.order.name && one.kind == Kind::EmptyFolder) {
            report.root = Root::There { device: root.stamp.device, empty: true };
        }
        if found.is_empty() && unreadable.is_empty() {
            return Ok(());
        }
        let aside = Instant::now();
        let compared = self.hash_news(found, unreadable, report);
        self.aside += aside.elapsed();
        compared
    }

    fn hash_news(&mut self, found: Vec<Found>, unreadable: Vec<RelPath>, report: &mut ScanReport) -> Result<(), Over> {
        let sightings = found.iter().map(sighting).collect();
        self.core.blocking_send(Input::Sighted(self.id, sightings, unreadable)).map_err(|_| Over)?;
        let wanted = self.answers.blocking_recv().ok_or(Over)?;
        let mut staged = Vec::new();
        for found in wanted.into_iter().filter_map(|index| found.get(index as usize)) {
            match self.stage(found) {
                Ok(one) => staged.push(one),
                Err(why) => report.fail(format!("{}: {why}", found.rel)),
            }
            if staged.len() >= STAGED_FILES {
                self.core.blocking_send(Input::Staged(self.id, std::mem::take(&mut staged))).map_err(|_| Over)?;
            }
        }
        if staged.is_empty() {
            return Ok(());
        }
        self.core.blocking_send(Input::Staged(self.id, staged)).map_err(|_| Over)
    }

    fn stage(&self, found: &Found) -> Result<Staged, String> {
        let content = ContentId::from_random(draw(&mut SystemRandom));
        let abs = match (found.kind, self.order.copy) {
            (Kind::File, true) => {
                let copies = Copies::of(&self.state_dir);
                copies.make(&found.abs, &content).map_err(|error| error.to_string())?
            }
            (Kind::File, false) | (Kind::EmptyFolder, _) => found.abs.clone(),
        };
        let (kind, size, hash, list, stamp) = match found.kind {
            Kind::EmptyFolder => (FileKind::Folder, 0, Hash::of(&[]), Vec::new(), found.stamp),
            Kind::File => {
                let hashed = hash_file(&abs, ChunkSize::for_file(found.stamp.size)).map_err(|error| in_words(&error));
                let (hashed, stamp) = hashed.inspect_err(|_| self.forget(&abs))?;
                (FileKind::File, hashed.size, hashed.hash, hashed.list, stamp)
            }
        };
        let chunk = ChunkSize::for_file(if kind == FileKind::File { found.stamp.size } else { 0 });
        let meta = FileMeta {
            id: FileId::from_random(draw(&mut SystemRandom)),
            content,
            path: found.rel.clone(),
            kind,
            size,
            hash,
            chunk,
            mtime_ms: stamp.mtime_ms(),
            executable: found.executable,
        };
        Ok(Staged { meta, abs, stamp, list })
    }

    fn forget(&self, copy: &Path) {
        Copies::of(&self.state_dir).remove(&[copy.to_owned()]);
    }
}

fn in_words(error: &ReadError) -> String {
    match error {
        ReadError::Changed => "it changes while it is read; the next scan looks again".to_owned(),
        other => other.to_string(),
    }
}

fn sighting(found: &Found) -> Sighting {
    let kind = match found.kind {
        Kind::File => FileKind::File,
        Kind::EmptyFolder => FileKind::Folder,
    };
    Sighting { rel: found.rel.clone(), stamp: found.stamp, kind, executable: found.executable }
}

/// A file that this user may not read any more keeps its stamp; who asks for it must be told why it does not come.
fn readable(found: &Found) -> Result<(), ReadError> {
    match found.kind {
        Kind::EmptyFolder => Ok(()),
        Kind::File => match access(&found.abs, Access::READ_OK) {
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Err(ReadError::Denied),
            Ok(()) | Err(_) => Ok(()),
        },
    }
}

fn root_of(path: &Path) -> Root {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Root::There { device: meta.dev(), empty: false },
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            let above = path.parent().and_then(|above| std::fs::metadata(above).ok());
            Root::Missing(above.map(|above| above.dev()))
        }
        Err(error) => {
            tracing::info!(path = shown(path), %error, "a share can't be looked at");
            Root::Unreadable
        }
    }
}

impl ScanReport {
    fn skip(&mut self, what: String) {
        self.skipped_count += 1;
        if self.told.len() < SKIPPED_TOLD {
            self.told.push(what);
        }
    }

    /// What could not be read is told before what is only passed over.
    fn fail(&mut self, what: String) {
        self.skipped_count += 1;
        self.failed += 1;
        let at = (self.failed as usize - 1).min(self.told.len());
        self.told.insert(at, what);
        self.told.truncate(SKIPPED_TOLD);
    }
}
