//! The event loop of `zmqd watch`: does what the [`Watcher`] decides.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::config::endpoint::IpcName;
use broker::config::{Endpoint, SocketConfig};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use serde_json::{Map, Value, json};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;
use watch::config::Config;
use watch::{Event, Flaw, Heartbeat, Level, Output, Watcher};
use zmtp::SocketType;

use super::children::Children;
use super::counters::{Counters, Trouble};
use super::follower::Follower;
use super::json::Reading;
use super::opening::{self, Open};
use super::post::Poster;
use super::socket::{Role, Rules};
use super::sources::{Progress, Source, Sources, TICK};
use super::{WatchArgs, read_config};
use crate::capture::time;
use crate::client::ClientError;
use crate::command::local;
use crate::logger;
use crate::output::{Failure, print};

const WAKER: Token = Token(usize::MAX);

/// The tokens of signals count down from here.
const SIGNAL: usize = usize::MAX - 1;

/// The signals that this process handles.
const SIGNALS: [i32; 5] = [SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1];

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
    counters: Counters,
    look_at: Instant,
    open: Open,
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
        let now = now();
        let mut engine = Self {
            children: Children::default(),
            control: None,
            counters: Counters::default(),
            look_at: now,
            open: Open::new(args, waker),
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
        let mut lines = engine.open.change(&config, &mut engine.sources, now)?;
        lines.push_str(&engine.open_control());
        engine.watcher.reload(config, now);
        match print(&lines) {
            // A watch works even if the reader of its endpoints has closed stdout.
            Ok(()) | Err(Failure::BrokenPipe) => {}
            Err(failure) => return Err(failure),
        }
        Ok(engine)
    }

    /// Opens the control at the usual place. Without one, the watch works all the same.
    fn open_control(&mut self) -> String {
        let opened = local::prepare(local::Kind::Watch).and_then(|endpoint| {
            let rules = Rules::new(Role::Control, SocketType::Rep, &SocketConfig::default());
            let (listener, line) =
                opening::listen(&endpoint, rules).map_err(|error| error.to_string())?;
            let added = self.sources.add(listener);
            added.map_err(|error| error.to_string())?;
            Ok((endpoint, line))
        });
        match opened {
            Ok((endpoint, line)) => {
                if let Endpoint::Ipc(IpcName::Path(path)) = endpoint {
                    self.control = Some(path.into());
                }
                line
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
        write_log(
            Level::Info,
            &format!("zmqd watch started: {}", counted(count)),
        );
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let mut events = Events::with_capacity(256);
        while !(self.stops > 0 && self.watcher.has_stopped()) {
            self.drain_outputs();
            let timeout = match self.sources.ready() {
                0 => self.timeout().saturating_duration_since(now()),
                _ => Duration::ZERO,
            };
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
                    Token(key) => self.sources.wake(key),
                }
            }
            self.give_turns(now);
            self.handle_time(now);
        }
        self.drain_outputs();
        // The last events leave.
        self.give_turns(now());
        write_log(Level::Info, "zmqd watch stopped");
        if let Some(path) = &self.control {
            // What stays does no harm.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// The time of the next work without an event.
    fn timeout(&self) -> Instant {
        let wake = self.tick_at.min(self.status_at).min(self.look_at);
        wake.min(self.watcher.poll_timeout().unwrap_or(wake))
    }

    fn handle_time(&mut self, now: Instant) {
        self.take_ends(now);
        let look = self.open.follower.as_mut().and_then(Follower::take);
        if let Some(look) = look {
            let answers = look.answers.as_deref();
            self.watcher.handle_look(look.generation, answers, now);
        }
        let follower = self.open.follower.as_mut();
        if let Some(follower) = follower.filter(|_| self.look_at <= now) {
            // With the questions, if there are any, goes a report for the metrics and the dashboard
            // of the broker, whose answer is not needed.
            let (generation, questions) = self.watcher.questions();
            let report = json!({ "command": "watches", "report": self.watcher.report() });
            let list = questions.iter().cloned().chain([report]);
            follower.ask(generation, list.collect());
            self.look_at = now + self.watcher.look_interval();
        }
        self.watcher.handle_timeout(now);
        if self.tick_at <= now {
            self.tick_at = now + TICK;
            self.close_silent(now);
            self.sources.wake_listeners();
        }
        if self.ping_at <= now {
            self.ping_at = now + MINUTE;
            if let Some(url) = self.watcher.config().watcher.ping.clone() {
                self.poster.send(&url, None, &mut self.counters);
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
            SIGUSR1 => logger::reopen(),
            _ => {
                self.stops += 1;
                write_log(Level::Info, "stopping: ends the services of this watch");
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
                self.watcher.stop(now);
            }
        }
    }

    /// Reads the configuration again, and takes it as a whole or not at all.
    fn reload(&mut self, now: Instant) {
        let read = read_config(&self.path).and_then(|config| {
            let lines = self.open.change(&config, &mut self.sources, now)?;
            Ok((config, lines))
        });
        match read {
            Ok((config, lines)) => {
                let count = config.watches.len();
                self.watcher.reload(config, now);
                self.look_at = now;
                write_log(Level::Info, &format!("reloaded: {}", counted(count)));
                for line in lines.lines() {
                    write_log(Level::Info, line);
                }
            }
            Err(failure) => {
                for sentence in failure.into_sentences() {
                    write_log(Level::Error, &format!("reload rejected: {sentence}"));
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
                    children.read_rest(id, pipe);
                }
            }
        });
        for (id, outcome, written) in ended {
            self.watcher.handle_exit(id, &outcome, &written, now);
        }
    }

    /// Gives each source that has something to do a turn.
    fn give_turns(&mut self, now: Instant) {
        for _ in 0..self.sources.ready() {
            if let Some(key) = self.sources.next_ready()
                && self.handle_source(key, now) == Progress::More
            {
                self.sources.wake(key);
            }
        }
    }

    fn handle_source(&mut self, key: usize, now: Instant) -> Progress {
        let (sources, counters) = (&mut self.sources, &mut self.counters);
        match sources.get_mut(key) {
            None => Progress::Waits,
            Some(Source::JsonListener(_) | Source::ZmtpListener(_)) => {
                sources.accept(key, now, counters)
            }
            Some(Source::Pipe(id, pipe)) => match self.children.read(*id, pipe) {
                Some(progress) => progress,
                None => {
                    sources.remove(key);
                    Progress::Waits
                }
            },
            Some(Source::Json(connection)) => {
                let mut objects = Vec::new();
                let reading = connection.read(now, &mut |object| objects.push(object));
                let progress = match reading {
                    Reading::Open(progress) => progress,
                    Reading::Ended(end) => {
                        sources.remove(key);
                        self.note_end(end);
                        Progress::Waits
                    }
                };
                for object in objects {
                    self.handle_object(&object, now);
                }
                progress
            }
            Some(Source::Zmtp(_)) => self.advance(key, now),
        }
    }

    /// The turn of a connection of a ZeroMQ peer.
    fn advance(&mut self, key: usize, now: Instant) -> Progress {
        let Some(Source::Zmtp(connection)) = self.sources.get_mut(key) else {
            return Progress::Waits;
        };
        let (role, mut messages) = (connection.role, Vec::new());
        let (watcher, counters) = (&mut self.watcher, &mut self.counters);
        let counts = match role {
            Role::Control => counters.to_json(),
            Role::Events | Role::Heartbeat => Value::Null,
        };
        let advanced = connection.advance(now, counters, &mut |frames| {
            if role == Role::Control {
                return answer(watcher, &counts, frames, now);
            }
            // The last frame has all; the others are an envelope.
            messages.push(frames.last().map_or_else(Vec::new, |it| it.to_vec()));
            None
        });
        let progress = advanced.unwrap_or_else(|error| {
            let detail = match &error {
                ClientError::Protocol(error) => error.to_string(),
                ClientError::Refused(reason) => (*reason).to_owned(),
                _ => String::new(),
            };
            if !detail.is_empty() {
                let detail = format_args!("the {} socket: {detail}", role.name());
                self.counters.note(Trouble::Refused, &detail);
            }
            self.sources.remove(key);
            Progress::Waits
        });
        for message in messages {
            self.handle_message(&message, now);
        }
        progress
    }

    /// A connection of a plain TCP client is over.
    fn note_end(&mut self, end: Result<(), Flaw>) {
        if let Err(flaw) = end {
            self.counters.note(Trouble::Flawed, &flaw);
        }
    }

    /// An object of a plain TCP client: a sign of life, and data for others.
    fn handle_object(&mut self, object: &Map<String, Value>, now: Instant) {
        let Some(heartbeat) = Heartbeat::from_object(object) else {
            return self.counters.note(Trouble::Foreign, &FOREIGN);
        };
        self.watcher.handle_heartbeat(&heartbeat, now);
        let body = Value::Object(object.clone()).to_string();
        self.publish(&[heartbeat.kind.as_bytes(), body.as_bytes()]);
    }

    /// A message at the ZeroMQ socket: its last frame is a name or an object.
    fn handle_message(&mut self, frame: &[u8], now: Instant) {
        let Some(heartbeat) = Heartbeat::from_frame(frame) else {
            return self.counters.note(Trouble::Foreign, &FOREIGN);
        };
        self.watcher.handle_heartbeat(&heartbeat, now);
        self.publish(&[heartbeat.kind.as_bytes(), frame]);
    }

    fn publish(&mut self, frames: &[&[u8]]) {
        let is_reader =
            |source: &Source| matches!(source, Source::Zmtp(it) if it.role == Role::Events);
        for key in self.sources.keys(is_reader) {
            if let Some(Source::Zmtp(reader)) = self.sources.get_mut(key)
                && reader.publish(frames, &mut self.counters)
            {
                self.sources.wake(key);
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
                Output::Log(level, line) => write_log(level, &line),
                Output::Run {
                    command,
                    environment,
                    id,
                    is_service,
                } => {
                    let started = self.children.start(id, &command, environment, is_service);
                    let started = started
                        .and_then(|pipe| self.sources.add_pipe(id, pipe, &mut self.counters));
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
            self.poster.send(&url, Some(body), &mut self.counters);
        }
    }
}

/// Why an object or a message is not a heartbeat.
const FOREIGN: &str = "its type and service must be short texts";

fn counted(watches: usize) -> String {
    match watches {
        1 => "1 watch".to_owned(),
        count => format!("{count} watches"),
    }
}

fn write_log(level: Level, line: &str) {
    let level = match level {
        Level::Error => log::Level::Error,
        Level::Warn => log::Level::Warn,
        Level::Info => log::Level::Info,
    };
    log::log!(level, "{line}");
}

/// Answers a request to the control.
fn answer(
    watcher: &mut Watcher,
    counters: &Value,
    frames: &[&[u8]],
    now: Instant,
) -> Option<Vec<Vec<u8>>> {
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
            status["counters"] = counters.clone();
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
