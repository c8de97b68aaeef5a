#![no_main]

use bailiwick_fuzz::local::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("local", seeds()), |bytes: &[u8]| run(bytes));
