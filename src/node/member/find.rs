//! What people mean: devices by name or prefix, files by `NAME:PATH` or prefix.

use super::core::MemberCore;
use super::opening::failed;
use crate::node::local::{ErrorCode, LocalError};
use crate::state::roster::Device;
use crate::store::member::{CatalogRow, Found, NewTransfer};
use crate::wire::ids::{FileId, PublicId, hex};
use crate::wire::log::Standing;
use crate::wire::path::RelPath;
use std::collections::HashMap;
use std::path::Path;

/// Devices that are named where a text means several, at most.
const DEVICES_SHOWN: usize = 5;
/// Digits of an id's prefix, at least.
pub(super) const PREFIX_DIGITS_MIN: usize = 4;

impl MemberCore {
    /// The device that a name, an id or an unambiguous prefix means.
    pub(super) fn find_device(&self, text: &str) -> Result<&Device, LocalError> {
        let folded = text.to_lowercase();
        let named = |device: &&Device| device.name.folded() == folded;
        let living = |device: &&Device| !device.standing.is_final();
        let digits = text.replace('-', "").to_ascii_lowercase();
        let is_prefix = digits.len() >= PREFIX_DIGITS_MIN && digits.chars().all(|c| c.is_ascii_hexdigit());
        let begins = |device: &&Device| is_prefix && hex(&device.id.0).starts_with(&digits);
        if let Some(device) = self.roster().devices().filter(living).find(named) {
            // A name that is another one's id was chosen to be mistaken for it.
            let others = self.roster().devices().filter(living).filter(begins).filter(|other| other.id != device.id);
            let meant: Vec<&Device> = std::iter::once(device).chain(others).collect();
            return if meant.len() == 1 { Ok(device) } else { Err(several(text, &meant)) };
        }
        let found: Vec<&Device> = self.roster().devices().filter(begins).collect();
        match found.as_slice() {
            [device] => Ok(device),
            [_, _, ..] => Err(several(text, &found)),
            [] => self.roster().devices().find(named).ok_or_else(|| {
                LocalError::new(
                    ErrorCode::NotFound,
                    format!("there is no device '{text}' in the group"),
                    "'bailiwick clients' shows the names and ids",
                )
            }),
        }
    }

    /// The files that a person asked for, each once, with where it belongs below the destination.
    pub(super) fn find_files(&self, texts: &[String]) -> Result<Vec<NewTransfer>, LocalError> {
        let mut found = Vec::new();
        for text in texts {
            let rows = match text.split_once(':') {
                Some((name, path)) => self.find_by_path(text, name, path)?,
                None => vec![self.find_by_prefix(text)?],
            };
            found.extend(rows);
        }
        let mut places: HashMap<RelPath, FileId> = HashMap::new();
        let mut once = Vec::new();
        for transfer in found {
            if self.me == Some(transfer.owner) {
                return Err(LocalError::new(
                    ErrorCode::Usage,
                    format!("{} is shared by this device itself", transfer.file.path),
                    "it is here already; 'bailiwick shares' shows where",
                ));
            }
            match places.insert(transfer.dest.clone(), transfer.file.id) {
                None => once.push(transfer),
                Some(same) if same == transfer.file.id => {}
                Some(_) => {
                    return Err(LocalError::new(
                        ErrorCode::Usage,
                        format!("two of the files would have to lie at {}", transfer.dest),
                        "get them one by one, into different folders (-o)",
                    ));
                }
            }
        }
        Ok(once)
    }

    pub(super) fn find_by_path(&self, text: &str, name: &str, path: &str) -> Result<Vec<NewTransfer>, LocalError> {
        let owner = self.find_device(name)?;
        let (owner, standing) = (owner.id, self.roster().standing(&owner.key));
        if standing != Some(Standing::Approved) {
            return Err(LocalError::new(
                ErrorCode::Refused,
                format!("'{name}' is not a member of the group"),
                "'bailiwick clients' shows who is",
            ));
        }
        let none = || nothing_at(text, name);
        let rows = if path.is_empty() {
            self.store.files_of(&owner).map_err(failed)?
        } else {
            let path = RelPath::parse(path.trim_end_matches('/')).map_err(|_| none())?;
            match self.store.file_at(&owner, &path).map_err(failed)? {
                Some(row) => vec![row],
                None => self.store.files_below(&owner, &path).map_err(failed)?,
            }
        };
        if rows.is_empty() {
            return Err(none());
        }
        let above = path.trim_end_matches('/').rsplit_once('/').map_or(0, |(above, _)| above.len() + 1);
        rows.into_iter().map(|row| transfer_below(row, above)).collect()
    }

    fn find_by_prefix(&self, text: &str) -> Result<NewTransfer, LocalError> {
        let digits = text.replace('-', "");
        let is_prefix = digits.len() >= PREFIX_DIGITS_MIN && digits.chars().all(|c| c.is_ascii_hexdigit());
        let found = if is_prefix { self.store.file_by_prefix(&digits).map_err(failed)? } else { Found::None };
        match found {
            Found::One(row) => {
                let above = row.file.path.as_str().len() - row.file.path.name().len();
                transfer_below(row, above)
            }
            Found::Many | Found::None => Err(self.not_one(text, matches!(found, Found::Many))),
        }
    }

    /// Why the beginning of an id means no file.
    pub(super) fn not_one(&self, text: &str, several: bool) -> LocalError {
        if several {
            return LocalError::new(
                ErrorCode::Ambiguous,
                format!("'{text}' means several files"),
                "give more digits of the id, or NAME:PATH",
            );
        }
        let hint = self.meant_otherwise(text).unwrap_or_else(|| {
            format!(
                "give NAME:PATH, or the first digits ({PREFIX_DIGITS_MIN} or more) of an id that 'bailiwick files' shows"
            )
        });
        LocalError::new(ErrorCode::NotFound, format!("there is no file '{text}' in the catalog"), hint)
    }

    /// What to say instead, for a path of this device's disk or a device's name.
    fn meant_otherwise(&self, text: &str) -> Option<String> {
        if text.starts_with(['/', '~', '.']) {
            let name = self.me.map(|me| self.owner_name(&me))?;
            let shared = self.share_above(Path::new(text)).ok().flatten();
            return Some(match shared {
                Some((_, path)) => format!("it is shared as '{name}:{path}': give that"),
                None => "give NAME:PATH as 'bailiwick files' shows it; 'bailiwick shares' tells what is shared as what"
                    .to_owned(),
            });
        }
        let device = self.find_device(text).ok()?;
        let name = &device.name;
        Some(format!("all that {name} shares is '{name}:'; 'bailiwick files {name}:' lists it"))
    }

    /// Devices whose name, with a colon and a path, could hold this text.
    pub(super) fn owners_matching(&self, query: &str) -> Vec<PublicId> {
        let folded = query.to_lowercase();
        let matching = |device: &&Device| format!("{}:", device.name.folded()).contains(&folded);
        self.roster().devices().filter(matching).map(|device| device.id).collect()
    }
}

/// A text means more than one device.
fn several(text: &str, devices: &[&Device]) -> LocalError {
    let shown =
        devices.iter().take(DEVICES_SHOWN).map(|device| format!("{} ({}, id {})", device.name, device.code, device.id));
    let more = if devices.len() > DEVICES_SHOWN { "; and more" } else { "" };
    LocalError::new(
        ErrorCode::Ambiguous,
        format!("'{text}' is ambiguous: it means {}{more}", shown.collect::<Vec<_>>().join("; ")),
        "give the whole id of the one that you mean, or more digits of it",
    )
}

/// A device has nothing at this path.
pub(super) fn nothing_at(text: &str, name: &str) -> LocalError {
    let hint = match text.contains(['*', '?']) {
        true => format!("patterns are not known: '{name}:' means all that it shares, and a folder's path its tree"),
        false => format!("'bailiwick files' shows what there is; 'bailiwick files {name}:' what that device shares"),
    };
    LocalError::new(ErrorCode::NotFound, format!("there is no file '{text}' in the catalog"), hint)
}

fn transfer_below(row: CatalogRow, above: usize) -> Result<NewTransfer, LocalError> {
    let dest = row.file.path.as_str().get(above..).and_then(|text| RelPath::parse(text).ok());
    let dest = dest.unwrap_or_else(|| row.file.path.clone());
    Ok(NewTransfer { owner: row.owner, file: row.file, dest })
}
