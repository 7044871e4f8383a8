//! The driver against the real system: socket options, transports, cleanup.

use super::connector::Dial;
use super::listener::Accepted;
use super::*;
use crate::config::SocketOptions;
use crate::ids::ListenerId;
use crate::view::SocketView;
use socket2::SockRef;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

/// The longest wait before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

const ANY: ListenerId = ListenerId {
    generation: 0,
    slot: 0,
};

fn endpoint(text: &str) -> Endpoint {
    text.parse().expect(text)
}

fn port_of(endpoint: &Endpoint) -> u16 {
    match endpoint {
        Endpoint::Tcp { port, .. } => *port,
        other => panic!("{other} has no port"),
    }
}

/// A listener on loopback.
fn listener(text: &str, options: &SocketOptions) -> Listener {
    Listener::bind(&endpoint(text), ANY, options).expect(text)
}

/// Accepts a peer that has connected.
fn accept(listener: &mut Listener) -> Accepted {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "no peer has connected");
        if let Some(accepted) = listener.accept(Instant::now()) {
            return accepted;
        }
    }
}

/// The parameters of a connector, with one link.
struct Dialler {
    connector: Connector,
    core: Core,
    link: LinkId,
    poll: Poll,
}

impl Dialler {
    fn new(target: &str, options: &str) -> Self {
        let text = format!(
            "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:0'\n\
             [proxy.backend]\nconnect = '{target}'\n{options}\n"
        );
        let config = Config::from_toml(&text, "test.toml").expect("legal");
        let mut core = Core::new(Instant::now(), &config, 1);
        if let Some(Action::Listen(id)) = core.poll_action() {
            core.handle_listening(id, endpoint("tcp://127.0.0.1:1"));
        }
        let Some(Action::Connect(link)) = core.poll_action() else {
            panic!("the core requests a connection");
        };
        let poll = Poll::new().expect("an event loop");
        let waker = Waker::new(poll.registry(), token(KIND_WAKER, 0)).expect("a waker");
        Self {
            connector: Connector::new(Arc::new(waker)),
            core,
            link,
            poll,
        }
    }

    /// Connects, or returns the reason for the failure.
    fn outcome(&mut self) -> io::Result<(Socket, PeerAddress)> {
        let start = Instant::now();
        let dial = Dial::new(start, self.link, &self.core, self.poll.registry());
        let dial = dial.expect("the link is wanted");
        let mut outcome = self.connector.connect(dial);
        let mut events = Events::with_capacity(8);
        while outcome.is_none() {
            assert!(start.elapsed() < DEADLINE, "no outcome in time");
            let left = |at: Instant| at.saturating_duration_since(Instant::now());
            let timeout = self.connector.poll_timeout().map_or(DEADLINE, left);
            self.poll
                .poll(&mut events, Some(timeout))
                .expect("it waits");
            let now = Instant::now();
            let dial = Dial::new(now, self.link, &self.core, self.poll.registry());
            let dial = dial.expect("the link is wanted");
            outcome = if let Some((_, resolved)) = self.connector.poll_resolved() {
                self.connector.try_next(dial, resolved?.into())
            } else if self.connector.poll_expired(now).is_some() {
                self.connector.handle_expired(dial)
            } else {
                self.connector.handle_event(dial)
            };
        }
        outcome.expect("waited for").1
    }
}

/// What the system says of a socket, as far as options of ours set it.
fn options_of(socket: &impl AsFd) -> String {
    let socket = SockRef::from(socket);
    format!(
        "nodelay {} tos {} keepalive {} {:?} {:?} {} maxrt {:?} device {:?}",
        socket.tcp_nodelay().expect("of TCP"),
        socket.tos_v4().expect("of IPv4"),
        socket.keepalive().expect("of TCP"),
        socket.tcp_keepalive_time().expect("of TCP"),
        socket.tcp_keepalive_interval().expect("of TCP"),
        socket.tcp_keepalive_retries().expect("of TCP"),
        socket.tcp_user_timeout().expect("of TCP"),
        socket
            .device()
            .expect("every socket has one or none")
            .map(|name| String::from_utf8_lossy(&name).into_owned()),
    )
}

fn buffers_of(socket: &impl AsFd) -> (usize, usize) {
    let socket = SockRef::from(socket);
    (
        socket.send_buffer_size().expect("every socket has one"),
        socket.recv_buffer_size().expect("every socket has one"),
    )
}

fn tcp(socket: Socket) -> mio::net::TcpStream {
    match socket {
        Socket::Tcp(stream) => stream,
        other => panic!("{other:?} is not a TCP connection"),
    }
}

const TUNED_TOML: &str = "sndbuf = 20000\nrcvbuf = 30000\ntos = 0x68\nbindtodevice = 'lo'\n\
    tcp_keepalive = 1\ntcp_keepalive_idle = 71\ntcp_keepalive_intvl = 13\ntcp_keepalive_cnt = 5\n\
    tcp_maxrt = 12345";
const TUNED: &str =
    "nodelay true tos 104 keepalive true 71s 13s 5 maxrt Some(12.345s) device Some(\"lo\")";
/// The kernel doubles requested sizes, to have room for its own accounting.
const TUNED_BUFFERS: (usize, usize) = (40000, 60000);

fn tuned() -> SocketOptions {
    let text = format!(
        "[options]\n{TUNED_TOML}\n[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:1'\n\
         backend.bind = 'tcp://127.0.0.1:2'"
    );
    let config = Config::from_toml(&text, "test.toml").expect("legal");
    config.proxies[0].frontend.options.clone()
}

#[test]
fn accepted_connections_have_the_options_of_their_side() {
    let mut listener = listener("tcp://127.0.0.1:0", &tuned());
    let address = ("127.0.0.1", port_of(&listener.endpoint));
    let peer = TcpStream::connect(address).expect("it listens");
    let stream = tcp(accept(&mut listener).socket);
    assert_eq!(options_of(&stream), TUNED);
    assert_eq!(buffers_of(&stream), TUNED_BUFFERS);
    assert_ne!(
        options_of(&peer),
        TUNED,
        "they are not the system's defaults"
    );
}

#[test]
fn connections_made_have_the_options_of_their_side() {
    let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = format!("tcp://{}", peer.local_addr().expect("bound"));
    let (socket, _) = Dialler::new(&target, TUNED_TOML)
        .outcome()
        .expect("connected");
    let stream = tcp(socket);
    assert_eq!(options_of(&stream), TUNED);
    assert_eq!(buffers_of(&stream), TUNED_BUFFERS);
}

#[test]
fn unset_options_are_left_to_the_system() {
    let mut listener = listener("tcp://127.0.0.1:0", &SocketOptions::DEFAULT);
    let address = ("127.0.0.1", port_of(&listener.endpoint));
    let peer = TcpStream::connect(address).expect("it listens");
    let stream = tcp(accept(&mut listener).socket);
    peer.set_nodelay(true).expect("of TCP");
    assert_eq!(options_of(&stream), options_of(&peer));
}

#[test]
fn keepalive_can_be_refused() {
    let options = SocketOptions {
        tcp_keepalive: Some(false),
        tcp_keepalive_idle: Some(71),
        ..SocketOptions::DEFAULT
    };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_keepalive(true).expect("of TCP");
    tune::tune_tcp(&socket, socket2::Domain::IPV4, &options).expect("legal");
    assert!(!socket.keepalive().expect("of TCP"));
}

#[test]
fn an_ipv6_socket_has_the_type_of_service_of_both_families() {
    let options = SocketOptions {
        tos: 0x68,
        ..SocketOptions::DEFAULT
    };
    let Ok(socket) = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None)
    else {
        // The kernel was built or booted without IPv6.
        assert!(!std::path::Path::new("/proc/net/if_inet6").exists());
        return;
    };
    tune::tune_tcp(&socket, socket2::Domain::IPV6, &options).expect("legal");
    let both = (
        socket.tclass_v6().expect("of IPv6"),
        socket.tos_v4().expect("of both"),
    );
    assert_eq!(both, (0x68, 0x68));
}

#[test]
fn an_unknown_interface_is_refused() {
    let options = SocketOptions {
        bindtodevice: "none0".to_owned(),
        ..SocketOptions::DEFAULT
    };
    let refusal = Listener::bind(&endpoint("tcp://127.0.0.1:0"), ANY, &options);
    assert!(refusal.is_err(), "{refusal:?}");
}

/// A listener with a full backlog does not answer, so a connection to it never finishes.
#[test]
fn a_full_backlog_keeps_the_others_waiting_until_connect_timeout() {
    let options = SocketOptions {
        backlog: 1,
        ..SocketOptions::DEFAULT
    };
    let full = listener("tcp://127.0.0.1:0", &options);
    let target = full.endpoint.to_string();
    let connect = || TcpStream::connect(("127.0.0.1", port_of(&full.endpoint)));
    // Linux accepts one more than the backlog.
    let _waiting = [connect(), connect()].map(|stream| stream.expect("there is room"));
    let outcome = Dialler::new(&target, "connect_timeout = 50").outcome();
    let error = outcome.expect_err("the queue is full");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("connect_timeout"), "{error}");
}

#[test]
fn the_backlog_of_a_local_socket_is_that_of_the_options() {
    let options = SocketOptions {
        backlog: 3,
        ..SocketOptions::DEFAULT
    };
    let bound = listener("ipc://*", &options);
    let mut connected = Vec::new();
    let error = loop {
        match Dialler::new(&bound.endpoint.to_string(), "").outcome() {
            Ok(stream) => connected.push(stream),
            Err(error) => break error,
        }
        assert!(connected.len() < 100, "the backlog has no limit");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    // Linux accepts one more than the backlog.
    assert_eq!(connected.len(), 4);
}

#[test]
fn local_sockets_have_the_buffers_of_the_options() {
    let mut bound = listener("ipc://*", &tuned());
    let (ours, _) = Dialler::new(&bound.endpoint.to_string(), TUNED_TOML)
        .outcome()
        .expect("it listens");
    let Socket::Unix(ours) = ours else {
        panic!("{ours:?}")
    };
    assert_eq!(buffers_of(&ours), TUNED_BUFFERS);
    let accepted = accept(&mut bound);
    assert!(matches!(accepted.socket, Socket::Unix(_)));
    let pid = i32::try_from(std::process::id()).expect("small");
    assert!(matches!(accepted.peer, PeerAddress::Ipc { pid: peer, .. } if peer == pid));
}

#[test]
fn every_interface_means_both_families_if_ipv6_is_set() {
    let options = SocketOptions {
        ipv6: true,
        ..SocketOptions::DEFAULT
    };
    let mut both = listener("tcp://*:0", &options);
    let port = port_of(&both.endpoint);
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let shown = both.endpoint.to_string();
    assert_eq!(shown, format!("tcp://*:{port}"), "as it was configured");
    let peer = TcpStream::connect(("127.0.0.1", port)).expect("IPv4 peers are accepted too");
    let seen = accept(&mut both).peer.to_string();
    assert_eq!(seen, peer.local_addr().expect("connected").to_string());
    if has_ipv6 {
        let peer = TcpStream::connect(("::1", port)).expect("IPv6 peers are accepted");
        let seen = accept(&mut both).peer.to_string();
        assert_eq!(seen, peer.local_addr().expect("connected").to_string());
    }
    let one = listener("tcp://*:0", &SocketOptions::DEFAULT);
    assert!(one.endpoint.to_string().starts_with("tcp://*:"));
}

#[test]
fn a_name_is_tried_address_by_address() {
    // Only one of localhost's addresses has a listener, and with IPv6 the other may come first.
    let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = peer.local_addr().expect("bound").port();
    for options in ["ipv6 = true", "ipv6 = false"] {
        let target = format!("tcp://localhost:{port}");
        let (_, address) = Dialler::new(&target, options).outcome().expect(options);
        assert_eq!(address.to_string(), format!("127.0.0.1:{port}"));
    }
}

#[test]
fn a_connection_comes_from_the_configured_address() {
    let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = peer.local_addr().expect("bound");
    for (source, ip) in [("127.0.0.9:0", "127.0.0.9"), ("lo:*", "127.0.0.1")] {
        let endpoint = format!("tcp://{source};{target}");
        let (_socket, _) = Dialler::new(&endpoint, "").outcome().expect(source);
        let (_, from) = peer.accept().expect("it connects");
        assert_eq!(from.ip().to_string(), ip);
    }
    // A port that was free a moment ago, on an address that no other socket uses.
    let free = TcpListener::bind("127.0.0.9:0").expect("a free port");
    let source = free.local_addr().expect("bound");
    drop(free);
    let endpoint = format!("tcp://{source};{target}");
    let (_socket, _) = Dialler::new(&endpoint, "")
        .outcome()
        .expect("the port is free");
    assert_eq!(peer.accept().expect("it connects").1, source);
}

#[test]
fn a_source_of_another_family_is_refused() {
    let outcome = Dialler::new("tcp://[::1]:0;127.0.0.1:7", "").outcome();
    let error = outcome.expect_err("families differ").to_string();
    assert!(error.contains("of another family"), "{error}");
}

/// A broker on a thread of its own.
struct Running {
    bound: Vec<Bound>,
    handle: Handle,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Running {
    fn start(text: &str) -> Self {
        let config = Config::from_toml(text, "test.toml").unwrap_or_else(|error| panic!("{error}"));
        let mut broker = Broker::bind(&config).expect("it binds");
        let (bound, handle) = (broker.bound().to_vec(), broker.handle());
        let thread = std::thread::spawn(move || broker.run());
        Self {
            bound,
            handle,
            thread: Some(thread),
        }
    }

    fn connect(&self, index: usize) -> TcpStream {
        let address = SocketAddr::from(([127, 0, 0, 1], port_of(&self.bound[index].endpoint)));
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }

    fn sockets(&self) -> Vec<SocketView> {
        let sockets = self.handle.call(|admin| admin.sockets());
        sockets.expect("it runs")
    }

    fn stop(&mut self) {
        self.handle.stop();
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic").expect("it runs");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn peers_from_other_networks_are_rejected_and_counted() {
    let mut running = Running::start(
        "[[proxy]]\nkind = 'queue'\n\
         frontend = { bind = 'tcp://127.0.0.1:0', tcp_accept_filter = '10.0.0.0/8' }\n\
         backend = { bind = 'tcp://127.0.0.1:0', tcp_accept_filter = ['10.0.0.0/8', '127.0.0.1'] }",
    );
    let mut kept_out = running.connect(0);
    // A close or a reset may end it, but no byte comes before.
    assert!(!matches!(kept_out.read(&mut [0; 64]), Ok(1..)));
    let mut taken = running.connect(1);
    taken.read_exact(&mut [0; 10]).expect("a greeting");
    let statistics = running.sockets();
    let counts: Vec<u64> = statistics
        .iter()
        .map(|socket| socket.counters.closed_for("kept-out"))
        .collect();
    assert_eq!(counts, [1, 0]);
    running.stop();
}

/// Shakes hands over a stream, as a peer of this type without subscriptions.
fn shake_hands(stream: &mut (impl io::Read + io::Write), socket_type: &str) {
    let mut greeting = [0; 64];
    greeting[..16].copy_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL");
    let name = socket_type.as_bytes();
    let len = |bytes: usize| u8::try_from(bytes).expect("short");
    let mut ready = vec![4, len(6 + 1 + 11 + 4 + name.len())];
    ready.extend_from_slice(b"\x05READY\x0bSocket-Type\0\0\0");
    ready.push(len(name.len()));
    ready.extend_from_slice(name);
    stream.write_all(&greeting).expect("it listens");
    stream.write_all(&ready).expect("it listens");
    let mut head = [0; 66];
    stream.read_exact(&mut head).expect("greeting and READY");
    let mut body = vec![0; head[65].into()];
    stream.read_exact(&mut body).expect("READY");
    assert!(body.starts_with(b"\x05READY"), "{body:?}");
}

/// Two proxies in a row, the first of which connects to an endpoint that the second binds later.
const IN_A_ROW: &str = "[[proxy]]\nkind = 'streamer'\nname = 'first'\n\
    frontend.bind = 'inproc://in'\nbackend.connect = 'inproc://between'\n\
    [[proxy]]\nkind = 'streamer'\nname = 'second'\n\
    frontend.bind = 'inproc://between'\nbackend.bind = 'inproc://out'\n";

#[test]
fn messages_pass_from_proxy_to_proxy_within_the_process() {
    let mut running = Running::start(IN_A_ROW);
    let bound: Vec<String> = running
        .bound
        .iter()
        .map(|bound| bound.endpoint.to_string())
        .collect();
    assert_eq!(bound, ["inproc://in", "inproc://between", "inproc://out"]);
    let connect = |name| {
        let stream = running.handle.connect_inproc(name).expect(name);
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    };
    let (mut source, mut sink) = (connect("in"), connect("out"));
    shake_hands(&mut source, "PUSH");
    shake_hands(&mut sink, "PULL");
    let message = b"\x01\x03one\x00\x03two";
    source.write_all(message).expect("it listens");
    let mut received = [0; 10];
    sink.read_exact(&mut received).expect("the message");
    assert_eq!(&received, message);
    running.stop();
    assert_eq!(sink.read(&mut received).expect("closed in order"), 0);
}

#[test]
fn a_stop_sends_messages_in_transit_between_proxies() {
    let text = format!("[options]\nsndhwm = 10\n{IN_A_ROW}");
    let mut running = Running::start(&text);
    let connect = |name| running.handle.connect_inproc(name).expect(name);
    let (mut source, mut sink) = (connect("in"), connect("out"));
    sink.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    shake_hands(&mut source, "PUSH");
    shake_hands(&mut sink, "PULL");
    let message = [&[0, 200][..], &[b'x'; 200]].concat();
    let sent = message.clone();
    // Until all queues are full and the broker stops reading; then until the connection is closed.
    let writer = std::thread::spawn(move || while source.write_all(&sent).is_ok() {});
    let start = Instant::now();
    let is_full = |statistics: &[SocketView]| {
        let in_front = statistics.iter().step_by(2);
        in_front.clone().count() == 2 && in_front.into_iter().all(|socket| socket.waiting == 1)
    };
    let accepted = loop {
        assert!(start.elapsed() < DEADLINE, "the queues do not fill up");
        let statistics = running.sockets();
        if is_full(&statistics) {
            break statistics[0].counters.messages_in;
        }
    };
    running.handle.stop();
    let mut received = Vec::new();
    sink.read_to_end(&mut received).expect("closed in order");
    assert_eq!(received.len() % message.len(), 0);
    let received = (received.len() / message.len()) as u64;
    assert!(received >= accepted, "{received} of {accepted}");
    running.stop();
    writer.join().expect("it does not panic");
}

#[test]
fn only_bound_names_can_be_connected_to() {
    let mut running = Running::start(IN_A_ROW);
    let error = running
        .handle
        .connect_inproc("unbound")
        .expect_err("unbound");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.to_string(), "no side binds inproc://unbound");
    running.stop();
    let error = running.handle.connect_inproc("in").expect_err("stopped");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_stopped_broker_does_not_answer() {
    let config = Config::from_toml(IN_A_ROW, "test.toml").expect("legal");
    let mut broker = Broker::bind(&config).expect("it binds");
    let handle = broker.handle();
    handle.stop();
    handle.stop();
    broker.run().expect("it runs");
    assert_eq!(handle.call(|admin| admin.sockets()), None);
    assert!(handle.connect_inproc("in").is_err());
}
