//! A frame header, its limits of any size.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zmtp::fuzzing::fuzz_header(data));
