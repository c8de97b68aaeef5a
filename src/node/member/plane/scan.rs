//! Walking and hashing a share. Blocks, and runs on the pool; what it finds goes to the core in batches.

use crate::node::clock::SystemRandom;
use crate::node::member::io::Input;
use crate::state::random::draw;
use crate::store::member::Staged;
use crate::store::read::hash_file;
use crate::store::walk::{Found, Kind, Stamp, Step, Walk};
use crate::wire::geometry::ChunkSize;
use crate::wire::ids::{ContentId, FileId, Hash};
use crate::wire::log::{FileKind, FileMeta};
use crate::wire::path::RelPath;
use std::collections::HashMap;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Files of one batch, at most.
const BATCH_FILES: usize = 256;
/// Skipped things that are told in words; the rest is counted.
const SKIPPED_TOLD: usize = 20;

/// A share to look at.
pub(super) struct Share {
    pub(super) path: PathBuf,
    pub(super) name: RelPath,
    pub(super) known: Vec<(RelPath, Stamp)>,
    pub(super) state_dir: PathBuf,
}

/// Looks at a share. Ends early if the core is gone.
pub(super) fn scan(share: Share, core: &mpsc::Sender<Input>) {
    let known: HashMap<RelPath, Stamp> = share.known.into_iter().collect();
    let mut batch = Vec::new();
    let (mut skipped, mut skipped_count) = (Vec::new(), 0u64);
    let mut skip = |what: String| {
        skipped_count += 1;
        if skipped.len() < SKIPPED_TOLD {
            skipped.push(what);
        }
    };
    for step in Walk::new(&share.path, &share.name, &share.state_dir) {
        match step {
            Step::Skipped(one) => skip(format!("{}: {}", one.path, one.why)),
            Step::Found(found) if known.get(&found.rel) == Some(&found.stamp) => {}
            Step::Found(found) => match stage(&found) {
                Ok(staged) => batch.push(staged),
                Err(why) => skip(format!("{}: {why}", found.rel)),
            },
        }
        if batch.len() >= BATCH_FILES {
            let files = std::mem::take(&mut batch);
            if core.blocking_send(Input::Staged(share.path.clone(), files)).is_err() {
                return;
            }
        }
    }
    if !batch.is_empty() && core.blocking_send(Input::Staged(share.path.clone(), batch)).is_err() {
        return;
    }
    let _ = core.blocking_send(Input::ScanEnded(share.path, skipped, skipped_count));
}

fn stage(found: &Found) -> Result<Staged, String> {
    let id = FileId::from_random(draw(&mut SystemRandom));
    let content = ContentId::from_random(draw(&mut SystemRandom));
    let (kind, size, hash, list, stamp) = match found.kind {
        Kind::EmptyFolder => (FileKind::Folder, 0, Hash::of(&[]), Vec::new(), found.stamp),
        Kind::File => {
            let (hashed, stamp) =
                hash_file(&found.abs, ChunkSize::for_file(found.stamp.size)).map_err(|error| error.to_string())?;
            (FileKind::File, hashed.size, hashed.hash, hashed.list, stamp)
        }
    };
    let chunk = ChunkSize::for_file(if kind == FileKind::File { found.stamp.size } else { 0 });
    let meta = FileMeta {
        id,
        content,
        path: found.rel.clone(),
        kind,
        size,
        hash,
        chunk,
        mtime_ms: stamp.mtime_ms(),
        executable: found.executable,
    };
    Ok(Staged { meta, abs: found.abs.clone(), stamp, list })
}
