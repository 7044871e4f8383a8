//! `zmqd ctl`: steers and queries a proxy through its control.

pub(super) mod table;

use broker::config::Endpoint;
use broker::view::PeerOrder;
use serde_json::{Value, json};

use super::control::{Control, ControlArgs};
use super::local::Kind;
use crate::capture::json;
use crate::output::{Failure, print};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = false)]
pub(crate) struct CtlArgs {
    /// The endpoint of a proxy's control; without it, the control of the running broker
    #[arg(value_parser = Endpoint::parse_connect, conflicts_with = "pid")]
    endpoint: Option<Endpoint>,
    #[command(subcommand)]
    command: CtlCommand,
    /// Print the answer as one line of JSON
    #[arg(long, global = true)]
    json: bool,
    /// The proxy to steer or query, if the broker has several
    #[arg(long, value_name = "NAME", global = true)]
    proxy: Option<String>,
    #[command(flatten)]
    control: ControlArgs,
}

const EXAMPLES: &str = "\
Without an endpoint, the running broker of this user is asked; zmqd status shows it. A proxy also
listens for control commands where its --control says. Any zmq_proxy_steerable understands
pause, resume, terminate and statistics too.

Examples:
  zmqd ctl --proxy queue peers --rates
  zmqd ctl reload
  zmqd queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560 \\
      --control ipc:///run/zmqd.ctl
  zmqd ctl ipc:///run/zmqd.ctl peers --rates
  zmqd ctl ipc:///run/zmqd.ctl subscriptions news. --json
  zmqd ctl ipc:///run/zmqd.ctl kick --identity client-7";

// The commands of a control.
#[derive(Debug, clap::Subcommand)]
enum CtlCommand {
    /// Stop forwarding; peers wait
    Pause,
    /// Resume forwarding
    Resume,
    /// End the proxy; zmqd ends with its last proxy
    Terminate,
    /// Read the configuration again, and apply or reject it as a whole
    Reload,
    /// Show the counters of each socket
    Statistics,
    /// Show the connected peers
    Peers {
        /// Only those of frontend, backend, capture, control or zap
        #[arg(long)]
        side: Option<String>,
        /// Include peers of capture, control and zap, such as this command
        #[arg(long, conflicts_with = "side")]
        all: bool,
        /// The largest first by messages, queued_bytes, dropped, …
        #[arg(long, value_name = "FIGURE", value_parser = figure)]
        sort: Option<String>,
        /// Also show messages and bytes per second, over one second
        #[arg(long)]
        rates: bool,
    },
    /// Show the peers that were closed last, with the reasons
    Closed {
        /// Include peers of capture, control and zap
        #[arg(long)]
        all: bool,
    },
    /// Show what has happened: the latest lines of the log, without those for debugging
    Events,
    /// Show the topics, and the number of subscribers of each
    Subscriptions {
        /// Only topics with this prefix
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Show the peers that would get a message with this topic
    Who {
        /// The first frame of the message
        topic: String,
    },
    /// Close peers
    #[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
    Kick {
        /// The peer with this id, as `peers` shows it
        #[arg(long, group = "whom")]
        id: Option<String>,
        /// Peers at this address, as `peers` shows it
        #[arg(long, group = "whom")]
        address: Option<String>,
        /// Peers with this identity
        #[arg(long, group = "whom")]
        identity: Option<String>,
    },
}

/// Sends the command and prints the answer.
pub(super) fn run(args: &CtlArgs) -> Result<(), Failure> {
    let mut control = match &args.endpoint {
        Some(endpoint) => Control::connect(endpoint, &args.control)?,
        None => Control::of(Kind::Broker, &args.control)?,
    };
    control.choose(args.proxy.as_deref());
    let answer = match &args.command {
        CtlCommand::Pause => control.steer("PAUSE")?,
        CtlCommand::Resume => control.steer("RESUME")?,
        CtlCommand::Terminate => control.steer("TERMINATE")?,
        CtlCommand::Reload => control.ask(&json!({ "command": "reload" }))?,
        CtlCommand::Statistics => control.statistics()?,
        CtlCommand::Peers {
            side,
            all,
            sort,
            rates,
        } => {
            let mut request = json!({ "command": "peers" });
            put_all(&mut request, *all);
            if let Some(sort) = sort {
                request["sort"] = json!(sort);
            }
            if let Some(side) = side {
                request["side"] = json!(side);
            }
            control.peers(request, *rates)?
        }
        CtlCommand::Closed { all } => {
            let mut request = json!({ "command": "closed" });
            put_all(&mut request, *all);
            control.ask(&request)?
        }
        CtlCommand::Events => control.ask(&json!({ "command": "events" }))?,
        CtlCommand::Subscriptions { prefix } => control.subscriptions(prefix)?,
        CtlCommand::Who { topic } => {
            let request = json!({ "command": "who", "topic": topic });
            control.ask_on("peers", "id", request)?
        }
        CtlCommand::Kick {
            id,
            address,
            identity,
        } => {
            let keys = [("id", id), ("address", address), ("identity", identity)];
            let mut request = json!({ "command": "kick" });
            for (key, value) in keys {
                if let Some(value) = value {
                    request[key] = json!(value);
                }
            }
            control.ask(&request)?
        }
    };
    if args.json {
        let mut line = String::new();
        json::append_visibly(&mut line, &answer.to_string());
        line.push('\n');
        return print(&line);
    }
    print(&table::describe(&args.command, &answer))
}

/// Checks the key of a figure that peers can be sorted by.
fn figure(key: &str) -> Result<String, String> {
    PeerOrder::from_key(key).map(|_| key.to_owned())
}

/// Sets `all` only if requested, so that older versions of zmqd answer the other questions.
fn put_all(request: &mut Value, all: bool) {
    if all {
        request["all"] = json!(true);
    }
}
