//! A whole broker by operations.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| broker::fuzzing::fuzz_core(data));
