//! Thousands of questions to a control.

use std::net::TcpStream;
use std::time::Duration;

use zmqd_tests::clock::idle;
use zmqd_tests::raw::{MORE, frame};

use crate::scene::{Scene, TOKEN};
use crate::swarm::{Buffers, Swarm, connect, greet, subscriber, write_within};
use crate::{Attack, Same, peers};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new("5,000 questions, the asker stays", "forwarder", |scene| {
        questions(scene, Asker::Stays)
    })
    .beside(Same::Publications),
    Attack::new("5,000 questions, the asker leaves", "forwarder", |scene| {
        questions(scene, Asker::Leaves)
    })
    .beside(Same::Publications),
    Attack::new("5,000 questions, and SIGTERM", "forwarder", |scene| {
        questions(scene, Asker::IsThereAtTheStop)
    })
    .beside(Same::Publications),
    Attack::new(
        "1,000 slow readers of metrics and samples",
        "forwarder",
        readers,
    )
    .http()
    .beside(Same::Publications),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    IsThereAtTheStop,
    Leaves,
    Stays,
}

/// Asks for all peers of a proxy with many, and does not read the answers.
fn questions(scene: &mut Scene, asker: Asker) -> String {
    let question = [frame(MORE, b""), frame(0, br#"{"command":"peers"}"#)].concat();
    let many = question.repeat(5000);
    let hello = subscriber(b"nothing");
    let swarm = Swarm::connect(scene.backend(), peers(3000), &hello, Buffers::Small);
    let mut sent = 0;
    while scene.again() {
        let Ok(stream) = greet(scene.control(), "REQ") else {
            break;
        };
        sent += write_within(&stream, &many, Duration::from_secs(2)) / question.len();
        if asker != Asker::Leaves {
            idle(Duration::from_secs(1));
        }
        drop(stream);
        idle(Duration::from_millis(100));
    }
    let what = format!("{} peers, {sent} questions", swarm.len());
    drop(swarm);
    if asker == Asker::IsThereAtTheStop {
        ask_before_the_stop(scene, &many);
    }
    what
}

/// Leaves peers and questions behind, so that the broker must stop among them.
fn ask_before_the_stop(scene: &mut Scene, many: &[u8]) {
    scene.before_the_stop = Some(Box::new({
        let (backend, control) = (scene.backend().to_owned(), scene.control().to_owned());
        let many = many.to_vec();
        move || {
            let hello = subscriber(b"nothing");
            let swarm = Swarm::connect(&backend, peers(3000), &hello, Buffers::Small);
            let mut left: Vec<TcpStream> = swarm.into_streams();
            if let Ok(stream) = greet(&control, "REQ") {
                write_within(&stream, &many, Duration::from_secs(2));
                left.push(stream);
            }
            left
        }
    }));
}

/// Clients of HTTP that ask for all figures of thousands of peers, and do not read.
fn readers(scene: &mut Scene) -> String {
    let address = scene.broker.http_address();
    let swarm = Swarm::connect(
        scene.backend(),
        peers(3000),
        &subscriber(b"nothing"),
        Buffers::Small,
    );
    let paths = [
        "metrics",
        "api/v1/status",
        "api/v1/proxies/attacked/peers",
        "api/v1/proxies/attacked/sample",
        "api/v1/events",
        "healthz",
    ];
    let (mut asked, mut refused) = (0, 0);
    while scene.again() {
        let mut clients = Vec::new();
        for index in 0..peers(1000) {
            let path = paths[index % paths.len()];
            let head = format!(
                "GET /{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            );
            let head = head.repeat(20);
            let Ok(stream) = connect(&address, Buffers::Small) else {
                refused += 1;
                continue;
            };
            asked += write_within(&stream, head.as_bytes(), Duration::from_millis(10)) / 20;
            clients.push(stream);
        }
        idle(Duration::from_millis(500));
    }
    let (peers, rounds) = (swarm.len(), scene.rounds());
    format!(
        "{peers} peers, {rounds} times, {} kB of questions, {refused} refused",
        asked * 20 / 1000
    )
}
