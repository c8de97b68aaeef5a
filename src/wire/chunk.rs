//! The header of a chunk stream (`ChunkReady`): fixed length, little-endian; then the chunk's bytes, sealed or plain.

use super::geometry::CHUNK_BYTES_MAX;
use super::ids::{Audience, ContentId, EpochId, GroupId};
use super::seal::{Cipher, NONCE_BYTES};

/// The version of this layout.
pub const CHUNK_VERSION: u8 = 1;
/// Bytes of the header.
pub const CHUNK_HEADER_BYTES: usize = 58;

/// What a chunk stream begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// How the bytes are sealed.
    pub cipher: Cipher,
    /// For whom.
    pub audience: Audience,
    /// Under whose secret.
    pub epoch: EpochId,
    /// The receiver's number for the request that this answers; a relay puts in its own and each asker's.
    pub request: u64,
    /// Which content.
    pub content: ContentId,
    /// Which chunk of it, or which part of its list.
    pub index: u32,
    /// Bytes of the chunk before it was sealed.
    pub length: u32,
    /// Random, fresh.
    pub nonce: [u8; NONCE_BYTES],
}

/// Why a chunk stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunkHeader {
    /// Another layout.
    #[error("the chunk's header is of a version that this bailiwick does not know")]
    Version,
    /// A cipher that nobody has.
    #[error("the chunk is sealed with an unknown cipher")]
    Cipher,
    /// Longer than any chunk.
    #[error("the chunk is longer than any can be")]
    Length,
}

impl ChunkHeader {
    /// Bytes that follow the header.
    pub fn stream_bytes(&self) -> usize {
        self.length as usize + self.cipher.overhead()
    }

    /// The header as it travels.
    pub fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&[CHUNK_VERSION, self.cipher.code()]);
        put(&self.audience.0.to_le_bytes());
        put(&self.epoch.generation.to_le_bytes());
        put(&self.epoch.number.to_le_bytes());
        put(&self.request.to_le_bytes());
        put(&self.content.0);
        put(&self.index.to_le_bytes());
        put(&self.length.to_le_bytes());
        put(&self.nonce);
        bytes
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8; CHUNK_HEADER_BYTES]) -> Result<ChunkHeader, BadChunkHeader> {
        let mut reader = Reader { bytes, at: 0 };
        let [version, cipher] = reader.take::<2>();
        if version != CHUNK_VERSION {
            return Err(BadChunkHeader::Version);
        }
        let header = ChunkHeader {
            cipher: Cipher::from_code(cipher).ok_or(BadChunkHeader::Cipher)?,
            audience: Audience(u32::from_le_bytes(reader.take())),
            epoch: EpochId { generation: u32::from_le_bytes(reader.take()), number: u32::from_le_bytes(reader.take()) },
            request: u64::from_le_bytes(reader.take()),
            content: ContentId(reader.take()),
            index: u32::from_le_bytes(reader.take()),
            length: u32::from_le_bytes(reader.take()),
            nonce: reader.take(),
        };
        if header.length > CHUNK_BYTES_MAX { Err(BadChunkHeader::Length) } else { Ok(header) }
    }

    /// What the seal binds: all but the request's number, which a relay changes, and the nonce, which is bound anyway.
    pub fn bound(&self, group: &GroupId) -> Vec<u8> {
        let bytes = self.encode();
        let mut bound = group.0.to_vec();
        bound.extend_from_slice(&bytes[..14]);
        bound.extend_from_slice(&bytes[22..46]);
        bound
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ChunkHeader {
        ChunkHeader {
            cipher: Cipher::Aes256Gcm,
            audience: Audience::EVERYONE,
            epoch: EpochId { generation: 1, number: 2 },
            request: 3,
            content: ContentId([4; 16]),
            index: 5,
            length: 6,
            nonce: [7; 12],
        }
    }

    #[test]
    fn a_header_comes_back() {
        assert_eq!(ChunkHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn every_byte_but_request_and_nonce_is_bound() {
        let group = GroupId([9; 32]);
        let bytes = header().encode();
        for place in 2..CHUNK_HEADER_BYTES {
            let mut changed = bytes;
            changed[place] ^= 1;
            let Ok(other) = ChunkHeader::decode(&changed) else { continue };
            let free = (14..22).contains(&place) || place >= 46;
            assert_eq!(other.bound(&group) == header().bound(&group), free, "byte {place}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let mut bytes = header().encode();
        bytes[0] = 9;
        assert_eq!(ChunkHeader::decode(&bytes), Err(BadChunkHeader::Version));
        bytes = header().encode();
        bytes[1] = 9;
        assert_eq!(ChunkHeader::decode(&bytes), Err(BadChunkHeader::Cipher));
        bytes = header().encode();
        bytes[42..46].fill(0xff);
        assert_eq!(ChunkHeader::decode(&bytes), Err(BadChunkHeader::Length));
    }
}
