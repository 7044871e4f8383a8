//! The arguments of `zmqd queue`, `zmqd forwarder`, …: one subcommand for each row of the table of
//! kinds.

use std::str::FromStr;
use std::time::Duration;

use broker::config::{
    BrokerControl, CaptureFormat, Kind, SocketName, SocketOption, TIME_MS_MAX, Value, hint,
    parse_time, socket,
};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args as _, Subcommand};
use zmtp::{SocketType, show};

use crate::capture::RecordArgs;
use crate::command::http_args::HttpArgs;
use crate::logger::LogArgs;
use crate::value::{Attached, bind_by_habit, connect_by_habit, size};

/// One proxy, configured on the command line; the name of the subcommand is its kind.
#[derive(Debug)]
pub(crate) struct ProxyCommand {
    pub(crate) args: Box<ProxyArgs>,
    pub(crate) kind: Kind,
}

// The options of every kind of proxy.
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
    /// Endpoints that the frontend connects to and reconnects to
    #[arg(long, value_name = "ENDPOINT", value_parser = connect_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) frontend_connect: Vec<Attached>,
    /// Endpoints that the backend connects to and reconnects to
    #[arg(long, value_name = "ENDPOINT", value_parser = connect_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) backend_connect: Vec<Attached>,
    /// Where the capture listens, to send copies of all messages
    #[arg(long, value_name = "ENDPOINT", value_parser = bind_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) capture: Vec<Attached>,
    /// Its socket type: PUB, PUSH, PAIR or DEALER
    #[arg(long, value_name = "TYPE", default_value = "PUB", requires = "capture")]
    #[arg(value_parser = socket)]
    pub(crate) capture_socket: SocketType,
    /// Format of the copies: monitored, proxy
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "monitored",
        requires = "capture"
    )]
    #[arg(value_parser = capture_format)]
    pub(crate) capture_format: CaptureFormat,
    /// First frame of copies from the frontend
    #[arg(long, value_name = "TEXT", default_value = "in", requires = "capture")]
    pub(crate) in_prefix: String,
    /// First frame of copies from the backend
    #[arg(long, value_name = "TEXT", default_value = "out", requires = "capture")]
    pub(crate) out_prefix: String,
    /// Where the control listens, for zmqd ctl
    #[arg(long, value_name = "ENDPOINT", value_parser = bind_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) control: Vec<Attached>,
    /// Where zmqd status and ctl ask: an ipc endpoint, or none
    #[arg(long, value_name = "ENDPOINT|none", value_parser = BrokerControl::from_text)]
    pub(crate) broker_control: Option<BrokerControl>,
    /// Its socket type: REP, PAIR or SUB
    #[arg(long, value_name = "TYPE", default_value = "REP", requires = "control")]
    #[arg(value_parser = socket)]
    pub(crate) control_socket: SocketType,
    /// ZAP handlers for the sockets with a zap_domain
    #[arg(long, value_name = "ENDPOINT", value_parser = connect_by_habit)]
    #[arg(num_args = 1.., value_delimiter = ',')]
    pub(crate) zap: Vec<Attached>,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    /// The name in logs and output; by default the kind
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// CURVE: the file with the secret key of both sides
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub(crate) curve_secret: Option<Value>,
    /// CURVE: the clients that may come in, as a server
    #[arg(long, value_name = "DIR|FILE|any", value_parser = file)]
    pub(crate) curve_clients: Option<Value>,
    /// CURVE: the public key of the server, as a client
    #[arg(long, value_name = "KEY|FILE", value_parser = file, allow_hyphen_values = true)]
    pub(crate) curve_server: Option<Value>,
    /// Listen beyond loopback although any peer may come in
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Options by key; frontend.KEY and backend.KEY set one side
    #[arg(long, value_name = "KEY=VALUE", num_args = 1..)]
    pub(crate) set: Vec<Setting>,
    /// Memory that peers may cause; 0: unlimited
    #[arg(long, value_name = "SIZE", default_value = MEMORY_LIMIT, value_parser = size)]
    pub(crate) memory_limit: u64,
    /// Time to send queued messages at a stop
    #[arg(long, value_name = "TIME", default_value = DRAIN_TIMEOUT)]
    #[arg(value_parser = drain_timeout, allow_negative_numbers = true)]
    pub(crate) drain_timeout: Duration,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// A value of an option, for one socket or for both sides.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) option: &'static SocketOption,
    pub(crate) side: Option<SocketName>,
    pub(crate) value: Value,
}

impl ProxyArgs {
    /// The settings of all sockets and of one, each in the order in which they take effect.
    pub(crate) fn take_settings(&mut self) -> Vec<Setting> {
        let both = [
            ("curve_secret", self.curve_secret.take()),
            ("curve_clients", self.curve_clients.take()),
            ("curve_server", self.curve_server.take()),
        ];
        let both = both.into_iter().flat_map(|(name, value)| {
            value.map(|value| SocketName::SIDES.map(|side| setting(name, Some(side), &value)))
        });
        let insecure = self
            .insecure
            .then(|| setting("insecure", None, &Value::Flag(true)));
        let own = insecure.into_iter().chain(both.flatten());
        own.chain(std::mem::take(&mut self.set)).collect()
    }
}

/// A setting that has an argument of its own.
fn setting(name: &str, side: Option<SocketName>, value: &Value) -> Setting {
    let option = SocketOption::find(name).expect("an option of the table");
    let value = value.clone();
    Setting {
        option,
        side,
        value,
    }
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
        let (side, name) = match (sided, key.split_once('.')) {
            (Some((side, name)), _) => (Some(side), name),
            (None, Some((side, _))) => {
                let hint = hint(side, &SocketName::ALL.map(SocketName::name));
                return Err(format!("unknown socket \"{}\": {hint}", show(side)));
            }
            (None, None) => (None, key),
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

/// The name of a file, or a text in its place, as an option has it.
fn file(text: &str) -> Result<Value, String> {
    value_of("curve_secret", text).map(|setting| setting.value)
}

fn drain_timeout(text: &str) -> Result<Duration, String> {
    let ms = Duration::from_millis(1);
    let time = parse_time(text, ms).filter(|time| time.as_millis() <= TIME_MS_MAX.into());
    time.ok_or_else(|| {
        format!("write a time such as 5s; a number alone is ms, at most {TIME_MS_MAX}")
    })
}

fn capture_format(text: &str) -> Result<CaptureFormat, String> {
    let names = CaptureFormat::ALL.map(CaptureFormat::name);
    CaptureFormat::from_name(text).ok_or_else(|| format!("write one of {}", names.join(", ")))
}

// Implemented by hand, because the variants are the rows of a table.
impl Subcommand for ProxyCommand {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let command = Kind::ALL.iter().fold(command, |command, kind| {
            let proxy = clap::Command::new(kind.name).about(kind.doc);
            command.subcommand(proxy.defer(|proxy| {
                let after_help = proxy_after_help(proxy.get_name(), "");
                ProxyArgs::augment_args(proxy).after_help(after_help)
            }))
        });
        let proxy = clap::Command::new(ANY_PROXY)
            .about("Any two sockets between which messages can flow, or one that echoes");
        command.subcommand(proxy.defer(|proxy| {
            let sockets = clap::Arg::new(SOCKETS)
                .long(SOCKETS)
                .required(true)
                .value_name("FRONT:BACK")
                .value_parser(|text: &str| text.parse::<Kind>())
                .help("The two socket types; one alone echoes its messages");
            ProxyArgs::augment_args(proxy.arg(sockets))
                .after_help(proxy_after_help(ANY_PROXY, " --sockets PULL:PUB"))
        }))
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
         zmqd {name}{sockets} --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560\n  \
         zmqd {name}{sockets} --frontend 'tcp://*:5559' --backend 'tcp://*:5560' \\\n      \
         --curve-secret server.key_secret --curve-clients clients\n  \
         zmqd {name}{sockets} --insecure --frontend 'tcp://*:5559' \\\n      \
         --backend-connect tcp://a:1 tcp://b:1\n  \
         zmqd {name}{sockets} --frontend '@tcp://127.0.0.1:*' --backend '>tcp://a:5560' \\\n      \
         --set backend.sndhwm=10"
    ));
    text
}

/// The defaults of configuration files, as help shows them.
const MEMORY_LIMIT: &str = "512MiB";
const DRAIN_TIMEOUT: &str = "5s";

/// The subcommand for kinds without a name, and its option.
const ANY_PROXY: &str = "proxy";
const SOCKETS: &str = "sockets";

const ENDPOINTS_AND_OPTIONS: &str = "\
Endpoints are tcp://HOST:PORT, with * for every interface or for any free port, ipc://PATH,
ipc://@NAME, and inproc://NAME. As in czmq, a prefix @ binds and > connects. Quote * and >,
which the shell would interpret. Times and sizes take units: 250ms, 5s, 64MiB. Without one,
--record-age counts seconds, other times count milliseconds, and sizes bytes. Commas separate the
texts of a list. A socket that listens beyond loopback needs CURVE, a tcp_accept_filter, or
--insecure.

Options for --set, with their defaults:
";

#[cfg(test)]
mod tests {
    use super::*;
    use broker::config::Config;

    #[test]
    fn defaults_are_those_of_files() {
        assert_eq!(size(MEMORY_LIMIT), Ok(Config::MEMORY_LIMIT));
        assert_eq!(drain_timeout(DRAIN_TIMEOUT), Ok(Config::DRAIN_TIMEOUT));
        assert_eq!(drain_timeout("250"), Ok(Duration::from_millis(250)));
        assert!(drain_timeout("30d").is_err());
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
            (
                "fronend.sndhwm=1",
                "unknown socket \"fronend\": did you mean \"frontend\"?",
            ),
        ] {
            let refusal = text.parse::<Setting>().expect_err(text);
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }
}
