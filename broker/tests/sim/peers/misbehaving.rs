//! Peers that violate the protocol, or abuse it.

use super::{Spec, Tools, Wish};
use crate::context::{Context, MILLISECOND, Nanos, SECOND};
use crate::message::{Header, Purpose, append};
use crate::net::{Plug, Received};
use crate::random::Random;
use zmtp::encode::append_command;
use zmtp::{LoopCommand, Probe, SocketType};

/// The behaviour of a misbehaving peer on each of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// A valid beginning, then random bytes.
    Garbage,
    /// A frame larger than the peer will ever send.
    Huge,
    /// A peer with the right keys that repeats, alters or omits encryption, or ends its handshake
    /// half-way.
    Forger,
    /// An identity that the broker may have generated for another peer.
    Identity,
    /// Loop commands, some of which end its own connection.
    Loops,
    /// A valid conversation with some of its bytes changed.
    Mutation,
    /// A greeting of ZMTP 1.0 or 2.0.
    Old,
    /// Nothing, or only a part of a handshake.
    Silence,
    /// A large message that it continues byte by byte and never ends.
    Stall,
    /// More, and longer, topics than allowed.
    Subscriptions,
    /// A socket type that does not match.
    Type,
}

impl Misbehaviour {
    pub(crate) const ALL: [Self; 10] = [
        Self::Garbage,
        Self::Huge,
        Self::Identity,
        Self::Loops,
        Self::Mutation,
        Self::Old,
        Self::Silence,
        Self::Stall,
        Self::Subscriptions,
        Self::Type,
    ];
}

#[derive(Debug)]
pub(crate) struct Misbehaving {
    kind: Misbehaviour,
    /// The time at which it ends this connection.
    leaves_at: Nanos,
    lives: u32,
    /// Reads before it reads no more; a forger that stops in its handshake has few.
    reads_left: u32,
    /// The time at which it sends one more byte.
    says_at: Nanos,
    /// Whether it reads.
    reads: bool,
}

impl Misbehaving {
    pub(crate) fn new(random: &mut Random, kind: Misbehaviour) -> Self {
        Self {
            leaves_at: 0,
            kind,
            lives: 1 + u32::try_from(random.below(5)).expect("small"),
            reads_left: u32::MAX,
            says_at: 0,
            reads: random.chance(80),
        }
    }

    pub(crate) fn comes_back(&mut self) -> bool {
        self.lives -= 1;
        self.lives > 0
    }

    /// Prepares all bytes that it will send on a new connection; `None` if it shakes hands as it
    /// should.
    pub(crate) fn connected(
        &mut self,
        ctx: &mut Context,
        spec: &Spec,
        sender: u32,
    ) -> Option<Vec<u8>> {
        self.leaves_at = ctx.now + ctx.random.range(MILLISECOND..=3 * SECOND);
        let random = &mut ctx.random;
        if self.kind == Misbehaviour::Forger {
            self.says_at = 0;
            self.reads_left = random.pick(&[1, 2, 3, u32::MAX, u32::MAX]);
            return None;
        }
        let mut out = Vec::new();
        if self.kind == Misbehaviour::Old {
            old_greeting(&mut out, random, spec.socket_type);
            return Some(out);
        }
        if self.kind != Misbehaviour::Silence || random.chance(70) {
            greeting(&mut out, spec.minor);
        }
        let socket_type = match self.kind {
            Misbehaviour::Type => random.pick(&SocketType::ALL),
            _ => spec.socket_type,
        };
        let identity = match self.kind {
            Misbehaviour::Identity => {
                let slot = u8::try_from(random.below(12)).expect("small");
                let generation = u8::try_from(random.below(3)).expect("small");
                vec![0, 0, 0, 0, slot, 0, 0, 0, generation]
            }
            _ => spec.identity.clone(),
        };
        let check = match self.kind {
            Misbehaviour::Loops => random.pick(&["on", "on", "on", "trial"]),
            _ => "",
        };
        ready(&mut out, socket_type, &identity, check);
        self.talk(ctx, (socket_type, sender), &mut out);
        let random = &mut ctx.random;
        if self.kind == Misbehaviour::Mutation {
            for _ in 0..1 + random.below(4) {
                let at = random.below(out.len());
                out[at] ^= 1 << random.below(8);
            }
        }
        Some(out)
    }

    /// The bytes after its part of the handshake.
    fn talk(
        &mut self,
        ctx: &mut Context,
        (socket_type, sender): (SocketType, u32),
        out: &mut Vec<u8>,
    ) {
        let (style, now) = (ctx.style, ctx.now);
        let random = &mut ctx.random;
        match self.kind {
            Misbehaviour::Garbage => {
                let keep = random.below(out.len() + 1);
                out.truncate(if random.chance(50) { out.len() } else { keep });
                let size = 1 + random.below(3000);
                out.extend((0..size).map(|_| random.next().to_le_bytes()[0]));
            }
            Misbehaviour::Huge => {
                out.push(2 | u8::from(random.chance(50)));
                let size = random.pick(&[200_000, 100 << 20, 1 << 40, i64::MAX as u64, u64::MAX]);
                out.extend(size.to_be_bytes());
                out.resize(out.len() + random.below(100_000), 0x77);
            }
            Misbehaviour::Loops => {
                if matches!(socket_type, SocketType::Sub | SocketType::Xsub) {
                    let count = random.pick(&[1, 20, 3000]);
                    for number in 0..count {
                        let topic = match number {
                            0 => Vec::new(),
                            _ => format!("a{}", number % 2500).into_bytes(),
                        };
                        append_command(out, "SUBSCRIBE", &topic);
                    }
                }
                for _ in 0..random.below(20) {
                    loop_command(random).append(out);
                }
            }
            Misbehaviour::Forger | Misbehaviour::Old => {}
            Misbehaviour::Stall => {
                out.push(2);
                let size = random.pick(&[70_000, 600_000, 100 << 20]);
                out.extend(u64::to_be_bytes(size));
                out.resize(out.len() + random.pick(&[0, 10, 60_000, 66_000]), 0x77);
                self.says_at = now + 50 * MILLISECOND;
            }
            Misbehaviour::Silence => {
                let keep = random.below(out.len());
                out.truncate(keep);
            }
            Misbehaviour::Subscriptions => {
                for _ in 0..random.below(60) {
                    let topic = vec![random.pick(b"abc"); random.below(80)];
                    append_command(out, "SUBSCRIBE", &topic);
                }
            }
            Misbehaviour::Identity | Misbehaviour::Mutation | Misbehaviour::Type => {
                for number in 0..random.range(0..=10) {
                    let number = u32::try_from(number).expect("small");
                    let header = Header::new(Purpose::Item, sender, number);
                    let mut frames = header.frames(style);
                    if random.chance(50) {
                        frames.insert(0, vec![0x61; random.below(3)]);
                    }
                    for (index, frame) in frames.iter().enumerate() {
                        append(out, frame, index + 1 < frames.len(), random);
                    }
                }
            }
        }
    }

    pub(crate) fn reads_at_all(&self, ctx: &Context) -> bool {
        self.reads || ctx.is_calm
    }

    /// Reads, or does not; returns whether the connection holds.
    pub(crate) fn reads(&self, ctx: &mut Context, plug: Plug) -> bool {
        if !self.reads_at_all(ctx) {
            return true;
        }
        !matches!(
            ctx.read(plug, &mut [0; 4096]),
            Received::Broken(_) | Received::End
        )
    }

    /// Whether it reads as peers do, but only so many times.
    pub(crate) fn reads_well(&mut self) -> bool {
        let reads = self.kind == Misbehaviour::Forger && self.reads_left > 0;
        self.reads_left = self.reads_left.saturating_sub(u32::from(reads));
        reads
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        let ctx = &mut *tools.ctx;
        if ctx.is_calm || ctx.now >= self.leaves_at {
            return Wish::Close;
        }
        if self.kind == Misbehaviour::Forger && tools.wire.is_ready && self.says_at == 0 {
            self.says_at = ctx.now;
            let header = Header::new(Purpose::Item, tools.wire.sender, 0);
            tools.wire.send(ctx, &[], &header, false);
            tools.wire.forge(&mut ctx.random);
            ctx.coverage.add("forged frames", 1);
        }
        let says_more = matches!(self.kind, Misbehaviour::Loops | Misbehaviour::Stall);
        if !says_more {
            return Wish::Turn(self.leaves_at);
        }
        if self.says_at <= ctx.now {
            if self.kind == Misbehaviour::Stall {
                tools.wire.say(b"x");
            } else {
                let mut said = Vec::new();
                loop_command(&mut ctx.random).append(&mut said);
                tools.wire.say(&said);
            }
            self.says_at = ctx.now + ctx.random.range(MILLISECOND..=100 * MILLISECOND);
        }
        Wish::Turn(self.says_at.min(self.leaves_at))
    }
}

/// A loop command; seldom one that reports a loop.
fn loop_command(random: &mut Random) -> LoopCommand {
    match random.below(30) {
        0 => LoopCommand::Loop,
        1..=10 => LoopCommand::Up,
        _ => LoopCommand::Probe(Probe {
            exit: 0,
            hops: random.next().to_le_bytes()[0],
            number: u128::from(random.next() % 50),
        }),
    }
}

fn greeting(out: &mut Vec<u8>, minor: u8) {
    out.extend(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03");
    out.push(minor);
    out.extend(b"NULL");
    out.resize(64, 0);
}

/// The beginning of a peer of ZMTP 1.0, or of 2.0 up to its identity.
fn old_greeting(out: &mut Vec<u8>, random: &mut Random, socket_type: SocketType) {
    if random.chance(50) {
        // The length of an identity of five bytes, as 2.0 writes it for 1.0, and flags.
        out.extend(b"\xff\0\0\0\0\0\0\0\x06\0first");
    } else {
        out.extend(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01");
        out.push(socket_type.octet());
        out.extend(b"\0\0");
    }
}

fn ready(out: &mut Vec<u8>, socket_type: SocketType, identity: &[u8], check: &str) {
    let mut data = Vec::new();
    let values = [
        (&b"Socket-Type"[..], socket_type.name().as_bytes()),
        (b"Identity", identity),
        (b"X-Zmqd-Loop-Check", check.as_bytes()),
    ];
    for (name, value) in values {
        data.push(u8::try_from(name.len()).expect("short"));
        data.extend_from_slice(name);
        data.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
        data.extend_from_slice(value);
    }
    append_command(out, "READY", &data);
}
