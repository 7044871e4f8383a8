//! A peer that asks for a trial, because its connection closed a loop before, and never ends it.

use crate::play::{Play, proxy};
use broker::config::SocketName;
use broker::limits::PONG_BYTES_MAX;
use broker::{Action, ConnId};
use std::time::Duration;
use zmtp::SocketType;
use zmtp::encode::append_command;

fn on_trial() -> (Play, ConnId) {
    let mut play = Play::of(proxy("streamer"));
    let properties = [("X-Zmqd-Loop-Check", &b"trial"[..])];
    let id = play.join_with(SocketName::Frontend, SocketType::Push, &properties);
    play.write(id);
    (play, id)
}

#[test]
fn a_peer_on_trial_that_reads_nothing_gets_no_more_than_the_limit() {
    let (mut play, id) = on_trial();
    let mut pings = Vec::new();
    for _ in 0..1000 {
        append_command(&mut pings, "PING", b"\0\0sixteen bytes ...");
    }
    for _ in 0..20 {
        play.feed(id, &pings);
    }
    let bytes = play.core.egress(id).expect("it is open").bytes();
    assert!(bytes > 0 && bytes < PONG_BYTES_MAX + 64, "{bytes} bytes");
    assert!(
        play.write(id)
            .iter()
            .all(|body| body.starts_with("\x04PONG"))
    );
    play.feed(id, &pings[..27]);
    assert_eq!(play.write(id).len(), 1, "there is room again");
}

#[test]
fn a_trial_without_an_end_is_closed() {
    let (mut play, id) = on_trial();
    let closes = |play: &mut Play, seconds| {
        play.now += Duration::from_secs(seconds);
        // A sign of life.
        let mut pong = Vec::new();
        append_command(&mut pong, "PONG", b"");
        play.feed(id, &pong);
        play.core.handle_timeout(play.now, play.now);
        play.write(id);
        let mut actions = std::iter::from_fn(|| play.core.poll_action());
        actions.any(|action| matches!(action, Action::Close { .. }))
    };
    assert!(!closes(&mut play, 10));
    assert!(!closes(&mut play, 10));
    assert!(!closes(&mut play, 9));
    assert!(closes(&mut play, 1), "thirty seconds are over");
}
