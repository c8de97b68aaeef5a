//! The limits and pauses of downloads.

use crate::wire::geometry::CHUNK_BYTES_MAX;
use std::time::Duration;

/// How downloads wait, and how much they ask for.
#[derive(Debug, Clone, Copy)]
pub struct DownloadsConfig {
    /// Bytes outstanding at most.
    pub credit_max: u64,
    /// Bytes outstanding while nothing is known of the rate.
    pub credit_min: u64,
    /// Files in memory at a time; the rest wait in the store.
    pub files_max: usize,
    /// Units outstanding at most.
    pub units_max: usize,
    /// Bytes that may be there and unclaimed.
    pub claim_bytes: u64,
    /// How long chunks may be there and unclaimed.
    pub claim_wait: Duration,
    /// Small files that share one sync.
    pub finish_batch: usize,
    /// How long a finished small file waits for others.
    pub finish_wait: Duration,
    /// First pause after a refusal that may pass; it doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// Pause after a full disk.
    pub disk_wait: Duration,
    /// How long an owner may say nothing before a person is told.
    pub silent_after: Duration,
    /// How often one chunk may come damaged, or a file change under us, before the transfer fails.
    pub damage_max: u32,
}

impl Default for DownloadsConfig {
    fn default() -> DownloadsConfig {
        DownloadsConfig {
            credit_max: 32 << 20,
            credit_min: 4 << 20,
            files_max: 2_048,
            units_max: 1_024,
            claim_bytes: 32 << 20,
            claim_wait: Duration::from_secs(1),
            finish_batch: 256,
            finish_wait: Duration::from_millis(50),
            retry_min: Duration::from_millis(200),
            retry_max: Duration::from_secs(2),
            disk_wait: Duration::from_secs(5),
            silent_after: Duration::from_secs(3),
            damage_max: 16,
        }
    }
}

const _: () = assert!(CHUNK_BYTES_MAX as u64 <= 4 << 20, "the least credit holds the largest chunk");
