//! Recordings: files that anything may have happened to.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| broker::record::fuzzing::fuzz_reader(data));
