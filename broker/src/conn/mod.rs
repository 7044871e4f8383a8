//! One connection: its session, its received bytes, its queue.

use crate::config::SocketOptions;
use crate::conn::backlog::Backlog;
use crate::conn::liveness::Liveness;
use crate::core::authorize::{Asked, Decision};
use crate::core::names::Contest;
use crate::ids::{LinkId, ProxyId, SocketId};
use crate::peer::{NamedPeer, PeerAddress};
use crate::permit::Permit;
use crate::proxy::loop_peers::LoopPeer;
use crate::reason::CloseReason;
use std::sync::Arc;
use std::time::Instant;
use zmtp::curve::PublicKey;
use zmtp::limits::SIGNATURE_SIZE;
use zmtp::{Authorization, Opener, Session, Version};

pub(crate) mod backlog;
pub(crate) mod closing;
pub(crate) mod egress;
pub(crate) mod input;
pub(crate) mod line;
pub(crate) mod liveness;
pub(crate) mod outbox;
pub(crate) mod rota;
pub(crate) mod table;
pub(crate) mod traffic;

pub use egress::{Egress, SLICES_MAX};
pub use input::Input;
pub(crate) use table::{ConnTable, Overflowing};
use traffic::Traffic;

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A peer connected to one of our endpoints.
    Accepted,
    /// We connected; the link with this id is told when the connection ends.
    Dialled(LinkId),
}

/// The distance of a queue from its high-water marks: it accepts a message while neither figure is
/// zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    bytes: u64,
    messages: u32,
}

impl Room {
    /// Room without a limit, as for messages without a receiver.
    pub(crate) const UNLIMITED: Self = Self {
        bytes: u64::MAX,
        messages: u32::MAX,
    };

    /// Room for this number of messages and bytes.
    pub(crate) fn of(messages: u64, bytes: u64) -> Self {
        Self {
            bytes,
            messages: u32::try_from(messages).unwrap_or(u32::MAX),
        }
    }

    /// The room that both have.
    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            messages: self.messages.min(other.messages),
        }
    }

    /// The room left after this number of messages and bytes.
    pub(crate) fn behind(self, messages: u32, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(bytes as u64),
            messages: self.messages.saturating_sub(messages),
        }
    }

    /// Whether there is room for a message, whose size may exceed the bytes.
    #[inline]
    pub(crate) fn is_any(self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    /// Takes room for a message, if there is room.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let has_room = self.is_any();
        if has_room {
            *self = self.behind(1, bytes);
        }
        has_room
    }
}

/// The phase of an open connection. Closing connections have a type of their own:
/// [`closing::Closing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Greeting and handshake.
    Handshake,
    /// Attached to its socket: messages pass.
    Ready,
}

/// How long a queue has been full.
#[derive(Debug, Default)]
pub(crate) struct Fullness {
    /// A timer is set to check it.
    pub(crate) is_watched: bool,
    /// The number of messages that its peer had missed because of it at the last check.
    pub(crate) missed_before: u64,
    /// The time since which every check has found it full.
    pub(crate) since: Option<Instant>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The turn in which its last question was answered; only on a control.
    pub(crate) answered_in: u64,
    /// The count of its tail while it is suspended.
    pub(crate) backlog: Backlog,
    /// Another peer has the identity that it announced; it waits until that peer answers or times
    /// out.
    pub(crate) contest: Option<Box<Contest>>,
    /// Whether it may come in, if that has to be decided and its session has not heard of it yet.
    pub(crate) decision: Option<Box<Decision>>,
    /// The public key that it has proved to own, if its mechanism is CURVE and our side the server.
    pub(crate) key: Option<Box<PublicKey>>,
    /// Whether the peer may be silent because it has much to read.
    pub(crate) liveness: Liveness,
    pub(crate) egress: Egress,
    /// How long its queue has been full; only if that matters, which is rare.
    pub(crate) fullness: Option<Box<Fullness>>,
    /// The frame that a ROUTER puts in front of this peer's messages: its identity, with MORE.
    pub(crate) identity_frame: Box<[u8]>,
    /// The kernel accepted fewer bytes than offered; nothing more is offered before it reports
    /// room.
    pub(crate) is_blocked: bool,
    /// Received messages stay in its tail because the turn ended.
    pub(crate) is_cut: bool,
    /// Waits to be flushed at the end of the turn.
    pub(crate) is_dirty: bool,
    /// It will be closed soon, and is not read any more.
    pub(crate) closes_later: bool,
    /// Its next message waits for a receiver with room; it is read only as long as its backlog has
    /// room.
    pub(crate) is_suspended: bool,
    /// Waits to be read from.
    pub(crate) is_read_later: bool,
    /// Its queue has a run of the current input.
    pub(crate) is_touched: bool,
    /// It must be written before the current input is handled further.
    pub(crate) is_urgent: bool,
    /// The number of bytes that its tail must have before it can be handled.
    pub(crate) need: usize,
    /// The peer is a broker that looks for loops.
    pub(crate) loop_peer: Option<Box<LoopPeer>>,
    /// Turns received bytes into plain ZMTP, where the mechanism protects traffic.
    pub(crate) opener: Option<Box<Opener>>,
    pub(crate) origin: Origin,
    pub(crate) peer: PeerAddress,
    /// What the role of its user permits, if that has one.
    pub(crate) permit: Option<Box<Permit>>,
    pub(crate) phase: Phase,
    pub(crate) proxy: ProxyId,
    /// Its place in the line of suspended connections.
    pub(crate) place: Option<u64>,
    /// The time of its session's earliest timer.
    pub(crate) reminder: Option<Instant>,
    pub(crate) session: Session,
    pub(crate) socket: SocketId,
    /// Bytes received and not handled.
    pub(crate) tail: Input,
    /// The memory charged for its tail.
    pub(crate) tail_memory: u64,
    pub(crate) traffic: Traffic,
    /// Its place among the peers of its socket.
    pub(crate) turn: u32,
    /// The name under which it was let in, if it has one.
    pub(crate) user: Option<Arc<str>>,
    /// The peer's version, once it is attached.
    pub(crate) version: Version,
}

impl Conn {
    pub(crate) fn new(
        now: Instant,
        session: Session,
        (proxy, socket): (ProxyId, SocketId),
        peer: PeerAddress,
        origin: Origin,
    ) -> Self {
        Self {
            answered_in: 0,
            backlog: Backlog::default(),
            contest: None,
            decision: None,
            key: None,
            liveness: Liveness::default(),
            egress: Egress::default(),
            fullness: None,
            identity_frame: Box::default(),
            is_blocked: false,
            is_cut: false,
            is_dirty: false,
            closes_later: false,
            is_suspended: false,
            is_read_later: false,
            is_touched: false,
            is_urgent: false,
            need: 0,
            loop_peer: None,
            opener: None,
            origin,
            peer,
            permit: None,
            phase: Phase::Handshake,
            proxy,
            place: None,
            reminder: None,
            session,
            socket,
            tail: Input::default(),
            tail_memory: 0,
            traffic: Traffic::new(now),
            turn: 0,
            user: None,
            version: Version::V3_0,
        }
    }

    /// Whether it is only the queue of a link that is down.
    pub(crate) fn is_down_link_queue(&self) -> bool {
        self.peer == PeerAddress::DownLink
    }

    /// Takes the decision about the peer, if it was made.
    #[inline]
    pub(crate) fn take_decision(&mut self) -> Option<Authorization> {
        let made = self
            .decision
            .take_if(|decision| matches!(**decision, Decision::Made(_)))?;
        match *made {
            Decision::Made(authorization) => Some(authorization),
            Decision::Asked(_)
            | Decision::Awaited(_)
            | Decision::Refused(_)
            | Decision::Unchecked(_) => None,
        }
    }

    /// The request to a ZAP handler whose answer its handshake waits for.
    pub(crate) fn asked(&self) -> Option<&Asked> {
        match self.decision.as_deref() {
            Some(Decision::Asked(asked)) => Some(asked),
            _ => None,
        }
    }

    /// The reason for which its peer was refused: it is not read, and will be closed.
    pub(crate) fn refusal(&self) -> Option<CloseReason> {
        match self.decision.as_deref() {
            Some(Decision::Refused(why)) => Some(*why),
            _ => None,
        }
    }

    /// Whether the role of its user limits the topics of the messages that it may send.
    #[inline]
    pub(crate) fn limits_topics(&self) -> bool {
        let permit = self.permit.as_ref();
        permit.is_some_and(|permit| permit.limits_topics())
    }

    /// Whether it is not read until its user may send again.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.is_paused)
    }

    /// Its peer as the log names it: by address, and user if known.
    pub(crate) fn named(&self) -> NamedPeer {
        NamedPeer {
            address: self.peer,
            user: self.user.clone(),
        }
    }

    /// Whether its handshake waits for a decision.
    pub(crate) fn is_undecided(&self) -> bool {
        self.asked().is_some() || self.waits_for_program() || self.has_unchecked_password()
    }

    /// Whether its password waits to be compared.
    pub(crate) fn has_unchecked_password(&self) -> bool {
        matches!(self.decision.as_deref(), Some(Decision::Unchecked(_)))
    }

    /// Whether the embedding program is to decide about its peer.
    pub(crate) fn waits_for_program(&self) -> bool {
        matches!(self.decision.as_deref(), Some(Decision::Awaited(_)))
    }

    /// Whether its peer has closed it, and its last messages wait.
    pub(crate) fn has_left(&self) -> bool {
        self.is_suspended && self.backlog.is_closed()
    }

    /// Whether it has sent only the beginning of a greeting.
    pub(crate) fn has_signature_only(&self) -> bool {
        let tail = self.tail.bytes();
        self.phase == Phase::Handshake && tail.len() >= SIGNATURE_SIZE && tail[0] == 0xff
    }

    /// Bytes sent to it, or queued for it, without those that sealing adds: they do not change when
    /// a queue is sealed.
    pub(crate) fn bytes_meant_for_it(&self) -> u64 {
        self.traffic.bytes_sent + self.egress.bytes() - self.egress.sealing_growth()
    }

    /// Whether its queue has reached a high-water mark, or `size_max` bytes, the limit for lack of
    /// memory: [`ConnTable::queue_size_max`].
    #[inline]
    pub(crate) fn is_at_high_water(&self, options: &SocketOptions, size_max: u64) -> bool {
        let is_at_messages = options.sndhwm != 0 && self.egress.messages() >= options.sndhwm;
        is_at_messages || self.egress.bytes() >= options.sndhwm_bytes.min(size_max)
    }

    /// The distance of its queue from its high-water marks, and from `size_max` bytes.
    pub(crate) fn room(&self, options: &SocketOptions, size_max: u64) -> Room {
        let messages_max = match options.sndhwm {
            0 => u32::MAX,
            messages => messages,
        };
        Room {
            bytes: options
                .sndhwm_bytes
                .min(size_max)
                .saturating_sub(self.egress.bytes()),
            messages: messages_max.saturating_sub(self.egress.messages()),
        }
    }

    /// Whether its queue has drained enough to be filled again: libzmq's low-water mark, half of
    /// the high one.
    pub(crate) fn is_at_low_water(&self, options: &SocketOptions) -> bool {
        let messages_low = options.sndhwm.div_ceil(2);
        (options.sndhwm == 0 || self.egress.messages() < messages_low.max(1))
            && self.egress.bytes() <= options.sndhwm_bytes / 2
    }
}
