//! An endpoint in libzmq's syntax.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| broker::fuzzing::fuzz_endpoint(data));
