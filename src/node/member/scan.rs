//! Live shares (W21): when a share is looked at, what of it is new or changed, and what of it is gone.
//!
//! A scan's numbers of the rows that it saw are one bit a row, in memory: a scan that finds nothing new writes nothing.

use super::core::{Cx, MemberCore};
use super::io::{Output, ScanId, ScanOrder, ScanReport, Sighting};
use crate::state::guard::{Looked, Root, judge};
use crate::state::random::draw;
use crate::state::time::Time;
use crate::store::exclude::Exclusions;
use crate::store::member::{DbError, LocalStatus, ScanNote, ShareSum, Sighted};
use crate::wire::ids::ContentId;
use crate::wire::log::FileKind;
use crate::wire::path::RelPath;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When shares are looked at.
#[derive(Debug, Clone, Copy)]
pub struct ScanConfig {
    /// How long after a scan's end the next one begins.
    pub pause: Duration,
    /// The pause is at least so many times as long as the walk took: 30 means about 3 % of the time.
    pub rest: u32,
    /// How soon after a scan's end another one begins because a file could not be sent.
    pub hint_pause: Duration,
    /// A changed file that somebody waits for is looked at no more often than this.
    pub look_pause: Duration,
}

impl Default for ScanConfig {
    fn default() -> ScanConfig {
        ScanConfig {
            pause: Duration::from_secs(60),
            rest: 30,
            hint_pause: Duration::from_secs(5),
            look_pause: Duration::from_secs(1),
        }
    }
}

/// Rows that a scan did not see and that are looked at one by one.
const LOST_BATCH: usize = 1_024;

/// What a person wants of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ask {
    /// Somebody waits for its end.
    pub(super) waited_for: bool,
    /// What is missing is gone, however much it is.
    pub(super) confirmed: bool,
}

/// The rows that a scan saw, by their numbers.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn insert(&mut self, row: i64) {
        let Ok(row) = usize::try_from(row) else { return };
        if self.0.len() <= row / 64 {
            self.0.resize(row / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    fn contains(&self, row: i64) -> bool {
        usize::try_from(row).is_ok_and(|row| self.0.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1))
    }
}

/// A scan under way.
struct Scanning {
    share: PathBuf,
    order: ScanOrder,
    began: Time,
    seen: Seen,
    /// Whether there were places that could not be looked at.
    blind: bool,
    ask: Ask,
    /// What came while it was under way is for another one after it.
    again: Option<Ask>,
    news: bool,
}

/// All scans, and when the next ones are due.
#[derive(Default)]
pub(super) struct Scans {
    running: HashMap<ScanId, Scanning>,
    due: HashMap<PathBuf, Time>,
    /// When scans that changed nothing ended, in milliseconds since 1970.
    ended: HashMap<PathBuf, i64>,
    /// Changed files that were looked at lately, and when they may be again.
    looked: HashMap<RelPath, Time>,
    /// Files whose content was not what their size and time promised: they are hashed whatever those say.
    doubted: HashSet<RelPath>,
}

impl Scans {
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.due.values().min().copied()
    }

    pub(super) fn share_of(&self, scan: ScanId) -> Option<PathBuf> {
        self.running.get(&scan).map(|running| running.share.clone())
    }

    pub(super) fn is_copy(&self, scan: ScanId) -> bool {
        self.running.get(&scan).is_some_and(|running| running.order.copy)
    }

    pub(super) fn saw(&mut self, scan: ScanId, row: i64) {
        if let Some(running) = self.running.get_mut(&scan) {
            running.seen.insert(row);
        }
    }

    pub(super) fn has_news(&mut self, scan: ScanId) {
        if let Some(running) = self.running.get_mut(&scan) {
            running.news = true;
        }
    }

    /// When a share's last scan ended, if that was not worth writing down.
    pub(super) fn ended(&self, share: &Path) -> Option<i64> {
        self.ended.get(share).copied()
    }

    /// A share is no more. Gives its scans that are under way.
    pub(super) fn forget(&mut self, share: &Path) -> Vec<ScanId> {
        self.due.remove(share);
        self.ended.remove(share);
        let of: Vec<ScanId> =
            self.running.iter().filter(|(_, running)| running.share == share).map(|(id, _)| *id).collect();
        of.iter().for_each(|id| drop(self.running.remove(id)));
        of
    }

    fn whole_scan_of(&mut self, share: &Path) -> Option<&mut Scanning> {
        self.running.values_mut().find(|running| running.share == share && !running.order.is_one_file())
    }

    fn is_looking_at(&self, rel: &RelPath) -> bool {
        self.running.values().any(|running| running.order.name == *rel)
    }
}

impl MemberCore {
    /// At start every share is looked at again. A copy is a copy: it is looked at only if its making was cut short.
    pub(super) fn scan_all(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        for share in self.store.shares()? {
            if !share.ending && (!share.copy || share.scanning) {
                self.ask_scan(cx, &share.path, Ask { waited_for: share.scanning, confirmed: false })?;
            }
        }
        Ok(())
    }

    /// Looks at a share now; if that is under way, once more after it.
    pub(super) fn ask_scan(&mut self, cx: &mut Cx<'_>, share: &Path, ask: Ask) -> Result<(), DbError> {
        if let Some(running) = self.scans.whole_scan_of(share) {
            let again = running.again.get_or_insert_default();
            again.waited_for |= ask.waited_for;
            again.confirmed |= ask.confirmed;
            return Ok(());
        }
        if self.wishes.is_leaving() {
            return Ok(());
        }
        let Some(sum) = self.store.share(share)?.filter(|sum| !sum.ending) else { return Ok(()) };
        let Some(name) = self.store.share_name(share)? else { return Ok(()) };
        let order = ScanOrder { path: share.to_owned(), name, exclude: sum.exclude, copy: sum.copy };
        self.scans.due.remove(share);
        self.begin_scan(cx, share, order, ask);
        Ok(())
    }

    fn begin_scan(&mut self, cx: &mut Cx<'_>, share: &Path, order: ScanOrder, ask: Ask) {
        let id = u64::from_le_bytes(draw(cx.random));
        self.outputs.push(Output::Scan(id, Box::new(order.clone())));
        let began = cx.now;
        let seen = Seen::default();
        let scanning =
            Scanning { share: share.to_owned(), order, began, seen, blind: false, ask, again: None, news: false };
        self.scans.running.insert(id, scanning);
    }

    pub(super) fn tick_scans(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        let now = cx.now;
        let due: Vec<PathBuf> =
            self.scans.due.iter().filter(|(_, at)| **at <= now).map(|(share, _)| share.clone()).collect();
        for share in due {
            self.scans.due.remove(&share);
            self.ask_scan(cx, &share, Ask::default())?;
        }
        Ok(())
    }

    /// A file was found changed while it was to be sent: somebody waits for its new version.
    pub(super) fn look_at_content(&mut self, cx: &mut Cx<'_>, content: &ContentId) -> Result<(), DbError> {
        let Some(file) = self.store.local_content(content)? else { return Ok(()) };
        let Some(share) = self.store.share_of_content(content)? else { return Ok(()) };
        self.scans.doubted.insert(file.meta.path.clone());
        let now = cx.now;
        self.scans.looked.retain(|_, again| *again > now);
        let order = ScanOrder { path: file.abs, name: file.meta.path, exclude: Vec::new(), copy: false };
        if !order.is_one_file() {
            return self.scan_soon(cx, &share);
        }
        if !self.scans.looked.contains_key(&order.name) && !self.scans.is_looking_at(&order.name) {
            self.begin_scan(cx, &share, order, Ask::default());
        }
        Ok(())
    }

    /// A file could not be read while it was to be sent: what has become of it is for a whole scan to say.
    pub(super) fn scan_of_content(&mut self, cx: &mut Cx<'_>, content: &ContentId) -> Result<(), DbError> {
        match self.store.share_of_content(content)? {
            Some(share) => self.scan_soon(cx, &share),
            None => Ok(()),
        }
    }

    fn scan_soon(&mut self, cx: &mut Cx<'_>, share: &Path) -> Result<(), DbError> {
        if self.store.share(share)?.is_none_or(|sum| sum.copy) {
            return Ok(());
        }
        let soon = cx.now.after(self.config.scan.hint_pause);
        if self.scans.whole_scan_of(share).is_none() {
            let due = self.scans.due.entry(share.to_owned()).or_insert(soon);
            *due = soon.min(*due);
        }
        Ok(())
    }

    /// A scan saw files: those that are new or changed are to be hashed.
    pub(super) fn sighted(
        &mut self,
        cx: &mut Cx<'_>,
        scan: ScanId,
        files: &[Sighting],
        unreadable: &[RelPath],
    ) -> Result<(), DbError> {
        let Some(mut running) = self.scans.running.remove(&scan) else {
            self.outputs.push(Output::EndScan(scan));
            return Ok(());
        };
        running.blind |= !unreadable.is_empty();
        for path in unreadable {
            self.store.rows_below(path)?.into_iter().for_each(|row| running.seen.insert(row));
        }
        let mut wanted = Vec::new();
        for (place, file) in (0u32..).zip(files) {
            if self.is_news(&mut running, file)? {
                wanted.push(place);
            }
        }
        let news = running.news;
        self.scans.running.insert(scan, running);
        self.outputs.push(Output::Hash(scan, wanted));
        if news { self.wishes_changed(cx) } else { Ok(()) }
    }

    /// Whether a file must be hashed.
    fn is_news(&mut self, running: &mut Scanning, file: &Sighting) -> Result<bool, DbError> {
        let known = self.store.sighted(&file.rel)?;
        if file.rel == running.order.name && file.kind == FileKind::Folder && known.is_none() {
            // An empty share is listed as an empty folder. If there were files in it, what became of them comes first.
            return Ok(self.store.live_count(&running.share)? == 0);
        }
        let Some(known) = known else { return Ok(!self.store.is_kept_out(&file.rel)?) };
        running.seen.insert(known.row);
        let same = is_same(&known, file, running.order.copy) && !self.scans.doubted.remove(&file.rel);
        match known.status {
            LocalStatus::Unlisted | LocalStatus::Leaving => Ok(false),
            LocalStatus::Gone if same => {
                self.store.came_back(&known.id)?;
                running.news = true;
                Ok(false)
            }
            LocalStatus::Syncing
            | LocalStatus::Idle
            | LocalStatus::Refused
            | LocalStatus::Gone
            | LocalStatus::Returning => Ok(!same),
        }
    }

    pub(super) fn scan_ended(&mut self, cx: &mut Cx<'_>, scan: ScanId, report: &ScanReport) -> Result<(), DbError> {
        let Some(running) = self.scans.running.remove(&scan) else { return Ok(()) };
        let share = running.share.clone();
        if running.order.is_one_file() {
            let took = cx.now.since(running.began);
            let again = self.config.scan.look_pause.max(took.saturating_mul(self.config.scan.rest));
            self.scans.looked.insert(running.order.name.clone(), cx.now.after(again));
            let lost = report.failed > 0 || !matches!(report.root, Root::There { .. });
            return if lost { self.scan_soon(cx, &share) } else { Ok(()) };
        }
        let Some(sum) = self.store.share(&share)? else { return Ok(()) };
        let note = self.judge_scan(cx, &running, &sum, report)?;
        let pause = self.config.scan.pause.max(report.walked.saturating_mul(self.config.scan.rest));
        if !sum.copy && !sum.ending {
            self.scans.due.insert(share.clone(), cx.now.after(pause));
        }
        self.note_scan(&running, &sum, note)?;
        if let Some(ask) = running.again {
            self.ask_scan(cx, &share, ask)?;
        }
        self.wishes_changed(cx)
    }

    /// What is gone, if what was not seen may be taken for gone.
    fn judge_scan(
        &mut self,
        cx: &Cx<'_>,
        running: &Scanning,
        sum: &ShareSum,
        report: &ScanReport,
    ) -> Result<ScanNote, DbError> {
        let name = &running.order.name;
        let single = self.store.sighted(name)?.is_some_and(|known| known.kind == FileKind::File);
        self.note_lost(running)?;
        // Where something could not be looked at, only what was known and not seen elsewhere counts.
        let me = self.me.filter(|_| !running.blind && report.failed == 0 && !sum.ending);
        let gone = self.store.lost(me.as_ref(), &running.share, name)?;
        let device = sum.last.as_ref().and_then(|last| last.device);
        let looked =
            Looked { root: report.root, device, single, live: gone.live, lost: gone.lost, vanished: gone.vanished };
        let judged = if running.ask.confirmed { Ok(()) } else { judge(&looked) };
        match &judged {
            Ok(()) if gone.lost > 0 => self.store.remove_lost(me.as_ref(), name)?,
            Ok(()) | Err(_) => self.store.forget_lost()?,
        }
        let device_now = match report.root {
            Root::There { device, .. } => Some(device),
            Root::Missing(_) | Root::Unreadable => None,
        };
        Ok(ScanNote {
            at_ms: cx.wall_ms as i64,
            skipped: report.told.clone(),
            skipped_count: report.skipped_count,
            failed: report.failed,
            device: device_now.filter(|_| judged.is_ok()),
            guard: judged.err().map(|guard| guard.to_string()),
            missing: if judged.is_err() { gone.lost } else { 0 },
        })
    }

    /// Notes the rows that were not seen. Those that are excluded by now go without a question.
    fn note_lost(&mut self, running: &Scanning) -> Result<(), DbError> {
        let exclusions = Exclusions::parse(&running.order.exclude).unwrap_or_default();
        let mut lost = Vec::new();
        self.store.forget_lost()?;
        self.store.live_rows(&running.share, |row| {
            if !running.seen.contains(row) {
                lost.push(row);
            }
        })?;
        for rows in lost.chunks(LOST_BATCH) {
            let (mut excluded, mut missing) = (Vec::new(), Vec::new());
            for row in rows {
                let is_excluded = self.store.path_of_row(*row)?.is_some_and(|path| exclusions.excludes(&path));
                if is_excluded { excluded.push(*row) } else { missing.push(*row) }
            }
            self.store.exclude_rows(&excluded)?;
            self.store.note_lost(&missing)?;
        }
        Ok(())
    }

    /// Writes down what a scan came to, if it is news: a disk that may sleep is not woken each minute to say "as before".
    fn note_scan(&mut self, running: &Scanning, before: &ShareSum, note: ScanNote) -> Result<(), DbError> {
        let kept = before.last.as_ref().map(|last| ScanNote {
            at_ms: note.at_ms,
            device: note.device.and(last.device),
            ..last.clone()
        });
        let done = !running.again.is_some_and(|again| again.waited_for);
        self.scans.ended.insert(running.share.clone(), note.at_ms);
        if kept.as_ref() == Some(&note) && !before.scanning && !running.news && before.timed_out == 0 {
            return Ok(());
        }
        self.store.scan_ended(&running.share, &note, done)?;
        let detail = vec![
            ("path", running.share.display().to_string()),
            ("skipped", note.skipped_count.to_string()),
            ("missing", note.missing.to_string()),
        ];
        self.event("share_scanned", detail);
        Ok(())
    }
}

/// A copy has the size and the time of what it was made of, and a place of its own.
fn is_same(known: &Sighted, file: &Sighting, copy: bool) -> bool {
    let stamp = match copy {
        true => (known.stamp.size, known.stamp.mtime_ns) == (file.stamp.size, file.stamp.mtime_ns),
        false => known.stamp == file.stamp,
    };
    // The size and the number of a folder mean nothing.
    let folder = known.kind == FileKind::Folder && known.stamp.mtime_ns == file.stamp.mtime_ns;
    known.kind == file.kind && known.executable == file.executable && (stamp || folder)
}
