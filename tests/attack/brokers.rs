//! Peers that the broker may take for dead.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use zmqd_tests::clock::idle;

use crate::scene::Scene;
use crate::subscribers::{end, messages, publisher};
use crate::swarm::{Buffers, Swarm, end_politely, subscriber, write_within};
use crate::{Attack, Same};

pub(crate) const ATTACKS: &[Attack] = &[Attack::new(
    "suspects beside 100,000 TIME_WAIT entries",
    "forwarder",
    suspects,
)
.options("backend.heartbeat_ivl = 500\nbackend.heartbeat_timeout = 500")
.beside(Same::Publications)];

/// Closed connections that the kernel remembers.
const REMEMBERED: usize = 100_000;
/// Connections on one address, which has no more ports than that.
const REMEMBERED_ON_ONE: usize = 25_000;

/// Subscribers that read nothing and do not answer PING, while the kernel remembers many
/// connections.
fn suspects(scene: &mut Scene) -> String {
    for last in 1..=REMEMBERED / REMEMBERED_ON_ONE {
        let listener = TcpListener::bind(format!("127.9.9.{last}:0")).expect("all of 127/8");
        let address = listener.local_addr().expect("a bound one");
        for _ in 0..REMEMBERED_ON_ONE {
            let Ok(stream) = TcpStream::connect(address) else {
                break; // no free port
            };
            let accepted = listener.accept();
            end_politely(&stream);
            drop(stream); // first, so that this end is in TIME_WAIT
            drop(accepted);
        }
    }
    let flood = messages(1000, 4 << 20);
    let mut least = usize::MAX;
    while scene.again() {
        let hello = subscriber(b"flood");
        let swarm = Swarm::connect(scene.backend(), 20, &hello, Buffers::Small);
        least = least.min(swarm.len());
        let source = publisher(scene);
        if let Some(source) = &source {
            write_within(source, &flood, Duration::from_secs(5));
        }
        idle(
            scene
                .left()
                .clamp(Duration::from_secs(3), Duration::from_secs(10)),
        );
        end(source);
    }
    format!("{} rounds, {least} suspects", scene.rounds())
}
