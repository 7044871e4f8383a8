//! `zmqd run`: the proxies of a configuration file, or of the embedded default.

use std::path::PathBuf;

use broker::Bound;
use broker::config::{BrokerControl, Config, SocketName};

use super::config_file;
use super::http_args::HttpArgs;
use super::serve::{self, Source};
use crate::logger::LogArgs;
use crate::output::{Failure, print};

/// Run the proxies of a configuration file
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

/// Three lines of Python that send a request through the queue.
fn things_to_try(bound: &[Bound]) -> String {
    let endpoint_of = |side: SocketName| {
        bound
            .iter()
            .find(|bound| bound.proxy == "queue" && bound.side == side)
    };
    let (Some(frontend), Some(backend)) = (
        endpoint_of(SocketName::Frontend),
        endpoint_of(SocketName::Backend),
    ) else {
        return String::new();
    };
    format!(
        "\nTry it in Python, after `pip install pyzmq`:\n\
         import zmq; new = zmq.Context().socket; client, worker = new(zmq.REQ), new(zmq.REP)\n\
         client.connect(\"{}\"); worker.connect(\"{}\"); client.send(b\"hello\")\n\
         print(worker.recv()); worker.send(b\"world\"); print(client.recv())\n",
        frontend.endpoint, backend.endpoint
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_lines_use_the_real_ports() {
        let at = |side, port| Bound {
            proxy: "queue".to_owned(),
            side,
            endpoint: format!("tcp://127.0.0.1:{port}").parse().expect("legal"),
        };
        let text = things_to_try(&[
            at(SocketName::Backend, 4002),
            at(SocketName::Frontend, 4001),
        ]);
        assert!(
            text.contains("client.connect(\"tcp://127.0.0.1:4001\")"),
            "{text}"
        );
        assert!(
            text.contains("worker.connect(\"tcp://127.0.0.1:4002\")"),
            "{text}"
        );
        let python = text.split(":\n").nth(1).expect("a heading");
        assert_eq!(
            python.lines().count(),
            3,
            "to be pasted as they are: {text}"
        );
        assert!(python.lines().all(|line| !line.starts_with(' ')), "{text}");
        assert_eq!(things_to_try(&[at(SocketName::Backend, 4002)]), "");
    }
}
