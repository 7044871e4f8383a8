//! `zmqd completions`: completion scripts for shells.

use crate::output::{Failure, print};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

const EXAMPLES: &str = "\
Examples:
  zmqd completions bash > /etc/bash_completion.d/zmqd
  zmqd completions zsh > /usr/share/zsh/site-functions/_zmqd
  zmqd completions fish > ~/.config/fish/completions/zmqd.fish";

/// Prints the completions of a shell.
pub(super) fn run(args: &CompletionsArgs, mut definition: clap::Command) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "zmqd", &mut text);
    print(&String::from_utf8_lossy(&text))
}
