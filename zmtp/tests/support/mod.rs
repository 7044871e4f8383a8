//! Transcripts: their text form, and their replay in pieces of any size.
//!
//! ```text
//! == name of the conversation; lines before the first belong to the file
//! local ROUTER                        our socket type
//! accept_zmtp2                        peers of 2.0 are accepted
//! loop_check on                       we look for loops; or `trial`
//! limit message_frames_max 3          a limit other than the default
//! mechanism plain-server              instead of NULL; also plain-client "user" "secret",
//!                                     curve-server SECRET, curve-client SECRET PUBLIC (server's)
//! entropy 01 02 03                    the random bytes that we make keys and nonces of, in order
//! authorize "name"                    the caller's decision when asked; or `deny`, or `tell`
//!                                     for a denial by ERROR. By default the peer has no name.
//! < 00 05 "hello"                     the peer's bytes, field by field
//! > 04 05 04 "PONG"                   what we must have sent once the lines above have arrived
//! = message 00 05 "hello"             what must have been reported by then: a message as sent,
//! = ready 3.1 REQ "id"                a peer's version, type (or -) and identity,
//! = authenticate "user" 00 "secret"   the credentials that the caller has to decide about: user
//!                                     name, zero and password, or the key of the client,
//! = subscribe "topic"                 a subscription,
//! = cancel "topic"                    or its end,
//! = loop_check 04 08 07 "ZMQD-UP"     a command about loops, as we would send it,
//! = trial                             or that messages may not pass yet
//! ! illegal-flags                     the label of the error that must have been returned by then
//! ```
//!
//! Bytes are hexadecimal, `"text"`, or `61*300` for 300 times the same byte. `greeting` stands for
//! an exchange of NULL greetings of version 3.1 and `handshake REQ` for that and both READY
//! commands. A line that begins with a space continues the one before; one that begins with `#` is
//! a comment.

mod random;
mod replay;

pub(crate) use random::Random;
pub(crate) use replay::{Caller, replay};

use std::sync::Arc;
use std::{fs, path::Path};
use zmtp::curve::{CurveClient, CurveServer, PublicKey, SecretKey};
use zmtp::plain::{Password, PlainClient};
use zmtp::{Authorization, Limits, LoopCheck, MechanismConfig, SocketType, Version};

/// An event that a session reports, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Authenticate(Vec<u8>),
    Cancel(Vec<u8>),
    Failed(String),
    LoopCheck(Vec<u8>),
    Message(Vec<u8>),
    Ready(Version, Option<SocketType>, Vec<u8>),
    Subscribe(Vec<u8>),
    Trial,
}

/// One conversation. Positions are numbers of bytes of `input`.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    pub(crate) name: String,
    pub(crate) authorization: Authorization,
    pub(crate) entropy: Vec<u8>,
    pub(crate) mechanism: MechanismConfig,
    pub(crate) accepts_zmtp2: bool,
    pub(crate) local: SocketType,
    pub(crate) limits: Limits,
    pub(crate) loop_check: LoopCheck,
    /// Everything that the peer sends.
    pub(crate) input: Vec<u8>,
    /// Events that must happen with this many bytes, and not before.
    pub(crate) happenings: Vec<(usize, Happening)>,
    /// Bytes that we must send with this many received bytes, and not before.
    pub(crate) output: Vec<(usize, Vec<u8>)>,
}

/// Reads every transcript under `tests/data`.
pub(crate) fn read_all() -> Vec<Transcript> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("tests/data is there")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .collect();
    paths.sort();
    let mut transcripts = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a readable file");
        let file = path.file_stem().unwrap_or_default().to_string_lossy();
        transcripts.extend(parse(&file, &text));
    }
    transcripts
}

/// Parses one file, whose conversations begin at lines of `== name` or, without any, at its top.
pub(crate) fn parse(file: &str, text: &str) -> Vec<Transcript> {
    let text = text.replace("\n ", " ");
    let mut sections = text.split("\n== ");
    let first = Transcript::parse(file, sections.next().unwrap_or_default());
    let mut transcripts: Vec<_> = sections
        .map(|section| {
            let (name, lines) = section.split_once('\n').unwrap_or((section, ""));
            Transcript::parse(&format!("{file}: {name}"), lines)
        })
        .collect();
    if transcripts.is_empty() {
        transcripts.push(first);
    }
    transcripts
}

impl Transcript {
    fn parse(name: &str, lines: &str) -> Self {
        let mut transcript = Self {
            name: name.to_owned(),
            authorization: Authorization::Granted { user: None },
            entropy: Vec::new(),
            mechanism: MechanismConfig::Null,
            accepts_zmtp2: false,
            local: SocketType::Router,
            limits: Limits::default(),
            loop_check: LoopCheck::Off,
            input: Vec::new(),
            happenings: Vec::new(),
            output: Vec::new(),
        };
        for line in lines.lines() {
            transcript.parse_line(line);
        }
        transcript
    }

    fn parse_line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "accept_zmtp2" => self.accepts_zmtp2 = true,
            "authorize" => {
                let user = Some(text(rest).as_str().into());
                self.authorization = Authorization::Granted { user };
            }
            "deny" => self.authorization = Authorization::Denied { is_told: false },
            "tell" => self.authorization = Authorization::Denied { is_told: true },
            "entropy" => self.entropy.extend(bytes(rest)),
            "mechanism" => self.mechanism = mechanism(rest),
            "local" => self.local = socket_type(rest),
            "loop_check" => self.loop_check = loop_check(rest),
            "limit" => self.set_limit(rest),
            "greeting" => self.greeting(),
            "handshake" => self.handshake(socket_type(rest)),
            "<" => self.input.extend(bytes(rest)),
            ">" => self.output.push((self.input.len(), bytes(rest))),
            "=" => {
                let happening = happening(rest);
                self.happenings.push((self.input.len(), happening));
            }
            "!" => {
                let failed = Happening::Failed(rest.to_owned());
                self.happenings.push((self.input.len(), failed));
            }
            _ => panic!("{}: {line}", self.name),
        }
    }

    fn set_limit(&mut self, rest: &str) {
        let (name, value) = rest.split_once(' ').expect("limit name value");
        let value: u32 = value.parse().expect("a number");
        match name {
            "handshake_command_size_max" => {
                self.limits.handshake_command_size_max = value.into();
            }
            "message_frames_max" => self.limits.message_frames_max = value,
            "message_size_max" => self.limits.message_size_max = value.into(),
            "topic_size_max" => self.limits.topic_size_max = value.into(),
            _ => panic!("{}: no limit {name}", self.name),
        }
    }

    fn greeting(&mut self) {
        let (version, rest) = ("ff 00*7 01 7f 03", r#"01 "NULL" 00*48"#);
        for step in [version, rest] {
            self.parse_line(&format!("> {step}"));
            self.parse_line(&format!("< {step}"));
        }
        let ready = ready(self.local);
        self.output.push((self.input.len(), ready));
    }

    fn handshake(&mut self, peer: SocketType) {
        self.greeting();
        self.input.extend(ready(peer));
        let happening = Happening::Ready(Version::V3_1, Some(peer), Vec::new());
        self.happenings.push((self.input.len(), happening));
    }
}

/// READY of an anonymous socket.
pub(crate) fn ready(socket_type: SocketType) -> Vec<u8> {
    let name = socket_type.name();
    let size = u8::try_from(name.len()).expect("names are short");
    let mut properties = [b"\x0bSocket-Type\0\0\0", &[size][..], name.as_bytes()].concat();
    if socket_type.announces_identity() {
        properties.extend(b"\x08Identity\0\0\0\0");
    }
    let body_size = u8::try_from(6 + properties.len()).expect("a short command");
    [&[4, body_size], &b"\x05READY"[..], &properties].concat()
}

fn mechanism(words: &str) -> MechanismConfig {
    let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let key = |hex: &str| <[u8; 32]>::try_from(bytes(hex)).expect("a key");
    let secret = || SecretKey::from_bytes(&key(first)).expect("a usable key");
    match name {
        "plain-client" => {
            let client = PlainClient::new(&bytes(first), Password::new(&bytes(second)));
            MechanismConfig::PlainClient(Arc::new(client.expect("short fields")))
        }
        "plain-server" => MechanismConfig::PlainServer,
        "curve-client" => {
            let server = PublicKey::from_bytes(key(second)).expect("a usable key");
            let client = CurveClient::new(secret(), server);
            MechanismConfig::CurveClient(Arc::new(client.with_entropy(replay::ENTROPY)))
        }
        "curve-server" => {
            let server = CurveServer::new(secret());
            MechanismConfig::CurveServer(Arc::new(server.with_entropy(replay::ENTROPY)))
        }
        _ => panic!("no mechanism is called {name}"),
    }
}

fn version(text: &str) -> Option<Version> {
    [Version::V2, Version::V3_0, Version::V3_1]
        .into_iter()
        .find(|version| version.to_string() == text)
}

fn socket_type(name: &str) -> SocketType {
    SocketType::from_name(name.as_bytes()).expect("a socket type")
}

fn loop_check(word: &str) -> LoopCheck {
    match word {
        "on" => LoopCheck::On,
        "trial" => LoopCheck::Trial,
        _ => panic!("no loop check is called {word}"),
    }
}

fn happening(text: &str) -> Happening {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "authenticate" => Happening::Authenticate(bytes(rest)),
        "cancel" => Happening::Cancel(bytes(rest)),
        "loop_check" => Happening::LoopCheck(bytes(rest)),
        "message" => Happening::Message(bytes(rest)),
        "subscribe" => Happening::Subscribe(bytes(rest)),
        "trial" => Happening::Trial,
        "ready" => {
            let mut words = rest.splitn(3, ' ');
            let version = words.next().and_then(version);
            let name = words.next().filter(|name| *name != "-");
            let identity = bytes(words.next().unwrap_or_default());
            Happening::Ready(version.expect("a version"), name.map(socket_type), identity)
        }
        _ => panic!("nothing is called {word}"),
    }
}

fn text(quoted: &str) -> String {
    String::from_utf8(bytes(quoted)).expect("a text")
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in text.split_whitespace() {
        if let Some(text) = token
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
        {
            bytes.extend(text.bytes());
        } else if let Some((byte, times)) = token.split_once('*') {
            let times = times.parse().expect("a number of times");
            bytes.extend(hexadecimal(byte).repeat(times));
        } else {
            bytes.extend(hexadecimal(token));
        }
    }
    bytes
}

fn hexadecimal(digits: &str) -> Vec<u8> {
    assert!(
        digits.is_ascii() && digits.len().is_multiple_of(2),
        "{digits}"
    );
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}
