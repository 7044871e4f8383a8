//! The log: on stderr or in a file, as text or JSON; coloured only on a terminal and without
//! `NO_COLOR`.

mod file;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::ArgAction;
use env_logger::fmt::Formatter;
use env_logger::{Builder, Env, Target};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};

use self::file::LogFile;
use crate::capture::json;
use crate::capture::time::{now_ns, utc};
use crate::output::Failure;

/// The level of the log.
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

/// The format of the log and its place, for commands that run until a signal.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LogArgs {
    /// Format of the log: text, or JSON with a line for each object
    #[arg(
        long,
        value_name = "text|json",
        default_value = "text",
        hide_default_value = true
    )]
    #[arg(hide_possible_values = true, display_order = 902)]
    log_format: Format,
    /// Append the log to this file, which SIGUSR1 opens again
    #[arg(long, value_name = "FILE", display_order = 903)]
    log_file: Option<PathBuf>,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
    #[default]
    Text,
}

/// The log of this process.
#[derive(Debug, Default)]
struct Log {
    file: Option<LogFile>,
    format: Format,
    /// Stderr is the journal of systemd, which has times of its own and reads priorities.
    is_journal: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Starts logging. `-v` and `-q` overrule `RUST_LOG`, which overrules the default, `info`.
///
/// # Errors
/// The log file cannot be opened.
pub(crate) fn start(verbosity: Verbosity, args: Option<&LogArgs>) -> Result<(), Failure> {
    let LogArgs {
        log_format,
        log_file,
    } = args.cloned().unwrap_or_default();
    let file = log_file.map(LogFile::open).transpose()?;
    let log = Log {
        format: log_format,
        is_journal: file.is_none() && is_journal(),
        file,
    };
    let log = LOG.get_or_init(|| log);
    let mut builder = Builder::new();
    match level(verbosity) {
        Some(level) => builder.filter_level(level),
        None => builder.parse_env(Env::default().default_filter_or("info")),
    };
    if let Some(file) = &log.file {
        builder.target(Target::Pipe(Box::new(file)));
    }
    builder.format(|out, record| log.write(out, record));
    builder.init();
    Ok(())
}

/// What SIGUSR1 does: opens the log file again, if there is one.
pub(crate) fn reopener() -> Option<impl FnMut() + Send + 'static> {
    LOG.get()?.file.as_ref().map(|file| || file.reopen())
}

/// Logs the errors that end the process, if the log is in a file or in JSON. True if they are on
/// stderr then.
pub(crate) fn log_errors(sentences: &[String]) -> bool {
    let Some(log) = LOG.get() else {
        return false;
    };
    if log.file.is_none() && log.format == Format::Text {
        return false;
    }
    for sentence in sentences {
        log::error!("{sentence}");
    }
    log.file.is_none() && log::log_enabled!(Level::Error)
}

/// Whether stderr is the stream to the journal that systemd names by device and inode. A process
/// whose stderr was redirected inherits the variable too.
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let found = stderr.and_then(|stderr| stderr.metadata());
    found.is_ok_and(|found| named == format!("{}:{}", found.dev(), found.ino()))
}

impl Log {
    fn write(&self, out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
        let level = record.level();
        if self.is_journal {
            out.write_all(priority(level).as_bytes())?;
        }
        match self.format {
            Format::Json => out.write_all(json_of(record).as_bytes()),
            Format::Text => {
                if !self.is_journal {
                    let (time, style) = (time(), out.default_level_style(level));
                    write!(out, "[{time} {style}{level:<5}{style:#}] ")?;
                }
                writeln!(out, "{}", one_line(record))
            }
        }
    }
}

/// The time, with three digits of its second.
fn time() -> String {
    let time = utc(now_ns());
    let whole = time.len() - "123Z".len();
    format!("{}Z", &time[..whole])
}

/// The priority of a line, as the journal reads it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// The message on one line: another line would look like a message of its own.
fn one_line(record: &Record<'_>) -> String {
    record.args().to_string().replace('\n', " ")
}

/// A line of JSON: time, level, target and message, and then the fields of the record.
fn json_of(record: &Record<'_>) -> String {
    let mut line = format!(
        r#"{{"time":"{}","level":"{}","target":"#,
        utc(now_ns()),
        record.level()
    );
    json::append_string(&mut line, record.target());
    line.push_str(r#","message":"#);
    json::append_string(&mut line, &record.args().to_string());
    // Nothing in it fails.
    let _ = record.key_values().visit(&mut Fields(&mut line));
    line.push_str("}\n");
    line
}

/// Appends the fields of a record to its JSON.
struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push(',');
        json::append_string(self.0, key.as_str());
        self.0.push(':');
        match value.to_u64() {
            Some(number) => self.0.push_str(&number.to_string()),
            None => json::append_string(self.0, &value.to_string()),
        }
        Ok(())
    }
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

    #[test]
    fn a_record_is_one_line_in_each_format() {
        let message = format_args!("a \"b\"\n\u{202e}c");
        let fields: &[(&str, Value<'_>)] =
            &[("peer", Value::from("\x1b[2J")), ("count", Value::from(7))];
        let mut record = Record::builder();
        let record = record.level(Level::Warn).target("broker::core");
        let record = record.key_values(&fields).args(message).build();
        assert_eq!(one_line(&record), "a \"b\" \u{202e}c");
        let json = json_of(&record);
        let rest = json.strip_prefix(r#"{"time":"2"#).expect("a time");
        let (_, rest) = rest.split_once("Z\",").expect("a time in UTC");
        assert_eq!(
            rest,
            "\"level\":\"WARN\",\"target\":\"broker::core\",\"message\":\"a \\\"b\\\"\\n\\u202ec\",\
             \"peer\":\"\\u001b[2J\",\"count\":7}\n"
        );
        let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(parsed["count"], 7);
        assert_eq!(time().len(), "2026-11-22T10:00:00.123Z".len());
    }
}
