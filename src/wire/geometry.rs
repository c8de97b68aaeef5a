//! placeholder until the content branch lands
use serde::{Deserialize, Serialize};
/// Largest chunk.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// Size of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkSize(u8);
