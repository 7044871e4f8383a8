//! SIGHUP, and the log.

use std::fs;
use std::net::{TcpListener, TcpStream};

use zmqd_tests::{ANY, Python, Scratch, vacant_endpoint, wait_until};

use super::{Home, Watching, restarts};

impl Watching {
    fn reload(&self, config: &str) {
        fs::write(self.file.path(), config).expect("the file is ours");
        self.process.signal("HUP");
    }
}

#[test]
fn a_reload_takes_all_or_nothing() {
    let watching = Watching::start(&restarts("start = [\"sleep\", \"30\"]\nmax_actions = 1"));
    watching.wait_state("a", "failed");
    watching.reload("[[watch]]\nname = 3\n");
    let _ = watching.process.wait_log("reload rejected");
    assert_eq!(watching.state("a"), "failed");
    let log = Scratch::absent("log");
    let more = "[[watch]]\nname = \"b\"\nheartbeat = {}\nstart = [\"sleep\", \"30\"]\n";
    let config = format!("{more}[watcher]\nlog = {{ path = \"{}\" }}\n", log.path());
    let config = format!("{config}heartbeat.tcp = \"127.0.0.1:0\"\n");
    watching.reload(&config);
    // From now on the log is in the file.
    let read = || fs::read_to_string(log.path()).unwrap_or_default();
    let has = |text: &str| read().contains(text).then_some(());
    wait_until("the reload", || has("reloaded: 1 watch"));
    assert_eq!(watching.state("b"), "new");
    watching.send("{}");
    watching.wait_state("b", "up");
    assert!(has("INFO ] b: up: it lives").is_some(), "{}", read());
}

/// A port for plain TCP clients that no other test uses.
const JSON: &str = "heartbeat.tcp = \"127.0.0.1:0\"";

/// A watch that never acts, with these keys of `[watcher]`.
fn with(watcher: &str) -> String {
    format!(
        "[watcher]\n{watcher}\n[[watch]]\nname = \"a\"\nheartbeat = {{ service = \"a\" }}\n\
         after = \"1h\"\n"
    )
}

#[test]
fn an_endpoint_that_cannot_be_bound_leaves_all_as_it_was() {
    let old = with("heartbeat = { tcp = \"127.0.0.1:0\", zmtp = \"tcp://127.0.0.1:0\" }");
    let watching = Watching::start(&old);
    let (json, zmtp) = (watching.bound("json"), watching.bound("heartbeat"));
    let blocker = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = blocker.local_addr().expect("it is bound");
    let log = Scratch::absent("log");
    // Everything changes; the last endpoint is taken.
    let wanted = vacant_endpoint();
    let new = with(&format!(
        "log = {{ path = \"{}\" }}\nevents = \"{wanted}\"\n\
         heartbeat = {{ tcp = \"\", zmtp = \"tcp://{taken}\" }}",
        log.path()
    ));
    watching.reload(&new);
    let line = watching.process.wait_log("reload rejected");
    assert!(
        line.contains(&format!("cannot bind tcp://{taken}")),
        "{line}"
    );
    assert!(!fs::exists(log.path()).expect("a folder"), "the log stays");
    TcpStream::connect(&json).expect("the old endpoint is open");
    TcpStream::connect(zmtp.trim_start_matches("tcp://")).expect("the old endpoint is open");
    let address = wanted.trim_start_matches("tcp://");
    assert!(TcpStream::connect(address).is_err(), "nothing new is open");
    // The same file works as soon as the endpoint is free.
    drop(blocker);
    watching.process.signal("HUP");
    wait_until("the reload", || {
        let text = fs::read_to_string(log.path()).unwrap_or_default();
        text.contains("reloaded: 1 watch").then_some(())
    });
    TcpStream::connect(taken).expect("the new endpoint is open");
    TcpStream::connect(address).expect("the new endpoint is open");
    assert!(TcpStream::connect(&json).is_err(), "the old one is closed");
}

/// A listener that is open stands in the way of an overlapping one: the watch says so, names the
/// key, and goes on as it was.
#[test]
fn an_endpoint_that_overlaps_an_open_one_is_refused_whole() {
    let wide = |host: &str, port: &str| {
        with(&format!(
            "heartbeat = {{ insecure = true, tcp = \"{host}:{port}\" }}\n\
             events = {{ insecure = true, bind = \"tcp://*:0\" }}"
        ))
    };
    let watching = Watching::start(&wide("0.0.0.0", "0"));
    let port = |what: &str| {
        let address = watching.bound(what);
        address.rsplit(':').next().expect("a port").to_owned()
    };
    let (json, events) = (port("json"), port("events"));
    let other = "heartbeat.tcp = \"127.0.0.1:0\"";
    let beats = format!("{other}\nheartbeat.zmtp = \"tcp://127.0.0.1:{json}\"");
    for (config, line) in [
        (
            wide("127.0.0.1", &json),
            format!(
                "watcher.heartbeat.tcp: cannot listen at 127.0.0.1:{json}: Address already in use \
                 (os error 98): this watch listens at tcp://0.0.0.0:{json}: restart it, or choose \
                 another port"
            ),
        ),
        (
            with(&beats),
            format!(
                "watcher.heartbeat.zmtp: cannot bind tcp://127.0.0.1:{json}: Address already in \
                 use (os error 98): this watch listens at tcp://0.0.0.0:{json}: restart it"
            ),
        ),
        (
            with(&format!("{other}\nevents = \"tcp://127.0.0.1:{events}\"")),
            format!(
                "watcher.events: cannot bind tcp://127.0.0.1:{events}: Address already in use (os \
                 error 98): this watch listens at tcp://*:{events}: restart it"
            ),
        ),
    ] {
        watching.reload(&config.replace("\"a\"", "\"b\""));
        let said = watching.process.wait_log(&line);
        assert!(said.contains("reload rejected: "), "{said}");
        assert_eq!(watching.state("a"), "new", "all stays as it was");
        watching.connect();
    }
    watching.send("{\"service\": \"a\"}");
    watching.wait_state("a", "up");
}

#[test]
fn another_type_at_the_same_endpoint_takes_effect() {
    let endpoint = vacant_endpoint();
    let config = |socket: &str| {
        with(&format!(
            "heartbeat = {{ tcp = \"\", zmtp = \"{endpoint}\", socket = \"{socket}\" }}"
        ))
    };
    let watching = Watching::start(&config("PULL"));
    let mut python = Python::new();
    python.set("heartbeats", &endpoint);
    python.run("sender = connect(zmq.PUSH, heartbeats); sender.send(b'a')");
    watching.wait_state("a", "up");
    watching.reload(&config("SUB").replace("\"a\"", "\"b\""));
    let _ = watching.process.wait_log("reloaded: 1 watch");
    // The subscription may arrive behind the first heartbeats.
    python.begin(
        r#"
        sender = connect(zmq.PUB, heartbeats)
        for n in range(200):
            sender.send(b"b")
            time.sleep(0.02)
        "#,
    );
    watching.wait_state("b", "up");
    python.finish();
}

#[test]
fn a_reload_that_asks_a_broker_follows_it() {
    let home = Home::new();
    let broker = home.start(2, &["queue", "--frontend", ANY, "--backend", ANY]);
    let watching = Watching::start_in(home, &with(JSON), &[]);
    let follows = || watching.home.run(&["watch", "status"]);
    assert!(!follows().contains("the broker answers"), "{}", follows());
    let asks = "[[watch]]\nname = \"hub\"\nbroker = {}\nafter = \"500ms\"\ngrace = 0\n";
    watching.reload(asks);
    watching.wait_state("hub", "up");
    assert!(follows().contains("the broker answers"), "{}", follows());
    watching.reload(&with(JSON));
    wait_until("another watch", || {
        follows().contains("heartbeat").then_some(())
    });
    watching.reload(asks);
    watching.wait_state("hub", "up");
    drop(broker);
    watching.wait_state("hub", "down");
}

#[test]
fn the_log_has_a_format_and_a_file_that_is_opened_again() {
    let (log, old) = (Scratch::absent("log"), Scratch::absent("log"));
    let table = Scratch::absent("log");
    let config = with(&format!("{JSON}\nlog = {{ path = \"{}\" }}", table.path()));
    let arguments = ["--log-format", "json", "--log-file", log.path()];
    let watching = Watching::start_in(Home::new(), &config, &arguments);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let has = |text: &str| read(log.path()).contains(text).then_some(());
    wait_until("the first line", || {
        has("\"message\":\"zmqd watch started: 1 watch\"")
    });
    assert!(
        !fs::exists(table.path()).expect("a folder"),
        "the option counts"
    );
    fs::rename(log.path(), old.path()).expect("both are ours");
    watching.process.signal("USR1");
    wait_until("another file", || {
        has("opened the log file again (SIGUSR1)")
    });
    watching.reload(&config);
    wait_until("the reload", || has("reloaded: 1 watch"));
    watching.process.signal("TERM");
    let finished = watching.process.wait();
    assert_eq!((finished.code, &finished.stderr[..]), (Some(0), ""));
    assert!(
        read(log.path())
            .lines()
            .all(|line| line.starts_with("{\"time\":"))
    );
    assert!(!read(old.path()).contains("SIGUSR1"));
}
