//! Which message goes where, and when, if many come at once: a core without sockets, fed by hand.

mod changes;
mod closing;
mod kept;
mod leaks;
mod log;
mod memory;
mod monitors;
mod names;
mod play;
mod questions;
mod refusals;
mod reports;
mod requests;
mod settings;
mod shortened;
mod sizes;
mod taken;
mod terminated;
mod trial;
mod turns;
mod upstream;
mod zap;

use broker::config::{SocketName, SocketOptions};
use play::Play;
use std::time::Duration;

#[test]
fn a_burst_is_dealt_to_the_sinks_in_turn() {
    let mut play = Play::new(SocketOptions::default());
    let sinks = [SocketName::Backend; 2].map(|side| play.join(side));
    let source = play.join(SocketName::Frontend);
    play.send(source, &["1", "2", "3", "4", "5"]);
    assert_eq!(play.write(sinks[0]), ["1", "3", "5"]);
}

#[test]
fn a_burst_fills_a_queue_to_its_mark_and_no_further() {
    let mut play = Play::new(SocketOptions {
        sndhwm: 3,
        ..SocketOptions::default()
    });
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2", "3", "4"]);
    assert_eq!(play.write(sink), ["1", "2", "3"]);
    play.core.run_deferred(play.now);
    assert_eq!(play.write(sink), ["4"]);
}

#[test]
fn who_comes_later_does_not_overtake_who_waits() {
    let mut play = Play::new(SocketOptions {
        sndhwm: 1,
        ..SocketOptions::default()
    });
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    let later = play.join(SocketName::Frontend);
    play.send(source, &["1", "2"]);
    // There is room now, and before those who wait are told another sends.
    assert_eq!(play.write(sink), ["1"]);
    play.send(later, &["3"]);
    assert_eq!(play.write(sink), ["2"]);
    play.core.run_deferred(play.now);
    assert_eq!(play.write(sink), ["3"]);
}

#[test]
fn of_a_burst_only_what_is_too_old_is_not_sent() {
    let mut play = Play::new(SocketOptions {
        max_age: Duration::from_secs(2),
        ..SocketOptions::default()
    });
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2"]);
    play.now += Duration::from_secs(1);
    play.send(source, &["3", "4"]);
    play.now += Duration::from_secs(1);
    play.core.handle_timeout(play.now, play.now);
    assert_eq!(play.write(sink), ["3", "4"]);
}

/// The deadlines of peers are judged as of a moment before the last wait; the age of messages is
/// not.
#[test]
fn after_a_wait_what_is_too_old_is_not_sent() {
    let mut play = Play::new(SocketOptions {
        max_age: Duration::from_millis(500),
        ..SocketOptions::default()
    });
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2"]);
    let heard_until = play.now;
    play.now += Duration::from_secs(5);
    play.core.handle_timeout(play.now, heard_until);
    assert_eq!(play.write(sink), [""; 0]);
    play.send(source, &["3"]);
    play.core.handle_timeout(heard_until, heard_until);
    assert_eq!(play.write(sink), ["3"], "the clock went back");
}
