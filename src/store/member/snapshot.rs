//! Snapshots: spooled by the master as pages, loaded by who is new or too far behind.

use super::{DbError, MemberStore, decoded};
use crate::wire::codec::{decode, encode};
use crate::wire::ids::{DeviceKey, Hash, Position, PublicId};
use crate::wire::limits::PAGE_BYTES_MAX;
use crate::wire::log::{Manifest, Policy, SignedManifest, SnapshotRow};
use crate::wire::name::DeviceName;
use rusqlite::{OptionalExtension, params};

/// Rows of the catalog that are read at once while spooling.
const SPOOL_ROWS: i64 = 4_096;

impl MemberStore {
    /// Writes the pages of a snapshot of what is here, at `at`. Gives their hashes, in order.
    pub fn spool(&self, at: Position) -> Result<Vec<Hash>, DbError> {
        let mut pages = Pages { store: self, at, rows: Vec::new(), bytes: 0, hashes: Vec::new() };
        for header in self.membership_after(Position::default())? {
            pages.push(SnapshotRow::Membership(header))?;
        }
        let mut names: Vec<(PublicId, DeviceName)> = self.names()?.into_iter().collect();
        names.sort();
        for (id, name) in names {
            pages.push(SnapshotRow::Name { id, name })?;
        }
        if let Some(policy) = self.get::<Policy>("policy")? {
            pages.push(SnapshotRow::Policy(policy))?;
        }
        if let Some(servers) = self.get("servers")? {
            pages.push(SnapshotRow::Servers(servers))?;
        }
        let mut after = 0;
        loop {
            let rows = self.files_after(after, SPOOL_ROWS)?;
            let Some((last, _)) = rows.last() else { return pages.end() };
            after = *last;
            for (_, row) in rows {
                pages.push(SnapshotRow::File { owner: row.owner, file: row.file })?;
            }
        }
    }

    /// Keeps the manifest of pages that were spooled.
    pub fn keep_spool(&self, at: Position, manifest: &SignedManifest, now_ms: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO spools(generation, revision, manifest, asked) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![at.generation, at.revision as i64, encode(manifest), now_ms as i64])?;
        Ok(())
    }

    /// A page of a snapshot that is still here; that it was asked for is noted.
    pub fn spooled_page(
        &self,
        at: Position,
        page: u32,
        now_ms: u64,
    ) -> Result<Option<(SignedManifest, Vec<u8>)>, DbError> {
        let found: Option<(Vec<u8>, Vec<u8>)> = self
            .db
            .prepare_cached(
                "SELECT s.manifest, p.bytes FROM spools s JOIN pages p USING (generation, revision)
                 WHERE generation = ?1 AND revision = ?2 AND page = ?3",
            )?
            .query_row(params![at.generation, at.revision as i64, page], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((manifest, bytes)) = found else { return Ok(None) };
        self.db
            .prepare_cached("UPDATE spools SET asked = ?3 WHERE generation = ?1 AND revision = ?2")?
            .execute(params![at.generation, at.revision as i64, now_ms as i64])?;
        Ok(Some((decoded(&manifest)?, bytes)))
    }

    /// Places of the snapshots that are here, oldest first.
    pub fn spools(&self) -> Result<Vec<Position>, DbError> {
        let mut statement =
            self.db.prepare_cached("SELECT generation, revision FROM spools ORDER BY generation, revision")?;
        let rows = statement
            .query_map([], |row| Ok(Position { generation: row.get(0)?, revision: row.get::<_, i64>(1)? as u64 }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Drops the snapshots that nobody asked for since `asked_before_ms`.
    pub fn drop_spools(&self, asked_before_ms: u64) -> Result<(), DbError> {
        self.db.execute("DELETE FROM spools WHERE asked < ?1", [asked_before_ms as i64])?;
        self.db.execute(
            "DELETE FROM pages WHERE NOT EXISTS
             (SELECT 1 FROM spools s WHERE s.generation = pages.generation AND s.revision = pages.revision)",
            [],
        )?;
        Ok(())
    }

    /// Keeps a page that came.
    pub fn keep_page(&self, manifest: &Manifest, page: u32, bytes: &[u8]) -> Result<(), DbError> {
        if page == 0 {
            self.db.execute("DELETE FROM loading", [])?;
            self.set("loading", manifest)?;
        }
        self.db
            .prepare_cached("INSERT OR REPLACE INTO loading(page, bytes) VALUES (?1, ?2)")?
            .execute(params![page, bytes])?;
        Ok(())
    }

    /// The snapshot that is being loaded, and how many of its pages are here.
    pub fn loading(&self) -> Result<Option<(Manifest, u32)>, DbError> {
        let Some(manifest) = self.get::<Manifest>("loading")? else { return Ok(None) };
        let pages: u32 = self.db.query_row("SELECT count(*) FROM loading", [], |row| row.get(0))?;
        Ok(Some((manifest, pages)))
    }

    /// Forgets the pages that came.
    pub fn forget_loading(&self) -> Result<(), DbError> {
        self.db.execute("DELETE FROM loading", [])?;
        self.unset("loading")
    }

    /// The hashes of the pages that came, in order.
    pub fn loading_hashes(&self) -> Result<Vec<Hash>, DbError> {
        let mut statement = self.db.prepare_cached("SELECT bytes FROM loading ORDER BY page")?;
        let rows = statement.query_map([], |row| Ok(Hash::of(row.get_ref(0)?.as_blob()?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Puts the loaded snapshot, whose pages' hashes were checked, in place of what was here. `false` means that its rows
    /// are not what a master writes, and that the caller must roll back.
    pub fn swap_in(&self, manifest: &Manifest, master: &DeviceKey, me: Option<PublicId>) -> Result<bool, DbError> {
        self.db.execute_batch("DELETE FROM membership; DELETE FROM names; DELETE FROM files;")?;
        self.unset("policy")?;
        self.unset("servers")?;
        let mut last_membership = Hash::ZERO;
        for page in 0..manifest.pages {
            let bytes: Option<Vec<u8>> = self
                .db
                .prepare_cached("SELECT bytes FROM loading WHERE page = ?1")?
                .query_row([page], |row| row.get(0))
                .optional()?;
            let Some(Ok(rows)) = bytes.map(|bytes| decode::<Vec<SnapshotRow>>(&bytes)) else { return Ok(false) };
            for row in rows {
                if !self.load_row(row, master, &mut last_membership)? {
                    return Ok(false);
                }
            }
        }
        if last_membership != manifest.membership {
            return Ok(false);
        }
        let tip = super::StoredTip { at: manifest.at, header: manifest.header, membership: manifest.membership };
        self.set("tip", &tip)?;
        self.forget_loading()?;
        if let Some(me) = me {
            self.reconcile_local(&me, manifest.at.generation)?;
        }
        Ok(true)
    }

    fn load_row(&self, row: SnapshotRow, master: &DeviceKey, last: &mut Hash) -> Result<bool, DbError> {
        match row {
            SnapshotRow::Membership(header) => {
                let Ok(header) = header.verify(master) else { return Ok(false) };
                let linked = header.header().previous_membership == *last && header.header().membership.is_some();
                *last = header.hash();
                self.keep_membership(&header)?;
                return Ok(linked);
            }
            SnapshotRow::Name { id, name } => {
                self.db
                    .prepare_cached("INSERT OR REPLACE INTO names(id, name) VALUES (?1, ?2)")?
                    .execute(params![id.0, name.as_str()])?;
            }
            SnapshotRow::File { owner, file } => self.put_file(&owner, &file)?,
            SnapshotRow::Policy(policy) => self.set("policy", &policy)?,
            SnapshotRow::Servers(servers) => self.set("servers", &servers)?,
        }
        Ok(true)
    }
}

struct Pages<'a> {
    store: &'a MemberStore,
    at: Position,
    rows: Vec<SnapshotRow>,
    bytes: usize,
    hashes: Vec<Hash>,
}

impl Pages<'_> {
    fn push(&mut self, row: SnapshotRow) -> Result<(), DbError> {
        let bytes = encode(&row).len();
        if self.bytes + bytes > PAGE_BYTES_MAX {
            self.flush()?;
        }
        self.bytes += bytes;
        self.rows.push(row);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DbError> {
        let bytes = encode(&std::mem::take(&mut self.rows));
        self.bytes = 0;
        self.store
            .db
            .prepare_cached("INSERT OR REPLACE INTO pages(generation, revision, page, bytes) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.at.generation, self.at.revision as i64, self.hashes.len() as u32, bytes])?;
        self.hashes.push(Hash::of(&bytes));
        Ok(())
    }

    fn end(mut self) -> Result<Vec<Hash>, DbError> {
        self.flush()?;
        Ok(self.hashes)
    }
}
