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

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Proxy(proxy::ProxyCommand),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    Top(top::TopArgs),
    #[command(flatten)]
    Client(clients::ClientCommand),
    Watch(Box<watch::WatchArgs>),
    Check(check::CheckArgs),
    Bench(bench::BenchArgs),
    Ctl(ctl::CtlArgs),
    Sniff(Box<sniff::SniffArgs>),
    Replay(replay::ReplayArgs),
    Export(export::ExportArgs),
    Keygen(keygen::KeygenArgs),
    Passwd(passwd::PasswdArgs),
    Completions(completions::CompletionsArgs),
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
