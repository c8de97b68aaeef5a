#![no_main]

use bailiwick_fuzz::router::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("router", seeds()), |bytes: &[u8]| run(bytes));
