//! Requests for messages that have passed, and their answers: see [`crate::proxy::ring`].
//!
//! ```text
//! request:  [delimiter] [from] [prefix]      an answer:  [delimiter] [number] [frame]…
//!                                            the last:   [delimiter] [number of the next one]
//! ```

use crate::conn::Input;
use crate::core::Core;
use crate::core::turn::{self, cost};
use crate::core::values::room_for_kept;
use crate::ids::{ConnId, ProxyId};
use crate::limits::{KEPT_AT_ONCE_MAX, REPLAY_PREFIX_SIZE_MAX};
use crate::pattern::begins_with;
use crate::reason::DropReason;
use std::time::Duration;
use zmtp::Frames;
use zmtp::encode::append_frame;

/// The beginning of the messages that a peer asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    /// Messages of this age and younger ones.
    Age(Duration),
    /// The message with this number.
    Sequence(u64),
    /// Messages that passed at this time or later, since the beginning of 1970.
    Unix(Duration),
}

/// The answer to a request that cannot be understood.
const REFUSAL: &[u8] = b"ERROR: ask with a sequence number of 8 bytes, big-endian, or @SECONDS \
    since 1970, or -SECONDS before now; then a topic of at most 1024 bytes";

impl Core {
    /// Handles the request at the front of `input`, and consumes it.
    pub(super) fn handle_request(&mut self, id: ConnId, input: &mut Input, size: usize) {
        let Some(conn) = self.conns.get_mut(id) else {
            return input.consume(size);
        };
        let (socket_id, proxy) = (conn.socket, conn.proxy);
        conn.traffic.count_received(1, size as u64);
        conn.answered_in = self.turn.number;
        self.sockets[socket_id].stats.count_in(1, size);
        self.turn.charge(cost::ANSWER);
        let (envelope, from, prefix) = read(&input.bytes()[..size]);
        let from = from.filter(|_| prefix.len() <= REPLAY_PREFIX_SIZE_MAX);
        let next = from.and_then(|from| self.first_from(proxy, from));
        match (next, self.proxies[proxy].observers.ring_mut()) {
            (Some(next), Some(ring)) => {
                ring.ask(id, next, prefix, envelope);
                self.send_again(id, KEPT_AT_ONCE_MAX);
            }
            _ => {
                let stats = &mut self.sockets[socket_id].stats;
                stats.count_drop(DropReason::NotExpected);
                let mut answer = envelope.to_vec();
                append_frame(&mut answer, REFUSAL, false);
                self.send_answer(id, socket_id, &answer);
            }
        }
        input.consume(size);
    }

    /// The number of the first message that a request asks for.
    fn first_from(&self, proxy: ProxyId, from: From) -> Option<u64> {
        let ring = self.proxies[proxy].observers.ring()?;
        let now = self.clock.stamp();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Some(match from {
            From::Sequence(sequence) => sequence,
            From::Age(age) => ring.since(now.saturating_sub(micros(age))),
            From::Unix(time) => {
                let age = self.clock.unix().saturating_sub(time);
                ring.since(now.saturating_sub(micros(age)))
            }
        })
    }

    /// Sends a peer messages again while its queue has room, and looks at up to `limit` of them;
    /// returns their number. If more are left, it lines up, now or when it has room.
    pub(super) fn send_again(&mut self, id: ConnId, limit: usize) -> usize {
        let mut done = 0;
        let mut answer = Vec::new();
        while let Some(conn) = self.conns.get(id).filter(|conn| !conn.closes_later) {
            let socket = &mut self.sockets[conn.socket];
            let Some(ring) = self.proxies[conn.proxy].observers.ring_mut() else {
                return done;
            };
            let Some(request) = ring.request(id) else {
                return done;
            };
            if room_for_kept(conn, &socket.options, &self.conns).is_none() {
                return done;
            }
            if done >= limit || done > 0 && self.turn.is_spent() {
                ring.line_up(id);
                return done;
            }
            done += 1;
            self.turn.charge(cost::MESSAGE);
            answer.clear();
            answer.extend_from_slice(&request.envelope);
            let next = request.next.max(ring.first());
            let is_last = next >= ring.next();
            if is_last {
                append_frame(&mut answer, &ring.next().to_be_bytes(), false);
            } else if let Some(wire) = ring.get(next) {
                let permit = conn.permit.as_ref();
                let topic = Frames::new(wire).first();
                let may = permit.is_none_or(|permit| self.users.may_receive(permit.user, topic));
                let is_wanted = begins_with(topic, &request.prefix) && may;
                ring.sent_up_to(id, next + 1);
                if !is_wanted {
                    continue;
                }
                append_frame(&mut answer, &next.to_be_bytes(), true);
                answer.extend_from_slice(ring.get(next).unwrap_or_default());
            }
            if is_last {
                ring.forget(id);
            }
            self.turn.charge(turn::bytes(answer.len()));
            socket.stats.count_out(1, 1, answer.len());
            self.outbox.push_bytes(&mut self.conns, id, &answer, 1);
        }
        done
    }
}

/// The delimiter, the beginning and the prefix in a request.
fn read(wire: &[u8]) -> (&[u8], Option<From>, &[u8]) {
    let mut frames = Frames::new(wire);
    let mut first = frames.next();
    let mut envelope = &wire[..0];
    if first.is_some_and(|frame| frame.body.is_empty() && frame.more) {
        envelope = &wire[..wire.len() - frames.rest().len()];
        first = frames.next();
    }
    let from = first.and_then(|frame| From::parse(frame.body));
    let prefix = frames.next().map_or(&[][..], |frame| frame.body);
    (envelope, from, prefix)
}

impl From {
    fn parse(frame: &[u8]) -> Option<Self> {
        let seconds = |text: &[u8]| {
            let seconds: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok()
        };
        match frame {
            // No sequence number is so large that it begins like a text.
            [b'@', text @ ..] => seconds(text).map(Self::Unix),
            [b'-', text @ ..] => seconds(text).map(Self::Age),
            _ => frame
                .try_into()
                .ok()
                .map(|it| Self::Sequence(u64::from_be_bytes(it))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmtp::encode::append_message;

    fn request(frames: &[&[u8]]) -> Vec<u8> {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        wire
    }

    #[test]
    fn a_request_begins_with_a_number_a_time_or_an_age() {
        type Row = (&'static [&'static [u8]], Option<From>, &'static [u8]);
        const SEVEN: &[u8] = &7_u64.to_be_bytes();
        const TABLE: [Row; 10] = [
            (&[SEVEN], Some(From::Sequence(7)), b""),
            (&[SEVEN, b"cfg."], Some(From::Sequence(7)), b"cfg."),
            (&[b"", SEVEN, b"a", b"more"], Some(From::Sequence(7)), b"a"),
            (&[b"-30"], Some(From::Age(Duration::from_secs(30))), b""),
            (&[b"-0.5"], Some(From::Age(Duration::from_millis(500))), b""),
            (
                &[b"@1763800000"],
                Some(From::Unix(Duration::from_secs(1_763_800_000))),
                b"",
            ),
            (&[b"--1"], None, b""),
            (&[b"-1e400"], None, b""),
            (&[b"7"], None, b""),
            (&[b""], None, b""),
        ];
        for (frames, from, prefix) in TABLE {
            let wire = request(frames);
            let (envelope, found, rest) = read(&wire);
            assert_eq!((found, rest), (from, prefix), "{frames:?}");
            let has_delimiter = frames.len() > 1 && frames[0].is_empty();
            assert_eq!(envelope.is_empty(), !has_delimiter, "{frames:?}");
        }
    }
}
