//! The fuzz target without a fuzzer: on the seeds in `fuzz/seeds`, and on changed requests.

#[path = "../../../zmtp/tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../../zmtp/tests/support/random.rs"]
mod random;

use fuzz::{byte, replay_seeds, try_inputs};
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
    fuzz_head(LEGAL);
    try_inputs(fuzz_head, 3000, |random| {
        let mut input = LEGAL.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(input.len());
            match random.below(4) {
                0 => input[at] ^= 1 << random.below(8),
                1 => input.truncate(at.max(1)),
                2 => input.insert(at, byte(random)),
                _ => {
                    let end = (at + random.below(16)).min(input.len());
                    input.extend_from_within(at..end);
                }
            }
        }
        input
    });
}
