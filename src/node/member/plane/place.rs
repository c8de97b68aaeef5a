//! Where downloads go on disk. Every function here blocks, and runs on the pool.

use crate::node::member::io::Place;
use crate::state::downloads::{Came, Opened, Outcome, TransferId};
use crate::store::download::{DiskError, ExistingKind, FinishError, FinishItem, Folder, Part};
use crate::store::tree::check_chunk;
use crate::wire::ids::Hash;
use std::path::Path;
use std::sync::Arc;

/// A transfer's open place.
pub(super) struct Opening {
    pub(super) folder: Option<Arc<Folder>>,
    pub(super) part: Option<Arc<Part>>,
    pub(super) opened: Opened,
}

/// Opens the folder of a job, making it if need be.
fn open_folder(path: &Path) -> Result<Folder, DiskError> {
    if let Err(error) = std::fs::create_dir_all(path) {
        tracing::debug!(%error, "the destination folder can't be made");
    }
    Folder::open(path)
}

/// Looks at a place and opens its part file.
pub(super) fn open(place: &Place, folder: Option<Arc<Folder>>) -> Opening {
    let folder = match folder.map_or_else(|| open_folder(&place.folder).map(Arc::new), Ok) {
        Ok(folder) => folder,
        Err(error) => return Opening { folder: None, part: None, opened: Opened::Not(outcome_of(&error)) },
    };
    let (part, opened) = match open_part(place, &folder) {
        Ok((part, opened)) => (part.map(Arc::new), opened),
        Err(error) => {
            tracing::debug!(%error, "a download can't be written");
            (None, Opened::Not(outcome_of(&error)))
        }
    };
    Opening { folder: Some(folder), part, opened }
}

fn open_part(place: &Place, folder: &Folder) -> Result<(Option<Part>, Opened), DiskError> {
    if place.is_folder {
        return Ok((None, Opened::Ready));
    }
    if let Some(outcome) = what_is_there(place, folder)? {
        if place.had_part && outcome == Outcome::Done {
            folder.remove_part(&place.dest)?;
        }
        return Ok((None, Opened::Not(outcome)));
    }
    let size = place.geometry.size();
    if place.geometry.chunk_count() <= 1 {
        if place.had_part {
            folder.remove_part(&place.dest)?;
        }
        return Ok((None, Opened::Ready));
    }
    if place.had_part {
        if let Some(part) = folder.open_part(&place.dest, size)? {
            return Ok((Some(part), Opened::Ready));
        }
        if place.has_claims {
            // A new part file would look like the one that the claims are of, if this process died now.
            return Ok((None, Opened::Anew));
        }
        folder.remove_part(&place.dest)?;
    }
    Ok((Some(folder.create_part(&place.dest, size)?), Opened::Ready))
}

/// Something is at the destination: the same content is as good as a download of it.
fn what_is_there(place: &Place, folder: &Folder) -> Result<Option<Outcome>, DiskError> {
    let Some(existing) = folder.existing(&place.dest)? else { return Ok(None) };
    let may_be_same = existing.kind == ExistingKind::File && existing.size == place.geometry.size();
    let same = may_be_same && folder.hash_existing(&place.dest)? == place.root;
    Ok(Some(if same { Outcome::Done } else { Outcome::AlreadyThere }))
}

/// Checks a chunk and writes it where it belongs. A file of one chunk gets its part file now.
pub(super) fn write(
    place: &Place,
    folder: &Folder,
    part: Option<&Part>,
    index: u32,
    bytes: &[u8],
) -> (Came, Option<Part>) {
    let list = place.list.as_ref().map(|list| list.as_slice());
    if !check_chunk(&place.geometry, index, bytes, &place.root, list) {
        return (Came::Damaged, None);
    }
    let written = match part {
        Some(part) => part.write_at(place.geometry.chunk_offset(index), bytes).map(|()| None),
        None => write_small(place, folder, bytes).map(Some),
    };
    match written {
        Ok(part) => (Came::Verified, part),
        Err(error) => (Came::NotWritten(outcome_of(&error)), None),
    }
}

fn write_small(place: &Place, folder: &Folder, bytes: &[u8]) -> Result<Part, DiskError> {
    let part = folder.create_part(&place.dest, bytes.len() as u64)?;
    part.write_at(0, bytes)?;
    Ok(part)
}

/// One transfer to end.
pub(super) struct Ending {
    pub(super) place: Arc<Place>,
    pub(super) folder: Arc<Folder>,
    pub(super) part: Option<Part>,
}

/// Ends transfers that go to one folder.
pub(super) fn finish(endings: Vec<Ending>) -> Vec<(TransferId, Outcome)> {
    let mut outcomes = Vec::with_capacity(endings.len());
    let mut items = Vec::new();
    let mut ids = Vec::new();
    let mut target = None;
    for Ending { place, folder, part } in endings {
        let transfer = place.transfer;
        if place.is_folder {
            outcomes.push((
                transfer,
                folder.make_folder(&place.dest).map_or_else(|error| outcome_of(&error), |()| Outcome::Done),
            ));
            continue;
        }
        match part.map_or_else(|| part_of(&place, &folder), Ok) {
            Ok(part) => {
                ids.push(transfer);
                items.push(FinishItem {
                    part,
                    dest: place.dest.clone(),
                    mtime_ms: place.mtime_ms,
                    executable: place.executable,
                    replace: false,
                });
                target = Some(folder);
            }
            Err(outcome) => outcomes.push((transfer, outcome)),
        }
    }
    if let Some(folder) = target {
        let finished = folder.finish_many(items);
        outcomes.extend(ids.into_iter().zip(finished.into_iter().map(finish_outcome)));
    }
    outcomes
}

/// The part of an empty file, which no chunk made; or that of a file whose handle somebody still holds.
fn part_of(place: &Place, folder: &Folder) -> Result<Part, Outcome> {
    let size = place.geometry.size();
    if size == 0 && place.root != Hash::of(&[]) {
        return Err(Outcome::Damaged);
    }
    let open = folder.open_part(&place.dest, size).map_err(|error| outcome_of(&error))?;
    match open {
        Some(part) => Ok(part),
        None if size == 0 => folder.create_part(&place.dest, 0).map_err(|error| outcome_of(&error)),
        None => Err(Outcome::CannotWrite),
    }
}

fn finish_outcome(finished: Result<(), FinishError>) -> Outcome {
    match finished {
        Ok(()) => Outcome::Done,
        Err(FinishError::AlreadyThere(_)) => Outcome::AlreadyThere,
        Err(FinishError::Disk(error)) => outcome_of(&error),
    }
}

/// What a disk's refusal means for a transfer.
pub(super) fn outcome_of(error: &DiskError) -> Outcome {
    match error {
        DiskError::Full => Outcome::DiskFull,
        DiskError::Denied(_) | DiskError::Io { .. } => {
            tracing::warn!(%error, "a download can't be written");
            Outcome::CannotWrite
        }
        DiskError::Jail(_) => Outcome::Jail,
        DiskError::Name(_) => Outcome::NameTooLong,
        DiskError::InTheWay(_) | DiskError::Reserved(_) => Outcome::AlreadyThere,
    }
}
