#![no_main]

use bailiwick_fuzz::link::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("link", seeds()), |bytes: &[u8]| run(bytes));
