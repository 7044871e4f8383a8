//! The built binary, run by the tests of the command line.

use std::process::{Command, Output, Stdio};

/// The binary with these arguments, whatever the environment of the test is.
pub(crate) fn zmqd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zmqd"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .env_remove("JOURNAL_STREAM");
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    zmqd(args).output().expect("the binary runs")
}

/// Its output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}
