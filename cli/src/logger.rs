//! The log: on stderr or in a file, as text or JSON; coloured only on a terminal and without
//! `NO_COLOR`.

mod file;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use clap::ArgAction;
use env_logger::fmt::Formatter;
use env_logger::{Builder, Env};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};

pub(crate) use self::file::{LogFile, Rotation};
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

// The format of the log and its place, for commands that run until a signal.
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

impl LogArgs {
    /// Whether the log is in a file.
    pub(crate) fn has_file(&self) -> bool {
        self.log_file.is_some()
    }
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
    /// The file that is written to; without one, stderr is.
    file: Mutex<Option<LogFile>>,
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
    let open = |path: PathBuf| {
        let shown = zmtp::show(&path.display().to_string()).whole().to_string();
        LogFile::open(path, None, now())
            .map_err(|error| Failure::Running(format!("--log-file: cannot open {shown}: {error}")))
    };
    let log = Log {
        file: Mutex::new(log_file.map(open).transpose()?),
        format: log_format,
        is_journal: is_journal(),
    };
    let log = LOG.get_or_init(|| log);
    let mut builder = Builder::new();
    match level(verbosity) {
        Some(level) => builder.filter_level(level),
        None => builder.parse_env(Env::default().default_filter_or("info")),
    };
    builder.format(|out, record| log.write(out, record));
    builder.init();
    Ok(())
}

/// Writes the log to this file from now on, or to stderr.
pub(crate) fn write_to(file: Option<LogFile>) {
    if let Some(log) = LOG.get() {
        *log.file() = file;
    }
}

/// What SIGUSR1 does: opens the log file again, if the log has one.
pub(crate) fn reopener() -> Option<fn()> {
    let has_file = LOG.get().is_some_and(|log| log.file().is_some());
    has_file.then_some(reopen)
}

/// Opens the log file again, if the log has one.
pub(crate) fn reopen() {
    let reopened = LOG.get().and_then(|log| {
        let mut file = log.file();
        let file = file.as_mut()?;
        Some((file.reopen(now()), file.shown()))
    });
    match reopened {
        None => {}
        Some((Ok(()), _)) => log::info!("opened the log file again (SIGUSR1)"),
        Some((Err(error), path)) => {
            log::error!("cannot open {path} again: {error}; the log goes on in the old file");
        }
    }
}

/// Logs the errors that end the process, if the log is in a file or in JSON. True if they are on
/// stderr then.
pub(crate) fn log_errors(sentences: &[String]) -> bool {
    let Some(log) = LOG.get() else {
        return false;
    };
    let has_file = log.file().is_some();
    if !has_file && log.format == Format::Text {
        return false;
    }
    for sentence in sentences {
        log::error!("{sentence}");
    }
    !has_file && log::log_enabled!(Level::Error)
}

#[expect(clippy::disallowed_methods, reason = "the age of a log file counts")]
fn now() -> Instant {
    Instant::now()
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
    fn file(&self) -> MutexGuard<'_, Option<LogFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record as one line: to the file, or to stderr.
    fn write(&self, out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
        let level = record.level();
        let is_json = self.format == Format::Json;
        if let Some(file) = &mut *self.file() {
            let line = match is_json {
                true => json_of(record),
                false => format!("[{} {level:<5}] {}\n", time(), one_line(record)),
            };
            file.write(line.as_bytes(), now());
            return Ok(());
        }
        if self.is_journal {
            out.write_all(priority(level).as_bytes())?;
        }
        if is_json {
            return out.write_all(json_of(record).as_bytes());
        }
        if !self.is_journal {
            let (time, style) = (time(), out.default_level_style(level));
            write!(out, "[{time} {style}{level:<5}{style:#}] ")?;
        }
        writeln!(out, "{}", one_line(record))
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
