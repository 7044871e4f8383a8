//! `zmqd check`: the meaning of a configuration file, its errors, or its differences from another.

use std::fmt;
use std::path::PathBuf;

use broker::config::{
    CacheConfig, CaptureConfig, CaptureFormat, Config, Connect, ProxyConfig, SocketName,
    SocketOption, Unit, Value, ValueKind, diff,
};

use watch::config::WatchConfig;

use super::config_file;
use crate::output::{Failure, print};

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The file
    #[arg(required_unless_present = "diff")]
    pub(crate) config: Option<PathBuf>,

    /// List the changes from one file to another, and when each applies
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with = "config")]
    pub(crate) diff: Vec<PathBuf>,
}

/// Prints the meaning of the file, or the differences between two.
pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    if let [old, new] = &args.diff[..] {
        let (old, new) = (config_file::read(old)?, config_file::read(new)?);
        let changes = diff(&old, &new).list;
        let lines = changes.iter().map(|change| format!("{change}\n"));
        return print(&lines.collect::<String>());
    }
    args.config.iter().try_for_each(|path| {
        let (broker, mut watches) = config_file::read_with_watches(path)?;
        config_file::load_keys(&mut watches, path)?;
        let broker = broker.as_ref().map(|config| Meaning(config).to_string());
        let watches = watches.watches.iter().map(describe_watch);
        print(&(broker.unwrap_or_default() + &watches.collect::<String>()))
    })
}

/// Displays a configuration in readable form.
struct Meaning<'a>(&'a Config);

impl fmt::Display for Meaning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config) = self;
        for proxy in &config.proxies {
            writeln!(
                f,
                "{} ({}): {}",
                proxy.name, proxy.kind.name, proxy.kind.doc
            )?;
            if let Some(record) = &proxy.record {
                writeln!(f, "  record {}", record.path.display())?;
            }
            if let Some(cache) = &proxy.cache {
                describe_cache(cache, f)?;
            }
            for side in proxy.sockets() {
                if side != SocketName::Backend || !proxy.kind.is_echo {
                    describe_side(proxy, side, f)?;
                }
            }
        }
        writeln!(f, "drain_timeout: {} ms", config.drain_timeout.as_millis())?;
        writeln!(f, "memory_limit: {} bytes", config.memory_limit)
    }
}

fn describe_watch(watch: &WatchConfig) -> String {
    let (name, sign, after) = (&watch.name, watch.sign.name(), watch.after.as_millis());
    let (grace, confirm) = (watch.grace.as_millis(), watch.confirm);
    let mut text =
        format!("watch {name}: {sign}, after {after} ms, {confirm} checks, grace {grace} ms\n");
    for (word, commands) in [
        ("start", watch.start.as_slice()),
        ("action", &watch.actions[..]),
        ("escalate", watch.escalate.as_slice()),
    ] {
        for command in commands {
            text.push_str(&format!("  {word} {command}\n"));
        }
    }
    text
}

fn describe_format(capture: &CaptureConfig, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let CaptureConfig {
        format,
        in_prefix,
        out_prefix,
        ..
    } = capture;
    match format {
        CaptureFormat::Monitored => writeln!(
            f,
            "    format {}, prefixes {in_prefix:?} and {out_prefix:?}",
            format.name()
        ),
        CaptureFormat::Proxy => writeln!(f, "    format {}", format.name()),
    }
}

fn describe_cache(cache: &CacheConfig, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let topics = Value::List(cache.topics.clone());
    writeln!(
        f,
        "  cache of topics {topics}, at most {} bytes",
        cache.bytes_max
    )?;
    if let Some(age) = cache.age_max {
        writeln!(f, "    drops values after {} ms", age.as_millis())?;
    }
    if cache.empty_deletes {
        writeln!(f, "    a message with an empty body deletes the value")?;
    }
    if let Some(path) = &cache.path {
        writeln!(f, "    saved in {}", path.display())?;
    }
    Ok(())
}

fn describe_side(proxy: &ProxyConfig, side: SocketName, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let config = proxy.socket(side);
    writeln!(f, "  {side} {}", proxy.socket_type(side))?;
    if side == SocketName::Capture {
        describe_format(&proxy.capture, f)?;
    }
    if side == SocketName::Replay {
        let (messages, bytes) = (proxy.replay.messages_max, proxy.replay.bytes_max);
        writeln!(f, "    keeps at most {messages} messages, {bytes} bytes")?;
        if proxy.replay.sequence {
            writeln!(f, "    live messages end with their sequence numbers")?;
        }
    }
    for endpoint in &config.bind {
        writeln!(f, "    bind {endpoint}")?;
    }
    for Connect {
        endpoint,
        subscribe,
    } in &config.connect
    {
        write!(f, "    connect {endpoint}")?;
        if !subscribe.is_empty() {
            write!(f, " subscribe {}", Value::List(subscribe.clone()))?;
        }
        writeln!(f)?;
    }
    if let Some(key) = config.public_key() {
        writeln!(f, "    public key {key}")?;
    }
    for option in SocketOption::ALL {
        let (value, default) = (option.get(&config.options), option.default_value());
        if value != default {
            let unit = match option.kind {
                ValueKind::Number { unit, .. } if unit != Unit::None => format!(" {unit}"),
                _ => String::new(),
            };
            writeln!(f, "    {} {value}{unit} (default {default})", option.name)?;
        }
    }
    Ok(())
}
