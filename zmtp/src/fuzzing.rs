//! Bodies of the fuzz targets: ordinary functions, so that a stable `cargo test` replays the
//! corpus.

use crate::deframer::{Deframer, Found};
use crate::limits::Limits;
use crate::loops::LoopCheck;
use crate::session::{Event, Session, SessionConfig};
use crate::socket_type::SocketType;
use crate::version::Version;
use crate::wire::greeting::Greeting;
use std::sync::Arc;
use std::time::Instant;

/// Small limits, so that a fuzzer meets them.
const LIMITS: Limits = Limits {
    handshake_command_size_max: 512,
    message_frames_max: 8,
    message_size_max: 1024,
    topic_size_max: 32,
};

/// What a stream of bytes was found to hold: whole messages, and whether it ended in an error.
type Outcome = (Vec<Vec<u8>>, bool);

/// The bit of the first byte of every input that is about ZMTP 2.0.
const OLD: u8 = 0x80;

/// Feeds `data` to the deframer, cut in pieces by its own first byte, and compares the messages
/// found with those of a parser that is too simple to be wrong. With the bit `OLD`, it is the
/// traffic of a peer of
/// 2.0.
pub fn fuzz_deframer(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else {
        return;
    };
    let version = if seed & OLD == 0 {
        Version::V3_1
    } else {
        Version::V2
    };
    let chunk_size = usize::from(seed & !OLD) + 1;
    let expected = naive(version, stream);
    assert_eq!(deframe(version, stream, chunk_size), expected);
    assert_eq!(deframe(version, stream, usize::MAX), expected);
}

/// Feeds `data` to a session: the first byte picks the socket type, and with the bit `OLD` peers of
/// 2.0 are welcome; the second picks the chunk size. What it reports must not depend on the chunks,
/// nor on the way in which messages are found.
pub fn fuzz_session(data: &[u8]) {
    let [which, chunk, stream @ ..] = data else {
        return;
    };
    let config = Arc::new(SessionConfig {
        accept_zmtp2: which & OLD != 0,
        limits: LIMITS,
        loop_check: LoopCheck::On,
        ..SessionConfig::new(socket_type(*which))
    });
    let whole = converse(&config, stream, usize::MAX, false);
    for takes_short_way in [false, true] {
        let chunk_size = usize::from(*chunk) + 1;
        let cut = converse(&config, stream, chunk_size, takes_short_way);
        assert_eq!(cut, whole);
    }
    assert_eq!(converse(&config, stream, usize::MAX, true), whole);
}

/// The same as [`fuzz_session`], from the first byte of traffic on; with the bit `OLD`, that of a
/// peer of
/// 2.0.
pub fn fuzz_traffic(data: &[u8]) {
    let [which, chunk, stream @ ..] = data else {
        return;
    };
    let mut whole = vec![*which, *chunk];
    if which & OLD == 0 {
        Greeting::new("NULL").emit(&mut whole);
        whole.extend_from_slice(b"\x04\x06\x05READY");
    } else {
        let peer = socket_type(*which).peers().first().map(|peer| peer.octet());
        whole.extend_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01");
        whole.extend(peer);
        whole.extend_from_slice(b"\0\0");
    }
    whole.extend_from_slice(stream);
    fuzz_session(&whole);
}

fn socket_type(which: u8) -> SocketType {
    let index = usize::from(which & !OLD) % SocketType::ALL.len();
    let socket_type = SocketType::ALL.get(index).copied();
    socket_type.unwrap_or(SocketType::Pair)
}

fn deframe(version: Version, stream: &[u8], chunk_size: usize) -> Outcome {
    let (mut deframer, mut input, mut messages) = (Deframer::new(version), Vec::new(), Vec::new());
    for chunk in stream.chunks(chunk_size) {
        input.extend_from_slice(chunk);
        loop {
            match deframer.scan(&mut input, &LIMITS) {
                Err(_) => return (messages, true),
                Ok(Found::Message { skipped, span }) => {
                    let rest = input.split_off(skipped + span.size);
                    messages.push(input.split_off(skipped));
                    input = rest;
                    deframer.advance();
                }
                Ok(Found::Command {
                    body,
                    inside_message: true,
                }) => deframer.skip_command(&body),
                Ok(Found::Command { body, .. }) => drop(input.drain(..body.end)),
                Ok(Found::Need { removed, size }) => {
                    input.truncate(input.len() - removed);
                    assert!(size > input.len(), "asked for bytes that are there");
                    break;
                }
            }
        }
    }
    (messages, false)
}

/// Parses frame by frame, copying everything.
fn naive(version: Version, mut stream: &[u8]) -> Outcome {
    let (mut messages, mut message, mut frames) = (Vec::new(), Vec::new(), 0);
    loop {
        let Some(&flags) = stream.first() else {
            return (messages, false);
        };
        let is_legal = match version {
            Version::V2 => matches!(flags, 0..=3),
            _ => matches!(flags, 0..=4 | 6),
        };
        if !is_legal {
            return (messages, true);
        }
        let (is_long, is_command) = (flags & 2 != 0, flags & 4 != 0);
        let header_size = if is_long { 9 } else { 2 };
        let Some(header) = stream.get(..header_size) else {
            return (messages, false);
        };
        let mut body_size: u128 = 0;
        for byte in header.iter().skip(1) {
            body_size = body_size * 256 + u128::from(*byte);
        }
        let frame_size = body_size + header_size as u128;
        if is_command {
            if body_size > u128::from(LIMITS.traffic_command_size_max()) {
                return (messages, true);
            }
        } else if message.len() as u128 + frame_size > u128::from(LIMITS.message_size_max)
            || frames >= LIMITS.message_frames_max
        {
            return (messages, true);
        }
        let Some(frame) = usize::try_from(frame_size)
            .ok()
            .and_then(|size| stream.get(..size))
        else {
            return (messages, false);
        };
        stream = stream.get(frame.len()..).unwrap_or_default();
        if is_command {
            continue;
        }
        message.extend_from_slice(frame);
        frames += 1;
        if flags & 1 == 0 {
            messages.push(std::mem::take(&mut message));
            frames = 0;
        }
    }
}

/// What one conversation came to: events as text, everything sent, and how it ended.
type Conversation = (Vec<String>, Vec<u8>, Option<&'static str>);

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do: no deadline is polled"
)]
fn converse(
    config: &Arc<SessionConfig>,
    stream: &[u8],
    chunk_size: usize,
    takes_short_way: bool,
) -> Conversation {
    let (mut out, mut events, mut input) = (Vec::new(), Vec::new(), Vec::new());
    let mut session = Session::new(config.clone(), Instant::now(), &mut out);
    let mut said_size_max = usize::MAX;
    for chunk in stream.chunks(chunk_size) {
        input.extend_from_slice(chunk);
        loop {
            if let Some(finder) = session.finder().filter(|_| takes_short_way) {
                while let Some(size) = finder.find(&input) {
                    events.push(format!("{:?}", input.get(..size)));
                    input.drain(..size);
                }
            }
            let step = match session.handle_input(&mut input, &mut out) {
                Ok(step) => step,
                Err(error) => {
                    assert!(out.len() <= said_size_max, "2.0 has no ERROR");
                    return (events, out, Some(error.label()));
                }
            };
            let mut consumed = step.consumed;
            match step.event {
                Event::Need(size) => {
                    input.truncate(input.len() - step.removed);
                    assert!(size > input.len(), "asked for bytes that are there");
                    break;
                }
                Event::Progress => {}
                Event::LoopCheck(said) => events.push(format!("{said:?}")),
                Event::Message(span) => {
                    session.accept();
                    events.push(format!("{:?}", input.get(consumed..consumed + span.size)));
                    consumed += span.size;
                }
                Event::Ready(peer) | Event::Trial(peer) => {
                    if peer.version == Version::V2 {
                        assert!(config.accept_zmtp2, "refused by default");
                        said_size_max = out.len();
                    }
                    events.push(format!("{peer:?}"));
                }
                Event::Subscription { add, topic } => {
                    events.push(format!("{add} {:?}", input.get(topic)));
                }
            }
            input.drain(..consumed);
            assert!(out.len() <= said_size_max, "2.0 has no answers to anything");
        }
    }
    (events, out, None)
}
