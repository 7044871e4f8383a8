//! The fuzz targets without a fuzzer: on the seeds in `fuzz/seeds`, and on inputs from random
//! numbers.

#[path = "support/fuzz.rs"]
mod fuzz;
#[path = "support/random.rs"]
mod random;

use fuzz::{Target, byte, replay_seeds};
use random::Random;
use zmtp::SocketType;
use zmtp::encode::{append_command, append_frame};
use zmtp::fuzzing::{
    fuzz_command, fuzz_curve, fuzz_deframer, fuzz_ends, fuzz_greeting, fuzz_header, fuzz_session,
    fuzz_traffic,
};

/// Inputs made for each target.
const INPUTS: usize = 5000;

/// Sizes at which the form of the header or a limit of the targets changes.
const SIZES: [usize; 20] = [
    0, 1, 2, 15, 16, 17, 31, 32, 33, 42, 43, 254, 255, 256, 257, 511, 512, 513, 1015, 1022,
];

const COMMANDS: [&str; 13] = [
    "CANCEL",
    "ERROR",
    "HELLO",
    "JOIN",
    "PING",
    "PONG",
    "READY",
    "SUBSCRIBE",
    "ZMQD-JOIN",
    "ZMQD-LOOP",
    "ZMQD-PROBE",
    "ZMQD-UP",
    "",
];

#[test]
fn seeds_of_every_target() {
    let targets: [(&str, Target); 8] = [
        ("command", fuzz_command),
        ("curve", fuzz_curve),
        ("deframer", fuzz_deframer),
        ("ends", fuzz_ends),
        ("greeting", fuzz_greeting),
        ("header", fuzz_header),
        ("session", fuzz_session),
        ("traffic", fuzz_traffic),
    ];
    replay_seeds(&targets);
}

#[test]
fn greetings() {
    try_inputs(fuzz_greeting, |random| {
        let mut input = vec![byte(random)];
        append_greeting(random, &mut input);
        input
    });
}

/// Announced sizes and limits are near the same powers of two.
#[test]
fn headers() {
    try_inputs(fuzz_header, |random| {
        let mut input = vec![byte(random)];
        input.extend(large(random).to_be_bytes());
        input.extend(large(random).to_be_bytes());
        let flags = u8::try_from(random.below(7)).expect("small");
        input.push(flags);
        if flags & 2 == 0 {
            input.push(byte(random));
        } else {
            input.extend(large(random).to_be_bytes());
        }
        input.extend(body(random));
        input
    });
}

#[test]
fn commands() {
    try_inputs(fuzz_command, |random| {
        let mut frame = Vec::new();
        match random.below(3) {
            0 => {
                let name = COMMANDS[random.below(COMMANDS.len())];
                append_command(&mut frame, name, &body(random));
            }
            _ => append_ready(random, &mut frame),
        }
        let header_size = if frame[0] & 2 == 0 { 2 } else { 9 };
        frame.split_off(header_size - 1)
    });
}

#[test]
fn two_ends() {
    try_inputs(fuzz_ends, |random| {
        let mut input = vec![byte(random), byte(random), byte(random)];
        // Enough of both directions that most handshakes finish.
        for _ in 0..random.below(8) {
            input.extend([2, 255, 3, 255]);
        }
        // From 24 on, operations change what is on its way.
        let bound = [24, 32][random.below(2)];
        for _ in 0..random.below(40) {
            input.extend([byte(random) % bound, byte(random)]);
        }
        input
    });
}

/// Choices that mostly lead on: to the end of the handshake, and to traffic.
#[test]
fn peers_with_keys() {
    try_inputs(fuzz_curve, |random| {
        let is_server = random.below(2) == 1;
        let mut metadata = Vec::new();
        if random.below(2) == 0 {
            append_ready(random, &mut metadata);
            metadata.drain(..8);
            metadata.truncate(255);
        }
        let mut input = if is_server {
            vec![1, 0, 0xff]
        } else {
            vec![0, 0, byte(random) % 4, 0xff, 0]
        };
        input.push(u8::try_from(metadata.len()).expect("a byte"));
        input.extend(metadata);
        input.extend([0, 4 + byte(random) % 4, 0xff]);
        for _ in 0..random.below(12) {
            input.extend([byte(random), byte(random), byte(random), 0xff, byte(random)]);
        }
        input
    });
}

#[test]
fn streams_of_frames() {
    try_inputs(fuzz_deframer, |random| {
        let mut input = vec![byte(random)];
        append_traffic(random, &mut input);
        input
    });
}

#[test]
fn traffic() {
    try_inputs(fuzz_traffic, |random| {
        let mut input = vec![byte(random), byte(random)];
        append_traffic(random, &mut input);
        input
    });
}

#[test]
fn whole_sessions() {
    try_inputs(fuzz_session, |random| {
        let mut input = vec![byte(random), byte(random)];
        input.extend(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03");
        input.push(u8::try_from(random.below(3)).expect("small"));
        input.extend([&b"NULL"[..], &[0; 48]].concat());
        append_ready(random, &mut input);
        append_traffic(random, &mut input);
        input
    });
}

#[test]
fn whole_sessions_of_old_peers() {
    try_inputs(fuzz_session, |random| {
        let mut input = vec![byte(random), byte(random)];
        input.extend(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01");
        input.push(u8::try_from(random.below(12)).expect("small"));
        append_frame(&mut input, &body(random), false);
        append_traffic(random, &mut input);
        input
    });
}

/// Makes inputs, damages most of them, and runs the target on each.
fn try_inputs(target: Target, make: impl Fn(&mut Random) -> Vec<u8>) {
    fuzz::try_inputs(target, INPUTS, |random| {
        let mut input = make(random);
        for _ in 0..random.below(4) {
            mutate(random, &mut input);
        }
        input
    });
}

/// A greeting of any version.
fn append_greeting(random: &mut Random, input: &mut Vec<u8>) {
    input.extend(b"\xff\0\0\0\0\0\0\0\x01\x7f");
    input.push(u8::try_from(random.below(5)).expect("small"));
    input.push(u8::try_from(random.below(12)).expect("small"));
    let mechanism = [&b"NULL"[..], b"PLAIN", b"", b"NULL\0NULL"][random.below(4)];
    input.extend([mechanism, &[0; 52][mechanism.len()..]].concat());
}

/// A number around a power of two.
fn large(random: &mut Random) -> u64 {
    let power = [4, 8, 16, 31, 32, 63, 64][random.below(7)];
    let near = (1_u128 << power) + random.below(24) as u128;
    u64::try_from(near - 12).unwrap_or(u64::MAX)
}

fn append_traffic(random: &mut Random, input: &mut Vec<u8>) {
    for _ in 0..random.below(12) {
        if random.below(3) == 0 {
            let name = COMMANDS[random.below(COMMANDS.len())];
            append_command(input, name, &body(random));
        } else {
            let more = random.below(2) == 0;
            let start = input.len();
            append_frame(input, &body(random), more);
            if random.below(4) == 0 && input[start] & 2 == 0 {
                make_long(input, start);
            }
        }
    }
}

/// Turns the short frame at `start` into its long form.
fn make_long(input: &mut Vec<u8>, start: usize) {
    input[start] |= 2;
    input.splice(start + 1..start + 1, [0; 7]);
}

fn append_ready(random: &mut Random, input: &mut Vec<u8>) {
    let mut properties = Vec::new();
    for _ in 0..random.below(3) {
        let name = ["Socket-Type", "socket-type", "Identity", "X-any", ""][random.below(5)];
        let value = match random.below(3) {
            0 => body(random),
            _ => SocketType::ALL[random.below(11)].name().into(),
        };
        properties.push(u8::try_from(name.len()).expect("a short name"));
        properties.extend(name.bytes());
        properties.extend(
            u32::try_from(value.len())
                .expect("a short value")
                .to_be_bytes(),
        );
        properties.extend(value);
    }
    append_command(input, "READY", &properties);
}

fn body(random: &mut Random) -> Vec<u8> {
    let size = match random.below(4) {
        0 => SIZES[random.below(SIZES.len())],
        _ => random.below(20),
    };
    (0..size).map(|_| byte(random) % 4).collect()
}

fn mutate(random: &mut Random, input: &mut Vec<u8>) {
    let at = random.below(input.len());
    let end = (at + random.below(16)).min(input.len());
    match random.below(6) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = [0, 1, 2, 4, 5, 0x7f, 0x80, 0xff][random.below(8)],
        2 => input.truncate(at.max(1)),
        3 if at > 0 => drop(input.drain(at..end)),
        4 => input.extend_from_within(at..end),
        _ => input.insert(at, byte(random)),
    }
}
