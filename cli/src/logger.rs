//! The log: on stderr, coloured only on a terminal and without `NO_COLOR`.

use clap::ArgAction;
use env_logger::{Builder, Env, TimestampPrecision};
use log::LevelFilter;

/// The level of the log on stderr.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Verbosity {
    /// Log more: debug, then trace; overrules RUST_LOG
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 900)]
    #[arg(conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Log less: warnings, then errors, then nothing
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 901)]
    pub(crate) quiet: u8,
}

/// Starts logging. `-v` and `-q` overrule `RUST_LOG`, which overrules the default, `info`.
pub(crate) fn start(verbosity: Verbosity) {
    let mut builder = Builder::new();
    match level(verbosity) {
        Some(level) => builder.filter_level(level),
        None => builder.parse_env(Env::default().default_filter_or("info")),
    };
    // systemd sets this when stderr is its journal, which has times of its own.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.format_timestamp(None);
    } else {
        builder.format_timestamp(Some(TimestampPrecision::Millis));
    }
    builder.format_target(false).init();
}

fn level(Verbosity { verbose, quiet }: Verbosity) -> Option<LevelFilter> {
    match (verbose, quiet) {
        (0, 0) => None,
        (0, 1) => Some(LevelFilter::Warn),
        (0, 2) => Some(LevelFilter::Error),
        (0, _) => Some(LevelFilter::Off),
        (1, _) => Some(LevelFilter::Debug),
        (_, _) => Some(LevelFilter::Trace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_go_both_ways_from_info() {
        for (verbose, quiet, expected) in [
            (0, 0, None),
            (1, 0, Some(LevelFilter::Debug)),
            (2, 0, Some(LevelFilter::Trace)),
            (0, 1, Some(LevelFilter::Warn)),
            (0, 2, Some(LevelFilter::Error)),
            (0, 3, Some(LevelFilter::Off)),
        ] {
            assert_eq!(
                level(Verbosity { verbose, quiet }),
                expected,
                "-v {verbose} -q {quiet}"
            );
        }
    }
}
