use super::*;

/// Each function below uses a store of its own.
fn store() -> Store {
    Store::boundless()
}

/// A large message, as it arrives.
fn shared(message: &[u8], store: &Store) -> Shared {
    store.share_copy(message)
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

/// All messages in wire form, and their number.
fn drained(mut unsent: Unsent, store: &mut Store) -> (Vec<u8>, u32) {
    let (bytes, messages) = (unsent.bytes(), unsent.messages());
    let mut wire = Vec::new();
    for _ in 0..messages {
        wire.extend_from_slice(&unsent.pop(store).expect("as many as counted"));
    }
    assert!(unsent.pop(store).is_none() && unsent.bytes() == 0);
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
    egress.close_run(&input, &mut store);
    assert!(egress.leans_on_input(), "a long run stays in the input");
    assert_eq!(egress.chunks.len(), 1);
    assert_eq!(content(&egress, &bytes), bytes);
    egress.advance(100, &mut store);
    egress.keep(&input, u64::MAX, &mut store);
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
    egress.close_run(&input, &mut store);
    assert!(egress.leans_on_input());
    assert_eq!(content(&egress, &bytes), expected);
    assert_eq!(egress.bytes(), expected.len() as u64);
}

#[test]
fn counts_come_down_to_zero_for_pieces_of_any_size() {
    let bytes = message(100);
    let input = scratch(&bytes);
    for piece in 1..bytes.len() * 3 + 10 {
        let (mut egress, mut store) = (Egress::default(), store());
        egress.push_bytes(b"\x04\x01\x00", 0, &mut store);
        for _ in 0..2 {
            egress.push_input(&[], &input, 0..bytes.len(), &mut store);
            egress.close_run(&input, &mut store);
        }
        egress.push_shared(&[], shared(&bytes, &store), &mut store);
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
        egress.push_shared(&[], self::shared(&shared, &store), &mut store);
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
fn the_rest_of_a_handshake_is_not_a_message() {
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
    egress.push_shared(b"\x01\x02id", shared(&large, &store), &mut store);
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
fn shedding_leaves_partly_written_messages_and_commands() {
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
        egress.push_shared(&[], shared(&two, &store), &mut store);
        egress.advance(written, &mut store);
        let unsent = egress.take_unsent(&[], &mut store);
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
fn expired_messages_go_and_younger_ones_stay() {
    let mut store = store();
    let mut egress = apart(&[], &mut store);
    for second in 0..4 {
        store.stamp = second;
        egress.push_bytes(&message(10), 1, &mut store);
    }
    egress.advance(1, &mut store);
    let limit = 2;
    assert_eq!(
        egress.drop_expired(limit, u32::MAX, &mut store),
        2,
        "the first is partly written"
    );
    assert_eq!(egress.messages(), 2);
    assert_eq!(egress.drop_expired(limit, u32::MAX, &mut store), 0);
}

#[test]
fn the_rest_of_a_partly_written_message_stays_after_shedding() {
    let (one, two) = (message(10), message(20));
    let (mut egress, mut store) = (Egress::default(), store());
    egress.keep_apart();
    egress.push_bytes(&one, 1, &mut store);
    egress.push_bytes(&two, 1, &mut store);
    egress.advance(5, &mut store);
    assert_eq!(egress.shed(&[], &mut store), 1);
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
        egress.push_shared(b"\x01\x02id", shared(&large, &store), &mut store);
        let input = scratch(&large);
        egress.push_input(b"\x01\x02id", &input, 0..large.len(), &mut store);
        egress.close_run(&input, &mut store);
        egress.keep(&input, u64::MAX, &mut store);
        egress.push_bytes(b"\x04\x05\x04PONG", 0, &mut store);
        egress.push_bytes(&small, 1, &mut store);
        assert_eq!(content(&egress, &[]), whole);
        egress.advance(written, &mut store);
        let unsent = egress.take_unsent(&[], &mut store);
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
    let large = shared(&message(1 << 20), &store);
    egress.push_bytes(&message(10), 1, &mut store);
    egress.push_shared(&[], large.clone(), &mut store);
    let mut unsent = egress.close_and_take(&mut store);
    assert_eq!(unsent.pop(&mut store).as_deref(), Some(&message(10)[..]));
    let taken = unsent.pop(&mut store).expect("the large one");
    assert_eq!(taken.as_ptr(), large.as_ptr());
}

/// Units visited in a queue whose messages are kept apart.
fn visited(egress: &Egress) -> u64 {
    egress.apart.as_ref().map_or(0, |apart| apart.visited.get())
}

fn about(topic: u32, body_size: usize) -> Vec<u8> {
    let (mut wire, body) = (Vec::new(), vec![b'x'; body_size]);
    zmtp::encode::append_message(&mut wire, &[&topic.to_le_bytes()[..], &body]);
    wire
}

#[test]
fn replacing_a_topic_costs_the_same_in_a_queue_of_any_length() {
    const TOPICS: u32 = 40_000;
    let (mut egress, mut store) = (apart(&[], &mut Store::boundless()), store());
    for round in 0..4 {
        let before = visited(&egress);
        for topic in 0..TOPICS {
            let message = about(topic, 20);
            let replaced = egress.drop_unsent(Some(&topic.to_le_bytes()), &mut store);
            assert_eq!(replaced, u32::from(round > 0));
            egress.push_bytes(&message, 1, &mut store);
        }
        assert_eq!(egress.messages(), TOPICS);
        let work = visited(&egress) - before;
        assert!(
            work < 8 * u64::from(TOPICS),
            "{work} units in round {round}"
        );
        // Holes take no more memory than the remaining messages.
        let (memory, wire) = (egress.footprint(), egress.bytes());
        assert!(memory < 4 * wire, "{memory} bytes for {wire}");
    }
}

#[test]
fn one_more_message_costs_the_same_in_a_queue_of_any_length() {
    let mut store = store();
    store.stamp = 1;
    let mut egress = apart(&[], &mut store);
    let message = message(20);
    for _ in 0..100_000 {
        egress.push_bytes(&message, 1, &mut store);
    }
    egress.push_bytes(b"\x04\x05\x04PONG", 0, &mut store);
    // A partly written message stays in front of those that are dropped.
    egress.advance(5, &mut store);
    let before = visited(&egress);
    for _ in 0..1000 {
        assert!(!egress.leans_on_input());
        assert_eq!(egress.drop_expired(0, u32::MAX, &mut store), 0);
        assert!(egress.drop_oldest(&mut store));
        egress.push_bytes(&message, 1, &mut store);
    }
    let work = visited(&egress) - before;
    assert!(work < 8 * 1000, "{work} units for 1000 messages");
    assert_eq!(egress.messages(), 100_000);
}

#[test]
fn small_messages_kept_apart_take_little_more_than_their_bytes() {
    for count in [1000, 10_000, 300_000] {
        let mut store = store();
        let mut egress = apart(&[], &mut store);
        let message = message(20);
        for _ in 0..count {
            egress.push_bytes(&message, 1, &mut store);
        }
        for _ in 0..count {
            egress.drop_oldest(&mut store);
            egress.push_bytes(&message, 1, &mut store);
        }
        let (memory, wire) = (egress.footprint(), egress.bytes());
        assert!(
            memory * 10 <= wire * 22,
            "{memory} bytes for {count} messages of {wire} bytes"
        );
    }
}

#[test]
fn memory_that_many_queues_share_is_counted_once() {
    let mut store = Store::default();
    let input = Input::scratch(Default::default());
    let mut queues: Vec<Egress> = (0..1000).map(|_| Egress::default()).collect();
    let block = store.share_copy(&message(60).repeat(1000));
    for egress in &mut queues {
        egress.push_shared_run(&input, block.clone(), 1000, &mut store);
    }
    let size = block.block_size();
    drop(block);
    let each = (size_of::<Chunk>() * 4) as u64;
    assert!(store.memory() <= size + 1000 * each);
    assert!(queues.iter().all(|egress| egress.footprint() > size));
    for egress in &mut queues {
        egress.advance(60_000, &mut store);
        egress.release_blocks(&mut store);
        assert!(
            egress.footprint() < size,
            "the block is not pinned by its end"
        );
        assert_eq!((egress.messages(), egress.bytes()), (1000, 2000));
    }
    assert!(store.memory() < 1000 * 4000);
    for egress in &mut queues {
        egress.close(&mut store);
    }
    assert_eq!(store.memory(), store.spare());
}

#[test]
fn queues_that_keep_the_same_run_share_a_copy() {
    let mut store = Store::default();
    let bytes = message(60).repeat(1000);
    let input = scratch(&bytes);
    store.forget_input();
    let mut queues: Vec<Egress> = (0..100).map(|_| Egress::default()).collect();
    for egress in &mut queues {
        egress.push_run(&input, 0..bytes.len(), 1000, &mut store);
        egress.close_run(&input, &mut store);
        let kept = egress.keep(&input, u64::MAX, &mut store);
        assert_eq!(kept.dropped, 0);
        assert_eq!(content(egress, &[]), bytes);
    }
    store.forget_input();
    assert!(store.memory() < 3 * bytes.len() as u64);
}

#[test]
fn messages_beyond_the_allowance_are_dropped_and_counted() {
    let one = message(60);
    let bytes = one.repeat(1000);
    let input = scratch(&bytes);
    for (written, allowance, stays) in [(0, 0, 0), (0, 620, 10), (100, 0, 1), (100, 200, 3)] {
        let (mut egress, mut store) = (Egress::default(), store());
        egress.push_run(&input, 0..bytes.len(), 1000, &mut store);
        egress.close_run(&input, &mut store);
        egress.advance(written, &mut store);
        let kept = egress.keep(&input, allowance, &mut store);
        let begun = written / one.len();
        assert_eq!(kept.dropped as usize, 1000 - begun - stays);
        assert_eq!(kept.copied, (stays * one.len()) as u64);
        let left = (begun + stays) * one.len() - written;
        assert_eq!(content(&egress, &[]), bytes[written..written + left]);
    }
}

#[test]
fn taken_messages_are_whole_wherever_the_queue_is_cut() {
    let (mut egress, mut store) = (Egress::default(), store());
    let (small, large) = (message(100), message(70_000));
    // So many that the last of them fills a segment, followed by the prefix of another.
    let mut whole = Vec::new();
    for _ in 0..3 {
        for _ in 0..650 {
            egress.push_bytes(&small, 1, &mut store);
            whole.extend_from_slice(&small);
        }
        let body = shared(&large, &store);
        egress.push_shared(b"\x01\x02id", body, &mut store);
        whole.extend_from_slice(b"\x01\x02id");
        whole.extend_from_slice(&large);
    }
    let mut unsent = egress.close_and_take(&mut store);
    let mut at = 0;
    while let Some(taken) = unsent.pop(&mut store) {
        assert!(whole[at..].starts_with(&taken));
        assert!(taken.len() == small.len() || taken.len() == 4 + large.len());
        at += taken.len();
    }
    assert_eq!(at, whole.len());
}
