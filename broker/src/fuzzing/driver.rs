//! A driver of a core in which nothing is real: peers, the kernel's buffers, time.

use super::Feed;
use crate::config::{Config, Endpoint, SocketName};
use crate::conn::SLICES_MAX;
use crate::limits::SCRATCH_SIZE;
use crate::{Action, ConnId, Core, Flow};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zmtp::SocketType;
use zmtp::encode::{append_command, append_frame, append_message};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{IDENTITY, SOCKET_TYPE, append_property};

/// More than any queue may contain: a publisher's unread subscriptions, and a margin.
const QUEUE_BYTES_MAX: u64 = 2 << 20;

/// The driver's state of one connection.
pub(super) struct Line {
    is_closing: bool,
    /// Bytes for which the kernel has room.
    pub(super) room: usize,
    socket: SocketType,
    /// The sum of all bytes that the peer was sent.
    pub(super) written: DefaultHasher,
}

impl Line {
    pub(super) fn new(socket: SocketType, room: usize) -> Self {
        Self {
            is_closing: false,
            room,
            socket,
            written: DefaultHasher::new(),
        }
    }
}

/// A core, and all that is outside of it.
pub(super) struct Driver {
    pub(super) core: Core,
    pub(super) lines: BTreeMap<ConnId, Line>,
    links: Vec<crate::LinkId>,
    pub(super) now: Instant,
    peers_total: u16,
    /// Endpoints that the system does not let the broker listen on.
    pub(super) refused: Vec<Endpoint>,
    scratch: Vec<u8>,
}

impl Driver {
    pub(super) fn of(now: Instant, config: &Config) -> Self {
        Self {
            core: Core::new(now, config, 1),
            lines: BTreeMap::new(),
            links: Vec::new(),
            now,
            peers_total: 0,
            refused: Vec::new(),
            scratch: vec![0; SCRATCH_SIZE],
        }
    }

    pub(super) fn operate(&mut self, operation: u8, feed: &mut Feed<'_>) {
        let line = |driver: &Self, feed: &mut Feed<'_>| {
            let count = driver.lines.len();
            (count > 0)
                .then(|| driver.lines.keys().nth(feed.below(count)).copied())
                .flatten()
        };
        match operation % 16 {
            0 | 1 => self.accept(SocketName::ALL[feed.below(SocketName::ALL.len())], feed),
            2 => self.now += Duration::from_millis(1 << feed.below(16)),
            3 => {
                if let Some(id) = line(self, feed) {
                    self.core.handle_read_closed(id, None);
                }
            }
            4 => {
                if let Some(id) = line(self, feed) {
                    self.core.handle_write_failed(id);
                }
            }
            5..=7 => {
                let Some(id) = line(self, feed) else { return };
                if let Some(line) = self.lines.get_mut(&id) {
                    line.room += 1 << feed.below(18);
                    self.core.handle_writable(id);
                }
            }
            8 => {
                let Some(link) = self.links.pop() else { return };
                if feed.below(3) == 0 {
                    let error = std::io::ErrorKind::ConnectionRefused.into();
                    self.core.handle_connect_failed(self.now, link, &error);
                } else {
                    let address = self.address();
                    let id = self.core.handle_connected(self.now, link, address);
                    id.into_iter().for_each(|id| self.begin(id, feed));
                }
            }
            9 | 10 => {
                let Some(id) = line(self, feed) else { return };
                let size = feed.below(64);
                let bytes = feed.bytes(size);
                self.receive(id, bytes);
            }
            _ => {
                let Some(id) = line(self, feed) else { return };
                let bytes = said(feed);
                self.receive(id, &bytes);
            }
        }
    }

    pub(super) fn address(&mut self) -> SocketAddr {
        self.peers_total = self.peers_total.wrapping_add(1);
        SocketAddr::from(([127, 0, 0, 1], self.peers_total))
    }

    pub(super) fn accept(&mut self, side: SocketName, feed: &mut Feed<'_>) {
        let count = self.core.proxies().count().max(1);
        let proxy = self.core.proxies().nth(feed.below(count));
        let Some(socket) = proxy.and_then(|proxy| self.core.socket(proxy, side)) else {
            return;
        };
        let Some(listener) = self.core.listeners(socket).next() else {
            return;
        };
        let address = self.address();
        if let Some(id) = self.core.handle_accepted(self.now, listener, address) {
            self.begin(id, feed);
        }
    }

    /// Most peers shake hands correctly; identities are often equal.
    fn begin(&mut self, id: ConnId, feed: &mut Feed<'_>) {
        let peers = self.core.walk_peer_types(id);
        let socket = peers[feed.below(peers.len())];
        self.lines.insert(id, Line::new(socket, 1 << 16));
        if feed.below(8) > 0 {
            let name = &b"abc"[..feed.below(4)];
            self.receive(id, &handshake(socket, name));
        }
    }

    /// Plays the driver for as many reads as necessary, one turn each.
    pub(super) fn receive(&mut self, id: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.lines.contains_key(&id) && self.core.wants_input(id) {
            let mut input = self.core.begin_input(id, &mut self.scratch);
            let spare = input.spare();
            let (now, later) = bytes.split_at(bytes.len().min(spare.len()));
            spare[..now.len()].copy_from_slice(now);
            input.filled(now.len());
            bytes = later;
            loop {
                let flow = self.core.handle_input(self.now, id, &mut input);
                while let Some(target) = self.core.poll_urgent() {
                    self.write(target, input.buffer());
                    self.core.keep_rest(target, &input);
                }
                match flow {
                    Flow::Flush => {}
                    Flow::More => self.core.begin_turn(self.now),
                    _ => break,
                }
            }
            self.core.end_input(id, input, &mut self.scratch);
            self.finish_turn();
        }
    }

    pub(super) fn write(&mut self, id: ConnId, input: &[u8]) {
        while let Some(line) = self.lines.get_mut(&id) {
            if self.core.is_blocked(id) {
                return;
            }
            let egress = self.core.egress_to_write(id, input);
            let Some(egress) = egress.filter(|egress| !egress.is_empty()) else {
                return;
            };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            assert!(offered > 0, "a queue that is not empty offers bytes");
            let size = offered.min(line.room);
            line.room -= size;
            let mut left = size;
            for slice in &slices[..count] {
                let taken = &slice[..slice.len().min(left)];
                line.written.write(taken);
                left -= taken.len();
            }
            self.core.handle_written(id, size, size < offered);
        }
    }

    pub(super) fn finish_turn(&mut self) {
        self.core.begin_turn(self.now);
        self.core.handle_timeout(self.now, self.now);
        loop {
            while let Some(action) = self.core.poll_action() {
                match action {
                    Action::Connect(link) => self.links.push(link),
                    Action::Close { id, lingers } => match self.lines.get_mut(&id) {
                        Some(line) if lingers => line.is_closing = true,
                        _ => self.close(id),
                    },
                    Action::CheckAcks(_)
                    | Action::Resume(_)
                    | Action::ResumeAll
                    | Action::StopListening(_) => {}
                    Action::Listen(id) => {
                        if let Some((endpoint, _)) = self.core.listener(id) {
                            let endpoint = endpoint.clone();
                            if self.refused.contains(&endpoint) {
                                let error = std::io::ErrorKind::AddrInUse.into();
                                self.core.handle_listen_failed(id, error);
                            } else {
                                self.core.handle_listening(id, endpoint);
                            }
                        }
                    }
                    Action::OpenHttp => {
                        let config = self.core.http_to_open();
                        if let Some(address) = config.and_then(|config| config.address) {
                            self.core.handle_http_open(address.0);
                        }
                    }
                    Action::ServeHttp => {}
                    Action::Record(_) => unreachable!("no recording is configured"),
                    Action::Reload => {
                        let outcome = Err("nothing to reload".to_owned());
                        self.core.handle_reloaded(&outcome);
                    }
                    Action::StopConnecting(link) => self.links.retain(|other| *other != link),
                }
            }
            while let Some(id) = self.core.poll_dirty() {
                self.write(id, &[]);
            }
            if !self.core.run_deferred(self.now) {
                break;
            }
        }
        let is_flushed = |(id, line): (&ConnId, &Line)| {
            let is_empty = self.core.egress(*id).is_none_or(crate::Egress::is_empty);
            (line.is_closing && is_empty).then_some(*id)
        };
        let flushed: Vec<ConnId> = self.lines.iter().filter_map(is_flushed).collect();
        for id in flushed {
            self.close(id);
        }
        self.check();
    }

    pub(super) fn close(&mut self, id: ConnId) {
        self.lines.remove(&id);
        self.core.handle_closed(self.now, id);
    }

    /// The parts add up to the whole, and no part is too large.
    fn check(&self) {
        for (id, line) in &self.lines {
            let egress = self.core.egress(*id).expect("it is open");
            let bytes = egress.bytes();
            assert!(bytes <= QUEUE_BYTES_MAX, "{} to {}", bytes, line.socket);
            assert_eq!(egress.is_empty(), bytes == 0);
        }
        for socket in self.core.statistics() {
            assert!(socket.peers <= self.lines.len());
            assert!(socket.waiting <= self.lines.len());
        }
    }

    /// Two calls drop everything that is left.
    pub(super) fn stop(&mut self) {
        assert_eq!(self.core.memory(), self.core.walk_memory());
        self.core.handle_stop(self.now);
        self.finish_turn();
        self.core.handle_stop(self.now);
        // Closing many peers, and cancelling their subscriptions, takes turns.
        for _ in 0..1000 {
            if self.core.is_stopped() {
                break;
            }
            self.finish_turn();
            let lingering = self.lines.iter().filter(|(_, line)| line.is_closing);
            let lingering: Vec<ConnId> = lingering.map(|(id, _)| *id).collect();
            for id in lingering {
                self.close(id);
            }
        }
        assert!(self.core.is_stopped(), "it does not end");
        let left = self.core.memory();
        assert_eq!((left.connections, left.inputs, left.queues), (0, 0, 0));
        assert!(left.subscriptions <= 16 << 10, "{left:?}");
    }
}

/// The bytes that a peer of this type sends before its first message.
pub(super) fn handshake(socket: SocketType, name: &[u8]) -> Vec<u8> {
    let (mut out, mut metadata) = (Vec::new(), Vec::new());
    Greeting::new("NULL").emit(&mut out);
    append_property(&mut metadata, SOCKET_TYPE, socket.name().as_bytes());
    append_property(&mut metadata, IDENTITY, name);
    append_command(&mut out, "READY", &metadata);
    out
}

/// Bytes that real peers send.
pub(super) fn said(feed: &mut Feed<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let topics: [&[u8]; 5] = [b"", b"a", b"ab", b"b", b"\x01x"];
    let topic = topics[feed.below(topics.len())];
    match feed.below(11) {
        0 | 1 => append_command(&mut out, "SUBSCRIBE", topic),
        2 => append_command(&mut out, "CANCEL", topic),
        3 => append_command(&mut out, "PING", b"\0\x05"),
        4 => append_message(&mut out, &[&b"a"[..], b"", topic]),
        5 => append_message(&mut out, &[&b""[..], topic, &vec![b'x'; 70_000]]),
        6 => append_message(
            &mut out,
            &[&b""[..], br#"{"command": "peers", "sort": "bytes"}"#],
        ),
        7 => append_message(&mut out, &[&b""[..], COMMANDS[feed.below(COMMANDS.len())]]),
        8 => {
            for _ in 0..feed.below(40) {
                append_message(&mut out, &[topic, b"small"]);
            }
        }
        9 => {
            let from = REQUESTS[feed.below(REQUESTS.len())];
            append_message(
                &mut out,
                &[&[&b""[..]][feed.below(2)..], &[from, topic]].concat(),
            );
        }
        _ => append_frame(&mut out, topic, feed.below(2) == 0),
    }
    out
}

/// The beginnings of requests for messages that have passed.
const REQUESTS: [&[u8]; 6] = [
    &[0; 8],
    &[0xff; 8],
    b"-1",
    b"-1e300",
    b"@1000000000",
    b"@nan",
];

const COMMANDS: [&[u8]; 4] = [b"PAUSE", b"RESUME", b"TERMINATE", b"STATISTICS"];
