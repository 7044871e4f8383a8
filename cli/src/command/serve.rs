//! Runs a broker: binds, prints its endpoints, runs until a signal.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::config::{BrokerControl, Config, Endpoint, SocketName};
use broker::{BindError, Bound, Broker, ChangeError, ListenError, PassedSocket};
use zmtp::show;

use super::http_args::HttpArgs;
use super::{config_file, local, passed, systemd, values};
use crate::logger;
use crate::output::{Failure, print};

/// Where a configuration is from.
pub(super) enum Source {
    /// This place, which cannot be read again; the key files that it names can.
    Fixed(&'static str),
    /// A file, and options that override it.
    File(PathBuf, HttpArgs),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Fixed(name) => (*name).to_owned(),
            Self::File(path, _) => show(&path.display().to_string()).whole().to_string(),
        }
    }

    /// Reads the configuration again, of which this is the first reading.
    fn read_again(&self, config: &Config) -> Result<Config, Vec<String>> {
        match self {
            Self::Fixed(name) => {
                log::info!("the configuration is the {name}: only its key files are read again");
                let mut config = config.clone();
                match config.load_keys() {
                    Ok(()) => Ok(config),
                    Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
                }
            }
            Self::File(path, http) => {
                let read = config_file::read_again(path).and_then(|mut config| {
                    http.override_in(&mut config)?;
                    Ok(config)
                });
                read.map_err(Failure::into_sentences)
            }
        }
    }
}

/// Runs `config`, which is from `source`, until a signal stops it; prints a line for each bound
/// endpoint, and the result of `afterwards`.
pub(super) fn serve(
    mut config: Config,
    source: Source,
    ordered: Option<BrokerControl>,
    afterwards: impl FnOnce(&[Bound]) -> String,
) -> Result<(), Failure> {
    let choose = move |control: &mut BrokerControl| {
        if let Some(ordered) = &ordered {
            control.clone_from(ordered);
        }
    };
    choose(&mut config.broker_control);
    let passed = passed::take()?;
    let bound = bind(&mut config, &passed).map_err(|error| Failure::Running(explain(&error)))?;
    let (mut broker, usual) = bound;
    let config = &config;
    let mut files = values::Files::default();
    values::restore(&mut broker, &mut files);
    // Before the lines below: their reader may send a signal.
    broker
        .stop_on_signals()
        .map_err(|error| Failure::Running(format!("cannot wait for signals: {error}")))?;
    if let Some(reopen) = logger::reopener() {
        broker.on_sigusr1(reopen);
    }
    let name = source.name();
    log::info!("{}", started(config, &name));
    let first = config.clone();
    let saver = Arc::new(values::Saver::new(broker.handle(), files));
    saver.start_for(config);
    let saves = Arc::clone(&saver);
    broker.reload_from(name, move || {
        let mut config = source.read_again(&first)?;
        choose(&mut config.broker_control);
        if config.broker_control == BrokerControl::Unset {
            config.broker_control.clone_from(&usual);
        }
        saves.start_for(&config);
        Ok(config)
    });
    if let Some(endpoint) = config.broker_control.endpoint() {
        log::info!("zmqd status and zmqd ctl ask at {endpoint}");
    }
    let bound = broker.bound();
    log_proxies(config, &bound);
    let mut text = announcement(&mut broker, &bound);
    text.push_str(&afterwards(&bound));
    let supervisor = systemd::supervised_by(broker.handle()).map(|(tell, thread)| {
        broker.on_stage(tell);
        thread
    });
    match print(&text) {
        // A broker works even if the reader of its endpoints has closed stdout.
        Ok(()) | Err(Failure::BrokenPipe) => {}
        Err(Failure::Running(sentence)) => log::warn!("{sentence}"),
        Err(Failure::Usage(sentences)) => log::warn!("{}", sentences.join("; ")),
    }
    let ran = broker.run();
    values::save(&mut broker, &saver);
    ran.map_err(|error| Failure::Running(format!("the event loop failed: {error}")))?;
    let end = broker.admin().broker();
    log::info!(
        count = end.dropped_messages;
        "stopped after {}: {} dropped",
        rough(end.uptime),
        counted(end.dropped_messages, "message")
    );
    drop(broker);
    if let Some(thread) = supervisor {
        // Its panic is on stderr.
        let _ = thread.join();
    }
    Ok(())
}

/// A line for each endpoint, which scripts can rely on.
fn announcement(broker: &mut Broker, bound: &[Bound]) -> String {
    let mut text = String::new();
    for Bound {
        endpoint,
        proxy,
        side,
    } in bound
    {
        text.push_str(&format!("{proxy} {side} bound {endpoint}\n"));
    }
    if let Some(address) = broker.admin().http_address() {
        text.push_str(&format!("http bound http://{address}/\n"));
    }
    text
}

/// Makes a broker, with a control at the usual place unless the configuration has one; returns that
/// place too. Without a place where it can listen, the broker runs without a control.
fn bind(
    config: &mut Config,
    passed: &[PassedSocket],
) -> Result<(Broker, BrokerControl), BindError> {
    let bind_here =
        |config: &Config| Broker::bind_with_sockets(config, http::Server::default(), passed);
    let usual = local::prepare(local::Kind::Broker).map_or_else(
        |sentence| {
            if config.broker_control == BrokerControl::Unset {
                warn_of_no_control(&sentence);
            }
            BrokerControl::Off
        },
        BrokerControl::At,
    );
    if config.broker_control != BrokerControl::Unset {
        return Ok((bind_here(config)?, usual));
    }
    config.broker_control.clone_from(&usual);
    match bind_here(config) {
        Err(BindError::Config(ChangeError::Listen(error)))
            if usual.endpoint() == Some(&*error.endpoint) =>
        {
            warn_of_no_control(&error.to_string());
            config.broker_control = BrokerControl::Off;
            Ok((bind_here(config)?, BrokerControl::Off))
        }
        broker => Ok((broker?, usual)),
    }
}

fn warn_of_no_control(sentence: &str) {
    log::warn!("zmqd status will not find this broker: {sentence}; --broker-control moves it");
}

/// The first line of the log.
fn started(config: &Config, source: &str) -> String {
    let sides = config.proxies.iter().flat_map(|proxy| {
        let side = |side| proxy.socket(side);
        SocketName::ALL.map(side)
    });
    let endpoints: usize = sides.map(|side| side.bind.len() + side.connect.len()).sum();
    format!(
        "zmqd {} (pid {}) started: {}, {}, {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        source,
        counted(config.proxies.len() as u64, "proxy"),
        counted(endpoints as u64, "endpoint")
    )
}

/// Logs the endpoints of each socket, and the public keys that peers must know.
fn log_proxies(config: &Config, bound: &[Bound]) {
    for proxy in &config.proxies {
        let name = &*proxy.name;
        for side in proxy.sockets() {
            let own = |it: &&Bound| it.proxy == name && it.side == side;
            let binds = bound.iter().filter(own);
            let binds = binds.map(|it| format!("at {}", it.endpoint));
            let connects = proxy.socket(side).connect.iter();
            let connects = connects.map(|it| format!("to {}", it.endpoint));
            let endpoints: Vec<String> = binds.chain(connects).collect();
            log::info!(
                proxy = name, side:% = side;
                "{name} {side}: {} {}",
                proxy.socket_type(side).name(),
                endpoints.join(", ")
            );
            if let Some(key) = proxy.socket(side).public_key() {
                log::info!(
                    proxy = name, side:% = side;
                    "{name} {side}: CURVE with the public key {key}"
                );
            }
        }
    }
}

/// A count with its noun.
pub(super) fn counted(count: u64, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// A duration in its two largest units.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size);
    let first = first.unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let parts = units.iter().map(|(unit, size)| {
        let count = rest / size;
        rest %= size;
        format!("{count} {unit}")
    });
    let parts: Vec<String> = parts.skip(first).take(2).collect();
    parts.join(" ")
}

/// The remedy where another process listens on a port.
const PORT_IN_USE: &str = "stop the process that listens there, or choose another port";

/// Adds the remedy to an error.
fn explain(error: &BindError) -> String {
    let advice = match error {
        BindError::Config(ChangeError::Listen(ListenError {
            endpoint, source, ..
        })) => advice(endpoint, source.kind()),
        BindError::Config(ChangeError::Http { source, .. }) => match source.kind() {
            ErrorKind::AddrInUse => Some(PORT_IN_USE),
            ErrorKind::AddrNotAvailable => Some("use an address of this machine, or * for all"),
            ErrorKind::PermissionDenied => {
                Some("use a port above 1023, or allow CAP_NET_BIND_SERVICE")
            }
            _ => None,
        },
        BindError::Config(_) | BindError::EventLoop(_) | BindError::Passed(_) => None,
    };
    advice.map_or_else(|| error.to_string(), |advice| format!("{error}; {advice}"))
}

fn advice(endpoint: &Endpoint, kind: ErrorKind) -> Option<&'static str> {
    let is_tcp = matches!(endpoint, Endpoint::Tcp { .. });
    match kind {
        ErrorKind::AddrInUse if is_tcp => Some(PORT_IN_USE),
        ErrorKind::AddrInUse => Some("stop the other process, or choose another name"),
        ErrorKind::AddrNotAvailable if is_tcp => {
            Some("use an address of this machine, or * for all")
        }
        ErrorKind::AlreadyExists => Some("remove it, or choose another name"),
        ErrorKind::NotFound if !is_tcp => Some("create its directory first, or choose another"),
        ErrorKind::PermissionDenied if is_tcp => {
            Some("use a port above 1023, or allow CAP_NET_BIND_SERVICE")
        }
        ErrorKind::PermissionDenied => Some("let zmqd write there, or run it as another user"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uptime_has_two_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3599, "59 min 59 s"),
            (3 * 86_400 + 4 * 3600 + 59, "3 d 4 h"),
            (400 * 86_400, "400 d 0 h"),
        ] {
            assert_eq!(rough(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_first_line_names_version_process_and_configuration() {
        let line = started(&Config::embedded_default(), "built-in configuration");
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        let begin = format!("zmqd {version} (pid {pid}) started: built-in configuration, ");
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.ends_with(" 3 proxies, 6 endpoints"), "{line}");
        assert_eq!(counted(1, "proxy"), "1 proxy");
    }
}
