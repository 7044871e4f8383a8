//! The real broker: its driver on 127.0.0.1, against sessions over blocking sockets.

use broker::config::{
    Attach, Config, Endpoint, Fault, Kind, ProxyConfig, SocketName, SocketOption, Value, diff,
};
use broker::record::{Entry, Reader, RecordConfig};
use broker::view::{PageQuery, PeerFilter, SocketView, StopState};
use broker::{Admin, BindError, Bound, Broker, ChangeError, Handle};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use zmtp::encode::append_message;
use zmtp::{Event, Frames, Peer, Session, SessionConfig, SocketType, Version};

/// The longest wait for an expected event.
const PATIENCE: Duration = Duration::from_secs(20);

#[expect(
    clippy::disallowed_methods,
    reason = "a test on a real machine has a real clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// A broker on a thread of its own, stopped at the end of the test.
struct Running {
    addresses: Vec<String>,
    handle: Handle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Runs a broker; ports are 0 and read back.
    fn new(config: &str) -> Self {
        let config = Config::from_toml(config, "loopback.toml").expect("a good configuration");
        let mut broker = Broker::bind(&config).expect("ports are free");
        let address = |bound: &Bound| {
            let endpoint = bound.endpoint.to_string();
            endpoint.trim_start_matches("tcp://").to_owned()
        };
        Self {
            addresses: broker.bound().iter().map(address).collect(),
            handle: broker.handle(),
            thread: Some(thread::spawn(move || broker.run())),
        }
    }

    fn of_kind(kind: &str) -> Self {
        Self::new(&format!(
            "[[proxy]]\nkind = \"{kind}\"\n\
             frontend = {{ bind = \"tcp://127.0.0.1:0\" }}\n\
             backend = {{ bind = \"tcp://127.0.0.1:0\" }}\n"
        ))
    }

    fn front(&self, socket_type: SocketType) -> Client {
        Client::connect(&self.addresses[0], socket_type)
    }

    fn back(&self, socket_type: SocketType) -> Client {
        Client::connect(&self.addresses[1], socket_type)
    }

    fn sockets(&self) -> Vec<SocketView> {
        let sockets = self.handle.call(|admin| admin.sockets());
        sockets.expect("the broker runs")
    }

    /// Waits until the figures satisfy a condition.
    #[track_caller]
    fn wait_for(&self, what: &str, is_so: impl Fn(&[SocketView]) -> bool) {
        let deadline = now() + PATIENCE;
        loop {
            let sockets = self.sockets();
            if is_so(&sockets) {
                return;
            }
            assert!(now() < deadline, "{what}: {sockets:?}");
            thread::yield_now();
        }
    }

    fn stop(mut self) {
        self.handle.stop();
        let thread = self.thread.take().expect("it was not stopped before");
        thread.join().expect("no panic").expect("no error");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            self.handle.stop();
            // The test has failed already; otherwise it would have stopped the broker itself.
            drop(thread.join());
        }
    }
}

/// One blocking connection after its handshake.
struct Client {
    input: Vec<u8>,
    session: Session,
    stream: TcpStream,
}

impl Client {
    fn connect(address: &str, socket_type: SocketType) -> Self {
        Self::new(
            TcpStream::connect(address).expect("the broker listens"),
            socket_type,
        )
    }

    fn new(stream: TcpStream, socket_type: SocketType) -> Self {
        stream.set_nodelay(true).expect("it is TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        let mut out = Vec::new();
        let config = Arc::new(SessionConfig::new(socket_type));
        let session = Session::new(config, now(), &mut out);
        let mut client = Self {
            input: Vec::new(),
            session,
            stream,
        };
        client.stream.write_all(&out).expect("an open connection");
        while !client.session.is_ready() {
            client.step().expect("a handshake");
        }
        client
    }

    fn send(&mut self, frames: &[&[u8]]) {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        self.stream.write_all(&wire).expect("an open connection");
    }

    fn subscribe(&mut self, topic: &[u8]) {
        let mut wire = Vec::new();
        Peer::append_subscription(Version::V3_1, topic, true, &mut wire);
        self.stream.write_all(&wire).expect("an open connection");
    }

    /// The next message, as frames.
    fn recv(&mut self) -> Vec<Vec<u8>> {
        loop {
            if let Heard::Message(frames) = self.step().expect("an open connection") {
                return frames;
            }
        }
    }

    /// Waits for a subscription.
    fn recv_topic(&mut self) -> Vec<u8> {
        loop {
            if let Heard::Topic(topic) = self.step().expect("an open connection") {
                return topic;
            }
        }
    }

    /// Handles the next event, reading if necessary.
    fn step(&mut self) -> io::Result<Heard> {
        loop {
            let mut out = Vec::new();
            let step = self.session.handle_input(&mut self.input, &mut out);
            let step = step.expect("the broker obeys the protocol");
            self.stream.write_all(&out)?;
            match step.event {
                Event::Need(_) => {
                    self.input.truncate(self.input.len() - step.removed);
                    let mut buffer = vec![0; 64 << 10];
                    let size = self.stream.read(&mut buffer)?;
                    if size == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.input.extend_from_slice(&buffer[..size]);
                }
                Event::Message(span) => {
                    let end = step.consumed + span.size;
                    let frames = Frames::new(&self.input[step.consumed..end]);
                    let frames = frames.map(|frame| frame.body.to_vec()).collect();
                    self.session.accept();
                    self.input.drain(..end);
                    return Ok(Heard::Message(frames));
                }
                Event::Subscription { topic, .. } => {
                    let topic = self.input[topic].to_vec();
                    self.input.drain(..step.consumed);
                    return Ok(Heard::Topic(topic));
                }
                Event::Authenticate(_) | Event::Undecided => unreachable!("it is not asked for"),
                Event::LoopCheck(_) | Event::Progress | Event::Ready(_) | Event::Trial(_) => {
                    self.input.drain(..step.consumed);
                    return Ok(Heard::Other);
                }
            }
        }
    }
}

enum Heard {
    Message(Vec<Vec<u8>>),
    Other,
    Topic(Vec<u8>),
}

/// A program that makes its configuration itself is told before anything listens.
#[test]
fn a_broker_binds_no_configuration_that_the_check_refuses() {
    let mut config = Config::embedded_default();
    let wildcard = Endpoint::parse_bind("tcp://*:0").expect("legal");
    for proxy in &mut config.proxies {
        for name in SocketName::SIDES {
            proxy.socket_mut(name).bind = vec![wildcard.clone()];
        }
    }
    let Err(BindError::Config(ChangeError::Illegal(problem))) = Broker::bind(&config) else {
        panic!("every peer of the network may come in");
    };
    assert_eq!(problem.fault, Fault::Exposed("tcp://*:0".to_owned()));
    for proxy in &mut config.proxies {
        for name in SocketName::SIDES {
            proxy.socket_mut(name).options.insecure = true;
        }
    }
    drop(Broker::bind(&config).expect("it is permitted"));
}

#[test]
fn a_request_comes_back_answered() {
    let broker = Running::of_kind("queue");
    let (mut client, mut worker) = (broker.front(SocketType::Req), broker.back(SocketType::Rep));
    client.send(&[b"", b"question"]);
    let request = worker.recv();
    assert_eq!(request[1..], [&b""[..], b"question"]);
    worker.send(&[&request[0], b"", b"answer"]);
    assert_eq!(client.recv(), [&b""[..], b"answer"]);
    broker.wait_for("one message each way", |sockets| {
        let [front, back] = [&sockets[0], &sockets[1]];
        (front.peers, back.peers) == (1, 1)
            && (front.counters.messages_in, front.counters.messages_out) == (1, 1)
            && (back.counters.messages_in, back.counters.messages_out) == (1, 1)
    });
    drop((client, worker));
    broker.stop();
}

#[test]
fn a_publication_reaches_its_subscriber() {
    let broker = Running::of_kind("forwarder");
    let mut subscriber = broker.back(SocketType::Sub);
    subscriber.subscribe(b"a");
    let mut publisher = broker.front(SocketType::Pub);
    assert_eq!(publisher.recv_topic(), b"a");
    publisher.send(&[b"b", b"unwanted"]);
    publisher.send(&[b"ab", b"for one"]);
    assert_eq!(subscriber.recv(), [&b"ab"[..], b"for one"]);
    broker.wait_for("two arrived and one was sent", |sockets| {
        let (came, went) = (&sockets[0].counters, &sockets[1].counters);
        (came.messages_in, went.messages_out, sockets[1].topics) == (2, 1, 1)
    });
    drop((publisher, subscriber));
    broker.stop();
}

#[test]
fn a_large_item_passes_whole() {
    let broker = Running::of_kind("streamer");
    let (mut source, mut sink) = (
        broker.front(SocketType::Push),
        broker.back(SocketType::Pull),
    );
    let pattern = (0..=250_u8).cycle();
    let large: Vec<u8> = pattern.take(3 << 20).collect();
    let sender = thread::spawn({
        let large = large.clone();
        move || {
            source.send(&[b"small"]);
            source.send(&[b"", &large, b"end"]);
            source
        }
    });
    assert_eq!(sink.recv(), [b"small"]);
    let item = sink.recv();
    assert_eq!(item.len(), 3);
    assert!(item[1] == large, "some of {} bytes changed", large.len());
    drop((sender.join().expect("it was sent"), sink));
    broker.stop();
}

#[test]
fn a_stop_sends_queued_messages() {
    let broker = Running::of_kind("streamer");
    let (mut source, mut sink) = (
        broker.front(SocketType::Push),
        broker.back(SocketType::Pull),
    );
    // More than the kernel accepts while the sink does not read.
    let item = vec![7; 64 << 10];
    for _ in 0..200 {
        source.send(&[&item]);
    }
    broker.wait_for("all messages have arrived", |sockets| {
        sockets[0].counters.messages_in == 200
    });
    broker.handle.stop();
    for _ in 0..200 {
        assert_eq!(sink.recv(), [&item[..]]);
    }
    let end = sink.step().map(|_| "more messages arrived than were sent");
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(io::ErrorKind::UnexpectedEof)
    );
    // A broker waits for its peers to notice the close.
    drop((source, sink));
    broker.stop();
}

#[test]
fn a_side_that_connects_waits_for_its_listener() {
    // No other process gets this port while it is bound; it has no listener yet.
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a free port");
    let bound = socket.local_addr().expect("it is bound");
    let port = bound.as_socket().expect("it is TCP").port();
    let broker = Running::new(&format!(
        "[[proxy]]\nkind = \"streamer\"\n\
         frontend = {{ bind = \"tcp://127.0.0.1:0\" }}\n\
         backend = {{ connect = \"tcp://127.0.0.1:{port}\", reconnect_ivl = 10 }}\n"
    ));
    let mut source = broker.front(SocketType::Push);
    source.send(&[b"early"]);
    broker.wait_for("the item waits for a sink", |sockets| {
        sockets[0].waiting == 1
    });
    socket.listen(1).expect("a bound socket listens");
    let listener = TcpListener::from(socket);
    let (stream, _) = listener.accept().expect("the broker comes back");
    let mut sink = Client::new(stream, SocketType::Pull);
    assert_eq!(sink.recv(), [b"early"]);
    // And once more after the connection is lost.
    drop(sink);
    let (stream, _) = listener.accept().expect("the broker comes back");
    let mut sink = Client::new(stream, SocketType::Pull);
    source.send(&[b"late"]);
    assert_eq!(sink.recv(), [b"late"]);
    drop((source, sink));
    broker.stop();
}

/// Sends numbered items until the broker stops; returns the number of sent ones.
fn pump(mut source: Client) -> u64 {
    for number in 0_u64.. {
        let mut wire = Vec::new();
        append_message(&mut wire, &[&number.to_be_bytes()[..]]);
        if source.stream.write_all(&wire).is_err() {
            return number;
        }
    }
    unreachable!("the broker stops before")
}

/// Asks repeatedly until the broker stops: pages of peers, counters, and sometimes a pause and a
/// resume. All `peers` are listed, except one that is closed meanwhile. Returns the number of
/// answers.
fn question(handle: &Handle, peers: usize) -> u64 {
    let mut answers = 0;
    loop {
        let answer = handle.call(move |admin| {
            let proxies = admin.proxies();
            let id = proxies[0].id;
            let (filter, mut page) = (PeerFilter::default(), PageQuery::default());
            page.limit = 2;
            let mut listed = 0;
            while let Ok(found) = admin.peers(id, &filter, &page) {
                assert!(found.items.len() <= 2);
                listed += found.items.len();
                page.after = found.items.last().map(|peer| peer.id);
                if !found.has_more {
                    break;
                }
            }
            if answers % 16 == 0 {
                admin.pause(id).expect("the proxy exists");
                admin.resume(id).expect("the proxy exists");
            }
            (proxies[0].stop, listed)
        });
        match answer {
            None => return answers,
            Some((StopState::Running, listed)) => {
                assert!([peers, peers - 1].contains(&listed), "{listed} peers");
            }
            Some(_) => {}
        }
        answers += 1;
    }
}

#[test]
fn calls_of_several_threads_are_answered_while_messages_pass() {
    let broker = Running::of_kind("streamer");
    let mut sink = broker.back(SocketType::Pull);
    let pump = thread::spawn({
        let source = broker.front(SocketType::Push);
        move || pump(source)
    });
    let idle = [(); 3].map(|()| broker.front(SocketType::Push));
    broker.wait_for("all peers are connected", |sockets| {
        (sockets[0].peers, sockets[1].peers) == (4, 1)
    });
    let askers = [(); 4].map(|()| {
        let handle = broker.handle.clone();
        thread::spawn(move || question(&handle, 5))
    });
    for number in 0..20_000_u64 {
        assert_eq!(sink.recv(), [number.to_be_bytes()]);
    }
    // The one call that is a command: it closes exactly this peer, while the others go on.
    let address = idle[0].stream.local_addr().expect("it is TCP").to_string();
    let is_closed = broker.handle.call(move |admin| {
        let id = admin.proxies()[0].id;
        let filter = PeerFilter {
            address: Some(address),
            ..PeerFilter::default()
        };
        admin.kick(id, &filter).map(|kicked| kicked.len())
    });
    assert_eq!(is_closed, Some(Ok(1)));
    broker.wait_for("the peer is closed", |sockets| sockets[0].peers == 3);
    broker.handle.stop();
    broker.handle.stop();
    let answers = askers.map(|asker| asker.join().expect("all answers were true"));
    assert!(answers.iter().all(|count| *count > 16), "{answers:?}");
    drop((sink, idle));
    assert!(pump.join().expect("no panic") >= 20_000);
    broker.stop();
}

#[test]
fn a_call_that_panics_does_so_in_its_own_thread() {
    let broker = Running::of_kind("queue");
    let handle = broker.handle.clone();
    let asker = thread::spawn(move || {
        handle.call(|admin| assert_eq!(admin.sockets().len(), 3, "a mistake of the program"))
    });
    let panic = asker.join().expect_err("it panics here");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("a mistake of the program"), "{message}");
    assert_eq!(broker.sockets().len(), 2, "the broker works on");
    broker.stop();
}

#[test]
fn calls_end_with_the_broker() {
    let broker = Running::of_kind("queue");
    let handle = broker.handle.clone();
    assert_eq!(broker.sockets().len(), 2);
    broker.stop();
    assert_eq!(handle.call(|admin| admin.sockets()), None);
}

/// One of twenty changes that concern neither end of the path of the numbers.
fn unrelated(handle: &Handle, number: usize) -> Result<broker::Applied, ChangeError> {
    let endpoint = || "tcp://127.0.0.1:0".parse::<Endpoint>().expect("legal");
    let find = |admin: &mut Admin<'_>, name: &str| {
        let proxies = admin.proxies();
        let found = proxies.iter().find(|proxy| proxy.name == name);
        found.expect("the proxy is there").id
    };
    let front = SocketName::Frontend;
    let applied = handle.change(move |admin| match number % 5 {
        0 => {
            let kind = Kind::from_name("forwarder").expect("of the table");
            let mut config = ProxyConfig::new(kind, "guest");
            config.frontend.bind.push(endpoint());
            config.backend.bind.push(endpoint());
            config.backend.connect.push(
                "tcp://127.0.0.1:9"
                    .parse::<Endpoint>()
                    .expect("legal")
                    .into(),
            );
            admin.add_proxy(config)
        }
        1 => {
            let other = find(admin, "other");
            admin.attach(other, front, Attach::Bind, endpoint())
        }
        2 => {
            let (other, option) = (find(admin, "other"), SocketOption::find("sndhwm"));
            let value = Value::Number(i64::try_from(number).expect("small"));
            admin.set_option(other, front, option.expect("of the table"), value)
        }
        3 => {
            let bound = admin.bound().into_iter();
            let mut bound = bound.filter(|it| (&it.proxy[..], it.side) == ("other", front));
            let oldest = bound.next().expect("it listens").endpoint;
            let other = find(admin, "other");
            admin.detach(other, front, Attach::Bind, &oldest)
        }
        _ => {
            let guest = find(admin, "guest");
            admin.remove_proxy(guest)
        }
    });
    applied.expect("the broker runs")
}

#[test]
fn twenty_changes_concern_no_other_connection() {
    let broker = Running::new(
        "[[proxy]]\nname = \"numbers\"\nkind = \"streamer\"\n\
         frontend = { bind = \"tcp://127.0.0.1:0\" }\nbackend = { bind = \"tcp://127.0.0.1:0\" }\n\
         [[proxy]]\nname = \"other\"\nkind = \"queue\"\n\
         frontend = { bind = \"tcp://127.0.0.1:0\" }\nbackend = { bind = \"tcp://127.0.0.1:0\" }\n",
    );
    let mut sink = broker.back(SocketType::Pull);
    let pump = thread::spawn({
        let source = broker.front(SocketType::Push);
        move || pump(source)
    });
    let mut number = 0_u64;
    let mut receive = |count: u64| {
        for _ in 0..count {
            assert_eq!(sink.recv(), [number.to_be_bytes()]);
            number += 1;
        }
    };
    for change in 0..20 {
        receive(500);
        let applied = unrelated(&broker.handle, change).expect("it can be made");
        for Bound { endpoint, .. } in &applied.bound {
            let address = endpoint.to_string();
            let address = address.trim_start_matches("tcp://");
            drop(TcpStream::connect(address).expect("the real port is listened on"));
        }
        assert_eq!(applied.needs_restart, [""; 0]);
    }
    receive(5000);
    let sockets = broker.sockets();
    assert_eq!(sockets.len(), 4, "every guest has left");
    assert_eq!(sockets[0].counters.peers_attached, 1);
    assert_eq!(sockets[1].counters.peers_attached, 1);
    assert_eq!(sockets[0].counters.closed.len(), 0);
    drop(sink);
    broker.handle.stop();
    broker.handle.stop();
    assert!(pump.join().expect("no panic") >= 15_000);
    broker.stop();
}

#[test]
fn an_endpoint_in_use_is_an_error_and_changes_nothing() {
    let broker = Running::of_kind("queue");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let attach = move |admin: &mut Admin<'_>| {
        let id = admin.proxies()[0].id;
        let text = format!("tcp://127.0.0.1:{port}");
        let endpoint = text.parse().expect("legal");
        admin.attach(id, SocketName::Backend, Attach::Bind, endpoint)
    };
    let before = broker
        .handle
        .call(|admin| (admin.config().clone(), admin.bound()));
    let error = broker
        .handle
        .change(attach)
        .expect("it runs")
        .expect_err("it is in use");
    let expected = format!("queue backend: cannot bind tcp://127.0.0.1:{port}: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    let after = broker
        .handle
        .call(|admin| (admin.config().clone(), admin.bound()));
    assert_eq!(before, after);
    drop(taken);
    // What was closed can be bound again in the same turn.
    for _ in 0..3 {
        let applied = broker.handle.change(attach).expect("it runs");
        assert_eq!(applied.expect("it is free").bound.len(), 1);
        let detach = move |admin: &mut Admin<'_>| {
            let id = admin.proxies()[0].id;
            let text = format!("tcp://127.0.0.1:{port}");
            let endpoint = text.parse().expect("legal");
            admin.detach(id, SocketName::Backend, Attach::Bind, &endpoint)
        };
        let applied = broker.handle.change(detach).expect("it runs");
        assert!(applied.is_ok());
    }
    broker.stop();
}

#[test]
fn an_endpoint_is_replaced_by_one_that_overlaps_with_it() {
    let broker = Running::new(
        "insecure = true\n[[proxy]]\nkind = \"queue\"\n\
         frontend = { bind = \"tcp://127.0.0.1:0\" }\n\
         backend = { bind = \"tcp://127.0.0.1:0\" }\n",
    );
    let port = broker.addresses[0]
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let client = broker.front(SocketType::Req);
    let replace = |to: &str| {
        let to: Endpoint = to.parse().expect("legal");
        let begin = move |admin: &mut Admin<'_>| {
            let mut next = admin.config().clone();
            next.proxies[0].frontend.bind = vec![to];
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        };
        broker.handle.change(begin).expect("it runs")
    };
    for host in ["*", "127.0.0.1", "*"] {
        let to = format!("tcp://{host}:{port}");
        let applied = replace(&to).expect("it can be bound");
        assert_eq!(applied.bound[0].endpoint.to_string(), to);
        let peer = TcpStream::connect(format!("127.0.0.1:{port}"));
        drop(peer.expect("it is listened on"));
    }
    drop(client);
    broker.stop();
}

#[test]
fn recordings_begin_and_end_while_messages_pass() {
    let broker = Running::of_kind("streamer");
    let folder = std::env::temp_dir().join(format!("zmqd-record-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let paths = ["one", "other"].map(|name| folder.join(name));
    let (mut source, mut sink) = (
        broker.front(SocketType::Push),
        broker.back(SocketType::Pull),
    );
    let record = |path: Option<&std::path::PathBuf>| {
        let record = path.map(RecordConfig::new);
        let begin = move |admin: &mut Admin<'_>| {
            let mut next = admin.config().clone();
            next.proxies[0].record = record;
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        };
        broker
            .handle
            .change(begin)
            .expect("it runs")
            .expect("it can be recorded to");
    };
    let mut pass = |body: &str| {
        source.send(&[body.as_bytes()]);
        assert_eq!(sink.recv(), [body.as_bytes()]);
    };
    pass("unseen");
    record(Some(&paths[0]));
    pass("first");
    record(Some(&paths[1]));
    pass("second");
    record(None);
    pass("unseen");
    broker.stop();
    for (path, expected) in paths.iter().zip(["first", "second"]) {
        let mut reader = Reader::new(File::open(path).expect("it was recorded to"));
        let mut bodies = Vec::new();
        while let Some(entry) = reader.read().expect("it is whole") {
            if let Entry::Message(message) = entry {
                let frames = Frames::new(message.frames);
                bodies.extend(frames.map(|frame| frame.body.to_vec()));
            }
        }
        assert_eq!(bodies, [expected.as_bytes()]);
    }
    std::fs::remove_dir_all(&folder).expect("it is there");
}
