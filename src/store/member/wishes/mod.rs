//! What this device wants in the catalog and out of it, held against what the catalog says.
//!
//! A client keeps what it wants, not what it asked: a wish stands in the row's status until the master's entry grants
//! it, over restarts, restored backups and new generations of the log.

mod unseen;

pub use unseen::Gone;

use super::local::path_of;
use super::{DbError, LocalStatus, MemberStore};
use crate::wire::ids::{ContentId, FileId, PublicId};
use crate::wire::log::FileMeta;
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, params};
use std::path::PathBuf;

/// A file whose wish is to leave the catalog, or to come back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// The file.
    pub id: FileId,
    /// Where it stands; nothing if this device has no row of it.
    pub status: Option<LocalStatus>,
}

/// The range of paths below a folder: '0' is the character after '/'.
fn below(folder: &RelPath) -> (String, String) {
    (format!("{folder}/"), format!("{folder}0"))
}

impl MemberStore {
    /// The catalog has these rows now: where they are this device's own, in the version that it staged, they are idle.
    pub fn settle_local(
        &self,
        owner: PublicId,
        me: Option<PublicId>,
        files: &[FileMeta],
        generation: u32,
    ) -> Result<(), DbError> {
        if me != Some(owner) {
            return Ok(());
        }
        let mut settle = self.db.prepare_cached(
            "UPDATE local_files SET status = 1, refused = NULL, generation = ?3
             WHERE id = ?1 AND content = ?2 AND status IN (0, 1, 3)",
        )?;
        // This device asked for the path by another id, and forgot: its database was restored from a backup, or what it
        // had staged was dropped before the answer came.
        let mut adopt = self.db.prepare_cached(
            "UPDATE local_files SET status = 0, id = ?2, refused = NULL, by_master = 0
             WHERE path = ?1 AND status IN (0, 2, 3) AND id <> ?2",
        )?;
        // A version that this device did not make: another copy of it did. What lies here is the truth.
        let mut restate = self.db.prepare_cached(
            "UPDATE local_files SET status = 0, generation = ?3 WHERE id = ?1 AND content <> ?2 AND status = 1",
        )?;
        for file in files {
            if settle.execute(params![file.id.0, file.content.0, generation])? == 0 {
                adopt.execute(params![file.path.as_str(), file.id.0])?;
                restate.execute(params![file.id.0, file.content.0, generation])?;
            }
        }
        Ok(())
    }

    /// The catalog has these files no more. What a person took out, here or at the master, stays out; what was gone
    /// from the disk is forgotten, so that it is a new file if it comes back.
    pub(super) fn unlist_local(&self, files: &[FileId], generation: u32) -> Result<(), DbError> {
        let mut forget = self.db.prepare_cached("DELETE FROM local_files WHERE id = ?1 AND status = 5")?;
        let mut unlist = self.db.prepare_cached(
            "UPDATE local_files SET by_master = CASE WHEN status IN (2, 4) THEN by_master ELSE 1 END, status = 2,
             generation = ?2 WHERE id = ?1 AND status NOT IN (5, 6)",
        )?;
        let mut granted = self.db.prepare_cached("DELETE FROM unwanted WHERE id = ?1")?;
        for id in files {
            forget.execute([id.0])?;
            unlist.execute(params![id.0, generation])?;
            granted.execute([id.0])?;
        }
        Ok(())
    }

    /// A file goes by another id from now on: the one that the catalog has for its path.
    pub fn rename_local(&self, id: &FileId, now: &FileId) -> Result<(), DbError> {
        self.db.prepare_cached("UPDATE local_files SET id = ?2 WHERE id = ?1")?.execute([id.0, now.0])?;
        Ok(())
    }

    /// The master refused this file.
    pub fn refuse_local(&self, id: &FileId, why: &str) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE local_files SET status = 3, refused = ?2 WHERE id = ?1 AND status = 0")?
            .execute(params![id.0, why])?;
        Ok(())
    }

    /// Holds this device's files against the catalog, after a snapshot or in a new generation: what the catalog has in
    /// this version is idle, and accepted in this generation; what it has in another version is asked to be changed;
    /// what it accepted in this generation and has no more was removed, and stays out; what it accepted in an earlier
    /// one is asked for again. What stays out, and is back with an earlier log, is to go again.
    pub fn reconcile_local(&self, me: &PublicId, generation: u32) -> Result<(), DbError> {
        let params = params![me.0, generation];
        self.db.execute(
            "INSERT OR IGNORE INTO unwanted SELECT f.id FROM local_files l JOIN files f ON f.owner = ?1 AND f.path = l.path
             WHERE l.status = 2 AND f.id <> l.id AND l.generation < ?2",
            params,
        )?;
        self.db.execute(
            "UPDATE local_files SET status = CASE WHEN EXISTS
               (SELECT 1 FROM files f WHERE f.id = local_files.id AND f.owner = ?1) THEN 4
               WHEN generation = ?2 AND EXISTS
               (SELECT 1 FROM files f WHERE f.owner = ?1 AND f.path = local_files.path) THEN 0 ELSE 2 END WHERE status = 2",
            params,
        )?;
        self.db.execute(
            "UPDATE local_files SET status = 0, refused = NULL WHERE status = 3 AND generation <= ?2 AND EXISTS
             (SELECT 1 FROM files f WHERE f.owner = ?1 AND f.path = local_files.path AND f.id <> local_files.id)",
            params,
        )?;
        self.db.execute(
            "UPDATE local_files SET status = 1, refused = NULL, generation = ?2 WHERE status IN (0, 1, 3) AND EXISTS
             (SELECT 1 FROM files f WHERE f.id = local_files.id AND f.content = local_files.content AND f.owner = ?1)",
            params,
        )?;
        self.db.execute(
            "UPDATE local_files SET status = 0, generation = ?2 WHERE status = 1 AND EXISTS
             (SELECT 1 FROM files f WHERE f.id = local_files.id AND f.content <> local_files.content AND f.owner = ?1)",
            params,
        )?;
        self.db.execute(
            "UPDATE local_files SET by_master = generation = ?2,
             status = CASE WHEN generation = ?2 THEN 2 ELSE 0 END WHERE status = 1 AND NOT EXISTS
             (SELECT 1 FROM files f WHERE f.id = local_files.id AND f.owner = ?1)",
            params,
        )?;
        Ok(())
    }

    /// A person wants this path, and what is below it, out of the catalog. Says how many files that is.
    pub fn leave(&self, me: &PublicId, path: &RelPath) -> Result<u64, DbError> {
        let (from, to) = below(path);
        // What the master took out before is this person's to give up, too.
        self.db
            .prepare_cached(
                "UPDATE local_files SET by_master = 0 WHERE (path = ?1 OR path >= ?2 AND path < ?3) AND status = 2",
            )?
            .execute(params![path.as_str(), from, to])?;
        let known = self
            .db
            .prepare_cached(
                "UPDATE local_files SET by_master = 0, status = 4 WHERE (path = ?1 OR path >= ?2 AND path < ?3) AND status IN (0, 1, 3, 5, 6)",
            )?
            .execute(params![path.as_str(), from, to])?;
        let unknown = self
            .db
            .prepare_cached(
                "INSERT OR IGNORE INTO unwanted SELECT id FROM files WHERE owner = ?1
                 AND (path = ?2 OR path >= ?3 AND path < ?4) AND NOT EXISTS (SELECT 1 FROM local_files l WHERE l.id = files.id)",
            )?
            .execute(params![me.0, path.as_str(), from, to])?;
        let file = self.local_row_at(path)?.is_some();
        if self.share_named(path)?.is_some() {
            self.db.prepare_cached("UPDATE shares SET ending = 1 WHERE name = ?1")?.execute([path.as_str()])?;
        } else if !file {
            self.db.prepare_cached("INSERT OR IGNORE INTO kept_out(path) VALUES (?1)")?.execute([path.as_str()])?;
        }
        Ok((known + unknown) as u64)
    }

    /// A person wants this path, and what is below it, in the catalog again. Copies that the master took out stay out, for
    /// their rows are all that keeps them: they are given up first.
    pub fn relist(&self, me: Option<&PublicId>, path: &RelPath) -> Result<(), DbError> {
        let (from, to) = below(path);
        let params = params![path.as_str(), from, to];
        let here = "(path = ?1 OR path >= ?2 AND path < ?3)";
        self.db
            .execute(&format!("DELETE FROM local_files WHERE status = 2 AND NOT ({KEPT_COPY}) AND {here}"), params)?;
        self.db.execute(&format!("UPDATE local_files SET status = 6 WHERE status = 4 AND {here}"), params)?;
        // What was refused is asked for once more.
        self.db.execute(
            &format!("UPDATE local_files SET status = 0, refused = NULL WHERE status = 3 AND {here}"),
            params,
        )?;
        self.db.execute(&format!("DELETE FROM kept_out WHERE {here}"), params)?;
        for above in above(path) {
            self.db.prepare_cached("DELETE FROM kept_out WHERE path = ?1")?.execute([above])?;
        }
        if let Some(me) = me {
            self.db.execute(
                "DELETE FROM unwanted WHERE id IN
                 (SELECT id FROM files WHERE owner = ?1 AND (path = ?2 OR path >= ?3 AND path < ?4))",
                params![me.0, path.as_str(), from, to],
            )?;
        }
        Ok(())
    }

    /// Whether a person removed a folder that this path lies in.
    pub fn is_kept_out(&self, path: &RelPath) -> Result<bool, DbError> {
        for above in above(path) {
            let found: Option<i64> = self
                .db
                .prepare_cached("SELECT 1 FROM kept_out WHERE path = ?1")?
                .query_row([above], |row| row.get(0))
                .optional()?;
            if found.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Files that are to leave the catalog, or to come back to it.
    pub fn leaving(&self, limit: usize) -> Result<Vec<Leave>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, status FROM local_files WHERE status IN (4, 5, 6) UNION ALL SELECT id, NULL FROM unwanted LIMIT ?1",
        )?;
        let rows =
            statement.query_map([limit as i64], |row| Ok((FileId(row.get(0)?), row.get::<_, Option<u8>>(1)?)))?;
        rows.map(|row| {
            let (id, status) = row?;
            Ok(Leave { id, status: status.map(LocalStatus::of).transpose()? })
        })
        .collect()
    }

    /// How many files are to leave the catalog by a person's wish and have not yet.
    pub fn leaving_count(&self) -> Result<u64, DbError> {
        let count: i64 = self
            .db
            .prepare_cached(
                "SELECT (SELECT count(*) FROM local_files WHERE status = 4) + (SELECT count(*) FROM unwanted)",
            )?
            .query_row([], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// A file that was to leave is not in the catalog: a person's wish keeps its path out, what was gone is forgotten.
    pub fn left(&self, id: &FileId, generation: u32) -> Result<(), DbError> {
        self.unlist_local(&[*id], generation)
    }

    /// A file that was gone is there again.
    pub fn came_back(&self, id: &FileId) -> Result<(), DbError> {
        self.set_local_status(id, LocalStatus::Returning)
    }

    /// A file that was to leave is wanted again: under its own id if the catalog has it, else as a new one.
    pub fn returned(&self, id: &FileId, anew: Option<(FileId, ContentId)>) -> Result<(), DbError> {
        match anew {
            None => self.set_local_status(id, LocalStatus::Syncing),
            Some((new, content)) => {
                self.db
                    .prepare_cached("UPDATE local_files SET id = ?2, content = ?3, status = 0 WHERE id = ?1")?
                    .execute(params![id.0, new.0, content.0])?;
                Ok(())
            }
        }
    }

    /// The copies of files that left the catalog by this device's own wish: their rows are gone, and the copies may go. One
    /// that the master took out may be the last there is, and stays until its owner gives it up.
    pub fn take_dropped_copies(&self) -> Result<Vec<PathBuf>, DbError> {
        let dropped = "status = 2 AND NOT by_master AND share IN (SELECT path FROM shares WHERE copy)";
        let mut statement = self.db.prepare_cached(&format!("SELECT abs FROM local_files WHERE {dropped}"))?;
        let copies: Vec<Vec<u8>> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        if !copies.is_empty() {
            self.db.prepare_cached(&format!("DELETE FROM local_files WHERE {dropped}"))?.execute([])?;
        }
        Ok(copies.into_iter().map(path_of).collect())
    }

    /// How many of these files of this device's the master took out of the catalog.
    pub fn taken_out(&self, files: &[FileId]) -> Result<u64, DbError> {
        let mut statement =
            self.db.prepare_cached("SELECT 1 FROM local_files WHERE id = ?1 AND status = 2 AND by_master")?;
        let mut count = 0;
        for id in files {
            count += u64::from(statement.exists([id.0])?);
        }
        Ok(count)
    }

    /// Drops what is staged: the master is there, and did not answer. Says how many files that is.
    pub fn drop_staged(&self) -> Result<u64, DbError> {
        self.db.execute(
            "UPDATE shares SET timed_out = timed_out +
             (SELECT count(*) FROM local_files f WHERE f.share = shares.path AND f.status = 0)",
            [],
        )?;
        let copies = self.db.execute(
            "UPDATE local_files SET status = 2 WHERE status = 0 AND share IN (SELECT path FROM shares WHERE copy)",
            [],
        )?;
        let others = self.db.execute("DELETE FROM local_files WHERE status = 0", [])?;
        Ok((copies + others) as u64)
    }
}

/// The master took it out of the catalog, and its copy is kept.
pub(super) const KEPT_COPY: &str = "status = 2 AND by_master AND share IN (SELECT path FROM shares WHERE copy)";

/// The folders that a path lies in, and the path itself.
fn above(path: &RelPath) -> impl Iterator<Item = &str> {
    let text = path.as_str();
    text.match_indices('/').map(|(at, _)| &text[..at]).chain(std::iter::once(text))
}

#[cfg(test)]
mod tests;
