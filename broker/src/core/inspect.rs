//! Questions to a control: JSON in, JSON out, about one proxy.
//!
//! A reply lists at most [`LIST_LEN_MAX`] things, so that no question holds the loop up; who wants
//! more asks again for what comes after.

use crate::config::{Config, SocketName};
use crate::conn::{Conn, Phase};
use crate::core::Core;
use crate::core::turn::cost;
use crate::ids::{ConnId, ProxyId};
use crate::pattern::Pattern;
use crate::peer::PeerAddress;
use crate::proxy::Socket;
use crate::stats::{SocketStats, TurnTimes};
use crate::why::{Drop, Why};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::time::Instant;
use zmtp::{Frames, is_hidden, show};

/// A question that a control answers.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry {
    /// What the answer is, in one line.
    pub doc: &'static str,
    /// The keys that a request may have beside `command`.
    pub keys: &'static [&'static str],
    /// The value of `command`.
    pub name: &'static str,
    answer: fn(&mut Core, &Asked<'_>) -> Result<Value, String>,
}

/// Most things listed in one reply.
pub const LIST_LEN_MAX: usize = 100;

/// Most closed peers remembered of one socket, if there are few sockets.
const CLOSED_LEN_MAX: usize = 1000;

/// Closed peers that are remembered of one socket, however many sockets there are.
const CLOSED_LEN_MIN: usize = 16;

/// Closed peers remembered of all sockets, which share the room: some MiB.
const CLOSED_TOTAL: usize = 1 << 14;

impl Inquiry {
    /// Every question, in alphabetical order.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "closed",
            keys: &["all", "limit"],
            doc: "The peers that were closed last, the latest first, and why; with all those of \
                  capture and control too",
            answer: Core::list_closed,
        },
        Self {
            name: "commands",
            keys: &[],
            doc: "These commands",
            answer: |_, _| Ok(list_commands()),
        },
        Self {
            name: "kick",
            keys: &["id", "address", "identity", "identity_hex"],
            doc: "Closes the peers with this id, address or identity, but never the asker",
            answer: Core::kick,
        },
        Self {
            name: "peers",
            keys: &["all", "side", "after", "limit"],
            doc: "The peers that are connected; with all those of capture and control too",
            answer: Core::list_peers,
        },
        Self {
            name: "statistics",
            keys: &[],
            doc: "The counters of each socket of the proxy",
            answer: Core::list_sockets,
        },
        Self {
            name: "subscriptions",
            keys: &["prefix", "prefix_hex", "after", "after_hex", "limit"],
            doc: "Topics under a prefix, and how many peers subscribe to each",
            answer: Core::list_subscriptions,
        },
        Self {
            name: "who",
            keys: &["topic", "topic_hex", "after", "limit"],
            doc: "The peers that would get a message with this topic",
            answer: Core::list_subscribers,
        },
    ];
}

/// A question and where it was asked.
struct Asked<'a> {
    /// The connection of the asker.
    by: ConnId,
    now: Instant,
    proxy: ProxyId,
    request: &'a Map<String, Value>,
}

/// A peer that is gone.
#[derive(Debug)]
pub(crate) struct Closed {
    at: Instant,
    id: ConnId,
    identity: Box<[u8]>,
    peer: PeerAddress,
    since: Instant,
    why: Why,
}

/// How many closed peers each socket of a proxy with a control remembers. Each has a list of its
/// own, so that a flood of peers at one erases nothing of the others.
pub(super) fn closed_len_max(config: &Config) -> usize {
    let proxies = config.proxies.iter();
    let asked = proxies.filter(|proxy| proxy.control.socket.has_endpoint());
    let sockets = SocketName::ALL.len() * asked.count().max(1);
    (CLOSED_TOTAL / sockets).clamp(CLOSED_LEN_MIN, CLOSED_LEN_MAX)
}

impl Asked<'_> {
    fn flag(&self, key: &str) -> Result<bool, String> {
        match self.request.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{key}: write true or false")),
        }
    }

    /// Whether a side is listed of which nothing is said: capture and control only with `all`.
    fn lists(&self) -> Result<impl Fn(SocketName) -> bool + use<>, String> {
        let all = self.flag("all")?;
        Ok(move |side: SocketName| all || side.side().is_some())
    }

    fn text(&self, key: &str) -> Result<Option<&str>, String> {
        match self.request.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{key}: write a text")),
        }
    }

    /// Bytes as text, or in hexadecimal digits under the key with `_hex` behind it.
    fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let hex_key = format!("{key}_hex");
        match (self.text(key)?, self.text(&hex_key)?) {
            (Some(_), Some(_)) => Err(format!("write {key} or {hex_key}")),
            (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
            (None, Some(text)) => from_hex(text)
                .map(Some)
                .ok_or_else(|| format!("{hex_key}: write two hexadecimal digits for each byte")),
            (None, None) => Ok(None),
        }
    }

    fn limit(&self) -> Result<usize, String> {
        let complaint = || format!("limit: write a whole number from 1 to {LIST_LEN_MAX}");
        let Some(value) = self.request.get("limit") else {
            return Ok(LIST_LEN_MAX);
        };
        let limit = value.as_u64().and_then(|limit| usize::try_from(limit).ok());
        limit
            .filter(|limit| (1..=LIST_LEN_MAX).contains(limit))
            .ok_or_else(complaint)
    }

    /// The id in `after`: only peers behind it are wanted.
    fn after(&self) -> Result<Option<ConnId>, String> {
        let complaint = || "after: write the id of a peer".to_owned();
        self.text("after")?
            .map(|text| text.parse().map_err(|()| complaint()))
            .transpose()
    }
}

impl Core {
    /// Remembers a peer that is being closed, if a control can ask for it. One that asked or
    /// watched, and left as it should, is not worth it.
    pub(super) fn remember_closed(&mut self, now: Instant, id: ConnId, why: Why) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let socket = &mut self.sockets[conn.socket];
        let is_auxiliary = socket.across.is_none();
        if self.proxies[conn.proxy].control.is_none() || is_auxiliary && !why.is_notable() {
            return;
        }
        socket.closed.truncate(self.closed_len_max - 1);
        socket.closed.push_front(Closed {
            at: now,
            id,
            identity: identity(conn).into(),
            peer: conn.peer,
            since: conn.traffic.since,
            why,
        });
    }

    /// Answers a request in JSON; what is wrong with it is in the answer.
    /// `by` is the connection of the asker.
    pub(crate) fn inquire(
        &mut self,
        now: Instant,
        by: ConnId,
        proxy: ProxyId,
        request: &[u8],
    ) -> Vec<u8> {
        let answer = match serde_json::from_slice::<Value>(request) {
            Err(error) => Err(format!("invalid JSON: {}", show(&error.to_string()))),
            Ok(Value::Object(request)) => self.inquire_object(&Asked {
                by,
                now,
                proxy,
                request: &request,
            }),
            Ok(_) => Err("write an object: {\"command\": \"peers\"}".to_owned()),
        };
        let answer = answer.unwrap_or_else(|sentence| json!({ "error": sentence }));
        answer.to_string().into_bytes()
    }

    fn inquire_object(&mut self, asked: &Asked<'_>) -> Result<Value, String> {
        let request = asked.request;
        let names = || Inquiry::ALL.iter().map(|inquiry| inquiry.name);
        let choice = || names().collect::<Vec<_>>().join(", ");
        let Some(Value::String(name)) = request.get("command") else {
            return Err(format!("command: write one of {}", choice()));
        };
        let known = Inquiry::ALL.iter().find(|inquiry| inquiry.name == name);
        let inquiry = known.ok_or_else(|| {
            format!(
                "unknown command \"{}\": write one of {}",
                show(name),
                choice()
            )
        })?;
        let is_known = |key: &&String| *key == "command" || inquiry.keys.contains(&key.as_str());
        if let Some(key) = request.keys().find(|key| !is_known(key)) {
            let keys = inquiry.keys.join(", ");
            let key = show(key);
            return Err(format!("{name} has no key \"{key}\": its keys are {keys}"));
        }
        // Most answers look at every connection.
        self.turn.charge(self.conns.len() as u64 * cost::WALK);
        (inquiry.answer)(self, asked)
    }

    fn list_closed(&mut self, asked: &Asked<'_>) -> Result<Value, String> {
        let lists = asked.lists()?;
        let sockets = self.proxies[asked.proxy].sockets();
        let sockets = sockets.map(|id| &self.sockets[id]);
        let mut here: Vec<(SocketName, &Closed)> = sockets
            .filter(|socket| lists(socket.name))
            .flat_map(|socket| socket.closed.iter().map(|closed| (socket.name, closed)))
            .collect();
        // Stable: peers closed at the same moment stay in the order of their list.
        here.sort_by_key(|(_, closed)| Reverse(closed.at));
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let list: Vec<Value> = here
            .into_iter()
            .take(asked.limit()?)
            .map(|(side, entry)| {
                let mut object = json!({
                    "address": entry.peer.to_string(),
                    "detail": entry.why.to_string(),
                    "id": entry.id.to_string(),
                    "lasted_seconds": seconds(entry.since, entry.at),
                    "reason": entry.why.label(),
                    "seconds_ago": seconds(entry.at, asked.now),
                    "side": side.name(),
                });
                put_bytes(&mut object, "identity", &entry.identity);
                object
            })
            .collect();
        Ok(json!({ "closed": list }))
    }

    fn kick(&mut self, asked: &Asked<'_>) -> Result<Value, String> {
        let (id, address) = (asked.text("id")?, asked.text("address")?);
        let name = asked.bytes("identity")?;
        if [id.is_some(), address.is_some(), name.is_some()] == [false; 3] {
            return Err("name a peer: write id, address or identity".to_owned());
        }
        if name.as_ref().is_some_and(Vec::is_empty) {
            return Err(KICK_NAMELESS.to_owned());
        }
        let is_meant = |conn_id: ConnId, conn: &Conn| {
            id.is_none_or(|id| conn_id.to_string() == id)
                && address.is_none_or(|address| conn.peer.to_string() == address)
                && name.as_deref().is_none_or(|name| identity(conn) == name)
        };
        let mut kicked: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(id, conn)| conn.proxy == asked.proxy && is_there(conn) && is_meant(*id, conn))
            .map(|(id, _)| id)
            .collect();
        match kicked[..] {
            [] => return Err(KICK_NOBODY.to_owned()),
            [id] if id == asked.by => return Err(KICK_ASKER.to_owned()),
            _ => kicked.retain(|id| *id != asked.by),
        }
        for id in &kicked {
            self.close_later(*id, Why::Kicked);
        }
        let kicked: Vec<String> = kicked.iter().map(ConnId::to_string).collect();
        Ok(json!({ "kicked": kicked }))
    }

    fn list_peers(&mut self, asked: &Asked<'_>) -> Result<Value, String> {
        let wanted = match asked.text("side")? {
            None => None,
            Some(name) => {
                let side = SocketName::ALL.into_iter().find(|side| side.name() == name);
                let names = SocketName::ALL.map(SocketName::name).join(", ");
                Some(side.ok_or_else(|| format!("side: write one of {names}"))?)
            }
        };
        let (after, limit, lists) = (asked.after()?, asked.limit()?, asked.lists()?);
        let here = |(_, conn): &(ConnId, &Conn)| {
            let side = self.sockets[conn.socket].name;
            conn.proxy == asked.proxy
                && is_there(conn)
                && wanted.map_or_else(|| lists(side), |wanted| wanted == side)
        };
        let (mut total, mut list) = (0, Vec::new());
        // Connections stand in the order of their slots.
        for (id, conn) in self.conns.iter().filter(here) {
            total += 1;
            if list.len() < limit && after.is_none_or(|after| id.slot > after.slot) {
                list.push(self.describe(asked.now, id, conn));
            }
        }
        Ok(json!({ "peers": list, "total": total }))
    }

    fn list_sockets(&mut self, asked: &Asked<'_>) -> Result<Value, String> {
        let proxy = &self.proxies[asked.proxy];
        let snapshots = self.statistics();
        let here = snapshots.iter().filter(|found| found.proxy == proxy.name);
        let list: Vec<Value> = here
            .map(|found| {
                let mut object = describe_counters(&found.counters);
                object["peers"] = json!(found.peers);
                object["queued_bytes"] = json!(found.queued_bytes);
                object["queued_messages"] = json!(found.queued_messages);
                object["side"] = json!(found.socket.name());
                let socket = proxy.socket(found.socket).map(|id| &self.sockets[id]);
                object["socket"] = json!(socket.map(|it| it.session.socket_type.name()));
                object["topics"] = json!(found.topics);
                object["waiting"] = json!(found.waiting);
                object
            })
            .collect();
        let record = proxy.observers.recording.tape().map(|tape| {
            let statistics = tape.statistics();
            json!({
                "bytes": statistics.bytes,
                "failing": statistics.is_failing,
                "lost_messages": statistics.lost_messages,
                "messages": statistics.messages,
            })
        });
        Ok(json!({
            "memory_in_use": self.memory_in_use(),
            "paused": proxy.is_paused,
            "proxy": proxy.name,
            "record": record,
            "sockets": list,
            "turns": describe_turns(self.turn_times()),
            "uptime_seconds": self.clock.uptime().as_secs_f64(),
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    fn list_subscriptions(&mut self, asked: &Asked<'_>) -> Result<Value, String> {
        let (prefix, limit) = (asked.bytes("prefix")?.unwrap_or_default(), asked.limit()?);
        let after = asked.bytes("after")?;
        // The first topic that can come behind another is that one and a zero.
        let first = after.map(|after| [&after[..], &[0]].concat());
        let first = first.unwrap_or_default().max(prefix.clone());
        let proxy = &self.proxies[asked.proxy];
        let (mut list, mut has_xpub, mut has_more) = (Vec::new(), false, false);
        for id in proxy.sides() {
            let Socket { name, pattern, .. } = &self.sockets[id];
            let Pattern::Xpub(xpub) = pattern else {
                continue;
            };
            has_xpub = true;
            xpub.for_each_topic_from(&first, |topic, peers| {
                if !topic.starts_with(&prefix) {
                    return ControlFlow::Break(());
                }
                if list.len() == limit {
                    has_more = true;
                    return ControlFlow::Break(());
                }
                let mut object = json!({ "peers": peers, "side": name.name() });
                put_bytes(&mut object, "topic", topic);
                list.push(object);
                ControlFlow::Continue(())
            });
        }
        if !has_xpub {
            return Err(NO_XPUB.to_owned());
        }
        Ok(json!({ "subscriptions": list, "more": has_more }))
    }

    fn list_subscribers(&mut self, asked: &Asked<'_>) -> Result<Value, String> {
        let complaint = || "topic: write the first frame of a message".to_owned();
        let topic = asked.bytes("topic")?.ok_or_else(complaint)?;
        let (after, limit) = (asked.after()?, asked.limit()?);
        let (mut found, mut has_xpub) = (Vec::new(), false);
        for id in self.proxies[asked.proxy].sides() {
            let socket = &mut self.sockets[id];
            if let Pattern::Xpub(xpub) = &mut socket.pattern {
                has_xpub = true;
                let mut targets = Vec::new();
                xpub.find(&topic);
                xpub.found(&self.conns, &socket.options, &mut targets);
                found.append(&mut targets);
            }
        }
        if !has_xpub {
            return Err(NO_XPUB.to_owned());
        }
        found.sort_unstable_by_key(|id| id.slot);
        let total = found.len();
        let list: Vec<Value> = found
            .into_iter()
            .filter(|id| after.is_none_or(|after| id.slot > after.slot))
            .take(limit)
            .filter_map(|id| Some(self.describe(asked.now, id, self.conns.get(id)?)))
            .collect();
        Ok(json!({ "peers": list, "total": total }))
    }

    fn describe(&self, now: Instant, id: ConnId, conn: &Conn) -> Value {
        let socket = &self.sockets[conn.socket];
        let subscriptions = match &socket.pattern {
            Pattern::Xpub(xpub) => xpub.subscriptions_of(id),
            _ => 0,
        };
        let is_ready = conn.phase == Phase::Ready;
        let traffic = &conn.traffic;
        let mut object = json!({
            "address": conn.peer.to_string(),
            "age_seconds": now.saturating_duration_since(traffic.since).as_secs_f64(),
            "bytes_received": traffic.bytes_received,
            "bytes_sent": traffic.bytes_sent,
            "dropped": describe_drops(&traffic.drops()),
            "endpoint": self.endpoint_of(conn).map(ToString::to_string),
            "id": id.to_string(),
            "mechanism": is_ready.then_some("NULL"),
            "messages_received": traffic.messages_received,
            "messages_sent": traffic.messages_sent,
            "parked": conn.is_suspended,
            "phase": if is_ready { "ready" } else { "handshake" },
            "queued_bytes": conn.egress.bytes(),
            "queued_messages": conn.egress.messages(),
            "side": socket.name.name(),
            "socket": traffic.socket_type.map(zmtp::SocketType::name),
            "subscriptions": subscriptions,
            "user": Value::Null,
            "version": is_ready.then(|| conn.version.to_string()),
        });
        put_bytes(&mut object, "identity", identity(conn));
        object
    }
}

const KICK_ASKER: &str = "this is the connection that the command came by: close it yourself";

const KICK_NAMELESS: &str =
    "identity: an empty one is that of every peer without a name: write id or address";

const KICK_NOBODY: &str = "no peer of this proxy matches: the command \"peers\" lists them";

const NO_XPUB: &str = "this proxy has no subscriptions: it has no XPUB and no PUB socket";

fn list_commands() -> Value {
    let commands: Vec<Value> = Inquiry::ALL
        .iter()
        .map(
            |Inquiry {
                 doc, keys, name, ..
             }| json!({ "doc": doc, "keys": keys, "name": name }),
        )
        .collect();
    json!({ "commands": commands })
}

fn describe_counters(stats: &SocketStats) -> Value {
    let closed = stats.closed.iter();
    let closed: Map<String, Value> = closed
        .map(|(label, count)| ((*label).to_owned(), json!(count)))
        .collect();
    json!({
        "bytes_received": stats.bytes_in,
        "bytes_sent": stats.bytes_out,
        "closed": closed,
        "dropped": describe_drops(&stats.drops),
        "messages_received": stats.messages_in,
        "messages_sent": stats.messages_out,
        "peers_attached": stats.peers_attached,
        "requeued": stats.requeued,
    })
}

/// How long turns took, without the buckets that are empty.
fn describe_turns(times: &TurnTimes) -> Value {
    let buckets = times.buckets.iter().enumerate();
    let buckets: Vec<Value> = buckets
        .filter(|(_, count)| **count > 0)
        .map(|(index, count)| {
            let below = TurnTimes::bound(index).map(|bound| bound.as_secs_f64());
            json!({ "below_seconds": below, "count": count })
        })
        .collect();
    json!({
        "buckets": buckets,
        "count": times.count(),
        "cut_short": times.cut_short,
        "longest_seconds": times.longest.as_secs_f64(),
    })
}

/// Only reasons that there were.
fn describe_drops(drops: &[u64; Drop::ALL.len()]) -> Value {
    let counted = Drop::ALL.iter().zip(drops).filter(|(_, count)| **count > 0);
    let object: Map<String, Value> = counted
        .map(|(reason, count)| (reason.label().to_owned(), json!(count)))
        .collect();
    Value::Object(object)
}

/// Whether somebody is connected, and not about to be closed.
fn is_there(conn: &Conn) -> bool {
    !conn.is_down_link_queue()
}

/// The identity by which a ROUTER knows a peer; empty if it has none.
fn identity(conn: &Conn) -> &[u8] {
    let frame = Frames::new(&conn.identity_frame).next();
    frame.map_or(&[], |frame| frame.body)
}

/// Puts bytes under `key` if they are a printable text, or else under the key with `_hex` behind it
/// in hexadecimal digits.
fn put_bytes(object: &mut Value, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_hidden) => object[key] = json!(text),
        _ => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object[format!("{key}_hex")] = json!(digits);
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok())
        .collect()
}
