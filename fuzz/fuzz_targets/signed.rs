#![no_main]

use bailiwick_fuzz::signed::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("signed", seeds()), |bytes: &[u8]| run(bytes));
