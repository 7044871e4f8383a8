//! What the broker itself costs per message, without sockets: received bytes in, bytes to send out.
//!
//! `cargo bench -p zmqd-broker --bench forward`; the figures leave out the two system calls and the
//! two copies by the kernel that a batch costs too.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use broker::config::{Config, Endpoint, Kind, ProxyConfig, Side, SideConfig};
use broker::{Core, Flow, SLICES_MAX, SocketId};
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

fn main() {
    println!("{:<34} {:>10} {:>12}", "work", "body bytes", "ns/message");
    for size in [64, 1024, 16 << 10, 100 << 10] {
        report("streamer, 1 sink", size, Bench::new("streamer", 1), &[]);
    }
    report(
        "streamer, 4 sinks in turn",
        64,
        Bench::new("streamer", 4),
        &[],
    );
    for peers in [1, 50] {
        let work = format!("forwarder, {peers} subscribers");
        report(&work, 64, Bench::new("forwarder", peers), &[]);
    }
    report(
        "queue, requests, 1 worker",
        64,
        Bench::new("queue", 1),
        &[b""],
    );
    report(
        "queue, requests, 4 workers",
        64,
        Bench::new("queue", 4),
        &[b""],
    );
}

fn report(work: &str, body_size: usize, mut bench: Bench, envelope: &[&[u8]]) {
    let mut message = Vec::new();
    let body = vec![b'x'; body_size];
    append_message(&mut message, &[envelope, &[&body]].concat());
    let count = (BATCH_SIZE / message.len()).max(1);
    let batch = message.repeat(count);
    let (mut messages, start) = (0_u64, Instant::now());
    while start.elapsed() < RUN_TIME {
        bench.feed(bench.source, &batch);
        messages += count as u64;
    }
    let nanoseconds = start.elapsed().as_secs_f64() * 1e9 / messages as f64;
    println!("{work:<34} {body_size:>10} {nanoseconds:>12.1}");
}

/// A core with one peer on its frontend and some on its backend.
struct Bench {
    core: Core,
    now: Instant,
    scratch: BytesMut,
    source: broker::ConnId,
}

impl Bench {
    fn new(kind: &str, backends: usize) -> Self {
        let kind = Kind::from_name(kind).expect("a kind of the table");
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
        let mut core = Core::new(&config, 1);
        let mut accept = |side| {
            let socket = SocketId { proxy: 0, side };
            core.handle_accepted(
                Instant::now(),
                socket,
                SocketAddr::from(([127, 0, 0, 1], 1)),
            )
        };
        let source = accept(Side::Frontend);
        let sinks: Vec<_> = (0..backends).map(|_| accept(Side::Backend)).collect();
        let scratch = BytesMut::zeroed(BATCH_SIZE + (64 << 10));
        let mut bench = Self {
            core,
            now: Instant::now(),
            scratch,
            source,
        };
        bench.feed(source, &handshake(kind.frontend.peers()[0]));
        for sink in sinks {
            let peer = kind.backend.peers()[0];
            let mut bytes = handshake(peer);
            if kind.backend.is_publisher() {
                append_command(&mut bytes, "SUBSCRIBE", b"");
            }
            bench.feed(sink, &bytes);
        }
        bench
    }

    /// Plays the driver for one read; the kernel takes everything.
    fn feed(&mut self, id: broker::ConnId, mut bytes: &[u8]) {
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
        while let Some(target) = self.core.poll_dirty() {
            self.take(target, &[]);
        }
        while self.core.poll_action().is_some() {}
        self.core.settle(Instant::now());
    }

    fn take(&mut self, id: broker::ConnId, input: &[u8]) {
        while let Some(egress) = self.core.egress(id).filter(|egress| !egress.is_empty()) {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            let size = black_box(&slices[..count])
                .iter()
                .map(|slice| slice.len())
                .sum();
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
