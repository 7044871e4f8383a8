//! The opening of connections between sides that wait for each other, and with peers of ZMTP 2.0.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use zmtp::{
    Deadline, Error, Event, HeartbeatConfig, LoopCheck, Peer, Session, SessionConfig, SocketType,
    Version,
};

/// One end of a connection.
struct End {
    input: Vec<u8>,
    out: Vec<u8>,
    peer: Option<Peer>,
    session: Session,
}

impl End {
    fn new(config: SessionConfig) -> Self {
        let mut out = Vec::new();
        Self {
            input: Vec::new(),
            session: Session::new(Arc::new(config), start(), &mut out),
            out,
            peer: None,
        }
    }

    /// Takes up to `size` bytes that it has to send.
    fn take(&mut self, size: usize) -> Vec<u8> {
        let size = size.min(self.out.len());
        self.out.drain(..size).collect()
    }

    /// Handles received bytes as far as possible.
    fn hear(&mut self, bytes: &[u8]) {
        self.session.handle_received(start());
        self.input.extend_from_slice(bytes);
        loop {
            let step = self.session.handle_input(&mut self.input, &mut self.out);
            let step = step.expect("both sides are well-behaved");
            match step.event {
                Event::Need(_) => return,
                Event::Ready(peer) => self.peer = Some(peer),
                Event::Progress | Event::Trial(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
            self.input.drain(..step.consumed);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn config(socket_type: SocketType, accept_zmtp2: bool) -> SessionConfig {
    SessionConfig {
        accept_zmtp2,
        ..SessionConfig::new(socket_type)
    }
}

/// What a REQ of ZMTP 2.0 sends, up to its identity.
const OLD_REQ: &[u8] = b"\xff\0\0\0\0\0\0\0\x03\x7f\x01\x03\x00\x02id";

#[test]
fn two_sides_that_greet_in_steps_finish() {
    for accept_zmtp2 in [true, false] {
        for piece_size in 1..=100 {
            let mut one = End::new(config(SocketType::Req, accept_zmtp2));
            let mut other = End::new(config(SocketType::Rep, true));
            while !(one.out.is_empty() && other.out.is_empty()) {
                other.hear(&one.take(piece_size));
                one.hear(&other.take(piece_size));
            }
            for (end, socket_type) in [(one, SocketType::Rep), (other, SocketType::Req)] {
                let peer = end.peer.expect("a handshake that ends");
                assert_eq!(peer.version, Version::V3_1, "pieces of {piece_size}");
                assert_eq!(peer.socket_type, Some(socket_type));
            }
        }
    }
}

/// It gets no byte that it would take for part of a message.
#[test]
fn an_old_peer_gets_a_greeting_of_its_version() {
    for (socket_type, identity, expected) in [
        (SocketType::Router, &b""[..], &b"\x06\x00\x00"[..]),
        (SocketType::Router, b"us", b"\x06\x00\x02us"),
        (SocketType::Rep, b"only some have one", b"\x04\x00\x00"),
    ] {
        let mut end = End::new(SessionConfig {
            identity: identity.to_vec(),
            ..config(socket_type, true)
        });
        for (at, byte) in OLD_REQ.iter().enumerate() {
            let due = match at {
                0..=10 => b"\xff\0\0\0\0\0\0\0\x01\x7f\x03".to_vec(),
                _ => [b"\xff\0\0\0\0\0\0\0\x01\x7f\x03", expected].concat(),
            };
            assert_eq!(end.out, due, "{socket_type} in front of byte {at}");
            end.hear(&[*byte]);
        }
        let peer = Peer {
            identity: (*b"id").into(),
            loop_check: LoopCheck::Off,
            socket_type: Some(SocketType::Req),
            user: None,
            version: Version::V2,
        };
        assert_eq!(end.peer, Some(peer));
    }
}

#[test]
fn an_old_peer_gets_no_heartbeats() {
    let seconds = Duration::from_secs;
    let mut end = End::new(SessionConfig {
        heartbeat: Some(HeartbeatConfig {
            interval: seconds(1),
            timeout: seconds(1),
            ttl: seconds(1),
        }),
        ..config(SocketType::Router, true)
    });
    end.hear(OLD_REQ);
    end.out.clear();
    assert_eq!(end.session.poll_timeout(), None);
    let later = start() + seconds(1000);
    assert_eq!(end.session.handle_timeout(later, &mut end.out), Ok(()));
    assert!(end.session.is_ready() && end.out.is_empty());
}

#[test]
fn an_old_peer_that_stops_half_way_times_out() {
    for size in 0..OLD_REQ.len() {
        let mut end = End::new(config(SocketType::Router, true));
        end.hear(&OLD_REQ[..size]);
        let late = start() + Duration::from_secs(30);
        assert_eq!(end.session.poll_timeout(), Some(late), "{size} bytes");
        end.out.clear();
        let after = Duration::from_secs(30);
        let deadline = if size < 12 {
            Deadline::Greeting { after }
        } else {
            Deadline::Handshake { after }
        };
        let error = Error::TimedOut(deadline);
        assert_eq!(end.session.handle_timeout(late, &mut end.out), Err(error));
        assert!(end.out.is_empty(), "it could not read an ERROR");
    }
}

/// The peer asks for a trial and never ends it.
#[test]
fn a_trial_without_an_end_times_out() {
    for (milliseconds, late, is_ended) in [
        (Some(30_000), Some(30_000), true),
        (Some(30_000), Some(30_000), false),
        (Some(100), Some(5000), true),
        (None, None, false),
    ] {
        let mut tried = End::new(SessionConfig {
            handshake_timeout: milliseconds.map(Duration::from_millis),
            loop_check: LoopCheck::On,
            ..SessionConfig::new(SocketType::Pull)
        });
        let mut trying = End::new(SessionConfig {
            loop_check: LoopCheck::Trial,
            ..SessionConfig::new(SocketType::Push)
        });
        for _ in 0..3 {
            let bytes = trying.take(usize::MAX);
            tried.hear(&bytes);
            let bytes = tried.take(usize::MAX);
            trying.hear(&bytes);
        }
        let late = late.map(Duration::from_millis);
        assert_eq!(
            tried.session.poll_timeout(),
            late.map(|late| start() + late)
        );
        assert_eq!(
            trying.session.poll_timeout(),
            None,
            "it ends when we say so"
        );
        let Some(after) = late else { continue };
        let error = Error::TimedOut(Deadline::Trial { after });
        if is_ended {
            let now = start() + after;
            let ended = tried.session.handle_timeout(now, &mut tried.out);
            assert_eq!(ended, Err(error));
            continue;
        }
        assert!(trying.session.end_trial(&mut trying.out).is_some());
        let bytes = trying.take(usize::MAX);
        tried.hear(&bytes);
        assert!(tried.session.is_ready());
        assert_eq!(tried.session.poll_timeout(), None);
    }
}
