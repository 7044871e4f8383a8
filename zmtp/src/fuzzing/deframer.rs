//! A stream of frames, compared with a parser that is too simple to be wrong.

use super::{LIMITS, OLD};
use crate::deframer::{Deframer, Found};
use crate::version::Version;

/// The whole messages of a stream of bytes, and whether it ended in an error.
type Outcome = (Vec<Vec<u8>>, bool);

/// Feeds `data` to the deframer, in pieces whose size its first byte sets, and compares the
/// messages with those of a parser that is too simple to be wrong. With the bit `OLD`, the data is
/// the traffic of a peer of 2.0.
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
