//! Which message goes where, and when, if many come at once, and what becomes of sizes that no
//! memory holds: a core without sockets, fed by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "any instant will do: it is moved by hand"
)]

use broker::config::{Config, Endpoint, Kind, ProxyConfig, Side, SideConfig, SocketOptions};
use broker::{Action, ConnId, Core, Flow, SLICES_MAX, SocketId};
use bytes::BytesMut;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zmtp::encode::{append_command, append_frame};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{SOCKET_TYPE, append_property};
use zmtp::{Frames, SocketType};

/// A streamer and its driver; nothing is written unless it is asked for.
struct Play {
    core: Core,
    now: Instant,
    scratch: BytesMut,
}

impl Play {
    fn new(options: SocketOptions) -> Self {
        let kind = Kind::from_name("streamer").expect("a kind of the table");
        let endpoint: Endpoint = "tcp://127.0.0.1:1".parse().expect("an endpoint");
        let side = SideConfig {
            bind: vec![endpoint],
            options,
            ..SideConfig::default()
        };
        let config = Config {
            proxies: vec![ProxyConfig {
                frontend: side.clone(),
                backend: side,
                ..ProxyConfig::new(kind, kind.name)
            }],
            ..Config::default()
        };
        Self {
            core: Core::new(&config, 1),
            now: Instant::now(),
            scratch: BytesMut::zeroed(256 << 10),
        }
    }

    fn join(&mut self, side: Side) -> ConnId {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let socket = SocketId { proxy: 0, side };
        let id = self.core.handle_accepted(self.now, socket, peer);
        let socket_type = match side {
            Side::Frontend => SocketType::Push,
            _ => SocketType::Pull,
        };
        let (mut hello, mut metadata) = (Vec::new(), Vec::new());
        Greeting::new("NULL").emit(&mut hello);
        append_property(&mut metadata, SOCKET_TYPE, socket_type.name().as_bytes());
        append_command(&mut hello, "READY", &metadata);
        self.feed(id, &hello);
        self.write(id);
        id
    }

    /// Messages of one frame each come in, all at once.
    fn send(&mut self, id: ConnId, bodies: &[&str]) {
        let mut wire = Vec::new();
        for body in bodies {
            append_frame(&mut wire, body.as_bytes(), false);
        }
        self.feed(id, &wire);
    }

    fn feed(&mut self, id: ConnId, bytes: &[u8]) {
        let mut input = self.core.begin_input(id, &mut self.scratch);
        input.spare()[..bytes.len()].copy_from_slice(bytes);
        input.filled(bytes.len());
        while self.core.handle_input(self.now, id, &mut input) == Flow::Flush {
            while let Some(full) = self.core.poll_urgent() {
                // The kernel takes nothing.
                self.core.handle_written(full, 0, true);
            }
        }
        self.core.end_input(id, input, &mut self.scratch);
        self.core.handle_timeout(self.now);
    }

    /// The kernel takes what is queued for a peer; answers with the bodies.
    fn write(&mut self, id: ConnId) -> Vec<String> {
        self.core.handle_writable(id);
        let mut sent = Vec::new();
        while let Some(next) = self.core.poll_dirty() {
            if next == id {
                let egress = self.core.egress(id).expect("a connection");
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = egress.slices(&[], &mut slices);
                sent.extend(slices[..count].iter().flat_map(|slice| slice.to_vec()));
            }
        }
        self.core.handle_written(id, sent.len(), false);
        let mut bodies = Vec::new();
        let mut rest = &sent[..];
        while let Some(frame) = Frames::new(rest).next() {
            bodies.push(String::from_utf8_lossy(frame.body).into_owned());
            rest = &rest[2 + frame.body.len()..];
        }
        bodies
    }
}

#[test]
fn a_burst_is_dealt_to_the_sinks_in_turn() {
    let mut play = Play::new(SocketOptions::default());
    let sinks = [Side::Backend; 2].map(|side| play.join(side));
    let source = play.join(Side::Frontend);
    play.send(source, &["1", "2", "3", "4", "5"]);
    assert_eq!(play.write(sinks[0]), ["1", "3", "5"]);
}

#[test]
fn a_burst_fills_a_queue_to_its_mark_and_no_further() {
    let mut play = Play::new(SocketOptions {
        sndhwm: 3,
        ..SocketOptions::default()
    });
    let (sink, source) = (play.join(Side::Backend), play.join(Side::Frontend));
    play.send(source, &["1", "2", "3", "4"]);
    assert_eq!(play.write(sink), ["1", "2", "3"]);
    play.core.settle(play.now);
    assert_eq!(play.write(sink), ["4"]);
}

#[test]
fn who_comes_later_does_not_overtake_who_waits() {
    let mut play = Play::new(SocketOptions {
        sndhwm: 1,
        ..SocketOptions::default()
    });
    let (sink, source) = (play.join(Side::Backend), play.join(Side::Frontend));
    let later = play.join(Side::Frontend);
    play.send(source, &["1", "2"]);
    // There is room now, and before those who wait are told another sends.
    assert_eq!(play.write(sink), ["1"]);
    play.send(later, &["3"]);
    assert_eq!(play.write(sink), ["2"]);
    play.core.settle(play.now);
    assert_eq!(play.write(sink), ["3"]);
}

#[test]
fn of_a_burst_only_what_is_too_old_is_not_sent() {
    let mut play = Play::new(SocketOptions {
        max_age: Duration::from_secs(2),
        ..SocketOptions::default()
    });
    let (sink, source) = (play.join(Side::Backend), play.join(Side::Frontend));
    play.send(source, &["1", "2"]);
    play.now += Duration::from_secs(1);
    play.send(source, &["3", "4"]);
    play.now += Duration::from_secs(1);
    play.core.handle_timeout(play.now);
    assert_eq!(play.write(sink), ["3", "4"]);
}

/// Behind each size stands "hello", which the low 32 bits of one of them would make a message of.
#[test]
fn a_size_that_no_memory_holds_is_refused_or_waited_for_and_takes_none() {
    const SIZES: [u64; 7] = [
        (1 << 32) - 10,
        (1 << 32) - 1,
        1 << 32,
        (1 << 32) + 5,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    let largest = i64::MAX as u64;
    for (maxmsgsize, size) in [SocketOptions::default().maxmsgsize, largest]
        .into_iter()
        .flat_map(|maxmsgsize| SIZES.map(|size| (maxmsgsize, size)))
    {
        let mut play = Play::new(SocketOptions {
            maxmsgsize,
            ..SocketOptions::default()
        });
        let (sink, source) = (play.join(Side::Backend), play.join(Side::Frontend));
        play.feed(source, &[&[2], &size.to_be_bytes()[..], b"hello"].concat());
        play.core.settle(play.now);
        assert_eq!(play.write(sink), [""; 0], "no part of it is a message");
        let is_legal = usize::try_from(size).is_ok_and(|size| size.checked_add(9).is_some())
            && size.saturating_add(9) <= maxmsgsize;
        let closed = std::iter::from_fn(|| play.core.poll_action())
            .any(|action| matches!(action, Action::Close { id, .. } if id == source));
        assert_eq!(
            closed, !is_legal,
            "{size} bytes where {maxmsgsize} are allowed"
        );
        if is_legal {
            assert_eq!(play.core.memory_in_use(), 14, "what came, of {size} bytes");
            let room = play
                .core
                .begin_input(source, &mut play.scratch)
                .spare()
                .len();
            assert!(room <= 1 << 20, "{room} bytes for a promise of {size}");
        }
    }
}
