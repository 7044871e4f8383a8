//! The fuzz target without a fuzzer: on the seeds in `fuzz/seeds`, and on changed requests.

#[path = "../../../zmtp/tests/support/changed.rs"]
mod changed;
#[path = "../../../zmtp/tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../../zmtp/tests/support/random.rs"]
mod random;

use changed::try_changed;
use fuzz::replay_seeds;
use http::fuzzing::fuzz_head;

const LEGAL: &[u8] =
    b"GET /api/v1/proxies/a.b/who?topic=%00a+b&limit=1 HTTP/1.1\r\nHost: [::1]:80\r\n\
    Authorization: Bearer 0123456789abcdef\r\nConnection: keep-alive\r\nX-Zmqd: 1\r\n\r\nGET";

#[test]
fn seeds_of_the_target() {
    replay_seeds(&[("http", fuzz_head)]);
}

#[test]
fn changed_heads() {
    try_changed(fuzz_head, 3000, LEGAL);
}
