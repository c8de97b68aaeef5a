//! What this device shares (W9, W10, W21): files in place or copies of them, staged until the catalog has them.

use super::core::{Cx, MemberCore};
use super::io::{Output, ScanId};
use super::scan::Ask;
use crate::node::local::{ErrorCode, LocalError};
use crate::store::exclude::Exclusions;
use crate::store::member::{DbError, NewShare, Staged};
use crate::wire::ids::ContentId;
use crate::wire::path::RelPath;
use std::path::{Path, PathBuf};

/// What a person says of what is added.
pub(super) struct Adding<'a> {
    /// Whether copies are kept.
    pub(super) copy: bool,
    /// What is left out; as before, if it is empty.
    pub(super) exclude: &'a [String],
}

/// Why a path is not shared.
pub(super) enum NotShared {
    /// The database fails.
    Db(DbError),
    /// A person must do something else.
    No(LocalError),
}

impl From<DbError> for NotShared {
    fn from(error: DbError) -> NotShared {
        NotShared::Db(error)
    }
}

impl MemberCore {
    /// Shares a path, or what of an existing share is there again. Gives the share's path.
    pub(super) fn add_share(
        &mut self,
        cx: &mut Cx<'_>,
        path: &Path,
        adding: &Adding<'_>,
    ) -> Result<PathBuf, NotShared> {
        let wish = path.file_name().and_then(|name| name.to_str()).and_then(|name| RelPath::parse(name).ok());
        let Some(wish) = wish else { return Err(NotShared::No(unnameable(path))) };
        let (share, listed) = match self.share_above(path)? {
            Some((share, rel)) => {
                self.must_not_be_excluded(&share, path, &rel)?;
                (share, rel)
            }
            None => {
                let new = NewShare { wish: &wish, copy: adding.copy, exclude: None };
                let name = self.store.put_share(path, new)?;
                (path.to_owned(), name)
            }
        };
        let sum = self.store.share(&share)?;
        if let Some(sum) = sum.filter(|sum| sum.copy != adding.copy) {
            return Err(NotShared::No(otherwise_shared(&share, sum.copy)));
        }
        let exclude = Some(adding.exclude).filter(|patterns| !patterns.is_empty() && share == path);
        let patterns: Option<Vec<String>> =
            exclude.map(|given| given.iter().filter(|pattern| !pattern.is_empty()).cloned().collect());
        self.store.put_share(&share, NewShare { wish: &wish, copy: adding.copy, exclude: patterns.as_deref() })?;
        self.store.relist(self.me.as_ref(), &listed)?;
        self.ask_scan(cx, &share, Ask { waited_for: true, confirmed: false })?;
        self.wishes_changed(cx)?;
        Ok(share)
    }

    /// What lies in a share and is left out of it can't be added by itself.
    fn must_not_be_excluded(&self, share: &Path, path: &Path, rel: &RelPath) -> Result<(), NotShared> {
        let patterns = self.store.share(share)?.map(|sum| sum.exclude).unwrap_or_default();
        if share == path || !Exclusions::parse(&patterns).is_ok_and(|exclusions| exclusions.excludes(rel)) {
            return Ok(());
        }
        Err(NotShared::No(LocalError::new(
            ErrorCode::Usage,
            format!("{} is left out of the share {}", path.display(), share.display()),
            "'bailiwick shares' shows what is left out; 'bailiwick add SHARE --exclude …' replaces it",
        )))
    }

    /// The share that a path is, or lies in, and what its path in the catalog is.
    pub(super) fn share_above(&self, path: &Path) -> Result<Option<(PathBuf, RelPath)>, DbError> {
        for above in path.ancestors() {
            let Some(name) = self.store.share_name(above)? else { continue };
            let below = path.strip_prefix(above).ok().and_then(|below| below.to_str());
            let rel = below.and_then(|below| match below {
                "" => Some(name.clone()),
                below => name.join(below).ok(),
            });
            return Ok(rel.map(|rel| (above.to_owned(), rel)));
        }
        Ok(None)
    }

    pub(super) fn staged(&mut self, cx: &mut Cx<'_>, scan: ScanId, files: &[Staged]) -> Result<(), DbError> {
        let Some(share) = self.scans.share_of(scan) else { return Ok(()) };
        let (mut news, mut replaced) = (false, Vec::new());
        for file in files {
            let outcome = self.store.stage(&share, file)?;
            news |= outcome.news;
            replaced.extend(outcome.replaced);
            if let Some(row) = self.store.local_row_at(&file.meta.path)? {
                self.scans.saw(scan, row);
            }
        }
        if !replaced.is_empty() && self.scans.is_copy(scan) {
            self.outputs.push(Output::DeleteCopies(replaced));
        }
        if news {
            self.scans.has_news(scan);
            self.wishes_changed(cx)?;
        }
        Ok(())
    }

    pub(super) fn wishes_changed(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        if self.is_master() {
            while self.decide_own(cx)? {}
        } else {
            self.requests.wishes_changed(cx.now);
        }
        Ok(())
    }

    /// W9: the master was there and did not answer. The next scan, or a person, stages the files again.
    pub(super) fn staging_dropped(&mut self) -> Result<(), DbError> {
        let files = self.store.drop_staged()?;
        tracing::warn!(files, "the master is there and does not answer; the files are no longer staged");
        self.event("staging_dropped", vec![("files", files.to_string())]);
        self.tidy_shares()
    }

    /// Copies that nobody has a row of: a process ended between making and staging one, or between an entry and its end.
    pub(super) fn copies_found(&mut self, there: Vec<(ContentId, PathBuf)>) -> Result<(), DbError> {
        let mut lost = Vec::new();
        for (content, path) in there {
            if !self.store.has_local_content(&content)? {
                lost.push(path);
            }
        }
        if !lost.is_empty() {
            self.outputs.push(Output::DeleteCopies(lost));
        }
        Ok(())
    }

    /// The catalog has less of this device's files than before: copies of them go, and shares that a person removed end.
    pub(super) fn tidy_shares(&mut self) -> Result<(), DbError> {
        let copies = self.store.take_dropped_copies()?;
        if !copies.is_empty() {
            self.outputs.push(Output::DeleteCopies(copies));
        }
        for ended in self.store.end_shares()? {
            let over = self.scans.forget(&ended);
            self.outputs.extend(over.into_iter().map(Output::EndScan));
            self.event("share_ended", vec![("path", ended.display().to_string())]);
        }
        Ok(())
    }
}

fn otherwise_shared(share: &Path, copy: bool) -> LocalError {
    let (how, hint) = match copy {
        true => ("as a copy", "add it with --copy again for a new copy, or remove it first"),
        false => ("in place", "it needs no copy; to keep one instead, remove it first"),
    };
    LocalError::new(ErrorCode::Usage, format!("{} is already shared {how}", share.display()), hint)
}

fn unnameable(path: &Path) -> LocalError {
    LocalError::new(
        ErrorCode::Usage,
        format!("the name of {path:?} can't be shown safely or is not Unicode"),
        "rename it: no control characters, no backslash, at most 255 bytes",
    )
}
