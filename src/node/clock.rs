//! The clocks and the random source of a real node.

use crate::state::random::Random;
use crate::state::time::Time;
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, on a clock that never goes back and counts suspend.
pub fn now() -> Time {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    milliseconds(clock)
}

/// Now, on a clock that never goes back; on Linux it does not count suspend.
pub fn awake() -> Time {
    milliseconds(ClockId::Monotonic)
}

/// The boot of the system that [`now`] counts from, where the system tells.
pub fn boot() -> Option<[u8; 16]> {
    let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    uuid::Uuid::parse_str(told.trim()).ok().map(uuid::Uuid::into_bytes)
}

fn milliseconds(clock: ClockId) -> Time {
    let time = clock_gettime(clock);
    Time(time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000)
}

/// Now, in milliseconds since 1970 (UTC).
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The system's random source.
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the system's random source does not fail");
    }
}
