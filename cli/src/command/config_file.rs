//! Reading a configuration file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use broker::config::{Config, ConfigErrors};
use broker::limits::CONFIG_SIZE_MAX;
use zmtp::show;

use crate::output::Failure;

/// Reads a configuration file.
pub(super) fn read(path: &Path) -> Result<Config, Failure> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    // One byte more than the limit, at most.
    let read = File::open(path).and_then(|file| {
        let size_max = CONFIG_SIZE_MAX as u64 + 1;
        file.take(size_max).read_to_end(&mut bytes)
    });
    read.map_err(|error| {
        let shown = show(&name).whole();
        Failure::usage(format!("cannot read {shown}: {error}{}", hint(&error)))
    })?;
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
