//! A greeting, and what a session answers to it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zmtp::fuzzing::fuzz_greeting(data));
