#![no_main]

use bailiwick_fuzz::paths::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("paths", seeds()), |bytes: &[u8]| run(bytes));
