use super::*;

/// The functions below count in and out of different ones.
fn store() -> Store {
    Store {
        queued: 1 << 30,
        ..Store::default()
    }
}

fn message(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    zmtp::encode::append_frame(&mut out, &vec![b'x'; size], false);
    out
}

fn scratch(bytes: &[u8]) -> Input {
    let mut input = Input::scratch(bytes.into());
    input.filled(bytes.len());
    input
}

fn content(egress: &Egress, input: &[u8]) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let count = egress.slices(input, &mut slices);
    slices[..count]
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect()
}

/// All messages, in wire form, and how many they are.
fn drained(mut unsent: Unsent, store: &mut Store) -> (Vec<u8>, u32) {
    let (bytes, messages) = (unsent.bytes(), unsent.messages());
    let mut wire = Vec::new();
    for _ in 0..messages {
        wire.extend_from_slice(&unsent.pop(store).expect("as many as it says"));
    }
    assert_eq!((unsent.pop(store), unsent.bytes()), (None, 0));
    assert_eq!(wire.len() as u64, bytes);
    (wire, messages)
}

#[test]
fn touching_ranges_become_one_run() {
    let bytes = message(60).repeat(1000);
    let input = scratch(&bytes);
    let (mut egress, mut store) = (Egress::default(), store());
    for at in (0..bytes.len()).step_by(62) {
        egress.push_run(&input, at..at + 62, 1, &mut store);
    }
    assert_eq!((egress.messages(), egress.bytes()), (1000, 62_000));
    egress.settle(&input, &mut store);
    assert!(egress.leans_on_input(), "a long run stays in the input");
    assert_eq!(egress.chunks.len(), 1);
    assert_eq!(content(&egress, &bytes), bytes);
    egress.advance(100, &mut store);
    egress.keep(&input, &mut store);
    assert!(!egress.leans_on_input());
    assert_eq!(content(&egress, &[]), bytes[100..]);
}

#[test]
fn a_prefix_goes_in_front_of_each_message() {
    let (small, large) = (message(60), message(20_000));
    let bytes = [small.clone(), large.clone(), small.clone()].concat();
    let input = scratch(&bytes);
    let (mut egress, mut store) = (Egress::default(), store());
    let mut at = 0;
    let mut expected = Vec::new();
    for message in [&small, &large, &small] {
        egress.push_input(b"\x01\x02id", &input, at..at + message.len(), &mut store);
        at += message.len();
        expected.extend_from_slice(b"\x01\x02id");
        expected.extend_from_slice(message);
    }
    egress.settle(&input, &mut store);
    assert!(egress.leans_on_input());
    assert_eq!(content(&egress, &bytes), expected);
    assert_eq!(egress.bytes(), expected.len() as u64);
}

#[test]
fn counts_come_down_to_zero_whatever_the_pieces() {
    let bytes = message(100);
    let input = scratch(&bytes);
    for piece in 1..bytes.len() * 3 + 10 {
        let (mut egress, mut store) = (Egress::default(), store());
        egress.push_bytes(b"\x04\x01\x00", 0, &mut store);
        for _ in 0..2 {
            egress.push_input(&[], &input, 0..bytes.len(), &mut store);
            egress.settle(&input, &mut store);
        }
        egress.push_shared(&[], Bytes::copy_from_slice(&bytes), &mut store);
        while !egress.is_empty() {
            let size = usize::try_from(egress.bytes()).unwrap().min(piece);
            egress.advance(size, &mut store);
        }
        assert_eq!(
            (egress.messages(), egress.chunks.len(), egress.written),
            (0, 0, 0)
        );
    }
}

#[test]
fn only_messages_with_no_byte_written_are_handed_over() {
    let (one, two) = (message(10), [b"\x01\x01a".to_vec(), message(20)].concat());
    let shared = message(30);
    let whole = [&one[..], b"\x04\x05\x04PONG", &two, &shared].concat();
    for written in 0..=whole.len() {
        let (mut egress, mut store) = (Egress::default(), store());
        egress.push_bytes(&one, 1, &mut store);
        egress.push_bytes(b"\x04\x05\x04PONG", 0, &mut store);
        egress.push_bytes(&two, 1, &mut store);
        egress.push_shared(&[], shared.clone().into(), &mut store);
        egress.advance(written, &mut store);
        let (kept, messages) = drained(egress.close_and_take(&mut store), &mut store);
        let two_at = one.len() + 7;
        let mut expected = Vec::new();
        for (at, message) in [(0, &one), (two_at, &two), (two_at + two.len(), &shared)] {
            if written <= at {
                expected.push(message.clone());
            }
        }
        assert_eq!(messages as usize, expected.len(), "{written} bytes written");
        assert_eq!(kept, expected.concat());
        assert!(egress.is_closed() && egress.is_empty());
    }
}

#[test]
fn what_is_left_of_a_handshake_is_no_message() {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    let at_once = [&greeting[..], b"\x04\x06\x05READY"].concat();
    let to_an_old_peer = [&greeting[..10], b"\x03", b"\x05\x00\x02id"].concat();
    for handshake in [at_once, to_an_old_peer] {
        for written in 0..=handshake.len() {
            let (mut egress, mut store) = (Egress::default(), store());
            egress.push_bytes(&handshake[..10], 0, &mut store);
            egress.advance(written.min(10), &mut store);
            egress.push_bytes(&handshake[10..], 0, &mut store);
            egress.begin_traffic();
            egress.push_bytes(&message(10), 1, &mut store);
            egress.advance(written - written.min(10), &mut store);
            let unsent = egress.close_and_take(&mut store);
            assert_eq!(drained(unsent, &mut store), (message(10), 1));
        }
    }
}

#[test]
fn a_message_whose_prefix_is_gone_is_not_handed_over() {
    let (large, small) = (message(20_000), message(10));
    let (mut egress, mut store) = (Egress::default(), store());
    egress.push_shared(b"\x01\x02id", large.into(), &mut store);
    egress.push_bytes(&small, 1, &mut store);
    egress.advance(4, &mut store);
    assert_eq!((egress.written, egress.messages()), (0, 2));
    let unsent = egress.close_and_take(&mut store);
    assert_eq!(drained(unsent, &mut store), (small, 1));
}

#[test]
fn a_batch_being_written_is_not_appended_to() {
    let (mut egress, mut store) = (Egress::default(), store());
    egress.push_bytes(&message(10), 1, &mut store);
    egress.advance(3, &mut store);
    egress.push_bytes(&message(10), 1, &mut store);
    assert_eq!(egress.chunks.len(), 2);
    egress.advance(9, &mut store);
    assert_eq!(egress.messages(), 1);
}

#[test]
fn shedding_leaves_what_was_begun_and_commands() {
    let (one, two) = (message(10), message(20));
    let pong = b"\x04\x05\x04PONG";
    let whole = [&b"\xffgreeting"[..], &one, pong, &two].concat();
    let two_at = whole.len() - two.len();
    for written in 0..whole.len() {
        let (mut egress, mut store) = (Egress::default(), store());
        let before = store.queued;
        egress.push_bytes(b"\xffgreeting", 0, &mut store);
        egress.begin_traffic();
        egress.push_bytes(&one, 1, &mut store);
        egress.push_bytes(pong, 0, &mut store);
        egress.push_shared(&[], two.clone().into(), &mut store);
        egress.advance(written, &mut store);
        let unsent = egress.take_unsent(&mut store);
        let (taken, dropped) = drained(unsent, &mut store);
        let mut expected = whole[written..].to_vec();
        let (mut expected_taken, mut expected_dropped) = (Vec::<u8>::new(), 0);
        if written <= two_at {
            expected.truncate(expected.len() - two.len());
            expected_dropped += 1;
        }
        if written <= 9 {
            expected.drain(9 - written..9 - written + one.len());
            expected_taken.extend(&one);
            expected_dropped += 1;
        }
        if written <= two_at {
            expected_taken.extend(&two);
        }
        assert_eq!(taken, expected_taken, "{written}");
        assert_eq!(
            (dropped, content(&egress, &[])),
            (expected_dropped, expected),
            "{written}"
        );
        assert_eq!(store.queued, before + egress.bytes());
        let left = usize::try_from(egress.bytes()).unwrap();
        egress.push_bytes(&two, 1, &mut store);
        egress.advance(left, &mut store);
        let unsent = egress.close_and_take(&mut store);
        assert_eq!(drained(unsent, &mut store), (two.clone(), 1), "{written}");
        assert_eq!(store.queued, before);
    }
}

fn apart(messages: &[Vec<u8>], store: &mut Store) -> Egress {
    let mut egress = Egress::default();
    egress.keep_apart();
    for message in messages {
        egress.push_bytes(message, 1, store);
    }
    egress
}

#[test]
fn the_oldest_that_is_not_begun_goes_first() {
    let mut store = store();
    let before = store.queued;
    let messages = [message(10), message(20), message(30)];
    for written in 0..=12 {
        let mut egress = apart(&messages, &mut store);
        egress.advance(written, &mut store);
        assert!(egress.drop_oldest(&mut store));
        let expected = match written {
            0 => messages[1..].concat(),
            12 => messages[2].clone(),
            _ => [&messages[0][written..], &messages[2]].concat(),
        };
        assert_eq!(content(&egress, &[]), expected, "{written}");
        egress.close(&mut store);
        assert_eq!(store.queued, before);
    }
    assert!(!apart(&[], &mut store).drop_oldest(&mut store));
}

#[test]
fn only_the_newest_is_kept_of_all_or_of_a_topic() {
    let mut store = store();
    let topics = [
        b"\0\x01a".to_vec(),
        b"\0\x01b".to_vec(),
        b"\x01\x01a\0\x01x".to_vec(),
    ];
    let mut egress = apart(&topics, &mut store);
    assert_eq!(egress.drop_unsent(Some(b"a"), &mut store), 2);
    assert_eq!(
        (content(&egress, &[]), egress.messages()),
        (topics[1].clone(), 1)
    );
    assert_eq!(egress.drop_unsent(None, &mut store), 1);
    assert!(egress.is_empty());
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a beginning for a clock of the test's own"
)]
fn what_is_too_old_goes_and_younger_stays() {
    let (mut store, start) = (store(), Instant::now());
    let mut egress = apart(&[], &mut store);
    for second in 0..4 {
        store.now = Some(start + std::time::Duration::from_secs(second));
        egress.push_bytes(&message(10), 1, &mut store);
    }
    egress.advance(1, &mut store);
    let limit = start + std::time::Duration::from_secs(2);
    assert_eq!(
        egress.drop_expired(limit, &mut store),
        2,
        "the first is begun"
    );
    assert_eq!(egress.messages(), 2);
    assert_eq!(egress.drop_expired(limit, &mut store), 0);
}

#[test]
fn what_is_left_of_a_begun_message_is_not_taken_out_after_shedding() {
    let (one, two) = (message(10), message(20));
    let (mut egress, mut store) = (Egress::default(), store());
    egress.keep_apart();
    egress.push_bytes(&one, 1, &mut store);
    egress.push_bytes(&two, 1, &mut store);
    egress.advance(5, &mut store);
    assert_eq!(egress.shed(&mut store), 1);
    assert!(!egress.drop_oldest(&mut store));
    assert_eq!(egress.drop_unsent(None, &mut store), 0);
    egress.push_bytes(&two, 1, &mut store);
    assert!(egress.drop_oldest(&mut store));
    assert_eq!(content(&egress, &[]), one[5..]);
}

#[test]
fn messages_in_two_pieces_are_taken_whole() {
    let (small, large) = (message(10), message(20_000));
    let prefixed = [b"\x01\x02id", &large[..]].concat();
    let whole = [
        &small[..],
        &prefixed,
        &prefixed,
        b"\x04\x05\x04PONG",
        &small,
    ]
    .concat();
    let starts = [0, small.len(), small.len() + prefixed.len()];
    for written in 0..starts[2] + 10 {
        let (mut egress, mut store) = (Egress::default(), store());
        let before = store.queued;
        egress.push_bytes(&small, 1, &mut store);
        egress.push_shared(b"\x01\x02id", large.clone().into(), &mut store);
        let input = scratch(&large);
        egress.push_input(b"\x01\x02id", &input, 0..large.len(), &mut store);
        egress.settle(&input, &mut store);
        egress.keep(&input, &mut store);
        egress.push_bytes(b"\x04\x05\x04PONG", 0, &mut store);
        egress.push_bytes(&small, 1, &mut store);
        assert_eq!(content(&egress, &[]), whole);
        egress.advance(written, &mut store);
        let unsent = egress.take_unsent(&mut store);
        let (taken, messages) = drained(unsent, &mut store);
        let parts = [&small[..], &prefixed, &prefixed];
        let unbegun = (0..3).filter(|at| starts[*at] >= written);
        let expected: Vec<_> = unbegun.map(|at| parts[at]).chain([&small[..]]).collect();
        assert_eq!(
            (taken, messages as usize),
            (expected.concat(), expected.len())
        );
        let begun_end = (0..3)
            .filter(|at| starts[*at] < written)
            .map(|at| starts[at] + parts[at].len());
        let mut rest = whole[written..begun_end.max().unwrap_or(written)].to_vec();
        rest.extend_from_slice(b"\x04\x05\x04PONG");
        assert_eq!(content(&egress, &[]), rest, "{written}");
        assert_eq!(store.queued, before + egress.bytes());
        egress.advance(rest.len(), &mut store);
        assert_eq!((egress.messages(), egress.bytes()), (0, 0));
    }
}

#[test]
fn a_large_message_is_handed_over_without_a_copy() {
    let (mut egress, mut store) = (Egress::default(), store());
    let large = Bytes::from(message(1 << 20));
    egress.push_bytes(&message(10), 1, &mut store);
    egress.push_shared(&[], large.clone(), &mut store);
    let mut unsent = egress.close_and_take(&mut store);
    assert_eq!(unsent.pop(&mut store).as_deref(), Some(&message(10)[..]));
    let taken = unsent.pop(&mut store).expect("the large one");
    assert_eq!(taken.as_ptr(), large.as_ptr());
}
