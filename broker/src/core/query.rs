//! JSON for the control socket: parses a request, asks [`Admin`], and renders the view.

use crate::config::{ProxyConfig, SocketConfig, SocketName};
use crate::core::reload::Reloaded;
use crate::core::{Admin, AdminError, Bound, Core};
use crate::ids::{ConnId, ProxyId};
use crate::reason::DropReason;
use crate::record;
use crate::stats::TurnTimes;
use crate::view::{
    BrokerView, CacheView, ClosedPeerView, EventView, PAGE_LEN_MAX, Page, PageQuery, PeerFilter,
    PeerView, ProxyView, ReplayView, SampleView, SocketView, TopicView, WatchView,
};
use serde_json::{Map, Value, json};
use zmtp::{is_hidden, show};

/// A question or command in JSON that a control answers.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The answer, in one line.
    pub doc: &'static str,
    /// The keys that a request may have besides `command`.
    pub keys: &'static [&'static str],
    /// The value of `command`.
    pub name: &'static str,
    /// What it concerns.
    about: About,
    way: Way,
}

/// What a request to the control of the broker concerns; one to the control of a proxy concerns
/// that proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// All proxies, or the one that the key `proxy` names.
    All,
    /// The broker: such a request may not name a proxy.
    Broker,
    /// The proxy that the key `proxy` names, or the only one.
    One,
}

/// The way to an answer.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It is known at once.
    Now(fn(&mut Admin<'_>, &Request<'_>) -> Result<Value, String>),
    /// It is known once the driver has read the configuration again.
    AfterReload,
}

impl Query {
    /// Every question and command, in alphabetical order.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "closed",
            keys: &["all", "limit"],
            doc: "The peers that were closed last, the latest first, and why; with all those of \
                  capture and control too",
            about: About::One,
            way: Way::Now(list_closed),
        },
        Self {
            name: "commands",
            keys: &[],
            doc: "These commands",
            about: About::Broker,
            way: Way::Now(|_, _| Ok(list_commands())),
        },
        Self {
            name: "count",
            keys: &["side", "topic", "topic_hex"],
            doc: "The messages with this topic since this client has first asked, until it leaves",
            about: About::One,
            way: Way::Now(count),
        },
        Self {
            name: "events",
            keys: &["after", "limit"],
            doc: "What has happened, the latest first: the lines of the log without debugging",
            about: About::All,
            way: Way::Now(list_events),
        },
        Self {
            name: "kick",
            keys: &["id", "address", "identity", "identity_hex"],
            doc: "Closes the peers with this id, address or identity, but never the sender",
            about: About::One,
            way: Way::Now(kick),
        },
        Self {
            name: "pause",
            keys: &[],
            doc: "Stops forwarding; peers wait",
            about: About::All,
            way: Way::Now(pause),
        },
        Self {
            name: "peers",
            keys: &["all", "side", "after", "limit"],
            doc: "The connected peers; with `all`, those of capture and control too",
            about: About::One,
            way: Way::Now(list_peers),
        },
        Self {
            name: "reload",
            keys: &[],
            doc: "Reads the configuration again and applies it as a whole, or rejects it",
            about: About::Broker,
            way: Way::AfterReload,
        },
        Self {
            name: "resume",
            keys: &[],
            doc: "Forwards again",
            about: About::All,
            way: Way::Now(resume),
        },
        Self {
            name: "sample",
            keys: &[],
            doc: "The beginnings of messages that pass, at most 20, the latest first: empty at first",
            about: About::One,
            way: Way::Now(list_sample),
        },
        Self {
            name: "statistics",
            keys: &[],
            doc: "The counters of each socket of the proxy",
            about: About::One,
            way: Way::Now(list_sockets),
        },
        Self {
            name: "status",
            keys: &[],
            doc: "The broker as a whole: its configuration, memory, proxies and their sockets",
            about: About::All,
            way: Way::Now(show_status),
        },
        Self {
            name: "subscriptions",
            keys: &["prefix", "prefix_hex", "after", "after_hex", "limit"],
            doc: "Topics with a prefix, and the number of subscribers of each",
            about: About::One,
            way: Way::Now(list_topics),
        },
        Self {
            name: "terminate",
            keys: &[],
            doc: "Ends the proxy; the broker ends with its last proxy",
            about: About::All,
            way: Way::Now(terminate),
        },
        Self {
            name: "watches",
            keys: &["report"],
            doc: "The services that zmqd watch watches; with `report`, it tells their states",
            about: About::Broker,
            way: Way::Now(watches),
        },
        Self {
            name: "who",
            keys: &["topic", "topic_hex", "after", "limit"],
            doc: "The peers that would get a message with this topic",
            about: About::One,
            way: Way::Now(list_subscribers),
        },
    ];
}

impl Core {
    /// Answers a request in JSON about a proxy, from a peer of its control; `None` if the answer
    /// comes later. An error is an answer too.
    pub(crate) fn answer_query(
        &mut self,
        asker: ConnId,
        proxy: ProxyId,
        request: &[u8],
    ) -> Option<Vec<u8>> {
        let answer = match serde_json::from_slice(request) {
            Err(error) => Err(format!("invalid JSON: {error}")),
            Ok(Value::Object(object)) => match self.find_query(proxy, &object) {
                Err(sentence) => Err(sentence),
                Ok((Way::AfterReload, _)) => {
                    self.ask_for_reload();
                    return None;
                }
                Ok((Way::Now(answer), proxy)) => {
                    let object = &object;
                    let request = Request { object, proxy };
                    answer(&mut self.admin_of(asker), &request)
                }
            },
            Ok(_) => Err("write an object: {\"command\": \"peers\"}".to_owned()),
        };
        let answer = answer.unwrap_or_else(|sentence| json!({ "error": sentence }));
        Some(answer.to_string().into_bytes())
    }

    /// Finds the command of a request to the control of this proxy, and the proxy that it concerns.
    fn find_query(
        &self,
        proxy: ProxyId,
        object: &Map<String, Value>,
    ) -> Result<(Way, ProxyId), String> {
        let is_own = self.proxies[proxy].is_own;
        let query = find(object, is_own)?;
        if !is_own || query.about == About::Broker {
            return Ok((query.way, proxy));
        }
        let others = || self.proxies.iter().filter(|(_, other)| !other.is_own);
        let names = || others().map(|(_, other)| &other.name[..]);
        let choice = || names().collect::<Vec<_>>().join(", ");
        let found = match object.get(PROXY) {
            Some(Value::String(name)) => {
                let found = others().find(|(_, other)| other.name == *name);
                found.ok_or_else(|| {
                    let name = show(name);
                    format!("no proxy is called \"{name}\": name one of {}", choice())
                })?
            }
            Some(_) => return Err(format!("{PROXY}: write a text")),
            None if query.about == About::All => return Ok((query.way, proxy)),
            None => {
                let mut all = others();
                match (all.next(), all.next()) {
                    (Some(only), None) => only,
                    _ => return Err(format!("{PROXY}: name one of {}", choice())),
                }
            }
        };
        Ok((query.way, found.0))
    }
}

/// The key of a request to the control of the broker that names a proxy.
const PROXY: &str = "proxy";

/// The answer to a peer that asked for a reload.
pub(super) fn render_reload(outcome: &Result<Reloaded, String>) -> Vec<u8> {
    let answer = match outcome {
        Ok(Reloaded {
            changes,
            needs_restart,
        }) => json!({ "changes": changes, "needs_restart": needs_restart }),
        Err(sentence) => json!({ "error": sentence }),
    };
    answer.to_string().into_bytes()
}

/// The answer to a peer that asked for a reload and cannot wait for the result.
pub(super) fn render_unanswered() -> Vec<u8> {
    let sentence = "the broker reads its configuration again, but keeps the result for this peer \
                    no more than eight times, and only with an envelope of at most 4096 bytes; \
                    ask for the status later";
    json!({ "error": sentence }).to_string().into_bytes()
}

/// Finds the command of a request, which may name a proxy if it came to the control of the broker.
fn find(object: &Map<String, Value>, is_own: bool) -> Result<&'static Query, String> {
    let names = || Query::ALL.iter().map(|query| query.name);
    let choice = || names().collect::<Vec<_>>().join(", ");
    let Some(Value::String(name)) = object.get("command") else {
        return Err(format!("command: write one of {}", choice()));
    };
    let known = Query::ALL.iter().find(|query| query.name == name);
    let query = known.ok_or_else(|| {
        format!(
            "unknown command \"{}\": write one of {}",
            show(name),
            choice()
        )
    })?;
    let names_proxy = is_own && query.about != About::Broker;
    let own = names_proxy.then_some(PROXY);
    let keys: Vec<&str> = query.keys.iter().copied().chain(own).collect();
    let is_known = |key: &&String| *key == "command" || keys.contains(&key.as_str());
    if let Some(key) = object.keys().find(|key| !is_known(key)) {
        let (key, keys) = (show(key), keys.join(", "));
        return Err(format!("{name} has no key \"{key}\": its keys are {keys}"));
    }
    Ok(query)
}

/// A request, and the proxy whose control received it.
struct Request<'a> {
    object: &'a Map<String, Value>,
    proxy: ProxyId,
}

impl Request<'_> {
    fn flag(&self, key: &str) -> Result<bool, String> {
        match self.object.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{key}: write true or false")),
        }
    }

    /// The sockets that a list covers: the one in `side`; without, the sides, and capture and
    /// control only with `all`.
    fn sockets(&self) -> Result<PeerFilter, String> {
        let all = self.flag("all")?;
        let sockets = match self.text("side")? {
            None if all => Vec::new(),
            None => SocketName::SIDES.to_vec(),
            Some(name) => {
                let side = SocketName::ALL.into_iter().find(|side| side.name() == name);
                let names = SocketName::ALL.map(SocketName::name).join(", ");
                vec![side.ok_or_else(|| format!("side: write one of {names}"))?]
            }
        };
        Ok(PeerFilter {
            sockets,
            ..PeerFilter::default()
        })
    }

    fn text(&self, key: &str) -> Result<Option<&str>, String> {
        match self.object.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{key}: write a text")),
        }
    }

    /// Bytes as text, or as hexadecimal digits under the key with the suffix `_hex`.
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

    /// The handle of a connection.
    fn id(&self, key: &str) -> Result<Option<ConnId>, String> {
        let complaint = || format!("{key}: write the id of a peer");
        self.text(key)?
            .map(|text| text.parse().map_err(|()| complaint()))
            .transpose()
    }

    /// A page of at most `limit` items, after this key.
    fn page<K>(&self, after: Option<K>) -> Result<PageQuery<K>, String> {
        let complaint = || format!("limit: write a whole number from 1 to {PAGE_LEN_MAX}");
        let limit = match self.object.get("limit") {
            None => PAGE_LEN_MAX,
            Some(value) => {
                let limit = value.as_u64().and_then(|limit| usize::try_from(limit).ok());
                let limit = limit.filter(|limit| (1..=PAGE_LEN_MAX).contains(limit));
                limit.ok_or_else(complaint)?
            }
        };
        Ok(PageQuery { after, limit })
    }
}

fn list_closed(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let (filter, page) = (request.sockets()?, request.page(None)?);
    let closed = admin.closed_peers(request.proxy, &filter, &page);
    let closed = closed.map_err(|error| error.to_string())?;
    Ok(json!({ "closed": render(&closed, render_closed) }))
}

fn list_sample(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let messages = admin.sample(request.proxy);
    let messages = messages.map_err(|error| error.to_string())?;
    let messages: Vec<Value> = messages.iter().map(render_sample).collect();
    Ok(json!({ "messages": messages }))
}

/// Those of all proxies, if the control of the broker is asked and no proxy named.
fn list_events(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let complaint = || "after: write the number of an event".to_owned();
    let after = request.object.get("after");
    let after = after.map(|it| it.as_u64().ok_or_else(complaint));
    let page = request.page(after.transpose()?)?;
    let proxy = Some(request.proxy).filter(|id| !admin.core.proxies[*id].is_own);
    let events = admin.events(proxy, &page);
    Ok(json!({ "events": render(&events, render_event), "total": events.total }))
}

fn count(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let complaint = || "side: write frontend or backend".to_owned();
    let side = match request.text("side")? {
        None => None,
        Some(name) => {
            let mut sides = SocketName::SIDES.into_iter();
            let found = sides.find(|side| side.name() == name);
            Some(found.and_then(SocketName::side).ok_or_else(complaint)?)
        }
    };
    let topic = request.bytes("topic")?.unwrap_or_default();
    let messages = admin.count(request.proxy, side, &topic);
    let messages = messages.map_err(|error| error.to_string())?;
    Ok(json!({ "messages": messages }))
}

fn kick(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let filter = PeerFilter {
        address: request.text("address")?.map(str::to_owned),
        contains: None,
        id: request.id("id")?,
        identity: request.bytes("identity")?,
        sockets: Vec::new(),
    };
    let kicked = admin.kick(request.proxy, &filter);
    let kicked = kicked.map_err(|error| error.to_string())?;
    let kicked: Vec<String> = kicked.iter().map(ConnId::to_string).collect();
    Ok(json!({ "kicked": kicked }))
}

fn list_peers(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let (filter, page) = (request.sockets()?, request.page(request.id("after")?)?);
    let peers = admin.peers(request.proxy, &filter, &page);
    let peers = peers.map_err(|error| error.to_string())?;
    Ok(json!({ "peers": render(&peers, render_peer), "total": peers.total }))
}

fn list_sockets(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let proxy = admin.proxy(request.proxy);
    let proxy = proxy.map_err(|error| error.to_string())?;
    Ok(render_statistics(&proxy, &admin.broker()))
}

fn list_topics(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let prefix = request.bytes("prefix")?.unwrap_or_default();
    let page = request.page(request.bytes("after")?)?;
    let topics = admin.topics(request.proxy, &prefix, &page);
    let topics = topics.map_err(|error| error.to_string())?;
    Ok(json!({ "subscriptions": render(&topics, render_topic), "more": topics.has_more }))
}

fn list_subscribers(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let complaint = || "topic: write the first frame of a message".to_owned();
    let topic = request.bytes("topic")?.ok_or_else(complaint)?;
    let page = request.page(request.id("after")?)?;
    let peers = admin.subscribers(request.proxy, &topic, &page);
    let peers = peers.map_err(|error| error.to_string())?;
    Ok(json!({ "peers": render(&peers, render_peer), "total": peers.total }))
}

/// Lists the watches, or takes a report of them.
fn watches(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let Some(report) = request.object.get("report") else {
        let list: Vec<Value> = admin.watches().iter().map(render_watch).collect();
        return Ok(json!({ "watches": list }));
    };
    let complaint = || "report: write a list of watches with name, state, sign, actions, reason";
    let read = |watch: &Value| {
        let text = |key: &str| watch.get(key)?.as_str().map(str::to_owned);
        Some(WatchView {
            actions: watch.get("actions")?.as_u64()?,
            name: text("name")?,
            reason: text("reason")?,
            sign: text("sign")?,
            state: text("state")?,
        })
    };
    let list = report.as_array().ok_or_else(complaint)?.iter().map(read);
    let list: Option<Vec<WatchView>> = list.collect();
    let kept = admin.report_watches(list.ok_or_else(complaint)?);
    Ok(json!({ "kept": kept }))
}

fn pause(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    done("pause", admin.pause(request.proxy))
}

fn resume(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    done("resume", admin.resume(request.proxy))
}

fn terminate(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    done("terminate", admin.terminate(request.proxy))
}

/// The answer to a command that only has an effect.
fn done(name: &str, outcome: Result<bool, AdminError>) -> Result<Value, String> {
    outcome
        .map(|_| json!({ "done": name }))
        .map_err(|error| error.to_string())
}

/// One answer for a whole screen: no peer can make it longer.
fn show_status(admin: &mut Admin<'_>, request: &Request<'_>) -> Result<Value, String> {
    let (broker, bound) = (admin.broker(), admin.bound());
    let mut proxies = admin.proxies();
    if proxies.iter().any(|proxy| proxy.id == request.proxy) {
        proxies.retain(|proxy| proxy.id == request.proxy);
    }
    let proxies: Vec<Value> = proxies
        .iter()
        .map(|proxy| render_proxy(proxy, admin.config().proxy(&proxy.name), &bound))
        .collect();
    Ok(json!({
        "configuration": render_configuration(&broker),
        "dropped_messages": broker.dropped_messages,
        "memory_in_use": broker.memory.total(),
        "memory_limit": broker.memory_limit,
        "pid": broker.pid,
        "proxies": proxies,
        "stop": broker.stop.name(),
        "uptime_seconds": broker.uptime.as_secs_f64(),
        "version": broker.version,
    }))
}

fn list_commands() -> Value {
    let commands: Vec<Value> = Query::ALL
        .iter()
        .map(
            |Query {
                 doc, keys, name, ..
             }| json!({ "doc": doc, "keys": keys, "name": name }),
        )
        .collect();
    json!({ "commands": commands })
}

/// The items of a page.
fn render<T>(page: &Page<T>, item: impl Fn(&T) -> Value) -> Vec<Value> {
    page.items.iter().map(item).collect()
}

/// The counters of a proxy's sockets, and what concerns the broker as a whole.
pub fn render_statistics(proxy: &ProxyView, broker: &BrokerView) -> Value {
    let sockets: Vec<Value> = proxy.sockets.iter().map(render_socket).collect();
    json!({
        "cache": proxy.cache.as_ref().map(render_cache),
        "memory_in_use": broker.memory.total(),
        "paused": proxy.is_paused,
        "proxy": proxy.name,
        "record": proxy.record.as_ref().map(render_record),
        "replay": proxy.replay.as_ref().map(render_replay),
        "sockets": sockets,
        "turns": render_turns(&broker.turn_times),
        "uptime_seconds": broker.uptime.as_secs_f64(),
        "version": broker.version,
    })
}

/// A peer that was closed.
pub fn render_closed(peer: &ClosedPeerView) -> Value {
    let mut object = json!({
        "address": peer.address.to_string(),
        "detail": peer.reason.to_string(),
        "id": peer.id.to_string(),
        "lasted_seconds": peer.lasted.as_secs_f64(),
        "reason": peer.reason.label(),
        "seconds_ago": peer.ago.as_secs_f64(),
        "side": peer.socket.name(),
    });
    put_bytes(&mut object, "identity", &peer.identity);
    object
}

/// An event.
pub fn render_event(event: &EventView) -> Value {
    json!({
        "level": event.level.as_str().to_ascii_lowercase(),
        "number": event.number,
        "proxy": (!event.proxy.is_empty()).then_some(&event.proxy),
        "reason": (!event.reason.is_empty()).then_some(event.reason),
        "seconds_ago": event.ago.as_secs_f64(),
        "side": event.socket.map(SocketName::name),
        "text": event.text,
    })
}

/// A connected peer.
pub fn render_peer(peer: &PeerView) -> Value {
    let mut object = json!({
        "address": peer.address.to_string(),
        "age_seconds": peer.age.as_secs_f64(),
        "bytes_received": peer.bytes_received,
        "bytes_sent": peer.bytes_sent,
        "dropped": render_drops(&peer.drops),
        "endpoint": peer.endpoint.as_ref().map(ToString::to_string),
        "id": peer.id.to_string(),
        "mechanism": peer.mechanism,
        "messages_received": peer.messages_received,
        "messages_sent": peer.messages_sent,
        "parked": peer.is_suspended,
        "phase": if peer.is_ready { "ready" } else { "handshake" },
        "queued_bytes": peer.queued_bytes,
        "queued_messages": peer.queued_messages,
        "side": peer.socket.name(),
        "socket": peer.socket_type.map(zmtp::SocketType::name),
        "subscriptions": peer.subscriptions,
        "user": peer.user,
        "version": peer.version.map(|version| version.to_string()),
    });
    put_bytes(&mut object, "identity", &peer.identity);
    object
}

/// The beginning of a message that has passed.
pub fn render_sample(message: &SampleView) -> Value {
    let frames = message.frames.iter().map(|(kept, size)| {
        let mut object = json!({ "size": size });
        put_bytes(&mut object, "body", kept);
        object
    });
    let mut object = json!({
        "address": message.address.map(|address| address.to_string()),
        "frames": frames.collect::<Vec<_>>(),
        "id": message.id.to_string(),
        "more": message.has_more,
        "seconds_ago": message.ago.as_secs_f64(),
        "side": message.socket.name(),
        "size": message.size,
        "user": message.user,
    });
    put_bytes(&mut object, "identity", &message.identity);
    object
}

/// A socket and its counters.
pub fn render_socket(socket: &SocketView) -> Value {
    let stats = &socket.counters;
    let mut closed = Map::new();
    for (label, count) in stats.closed.iter() {
        closed.insert((*label).to_owned(), json!(count));
    }
    json!({
        "bytes_received": stats.bytes_in,
        "bytes_sent": stats.bytes_out,
        "closed": closed,
        "dropped": render_drops(&stats.drops),
        "messages_received": stats.messages_in,
        "messages_sent": stats.messages_out,
        "peers": socket.peers,
        "peers_attached": stats.peers_attached,
        "queued_bytes": socket.queued_bytes,
        "queued_messages": socket.queued_messages,
        "requeued": stats.requeued,
        "side": socket.socket.name(),
        "socket": socket.socket_type.name(),
        "topics": socket.topics,
        "waiting": socket.waiting,
    })
}

/// A proxy; endpoints are the bound ones, and those that it connects to.
fn render_proxy(proxy: &ProxyView, config: Option<&ProxyConfig>, bound: &[Bound]) -> Value {
    let sockets = proxy.sockets.iter().map(|socket| {
        let mut object = render_socket(socket);
        let (binds, connects) = endpoints(&proxy.name, socket.socket, config, bound);
        object["binds"] = json!(binds);
        object["connects"] = json!(connects);
        let config = config.map(|config| config.socket(socket.socket));
        object["public_key"] = json!(
            config
                .and_then(SocketConfig::public_key)
                .map(|key| key.to_string())
        );
        object
    });
    json!({
        "cache": proxy.cache.as_ref().map(render_cache),
        "paused": proxy.is_paused,
        "proxy": proxy.name,
        "record": proxy.record.as_ref().map(render_record),
        "replay": proxy.replay.as_ref().map(render_replay),
        "sockets": sockets.collect::<Vec<Value>>(),
        "stop": proxy.stop.name(),
    })
}

/// The endpoints of a proxy's socket: those that it listens on, of all that are `bound`, and those
/// that it connects to.
pub fn endpoints(
    proxy: &str,
    socket: SocketName,
    config: Option<&ProxyConfig>,
    bound: &[Bound],
) -> (Vec<String>, Vec<String>) {
    let own = |it: &&Bound| it.proxy == proxy && it.side == socket;
    let binds = bound.iter().filter(own);
    let connects = config.map_or(&[][..], |config| &config.socket(socket).connect[..]);
    (
        binds.map(|it| it.endpoint.to_string()).collect(),
        connects.iter().map(|it| it.endpoint.to_string()).collect(),
    )
}

/// The source of the configuration, and the last reload.
fn render_configuration(broker: &BrokerView) -> Value {
    let mut object = json!({ "source": broker.source, "state": "as started" });
    let Some(reload) = &broker.reload else {
        return object;
    };
    object["seconds_ago"] = json!(reload.ago.as_secs_f64());
    match &reload.outcome {
        Ok(Reloaded { needs_restart, .. }) => {
            object["state"] = json!("reloaded");
            object["needs_restart"] = json!(needs_restart);
        }
        Err(sentence) => {
            object["state"] = json!("last reload rejected");
            object["error"] = json!(sentence);
        }
    }
    object
}

/// A recording.
pub fn render_record(record: &record::Statistics) -> Value {
    json!({
        "bytes": record.bytes,
        "failing": record.is_failing,
        "lost_messages": record.lost_messages,
        "messages": record.messages,
    })
}

/// Last values.
pub(super) fn render_cache(cache: &CacheView) -> Value {
    json!({ "bytes": cache.bytes, "values": cache.values })
}

/// Messages that can be sent again.
pub(super) fn render_replay(replay: &ReplayView) -> Value {
    json!({
        "bytes": replay.bytes,
        "messages": replay.messages,
        "next_sequence": replay.next_sequence,
    })
}

/// A topic and the number of its subscribers.
pub fn render_topic(topic: &TopicView) -> Value {
    let mut object = json!({ "peers": topic.peers, "side": topic.socket.name() });
    put_bytes(&mut object, "topic", &topic.topic);
    object
}

/// A watch of the last report.
pub fn render_watch(watch: &WatchView) -> Value {
    json!({
        "actions": watch.actions,
        "name": watch.name,
        "reason": watch.reason,
        "sign": watch.sign,
        "state": watch.state,
    })
}

/// The durations of turns, without empty buckets.
pub fn render_turns(times: &TurnTimes) -> Value {
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

/// Only reasons with at least one dropped message.
pub fn render_drops(drops: &[u64; DropReason::ALL.len()]) -> Value {
    let counted = DropReason::ALL
        .iter()
        .zip(drops)
        .filter(|(_, count)| **count > 0);
    let mut object = Map::new();
    for (reason, count) in counted {
        object.insert(reason.label().to_owned(), json!(count));
    }
    Value::Object(object)
}

/// Puts bytes under `key` if they are printable text, or else as hexadecimal digits under the key
/// with the suffix `_hex`.
fn put_bytes(object: &mut Value, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_hidden) => object[key] = json!(text),
        _ => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object[format!("{key}_hex")] = json!(digits);
        }
    }
}

/// The bytes of hexadecimal digits, two for each.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
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
