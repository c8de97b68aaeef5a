//! A file changes while it is fetched: the transfer goes over to the new version, and keeps the chunks that are the same.
//!
//! Invariant: what is claimed was verified against the list of the present version, or against an earlier one that has
//! the same hash at that place. Until the new list is here, old claims are only remembered.

use super::catalog::kind_code;
use super::{DbError, MemberStore};
use crate::wire::geometry::Geometry;
use crate::wire::log::FileMeta;
use rusqlite::{OptionalExtension, params};

/// Bytes of a chunk's hash in a list.
const HASH_BYTES: usize = 32;

/// What is known of the chunks of an earlier version.
struct Was {
    size: u64,
    claimed: Vec<u8>,
    list: Vec<u8>,
}

impl MemberStore {
    /// A transfer goes over to another version of its file. What it has of the one before is remembered, as far as it
    /// fits into the new one's length.
    pub fn renew_transfer(&self, id: u64, file: &FileMeta) -> Result<(), DbError> {
        let was = self.what_was(id, file)?;
        self.db
            .prepare_cached(
                "UPDATE transfers SET content = ?2, size = ?3, hash = ?4, chunk = ?5, mtime = ?6, executable = ?7, kind = ?8,
                 claimed = x'', done = 0, list = NULL, was_size = ?9, was_claimed = ?10, was_list = ?11 WHERE id = ?1",
            )?
            .execute(params![
                id as i64,
                file.content.0,
                file.size as i64,
                file.hash.0,
                u8::from(file.chunk),
                file.mtime_ms,
                file.executable,
                kind_code(file.kind),
                was.as_ref().map(|was| was.size as i64),
                was.as_ref().map(|was| &was.claimed),
                was.as_ref().map(|was| &was.list),
            ])?;
        Ok(())
    }

    fn what_was(&self, id: u64, now: &FileMeta) -> Result<Option<Was>, DbError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT size, chunk, claimed, list, was_size, was_claimed, was_list FROM transfers WHERE id = ?1",
            )?
            .query_row([id as i64], |row| {
                let (size, chunk) = (row.get::<_, i64>(0)? as u64, row.get::<_, u8>(1)?);
                let present = row.get::<_, Option<Vec<u8>>>(3)?.map(|list| (size, list));
                let claimed: Vec<u8> = row.get(2)?;
                let earlier: Option<Vec<u8>> = row.get(6)?;
                let was = match (present, earlier) {
                    (Some((size, list)), _) => Some(Was { size, claimed, list }),
                    (None, Some(list)) => {
                        // The part file has this version's length already.
                        Some(Was { size, claimed: row.get(5)?, list })
                    }
                    (None, None) => None,
                };
                Ok((chunk, was))
            })
            .optional()?;
        let Some((chunk, Some(mut was))) = row else { return Ok(None) };
        let fits = chunk == u8::from(now.chunk) && now.size > u64::from(now.chunk.bytes());
        if !fits {
            return Ok(None);
        }
        // Whatever lies beyond the shorter of the two lengths is cut off.
        let whole = was.size.min(now.size) / u64::from(now.chunk.bytes());
        let end = if was.size == now.size { was.size.div_ceil(u64::from(now.chunk.bytes())) } else { whole };
        keep_below(&mut was.claimed, end);
        Ok(was.claimed.iter().any(|byte| *byte != 0).then_some(was))
    }

    /// The list of a transfer's version is here. Gives the chunks of an earlier version that are the same, which are
    /// claimed from now on; none if there is no earlier one.
    pub fn carry_over(&self, id: u64, geometry: &Geometry, list: &[u8]) -> Result<Option<Vec<u8>>, DbError> {
        let was: Option<(Vec<u8>, Vec<u8>)> = self
            .db
            .prepare_cached("SELECT was_claimed, was_list FROM transfers WHERE id = ?1 AND was_list IS NOT NULL")?
            .query_row([id as i64], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((mut claimed, was_list)) = was else { return Ok(None) };
        let same = |index: usize| {
            let at = index * HASH_BYTES..(index + 1) * HASH_BYTES;
            list.get(at.clone()).is_some_and(|hash| was_list.get(at) == Some(hash))
        };
        for (byte, bits) in claimed.iter_mut().enumerate() {
            for bit in 0..8 {
                if !same(byte * 8 + bit) {
                    *bits &= !(1 << bit);
                }
            }
        }
        keep_below(&mut claimed, u64::from(geometry.chunk_count()));
        self.forget_was(id)?;
        self.db
            .prepare_cached("UPDATE transfers SET claimed = ?2 WHERE id = ?1")?
            .execute(params![id as i64, claimed])?;
        Ok(Some(claimed))
    }

    /// What was claimed of a transfer, in any version, is nowhere.
    pub fn void_claims(&self, id: u64) -> Result<(), DbError> {
        self.forget_was(id)?;
        self.db.prepare_cached("UPDATE transfers SET claimed = x'', done = 0 WHERE id = ?1")?.execute([id as i64])?;
        Ok(())
    }

    /// The part file of an earlier version is gone, or of no use.
    fn forget_was(&self, id: u64) -> Result<(), DbError> {
        self.db
            .prepare_cached("UPDATE transfers SET was_size = NULL, was_claimed = NULL, was_list = NULL WHERE id = ?1")?
            .execute([id as i64])?;
        Ok(())
    }
}

/// Takes all numbers from `end` on out of a set.
fn keep_below(bits: &mut [u8], end: u64) {
    for (byte, bits) in bits.iter_mut().enumerate() {
        for bit in 0..8 {
            if (byte * 8 + bit) as u64 >= end {
                *bits &= !(1 << bit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::download::Conflict;
    use crate::store::member::NewTransfer;
    use crate::wire::geometry::ChunkSize;
    use crate::wire::ids::{ContentId, FileId, Hash, PublicId};
    use crate::wire::log::FileKind;
    use crate::wire::path::RelPath;
    use std::path::Path;

    const MIB: u64 = 1 << 20;

    fn version(number: u8, size: u64) -> FileMeta {
        FileMeta {
            id: FileId([1; 16]),
            content: ContentId([number; 16]),
            path: RelPath::parse("film").unwrap(),
            kind: FileKind::File,
            size,
            hash: Hash([number; 32]),
            chunk: ChunkSize::for_file(size),
            mtime_ms: 0,
            executable: false,
        }
    }

    fn list(hashes: &[u8]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| [*hash; 32]).collect()
    }

    /// A transfer of five chunks, of which those in `claimed` are there.
    fn begun(claimed: u8) -> (MemberStore, u64) {
        let store = MemberStore::open_in_memory().unwrap();
        let file = version(1, 5 * MIB);
        let dest = file.path.clone();
        let new = NewTransfer { owner: PublicId([4; 16]), file, dest };
        let job = store.put_job("film", Path::new("/"), Conflict::Skip, &[new]).unwrap();
        let id = store.transfers_of(job).unwrap()[0].id;
        store.keep_list(id, &list(&[1, 2, 3, 4, 5])).unwrap();
        store.claim(id, &[claimed], 0, 0).unwrap();
        (store, id)
    }

    fn carried(store: &MemberStore, id: u64, size: u64, hashes: &[u8]) -> Option<u8> {
        let geometry = Geometry::new(size, ChunkSize::for_file(size)).unwrap();
        let carried = store.carry_over(id, &geometry, &list(hashes)).unwrap()?;
        let row = store.transfer(id).unwrap().unwrap();
        assert_eq!(row.claimed, carried, "it is on disk");
        assert_eq!(row.was_size, None);
        Some(carried[0])
    }

    #[test]
    fn chunks_that_are_the_same_stay_claimed_once_the_new_list_is_here() {
        let (store, id) = begun(0b01011);
        store.renew_transfer(id, &version(2, 5 * MIB)).unwrap();
        let row = store.transfer(id).unwrap().unwrap();
        assert!(row.claimed.is_empty() && row.list.is_none(), "nothing is claimed before");
        assert_eq!(row.was_size, Some(5 * MIB));
        assert_eq!(carried(&store, id, 5 * MIB, &[1, 9, 3, 4, 5]), Some(0b01001));
        assert_eq!(carried(&store, id, 5 * MIB, &[1, 9, 3, 4, 5]), None, "once");
    }

    #[test]
    fn what_was_cut_off_is_not_claimed_when_the_file_grows_again() {
        let (store, id) = begun(0b11111);
        store.renew_transfer(id, &version(2, 2 * MIB + 5)).unwrap();
        // The list of the second version never came; the third is as long as the first.
        store.renew_transfer(id, &version(3, 5 * MIB)).unwrap();
        assert_eq!(carried(&store, id, 5 * MIB, &[1, 2, 3, 4, 5]), Some(0b00011));
    }

    #[test]
    fn a_partial_last_chunk_is_kept_only_at_the_same_length() {
        let (store, id) = begun(0b11111);
        store.renew_transfer(id, &version(2, 5 * MIB - 1)).unwrap();
        assert_eq!(carried(&store, id, 5 * MIB - 1, &[1, 2, 3, 4, 5]), Some(0b01111));
    }

    #[test]
    fn a_part_file_that_is_gone_takes_its_claims_with_it() {
        let (store, id) = begun(0b11111);
        store.renew_transfer(id, &version(2, 5 * MIB)).unwrap();
        store.void_claims(id).unwrap();
        assert_eq!(carried(&store, id, 5 * MIB, &[1, 2, 3, 4, 5]), None);
    }

    #[test]
    fn nothing_is_carried_into_a_file_of_one_chunk() {
        let (store, id) = begun(0b11111);
        store.renew_transfer(id, &version(2, MIB)).unwrap();
        assert_eq!(store.transfer(id).unwrap().unwrap().was_size, None);
    }
}
