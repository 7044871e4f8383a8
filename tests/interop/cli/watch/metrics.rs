//! The states of watches, as the broker shows them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use zmqd_tests::{ANY, Zmqd, wait_until};

use super::{Home, Watching};

/// A broker that answers HTTP, beside the watches of its user.
struct Broker {
    address: String,
    _process: Zmqd,
}

impl Broker {
    fn start(home: &Home) -> Self {
        let queue = [
            "queue",
            "--frontend",
            ANY,
            "--backend",
            ANY,
            "--http",
            "127.0.0.1:0",
        ];
        let process = home.start(2, &queue);
        let address = process.http_address();
        Self {
            address,
            _process: process,
        }
    }

    fn read(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let host = &self.address;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    #[track_caller]
    fn wait_state(&self, watch: &str, state: &str) {
        let line = format!("zmqd_watch_state{{watch=\"{watch}\",state=\"{state}\"}} 1");
        wait_until(&line, || {
            self.read("/metrics").contains(&line).then_some(())
        });
    }
}

#[test]
fn the_metrics_of_the_broker_show_the_states() {
    let home = Home::new();
    let broker = Broker::start(&home);
    let keys = "[[watch]]\nname = \"w\"\nabsent = { proxy = \"queue\" }\nafter = \"500ms\"\n\
                grace = 0\n";
    let watching = Watching::start_in(home, keys, &[]);
    broker.wait_state("w", "down");
    let status = broker.read("/api/v1/status");
    assert!(status.contains("\"name\":\"w\""), "{status}");
    watching.process.kill();
    wait_until("no report", || {
        let metrics = broker.read("/metrics");
        (!metrics.contains("zmqd_watch_state{")).then_some(())
    });
}

/// No watch needs an answer of the broker; it shows them all the same, also one that starts later.
#[test]
fn a_broker_that_no_watch_asks_shows_the_states_too() {
    let watching = Watching::start(
        "[watcher]\nheartbeat.tcp = \"127.0.0.1:0\"\n[[watch]]\nname = \"beats\"\n\
         heartbeat = {}\nafter = \"1h\"\n",
    );
    let broker = Broker::start(&watching.home);
    broker.wait_state("beats", "new");
    let shown = watching.home.run(&["watch", "status"]);
    assert!(
        !shown.contains("answer"),
        "no watch needs answers:\n{shown}"
    );
    watching.send("{}");
    broker.wait_state("beats", "up");
    // It is neither a cause nor a trouble that the broker leaves.
    drop(broker);
    let later = Broker::start(&watching.home);
    later.wait_state("beats", "up");
    assert_eq!(watching.process.log_count("broker"), 0);
}
