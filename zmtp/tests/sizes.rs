//! Sizes beyond any memory: refused from the header or waited for, and never truncated.
//!
//! On a 32-bit target most of them do not fit an address; the errors are the same.

use std::sync::{Arc, OnceLock};
use std::time::Instant;
use zmtp::wire::greeting::Greeting;
use zmtp::{Event, Frames, Limits, Session, SessionConfig, SocketType};

/// "hello" follows each, which would be a message if only the low 32 bits of the size counted.
const SIZES: [u64; 9] = [
    (1 << 32) - 10,
    (1 << 32) - 9,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 5,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 9,
    u64::MAX,
];

const COMMAND: u8 = 4;
const LONG: u8 = 2;
const LONG_HEADER_SIZE: usize = 9;
const MORE: u8 = 1;

/// Only the address space limits a message.
const UNLIMITED: Limits = Limits {
    handshake_command_size_max: 64 << 10,
    message_frames_max: u32::MAX,
    message_size_max: u64::MAX,
    topic_size_max: 4096,
};

#[test]
fn the_limit_refuses_a_message_from_its_header() {
    for size in SIZES {
        for flags in [LONG, LONG | MORE] {
            let error = say(&Limits::default(), &[&ready(), &frame(flags, size)]);
            assert_eq!(error, Err("frame-too-large"), "{size}");
            let frames = [&ready()[..], b"\x01\x01a", &frame(flags, size)];
            assert_eq!(say(&Limits::default(), &frames), Err("frame-too-large"));
        }
    }
}

#[test]
fn without_a_limit_an_addressable_message_is_waited_for() {
    for size in SIZES {
        for first in [&b""[..], b"\x01\x01a"] {
            let asked = say(&UNLIMITED, &[&ready(), first, &frame(LONG, size)]);
            let whole = first.len() as u128 + LONG_HEADER_SIZE as u128 + u128::from(size);
            match usize::try_from(whole) {
                Ok(whole) => assert_eq!(asked, Ok(whole)),
                Err(_) if usize::try_from(size).is_ok() => {
                    assert_eq!(asked, Err("message-too-large"), "{size}");
                }
                Err(_) => assert_eq!(asked, Err("frame-too-large"), "{size}"),
            }
        }
    }
}

#[test]
fn commands_have_limits_of_their_own() {
    for size in SIZES {
        let command = frame(LONG | COMMAND, size);
        for limits in [&UNLIMITED, &Limits::default()] {
            for in_front in [
                &ready()[..],
                &greeting(),
                &[&ready()[..], b"\x01\0"].concat(),
            ] {
                let error = say(limits, &[in_front, &command]);
                assert_eq!(error, Err("command-too-large"), "{size}");
            }
        }
    }
}

#[test]
fn a_message_in_the_handshake_is_refused_at_any_size() {
    for size in SIZES {
        for limits in [&UNLIMITED, &Limits::default()] {
            let error = say(limits, &[&greeting(), &frame(LONG, size)]);
            assert_eq!(error, Err("message-in-handshake"), "{size}");
            let old = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x08";
            let error = say(limits, &[old, &frame(LONG, size)]);
            assert_eq!(error, Err("frame-too-large"), "an identity of {size}");
        }
    }
}

#[test]
fn frames_end_where_the_input_ends() {
    for size in SIZES {
        assert_eq!(Frames::new(&frame(LONG, size)).next(), None, "{size}");
    }
}

/// The size that a PULL socket needs in the end, or the label of its error, if a peer sends these
/// bytes, one by one and at once. They must not make a message.
fn say(limits: &Limits, parts: &[&[u8]]) -> Result<usize, &'static str> {
    let said = parts.concat();
    let whole = hear(limits, &said, said.len());
    assert_eq!(hear(limits, &said, 1), whole);
    whole
}

fn hear(limits: &Limits, said: &[u8], piece_size: usize) -> Result<usize, &'static str> {
    let config = Arc::new(SessionConfig {
        accept_zmtp2: true,
        limits: *limits,
        ..SessionConfig::new(SocketType::Pull)
    });
    let (mut input, mut out) = (Vec::new(), Vec::new());
    let mut session = Session::new(config, start(), &mut out);
    let mut asked = 0;
    for piece in said.chunks(piece_size) {
        input.extend_from_slice(piece);
        loop {
            let found = session.finder().and_then(|finder| finder.find(&input));
            assert_eq!(found, None, "a message was found");
            let step = session.handle_input(&mut input, &mut out);
            let step = step.map_err(|error| error.label())?;
            match step.event {
                Event::Message(span) => panic!("a message of {span:?}"),
                Event::Need(size) => {
                    asked = size;
                    break;
                }
                _ => drop(input.drain(..step.consumed)),
            }
        }
    }
    Ok(asked)
}

fn frame(flags: u8, size: u64) -> Vec<u8> {
    [&[flags][..], &size.to_be_bytes(), b"hello"].concat()
}

fn greeting() -> Vec<u8> {
    Greeting::new("NULL").bytes().to_vec()
}

/// All that a peer sends before its first message.
fn ready() -> Vec<u8> {
    [&greeting()[..], b"\x04\x06\x05READY"].concat()
}

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
