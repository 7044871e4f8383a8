//! The same from the first byte behind the handshake on.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zmtp::fuzzing::fuzz_traffic(data));
