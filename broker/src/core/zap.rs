//! ZAP (RFC 27): handlers in other processes decide about peers.
//!
//! The `zap` socket of a proxy connects to handlers, as any socket connects to its endpoints. A
//! peer of a socket with a `zap_domain` waits in its handshake while a handler is asked. It comes
//! in only by a well-formed answer with the status 200 to its own request, from the handler that
//! was asked, within `zap_timeout`. In every other case it is refused.

use crate::config::{Reject, SocketName};
use crate::conn::Input;
use crate::core::authorize::{Asked, Decision};
use crate::core::timers::Owner;
use crate::core::turn::cost;
use crate::core::{Action, Core};
use crate::ids::{ConnId, SocketId};
use crate::limits::ZAP_REQUESTS_MAX;
use crate::peer::PeerAddress;
use crate::reason::{CloseReason, DropReason, ZapRefusal};
use std::collections::BTreeMap;
use std::sync::Arc;
use zmtp::encode::append_frame;
use zmtp::wire::metadata::Properties;
use zmtp::{Authorization, Credentials, Frames, show};

/// The version of ZAP.
const VERSION: &[u8] = b"1.0";

/// Bytes of a user name.
const USER_SIZE_MAX: usize = 255;

/// Characters that the log shows of the text of an answer.
const TEXT_LEN_MAX: usize = 64;

/// The requests of one socket that connects to handlers.
#[derive(Debug, Default)]
pub(crate) struct ZapRequests {
    /// Peers that wait for an answer, by the numbers of their requests.
    asked: BTreeMap<u64, ConnId>,
    /// Connections to handlers, the oldest first.
    handlers: Vec<ConnId>,
    /// The number of the last request.
    last: u64,
}

impl ZapRequests {
    /// A handler is connected.
    pub(crate) fn add_handler(&mut self, id: ConnId) {
        self.handlers.push(id);
    }
}

/// A well-formed answer, or a malformed one to a request that is known.
#[derive(Debug, PartialEq, Eq)]
struct Answer<'a> {
    /// The number of the request.
    number: u64,
    /// The status, and the user name of a peer that may come in.
    outcome: Result<Option<&'a str>, ZapRefusal>,
    /// What the handler says about it.
    text: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads an answer: an empty frame, the version, the number of the request, the status, its
    /// text, the user name, and metadata. [`None`] if it does not name a request.
    fn parse(wire: &'a [u8]) -> Option<Self> {
        let mut frames = Frames::new(wire).map(|frame| frame.body);
        let (delimiter, version, number) = (frames.next()?, frames.next()?, frames.next()?);
        let number = parse_number(number)?;
        let rest = [frames.next(), frames.next(), frames.next(), frames.next()];
        let is_right = delimiter.is_empty() && version == VERSION && frames.next().is_none();
        let (text, outcome) = match rest {
            [Some(status), Some(text), Some(user), Some(metadata)] if is_right => {
                (text, outcome(status, user, metadata))
            }
            _ => (&b""[..], Err(ZapRefusal::Malformed)),
        };
        Some(Self {
            number,
            outcome,
            text,
        })
    }
}

fn outcome<'a>(
    status: &[u8],
    user: &'a [u8],
    metadata: &[u8],
) -> Result<Option<&'a str>, ZapRefusal> {
    if Properties::new(metadata).any(|property| property.is_err()) {
        return Err(ZapRefusal::Malformed);
    }
    match status {
        b"200" => parse_user(user),
        b"300" => Err(ZapRefusal::Temporary),
        b"400" => Err(ZapRefusal::Denied),
        b"500" => Err(ZapRefusal::HandlerError),
        _ => Err(ZapRefusal::Malformed),
    }
}

/// The number of a request, as [`append_request`] writes it.
fn parse_number(text: &[u8]) -> Option<u64> {
    let number = str::from_utf8(text).ok()?.parse().ok()?;
    // Neither leading zeros nor a sign.
    (format!("{number}").as_bytes() == text).then_some(number)
}

/// A user name has at most 255 bytes of UTF-8, without hidden characters.
fn parse_user(user: &[u8]) -> Result<Option<&str>, ZapRefusal> {
    let text = str::from_utf8(user).map_err(|_| ZapRefusal::Malformed)?;
    if text.len() > USER_SIZE_MAX || text.contains(zmtp::is_hidden) {
        return Err(ZapRefusal::Malformed);
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The address of a peer as libzmq gives it to handlers; the group of a local peer is not known.
fn address_of(peer: PeerAddress) -> String {
    match peer {
        PeerAddress::Tcp(address) => address.ip().to_string(),
        PeerAddress::Ipc { pid, uid } => format!("localhost:{uid}::{pid}"),
        PeerAddress::DownLink | PeerAddress::Inproc | PeerAddress::Program => "inproc".to_owned(),
    }
}

/// Appends a request in wire form. `identity` is that of the socket that the peer is connected to,
/// as in libzmq.
fn append_request(
    out: &mut Vec<u8>,
    number: u64,
    [domain, address, identity]: [&[u8]; 3],
    credentials: &Credentials,
) {
    let number = number.to_string();
    for frame in [b"", VERSION, number.as_bytes(), domain, address, identity] {
        append_frame(out, frame, true);
    }
    match credentials {
        Credentials::Curve(key) => {
            append_frame(out, b"CURVE", true);
            append_frame(out, key.as_bytes(), false);
        }
        Credentials::Plain { password, user } => {
            append_frame(out, b"PLAIN", true);
            append_frame(out, user, true);
            append_frame(out, password.as_bytes(), false);
        }
        _ => append_frame(out, b"NULL", false),
    }
}

impl Core {
    /// Asks a handler about a peer, whose handshake waits for the answer; refuses the peer if that
    /// is not possible. `user` is its name by the list of its socket.
    pub(super) fn ask_handler(
        &mut self,
        id: ConnId,
        credentials: &Credentials,
        user: Option<Arc<str>>,
    ) {
        if let Err(refusal) = self.try_to_ask(id, credentials, user) {
            self.refuse(id, CloseReason::Zap(refusal));
        }
    }

    fn try_to_ask(
        &mut self,
        id: ConnId,
        credentials: &Credentials,
        user: Option<Arc<str>>,
    ) -> Result<(), ZapRefusal> {
        let Some(conn) = self.conns.get(id) else {
            return Ok(());
        };
        let socket = &self.sockets[conn.socket];
        let (options, address) = (&socket.options, address_of(conn.peer));
        let zap = self.proxies[socket.proxy].zap;
        let zap = zap.ok_or(ZapRefusal::NotConnected)?;
        let (timeout, client) = (options.zap_timeout, &self.sockets[zap]);
        let handlers = client.zap.handlers.iter().copied();
        let connected = handlers.filter_map(|id| Some((id, self.conns.target(id)?)));
        let mut connected = connected.filter(|(_, conn)| !conn.closes_later).peekable();
        connected.peek().ok_or(ZapRefusal::NotConnected)?;
        let size_max = self.conns.queue_size_max;
        let free = connected.find(|(_, conn)| !conn.is_at_high_water(&client.options, size_max));
        let free = free.filter(|_| client.zap.asked.len() < ZAP_REQUESTS_MAX);
        let (handler, _) = free.ok_or(ZapRefusal::Busy)?;
        let number = client.zap.last + 1;
        let mut request = Vec::new();
        let (domain, identity) = (options.zap_domain.as_bytes(), options.routing_id.as_bytes());
        append_request(
            &mut request,
            number,
            [domain, address.as_bytes(), identity],
            credentials,
        );
        let client = &mut self.sockets[zap];
        client.zap.last = number;
        client.zap.asked.insert(number, id);
        client.stats.count_out(1, 1, request.len());
        self.memory.asked += 1;
        self.outbox
            .push_bytes(&mut self.conns, handler, &request, 1);
        self.turn.charge(cost::ZAP_REQUEST);
        let deadline = self.clock.now() + timeout;
        self.timers.insert(deadline, Owner::Zap(id));
        if let Some(conn) = self.conns.get_mut(id) {
            let asked = Asked {
                handler,
                number,
                user,
                zap,
            };
            conn.decision = Some(Box::new(Decision::Asked(asked)));
        }
        Ok(())
    }

    /// Handles the message at the front of `input`, which a handler sent, and consumes it.
    pub(super) fn handle_zap_answer(&mut self, id: ConnId, input: &mut Input, size: usize) {
        self.turn.charge(cost::ZAP_ANSWER);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.traffic.count_received(1, size as u64);
            let socket_id = conn.socket;
            let socket = &mut self.sockets[socket_id];
            socket.stats.count_in(1, size);
            let answer = Answer::parse(&input.bytes()[..size]);
            let asked = answer.as_ref().map(|answer| answer.number);
            let peer = asked.and_then(|number| socket.zap.asked.get(&number).copied());
            match (peer, answer) {
                (Some(peer), Some(answer)) if self.waits_for(peer, id, answer.number) => {
                    self.take_answer(socket_id, peer, &answer);
                }
                // The peer has gone, was decided about, or waits for another handler.
                _ => self.sockets[socket_id]
                    .stats
                    .count_drop(DropReason::NotExpected),
            }
        }
        input.consume(size);
    }

    /// Whether a peer waits for the answer of this handler to this request.
    fn waits_for(&self, peer: ConnId, handler: ConnId, number: u64) -> bool {
        let conn = self.conns.get(peer).filter(|conn| !conn.closes_later);
        let asked = conn.and_then(|conn| conn.asked());
        asked.is_some_and(|asked| (asked.handler, asked.number) == (handler, number))
    }

    /// A handler has answered about a peer that waits for it.
    fn take_answer(&mut self, zap: SocketId, peer: ConnId, answer: &Answer<'_>) {
        let listed = self.forget_request(peer);
        if let Err(refusal) = answer.outcome {
            let (name, side) = self.names(zap);
            log::debug!(
                proxy = name, side:% = side;
                "{name} {side}: {refusal}: \"{}\"",
                show(answer.text).up_to(TEXT_LEN_MAX)
            );
            return self.refuse_by_answer(peer, refusal);
        }
        // The name in a list of the broker has its role there.
        let named = answer.outcome.ok().flatten().map(Into::into);
        let user = listed.or(named);
        self.decided(peer, Authorization::Granted { user });
        self.resume_handshake(peer);
    }

    /// A handler has refused a peer, which is told if the options say so.
    fn refuse_by_answer(&mut self, id: ConnId, refusal: ZapRefusal) {
        let socket = self.conns.get(id).map(|conn| &self.sockets[conn.socket]);
        let is_told = socket.is_some_and(|socket| socket.options.reject == Reject::Error);
        if is_told && refusal == ZapRefusal::Denied {
            self.decided(id, Authorization::Denied { is_told });
            self.resume_handshake(id);
        } else {
            self.refuse(id, CloseReason::Zap(refusal));
        }
    }

    /// Continues the handshake of a peer that was decided about, as if its input had been left for
    /// this turn, even without pending bytes.
    pub(super) fn resume_handshake(&mut self, id: ConnId) {
        let is_made = |decision: &Decision| matches!(decision, Decision::Made(_));
        if let Some(conn) = self.conns.get_mut(id)
            && conn.decision.as_deref().is_some_and(is_made)
        {
            conn.is_cut = true;
            self.deferred.act(Action::Resume(id));
        }
    }

    /// The time for the answer about a peer is over.
    pub(super) fn check_zap(&mut self, id: ConnId) {
        if self
            .conns
            .get(id)
            .is_some_and(|conn| conn.asked().is_some())
        {
            self.refuse(id, CloseReason::Zap(ZapRefusal::TimedOut));
        }
    }

    /// A peer waits for no answer any more; returns its name by the list of its socket.
    pub(super) fn forget_request(&mut self, id: ConnId) -> Option<Arc<str>> {
        let conn = self.conns.get_mut(id)?;
        let is_asked = |decision: &mut Box<Decision>| matches!(**decision, Decision::Asked(_));
        let Decision::Asked(asked) = *conn.decision.take_if(is_asked)? else {
            return None;
        };
        self.memory.asked -= 1;
        self.timers.forget_zap(id);
        if let Some(client) = self.sockets.get_mut(asked.zap) {
            client.zap.asked.remove(&asked.number);
        }
        asked.user
    }

    /// A handler is not connected any more: the peers that wait for its answers are refused.
    pub(super) fn lose_handler(&mut self, socket: SocketId, id: ConnId) {
        let client = &mut self.sockets[socket];
        if client.name != SocketName::Zap {
            return;
        }
        client.zap.handlers.retain(|other| *other != id);
        let waiting: Vec<ConnId> = client.zap.asked.values().copied().collect();
        self.turn.charge(waiting.len() as u64 * cost::WALK);
        for peer in waiting {
            let asked = self.conns.get(peer).and_then(|conn| conn.asked());
            if asked.is_some_and(|asked| asked.handler == id) {
                self.refuse(peer, CloseReason::Zap(ZapRefusal::Lost));
            }
        }
    }

    /// The number of peers that wait for answers of handlers, recounted.
    pub(super) fn walk_requests(&self) -> u64 {
        let asked = self.conns.iter().filter(|(_, conn)| conn.asked().is_some());
        asked.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmtp::encode::append_message;
    use zmtp::plain::Password;

    fn wire(frames: &[&[u8]]) -> Vec<u8> {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        wire
    }

    #[test]
    fn an_answer_is_all_right_or_refuses_the_peer() {
        let long = [b'x'; 256];
        let huge: &[u8] = b"\x01k\xff\xff\xff\xffv";
        type Case<'a> = ([&'a [u8]; 7], Result<Option<&'a str>, ZapRefusal>);
        let table: [Case<'_>; 14] = [
            (
                [b"", b"1.0", b"7", b"200", b"OK", b"anna", b""],
                Ok(Some("anna")),
            ),
            (
                [b"", b"1.0", b"7", b"200", b"", b"", b"\x01k\0\0\0\x01v"],
                Ok(None),
            ),
            (
                [b"", b"1.0", b"7", b"300", b"", b"", b""],
                Err(ZapRefusal::Temporary),
            ),
            (
                [b"", b"1.0", b"7", b"400", b"", b"", b""],
                Err(ZapRefusal::Denied),
            ),
            (
                [b"", b"1.0", b"7", b"500", b"", b"", b""],
                Err(ZapRefusal::HandlerError),
            ),
            (
                [b"", b"1.0", b"7", b"201", b"", b"", b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"", b"1.0", b"7", b"2000", b"", b"", b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"", b"1.0", b"7", b"", b"", b"", b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"", b"1.1", b"7", b"200", b"", b"", b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"x", b"1.0", b"7", b"200", b"", b"", b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"", b"1.0", b"7", b"200", b"", b"\xff", b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"", b"1.0", b"7", b"200", b"", b"a\nb", b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"", b"1.0", b"7", b"200", b"", &long, b""],
                Err(ZapRefusal::Malformed),
            ),
            (
                [b"", b"1.0", b"7", b"200", b"", b"anna", huge],
                Err(ZapRefusal::Malformed),
            ),
        ];
        for (frames, expected) in table {
            let wire = wire(&frames);
            let answer = Answer::parse(&wire).expect("it names a request");
            assert_eq!((answer.number, answer.outcome), (7, expected), "{frames:?}");
        }
    }

    #[test]
    fn an_answer_has_seven_frames() {
        for count in 3..=8 {
            let all: [&[u8]; 8] = [b"", b"1.0", b"7", b"200", b"", b"anna", b"", b""];
            let wire = wire(&all[..count]);
            let answer = Answer::parse(&wire).expect("it names a request");
            assert_eq!(answer.outcome.is_ok(), count == 7, "{count} frames");
        }
    }

    #[test]
    fn an_answer_without_the_number_of_a_request_is_none() {
        for number in [
            &b""[..],
            b"07",
            b"+7",
            b"-7",
            b"7 ",
            b"18446744073709551616",
            b"\x07",
        ] {
            let wire = wire(&[b"", b"1.0", number, b"200", b"OK", b"anna", b""]);
            assert_eq!(Answer::parse(&wire), None, "{number:?}");
        }
        assert_eq!(Answer::parse(&wire(&[b"", b"1.0"])), None);
        assert_eq!(Answer::parse(b""), None);
    }

    #[test]
    fn a_request_has_the_frames_of_the_rfc() {
        let password = Password::new(b"secret");
        let user = b"anna"[..].into();
        let mut out = Vec::new();
        append_request(
            &mut out,
            3,
            [b"global", b"10.0.0.1", b"front"],
            &Credentials::Plain { password, user },
        );
        let frames: Vec<&[u8]> = Frames::new(&out).map(|frame| frame.body).collect();
        let expected: [&[u8]; 9] = [
            b"",
            b"1.0",
            b"3",
            b"global",
            b"10.0.0.1",
            b"front",
            b"PLAIN",
            b"anna",
            b"secret",
        ];
        assert_eq!(frames, expected);
        let mut out = Vec::new();
        append_request(&mut out, 3, [b""; 3], &Credentials::Null);
        assert_eq!(Frames::new(&out).count(), 7);
    }
}
