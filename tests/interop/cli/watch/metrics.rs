//! The states of watches, as the broker shows them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use zmqd_tests::{ANY, wait_until};

use super::{Home, Watching};

#[test]
fn the_metrics_of_the_broker_show_the_states() {
    let home = Home::new();
    let queue = [
        "queue",
        "--frontend",
        ANY,
        "--backend",
        ANY,
        "--http",
        "127.0.0.1:0",
    ];
    let broker = home.start(2, &queue);
    let address = wait_until("the address for HTTP", || {
        let lines = broker.lines();
        let mut found = lines
            .iter()
            .filter_map(|it| it.strip_prefix("http bound http://"));
        found.next().map(|it| it.trim_end_matches('/').to_owned())
    });
    let read = |path: &str| {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    };
    let keys = "[[watch]]\nname = \"w\"\nabsent = { proxy = \"queue\" }\nafter = \"500ms\"\n\
                grace = 0\n";
    let watching = Watching::start_in(home, keys, &[]);
    wait_until("a watch that is down", || {
        let down = "zmqd_watch_state{watch=\"w\",state=\"down\"} 1";
        read("/metrics").contains(down).then_some(())
    });
    let status = read("/api/v1/status");
    assert!(status.contains("\"name\":\"w\""), "{status}");
    watching.process.kill();
    wait_until("no report", || {
        (!read("/metrics").contains("zmqd_watch_state{")).then_some(())
    });
}
