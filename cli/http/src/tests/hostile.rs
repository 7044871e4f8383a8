//! Clients that are slow, many, or not clients at all; an honest one is beside them.

use super::{Answer, PATIENCE, Scene};
use crate::limits::{CONNECTIONS_MAX, HEAD_SIZE_MAX, Times};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn quick() -> Times {
    Times {
        answer: Duration::from_millis(300),
        head: Duration::from_millis(200),
        health: Duration::from_millis(100),
        idle: Duration::from_millis(200),
        reading: Duration::from_millis(200),
        ..Times::default()
    }
}

/// Waits until the server closes a connection, and returns what it sent before.
fn end_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut received);
    received
}

#[test]
fn a_head_that_does_not_end_in_time_closes_the_connection() {
    let scene = Scene::with(quick(), false);
    for begin in ["", "G", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut stream = scene.connect();
        stream.write_all(begin.as_bytes()).expect("it reads");
        assert_eq!(end_of(&mut stream), b"", "{begin:?}");
    }
    let mut stream = scene.connect();
    stream.set_nodelay(true).expect("a socket");
    // One byte at a time does not prolong it.
    let drips = b"GET / HTTP/1.1\r\nX: "
        .iter()
        .chain(std::iter::repeat(&b'x'));
    let (done, late) = mpsc::channel::<()>();
    drop(done);
    let mut sent = 0;
    for drip in drips {
        if stream.write_all(&[*drip]).is_err() {
            break;
        }
        sent += 1;
        let _ = late.recv_timeout(Duration::from_millis(1));
        std::thread::park_timeout(Duration::from_millis(5));
        assert!(sent < HEAD_SIZE_MAX, "it is read without end");
    }
}

#[test]
fn an_idle_connection_is_closed() {
    let scene = Scene::with(quick(), false);
    let mut stream = scene.connect();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("it reads");
    assert_eq!(Answer::read(&mut stream).status, 200);
    assert_eq!(end_of(&mut stream), b"");
}

#[test]
fn requests_that_are_none_get_a_reason_and_the_end() {
    let scene = Scene::new();
    let large = "x".repeat(HEAD_SIZE_MAX);
    let oversized = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {large}\r\n\r\n");
    let body = "POST /api/v1/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n";
    for (request, status) in [
        (&oversized[..], 431),
        ("\u{1}\u{2}\u{3}\r\n\r\n", 400),
        ("BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET /%2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (body, 413),
    ] {
        let mut stream = scene.connect();
        // Requests behind it are not answered.
        let behind = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let _ = stream.write_all(behind.as_bytes());
        let answer = Answer::read(&mut stream);
        assert_eq!(answer.status, status, "{request:.40}");
        assert!(
            answer.head.contains("\r\nConnection: close\r\n"),
            "{}",
            answer.head
        );
        assert_eq!(end_of(&mut stream), b"");
    }
    assert_eq!(scene.get("/healthz").0, 200);
}

#[test]
fn a_thousand_slow_readers_leave_room_for_an_honest_one() {
    let scene = Scene::new();
    let before = resident_bytes();
    let mut slow = Vec::new();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    for number in 0..1000 {
        let mut stream = scene.connect();
        // Some are closed before they have sent all of it.
        let _ = stream.write_all(request.as_bytes());
        slow.push(stream);
        if number % 100 == 99 {
            // Within the time that the client has for its answers.
            assert_eq!(scene.get("/healthz").0, 200);
            assert_eq!(scene.get("/metrics").0, 200);
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    // Clients and server are in this process; the server has a hundred kilobytes per connection.
    assert!(grown < 40 << 20, "{grown} bytes more");
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("a socket");
        let mut byte = [0; 65_536];
        let mut stream = stream;
        loop {
            match stream.read(&mut byte) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    };
    let open = slow.iter().filter(|stream| is_open(stream)).count();
    assert!(open <= CONNECTIONS_MAX, "{open} connections are open");
}

#[test]
fn a_client_that_does_not_read_its_answer_is_closed() {
    let scene = Scene::with(quick(), false);
    let mut stream = scene.connect();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Until the answers fill both sockets, and this client is closed. A write takes no longer than
    // the deadline of the stream.
    let mut writes = 0;
    while stream.write_all(request.as_bytes()).is_ok() {
        writes += 1;
        assert!(writes < 1_000_000, "it is never closed");
    }
    assert_eq!(scene.get("/healthz").0, 200);
}

#[test]
fn a_broker_that_does_not_turn_is_not_healthy() {
    let scene = Scene::with(quick(), false);
    let (release, held) = mpsc::channel::<()>();
    let is_held = scene.handle.post(move |_| {
        let _ = held.recv_timeout(PATIENCE);
    });
    assert!(is_held);
    for path in ["/healthz", "/metrics", "/readyz"] {
        let (status, text) = scene.get(path);
        assert_eq!(status, 503, "{path}");
        assert!(
            text.contains("the broker has not answered for 0."),
            "{path}: {text}"
        );
    }
    // What is answered without the broker goes on.
    assert_eq!(scene.get("/").0, 200);
    drop(release);
    while scene.get("/healthz").0 != 200 {}
}

#[test]
fn a_connection_keeps_no_more_than_a_head_and_a_part_of_an_answer() {
    use crate::connection::{Connection, Step};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port");
    let mut client = TcpStream::connect(address).expect("it listens");
    let (server, _) = listener.accept().expect("a client");
    server.set_nonblocking(true).expect("a socket");
    #[expect(clippy::disallowed_methods, reason = "a base for times")]
    let now = Instant::now();
    let mut connection = Connection::new(now, mio::net::TcpStream::from_std(server), 1);
    client.set_nonblocking(true).expect("a socket");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let mut size_max = 0;
    for _ in 0..2000 {
        // As much as fits; this client never reads.
        let _ = client.write(request.as_bytes());
        if let Step::Handle(head) = connection.advance(now) {
            let parts = (0..1000).map(|_| vec![b'x'; 20_000]);
            let response = crate::response::Response::parts("text/plain", parts);
            connection.answer(now, &head, response);
        }
        size_max = size_max.max(connection.memory());
    }
    assert!(size_max > 20_000, "no answer was rendered");
    assert!(size_max < 200_000, "{size_max} bytes for one connection");
}

fn resident_bytes() -> u64 {
    crate::process::Process::now()
        .resident_bytes
        .expect("the system tells")
}
