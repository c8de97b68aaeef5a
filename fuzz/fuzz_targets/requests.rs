#![no_main]

use bailiwick_fuzz::requests::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("requests", seeds()), |bytes: &[u8]| run(bytes));
