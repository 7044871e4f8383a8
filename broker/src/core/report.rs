//! Log lines about peers: one for each cause and address, then one sum a minute.
//!
//! A peer may reconnect thousands of times a second, with or without intent. The first report of a
//! cause from an address is a line of its own. Repetitions are counted, and a sum for each socket
//! follows once a minute. A cause that does not occur for a whole minute is forgotten, so that its
//! next case is a line again. The number of known causes and addresses is limited; for others only
//! the sum by cause is kept. With `-v` every report is a line.

use crate::config::SocketName;
use crate::conn::{Conn, Origin, Overflowing, Phase};
use crate::core::events::{Facts, Place, is_told};
use crate::core::timers::Owner;
use crate::core::turn::cost;
use crate::core::{Core, LinkId};
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::limits::{LINK_LINES_MAX, REPORT_INTERVAL, REPORTS_KEPT_MAX};
use crate::peer::{NamedPeer, PeerAddress};
use crate::proxy::Socket;
use crate::reason::{CloseReason, DropReason};
use crate::sort;
use log::Level;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use zmtp::Frames;
use zmtp::curve::PublicKey;

/// The end of a series of dropped messages.
pub(super) const ROOM_AGAIN: &str = "its queue had room again";

/// The subject of a report. Each subject has its own limit of known causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A connection that a peer made was closed.
    Closed,
    /// A connection that the broker made is up.
    Connected,
    /// A connection that the broker made was closed.
    Lost,
    /// Messages are dropped for lack of room.
    Overflow,
    /// The queue has room again, or the peer has left.
    Room,
    /// A ROUTER could not deliver a message.
    Undelivered,
}

impl Subject {
    const COUNT: usize = Self::Undelivered as usize + 1;
}

/// The source of a report's cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Any port of this address.
    Address(IpAddr),
    /// Several peers.
    Any,
    /// The link with this index.
    Link(LinkId),
    /// One peer.
    Peer(PeerAddress),
    /// Any process of this user.
    User(u32),
}

impl From<PeerAddress> for Source {
    fn from(peer: PeerAddress) -> Self {
        match peer {
            PeerAddress::Ipc { uid, .. } => Self::User(uid),
            PeerAddress::Tcp(address) => Self::Address(address.ip()),
            PeerAddress::DownLink | PeerAddress::Inproc | PeerAddress::Program => Self::Peer(peer),
        }
    }
}

/// The key by which reports count as repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) subject: Subject,
    pub(crate) side: SocketName,
    /// The label of the cause.
    pub(crate) label: &'static str,
    pub(crate) source: Source,
}

/// The state of one key.
#[derive(Debug)]
struct Entry {
    /// The next report is a line of its own.
    is_news: bool,
    /// There was a report since the last sum.
    is_recent: bool,
    /// Lines of its own since the last sum.
    lines: u32,
    /// Messages of reports that were only counted since the last sum.
    messages: u64,
    /// Reports that were only counted since the last sum.
    repeats: u64,
}

/// The reports of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    entries: BTreeMap<Key, Entry>,
    /// A timer for the next sum is set.
    is_timed: bool,
    /// The number of entries of each subject.
    kept: [usize; Subject::COUNT],
    /// Reports since the last sum that found no free entry, and their messages.
    unlisted: BTreeMap<(Subject, SocketName, &'static str), (u64, u64)>,
}

/// The reports of one subject and socket that were only counted since the last sum.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The number of reports by the label of their cause, the most frequent first.
    causes: Vec<(&'static str, u64)>,
    /// Some came from unknown sources.
    has_unlisted: bool,
    /// The number of messages in these reports.
    messages: u64,
    /// The source of most reports.
    main: Option<Source>,
    /// The number of other known sources.
    others: usize,
    side: SocketName,
    subject: Subject,
    /// The number of reports.
    total: u64,
}

impl Sum {
    /// The most frequent cause.
    fn main_cause(&self) -> &'static str {
        self.causes.first().map_or("", |(label, _)| label)
    }

    /// The number of messages that were dropped, or else of reports.
    fn count(&self) -> u64 {
        match self.subject {
            Subject::Room => self.messages,
            _ => self.total,
        }
    }
}

impl Reports {
    /// Notes a report about this number of messages: true if it is a line of its own.
    fn note(&mut self, key: Key, messages: u64) -> bool {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.is_recent = true;
            if std::mem::take(&mut entry.is_news) {
                entry.lines += 1;
                return true;
            }
            entry.repeats += 1;
            entry.messages += messages;
            return false;
        }
        let kept = &mut self.kept[key.subject as usize];
        if *kept == REPORTS_KEPT_MAX {
            let unlisted = (key.subject, key.side, key.label);
            let (count, sum) = self.unlisted.entry(unlisted).or_default();
            *count += 1;
            *sum += messages;
            return false;
        }
        *kept += 1;
        let entry = Entry {
            is_news: false,
            is_recent: true,
            lines: 1,
            messages: 0,
            repeats: 0,
        };
        self.entries.insert(key, entry);
        true
    }

    /// A link is up: its next event is a line again, unless it changes all the time.
    fn renew(&mut self, link: LinkId) {
        for (key, entry) in &mut self.entries {
            if key.source == Source::Link(link) {
                entry.is_news = entry.lines < LINK_LINES_MAX;
            }
        }
    }

    /// The cost of a sum, in entries.
    fn len(&self) -> usize {
        self.entries.len() + self.unlisted.len()
    }

    /// The reports that were only counted since the last sum. Forgets causes that did not occur
    /// since then.
    pub(crate) fn sum_up(&mut self) -> Vec<Sum> {
        let mut groups: BTreeMap<(Subject, SocketName), Group> = BTreeMap::new();
        for (key, entry) in &mut self.entries {
            entry.lines = 0;
            let repeats = std::mem::take(&mut entry.repeats);
            let messages = std::mem::take(&mut entry.messages);
            if repeats > 0 {
                let group = groups.entry((key.subject, key.side)).or_default();
                *group.causes.entry(key.label).or_default() += repeats;
                *group.sources.entry(key.source).or_default() += repeats;
                group.messages += messages;
            }
        }
        for ((subject, side, label), (count, messages)) in std::mem::take(&mut self.unlisted) {
            let group = groups.entry((subject, side)).or_default();
            *group.causes.entry(label).or_default() += count;
            group.has_unlisted = true;
            group.messages += messages;
        }
        let kept = &mut self.kept;
        self.entries.retain(|key, entry| {
            let stays = std::mem::take(&mut entry.is_recent);
            kept[key.subject as usize] -= usize::from(!stays);
            stays
        });
        let sums = groups.into_iter();
        sums.map(|(of, group)| group.sum(of)).collect()
    }
}

/// The parts of a [`Sum`].
#[derive(Default)]
struct Group {
    causes: BTreeMap<&'static str, u64>,
    has_unlisted: bool,
    messages: u64,
    sources: BTreeMap<Source, u64>,
}

impl Group {
    fn sum(self, (subject, side): (Subject, SocketName)) -> Sum {
        let mut causes: Vec<_> = self.causes.into_iter().collect();
        sort::by_key(&mut causes, |(_, count)| std::cmp::Reverse(*count));
        let main = self.sources.iter().rev().max_by_key(|(_, count)| **count);
        Sum {
            total: causes.iter().map(|(_, count)| *count).sum(),
            causes,
            has_unlisted: self.has_unlisted,
            messages: self.messages,
            main: main.map(|(source, _)| *source),
            others: self.sources.len().saturating_sub(1),
            side,
            subject,
        }
    }
}

impl Core {
    /// Notes a report; returns the level of its line.
    fn level_of_report(&mut self, id: SocketId, key: Key, messages: u64, news: Level) -> Level {
        let proxy = self.sockets[id].proxy;
        let reports = &mut self.proxies[proxy].reports;
        let is_news = reports.note(key, messages);
        if !std::mem::replace(&mut reports.is_timed, true) {
            let next = self.clock.now() + REPORT_INTERVAL;
            self.timers.insert(next, Owner::Reports(proxy));
        }
        if is_news {
            self.turn.charge(cost::LINE);
            return news;
        }
        Level::Debug
    }

    /// A minute is over: logs the reports that were only counted.
    pub(super) fn sum_up_reports(&mut self, proxy: ProxyId) {
        self.log_sums(proxy);
        let reports = &mut self.proxies[proxy].reports;
        reports.is_timed = !reports.entries.is_empty();
        if reports.is_timed {
            let next = self.clock.now() + REPORT_INTERVAL;
            self.timers.insert(next, Owner::Reports(proxy));
        }
    }

    /// Logs the reports that were only counted so far. Call this when the broker has stopped.
    pub fn finish_reports(&mut self) {
        for socket in self.sockets.handles() {
            self.log_missed(socket);
        }
        for proxy in self.proxies.handles() {
            self.log_sums(proxy);
        }
        self.sum_up_shed();
    }

    /// Logs how many messages had no room among the peers of a socket that stops.
    pub(super) fn log_missed(&mut self, id: SocketId) {
        if let Some(missed) = self.sockets[id].overflows_no_more() {
            let text = format!("dropped {} until the stop", counted(missed, "message"));
            let facts = Facts {
                count: Some(missed),
                ..Facts::default()
            };
            self.tell(Level::Info, Place::Socket(id), facts, &text);
        }
    }

    /// Logs what was only counted so far of one proxy.
    pub(super) fn log_sums(&mut self, proxy: ProxyId) {
        let reports = &mut self.proxies[proxy].reports;
        let entries = reports.len() as u64;
        let sums = reports.sum_up();
        let lines = sums.len() as u64;
        self.turn.charge(entries * cost::ENTRY + lines * cost::LINE);
        for sum in &sums {
            let total = |noun| more(sum.total, noun);
            let (source, causes) = (self.sources_of(sum), causes_of(sum));
            let (level, text) = match sum.subject {
                Subject::Closed => (
                    Level::Warn,
                    format!(
                        "closed {} from {source} in the last minute: {causes}",
                        total("peer")
                    ),
                ),
                Subject::Connected => (
                    Level::Info,
                    format!("connected {} to {source} in the last minute", total("time")),
                ),
                Subject::Lost => (
                    Level::Warn,
                    format!(
                        "lost {} to {source} in the last minute: {causes}",
                        total("connection")
                    ),
                ),
                Subject::Overflow => (
                    Level::Warn,
                    format!(
                        "began {} to drop messages for {source} in the last minute",
                        total("time")
                    ),
                ),
                Subject::Room => (
                    Level::Info,
                    format!(
                        "stopped {} to drop messages for {source} in the last minute: dropped {} \
                         until then",
                        total("time"),
                        counted(sum.messages, "message")
                    ),
                ),
                Subject::Undelivered => (
                    Level::Warn,
                    format!(
                        "did not deliver {} in the last minute: {causes}",
                        total("message")
                    ),
                ),
            };
            let facts = Facts {
                count: Some(sum.count()),
                peer: &source,
                reason: sum.main_cause(),
            };
            let place = self.proxies[proxy].socket(sum.side);
            self.tell(
                level,
                place.map_or(Place::Proxy(proxy), Place::Socket),
                facts,
                &text,
            );
        }
    }

    /// The sources of the reports of a sum.
    fn sources_of(&self, sum: &Sum) -> String {
        let others = match sum.subject {
            Subject::Closed => "addresses",
            Subject::Connected | Subject::Lost => "endpoints",
            Subject::Overflow | Subject::Room | Subject::Undelivered => "peers",
        };
        let Some(main) = sum.main else {
            return format!("other {others}");
        };
        let mut text = match main {
            Source::Address(address) => address.to_string(),
            Source::Any => "all peers".to_owned(),
            Source::Link(link) => match self.links.get(link) {
                Some(link) => link.connect.endpoint.to_string(),
                None => "an endpoint that was removed".to_owned(),
            },
            Source::Peer(peer) => peer.to_string(),
            Source::User(uid) => format!("uid {uid}"),
        };
        let more = match (sum.others, sum.has_unlisted) {
            (0, false) => return text,
            (0, true) => format!(" and other {others}"),
            (1, false) => " and 1 other".to_owned(),
            (count, false) => format!(" and {count} other {others}"),
            (count, true) => format!(" and more than {count} other {others}"),
        };
        text.push_str(&more);
        text
    }

    /// Logs why a connection was closed.
    pub(super) fn report_close(
        &mut self,
        id: SocketId,
        what: &Ended,
        why: &CloseReason,
        refused: Option<PublicKey>,
    ) {
        let side = self.sockets[id].name;
        let key = |subject, source| Key {
            subject,
            side,
            label: why.label(),
            source,
        };
        let peer = &what.peer;
        let Origin::Dialled(link) = what.origin else {
            let level = if why.is_notable() {
                let source = match why {
                    // The trouble is with the handler, whatever the peer.
                    CloseReason::Zap(refusal) if !refusal.is_decision() => Source::Any,
                    _ => peer.address.into(),
                };
                self.level_of_report(id, key(Subject::Closed, source), 0, Level::Warn)
            } else {
                Level::Debug
            };
            if !is_told(level) {
                return;
            }
            let mut text = format!("closed {peer}: {why}");
            if let Some(key) = refused {
                // Enough to find it in a list. Writing to a string cannot fail.
                let _ = write!(text, " (key {}…)", &key.to_string()[..8]);
            }
            let facts = Facts {
                count: None,
                peer: &peer.to_string(),
                reason: why.label(),
            };
            return self.tell(level, Place::Socket(id), facts, &text);
        };
        // A server that accepts connections and sends nothing is probably another program.
        let is_early =
            what.was_greeting && matches!(why, CloseReason::Io(_) | CloseReason::PeerClosed);
        let level = if is_early || why.is_notable() {
            let key = key(Subject::Lost, Source::Link(link));
            self.level_of_report(id, key, 0, Level::Warn)
        } else {
            Level::Debug
        };
        if !is_told(level) {
            return;
        }
        let target = self.target_of(link, peer.address);
        let text = match is_early {
            true => format!("lost {target} before its greeting: {why}"),
            false => format!("closed {target}: {why}"),
        };
        let facts = Facts {
            count: None,
            peer: &target,
            reason: why.label(),
        };
        self.tell(level, Place::Socket(id), facts, &text);
    }

    /// The endpoint of a link, and the address that it stands for.
    fn target_of(&self, link: LinkId, peer: PeerAddress) -> String {
        let (mut endpoint, peer) = (self.endpoint(link).to_string(), peer.to_string());
        if !endpoint.ends_with(&peer) {
            // Writing to a string cannot fail.
            let _ = write!(endpoint, " ({peer})");
        }
        endpoint
    }

    /// A peer was disconnected because its address may not connect.
    pub(super) fn report_rejected_address(&mut self, id: SocketId, peer: PeerAddress) {
        let accepted = Ended {
            origin: Origin::Accepted,
            peer: NamedPeer {
                address: peer,
                user: None,
            },
            was_greeting: true,
        };
        self.report_close(id, &accepted, &CloseReason::AddressRejected, None);
    }

    /// Logs that a link is up; its next event is a line again.
    pub(super) fn report_connected(&mut self, link: LinkId) {
        let id = self.links[link].socket;
        let Socket {
            name: side, proxy, ..
        } = self.sockets[id];
        self.proxies[proxy].reports.renew(link);
        let key = Key {
            subject: Subject::Connected,
            side,
            label: "connected",
            source: Source::Link(link),
        };
        let level = self.level_of_report(id, key, 0, Level::Info);
        if is_told(level) {
            let endpoint = self.endpoint(link).to_string();
            let text = format!("connected to {endpoint}");
            self.tell(level, Place::Socket(id), Facts::of(&endpoint), &text);
        }
    }

    /// The time for the peer's greeting on a connection that the broker made is over.
    pub(super) fn check_greeting(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let Origin::Dialled(index) = conn.origin else {
            return;
        };
        let link = &mut self.links[index];
        let is_late = conn.phase == Phase::Handshake && conn.session.is_greeting();
        if !is_late || std::mem::replace(&mut link.is_known_silent, true) {
            return;
        }
        let (place, peer) = (Place::Socket(conn.socket), conn.peer);
        let target = self.target_of(index, peer);
        let text =
            format!("connected to {target}, no greeting yet: is it the port of a ZeroMQ socket?");
        self.tell(Level::Warn, place, Facts::of(&target), &text);
    }

    /// Logs peers that began to miss messages, as many as the budget of the turn allows.
    pub(super) fn report_overflows(&mut self) {
        while !self.conns.overflowing.is_empty() && !self.turn.cuts() {
            match self.conns.overflowing.pop_front() {
                Some(Overflowing::Peer(id)) => self.report_overflow(id),
                Some(Overflowing::Socket(socket)) => self.report_overflow_of_all(socket),
                None => {}
            }
        }
    }

    fn report_overflow(&mut self, id: ConnId) {
        self.turn.charge(cost::ENTRY);
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (messages, bytes) = (conn.egress.messages(), conn.egress.bytes());
        let (id, source) = (conn.socket, self.address_of(conn));
        let key = overflow_key(Subject::Overflow, self.sockets[id].name, source_of(conn));
        let level = self.level_of_report(id, key, 0, Level::Warn);
        if !is_told(level) {
            return;
        }
        let text = format!(
            "dropping messages for {source}: its queue is full with {messages} messages of {bytes} \
             bytes (sndhwm, sndhwm_bytes)"
        );
        let facts = Facts {
            count: None,
            peer: &source,
            reason: key.label,
        };
        self.tell(level, Place::Socket(id), facts, &text);
    }

    fn report_overflow_of_all(&mut self, id: SocketId) {
        self.turn.charge(cost::ENTRY);
        let key = overflow_key(Subject::Overflow, self.sockets[id].name, Source::Any);
        let level = self.level_of_report(id, key, 0, Level::Warn);
        let text = "dropping messages: the queues of all peers are full (sndhwm, sndhwm_bytes)";
        let facts = Facts {
            reason: key.label,
            ..Facts::default()
        };
        self.tell(level, Place::Socket(id), facts, text);
    }

    /// The queue of a connection has room again, or the connection is closed: logs the number of
    /// dropped messages, if any.
    #[cold]
    pub(super) fn report_room(&mut self, id: ConnId, until: &str) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (missed, id) = (conn.traffic.misses_no_more(), conn.socket);
        if let Some(missed) = missed {
            let (source, peer) = (source_of(conn), conn.named());
            let peer = match conn.origin {
                Origin::Accepted => peer.to_string(),
                Origin::Dialled(link) => self.endpoint(link).to_string(),
            };
            let key = overflow_key(Subject::Room, self.sockets[id].name, source);
            let level = self.level_of_report(id, key, missed, Level::Info);
            if is_told(level) {
                let messages = counted(missed, "message");
                let text = format!("dropped {messages} for {peer} until {until}");
                let facts = Facts {
                    count: Some(missed),
                    peer: &peer,
                    reason: key.label,
                };
                self.tell(level, Place::Socket(id), facts, &text);
            }
        }
        let socket = &mut self.sockets[id];
        if until == ROOM_AGAIN
            && let Some(missed) = socket.overflows_no_more()
        {
            let key = overflow_key(Subject::Room, self.sockets[id].name, Source::Any);
            let level = self.level_of_report(id, key, missed, Level::Info);
            let text = format!(
                "dropped {} until a queue had room again",
                counted(missed, "message")
            );
            let facts = Facts {
                count: Some(missed),
                peer: "",
                reason: key.label,
            };
            self.tell(level, Place::Socket(id), facts, &text);
        }
    }

    /// Logs a message that a ROUTER could not deliver.
    pub(super) fn report_undelivered(&mut self, id: SocketId, reason: DropReason, wire: &[u8]) {
        let side = self.sockets[id].name;
        let label = reason.label();
        let key = Key {
            subject: Subject::Undelivered,
            side,
            label,
            source: Source::Any,
        };
        let level = self.level_of_report(id, key, 1, Level::Warn);
        if is_told(level) {
            let text = format!("not delivered, {label}: {}", Frames::new(wire));
            let facts = Facts {
                reason: label,
                ..Facts::default()
            };
            self.tell(level, Place::Socket(id), facts, &text);
        }
    }

    /// Logs that memory was freed because the limit was reached.
    pub(super) fn report_shed(&mut self, freed: u64) {
        let limit = self.memory.limit();
        if let Some(shed) = &mut self.memory.shed {
            shed.times += 1;
            shed.bytes += freed;
            return;
        }
        self.memory.shed = Some(Shed::default());
        let next = self.clock.now() + REPORT_INTERVAL;
        self.timers.insert(next, Owner::Shed);
        let text = format!(
            "the memory limit of {limit} bytes is reached: gave up {freed} bytes of the largest \
             queues and unfinished messages (memory_limit)"
        );
        self.tell(Level::Warn, Place::Broker, Facts::default(), &text);
    }

    /// A minute is over, or the broker has stopped: logs the memory freed since the last line.
    pub(super) fn sum_up_shed(&mut self) {
        let limit = self.memory.limit();
        let Some(Shed { bytes, times }) = self.memory.shed.take() else {
            return;
        };
        if times == 0 {
            return;
        }
        let text = format!(
            "the memory limit of {limit} bytes was reached {} in the last minute: gave up {bytes} \
             bytes (memory_limit)",
            more(times, "time")
        );
        self.tell(Level::Warn, Place::Broker, Facts::default(), &text);
        self.memory.shed = Some(Shed::default());
        let next = self.clock.now() + REPORT_INTERVAL;
        self.timers.insert(next, Owner::Shed);
    }
}

/// A connection that was closed.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    origin: Origin,
    peer: NamedPeer,
    /// The peer had not finished its greeting.
    was_greeting: bool,
}

impl Ended {
    pub(super) fn of(conn: &Conn) -> Self {
        Self {
            origin: conn.origin,
            peer: conn.named(),
            was_greeting: conn.phase == Phase::Handshake && conn.session.is_greeting(),
        }
    }
}

/// Memory freed since the last line about it.
#[derive(Debug, Default)]
pub(super) struct Shed {
    bytes: u64,
    times: u64,
}

/// A number of further cases.
fn more(count: u64, noun: &str) -> String {
    counted(count, &format!("more {noun}"))
}

/// A count with its noun.
fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Reports about a queue are the same if they have the same peer, not only the same address.
fn overflow_key(subject: Subject, side: SocketName, source: Source) -> Key {
    Key {
        subject,
        side,
        label: DropReason::PeerFull.label(),
        source,
    }
}

fn source_of(conn: &Conn) -> Source {
    match conn.origin {
        Origin::Accepted => Source::Peer(conn.peer),
        Origin::Dialled(link) => Source::Link(link),
    }
}

fn causes_of(sum: &Sum) -> String {
    let causes = sum.causes.iter();
    let causes: Vec<String> = causes
        .map(|(label, count)| format!("{label} ({count})"))
        .collect();
    causes.join(", ")
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
