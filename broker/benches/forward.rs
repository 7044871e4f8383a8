//! What the broker itself costs per message, without sockets: received bytes in, bytes to send out.
//!
//! `cargo bench -p zmqd-broker --bench forward -- [WORK [BATCHES]]`; the figures leave out the two
//! system calls and the two copies by the kernel that a batch costs too. WORK picks those whose
//! name contains it. With BATCHES there are exactly so many, after one to warm up, so that
//! instructions can be counted; docs/performance.md says how.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use broker::config::{Config, Endpoint, Kind, ProxyConfig, Side, SideConfig};
use broker::{ConnId, Core, Flow, SLICES_MAX, SocketId};
use bytes::BytesMut;
use std::hint::black_box;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zmtp::SocketType;
use zmtp::encode::{append_command, append_message};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{SOCKET_TYPE, append_property};

/// Bytes handed over at once, as the driver's scratch would hold them.
const BATCH_SIZE: usize = 256 << 10;

const RUN_TIME: Duration = Duration::from_millis(300);

/// A load.
struct Work {
    name: &'static str,
    kind: &'static str,
    sources: usize,
    sinks: usize,
    body_size: usize,
    /// Messages of each source before others have their turn; 0 for as many as fit into a batch.
    window: usize,
}

const WORKS: [Work; 10] = [
    Work::one_way("streamer, 1 sink, 64 B", "streamer", 1, 64),
    Work::one_way("streamer, 1 sink, 1 KiB", "streamer", 1, 1024),
    Work::one_way("streamer, 1 sink, 16 KiB", "streamer", 1, 16 << 10),
    Work::one_way("streamer, 1 sink, 100 KiB", "streamer", 1, 100 << 10),
    Work::one_way("streamer, 4 sinks in turn", "streamer", 4, 64),
    Work::one_way("forwarder, 1 subscriber", "forwarder", 1, 64),
    Work::one_way("forwarder, 50 subscribers", "forwarder", 50, 64),
    Work::queue("queue, 1 x 256, 1 worker", 1, 256, 1),
    Work::queue("queue, 16 x 64, 4 workers", 16, 64, 4),
    Work::queue("queue, 1 x 1, 1 worker", 1, 1, 1),
];

impl Work {
    const fn one_way(
        name: &'static str,
        kind: &'static str,
        sinks: usize,
        body_size: usize,
    ) -> Self {
        Self {
            name,
            kind,
            sources: 1,
            sinks,
            body_size,
            window: 0,
        }
    }

    const fn queue(name: &'static str, sources: usize, window: usize, sinks: usize) -> Self {
        Self {
            name,
            kind: "queue",
            sources,
            sinks,
            body_size: 64,
            window,
        }
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut arguments = arguments.iter().filter(|text| !text.starts_with("--"));
    let wanted = arguments.next().map_or("", String::as_str);
    let batches = arguments.next().map(|text| text.parse().expect("a number"));
    println!("{:<34} {:>12} {:>12}", "work", "messages", "ns/message");
    for work in WORKS.iter().filter(|work| work.name.contains(wanted)) {
        report(work, batches);
    }
}

fn report(work: &Work, batches: Option<u64>) {
    let mut bench = Bench::new(work);
    let envelope: &[&[u8]] = if work.kind == "queue" { &[b""] } else { &[] };
    let mut message = Vec::new();
    let body = vec![b'x'; work.body_size];
    append_message(&mut message, &[envelope, &[&body]].concat());
    let count = match work.window {
        0 => (BATCH_SIZE / message.len()).max(1),
        window => window,
    };
    let batch = message.repeat(count);
    bench.run_batches(&batch, 1);
    let (mut messages, start) = (0, Instant::now());
    while messages == 0 || batches.is_none() && start.elapsed() < RUN_TIME {
        bench.run_batches(&batch, batches.unwrap_or(10));
        messages += batches.unwrap_or(10) * (count * work.sources) as u64;
    }
    let nanoseconds = start.elapsed().as_secs_f64() * 1e9 / messages as f64;
    println!("{:<34} {messages:>12} {nanoseconds:>12.1}", work.name);
}

/// A core with peers on its frontend and on its backend.
struct Bench {
    core: Core,
    /// Whether what comes to the backend goes back.
    is_queue: bool,
    now: Instant,
    scratch: BytesMut,
    /// What was sent to each connection, by its slot, where that matters.
    sent: Vec<Vec<u8>>,
    sinks: Vec<ConnId>,
    sources: Vec<ConnId>,
}

impl Bench {
    fn new(work: &Work) -> Self {
        let kind = Kind::from_name(work.kind).expect("a kind of the table");
        let endpoint: Endpoint = "tcp://127.0.0.1:1".parse().expect("an endpoint");
        let side = SideConfig {
            bind: vec![endpoint],
            ..SideConfig::default()
        };
        let proxy = ProxyConfig {
            frontend: side.clone(),
            backend: side,
            ..ProxyConfig::new(kind, kind.name)
        };
        let config = Config {
            proxies: vec![proxy],
            ..Config::default()
        };
        let now = Instant::now();
        let mut core = Core::new(&config, 1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut accept = |side, count| -> Vec<_> {
            (0..count)
                .map(|_| core.handle_accepted(now, SocketId { proxy: 0, side }, peer))
                .collect()
        };
        let mut bench = Self {
            sources: accept(Side::Frontend, work.sources),
            sinks: accept(Side::Backend, work.sinks),
            core,
            is_queue: kind.name == "queue",
            now,
            scratch: BytesMut::zeroed(BATCH_SIZE + (64 << 10)),
            sent: vec![Vec::new(); work.sources + work.sinks],
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
        bench.finish_turn();
        bench.sent.iter_mut().for_each(Vec::clear);
        bench
    }

    /// Each source sends `batch`, so many times; workers send back what they get.
    #[inline(never)]
    fn run_batches(&mut self, batch: &[u8], times: u64) {
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

    /// Plays the driver for one read; the kernel takes everything.
    fn feed(&mut self, id: ConnId, mut bytes: &[u8]) {
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
                if flow != Flow::Flush {
                    break;
                }
            }
            self.core.end_input(id, input, &mut self.scratch);
        }
    }

    fn finish_turn(&mut self) {
        self.core.handle_timeout(self.now);
        while self.core.poll_action().is_some() {}
        while let Some(target) = self.core.poll_dirty() {
            self.take(target, &[]);
        }
        self.core.settle(self.now);
    }

    fn take(&mut self, id: ConnId, input: &[u8]) {
        while let Some(egress) = self.core.egress(id).filter(|egress| !egress.is_empty()) {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            let mut size = 0;
            for slice in black_box(&slices[..count]) {
                size += slice.len();
                if self.is_queue {
                    self.sent[id.slot()].extend_from_slice(slice);
                }
            }
            self.core.handle_written(id, size, false);
        }
    }
}

/// What a peer of this type sends before its first message.
fn handshake(socket_type: SocketType) -> Vec<u8> {
    let (mut out, mut metadata) = (Vec::new(), Vec::new());
    Greeting::new("NULL").emit(&mut out);
    append_property(&mut metadata, SOCKET_TYPE, socket_type.name().as_bytes());
    append_command(&mut out, "READY", &metadata);
    out
}
