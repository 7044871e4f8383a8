//! Drives a session through a transcript as a driver would, and compares.

use super::{Happening, Transcript};
use std::cell::RefCell;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Instant;
use std::{mem, slice};
use zmtp::curve::{Entropy, EntropyError};
use zmtp::wire::header::{COMMAND, Header, Legal, LegalFlags, MORE};
use zmtp::{Coder, Credentials, Error, Event, Frames, Sealer, Session, SessionConfig, Span, Step};

thread_local! {
    /// What is left of the random bytes of the transcript.
    static RANDOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Takes random bytes from the transcript.
pub(crate) const ENTROPY: Entropy = Entropy::new(|bytes| {
    RANDOM.with_borrow_mut(|random| {
        let rest = random.split_off(bytes.len().min(random.len()));
        let taken = mem::replace(random, rest);
        if taken.len() < bytes.len() {
            return Err(EntropyError);
        }
        bytes.copy_from_slice(&taken);
        Ok(())
    })
});

/// The behaviour of the buffer's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Calls whenever bytes have arrived; everything due must happen at once.
    Prompt,
    /// Calls only once the input has the size of `Event::Need`.
    Lazy,
    /// Delays a message, and calls again once more bytes have arrived.
    Hesitant,
}

struct Replay<'a> {
    transcript: &'a Transcript,
    caller: Caller,
    session: Session,
    /// What the traffic passes through since the end of the handshake.
    coder: Option<Box<Coder>>,
    /// Received bytes that are still sealed.
    raw: Vec<u8>,
    buffer: Vec<u8>,
    /// What the session has to send, not sealed yet.
    out: Vec<u8>,
    /// Whether the front of the buffer is a message that was reported and not accepted.
    keeps_back: bool,
    needed_size: usize,
    has_failed: bool,
    /// Events and sent bytes since the last check.
    happened: Vec<Happening>,
    sent: Vec<u8>,
    /// Events and bytes that are due after the last check.
    happenings: Peekable<slice::Iter<'a, (usize, Happening)>>,
    output: Peekable<slice::Iter<'a, (usize, Vec<u8>)>>,
}

/// Feeds the transcript's input in pieces that end at each of `cuts` (ascending) and at its end.
pub(crate) fn replay(
    transcript: &Transcript,
    caller: Caller,
    cuts: impl IntoIterator<Item = usize>,
) {
    let mut replay = Replay::new(transcript, caller);
    let mut start = 0;
    for cut in cuts.into_iter().chain([transcript.input.len()]) {
        replay.feed(&transcript.input[start..cut]);
        if caller == Caller::Prompt {
            replay.check(cut);
        }
        start = cut;
    }
    while replay.keeps_back {
        replay.drain();
    }
    replay.check(start);
}

impl<'a> Replay<'a> {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do: no deadline is polled"
    )]
    fn new(transcript: &'a Transcript, caller: Caller) -> Self {
        let config = SessionConfig {
            accept_zmtp2: transcript.accepts_zmtp2,
            limits: transcript.limits,
            loop_check: transcript.loop_check,
            mechanism: transcript.mechanism.clone(),
            ..SessionConfig::new(transcript.local)
        };
        RANDOM.set(transcript.entropy.clone());
        let mut out = Vec::new();
        Self {
            session: Session::new(Arc::new(config), Instant::now(), &mut out),
            transcript,
            caller,
            coder: None,
            raw: Vec::new(),
            buffer: Vec::new(),
            out,
            keeps_back: false,
            needed_size: 1,
            has_failed: false,
            happened: Vec::new(),
            sent: Vec::new(),
            happenings: transcript.happenings.iter().peekable(),
            output: transcript.output.iter().peekable(),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        let waiting = if self.coder.is_some() {
            &mut self.raw
        } else {
            &mut self.buffer
        };
        waiting.extend_from_slice(piece);
        if self.caller != Caller::Lazy || waiting.len() >= self.needed_size {
            self.open();
            self.drain();
        }
    }

    /// Opens what has come, if it is sealed.
    fn open(&mut self) {
        let Some(coder) = self.coder.as_mut().filter(|_| !self.has_failed) else {
            return;
        };
        match coder.opener.open(&mut self.raw, &self.transcript.limits) {
            Ok(opened) => {
                self.buffer.extend_from_slice(&self.raw[..opened.plain]);
                self.raw.drain(..opened.consumed);
                assert!(
                    opened.need > self.raw.len(),
                    "asked for bytes that are there"
                );
                self.needed_size = opened.need;
            }
            Err(error) => {
                self.has_failed = true;
                self.happened
                    .push(Happening::Failed(error.label().to_owned()));
            }
        }
    }

    /// Sends what the session has to say.
    fn flush(&mut self) {
        match &mut self.coder {
            Some(coder) => seal(&mut coder.sealer, &self.out, &mut self.sent),
            None => self.sent.extend_from_slice(&self.out),
        }
        self.out.clear();
    }

    /// From here on everything is sealed, in both directions.
    fn take_coder(&mut self) {
        let Some(coder) = self.session.take_coder() else {
            return;
        };
        self.flush();
        self.coder = Some(coder);
        self.raw = mem::take(&mut self.buffer);
        self.open();
    }

    /// Calls the session until it needs more bytes, fails, or a message is delayed.
    fn drain(&mut self) {
        loop {
            let step = match self.session.handle_input(&mut self.buffer, &mut self.out) {
                Ok(step) => step,
                Err(error) => return self.fail(error),
            };
            if let Event::Need(size) = step.event {
                assert_eq!(step.consumed, 0, "{}", self.transcript.name);
                self.buffer.truncate(self.buffer.len() - step.removed);
                assert!(size > self.buffer.len(), "asked for bytes that are there");
                if self.coder.is_none() {
                    self.needed_size = size;
                }
                return;
            }
            assert_eq!(step.removed, 0, "{}", self.transcript.name);
            if let Event::Message(span) = step.event {
                self.buffer.drain(..step.consumed);
                self.keeps_back = self.caller == Caller::Hesitant && !self.keeps_back;
                if self.keeps_back {
                    return;
                }
                self.take(span);
            } else {
                let mut event = step.event;
                if let Event::Authenticate(credentials) = event {
                    self.note_credentials(credentials);
                    let decided = self.transcript.authorization.clone();
                    event = match self.session.authorize(decided, &mut self.out) {
                        Ok(event) => event,
                        Err(error) => return self.fail(error),
                    };
                }
                self.note(event);
                self.buffer.drain(..step.consumed);
                self.take_coder();
            }
        }
    }

    fn take(&mut self, span: Span) {
        let again = self.session.handle_input(&mut self.buffer, &mut self.out);
        let expected = Step {
            consumed: 0,
            event: Event::Message(span),
            removed: 0,
        };
        assert_eq!(again, Ok(expected), "the answer changes before accept");
        self.session.accept();
        let message: Vec<u8> = self.buffer.drain(..span.size).collect();
        assert_eq!(Frames::new(&message).count(), span.frames as usize);
        self.happened.push(Happening::Message(message));
    }

    fn note(&mut self, event: Event) {
        let happening = match event {
            Event::Ready(peer) => {
                Happening::Ready(peer.version, peer.socket_type, peer.identity.into())
            }
            Event::Subscription { add: true, topic } => {
                Happening::Subscribe(self.buffer[topic].to_vec())
            }
            Event::Subscription { add: false, topic } => {
                Happening::Cancel(self.buffer[topic].to_vec())
            }
            Event::LoopCheck(said) => {
                let mut wire = Vec::new();
                said.append(&mut wire);
                Happening::LoopCheck(wire)
            }
            Event::Trial(_) => Happening::Trial,
            Event::Message(_) | Event::Need(_) | Event::Progress => return,
            Event::Authenticate(_) | Event::Undecided => panic!("it was not asked for"),
        };
        self.happened.push(happening);
    }

    fn note_credentials(&mut self, credentials: Credentials) {
        let bytes = match credentials {
            Credentials::Null => Vec::new(),
            Credentials::Plain { password, user } => {
                [&user, &b"\0"[..], password.as_bytes()].concat()
            }
            Credentials::Curve(key) => key.as_bytes().to_vec(),
            _ => panic!("no transcript has other ones"),
        };
        self.happened.push(Happening::Authenticate(bytes));
    }

    /// Notes the end, and checks that it is final: the same error comes again, and nothing is sent.
    fn fail(&mut self, error: Error) {
        let out_size = self.out.len();
        let again = self.session.handle_input(&mut self.buffer, &mut self.out);
        assert_eq!((again, self.out.len()), (Err(error), out_size));
        assert!(!self.session.is_ready());
        if !self.has_failed {
            self.has_failed = true;
            let failed = Happening::Failed(error.label().to_owned());
            self.happened.push(failed);
        }
    }

    /// Compares with exactly what is due after `position` bytes.
    fn check(&mut self, position: usize) {
        self.flush();
        let name = &self.transcript.name;
        for happening in self.happened.drain(..) {
            let due = self.happenings.next_if(|(at, _)| *at <= position);
            let due = due.map(|(_, happening)| happening);
            assert_eq!(Some(&happening), due, "{name}, at {position}");
        }
        let missed = self.happenings.next_if(|(at, _)| *at <= position);
        assert_eq!(missed, None, "{name}, at {position}");
        let mut sent = &self.sent[..];
        while let Some((_, due)) = self.output.next_if(|(at, _)| *at <= position) {
            let Some(rest) = sent.strip_prefix(&due[..]) else {
                panic!("{name}, at {position}: {due:02x?} is due, not {sent:02x?}");
            };
            sent = rest;
        }
        assert!(sent.is_empty(), "{name}, at {position}: sent {sent:02x?}");
        self.sent.clear();
    }
}

/// Seals whole plain frames.
fn seal(sealer: &mut Sealer, mut plain: &[u8], out: &mut Vec<u8>) {
    let legal = Legal {
        command_size_max: u64::MAX,
        flags: LegalFlags::V3,
        message_size_max: u64::MAX,
    };
    while let Some(header) = Header::parse(plain, &legal).expect("our own frames") {
        let (frame, rest) = plain.split_at(header.size + header.body_size);
        let start = out.len();
        out.resize(start + sealer.sealed_size(header.body_size), 0);
        let flags = frame[0] & (MORE | COMMAND);
        let sealed = sealer.seal(flags, &frame[header.size..], &mut out[start..]);
        sealed.expect("a nonce is left");
        plain = rest;
    }
}
