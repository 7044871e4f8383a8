//! Endpoints, the log file and the thread that follows the broker. What is new is opened first;
//! only if all of it succeeded, the rest is closed.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Instant;

use broker::config::{Endpoint, Network};
use mio::Waker;
use watch::config::{Config, LogConfig};
use zmtp::SocketType;

use super::WatchArgs;
use super::follower::Follower;
use super::json;
use super::socket::{self, Role, Rules};
use super::sources::{Source, Sources};
use crate::command::control::ControlArgs;
use crate::logger::{self, LogFile, Rotation};
use crate::output::Failure;

/// What a configuration has opened, besides the sources.
#[derive(Debug)]
pub(super) struct Open {
    ask: ControlArgs,
    /// The control of the broker, by the command line.
    control: Option<Endpoint>,
    /// The endpoint that the follower was told.
    followed: Option<Endpoint>,
    pub(super) follower: Option<Follower>,
    /// Whether the command line names the log file, for the whole life of the process.
    has_log_file: bool,
    log: Option<LogConfig>,
    waker: Arc<Waker>,
}

/// What another configuration changes.
#[derive(Debug, Default)]
struct Plan {
    follower: Option<Follower>,
    /// The listeners for plain TCP that stay.
    json: Vec<usize>,
    /// A line for each endpoint that is new.
    lines: String,
    log: Option<Option<LogFile>>,
    new: Vec<Source>,
    /// The networks that plain TCP clients may come from.
    networks: Vec<Network>,
    /// The listeners for ZeroMQ that stay, and their rules from now on.
    zmtp: Vec<(usize, Rules)>,
}

impl Open {
    pub(super) fn new(args: &WatchArgs, waker: Arc<Waker>) -> Self {
        Self {
            ask: args.ask.clone(),
            control: args.control.clone(),
            followed: None,
            follower: None,
            has_log_file: args.log.has_file(),
            log: None,
            waker,
        }
    }

    /// Opens what a configuration needs and closes what it does not need; returns a line for each
    /// new endpoint.
    ///
    /// # Errors
    /// An endpoint, file or thread cannot be opened; then nothing has changed.
    pub(super) fn change(
        &mut self,
        config: &Config,
        sources: &mut Sources,
        now: Instant,
    ) -> Result<String, Failure> {
        let (watcher, heartbeat) = (&config.watcher, &config.watcher.heartbeat);
        let mut plan = Plan::default();
        plan.open_json(config, sources)?;
        let events = Rules::new(Role::Events, SocketType::Pub, &watcher.events);
        plan.open_socket(watcher.events.bind.first(), events, sources)?;
        let beats = Rules::new(Role::Heartbeat, heartbeat.socket, &heartbeat.zmtp);
        plan.open_socket(heartbeat.zmtp.bind.first(), beats, sources)?;
        if watcher.log != self.log && !self.has_log_file {
            let opened = watcher.log.as_ref().map(|log| open_log(log, now));
            plan.log = Some(opened.transpose()?);
        }
        let endpoint = self.control.as_ref().or(watcher.broker.as_ref());
        if self.follower.is_none() || self.followed.as_ref() != endpoint {
            let waker = Arc::clone(&self.waker);
            let started = Follower::start(self.ask.clone(), endpoint.cloned(), waker);
            let started = started.map_err(|error| failed("cannot follow the broker", &error))?;
            plan.follower = Some(started);
        }
        let followed = endpoint.cloned();
        let (lines, follower) = plan.make(sources)?;
        if let Some(follower) = follower {
            self.follower = Some(follower);
            self.followed = followed;
        }
        self.log.clone_from(&watcher.log);
        Ok(lines)
    }
}

impl Plan {
    fn open_json(&mut self, config: &Config, sources: &Sources) -> Result<(), Failure> {
        let zmtp = &config.watcher.heartbeat.zmtp;
        self.networks.clone_from(&zmtp.options.tcp_accept_filter);
        let Some(text) = config.heartbeat_tcp() else {
            return Ok(());
        };
        let is_same = |it: &Source| matches!(it, Source::JsonListener(it) if it.text == text);
        self.json = sources.keys(is_same);
        if !self.json.is_empty() {
            return Ok(());
        }
        let address = |key: usize| match sources.get(key) {
            Some(Source::JsonListener(listener)) => Some((key, listener.inner.local_addr().ok()?)),
            _ => None,
        };
        let open = sources.keys(|it| matches!(it, Source::JsonListener(_)));
        let open: Vec<(usize, SocketAddr)> = open.into_iter().filter_map(address).collect();
        let addresses: Vec<SocketAddr> = open.iter().map(|(_, address)| *address).collect();
        let (listeners, shared) = json::listen(text, &addresses).map_err(|error| {
            let remedy = match self.occupant(&endpoints(text), sources) {
                Some(own) => restart(&own),
                None => "choose another address, or \"\" for none".to_owned(),
            };
            let what = format!("watcher.heartbeat.tcp: cannot listen at {text}");
            failed(&what, &format_args!("{error}: {remedy}"))
        })?;
        for inner in listeners {
            let address = inner.local_addr();
            let address = address.map_err(|error| failed("cannot listen", &error))?;
            self.lines.push_str(&format!("json bound {address}\n"));
            self.new.push(Source::JsonListener(json::Listener {
                inner,
                networks: self.networks.clone(),
                text: text.to_owned(),
            }));
        }
        let open = open.into_iter();
        let open = open.filter(|(_, address)| shared.contains(address));
        self.json.extend(open.map(|(key, _)| key));
        Ok(())
    }

    fn open_socket(
        &mut self,
        endpoint: Option<&Endpoint>,
        rules: Rules,
        sources: &Sources,
    ) -> Result<(), Failure> {
        let Some(endpoint) = endpoint else {
            return Ok(());
        };
        let is_there = |source: &Source| match source {
            Source::ZmtpListener(it) => {
                it.rules.role() != Role::Control && it.endpoint == *endpoint
            }
            _ => false,
        };
        let is_free = |key: &usize| self.zmtp.iter().all(|(used, _)| used != key);
        let open = sources.keys(is_there).into_iter().find(is_free);
        if let Some(key) = open {
            self.zmtp.push((key, rules));
            return Ok(());
        }
        let key = rules.role().key();
        let (listener, line) = listen(endpoint, rules).map_err(|error| {
            let remedy = match self.occupant(std::slice::from_ref(endpoint), sources) {
                Some(own) => restart(&own),
                None => "choose another endpoint".to_owned(),
            };
            let what = format!("{key}: cannot bind {endpoint}");
            failed(&what, &format_args!("{error}: {remedy}"))
        })?;
        self.lines.push_str(&line);
        self.new.push(listener);
        Ok(())
    }

    /// The endpoint of this process, open or about to be, that overlaps one of these.
    fn occupant(&self, wanted: &[Endpoint], sources: &Sources) -> Option<Endpoint> {
        let open = sources.keys(|_| true);
        let open = open.into_iter().filter_map(|key| sources.get(key));
        let bound = open.chain(&self.new).filter_map(|source| match source {
            Source::JsonListener(it) => endpoint(it.inner.local_addr().ok()?),
            Source::ZmtpListener(it) => Some(it.bound.clone()),
            Source::Json(_) | Source::Pipe(..) | Source::Zmtp(_) => None,
        });
        let mut bound = bound.filter(|own| wanted.iter().any(|it| it.overlaps(own)));
        bound.next()
    }

    /// Makes the changes; returns the lines, and the follower if it is another.
    fn make(self, sources: &mut Sources) -> Result<(String, Option<Follower>), Failure> {
        let mut new = Vec::new();
        for source in self.new {
            match sources.add(source) {
                Ok(key) => new.push(key),
                Err(error) => {
                    new.into_iter().for_each(|key| sources.remove(key));
                    return Err(failed("cannot wait for connections", &error));
                }
            }
        }
        let mut unchanged = vec![Role::Control];
        let mut stay = [new, self.json].concat();
        for (key, rules) in self.zmtp {
            stay.push(key);
            if let Some(Source::ZmtpListener(listener)) = sources.get_mut(key) {
                if listener.rules == rules {
                    unchanged.push(rules.role());
                } else {
                    listener.rules = rules;
                }
            }
        }
        for key in &stay {
            if let Some(Source::JsonListener(listener)) = sources.get_mut(*key) {
                listener.networks.clone_from(&self.networks);
            }
        }
        sources.remove_all(|key, source| match source {
            Source::JsonListener(_) => !stay.contains(&key),
            Source::ZmtpListener(it) => it.rules.role() != Role::Control && !stay.contains(&key),
            // Its peer spoke with another socket, or came in by other rules.
            Source::Zmtp(connection) => !unchanged.contains(&connection.role),
            Source::Json(_) | Source::Pipe(..) => false,
        });
        if let Some(file) = self.log {
            logger::write_to(file);
        }
        Ok((self.lines, self.follower))
    }
}

/// Opens a socket for ZeroMQ peers; returns a line about it too.
pub(super) fn listen(endpoint: &Endpoint, rules: Rules) -> io::Result<(Source, String)> {
    let listener = socket::Listener::bind(endpoint, rules)?;
    let name = listener.rules.role().name();
    let line = format!("{name} bound {}\n", listener.bound);
    Ok((Source::ZmtpListener(listener), line))
}

/// The endpoints of `HOST:PORT`, as far as its name has addresses.
fn endpoints(text: &str) -> Vec<Endpoint> {
    let addresses = text.to_socket_addrs().into_iter().flatten();
    addresses.filter_map(endpoint).collect()
}

fn endpoint(address: SocketAddr) -> Option<Endpoint> {
    Endpoint::parse_bind(&format!("tcp://{address}")).ok()
}

/// The remedy if this process has an endpoint already.
fn restart(own: &Endpoint) -> String {
    format!("this watch listens at {own}: restart it, or choose another port")
}

fn open_log(log: &LogConfig, now: Instant) -> Result<LogFile, Failure> {
    let rotation = Rotation {
        age_max: log.age_max,
        files_max: log.files_max,
        size_max: log.size_max,
    };
    LogFile::open(log.path.clone(), Some(rotation), now).map_err(|error| {
        let path = log.path.display().to_string();
        let path = zmtp::show(&path).whole().to_string();
        failed(&path, &format_args!("{error}: write another path"))
    })
}

fn failed(what: &str, error: &dyn Display) -> Failure {
    Failure::Running(format!("{what}: {error}"))
}
