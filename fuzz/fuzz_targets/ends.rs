//! Two sessions that talk to each other.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zmtp::fuzzing::fuzz_ends(data));
