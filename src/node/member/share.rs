//! What this device shares (W9, W10, W21): files in place, staged until the catalog has them.

use super::core::{Cx, MemberCore};
use super::io::Output;
use crate::store::member::{DbError, Staged};
use crate::wire::ids::ContentId;
use crate::wire::path::RelPath;
use std::path::Path;

impl MemberCore {
    /// Shares a path. Gives nothing if its name can't be one of the catalog's.
    pub(super) fn add_share(&mut self, path: &Path) -> Result<Option<RelPath>, DbError> {
        let wish = path.file_name().and_then(|name| name.to_str()).and_then(|name| RelPath::parse(name).ok());
        let Some(wish) = wish else { return Ok(None) };
        let name = self.store.put_share(path, &wish)?;
        self.scan(path, name.clone())?;
        Ok(Some(name))
    }

    fn scan(&mut self, path: &Path, name: RelPath) -> Result<(), DbError> {
        if self.wishes.is_leaving() {
            return Ok(());
        }
        let known = self.store.stamps_of(path)?;
        self.outputs.push(Output::Scan(path.to_owned(), name, known));
        Ok(())
    }

    /// At start every share is looked at again.
    pub(super) fn scan_all(&mut self) -> Result<(), DbError> {
        for share in self.store.shares()? {
            if let Some(name) = self.store.share_name(&share.path)? {
                self.scan(&share.path, name)?;
            }
        }
        Ok(())
    }

    /// A file was found changed while it was to be sent: its share is looked at again.
    pub(super) fn scan_of_content(&mut self, content: &ContentId) -> Result<(), DbError> {
        if let Some(share) = self.store.share_of_content(content)?
            && let Some(name) = self.store.share_name(&share)?
        {
            self.scan(&share, name)?;
        }
        Ok(())
    }

    pub(super) fn staged(&mut self, cx: &mut Cx<'_>, share: &Path, files: &[Staged]) -> Result<(), DbError> {
        let mut news = false;
        for file in files {
            news |= self.store.stage(share, file)?;
        }
        if news {
            self.wishes_changed(cx)?;
        }
        Ok(())
    }

    fn wishes_changed(&mut self, cx: &mut Cx<'_>) -> Result<(), DbError> {
        if self.is_master() {
            while self.decide_own(cx)? {}
        } else {
            self.requests.wishes_changed(cx.now);
        }
        Ok(())
    }

    pub(super) fn scan_ended(
        &mut self,
        cx: &mut Cx<'_>,
        share: &Path,
        skipped: &[String],
        count: u64,
    ) -> Result<(), DbError> {
        self.store.scan_ended(share, cx.wall_ms as i64, skipped, count)?;
        self.event("share_scanned", vec![("path", share.display().to_string()), ("skipped", count.to_string())]);
        self.wishes_changed(cx)
    }
}
