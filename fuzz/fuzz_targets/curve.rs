//! The body of a curve, and a property list.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zmtp::fuzzing::fuzz_curve(data));
