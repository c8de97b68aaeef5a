//! Something else has a download's name: what its job wants done then. Nothing that is there is lost, but by
//! `overwrite`, when the new content is whole.

use super::place::{item, outcome_of, part_of};
use crate::node::member::io::{Glance, Look, Place};
use crate::state::downloads::{Opened, Outcome, TransferId};
use crate::store::download::{Conflict, DiskError, Existing, ExistingKind, FinishError, Folder, names};
use crate::wire::geometry::Geometry;
use crate::wire::ids::Hash;
use crate::wire::path::RelPath;
use std::path::Path;

/// Numbers that are tried for a name before a download fails.
const NUMBERS_TRIED: u32 = 10_000;

/// What follows from what is there before the first byte. None if the download goes on to this very name.
pub(super) fn met(place: &Place, folder: &Folder, existing: Existing) -> Result<Option<Opened>, DiskError> {
    if place.is_folder && existing.kind == ExistingKind::Folder {
        return Ok(None);
    }
    if is_same(&place.dest, place.is_folder, &place.geometry, &place.root, folder, existing)? {
        if place.had_part {
            folder.remove_part(&place.dest)?;
        }
        return Ok(Some(Opened::Not(Outcome::Done)));
    }
    if is_renamed(place) || !folder.is_exact(&place.dest)? {
        // What was begun goes on; its name is chosen when it is whole.
        return if place.had_part { Ok(None) } else { free_name(place, folder).map(Some) };
    }
    let in_the_way = in_the_way(&place.dest, place.is_folder, existing);
    Ok(match place.conflict {
        Conflict::Fail | Conflict::Rename => Some(Opened::Not(in_the_way)),
        Conflict::Skip => Some(Opened::Not(Outcome::Skipped)),
        Conflict::Overwrite => Some(in_the_way).filter(|why| *why != Outcome::AlreadyThere).map(Opened::Not),
    })
}

/// What is at the place of a file, or of an empty folder, and is something else.
fn in_the_way(dest: &RelPath, is_folder: bool, existing: Existing) -> Outcome {
    match (is_folder, existing.kind) {
        (true, _) => Outcome::FileAbove(dest.components().count() as u8),
        (false, ExistingKind::Folder) => Outcome::FolderThere,
        (false, ExistingKind::File | ExistingKind::Other) => Outcome::AlreadyThere,
    }
}

/// A file lies where a folder of the path is needed. Where names get numbers, the folder gets one: all files of it go to
/// the first of that name that is a folder or can become one.
pub(super) fn blocked(place: &Place, folder: &Folder) -> Result<Opened, DiskError> {
    let Some(depth) = folder.file_above(&place.dest) else { return Ok(Opened::Not(Outcome::AlreadyThere)) };
    match place.conflict {
        Conflict::Skip => return Ok(Opened::Not(Outcome::Skipped)),
        Conflict::Rename if !place.had_part => {}
        Conflict::Fail | Conflict::Rename | Conflict::Overwrite => {
            return Ok(Opened::Not(Outcome::FileAbove(depth)));
        }
    }
    let Some(above) = place.dest.above().nth(usize::from(depth) - 1) else {
        return Ok(Opened::Not(Outcome::FileAbove(depth)));
    };
    let rest = &place.dest.as_str()[above.as_str().len()..];
    for number in 2..NUMBERS_TRIED {
        let name = names::numbered(&above, number);
        let fits = folder.existing(&name)?.is_none_or(|existing| existing.kind == ExistingKind::Folder);
        if let (true, Ok(dest)) = (fits, RelPath::parse(&format!("{name}{rest}"))) {
            return Ok(Opened::Elsewhere(dest));
        }
    }
    Ok(Opened::Not(Outcome::FileAbove(depth)))
}

/// Whether a name that is taken gets a number. A name that was changed already belongs to nobody's choice.
fn is_renamed(place: &Place) -> bool {
    place.conflict == Conflict::Rename || place.dest != place.wish
}

/// Whether the end of this download may replace a file.
pub(super) fn replaces(place: &Place) -> bool {
    place.conflict == Conflict::Overwrite && place.dest == place.wish
}

/// Whether the place has the content already.
pub(super) fn is_there(place: &Place, folder: &Folder) -> bool {
    let same = |existing| is_same(&place.dest, false, &place.geometry, &place.root, folder, existing);
    matches!(folder.existing(&place.dest), Ok(Some(existing)) if same(existing).unwrap_or(false))
}

fn is_same(
    dest: &RelPath,
    is_folder: bool,
    geometry: &Geometry,
    root: &Hash,
    folder: &Folder,
    existing: Existing,
) -> Result<bool, DiskError> {
    let may_be = !is_folder && existing.kind == ExistingKind::File && existing.size == geometry.size();
    Ok(may_be && folder.hash_existing(dest)? == *root)
}

/// A name with a number that is free, or that the same content has already.
fn free_name(place: &Place, folder: &Folder) -> Result<Opened, DiskError> {
    for number in 2..NUMBERS_TRIED {
        let name = names::numbered(&base(place), number);
        let free = match folder.existing(&name)? {
            None => true,
            Some(existing) => is_same(&name, place.is_folder, &place.geometry, &place.root, folder, existing)?,
        };
        if free {
            return Ok(Opened::Elsewhere(name));
        }
    }
    Ok(Opened::Not(Outcome::AlreadyThere))
}

/// The name that numbers are put to: the one that was wished for, as this system can hold it, in the folder that it got.
fn base(place: &Place) -> RelPath {
    let is_fitted =
        std::iter::successors(names::fitted(&place.wish, &place.wish), |name| names::fitted(&place.wish, name))
            .any(|name| name == place.dest);
    if is_fitted {
        return place.dest.clone();
    }
    let above = place.dest.as_str().len() - place.dest.name().len();
    RelPath::parse(&format!("{}{}", &place.dest.as_str()[..above], place.wish.name()))
        .unwrap_or_else(|_| place.wish.clone())
}

/// The target system can't hold the name.
pub(super) fn unholdable(place: &Place) -> Opened {
    match names::fitted(&place.wish, &place.dest) {
        Some(name) if !place.had_part => Opened::Elsewhere(name),
        _ => Opened::Not(Outcome::NameTooLong),
    }
}

/// Something got the name while the download ran: the same policy, with the content at hand.
pub(super) fn met_at_the_end(place: &Place, folder: &Folder) -> (Outcome, Option<RelPath>) {
    match resolve_at_the_end(place, folder) {
        Ok(resolved) => resolved,
        Err(error) => (outcome_of(&error), None),
    }
}

fn resolve_at_the_end(place: &Place, folder: &Folder) -> Result<(Outcome, Option<RelPath>), DiskError> {
    if let Some(existing) = folder.existing(&place.dest)? {
        if is_same(&place.dest, false, &place.geometry, &place.root, folder, existing)? {
            folder.remove_part(&place.dest)?;
            return Ok((Outcome::Done, None));
        }
        if !is_renamed(place) && folder.is_exact(&place.dest)? {
            let outcome = if place.conflict == Conflict::Skip { Outcome::Skipped } else { Outcome::AlreadyThere };
            return Ok((outcome, None));
        }
    }
    for number in 2..NUMBERS_TRIED {
        let part = match part_of(place, folder) {
            Ok(part) => part,
            Err(outcome) => return Ok((outcome, None)),
        };
        let name = names::numbered(&base(place), number);
        match folder.finish(item(place, part, name.clone(), false)) {
            Ok(()) => return Ok((Outcome::Done, Some(name))),
            Err(FinishError::AlreadyThere(_)) => {}
            Err(FinishError::Disk(error)) => return Err(error),
        }
    }
    Ok((Outcome::AlreadyThere, None))
}

/// Looks at the places of a job before anything of it is fetched.
pub(super) fn look(folder: &Path, looks: Vec<Look>) -> Vec<(TransferId, Glance)> {
    let folder = Folder::open_existing(folder).ok().flatten();
    let glance = |look: Look| {
        let seen = folder.as_ref().map_or(Glance::Free, |folder| glance_at(folder, &look));
        (look.transfer, seen)
    };
    looks.into_iter().map(glance).collect()
}

fn glance_at(folder: &Folder, look: &Look) -> Glance {
    match folder.existing(&look.dest) {
        Ok(Some(existing)) if look.is_folder && existing.kind == ExistingKind::Folder => Glance::Free,
        Ok(Some(existing)) => {
            match is_same(&look.dest, look.is_folder, &look.geometry, &look.root, folder, existing) {
                Ok(true) => Glance::Same,
                // Names that the disk can't tell apart are renamed.
                _ if folder.is_exact(&look.dest).is_ok_and(|exact| !exact) => Glance::Free,
                Ok(false) | Err(_) => Glance::InTheWay(in_the_way(&look.dest, look.is_folder, existing)),
            }
        }
        Err(DiskError::InTheWay(_)) => {
            Glance::InTheWay(folder.file_above(&look.dest).map_or(Outcome::AlreadyThere, Outcome::FileAbove))
        }
        // Whatever else there is to say is said when it is opened.
        Ok(None) | Err(_) => Glance::Free,
    }
}
