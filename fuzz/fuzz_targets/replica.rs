#![no_main]

use bailiwick_fuzz::replica::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("replica", seeds()), |bytes: &[u8]| run(bytes));
