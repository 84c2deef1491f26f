//! Bytes of an ONNX file through everything that only reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vidc_fuzz::read(bytes));
