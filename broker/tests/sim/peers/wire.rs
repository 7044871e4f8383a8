//! One connection of a peer: a session, its input and output.

use super::Spec;
use crate::context::Context;
use crate::curve;
use crate::message::{Header, append};
use crate::net::{Plug, Received, Written};
use crate::random::Random;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;
use zmtp::encode::{append_command, append_frame};
use zmtp::limits::{GREETING_SIZE, GREETING_V2_SIZE, SIGNATURE_SIZE};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::header::LONG;
use zmtp::{Coder, Error, Event, Frames, Peer, Session, SessionConfig, Version};

#[derive(Debug)]
pub(crate) struct Wire {
    /// Bytes on their way to the kernel.
    cable: Vec<u8>,
    cable_at: usize,
    coder: Option<Box<Coder>>,
    input: Vec<u8>,
    pub(crate) is_ready: bool,
    is_v2: bool,
    knows_ping: bool,
    pub(crate) minor: u8,
    out: Vec<u8>,
    pub(crate) plug: Plug,
    /// Received bytes that were not decrypted.
    raw: Vec<u8>,
    /// Bytes received.
    received: usize,
    pub(crate) received_messages: u64,
    /// Different for every connection.
    pub(crate) sender: u32,
    pub(crate) sent_messages: u64,
    session: Session,
    start: usize,
    /// The unsent steps of a greeting that was replaced.
    steps_left: usize,
}

/// An event for a peer.
#[derive(Debug)]
pub(crate) enum Told {
    Message(Vec<u8>),
    Ready,
    Subscription { add: bool, topic: Vec<u8> },
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    Closed,
    Open,
}

impl Wire {
    pub(crate) fn new(ctx: &Context, plug: Plug, spec: &Spec, sender: u32) -> Self {
        let minor = spec.minor;
        let config = SessionConfig {
            accept_zmtp2: spec.is_v2,
            heartbeat: spec.heartbeat,
            identity: spec.identity.clone(),
            mechanism: curve::for_server(&spec.mechanism, ctx.server_key(spec.port)),
            ..SessionConfig::new(spec.socket_type)
        };
        let mut out = Vec::new();
        let session = Session::new(Arc::new(config), ctx.instant(), &mut out);
        // A session speaks 3.1, in steps; an older peer sends all at once.
        let mut steps_left = 0;
        if spec.is_v2 {
            let greeting = v2_greeting(spec);
            // It sends its version and the rest of its greeting.
            steps_left = greeting.len() - out.len();
            out = greeting;
        } else if minor == 0 {
            let version = Version::V3_0;
            let greeting = Greeting::new(session.mechanism());
            steps_left = GREETING_SIZE - out.len();
            out = Greeting {
                version,
                ..greeting
            }
            .bytes()
            .to_vec();
        }
        Self {
            cable: Vec::new(),
            cable_at: 0,
            coder: None,
            input: Vec::new(),
            is_ready: false,
            is_v2: spec.is_v2,
            knows_ping: spec.knows_ping,
            minor,
            out,
            plug,
            raw: Vec::new(),
            received: 0,
            received_messages: 0,
            sender,
            sent_messages: 0,
            session,
            start: 0,
            steps_left,
        }
    }

    /// Sends these bytes instead of those of the session.
    pub(crate) fn replace(&mut self, out: Vec<u8>) {
        self.out = out;
    }

    /// Queues these bytes, whatever their meaning.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Reads once, at most `limit` bytes, and returns the events in them.
    pub(crate) fn pull(&mut self, ctx: &mut Context, limit: usize) -> (Pulled, Vec<Told>) {
        self.input.drain(..self.start);
        self.start = 0;
        let heard = if self.coder.is_some() {
            &mut self.raw
        } else {
            &mut self.input
        };
        let have = heard.len();
        heard.resize(have + limit, 0);
        let received = ctx.read(self.plug, &mut heard[have..]);
        let size = if let Received::Data(size) = received {
            size
        } else {
            0
        };
        heard.truncate(have + size);
        if self.is_v2 && (self.received..self.received + size).contains(&SIGNATURE_SIZE) {
            // A peer that speaks 2.0 treats every later version as 2.0.
            self.input[have + SIGNATURE_SIZE - self.received] = 1;
        }
        self.received += size;
        match received {
            Received::Broken(_) | Received::End => (Pulled::Closed, Vec::new()),
            Received::Nothing => (Pulled::Open, Vec::new()),
            Received::Data(_) => {
                self.session.handle_received(ctx.instant());
                (Pulled::Open, self.understand())
            }
        }
    }

    fn understand(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            let said = self.out.len();
            let input = &mut self.input[self.start..];
            let step = match self.session.handle_input(input, &mut self.out) {
                Ok(step) => step,
                // The program has denied the peer, which is about to be closed.
                Err(Error::Refused(_)) => return told,
                Err(error) => panic!("the broker violated the protocol: {error}"),
            };
            let steps = self.steps_left.min(self.out.len() - said);
            self.out.drain(said..said + steps);
            self.steps_left -= steps;
            let input = &self.input[self.start..];
            self.start += step.consumed;
            match step.event {
                Event::Need(_) => {
                    self.input.truncate(self.input.len() - step.removed);
                    if !self.open_more() {
                        return told;
                    }
                }
                Event::Authenticate(_) | Event::Undecided => unreachable!("it is not asked for"),
                Event::LoopCheck(_) | Event::Progress | Event::Trial(_) => self.begin_coding(),
                Event::Ready(_) => {
                    self.begin_coding();
                    self.is_ready = true;
                    told.push(Told::Ready);
                }
                Event::Message(span) => {
                    let message = &input[step.consumed..][..span.size];
                    told.push(Told::Message(message.to_vec()));
                    self.received_messages += 1;
                    self.session.accept();
                    self.start += span.size;
                }
                Event::Subscription { add, topic } => {
                    let topic = input[topic].to_vec();
                    told.push(Told::Subscription { add, topic });
                }
            }
        }
    }

    /// The handshake is over: with CURVE, both directions are encrypted from now on.
    fn begin_coding(&mut self) {
        if let Some(coder) = self.session.take_coder() {
            self.raw = self.input.split_off(self.start);
            self.stage();
            self.coder = Some(coder);
        }
    }

    /// Decrypts received frames; returns false if no frame is whole.
    fn open_more(&mut self) -> bool {
        let Some(coder) = &mut self.coder else {
            return false;
        };
        let limits = &self.session.config().limits;
        let opened = coder.opener.open(&mut self.raw, limits);
        let opened = opened.expect("the broker encrypts as it should");
        self.input.extend_from_slice(&self.raw[..opened.plain]);
        self.raw.drain(..opened.consumed);
        opened.plain > 0
    }

    /// Moves queued bytes to the cable, and encrypts them with CURVE.
    fn stage(&mut self) {
        let Some(coder) = &mut self.coder else {
            return self.cable.append(&mut self.out);
        };
        let mut rest = &self.out[..];
        while let Some((header, size)) = front(rest) {
            let (frame, behind) = rest.split_at(size);
            let body = &frame[header..];
            let start = self.cable.len();
            let sealed_size = coder.sealer.sealed_size(body.len());
            self.cable.resize(start + sealed_size, 0);
            let sealed = coder
                .sealer
                .seal(frame[0] & !LONG, body, &mut self.cable[start..]);
            sealed.expect("few messages");
            rest = behind;
        }
        self.out.clear();
    }

    /// Sends the last queued frame, and then one that no peer with the right keys sends: the same
    /// again, an altered one, a plain one, or garbage.
    pub(crate) fn forge(&mut self, random: &mut Random) {
        let plain = self.out.clone();
        let mut at = self.cable.len();
        self.stage();
        // The last frame of those.
        while let Some((_, size)) =
            front(&self.cable[at..]).filter(|(_, it)| at + it < self.cable.len())
        {
            at += size;
        }
        let sealed = self.cable[at..].to_vec();
        match random.below(4) {
            0 => self.cable.extend(&sealed),
            1 => {
                // Behind its header and name: the nonce, the tag, or what is encrypted.
                let from = sealed.len().min(17);
                let index = at + from + random.below(sealed.len() - from);
                self.cable[index] ^= 1 << random.below(8);
            }
            2 => self.cable.extend(&plain),
            _ => {
                let size = 1 + random.below(300);
                let garbage = (0..size).map(|_| random.next().to_le_bytes()[0]);
                self.cable.extend(garbage);
            }
        }
    }

    /// Whether the bytes after the first `before` ones completed the broker's greeting, so that the
    /// peer sends the rest of its handshake.
    pub(crate) fn is_greeted(&self, before: usize) -> bool {
        let size = if self.is_v2 {
            GREETING_V2_SIZE
        } else {
            GREETING_SIZE
        };
        before < size && self.received >= size
    }

    /// Bytes received.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// Queues a message: `lead`, then the frames of `header`. It has PINGs between its frames if
    /// the peer knows PING and is nervous.
    pub(crate) fn send(
        &mut self,
        ctx: &mut Context,
        lead: &[Vec<u8>],
        header: &Header,
        pings: bool,
    ) {
        let mut frames = lead.to_vec();
        frames.extend(header.frames(ctx.style));
        self.send_frames(&mut ctx.random, &frames, pings);
    }

    pub(crate) fn send_frames(&mut self, random: &mut Random, frames: &[Vec<u8>], pings: bool) {
        for (index, frame) in frames.iter().enumerate() {
            if pings && random.chance(15) {
                self.ping(random);
            }
            append(&mut self.out, frame, index + 1 < frames.len(), random);
        }
        self.sent_messages += 1;
    }

    pub(crate) fn ping(&mut self, random: &mut Random) {
        if self.knows_ping {
            // No time-to-live, and a context of up to 16 bytes.
            let context = vec![0x70; random.below(17)];
            append_command(&mut self.out, "PING", &[&[0, 0], &context[..]].concat());
        }
    }

    /// Queues a subscription or cancel, in the form of the peer's version or in the older one.
    pub(crate) fn subscribe(&mut self, topic: &[u8], add: bool, older: bool) {
        let is_older = older || self.minor == 0;
        let version = if is_older {
            Version::V3_0
        } else {
            Version::V3_1
        };
        Peer::append_subscription(version, topic, add, &mut self.out);
    }

    /// Gives a sign of life if one is due; false if the broker has given none for too long.
    pub(crate) fn beat(&mut self, ctx: &Context) -> bool {
        let result = self.session.handle_timeout(ctx.instant(), &mut self.out);
        result.is_ok()
    }

    pub(crate) fn next_beat(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    /// Bytes queued and not yet written.
    pub(crate) fn pending(&self) -> usize {
        self.out.len() + self.cable.len() - self.cable_at
    }

    /// Writes until nothing is left or the kernel accepts no more; returns whether the connection
    /// holds.
    pub(crate) fn flush(&mut self, ctx: &mut Context) -> bool {
        self.stage();
        while self.pending() > 0 {
            let rest = [IoSlice::new(&self.cable[self.cable_at..])];
            match ctx.write(self.plug, &rest) {
                Written::Taken(size) => self.cable_at += size,
                Written::Blocked => return true,
                Written::Broken => return false,
            }
        }
        self.cable.clear();
        self.cable_at = 0;
        true
    }
}

/// The size of the header, and of the whole frame, at the front.
fn front(bytes: &[u8]) -> Option<(usize, usize)> {
    let (flags, size) = (*bytes.first()?, *bytes.get(1)?);
    if flags & LONG == 0 {
        return Some((2, 2 + usize::from(size)));
    }
    let size = u64::from_be_bytes(bytes[1..9].try_into().expect("eight bytes"));
    Some((9, 9 + usize::try_from(size).expect("it is there")))
}

/// The whole opening of a ZMTP 2.0 connection: signature, revision, socket type, identity.
fn v2_greeting(spec: &Spec) -> Vec<u8> {
    let mut out = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01".to_vec();
    out.push(spec.socket_type.octet());
    use zmtp::SocketType::{Dealer, Req, Router};
    let is_announced = matches!(spec.socket_type, Dealer | Req | Router);
    let identity = is_announced.then_some(&spec.identity[..]);
    append_frame(&mut out, identity.unwrap_or_default(), false);
    out
}

/// The bodies of the first frames of a message.
pub(crate) fn lead(message: &[u8], count: usize) -> Vec<Vec<u8>> {
    let frames = Frames::new(message).take(count);
    frames.map(|frame| frame.body.to_vec()).collect()
}
