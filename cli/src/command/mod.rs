//! The subcommands: one file each, with one `run` each.

pub(crate) mod bench;
mod check;
mod completions;
pub(crate) mod ctl;
pub(crate) mod export;
mod man;
mod proxy;
pub(crate) mod replay;
mod run;
mod serve;
pub(crate) mod sniff;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use broker::config::{Config, ConfigError};
use broker::limits::CONFIG_SIZE_MAX;
use zmtp::show;

use crate::args::{Command, RunArgs};

/// Why zmqd ends otherwise than well: a sentence that says what to do, and the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever reads our output went away, which is their right: no failure at all.
    BrokenPipe,
    /// Exit code 1.
    Running(String),
    /// Exit code 2: the command line or the configuration is wrong.
    Usage(String),
}

/// Does what the command line asks for.
pub(crate) fn dispatch(command: Option<Command>) -> Result<(), Failure> {
    match command {
        None => run::run(&RunArgs::default()),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Ctl(args)) => ctl::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Man(args)) => man::run(&args),
        Some(Command::Proxy(command)) => proxy::run(command),
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Sniff(args)) => sniff::run(&args),
    }
}

/// Says on stderr how it went, if it went badly.
pub(crate) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    let (sentence, code) = match outcome {
        Ok(()) | Err(Failure::BrokenPipe) => return ExitCode::SUCCESS,
        Err(Failure::Running(sentence)) => (sentence, 1),
        Err(Failure::Usage(sentence)) => (sentence, 2),
    };
    // With stderr gone too there is nobody left to tell.
    drop(writeln!(io::stderr(), "zmqd: {}", show(&sentence).whole()));
    ExitCode::from(code)
}

/// Writes to stdout and flushes.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Reads a configuration file.
fn read_config(path: &Path) -> Result<Config, Failure> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    // One byte more than may be there, however much there is.
    let read = File::open(path).and_then(|file| {
        let size_max = CONFIG_SIZE_MAX as u64 + 1;
        file.take(size_max).read_to_end(&mut bytes)
    });
    read.map_err(|error| {
        let shown = show(&name).whole();
        Failure::Usage(format!("cannot read {shown}: {error}{}", hint(&error)))
    })?;
    if bytes.len() > CONFIG_SIZE_MAX {
        return Err(Failure::Usage(ConfigError::too_large(&name).to_string()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::Usage(format!("{} is not UTF-8: {error}", show(&name).whole()))
    })?;
    Config::from_toml(&text, &name).map_err(|error| Failure::Usage(error.to_string()))
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; zmqd run --print-default prints a file to start from",
        _ => "",
    }
}

impl From<io::Error> for Failure {
    /// An error while writing to stdout.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::Running(format!("cannot write to stdout: {error}"))
    }
}
