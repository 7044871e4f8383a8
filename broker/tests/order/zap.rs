//! ZAP handlers that decide, and fail to, in every order: a peer comes in only by the answer to its
//! own request.

use crate::play::{Play, hello, proxy};
use broker::config::{Change, Changes, Config, Connect, Endpoint, ProxyConfig, SocketName, diff};
use broker::limits::REFUSAL_DELAY_MIN;
use broker::reason::CloseReason;
use broker::view::{PageQuery, PeerFilter, PeerView};
use broker::{Action, ConnId, LinkId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use zmtp::encode::append_message;
use zmtp::{Frames, SocketType};

const FRONT: SocketName = SocketName::Frontend;

/// The time within which a handler must answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A queue whose frontend asks a handler.
fn guarded() -> ProxyConfig {
    let mut config = proxy("queue");
    config.frontend.options.zap_domain = "lobby".to_owned();
    config.frontend.options.zap_timeout = TIMEOUT;
    config.backend.bind = vec!["tcp://127.0.0.1:2".parse().expect("an endpoint")];
    let endpoint: Endpoint = "ipc:///run/zap".parse().expect("an endpoint");
    config.zap.connect = vec![Connect::from(endpoint)];
    config
}

/// A request that a handler has received.
#[derive(Clone, Debug)]
struct Request {
    frames: Vec<Vec<u8>>,
    peer: IpAddr,
}

impl Request {
    fn number(&self) -> &[u8] {
        &self.frames[2]
    }
}

/// A broker, its peers, and at most one handler that is connected.
struct Lobby {
    play: Play,
    /// Peers that are connected, by their addresses.
    open: BTreeMap<IpAddr, ConnId>,
    /// Peers that have gone, and the reasons.
    gone: BTreeMap<IpAddr, Option<CloseReason>>,
    handler: Option<ConnId>,
    /// Links that the broker wants to connect.
    wanted: Vec<LinkId>,
    count: u16,
}

impl Lobby {
    fn new() -> Self {
        let mut lobby = Self {
            play: Play::of(guarded()),
            open: BTreeMap::new(),
            gone: BTreeMap::new(),
            handler: None,
            wanted: Vec::new(),
            count: 0,
        };
        lobby.settle();
        lobby
    }

    /// Does what the broker asks of its driver, until it asks for nothing more.
    fn settle(&mut self) {
        loop {
            self.play.turns(1);
            let Some(action) = self.play.core.poll_action() else {
                break;
            };
            match action {
                Action::Close { id, .. } => {
                    self.play.closed.push(id);
                    self.play.core.handle_closed(self.play.now, id);
                    if self.handler == Some(id) {
                        self.handler = None;
                    }
                    if let Some((ip, _)) = self.open.iter().find(|(_, own)| **own == id) {
                        let ip = *ip;
                        self.open.remove(&ip);
                        let why = self.last_reason(ip);
                        self.gone.insert(ip, why);
                    }
                }
                Action::Connect(link) => self.wanted.push(link),
                Action::Resume(id) if self.play.core.is_cut(id) => {
                    self.play.feed(id, b"");
                }
                _ => {}
            }
        }
        let core = &self.play.core;
        assert_eq!(core.memory(), core.walk_memory(), "the account of memory");
    }

    /// Why a peer was closed; of many at once, the broker remembers the last.
    fn last_reason(&mut self, ip: IpAddr) -> Option<CloseReason> {
        let proxy = self.play.core.proxies().next().expect("a proxy");
        let mut admin = self.play.core.admin(self.play.now);
        let page = admin.closed_peers(proxy, &PeerFilter::default(), &PageQuery::default());
        let page = page.expect("it is there").items;
        let is_it = |text: String| text.starts_with(&format!("{ip}:"));
        let found = page.iter().find(|peer| is_it(peer.address.to_string()));
        found.map(|peer| peer.reason)
    }

    /// A handler accepts the connection of the broker.
    fn connect_handler(&mut self, socket_type: SocketType) -> bool {
        let Some(link) = self.wanted.pop() else {
            return false;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let core = &mut self.play.core;
        let Some(id) = core.handle_connected(self.play.now, link, address) else {
            return false;
        };
        self.play.feed(id, &hello(socket_type));
        self.play.write_frames(id);
        self.handler = Some(id);
        self.settle();
        true
    }

    /// The handler vanishes.
    fn lose_handler(&mut self) {
        if let Some(handler) = self.handler {
            self.play.core.handle_read_closed(handler, None);
            self.settle();
        }
        assert_eq!(self.handler, None);
    }

    /// A peer connects and says all that it has to say in the handshake.
    fn join(&mut self) -> IpAddr {
        self.count += 1;
        let [high, low] = self.count.to_be_bytes();
        let ip = IpAddr::from(Ipv4Addr::new(127, 1, high, low));
        self.play.peer = (ip, 7).into();
        let id = self.play.join_as(FRONT, SocketType::Dealer);
        self.open.insert(ip, id);
        self.settle();
        ip
    }

    /// The requests that the handler receives now.
    fn requests(&mut self) -> Vec<Request> {
        let Some(handler) = self.handler else {
            return Vec::new();
        };
        let wire = self.play.write_up_to(handler, usize::MAX);
        let mut messages: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
        for frame in Frames::new(&wire).filter(|frame| !frame.command) {
            messages.last_mut().expect("one").push(frame.body.to_vec());
            if !frame.more {
                messages.push(Vec::new());
            }
        }
        messages.retain(|message| !message.is_empty());
        let request = |frames: Vec<Vec<u8>>| {
            assert_eq!(frames.len(), 7, "{frames:?}");
            assert_eq!(frames[0], b"");
            assert_eq!(frames[1], b"1.0");
            assert_eq!(frames[3], b"lobby");
            assert_eq!(frames[6], b"NULL");
            let peer = str::from_utf8(&frames[4]).expect("an address");
            let peer = peer.parse().expect("an address");
            Request { frames, peer }
        };
        messages.into_iter().map(request).collect()
    }

    fn answer(&mut self, frames: &[&[u8]]) {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        if let Some(handler) = self.handler {
            self.play.feed(handler, &wire);
        }
        self.settle();
    }

    fn grant(&mut self, request: &Request, user: &str) {
        let number = request.number().to_vec();
        self.answer(&[b"", b"1.0", &number, b"200", b"OK", user.as_bytes(), b""]);
    }

    fn refuse(&mut self, request: &Request, status: &str) {
        let number = request.number().to_vec();
        self.answer(&[b"", b"1.0", &number, status.as_bytes(), b"no", b"", b""]);
    }

    /// The peers that have come in.
    fn ready(&mut self) -> Vec<PeerView> {
        let proxy = self.play.core.proxies().next().expect("a proxy");
        let mut admin = self.play.core.admin(self.play.now);
        let filter = PeerFilter::of_socket(FRONT);
        let page = admin.peers(proxy, &filter, &PageQuery::default());
        let peers = page.expect("it is there").items;
        peers.into_iter().filter(|peer| peer.is_ready).collect()
    }

    /// Time passes, with all deadlines in it.
    fn pass(&mut self, span: Duration) {
        self.play.pass(span);
        self.settle();
    }

    /// Why a peer was closed, if it was refused before; its close is late.
    fn end_of(&mut self, ip: IpAddr) -> &'static str {
        self.pass(REFUSAL_DELAY_MIN);
        self.why(ip)
    }

    fn why(&self, ip: IpAddr) -> &'static str {
        let gone = self.gone.get(&ip);
        let label = |why: &Option<CloseReason>| why.map_or("forgotten", |why| why.label());
        gone.map_or("there", label)
    }

    fn reload(&mut self, change: impl FnOnce(&mut Config)) {
        let mut admin = self.play.core.admin(self.play.now);
        let mut next = admin.config().clone();
        change(&mut next);
        let changes = diff(admin.config(), &next);
        let _ = admin.apply(&changes).expect("a legal change");
        crate::play::open(&mut self.play.core);
        self.settle();
    }
}

#[test]
fn a_peer_comes_in_under_the_name_that_the_handler_gives_it() {
    for socket_type in [SocketType::Rep, SocketType::Router] {
        let mut lobby = Lobby::new();
        assert!(lobby.connect_handler(socket_type));
        let peer = lobby.join();
        let id = lobby.open[&peer];
        assert_eq!(lobby.ready().len(), 0, "READY waits for the answer");
        let sent = lobby.play.write_up_to(id, usize::MAX);
        assert!(!sent.windows(5).any(|it| it == b"READY"), "{sent:?}");
        let requests = lobby.requests();
        lobby.grant(&requests[0], "anna");
        let ready = lobby.ready();
        assert_eq!(ready[0].user.as_deref(), Some("anna"));
        // A second answer has no effect, whatever it says.
        lobby.refuse(&requests[0], "400");
        assert_eq!(lobby.ready().len(), 1);
    }
}

#[test]
fn every_failure_of_a_handler_refuses_the_peer() {
    let mut lobby = Lobby::new();
    let early = lobby.join();
    assert_eq!(lobby.end_of(early), "zap-not-connected");
    assert!(lobby.connect_handler(SocketType::Rep));
    for (status, label) in [
        ("300", "zap-temporary"),
        ("400", "zap-denied"),
        ("500", "zap-handler-error"),
        ("600", "zap-malformed"),
    ] {
        let peer = lobby.join();
        let request = lobby.requests().remove(0);
        lobby.refuse(&request, status);
        assert_eq!(lobby.end_of(peer), label);
    }
    let late = lobby.join();
    let request = lobby.requests().remove(0);
    lobby.pass(TIMEOUT - Duration::from_millis(1));
    assert_eq!(lobby.why(late), "there");
    lobby.pass(Duration::from_millis(1));
    lobby.grant(&request, "anna");
    assert_eq!(lobby.ready().len(), 0, "an answer that is late");
    assert_eq!(lobby.end_of(late), "zap-timed-out");
    let waiting = lobby.join();
    lobby.lose_handler();
    assert_eq!(lobby.end_of(waiting), "zap-lost");
}

/// A peer with a request of its own does not come in by the number of another's.
#[test]
fn an_answer_to_another_request_lets_only_that_peer_in() {
    let mut lobby = Lobby::new();
    assert!(lobby.connect_handler(SocketType::Router));
    let (first, second) = (lobby.join(), lobby.join());
    let requests = lobby.requests();
    assert_ne!(requests[0].number(), requests[1].number());
    lobby.grant(&requests[1], "");
    let ready = lobby.ready();
    assert_eq!(ready.len(), 1);
    assert_eq!(ready[0].id, lobby.open[&second]);
    lobby.pass(TIMEOUT);
    assert_eq!(lobby.end_of(first), "zap-timed-out");
}

/// No peer can make the broker keep more than a request and the beginning of its input.
#[test]
fn peers_that_wait_are_bounded_and_counted() {
    let mut lobby = Lobby::new();
    assert!(lobby.connect_handler(SocketType::Rep));
    let before = lobby.play.core.memory();
    let waiting: Vec<IpAddr> = (0..1005).map(|_| lobby.join()).collect();
    let after = lobby.play.core.memory();
    assert!(after.connections >= before.connections + 1000 * (1024 + 512));
    // The handler reads nothing: its queue has room for sndhwm requests.
    lobby.pass(REFUSAL_DELAY_MIN);
    let busy = waiting.iter().filter(|ip| lobby.why(**ip) == "zap-busy");
    assert_eq!(busy.count(), 5);
    let id = lobby.open[&waiting[0]];
    lobby.play.feed(id, &[0; 8192]);
    assert!(!lobby.play.core.wants_input(id), "it sends no more");
    lobby.pass(TIMEOUT + REFUSAL_DELAY_MIN);
    let memory = lobby.play.core.memory();
    assert_eq!(memory.connections, before.connections);
    assert!(lobby.open.is_empty());
}

/// A handler may be wrong, but not large.
#[test]
fn a_handler_that_sends_too_much_is_closed() {
    let mut lobby = Lobby::new();
    assert!(lobby.connect_handler(SocketType::Rep));
    let peer = lobby.join();
    let request = lobby.requests().remove(0);
    let (number, metadata) = (request.number().to_vec(), vec![0; 70_000]);
    lobby.answer(&[b"", b"1.0", &number, b"200", b"", b"anna", &metadata]);
    assert_eq!(lobby.handler, None);
    assert_eq!(lobby.end_of(peer), "zap-lost");
}

/// Peers that came in before a handler was asked in this domain come again.
#[test]
fn a_new_domain_asks_about_every_peer_again() {
    let mut lobby = Lobby::new();
    assert!(lobby.connect_handler(SocketType::Rep));
    let (first, second) = (lobby.join(), lobby.join());
    let request = lobby.requests().remove(0);
    lobby.grant(&request, "anna");
    lobby.reload(|config| config.proxies[0].frontend.options.zap_domain = "hall".to_owned());
    assert_eq!(lobby.why(first), "not-admitted");
    assert_eq!(lobby.why(second), "not-admitted");
    let third = lobby.join();
    lobby.reload(|config| {
        config.proxies[0].frontend.options.zap_domain.clear();
        config.proxies[0].zap.connect.clear();
    });
    assert_eq!(lobby.why(third), "not-admitted");
    assert_eq!(lobby.handler, None, "nothing is asked any more");
    let fourth = lobby.join();
    assert_eq!(lobby.ready()[0].id, lobby.open[&fourth]);
    let sockets = lobby.play.core.walk_tables()[1];
    assert_eq!(sockets, ("sockets", 2));
}

/// A configuration that would let peers in without an answer, or ask nothing, is refused.
#[test]
fn a_domain_needs_a_handler_and_a_handler_a_domain() {
    let mut lobby = Lobby::new();
    let mut admin = lobby.play.core.admin(lobby.play.now);
    for change in [
        (|config: &mut Config| config.proxies[0].zap.connect.clear()) as fn(&mut Config),
        |config| config.proxies[0].frontend.options.zap_domain.clear(),
        |config| {
            let endpoint = "tcp://10.0.0.1:7".parse::<Endpoint>().expect("an endpoint");
            config.proxies[0].zap.connect = vec![endpoint.into()];
        },
        |config| {
            let endpoint = "tcp://127.0.0.1:7".parse().expect("an endpoint");
            config.proxies[0].zap.bind = vec![endpoint];
        },
        |config| config.proxies[0].zap.options.zap_domain = "x".to_owned(),
        |config| config.proxies[0].frontend.options.accept_zmtp2 = true,
    ] {
        let mut next = admin.config().clone();
        change(&mut next);
        let changes: Vec<Change> = diff(admin.config(), &next).list;
        let refusal = admin.apply(&Changes { list: changes });
        let refusal = refusal.expect_err("refused").to_string();
        assert!(
            refusal.contains("zap") || refusal.contains("ZAP"),
            "{refusal}"
        );
    }
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// Hundreds of handlers that answer rightly, wrongly, late, twice or not at all, and vanish, in
/// every order: the peers that are in are those that were granted in time, and nothing is left of
/// the others.
#[test]
fn only_granted_peers_are_ever_ready() {
    let mut granted_ever = 0;
    for seed in 0..400 {
        let (mut lobby, mut dice) = (Lobby::new(), Dice(seed));
        let mut pending: Vec<Request> = Vec::new();
        let mut granted: BTreeSet<IpAddr> = BTreeSet::new();
        for _ in 0..60 {
            match dice.below(12) {
                0..4 => drop(lobby.join()),
                4 => drop(lobby.connect_handler(SocketType::Rep)),
                5 if dice.below(3) == 0 => {
                    lobby.lose_handler();
                }
                6 => {
                    let span = Duration::from_millis(dice.below(1200) as u64);
                    lobby.pass(span);
                }
                7 if !lobby.open.is_empty() => {
                    let index = dice.below(lobby.open.len());
                    let id = *lobby.open.values().nth(index).expect("below");
                    lobby.play.core.handle_read_closed(id, None);
                }
                _ if !pending.is_empty() => {
                    let index = dice.below(pending.len());
                    let request = pending[index].clone();
                    let is_kept = dice.below(4) == 0;
                    if !is_kept {
                        pending.swap_remove(index);
                    }
                    let waiting = lobby.open.get(&request.peer);
                    let is_known = waiting.is_some_and(|id| lobby.play.core.wants_input(*id));
                    match dice.below(8) {
                        0 => lobby.refuse(&request, "300"),
                        1 => lobby.refuse(&request, "400"),
                        2 => lobby.refuse(&request, "2OO"),
                        3 => {
                            let number = format!("{}1", lobby.count);
                            lobby.answer(&[b"", b"1.0", number.as_bytes(), b"200", b"", b"", b""]);
                        }
                        4 => lobby.answer(&[b"", request.number(), b"200"]),
                        _ => {
                            lobby.grant(&request, "anna");
                            if is_known && lobby.open.contains_key(&request.peer) {
                                granted.insert(request.peer);
                            }
                        }
                    }
                }
                _ => {}
            }
            lobby.settle();
            if lobby.handler.is_none() {
                pending.clear();
            }
            pending.extend(lobby.requests());
            let ready: BTreeSet<ConnId> = lobby.ready().iter().map(|peer| peer.id).collect();
            let expected = lobby.open.iter().filter(|(ip, _)| granted.contains(ip));
            let expected: BTreeSet<ConnId> = expected.map(|(_, id)| *id).collect();
            assert_eq!(ready, expected, "seed {seed}: the peers that are in");
        }
        granted_ever += granted.len();
        lobby.pass(TIMEOUT + REFUSAL_DELAY_MIN);
        let open: BTreeSet<ConnId> = lobby.open.values().copied().collect();
        let ready: BTreeSet<ConnId> = lobby.ready().iter().map(|peer| peer.id).collect();
        assert_eq!(
            open, ready,
            "seed {seed}: all others are refused in the end"
        );
    }
    assert!(granted_ever > 500, "{granted_ever}");
}
