//! Floods of handshakes that cost the broker the most, beside an honest client with the same keys
//! or passwords. The times of its requests, and of others that log in, are part of the table.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use zmqd_tests::clock::idle;
use zmqd_tests::raw::{COMMAND, frame, greeting};
use zmqd_tests::{Scratch, Stopwatch, binary};
use zmtp::curve::{CurveClient, Entropy, SecretKey};
use zmtp::encode::append_message;
use zmtp::plain::{Password, PlainClient};
use zmtp::{MechanismConfig, SessionConfig, SocketType};

use crate::honest::{Link, Peers, hello_of, percentile};
use crate::scene::Scene;
use crate::storms::come_and_go;
use crate::swarm::{Buffers, connect};
use crate::{Attack, peers, urgent};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new("silent sockets and a flood of HELLO", "queue", hellos)
        .options("frontend.curve_secret = \"SECRET_FILE\"\nfrontend.curve_clients = \"any\""),
    Attack::new("a flood of passwords", "queue", passwords)
        .options("frontend.plain_users = \"USERS_FILE\""),
    Attack::new("64 MiB frames with CURVE", "streamer", long_frames).options(
        "frontend.curve_secret = \"SECRET_FILE\"\nfrontend.curve_clients = \"any\"
        backend.curve_secret = \"SECRET_FILE\"\nbackend.curve_clients = \"any\"",
    ),
];

/// A key pair that libzmq's documentation publishes.
const SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
/// The honest user and its password.
const USER: &str = "weather";
const PASSWORD: &str = "sunny";

/// The place of the role in a greeting.
const AS_SERVER: usize = 32;

/// The address of the attackers; the honest peers have another one.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Attackers at once.
const THREADS: usize = 2;
/// Connections that say nothing.
const SILENT: usize = 5000;
/// The pause of the honest user between two logins.
const LOGIN_PAUSE: Duration = Duration::from_millis(20);
/// The goals for the 99th percentiles: of requests on a connection, and of logins by key and by
/// password. A login waits for one password of the attackers at most, and for its place among all
/// the connections that the broker accepts.
const REQUEST_MAX: Duration = Duration::from_millis(50);
const KEY_LOGIN_MAX: Duration = Duration::from_secs(2);
const PASSWORD_LOGIN_MAX: Duration = Duration::from_secs(2);

/// The files that the options of these attacks name.
#[derive(Debug)]
pub(crate) struct Files {
    secret: Scratch,
    users: Scratch,
}

impl Files {
    pub(crate) fn new() -> Self {
        let secret = Scratch::new("key_secret", SECRET);
        fs::set_permissions(secret.path(), Permissions::from_mode(0o600)).expect("its owner");
        let users = Scratch::absent("users");
        let mut passwd = Command::new(binary())
            .args(["passwd", users.path(), USER])
            .stdin(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = passwd.stdin.take().expect("it was piped");
        writeln!(stdin, "{PASSWORD}").expect("it reads");
        drop(stdin);
        assert!(passwd.wait().expect("it ends").success());
        Self { secret, users }
    }

    /// The options with the names of the files.
    pub(crate) fn name_in(&self, options: &str) -> String {
        let options = options.replace("SECRET_FILE", self.secret.path());
        options.replace("USERS_FILE", self.users.path())
    }
}

/// Thousands of connections that say nothing, and valid HELLOs, which cost a server of CURVE two
/// multiplications each, and a client that sends the same one again and again nothing.
fn hellos(scene: &mut Scene) -> String {
    let config = with_key(SocketType::Dealer);
    let mut server_greeting = greeting("CURVE");
    server_greeting[AS_SERVER] = 1;
    let hello = hello_of(&config, &server_greeting);
    let mut silent = Vec::with_capacity(SILENT);
    while silent.len() < peers(SILENT)
        && let Ok(stream) = connect(scene.frontend(), Buffers::Small)
    {
        silent.push(stream);
    }
    let told = flood(scene, &config, &hello, KEY_LOGIN_MAX);
    format!("{} silent, {told}", silent.len())
}

/// Wrong passwords, each of which the server has to hash.
fn passwords(scene: &mut Scene) -> String {
    let client = PlainClient::new(USER.as_bytes(), Password::new(PASSWORD.as_bytes()));
    let config = SessionConfig {
        mechanism: MechanismConfig::PlainClient(Arc::new(client.expect("short"))),
        ..SessionConfig::new(SocketType::Dealer)
    };
    let wrong = frame(COMMAND, b"\x05HELLO\x07weather\x04rain");
    let hello = [&greeting("PLAIN")[..], &wrong].concat();
    flood(scene, &config, &hello, PASSWORD_LOGIN_MAX)
}

/// One peer sends frames whose encryption takes a good part of a second, another one reads them.
fn long_frames(scene: &mut Scene) -> String {
    const SIZE: usize = 64 << 20;
    let source = Link::open_with(scene.frontend(), &with_key(SocketType::Push));
    let sink = Link::open_with(scene.backend(), &with_key(SocketType::Pull)).stream();
    sink.set_read_timeout(Some(Duration::from_secs(3)))
        .expect("it is open");
    let reader = thread::spawn(move || read_all(sink));
    let mut long = Vec::new();
    append_message(&mut long, &[&vec![b'x'; SIZE]]);
    let mut sent = 0;
    while scene.again() {
        source.send(&long).expect("the broker reads");
        sent += 1;
    }
    let read = reader.join().expect("it does not panic");
    assert!(read > sent * SIZE, "{sent} frames, {read} bytes read");
    format!("{sent} frames")
}

/// The number of bytes that come until there are no more for some time.
fn read_all(mut stream: TcpStream) -> usize {
    let (mut buffer, mut count) = (vec![0; 256 << 10], 0);
    while let Ok(size @ 1..) = stream.read(&mut buffer) {
        count += size;
    }
    count
}

/// A client of CURVE with new keys.
fn with_key(socket_type: SocketType) -> SessionConfig {
    let secret = SecretKey::generate(Entropy::SYSTEM).expect("the system has random numbers");
    let server: SecretKey = SECRET.parse().expect("a key");
    let client = CurveClient::new(secret, server.public_key());
    SessionConfig {
        mechanism: MechanismConfig::CurveClient(Arc::new(client)),
        ..SessionConfig::new(socket_type)
    }
}

/// Connections that all begin like this, for the share of the scene, beside an honest client that
/// sends requests and a user that logs in again and again.
fn flood(scene: &mut Scene, config: &SessionConfig, hello: &[u8], login_max: Duration) -> String {
    let is_over = Arc::new(AtomicBool::new(false));
    let endpoint = scene.frontend().to_owned();
    let client = Link::open_with(&endpoint, config);
    let honest = Peers::round_trips(client, Link::open(scene.backend(), "DEALER"));
    let logins = urgent("login", {
        let (endpoint, config, is_over) = (endpoint.clone(), config.clone(), Arc::clone(&is_over));
        move || log_in(&endpoint, &config, &is_over)
    });
    let watch = Stopwatch::start();
    let attackers: Vec<_> = (0..THREADS)
        .map(|_| {
            let (endpoint, hello) = (endpoint.clone(), hello.to_vec());
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || come_and_go(&[endpoint], ATTACKER, &hello, &is_over))
        })
        .collect();
    while scene.again() {
        let left = scene.left();
        idle(left.clamp(Duration::from_secs(3), Duration::from_secs(60)));
    }
    is_over.store(true, Ordering::Relaxed);
    let mut count = 0;
    for attacker in attackers {
        count += attacker.join().expect("an attacker does not panic");
    }
    let seconds = watch.elapsed().as_secs().max(1);
    let mut logins = logins.join().expect("each login succeeds");
    let tally = honest.finish();
    let mut requests = tally.latencies.clone();
    let [request, login] = [&mut requests, &mut logins].map(|times| {
        times.sort_unstable();
        percentile(times, 990)
    });
    scene.require("requests of an honest client", Some(request), REQUEST_MAX);
    scene.require("logins of an honest client", Some(login), login_max);
    scene.honest = Some(tally);
    format!(
        "{} handshakes a second; p99 of an honest client {:.1?}, of {} logins {:.1?}",
        count as u64 / seconds,
        request,
        logins.len(),
        login
    )
}

/// Logs in again and again; returns the time of each login.
fn log_in(endpoint: &str, config: &SessionConfig, is_over: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let watch = Stopwatch::start();
        drop(Link::open_with(endpoint, config));
        times.push(watch.elapsed());
        idle(LOGIN_PAUSE);
    }
    times
}
