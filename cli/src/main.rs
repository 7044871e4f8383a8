//! The `zmqd` binary: parses the command line, runs one subcommand, reports the result.
//!
//! Exit codes: 0 success, 1 failure while running, 2 usage or configuration error. Each error is
//! one sentence on stderr.

#![forbid(unsafe_code)]

mod args;
mod capture;
mod client;
mod command;
mod logger;
mod output;
mod value;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let outcome = match args::Args::try_parse() {
        Ok(args) => {
            let log = args.command.as_ref().and_then(command::Command::log);
            let started = logger::start(args.verbosity, log);
            started.and_then(|()| command::dispatch(args.command, args.verbosity, args::definition))
        }
        Err(error) if error.use_stderr() => Err(args::explain(&error)),
        // Help or version was requested.
        Err(error) => error.print().map_err(output::Failure::from),
    };
    output::exit_code(outcome)
}
