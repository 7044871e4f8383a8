//! `zmqd completions`: what a shell needs to complete the command line.

use super::{Failure, print};
use crate::args::{CompletionsArgs, definition};

/// Prints the completions of a shell.
pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "zmqd", &mut text);
    print(&String::from_utf8_lossy(&text))
}
