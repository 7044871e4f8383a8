//! The head of a request of HTTP.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| http::fuzzing::fuzz_head(data));
