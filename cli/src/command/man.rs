//! `zmqd man`: the manual pages.

use clap_mangen::Man;

use super::{Failure, print};
use crate::args::{ManArgs, definition};

/// Prints the page of zmqd or of one subcommand.
pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut whole = definition();
    // Gives the subcommands the names they are called by, `zmqd queue` and not `queue`.
    whole.build();
    let page = match &args.subcommand {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::Usage(format!(
                "unknown subcommand \"{name}\": zmqd --help lists them"
            ))
        })?,
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    // Behind the options stand tables and examples, whose lines must stay as they are.
    let text = String::from_utf8_lossy(&text)
        .replace("\n.SH EXTRA\n", "\n.SH NOTES\n.nf\n")
        .replace("\n.SH VERSION\n", "\n.fi\n.SH VERSION\n");
    print(&text)
}
