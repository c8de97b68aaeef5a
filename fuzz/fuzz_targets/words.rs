#![no_main]

use bailiwick_fuzz::words::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("words", seeds()), |bytes: &[u8]| run(bytes));
