#![no_main]

use bailiwick_fuzz::wire::{run, seeds};

libfuzzer_sys::fuzz_target!(init: bailiwick_fuzz::sow("wire", seeds()), |bytes: &[u8]| run(bytes));
