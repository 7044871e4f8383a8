//! `zmqd watch`: notices services that fall silent, and restarts them.
//!
//! The crate `watch` decides; this process does the work. It never runs inside a broker: a broker
//! does not fork, and needs no right to restart services.

use std::path::{Path, PathBuf};

use broker::config::Endpoint;
use watch::config::Config;

use super::config_file;
use super::control::ControlArgs;
use crate::logger::LogArgs;
use crate::output::Failure;

mod children;
mod client;
mod counters;
mod engine;
mod follower;
mod json;
mod opening;
mod post;
mod process;
mod socket;
mod sources;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct WatchArgs {
    #[command(subcommand)]
    command: Option<WatchCommand>,
    /// The file with [[watch]] tables, which may be that of the broker
    #[arg(required = true)]
    config: Option<PathBuf>,
    /// The control of the broker to follow, instead of the usual place
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "pid")]
    #[arg(value_parser = Endpoint::parse_connect)]
    control: Option<Endpoint>,
    /// Start nothing and say what would have been done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: ControlArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

// Questions and commands for a watch that runs.
#[derive(Debug, clap::Subcommand)]
enum WatchCommand {
    /// Show every watch and its state
    Status {
        /// Print one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a watch take no action until it is resumed
    Pause {
        /// The name of the watch
        name: String,
    },
    /// Let a paused or failed watch act again
    Resume {
        /// The name of the watch
        name: String,
    },
}

const EXAMPLES: &str = "\
zmqd watch is a process of its own: it follows a broker through its control, receives heartbeats,
and runs commands when a service is silent. SIGHUP reads the file again; SIGINT or SIGTERM ends it,
and the services that it has started; SIGUSR1 opens the log file again. docs/guide/watch.md explains
the tables.

Examples:
  zmqd watch zmqd.toml
  zmqd watch --dry-run zmqd.toml
  zmqd watch status
  zmqd watch pause camera";

/// Runs the watches of a file, or asks a process that does.
pub(super) fn run(args: &WatchArgs) -> Result<(), Failure> {
    match (&args.command, &args.config) {
        (Some(WatchCommand::Status { json }), _) => client::show(&args.ask, *json),
        (Some(WatchCommand::Pause { name }), _) => client::steer(&args.ask, "pause", name),
        (Some(WatchCommand::Resume { name }), _) => client::steer(&args.ask, "resume", name),
        (None, Some(path)) => {
            let config = read_config(path)?;
            engine::Engine::start(args, config, path.clone())?.run()
        }
        (None, None) => Err(Failure::usage("name a file with [[watch]] tables")),
    }
}

/// Reads the watches of a file; errors of the broker in it are errors too.
fn read_config(path: &Path) -> Result<Config, Failure> {
    let (_, mut config) = config_file::read_with_watches(path)?;
    config_file::load_keys(&mut config, path)?;
    if config.watches.is_empty() {
        let path = path.display().to_string();
        let path = zmtp::show(&path).whole().to_string();
        return Err(Failure::usage(format!(
            "{path} has no [[watch]] table: docs/guide/watch.md has examples"
        )));
    }
    Ok(config)
}
