//! The whole command line: the options of every subcommand, the summary, and errors in one line.
//!
//! Each subcommand defines its own arguments. clap parses them, so a subcommand receives only valid
//! values.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser};

use crate::command::Command;
use crate::logger::Verbosity;
use crate::output::Failure;

/// A ZeroMQ broker for small Linux boxes in one static binary.
#[derive(Debug, Parser)]
#[command(name = "zmqd", version, about, after_help = after_help())]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
    /// Without a subcommand, zmqd runs the embedded default.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The whole definition, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Args::command()
}

/// The error of clap, as one sentence.
pub(crate) fn explain(error: &clap::Error) -> Failure {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) if error.kind() == ErrorKind::UnknownArgument => name,
        _ => "",
    };
    if let Some((old, new)) = RENAMED.iter().find(|(old, _)| *old == unknown) {
        return Failure::usage(format!("{old} was renamed: write {new}"));
    }
    if error.kind() == ErrorKind::MissingSubcommand
        && let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand)
    {
        let names = names.join(", ");
        return Failure::usage(format!(
            "{command} needs a subcommand: {names} (see {command} --help)"
        ));
    }
    let rendered = error.to_string();
    // clap prints usage after the error, which `--help` shows better.
    let (complaint, usage) = rendered
        .split_once("\n\nUsage: ")
        .unwrap_or((&rendered, "zmqd"));
    let complaint = complaint
        .split("\n\nFor more information")
        .next()
        .unwrap_or_default();
    let complaint = complaint.strip_prefix("error: ").unwrap_or(complaint);
    let complaint: Vec<&str> = complaint.split_whitespace().collect();
    let command: Vec<&str> = usage
        .split_whitespace()
        .take_while(|word| !word.starts_with(['[', '<', '-']))
        .collect();
    Failure::usage(format!(
        "{} (see {} --help)",
        complaint.join(" ").replace(" tip: ", "; "),
        command.join(" ")
    ))
}

fn after_help() -> String {
    format!(
        "{EXAMPLES}\n\n\
         Exit codes:\n  \
         0  success, also after SIGINT or SIGTERM\n  \
         1  failure while running; a port in use, for example\n  \
         2  wrong usage, or a wrong configuration file\n\n\
         Environment:\n  \
         RUST_LOG  log level: error, warn, info, debug or trace\n  \
         NO_COLOR  disables colours, with any value"
    )
}

/// Options that were renamed, and their new names.
const RENAMED: &[(&str, &str)] = &[
    ("--handshake-timeout", "--set handshake_ivl=TIME"),
    ("--hwm", "--set sndhwm=N"),
    ("--peers", "--clients, --subscribers or --sources"),
    ("--seconds", "--duration TIME"),
];

const EXAMPLES: &str = "\
Examples:
  zmqd                                      one proxy of each kind on 127.0.0.1
  zmqd queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560
  zmqd run --print-default > zmqd.toml      an example of a configuration file
  zmqd check zmqd.toml && zmqd run zmqd.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    /// Options that a subcommand shares with others bring a text with them if their type has one.
    #[test]
    fn a_subcommand_is_told_of_alike_in_the_list_and_on_its_own_page() {
        let list = definition();
        let mut pages = definition();
        pages.build();
        for subcommand in list.get_subcommands() {
            let name = subcommand.get_name();
            let page = pages.find_subcommand(name).unwrap();
            let about = |command: &clap::Command| command.get_about().map(ToString::to_string);
            assert!(about(subcommand).is_some(), "{name}");
            assert_eq!(about(subcommand), about(page), "{name}");
            assert_eq!(
                subcommand.get_arguments().count(),
                0,
                "{name} is defined early"
            );
        }
    }
}
