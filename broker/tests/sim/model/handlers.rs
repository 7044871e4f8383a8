//! ZAP: the requests to handlers, and the peers that their answers let in.

use super::*;
use std::sync::Arc;
use zmtp::Credentials;

/// The requests of a broker to the handlers of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Those without an answer, by number.
    asked: BTreeMap<u64, Asked>,
    last: u64,
}

/// A peer that waits for the answer of a handler.
#[derive(Debug)]
struct Asked {
    deadline: Instant,
    handler: ConnId,
    peer: ConnId,
}

/// What an answer says about the peer of its request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Granted(Option<Arc<str>>),
    /// The handler has refused it in so many words.
    Denied,
    /// It stays out, for any other reason.
    Refused,
}

impl Model {
    /// The broker has queued a request about `peer` for a handler.
    pub(crate) fn asked_handler(&mut self, peer: ConnId, handler: ConnId) {
        let mirror = &self.mirrors[&peer];
        assert!(mirror.asking.is_some(), "{peer:?} is asked about too early");
        let options = &self.sockets[index(mirror.socket)].options;
        let deadline = self.now + options.zap_timeout;
        let own = self.mirrors[&handler].socket;
        assert_eq!(own.proxy, mirror.socket.proxy, "a handler of another proxy");
        let socket = &mut self.sockets[index(own)];
        socket.largest = socket.largest.max(1000);
        socket.expected += 1;
        let requests = self.requests.entry(own.proxy).or_default();
        let is_new = requests.asked.values().all(|asked| asked.peer != peer);
        assert!(is_new, "{peer:?} is asked about twice");
        requests.last += 1;
        let asked = Asked {
            deadline,
            handler,
            peer,
        };
        requests.asked.insert(requests.last, asked);
    }

    /// A request is written to a handler.
    pub(super) fn requested(&mut self, handler: ConnId, message: &[u8]) {
        let proxy = self.mirrors[&handler].socket.proxy;
        let requests = self.requests.entry(proxy).or_default();
        let frames: Vec<&[u8]> = Frames::new(message).map(|frame| frame.body).collect();
        assert_eq!(frames[..2], [&b""[..], b"1.0"], "a request to {handler:?}");
        let number = number_of(frames[2]).expect("a number");
        assert!(number <= requests.last, "request {number} about no peer");
        let Some(asked) = requests.asked.get(&number) else {
            return;
        };
        assert_eq!(asked.handler, handler, "the handler of request {number}");
        let mirror = &self.mirrors[&asked.peer];
        let options = &self.sockets[index(mirror.socket)].options;
        let domain = options.zap_domain.as_bytes();
        assert_eq!(frames[3..5], [domain, b"127.0.0.1"], "request {number}");
        let expected: Vec<&[u8]> = match mirror.credentials.as_ref().expect("it has some") {
            Credentials::Curve(key) => vec![b"CURVE", key.as_bytes()],
            Credentials::Plain { password, user } => vec![b"PLAIN", user, password.as_bytes()],
            _ => vec![b"NULL"],
        };
        assert_eq!(frames[6..], expected, "request {number} about another peer");
    }

    /// The broker is about to handle a message of a handler; returns the peer that it is about.
    pub(super) fn heard_answer(&mut self, handler: ConnId, message: &[u8]) {
        let mirror = self.mirrors.get_mut(&handler).expect("it is connected");
        mirror.heard_messages += 1;
        mirror.heard_bytes += message.len() as u64;
        let proxy = mirror.socket.proxy;
        let frames: Vec<&[u8]> = Frames::new(message).map(|frame| frame.body).collect();
        let number = frames.get(2).and_then(|frame| number_of(frame));
        let requests = self.requests.entry(proxy).or_default();
        let Some(number) = number else { return };
        let asked = requests.asked.get(&number);
        let Some(peer) = asked.filter(|it| it.handler == handler).map(|it| it.peer) else {
            return;
        };
        requests.asked.remove(&number);
        let listed = self.mirrors.get_mut(&peer).and_then(|it| it.asking.take());
        match verdict(&frames) {
            Verdict::Granted(named) => {
                let user = listed.flatten().or(named);
                self.let_in += 1;
                self.decided(peer, Authorization::Granted { user });
            }
            Verdict::Denied => {
                let is_told = self.mirrors[&peer].is_told;
                self.decided(peer, Authorization::Denied { is_told });
            }
            Verdict::Refused => self.decided(peer, Authorization::Denied { is_told: false }),
        }
    }

    /// A connection is closed: the peers that waited for the answers of a handler are refused, and
    /// no answer is about a peer that has gone.
    pub(super) fn forget_asked(&mut self, id: ConnId) {
        let mut lost = Vec::new();
        for requests in self.requests.values_mut() {
            requests.asked.retain(|_, asked| {
                lost.extend((asked.handler == id).then_some(asked.peer));
                asked.handler != id && asked.peer != id
            });
        }
        for peer in lost {
            self.refuse_asked(peer);
        }
    }

    /// A turn is over, all of whose deadlines were looked at: whose time has passed is refused.
    pub(crate) fn expire_asked(&mut self) -> u64 {
        let (now, mut late) = (self.now, Vec::new());
        for requests in self.requests.values_mut() {
            requests.asked.retain(|_, asked| {
                let is_late = asked.deadline <= now;
                late.extend(is_late.then_some(asked.peer));
                !is_late
            });
        }
        for peer in &late {
            self.refuse_asked(*peer);
        }
        late.len() as u64
    }

    fn refuse_asked(&mut self, peer: ConnId) {
        let mirror = self.mirrors.get_mut(&peer).expect("it is connected");
        if mirror.phase == Phase::Handshake {
            mirror.asking = None;
            mirror.is_denied = true;
        }
    }

    /// No peer waits for an answer, and all requests were sent.
    pub(crate) fn check_requests(&self) {
        for (proxy, requests) in &self.requests {
            let waiting = requests.asked.values().next();
            assert!(
                waiting.is_none(),
                "proxy {proxy}: {waiting:?} was not decided"
            );
        }
    }
}

fn verdict(frames: &[&[u8]]) -> Verdict {
    match frames {
        [b"", b"1.0", _, b"200", _, user, b""] => match str::from_utf8(user) {
            Ok("") => Verdict::Granted(None),
            Ok(user) if !user.contains(char::is_control) => Verdict::Granted(Some(user.into())),
            _ => Verdict::Refused,
        },
        [b"", b"1.0", _, b"400", _, _, b""] => Verdict::Denied,
        _ => Verdict::Refused,
    }
}

/// A number in decimal digits, without leading zeros.
fn number_of(frame: &[u8]) -> Option<u64> {
    let text = str::from_utf8(frame).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
