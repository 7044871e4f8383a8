//! What a command prints, and how it ends.

use std::io::{self, Write as _};
use std::process::ExitCode;

use zmtp::show;

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
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
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
