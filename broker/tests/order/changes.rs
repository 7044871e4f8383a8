//! Changes of the configuration while messages pass.

use crate::play::{Play, bound, hello, listener_at, open, proxy, socket_at};
use broker::config::{
    Applies, Attach, Balance, Change, Changes, Config, Connect, Endpoint, Fault, Overflow,
    ProxyConfig, SocketName, SocketOption, SocketOptions, SocketPath, Value, diff,
};
use broker::{Action, Admin, Applied, ChangeError, ChangeId, ConnId, ProxyId};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use zmtp::SocketType;
use zmtp::encode::append_frame;

const FRONT: SocketName = SocketName::Frontend;
const BACK: SocketName = SocketName::Backend;

pub(crate) fn endpoint(port: u16) -> Endpoint {
    let text = format!("tcp://127.0.0.1:{port}");
    text.parse().expect("an endpoint")
}

/// A proxy with a name and ports of its own.
pub(crate) fn named(name: &str, kind: &str, port: u16) -> ProxyConfig {
    let mut config = proxy(kind);
    config.name = name.to_owned();
    config.frontend.bind = vec![endpoint(port)];
    config.backend.bind = vec![endpoint(port + 1)];
    config
}

/// A broker with a streamer called "main".
pub(crate) fn main_only() -> Play {
    Play::of(named("main", "streamer", 1))
}

impl Play {
    /// Makes a change; the driver opens whatever it is told to.
    pub(crate) fn change(
        &mut self,
        begin: impl FnOnce(&mut Admin<'_>) -> Result<ChangeId, ChangeError>,
    ) -> Result<Applied, ChangeError> {
        self.core.begin_turn(self.now);
        let id = begin(&mut self.core.admin(self.now))?;
        open(&mut self.core);
        let outcome = self.core.take_outcome(id).expect("all is open");
        while self.core.run_deferred(self.now) {}
        outcome
    }

    pub(crate) fn id(&mut self, name: &str) -> ProxyId {
        let proxies = self.core.admin(self.now).proxies();
        let found = proxies.iter().find(|proxy| proxy.name == name);
        found.expect("the proxy is there").id
    }

    /// Sets an option of a socket of the proxy "main".
    fn set(&mut self, socket: SocketName, name: &str, value: Value) -> Applied {
        let (id, option) = (self.id("main"), SocketOption::find(name).expect(name));
        let applied = self.change(|admin| admin.set_option(id, socket, option, value));
        applied.expect("the value is legal")
    }

    /// Everything that the core asks the driver for; connections are closed at once.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        loop {
            while let Some(action) = self.core.poll_action() {
                if let Action::Close { id, .. } = action {
                    self.core.handle_closed(self.now, id);
                }
                actions.push(action);
            }
            if !self.core.run_deferred(self.now) {
                return actions;
            }
        }
    }

    /// A peer connects to the socket of a proxy with this name.
    fn join_named_proxy(&mut self, name: &str, side: SocketName, peer: SocketType) -> ConnId {
        let proxy = self.id(name);
        let socket = self.core.socket(proxy, side).expect("it has both sides");
        let listener = self.core.listeners(socket).next().expect("it listens");
        let id = self.core.handle_accepted(self.now, listener, self.peer);
        let id = id.expect("every address may connect");
        self.feed(id, &hello(peer));
        self.write(id);
        id
    }

    /// The broker connects over the link that it asks for.
    fn connected(&mut self, peer: SocketType) -> ConnId {
        let link = self.actions().into_iter().find_map(|action| match action {
            Action::Connect(link) => Some(link),
            _ => None,
        });
        let link = link.expect("the broker connects");
        let address = SocketAddr::from(([10, 0, 0, 9], 5560));
        let id = self.core.handle_connected(self.now, link, address);
        let id = id.expect("the link is wanted");
        self.feed(id, &hello(peer));
        self.write(id);
        id
    }

    /// The last that a new peer is sent, behind its handshake, are these messages.
    #[track_caller]
    fn wrote_last(&mut self, id: ConnId, bodies: &[&str]) {
        let mut wire = Vec::new();
        for body in bodies {
            append_frame(&mut wire, body.as_bytes(), false);
        }
        let sent = self.write_up_to(id, usize::MAX);
        assert!(sent.ends_with(&wire), "{}", sent.escape_ascii());
    }

    #[track_caller]
    pub(crate) fn has_no_trace(&self) {
        assert_eq!(self.core.walk_stale_ids(), 0, "ids of what is gone");
        assert_eq!(self.core.memory(), self.core.walk_memory());
    }
}

#[test]
fn a_proxy_comes_and_goes_and_leaves_nothing_behind() {
    let mut play = main_only();
    let (source, sink) = (play.join(FRONT), play.join(BACK));
    let before = (play.core.walk_tables(), play.memory());
    for round in 0..3 {
        let name = format!("round-{round}");
        let config = named(&name, "forwarder", 11);
        let applied = play
            .change(|admin| admin.add_proxy(config))
            .expect("it is legal");
        assert_eq!(applied.bound.len(), 2);
        let publisher = play.join_named_proxy(&name, FRONT, SocketType::Pub);
        let subscriber = play.join_named_proxy(&name, BACK, SocketType::Sub);
        play.feed(subscriber, b"\x04\x0b\x09SUBSCRIBEa");
        play.write(publisher);
        play.send(publisher, &["a1", "b1", "a2"]);
        // What is queued is sent before the connections end.
        let id = play.id(&name);
        play.change(|admin| admin.remove_proxy(id))
            .expect("it is there");
        let closes = |action: &Action| matches!(action, Action::Close { .. });
        assert!(!play.actions().iter().any(closes), "the queue is not empty");
        assert_eq!(play.write(subscriber), ["a1", "a2"]);
        play.core.run_deferred(play.now);
        assert_eq!(play.actions().iter().filter(|it| closes(it)).count(), 2);
        play.turns(3);
        let after = (play.core.walk_tables(), play.memory());
        assert_eq!(after, before, "round {round}");
        play.has_no_trace();
        assert!(
            play.core.admin(play.now).proxy(id).is_err(),
            "its id is stale"
        );
    }
    play.send(source, &["1"]);
    assert_eq!(play.write(sink), ["1"]);
}

#[test]
fn a_proxy_that_is_removed_ends_at_the_drain_timeout() {
    let mut play = main_only();
    play.change(|admin| admin.add_proxy(named("other", "streamer", 11)))
        .expect("legal");
    let before = play.memory();
    let source = play.join_named_proxy("other", FRONT, SocketType::Push);
    let sink = play.join_named_proxy("other", BACK, SocketType::Pull);
    play.send(source, &["1", "2", "3"]);
    let id = play.id("other");
    play.change(|admin| admin.remove_proxy(id))
        .expect("it is there");
    play.pass(Config::DRAIN_TIMEOUT + Duration::from_secs(1));
    assert!(!play.actions().is_empty());
    play.turns(3);
    assert!(play.core.egress(sink).is_none());
    assert_eq!(play.core.walk_tables()[0], ("proxies", 1));
    assert_eq!(play.memory(), before);
    play.has_no_trace();
    assert!(!play.core.is_stopped());
    let lost = play.core.admin(play.now).broker().dropped_messages;
    assert_eq!(lost, 3, "what it dropped stays counted");
}

#[test]
fn an_endpoint_that_cannot_be_bound_changes_nothing() {
    let mut play = main_only();
    let before = (
        play.core.walk_tables(),
        play.core.admin(play.now).config().clone(),
    );
    let mut new = before.1.clone();
    new.drain_timeout = Duration::ZERO;
    new.proxies[0].frontend.options.sndhwm = 7;
    new.proxies[0].frontend.bind = vec![endpoint(21), endpoint(22)];
    new.proxies.push(named("other", "queue", 23));
    let changes = diff(&before.1, &new);
    let id = play
        .core
        .admin(play.now)
        .apply(&changes)
        .expect("it is legal");
    let mut closed = 0;
    for answer in 0.. {
        match play.core.poll_action() {
            Some(Action::Listen(listener)) if answer == 2 => {
                let error = io::ErrorKind::AddrInUse.into();
                play.core.handle_listen_failed(listener, error);
            }
            Some(Action::Listen(listener)) => {
                assert!(answer < 2, "nothing is opened after a failure");
                let (endpoint, _) = play.core.listener(listener).expect("it is asked for");
                let endpoint = endpoint.clone();
                play.core.handle_listening(listener, endpoint);
                let peer = play.peer;
                let accepted = play.core.handle_accepted(play.now, listener, peer);
                assert_eq!(accepted, None, "the change may fail");
            }
            Some(Action::StopListening(_)) => closed += 1,
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    assert_eq!(closed, 2, "what was opened is closed again");
    let error = play.core.take_outcome(id).expect("it has failed");
    let error = error.expect_err("it has failed").to_string();
    assert!(
        error.starts_with("other frontend: cannot bind tcp://127.0.0.1:23: "),
        "{error}"
    );
    let after = (
        play.core.walk_tables(),
        play.core.admin(play.now).config().clone(),
    );
    assert_eq!(before, after);
    play.has_no_trace();
    // The next attempt is as the first.
    play.change(|admin| admin.apply(&changes))
        .expect("all is bound");
    assert_eq!(play.core.admin(play.now).config(), &new);
    assert_eq!(play.core.bound().len(), 5);
}

#[test]
fn a_proxy_of_another_kind_takes_the_listeners_over() {
    let mut play = main_only();
    let former = play.id("main");
    let listener = listener_at(&play.core, (0, FRONT));
    let mut new = play.core.admin(play.now).config().clone();
    new.proxies[0] = named("main", "queue", 1);
    let changes = diff(play.core.admin(play.now).config(), &new);
    let applied = play
        .change(|admin| admin.apply(&changes))
        .expect("nothing is bound twice");
    assert_eq!(applied.bound.len(), 2);
    assert_eq!(play.actions(), [], "nothing is opened or closed");
    let id = play
        .core
        .handle_accepted(play.now, listener, play.peer)
        .expect("it listens");
    play.feed(id, &hello(SocketType::Req));
    let sockets = play.core.statistics();
    assert_eq!((sockets.len(), sockets[0].peers), (2, 1));
    assert_eq!(sockets[0].socket_type, SocketType::Router);
    assert!(play.core.admin(play.now).proxy(former).is_err());
    play.has_no_trace();
}

#[test]
fn what_is_not_legal_is_refused_as_a_whole() {
    let mut play = main_only();
    let id = play.id("main");
    let refusal =
        |outcome: Result<Applied, ChangeError>| outcome.expect_err("it is not legal").to_string();
    let twice = play.change(|admin| admin.attach(id, BACK, Attach::Bind, endpoint(1)));
    let twice = refusal(twice);
    let expected = "tcp://127.0.0.1:1 is bound by the frontend of main already: use another port";
    assert!(twice.ends_with(expected), "{twice}");
    let same = play.change(|admin| admin.add_proxy(named("main", "queue", 11)));
    let same = refusal(same);
    assert!(same.contains("\"main\""), "{same}");
    let last = play.change(|admin| admin.detach(id, BACK, Attach::Bind, &endpoint(2)));
    let fault = match last {
        Err(ChangeError::Illegal(problem)) => problem.fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault, Fault::NoEndpoint(BACK));
    let only = play.change(|admin| admin.remove_proxy(id));
    let fault = match only {
        Err(ChangeError::Illegal(problem)) => problem.fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault, Fault::NoProxy);
    let absent = play.change(|admin| admin.detach(id, BACK, Attach::Connect, &endpoint(9)));
    assert!(matches!(absent, Err(ChangeError::Misfit(_))), "{absent:?}");
    let keys = SocketOption::find("curve_clients").expect("an option");
    let keys = play.change(|admin| admin.set_option(id, FRONT, keys, Value::Text("x".into())));
    let fault = match keys {
        Err(ChangeError::Illegal(problem)) => problem.fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault, Fault::KeysNotLoaded);
    let begun = play
        .core
        .admin(play.now)
        .attach(id, BACK, Attach::Bind, endpoint(9));
    assert!(begun.is_ok());
    let second = play.change(|admin| admin.attach(id, BACK, Attach::Bind, endpoint(10)));
    assert!(matches!(second, Err(ChangeError::Busy)), "{second:?}");
    open(&mut play.core);
    play.core.handle_stop(play.now);
    let late = play.change(|admin| admin.attach(id, BACK, Attach::Bind, endpoint(10)));
    assert!(matches!(late, Err(ChangeError::Stopping)), "{late:?}");
}

#[test]
fn peers_stay_when_their_endpoint_goes() {
    let mut play = main_only();
    let (source, sink) = (play.join(FRONT), play.join(BACK));
    let id = play.id("main");
    let former = listener_at(&play.core, (0, FRONT));
    play.change(|admin| admin.attach(id, FRONT, Attach::Bind, endpoint(9)))
        .expect("legal");
    play.change(|admin| admin.detach(id, FRONT, Attach::Bind, &endpoint(1)))
        .expect("legal");
    assert_eq!(play.core.handle_accepted(play.now, former, play.peer), None);
    play.send(source, &["1"]);
    assert_eq!(play.write(sink), ["1"]);
    play.join(FRONT);
    play.has_no_trace();
}

#[test]
fn messages_for_an_endpoint_that_goes_are_given_to_others() {
    let mut play = main_only();
    let (id, source) = (play.id("main"), play.join(FRONT));
    play.change(|admin| admin.attach(id, BACK, Attach::Connect, endpoint(9)))
        .expect("legal");
    let tables = play.core.walk_tables();
    let far = play.connected(SocketType::Pull);
    play.send(source, &["1", "2"]);
    play.change(|admin| admin.detach(id, BACK, Attach::Connect, &endpoint(9)))
        .expect("legal");
    assert!(matches!(play.actions()[..], [Action::Close { id, lingers: false }] if id == far));
    let near = play.join_as(BACK, SocketType::Pull);
    play.wrote_last(near, &["1", "2"]);
    play.turns(2);
    assert_eq!(tables[2], ("links", 1));
    assert_eq!(play.core.walk_tables()[2], ("links", 0));
    play.has_no_trace();
}

/// A link that is down has a queue, but not for an endpoint that is removed.
#[test]
fn messages_for_an_endpoint_that_goes_do_not_wait_for_it() {
    let mut config = named("main", "streamer", 1);
    config.backend.options.immediate = false;
    let mut play = Play::of(config);
    let (id, source) = (play.id("main"), play.join(FRONT));
    play.change(|admin| admin.attach(id, BACK, Attach::Connect, endpoint(9)))
        .expect("legal");
    play.connected(SocketType::Pull);
    play.send(source, &["1", "2"]);
    play.change(|admin| admin.detach(id, BACK, Attach::Connect, &endpoint(9)))
        .expect("legal");
    play.actions();
    let near = play.join_as(BACK, SocketType::Pull);
    play.wrote_last(near, &["1", "2"]);
    play.has_no_trace();
}

#[test]
fn an_attempt_to_connect_that_is_given_up_comes_to_nothing() {
    let mut play = main_only();
    let id = play.id("main");
    play.change(|admin| admin.attach(id, BACK, Attach::Connect, endpoint(9)))
        .expect("legal");
    let actions = play.actions();
    let [Action::Connect(link)] = actions[..] else {
        panic!("{actions:?}")
    };
    play.change(|admin| admin.detach(id, BACK, Attach::Connect, &endpoint(9)))
        .expect("legal");
    assert_eq!(play.actions(), [Action::StopConnecting(link)]);
    // The driver may have been quicker.
    assert_eq!(play.core.handle_connected(play.now, link, play.peer), None);
    let error = io::ErrorKind::ConnectionRefused.into();
    play.core.handle_connect_failed(play.now, link, &error);
    play.pass(Duration::from_secs(60));
    assert_eq!(play.actions(), []);
    play.has_no_trace();
}

/// The row of each option says when it takes effect; what that means is tested below, and where
/// it says that nothing happens before a restart, here.
#[test]
fn options_that_need_a_restart_are_named_and_stay_as_they_are() {
    // A key takes effect together with its file, which nothing has read here, and a domain with the
    // handler that it is for.
    let has_effect_alone = |it: &&SocketOption| !it.names_keys() && it.name != "zap_domain";
    for option in SocketOption::ALL.iter().filter(has_effect_alone) {
        let mut play = main_only();
        let mut new = play.core.admin(play.now).config().clone();
        let options = &mut new.proxies[0].backend.options;
        let value = match option.default_value() {
            Value::Flag(value) => Value::Flag(!value),
            Value::List(_) => Value::List(vec!["10.0.0.0/8".to_owned()]),
            Value::Number(1) => Value::Number(0),
            Value::Number(_) => Value::Number(1),
            Value::Text(_) if option.name == "ipc_mode" => Value::Text("600".to_owned()),
            Value::Text(_) if option.name == "ipc_owner" => Value::Text("root:0".to_owned()),
            Value::Text(_) if option.name == "balance" => Value::Text("least-queued".to_owned()),
            Value::Text(_) if option.name == "overflow" => Value::Text("block".to_owned()),
            Value::Text(_) if option.name == "reject" => Value::Text("error".to_owned()),
            Value::Text(_) => Value::Text("x".to_owned()),
        };
        option.set(options, value.clone()).expect(option.name);
        // It may not be below the other.
        options.reconnect_ivl_max = options.reconnect_ivl_max.max(options.reconnect_ivl);
        if option.name == "reconnect_ivl_max" {
            options.reconnect_ivl = options.reconnect_ivl_max;
        }
        let changes = diff(play.core.admin(play.now).config(), &new);
        let applied = play
            .change(|admin| admin.apply(&changes))
            .expect(option.name);
        let now = &play.core.admin(play.now).config().proxies[0]
            .backend
            .options
            .clone();
        if option.applies == Applies::Restart {
            assert_eq!(
                applied.needs_restart,
                [format!("main.backend.{}", option.name)]
            );
            assert_eq!(option.get(now), option.default_value(), "{}", option.name);
        } else {
            assert_eq!(applied.needs_restart, [""; 0], "{}", option.name);
            assert_eq!(option.get(now), new_value(option, &new), "{}", option.name);
        }
    }
}

fn new_value(option: &SocketOption, config: &Config) -> Value {
    option.get(&config.proxies[0].backend.options)
}

#[test]
fn a_higher_sndhwm_lets_a_suspended_sender_go_on() {
    let mut config = named("main", "streamer", 1);
    config.backend.options.sndhwm = 2;
    let mut play = Play::of(config);
    let (sink, source) = (play.join(BACK), play.join(FRONT));
    play.send(source, &["1", "2", "3", "4"]);
    assert_eq!(play.core.statistics()[0].waiting, 1);
    play.set(BACK, "sndhwm", Value::Number(10));
    assert_eq!(play.core.statistics()[0].waiting, 0);
    assert_eq!(play.write(sink), ["1", "2", "3", "4"]);
    play.set(BACK, "sndhwm_bytes", Value::Number(1));
    play.send(source, &["5", "6"]);
    assert_eq!(
        play.core.statistics()[0].waiting,
        1,
        "a byte is as much as may be queued"
    );
}

#[test]
fn rcvhwm_applies_to_senders_that_wait() {
    let mut play = main_only();
    let source = play.join(FRONT);
    play.send(source, &["1"]);
    assert!(!play.core.wants_input(source), "rcvhwm is 1");
    play.set(FRONT, "rcvhwm", Value::Number(3));
    assert!(play.core.wants_input(source));
    assert_eq!(play.actions(), [Action::Resume(source)]);
    play.send(source, &["2", "3"]);
    assert!(!play.core.wants_input(source));
    play.set(FRONT, "rcvhwm", Value::Number(0));
    assert!(play.core.wants_input(source));
    play.set(FRONT, "rcvhwm_bytes", Value::Number(1));
    assert!(!play.core.wants_input(source));
    let sink = play.join_as(BACK, SocketType::Pull);
    play.wrote_last(sink, &["1", "2", "3"]);
}

#[test]
fn max_age_applies_to_messages_queued_from_then_on() {
    let mut play = main_only();
    let (sink, source) = (play.join(BACK), play.join(FRONT));
    play.send(source, &["old"]);
    play.set(BACK, "max_age", Value::Number(100));
    play.send(source, &["new"]);
    play.pass(Duration::from_secs(1));
    assert_eq!(play.write(sink), ["old"]);
    play.send(source, &["again"]);
    play.set(BACK, "max_age", Value::Number(0));
    play.send(source, &["and", "again"]);
    play.pass(Duration::from_secs(1));
    assert_eq!(play.write(sink), ["again", "and", "again"]);
    play.has_no_trace();
}

#[test]
fn linger_applies_to_the_next_stop() {
    let mut play = main_only();
    let (sink, source) = (play.join(BACK), play.join(FRONT));
    play.send(source, &["1"]);
    play.set(BACK, "linger", Value::Number(0));
    play.core.handle_stop(play.now);
    play.actions();
    assert!(play.core.is_stopped());
    assert!(play.core.egress(sink).is_none());
}

#[test]
fn the_drain_timeout_and_the_memory_limit_change_at_once() {
    let mut play = main_only();
    let mut new = play.core.admin(play.now).config().clone();
    (new.drain_timeout, new.memory_limit) = (Duration::ZERO, 100_000);
    let changes = diff(play.core.admin(play.now).config(), &new);
    play.change(|admin| admin.apply(&changes))
        .expect("it is legal");
    let (sink, source) = (play.join(BACK), play.join(FRONT));
    assert_eq!(play.core.admin(play.now).broker().memory_limit, 100_000);
    let body = "x".repeat(20_000);
    for _ in 0..20 {
        play.send(source, &[&body]);
    }
    assert!(play.core.memory_in_use() <= 100_000);
    assert_eq!(play.core.statistics()[0].waiting, 1, "memory is tight");
    new.memory_limit = 0;
    let changes = diff(play.core.admin(play.now).config(), &new);
    play.change(|admin| admin.apply(&changes))
        .expect("it is legal");
    assert_eq!(
        play.core.statistics()[0].waiting,
        0,
        "the limit was removed"
    );
    play.core.handle_stop(play.now);
    play.actions();
    assert!(play.core.is_stopped(), "queues are not waited for");
    assert!(play.core.egress(sink).is_none());
}

#[test]
fn a_shorter_reconnect_ivl_shortens_a_wait() {
    let mut config = named("main", "streamer", 1);
    config.backend.bind.clear();
    config.backend.connect.push(endpoint(9).into());
    config.backend.options.reconnect_ivl = Duration::from_secs(600);
    config.backend.options.reconnect_ivl_max = Duration::from_secs(600);
    let mut play = Play::of(config);
    let actions = play.actions();
    let [Action::Connect(link)] = actions[..] else {
        panic!("{actions:?}")
    };
    let error = io::ErrorKind::ConnectionRefused.into();
    play.core.handle_connect_failed(play.now, link, &error);
    play.pass(Duration::from_secs(1));
    assert_eq!(play.actions(), []);
    play.set(BACK, "reconnect_ivl", Value::Number(10));
    play.set(BACK, "reconnect_ivl_max", Value::Number(10));
    play.pass(Duration::from_millis(20));
    assert_eq!(play.actions(), [Action::Connect(link)]);
}

#[test]
fn immediate_opens_and_closes_the_queues_of_links_that_are_down() {
    let mut config = named("main", "streamer", 1);
    config.backend.connect.push(endpoint(9).into());
    let mut play = Play::of(config);
    let source = play.join(FRONT);
    play.send(source, &["1"]);
    assert_eq!(play.core.statistics()[0].waiting, 1);
    play.set(BACK, "immediate", Value::Flag(false));
    assert_eq!(play.core.statistics()[0].waiting, 0, "the link has a queue");
    play.set(BACK, "immediate", Value::Flag(true));
    play.actions();
    let near = play.join_as(BACK, SocketType::Pull);
    play.wrote_last(near, &["1"]);
    play.has_no_trace();
}

#[test]
fn the_queue_of_a_link_that_is_down_is_not_closed_for_being_full() {
    let mut config = named("main", "streamer", 1);
    config.backend.bind.clear();
    config.backend.connect.push(endpoint(9).into());
    let options = &mut config.backend.options;
    (options.immediate, options.sndhwm) = (false, 2);
    (options.overflow, options.overflow_timeout) = (Overflow::Disconnect, Duration::ZERO);
    let mut play = Play::of(config);
    play.core.run_deferred(play.now);
    let source = play.join(FRONT);
    play.send(source, &["1", "2"]);
    play.set(BACK, "overflow_timeout", Value::Number(5));
    play.pass(Duration::from_secs(1));
    let sink = play.connected(SocketType::Pull);
    assert_eq!(play.core.statistics()[1].counters.requeued, 0);
    assert_eq!(play.core.statistics()[1].counters.messages_out, 2);
    assert!(play.core.egress(sink).is_some());
}

#[test]
fn workers_are_not_waited_for_when_balance_is_ready_no_more() {
    let mut config = named("main", "queue", 1);
    config.backend.options.balance = Balance::Ready;
    let mut play = Play::of(config);
    let worker = play.join_as(BACK, SocketType::Rep);
    play.write(worker);
    let client = play.join_as(FRONT, SocketType::Dealer);
    play.write(client);
    play.send_frames(client, &[b"", b"1"]);
    play.send_frames(client, &[b"", b"2"]);
    assert_eq!(play.write(worker).last().map(String::as_str), Some("1"));
    play.set(BACK, "balance", Value::Text("round-robin".to_owned()));
    assert_eq!(play.write(worker).last().map(String::as_str), Some("2"));
}

#[test]
fn limits_of_messages_apply_to_new_connections() {
    let mut play = main_only();
    let before = play.join(FRONT);
    let sink = play.join(BACK);
    play.set(FRONT, "maxmsgsize", Value::Number(10));
    let after = play.join(FRONT);
    let body = "x".repeat(100);
    play.send(before, &[&body]);
    assert_eq!(play.write(sink), [body.as_str()]);
    assert!(play.core.wants_input(before));
    play.send(after, &[&body]);
    play.actions();
    assert_eq!(
        play.core.statistics()[0].peers,
        1,
        "only the new one is closed"
    );
}

#[test]
fn tcp_accept_filter_applies_to_new_connections() {
    let mut play = main_only();
    let here = play.join(FRONT);
    let networks = Value::List(vec!["10.0.0.0/8".to_owned()]);
    play.set(FRONT, "tcp_accept_filter", networks);
    let listener = listener_at(&play.core, (0, FRONT));
    assert_eq!(
        play.core.handle_accepted(play.now, listener, play.peer),
        None
    );
    let there = SocketAddr::from(([10, 1, 2, 3], 4));
    assert!(
        play.core
            .handle_accepted(play.now, listener, there)
            .is_some()
    );
    assert!(play.core.wants_input(here));
    assert_eq!(play.core.statistics()[0].counters.closed_for("kept-out"), 1);
}

/// No path of changes opens a listener to every peer of the network.
#[test]
fn a_change_cannot_let_every_peer_in() {
    let mut play = main_only();
    let id = play.id("main");
    let wildcard: Endpoint = "tcp://*:9".parse().expect("legal");
    let is_exposed = |outcome: Result<Applied, ChangeError>| {
        let Err(ChangeError::Illegal(problem)) = outcome else {
            return false;
        };
        problem.fault == Fault::Exposed("tcp://*:9".to_owned())
    };
    for socket in SocketName::SIDES {
        let attach =
            |admin: &mut Admin<'_>| admin.attach(id, socket, Attach::Bind, wildcard.clone());
        assert!(is_exposed(play.change(attach)));
    }
    let mut other = named("other", "queue", 11);
    other.backend.bind.push(wildcard.clone());
    assert!(is_exposed(
        play.change(|admin| admin.add_proxy(other.clone()))
    ));
    let mut next = play.core.admin(play.now).config().clone();
    next.proxies[0].backend.bind.push(wildcard.clone());
    // The name of a key restricts nothing.
    let options = &mut next.proxies[0].backend.options;
    options.curve_secret = "secret".to_owned();
    options.curve_clients = "any".to_owned();
    let changes = diff(play.core.admin(play.now).config(), &next);
    let refused = match play.change(|admin| admin.apply(&changes)) {
        Err(ChangeError::Illegal(problem)) => problem.fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused, Fault::KeysNotLoaded);
    play.set(BACK, "insecure", Value::Flag(true));
    play.change(|admin| admin.attach(id, BACK, Attach::Bind, wildcard))
        .expect("it is permitted");
    let option = SocketOption::find("insecure").expect("it is there");
    let revoked = play.change(|admin| admin.set_option(id, BACK, option, Value::Flag(false)));
    assert!(is_exposed(revoked));
    assert_eq!(play.core.walk_tables()[3], ("listeners", 3));
}

#[test]
fn subscriptions_reach_an_endpoint_that_is_added_with_topics_of_its_own() {
    let mut play = Play::of(named("main", "forwarder", 1));
    let subscriber = play.join_as(BACK, SocketType::Sub);
    for topic in ["a1", "b1", "a"] {
        let mut wire = Vec::new();
        let body = [&b"\x09SUBSCRIBE"[..], topic.as_bytes()].concat();
        wire.extend([4, u8::try_from(body.len()).expect("short")]);
        wire.extend(body);
        play.feed(subscriber, &wire);
    }
    let at = SocketPath {
        proxy: "main".to_owned(),
        socket: FRONT,
    };
    let connect = Connect {
        subscribe: vec!["a1".to_owned()],
        ..Connect::from(endpoint(9))
    };
    let memory = play.core.subscription_memory();
    let changes = |change| Changes { list: vec![change] };
    let added = changes(Change::Connect(at.clone(), connect.clone()));
    play.change(|admin| admin.apply(&added))
        .expect("it is legal");
    let publisher = play.connected(SocketType::Pub);
    let told = play.core.egress(publisher).map(|_| ());
    assert!(told.is_some());
    assert!(play.core.subscription_memory() > memory);
    let removed = changes(Change::Disconnect(at, connect));
    play.change(|admin| admin.apply(&removed))
        .expect("it is legal");
    play.actions();
    play.turns(2);
    play.has_no_trace();
    assert_eq!(play.core.walk_tables()[2], ("links", 0));
}

#[test]
fn an_option_that_takes_messages_back_needs_a_restart() {
    let mut play = main_only();
    let applied = play.set(BACK, "overflow", Value::Text("drop-oldest".to_owned()));
    assert_eq!(applied.needs_restart, ["main.backend.overflow"]);
    let config = play.core.admin(play.now).config().clone();
    assert_eq!(
        config.proxies[0].backend.options.overflow,
        Overflow::Standard
    );
    assert_eq!(config.proxies[0].backend.options, SocketOptions::default());
    let core = bound(play.now, &config, 1);
    assert!(core.listeners(socket_at(&core, (0, BACK))).next().is_some());
}
