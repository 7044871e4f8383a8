//! Commands and property lists: which are legal, what they mean, and that encoding them again gives
//! the same bytes.

use super::socket_type;
use crate::encode::append_command;
use crate::error::{Error, Incompatible, Malformed, Reason};
use crate::peer::Peer;
use crate::socket_type::SocketType;
use crate::version::Version;
use crate::wire::command::{Command, append_error, append_ping, append_pong};
use crate::wire::loop_check::{LoopCheck, LoopCommand, Probe, append_join};
use crate::wire::metadata::{Properties, append_property};

/// Reads `data` after its first byte, which picks our socket type, as the body of a command and as
/// a property list.
pub fn fuzz_command(data: &[u8]) {
    let Some((&which, body)) = data.split_first() else {
        return;
    };
    check_command(body);
    check_metadata(socket_type(which), body);
    if let Ok(Command::Ready(metadata)) = Command::parse(body) {
        check_metadata(socket_type(which), metadata);
    }
}

fn check_command(body: &[u8]) {
    let parsed = Command::parse(body);
    let (name, data) = match naive_command(body) {
        Err(error) => {
            assert_eq!(parsed, Err(error));
            return;
        }
        Ok(found) => found,
    };
    let command = parsed.expect("legal by the rules");
    let again = repeated(command, data);
    assert_eq!(again.is_none(), command == Command::Unknown);
    assert_eq!(
        again.is_some(),
        MINIMA.iter().any(|(known, _)| name == *known)
    );
    let Some((kept, again)) = again else {
        return;
    };
    let header_size = again.len() - (1 + name.len() + kept);
    let (header, again) = again.split_at(header_size);
    assert!(matches!(header, [4, _] | [6, ..]), "not a command frame");
    // The name, and as much of the data as the command keeps.
    assert_eq!(body.get(..again.len()), Some(again));
    assert_eq!(Command::parse(again), Ok(command));
}

/// The known commands, and the least size of their data.
const MINIMA: [(&[u8], usize); 10] = [
    (b"CANCEL", 0),
    (b"ERROR", 1),
    (b"PING", 2),
    (b"PONG", 0),
    (b"READY", 0),
    (b"SUBSCRIBE", 0),
    (b"ZMQD-JOIN", 0),
    (b"ZMQD-LOOP", 0),
    (b"ZMQD-PROBE", 21),
    (b"ZMQD-UP", 0),
];

/// Name and data of a legal command.
fn naive_command(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let name_end = 1 + usize::from(*body.first().ok_or(Malformed::CommandName)?);
    let name = body.get(1..name_end).ok_or(Malformed::CommandName)?;
    let data = body.get(name_end..).unwrap_or_default();
    let known = MINIMA.iter().find(|(known, _)| *known == name);
    let mut size_min = known.map_or(0, |(_, size_min)| *size_min);
    if name == b"ERROR" {
        size_min += usize::from(data.first().copied().unwrap_or_default());
    }
    if data.len() >= size_min {
        return Ok((name, data));
    }
    Err(match name {
        b"ERROR" => Malformed::ErrorReason,
        b"PING" => Malformed::Ping,
        _ => Malformed::Probe,
    })
}

/// The same command in our encoding, and the size of its data.
fn repeated(command: Command<'_>, data: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut out = Vec::new();
    let kept = match command {
        Command::Cancel(topic) => {
            Peer::append_subscription(Version::V3_1, topic, false, &mut out);
            data.len()
        }
        Command::Subscribe(topic) => {
            Peer::append_subscription(Version::V3_1, topic, true, &mut out);
            data.len()
        }
        Command::Ready(metadata) => {
            append_command(&mut out, "READY", metadata);
            data.len()
        }
        Command::Error(reason) => {
            let text = data.get(1..1 + usize::from(*data.first()?))?;
            assert_eq!(reason, Reason::new(text));
            let shown = format!("\"{}\"", crate::show(text.get(..46).unwrap_or(text)));
            assert_eq!(reason.to_string(), shown);
            match str::from_utf8(text) {
                Ok(text) => append_error(&mut out, text),
                Err(_) => append_command(&mut out, "ERROR", data.get(..1 + text.len())?),
            }
            1 + text.len()
        }
        Command::Ping {
            context,
            ttl_deciseconds,
        } => {
            assert_eq!(context, data.get(2..18).or_else(|| data.get(2..))?);
            if context.is_empty() {
                append_ping(&mut out, ttl_deciseconds);
            } else {
                append_command(&mut out, "PING", data.get(..2 + context.len())?);
            }
            2 + context.len()
        }
        Command::Pong => {
            append_pong(&mut out, data);
            data.len()
        }
        Command::Join => {
            append_join(&mut out);
            0
        }
        Command::LoopCheck(said) => {
            said.append(&mut out);
            if let LoopCommand::Probe(Probe { .. }) = said {
                21
            } else {
                0
            }
        }
        Command::Unknown => return None,
    };
    Some((kept, out))
}

fn check_metadata(local: SocketType, list: &[u8]) {
    let (properties, is_whole) = naive_metadata(list);
    let mut again = Vec::new();
    let mut walk = Properties::new(list);
    for (name, value) in &properties {
        let property = walk.next().and_then(Result::ok).expect("a whole property");
        assert_eq!((property.name, property.value), (*name, *value));
        for other in ["Identity", "Socket-Type", "X-Zmqd-Loop-Check"] {
            assert_eq!(property.is(other), is_named(name, other));
        }
        if let Ok(name) = str::from_utf8(name) {
            append_property(&mut again, name, value);
            assert!(again.ends_with(value));
        }
    }
    let rest = walk.next();
    assert_eq!(rest, (!is_whole).then_some(Err(Malformed::Metadata)));
    assert_eq!(walk.next(), None, "the walk is over");
    if is_whole && properties.iter().all(|(name, _)| name.is_ascii()) {
        assert_eq!(again, list);
    }
    let peer = Peer::from_metadata(local, Version::V3_1, list);
    assert_eq!(peer, naive_peer(local, &properties, is_whole));
}

/// Name and value.
type Property<'a> = (&'a [u8], &'a [u8]);

/// The whole properties at the front of a list, and whether the list ends after them.
fn naive_metadata(mut list: &[u8]) -> (Vec<Property<'_>>, bool) {
    let mut properties = Vec::new();
    while let Some(&name_size) = list.first() {
        let name_end = 1 + u64::from(name_size);
        let value_size = (0..4).try_fold(0, |sum, index| {
            let at = usize::try_from(name_end + index).ok()?;
            Some(sum * 256 + u64::from(*list.get(at)?))
        });
        let Some(value_size) = value_size else {
            return (properties, false);
        };
        let end = name_end + 4 + value_size;
        if end > list.len() as u64 {
            return (properties, false);
        }
        let [name_end, end] = [name_end, end].map(|at| usize::try_from(at).expect("in the list"));
        let property = (&list[1..name_end], &list[name_end + 4..end]);
        properties.push(property);
        list = &list[end..];
    }
    (properties, true)
}

fn is_named(name: &[u8], other: &str) -> bool {
    name.to_ascii_lowercase() == other.to_ascii_lowercase().as_bytes()
}

/// The first wrong property decides; of legal properties with one name, the last.
fn naive_peer(
    local: SocketType,
    properties: &[Property<'_>],
    is_whole: bool,
) -> Result<Peer, Error> {
    let mut peer = Peer {
        identity: Box::default(),
        loop_check: LoopCheck::Off,
        socket_type: None,
        user: None,
        version: Version::V3_1,
    };
    for (name, value) in properties {
        if is_named(name, "Identity") {
            if value.len() > 255 {
                return Err(Malformed::Metadata.into());
            }
            peer.identity = (*value).into();
        } else if is_named(name, "Socket-Type") {
            let announced = SocketType::ALL
                .iter()
                .find(|each| each.name().as_bytes() == *value);
            let announced = *announced.ok_or(Incompatible::UnknownSocketType)?;
            if !announced.accepts(local) {
                let peer = announced;
                return Err(Incompatible::SocketType { local, peer }.into());
            }
            peer.socket_type = Some(announced);
        } else if is_named(name, "X-Zmqd-Loop-Check") {
            peer.loop_check = match *value {
                b"on" => LoopCheck::On,
                b"trial" => LoopCheck::Trial,
                _ => LoopCheck::Off,
            };
        }
    }
    if !is_whole {
        return Err(Malformed::Metadata.into());
    }
    Ok(peer)
}
