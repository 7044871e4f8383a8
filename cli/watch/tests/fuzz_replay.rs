//! The fuzz target without a fuzzer: on the seeds in `fuzz/seeds`, and on changed streams.

#[path = "../../../zmtp/tests/support/changed.rs"]
mod changed;
#[path = "../../../zmtp/tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../../zmtp/tests/support/random.rs"]
mod random;

use changed::try_changed;
use fuzz::replay_seeds;
use watch::fuzzing::fuzz_stream;

const LEGAL: &[u8] = b"{\"type\": \"heartbeat\", \"time\": \"2024-07-01 12:00:00\"}\r\n\
    {\"type\":\"poiid\",\"service\":\"a \\\"}{\\\\\",\"dat\":[{},[1e3,null]]} {}";

#[test]
fn seeds_of_the_target() {
    replay_seeds(&[("stream", fuzz_stream)]);
}

#[test]
fn changed_streams() {
    try_changed(fuzz_stream, 3000, LEGAL);
}
