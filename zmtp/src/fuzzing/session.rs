//! A session with a peer that sends anything.

use super::{LIMITS, OLD, socket_type};
use crate::config::SessionConfig;
use crate::deframer::Span;
use crate::frames::Frames;
use crate::mechanism::Authorization;
use crate::session::{Event, Session};
use crate::version::Version;
use crate::wire::greeting::Greeting;
use crate::wire::loop_check::LoopCheck;
use std::sync::Arc;
use std::time::Instant;

/// Feeds `data` to a session: the first byte picks the socket type, and with the bit `OLD` peers of
/// 2.0 are accepted; the second picks the chunk size. Its reports must depend neither on the chunks
/// nor on the way in which messages are found.
pub fn fuzz_session(data: &[u8]) {
    let [which, chunk, stream @ ..] = data else {
        return;
    };
    let config = Arc::new(SessionConfig {
        accept_zmtp2: which & OLD != 0,
        authenticate: *chunk == 0,
        limits: LIMITS,
        loop_check: LoopCheck::On,
        ..SessionConfig::new(socket_type(*which))
    });
    let whole = converse(&config, stream, usize::MAX, false);
    for takes_short_way in [false, true] {
        let chunk_size = usize::from(*chunk) + 1;
        let cut = converse(&config, stream, chunk_size, takes_short_way);
        assert_eq!(cut, whole);
    }
    assert_eq!(converse(&config, stream, usize::MAX, true), whole);
}

/// Like [`fuzz_session`], from the first byte of traffic on; with the bit `OLD`, the traffic of a
/// peer of 2.0.
pub fn fuzz_traffic(data: &[u8]) {
    let [which, chunk, stream @ ..] = data else {
        return;
    };
    let mut whole = vec![*which, *chunk];
    if which & OLD == 0 {
        Greeting::new("NULL").emit(&mut whole);
        whole.extend_from_slice(b"\x04\x06\x05READY");
    } else {
        let peer = socket_type(*which).peers().first().map(|peer| peer.octet());
        whole.extend_from_slice(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01");
        whole.extend(peer);
        whole.extend_from_slice(b"\0\0");
    }
    whole.extend_from_slice(stream);
    fuzz_session(&whole);
}

/// The result of one conversation: events as text, everything sent, and its end.
type Conversation = (Vec<String>, Vec<u8>, Option<&'static str>);

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do: no deadline is polled"
)]
fn converse(
    config: &Arc<SessionConfig>,
    stream: &[u8],
    chunk_size: usize,
    takes_short_way: bool,
) -> Conversation {
    let (mut out, mut events, mut input) = (Vec::new(), Vec::new(), Vec::new());
    let mut session = Session::new(config.clone(), Instant::now(), &mut out);
    let mut said_size_max = usize::MAX;
    for chunk in stream.chunks(chunk_size) {
        input.extend_from_slice(chunk);
        loop {
            if let Some(finder) = session.finder().filter(|_| takes_short_way) {
                while let Some(size) = finder.find(&input) {
                    events.push(format!("{:?}", input.get(..size)));
                    input.drain(..size);
                }
            }
            let step = match session.handle_input(&mut input, &mut out) {
                Ok(step) => step,
                Err(error) => {
                    assert!(out.len() <= said_size_max, "2.0 has no ERROR");
                    let size = out.len();
                    let again = session.handle_input(&mut input, &mut out);
                    assert_eq!((again, out.len()), (Err(error), size), "it is over");
                    return (events, out, Some(error.label()));
                }
            };
            let mut consumed = step.consumed;
            match step.event {
                Event::Need(size) => {
                    input.truncate(input.len() - step.removed);
                    assert!(size > input.len(), "asked for bytes that are there");
                    break;
                }
                Event::Progress => {}
                Event::Authenticate(credentials) => {
                    events.push(format!("{credentials:?}"));
                    let again = session.handle_input(&mut [], &mut out);
                    assert_eq!(again.map(|step| step.event), Ok(Event::Undecided));
                    let granted = Authorization::Granted { user: None };
                    let event = session.authorize(granted, &mut out);
                    events.push(format!("{event:?}"));
                }
                Event::Undecided => panic!("it was decided at once"),
                Event::LoopCheck(said) => events.push(format!("{said:?}")),
                Event::Message(span) => {
                    session.accept();
                    let message = input.get(consumed..consumed + span.size);
                    check_frames(message.unwrap_or_default(), span);
                    events.push(format!("{message:?}"));
                    consumed += span.size;
                }
                Event::Ready(peer) | Event::Trial(peer) => {
                    if peer.version == Version::V2 {
                        assert!(config.accept_zmtp2, "refused by default");
                        said_size_max = out.len();
                    }
                    events.push(format!("{peer:?}"));
                }
                Event::Subscription { add, topic } => {
                    events.push(format!("{add} {:?}", input.get(topic)));
                }
            }
            input.drain(..consumed);
            assert!(out.len() <= said_size_max, "2.0 has no answers to anything");
        }
    }
    (events, out, None)
}

/// A message has the number of frames that its span announces, only the last without MORE.
fn check_frames(message: &[u8], span: Span) {
    let mut frames = Frames::new(message);
    for index in 1..=span.frames {
        let frame = frames.next().expect("a frame");
        assert_eq!(frame.more, index < span.frames);
    }
    assert!(frames.rest().is_empty());
}
