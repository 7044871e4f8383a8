//! The event loop of `zmqd watch`: does what the [`Watcher`] decides.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::config::Endpoint;
use broker::config::endpoint::IpcName;
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use serde_json::{Map, Value, json};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use watch::config::Config;
use watch::{Event, Flaw, Heartbeat, Level, Output, Watcher};
use zmtp::SocketType;

use super::children::Children;
use super::follower::Follower;
use super::json::{self, Reading};
use super::log_file::LogFile;
use super::post::Poster;
use super::socket::{self, Role};
use super::sources::{Source, Sources, TICK};
use super::{WatchArgs, read_config};
use crate::capture::time;
use crate::command::local;
use crate::output::{Failure, print};

const WAKER: Token = Token(usize::MAX);

/// The tokens of signals count down from here.
const SIGNAL: usize = usize::MAX - 1;

/// The signals that this process handles.
const SIGNALS: [i32; 4] = [SIGCHLD, SIGHUP, SIGINT, SIGTERM];

/// The time between two pings, and two lines for systemd.
const MINUTE: Duration = Duration::from_secs(60);
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// A difference between the clock that counts suspended time and the one that does not, above which
/// the machine has slept.
const SLEPT: Duration = Duration::from_secs(1);

/// The loop, with all that it owns.
pub(super) struct Engine {
    children: Children,
    /// The socket of the control.
    control: Option<PathBuf>,
    /// Connections of plain TCP clients that ended with a flaw.
    flawed: u64,
    follower: Option<Follower>,
    /// Objects and messages that are no heartbeats.
    foreign: u64,
    log_file: Option<LogFile>,
    look_at: Instant,
    path: PathBuf,
    ping_at: Instant,
    poll: Poll,
    poster: Poster,
    signals: Vec<UnixStream>,
    /// The suspended time of the machine.
    slept: Duration,
    sources: Sources,
    status: String,
    status_at: Instant,
    stops: u32,
    tick_at: Instant,
    watcher: Watcher,
}

#[expect(clippy::disallowed_methods, reason = "the driver reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// The time for which the machine was suspended since it started.
fn suspended() -> Duration {
    let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

impl Engine {
    /// Opens everything, and prints a line for each endpoint.
    ///
    /// # Errors
    /// An endpoint, file or thread cannot be opened.
    pub(super) fn start(args: &WatchArgs, config: Config, path: PathBuf) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Running(format!("cannot start: {error}"));
        let poll = Poll::new().map_err(failed)?;
        let registry = poll.registry().try_clone().map_err(failed)?;
        let signals = signals(&poll).map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        let follower = match config.asks_broker() {
            true => {
                let endpoint = args
                    .control
                    .clone()
                    .or_else(|| config.watcher.broker.clone());
                let follower = Follower::start(args.ask.clone(), endpoint, waker);
                Some(follower.map_err(failed)?)
            }
            false => None,
        };
        let now = now();
        let mut engine = Self {
            children: Children::default(),
            control: None,
            flawed: 0,
            follower,
            foreign: 0,
            log_file: None,
            look_at: now,
            path,
            ping_at: now,
            poll,
            poster: Poster::start().map_err(failed)?,
            signals,
            slept: suspended(),
            sources: Sources::new(registry),
            status: String::new(),
            status_at: now,
            stops: 0,
            tick_at: now,
            watcher: Watcher::new(Config::default(), args.dry_run, now),
        };
        let mut lines = engine.open(&config, now)?;
        lines.push_str(&engine.open_control());
        engine.watcher.reload(config, now);
        match print(&lines) {
            // A watch works even if the reader of its endpoints has closed stdout.
            Ok(()) | Err(Failure::BrokenPipe) => {}
            Err(failure) => return Err(failure),
        }
        Ok(engine)
    }

    /// Opens the log file and the endpoints that differ from those that are open; returns a line
    /// for each endpoint.
    fn open(&mut self, config: &Config, now: Instant) -> Result<String, Failure> {
        let before = self.watcher.config().clone();
        let mut lines = String::new();
        let (wanted, open) = (&config.watcher, &before.watcher);
        if wanted.log != open.log {
            let opened = wanted.log.as_ref().map(|log| {
                let opened = LogFile::open(log, now);
                opened.map_err(|error| {
                    let path = log.path.display();
                    Failure::Running(format!("{path}: {error}: write another path"))
                })
            });
            self.log_file = opened.transpose()?;
        }
        if config.heartbeat_tcp() != before.heartbeat_tcp() {
            self.sources.close_listeners(None);
            if let Some(text) = config.heartbeat_tcp() {
                lines.push_str(&self.listen_for_json(text)?);
            }
        }
        let sockets = [
            (Role::Events, &wanted.events, &open.events, SocketType::Pub),
            (
                Role::Heartbeat,
                &wanted.heartbeat.zmtp,
                &open.heartbeat.zmtp,
                wanted.heartbeat.socket,
            ),
        ];
        for (role, wanted, open, socket_type) in sockets {
            if wanted == open {
                continue;
            }
            self.sources.close_listeners(Some(role));
            if let Some(endpoint) = wanted {
                let bound = self.listen(endpoint, role, socket_type)?;
                lines.push_str(&format!("{} bound {bound}\n", role.name()));
            }
        }
        Ok(lines)
    }

    fn listen_for_json(&mut self, text: &str) -> Result<String, Failure> {
        let failed = |error: io::Error| {
            Failure::Running(format!(
                "cannot listen at {text}: {error}; heartbeat.tcp in [watcher] chooses another \
                 address, or \"\" for none"
            ))
        };
        let mut lines = String::new();
        for listener in json::listen(text).map_err(failed)? {
            let address = listener.local_addr().map_err(failed)?;
            lines.push_str(&format!("json bound {address}\n"));
            self.sources
                .add(Source::JsonListener(listener))
                .map_err(failed)?;
        }
        Ok(lines)
    }

    fn listen(
        &mut self,
        endpoint: &Endpoint,
        role: Role,
        socket_type: SocketType,
    ) -> Result<Endpoint, Failure> {
        let failed =
            |error: io::Error| Failure::Running(format!("cannot bind {endpoint}: {error}"));
        let (listener, bound) =
            socket::Listener::bind(endpoint, role, socket_type).map_err(failed)?;
        self.sources
            .add(Source::ZmtpListener(listener))
            .map_err(failed)?;
        Ok(bound)
    }

    /// Opens the control at the usual place. Without one, the watch works all the same.
    fn open_control(&mut self) -> String {
        let opened = local::prepare(local::Kind::Watch).and_then(|endpoint| {
            self.listen(&endpoint, Role::Control, SocketType::Rep)
                .map_err(|failure| failure.into_sentences().join("; "))
        });
        match opened {
            Ok(bound) => {
                if let Endpoint::Ipc(IpcName::Path(path)) = &bound {
                    self.control = Some(path.into());
                }
                format!("control bound {bound}\n")
            }
            Err(sentence) => {
                log::warn!("zmqd watch status will not find this watch: {sentence}");
                String::new()
            }
        }
    }

    /// Runs until a signal stops it and all processes have ended.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        let count = self.watcher.config().watches.len();
        self.write_log(Level::Info, &format!("zmqd watch started: {count} watches"));
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let mut events = Events::with_capacity(256);
        while !(self.stops > 0 && self.watcher.has_stopped()) {
            self.drain_outputs();
            let timeout = self.timeout().saturating_duration_since(now());
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(Failure::Running(format!("the event loop failed: {error}")));
            }
            let now = now();
            self.note_suspension(now);
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(token) if token > SIGNAL - SIGNALS.len() => {
                        self.handle_signal(SIGNAL - token, now);
                    }
                    Token(key) => self.handle_source(key, now),
                }
            }
            self.handle_time(now);
        }
        self.drain_outputs();
        self.write_log(Level::Info, "zmqd watch stopped");
        if let Some(path) = &self.control {
            // What stays does no harm.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// The time of the next work without an event.
    fn timeout(&self) -> Instant {
        let mut wake = self.tick_at.min(self.status_at);
        wake = wake.min(self.watcher.poll_timeout().unwrap_or(wake));
        if self.follower.is_some() {
            wake = wake.min(self.look_at);
        }
        wake
    }

    fn handle_time(&mut self, now: Instant) {
        self.take_ends(now);
        let look = self.follower.as_mut().and_then(Follower::take);
        if let Some(look) = look {
            let answers = look.answers.as_deref();
            self.watcher.handle_look(look.generation, answers, now);
        }
        if let Some(follower) = self.follower.as_mut().filter(|_| self.look_at <= now) {
            let (generation, questions) = self.watcher.questions();
            if !questions.is_empty() {
                follower.ask(generation, questions);
            }
            self.look_at = now + self.watcher.look_interval();
        }
        self.watcher.handle_timeout(now);
        if self.tick_at <= now {
            self.tick_at = now + TICK;
            self.close_silent(now);
        }
        if self.ping_at <= now {
            self.ping_at = now + MINUTE;
            if let Some(url) = self.watcher.config().watcher.ping.clone() {
                self.poster.send(&url, None);
            }
        }
        let state = self.watcher.summary();
        if self.status_at <= now || state != self.status {
            self.status_at = now + STATUS_INTERVAL;
            self.status = state;
            let states = [NotifyState::Watchdog, NotifyState::Status(&self.status)];
            let _ = sd_notify::notify(&states);
        }
    }

    /// A machine that was suspended has not given its services time to live.
    fn note_suspension(&mut self, now: Instant) {
        let slept = suspended();
        if slept > self.slept + SLEPT {
            self.watcher.handle_gap(now);
        }
        self.slept = slept;
    }

    fn handle_signal(&mut self, index: usize, now: Instant) {
        let mut buffer = [0; 64];
        if let Some(stream) = self.signals.get_mut(index) {
            while matches!(io::Read::read(stream, &mut buffer), Ok(1..)) {}
        }
        match SIGNALS[index] {
            SIGCHLD => {}
            SIGHUP => self.reload(now),
            _ => {
                self.stops += 1;
                self.write_log(Level::Info, "stopping: ends the services of this watch");
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
                self.watcher.stop(now);
            }
        }
    }

    /// Reads the configuration again, and takes it as a whole or not at all.
    fn reload(&mut self, now: Instant) {
        let read = read_config(&self.path).and_then(|config| {
            self.open(&config, now)?;
            Ok(config)
        });
        match read {
            Ok(config) => {
                let count = config.watches.len();
                self.watcher.reload(config, now);
                self.write_log(Level::Info, &format!("reloaded: {count} watches"));
            }
            Err(failure) => {
                for sentence in failure.into_sentences() {
                    self.write_log(Level::Error, &format!("reload rejected: {sentence}"));
                }
            }
        }
    }

    /// Takes the ends of processes.
    fn take_ends(&mut self, now: Instant) {
        let sources = &mut self.sources;
        let ended = self.children.ended(|children, id| {
            let keys = sources.keys(|it| matches!(it, Source::Pipe(owner, _) if *owner == id));
            for key in keys {
                if let Some(Source::Pipe(_, pipe)) = sources.get_mut(key) {
                    children.read(id, pipe);
                }
            }
        });
        for (id, outcome, written) in ended {
            self.watcher.handle_exit(id, &outcome, &written, now);
        }
    }

    fn handle_source(&mut self, key: usize, now: Instant) {
        match self.sources.get_mut(key) {
            None => {}
            Some(Source::JsonListener(_) | Source::ZmtpListener(_)) => {
                for key in self.sources.accept(key, now) {
                    self.handle_source(key, now);
                }
            }
            Some(Source::Pipe(id, pipe)) => {
                let id = *id;
                if !self.children.read(id, pipe) {
                    self.sources.remove(key);
                }
            }
            Some(Source::Json(connection)) => {
                let mut objects = Vec::new();
                let reading = connection.read(now, &mut |object| objects.push(object));
                if let Reading::Ended(end) = reading {
                    self.sources.remove(key);
                    self.note_end(end);
                }
                for object in objects {
                    self.handle_object(&object, now);
                }
            }
            Some(Source::Zmtp(connection)) => {
                let (role, mut messages) = (connection.role, Vec::new());
                let watcher = &mut self.watcher;
                let outcome = connection.advance(now, &mut |frames| {
                    if role == Role::Control {
                        return answer(watcher, frames, now);
                    }
                    let frames = frames.iter().map(|frame| frame.to_vec());
                    messages.push(frames.collect::<Vec<_>>());
                    None
                });
                if let Err(error) = outcome {
                    log::debug!("{}: {error}", role.name());
                    self.sources.remove(key);
                }
                for message in messages {
                    self.handle_message(&message, now);
                }
            }
        }
    }

    /// A connection of a plain TCP client is over. One without any byte is no trouble: it may be a
    /// look at the port.
    fn note_end(&mut self, end: Result<(), Flaw>) {
        let Err(flaw) = end else {
            return;
        };
        self.flawed += 1;
        if self.flawed == 1 {
            let line = format!("a heartbeat cannot be read: {flaw}; further ones are counted");
            self.write_log(Level::Warn, &line);
        }
    }

    /// An object of a plain TCP client: a sign of life, and data for others.
    fn handle_object(&mut self, object: &Map<String, Value>, now: Instant) {
        let Some(heartbeat) = Heartbeat::from_object(object) else {
            return self.note_foreign();
        };
        self.watcher.handle_heartbeat(&heartbeat, now);
        let body = Value::Object(object.clone()).to_string();
        self.publish(&[heartbeat.kind.as_bytes(), body.as_bytes()]);
    }

    /// A message at the ZeroMQ socket: its last frame is a name or an object.
    fn handle_message(&mut self, frames: &[Vec<u8>], now: Instant) {
        let last = frames.last().map_or(&[][..], Vec::as_slice);
        let Some(heartbeat) = Heartbeat::from_frame(last) else {
            return self.note_foreign();
        };
        self.watcher.handle_heartbeat(&heartbeat, now);
        self.publish(&[heartbeat.kind.as_bytes(), last]);
    }

    fn note_foreign(&mut self) {
        self.foreign += 1;
        if self.foreign == 1 {
            let line = "an object is no heartbeat: its type or service is no short text; further \
                        ones are counted";
            self.write_log(Level::Warn, line);
        }
    }

    fn publish(&mut self, frames: &[&[u8]]) {
        let is_reader =
            |source: &Source| matches!(source, Source::Zmtp(it) if it.role == Role::Events);
        for key in self.sources.keys(is_reader) {
            if let Some(Source::Zmtp(reader)) = self.sources.get_mut(key)
                && reader.publish(frames).is_err()
            {
                self.sources.remove(key);
            }
        }
    }

    /// Closes connections that have used up their time.
    fn close_silent(&mut self, now: Instant) {
        let late = self.sources.keys(|source| match source {
            Source::Json(connection) => connection.deadline().is_some_and(|at| at <= now),
            _ => false,
        });
        for key in late {
            self.sources.remove(key);
            self.note_end(Err(Flaw::Cut));
        }
        for key in self
            .sources
            .keys(|source| matches!(source, Source::Zmtp(_)))
        {
            if let Some(Source::Zmtp(connection)) = self.sources.get_mut(key)
                && connection.poll_timeout().is_some_and(|at| at <= now)
                && connection.handle_timeout(now).is_err()
            {
                self.sources.remove(key);
            }
        }
    }

    /// Does what the watcher asks for.
    fn drain_outputs(&mut self) {
        while let Some(output) = self.watcher.poll_output() {
            match output {
                Output::CheckPidFile { path, watch } => {
                    let lives = super::process::lives(&path);
                    self.watcher.handle_process(watch, lives, now());
                }
                Output::Event(event) => self.tell(&event),
                Output::Log(level, line) => self.write_log(level, &line),
                Output::Run {
                    command,
                    environment,
                    id,
                    is_service,
                } => {
                    let started = self.children.start(id, &command, environment, is_service);
                    let started = started.and_then(|pipe| self.sources.add_pipe(id, pipe));
                    if let Err(error) = started {
                        let outcome = watch::Outcome::NotStarted(error.to_string());
                        self.watcher.handle_exit(id, &outcome, "", now());
                    }
                }
                Output::Signal(id, signal) => self.children.signal(id, signal),
            }
        }
    }

    /// Publishes an event, and posts it.
    fn tell(&mut self, event: &Event) {
        let body = json!({
            "event": event.kind,
            "reason": event.reason,
            "state": event.state.map(watch::State::name),
            "time": time::utc(time::now_ns()),
            "watch": event.watch,
        });
        let body = body.to_string();
        let topic = format!("watch/{}", event.watch);
        self.publish(&[topic.as_bytes(), body.as_bytes()]);
        let usual = self.watcher.config().watcher.webhook.clone();
        if let Some(url) = event.webhook.clone().or(usual) {
            self.poster.send(&url, Some(body));
        }
    }

    fn write_log(&mut self, level: Level, line: &str) {
        let (level, name) = match level {
            Level::Error => (log::Level::Error, "ERROR"),
            Level::Warn => (log::Level::Warn, "WARN"),
            Level::Info => (log::Level::Info, "INFO"),
        };
        log::log!(level, "{line}");
        if let Some(file) = &mut self.log_file {
            let line = format!("{} {name} {line}", time::utc(time::now_ns()));
            file.write(&line, now());
        }
    }
}

/// Answers a request to the control.
fn answer(watcher: &mut Watcher, frames: &[&[u8]], now: Instant) -> Option<Vec<Vec<u8>>> {
    let [envelope @ .., body] = frames else {
        return None;
    };
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = request["name"].as_str().unwrap_or_default();
    let done = |outcome: Result<(), String>, what: &str| match outcome {
        Ok(()) => json!({ "done": what, "name": name }),
        Err(sentence) => json!({ "error": sentence }),
    };
    let answer = match request["command"].as_str() {
        Some("status") => {
            let mut status = watcher.status(now);
            status["pid"] = json!(std::process::id());
            status
        }
        Some("pause") => done(watcher.pause(name), "pause"),
        Some("resume") => done(watcher.resume(name, now), "resume"),
        _ => json!({ "error": "command: write one of pause, resume, status" }),
    };
    let envelope = envelope.iter().map(|frame| frame.to_vec());
    Some(envelope.chain([answer.to_string().into_bytes()]).collect())
}

/// A stream for each of [`SIGNALS`], which has a byte when the signal has come.
fn signals(poll: &Poll) -> io::Result<Vec<UnixStream>> {
    let mut streams = Vec::new();
    for (index, signal) in SIGNALS.into_iter().enumerate() {
        let (read, write) = StdUnixStream::pair()?;
        pipe::register(signal, write)?;
        read.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(read);
        let token = Token(SIGNAL - index);
        poll.registry()
            .register(&mut stream, token, Interest::READABLE)?;
        streams.push(stream);
    }
    Ok(streams)
}
