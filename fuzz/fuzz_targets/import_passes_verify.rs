//! A small graph made of the bytes through import, the passes of every level, verification and emission.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vidc_fuzz::compile(bytes));
