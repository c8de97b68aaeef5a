#![no_main]

use bailiwick_fuzz::member::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("member", seeds()), |bytes: &[u8]| run(bytes));
