//! Peers that may not come in: told by an ERROR, or closed late and without a word. The order in
//! which passwords are compared.

use crate::log;
use crate::play::{Play, listener_at, proxy};
use broker::config::{
    Admission, ClientKeys, Config, Reject, RoleConfig, RoleSide, SocketName, Users, diff,
};
use broker::limits::PASSWORD_MEMORY;
use broker::{Action, ConnId, Flow};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use zmtp::curve::{CurveClient, CurveServer, SecretKey};
use zmtp::limits::GREETING_SIZE;
use zmtp::plain::{Password, PasswordHash};
use zmtp::wire::greeting::Greeting;
use zmtp::{Event, MechanismConfig, Session, SessionConfig, SocketType};

const FRONT: SocketName = SocketName::Frontend;
const SECOND: Duration = Duration::from_secs(1);

/// A broker whose frontend knows the users "user" and "reader" with the password "secret".
fn with_users(reject: Reject) -> Play {
    let mut users = Users::default();
    let hash = PasswordHash::new(&Password::new(b"secret")).expect("a salt");
    users.insert("user", hash.clone());
    users.insert("reader", hash);
    let mut config = proxy("streamer");
    config.frontend.mechanism = MechanismConfig::PlainServer;
    config.frontend.admission = Admission::Users(Arc::new(users));
    config.frontend.options.reject = reject;
    config.backend.bind = vec!["tcp://127.0.0.1:2".parse().expect("an endpoint")];
    // The role permits another side than the frontend of a streamer.
    let role = RoleConfig {
        name: "reader".to_owned(),
        sides: Some(vec![RoleSide::Subscriber]),
        ..RoleConfig::default()
    };
    Play::run(&Config {
        proxies: vec![config],
        roles: vec![role],
        users: [("reader".to_owned(), "reader".to_owned())].into(),
        ..Config::default()
    })
}

impl Play {
    fn accept(&mut self) -> ConnId {
        let listener = listener_at(&self.core, (0, FRONT));
        let id = self.core.handle_accepted(self.now, listener, self.peer);
        id.expect("every address may connect")
    }

    /// A peer connects with this password, which is compared.
    fn log_in(&mut self, password: &str) -> (ConnId, Flow) {
        let id = self.knock(password);
        let flows = self.check_passwords();
        let flow = flows.iter().find(|(other, _)| *other == id);
        (id, flow.expect("it is compared").1)
    }

    /// A peer connects with this password, which waits.
    fn knock(&mut self, password: &str) -> ConnId {
        self.knock_as("user", password)
    }

    fn knock_as(&mut self, user: &str, password: &str) -> ConnId {
        let id = self.accept();
        let mut wire = Vec::new();
        Greeting::new("PLAIN").emit(&mut wire);
        let mut body = b"\x05HELLO".to_vec();
        for field in [user, password] {
            body.push(u8::try_from(field.len()).expect("short"));
            body.extend_from_slice(field.as_bytes());
        }
        wire.extend([4, u8::try_from(body.len()).expect("short")]);
        wire.extend(body);
        assert_eq!(self.feed(id, &wire), Flow::Done);
        id
    }

    /// The next peers connect from this host.
    fn come_from(&mut self, host: u8) {
        self.peer = SocketAddr::from(([10, 0, 0, host], 1));
    }

    /// The connections whose passwords were compared, in this order.
    fn compared(&mut self) -> Vec<ConnId> {
        let compared = self.check_passwords();
        assert_eq!(self.core.memory(), self.core.walk_memory());
        compared.into_iter().map(|(id, _)| id).collect()
    }

    /// The connections that the driver is told to close.
    fn closes(&mut self) -> Vec<ConnId> {
        let mut closes = Vec::new();
        while self.core.run_deferred(self.now) {}
        while let Some(action) = self.core.poll_action() {
            if let Action::Close { id, .. } = action {
                closes.push(id);
                self.core.handle_closed(self.now, id);
            }
        }
        closes
    }

    /// Other peers may come in to the frontend from now on.
    fn admit(&mut self, admission: Admission) {
        let mut next = self.core.admin(self.now).config().clone();
        next.proxies[0].frontend.admission = admission;
        let changed = self.change(|admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        });
        assert!(changed.is_ok(), "{changed:?}");
    }

    fn refused(&self) -> u64 {
        let statistics = self.core.statistics();
        statistics[0].counters.closed_for("not-authorised")
    }
}

#[test]
fn a_refused_peer_is_closed_late_and_later_each_time() {
    log::keep();
    let mut play = with_users(Reject::Close);
    for wait in [1, 2, 4] {
        let (id, flow) = play.log_in("wrong");
        assert_eq!(flow, Flow::Closed);
        assert_eq!(play.write_up_to(id, usize::MAX).len(), GREETING_SIZE);
        assert!(!play.core.wants_input(id), "nothing of it is handled");
        play.pass(wait * SECOND - Duration::from_millis(1));
        assert_eq!(play.closes(), [], "{wait} seconds are not over");
        // A peer of the same address that may come in does not wait.
        let (friend, flow) = play.log_in("secret");
        assert_eq!(flow, Flow::Done);
        assert_eq!(
            play.write_up_to(friend, usize::MAX).len(),
            GREETING_SIZE + 10
        );
        let refused = play.refused();
        play.pass(Duration::from_millis(1));
        assert_eq!(play.closes(), [id]);
        assert_eq!(play.refused(), refused + 1);
    }
    let lines = log::taken();
    assert_eq!(lines.len(), 1, "one line for the address: {lines:?}");
    assert!(
        lines[0].ends_with("refused: the peer is not authorised"),
        "{lines:?}"
    );
}

#[test]
fn a_refused_peer_that_leaves_is_counted_as_refused() {
    let mut play = with_users(Reject::Close);
    let (id, _) = play.log_in("wrong");
    play.lose(id);
    assert_eq!(play.refused(), 1);
    play.pass(60 * SECOND);
    assert_eq!(play.closes(), []);
}

#[test]
fn a_refused_peer_is_told_where_the_socket_says_so() {
    let mut play = with_users(Reject::Error);
    let (id, flow) = play.log_in("wrong");
    assert_eq!(flow, Flow::Closed);
    let sent = play.write_up_to(id, usize::MAX);
    assert!(
        sent.ends_with(b"\x04\x0a\x05ERROR\x03400"),
        "{}",
        sent.escape_ascii()
    );
    assert_eq!(play.closes(), [id]);
    assert_eq!(play.refused(), 1);
}

#[test]
fn an_honest_login_waits_for_one_password_of_a_flood() {
    let mut play = with_users(Reject::Error);
    let before = play.core.memory();
    play.come_from(1);
    let flood: Vec<ConnId> = (0..1000).map(|_| play.knock("wrong")).collect();
    let waiting = play.core.memory();
    assert!(waiting.connections - before.connections >= 1000 * PASSWORD_MEMORY);
    play.come_from(2);
    let honest = play.knock("secret");
    let compared = play.compared();
    assert_eq!(compared[..2], [flood[0], honest]);
    assert_eq!(compared[2..], flood[1..], "each is compared in the end");
    assert_eq!(play.refused(), 1000);
    assert_eq!(
        play.write_up_to(honest, usize::MAX).len(),
        GREETING_SIZE + 10
    );
}

/// The addresses of a flood wait for each other, and all of them for one without refusals.
#[test]
fn addresses_with_refusals_come_after_the_others() {
    for reject in [Reject::Close, Reject::Error] {
        let mut play = with_users(reject);
        for host in 1..=3 {
            play.come_from(host);
            play.log_in("wrong");
        }
        let mut flood = Vec::new();
        for host in 1..=3 {
            play.come_from(host);
            flood.push([(); 3].map(|()| play.knock("wrong")));
        }
        play.come_from(4);
        let first = play.knock("secret");
        play.come_from(5);
        let second = play.knock("secret");
        let by_turns = (0..3).flat_map(|turn| flood.iter().map(move |line| line[turn]));
        let expected: Vec<ConnId> = [first, second].into_iter().chain(by_turns).collect();
        assert_eq!(play.compared(), expected, "{reject:?}");
        // A refusal is forgotten in time.
        play.pass(60 * SECOND);
        play.come_from(1);
        let former = play.knock("secret");
        play.come_from(6);
        let other = play.knock("secret");
        assert_eq!(play.compared(), [former, other], "{reject:?}");
    }
}

#[test]
fn no_password_of_a_peer_that_left_is_compared() {
    let mut play = with_users(Reject::Close);
    let peers = [(); 3].map(|()| play.knock("wrong"));
    play.lose(peers[0]);
    play.lose(peers[2]);
    assert_eq!(play.compared(), [peers[1]]);
}

/// A new list counts when a refused peer comes again.
#[test]
fn a_new_list_does_not_concern_refused_peers() {
    let mut play = with_users(Reject::Close);
    let (id, flow) = play.log_in("wrong");
    assert_eq!(flow, Flow::Closed);
    play.admit(Admission::Users(Arc::default()));
    assert_eq!(play.closes(), [], "it waits for its close");
    assert!(!play.core.wants_input(id));
    play.pass(SECOND);
    assert_eq!((play.closes(), play.refused()), (vec![id], 1));
}

/// A list that is replaced while a password waits decides about it.
#[test]
fn a_waiting_password_is_compared_with_the_users_of_that_moment() {
    let mut play = with_users(Reject::Error);
    let id = play.knock("secret");
    play.admit(Admission::Users(Arc::default()));
    assert_eq!(play.check_passwords(), [(id, Flow::Closed)]);
}

/// The right password of a user whose role forbids the side gets no WELCOME.
#[test]
fn a_role_that_forbids_the_side_is_refused_in_the_handshake() {
    for (reject, label) in [
        (Reject::Close, "role-forbids"),
        (Reject::Error, "not-authorised"),
    ] {
        let mut play = with_users(reject);
        let id = play.knock_as("reader", "secret");
        play.check_passwords();
        let sent = play.write_up_to(id, usize::MAX);
        let error = if reject == Reject::Error { 12 } else { 0 };
        assert_eq!(sent.len(), GREETING_SIZE + error, "{}", sent.escape_ascii());
        play.pass(SECOND);
        assert_eq!(play.closes(), [id]);
        let counters = &play.core.statistics()[0].counters;
        assert_eq!(counters.closed_for(label), 1);
    }
}

/// The secret key of this number.
pub(crate) fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).expect("a usable key")
}

impl Play {
    /// A peer with the first key connects to the frontend, which it believes to have the second;
    /// returns whether its handshake succeeds.
    pub(crate) fn knock_with_key(
        &mut self,
        (own, server): (u8, u8),
        socket_type: SocketType,
        identity: &[u8],
    ) -> (ConnId, bool) {
        let client = CurveClient::new(secret(own), secret(server).public_key());
        let config = SessionConfig {
            identity: identity.to_vec(),
            mechanism: MechanismConfig::CurveClient(Arc::new(client)),
            ..SessionConfig::new(socket_type)
        };
        let mut out = Vec::new();
        let mut session = Session::new(Arc::new(config), self.now, &mut out);
        let (id, mut input) = (self.accept(), Vec::new());
        loop {
            let flow = self.feed(id, &std::mem::take(&mut out));
            input.extend(self.write_up_to(id, usize::MAX));
            if flow == Flow::Closed {
                return (id, false);
            }
            while !input.is_empty() {
                let step = session
                    .handle_input(&mut input, &mut out)
                    .expect("a broker");
                match step.event {
                    Event::Ready(_) => return (id, true),
                    Event::Need(_) => break,
                    _ => {}
                }
                input.drain(..step.consumed);
            }
        }
    }
}

/// The client that CURVE refuses is named by the beginning of its key; one that does not know the
/// key of the server waits too.
#[test]
fn a_refused_key_is_logged_by_its_beginning() {
    log::keep();
    let mut config = proxy("streamer");
    config.frontend.mechanism = MechanismConfig::CurveServer(Arc::new(CurveServer::new(secret(1))));
    config.frontend.admission = Admission::Keys(Arc::new(ClientKeys::default()));
    let mut play = Play::of(config);
    for (server, expected) in [
        (1, "the peer is not authorised (key "),
        (9, "HELLO does not open"),
    ] {
        let (id, is_in) = play.knock_with_key((2, server), SocketType::Push, b"");
        assert!(!is_in);
        assert_eq!(play.closes(), []);
        play.pass(4 * SECOND);
        assert_eq!(play.closes(), [id]);
        let lines = log::taken();
        assert!(lines.len() == 1 && lines[0].contains(expected), "{lines:?}");
        if server == 1 {
            let key = secret(2).public_key().to_string();
            assert!(
                lines[0].ends_with(&format!("(key {}…)", &key[..8])),
                "{lines:?}"
            );
        }
    }
}
