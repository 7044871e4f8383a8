//! One connection of a client: a head, an answer, the next head.
//!
//! Nothing is read while an answer is made or written, so a client that sends more than it reads
//! waits in its own socket. At most a head and a part of an answer are in memory.

use crate::head::{self, Head, Method};
use crate::limits::{HEAD_SIZE_MAX, IGNORED_SIZE_MAX, OUTPUT_SIZE, Times};
use crate::response::{Body, Parts, Response};
use mio::net::TcpStream;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::time::Instant;

/// One connection.
pub(crate) struct Connection {
    /// The rest of the body.
    body: Option<Parts>,
    /// The answer is the last one.
    closes: bool,
    /// The address that the client connected to.
    pub(crate) local: IpAddr,
    /// Bytes of the client that were ignored.
    ignored: usize,
    /// Received bytes that are not handled.
    input: Vec<u8>,
    /// Parts have a length in front of each.
    is_chunked: bool,
    /// It has sent at least one request.
    is_used: bool,
    /// Bytes for the client.
    output: Vec<u8>,
    /// Distinguishes connections in the same slot.
    pub(crate) serial: u64,
    /// The time at which the present state began.
    pub(crate) since: Instant,
    state: State,
    pub(crate) stream: TcpStream,
    /// How many bytes of `output` were written.
    written: usize,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The answer of the broker to a request with these properties.
    Asking { form: Form, is_health: bool },
    /// The end of the client, or its last bytes.
    Closing,
    /// A head, or its rest.
    Reading,
    /// Room for the answer.
    Writing,
}

/// The form that the answer to a request must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    closes: bool,
    is_current: bool,
    is_head: bool,
}

/// What the server does next for a connection.
pub(crate) enum Step {
    /// Nothing, until there is an event.
    Wait,
    /// Answer this request.
    Handle(Head),
    /// Remove the connection.
    Remove,
}

impl Connection {
    pub(crate) fn new(now: Instant, stream: TcpStream, serial: u64) -> Self {
        let local = stream.local_addr();
        Self {
            body: None,
            closes: false,
            local: local.map_or_else(|_| Ipv4Addr::UNSPECIFIED.into(), |local| local.ip()),
            ignored: 0,
            input: Vec::new(),
            is_chunked: false,
            is_used: false,
            output: Vec::new(),
            serial,
            since: now,
            state: State::Reading,
            stream,
            written: 0,
        }
    }

    /// Whether it may be closed without harm: it waits for a request that has not begun.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Reading && self.input.is_empty()
    }

    /// Whether it waits for the broker.
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    /// The end of the present state.
    pub(crate) fn deadline(&self, times: &Times) -> Instant {
        self.since
            + match self.state {
                State::Asking { is_health, .. } if is_health => times.health,
                State::Asking { .. } => times.answer,
                State::Closing => times.close,
                State::Reading if self.is_used && self.input.is_empty() => times.idle,
                State::Reading => times.head,
                State::Writing => times.reading,
            }
    }

    /// Goes on as far as the socket allows.
    pub(crate) fn advance(&mut self, now: Instant) -> Step {
        loop {
            let step = match self.state {
                State::Asking { .. } => return Step::Wait,
                State::Closing => self.ignore(),
                State::Reading => match self.take_head(now) {
                    Ok(Some(head)) => return Step::Handle(head),
                    Ok(None) => self.read(now),
                    Err(refusal) => {
                        self.refuse(now, &refusal);
                        None
                    }
                },
                State::Writing => self.write(now),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// A head is complete, or cannot become one.
    fn take_head(&mut self, now: Instant) -> Result<Option<Head>, Response> {
        // Empty lines before a request have no meaning.
        let blank = self.input.iter().take_while(|byte| b"\r\n".contains(byte));
        let blank = blank.count();
        self.input.drain(..blank);
        if self.input.is_empty() {
            return Ok(None);
        }
        let head = head::parse(&self.input)?;
        if let Some(head) = &head {
            self.input.drain(..head.size);
            self.is_used = true;
            self.since = now;
        }
        Ok(head)
    }

    /// Reads once; `None` if there may be more.
    fn read(&mut self, now: Instant) -> Option<Step> {
        let mut buffer = [0; 2048];
        let room = HEAD_SIZE_MAX
            .saturating_sub(self.input.len())
            .min(buffer.len());
        match self.stream.read(&mut buffer[..room]) {
            Ok(0) => Some(Step::Remove),
            Ok(size) => {
                if self.input.is_empty() && self.is_used {
                    self.since = now;
                }
                self.input.extend_from_slice(&buffer[..size]);
                None
            }
            Err(error) => on_error(error.kind()),
        }
    }

    /// The request is for the broker: the connection waits.
    pub(crate) fn ask(&mut self, now: Instant, head: &Head, is_health: bool) {
        let form = Form::of(head);
        self.state = State::Asking { form, is_health };
        self.since = now;
    }

    /// The broker has answered, or was too late.
    pub(crate) fn answered(&mut self, now: Instant, response: Response) {
        if let State::Asking { form, .. } = self.state {
            self.begin(now, response, form);
        }
    }

    /// Answers a request at once.
    pub(crate) fn answer(&mut self, now: Instant, head: &Head, response: Response) {
        self.begin(now, response, Form::of(head));
    }

    /// Answers what is not a request.
    fn refuse(&mut self, now: Instant, refusal: &Response) {
        let mut output = refusal.head(true, true);
        if let Body::Whole(body) = &refusal.body {
            output.extend_from_slice(body);
        }
        self.input = Vec::new();
        self.output = output;
        (self.body, self.closes, self.written) = (None, true, 0);
        (self.state, self.since) = (State::Writing, now);
    }

    fn begin(&mut self, now: Instant, response: Response, form: Form) {
        // Without chunks, only the end of the connection shows the end of the body.
        let has_parts = matches!(response.body, Body::Parts(_));
        self.closes = form.closes || response.closes || has_parts && !form.is_current;
        self.is_chunked = form.is_current;
        self.output = response.head(self.closes, form.is_current);
        self.body = None;
        match response.body {
            _ if form.is_head => {}
            Body::Whole(body) => self.output.extend_from_slice(&body),
            Body::Parts(parts) => self.body = Some(parts),
        }
        self.written = 0;
        (self.state, self.since) = (State::Writing, now);
    }

    /// Writes once; `None` if it can go on.
    fn write(&mut self, now: Instant) -> Option<Step> {
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            if self.fill() {
                return None;
            }
            self.output = Vec::new();
            (self.state, self.since) = (State::Reading, now);
            if self.closes {
                self.state = State::Closing;
                self.input = Vec::new();
                // The client may have gone.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            return None;
        }
        let rest = self.output.get(self.written..).unwrap_or_default();
        match self.stream.write(rest) {
            Ok(size) => {
                self.written += size;
                None
            }
            Err(error) => on_error(error.kind()),
        }
    }

    /// Renders the next parts of the body; false at its end.
    fn fill(&mut self) -> bool {
        let Some(parts) = &mut self.body else {
            return false;
        };
        while self.output.len() < OUTPUT_SIZE {
            match parts.next() {
                Some(part) if part.is_empty() => {}
                Some(part) if self.is_chunked => {
                    let size = format!("{:x}\r\n", part.len());
                    for piece in [size.as_bytes(), &part, b"\r\n"] {
                        self.output.extend_from_slice(piece);
                    }
                }
                Some(part) => self.output.extend_from_slice(&part),
                None => {
                    if self.is_chunked {
                        self.output.extend_from_slice(b"0\r\n\r\n");
                    }
                    self.body = None;
                    return !self.output.is_empty();
                }
            }
        }
        true
    }

    /// Reads and ignores once, so that the client gets the answer before a reset.
    fn ignore(&mut self) -> Option<Step> {
        let mut buffer = [0; 2048];
        match self.stream.read(&mut buffer) {
            Ok(0) => Some(Step::Remove),
            Ok(size) => {
                self.ignored += size;
                (self.ignored > IGNORED_SIZE_MAX).then_some(Step::Remove)
            }
            Err(error) => on_error(error.kind()),
        }
    }

    /// Bytes of its memory that the client can cause.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }
}

impl Form {
    fn of(head: &Head) -> Self {
        Self {
            closes: !head.keeps_alive,
            is_current: head.is_current,
            is_head: head.method == Method::Head,
        }
    }
}

fn on_error(kind: ErrorKind) -> Option<Step> {
    match kind {
        ErrorKind::WouldBlock => Some(Step::Wait),
        ErrorKind::Interrupted => None,
        _ => Some(Step::Remove),
    }
}
