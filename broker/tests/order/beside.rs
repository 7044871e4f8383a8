//! Captures and controls where many things happen at once.

use crate::play::{Play, listening, proxy};
use broker::ConnId;
use broker::config::Side;
use broker::why::Drop;
use zmtp::SocketType;
use zmtp::encode::{append_command, append_frame};

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
fn what_a_paused_proxy_took_back_goes_on_when_it_resumes() {
    let mut config = proxy("streamer");
    config.control.side = listening();
    let mut play = Play::of(config);
    let (sink, source) = (play.join(Side::Backend), play.join(Side::Frontend));
    let control = play.join_as(Side::Control, SocketType::Req);
    play.send(source, &["1"]);
    control_says(&mut play, control, "PAUSE");
    play.lose(sink);
    let other = play.join(Side::Backend);
    assert!(play.write(other).is_empty(), "it is paused");
    play.core.settle(play.now);
    control_says(&mut play, control, "RESUME");
    assert_eq!(play.write(other), ["1"]);
}

#[test]
fn an_answer_for_a_pair_that_left_is_not_for_the_next() {
    let mut config = proxy("streamer");
    config.control.side = listening();
    config.control.socket = SocketType::Pair;
    let mut play = Play::of(config);
    let first = play.join_as(Side::Control, SocketType::Pair);
    play.write(first);
    play.send(first, &["STATISTICS"]);
    let answers = |play: &Play, id| play.core.egress(id).map_or(0, broker::Egress::messages);
    assert_eq!(answers(&play, first), 1);
    play.lose(first);
    let second = play.join_as(Side::Control, SocketType::Pair);
    assert_eq!(answers(&play, second), 0);
}

#[test]
fn a_reader_that_is_full_keeps_no_subscription_from_the_others() {
    let mut config = proxy("forwarder");
    config.capture.side = listening();
    config.capture.side.options.sndhwm = 1;
    let mut play = Play::of(config);
    let readers = [(); 2].map(|()| {
        let id = play.join_as(Side::Capture, SocketType::Sub);
        subscribe(&mut play, id, "");
        play.write(id);
        id
    });
    let subscriber = play.join_as(Side::Backend, SocketType::Sub);
    subscribe(&mut play, subscriber, "a");
    assert_eq!(play.write(readers[1]), ["out", "\x01a"]);
    // The first has not been written to, and nobody knows whether the kernel would take it.
    subscribe(&mut play, subscriber, "b");
    assert_eq!(play.write(readers[1]), ["out", "\x01b"]);
    assert_eq!(play.write(readers[0]), ["out", "\x01a"]);
    let snapshots = play.core.statistics();
    let capture = snapshots.iter().find(|it| it.side == Side::Capture);
    let counters = &capture.expect("it has an endpoint").counters;
    assert_eq!(counters.dropped(Drop::PeerFull), 1);
}

/// A streamer whose capture has a reader with a full queue, and whose control has somebody.
fn watched_streamer() -> (Play, [ConnId; 2]) {
    let mut config = proxy("streamer");
    config.capture.side = listening();
    config.capture.side.options.sndhwm = 1;
    config.control.side = listening();
    config.control.socket = SocketType::Pair;
    let mut play = Play::of(config);
    let reader = play.join_as(Side::Capture, SocketType::Sub);
    subscribe(&mut play, reader, "");
    let control = play.join_as(Side::Control, SocketType::Pair);
    for id in [reader, control] {
        play.write(id);
    }
    (play, [reader, control])
}

#[test]
fn a_reader_misses_a_message_once_however_long_it_waits() {
    let (mut play, [_, control]) = watched_streamer();
    let source = play.join(Side::Frontend);
    let sink = play.join(Side::Backend);
    play.send(source, &["1"]);
    // The kernel takes nothing of the copy, nor of the message.
    play.send(source, &["2"]);
    assert_eq!(play.write(sink), ["1", "2"]);
    play.lose(sink);
    play.send(source, &["3"]);
    // It goes on as soon as there is somebody.
    let sink = play.join(Side::Backend);
    play.send(source, &["4"]);
    assert_eq!(play.write(sink), ["4"]);
    play.send(control, &[r#"{"command": "peers", "side": "capture"}"#]);
    let answer = play.write(control).concat();
    let dropped = r#""dropped":{"peer-full":3}"#;
    assert!(answer.contains(dropped), "{answer}");
}

#[test]
fn of_a_burst_each_reader_gets_what_it_has_room_for() {
    let (mut play, [slow, _]) = watched_streamer();
    let quick = play.join_as(Side::Capture, SocketType::Sub);
    subscribe(&mut play, quick, "in");
    play.write(quick);
    let (sink, source) = (play.join(Side::Backend), play.join(Side::Frontend));
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
    config.capture.side = listening();
    config.capture.socket = SocketType::Push;
    let mut play = Play::of(config);
    let readers = [(); 2].map(|()| {
        let id = play.join_as(Side::Capture, SocketType::Pull);
        play.write(id);
        id
    });
    // Two sinks, so that each message goes to one peer and is queued by itself.
    let [_, _, source] = [Side::Backend, Side::Backend, Side::Frontend].map(|side| play.join(side));
    play.send(source, &["1", "2", "3", "4"]);
    assert_eq!(play.write(readers[0]), ["in", "1", "in", "3"]);
}
