//! The HTTP server of the binary.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use zmqd_tests::{ANY, Python, Scratch, Zmqd, wait_until};

/// The whole answer to a request of HTTP/1.0.
fn get(address: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return String::new();
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    // A server that leaves its address may reset connections.
    if let Err(error) = stream.read_to_string(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{path}");
    }
    answer
}

fn has_sample(address: &str, sample: &str) -> bool {
    get(address, "/metrics").lines().any(|line| line == sample)
}

#[test]
fn metrics_and_views_show_the_traffic() {
    let http = ["--http", "127.0.0.1:0", "--name", "orders"];
    let broker = Zmqd::forwarder(&http);
    let address = broker.http_address();
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        subscriber = connect(zmq.SUB, backend)
        subscriber.subscribe(b"a\x1b[31m")
        publisher = connect(zmq.PUB, frontend)
        while not subscriber.poll(10):
            publisher.send(b"a\x1b[31m message")
        "#,
    );
    assert!(has_sample(
        &address,
        "zmqd_connections{proxy=\"orders\",side=\"backend\"} 1"
    ));
    assert!(has_sample(
        &address,
        "zmqd_topics{proxy=\"orders\",side=\"backend\"} 1"
    ));
    let dropped =
        "zmqd_messages_dropped_total{proxy=\"orders\",side=\"backend\",reason=\"peer-full\"} 0";
    assert!(has_sample(&address, dropped));
    let topics = get(&address, "/api/v1/proxies/orders/subscriptions");
    assert!(
        topics.contains("\"topic_hex\":\"611b5b33316d\""),
        "{topics}"
    );
    let receivers = get(
        &address,
        "/api/v1/proxies/orders/who?topic_hex=611b5b33316d00",
    );
    assert!(receivers.contains("\"total\":1"), "{receivers}");
    assert!(get(&address, "/readyz?min_peers=backend:1").ends_with("\nready\n"));
    assert!(get(&address, "/healthz").ends_with("\nok\n"));
    python.run("subscriber.close(0)");
    wait_until("the subscriber has left", || {
        let closed = get(&address, "/api/v1/proxies/orders/closed");
        closed.contains("\"reason\":\"peer-closed\"").then_some(())
    });
    assert!(get(&address, "/readyz?min_peers=backend:1").contains("503 Service Unavailable"));
}

#[test]
fn the_address_moves_by_a_reload_and_one_in_use_rejects_it() {
    let file = |http: &str| {
        format!(
            "{http}\n[[proxy]]\nkind = \"queue\"\nfrontend.bind = \"{ANY}\"\n\
             backend.bind = \"{ANY}\"\n"
        )
    };
    let config = Scratch::new("toml", &file("http = \"127.0.0.1:0\""));
    let broker = Zmqd::start_expecting(2, &["run", config.path()]);
    let first = broker.http_address();
    let reload = |http: &str, result: &str| {
        fs::write(config.path(), file(http)).expect("a file");
        let before = broker.log_count(result);
        broker.signal("HUP");
        wait_until("a reload", || {
            (broker.log_count(result) > before).then_some(())
        });
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    reload(&format!("http = \"127.0.0.1:{port}\""), "is rejected");
    assert_eq!(
        broker.log_count(&format!("cannot listen on http://127.0.0.1:{port}: ")),
        1
    );
    assert!(get(&first, "/readyz").contains("configuration was rejected"));
    reload("http = \"*:0\"", "is rejected");
    assert_eq!(broker.log_count("set http_token_file"), 1);
    drop(taken);
    reload(&format!("http = \"127.0.0.1:{port}\""), "reloaded ");
    let moved = format!("127.0.0.1:{port}");
    wait_until("the new address", || {
        get(&moved, "/readyz").contains("ready").then_some(())
    });
    wait_until("the former address closes", || {
        get(&first, "/").is_empty().then_some(())
    });
    reload("", "http: off (was");
    wait_until("it ends", || get(&moved, "/").is_empty().then_some(()));
}

#[test]
fn other_machines_need_the_token_of_a_file_that_is_secret() {
    let queue = [
        "queue",
        "--frontend",
        ANY,
        "--backend",
        ANY,
        "--http",
        "*:0",
    ];
    let refused = Zmqd::finish(&queue);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("--http: other machines can reach"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("set --http-token-file"),
        "{}",
        refused.stderr
    );
    let token = Scratch::new("token", "0123456789abcdef\n");
    let mode = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(token.path(), permissions).expect("its owner");
    };
    let with_token = [&queue[..], &["--http-token-file", token.path()]].concat();
    mode(0o644);
    let refused = Zmqd::finish(&with_token);
    assert!(
        refused
            .stderr
            .contains("other users may read it: chmod 600"),
        "{}",
        refused.stderr
    );
    mode(0o600);
    let broker = Zmqd::start_expecting(2, &with_token);
    let address = broker.http_address().replace("0.0.0.0", "127.0.0.1");
    assert!(get(&address, "/metrics").contains(" 401 "));
    assert!(get(&address, "/healthz").contains(" 200 "));
    let request = "/metrics HTTP/1.0\r\nAuthorization: Bearer 0123456789abcdef\r\nX:";
    assert!(get(&address, request).contains("zmqd_build_info"));
}
