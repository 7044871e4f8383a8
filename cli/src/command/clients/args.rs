//! The arguments of the clients, and their examples.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use broker::config::Attach;
use clap::value_parser;
use zmtp::SocketType;

use super::Request;
use super::message::Shape;
use super::talk::Answer;
use crate::client::{SecurityArgs, ServerArgs};
use crate::output::Failure;
use crate::value::{Attached, connect_by_habit, size, time, timeout};

/// The time for connecting to one address, and for the handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A subcommand for each type of socket.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum ClientCommand {
    /// Publish messages to subscribers
    #[command(after_help = PUB_EXAMPLES)]
    Pub(PubArgs),
    /// Subscribe, and print what is published
    #[command(after_help = SUB_EXAMPLES)]
    Sub(SubArgs),
    /// Send requests, and print the replies
    #[command(after_help = REQ_EXAMPLES)]
    Req(BothArgs),
    /// Reply to requests
    #[command(after_help = REP_EXAMPLES)]
    Rep(RepArgs),
    /// Send messages to peers in turn
    #[command(after_help = PUSH_EXAMPLES)]
    Push(PushArgs),
    /// Print what peers push
    #[command(after_help = PULL_EXAMPLES)]
    Pull(PullArgs),
    /// Send to peers in turn, and print what they send
    #[command(after_help = DEALER_EXAMPLES)]
    Dealer(BothArgs),
    /// Send to peers by their identity, and print what they send
    #[command(after_help = ROUTER_EXAMPLES)]
    Router(BothArgs),
    /// Send to one peer, and print what it sends
    #[command(after_help = PAIR_EXAMPLES)]
    Pair(BothArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PubArgs {
    #[command(flatten)]
    send: SendArgs,
    /// The topic, a frame in front; several send several times
    #[arg(short, long, value_name = "TOPIC")]
    topic: Vec<OsString>,
    /// Join the topic and the first frame
    #[arg(long, requires = "topic")]
    inline: bool,
    /// Subscribers to wait for at first; 0: none
    #[arg(long, value_name = "N", default_value = "1")]
    peers: u32,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubArgs {
    #[command(flatten)]
    endpoints: EndpointArgs,
    /// Only messages that begin with this, or one of several
    #[arg(short, long, value_name = "TOPIC")]
    topic: Vec<OsString>,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RepArgs {
    #[command(flatten)]
    send: SendArgs,
    /// Reply with the request
    #[arg(long)]
    echo: bool,
    /// Reply with the output of this command; stdin has the request
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["echo", "lines", "stdin", "file", "null", "frames"])]
    exec: Vec<OsString>,
    /// Commands that run at the same time, at most
    #[arg(long, value_name = "N", default_value = "4")]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    parallel: u32,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    send: SendArgs,
    /// Peers to wait for before the first message
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    peers: u32,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    endpoints: EndpointArgs,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BothArgs {
    #[command(flatten)]
    send: SendArgs,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    common: CommonArgs,
}

// Where a socket without messages of its own connects.
#[derive(Debug, clap::Args)]
struct EndpointArgs {
    /// Where to connect; with @ in front, listen there
    #[arg(required = true, value_name = "ENDPOINT", value_parser = connect_by_habit)]
    endpoints: Vec<Attached>,
}

// Endpoints and messages.
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    /// Where to connect (with @ in front: listen), then the frames of a message
    #[arg(required = true, value_name = "ENDPOINT|FRAME")]
    words: Vec<OsString>,
    /// Frames that begin with a hyphen, or as an endpoint does
    #[arg(last = true, value_name = "FRAME")]
    frames: Vec<OsString>,
    /// Each line of stdin is a message; the default without frames
    #[arg(short, long, group = "pieces")]
    pub(super) lines: bool,
    /// All of stdin is one message
    #[arg(short, long, group = "pieces")]
    pub(super) stdin: bool,
    /// Each text of stdin up to a zero byte is a message
    #[arg(short = '0', long, group = "pieces")]
    pub(super) null: bool,
    /// The file is one message, or with -l, -0, --json several
    #[arg(short, long, value_name = "FILE", conflicts_with = "stdin")]
    pub(super) file: Option<PathBuf>,
    /// Time between two messages
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) interval: Option<Duration>,
    /// Messages per second, at most
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "interval")]
    pub(super) rate: Option<Duration>,
}

// How messages are printed.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The bytes of all frames, with nothing added
    #[arg(long, group = "shown")]
    pub(super) raw: bool,
    /// Whole frames in hexadecimal
    #[arg(long, group = "shown")]
    pub(super) hex: bool,
    /// Each frame into a new file of this folder
    #[arg(long, value_name = "DIR", group = "shown")]
    pub(super) dump: Option<PathBuf>,
    /// Bytes shown of each frame; 0: all
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
    pub(super) cut: u64,
}

// What all clients share.
#[derive(Debug, clap::Args)]
pub(super) struct CommonArgs {
    /// End after this number of messages
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// The longest wait for a peer or a message; then exit code 1
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(super) timeout: Option<Duration>,
    /// Messages in JSON, one per line, as in zmqd sniff --json
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) security: SecurityArgs,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

impl SendArgs {
    /// The endpoints, and the frames of a message if there are any.
    pub(super) fn split(&self) -> Result<(Vec<Attached>, Vec<&[u8]>), Failure> {
        let count = self.words.iter().take_while(|word| is_endpoint(word));
        let (endpoints, frames) = self.words.split_at(count.count());
        let mut attached = Vec::new();
        for word in endpoints {
            let text = word.to_string_lossy();
            let endpoint = connect_by_habit(&text);
            attached.push(endpoint.map_err(|error| Failure::usage(error.to_string()))?);
        }
        if attached.is_empty() {
            let word = self.words.first().map(|word| word.to_string_lossy());
            return Err(Failure::usage(format!(
                "{} is not an endpoint: write one first, such as tcp://127.0.0.1:5556",
                zmtp::show(word.unwrap_or_default().as_bytes())
            )));
        }
        let frames = frames.iter().chain(&self.frames);
        Ok((attached, frames.map(|frame| frame.as_bytes()).collect()))
    }
}

/// Whether an argument begins as an endpoint does.
fn is_endpoint(word: &OsString) -> bool {
    let word = word.as_bytes();
    let word = word
        .strip_prefix(b"@")
        .or_else(|| word.strip_prefix(b">"))
        .unwrap_or(word);
    [&b"tcp://"[..], b"ipc://", b"inproc://"]
        .iter()
        .any(|transport| word.starts_with(transport))
}

/// Whether an endpoint is connected to.
pub(super) fn is_dialed((attach, _): &Attached) -> bool {
    *attach == Attach::Connect
}

impl<'a> Request<'a> {
    /// The request of a subcommand.
    ///
    /// # Errors
    /// An endpoint is missing or malformed, or the options do not fit together.
    pub(super) fn of(command: &'a ClientCommand) -> Result<Self, Failure> {
        match command {
            ClientCommand::Pub(args) => Ok(Self {
                peers: args.peers as usize,
                ..Self::sender(SocketType::Pub, &args.send, &args.common, |shape| {
                    shape.topics = bytes(&args.topic);
                    shape.is_inline = args.inline;
                })?
            }),
            ClientCommand::Sub(args) => Ok(Self {
                topics: match &args.topic[..] {
                    [] => vec![Vec::new()],
                    topics => bytes(topics),
                },
                ..Self::receiver(SocketType::Sub, &args.endpoints, &args.show, &args.common)
            }),
            ClientCommand::Req(args) => Ok(Self {
                show: Some(&args.show),
                ..Self::sender(SocketType::Req, &args.send, &args.common, |shape| {
                    shape.is_delimited = true;
                })?
            }),
            ClientCommand::Rep(args) => {
                let request = Self::sender(SocketType::Rep, &args.send, &args.common, |_| {})?;
                let answer = match (args.echo, &args.exec[..]) {
                    (true, _) => Answer::Echo,
                    (false, []) => Answer::Input,
                    (false, command) => Answer::Exec {
                        command: command.to_vec(),
                        parallel: args.parallel as usize,
                    },
                };
                Ok(Self {
                    send: request.send.filter(|_| matches!(answer, Answer::Input)),
                    show: Some(&args.show),
                    answer,
                    ..request
                })
            }
            ClientCommand::Push(args) => Ok(Self {
                peers: args.peers as usize,
                ..Self::sender(SocketType::Push, &args.send, &args.common, |_| {})?
            }),
            ClientCommand::Pull(args) => {
                let (endpoints, show) = (&args.endpoints, &args.show);
                Ok(Self::receiver(
                    SocketType::Pull,
                    endpoints,
                    show,
                    &args.common,
                ))
            }
            ClientCommand::Dealer(args) => Self::both(SocketType::Dealer, args),
            ClientCommand::Pair(args) => Self::both(SocketType::Pair, args),
            ClientCommand::Router(args) => Self::both(SocketType::Router, args),
        }
    }

    fn receiver(
        socket_type: SocketType,
        endpoints: &EndpointArgs,
        show: &'a ShowArgs,
        common: &'a CommonArgs,
    ) -> Self {
        Self {
            answer: Answer::Input,
            common,
            endpoints: endpoints.endpoints.clone(),
            peers: 0,
            send: None,
            show: Some(show),
            socket_type,
            topics: Vec::new(),
        }
    }

    fn sender(
        socket_type: SocketType,
        send: &'a SendArgs,
        common: &'a CommonArgs,
        form: impl FnOnce(&mut Shape),
    ) -> Result<Self, Failure> {
        let mut shape = Shape {
            is_json: common.json,
            is_routed: socket_type == SocketType::Router,
            ..Shape::default()
        };
        form(&mut shape);
        let (endpoints, _) = send.split()?;
        Ok(Self {
            answer: Answer::Input,
            common,
            endpoints,
            peers: 1,
            send: Some((send, shape)),
            show: None,
            socket_type,
            topics: Vec::new(),
        })
    }

    fn both(socket_type: SocketType, args: &'a BothArgs) -> Result<Self, Failure> {
        Ok(Self {
            show: Some(&args.show),
            ..Self::sender(socket_type, &args.send, &args.common, |_| {})?
        })
    }
}

fn bytes(texts: &[OsString]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The time between messages, from a number of messages per second.
fn rate(text: &str) -> Result<Duration, String> {
    let rate: Option<f64> = text.parse().ok();
    let step = rate.filter(|rate| *rate > 0.0).map(f64::recip);
    let step = step.and_then(|step| Duration::try_from_secs_f64(step).ok());
    step.ok_or_else(|| "write a number above 0, such as 1000 or 0.5".to_owned())
}

const PUB_EXAMPLES: &str = "\
Without frames, each line of stdin is a message. A topic is what the message begins with.

Examples:
  zmqd pub tcp://127.0.0.1:5561 weather.eu sunny
  zmqd pub '@tcp://*:5556' -t weather.eu sunny --interval 1s
  seq 1000 | zmqd pub tcp://127.0.0.1:5561 -t numbers --rate 100
  zmqd pub '@ipc:///tmp/news' --peers 2 hello";

const SUB_EXAMPLES: &str = "\
Examples:
  zmqd sub tcp://127.0.0.1:5562
  zmqd sub tcp://127.0.0.1:5562 -t weather. -t traffic. --json
  zmqd sub '@tcp://*:5556' -n 10 --timeout 5s
  zmqd sub tcp://edge:5562 --curve-server edge.key --curve-secret me.key_secret";

const REQ_EXAMPLES: &str = "\
Each request waits for its reply. Without frames, each line of stdin is a request.

Examples:
  zmqd req tcp://127.0.0.1:5559 hello
  zmqd req tcp://127.0.0.1:5559 --timeout 2s -n 10 --interval 1s ping
  printf 'one\\ntwo\\n' | zmqd req tcp://127.0.0.1:5559 --raw";

const REP_EXAMPLES: &str = "\
A reply is the frames given as arguments, the next line of stdin, the request itself (--echo), or
the output of a command (--exec), which gets the bytes of all frames on stdin. No shell is involved.

Examples:
  zmqd rep tcp://127.0.0.1:5560 --echo
  zmqd rep '@tcp://*:5555' pong --curve-secret server.key_secret --curve-clients clients
  zmqd rep tcp://127.0.0.1:5560 --parallel 2 --exec tr a-z A-Z";

const PUSH_EXAMPLES: &str = "\
Without frames, each line of stdin is a message.

Examples:
  zmqd push tcp://127.0.0.1:5563 job 7
  find . -name '*.jpg' -print0 | zmqd push tcp://127.0.0.1:5563 -0
  zmqd push '@tcp://*:5557' --peers 3 -f jobs.json --json";

const PULL_EXAMPLES: &str = "\
Examples:
  zmqd pull tcp://127.0.0.1:5564
  zmqd pull '@tcp://*:5557' --dump received
  zmqd pull tcp://127.0.0.1:5564 -n 1 --raw > file";

const DEALER_EXAMPLES: &str = "\
It sends what it reads, and prints what it receives, until -n, --timeout or a signal; with -n 0 it
ends when everything is sent. A REP expects an empty frame in front.

Examples:
  zmqd dealer tcp://127.0.0.1:5559 '' hello -n 1
  zmqd dealer '@tcp://*:5555' -l";

const ROUTER_EXAMPLES: &str = "\
The first frame is the identity of a peer; of a line, it is the first word. In hexadecimal it begins
with 0x, as it is printed.

Examples:
  zmqd router '@tcp://*:5555'
  zmqd router '@tcp://*:5555' worker-7 stop -n 0";

const PAIR_EXAMPLES: &str = "\
It sends what it reads, and prints what it receives, until -n, --timeout or a signal; with -n 0 it
ends when everything is sent.

Examples:
  zmqd pair '@ipc:///tmp/pair'
  zmqd pair ipc:///tmp/pair hello -n 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn send(words: &[&str], frames: &[&str]) -> SendArgs {
        SendArgs {
            words: words.iter().map(OsString::from).collect(),
            frames: frames.iter().map(OsString::from).collect(),
            lines: false,
            stdin: false,
            null: false,
            file: None,
            interval: None,
            rate: None,
        }
    }

    #[test]
    fn endpoints_come_first_and_frames_follow() {
        let args = send(
            &["tcp://127.0.0.1:1", "@ipc:///x", "a", "tcp://127.0.0.1:2"],
            &["-x"],
        );
        let (endpoints, frames) = args.split().unwrap();
        let attached: Vec<bool> = endpoints.iter().map(is_dialed).collect();
        assert_eq!(attached, [true, false]);
        assert_eq!(frames, [&b"a"[..], b"tcp://127.0.0.1:2", b"-x"]);
        let args = send(&[">tcp://127.0.0.1:1"], &["tcp://127.0.0.1:2"]);
        let (endpoints, frames) = args.split().unwrap();
        assert_eq!(endpoints.len(), 1);
        assert_eq!(frames, [b"tcp://127.0.0.1:2"]);
        for words in [&["hello"][..], &["tcp://nowhere"]] {
            assert!(send(words, &[]).split().is_err(), "{words:?}");
        }
    }

    #[test]
    fn rates_are_above_zero() {
        assert_eq!(rate("1000"), Ok(Duration::from_millis(1)));
        assert_eq!(rate("0.5"), Ok(Duration::from_secs(2)));
        for text in ["0", "-1", "NaN", "inf-", "1e-300", "fast"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
