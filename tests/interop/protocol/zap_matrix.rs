//! Every kind of proxy, mechanism and decision of a ZAP handler, with pyzmq at both ends: a peer
//! comes in by 200 alone, and every refusal is counted by its reason.

use super::curve::Keys;
use std::fmt::Write as _;
use zmqd_tests::{Python, Scratch, Zmqd};

/// Names of proxies, their kinds, and their sockets if the kind does not say them.
const PROXIES: &[(&str, &str, [&str; 2])] = &[
    ("queue", "queue", ["", ""]),
    ("forwarder", "forwarder", ["", ""]),
    ("streamer", "streamer", ["", ""]),
    ("rep-req", "proxy", ["REP", "REQ"]),
    ("pull-pub", "proxy", ["PULL", "PUB"]),
    ("pair", "proxy", ["PAIR", "PAIR"]),
];

const MECHANISMS: &[&str] = &["null", "plain", "curve"];

/// A broker with a proxy of each kind and mechanism, whose peers one handler decides about.
fn configuration(handler: &str, secret: &str) -> String {
    let mut text = String::new();
    for (proxy, kind, sockets) in PROXIES {
        for mechanism in MECHANISMS {
            let name = format!("{proxy}-{mechanism}");
            let setting = match *mechanism {
                "plain" => "plain_users = 'any', ",
                "curve" => &format!("curve_secret = '{secret}', "),
                _ => "",
            };
            writeln!(text, "[[proxy]]\nname = '{name}'\nkind = '{kind}'").expect("text");
            for (side, socket) in ["frontend", "backend"].into_iter().zip(sockets) {
                let socket = match *socket {
                    "" => String::new(),
                    name => format!("socket = '{name}', "),
                };
                writeln!(
                    text,
                    "{side} = {{ {socket}{setting}bind = 'tcp://127.0.0.1:0', \
                     zap_domain = '{name}', zap_timeout = 200 }}"
                )
                .expect("text");
            }
            writeln!(
                text,
                "control.bind = 'tcp://127.0.0.1:0'\n\
                 zap = {{ connect = '{handler}', reconnect_ivl_max = 100 }}"
            )
            .expect("text");
        }
    }
    text
}

/// The handler on a thread, and peers of each proxy.
const PEERS: &str = r#"
proxies = [line.split() for line in endpoints.splitlines()]
asks = {name: questioner(control) for name, _, _, control in proxies}
decision, places = "silence", itertools.count()
asked, broken = {name: 0 for name, *_ in proxies}, []

def answers(request, number):
    """What the handler sends back: its decision about this request."""
    def with_(status, user=b"", rest=[b""]):
        return request[:4] + [status, b"text", user] + rest
    malformed = [
        request[:2] + [b"1.1"] + with_(b"200", b"anna")[3:],
        request[:4] + [b"200"],
        with_(b"200", b"anna", []),
        with_(b"200", b"anna", [b"", b""]),
        with_(b"999", b"anna"),
        with_(b"20x", b"anna"),
        with_(b"", b"anna"),
        with_(b"200", b"a\nb"),
        with_(b"200", b"a" * 256),
    ]
    return {
        "200": [with_(b"200", b"anna")],
        "300": [with_(b"300")],
        "400": [with_(b"400")],
        "500": [with_(b"500")],
        "malformed": [malformed[number % len(malformed)]],
        "another": [request[:3] + [b"another"] + with_(b"200", b"anna")[4:]],
        "silence": [],
    }[decision]

def serve():
    router = bind(zmq.ROUTER, handler)
    router.rcvtimeo = -1
    while True:
        request = router.recv_multipart()
        name, mechanism = request[4].decode(), request[7:]
        sizes = {"null": [], "plain": [4, 8], "curve": [32]}[name.rsplit("-")[-1]]
        expected = name.rsplit("-")[-1].upper().encode()
        if mechanism[0] != expected or [len(it) for it in mechanism[1:]] != sizes:
            broken.append(request)
        asked[name] += 1
        for answer in answers(request, sum(asked.values())):
            router.send_multipart(answer)

threading.Thread(target=serve, daemon=True).start()

def peer(kind, name, endpoint):
    made = socket(kind)
    mechanism = name.rsplit("-")[-1]
    if mechanism == "plain":
        made.plain_username, made.plain_password = b"anna", b"password"
    if mechanism == "curve":
        be_client(made, keys, server="broker", client="anna")
    if kind == zmq.SUB:
        made.subscribe(b"")
    # The broker closes refused peers later with each one from the same address.
    place = next(places)
    source = f"127.{1 + place // 250}.0.{1 + place % 250}"
    made.connect(f"tcp://{source}:0;" + endpoint.removeprefix("tcp://"))
    return made

KINDS = {
    "queue": (zmq.REQ, zmq.REP),
    "forwarder": (zmq.PUB, zmq.SUB),
    "streamer": (zmq.PUSH, zmq.PULL),
    "rep-req": (zmq.REQ, zmq.REP),
    "pull-pub": (zmq.PUSH, zmq.SUB),
    "pair": (zmq.PAIR, zmq.PAIR),
}

def pairs():
    """A peer of each side of each proxy."""
    made = {}
    for name, front, back, _ in proxies:
        near, far = KINDS[name.rpartition("-")[0]]
        made[name] = peer(near, name, front), peer(far, name, back)
    return made

def count(name, reason):
    return [counters(asks[name], side)["closed"].get(reason, 0) for side in ("frontend", "backend")]

def inside(name):
    return [it["user"] for it in asks[name]("peers")["peers"] if it["phase"] == "ready"
            and it["side"] in ("frontend", "backend")]
"#;

const REFUSALS: &str = r#"
for decision, reason in [
    ("silence", "zap-timed-out"),
    ("300", "zap-temporary"),
    ("400", "zap-denied"),
    ("500", "zap-handler-error"),
    ("malformed", "zap-malformed"),
    ("another", "zap-timed-out"),
]:
    before = {name: count(name, reason) for name, *_ in proxies}
    made = pairs()
    for name, *_ in proxies:
        wait_until(f"{decision} at {name}", lambda: all(
            now > then for now, then in zip(count(name, reason), before[name])))
        assert inside(name) == [], (decision, name)
    for both in made.values():
        for each in both:
            each.close()
"#;

const EXCHANGE: &str = r#"
decision = "200"
made = pairs()
for name, *_ in proxies:
    wait_until(f"two peers at {name}", lambda: inside(name) == ["anna", "anna"])
    near, far = made[name]
    # A publication comes once its subscription is in place.
    wait_until(f"a message at {name}", lambda: (near.send(b"message"), far.poll(100))[1]
               if near.type in (zmq.PUB, zmq.PUSH) else near.send(b"message") or True)
    assert far.recv() == b"message", name
    if far.type in (zmq.REP, zmq.PAIR):
        far.send(b"answer")
        assert near.recv() == b"answer", name
assert not broken, broken
assert all(asked.values()), asked
"#;

#[test]
fn a_peer_comes_in_by_200_alone_at_every_kind_of_proxy_with_every_mechanism() {
    let keys = Keys::new("zap-matrix", &["broker", "anna"]);
    let socket = Scratch::absent("zap-matrix");
    let handler = format!("ipc://{}", socket.path());
    let file = Scratch::new(
        "toml",
        &configuration(&handler, &keys.path("broker.key_secret")),
    );
    let count = PROXIES.len() * MECHANISMS.len();
    let broker = Zmqd::start_expecting(3 * count, &["run", file.path()]);
    let mut endpoints = String::new();
    for (proxy, ..) in PROXIES {
        for mechanism in MECHANISMS {
            let name = format!("{proxy}-{mechanism}");
            let sides = ["frontend", "backend", "control"].map(|it| broker.endpoint(&name, it));
            writeln!(endpoints, "{name} {}", sides.join(" ")).expect("text");
        }
    }
    let mut python = Python::new();
    python.set("endpoints", &endpoints);
    python.set("handler", &handler);
    python.set("keys", &keys.path(""));
    python.run(PEERS);
    for (proxy, ..) in PROXIES {
        for mechanism in MECHANISMS {
            let _line = broker.wait_log(&format!("{proxy}-{mechanism} zap: connected to ipc://"));
        }
    }
    python.run(REFUSALS);
    python.run(EXCHANGE);
}
