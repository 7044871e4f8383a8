//! The fuzz target of recordings without a fuzzer: on the seeds in `fuzz/seeds/recording`, and on
//! inputs from random numbers.

#[path = "../../zmtp/tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../zmtp/tests/support/random.rs"]
mod random;

use broker::record::fuzzing::fuzz_reader;
use fuzz::{byte, replay_seeds, try_inputs};
use random::Random;

/// Damaged recordings to try.
const INPUTS: usize = 5000;

#[test]
fn seeds() {
    replay_seeds(&[("recording", fuzz_reader)]);
}

#[test]
fn damaged_recordings() {
    try_inputs(fuzz_reader, INPUTS, |random| {
        let mut input = recording(random);
        for _ in 0..random.below(4) {
            harm(random, &mut input);
        }
        input
    });
}

/// Records with valid checksums, and bodies of any bytes.
fn recording(random: &mut Random) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..random.below(5) {
        let mut body = match random.below(5) {
            0 => vec![byte(random), 2, 0],
            1 => [&[3][..], &[0; 24]].concat(),
            2 => (0..random.below(60)).map(|_| byte(random) % 8).collect(),
            // A message, up to its peer, source and frames.
            _ => {
                let mut body = vec![2; 12];
                body[10] = byte(random) % 4;
                let has_user = body[10] & 2 != 0;
                body.extend([0; 8]);
                body.extend(match random.below(4) {
                    0 => vec![0],
                    1 => [&[3][..], &[7; 8]].concat(),
                    2 => [&[4][..], &[7; 6]].concat(),
                    _ => [&[6][..], &[7; 22]].concat(),
                });
                body.extend([3, 0, b's', b'r', b'c']);
                if has_user {
                    body.extend([&[2][..], b"me"].concat());
                }
                for _ in 0..random.below(3) {
                    body.extend([1, 1, b'f']);
                }
                body.extend([0, 4, b'l', b'a', b's', b't']);
                body
            }
        };
        if random.below(8) == 0 {
            body.resize(random.below(200_000), 0);
        }
        append_record(&mut input, &body);
    }
    input
}

fn append_record(input: &mut Vec<u8>, body: &[u8]) {
    let mut header = b"\xf7zqr".to_vec();
    header.extend(u32::try_from(body.len()).expect("small").to_le_bytes());
    header.extend(crc32fast::hash(body).to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    input.extend(header);
    input.extend(body);
}

fn harm(random: &mut Random, input: &mut Vec<u8>) {
    if input.is_empty() {
        return;
    }
    let at = random.below(input.len());
    let end = (at + random.below(40)).min(input.len());
    match random.below(6) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = [0, 1, 0x7a, 0xf7, 0xff][random.below(5)],
        2 => input.truncate(at),
        3 => drop(input.drain(at..end)),
        4 => input.extend_from_within(at..end),
        _ => drop(input.splice(at..at, b"\xf7zqr".iter().copied())),
    }
}
