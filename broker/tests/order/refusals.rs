//! Peers that may not come in: told by an ERROR, or closed late and without a word.

use crate::log;
use crate::play::{Play, listener_at, proxy};
use broker::config::{Admission, ClientKeys, Reject, SocketName, Users};
use broker::{Action, ConnId, Flow};
use std::sync::Arc;
use std::time::Duration;
use zmtp::curve::{CurveClient, CurveServer, SecretKey};
use zmtp::limits::GREETING_SIZE;
use zmtp::plain::{Password, PasswordHash};
use zmtp::wire::greeting::Greeting;
use zmtp::{MechanismConfig, Session, SessionConfig, SocketType};

const FRONT: SocketName = SocketName::Frontend;
const SECOND: Duration = Duration::from_secs(1);

/// A broker whose frontend knows one user, "user" with the password "secret".
fn with_users(reject: Reject) -> Play {
    let mut users = Users::default();
    let hash = PasswordHash::new(&Password::new(b"secret"));
    users.insert("user", hash.expect("a salt"));
    let mut config = proxy("streamer");
    config.frontend.mechanism = MechanismConfig::PlainServer;
    config.frontend.admission = Admission::Users(Arc::new(users));
    config.frontend.options.reject = reject;
    Play::of(config)
}

impl Play {
    fn accept(&mut self) -> ConnId {
        let listener = listener_at(&self.core, (0, FRONT));
        let id = self.core.handle_accepted(self.now, listener, self.peer);
        id.expect("every address may connect")
    }

    /// A peer connects with this password.
    fn log_in(&mut self, password: &str) -> (ConnId, Flow) {
        let id = self.accept();
        let mut wire = Vec::new();
        Greeting::new("PLAIN").emit(&mut wire);
        let size = u8::try_from(password.len()).expect("short");
        let body = [&b"\x05HELLO\x04user"[..], &[size], password.as_bytes()].concat();
        wire.extend([4, u8::try_from(body.len()).expect("short")]);
        wire.extend(body);
        let flow = self.feed(id, &wire);
        (id, flow)
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

/// The client that CURVE refuses is named by the beginning of its key; one that does not know the
/// key of the server waits too.
#[test]
fn a_refused_key_is_logged_by_its_beginning() {
    log::keep();
    let secret = |first: u8| SecretKey::from_bytes(&[first; 32]).expect("a usable key");
    let mut config = proxy("streamer");
    config.frontend.mechanism = MechanismConfig::CurveServer(Arc::new(CurveServer::new(secret(1))));
    config.frontend.admission = Admission::Keys(Arc::new(ClientKeys::default()));
    let mut play = Play::of(config);
    for (server, expected) in [
        (1, "the peer is not authorised (key "),
        (9, "HELLO does not open"),
    ] {
        let client = CurveClient::new(secret(2), secret(server).public_key());
        let config = SessionConfig {
            mechanism: MechanismConfig::CurveClient(Arc::new(client)),
            ..SessionConfig::new(SocketType::Push)
        };
        let mut out = Vec::new();
        let mut session = Session::new(Arc::new(config), play.now, &mut out);
        let id = play.accept();
        let (mut flow, mut input) = (Flow::Done, Vec::new());
        while flow != Flow::Closed {
            flow = play.feed(id, &std::mem::take(&mut out));
            input.extend(play.write_up_to(id, usize::MAX));
            while flow != Flow::Closed && !input.is_empty() {
                let step = session
                    .handle_input(&mut input, &mut out)
                    .expect("a broker");
                if step.consumed == 0 {
                    break;
                }
                input.drain(..step.consumed);
            }
        }
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
