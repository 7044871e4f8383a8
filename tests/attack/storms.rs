//! Connections that arrive faster than a broker can accept them.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use zmqd_tests::clock::idle;

use crate::scene::Scene;
use crate::swarm::{Buffers, connect, connect_from, hello};
use crate::{Attack, Same, peers};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new("a storm of connections", "queue", |scene| storm(scene, &[]))
        .beside(Same::Requests),
    Attack {
        listeners: 24,
        ..Attack::new("a storm on 24 listeners", "queue", |scene| {
            storm(scene, &[])
        })
        .beside(Same::Requests)
    },
    Attack::new("a storm of whole handshakes", "queue", |scene| {
        storm(scene, &hello("DEALER"))
    })
    .beside(Same::Requests),
    Attack::new("handshakes that stop at every byte", "queue", handshakes).beside(Same::Requests),
];

/// Attackers at once.
const THREADS: usize = 2;
/// Connections of one attacker that end at once.
const HELD: usize = 500;

/// Connects, sends this, resets hundreds at once, and starts over, on all listeners in turn.
fn storm(scene: &mut Scene, said: &[u8]) -> String {
    let is_over = Arc::new(AtomicBool::new(false));
    let endpoints: Vec<String> = scene.frontends().into_iter().map(str::to_owned).collect();
    let watch = zmqd_tests::Stopwatch::start();
    let mut threads = Vec::new();
    for number in 0..THREADS {
        let (is_over, endpoints) = (Arc::clone(&is_over), endpoints.clone());
        let said = said.to_vec();
        threads.push(thread::spawn(move || {
            let endpoints = &endpoints[number % endpoints.len()..];
            come_and_go(endpoints, Ipv4Addr::LOCALHOST, &said, &is_over)
        }));
    }
    while scene.again() {
        idle(
            scene
                .left()
                .clamp(Duration::from_secs(2), Duration::from_secs(60)),
        );
    }
    is_over.store(true, Ordering::Relaxed);
    let mut count = 0;
    for thread in threads {
        count += thread.join().expect("an attacker does not panic");
    }
    let seconds = watch.elapsed().as_secs().max(1);
    format!("{count} connections, {} a second", count as u64 / seconds)
}

/// The number of connections of one attacker.
pub(crate) fn come_and_go(
    endpoints: &[String],
    from: Ipv4Addr,
    said: &[u8],
    is_over: &AtomicBool,
) -> usize {
    let mut count = 0;
    let mut held = Vec::with_capacity(HELD);
    for endpoint in endpoints.iter().cycle() {
        if held.len() == HELD {
            count += HELD;
            held.clear(); // all at once
        }
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        if let Ok(mut stream) = connect_from(from, endpoint, Buffers::Default) {
            // Fails if the broker has closed already, which is allowed.
            drop(stream.write_all(said));
            held.push(stream);
        }
    }
    count
}

/// Handshakes that stop at each byte and stay open.
fn handshakes(scene: &mut Scene) -> String {
    let hello = hello("DEALER");
    let mut count = 0;
    while scene.again() {
        let mut held = Vec::new();
        for at in 0..peers(3000) {
            if let Ok(mut stream) = connect(scene.frontend(), Buffers::Small)
                && stream.write_all(&hello[..at % hello.len()]).is_ok()
            {
                held.push(stream);
            }
        }
        count += held.len();
        idle(Duration::from_millis(300));
    }
    format!("{count} of them")
}
