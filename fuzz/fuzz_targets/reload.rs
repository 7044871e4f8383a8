//! A broker whose configuration changes, against one that starts with the last.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| broker::fuzzing::fuzz_reload(data));
