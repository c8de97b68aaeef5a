//! The replica's own tables: where the log ends, who belongs, and what an entry changes.

use super::{DbError, MemberStore, damaged, decoded};
use crate::wire::codec::encode;
use crate::wire::envelope::{Answer, PlainEntry};
use crate::wire::ids::{DeviceKey, EpochId, Hash, InviteId, Position, PublicId};
use crate::wire::log::{Body, Entry, SignedHead, SignedHeader, Standing, VerifiedHeader};
use crate::wire::name::DeviceName;
use crate::wire::seal::Epoch;
use crate::wire::sign::Secret32;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Where the log ends, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTip {
    /// Place of the last entry.
    pub at: Position,
    /// Its header's hash.
    pub header: Hash,
    /// Hash of the last header that changed membership.
    pub membership: Hash,
}

impl MemberStore {
    /// Where the log ends; nothing before the first entry.
    pub fn tip(&self) -> Result<Option<StoredTip>, DbError> {
        self.get("tip")
    }

    /// The newest head that was shown.
    pub fn head(&self) -> Result<Option<SignedHead>, DbError> {
        self.get("head")
    }

    /// Applies an entry with all that it changes. `me` is this device's id; a master keeps the entry itself, too.
    pub fn apply(&self, entry: &Entry, body: &Body, me: Option<PublicId>, keep: bool) -> Result<(), DbError> {
        let header = entry.header.header();
        let tip = StoredTip { at: header.at, header: entry.header.hash(), membership: entry.header.membership_hash() };
        self.set("tip", &tip)?;
        if header.membership.is_some() {
            self.keep_membership(&entry.header)?;
        }
        if keep {
            self.keep_entry(entry)?;
        }
        match body {
            Body::GroupBegun { name, .. } => match &header.membership {
                Some(change) => self.set_name(&change.id, name),
                None => Err(damaged("the group's first entry names nobody")),
            },
            Body::ClientRegistered { id, name } | Body::ClientRenamed { id, name } => self.set_name(id, name),
            Body::ClientApproved { .. } | Body::EpochBegun(_) => Ok(()),
            Body::ClientDisapproved { id } | Body::ClientLeft { id } => self.drop_files_of(id),
            Body::FilesAdded { owner, files } => {
                files.iter().try_for_each(|file| self.put_file(owner, file))?;
                self.settle_local(*owner, me, files, header.at.generation)
            }
            Body::FilesChanged { owner, files } => {
                files.iter().try_for_each(|file| self.put_file(owner, file))?;
                self.settle_local(*owner, me, files, header.at.generation)
            }
            Body::FileRemoved { owner, files } => {
                files.iter().try_for_each(|file| self.drop_file(owner, file))?;
                if me == Some(*owner) { self.unlist_local(files, header.at.generation) } else { Ok(()) }
            }
            Body::PolicySet(policy) => self.set("policy", policy),
            Body::ServersSet(servers) => self.set("servers", servers),
        }
    }

    pub(super) fn keep_membership(&self, header: &VerifiedHeader) -> Result<(), DbError> {
        let at = header.header().at;
        let Some(change) = &header.header().membership else { return Ok(()) };
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO membership(generation, revision, device, registers, header)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                at.generation,
                at.revision as i64,
                change.device.as_bytes(),
                change.standing == Standing::Registered,
                encode(header.signed())
            ])?;
        if let Some(change) = header.expulsion() {
            self.keep_expulsion(&change.device, header)?;
        }
        Ok(())
    }

    /// Keeps the header that expels a device, whatever its place in the log.
    pub fn keep_expulsion(&self, device: &DeviceKey, header: &VerifiedHeader) -> Result<(), DbError> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO expulsions(device, header) VALUES (?1, ?2)")?
            .execute(params![device.as_bytes(), encode(header.signed())])?;
        Ok(())
    }

    /// All headers that expel somebody.
    pub fn expulsions(&self) -> Result<Vec<SignedHeader>, DbError> {
        self.headers("SELECT header FROM expulsions", &[])
    }

    /// All membership headers after a place, oldest first.
    pub fn membership_after(&self, after: Position) -> Result<Vec<SignedHeader>, DbError> {
        self.headers(
            "SELECT header FROM membership WHERE (generation, revision) > (?1, ?2) ORDER BY generation, revision",
            &[i64::from(after.generation), after.revision as i64],
        )
    }

    /// How many membership headers there are.
    pub fn membership_count(&self) -> Result<usize, DbError> {
        let count: i64 = self.db.query_row("SELECT count(*) FROM membership", [], |row| row.get(0))?;
        Ok(count as usize)
    }

    pub(super) fn headers(&self, sql: &str, places: &[i64]) -> Result<Vec<SignedHeader>, DbError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(rusqlite::params_from_iter(places), |row| row.get::<_, Vec<u8>>(0))?;
        rows.map(|bytes| decoded(&bytes?)).collect()
    }

    fn set_name(&self, id: &PublicId, name: &DeviceName) -> Result<(), DbError> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO names(id, name) VALUES (?1, ?2)")?
            .execute(params![id.0, name.as_str()])?;
        Ok(())
    }

    /// All devices' names.
    pub fn names(&self) -> Result<HashMap<PublicId, DeviceName>, DbError> {
        let mut statement = self.db.prepare_cached("SELECT id, name FROM names")?;
        let rows = statement.query_map([], |row| Ok((PublicId(row.get(0)?), row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (id, name) = row?;
            Ok((id, DeviceName::from_log(&name).map_err(damaged)?))
        })
        .collect()
    }

    fn keep_entry(&self, entry: &Entry) -> Result<(), DbError> {
        let at = entry.header.header().at;
        self.db
            .prepare_cached("INSERT INTO entries(generation, revision, header, salted) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                at.generation,
                at.revision as i64,
                encode(entry.header.signed()),
                entry.body.as_bytes()
            ])?;
        Ok(())
    }

    /// The oldest revision whose entry is still here, in a generation.
    pub fn oldest_entry(&self, generation: u32) -> Result<Option<u64>, DbError> {
        let oldest: Option<i64> = self
            .db
            .prepare_cached("SELECT min(revision) FROM entries WHERE generation = ?1")?
            .query_row([generation], |row| row.get(0))?;
        Ok(oldest.map(|revision| revision as u64))
    }

    /// Entries after a place, oldest first, up to `bytes` of bodies; the first one always.
    pub fn entries_after(&self, after: Position, bytes: usize) -> Result<Vec<PlainEntry>, DbError> {
        let mut statement = self.db.prepare_cached(
            "SELECT header, salted FROM entries WHERE generation = ?1 AND revision > ?2 ORDER BY revision",
        )?;
        let mut rows = statement.query(params![after.generation, after.revision as i64])?;
        let mut entries = Vec::new();
        let mut sum = 0;
        while let Some(row) = rows.next()? {
            let header: Vec<u8> = row.get(0)?;
            let salted: Vec<u8> = row.get(1)?;
            sum += header.len() + salted.len();
            if sum > bytes && !entries.is_empty() {
                break;
            }
            entries.push(PlainEntry { header: decoded(&header)?, salted });
        }
        Ok(entries)
    }

    /// Drops the entries before `keep_from`, which nobody can ask for any more.
    pub fn drop_entries_before(&self, keep_from: Position) -> Result<(), DbError> {
        self.db
            .prepare_cached("DELETE FROM entries WHERE (generation, revision) < (?1, ?2)")?
            .execute(params![keep_from.generation, keep_from.revision as i64])?;
        Ok(())
    }

    /// Keeps an epoch's secret.
    pub fn keep_epoch(&self, epoch: &Epoch) -> Result<(), DbError> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO epochs(generation, number, secret) VALUES (?1, ?2, ?3)")?
            .execute(params![epoch.id.generation, epoch.id.number, epoch.secret.0])?;
        Ok(())
    }

    /// The epoch secrets, oldest first.
    pub fn epochs(&self) -> Result<Vec<Epoch>, DbError> {
        let mut statement =
            self.db.prepare_cached("SELECT generation, number, secret FROM epochs ORDER BY generation, number")?;
        let rows = statement.query_map([], |row| {
            let id = EpochId { generation: row.get(0)?, number: row.get(1)? };
            Ok(Epoch { id, secret: Secret32(row.get(2)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps an open invite, as the text that people carry.
    pub fn keep_invite(&self, id: &InviteId, invite: &str, expires_ms: u64) -> Result<(), DbError> {
        self.db.prepare_cached("INSERT INTO invites(id, invite, expires) VALUES (?1, ?2, ?3)")?.execute(params![
            id.0,
            invite,
            expires_ms as i64
        ])?;
        Ok(())
    }

    /// Forgets an invite that is no longer open.
    pub fn drop_invite(&self, id: &InviteId) -> Result<(), DbError> {
        self.db.prepare_cached("DELETE FROM invites WHERE id = ?1")?.execute([id.0])?;
        Ok(())
    }

    /// The invites with their texts and the time (milliseconds since 1970) when they expire, the first to expire first.
    pub fn invites(&self) -> Result<Vec<(InviteId, String, u64)>, DbError> {
        let mut statement = self.db.prepare_cached("SELECT id, invite, expires FROM invites ORDER BY expires")?;
        let rows =
            statement.query_map([], |row| Ok((InviteId(row.get(0)?), row.get(1)?, row.get::<_, i64>(2)? as u64)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps what a device's newest request came to: number, content and answer.
    pub fn keep_last_request(
        &self,
        id: &PublicId,
        number: u64,
        content: &Hash,
        answer: &Answer,
    ) -> Result<(), DbError> {
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO last_requests(device, number, content, answer) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id.0, number as i64, content.0, encode(answer)])?;
        Ok(())
    }

    /// Every device's newest request.
    pub fn last_requests(&self) -> Result<Vec<(PublicId, u64, Hash, Answer)>, DbError> {
        let mut statement = self.db.prepare_cached("SELECT device, number, content, answer FROM last_requests")?;
        let rows = statement.query_map([], |row| {
            Ok((PublicId(row.get(0)?), row.get::<_, i64>(1)? as u64, Hash(row.get(2)?), row.get::<_, Vec<u8>>(3)?))
        })?;
        rows.map(|row| {
            let (id, number, content, answer) = row?;
            Ok((id, number, content, decoded(&answer)?))
        })
        .collect()
    }

    /// The header that registered a device, if one did.
    pub fn registration_of(&self, device: &DeviceKey) -> Result<Option<SignedHeader>, DbError> {
        let found: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT header FROM membership WHERE device = ?1 AND registers LIMIT 1")?
            .query_row([device.as_bytes()], |row| row.get(0))
            .optional()?;
        found.map(|bytes| decoded(&bytes)).transpose()
    }

    /// Whether a header is in the log's membership part: the one with this hash, not another copy's at its place.
    pub fn has_membership(&self, at: Position, hash: &Hash) -> Result<bool, DbError> {
        let found: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT header FROM membership WHERE generation = ?1 AND revision = ?2")?
            .query_row(params![at.generation, at.revision as i64], |row| row.get(0))
            .optional()?;
        let Some(found) = found else { return Ok(false) };
        Ok(Hash::of(&decoded::<SignedHeader>(&found)?.bytes) == *hash)
    }
}
