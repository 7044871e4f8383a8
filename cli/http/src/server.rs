//! The thread of the server: accepts, reads, asks the broker, writes.

#![expect(clippy::disallowed_methods, reason = "the server reads the clock")]

use crate::connection::{Connection, Step};
use crate::head::Head;
use crate::history::History;
use crate::limits::{CONNECTIONS_MAX, REQUESTS_PER_TURN_MAX, Times};
use crate::response::Response;
use crate::route::{self, Ask, Render, Reply};
use broker::config::HttpConfig;
use broker::{Handle, HttpServer};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// The wait after the system had no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The HTTP server of a broker: give it to [`broker::Broker::bind_with_http`]. Its thread begins
/// when the broker runs with an address for HTTP, and ends without one, or with the broker.
#[derive(Debug, Default)]
pub struct Server {
    running: Option<Running>,
    times: Times,
}

/// The thread, and the way to it.
#[derive(Debug)]
struct Running {
    messages: mpsc::Sender<Message>,
    thread: Option<JoinHandle<()>>,
    waker: Arc<Waker>,
}

/// What other threads send to the server.
enum Message {
    /// The broker has answered.
    Answer(Render),
    /// Serve by another configuration, and through another listener if there is one.
    Configure(HttpConfig, Option<TcpListener>),
    /// End.
    Stop,
}

impl Server {
    #[cfg(test)]
    pub(crate) fn with_times(times: Times) -> Self {
        Self {
            running: None,
            times,
        }
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.send(Message::Stop);
            if let Some(thread) = running.thread.take()
                && thread.join().is_err()
            {
                log::error!("the thread of the HTTP server has failed");
            }
        }
    }
}

impl Running {
    fn send(&self, message: Message) {
        // A thread that has failed reports that when it is joined.
        if self.messages.send(message).is_ok() {
            let _ = self.waker.wake();
        }
    }

    fn start(handle: &Handle, times: Times) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (messages, receiver) = mpsc::channel();
        let server = Loop {
            accept_from: None,
            broker: handle.clone(),
            config: HttpConfig::default(),
            connections: Slab::new(),
            history: History::new(times.sample),
            in_flight: None,
            listener: None,
            messages: messages.clone(),
            poll,
            ready: VecDeque::new(),
            receiver,
            sample_at: Instant::now(),
            serial: 0,
            times,
            waker: Arc::clone(&waker),
        };
        let thread = thread::Builder::new().name("http".to_owned());
        let thread = thread.spawn(move || server.run())?;
        Ok(Self {
            messages,
            thread: Some(thread),
            waker,
        })
    }
}

impl HttpServer for Server {
    fn serve(
        &mut self,
        config: &HttpConfig,
        listener: Option<std::net::TcpListener>,
        handle: &Handle,
    ) -> io::Result<()> {
        if config.address.is_none() {
            self.stop();
            return Ok(());
        }
        let running = match &mut self.running {
            Some(running) => running,
            empty => empty.insert(Running::start(handle, self.times)?),
        };
        let listener = listener.map(TcpListener::from_std);
        running.send(Message::Configure(config.clone(), listener));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection, or the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// The slot and the serial number of a connection.
    Connection(usize, u64),
    History,
}

/// A connection and its question, until the broker is asked.
struct Client {
    connection: Connection,
    question: Option<Ask>,
}

struct Loop {
    /// No connection is accepted before this time.
    accept_from: Option<Instant>,
    broker: Handle,
    config: HttpConfig,
    connections: Slab<Client>,
    history: History,
    /// The broker has one question at a time, so that calls do not pile up when it is busy.
    in_flight: Option<Asker>,
    listener: Option<TcpListener>,
    messages: mpsc::Sender<Message>,
    poll: Poll,
    /// Connections that can go on without an event.
    ready: VecDeque<usize>,
    receiver: mpsc::Receiver<Message>,
    /// The time of the next sample of the history.
    sample_at: Instant,
    serial: u64,
    times: Times,
    waker: Arc<Waker>,
}

impl Loop {
    fn run(mut self) {
        let mut events = Events::with_capacity(2 * CONNECTIONS_MAX);
        loop {
            let now = Instant::now();
            if let Err(error) = self.poll.poll(&mut events, self.timeout(now))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("HTTP is not served any more: cannot wait for events: {error}");
                return;
            }
            let now = Instant::now();
            for _ in 0..self.ready.len() {
                if let Some(slot) = self.ready.pop_front() {
                    self.advance(now, slot);
                }
            }
            let mut accepts = self.accept_from.is_some_and(|from| from <= now);
            let mut has_messages = false;
            for event in &events {
                match event.token() {
                    LISTENER => accepts = true,
                    WAKER => has_messages = true,
                    Token(slot) => self.advance(now, slot),
                }
            }
            if has_messages && !self.handle_messages(now) {
                return;
            }
            if accepts {
                self.accept(now);
            }
            self.expire(now);
            self.ask_next(now);
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let clients = self.connections.iter();
        let deadlines = clients.map(|(_, it)| it.connection.deadline(&self.times));
        let next = deadlines
            .chain(self.accept_from)
            .chain((self.in_flight.is_none()).then_some(self.sample_at))
            .min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Handles what other threads have sent; false at the end.
    fn handle_messages(&mut self, now: Instant) -> bool {
        while let Ok(message) = self.receiver.try_recv() {
            match message {
                Message::Stop => return false,
                Message::Answer(render) => self.handle_answer(now, render),
                Message::Configure(config, listener) => {
                    self.config = config;
                    let Some(mut listener) = listener else {
                        continue;
                    };
                    let registry = self.poll.registry();
                    let interest = Interest::READABLE;
                    if let Err(error) = registry.register(&mut listener, LISTENER, interest) {
                        log::error!("HTTP is not served: cannot wait for events: {error}");
                    }
                    // The former one is closed, with the connections that came through it.
                    self.listener = Some(listener);
                    self.connections.clear();
                    self.accept(now);
                }
            }
        }
        true
    }

    fn handle_answer(&mut self, now: Instant, render: Render) {
        match self.in_flight.take() {
            Some(Asker::History) => drop(render(&mut self.history)),
            Some(Asker::Connection(slot, serial)) => {
                let client = self.connections.get_mut(slot);
                let client = client.filter(|it| it.connection.serial == serial);
                if let Some(client) = client.filter(|it| it.connection.is_asking()) {
                    let response = render(&mut self.history);
                    client.connection.answered(now, response);
                    self.advance(now, slot);
                }
            }
            None => {}
        }
    }

    fn accept(&mut self, now: Instant) {
        self.accept_from = None;
        let Some(listener) = &self.listener else {
            return;
        };
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(_) => {
                    self.accept_from = Some(now + ACCEPT_PAUSE);
                    return;
                }
            };
            make_room(&mut self.connections);
            self.serial += 1;
            let slot = add(
                &mut self.connections,
                &self.poll,
                (now, stream, self.serial),
            );
            // A request that has arrived already causes no event.
            self.ready.extend(slot);
        }
    }

    /// Goes on with a connection as far as possible.
    fn advance(&mut self, now: Instant, slot: usize) {
        for _ in 0..REQUESTS_PER_TURN_MAX {
            let Some(client) = self.connections.get_mut(slot) else {
                return;
            };
            match client.connection.advance(now) {
                Step::Wait => return,
                Step::Remove => {
                    self.connections.remove(slot);
                    return;
                }
                Step::Handle(head) => handle(client, now, &head, &self.config),
            }
        }
        self.ready.push_back(slot);
    }

    /// Ends states that last for too long.
    fn expire(&mut self, now: Instant) {
        let slots = self.connections.iter();
        let late = slots.filter(|(_, it)| it.connection.deadline(&self.times) <= now);
        let late: Vec<usize> = late.map(|(slot, _)| slot).collect();
        for slot in late {
            let client = &mut self.connections[slot];
            if !client.connection.is_asking() {
                self.connections.remove(slot);
                continue;
            }
            client.question = None;
            let waited = now.saturating_duration_since(client.connection.since);
            let sentence = format!(
                "the broker has not answered for {:.1} s",
                waited.as_secs_f64()
            );
            let response = Response::error(503, &sentence);
            client.connection.answered(now, response);
            self.advance(now, slot);
        }
    }

    /// Asks the broker the question that has waited the longest, if it has none.
    fn ask_next(&mut self, now: Instant) {
        if self.in_flight.is_some() {
            return;
        }
        let waiting = self.connections.iter();
        let waiting = waiting.filter(|(_, client)| client.question.is_some());
        let next = waiting.min_by_key(|(_, client)| client.connection.since);
        let next = next.map(|(slot, _)| slot);
        let (asker, ask) = if self.sample_at <= now {
            self.sample_at = now + self.times.sample;
            (Asker::History, route::sample(now))
        } else {
            let Some(slot) = next else {
                return;
            };
            let client = &mut self.connections[slot];
            let asker = Asker::Connection(slot, client.connection.serial);
            let Some(ask) = client.question.take() else {
                return;
            };
            (asker, ask)
        };
        let (messages, waker) = (self.messages.clone(), Arc::clone(&self.waker));
        let is_posted = self.broker.post(move |admin| {
            let render = ask(admin);
            if messages.send(Message::Answer(render)).is_ok() {
                // It is awake, or it ends.
                let _ = waker.wake();
            }
        });
        // A broker that has stopped answers no more; its questions run out of time.
        self.in_flight = is_posted.then_some(asker);
    }
}

/// Answers a request, or notes its question for the broker.
fn handle(client: &mut Client, now: Instant, head: &Head, config: &HttpConfig) {
    match route::route(head, client.connection.local, config) {
        Reply::Ask { ask, is_health } => {
            client.question = Some(ask);
            client.connection.ask(now, head, is_health);
        }
        Reply::Now(response) => client.connection.answer(now, head, response),
    }
}

/// Closes a connection if there are as many as possible: the one that has been idle the longest, or
/// else the one that has been in its state the longest.
fn make_room(connections: &mut Slab<Client>) {
    if connections.len() < CONNECTIONS_MAX {
        return;
    }
    let oldest = connections
        .iter()
        .min_by_key(|(_, it)| (!it.connection.is_idle(), it.connection.since));
    if let Some(slot) = oldest.map(|(slot, _)| slot) {
        connections.remove(slot);
    }
}

fn add(
    connections: &mut Slab<Client>,
    poll: &Poll,
    (now, mut stream, serial): (Instant, TcpStream, u64),
) -> Option<usize> {
    let entry = connections.vacant_entry();
    let slot = entry.key();
    let interest = Interest::READABLE | Interest::WRITABLE;
    // Without an event it would never go on: it is closed.
    poll.registry()
        .register(&mut stream, Token(slot), interest)
        .ok()?;
    entry.insert(Client {
        connection: Connection::new(now, stream, serial),
        question: None,
    });
    Some(slot)
}
