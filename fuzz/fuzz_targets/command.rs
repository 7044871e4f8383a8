//! The body of a command, and a property list.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zmtp::fuzzing::fuzz_command(data));
