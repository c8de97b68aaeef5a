#![no_main]

use bailiwick_fuzz::import::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("import", seeds()), |bytes: &[u8]| run(bytes));
