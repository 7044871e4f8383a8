//! Every conversation in `tests/data`, most of them recorded from libzmq, in every chunking.
//!
//! Reports and answers of a session may depend only on the bytes that have arrived: not on the
//! pieces, and not on how long the owner of the buffer waits. The prompt owner is the strictest
//! test: after each piece, exactly the events that the transcript has up to there must have
//! happened, so that neither an event nor an error comes later than the byte that decides it.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Caller, Happening, Random, Transcript, parse, read_all, ready, replay};
use zmtp::{Deadline, Error, Event, Session, SessionConfig, SocketType, Step};

/// The errors that a transcript can end with: all labels except timeouts.
const LABELS: [&str; 23] = [
    "both-servers",
    "command-in-message",
    "command-too-large",
    "frame-too-large",
    "illegal-flags",
    "malformed-command",
    "malformed-metadata",
    "malformed-ping",
    "malformed-probe",
    "mechanism-mismatch",
    "message-in-handshake",
    "message-too-large",
    "not-authorised",
    "not-zmtp",
    "refused-by-peer",
    "socket-type-mismatch",
    "too-many-frames",
    "topic-too-long",
    "unexpected-command",
    "unknown-socket-type",
    "wrong-server-key",
    "zmtp-1",
    "zmtp-2",
];

const CALLERS: [Caller; 3] = [Caller::Prompt, Caller::Lazy, Caller::Hesitant];

#[test]
fn in_pieces_of_every_size() {
    for transcript in read_all() {
        let size = transcript.input.len();
        for piece_size in 1..=size {
            for caller in CALLERS {
                replay(&transcript, caller, (piece_size..size).step_by(piece_size));
            }
        }
    }
}

#[test]
fn split_in_two_everywhere() {
    for transcript in read_all() {
        for cut in 0..=transcript.input.len() {
            replay(&transcript, Caller::Prompt, [cut]);
        }
    }
}

#[test]
fn in_pieces_of_random_sizes() {
    for (transcript, seed) in read_all().iter().zip(1..) {
        let mut random = Random::new(seed);
        for round in 0..100 {
            let piece_size_max = [2, 20, 300, 5000][round % 4];
            let mut cuts = Vec::new();
            let mut cut = random.below(piece_size_max);
            while cut < transcript.input.len() {
                cuts.push(cut);
                cut += 1 + random.below(piece_size_max);
            }
            replay(transcript, CALLERS[round % 3], cuts);
        }
    }
}

/// A transcript without expectations would always pass.
#[test]
fn the_transcripts_exist_and_have_expectations() {
    let transcripts = read_all();
    assert!(transcripts.len() >= 135, "{} found", transcripts.len());
    for Transcript {
        name,
        happenings,
        input,
        output,
        ..
    } in &transcripts
    {
        assert!(!input.is_empty() && !output.is_empty(), "{name}");
        let (last, _) = happenings.last().expect(name);
        assert!(*last > 0, "{name}");
    }
    let labels: BTreeSet<_> = transcripts
        .iter()
        .flat_map(|transcript| &transcript.happenings)
        .filter_map(|(_, happening)| match happening {
            Happening::Failed(label) => Some(label.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(labels, BTreeSet::from(LABELS));
}

/// No byte is at fault in silence: only a timeout ends it.
#[test]
fn a_peer_that_stops_half_way_times_out() {
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    let start = Instant::now();
    let timeout = Duration::from_secs(30);
    let greeting = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL"[..], &[0; 48]].concat();
    let whole = [greeting, ready(SocketType::Push)].concat();
    for size in 0..whole.len() {
        let (mut input, mut out) = (whole[..size].to_vec(), Vec::new());
        let config = Arc::new(SessionConfig::new(SocketType::Pull));
        let mut session = Session::new(config, start, &mut out);
        let mut step = session.handle_input(&mut input, &mut out);
        if step.as_ref().is_ok_and(|step| step.consumed == 64) {
            step = session.handle_input(&mut input[64..], &mut out);
        }
        assert!(
            matches!(
                step,
                Ok(Step {
                    event: Event::Need(_),
                    ..
                })
            ),
            "{size} bytes"
        );
        assert_eq!(session.poll_timeout(), Some(start + timeout));
        let just_before = start + timeout - Duration::from_millis(1);
        assert_eq!(session.handle_timeout(just_before, &mut Vec::new()), Ok(()));
        let after = timeout;
        let late = Error::TimedOut(if size < 64 {
            Deadline::Greeting { after }
        } else {
            Deadline::Handshake { after }
        });
        assert_eq!(
            session.handle_timeout(start + timeout, &mut Vec::new()),
            Err(late)
        );
        assert_eq!(session.handle_input(&mut input, &mut out), Err(late));
        assert_eq!(session.poll_timeout(), None);
    }
}

/// READY truncated at each position, with the header of the remaining size.
#[test]
fn metadata_truncated_anywhere() {
    let whole = ready(SocketType::Req);
    let name_size = b"\x05READY".len();
    let socket_type_size = b"\x0bSocket-Type\0\0\0\x03REQ".len();
    for size in 0..=whole.len() - 2 {
        let expected = match size {
            0..6 => "! malformed-command",
            _ if size == name_size => "= ready 3.1 -",
            _ if size == name_size + socket_type_size => "= ready 3.1 REQ",
            _ if size == whole.len() - 2 => "= ready 3.1 REQ",
            _ => "! malformed-metadata",
        };
        let body: String = whole[2..2 + size]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let text = format!("local ROUTER\ngreeting\n< 04 {size:02x} {body}\n{expected}\n");
        for transcript in parse("truncated metadata", &text) {
            for piece_size in 1..=transcript.input.len() {
                let cuts = (piece_size..transcript.input.len()).step_by(piece_size);
                replay(&transcript, Caller::Prompt, cuts);
            }
        }
    }
}

/// The default limits, where the transcripts have smaller ones.
#[test]
fn endless_more_flags_end_at_the_default_limit() {
    let mut text = "local PULL\nhandshake PUSH\n".to_owned();
    for _ in 0..8192 {
        text.push_str("< 01 00\n");
    }
    text.push_str("< 01 00\n! too-many-frames\n< 01 00\n");
    for transcript in parse("endless more flags", &text) {
        for piece_size in [1, 2, 3, 1000, transcript.input.len()] {
            let cuts = (piece_size..transcript.input.len()).step_by(piece_size);
            replay(&transcript, Caller::Prompt, cuts);
        }
    }
}
