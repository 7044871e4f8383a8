//! Endpoints of inproc, which connect the proxies of one process.

use zmqd_tests::{Python, Scratch, Zmqd};

#[test]
fn inproc_connects_proxies_of_one_process() {
    let config = Scratch::new("toml", CHAINS);
    let broker = Zmqd::start_expecting(7, &["run", config.path()]);
    assert_eq!(broker.endpoint("work-out", "frontend"), "inproc://work");
    let mut python = Python::new();
    for (name, proxy, side) in [
        ("sources", "work-in", "frontend"),
        ("sinks", "work-out", "backend"),
        ("publishers", "news-in", "frontend"),
        ("subscribers", "news-out", "backend"),
        ("subscribers_early", "news-in", "backend"),
    ] {
        let endpoints = broker.endpoints(proxy, side);
        let tcp = endpoints
            .iter()
            .find(|endpoint| endpoint.starts_with("tcp"));
        python.set(name, tcp.expect("an endpoint of tcp"));
    }
    python.run(
        r#"
        source, sink = connect(zmq.PUSH, sources), connect(zmq.PULL, sinks)
        for number in range(10_000):
            source.send_multipart([b"%d" % number, b"x" * (number % 300)])
            received = sink.recv_multipart()
            assert received == [b"%d" % number, b"x" * (number % 300)], received

        publisher = connect(zmq.PUB, publishers)
        near = connect(zmq.SUB, subscribers_early, subscribe=b"a")
        far = connect(zmq.SUB, subscribers, subscribe=b"b")
        settle([publisher], [near, far])
        for topic in [b"a", b"b", b"c"]:
            publisher.send_multipart([topic, b"news"])
        assert near.recv_multipart() == [b"a", b"news"]
        assert far.recv_multipart() == [b"b", b"news"]
        assert is_silent(near) and is_silent(far)
        "#,
    );
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
}

/// Two chains of two proxies. The one that connects comes before or behind the one that binds.
const CHAINS: &str = r#"
[[proxy]]
kind = "streamer"
name = "work-in"
frontend.bind = "tcp://127.0.0.1:0"
backend.connect = "inproc://work"

[[proxy]]
kind = "streamer"
name = "work-out"
frontend.bind = "inproc://work"
backend.bind = "tcp://127.0.0.1:0"

[[proxy]]
kind = "forwarder"
name = "news-in"
frontend.bind = "tcp://127.0.0.1:0"
backend.bind = ["inproc://news", "tcp://127.0.0.1:0"]

[[proxy]]
kind = "forwarder"
name = "news-out"
frontend.connect = "inproc://news"
backend.bind = "tcp://127.0.0.1:0"
"#;
