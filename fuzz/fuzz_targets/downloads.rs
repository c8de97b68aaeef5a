#![no_main]

use bailiwick_fuzz::downloads::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("downloads", seeds()), |bytes: &[u8]| run(bytes));
