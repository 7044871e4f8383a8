//! A core and its driver for benchmarks: received bytes in, bytes to send out.

use broker::config::{Config, Endpoint, Kind, ProxyConfig, SocketConfig, SocketName};
use broker::{Action, ConnId, Core, Flow, SLICES_MAX};
use std::hint::black_box;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Instant;
use zmtp::SocketType;
use zmtp::encode::{append_command, append_message};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{SOCKET_TYPE, append_property};

/// Bytes handed over at once, as in the driver's scratch.
pub(crate) const BATCH_SIZE: usize = 256 << 10;

/// A core with peers on its frontend and on its backend.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) core: Core,
    /// Whether workers send back received messages.
    is_queue: bool,
    /// The time, which advances only on request.
    pub(crate) now: Instant,
    scratch: Vec<u8>,
    /// Bytes sent to each connection, by its slot, if they matter.
    sent: Vec<Vec<u8>>,
    pub(crate) sinks: Vec<ConnId>,
    /// The peers of the frontend.
    pub(crate) sources: Vec<ConnId>,
}

impl Bench {
    /// `sources` and `sinks` are the numbers of peers on each side of this kind of proxy, `readers`
    /// the number of subscribers to all copies of its capture; `change` alters its configuration.
    pub(crate) fn new(
        now: Instant,
        kind: &str,
        [sources, sinks, readers]: [usize; 3],
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let kind = Kind::from_name(kind).expect("a kind of the table");
        let endpoint: Endpoint = "tcp://127.0.0.1:1".parse().expect("an endpoint");
        let side = SocketConfig {
            bind: vec![endpoint],
            ..SocketConfig::default()
        };
        let mut proxy = ProxyConfig {
            frontend: side.clone(),
            backend: side.clone(),
            ..ProxyConfig::new(kind, kind.name)
        };
        proxy.capture.socket = side;
        change(&mut proxy);
        let config = Config {
            proxies: vec![proxy],
            ..Config::default()
        };
        let mut core = Core::new(now, &config, 1);
        while let Some(Action::Listen(id)) = core.poll_action() {
            let (endpoint, _) = core.listener(id).expect("it is asked for");
            let endpoint = endpoint.clone();
            core.handle_listening(id, endpoint);
        }
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut accept = |side, count| -> Vec<_> {
            let socket = core.proxies().next();
            let socket = socket.and_then(|proxy| core.socket(proxy, side));
            let mut listeners = core.listeners(socket.expect("it is configured"));
            let listener = listeners.next().expect("it listens");
            drop(listeners);
            (0..count)
                .filter_map(|_| core.handle_accepted(now, listener, peer))
                .collect()
        };
        let [sources, sinks, readers] = [
            accept(SocketName::Frontend, sources),
            accept(SocketName::Backend, sinks),
            accept(SocketName::Capture, readers),
        ];
        let mut bench = Self {
            // The first slot is that of the broker itself.
            sent: vec![Vec::new(); 1 + sources.len() + sinks.len()],
            sources,
            sinks,
            core,
            is_queue: kind.name == "queue",
            now,
            scratch: vec![0; BATCH_SIZE + (64 << 10)],
        };
        for id in bench.sources.clone() {
            bench.feed(id, &handshake(kind.frontend.peers()[0]));
        }
        for id in bench.sinks.clone() {
            let mut bytes = handshake(kind.backend.peers()[0]);
            if kind.backend.is_publisher() {
                append_command(&mut bytes, "SUBSCRIBE", b"");
            }
            bench.feed(id, &bytes);
        }
        for id in readers {
            let mut bytes = handshake(SocketType::Sub);
            append_command(&mut bytes, "SUBSCRIBE", b"");
            bench.feed(id, &bytes);
        }
        bench.finish_turn();
        bench.sent.iter_mut().for_each(Vec::clear);
        bench
    }

    /// Each source sends `batch` this number of times; workers send back received messages.
    #[inline(never)]
    pub(crate) fn run_batches(&mut self, batch: &[u8], times: u64) {
        for _ in 0..times {
            for index in 0..self.sources.len() {
                self.feed(self.sources[index], batch);
            }
            self.finish_turn();
            if self.is_queue {
                for index in 0..self.sinks.len() {
                    let id = self.sinks[index];
                    let mut requests = std::mem::take(&mut self.sent[id.slot()]);
                    self.feed(id, &requests);
                    requests.clear();
                    self.sent[id.slot()] = requests;
                }
                self.finish_turn();
                for id in &self.sources {
                    assert_eq!(
                        self.sent[id.slot()].len(),
                        batch.len(),
                        "replies are missing"
                    );
                    self.sent[id.slot()].clear();
                }
            }
        }
    }

    /// Plays the driver for one read; the kernel accepts all bytes.
    pub(crate) fn feed(&mut self, id: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut input = self.core.begin_input(id, &mut self.scratch);
            let spare = input.spare();
            let (now, later) = bytes.split_at(bytes.len().min(spare.len()));
            spare[..now.len()].copy_from_slice(now);
            input.filled(now.len());
            bytes = later;
            loop {
                let flow = self.core.handle_input(self.now, id, &mut input);
                while let Some(target) = self.core.poll_urgent() {
                    self.take(target, input.buffer());
                    self.core.keep_rest(target, &input);
                }
                match flow {
                    Flow::Flush => {}
                    Flow::More => self.core.begin_turn(self.now),
                    _ => break,
                }
            }
            self.core.end_input(id, input, &mut self.scratch);
        }
    }

    /// Plays the driver for the end of a turn.
    pub(crate) fn finish_turn(&mut self) {
        self.core.begin_turn(self.now);
        self.core.handle_timeout(self.now, self.now);
        while self.core.poll_action().is_some() {}
        while let Some(target) = self.core.poll_dirty() {
            self.take(target, &[]);
        }
        self.core.run_deferred(self.now);
    }

    fn take(&mut self, id: ConnId, input: &[u8]) {
        while let Some(egress) = self
            .core
            .egress_to_write(id, input)
            .filter(|egress| !egress.is_empty())
        {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            let mut size = 0;
            for slice in black_box(&slices[..count]) {
                size += slice.len();
                // Only the size of the readers' bytes matters.
                if self.is_queue
                    && let Some(sent) = self.sent.get_mut(id.slot())
                {
                    sent.extend_from_slice(slice);
                }
            }
            self.core.handle_written(id, size, false);
        }
    }
}

/// The bytes that a peer of this type sends before its first message.
fn handshake(socket_type: SocketType) -> Vec<u8> {
    let (mut out, mut metadata) = (Vec::new(), Vec::new());
    Greeting::new("NULL").emit(&mut out);
    append_property(&mut metadata, SOCKET_TYPE, socket_type.name().as_bytes());
    append_command(&mut out, "READY", &metadata);
    out
}

/// A message for this kind of proxy, in wire form.
pub(crate) fn message(kind: &str, body_size: usize) -> Vec<u8> {
    let envelope: &[&[u8]] = if kind == "queue" { &[b""] } else { &[] };
    let (mut message, body) = (Vec::new(), vec![b'x'; body_size]);
    append_message(&mut message, &[envelope, &[&body]].concat());
    message
}
