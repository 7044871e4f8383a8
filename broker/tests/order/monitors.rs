//! Captures and controls in the middle of other events.

use crate::play::{Play, listening, proxy};
use broker::config::{CacheConfig, Config, Overflow, SocketName};
use broker::reason::DropReason;
use broker::{Action, ConnId, Flow};
use zmtp::encode::{append_command, append_frame};
use zmtp::{Frame, Frames, SocketType};

fn control_says(play: &mut Play, id: ConnId, command: &str) {
    let mut wire = Vec::new();
    append_frame(&mut wire, b"", true);
    append_frame(&mut wire, command.as_bytes(), false);
    play.feed(id, &wire);
}

fn subscribe(play: &mut Play, id: ConnId, topic: &str) {
    let mut wire = Vec::new();
    append_command(&mut wire, "SUBSCRIBE", topic.as_bytes());
    play.feed(id, &wire);
}

#[test]
fn orphaned_messages_of_a_paused_proxy_go_on_when_it_resumes() {
    let mut config = proxy("streamer");
    config.control.socket = listening();
    let mut play = Play::of(config);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    let control = play.join_as(SocketName::Control, SocketType::Req);
    play.send(source, &["1"]);
    control_says(&mut play, control, "PAUSE");
    play.lose(sink);
    let other = play.join(SocketName::Backend);
    assert!(play.write(other).is_empty(), "it is paused");
    play.core.run_deferred(play.now);
    control_says(&mut play, control, "RESUME");
    assert_eq!(play.write(other), ["1"]);
}

#[test]
fn an_answer_for_a_departed_pair_does_not_reach_the_next() {
    let mut config = proxy("streamer");
    config.control.socket = listening();
    config.control.socket_type = SocketType::Pair;
    let mut play = Play::of(config);
    let first = play.join_as(SocketName::Control, SocketType::Pair);
    play.write(first);
    play.send(first, &["STATISTICS"]);
    let answers = |play: &Play, id| play.core.egress(id).map_or(0, broker::Egress::messages);
    assert_eq!(answers(&play, first), 1);
    play.lose(first);
    let second = play.join_as(SocketName::Control, SocketType::Pair);
    assert_eq!(answers(&play, second), 0);
}

#[test]
fn a_full_reader_does_not_keep_subscriptions_from_the_others() {
    let mut config = proxy("forwarder");
    config.capture.socket = listening();
    config.capture.socket.options.sndhwm = 1;
    let mut play = Play::of(config);
    let readers = [(); 2].map(|()| {
        let id = play.join_as(SocketName::Capture, SocketType::Sub);
        subscribe(&mut play, id, "");
        play.write(id);
        id
    });
    let subscriber = play.join_as(SocketName::Backend, SocketType::Sub);
    subscribe(&mut play, subscriber, "a");
    assert_eq!(play.write(readers[1]), ["out", "\x01a"]);
    // The first has not been written to, so it is unknown whether the kernel would accept bytes.
    subscribe(&mut play, subscriber, "b");
    assert_eq!(play.write(readers[1]), ["out", "\x01b"]);
    assert_eq!(play.write(readers[0]), ["out", "\x01a"]);
    let snapshots = play.core.statistics();
    let capture = snapshots.iter().find(|it| it.socket == SocketName::Capture);
    let counters = &capture.expect("it has an endpoint").counters;
    assert_eq!(counters.dropped(DropReason::PeerFull), 1);
}

/// A streamer whose capture has a reader with a full queue, and whose control has a peer.
fn watched_streamer() -> (Play, [ConnId; 2]) {
    let mut config = proxy("streamer");
    config.capture.socket = listening();
    config.capture.socket.options.sndhwm = 1;
    config.control.socket = listening();
    config.control.socket_type = SocketType::Pair;
    let mut play = Play::of(config);
    let reader = play.join_as(SocketName::Capture, SocketType::Sub);
    subscribe(&mut play, reader, "");
    let control = play.join_as(SocketName::Control, SocketType::Pair);
    for id in [reader, control] {
        play.write(id);
    }
    (play, [reader, control])
}

#[test]
fn a_reader_misses_a_message_once_however_long_it_waits() {
    let (mut play, [_, control]) = watched_streamer();
    let source = play.join(SocketName::Frontend);
    let sink = play.join(SocketName::Backend);
    play.send(source, &["1"]);
    // The kernel accepts neither the copy nor the message.
    play.send(source, &["2"]);
    assert_eq!(play.write(sink), ["1", "2"]);
    play.lose(sink);
    play.send(source, &["3"]);
    // It goes on as soon as there is a sink.
    let sink = play.join(SocketName::Backend);
    play.send(source, &["4"]);
    assert_eq!(play.write(sink), ["4"]);
    play.send(control, &[r#"{"command": "peers", "side": "capture"}"#]);
    let answer = play.write(control).concat();
    let dropped = r#""dropped":{"peer-full":3}"#;
    assert!(answer.contains(dropped), "{answer}");
}

#[test]
fn each_reader_gets_as_much_of_a_burst_as_it_has_room_for() {
    let (mut play, [slow, _]) = watched_streamer();
    let quick = play.join_as(SocketName::Capture, SocketType::Sub);
    subscribe(&mut play, quick, "in");
    play.write(quick);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1"]);
    assert_eq!(play.write(quick), ["in", "1"]);
    play.send(source, &["2", "3"]);
    assert_eq!(play.write(sink), ["1", "2", "3"]);
    assert_eq!(play.write(quick), ["in", "2"]);
    assert_eq!(play.write(slow), ["in", "1"]);
}

#[test]
fn copies_are_dealt_to_the_readers_in_turn() {
    let mut config = proxy("streamer");
    config.capture.socket = listening();
    config.capture.socket_type = SocketType::Push;
    let mut play = Play::of(config);
    let readers = [(); 2].map(|()| {
        let id = play.join_as(SocketName::Capture, SocketType::Pull);
        play.write(id);
        id
    });
    // Two sinks, so that each message goes to one peer and is queued by itself.
    let [_, _, source] = [
        SocketName::Backend,
        SocketName::Backend,
        SocketName::Frontend,
    ]
    .map(|side| play.join(side));
    play.send(source, &["1", "2", "3", "4"]);
    assert_eq!(play.write(readers[0]), ["in", "1", "in", "3"]);
}

/// A streamer whose capture of this type makes messages wait for its readers.
fn blocking_streamer(socket: SocketType) -> Play {
    let mut config = proxy("streamer");
    config.capture.socket = listening();
    config.capture.socket.options.overflow = Overflow::Block;
    config.capture.socket.options.sndhwm = 2;
    config.capture.socket_type = socket;
    config.control.socket = listening();
    Play::of(config)
}

/// A reader reads: messages that waited for it go on.
fn read(play: &mut Play, id: ConnId) -> Vec<String> {
    let copies = play.write(id);
    play.core.run_deferred(play.now);
    copies
}

/// The kernel accepts the queue of a new peer; returns the bodies after the greeting and READY.
fn write_behind_handshake(play: &mut Play, id: ConnId) -> Vec<String> {
    let sent = play.write_up_to(id, usize::MAX);
    play.core.run_deferred(play.now);
    let messages = &sent[66 + usize::from(sent[65])..];
    let text = |frame: Frame<'_>| String::from_utf8_lossy(frame.body).into_owned();
    Frames::new(messages).map(text).collect()
}

/// The type of a reader for a capture of this type.
fn reader_of(socket: SocketType) -> SocketType {
    match socket {
        SocketType::Push => SocketType::Pull,
        other => other,
    }
}

#[test]
fn a_message_waits_until_a_blocking_capture_has_a_reader() {
    for socket in [SocketType::Push, SocketType::Pair, SocketType::Dealer] {
        let mut play = blocking_streamer(socket);
        let (sink, source) = (
            play.join(SocketName::Backend),
            play.join(SocketName::Frontend),
        );
        assert_eq!(play.send(source, &["1", "2"]), Flow::Suspended, "{socket}");
        assert!(play.write(sink).is_empty(), "{socket}: no reader yet");
        let reader = play.join_as(SocketName::Capture, reader_of(socket));
        assert_eq!(play.write(sink), ["1", "2"], "{socket}");
        let copies = write_behind_handshake(&mut play, reader);
        assert_eq!(copies, ["in", "1", "in", "2"], "{socket}");
        assert_eq!(play.send(source, &["3"]), Flow::Done, "{socket}");
        assert_eq!(play.write(reader), ["in", "3"], "{socket}");
    }
}

#[test]
fn a_message_waits_until_a_reader_of_a_blocking_capture_has_room() {
    let mut play = blocking_streamer(SocketType::Push);
    let reader = play.join(SocketName::Capture);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    let flow = play.send(source, &["1", "2", "3", "4", "5"]);
    assert_eq!(flow, Flow::Suspended);
    assert_eq!(play.write(sink), ["1", "2"]);
    assert_eq!(read(&mut play, reader), ["in", "1", "in", "2"]);
    assert_eq!(play.write(sink), ["3", "4"]);
    assert_eq!(read(&mut play, reader), ["in", "3", "in", "4"]);
    assert_eq!(play.write(sink), ["5"]);
    assert_eq!(read(&mut play, reader), ["in", "5"]);
    assert_eq!(missed_by_readers(&play), 0);
}

/// The driver closes the connections that the broker requests.
fn close_given_up(play: &mut Play) {
    while let Some(action) = play.core.poll_action() {
        if let Action::Close { id, .. } = action {
            play.core.handle_closed(play.now, id);
        }
    }
    play.core.run_deferred(play.now);
}

/// The number of copies that were dropped for lack of room.
fn missed_by_readers(play: &Play) -> u64 {
    let snapshots = play.core.statistics();
    let capture = snapshots.iter().find(|it| it.socket == SocketName::Capture);
    let counters = &capture.expect("it has an endpoint").counters;
    counters.dropped(DropReason::PeerFull)
}

#[test]
fn copies_that_a_reader_of_a_blocking_capture_left_go_to_the_next() {
    let mut play = blocking_streamer(SocketType::Push);
    let first = play.join(SocketName::Capture);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2", "3"]);
    assert_eq!(play.write(sink), ["1", "2"]);
    play.lose(first);
    assert!(play.write(sink).is_empty(), "no reader");
    let second = play.join_as(SocketName::Capture, SocketType::Pull);
    let copies = write_behind_handshake(&mut play, second);
    assert_eq!(copies, ["in", "1", "in", "2"]);
    assert_eq!(play.write(sink), ["3"]);
    assert_eq!(play.write(second), ["in", "3"]);
}

#[test]
fn messages_go_to_the_other_readers_when_one_leaves() {
    let mut play = blocking_streamer(SocketType::Push);
    let readers = [(); 2].map(|()| play.join(SocketName::Capture));
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2", "3", "4", "5"]);
    assert_eq!(play.write(sink), ["1", "2", "3", "4"]);
    play.lose(readers[0]);
    assert_eq!(read(&mut play, readers[1]), ["in", "2", "in", "4"]);
    assert_eq!(read(&mut play, readers[1]), ["in", "1", "in", "3"]);
    assert_eq!(play.write(sink), ["5"]);
    assert_eq!(read(&mut play, readers[1]), ["in", "5"]);
}

#[test]
fn both_directions_wait_for_a_blocking_capture_and_go_on() {
    let mut config = proxy("queue");
    config.capture.socket = listening();
    config.capture.socket.options.overflow = Overflow::Block;
    config.capture.socket_type = SocketType::Dealer;
    let mut play = Play::of(config);
    let client = play.join_as(SocketName::Frontend, SocketType::Dealer);
    let worker = play.join_as(SocketName::Backend, SocketType::Dealer);
    for id in [client, worker] {
        play.write(id);
    }
    assert_eq!(play.send(client, &["request"]), Flow::Suspended);
    play.send_frames(worker, &[b"no-such-client", b"reply"]);
    let reader = play.join_as(SocketName::Capture, SocketType::Dealer);
    let shown = write_behind_handshake(&mut play, reader);
    for (direction, body) in [("in", "request"), ("out", "reply")] {
        assert!(shown.iter().any(|frame| frame == direction), "{shown:?}");
        assert!(shown.iter().any(|frame| frame == body), "{shown:?}");
    }
}

#[test]
fn a_paused_proxy_forwards_nothing_when_a_reader_connects() {
    let mut play = blocking_streamer(SocketType::Push);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    let control = play.join_as(SocketName::Control, SocketType::Req);
    play.send(source, &["1"]);
    control_says(&mut play, control, "PAUSE");
    let reader = play.join(SocketName::Capture);
    assert!(play.write(sink).is_empty(), "it is paused");
    control_says(&mut play, control, "RESUME");
    assert_eq!(play.write(sink), ["1"]);
    assert_eq!(play.write(reader), ["in", "1"]);
}

#[test]
fn a_stop_does_not_wait_for_a_departed_reader() {
    let mut play = blocking_streamer(SocketType::Push);
    let (_sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    assert_eq!(play.send(source, &["1"]), Flow::Suspended);
    play.core.handle_stop(play.now);
    close_given_up(&mut play);
    assert!(play.core.is_stopped(), "nothing accepts a reader any more");
}

#[test]
fn a_stop_waits_for_a_reader_until_drain_timeout_and_counts_the_rest() {
    let mut play = blocking_streamer(SocketType::Push);
    let _reader = play.join(SocketName::Capture);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2", "3"]);
    assert_eq!(play.write(sink), ["1", "2"]);
    play.core.handle_stop(play.now);
    close_given_up(&mut play);
    assert!(!play.core.is_stopped(), "the reader may still read");
    play.pass(Config::default().drain_timeout);
    close_given_up(&mut play);
    assert!(play.core.is_stopped());
    let snapshots = play.core.statistics();
    let capture = snapshots.iter().find(|it| it.socket == SocketName::Capture);
    let counters = &capture.expect("it has an endpoint").counters;
    assert_eq!(counters.dropped(DropReason::Stopping), 2);
}

#[test]
fn a_subscription_without_a_reader_of_a_blocking_capture_is_counted() {
    let mut config = proxy("forwarder");
    config.capture.socket = listening();
    config.capture.socket.options.overflow = Overflow::Block;
    config.capture.socket_type = SocketType::Push;
    let mut play = Play::of(config);
    let publisher = play.join_as(SocketName::Frontend, SocketType::Pub);
    play.write(publisher);
    let subscriber = play.join_as(SocketName::Backend, SocketType::Sub);
    play.write(subscriber);
    subscribe(&mut play, subscriber, "a");
    assert_eq!(
        play.core.egress(publisher).map(|it| it.is_empty()),
        Some(false)
    );
    assert_eq!(missed_by_readers(&play), 1);
}

#[test]
fn a_pub_capture_never_waits() {
    let mut play = blocking_streamer(SocketType::Pub);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    assert_eq!(play.send(source, &["1"]), Flow::Done);
    assert_eq!(play.write(sink), ["1"]);
}

/// The subscriptions of the broker itself are not shown, and hide none of its peers.
#[test]
fn a_reader_is_shown_what_peers_want_whatever_the_broker_keeps() {
    let mut config = proxy("forwarder");
    config.capture.socket = listening();
    config.cache = Some(CacheConfig {
        topics: vec!["a".to_owned()],
        ..CacheConfig::default()
    });
    let mut play = Play::of(config);
    let reader = play.join_as(SocketName::Capture, SocketType::Sub);
    subscribe(&mut play, reader, "");
    play.write(reader);
    let peers = [(); 2].map(|()| play.join_as(SocketName::Backend, SocketType::Sub));
    let shown = |play: &mut Play| play.write(reader).pop();
    subscribe(&mut play, peers[0], "a");
    assert_eq!(shown(&mut play).as_deref(), Some("\u{1}a"));
    subscribe(&mut play, peers[1], "a");
    assert_eq!(shown(&mut play), None, "it is shown once");
    let mut cancel = Vec::new();
    append_command(&mut cancel, "CANCEL", b"a");
    play.feed(peers[0], &cancel);
    assert_eq!(shown(&mut play), None, "another peer wants it");
    play.feed(peers[1], &cancel);
    assert_eq!(shown(&mut play).as_deref(), Some("\0a"));
    subscribe(&mut play, peers[0], "a");
    assert_eq!(shown(&mut play).as_deref(), Some("\u{1}a"));
    play.lose(peers[0]);
    play.turns(1);
    assert_eq!(shown(&mut play).as_deref(), Some("\0a"));
}
