//! The subcommands: one file each, with its arguments, its examples and one `run`.

mod bench;
mod check;
mod clients;
mod completions;
mod config_file;
mod control;
mod ctl;
mod export;
mod http_args;
mod keygen;
mod local;
mod man;
mod passed;
mod passwd;
mod proxy;
mod replay;
mod run;
mod serve;
mod sniff;
mod status;
mod systemd;
mod top;
mod values;
mod watch;

use clap::Subcommand;

use crate::logger::{LogArgs, Verbosity};
use crate::output::Failure;

/// The subcommands. clap defines the options of a subcommand only when it is given: all of them
/// together take a megabyte, which the allocator would keep while the broker runs. The list of
/// subcommands needs their texts before, so these are here; types of options have plain comments,
/// because clap would show documentation of theirs in place of them.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    #[command(flatten)]
    Proxy(proxy::ProxyCommand),
    /// Run the proxies of a configuration file
    Run(run::RunArgs),
    /// Show the running broker: configuration, proxies, rates, queues, drops
    Status(status::StatusArgs),
    /// Show proxies, peers, topics and drops of the running broker, live
    Top(top::TopArgs),
    #[command(flatten)]
    Client(clients::ClientCommand),
    /// Restart services that fall silent
    Watch(Box<watch::WatchArgs>),
    /// Explain a configuration file, or report its errors
    Check(check::CheckArgs),
    /// Put a load on a proxy, zmqd or another, and measure it
    Bench(bench::BenchArgs),
    /// Steer or query a running broker or proxy through its control
    Ctl(ctl::CtlArgs),
    /// Show, count or record the messages of a proxy
    Sniff(Box<sniff::SniffArgs>),
    /// Send recorded messages again
    Replay(replay::ReplayArgs),
    /// Convert recordings to files for Wireshark
    Export(export::ExportArgs),
    /// Make a pair of CURVE keys, or print the public key of a secret one
    Keygen(keygen::KeygenArgs),
    /// Add a PLAIN user to a file, or change its password
    Passwd(passwd::PasswdArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Print a manual page
    Man(man::ManArgs),
}

impl Command {
    /// The log of a command that has options for it.
    pub(crate) fn log(&self) -> Option<&LogArgs> {
        match self {
            Self::Proxy(command) => Some(&command.args.log),
            Self::Run(args) => Some(&args.log),
            Self::Watch(args) => Some(&args.log),
            _ => None,
        }
    }
}

/// Runs a subcommand. `definition` is the whole command line, for completions and manual pages.
pub(crate) fn dispatch(
    command: Option<Command>,
    verbosity: Verbosity,
    definition: fn() -> clap::Command,
) -> Result<(), Failure> {
    match command {
        None => run::run(&run::RunArgs::default()),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Client(command)) => clients::run(&command, verbosity),
        Some(Command::Completions(args)) => completions::run(&args, definition()),
        Some(Command::Ctl(args)) => ctl::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Keygen(args)) => keygen::run(&args),
        Some(Command::Man(args)) => man::run(&args, definition()),
        Some(Command::Passwd(args)) => passwd::run(&args),
        Some(Command::Proxy(command)) => proxy::run(command),
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Sniff(args)) => sniff::run(&args),
        Some(Command::Status(args)) => status::run(&args),
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Watch(args)) => watch::run(&args),
    }
}
