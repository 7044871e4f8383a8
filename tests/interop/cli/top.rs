//! `zmqd top` on a terminal of Python's, and without one.

use zmqd_tests::{Python, Scratch, Zmqd, binary, wait_until};

use super::status::{Home, TWO_PROXIES};

/// A terminal in which `zmqd top` runs: it answers the question for its size.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, subprocess, termios, time

class Terminal:
    def __init__(self, lines, columns, *arguments, color=True):
        self.size, self.seen = f"\x1b[{lines};{columns}R".encode(), b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            name, _, value = home.partition("=")
            environment = dict(os.environ, **{name: value})
            environment.pop("RUNTIME_DIRECTORY", None)
            environment.pop("NO_COLOR", None)
            if not color:
                environment["NO_COLOR"] = "1"
            os.execve(zmqd, [zmqd, "top", *arguments], environment)

    def read(self):
        if select.select([self.fd], [], [], 0.05)[0]:
            try:
                new = os.read(self.fd, 65536)
            except OSError:
                return
            self.seen += new
            for _ in range(new.count(b"\x1b[6n")):
                os.write(self.fd, self.size)

    def page(self):
        """The last whole page."""
        pages = self.seen.split(b"\x1b[H")
        ends = [page for page in pages[1:] if b"\x1b[6n" in page]
        text = ends[-1].split(b"\x1b[9999")[0].decode() if ends else ""
        for code in "\x1b[K", "\x1b[J", "\r":
            text = text.replace(code, "")
        return text

    def shows(self, *texts):
        def check():
            self.read()
            return all(text in self.page() for text in texts)
        wait_until(f"{texts} on the screen", check)
        return self.page()

    def is_raw(self):
        return not termios.tcgetattr(self.fd)[3] & (termios.ICANON | termios.ECHO)

    def press(self, key):
        os.write(self.fd, key)

    def end(self):
        status = []
        def check():
            self.read()
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status.append(os.waitstatus_to_exitcode(code))
            return pid
        wait_until("the end of zmqd top", check)
        self.read()
        assert b"\x1b[?25h\x1b[?1049l" in self.seen, self.seen[-300:]
        assert not self.is_raw(), "the terminal is as before"
        return status[0]
"#;

struct Stage {
    broker: Zmqd,
    home: Home,
    python: Python,
    _config: Scratch,
}

impl Stage {
    /// A peer with a hostile identity has sent a request, a subscriber has a topic, and a reply to
    /// an unknown peer was dropped.
    fn new() -> Self {
        let (home, config) = (Home::new(), Scratch::new("toml", TWO_PROXIES));
        let broker = home.start(4, &["run", config.path()]);
        let mut python = Python::new();
        python.set("frontend", broker.endpoint("orders", "frontend"));
        python.set("backend", broker.endpoint("orders", "backend"));
        python.set("prices", broker.endpoint("prices", "backend"));
        python.set("home", &home.variable);
        python.set("zmqd", &binary().display().to_string());
        python.run(TERMINAL);
        python.run(
            r#"
            client = connect(zmq.DEALER, frontend, identity=b"\x1b[2Jevil")
            worker = connect(zmq.DEALER, backend)
            client.send_multipart([b"", b"one"])
            assert worker.recv_multipart()[0] == b"\x1b[2Jevil"
            worker.send_multipart([b"unknown", b"", b"two"])
            subscriber = connect(zmq.SUB, prices)
            subscriber.subscribe(b"\x1b]0;news")
            "#,
        );
        let stage = Self {
            broker,
            home,
            python,
            _config: config,
        };
        wait_until("a dropped reply and a topic", || {
            let statistics = |proxy| stage.home.run(&["ctl", "--proxy", proxy, "statistics"]);
            let is_dropped = statistics("orders").contains("no-such-peer");
            let topics = stage
                .home
                .run(&["ctl", "--proxy", "prices", "subscriptions"]);
            (is_dropped && topics.contains("0x1b5d303b")).then_some(())
        });
        stage
    }
}

#[test]
fn a_page_without_a_terminal_is_plain_text() {
    let stage = Stage::new();
    let page = |view| {
        let arguments = ["top", "--once", "--interval", "100ms", "--view", view];
        stage.home.run(&arguments)
    };
    let peers = page("peers");
    let first = format!("pid {}", stage.broker.pid());
    assert!(
        peers.starts_with("zmqd ") && peers.contains(&first),
        "{peers}"
    );
    for part in [
        "orders ",
        "prices ",
        "IDENTITY",
        "0x1b5b32",
        "dropped 1  running",
    ] {
        assert!(peers.contains(part), "no {part:?} in {peers}");
    }
    assert!(page("drops").contains("no peer has the identity"));
    let topics = page("topics");
    assert!(topics.contains("0x1b5d303b"), "{topics}");
    assert!(
        !(peers + &topics).contains('\x1b'),
        "no colours outside of a terminal"
    );
    let wrong = Zmqd::finish(&["top", "--view", "colours"]);
    assert_eq!(wrong.code, Some(2));
}

#[test]
fn keys_choose_what_a_terminal_shows_and_end_it() {
    let mut stage = Stage::new();
    stage.python.run(
        r#"
        top = Terminal(24, 80, "--interval", "200ms")
        page = top.shows("orders", "prices", "IDENTITY", "q end")
        assert top.is_raw()
        page = top.shows("0x1b5b32", "p peers*")
        assert "\x1b[1m" in page, page
        shown = page
        for color in "\x1b[1m", "\x1b[31m", "\x1b[0m":
            shown = shown.replace(color, "")
        assert "\x1b" not in shown, shown
        rows = shown.split("\n")
        assert len(rows) <= 24 and all(len(row) <= 80 for row in rows), shown
        top.press(b"t")
        top.shows("SUBSCRIBERS", "0x1b5d303b", "t topics*")
        top.press(b"\x1b[A")
        top.press(b"d")
        top.shows("REASON", "no peer has the identity", "d drops*")
        top.press(b"w")
        top.shows("w waiting*", "IDENTITY")
        top.press(b"q")
        assert top.end() == 0
        "#,
    );
}

#[test]
fn a_terminal_is_as_before_after_a_signal_and_after_the_end_of_the_broker() {
    let mut stage = Stage::new();
    stage.python.run(
        r#"
        small = Terminal(8, 40, "--interval", "200ms", color=False)
        def fits():
            small.read()
            rows = small.page().split("\n")
            return 1 < len(rows) <= 8 and all(len(row) <= 40 for row in rows)
        wait_until("a small page", fits)
        assert "\x1b[1m" not in small.page(), "NO_COLOR"
        small.press(b"\x03")
        assert small.end() == 0
        ended = Terminal(24, 80, "--interval", "200ms")
        ended.shows("IDENTITY")
        os.kill(ended.pid, signal.SIGTERM)
        assert ended.end() == 0
        alone = Terminal(24, 80, "--interval", "200ms")
        alone.shows("IDENTITY")
        "#,
    );
    stage.broker.signal("TERM");
    stage.python.run(
        r#"
        assert alone.end() == 1
        said = alone.seen.split(b"\x1b[?1049l")[-1]
        assert b"zmqd: ipc:" in said, said
        "#,
    );
}
