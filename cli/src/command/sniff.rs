//! `zmqd sniff`: shows, counts and records the messages of a proxy.
//!
//! ```text
//! capture endpoints ─► tap: a thread ───────┐
//!                                          ├─► Sniffer: filter ─► recording, lines, statistics
//! recordings, merged by time ──────────────┘
//! ```

mod stats;
mod tap;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use broker::record::{Message, RecordConfig, Recorder};
use zmtp::SocketType;

use self::stats::Stats;
use self::tap::{Event, Tap};
use crate::capture::show::{Form, Style, has_colour};
use crate::capture::{Filter, FilterArgs, FormatArgs, RecordArgs, Recordings, time};
use crate::client::{ClientConfig, SecurityArgs};
use crate::output::{Failure, print};
use crate::value::{Attached, bind_by_habit, connect_by_habit, size, timeout};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SniffArgs {
    /// Capture endpoints to connect to
    #[arg(value_name = "ENDPOINT", value_parser = connect_by_habit)]
    endpoints: Vec<Attached>,
    /// Capture endpoints to listen on, for captures that connect
    #[arg(long, value_name = "ENDPOINT", value_parser = bind_by_habit)]
    bind: Vec<Attached>,
    /// Recordings to read; several are merged by time
    #[arg(long, value_name = "FILE", num_args = 1..)]
    read: Vec<PathBuf>,
    /// Socket type, matching the capture's
    #[arg(long, value_name = "TYPE", default_value = "SUB", value_parser = listener)]
    socket: SocketType,
    /// Time for connecting and for the handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// Bytes shown of each frame; 0: all, as in --json
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = size)]
    cut: u64,
    /// End after this number of messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Show rates and round trips every second instead of messages
    #[arg(long)]
    stats: bool,
    /// Only messages with this, each with the time since the last
    #[arg(long, value_name = "TEXT", conflicts_with = "stats")]
    follow: Option<String>,
    #[command(flatten)]
    record: RecordArgs,
    /// Show the recorded messages too
    #[arg(long, requires = "record")]
    print: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
A capture is the socket of a proxy that sends copies of all messages: that of zmqd, of pyzmq's
MonitoredQueue, of zmq.proxy, or any other PUB. Choose --socket for captures of another type.

Examples:
  zmqd sniff tcp://127.0.0.1:5570
  zmqd sniff tcp://127.0.0.1:5570 --direction in --topic weather. --json
  zmqd sniff tcp://127.0.0.1:5570 --stats
  zmqd sniff tcp://127.0.0.1:5570 --record today.zrec --record-size 100MB --record-files 10
  zmqd sniff --read today.zrec.* today.zrec --text error
  zmqd sniff tcp://edge:5570 tcp://core:5570 --follow 4bf92f3577b34da6
  zmqd sniff --bind 'tcp://*:5571' --socket PULL
  zmqd sniff tcp://edge:5570 --curve-server edge.key --curve-secret me.key_secret";

/// Shows, counts or records until the end of the input, the requested number, or a signal.
pub(super) fn run(args: &SniffArgs) -> Result<(), Failure> {
    let endpoints = [&args.endpoints[..], &args.bind].concat();
    if endpoints.is_empty() && args.read.is_empty() {
        return Err(Failure::usage(
            "no source: name a capture endpoint, or a file with --read",
        ));
    }
    if args.format.is_undirected() && args.filter.direction.is_some() {
        return Err(Failure::usage(
            "--format proxy has no directions: leave out --direction",
        ));
    }
    let places: Vec<_> = endpoints.iter().map(|(_, endpoint)| endpoint).collect();
    let client = ClientConfig {
        mechanism: args.security.mechanism(&places)?,
        socket_type: args.socket,
        timeout: args.timeout,
    };
    let mut sniffer = Sniffer::new(args, endpoints.len())?;
    let integrity = Recordings::open(&args.read)?.read(|message| sniffer.take_recorded(message))?;
    if !endpoints.is_empty() && !sniffer.is_done() {
        let tap = Tap {
            client,
            format: args.format.clone(),
            topic: args.format.topic(sniffer.filter.direction()).to_vec(),
        };
        sniffer.listen(&tap::start(tap, &endpoints)?)?;
    }
    sniffer.finish()?;
    integrity.check()
}

/// The processing of messages.
struct Sniffer {
    /// Bytes read from recordings since the recorder had written everything.
    copied_size: usize,
    filter: Filter,
    /// The time of the last message, if messages are followed.
    followed_ns: Option<u64>,
    has_lines: bool,
    is_following: bool,
    /// The time at which the last message arrived.
    last_ns: u64,
    /// The number of messages to go.
    left: Option<u64>,
    out: Output,
    recorder: Option<Recorder>,
    stats: Option<Stats>,
    style: Style,
}

impl Sniffer {
    fn new(args: &SniffArgs, endpoint_count: usize) -> Result<Self, Failure> {
        let mut filter = Filter::new(&args.filter);
        if let Some(text) = &args.follow {
            filter.add_text(text);
        }
        let recorder = args.record.config().map(|config| {
            let config = match endpoint_count {
                // Recordings are read as fast as they are written, so this buffer stays small.
                0 => RecordConfig {
                    buffer_size_max: u64::MAX,
                    ..config
                },
                _ => config,
            };
            Recorder::open(&config).map_err(|error| Failure::Running(error.to_string()))
        });
        Ok(Self {
            copied_size: 0,
            filter,
            followed_ns: None,
            has_lines: !args.stats && (args.record.config().is_none() || args.print),
            is_following: args.follow.is_some(),
            last_ns: 0,
            left: args.count,
            out: Output::default(),
            recorder: recorder.transpose()?,
            stats: args.stats.then(Stats::default),
            style: Style {
                cut: usize::try_from(args.cut).unwrap_or(usize::MAX),
                has_colour: has_colour(),
                has_source: endpoint_count > 1 || !args.read.is_empty(),
                form: if args.json { Form::Json } else { Form::Line },
            },
        })
    }

    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Handles a message of a recording; false if no more are needed.
    fn take_recorded(&mut self, message: &Message<'_>) -> Result<bool, Failure> {
        if let Some(stats) = &mut self.stats {
            stats.advance(message.time_ns, false, &self.style, &mut self.out.text);
        }
        self.take(message)?;
        self.out.write_if_long()?;
        if let Some(recorder) = &mut self.recorder {
            self.copied_size += message.frames.len();
            if self.copied_size > COPIED_SIZE_MAX {
                // Waiting is possible here, so no message is lost.
                recorder.sync();
                self.copied_size = 0;
            }
        }
        Ok(!self.is_done())
    }

    fn take(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        if self.is_done() || !self.filter.accepts(message) {
            return Ok(());
        }
        self.last_ns = self.last_ns.max(message.time_ns);
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.push(message.time_ns, &message.origin, &[message.frames]);
        }
        if let Some(stats) = &mut self.stats {
            stats.count(message);
        }
        if self.has_lines {
            let since = self.is_following.then(|| {
                let before_ns = self.followed_ns.replace(message.time_ns);
                before_ns.map(|before_ns| {
                    Duration::from_nanos(message.time_ns.saturating_sub(before_ns))
                })
            });
            self.style.append(&mut self.out.text, message, since);
        }
        Ok(())
    }

    /// Handles live messages, until the captures end or no more are needed.
    fn listen(&mut self, events: &Receiver<Event>) -> Result<(), Failure> {
        // Statistics of live captures follow the clock from the beginning.
        self.tick(time::now_ns())?;
        loop {
            let event = match self.stats.as_ref().and_then(Stats::deadline_ns) {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline_ns) => {
                    let left_ns = deadline_ns.saturating_sub(time::now_ns());
                    events.recv_timeout(Duration::from_nanos(left_ns))
                }
            };
            match event {
                Ok(Event::Failed(sentence)) => {
                    return Err(Failure::Running(sentence));
                }
                Ok(Event::Messages(messages)) => {
                    for message in &messages {
                        self.take(&message.message())?;
                        self.out.write_if_long()?;
                    }
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.tick(time::now_ns())?;
            if self.is_done() {
                return Ok(());
            }
        }
    }

    /// Shows the due statistics and flushes the output.
    fn tick(&mut self, now_ns: u64) -> Result<(), Failure> {
        if let Some(stats) = &mut self.stats {
            self.last_ns = now_ns;
            stats.advance(now_ns, true, &self.style, &mut self.out.text);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
        }
        self.out.write()
    }

    /// Shows the sums, ends the recording, and fails if it is incomplete.
    fn finish(mut self) -> Result<(), Failure> {
        if let Some(stats) = &self.stats {
            stats.append_total(self.last_ns, &self.style, &mut self.out.text);
        }
        self.out.write()?;
        let Some(recorder) = self.recorder.take() else {
            return Ok(());
        };
        let statistics = recorder.finish();
        log::info!(
            "{} messages recorded, {} bytes",
            statistics.messages,
            statistics.bytes
        );
        match statistics.lost_messages {
            0 => Ok(()),
            lost => Err(Failure::Running(format!(
                "{lost} messages could not be recorded"
            ))),
        }
    }
}

/// The pending output for stdout.
#[derive(Default)]
struct Output {
    text: String,
}

/// Bytes of text after which the output is written at once.
const TEXT_SIZE: usize = 64 << 10;

/// Bytes of a recording to read before the recorded ones must be written.
const COPIED_SIZE_MAX: usize = 8 << 20;

impl Output {
    fn write_if_long(&mut self) -> Result<(), Failure> {
        if self.text.len() < TEXT_SIZE {
            return Ok(());
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        print(&self.text)?;
        self.text.clear();
        Ok(())
    }
}

/// Parses the socket type for a capture.
fn listener(text: &str) -> Result<SocketType, String> {
    const LISTENERS: [SocketType; 5] = [
        SocketType::Sub,
        SocketType::Pull,
        SocketType::Pair,
        SocketType::Dealer,
        SocketType::Router,
    ];
    let found = LISTENERS
        .into_iter()
        .find(|one| one.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "write SUB, PULL, PAIR, DEALER or ROUTER".to_owned())
}
