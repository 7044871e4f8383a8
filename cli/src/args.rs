//! The command line: every subcommand and every option is defined here and nowhere else.
//!
//! Values are parsed to what they mean while clap reads them, so a subcommand gets no text that
//! could still be wrong. The subcommands of the proxies are made from the table of kinds.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use broker::config::endpoint::attach;
use broker::config::{
    Attach, CaptureFormat, Config, Endpoint, EndpointError, Kind, SocketName, SocketOption,
    TIME_MS_MAX, Value, socket,
};
use broker::record::RecordConfig;
use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Args as _, CommandFactory as _, Parser, Subcommand};

use zmtp::SocketType;

use crate::command::Failure;
use crate::command::bench::BenchArgs;
use crate::command::ctl::CtlArgs;
use crate::command::export::ExportArgs;
use crate::command::replay::ReplayArgs;
use crate::command::sniff::SniffArgs;

/// A ZeroMQ broker for small Linux boxes in one static binary.
#[derive(Debug, Parser)]
#[command(name = "zmqd", version, about, after_help = after_help())]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
    /// Without any, `run` on the embedded default.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// How much is logged on stderr.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Verbosity {
    /// Log more: debug, then trace; overrules RUST_LOG
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 900)]
    #[arg(conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Log less: warnings, then errors, then nothing
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 901)]
    pub(crate) quiet: u8,
}

/// What zmqd is asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Proxy(ProxyCommand),
    Run(RunArgs),
    Check(CheckArgs),
    /// Put a load on a proxy, zmqd or another, and measure it
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(CtlArgs),
    #[command(after_help = SNIFF_EXAMPLES)]
    Sniff(Box<SniffArgs>),
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Run the proxies of a configuration file
#[derive(Debug, Default, clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// The file; without it, the embedded default: one proxy of each kind on 127.0.0.1
    pub(crate) config: Option<PathBuf>,
    /// Print the embedded default file and run nothing
    #[arg(long, conflicts_with = "config")]
    pub(crate) print_default: bool,
}

/// Say what a configuration file means, or what is wrong with it
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The file
    pub(crate) config: PathBuf,
}

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct ManArgs {
    /// The subcommand it is about; without it, zmqd itself
    pub(crate) subcommand: Option<String>,
}

/// One proxy, all on the command line; its kind is the name of the subcommand.
#[derive(Debug)]
pub(crate) struct ProxyCommand {
    pub(crate) args: Box<ProxyArgs>,
    pub(crate) kind: Kind,
}

/// What every kind of proxy takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyArgs {
    /// Where the frontend listens; several with spaces or commas
    #[arg(long, value_name = "ENDPOINT", value_parser = bind_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) frontend: Vec<Attached>,
    /// Where the backend listens
    #[arg(long, value_name = "ENDPOINT", value_parser = bind_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) backend: Vec<Attached>,
    /// What the frontend connects to, and reconnects to for ever
    #[arg(long, value_name = "ENDPOINT", value_parser = connect_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) frontend_connect: Vec<Attached>,
    /// What the backend connects to, and reconnects to for ever
    #[arg(long, value_name = "ENDPOINT", value_parser = connect_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) backend_connect: Vec<Attached>,
    /// Where copies of all messages can be had, to watch them
    #[arg(long, value_name = "ENDPOINT", value_parser = bind_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) capture: Vec<Attached>,
    /// Its type: PUB, PUSH, PAIR or DEALER
    #[arg(long, value_name = "TYPE", default_value = "PUB", requires = "capture")]
    #[arg(value_parser = socket)]
    pub(crate) capture_socket: SocketType,
    /// Its form: monitored or proxy
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "monitored",
        requires = "capture"
    )]
    #[arg(value_parser = capture_format)]
    pub(crate) capture_format: CaptureFormat,
    /// The direction of what the frontend received
    #[arg(long, value_name = "TEXT", default_value = "in", requires = "capture")]
    pub(crate) in_prefix: String,
    /// The direction of what the backend received
    #[arg(long, value_name = "TEXT", default_value = "out", requires = "capture")]
    pub(crate) out_prefix: String,
    /// Where the proxy can be steered and asked from: see zmqd ctl
    #[arg(long, value_name = "ENDPOINT", value_parser = bind_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) control: Vec<Attached>,
    /// Its type: REP, PAIR or SUB
    #[arg(long, value_name = "TYPE", default_value = "REP", requires = "control")]
    #[arg(value_parser = socket)]
    pub(crate) control_socket: SocketType,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// The name in logs and output; by default the kind
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Messages queued for one peer: --set sndhwm=N
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = |text: &str| value_of("sndhwm", text))]
    pub(crate) hwm: Option<Setting>,
    /// Time for the handshake of a peer: --set handshake_ivl=MS
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    #[arg(value_parser = |text: &str| value_of("handshake_ivl", text))]
    pub(crate) handshake_timeout: Option<Setting>,
    /// Options by name; frontend.KEY and backend.KEY for one side
    #[arg(long, value_name = "KEY=VALUE", num_args = 1..)]
    pub(crate) set: Vec<Setting>,
    /// Bytes that may be held; 0: no limit
    #[arg(long, value_name = "BYTES", default_value_t = Config::MEMORY_LIMIT)]
    pub(crate) memory_limit: u64,
    /// Time to send what is queued when stopped
    #[arg(long, value_name = "MS", default_value_t = drain_timeout_ms_default())]
    #[arg(value_parser = milliseconds, allow_negative_numbers = true)]
    pub(crate) drain_timeout: u64,
}

/// Where to record, and how much of it to keep.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// Record messages to a file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Bytes until another file begins; 0: never
    #[arg(long, value_name = "BYTES", default_value = "0", requires = "record")]
    record_size: u64,
    /// Time until another file begins; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "0", requires = "record")]
    #[arg(value_parser = seconds)]
    record_age: Duration,
    /// Files to keep, the newest included; 0: all
    #[arg(long, value_name = "N", default_value = "0", requires = "record")]
    record_files: u32,
}

impl RecordArgs {
    /// What is to be recorded, if anything is.
    pub(crate) fn config(&self) -> Option<RecordConfig> {
        self.record.as_ref().map(|path| RecordConfig {
            age_max: Some(self.record_age).filter(|age| !age.is_zero()),
            file_size_max: self.record_size,
            files_max: self.record_files,
            ..RecordConfig::new(path)
        })
    }
}

/// An endpoint and what to do with it.
pub(crate) type Attached = (Attach, Endpoint);

/// A value for an option, on one side or on both.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) option: &'static SocketOption,
    pub(crate) side: Option<SocketName>,
    pub(crate) value: Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text
            .split_once('=')
            .ok_or("write KEY=VALUE, sndhwm=100 for example")?;
        let sided = SocketName::ALL
            .into_iter()
            .find_map(|side| Some((side, key.strip_prefix(side.name())?.strip_prefix('.')?)));
        let (side, name) = match sided {
            Some((side, name)) => (Some(side), name),
            None => (None, key),
        };
        Ok(Self {
            side,
            ..value_of(name, value)?
        })
    }
}

fn value_of(name: &str, text: &str) -> Result<Setting, String> {
    let option = SocketOption::find(name).map_err(|error| error.to_string())?;
    let value = option.parse(text).map_err(|error| error.to_string())?;
    Ok(Setting {
        option,
        side: None,
        value,
    })
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let value = text.parse().ok().filter(|value| *value <= TIME_MS_MAX);
    value.ok_or_else(|| format!("write a whole number of ms, at most {TIME_MS_MAX}"))
}

fn capture_format(text: &str) -> Result<CaptureFormat, String> {
    let names = CaptureFormat::ALL.map(CaptureFormat::name);
    CaptureFormat::from_name(text).ok_or_else(|| format!("write one of {}", names.join(", ")))
}

/// A length of time in seconds, which need not be whole.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub(crate) fn bind_by_habit(text: &str) -> Result<Attached, EndpointError> {
    attach(text, Attach::Bind)
}

pub(crate) fn connect_by_habit(text: &str) -> Result<Attached, EndpointError> {
    attach(text, Attach::Connect)
}

fn drain_timeout_ms_default() -> u64 {
    u64::try_from(Config::DRAIN_TIMEOUT.as_millis()).unwrap_or(TIME_MS_MAX)
}

// By hand and not derived, because the variants are the rows of a table.
impl Subcommand for ProxyCommand {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let command = Kind::ALL.iter().fold(command, |command, kind| {
            let proxy = ProxyArgs::augment_args(clap::Command::new(kind.name))
                .about(kind.doc)
                .after_help(proxy_after_help(kind.name, ""));
            command.subcommand(proxy)
        });
        let sockets = clap::Arg::new(SOCKETS)
            .long(SOCKETS)
            .required(true)
            .value_name("FRONT:BACK")
            .value_parser(|text: &str| text.parse::<Kind>())
            .help("The two socket types; one alone sends back what it gets");
        let proxy = ProxyArgs::augment_args(clap::Command::new(ANY_PROXY).arg(sockets))
            .about("Any two sockets between which something can flow, or one that echoes")
            .after_help(proxy_after_help(ANY_PROXY, " --sockets PULL:PUB"));
        command.subcommand(proxy)
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        name == ANY_PROXY || Kind::from_name(name).is_some()
    }
}

impl clap::FromArgMatches for ProxyCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        let kind = match name {
            ANY_PROXY => matches.get_one(SOCKETS).copied(),
            name => Kind::from_name(name),
        };
        let kind = kind.ok_or_else(missing)?;
        Ok(Self {
            args: Box::new(ProxyArgs::from_arg_matches(matches)?),
            kind,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The whole definition, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Args::command()
}

/// What clap found wrong, as one sentence.
pub(crate) fn explain(error: &clap::Error) -> Failure {
    let rendered = error.to_string();
    // Behind the complaint clap goes on with usage, which `--help` has better.
    let (complaint, usage) = rendered
        .split_once("\n\nUsage: ")
        .unwrap_or((&rendered, "zmqd"));
    let complaint = complaint
        .split("\n\nFor more information")
        .next()
        .unwrap_or_default();
    let complaint = complaint.strip_prefix("error: ").unwrap_or(complaint);
    let complaint: Vec<&str> = complaint.split_whitespace().collect();
    let command: Vec<&str> = usage
        .split_whitespace()
        .take_while(|word| !word.starts_with(['[', '<', '-']))
        .collect();
    Failure::Usage(format!(
        "{} ({} --help says more)",
        complaint.join(" ").replace(" tip: ", "; "),
        command.join(" ")
    ))
}

fn after_help() -> String {
    format!(
        "{EXAMPLES}\n\n\
         Exit codes:\n  \
         0  fine, also after SIGINT or SIGTERM\n  \
         1  failed while running: a port in use, for example\n  \
         2  wrong usage or a wrong configuration file\n\n\
         Environment:\n  \
         RUST_LOG  what to log: error, warn, info, debug or trace\n  \
         NO_COLOR  no colours, whatever it is set to"
    )
}

fn proxy_after_help(name: &str, sockets: &str) -> String {
    let mut text = String::from(ENDPOINTS_AND_OPTIONS);
    let names = SocketOption::ALL.iter().map(|option| option.name.len());
    let width = names.max().unwrap_or_default();
    for option in SocketOption::ALL {
        text.push_str(&format!("  {:<width$} {}", option.name, option.doc));
        match option.default_value() {
            default @ (Value::Flag(_) | Value::Number(_)) => {
                text.push_str(&format!(" [{default}]\n"));
            }
            Value::Text(default) if !default.is_empty() => {
                text.push_str(&format!(" [{default}]\n"));
            }
            Value::List(_) | Value::Text(_) => text.push('\n'),
        }
    }
    text.push_str(&format!(
        "\nExamples:\n  \
         zmqd {name}{sockets} --frontend tcp://*:5559 --backend tcp://*:5560\n  \
         zmqd {name}{sockets} --frontend tcp://*:5559 \
         --backend-connect tcp://a:5560 tcp://b:5560\n  \
         zmqd {name}{sockets} --frontend '@tcp://*:*' --backend '>tcp://a:5560' \\\n      \
         --set backend.sndhwm=10"
    ));
    text
}

/// The subcommand for kinds without a name, and its option.
const ANY_PROXY: &str = "proxy";
const SOCKETS: &str = "sockets";

const EXAMPLES: &str = "\
Examples:
  zmqd                                      one proxy of each kind on 127.0.0.1, to try
  zmqd queue --frontend tcp://*:5559 --backend tcp://*:5560
  zmqd run --print-default > zmqd.toml      a configuration file to start from
  zmqd check zmqd.toml && zmqd run zmqd.toml";

const ENDPOINTS_AND_OPTIONS: &str = "\
Endpoints are tcp://HOST:PORT, with * for every interface or for any free port, ipc://PATH,
ipc://@NAME, and inproc://NAME. As in czmq, @ in front of one binds and > connects, in quotes for
the sake of the shell. Times are milliseconds. Lists have commas between their texts.

Options for --set, with their defaults:
";

const RUN_EXAMPLES: &str = "\
Each endpoint that is bound is a line on stdout: NAME SIDE bound ENDPOINT, with the real port.
SIGINT and SIGTERM stop after sending what is queued; the second one stops at once.

Examples:
  zmqd run
  zmqd run zmqd.toml
  zmqd run --print-default > zmqd.toml";

const BENCH_EXAMPLES: &str = "\
The peers that zmqd plays send bytes that were encoded before: the proxy is the bottleneck.

Examples, against zmqd without arguments:
  zmqd bench queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560
  zmqd bench latency --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560 --json
  zmqd bench stream --frontend tcp://127.0.0.1:5563 --backend tcp://127.0.0.1:5564 --size 1024";

const CTL_EXAMPLES: &str = "\
The control of a proxy is where its --control listens. Any zmq_proxy_steerable understands pause,
resume, terminate and statistics too.

Examples:
  zmqd queue --frontend tcp://*:5559 --backend tcp://*:5560 --control ipc:///run/zmqd.ctl
  zmqd ctl ipc:///run/zmqd.ctl peers --rates
  zmqd ctl ipc:///run/zmqd.ctl subscriptions news. --json
  zmqd ctl ipc:///run/zmqd.ctl kick --identity client-7";

const SNIFF_EXAMPLES: &str = "\
A capture is the PUB of a proxy that is given what passes: zmqd's, that of pyzmq's MonitoredQueue,
of zmq.proxy with a capture socket, or any other PUB. With --socket it may be of another type.

Examples:
  zmqd sniff tcp://127.0.0.1:5570
  zmqd sniff tcp://127.0.0.1:5570 --direction in --topic weather. --json
  zmqd sniff tcp://127.0.0.1:5570 --stats
  zmqd sniff tcp://127.0.0.1:5570 --record today.zrec --record-size 100000000 --record-files 10
  zmqd sniff --read today.zrec.* today.zrec --text error
  zmqd sniff tcp://edge:5570 tcp://core:5570 --follow 4bf92f3577b34da6
  zmqd sniff --bind tcp://*:5571 --socket PULL";

const REPLAY_EXAMPLES: &str = "\
What came in at the backend is left out, unless --direction out asks for it. A PUB sends everything
to everybody; a subscriber takes what it wants.

Examples:
  zmqd replay today.zrec --to tcp://127.0.0.1:5561 --socket PUB
  zmqd replay today.zrec --to tcp://127.0.0.1:5559 --socket DEALER --speed 10
  zmqd replay today.zrec --to tcp://127.0.0.1:5563 --socket PUSH --max --text order
  zmqd replay today.zrec --to '@tcp://*:5556' --socket PUB --peers 2";

const EXPORT_EXAMPLES: &str = "\
Each peer becomes a TCP connection with the broker, 192.0.2.1. Ports are 5555 for the first proxy
or endpoint, 5556 for the second, and so on: tell Wireshark that they are ZMTP.

Examples:
  zmqd export today.zrec --pcapng today.pcapng
  zmqd export today.zrec --pcapng - --identity client-7 | tshark -d tcp.port==5555,zmtp -r -";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  zmqd completions bash > /etc/bash_completion.d/zmqd
  zmqd completions zsh > /usr/share/zsh/site-functions/_zmqd
  zmqd completions fish > ~/.config/fish/completions/zmqd.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  zmqd man > zmqd.1 && man ./zmqd.1
  zmqd man queue > zmqd-queue.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn settings_are_of_one_side_or_of_both() {
        for (text, side, name, value) in [
            ("sndhwm=7", None, "sndhwm", 7),
            (
                "frontend.maxmsgsize=1",
                Some(SocketName::Frontend),
                "maxmsgsize",
                1,
            ),
            (
                "backend.handshake_ivl=0",
                Some(SocketName::Backend),
                "handshake_ivl",
                0,
            ),
        ] {
            let setting: Setting = text.parse().expect(text);
            assert_eq!(
                (setting.side, setting.option.name, setting.value),
                (side, name, Value::Number(value))
            );
        }
        for (text, expected) in [
            ("sndhwm", "write KEY=VALUE"),
            ("sndhwm=", "write a whole number of messages"),
            ("sndhwm=1k", "write a whole number of messages"),
            ("maxmsgsize=0", "from 1 to"),
            ("sndhw=1", "did you mean \"sndhwm\"?"),
            ("side.sndhwm=1", "unknown option \"side.sndhwm\""),
        ] {
            let refusal = text.parse::<Setting>().expect_err(text);
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }
}
