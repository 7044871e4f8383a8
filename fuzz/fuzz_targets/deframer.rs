//! A stream of frames in pieces, against a parser too simple to be wrong.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zmtp::fuzzing::fuzz_deframer(data));
