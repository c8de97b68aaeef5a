//! What the demo shares if nobody gives it something: made-up files, the same at each run.

use super::at;
use crate::cli::end::Outcome;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Albums of small pictures.
const ALBUMS: usize = 12;
/// Pictures of an album.
const PICTURES: usize = 25;
/// Bytes of the one large file.
const LARGE_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes written at once.
const BLOCK: usize = 1024 * 1024;

/// A tree with nested and empty folders, a few hundred small files and a large one.
pub(super) fn pictures(root: &Path) -> Outcome {
    for album in 0..ALBUMS {
        let year = root.join(format!("{}", 2015 + album / 4)).join(format!("album {:02}", album + 1));
        for picture in 0..PICTURES {
            // From nothing to some tens of KiB.
            let size = (album * PICTURES + picture) as u64 * 157 % 48_000;
            write(&year.join(format!("picture {picture:02}.jpg")), size)?;
        }
    }
    folder(&root.join("to sort").join("later"))?;
    write(&root.join(".hidden"), 7)?;
    write(&root.join("film.mov"), LARGE_BYTES)
}

/// A small tree of another device.
pub(super) fn notes(root: &Path) -> Outcome {
    let names = ["shopping.txt", "ideas/one.md", "ideas/two.md", "ideas/old/zero.md", "übrig 🎈.txt"];
    for (number, name) in names.iter().enumerate() {
        write(&root.join(name), 100 + 3_000 * number as u64)?;
    }
    folder(&root.join("empty"))
}

fn folder(path: &Path) -> Outcome {
    std::fs::create_dir_all(path).map_err(at(path))
}

/// Bytes that follow from the file's name and that nothing compresses.
fn write(path: &Path, bytes: u64) -> Outcome {
    if let Some(parent) = path.parent() {
        folder(parent)?;
    }
    let name = path.file_name().unwrap_or_default();
    let mut content = blake3::Hasher::new().update(name.as_encoded_bytes()).finalize_xof();
    let mut file = BufWriter::with_capacity(BLOCK, File::create(path).map_err(at(path))?);
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        content.fill(&mut block[..length]);
        file.write_all(&block[..length]).map_err(at(path))?;
        left -= length as u64;
    }
    file.flush().map_err(at(path))
}
