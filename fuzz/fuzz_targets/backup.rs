#![no_main]

use bailiwick_fuzz::backup::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("backup", seeds()), |bytes: &[u8]| run(bytes));
