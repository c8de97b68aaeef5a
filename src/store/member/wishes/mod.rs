//! What this device wants in the catalog and out of it, held against what the catalog says.
//!
//! A client keeps what it wants, not what it asked: a wish stands in the row's status until the master's entry grants
//! it, over restarts, restored backups and new generations of the log.

use super::local::path_of;
use super::{DbError, LocalStatus, MemberStore};
use crate::wire::ids::{ContentId, FileId, PublicId};
use crate::wire::log::FileMeta;
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, params};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A file whose wish is to leave the catalog, or to come back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// The file.
    pub id: FileId,
    /// Where it stands; nothing if this device has no row of it.
    pub status: Option<LocalStatus>,
}

/// What a scan did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gone {
    /// Files of the share that are, or are to be, in the catalog.
    pub live: u64,
    /// Those of them that were not seen.
    pub lost: u64,
    /// Those of them whose content was not seen at another path of the share either: what was moved is not lost.
    pub vanished: u64,
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

    /// Rows of a share that are, or are to be, in the catalog, one status after the other.
    pub fn live_rows(&self, share: &Path, mut each: impl FnMut(i64)) -> Result<(), DbError> {
        let mut statement = self.db.prepare_cached("SELECT n FROM local_files WHERE share = ?1 AND status = ?2")?;
        for status in [LocalStatus::Syncing, LocalStatus::Idle, LocalStatus::Refused] {
            let mut rows = statement.query(params![share.as_os_str().as_bytes(), status.code()])?;
            while let Some(row) = rows.next()? {
                each(row.get(0)?);
            }
        }
        Ok(())
    }

    /// The path of a row.
    pub fn path_of_row(&self, row: i64) -> Result<Option<RelPath>, DbError> {
        let path: Option<String> = self
            .db
            .prepare_cached("SELECT path FROM local_files WHERE n = ?1")?
            .query_row([row], |row| row.get(0))
            .optional()?;
        path.map(|path| RelPath::parse(&path).map_err(super::damaged)).transpose()
    }

    /// These rows are excluded now, and are to leave the catalog.
    pub fn exclude_rows(&self, rows: &[i64]) -> Result<(), DbError> {
        let mut statement =
            self.db.prepare_cached("UPDATE local_files SET status = 5 WHERE n = ?1 AND status IN (0, 1, 3)")?;
        for row in rows {
            statement.execute([row])?;
        }
        Ok(())
    }

    /// How many rows of a share are, or are to be, in the catalog.
    pub fn live_count(&self, share: &Path) -> Result<u64, DbError> {
        let count: i64 = self
            .db
            .prepare_cached("SELECT count(*) FROM local_files WHERE share = ?1 AND status IN (0, 1, 3)")?
            .query_row([share.as_os_str().as_bytes()], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// The rows at this path and below it.
    pub fn rows_below(&self, path: &RelPath) -> Result<Vec<i64>, DbError> {
        let (from, to) = below(path);
        let mut statement =
            self.db.prepare_cached("SELECT n FROM local_files WHERE path = ?1 OR path >= ?2 AND path < ?3")?;
        let rows = statement.query_map(params![path.as_str(), from, to], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes rows that a scan did not see.
    pub fn note_lost(&self, rows: &[i64]) -> Result<(), DbError> {
        self.db.execute("CREATE TEMP TABLE IF NOT EXISTS lost(n INTEGER PRIMARY KEY)", [])?;
        let mut statement = self.db.prepare_cached("INSERT OR IGNORE INTO temp.lost(n) VALUES (?1)")?;
        for row in rows {
            statement.execute([row])?;
        }
        Ok(())
    }

    /// What the rows that were noted come to. The catalog's files of this share that this device has no row of, after its
    /// database was restored, count among them.
    pub fn lost(&self, me: Option<&PublicId>, share: &Path, name: &RelPath) -> Result<Gone, DbError> {
        self.note_lost(&[])?;
        let share_bytes = share.as_os_str().as_bytes();
        let (noted, vanished): (i64, i64) = self.db.query_row(
            "SELECT count(*), coalesce(sum(m.hash NOT IN
               (SELECT hash FROM local_files WHERE share = ?1 AND status IN (0, 1, 3) AND n NOT IN (SELECT n FROM temp.lost))), 0)
             FROM temp.lost JOIN local_files m USING (n)",
            [share_bytes],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let orphans = match me {
            Some(me) => self.orphans(me, name)?,
            None => 0,
        };
        let live = self.live_count(share)? + orphans;
        Ok(Gone { live, lost: noted as u64 + orphans, vanished: vanished as u64 + orphans })
    }

    fn orphans(&self, me: &PublicId, name: &RelPath) -> Result<u64, DbError> {
        let (from, to) = below(name);
        let count: i64 = self
            .db
            .prepare_cached(&format!("SELECT count(*) FROM files WHERE {ORPHANS}"))?
            .query_row(params![me.0, name.as_str(), from, to], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// Forgets which rows were noted.
    pub fn forget_lost(&self) -> Result<(), DbError> {
        self.note_lost(&[])?;
        self.db.execute("DELETE FROM temp.lost", [])?;
        Ok(())
    }

    /// The rows that were noted are gone, and are to leave the catalog.
    pub fn remove_lost(&self, me: Option<&PublicId>, name: &RelPath) -> Result<(), DbError> {
        self.db.execute(
            "UPDATE local_files SET status = 5 WHERE n IN (SELECT n FROM temp.lost) AND status IN (0, 1, 3)",
            [],
        )?;
        if let Some(me) = me {
            let (from, to) = below(name);
            self.db.execute(
                &format!("INSERT OR IGNORE INTO unwanted SELECT id FROM files WHERE {ORPHANS}"),
                params![me.0, name.as_str(), from, to],
            )?;
        }
        self.forget_lost()
    }
}

/// The master took it out of the catalog, and its copy is kept.
pub(super) const KEPT_COPY: &str = "status = 2 AND by_master AND share IN (SELECT path FROM shares WHERE copy)";

/// Files of the catalog that this device owns and has no row of.
const ORPHANS: &str = "owner = ?1 AND (path = ?2 OR path >= ?3 AND path < ?4)
    AND NOT EXISTS (SELECT 1 FROM local_files l WHERE l.path = files.path)";

/// The folders that a path lies in, and the path itself.
fn above(path: &RelPath) -> impl Iterator<Item = &str> {
    let text = path.as_str();
    text.match_indices('/').map(|(at, _)| &text[..at]).chain(std::iter::once(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::member::{NewShare, Staged};
    use crate::store::walk::Stamp;
    use crate::wire::geometry::ChunkSize;
    use crate::wire::ids::Hash;
    use crate::wire::log::FileKind;

    const ME: PublicId = PublicId([7; 16]);
    const SHARE: &str = "/home/me/s";

    fn rel(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    fn meta(number: u8) -> FileMeta {
        FileMeta {
            id: FileId([number; 16]),
            content: ContentId([number; 16]),
            path: rel(&format!("s/{number}")),
            kind: FileKind::File,
            size: 5,
            hash: Hash([number; 32]),
            chunk: ChunkSize::for_file(5),
            mtime_ms: 0,
            executable: false,
        }
    }

    /// A store that shares these files; the catalog has them, as of this generation.
    fn store(files: &[u8], generation: u32) -> MemberStore {
        let store = MemberStore::open_in_memory().unwrap();
        let wish = rel("s");
        store.put_share(Path::new(SHARE), NewShare { wish: &wish, copy: false, exclude: None }).unwrap();
        for number in files {
            stage(&store, *number);
            store.put_file(&ME, &meta(*number)).unwrap();
            store.settle_local(ME, Some(ME), &[meta(*number)], generation).unwrap();
        }
        store
    }

    fn stage(store: &MemberStore, number: u8) {
        let stamp = Stamp { size: 5, mtime_ns: 0, inode: number.into(), device: 1 };
        let abs = PathBuf::from(format!("{SHARE}/{number}"));
        store.stage(Path::new(SHARE), &Staged { meta: meta(number), abs, stamp, list: Vec::new() }).unwrap();
    }

    fn status(store: &MemberStore, number: u8) -> Option<LocalStatus> {
        store.sighted(&rel(&format!("s/{number}"))).unwrap().map(|known| known.status)
    }

    fn drop_from_catalog(store: &MemberStore, number: u8) {
        store.drop_file(&ME, &meta(number).id).unwrap();
    }

    #[test]
    fn what_was_accepted_in_this_generation_and_is_absent_was_removed() {
        let store = store(&[1, 2], 3);
        drop_from_catalog(&store, 1);
        store.reconcile_local(&ME, 3).unwrap();
        assert_eq!((status(&store, 1), status(&store, 2)), (Some(LocalStatus::Unlisted), Some(LocalStatus::Idle)));
        // It stays out, also in later generations.
        store.reconcile_local(&ME, 4).unwrap();
        stage(&store, 1);
        assert_eq!(status(&store, 1), Some(LocalStatus::Unlisted));
    }

    #[test]
    fn what_a_new_generation_lacks_is_asked_for_again_under_its_id() {
        let store = store(&[1, 2], 3);
        drop_from_catalog(&store, 1);
        store.reconcile_local(&ME, 4).unwrap();
        assert_eq!((status(&store, 1), status(&store, 2)), (Some(LocalStatus::Syncing), Some(LocalStatus::Idle)));
        assert_eq!(store.staged(9).unwrap()[0].meta.id, meta(1).id);
        // What the new generation had is accepted in it: if that goes, it was removed.
        drop_from_catalog(&store, 2);
        store.reconcile_local(&ME, 4).unwrap();
        assert_eq!(status(&store, 2), Some(LocalStatus::Unlisted));
    }

    #[test]
    fn a_wish_to_remove_survives_a_new_generation() {
        let store = store(&[1, 2], 3);
        store.leave(&ME, &rel("s/1")).unwrap();
        store.leave(&ME, &rel("s/2")).unwrap();
        drop_from_catalog(&store, 2);
        store.unlist_local(&[meta(2).id], 3).unwrap();
        // The log is that of a backup, in which both are.
        store.put_file(&ME, &meta(2)).unwrap();
        store.reconcile_local(&ME, 4).unwrap();
        let leaving: Vec<FileId> = store.leaving(9).unwrap().iter().map(|leave| leave.id).collect();
        assert_eq!(leaving, [meta(1).id, meta(2).id]);
    }

    #[test]
    fn an_older_file_at_a_path_that_was_removed_goes_as_well() {
        let store = store(&[1], 3);
        store.unlist_local(&[meta(1).id], 3).unwrap();
        drop_from_catalog(&store, 1);
        let older = FileMeta { id: FileId([9; 16]), content: ContentId([9; 16]), ..meta(1) };
        store.put_file(&ME, &older).unwrap();
        store.reconcile_local(&ME, 4).unwrap();
        assert_eq!(store.leaving(9).unwrap(), [Leave { id: older.id, status: None }]);
    }

    #[test]
    fn a_path_that_was_listed_anew_and_forgotten_is_listed() {
        let store = store(&[1], 3);
        store.unlist_local(&[meta(1).id], 3).unwrap();
        drop_from_catalog(&store, 1);
        // This database is a backup: later it was added again.
        let newer = FileMeta { id: FileId([9; 16]), content: ContentId([9; 16]), ..meta(1) };
        store.put_file(&ME, &newer).unwrap();
        store.settle_local(ME, Some(ME), std::slice::from_ref(&newer), 3).unwrap();
        assert_eq!(status(&store, 1), Some(LocalStatus::Syncing));
        assert_eq!(store.staged(9).unwrap()[0].meta.id, newer.id);
    }

    #[test]
    fn copies_that_the_master_took_out_stay_until_their_owner_gives_them_up() {
        let store = store(&[1, 2, 3], 3);
        store.db.execute("UPDATE shares SET copy = 1", []).unwrap();
        let copy_of = |number: u8| PathBuf::from(format!("{SHARE}/{number}"));
        // One goes by its owner's wish, one by the master's, and one is absent from a snapshot.
        store.leave(&ME, &rel("s/1")).unwrap();
        for number in [1, 2, 3] {
            drop_from_catalog(&store, number);
        }
        store.unlist_local(&[meta(1).id, meta(2).id], 3).unwrap();
        store.reconcile_local(&ME, 3).unwrap();
        assert_eq!(store.taken_out(&[meta(1).id, meta(2).id, meta(3).id]).unwrap(), 2);
        assert_eq!(store.take_dropped_copies().unwrap(), [copy_of(1)]);
        let sum = &store.shares().unwrap()[0];
        assert_eq!((sum.removed, sum.taken_out), (2, 2));
        // Neither a scan nor another `add` asks the master again, nor forgets that there is a copy.
        store.relist(Some(&ME), &rel("s")).unwrap();
        let stamp = Stamp { size: 5, mtime_ns: 0, inode: 9, device: 1 };
        let again = Staged { meta: meta(2), abs: copy_of(9), stamp, list: Vec::new() };
        let outcome = store.stage(Path::new(SHARE), &again).unwrap();
        assert_eq!(outcome, crate::store::member::StageOutcome { news: false, replaced: Some(copy_of(9)) });
        assert_eq!(status(&store, 2), Some(LocalStatus::Unlisted));
        assert_eq!(store.take_dropped_copies().unwrap(), Vec::<PathBuf>::new());
        // An earlier log that lists it is mended, and that is no wish of the owner's.
        store.put_file(&ME, &meta(3)).unwrap();
        store.reconcile_local(&ME, 4).unwrap();
        drop_from_catalog(&store, 3);
        store.unlist_local(&[meta(3).id], 4).unwrap();
        assert_eq!(store.take_dropped_copies().unwrap(), Vec::<PathBuf>::new());
        store.leave(&ME, &rel("s")).unwrap();
        assert_eq!(store.take_dropped_copies().unwrap(), [copy_of(2), copy_of(3)]);
    }

    #[test]
    fn what_was_not_seen_is_lost_unless_it_was_moved() {
        let store = store(&[1, 2, 3], 3);
        let row = |number: u8| store.local_row_at(&rel(&format!("s/{number}"))).unwrap().unwrap();
        // The content of 2 is at another path, too.
        let copy = FileMeta { hash: meta(2).hash, ..meta(4) };
        let stamp = Stamp { size: 5, mtime_ns: 0, inode: 4, device: 1 };
        let staged = Staged { meta: copy, abs: PathBuf::from("/home/me/s/4"), stamp, list: Vec::new() };
        store.stage(Path::new(SHARE), &staged).unwrap();
        store.note_lost(&[row(1), row(2)]).unwrap();
        let gone = store.lost(Some(&ME), Path::new(SHARE), &rel("s")).unwrap();
        assert_eq!(gone, Gone { live: 4, lost: 2, vanished: 1 });
        store.remove_lost(Some(&ME), &rel("s")).unwrap();
        assert_eq!((status(&store, 1), status(&store, 3)), (Some(LocalStatus::Gone), Some(LocalStatus::Idle)));
        // The catalog has one that this device, restored, knows nothing of.
        store.put_file(&ME, &meta(8)).unwrap();
        assert_eq!(store.lost(Some(&ME), Path::new(SHARE), &rel("s")).unwrap().lost, 1);
        assert_eq!(store.lost(None, Path::new(SHARE), &rel("s")).unwrap().lost, 0);
    }

    #[test]
    fn what_was_refused_is_asked_for_again_when_it_is_added_again() {
        let store = store(&[], 3);
        stage(&store, 1);
        store.refuse_local(&meta(1).id, "no room").unwrap();
        stage(&store, 1);
        assert_eq!(status(&store, 1), Some(LocalStatus::Refused), "a scan does not ask again");
        store.relist(Some(&ME), &rel("s")).unwrap();
        assert_eq!(status(&store, 1), Some(LocalStatus::Syncing));
    }

    #[test]
    fn a_folder_that_was_removed_stays_out_until_it_or_what_is_in_it_is_added() {
        let store = store(&[1], 3);
        store.leave(&ME, &rel("s/sub")).unwrap();
        assert!(store.is_kept_out(&rel("s/sub/x/y")).unwrap() && !store.is_kept_out(&rel("s/subway")).unwrap());
        store.relist(Some(&ME), &rel("s/sub/x")).unwrap();
        assert!(!store.is_kept_out(&rel("s/sub/x/y")).unwrap());
        store.leave(&ME, &rel("s/sub")).unwrap();
        store.relist(Some(&ME), &rel("s")).unwrap();
        assert!(!store.is_kept_out(&rel("s/sub/x")).unwrap());
    }
}
