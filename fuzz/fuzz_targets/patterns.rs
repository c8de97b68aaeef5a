#![no_main]

use bailiwick_fuzz::patterns::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("patterns", seeds()), |bytes: &[u8]| run(bytes));
