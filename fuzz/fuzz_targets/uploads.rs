#![no_main]

use bailiwick_fuzz::uploads::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("uploads", seeds()), |bytes: &[u8]| run(bytes));
