//! Reading a configuration file.

use broker::sort;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use broker::config::{Config, ConfigError, ConfigErrors, Fault, hint};
use broker::limits::CONFIG_SIZE_MAX;
use zmtp::show;

use crate::output::Failure;

/// The time in which the content of a file must not change to be complete.
const SETTLED: Duration = Duration::from_millis(50);

/// Reads a configuration file that another process may be writing: waits until it stays the same.
#[expect(
    clippy::disallowed_methods,
    reason = "no fact tells that a file is complete, and the thread has nothing else to do"
)]
pub(super) fn read_again(path: &Path) -> Result<Config, Failure> {
    let mut before = bytes(path)?;
    loop {
        thread::sleep(SETTLED);
        let after = bytes(path)?;
        if before == after {
            return parse(path, after);
        }
        before = after;
    }
}

/// Reads a configuration file.
pub(super) fn read(path: &Path) -> Result<Config, Failure> {
    parse(path, bytes(path)?)
}

/// The content of a file, up to one byte more than the limit.
fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let size_max = CONFIG_SIZE_MAX as u64 + 1;
        file.take(size_max).read_to_end(&mut bytes)
    });
    read.map_err(|error| {
        let shown = show(&name).whole();
        Failure::usage(format!("cannot read {shown}: {error}{}", example(&error)))
    })?;
    Ok(bytes)
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<Config, Failure> {
    parse_both(path, bytes)?.0.map_err(|errors| refuse(&errors))
}

/// Reads the watches of a file, and its broker if it has one.
pub(super) fn read_with_watches(path: &Path) -> Result<(Option<Config>, watch::Config), Failure> {
    let (broker, watches) = parse_both(path, bytes(path)?)?;
    match broker {
        Ok(broker) => Ok((Some(broker), watches)),
        Err(errors) if !watches.watches.is_empty() && lacks_only_proxies(&errors) => {
            Ok((None, watches))
        }
        Err(errors) => Err(refuse(&errors)),
    }
}

/// Reads the keys and users of the sockets of watches. A broker of the same file can do without.
pub(super) fn load_keys(watches: &mut watch::Config, path: &Path) -> Result<(), Failure> {
    let read = watches.load_keys(&path.display().to_string());
    read.map_err(|errors| Failure::Usage(errors.to_string().lines().map(str::to_owned).collect()))
}

/// Parses both the broker and the watches of a file. Errors of the watches are a failure, together
/// with those of the broker.
fn parse_both(
    path: &Path,
    bytes: Vec<u8>,
) -> Result<(Result<Config, ConfigErrors>, watch::Config), Failure> {
    let name = path.display().to_string();
    if bytes.len() > CONFIG_SIZE_MAX {
        return Err(refuse(&ConfigErrors::too_large(&name)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!("{} is not UTF-8: {error}", show(&name).whole()))
    })?;
    let broker = Config::from_toml(&text, &name);
    match (watch::Config::from_toml(&text, &name), &broker) {
        (Ok(watches), Ok(broker)) => match unknown_proxies(broker, &watches, &name) {
            sentences if sentences.is_empty() => Ok((Ok(broker.clone()), watches)),
            sentences => Err(Failure::Usage(sentences)),
        },
        (Ok(watches), Err(_)) => Ok((broker, watches)),
        (Err(errors), broker) => {
            let mut all: Vec<&ConfigError> = errors.0.iter().collect();
            if let Err(others) = broker
                && !lacks_only_proxies(others)
            {
                // Text that is not TOML is the same error twice.
                all.extend(others.iter().filter(|it| !errors.0.contains(it)));
            }
            sort::by_key(&mut all, |error| error.line);
            Err(Failure::Usage(
                all.iter().map(ToString::to_string).collect(),
            ))
        }
    }
}

/// Whether the only error is that the file has no proxy.
fn lacks_only_proxies(errors: &ConfigErrors) -> bool {
    let mut errors = errors.iter();
    let is_lack = |error: &ConfigError| error.sentence == Fault::NoProxy.to_string();
    errors.next().is_some_and(is_lack) && errors.next().is_none()
}

/// A sentence for each watch of a proxy that the broker in the same file does not have.
fn unknown_proxies(broker: &Config, watches: &watch::Config, file: &str) -> Vec<String> {
    let names: Vec<&str> = broker.proxies.iter().map(|proxy| &proxy.name[..]).collect();
    let watches = watches.watches.iter();
    let unknown = watches.filter_map(|watch| {
        let proxy = watch.sign.proxy().filter(|proxy| !names.contains(proxy))?;
        Some(format!(
            "{}: watch {}: no proxy is called \"{}\": {}",
            show(file).whole(),
            watch.name,
            show(proxy),
            hint(proxy, &names)
        ))
    });
    unknown.collect()
}

fn refuse(errors: &ConfigErrors) -> Failure {
    Failure::Usage(errors.to_string().lines().map(str::to_owned).collect())
}

fn example(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; zmqd run --print-default prints an example",
        _ => "",
    }
}
