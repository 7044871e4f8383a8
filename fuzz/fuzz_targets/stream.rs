//! JSON objects in the bytes of a plain TCP client.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| watch::fuzzing::fuzz_stream(data));
