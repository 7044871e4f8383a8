//! Reading a configuration file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use broker::config::{Config, ConfigErrors};
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
        Failure::usage(format!("cannot read {shown}: {error}{}", hint(&error)))
    })?;
    Ok(bytes)
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<Config, Failure> {
    let name = path.display().to_string();
    if bytes.len() > CONFIG_SIZE_MAX {
        return Err(refuse(&ConfigErrors::too_large(&name)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!("{} is not UTF-8: {error}", show(&name).whole()))
    })?;
    Config::from_toml(&text, &name).map_err(|errors| refuse(&errors))
}

fn refuse(errors: &ConfigErrors) -> Failure {
    Failure::Usage(errors.to_string().lines().map(str::to_owned).collect())
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; zmqd run --print-default prints an example",
        _ => "",
    }
}
