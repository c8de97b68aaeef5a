//! Compares what arrived with what was shared: every file's bytes by BLAKE3, here, there and in the catalog; every
//! folder; and that nothing else is there.

use super::{at, failed};
use crate::cli::end::{End, Outcome};
use crate::node::local::{FileRow, KindRow};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Bytes read at once.
const BLOCK: usize = 1024 * 1024;

/// What was found to be the same on both sides.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Files.
    pub(super) files: u64,
    /// Folders.
    pub(super) folders: u64,
    /// The files' bytes.
    pub(super) bytes: u64,
}

/// Compares a shared file or tree with its copy and with the catalog's rows of it.
pub(super) fn verify(source: &Path, copy: &Path, rows: &[FileRow]) -> Outcome<Checked> {
    let (shared, arrived) = (Tree::walk(source)?, Tree::walk(copy)?);
    if shared.folders != arrived.folders {
        return Err(differs(source, "its folders did not all arrive, or others are there"));
    }
    if !shared.files.keys().eq(arrived.files.keys()) {
        return Err(differs(source, "its files did not all arrive, or others are there"));
    }
    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let listed: BTreeMap<&str, &str> = files(rows).map(|row| (row.path.as_str(), row.hash.as_str())).collect();
    if listed.len() != shared.files.len() {
        return Err(differs(source, "the catalog lists another number of files"));
    }
    for (relative, bytes) in &shared.files {
        let (there, here) = (within(source, relative), within(copy, relative));
        let hash = hash(&there)?;
        if hash != self::hash(&here)? {
            return Err(differs(&here, &format!("it is not what was shared ({bytes} bytes)")));
        }
        let path = within(Path::new(&name), relative);
        if path.to_str().and_then(|path| listed.get(path)) != Some(&hash.as_str()) {
            return Err(differs(&there, "the catalog has another hash"));
        }
    }
    let (files, bytes) = (shared.files.len() as u64, shared.files.values().sum());
    Ok(Checked { files, folders: shared.folders.len() as u64, bytes })
}

fn files(rows: &[FileRow]) -> impl Iterator<Item = &FileRow> {
    rows.iter().filter(|row| row.kind == KindRow::File)
}

/// Relative paths below a root, which itself is the empty path.
#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
}

impl Tree {
    /// Links and special files are not shared, so they don't count.
    fn walk(root: &Path) -> Outcome<Tree> {
        let mut tree = Tree::default();
        for entry in WalkDir::new(root) {
            let entry = entry.map_err(|error| failed(error.to_string()))?;
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
            let metadata = entry.metadata().map_err(|error| failed(error.to_string()))?;
            if metadata.is_dir() {
                tree.folders.insert(relative);
            } else if metadata.is_file() {
                tree.files.insert(relative, metadata.len());
            }
        }
        Ok(tree)
    }
}

/// `root/relative`, without a slash at the end if there is nothing to append.
fn within(root: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(relative) }
}

fn hash(path: &Path) -> Outcome<String> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut hasher, mut block) = (blake3::Hasher::new(), vec![0; BLOCK]);
    loop {
        match file.read(&mut block).map_err(at(path))? {
            0 => return Ok(hasher.finalize().to_string()),
            length => drop(hasher.update(&block[..length])),
        }
    }
}

fn differs(path: &Path, how: &str) -> End {
    failed(format!("{}: {how}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::sample;
    use crate::node::local::FileStatus;

    fn row(path: &str, hash: &str) -> FileRow {
        FileRow {
            id: path.into(),
            owner: String::new(),
            owner_name: String::new(),
            path: path.into(),
            kind: KindRow::File,
            size: 0,
            hash: hash.into(),
            status: FileStatus::Idle,
            available: true,
            mtime: String::new(),
        }
    }

    fn rows(root: &Path) -> Vec<FileRow> {
        let tree = Tree::walk(root).unwrap();
        let row = |path: &PathBuf| {
            row(within(Path::new("Notes"), path).to_str().unwrap(), &hash(&within(root, path)).unwrap())
        };
        tree.files.keys().map(row).collect()
    }

    #[test]
    fn every_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (source, copy) = (dir.path().join("a/Notes"), dir.path().join("b/Notes"));
        sample::notes(&source).unwrap();
        sample::notes(&copy).unwrap();
        let rows = rows(&source);
        assert_eq!(verify(&source, &copy, &rows).unwrap(), Checked { files: 5, folders: 4, bytes: 30_500 });
        assert!(verify(&source, &copy, &rows[1..]).is_err());
        let mut wrong = rows.clone();
        wrong[2].hash = wrong[1].hash.clone();
        assert!(verify(&source, &copy, &wrong).is_err());
        std::fs::remove_dir(copy.join("empty")).unwrap();
        assert!(verify(&source, &copy, &rows).is_err());
        std::fs::create_dir(copy.join("empty")).unwrap();
        std::fs::write(copy.join("shopping.txt"), [0; 100]).unwrap();
        assert!(verify(&source, &copy, &rows).is_err());
        sample::notes(&copy).unwrap();
        std::fs::write(copy.join("x.bwpart"), []).unwrap();
        assert!(verify(&source, &copy, &rows).is_err());
    }

    #[test]
    fn one_file_is_verified_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let (source, copy) = (dir.path().join("x"), dir.path().join("y"));
        std::fs::write(&source, b"content").unwrap();
        std::fs::write(&copy, b"content").unwrap();
        let rows = [row("x", &hash(&source).unwrap())];
        assert_eq!(verify(&source, &copy, &rows).unwrap(), Checked { files: 1, folders: 0, bytes: 7 });
    }
}
