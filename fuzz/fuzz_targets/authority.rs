#![no_main]

use bailiwick_fuzz::authority::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("authority", seeds()), |bytes: &[u8]| run(bytes));
