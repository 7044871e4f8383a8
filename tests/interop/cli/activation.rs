//! Socket activation: a launcher opens sockets and passes them, as systemd does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use zmqd_tests::{Finished, Python, Scratch, Zmqd};

/// Opens a socket for each NAME=ADDRESS up to `--`, and executes the rest with them.
const LAUNCHER: &str = r#"
import fcntl, os, socket, sys
end = sys.argv.index("--")
names, opened = [], []
for number, pair in enumerate(sys.argv[1:end]):
    name, address = pair.split("=")
    if address.startswith("/"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        os.chmod(address, 0o666 if name == "public" else 0o600)
    else:
        host, port = address.split(":")
        listener = socket.socket()
        listener.bind((host, int(port)))
    if name != "deaf":
        listener.listen()
    names.append(name)
    opened.append(fcntl.fcntl(listener, fcntl.F_DUPFD, 100))
for number, descriptor in enumerate(opened):
    os.dup2(descriptor, 3 + number, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(opened)), LISTEN_PID=str(os.getpid()),
                  LISTEN_FDNAMES=":".join(names))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"#;

fn launcher<'a>(sockets: &[&'a str]) -> Vec<&'a str> {
    [&["python3", "-c", LAUNCHER], sockets, &["--"]].concat()
}

fn config(frontend: &str, backend: &str) -> Scratch {
    Scratch::new(
        "toml",
        &format!(
            "[[proxy]]\nname = \"orders\"\nkind = \"queue\"\n\
             frontend.bind = {frontend}\nbackend.bind = {backend}\n"
        ),
    )
}

fn refused(sockets: &[&str], config: &Scratch) -> Finished {
    Zmqd::start_under_expecting(0, &launcher(sockets), &["run", config.path()]).wait()
}

#[test]
fn passed_sockets_serve_the_endpoints_with_their_name_or_address() {
    let path = Scratch::absent("sock");
    let backend = format!("\"ipc://{}\"", path.path());
    let config = config("\"tcp://127.0.0.1:0\"", &backend);
    let unix = format!("zmqd.socket={}", path.path());
    let wrapper = launcher(&["orders.frontend=127.0.0.1:0", &unix]);
    let broker = Zmqd::start_under_expecting(2, &wrapper, &["run", config.path()]);
    let _ = broker.wait_log("orders frontend: listening on a passed socket");
    let _ = broker.wait_log("orders backend: listening on a passed socket");
    let mut python = Python::beside(&broker);
    let exchange = r#"
        client, worker = connect(zmq.REQ, frontend), connect(zmq.REP, backend)
        client.send(b"one")
        assert worker.recv() == b"one"
        worker.send(b"two")
        assert client.recv() == b"two"
        client.close()
        worker.close()
        "#;
    python.run(exchange);
    // An endpoint that goes and comes again has its socket again.
    let text = fs::read_to_string(config.path()).expect("the file is ours");
    let other = text.replace(&backend, "\"tcp://127.0.0.1:0\"");
    for (text, reloads) in [(&other, 1), (&text, 2)] {
        fs::write(config.path(), text).expect("the file is ours");
        broker.signal("HUP");
        zmqd_tests::wait_until("a reload", || {
            (broker.log_count("reloaded ") == reloads).then_some(())
        });
    }
    assert_eq!(
        broker.log_count("orders backend: listening on a passed socket"),
        2
    );
    python.run(exchange);
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
    assert!(
        Path::new(path.path()).exists(),
        "the socket is not the broker's"
    );
}

/// A configuration with HTTP and a control of the broker.
fn with_http(control: &Scratch) -> Scratch {
    Scratch::new(
        "toml",
        &format!(
            "http = \"127.0.0.1:0\"\nbroker_control = \"ipc://{}\"\n[[proxy]]\nkind = \"queue\"\n\
             frontend.bind = \"tcp://127.0.0.1:0\"\nbackend.bind = \"tcp://127.0.0.1:0\"\n",
            control.path()
        ),
    )
}

#[test]
fn passed_sockets_serve_http_and_the_control_of_the_broker() {
    for name in ["control", "of.any.name"] {
        let path = Scratch::absent("sock");
        let (config, control) = (with_http(&path), format!("{name}={}", path.path()));
        let wrapper = launcher(&["http=127.0.0.1:0", &control]);
        let broker = Zmqd::start_under_expecting(2, &wrapper, &["run", config.path()]);
        let _ = broker.wait_log("HTTP: listening on a passed socket for 127.0.0.1:0");
        let _ = broker.wait_log("control: listening on a passed socket for ipc://");
        let mut stream = TcpStream::connect(broker.http_address()).expect("it listens");
        stream
            .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("UTF-8");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
        let endpoint = format!("ipc://{}", path.path());
        let events = Zmqd::start_expecting(0, &["ctl", &endpoint, "events"]).wait();
        assert_eq!(events.code, Some(0), "{}", events.stderr);
    }
}

#[test]
fn a_passed_socket_for_http_or_the_control_must_be_at_its_place() {
    let path = Scratch::absent("sock");
    let config = with_http(&path);
    let [other, third] = [(); 2].map(|()| Scratch::absent("sock"));
    for (socket, expected) in [
        (
            "http=127.0.0.2:0".to_owned(),
            "is not at the address of HTTP",
        ),
        (
            format!("http={}", third.path()),
            "write ListenStream=ADDRESS:PORT",
        ),
        (
            format!("control={}", other.path()),
            "is at no endpoint of control",
        ),
        (format!("public={}", path.path()), "write SocketMode=0600"),
    ] {
        let finished = refused(&[&socket], &config);
        assert_eq!(finished.code, Some(1), "{socket}: {}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    }
    let twice = refused(&["http=127.0.0.1:0", "http=127.0.0.1:0"], &config);
    assert!(
        twice.stderr.contains("the second one for HTTP"),
        "{}",
        twice.stderr
    );
}

#[test]
fn a_passed_socket_without_exactly_one_endpoint_is_an_error_that_names_it() {
    let any = "\"tcp://127.0.0.1:0\"";
    let two = "[\"tcp://127.0.0.1:0\", \"tcp://*:0\"]";
    for (sockets, frontend, expected) in [
        (
            &["stray=127.0.0.1:0"][..],
            any,
            "\"stray\" at tcp://127.0.0.1:",
        ),
        (&["stray=127.0.0.1:0"], any, "is at no endpoint of a proxy"),
        (
            &["orders.frontend=127.0.0.2:0"],
            any,
            "is at no endpoint of orders.frontend",
        ),
        (
            &["orders.frontend=127.0.0.1:0"],
            two,
            "\"orders.frontend\" at tcp://127.0.0.1:",
        ),
        (
            &["orders.frontend=127.0.0.1:0"],
            two,
            "is at several endpoints: tcp://127.0.0.1:",
        ),
        (
            &["orders.frontend=127.0.0.1:0", "orders.frontend=127.0.0.1:0"],
            any,
            "is the second one for tcp://127.0.0.1:",
        ),
        (&["deaf=127.0.0.1:0"], any, "\"deaf\" at tcp://127.0.0.1:"),
        (
            &["deaf=127.0.0.1:0"],
            any,
            "does not listen for connections",
        ),
    ] {
        let text = config(&frontend.replace("tcp://*:0", "tcp://localhost:0"), any);
        let finished = refused(sockets, &text);
        assert_eq!(finished.code, Some(1), "{sockets:?}: {}", finished.stderr);
        assert!(
            finished.stderr.contains(expected),
            "{sockets:?}: {}",
            finished.stderr
        );
    }
}

/// A variable that was meant for another process.
#[test]
fn sockets_of_another_process_are_left_alone() {
    let config = config("\"tcp://127.0.0.1:0\"", "\"tcp://127.0.0.1:0\"");
    let wrapper = [
        "env",
        "LISTEN_FDS=1",
        "LISTEN_PID=1",
        "LISTEN_FDNAMES=orders.frontend",
    ];
    let broker = Zmqd::start_under_expecting(2, &wrapper, &["run", config.path()]);
    broker.signal("TERM");
    let finished = broker.wait();
    assert_eq!(finished.code, Some(0));
    assert!(
        !finished.stderr.contains("passed socket"),
        "{}",
        finished.stderr
    );
}
