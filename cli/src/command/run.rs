//! `zmqd run`: the proxies of a configuration file, or of the embedded default.

use std::path::PathBuf;

use broker::Bound;
use broker::config::{BrokerControl, Config, SocketName};

use super::config_file;
use super::http_args::HttpArgs;
use super::serve::{self, Source};
use crate::logger::LogArgs;
use crate::output::{Failure, print};

#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The file; without it, the embedded default: one proxy of each kind on 127.0.0.1
    pub(crate) config: Option<PathBuf>,
    /// Print the embedded default file and run nothing
    #[arg(long, conflicts_with = "config")]
    pub(crate) print_default: bool,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    /// Where zmqd status and ctl ask: an ipc endpoint, or none
    #[arg(long, value_name = "ENDPOINT|none", value_parser = BrokerControl::from_text)]
    pub(crate) broker_control: Option<BrokerControl>,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

const EXAMPLES: &str = "\
zmqd prints a line for each bound endpoint, with the real port: NAME SIDE bound ENDPOINT.
SIGINT or SIGTERM stops it after it has sent queued messages; a second signal stops it at once.
SIGHUP reads the file again and applies the changes, or rejects it as a whole. SIGUSR1 opens the
log file again.

Examples:
  zmqd run
  zmqd run zmqd.toml
  zmqd run zmqd.toml --http 127.0.0.1:9090
  zmqd run zmqd.toml --log-format json --log-file /var/log/zmqd.log
  zmqd run --print-default > zmqd.toml";

/// Runs until a signal stops it.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    if args.print_default {
        return print(Config::DEFAULT_TOML);
    }
    let control = args.broker_control.clone();
    match &args.config {
        Some(path) => {
            let source = Source::File(path.clone(), args.http.clone());
            let mut config = config_file::read(path)?;
            args.http.override_in(&mut config)?;
            serve::serve(config, source, control, |_| String::new())
        }
        None => {
            let source = Source::Fixed("built-in configuration");
            let mut config = Config::embedded_default();
            args.http.override_in(&mut config)?;
            serve::serve(config, source, control, things_to_try)
        }
    }
}

/// Commands that send a publication through the forwarder, and a request through the queue.
fn things_to_try(bound: &[Bound]) -> String {
    let mut text = String::new();
    for (proxy, side, command) in [
        ("forwarder", SocketName::Backend, ["sub", ""]),
        ("forwarder", SocketName::Frontend, ["pub", " weather sunny"]),
        ("queue", SocketName::Backend, ["rep", " --echo"]),
        ("queue", SocketName::Frontend, ["req", " hello"]),
    ] {
        let mut bound = bound.iter();
        if let Some(bound) = bound.find(|it| it.proxy == proxy && it.side == side) {
            let [kind, rest] = command;
            text.push_str(&format!("zmqd {kind} {}{rest}\n", bound.endpoint));
        }
    }
    match &*text {
        "" => text,
        commands => format!("\nTry it from other terminals:\n{commands}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_to_try_use_the_real_ports() {
        let at = |proxy: &str, side, port| Bound {
            proxy: proxy.to_owned(),
            side,
            endpoint: format!("tcp://127.0.0.1:{port}").parse().expect("legal"),
        };
        let text = things_to_try(&[
            at("forwarder", SocketName::Frontend, 4003),
            at("forwarder", SocketName::Backend, 4004),
            at("queue", SocketName::Backend, 4002),
            at("queue", SocketName::Frontend, 4001),
        ]);
        assert_eq!(
            text,
            "\nTry it from other terminals:\n\
             zmqd sub tcp://127.0.0.1:4004\n\
             zmqd pub tcp://127.0.0.1:4003 weather sunny\n\
             zmqd rep tcp://127.0.0.1:4002 --echo\n\
             zmqd req tcp://127.0.0.1:4001 hello\n"
        );
        assert_eq!(things_to_try(&[]), "");
    }
}
