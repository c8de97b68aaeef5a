//! The catalog: what all devices share, one row a file.

use super::{DbError, MemberStore, damaged};
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::{ContentId, FileId, Hash, PublicId};
use crate::wire::log::{FileKind, FileMeta};
use crate::wire::path::RelPath;
use rusqlite::{OptionalExtension, Row, params};
use std::collections::HashMap;

/// A file of the catalog with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRow {
    /// Whose file.
    pub owner: PublicId,
    /// The row.
    pub file: FileMeta,
}

/// What a prefix of an id finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// Nothing.
    None,
    /// One.
    One(T),
    /// Several.
    Many,
}

const COLUMNS: &str = "owner, id, content, path, kind, size, hash, chunk, mtime, executable";

impl MemberStore {
    pub(super) fn put_file(&self, owner: &PublicId, file: &FileMeta) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "INSERT INTO files(owner, id, content, path, kind, size, hash, chunk, mtime, executable)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT(id) DO UPDATE SET content = ?3, path = ?4, kind = ?5, size = ?6, hash = ?7, chunk = ?8,
                 mtime = ?9, executable = ?10",
            )?
            .execute(params![
                owner.0,
                file.id.0,
                file.content.0,
                file.path.as_str(),
                kind_code(file.kind),
                file.size as i64,
                file.hash.0,
                u8::from(file.chunk),
                file.mtime_ms,
                file.executable,
            ])?;
        Ok(())
    }

    pub(super) fn drop_file(&self, owner: &PublicId, id: &FileId) -> Result<(), DbError> {
        self.db.prepare_cached("DELETE FROM files WHERE id = ?1 AND owner = ?2")?.execute(params![id.0, owner.0])?;
        Ok(())
    }

    pub(super) fn drop_files_of(&self, owner: &PublicId) -> Result<(), DbError> {
        self.db.prepare_cached("DELETE FROM files WHERE owner = ?1")?.execute([owner.0])?;
        Ok(())
    }

    /// The file with this id.
    pub fn file(&self, id: &FileId) -> Result<Option<CatalogRow>, DbError> {
        self.one(&format!("SELECT {COLUMNS} FROM files WHERE id = ?1"), params![id.0])
    }

    /// The owner's file at this path.
    pub fn file_at(&self, owner: &PublicId, path: &RelPath) -> Result<Option<CatalogRow>, DbError> {
        self.one(
            &format!("SELECT {COLUMNS} FROM files WHERE owner = ?1 AND path = ?2"),
            params![owner.0, path.as_str()],
        )
    }

    fn one(&self, sql: &str, params: impl rusqlite::Params) -> Result<Option<CatalogRow>, DbError> {
        let row = self.db.prepare_cached(sql)?.query_row(params, |row| Ok(read_row(row))).optional()?;
        row.transpose()
    }

    /// The owner's files below a folder, by path.
    pub fn files_below(&self, owner: &PublicId, folder: &RelPath) -> Result<Vec<CatalogRow>, DbError> {
        // '0' is the character after '/': the range holds what begins with the folder and a slash.
        let (from, to) = (format!("{folder}/"), format!("{folder}0"));
        self.many(
            &format!("SELECT {COLUMNS} FROM files WHERE owner = ?1 AND path >= ?2 AND path < ?3 ORDER BY path"),
            params![owner.0, from, to],
        )
    }

    /// An owner's files at a path and below it, or all; so many at most.
    pub fn owned_below(
        &self,
        owner: &PublicId,
        path: Option<&RelPath>,
        limit: usize,
    ) -> Result<Vec<CatalogRow>, DbError> {
        let (at, from, to) = range(path);
        self.many(
            &format!(
                "SELECT {COLUMNS} FROM files WHERE owner = ?1 AND (path = ?2 OR path >= ?3 AND path < ?4) ORDER BY path LIMIT ?5"
            ),
            params![owner.0, at, from, to, limit as i64],
        )
    }

    /// The first parts of an owner's paths.
    pub fn own_roots(&self, owner: Option<&PublicId>) -> Result<Vec<RelPath>, DbError> {
        let Some(owner) = owner else { return Ok(Vec::new()) };
        let mut statement = self.db.prepare_cached(
            "SELECT DISTINCT substr(path, 1, instr(path || '/', '/') - 1) FROM files WHERE owner = ?1",
        )?;
        let rows = statement.query_map([owner.0], |row| row.get::<_, String>(0))?;
        rows.map(|row| RelPath::parse(&row?).map_err(damaged)).collect()
    }

    /// All files of an owner, by path.
    pub fn files_of(&self, owner: &PublicId) -> Result<Vec<CatalogRow>, DbError> {
        self.many(&format!("SELECT {COLUMNS} FROM files WHERE owner = ?1 ORDER BY path"), params![owner.0])
    }

    /// The file whose id begins with these hexadecimal digits.
    pub fn file_by_prefix(&self, digits: &str) -> Result<Found<CatalogRow>, DbError> {
        let rows = self.many(
            &format!("SELECT {COLUMNS} FROM files WHERE substr(lower(hex(id)), 1, ?2) = ?1 LIMIT 2"),
            params![digits.to_ascii_lowercase(), digits.len() as i64],
        )?;
        let mut rows = rows.into_iter();
        Ok(match (rows.next(), rows.next()) {
            (None, _) => Found::None,
            (Some(row), None) => Found::One(row),
            (Some(_), Some(_)) => Found::Many,
        })
    }

    /// One page of the catalog, by owner and path. The caller knows the owners' names and picks those that match.
    pub fn files_page(
        &self,
        query: Option<&str>,
        owners: &[PublicId],
        offset: u64,
        limit: u64,
    ) -> Result<Vec<CatalogRow>, DbError> {
        let Some(query) = query else {
            return self.many(
                &format!("SELECT {COLUMNS} FROM files ORDER BY owner, path LIMIT ?1 OFFSET ?2"),
                params![limit as i64, offset as i64],
            );
        };
        if !query.is_ascii() {
            return self.files_folded(query, owners, offset, limit);
        }
        let owned =
            owners.iter().map(|id| format!("x'{}'", crate::wire::ids::hex(&id.0))).collect::<Vec<_>>().join(",");
        let pattern = format!("%{}%", query.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        self.many(
            &format!(
                "SELECT {COLUMNS} FROM files WHERE path LIKE ?1 ESCAPE '\\' OR owner IN ({owned})
                 ORDER BY owner, path LIMIT ?2 OFFSET ?3"
            ),
            params![pattern, limit as i64, offset as i64],
        )
    }

    /// As [`MemberStore::files_page`]: SQLite knows upper and lower case of ASCII alone.
    fn files_folded(
        &self,
        query: &str,
        owners: &[PublicId],
        offset: u64,
        limit: u64,
    ) -> Result<Vec<CatalogRow>, DbError> {
        let folded = query.to_lowercase();
        let mut statement = self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM files ORDER BY owner, path"))?;
        let (mut rows, mut found, mut passed) = (statement.query([])?, Vec::new(), 0);
        while let Some(row) = rows.next()? {
            if found.len() as u64 >= limit {
                break;
            }
            let file = read_row(row)?;
            if owners.contains(&file.owner) || file.file.path.as_str().to_lowercase().contains(&folded) {
                passed += 1;
                if passed > offset {
                    found.push(file);
                }
            }
        }
        Ok(found)
    }

    /// Files in the order that they were put in, after a row's number, each with its own.
    pub(super) fn files_after(&self, after: i64, limit: i64) -> Result<Vec<(i64, CatalogRow)>, DbError> {
        let mut statement =
            self.db.prepare_cached(&format!("SELECT {COLUMNS}, n FROM files WHERE n > ?1 ORDER BY n LIMIT ?2"))?;
        let rows = statement.query_map([after, limit], |row| Ok((row.get(10)?, read_row(row))))?;
        rows.map(|row| {
            let (n, file) = row?;
            Ok((n, file?))
        })
        .collect()
    }

    fn many(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<CatalogRow>, DbError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| Ok(read_row(row)))?;
        rows.map(|row| row?).collect()
    }

    /// How many files each owner has.
    pub fn file_counts(&self) -> Result<HashMap<PublicId, u64>, DbError> {
        let mut statement = self.db.prepare_cached("SELECT owner, count(*) FROM files GROUP BY owner")?;
        let rows = statement.query_map([], |row| Ok((PublicId(row.get(0)?), row.get::<_, i64>(1)? as u64)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A path, and the bounds of what is below it; bounds that hold everything, if there is none.
pub(super) fn range(path: Option<&RelPath>) -> (String, String, String) {
    match path {
        // '0' is the character after '/'.
        Some(path) => (path.to_string(), format!("{path}/"), format!("{path}0")),
        None => (String::new(), String::new(), "\u{10ffff}".to_owned()),
    }
}

pub(super) fn kind_code(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 0,
        FileKind::Folder => 1,
    }
}

pub(super) fn kind_of(code: u8) -> Result<FileKind, DbError> {
    match code {
        0 => Ok(FileKind::File),
        1 => Ok(FileKind::Folder),
        other => Err(damaged(format_args!("a file of kind {other}"))),
    }
}

fn read_row(row: &Row<'_>) -> Result<CatalogRow, DbError> {
    let file = FileMeta {
        id: FileId(row.get(1)?),
        content: ContentId(row.get(2)?),
        path: RelPath::parse(&row.get::<_, String>(3)?).map_err(damaged)?,
        kind: kind_of(row.get(4)?)?,
        size: row.get::<_, i64>(5)? as u64,
        hash: Hash(row.get(6)?),
        chunk: ChunkSize::parse(row.get(7)?).map_err(damaged)?,
        mtime_ms: row.get(8)?,
        executable: row.get(9)?,
    };
    Ok(CatalogRow { owner: PublicId(row.get(0)?), file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::geometry::ChunkSize;
    use crate::wire::ids::Hash;

    #[test]
    fn a_query_ignores_the_case_of_every_script() {
        let store = MemberStore::open_in_memory().unwrap();
        let owner = PublicId([1; 16]);
        for (number, path) in (1u8..).zip(["Ünï/Äpfel.jpg", "unrelated", "ÜNÏ/zwei", "x/ünï"]) {
            let file = FileMeta {
                id: FileId([number; 16]),
                content: ContentId([number; 16]),
                path: RelPath::parse(path).unwrap(),
                kind: FileKind::File,
                size: 1,
                hash: Hash([0; 32]),
                chunk: ChunkSize::for_file(1),
                mtime_ms: 0,
                executable: false,
            };
            store.put_file(&owner, &file).unwrap();
        }
        let found = |query: &str, offset, limit| -> Vec<String> {
            let rows = store.files_page(Some(query), &[], offset, limit).unwrap();
            rows.into_iter().map(|row| row.file.path.to_string()).collect()
        };
        assert_eq!(found("ünÏ", 0, 9), ["x/ünï", "ÜNÏ/zwei", "Ünï/Äpfel.jpg"]);
        assert_eq!(found("ünÏ", 1, 1), ["ÜNÏ/zwei"]);
        assert_eq!(found("äPFEL.JPG", 0, 9), ["Ünï/Äpfel.jpg"]);
        assert_eq!(found("UNREL", 0, 9), ["unrelated"]);
    }
}
