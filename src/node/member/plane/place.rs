//! Where downloads go on disk. Every function here blocks, and runs on the pool.

use super::conflict;
use crate::node::member::io::Place;
use crate::state::downloads::{Came, Opened, Outcome, TransferId};
use crate::store::download::{DiskError, FinishError, FinishItem, Folder, Part, keeps_reserve};
use crate::store::tree::check_chunk;
use crate::wire::ids::Hash;
use crate::wire::path::RelPath;
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

/// Removes an unfinished download. Says whether it is gone; a folder that is not there may come back with it.
pub(super) fn remove_part(folder: &Path, dest: &RelPath) -> bool {
    let removed = match Folder::open_existing(folder) {
        Ok(Some(folder)) => folder.remove_part(dest).map(|()| true),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    removed.unwrap_or_else(|error| {
        tracing::debug!(%error, "a part file stays");
        false
    })
}

/// Looks at a place and opens its part file.
pub(super) fn open(place: &Place, folder: Option<Arc<Folder>>, state_dir: &Path) -> Opening {
    if !keeps_reserve(state_dir) {
        return Opening { folder: None, part: None, opened: Opened::Not(Outcome::StateFull) };
    }
    let folder = folder.filter(|folder| folder.is_at(&place.folder));
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
    let opened = match folder.existing(&place.dest) {
        Ok(None) => None,
        Ok(Some(existing)) => conflict::met(place, folder, existing)?,
        Err(DiskError::Name(_)) => Some(conflict::unholdable(place)),
        Err(DiskError::InTheWay(_)) => Some(conflict::blocked(place, folder)?),
        Err(error) => return Err(error),
    };
    if let Some(opened) = opened {
        return Ok((None, opened));
    }
    if place.is_folder {
        return Ok((None, Opened::Ready));
    }
    match make_part(place, folder) {
        Err(DiskError::Name(_)) => Ok((None, conflict::unholdable(place))),
        made => made,
    }
}

fn make_part(place: &Place, folder: &Folder) -> Result<(Option<Part>, Opened), DiskError> {
    let size = place.geometry.size();
    if place.geometry.chunk_count() <= 1 {
        if place.had_part {
            folder.remove_part(&place.dest)?;
        }
        return Ok((None, Opened::Ready));
    }
    if place.had_part {
        let part = match place.was_size {
            Some(was) => folder.open_part_of_other_version(&place.dest, was, size)?,
            None => folder.open_part(&place.dest, size)?,
        };
        if let Some(part) = part {
            return Ok((Some(part), Opened::Ready));
        }
        folder.remove_part(&place.dest)?;
    }
    if place.has_claims || place.was_size.is_some() {
        // The claims must be forgotten on disk before there is a part that they don't hold for.
        return Ok((None, Opened::Anew));
    }
    Ok((Some(folder.create_part(&place.dest, size)?), Opened::Ready))
}

/// Checks a chunk and writes it where it belongs. A file of one chunk gets its part file now.
pub(super) fn write(
    place: &Place,
    folder: &Folder,
    part: Option<&Part>,
    index: u32,
    bytes: &[u8],
    state_dir: &Path,
) -> (Came, Option<Part>) {
    if !keeps_reserve(state_dir) {
        return (Came::NotWritten(Outcome::StateFull), None);
    }
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

/// How a transfer ended, and the name that it got if it could not have its own.
pub(super) type Ended = (TransferId, Outcome, Option<RelPath>);

/// Ends transfers that go to one folder.
pub(super) fn finish(endings: Vec<Ending>) -> Vec<Ended> {
    let mut outcomes = Vec::with_capacity(endings.len());
    let (mut items, mut places) = (Vec::new(), Vec::new());
    let mut target = None;
    for Ending { place, folder, part } in endings {
        let transfer = place.transfer;
        if place.is_folder {
            let made = folder.make_folder(&place.dest, place.mtime_ms);
            outcomes.push((transfer, made.map_or_else(|error| outcome_of(&error), |()| Outcome::Done), None));
            continue;
        }
        let part = part.map_or_else(|| part_of(&place, &folder), Ok);
        match part.and_then(|part| whole(part, &place, &folder)) {
            Ok(part) => {
                items.push(item(&place, part, place.dest.clone(), conflict::replaces(&place)));
                places.push(place);
                target = Some(folder);
            }
            Err(outcome) => outcomes.push((transfer, outcome, None)),
        }
    }
    if let Some(folder) = target {
        let finished = folder.finish_many(items);
        outcomes.extend(places.iter().zip(finished).map(|(place, finished)| {
            let (outcome, name) = match finished {
                Ok(()) => (Outcome::Done, None),
                Err(FinishError::AlreadyThere(_)) => conflict::met_at_the_end(place, &folder),
                // Another download to the same place was faster.
                Err(FinishError::Disk(DiskError::Unfinished(_))) if conflict::is_there(place, &folder) => {
                    (Outcome::Done, None)
                }
                Err(FinishError::Disk(error)) => (outcome_of(&error), None),
            };
            (place.transfer, outcome, name)
        }));
    }
    outcomes
}

/// A transfer's end, under this name.
pub(super) fn item(place: &Place, part: Part, dest: RelPath, replace: bool) -> FinishItem {
    FinishItem { part, dest, mtime_ms: place.mtime_ms, executable: place.executable, replace }
}

/// The part of an empty file, which no chunk made; or that of a file whose handle somebody still holds.
pub(super) fn part_of(place: &Place, folder: &Folder) -> Result<Part, Outcome> {
    let size = place.geometry.size();
    if size == 0 && place.root != Hash::of(&[]) {
        return Err(Outcome::Damaged);
    }
    let open = folder.open_part(&place.dest, size).map_err(|error| outcome_of(&error))?;
    match open {
        Some(part) => Ok(part),
        None if size == 0 => folder.create_part(&place.dest, 0).map_err(|error| outcome_of(&error)),
        // Another download to the same place took it, or somebody deleted it: the place is looked at anew.
        None => Err(Outcome::PlaceTaken),
    }
}

/// A part that holds its file. One that was changed on the disk goes, with all that was claimed of it: its place is looked
/// at anew.
fn whole(part: Part, place: &Place, folder: &Folder) -> Result<Part, Outcome> {
    match part.is_whole(place.geometry.size(), &place.root) {
        Ok(true) => Ok(part),
        Ok(false) => {
            tracing::warn!(dest = %place.dest, "an unfinished download was changed on the disk: it begins anew");
            folder.remove_part(&place.dest).map_err(|error| outcome_of(&error))?;
            Err(Outcome::PlaceTaken)
        }
        Err(error) => Err(outcome_of(&error)),
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
        DiskError::State(_) => Outcome::StateDirectory,
        DiskError::Name(_) => Outcome::NameTooLong,
        DiskError::Unfinished(_) => Outcome::PlaceTaken,
        DiskError::InTheWay(_) | DiskError::Reserved(_) => Outcome::AlreadyThere,
    }
}
