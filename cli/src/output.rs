//! The output of a command, and its exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use zmtp::show;

use crate::logger;

/// Why a command failed: sentences with the remedy, and the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of stdout closed it, as `head` does: exit code 0.
    BrokenPipe,
    /// Exit code 1.
    Running(String),
    /// Exit code 2: all errors of the command line or a configuration.
    Usage(Vec<String>),
}

impl Failure {
    /// The reasons.
    pub(crate) fn into_sentences(self) -> Vec<String> {
        match self {
            Self::BrokenPipe => Vec::new(),
            Self::Running(sentence) => vec![sentence],
            Self::Usage(sentences) => sentences,
        }
    }

    /// One error of the command line.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(vec![sentence.into()])
    }
}

/// Prints the reason if a command failed, and returns the exit code.
pub(crate) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    let (sentences, code) = match outcome {
        Ok(()) | Err(Failure::BrokenPipe) => return ExitCode::SUCCESS,
        Err(Failure::Running(sentence)) => (vec![sentence], 1),
        Err(Failure::Usage(sentences)) => (sentences, 2),
    };
    if logger::log_errors(&sentences) {
        return ExitCode::from(code);
    }
    let lines = sentences
        .iter()
        .map(|line| format!("zmqd: {}\n", show(line).whole()));
    // If stderr is closed too, the exit code must suffice.
    drop(io::stderr().write_all(lines.collect::<String>().as_bytes()));
    ExitCode::from(code)
}

/// Writes to stdout and flushes.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to stdout and flushes.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
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
