//! Which uploads a person at this device paused: files, in whatever version, until they are let go on.

use super::local::{COLUMNS, LocalFile};
use super::{DbError, MemberStore};
use crate::wire::ids::FileId;
use rusqlite::params;

impl MemberStore {
    /// The files whose uploads are paused.
    pub fn paused_uploads(&self) -> Result<Vec<FileId>, DbError> {
        let mut statement = self.db.prepare_cached("SELECT file FROM paused_uploads ORDER BY file")?;
        let rows = statement.query_map([], |row| Ok(FileId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps that uploads of a file are paused, or are not.
    pub fn set_upload_paused(&self, file: &FileId, paused: bool) -> Result<(), DbError> {
        let sql = match paused {
            true => "INSERT OR IGNORE INTO paused_uploads(file) VALUES (?1)",
            false => "DELETE FROM paused_uploads WHERE file = ?1",
        };
        self.db.prepare_cached(sql)?.execute([file.0])?;
        Ok(())
    }

    /// Forgets pauses of files that this device shares no longer.
    pub fn forget_stale_pauses(&self) -> Result<(), DbError> {
        self.db.execute("DELETE FROM paused_uploads WHERE file NOT IN (SELECT id FROM local_files)", [])?;
        Ok(())
    }

    /// A file that this device shares.
    pub fn local_file(&self, file: &FileId) -> Result<Option<LocalFile>, DbError> {
        self.one_local(&format!("SELECT {COLUMNS} FROM local_files WHERE id = ?1"), params![file.0])
    }

    /// The shared files whose id begins with these hexadecimal digits, two at most.
    pub fn local_by_prefix(&self, digits: &str) -> Result<Vec<LocalFile>, DbError> {
        self.many_local(
            &format!("SELECT {COLUMNS} FROM local_files WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 2"),
            params![bound(digits, '0'), bound(digits, 'f')],
        )
    }
}

/// The first or last id that begins with these digits.
fn bound(digits: &str, filler: char) -> Vec<u8> {
    let padded: Vec<u32> =
        digits.chars().chain(std::iter::repeat(filler)).take(32).map(|c| c.to_digit(16).unwrap_or(0)).collect();
    padded.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_spans_the_ids_that_begin_with_it() {
        assert_eq!(bound("5d1", '0')[..3], [0x5d, 0x10, 0x00]);
        assert_eq!(bound("5d1", 'f')[..3], [0x5d, 0x1f, 0xff]);
        assert_eq!((bound("", '0').len(), bound(&"a".repeat(40), 'f')), (16, vec![0xaa; 16]));
    }

    #[test]
    fn a_pause_is_kept_until_it_is_taken_back() {
        let store = MemberStore::open_in_memory().unwrap();
        let (one, other) = (FileId([1; 16]), FileId([2; 16]));
        for file in [one, other, one] {
            store.set_upload_paused(&file, true).unwrap();
        }
        store.set_upload_paused(&other, false).unwrap();
        assert_eq!(store.paused_uploads().unwrap(), [one]);
        store.forget_stale_pauses().unwrap();
        assert!(store.paused_uploads().unwrap().is_empty(), "it is not shared");
    }
}
