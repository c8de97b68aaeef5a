//! Removal (W11, W12): nothing is removed before the master's entry says so. A client takes out its own files, by a wish
//! that it keeps; the master anybody's, at once.

use super::core::{Cx, MemberCore};
use super::find::{PREFIX_DIGITS_MIN, nothing_at};
use super::opening::failed;
use super::rows::files;
use crate::node::local::{ErrorCode, FILES_PAGE_MAX, FileRow, FileStatus, LocalError, RemovalRow, Reply};
use crate::state::random::draw;
use crate::store::member::{CatalogRow, DbError, Found, LocalStatus};
use crate::wire::ids::{ContentId, FileId, PublicId};
use crate::wire::limits::FILES_PER_REQUEST_MAX;
use crate::wire::path::RelPath;
use std::collections::{BTreeMap, BTreeSet};

/// What a FILE on the command line means.
enum Named {
    /// This device's own, at this path and below it.
    Own(RelPath),
    /// All of this device's own.
    AllOwn,
    /// Others' files.
    Others(Vec<CatalogRow>),
}

impl MemberCore {
    /// Files that a person wants out of the catalog. Answers with their rows; a client's go when the master has answered.
    /// Several files of other devices go only with a person's yes: a short word may mean all that somebody shares.
    pub(super) fn remove(&mut self, cx: &mut Cx<'_>, texts: &[String], yes: bool) -> Result<Reply, LocalError> {
        self.must_not_be_out()?;
        // All are found before anything is decided.
        let named = texts.iter().map(|text| self.named(text)).collect::<Result<Vec<_>, _>>()?;
        if let (false, Some(text)) = (self.is_master(), refused(texts, &named)) {
            return Err(LocalError::new(
                ErrorCode::Refused,
                format!("'{text}' is another device's: a device can remove its own files only"),
                "its owner or the master can remove it",
            ));
        }
        if !yes {
            self.must_be_few_of_others(&named)?;
        }
        let mut rows = Vec::new();
        for named in named {
            match named {
                Named::Own(path) => {
                    rows.extend(self.own_rows(Some(&path)).map_err(failed)?);
                    self.take_out(&path).map_err(failed)?;
                }
                Named::AllOwn => {
                    rows.extend(self.own_rows(None).map_err(failed)?);
                    for name in self.own_roots().map_err(failed)? {
                        self.take_out(&name).map_err(failed)?;
                    }
                }
                Named::Others(files) => {
                    rows.extend(files.iter().map(|row| self.file_row(cx, row)));
                    self.remove_others(cx, files);
                }
            }
        }
        self.wishes_changed(cx).map_err(failed)?;
        self.drain_pen(cx).map_err(failed)?;
        self.tidy_shares().map_err(failed)?;
        rows.truncate(FILES_PAGE_MAX as usize);
        Ok(Reply::Files(rows))
    }

    fn must_be_few_of_others(&self, named: &[Named]) -> Result<(), LocalError> {
        let mut of: BTreeMap<PublicId, BTreeSet<FileId>> = BTreeMap::new();
        for named in named {
            match named {
                Named::Others(rows) => rows.iter().for_each(|row| {
                    of.entry(row.owner).or_default().insert(row.file.id);
                }),
                Named::Own(_) | Named::AllOwn => {}
            }
        }
        if of.values().map(BTreeSet::len).sum::<usize>() <= 1 {
            return Ok(());
        }
        let what = of.iter().map(|(owner, ids)| format!("{} of {}", files(ids.len() as u64), self.owner_name(owner)));
        Err(LocalError::new(
            ErrorCode::Unconfirmed,
            format!("this takes {} out of the catalog", what.collect::<Vec<_>>().join(" and ")),
            "say --yes if it is meant; nothing was changed yet",
        ))
    }

    fn named(&self, text: &str) -> Result<Named, LocalError> {
        let Some((name, path)) = text.split_once(':') else { return self.named_by_prefix(text) };
        let owner = self.find_device(name)?.id;
        let path = path.trim_end_matches('/');
        if self.me != Some(owner) {
            let found = self.find_by_path(text, name, path)?;
            return Ok(Named::Others(
                found.into_iter().map(|one| CatalogRow { owner: one.owner, file: one.file }).collect(),
            ));
        }
        if path.is_empty() {
            return Ok(Named::AllOwn);
        }
        let path = RelPath::parse(path).map_err(|_| nothing_at(text, name))?;
        let is_there = self.store.share_named(&path).map_err(failed)?.is_some()
            || !self.own_rows(Some(&path)).map_err(failed)?.is_empty();
        if is_there { Ok(Named::Own(path)) } else { Err(nothing_at(text, name)) }
    }

    fn named_by_prefix(&self, text: &str) -> Result<Named, LocalError> {
        let digits = text.replace('-', "");
        let is_prefix = digits.len() >= PREFIX_DIGITS_MIN && digits.chars().all(|c| c.is_ascii_hexdigit());
        let found = if is_prefix { self.store.file_by_prefix(&digits).map_err(failed)? } else { Found::None };
        match found {
            Found::One(row) if self.me == Some(row.owner) => Ok(Named::Own(row.file.path)),
            Found::One(row) => Ok(Named::Others(vec![row])),
            Found::Many | Found::None => Err(self.not_one(text, matches!(found, Found::Many))),
        }
    }

    /// This device's rows at a path and below it: those of the catalog, and those that are only staged.
    fn own_rows(&self, path: Option<&RelPath>) -> Result<Vec<FileRow>, DbError> {
        let mut rows: BTreeMap<String, FileRow> = BTreeMap::new();
        let Some(me) = self.me else { return Ok(Vec::new()) };
        let limit = FILES_PAGE_MAX as usize;
        for file in self.store.local_below(path, limit)? {
            if file.status != LocalStatus::Unlisted || file.kept_copy {
                rows.insert(file.meta.path.to_string(), self.local_row(&file));
            }
        }
        for row in self.store.owned_below(&me, path, limit)? {
            let status = FileStatus::Idle;
            rows.entry(row.file.path.to_string()).or_insert_with(|| self.row_of(&me, &row.file, status));
        }
        Ok(rows.into_values().collect())
    }

    /// The first parts of all paths that this device has in the catalog, or shares.
    fn own_roots(&self) -> Result<Vec<RelPath>, DbError> {
        let mut roots = self.store.own_roots(self.me.as_ref())?;
        for share in self.store.shares()? {
            roots.extend(RelPath::parse(&share.name).ok());
        }
        roots.sort();
        roots.dedup();
        Ok(roots)
    }

    fn take_out(&mut self, path: &RelPath) -> Result<(), DbError> {
        let Some(me) = self.me else { return Ok(()) };
        self.store.leave(&me, path)?;
        if let Some(share) = self.store.share_named(path)? {
            let over = self.scans.forget(&share);
            self.outputs.extend(over.into_iter().map(super::io::Output::EndScan));
        }
        Ok(())
    }

    /// W12: the master's own decision about others' files.
    fn remove_others(&mut self, cx: &mut Cx<'_>, files: Vec<CatalogRow>) {
        let mut of: BTreeMap<PublicId, Vec<FileId>> = BTreeMap::new();
        for row in files {
            of.entry(row.owner).or_default().push(row.file.id);
        }
        for (owner, ids) in of {
            for ids in ids.chunks(FILES_PER_REQUEST_MAX) {
                self.with_authority(cx, |authority, moment| authority.remove(moment, &owner, ids.to_vec()));
            }
        }
    }

    /// How much of what a person removed is still in the catalog, and what that waits for.
    pub(super) fn removals(&mut self) -> Result<Reply, LocalError> {
        let left = self.store.leaving_count().map_err(failed)?;
        let reason = if left > 0 { self.waiting() } else { None };
        Ok(Reply::Removals(RemovalRow { left, reason }))
    }

    /// The files that this device wants out of the catalog, as the next request. What is out by now is so noted.
    pub(super) fn unwanted(&mut self, cx: &mut Cx<'_>, me: &PublicId) -> Result<Vec<FileId>, DbError> {
        let generation = self.tip().at.generation;
        loop {
            let leaving = self.store.leaving(FILES_PER_REQUEST_MAX)?;
            let (count, mut wanted_out) = (leaving.len(), Vec::new());
            for leave in leaving {
                let is_in = self.store.file(&leave.id)?.is_some_and(|row| row.owner == *me);
                match (leave.status, is_in) {
                    (Some(LocalStatus::Returning), true) => self.store.returned(&leave.id, None)?,
                    (Some(LocalStatus::Returning), false) => {
                        let anew = (FileId::from_random(draw(cx.random)), ContentId::from_random(draw(cx.random)));
                        self.store.returned(&leave.id, Some(anew))?;
                    }
                    (_, true) => wanted_out.push(leave.id),
                    (_, false) => self.store.left(&leave.id, generation)?,
                }
            }
            if !wanted_out.is_empty() || count < FILES_PER_REQUEST_MAX {
                self.tidy_shares()?;
                return Ok(wanted_out);
            }
        }
    }
}

/// The first FILE that is another device's.
fn refused<'a>(texts: &'a [String], named: &[Named]) -> Option<&'a str> {
    let others = |named: &Named| matches!(named, Named::Others(_));
    named.iter().position(others).and_then(|at| texts.get(at)).map(String::as_str)
}
