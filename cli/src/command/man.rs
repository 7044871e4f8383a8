//! `zmqd man`: the manual pages.

mod file;

use clap_mangen::Man;

use crate::output::{Failure, print};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// A subcommand, or zmqd.toml for the file; without either, the page of zmqd itself
    pub(crate) subcommand: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  zmqd man > zmqd.1 && man ./zmqd.1
  zmqd man queue > zmqd-queue.1
  zmqd man zmqd.toml > zmqd.toml.5";

/// Prints the page of zmqd, of one subcommand, or of the configuration file.
pub(super) fn run(args: &ManArgs, mut whole: clap::Command) -> Result<(), Failure> {
    if args.subcommand.as_deref() == Some("zmqd.toml") {
        return print(&file::page());
    }
    // Gives the subcommands their full names, such as `zmqd queue`.
    whole.build();
    let page = match &args.subcommand {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::usage(format!(
                "unknown subcommand \"{name}\": zmqd --help lists them"
            ))
        })?,
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    // Tables and examples follow the options; their lines must not be refilled.
    let text = String::from_utf8_lossy(&text)
        .replace("\n.SH EXTRA\n", "\n.SH NOTES\n.nf\n")
        .replace("\n.SH VERSION\n", "\n.fi\n.SH VERSION\n");
    print(&text)
}
