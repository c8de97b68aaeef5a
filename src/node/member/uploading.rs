//! A person at the owner's end pauses uploads (W16): what is asked for is answered "paused by its owner", and what is
//! being sent stops. Pauses are kept by file, whatever its version, and hold over restarts.

use super::core::{Cx, MemberCore};
use super::io::{Output, Withdrawn};
use super::jobs::Control;
use super::opening::failed;
use crate::node::local::{ErrorCode, LocalError, TransferRow};
use crate::state::conn::ConnId;
use crate::store::member::{DbError, LocalFile};
use crate::wire::frame::ChunkRange;
use crate::wire::ids::{FileId, hex};

/// What ids of uploads begin with.
pub(super) const UPLOAD_PREFIX: &str = "up-";
/// Digits of an upload's id, as it is shown.
const SHOWN_DIGITS: usize = 8;
/// Digits of an upload's id, at least, when it is asked for.
const DIGITS_MIN: usize = 4;
/// Uploads that may be paused at a time: the set of them is in memory.
const PAUSED_MAX: usize = 10_000;

/// How an upload is called.
pub(super) fn upload_id(file: &FileId) -> String {
    format!("{UPLOAD_PREFIX}{}", &hex(&file.0)[..SHOWN_DIGITS])
}

impl MemberCore {
    /// The shared file whose upload is meant.
    pub(super) fn find_upload(&self, control: Control, id: &str) -> Result<LocalFile, LocalError> {
        if control == Control::Cancel {
            return Err(LocalError::new(
                ErrorCode::Usage,
                format!("{id} is an upload, which ends when nobody fetches the file any more"),
                "'bailiwick pause' stops it until you resume it",
            ));
        }
        let digits = id.strip_prefix(UPLOAD_PREFIX).unwrap_or(id).to_ascii_lowercase();
        let is_prefix = digits.len() >= DIGITS_MIN && digits.chars().all(|c| c.is_ascii_hexdigit());
        let found = if is_prefix { self.store.local_by_prefix(&digits).map_err(failed)? } else { Vec::new() };
        match (found.len(), found.into_iter().next()) {
            (1, Some(file)) => Ok(file),
            (0, _) | (_, None) => Err(LocalError::new(
                ErrorCode::NotFound,
                format!("there is no upload {id}"),
                "'bailiwick transfers' shows the uploads",
            )),
            _ => Err(LocalError::new(
                ErrorCode::Ambiguous,
                format!("{id} means several files"),
                "give more digits: the file's id is in 'bailiwick files --json'",
            )),
        }
    }

    /// The uploads that `--all` means: those that are shown as running, or those that are paused.
    pub(super) fn uploads_meant_by_all(&self, cx: &Cx<'_>, control: Control) -> Result<Vec<LocalFile>, DbError> {
        let mut meant = Vec::new();
        match control {
            Control::Cancel => {}
            Control::Resume => {
                for file in &self.paused_uploads {
                    meant.extend(self.store.local_file(file)?);
                }
            }
            Control::Pause => {
                for content in self.activity.uploading(cx.now) {
                    let file = self.store.local_content(&content)?;
                    meant.extend(file.filter(|file| !self.paused_uploads.contains(&file.meta.id)));
                }
            }
        }
        Ok(meant)
    }

    pub(super) fn control_upload(
        &mut self,
        cx: &mut Cx<'_>,
        control: Control,
        file: &LocalFile,
    ) -> Result<TransferRow, LocalError> {
        let id = file.meta.id;
        let paused = control == Control::Pause;
        if paused && !self.paused_uploads.contains(&id) && self.paused_uploads.len() >= PAUSED_MAX {
            return Err(LocalError::new(
                ErrorCode::NotNow,
                format!("{PAUSED_MAX} uploads are paused already"),
                "resume some, with 'bailiwick resume --all' if need be",
            ));
        }
        self.store.set_upload_paused(&id, paused).map_err(failed)?;
        if paused {
            self.paused_uploads.insert(id);
            self.outputs.push(Output::StopUploads(Withdrawn::Paused(file.meta.content)));
        } else {
            self.paused_uploads.remove(&id);
        }
        let state = if paused { "paused" } else { "waiting" };
        self.event("upload", vec![("id", upload_id(&id)), ("state", state.to_owned())]);
        Ok(self.upload_row(cx, file))
    }

    /// Nobody wants these any more: what is held, queued or being sent of them stops.
    pub(super) fn upload_cancelled(&mut self, conn: ConnId, request: u64, ranges: Vec<ChunkRange>) {
        if crate::wire::frame::within_limits(&ranges) {
            self.uploads.cancel(conn, request, &ranges);
            self.outputs.push(Output::Unsend(conn, request, ranges));
        }
    }
}
