//! The BLAKE3 tree over a file's chunks. A file's hash is what `b3sum` prints; the list of its chunks' chaining values
//! merges into exactly that hash, so a list is checked once and then every chunk alone, in any order, from anyone.
//!
//! `blake3::hazmat` panics on offsets and lengths that make no tree: everything from a peer is measured against the
//! [`Geometry`] before it gets there.

use crate::wire::geometry::{ChunkSize, Geometry};
use crate::wire::ids::Hash;
use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};

/// A file as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Bytes.
    pub size: u64,
    /// The plain BLAKE3 hash of all bytes.
    pub hash: Hash,
    /// The chaining value of each chunk, 32 bytes each; empty for a file of one chunk or none.
    pub list: Vec<u8>,
}

/// Hashes a file chunk by chunk.
pub struct ListBuilder {
    chunk: ChunkSize,
    size: u64,
    /// Kept open until a second chunk comes: a lone chunk is hashed as a root, the first of several is not.
    first: Hasher,
    list: Vec<u8>,
}

impl ListBuilder {
    /// Begins a file that is cut into chunks of this size.
    pub fn new(chunk: ChunkSize) -> ListBuilder {
        ListBuilder { chunk, size: 0, first: Hasher::new(), list: Vec::new() }
    }

    /// Adds the next chunk, in one piece: one BLAKE3 call over a whole chunk is several times faster than small ones.
    ///
    /// # Panics
    ///
    /// If the chunk is empty, longer than the chunk size, or comes after a shorter one.
    pub fn push(&mut self, chunk: &[u8]) {
        let full = u64::from(self.chunk.bytes());
        assert!(!chunk.is_empty() && chunk.len() as u64 <= full, "a chunk of {} bytes", chunk.len());
        assert!(self.size.is_multiple_of(full), "a chunk after the last");
        if self.size == 0 {
            self.first.update(chunk);
        } else {
            if self.list.is_empty() {
                self.list.extend_from_slice(&self.first.finalize_non_root());
            }
            self.list.extend_from_slice(&chaining_value(self.size, chunk));
        }
        self.size += chunk.len() as u64;
    }

    /// Ends the file.
    pub fn finish(self) -> Hashed {
        let hash = match self.list.is_empty() {
            true => Hash(*self.first.finalize().as_bytes()),
            false => merge_root(self.chunk, self.size, &self.list),
        };
        Hashed { size: self.size, hash, list: self.list }
    }
}

/// The hash of the file that a list is of; none if the list has not the length that the geometry asks for, or the file
/// has no list (one chunk or none).
pub fn merge_list(geometry: &Geometry, list: &[u8]) -> Option<Hash> {
    (has_list(geometry, list)).then(|| merge_root(geometry.chunk(), geometry.size(), list))
}

/// Whether `list` is the list of the file with this hash. False for a file that has no list.
pub fn check_list(geometry: &Geometry, list: &[u8], root: &Hash) -> bool {
    merge_list(geometry, list).as_ref() == Some(root)
}

/// Whether `bytes` are the chunk `index` of the file with hash `root`. The list, which a file of one chunk doesn't
/// need, must have passed [`check_list`].
pub fn check_chunk(geometry: &Geometry, index: u32, bytes: &[u8], root: &Hash, list: Option<&[u8]>) -> bool {
    if geometry.chunk_len(index).is_none_or(|len| len as usize != bytes.len()) {
        return false;
    }
    if geometry.chunk_count() == 1 {
        return Hash::of(bytes) == *root;
    }
    let Some(list) = list.filter(|list| has_list(geometry, list)) else { return false };
    value_at(list, index as usize) == chaining_value(geometry.chunk_offset(index), bytes)
}

fn has_list(geometry: &Geometry, list: &[u8]) -> bool {
    !list.is_empty() && list.len() as u64 == geometry.list_len()
}

/// The chaining value of one chunk of several. `offset` is a multiple of the chunk size, and `chunk` no longer than it.
fn chaining_value(offset: u64, chunk: &[u8]) -> ChainingValue {
    Hasher::new().set_input_offset(offset).update(chunk).finalize_non_root()
}

fn value_at(list: &[u8], index: usize) -> ChainingValue {
    let mut value = ChainingValue::default();
    let len = value.len();
    value.copy_from_slice(&list[index * len..][..len]);
    value
}

/// The root over two chunks or more, `size` bytes in all.
fn merge_root(chunk: ChunkSize, size: u64, list: &[u8]) -> Hash {
    let (left_size, left, right) = split(chunk, size, list);
    let left = merge_inner(chunk, left_size, left);
    let right = merge_inner(chunk, size - left_size, right);
    Hash(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
}

/// The chaining value over one chunk or more; recurses no deeper than the logarithm of their number.
fn merge_inner(chunk: ChunkSize, size: u64, list: &[u8]) -> ChainingValue {
    if size <= u64::from(chunk.bytes()) {
        return value_at(list, 0);
    }
    let (left_size, left, right) = split(chunk, size, list);
    let left = merge_inner(chunk, left_size, left);
    let right = merge_inner(chunk, size - left_size, right);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

/// Where BLAKE3 divides `size` bytes: always between two chunks, since a chunk is a power of two.
fn split(chunk: ChunkSize, size: u64, list: &[u8]) -> (u64, &[u8], &[u8]) {
    let left_size = left_subtree_len(size);
    let left_chunks = (left_size / u64::from(chunk.bytes())) as usize;
    let (left, right) = list.split_at(left_chunks * size_of::<ChainingValue>());
    (left_size, left, right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[5]).collect()
    }

    fn hashed(bytes: &[u8], chunk: ChunkSize) -> (Hashed, Geometry) {
        let mut builder = ListBuilder::new(chunk);
        bytes.chunks(chunk.bytes() as usize).for_each(|chunk| builder.push(chunk));
        (builder.finish(), Geometry::new(bytes.len() as u64, chunk).unwrap())
    }

    /// Every way in which a file and its list belong together.
    fn assert_sound(bytes: &[u8], chunk: ChunkSize) {
        let (hashed, geometry) = hashed(bytes, chunk);
        let len = bytes.len();
        assert_eq!(hashed.hash, Hash::of(bytes), "{len}");
        assert_eq!((hashed.size, hashed.list.len() as u64), (len as u64, geometry.list_len()), "{len}");
        let list = (!hashed.list.is_empty()).then_some(&hashed.list[..]);
        assert_eq!(check_list(&geometry, &hashed.list, &hashed.hash), list.is_some(), "{len}");
        for (index, piece) in bytes.chunks(chunk.bytes() as usize).enumerate() {
            assert!(check_chunk(&geometry, index as u32, piece, &hashed.hash, list), "{len} {index}");
            assert!(!check_chunk(&geometry, index as u32 + 1, piece, &hashed.hash, list), "{len} {index}");
            assert!(!check_chunk(&geometry, index as u32, &piece[1..], &hashed.hash, list), "{len} {index}");
        }
    }

    #[test]
    fn lists_merge_into_the_plain_hash_around_every_boundary() {
        for log2 in [10, 11, 12] {
            let chunk = ChunkSize::small(log2);
            let bytes = sample((chunk.bytes() * 18) as usize);
            for chunks in 0..=17 {
                for around in [-1025, -1024, -1, 0, 1, 64, 1023, 1024] {
                    let len = (chunks * i64::from(chunk.bytes()) + around).max(0) as usize;
                    assert_sound(&bytes[..len.min(bytes.len())], chunk);
                }
            }
        }
    }

    #[test]
    fn real_chunk_sizes_merge_too() {
        let bytes = sample((5 << 20) + 7);
        assert_sound(&bytes, ChunkSize::parse(20).unwrap());
        assert_sound(&bytes, ChunkSize::parse(22).unwrap());
    }

    #[test]
    fn without_its_list_no_chunk_of_several_passes() {
        let chunk = ChunkSize::small(10);
        let bytes = sample(3000);
        let (hashed, geometry) = hashed(&bytes, chunk);
        for list in [None, Some(&[][..]), Some(&hashed.list[..64])] {
            assert!(!check_chunk(&geometry, 0, &bytes[..1024], &hashed.hash, list));
        }
        assert_eq!(merge_list(&geometry, &hashed.list[..95]), None);
        assert_eq!(merge_list(&geometry, &[]), None);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(len in 1usize..20_000, at: prop::sample::Index, bit in 0u8..8) {
            let chunk = ChunkSize::small(10);
            let mut bytes = sample(len);
            let (hashed, geometry) = hashed(&bytes, chunk);
            let list = (!hashed.list.is_empty()).then_some(&hashed.list[..]);
            let byte = at.index(len);
            bytes[byte] ^= 1 << bit;
            for (index, piece) in bytes.chunks(1024).enumerate() {
                let good = check_chunk(&geometry, index as u32, piece, &hashed.hash, list);
                prop_assert_eq!(good, index != byte / 1024);
            }
        }

        #[test]
        fn a_flipped_bit_of_the_list_is_found(len in 1025usize..20_000, at: prop::sample::Index, bit in 0u8..8) {
            let (mut hashed, geometry) = hashed(&sample(len), ChunkSize::small(10));
            let byte = at.index(hashed.list.len());
            hashed.list[byte] ^= 1 << bit;
            prop_assert!(!check_list(&geometry, &hashed.list, &hashed.hash));
        }

        #[test]
        fn nothing_from_a_peer_panics(
            size in 0u64..10_000, log2 in 10u8..13, index in prop_oneof![0u32..12, any::<u32>()],
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            list in prop::option::of(prop::collection::vec(any::<u8>(), 0..400)),
        ) {
            let geometry = Geometry::new(size, ChunkSize::small(log2)).unwrap();
            let root = Hash([7; 32]);
            prop_assert!(!check_chunk(&geometry, index, &bytes, &root, list.as_deref()));
            prop_assert!(!check_list(&geometry, list.as_deref().unwrap_or_default(), &root));
        }

        #[test]
        fn the_right_length_of_junk_neither_panics_nor_passes(size in 1u64..10_000, index in 0u32..10, fill: u8) {
            let geometry = Geometry::new(size, ChunkSize::small(10)).unwrap();
            let bytes = vec![fill; geometry.chunk_len(index).unwrap_or(1) as usize];
            let list = vec![fill; geometry.list_len() as usize];
            prop_assert!(!check_chunk(&geometry, index, &bytes, &Hash::ZERO, Some(&list)));
            prop_assert!(!check_list(&geometry, &list, &Hash::ZERO));
        }
    }
}
