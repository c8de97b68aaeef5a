//! Chunk buffers, used again: a fresh megabyte costs its page faults each time.

use bytes::Bytes;
use std::sync::{Arc, Mutex};

/// Buffers that are kept for the next chunk, at most.
const KEPT_MAX: usize = 24;
/// Buffers smaller than this are not worth keeping.
const KEPT_BYTES_MIN: usize = 256 * 1024;

/// A pool of buffers. It holds no state of clients or files, only empty memory.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer that can hold `bytes`.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let kept = if bytes >= KEPT_BYTES_MIN { self.0.lock().ok().and_then(|mut kept| kept.pop()) } else { None };
        let mut buffer = kept.unwrap_or_default();
        buffer.clear();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() >= KEPT_BYTES_MIN
            && let Ok(mut kept) = self.0.lock()
            && kept.len() < KEPT_MAX
        {
            kept.push(buffer);
        }
    }

    /// A buffer's bytes for the network; the buffer comes back when they were sent.
    pub(super) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}
