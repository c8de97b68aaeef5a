//! Reading shared files. Bytes leave here only after they were checked against the hash that the catalog names: a file
//! that changed on disk is reported as changed, never sent.

use super::tree::{Hashed, ListBuilder, check_chunk};
use super::walk::Stamp;
use crate::wire::geometry::{ChunkSize, Geometry, LIST_PART_BYTES, Unit};
use crate::wire::ids::Hash;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Why a shared file gives no bytes.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its content or identity is another than before, or something else has its name: scan it again.
    #[error("the file has changed since it was shared")]
    Changed,
    /// Nothing has its name.
    #[error("the file is gone")]
    Gone,
    /// This user may not read it.
    #[error("no permission to read the file: check its owner and mode")]
    Denied,
    /// It has too many chunks for the catalog.
    #[error("the file is too large to be shared")]
    TooLarge,
    /// It has no such unit: the asker is wrong.
    #[error("the file has no such chunk")]
    NoSuchUnit,
    /// The disk failed.
    #[error("reading the file failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        // What opening says of a link, which is not followed, and of a socket.
        if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::NXIO)) {
            return ReadError::Changed;
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::Gone,
            io::ErrorKind::PermissionDenied => ReadError::Denied,
            _ => ReadError::Io(error),
        }
    }
}

/// A shared file that is open for reading.
#[derive(Debug)]
pub struct Source(File);

impl Source {
    /// Opens a regular file; neither a link nor a pipe put in its place is followed or waited for.
    pub fn open(path: &Path) -> Result<Source, ReadError> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(Source(file)),
            false => Err(ReadError::Changed),
        }
    }

    /// What the file is now.
    pub fn stamp(&self) -> Result<Stamp, ReadError> {
        Ok(Stamp::of(&self.0.metadata()?))
    }

    /// Fills `buf` from `offset`; a file that ends before that was cut short.
    fn fill(&self, buf: &mut [u8], offset: u64) -> Result<(), ReadError> {
        self.0.read_exact_at(buf, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Changed,
            _ => error.into(),
        })
    }

    fn expect(&self, expected: &Stamp) -> Result<(), ReadError> {
        if self.stamp()? == *expected { Ok(()) } else { Err(ReadError::Changed) }
    }

    fn hash(&self, chunk: ChunkSize, during: &mut dyn FnMut()) -> Result<(Hashed, Stamp), ReadError> {
        let stamp = self.stamp()?;
        let geometry = Geometry::new(stamp.size, chunk).map_err(|_| ReadError::TooLarge)?;
        let mut builder = ListBuilder::new(chunk);
        let mut buf = vec![0; geometry.chunk_len(0).unwrap_or(0) as usize];
        for index in 0..geometry.chunk_count() {
            buf.truncate(geometry.chunk_len(index).unwrap_or(0) as usize);
            self.fill(&mut buf, geometry.chunk_offset(index))?;
            builder.push(&buf);
            during();
        }
        self.expect(&stamp)?;
        Ok((builder.finish(), stamp))
    }
}

/// Hashes a whole file. [`ReadError::Changed`] if it changed meanwhile.
pub fn hash_file(path: &Path, chunk: ChunkSize) -> Result<(Hashed, Stamp), ReadError> {
    Source::open(path)?.hash(chunk, &mut || ())
}

/// What a shared file was when it was hashed.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Its stamp.
    pub stamp: &'a Stamp,
    /// Its size and chunk size.
    pub geometry: &'a Geometry,
    /// Its hash.
    pub root: &'a Hash,
    /// Its list, if it has more than one chunk.
    pub list: Option<&'a [u8]>,
}

/// Reads the unit at `index` of the wire, a chunk or a part of the list, into `buf`, whose length becomes the unit's.
///
/// Of what is in `buf` after an error nothing may be sent.
pub fn read_unit(source: &Source, file: Expected<'_>, index: u32, buf: &mut Vec<u8>) -> Result<(), ReadError> {
    let len = file.geometry.unit_len(index).ok_or(ReadError::NoSuchUnit)? as usize;
    source.expect(file.stamp)?;
    match Unit::from_index(index) {
        Unit::Chunk(index) => {
            buf.resize(len, 0);
            source.fill(buf, file.geometry.chunk_offset(index))?;
            if check_chunk(file.geometry, index, buf, file.root, file.list) { Ok(()) } else { Err(ReadError::Changed) }
        }
        Unit::ListPart(part) => {
            let from = part as usize * LIST_PART_BYTES as usize;
            let bytes = file.list.and_then(|list| list.get(from..from + len)).ok_or(ReadError::NoSuchUnit)?;
            buf.clear();
            buf.extend_from_slice(bytes);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::geometry::LIST_INDEX_FIRST;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// A file of two chunks and a bit.
    struct Shared {
        _dir: TempDir,
        path: PathBuf,
        bytes: Vec<u8>,
        hashed: Hashed,
        stamp: Stamp,
        geometry: Geometry,
    }

    fn shared() -> Shared {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..2500u32).map(|n| (n * 7) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let chunk = ChunkSize::small(10);
        let (hashed, stamp) = hash_file(&path, chunk).unwrap();
        let geometry = Geometry::new(stamp.size, chunk).unwrap();
        Shared { _dir: dir, path, bytes, hashed, stamp, geometry }
    }

    fn read(shared: &Shared, index: u32, buf: &mut Vec<u8>) -> Result<(), ReadError> {
        let list = Some(&shared.hashed.list[..]);
        let file = Expected { stamp: &shared.stamp, geometry: &shared.geometry, root: &shared.hashed.hash, list };
        read_unit(&Source::open(&shared.path)?, file, index, buf)
    }

    #[test]
    fn units_are_the_chunks_and_the_list() {
        let shared = shared();
        assert_eq!(shared.hashed.hash, Hash::of(&shared.bytes));
        let mut buf = vec![9; 5000];
        for (index, chunk) in shared.bytes.chunks(1024).enumerate() {
            read(&shared, index as u32, &mut buf).unwrap();
            assert_eq!(buf, chunk);
        }
        read(&shared, LIST_INDEX_FIRST, &mut buf).unwrap();
        assert_eq!(buf, shared.hashed.list);
        for index in [3, LIST_INDEX_FIRST - 1, LIST_INDEX_FIRST + 1, u32::MAX] {
            assert!(matches!(read(&shared, index, &mut buf), Err(ReadError::NoSuchUnit)));
        }
    }

    #[test]
    fn an_empty_file_is_hashed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("empty"), b"").unwrap();
        let (hashed, _) = hash_file(&dir.path().join("empty"), ChunkSize::for_file(0)).unwrap();
        assert_eq!(hashed, Hashed { size: 0, hash: Hash::of(b""), list: Vec::new() });
    }

    #[test]
    fn a_change_is_found_by_its_time() {
        let shared = shared();
        let file = File::options().write(true).open(&shared.path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(matches!(read(&shared, 0, &mut Vec::new()), Err(ReadError::Changed)));
    }

    #[test]
    fn a_change_with_the_same_stamp_is_found_by_its_bytes() {
        let shared = shared();
        let file = File::options().write(true).open(&shared.path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"other", 1500).unwrap();
        file.set_modified(modified).unwrap();
        let mut buf = Vec::new();
        read(&shared, 0, &mut buf).unwrap();
        assert!(matches!(read(&shared, 1, &mut buf), Err(ReadError::Changed)));
    }

    #[test]
    fn a_file_that_changes_while_it_is_hashed_has_no_hash() {
        let shared = shared();
        let writer = File::options().write(true).open(&shared.path).unwrap();
        let hash = |during: &mut dyn FnMut()| Source::open(&shared.path).unwrap().hash(ChunkSize::small(10), during);
        let grown = hash(&mut || writer.set_len(9000).unwrap());
        assert!(matches!(grown, Err(ReadError::Changed)));
        let cut = hash(&mut || writer.set_len(1).unwrap());
        assert!(matches!(cut, Err(ReadError::Changed)));
        writer.set_len(2500).unwrap();
        let touched = hash(&mut || writer.set_modified(std::time::UNIX_EPOCH).unwrap());
        assert!(matches!(touched, Err(ReadError::Changed)));
    }

    #[test]
    fn what_stands_in_the_place_of_a_file_is_not_read() {
        let shared = shared();
        let mut buf = Vec::new();
        fs::remove_file(&shared.path).unwrap();
        assert!(matches!(read(&shared, 0, &mut buf), Err(ReadError::Gone)));
        std::os::unix::fs::symlink("/etc/passwd", &shared.path).unwrap();
        assert!(matches!(read(&shared, 0, &mut buf), Err(ReadError::Changed)));
        fs::remove_file(&shared.path).unwrap();
        mknodat(CWD, &shared.path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(read(&shared, 0, &mut buf), Err(ReadError::Changed)));
        fs::remove_file(&shared.path).unwrap();
        fs::create_dir(&shared.path).unwrap();
        assert!(matches!(read(&shared, 0, &mut buf), Err(ReadError::Changed)));
        assert!(matches!(hash_file(&shared.path.join("x"), ChunkSize::small(10)), Err(ReadError::Gone)));
    }
}
