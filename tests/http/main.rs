//! The HTTP server with a real Prometheus and a real browser. They need Prometheus with promtool,
//! Chromium and Node, so `./ci.sh http` runs them.
//!
//! `SHOTS=FOLDER` keeps pictures of the dashboard there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use zmqd_tests::{ANY, Python, Scratch, Zmqd, wait_until};

const TOKEN: &str = "0123456789abcdef";

/// A broker with three proxies, and the address of its HTTP server.
struct Scene {
    address: String,
    broker: Zmqd,
    _files: [Scratch; 2],
}

impl Scene {
    fn new() -> Self {
        let token = Scratch::new("token", TOKEN);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(token.path(), mode).expect("its owner");
        let proxy = |name: &str, kind: &str, more: &str| {
            format!(
                "[[proxy]]\nname = \"{name}\"\nkind = \"{kind}\"\nfrontend.bind = \"{ANY}\"\n\
                 backend = {{ bind = \"{ANY}\"{more} }}\n"
            )
        };
        let text = [
            "http = \"127.0.0.1:0\"\n".to_owned(),
            format!("http_token_file = \"{}\"\n", token.path()),
            proxy("orders", "queue", ""),
            proxy("telemetry", "forwarder", ", sndhwm = 50, sndbuf = 16384"),
            proxy("jobs", "streamer", ""),
        ];
        let config = Scratch::new("toml", &text.concat());
        let broker = Zmqd::start_expecting(6, &["run", config.path()]);
        let address = broker.http_address();
        Self {
            address,
            broker,
            _files: [token, config],
        }
    }

    fn python(&self) -> Python {
        let mut python = Python::new();
        for proxy in ["orders", "telemetry", "jobs"] {
            for side in ["frontend", "backend"] {
                let name = format!("{proxy}_{side}");
                python.set(&name, self.broker.endpoint(proxy, side));
            }
        }
        python
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream
            .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("UTF-8");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        body.to_owned()
    }
}

/// Traffic through all proxies: clients with hostile names, and a subscriber that hardly reads.
const BUSY: &str = r#"
import threading, time
context = zmq.Context()
def begin(run, *arguments):
    threading.Thread(target=run, args=arguments, daemon=True).start()
def plug(kind, endpoint, **options):
    socket = context.socket(kind)
    for key, value in options.items():
        setattr(socket, key, value)
    socket.linger = 0
    socket.connect(endpoint)
    return socket
def work():
    socket = plug(zmq.REP, orders_backend)
    while True:
        socket.send(socket.recv())
def ask(name):
    socket = plug(zmq.REQ, orders_frontend, identity=name)
    while True:
        socket.send(b"x" * 100)
        socket.recv()
        time.sleep(0.02)
def publish():
    socket = plug(zmq.PUB, telemetry_frontend)
    number = 0
    while True:
        socket.send_multipart([b"sensor.%d" % (number % 5), b"y" * 1000])
        number += 1
        time.sleep(0.001)
def subscribe(topic, pause):
    socket = plug(zmq.SUB, telemetry_backend, rcvhwm=10, rcvbuf=4096)
    socket.subscribe(topic)
    while True:
        socket.recv_multipart()
        time.sleep(pause)
def push():
    socket = plug(zmq.PUSH, jobs_frontend)
    while True:
        socket.send(b"z")
        time.sleep(0.01)
def pull():
    socket = plug(zmq.PULL, jobs_backend)
    while True:
        socket.recv()
for _ in range(2):
    begin(work)
for name in [b"till-1", b"\x1b[31mred", b"<img src=x onerror=alert(1)>", b"\xff\x00", b"a" * 255,
             "\u202egnp.exe".encode()]:
    begin(ask, name)
begin(publish)
begin(subscribe, b"sensor.1", 0)
begin(subscribe, b"<script>alert(1)</script>", 0)
begin(push)
begin(pull)
"#;

/// Messages that a page must not take for anything but text.
const HOSTILE: &str = r#"
def trouble():
    socket = plug(zmq.PUSH, jobs_frontend)
    while True:
        socket.send_multipart([b"<img src=x onerror=alert(2)>", b"\x1b]0;title\x07",
                               "\u202egpj.exe".encode(), bytes(1 << 20)] + [b""] * 20)
        time.sleep(0.1)
begin(trouble)
"#;

#[test]
fn promtool_finds_no_fault() {
    let scene = Scene::new();
    let mut python = scene.python();
    python.run(BUSY);
    wait_until("traffic", || {
        let metrics = scene.metrics();
        let mut lines = metrics.lines();
        let line = lines.find_map(|line| {
            line.strip_prefix("zmqd_messages_sent_total{proxy=\"jobs\",side=\"backend\"} ")
        });
        (line?.parse::<u64>().ok()? > 10).then_some(())
    });
    let checked = promtool(&["check", "metrics"], &scene.metrics());
    assert_eq!(checked, "", "promtool check metrics");
    let examples = root().join("examples/prometheus");
    let file = |name: &str| examples.join(name).to_string_lossy().into_owned();
    promtool(&["check", "rules", &file("zmqd.rules.yml")], "");
    promtool(&["check", "config", &file("prometheus.yml")], "");
    promtool(&["test", "rules", &file("zmqd.rules.test.yml")], "");
}

#[test]
fn a_prometheus_scrapes_a_busy_broker() {
    let scene = Scene::new();
    let mut python = scene.python();
    python.run(BUSY);
    let config = format!(
        "scrape_configs:\n- job_name: zmqd\n  scrape_interval: 1s\n  static_configs:\n  - targets: \
         [\"{}\"]\n",
        scene.address
    );
    let config = Scratch::new("yml", &config);
    let data = Scratch::absent("prometheus");
    let vacant = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = vacant.local_addr().expect("an address").to_string();
    drop(vacant);
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.path()))
        .arg(format!("--storage.tsdb.path={}", data.path()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _running = Running(command.spawn().expect("prometheus starts"));
    let value = |query: &str| {
        let mut stream = TcpStream::connect(&address).ok()?;
        let timeout = Some(Duration::from_secs(10));
        stream.set_read_timeout(timeout).ok()?;
        write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, value) = answer.split_once("\"value\":[")?;
        value.split('"').nth(1)?.parse::<f64>().ok()
    };
    wait_until("a scrape", || {
        value("up%7Bjob=%22zmqd%22%7D").filter(|up| *up == 1.0)
    });
    wait_until("a rate", || {
        let rate = "sum(rate(zmqd_messages_received_total%7Bproxy=%22telemetry%22%7D%5B30s%5D))";
        value(rate).filter(|rate| *rate > 1.0)
    });
}

#[test]
fn the_dashboard_without_peers() {
    let scene = Scene::new();
    browse(
        &scene.address,
        &[
            "light",
            "open",
            "shows=no peers",
            "shows=No peer is connected.",
            "is=document.querySelector('#watches').hidden",
            &shot("empty-light"),
            "dark",
            &shot("empty-dark"),
            "phone",
            "light",
            &shot("empty-phone"),
        ],
    );
}

#[test]
fn the_dashboard_of_a_busy_broker() {
    let scene = Scene::new();
    let mut python = scene.python();
    python.run(BUSY);
    browse(
        &scene.address,
        &[
            "light",
            "open",
            "shows=running",
            "shows=8 of 8",
            // Names of peers are text, with visible escapes.
            "shows=\\x1b[31mred",
            "shows=<img src=x onerror=alert(1)>",
            "shows=\\xff\\x00",
            "is=document.querySelectorAll('img').length === 0",
            "wait=10",
            &shot("busy-light"),
            "dark",
            &shot("busy-dark"),
            "phone",
            "light",
            &shot("busy-phone"),
            "is=document.documentElement.scrollWidth <= 390",
            "wide",
            "type=[name=filter]=till-1",
            "shows=1–1 of 1",
            "type=[name=filter]=nothing",
            "shows=No peer has this in its name.",
            "click=[data-proxy=telemetry]",
            "click=#tabs button:nth-child(3)",
            "shows=<script>alert(1)</script>",
            "shows=sensor.1",
            "type=[name=topic]=sensor.1",
            "shows=SUB",
            "click=#tabs button:nth-child(5)",
            "shows=backend.sndhwm",
        ],
    );
}

#[test]
fn the_dashboard_shows_watches() {
    let scene = Scene::new();
    let line = scene.broker.wait_log("zmqd status and zmqd ctl ask at ");
    let control = line.rsplit(' ').next().expect("an endpoint");
    let watches = Scratch::new(
        "toml",
        "[[watch]]\nname = \"tills\"\nabsent = { proxy = \"orders\" }\nafter = \"300ms\"\n\
         grace = 0\n[[watch]]\nname = \"hub\"\nbroker = {}\n",
    );
    let arguments = ["watch", "--control", control, watches.path()];
    let watch = Zmqd::start_expecting(0, &arguments);
    browse(
        &scene.address,
        &[
            "light",
            "open",
            "shows=Watches",
            "shows=tills",
            "is=document.querySelector('#services .bad').innerText === 'down'",
            "shows=0 of 1 peers",
            "shows=it lives",
            &shot("watches-light"),
            "phone",
            "is=document.documentElement.scrollWidth <= 390",
            // With the watch, its states go.
            &format!("stop={}", watch.pid()),
            "is=document.querySelector('#watches').hidden",
        ],
    );
}

#[test]
fn the_dashboard_while_messages_are_dropped() {
    let scene = Scene::new();
    let mut python = scene.python();
    python.run(BUSY);
    python.run("begin(subscribe, b'', 0.05)");
    browse(
        &scene.address,
        &[
            "light",
            "open",
            "click=[data-proxy=telemetry]",
            "shows=dropping messages",
            "wait=10",
            "is=document.querySelector('.figures .bad') !== null",
            &shot("dropping-light"),
            "dark",
            &shot("dropping-dark"),
            "phone",
            "light",
            &shot("dropping-phone"),
        ],
    );
}

#[test]
fn commands_of_the_dashboard_need_the_token_once() {
    let scene = Scene::new();
    let mut python = scene.python();
    python.run(BUSY);
    browse(
        &scene.address,
        &[
            "failures",
            "open",
            "type=[name=filter]=till-1",
            "shows=1–1 of 1",
            "click=.kick",
            "type=#token=the wrong token",
            "click=#yes",
            "shows=This is not the token.",
            &format!("type=#token={TOKEN}"),
            "click=#yes",
            "is=!document.querySelector('#ask').open",
            "click=#tabs button:nth-child(2)",
            "shows=kicked by command",
            "click=#tabs button:nth-child(1)",
            "shows=Pause",
            "click=#tools button",
            "click=#yes",
            "is=document.querySelector('#tools button').innerText === 'Resume'",
            "click=#tools button",
            "click=#yes",
            "is=document.querySelector('#tools button').innerText === 'Pause'",
            // The events of the broker have all of it, the latest first.
            "is=/resumed by/.test(document.querySelector('#happened td.text').innerText)",
            "is=/: kicked by command/.test(document.querySelector('#happened').innerText)",
            "is=!document.querySelector('#happened .bad')",
        ],
    );
}

#[test]
fn messages_are_shown_on_request_as_text() {
    let scene = Scene::new();
    let mut python = scene.python();
    python.run(BUSY);
    python.run(HOSTILE);
    browse(
        &scene.address,
        &[
            "light",
            "open",
            "click=[data-proxy=jobs]",
            "click=#tabs button:nth-child(3)",
            "shows=This needs the token",
            "click=#view button",
            &format!("type=#token={TOKEN}"),
            "click=#yes",
            "is=!document.querySelector('#ask').open",
            "shows=<img src=x onerror=alert(2)>",
            "shows=\\x1b]0;title\\x07",
            "shows=\\xe2\\x80\\xaegpj.exe",
            "is=[...document.querySelectorAll('.frame')].some((it) => it.title === '1.0 MiB')",
            "is=document.querySelectorAll('#view tbody tr').length <= 20",
            "is=document.querySelectorAll('img').length === 0",
            "is=document.title.startsWith('zmqd')",
            &shot("messages-light"),
            "phone",
            "is=document.documentElement.scrollWidth <= 390",
            "wide",
            "click=[data-proxy=orders]",
            "shows=till-1",
        ],
    );
}

#[test]
fn the_dashboard_after_the_end_of_the_broker() {
    let scene = Scene::new();
    let mut python = scene.python();
    python.run(BUSY);
    let stop = format!("stop={}", scene.broker.pid());
    browse(
        &scene.address,
        &[
            "failures",
            "light",
            "open",
            "wait=3",
            &stop,
            "shows=No answer from the broker for",
            &shot("disconnected-light"),
            "dark",
            &shot("disconnected-dark"),
            "phone",
            "light",
            &shot("disconnected-phone"),
        ],
    );
}

/// The step that takes a picture: into the folder `SHOTS`, if the environment names it.
fn shot(name: &str) -> String {
    let folder = std::env::var_os("SHOTS").map(PathBuf::from);
    let path = folder.map(|folder| folder.join(format!("{name}.png")));
    let path = path.unwrap_or_else(|| Path::new("/dev/null").to_owned());
    format!("shot={}", path.display())
}

/// Runs steps of `dashboard.cjs` in one browser.
#[track_caller]
fn browse(address: &str, steps: &[&str]) {
    let script = root().join("tests/js/dashboard.cjs");
    let mut command = Command::new("node");
    command.arg(script).arg("chromium").arg(address).args(steps);
    let output = command.output().expect("node starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{steps:?}: {errors}");
}

/// Runs promtool with this input, and returns its errors and warnings.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool starts");
    let stdin = child.stdin.take();
    stdin
        .expect("a pipe")
        .write_all(input.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {text}{errors}"
    );
    errors
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
