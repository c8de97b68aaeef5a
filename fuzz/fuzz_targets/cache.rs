#![no_main]

use bailiwick_fuzz::cache::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("cache", seeds()), |bytes: &[u8]| run(bytes));
