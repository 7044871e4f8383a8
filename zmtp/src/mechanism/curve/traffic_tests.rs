//! Frames sealed and opened, and all that must not be.

use super::super::crypto::BoxKey;
use super::super::tests::coders;
use super::*;

/// A sealer and an opener whose nonces follow `nonce`.
fn pair(nonce: u64) -> (Sealer, Opener) {
    let (key, prefix) = (BoxKey::from_bytes(&[9; 32]), b"CurveZMQMESSAGEC");
    (
        Sealer::new(&key, prefix, nonce),
        Opener::new(&key, prefix, nonce),
    )
}

fn seal(sealer: &mut Sealer, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xaa; Sealer::sealed_size(body.len())];
    sealer.seal(flags, body, &mut out).unwrap();
    out
}

/// A frame sealed with any nonce and any text, inner flags included.
fn forge(nonce: u64, text: &[u8]) -> Vec<u8> {
    let (sealer, _) = pair(0);
    let mut sealed = [&[0; TAG_SIZE], text].concat();
    sealer.key.seal(nonce, &mut sealed);
    let body = [&NAME[..], &nonce.to_be_bytes(), &sealed].concat();
    let mut frame = vec![0, u8::try_from(body.len()).unwrap()];
    frame.extend(body);
    frame
}

fn plain(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; LONG_SIZE];
    let size = put_header(&mut frame, 0, flags, body.len());
    [&frame[..size], body].concat()
}

fn open(opener: &mut Opener, raw: &[u8]) -> Result<Vec<u8>, Error> {
    let mut raw = raw.to_vec();
    let opened = opener.open(&mut raw, &Limits::default())?;
    assert_eq!(opened.consumed, raw.len());
    assert_eq!(opened.need, 2);
    raw.truncate(opened.plain);
    Ok(raw)
}

#[test]
fn both_directions_of_a_connection() {
    let [mut client, mut server] = coders();
    for round in 0..3_u8 {
        let raw = seal(&mut client.sealer.0, MORE, &[round]);
        assert_eq!(raw[..2], [0, 34], "neither MORE nor COMMAND outside");
        assert_eq!(open(&mut server.opener.0, &raw), Ok(plain(MORE, &[round])));
        let replayed = open(&mut server.opener.0, &raw);
        assert_eq!(replayed, Err(Unverified::Nonce.into()));
        let raw = seal(&mut server.sealer.0, COMMAND, &[round]);
        assert_eq!(
            open(&mut client.opener.0, &raw),
            Ok(plain(COMMAND, &[round]))
        );
    }
    let own = seal(&mut client.sealer.0, 0, b"reflected");
    assert_eq!(
        open(&mut client.opener.0, &own),
        Err(Unverified::Message.into()),
        "a direction has its own prefix"
    );
}

#[test]
fn every_size_around_the_forms_of_a_header() {
    let (mut sealer, mut opener) = pair(2);
    let sizes = (0..=300).chain([65_535, 65_536, 100_000]);
    for size in sizes {
        let body: Vec<u8> = (0..=250).cycle().take(size).collect();
        for flags in [0, MORE, COMMAND] {
            if flags == COMMAND && size > 4106 {
                continue;
            }
            let raw = seal(&mut sealer, flags, &body);
            let is_long = size + 33 > 255;
            assert_eq!(raw[0], if is_long { LONG } else { 0 }, "{size} bytes");
            assert_eq!(raw.len(), size + 33 + if is_long { 9 } else { 2 });
            let growth = raw.len() - plain(flags, &body).len();
            assert!(growth <= Sealer::OVERHEAD_MAX);
            assert_eq!(growth == Sealer::OVERHEAD_MAX, is_long && size <= 255);
            assert_eq!(open(&mut opener, &raw), Ok(plain(flags, &body)));
        }
    }
}

/// A plain header tells LONG too, which says nothing about the sealed frame.
#[test]
fn the_form_of_the_plain_header_does_not_matter() {
    let (mut sealer, mut opener) = pair(2);
    let raw = seal(&mut sealer, LONG | MORE, b"x");
    assert_eq!(open(&mut opener, &raw), Ok(plain(MORE, b"x")));
}

#[test]
fn a_long_header_with_a_small_size_is_opened() {
    let (mut sealer, mut opener) = pair(2);
    let short = seal(&mut sealer, 0, b"x");
    let size = (short.len() as u64 - 2).to_be_bytes();
    let raw = [&[LONG], &size[..], &short[2..]].concat();
    assert_eq!(open(&mut opener, &raw), Ok(plain(0, b"x")));
}

#[test]
fn many_frames_at_once_and_in_pieces_of_every_size() {
    let bodies: [(u8, &[u8]); 5] = [
        (MORE, b"one"),
        (COMMAND, b"\x04PING\0\0"),
        (0, &[b'x'; 400]),
        (0, b""),
        (0, b"five"),
    ];
    let expected: Vec<u8> = bodies
        .iter()
        .flat_map(|(flags, body)| plain(*flags, body))
        .collect();
    let (mut sealer, _) = pair(2);
    let sealed = bodies.map(|(flags, body)| seal(&mut sealer, flags, body));
    let raw = sealed.concat();
    for piece_size in 1..=raw.len() {
        let (_, mut opener) = pair(2);
        let (mut buffer, mut got) = (Vec::new(), Vec::new());
        let (mut arrived, mut consumed) = (0, 0);
        for piece in raw.chunks(piece_size) {
            buffer.extend_from_slice(piece);
            arrived += piece.len();
            let opened = opener.open(&mut buffer, &Limits::default()).unwrap();
            got.extend_from_slice(&buffer[..opened.plain]);
            buffer.drain(..opened.consumed);
            consumed += opened.consumed;
            assert!(opened.need > buffer.len(), "asked for bytes that are there");
            let mut whole = 0;
            for frame in &sealed {
                if whole + frame.len() > arrived {
                    break;
                }
                whole += frame.len();
            }
            assert_eq!(consumed, whole, "every whole frame is opened at once");
        }
        assert_eq!(got, expected, "pieces of {piece_size} bytes");
        assert!(buffer.is_empty());
    }
}

#[test]
fn nonces_only_grow() {
    let (_, mut opener) = pair(10);
    for nonce in [0, 9, 10] {
        let raw = forge(nonce, b"\0x");
        assert_eq!(open(&mut opener, &raw), Err(Unverified::Nonce.into()));
    }
    for nonce in [11, 20, 21, u64::MAX] {
        assert_eq!(
            open(&mut opener, &forge(nonce, b"\0x")),
            Ok(plain(0, b"x")),
            "gaps are legal: {nonce}"
        );
        let again = open(&mut opener, &forge(nonce, b"\0y"));
        assert_eq!(again, Err(Unverified::Nonce.into()));
    }
}

#[test]
fn nonces_cross_the_bytes_that_they_are_made_of() {
    for start in [
        0xfd,
        0xfffd,
        0xff_fffd,
        0xffff_fffd,
        0xff_ffff_ffff_fffd_u64,
    ] {
        let (mut sealer, mut opener) = pair(start);
        for step in 1..=5 {
            let raw = seal(&mut sealer, 0, b"x");
            assert_eq!(raw[10..18], (start + step).to_be_bytes());
            assert_eq!(open(&mut opener, &raw), Ok(plain(0, b"x")));
        }
    }
}

#[test]
fn the_last_nonce_is_never_sent() {
    let (mut sealer, mut opener) = pair(u64::MAX - 2);
    let raw = seal(&mut sealer, 0, b"x");
    assert_eq!(open(&mut opener, &raw), Ok(plain(0, b"x")));
    let mut out = vec![0; Sealer::sealed_size(1)];
    for _ in 0..2 {
        let refused = sealer.seal(0, b"x", &mut out);
        assert_eq!(refused, Err(Internal::NoncesUsedUp.into()));
    }
    assert_eq!(out, [0; 36], "nothing was sealed");
}

/// Why a body is refused, one byte of which is not as it was sealed; the last nonce was 2.
fn refusal(body: &[u8], damaged: usize) -> Error {
    match damaged {
        0..8 => Misbehaved::NotEncrypted.into(),
        8..16 if body[8..16] <= *2_u64.to_be_bytes().as_slice() => Unverified::Nonce.into(),
        _ => Unverified::Message.into(),
    }
}

/// A nonce counts from the moment that its tag has verified, and not before.
#[test]
fn every_bit_of_the_body_counts_and_a_forged_nonce_does_not() {
    let (mut sealer, mut opener) = pair(2);
    let raw = seal(&mut sealer, MORE, b"hello");
    for bit in 2 * 8..8 * raw.len() {
        let mut flipped = raw.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = open(&mut opener, &flipped).unwrap_err();
        assert_eq!(error, refusal(&flipped[2..], bit / 8 - 2), "bit {bit}");
        assert_eq!(error.reply(), None);
    }
    assert_eq!(open(&mut opener, &raw), Ok(plain(MORE, b"hello")));
}

#[test]
fn flags_outside_are_refused_as_soon_as_they_come() {
    for flags in 1..=255_u8 {
        let (_, mut opener) = pair(2);
        let opened = opener.open(&mut [flags], &Limits::default());
        if flags == LONG {
            assert!(opened.is_ok());
        } else {
            assert_eq!(opened, Err(Malformed::Flags.into()), "{flags:02x}");
        }
    }
}

#[test]
fn flags_inside_are_more_or_command_and_not_both() {
    for flags in 0..=255_u8 {
        let (_, mut opener) = pair(2);
        let opened = open(&mut opener, &forge(3, &[flags, b'x']));
        let expected = match flags {
            0 => Ok(plain(0, b"x")),
            1 => Ok(plain(MORE, b"x")),
            2 => Ok(plain(COMMAND, b"x")),
            _ => Err(Malformed::Flags.into()),
        };
        assert_eq!(opened, expected, "{flags:02x}");
    }
}

#[test]
fn a_body_too_short_for_a_message_is_refused_at_its_header() {
    for size in 0..33 {
        let (_, mut opener) = pair(2);
        let opened = opener.open(&mut [0, size], &Limits::default());
        assert_eq!(opened, Err(Malformed::MessageCommand.into()));
    }
    let (_, mut opener) = pair(2);
    let opened = opener.open(&mut [0, 33], &Limits::default());
    let expected = Opened {
        need: 35,
        ..Opened::default()
    };
    assert_eq!(opened, Ok(expected));
}

#[test]
fn frames_in_the_clear_are_refused() {
    let clear = plain(0, &[b'x'; 40]);
    let (_, mut opener) = pair(2);
    assert_eq!(
        open(&mut opener, &clear),
        Err(Misbehaved::NotEncrypted.into())
    );
}

#[test]
fn limits_hold_from_the_header_on_and_for_each_kind() {
    let limits = Limits {
        message_size_max: 1000,
        topic_size_max: 500,
        ..Limits::default()
    };
    let header = |size: u64| [&[LONG], &size.to_be_bytes()[..]].concat();
    let (_, mut opener) = pair(2);
    assert!(opener.open(&mut header(1033), &limits).is_ok());
    for size in [1034, u64::from(u32::MAX), u64::MAX] {
        let (_, mut opener) = pair(2);
        let opened = opener.open(&mut header(size), &limits);
        assert_eq!(opened, Err(Malformed::FrameTooLarge.into()));
    }
    let table = [
        (0, 1000, Ok(1009)),
        (COMMAND, 510, Ok(519)),
        (COMMAND, 511, Err(Malformed::CommandTooLarge.into())),
    ];
    for (flags, size, expected) in table {
        let (mut sealer, mut opener) = pair(2);
        let mut raw = seal(&mut sealer, flags, &vec![0; size]);
        let opened = opener.open(&mut raw, &limits).map(|opened| opened.plain);
        assert_eq!(opened, expected, "{size} bytes with flags {flags}");
    }
    let small = Limits {
        message_size_max: 10,
        ..limits
    };
    let (mut sealer, mut opener) = pair(2);
    let mut raw = seal(&mut sealer, 0, &[0; 11]);
    let opened = opener.open(&mut raw, &small);
    assert_eq!(opened, Err(Malformed::FrameTooLarge.into()));
}

#[test]
fn unlimited_limits_do_not_overflow() {
    let limits = Limits {
        message_size_max: u64::MAX,
        topic_size_max: u64::MAX,
        ..Limits::default()
    };
    for size in [u64::MAX, u64::MAX - 9, 1 << 63] {
        let (_, mut opener) = pair(2);
        let mut raw = [&[LONG], &size.to_be_bytes()[..]].concat();
        let opened = opener.open(&mut raw, &limits);
        assert!(opened.is_err() || opened.is_ok_and(|opened| opened.plain == 0));
    }
}

/// So that a peer's last messages do not depend on how its bytes arrive.
#[test]
fn frames_before_an_illegal_one_are_opened_first() {
    let (mut sealer, mut opener) = pair(0);
    let good = seal(&mut sealer, MORE, b"good");
    let mut raw = [&good[..], &[0, 1, 7]].concat();
    let opened = opener.open(&mut raw, &Limits::default()).unwrap();
    assert_eq!(opened.consumed, good.len());
    assert!(raw.starts_with(&plain(MORE, b"good")));
    let illegal = opener.open(&mut raw[opened.consumed..], &Limits::default());
    assert_eq!(illegal, Err(Malformed::MessageCommand.into()));
}

/// Both of a connection, with steps so small that most frames are long.
fn stepping() -> (Sealer, Opener) {
    let (mut sealer, mut opener) = pair(2);
    sealer.set_step_size(16);
    opener.set_step_size(16);
    (sealer, opener)
}

/// Seals a frame in pieces of this size.
fn seal_in_steps(sealer: &mut Sealer, flags: u8, body: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![0xaa; Sealer::sealed_size(body.len())];
    let (front, data) = out.split_at_mut(Sealer::sealed_size(body.len()) - body.len());
    let mut tagging = sealer.begin(flags, body.len(), front).unwrap();
    body.chunks(size).for_each(|piece| tagging.add(piece));
    let mut sealing = tagging.finish(front);
    for (piece, room) in body.chunks(size).zip(data.chunks_mut(size)) {
        sealing.seal(piece, room);
    }
    out
}

#[test]
fn a_frame_sealed_in_steps_is_the_same() {
    for size in [0, 1, 222, 223, 300, 5000] {
        let body: Vec<u8> = (0..=250).cycle().take(size).collect();
        for piece in [1, 16, 63, 64, 65, 4096] {
            let (mut at_once, _) = pair(2);
            let (mut stepped, _) = pair(2);
            for flags in [0, MORE, COMMAND] {
                assert_eq!(
                    seal_in_steps(&mut stepped, flags, &body, piece),
                    seal(&mut at_once, flags, &body),
                    "{size} bytes in pieces of {piece}"
                );
            }
        }
    }
}

/// Opens what arrives in pieces of this size, step by step.
fn open_in_steps(opener: &mut Opener, raw: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let (mut held, mut plain) = (Vec::new(), Vec::new());
    for piece in raw.chunks(size) {
        held.extend_from_slice(piece);
        loop {
            let opened = opener.open(&mut held, &Limits::default())?;
            assert!(opened.coded < 16 + 16 * 16 + 9, "{opened:?}");
            plain.extend_from_slice(&held[..opened.plain]);
            held.drain(..opened.consumed);
            if opened.need > 0 {
                assert!(
                    opened.need > held.len(),
                    "it waits for bytes that are there"
                );
                break;
            }
            assert!(opened.coded > 0, "a step for nothing");
        }
    }
    assert_eq!(held, [], "all is opened");
    Ok(plain)
}

#[test]
fn long_frames_are_opened_in_steps_however_they_arrive() {
    let body: Vec<u8> = (0..=250).cycle().take(1000).collect();
    for piece in (1..80).chain([255, 256, 257, 1041, 1042, 1043, 5000]) {
        let (mut sealer, mut opener) = stepping();
        let (mut raw, mut expected) = (Vec::new(), Vec::new());
        for (flags, size) in [(MORE, 5), (0, 1000), (MORE, 223), (COMMAND, 300), (0, 999)] {
            raw.extend(seal(&mut sealer, flags, &body[..size]));
            expected.extend(plain(flags, &body[..size]));
        }
        let opened = open_in_steps(&mut opener, &raw, piece);
        assert_eq!(opened, Ok(expected), "in pieces of {piece}");
    }
}

#[test]
fn every_bit_of_a_long_frame_counts() {
    let (mut sealer, _) = stepping();
    let raw = seal(&mut sealer, MORE, &[b'x'; 300]);
    for bit in 9 * 8..8 * raw.len() {
        let (_, mut opener) = stepping();
        let mut flipped = raw.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = open_in_steps(&mut opener, &flipped, 100).unwrap_err();
        assert_eq!(error, refusal(&flipped[9..], bit / 8 - 9), "bit {bit}");
    }
}

#[test]
fn a_long_frame_has_flags_inside_too() {
    for flags in 3..=255 {
        let (_, mut opener) = stepping();
        let (sealer, _) = pair(0);
        let mut sealed = [&[0; TAG_SIZE][..], &[flags], &[b'x'; 300]].concat();
        sealer.key.seal(3, &mut sealed);
        let mut raw = vec![0; LONG_SIZE];
        put_header(&mut raw, 0, 0, FRONT_SIZE + sealed.len());
        raw.extend([&NAME[..], &3_u64.to_be_bytes(), &sealed].concat());
        let opened = open_in_steps(&mut opener, &raw, 77);
        assert_eq!(opened, Err(Malformed::Flags.into()), "{flags:02x}");
    }
}

/// Nothing is begun for a header alone.
#[test]
fn an_announced_long_frame_costs_nothing() {
    let (mut sealer, mut opener) = stepping();
    let mut raw = seal(&mut sealer, 0, &[b'x'; 1000]);
    let opened = opener.open(&mut raw[..41], &Limits::default()).unwrap();
    assert_eq!((opened.coded, opened.need), (0, 1042));
    assert!(opener.stepped.is_none());
}
