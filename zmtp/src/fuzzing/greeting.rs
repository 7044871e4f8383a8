//! Greetings, as values and as a session answers them, compared with a plain statement of the
//! rules.

use super::{OLD, socket_type};
use crate::config::SessionConfig;
use crate::encode::append_frame;
use crate::error::{Error, Incompatible, MechanismName};
use crate::session::{Event, Session};
use crate::socket_type::SocketType;
use crate::version::Version;
use crate::wire::greeting::{Arrived, Greeting, parse_v2};
use std::sync::Arc;
use std::time::Instant;

/// Reads `data` as a greeting, byte by byte: the first byte picks our socket type, and with the bit
/// `OLD` peers of 2.0 are accepted. At every size, results, errors and answers must follow the
/// rules.
pub fn fuzz_greeting(data: &[u8]) {
    let Some((&which, stream)) = data.split_first() else {
        return;
    };
    for size in 0..=stream.len().min(GREETING_SIZE + 1) {
        let input = stream.get(..size).unwrap_or_default();
        let expected = naive(input);
        let parsed = Greeting::parse(input);
        assert_eq!(parsed.map(|found| found.map(fields)), expected);
        match (Arrived::of(input), expected) {
            (Err(error), expected) => assert_eq!(expected, Err(error)),
            (Ok(Arrived::Major(major)), expected) => {
                assert_eq!(input.get(10), Some(&major));
                assert_eq!(expected.is_err(), major < 2);
            }
            (Ok(Arrived::Signature), expected) => assert_eq!((size, expected), (10, Ok(None))),
            (Ok(Arrived::Nothing), expected) => {
                assert!(size < 10, "a signature has ten bytes");
                assert_eq!(expected, Ok(None));
            }
        }
        assert_eq!(parse_v2(input), naive_v2(input));
        if let Ok(Some(greeting)) = parsed {
            assert_eq!(Greeting::parse(&greeting.bytes()), Ok(Some(greeting)));
        }
    }
    check_emitted(stream);
    for accept_zmtp2 in [false, which & OLD != 0] {
        check_answers(socket_type(which), accept_zmtp2, stream);
    }
}

const GREETING_SIZE: usize = 64;

/// The name of a mechanism, a version, and whether the sender is a server.
type Fields = ([u8; 20], Version, bool);

fn fields(greeting: Greeting) -> Fields {
    (greeting.mechanism, greeting.version, greeting.as_server)
}

/// The rules: a signature that begins with FF and whose tenth byte is odd, a major, a minor, the
/// name of a mechanism and the flag of a server somewhere in 64 bytes.
fn naive(input: &[u8]) -> Result<Option<Fields>, Error> {
    let at = |index: usize| input.get(index).copied();
    if at(0).is_some_and(|first| first != 0xff) {
        return Err(Error::not_zmtp(input));
    }
    if at(9).is_some_and(|last| last % 2 == 0) || at(10) == Some(0) {
        return Err(Incompatible::Version1.into());
    }
    if at(10) == Some(1) {
        return Err(Incompatible::Version2.into());
    }
    if input.len() < GREETING_SIZE {
        return Ok(None);
    }
    let is_3_0 = at(10) == Some(3) && at(11) == Some(0);
    let version = if is_3_0 { Version::V3_0 } else { Version::V3_1 };
    let mechanism = std::array::from_fn(|index| at(12 + index).unwrap_or_default());
    Ok(Some((mechanism, version, at(32) == Some(1))))
}

/// The twelfth byte, as RFC 15 and libzmq 3.2 have it.
fn naive_v2(input: &[u8]) -> Result<Option<SocketType>, Error> {
    const NAMES: &str = "PAIR PUB SUB REQ REP DEALER ROUTER PULL PUSH XPUB XSUB";
    let Some(&octet) = input.get(11) else {
        return Ok(None);
    };
    let name = NAMES.split(' ').nth(usize::from(octet));
    let socket_type = name.and_then(|name| SocketType::from_name(name.as_bytes()));
    socket_type
        .map(Some)
        .ok_or_else(|| Incompatible::UnknownSocketType.into())
}

/// A greeting of ours with any mechanism name reads back as that name.
fn check_emitted(stream: &[u8]) {
    let Some(name) = stream.get(..20).and_then(|name| str::from_utf8(name).ok()) else {
        return;
    };
    let greeting = Greeting::new(name);
    assert_eq!(greeting.mechanism, name.as_bytes());
    assert_eq!(naive(&greeting.bytes()), Ok(Some(fields(greeting))));
}

/// Feeds the greeting to a session byte by byte. Everything it sends until the greetings are over
/// is compared with the table at the top of `opening.rs`.
#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do: no deadline is polled"
)]
fn check_answers(local: SocketType, accept_zmtp2: bool, stream: &[u8]) {
    let config = Arc::new(SessionConfig {
        accept_zmtp2,
        identity: b"fuzz".to_vec(),
        ..SessionConfig::new(local)
    });
    let mut out = Vec::new();
    let mut session = Session::new(config, Instant::now(), &mut out);
    for size in 0..=stream.len() {
        let mut input = stream.get(..size).unwrap_or_default().to_vec();
        let step = session.handle_input(&mut input, &mut out);
        let expected = naive_answer(local, accept_zmtp2, &input);
        let said = out.get(..expected.said.len());
        assert_eq!(said, Some(expected.said.as_slice()), "at {size} bytes");
        match step {
            Ok(step) => match step.event {
                Event::Need(need) => {
                    assert_eq!(expected.end, None);
                    assert_eq!(said.map(<[u8]>::len), Some(out.len()), "sent too much");
                    assert!(need > size, "asked for bytes that are there");
                }
                event => {
                    assert_eq!((event, expected.end), (Event::Progress, Some(Ok(size))));
                    assert_eq!(step.consumed, size);
                    return;
                }
            },
            Err(error) => {
                assert_eq!(expected.end, Some(Err(error)));
                return;
            }
        }
    }
}

/// What a session has sent, whether the greetings are over, and after how many bytes.
struct Answer {
    end: Option<Result<usize, Error>>,
    said: Vec<u8>,
}

fn naive_answer(local: SocketType, accept_zmtp2: bool, input: &[u8]) -> Answer {
    let mut said = Greeting::new("NULL").bytes().to_vec();
    let mut end = None;
    match naive(input) {
        Err(Error::Incompatible(Incompatible::Version2)) if accept_zmtp2 => {
            said.truncate(11);
            said.push(local.octet());
            let announced: &[u8] = match local {
                SocketType::Dealer | SocketType::Req | SocketType::Router => b"fuzz",
                _ => b"",
            };
            append_frame(&mut said, announced, false);
            end = match naive_v2(input) {
                Ok(None) => None,
                Ok(Some(peer)) if !local.peers().contains(&peer) => {
                    Some(Err(Incompatible::SocketType { local, peer }.into()))
                }
                Ok(Some(_)) => Some(Ok(12)),
                Err(error) => Some(Err(error)),
            };
        }
        Err(error) => {
            said.truncate(11);
            end = Some(Err(error));
        }
        Ok(found) => {
            said.truncate(if input.len() > 10 { GREETING_SIZE } else { 11 });
            if let Some((mechanism, ..)) = found {
                let peer = MechanismName(mechanism);
                let is_null = mechanism.starts_with(b"NULL") && mechanism.ends_with(&[0; 16]);
                let mismatch = Incompatible::Mechanism {
                    local: "NULL",
                    peer,
                }
                .into();
                end = Some(if is_null {
                    Ok(GREETING_SIZE)
                } else {
                    Err(mismatch)
                });
            }
        }
    }
    Answer { end, said }
}
