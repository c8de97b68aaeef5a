//! Part files: `NAME.bwpart` beside the target `NAME`. Only bailiwick makes and removes files of such names, and it takes
//! over none that it finds: who creates a part knows that it was not there.

use super::{DiskError, Folder, error, free_bytes, jail};
use crate::store::walk::PART_SUFFIX;
use crate::wire::ids::{Hash, hex};
use crate::wire::path::{COMPONENT_BYTES_MAX, RelPath};
use rustix::fs::{AtFlags, FallocateFlags, OFlags, fallocate, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Files above this size get their blocks before their first byte: a full disk shows at once. A smaller one is written
/// in one piece, which shows it as early and costs less.
const PREALLOCATE_ABOVE_BYTES: u64 = 1 << 20;

/// An unfinished download.
#[derive(Debug)]
pub struct Part {
    pub(super) file: File,
    pub(super) dest: RelPath,
    reserve: u64,
    /// Whether all of its blocks are there; else each write looks for room.
    allocated: bool,
    /// Whether it was there before this process: what was claimed of it then may have changed on the disk since.
    found: bool,
}

impl Folder {
    /// Begins the download of `dest` with a part of `size` bytes, and makes the folders above it. Fails if there is a
    /// part already: to go on with it, [`Folder::open_part`]; to begin anew, [`Folder::remove_part`] first.
    pub fn create_part(&self, dest: &RelPath, size: u64) -> Result<Part, DiskError> {
        let name = part_name(dest)?;
        jail::refuse_state(&self.root, dest)?;
        let parent = jail::parent(&self.root, dest, true)?;
        let part = self.open_named(&parent, &name, dest, OFlags::CREATE | OFlags::EXCL);
        let mut part = part.map_err(|error| match error {
            DiskError::InTheWay(_) => DiskError::Unfinished(beside(dest, &name)),
            error => error,
        })?;
        if let Err(error) = part.resize(size) {
            // It holds nothing, and its blocks are wanted.
            let _ = unlinkat(&parent, &name, AtFlags::empty());
            return Err(error);
        }
        Ok(part)
    }

    /// Goes on with the part of `dest` for another version of the file, if there is one of `was` or already of `size`
    /// bytes; what is in it up to the end of both stays.
    pub fn open_part_of_other_version(&self, dest: &RelPath, was: u64, size: u64) -> Result<Option<Part>, DiskError> {
        let Some(mut part) = self.open_part(dest, was)? else { return self.open_part(dest, size) };
        part.resize(size)?;
        Ok(Some(part))
    }

    /// Goes on with the part of `dest`. None if there is none of `size` bytes: what was known of its content is void.
    pub fn open_part(&self, dest: &RelPath, size: u64) -> Result<Option<Part>, DiskError> {
        let name = part_name(dest)?;
        let part = jail::parent(&self.root, dest, false)
            .and_then(|parent| self.open_named(&parent, &name, dest, OFlags::empty()));
        let Some(mut part) = error::unless_missing(part)? else { return Ok(None) };
        let meta = part.file.metadata().map_err(|error| part.failed(error))?;
        part.allocated = held(&meta) >= size;
        part.found = true;
        Ok((meta.len() == size).then_some(part))
    }

    /// Removes the part of `dest`, if there is one.
    pub fn remove_part(&self, dest: &RelPath) -> Result<(), DiskError> {
        let name = part_name(dest)?;
        let removed = jail::parent(&self.root, dest, false).and_then(|parent| {
            unlinkat(&parent, &name, AtFlags::empty()).map_err(|error| DiskError::of(error, &beside(dest, &name)))
        });
        error::unless_missing(removed).map(|_| ())
    }

    fn open_named(&self, parent: &File, name: &str, dest: &RelPath, flags: OFlags) -> Result<Part, DiskError> {
        let file = jail::open_file(parent, name, OFlags::RDWR | flags, dest.as_str())?;
        Ok(Part { file, dest: dest.clone(), reserve: self.reserve, allocated: false, found: false })
    }
}

impl Part {
    /// Makes the part `size` bytes long, as for another version of the file; keeps what is in it up to there.
    pub fn resize(&mut self, size: u64) -> Result<(), DiskError> {
        let meta = self.file.metadata().map_err(|error| self.failed(error))?;
        let held = held(&meta);
        let mut allocated = held >= size;
        if !allocated {
            self.need_room(size - held)?;
            allocated = size > PREALLOCATE_ABOVE_BYTES && self.allocate(size, meta.len())?;
        }
        self.file.set_len(size).map_err(|error| self.failed(error))?;
        self.allocated = allocated;
        Ok(())
    }

    /// Writes bytes that were verified. They may be claimed after the next [`Part::sync`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if !self.allocated {
            self.need_room(bytes.len() as u64)?;
        }
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(error))
    }

    /// Waits until all that was written is on the disk. Fails if the part was removed meanwhile: nothing that was
    /// written is anywhere then.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|error| self.failed(error))?;
        let links = self.file.metadata().map_err(|error| self.failed(error))?.nlink();
        if links == 0 { Err(self.failed(io::Error::from(io::ErrorKind::NotFound))) } else { Ok(()) }
    }

    /// Whether it holds the file of this size and hash, every chunk of which was verified and written. What this process
    /// wrote itself counts by its length; what was there before is read again, for its bytes were verified long ago.
    pub fn is_whole(&self, size: u64, root: &Hash) -> Result<bool, DiskError> {
        let len = self.file.metadata().map_err(|error| self.failed(error))?.len();
        if len != size || !self.found {
            return Ok(len == size);
        }
        let file = self.file.try_clone().and_then(|mut file| file.seek(SeekFrom::Start(0)).map(|_| file));
        let hash = file.and_then(|mut file| super::hash_of(&mut file)).map_err(|error| self.failed(error))?;
        Ok(hash == *root)
    }

    pub(super) fn failed(&self, error: impl Into<io::Error>) -> DiskError {
        DiskError::of(error, self.dest.as_str())
    }

    fn need_room(&self, bytes: u64) -> Result<(), DiskError> {
        let free = free_bytes(&self.file, self.dest.as_str())?;
        if free >= bytes.saturating_add(self.reserve) { Ok(()) } else { Err(DiskError::Full) }
    }

    /// Asks for all blocks at once; false where the file system has no such thing.
    fn allocate(&self, size: u64, len_before: u64) -> Result<bool, DiskError> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
            Err(error) => {
                // Gives back what it got before the disk was full.
                let _ = self.file.set_len(len_before);
                Err(self.failed(error))
            }
        }
    }
}

/// Bytes of the blocks that a file has, which `stat` counts in units of 512 everywhere.
fn held(meta: &std::fs::Metadata) -> u64 {
    meta.blocks() * 512
}

/// The name of the part of `dest`: a hash of its name stands for a name that has no room for the suffix.
pub(super) fn part_name(dest: &RelPath) -> Result<String, DiskError> {
    let name = dest.name();
    if name.ends_with(PART_SUFFIX) {
        return Err(DiskError::Reserved(dest.to_string()));
    }
    match name.len() + PART_SUFFIX.len() <= COMPONENT_BYTES_MAX {
        true => Ok(format!("{name}{PART_SUFFIX}")),
        false => Ok(format!("{}{PART_SUFFIX}", hex(&Hash::of(name.as_bytes()).0))),
    }
}

fn beside(dest: &RelPath, name: &str) -> String {
    match dest.as_str().rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{folder, rel};
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn a_part_that_was_there_before_is_read_again_at_the_end() {
        let (dir, folder) = folder();
        let (dest, root) = (rel("file"), Hash::of(b"abcd"));
        let part = folder.create_part(&dest, 4).unwrap();
        part.write_at(0, b"abcd").unwrap();
        assert!(part.is_whole(4, &root).unwrap());
        let found = || folder.open_part(&dest, 4).unwrap().unwrap();
        assert!(found().is_whole(4, &root).unwrap());
        fs::write(dir.path().join("downloads/file.bwpart"), b"abXd").unwrap();
        assert!(!found().is_whole(4, &root).unwrap());
        fs::write(dir.path().join("downloads/file.bwpart"), b"").unwrap();
        assert!(!part.is_whole(4, &root).unwrap(), "cut short while it was open");
    }

    #[test]
    fn a_part_lies_beside_its_target_and_goes_on() {
        let (dir, folder) = folder();
        let dest = rel("a/b/file");
        assert!(folder.open_part(&dest, 5).unwrap().is_none());
        folder.create_part(&dest, 5).unwrap().write_at(1, b"bcd").unwrap();
        assert_eq!(fs::read(dir.path().join("downloads/a/b/file.bwpart")).unwrap(), b"\0bcd\0");
        assert!(matches!(folder.create_part(&dest, 5), Err(DiskError::Unfinished(at)) if at == "a/b/file.bwpart"));
        assert!(folder.open_part(&dest, 6).unwrap().is_none());

        let mut part = folder.open_part(&dest, 5).unwrap().unwrap();
        part.write_at(0, b"A").unwrap();
        part.resize(3).unwrap();
        part.sync().unwrap();
        assert_eq!(fs::read(dir.path().join("downloads/a/b/file.bwpart")).unwrap(), b"Abc");
        folder.remove_part(&dest).unwrap();
        folder.remove_part(&dest).unwrap();
        folder.remove_part(&rel("never/was")).unwrap();
        assert!(folder.open_part(&dest, 3).unwrap().is_none());
    }

    #[test]
    fn a_part_that_was_removed_is_not_synced() {
        let (_dir, folder) = folder();
        let part = folder.create_part(&rel("file"), 3).unwrap();
        part.write_at(0, b"abc").unwrap();
        part.sync().unwrap();
        folder.remove_part(&rel("file")).unwrap();
        assert!(part.sync().is_err(), "what was written is nowhere");
    }

    #[test]
    fn large_parts_have_their_blocks_from_the_start() {
        let (_dir, folder) = folder();
        let part = folder.create_part(&rel("large"), 3 << 20).unwrap();
        assert_eq!(part.file.metadata().unwrap().len(), 3 << 20);
        // Where the file system cannot allocate, writes look for room instead.
        assert!(!part.allocated || held(&part.file.metadata().unwrap()) >= 3 << 20);
        let again = folder.open_part(&rel("large"), 3 << 20).unwrap().unwrap();
        assert_eq!(again.allocated, part.allocated);
    }

    #[test]
    fn the_longest_name_has_a_part_and_part_names_are_no_targets() {
        let (_dir, folder) = folder();
        for len in [248, 249, 255] {
            let dest = rel(&format!("folder/{}", "n".repeat(len)));
            folder.create_part(&dest, 1).unwrap();
            assert!(folder.open_part(&dest, 1).unwrap().is_some(), "{len}");
        }
        assert!(matches!(folder.create_part(&rel("x.bwpart"), 1), Err(DiskError::Reserved(_))));
        assert!(matches!(folder.remove_part(&rel("x.bwpart")), Err(DiskError::Reserved(_))));
    }

    #[test]
    fn no_link_leads_a_part_elsewhere() {
        let (dir, folder) = folder();
        let root = dir.path().join("downloads");
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), b"mine").unwrap();
        symlink(&outside, root.join("out")).unwrap();
        symlink(outside.join("victim"), root.join("file.bwpart")).unwrap();
        assert!(matches!(folder.create_part(&rel("out/victim"), 1), Err(DiskError::Jail(_))));
        assert!(matches!(folder.remove_part(&rel("out/victim")), Err(DiskError::Jail(_))));
        assert!(matches!(folder.create_part(&rel("file"), 1), Err(DiskError::Unfinished(_))));
        assert!(matches!(folder.open_part(&rel("file"), 4), Err(DiskError::Jail(_))));

        // A parent that is exchanged for a link between two steps.
        folder.create_part(&rel("sub/file"), 4).unwrap();
        fs::rename(root.join("sub"), root.join("moved")).unwrap();
        symlink(&outside, root.join("sub")).unwrap();
        assert!(matches!(folder.open_part(&rel("sub/file"), 4), Err(DiskError::Jail(_))));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("victim")).unwrap(), b"mine");
    }

    /// A small disk of its own, for as long as it lives.
    struct SmallDisk<'a>(&'a Path);

    impl SmallDisk<'_> {
        fn mount(at: &Path) -> Option<SmallDisk<'_>> {
            let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(at).output();
            mount.is_ok_and(|output| output.status.success()).then(|| SmallDisk(at))
        }
    }

    impl Drop for SmallDisk<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn a_full_disk_is_told_before_and_during_a_download() {
        let dir = tempfile::tempdir().unwrap();
        let Some(_disk) = SmallDisk::mount(dir.path()) else {
            return eprintln!("skipped: this user may not mount a small disk");
        };
        let mut folder = Folder::open(dir.path()).unwrap();
        assert!(matches!(folder.create_part(&rel("reserve"), 1), Err(DiskError::Full)), "the reserve is kept");

        folder.reserve = 0;
        assert!(matches!(folder.create_part(&rel("large"), 5 << 20), Err(DiskError::Full)));
        assert!(folder.existing(&rel("large.bwpart")).unwrap().is_none());
        let mut part = folder.create_part(&rel("fits"), 3 << 20).unwrap();
        assert!(matches!(part.resize(1 << 40), Err(DiskError::Full)));
        assert_eq!(part.file.metadata().unwrap().len(), 3 << 20);

        let small = folder.create_part(&rel("small"), 1 << 19).unwrap();
        fs::write(dir.path().join("other"), vec![1; 700 << 10]).unwrap();
        assert!(matches!(small.write_at(0, &vec![1; 1 << 19]), Err(DiskError::Full)));
        part.write_at(0, &vec![1; 3 << 20]).unwrap();
        fs::remove_file(dir.path().join("other")).unwrap();
        small.write_at(0, &vec![1; 1 << 19]).unwrap();
    }
}
