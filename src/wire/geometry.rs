//! How a file is cut into the units that travel: its chunks, and the list of their hashes. A geometry that exists is
//! within all limits, so every index and length that it gives can be used as it is.

use serde::{Deserialize, Serialize};

/// Bytes of the largest chunk: what one request, one seal and one pooled buffer hold.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// Files from this size on are cut into the largest chunks: fewer requests and a shorter list, where repeating one
/// chunk after an interruption is small beside the whole.
pub const LARGE_FILE_BYTES: u64 = 4 << 30;
/// Chunks of a file, at most: its list, of which both ends hold a copy in memory, stays within 32 MiB.
pub const CHUNKS_MAX: u32 = 1 << 20;
/// Bytes of a file, at most (4 TiB): as many of the largest chunks as a list may name.
pub const FILE_BYTES_MAX: u64 = CHUNKS_MAX as u64 * CHUNK_BYTES_MAX as u64;
/// Bytes of a list's entry: a BLAKE3 chaining value.
pub const LIST_ENTRY_BYTES: u32 = 32;
/// Bytes of a part of a list; its last part may be shorter.
pub const LIST_PART_BYTES: u32 = 1 << 20;
/// The index of a list's first part. Lower indexes are chunks.
pub const LIST_INDEX_FIRST: u32 = 0xffff_0000;

const CHUNK_LOG2_MIN: u8 = 20;
const CHUNK_LOG2_MAX: u8 = 22;

const _: () = assert!(1 << CHUNK_LOG2_MAX == CHUNK_BYTES_MAX);
const _: () = assert!(CHUNKS_MAX < LIST_INDEX_FIRST);
const _: () = assert!(LIST_PART_BYTES <= CHUNK_BYTES_MAX);
const _: () = assert!(CHUNKS_MAX / (LIST_PART_BYTES / LIST_ENTRY_BYTES) <= u32::MAX - LIST_INDEX_FIRST);

/// Why there can be no such geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadGeometry {
    /// Not a power of two between 1 MiB and 4 MiB.
    #[error("a chunk must be of 1, 2 or 4 MiB")]
    ChunkSize,
    /// More than [`CHUNKS_MAX`] chunks.
    #[error("the file has more than {CHUNKS_MAX} chunks; the largest file that can be shared has 4 TiB")]
    TooLarge,
}

/// The size of a file's chunks (the last may be shorter), kept as its binary logarithm: 20, 21 or 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ChunkSize(u8);

impl ChunkSize {
    /// Takes the binary logarithm of a chunk size from outside.
    pub fn parse(log2: u8) -> Result<ChunkSize, BadGeometry> {
        match log2 {
            CHUNK_LOG2_MIN..=CHUNK_LOG2_MAX => Ok(ChunkSize(log2)),
            _ => Err(BadGeometry::ChunkSize),
        }
    }

    /// What a file of `size` bytes is cut into when it is hashed for the first time.
    pub fn for_file(size: u64) -> ChunkSize {
        ChunkSize(if size < LARGE_FILE_BYTES { CHUNK_LOG2_MIN } else { CHUNK_LOG2_MAX })
    }

    /// A chunk's bytes.
    pub fn bytes(self) -> u32 {
        1 << self.0
    }

    /// Chunks small enough to test trees of many; at least BLAKE3's own 1,024 bytes.
    #[cfg(test)]
    pub(crate) fn small(log2: u8) -> ChunkSize {
        assert!((10..=CHUNK_LOG2_MAX).contains(&log2));
        ChunkSize(log2)
    }
}

impl TryFrom<u8> for ChunkSize {
    type Error = BadGeometry;
    fn try_from(log2: u8) -> Result<ChunkSize, BadGeometry> {
        ChunkSize::parse(log2)
    }
}

impl From<ChunkSize> for u8 {
    fn from(chunk: ChunkSize) -> u8 {
        chunk.0
    }
}

/// One of the things that a file travels as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// The chunk of this number.
    Chunk(u32),
    /// The part of this number of the list of chunk hashes.
    ListPart(u32),
}

impl Unit {
    /// The unit that an index on the wire means; it need not exist in a given file.
    pub fn from_index(index: u32) -> Unit {
        match index.checked_sub(LIST_INDEX_FIRST) {
            Some(part) => Unit::ListPart(part),
            None => Unit::Chunk(index),
        }
    }

    /// Its index on the wire.
    pub fn index(self) -> u32 {
        match self {
            Unit::Chunk(index) => index,
            Unit::ListPart(part) => LIST_INDEX_FIRST.saturating_add(part),
        }
    }
}

/// A file's size and the size of its chunks: all that its units' places and lengths follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    size: u64,
    chunk: ChunkSize,
}

impl Geometry {
    /// Takes a file's size (bytes) and chunk size from outside.
    pub fn new(size: u64, chunk: ChunkSize) -> Result<Geometry, BadGeometry> {
        if size.div_ceil(u64::from(chunk.bytes())) > u64::from(CHUNKS_MAX) {
            return Err(BadGeometry::TooLarge);
        }
        Ok(Geometry { size, chunk })
    }

    /// The file's bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size of its chunks.
    pub fn chunk(&self) -> ChunkSize {
        self.chunk
    }

    /// How many chunks the file has. An empty file has none and is complete at once.
    pub fn chunk_count(&self) -> u32 {
        self.size.div_ceil(u64::from(self.chunk.bytes())) as u32
    }

    /// Where a chunk begins in the file, or would if there were so many.
    pub fn chunk_offset(&self, index: u32) -> u64 {
        u64::from(index) * u64::from(self.chunk.bytes())
    }

    /// A chunk's bytes; none if the file has no such chunk.
    pub fn chunk_len(&self, index: u32) -> Option<u32> {
        part_len(self.size, self.chunk.bytes(), index)
    }

    /// Bytes of the list of chunk hashes. A file of one chunk has no list: the file's hash is the chunk's.
    pub fn list_len(&self) -> u64 {
        match self.chunk_count() {
            0 | 1 => 0,
            count => u64::from(count) * u64::from(LIST_ENTRY_BYTES),
        }
    }

    /// How many parts the list travels in.
    pub fn list_part_count(&self) -> u32 {
        self.list_len().div_ceil(u64::from(LIST_PART_BYTES)) as u32
    }

    /// Bytes of a part of the list; none if the list has no such part. Part `n` begins at `n` × [`LIST_PART_BYTES`].
    pub fn list_part_len(&self, part: u32) -> Option<u32> {
        part_len(self.list_len(), LIST_PART_BYTES, part)
    }

    /// Bytes of the unit at an index of the wire; none if the file has no such unit.
    pub fn unit_len(&self, index: u32) -> Option<u32> {
        match Unit::from_index(index) {
            Unit::Chunk(index) => self.chunk_len(index),
            Unit::ListPart(part) => self.list_part_len(part),
        }
    }
}

/// The length of piece `index` when `whole` bytes are cut into pieces of `piece` bytes.
fn part_len(whole: u64, piece: u32, index: u32) -> Option<u32> {
    let rest = whole.checked_sub(u64::from(index) * u64::from(piece))?;
    (rest > 0).then(|| rest.min(u64::from(piece)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn geometry(size: u64) -> Geometry {
        Geometry::new(size, ChunkSize::for_file(size)).unwrap()
    }

    #[test]
    fn an_empty_file_has_no_units() {
        let empty = geometry(0);
        assert_eq!((empty.chunk_count(), empty.list_part_count()), (0, 0));
        assert_eq!((empty.unit_len(0), empty.unit_len(LIST_INDEX_FIRST)), (None, None));
    }

    #[test]
    fn one_chunk_needs_no_list_and_two_do() {
        assert_eq!((geometry(MIB).chunk_count(), geometry(MIB).list_len()), (1, 0));
        let two = geometry(MIB + 1);
        assert_eq!((two.chunk_count(), two.list_len(), two.list_part_count()), (2, 64, 1));
        assert_eq!((two.chunk_len(0), two.chunk_len(1), two.chunk_len(2)), (Some(1 << 20), Some(1), None));
        assert_eq!((two.unit_len(LIST_INDEX_FIRST), two.unit_len(LIST_INDEX_FIRST + 1)), (Some(64), None));
    }

    #[test]
    fn the_largest_file_fits_and_one_byte_more_does_not() {
        let largest = geometry(FILE_BYTES_MAX);
        assert_eq!((largest.chunk_count(), largest.list_part_count()), (CHUNKS_MAX, 32));
        assert_eq!(largest.chunk_offset(CHUNKS_MAX), FILE_BYTES_MAX);
        let chunk = ChunkSize::for_file(FILE_BYTES_MAX);
        assert_eq!(Geometry::new(FILE_BYTES_MAX + 1, chunk), Err(BadGeometry::TooLarge));
        assert_eq!(Geometry::new(u64::MAX, chunk), Err(BadGeometry::TooLarge));
    }

    #[test]
    fn only_three_chunk_sizes_are_taken() {
        for log2 in 0..=u8::MAX {
            assert_eq!(ChunkSize::parse(log2).is_ok(), (20..=22).contains(&log2));
            assert_eq!(serde_json::from_str::<ChunkSize>(&log2.to_string()).is_ok(), (20..=22).contains(&log2));
        }
        assert_eq!(ChunkSize::for_file(LARGE_FILE_BYTES - 1).bytes(), 1 << 20);
        assert_eq!(ChunkSize::for_file(LARGE_FILE_BYTES).bytes(), CHUNK_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn chunks_cover_the_file_without_gap(size in 0..200 * MIB, log2 in 20u8..=22) {
            let geometry = Geometry::new(size, ChunkSize::parse(log2).unwrap()).unwrap();
            let mut end = 0;
            for index in 0..geometry.chunk_count() {
                prop_assert_eq!(geometry.chunk_offset(index), end);
                end += u64::from(geometry.chunk_len(index).unwrap());
            }
            prop_assert_eq!(end, size);
        }

        #[test]
        fn any_index_is_a_unit_or_none(size in 0..=FILE_BYTES_MAX, index: u32) {
            let unit = Unit::from_index(index);
            prop_assert_eq!(unit.index(), index);
            let geometry = Geometry::new(size, ChunkSize::parse(22).unwrap()).unwrap();
            let exists = match unit {
                Unit::Chunk(index) => index < geometry.chunk_count(),
                Unit::ListPart(part) => part < geometry.list_part_count(),
            };
            prop_assert_eq!(geometry.unit_len(index).is_some(), exists);
        }
    }
}
