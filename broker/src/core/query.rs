//! JSON for the control socket: parses a request, asks [`Admin`], and answers with the view.

use crate::config::SocketName;
use crate::core::reload::Reloaded;
use crate::core::render::{
    from_hex, render, render_closed, render_configuration, render_event, render_peer, render_proxy,
    render_sample, render_statistics, render_topic, render_watch,
};
use crate::core::{Admin, AdminError, Core};
use crate::ids::{ConnId, ProxyId};
use crate::view::{PAGE_LEN_MAX, PageQuery, PeerFilter, PeerOrder, WatchView};
use serde_json::{Map, Value, json};
use zmtp::show;

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
            keys: &["all", "side", "sort", "after", "skip", "limit"],
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
            doc: "The beginnings of at most 20 messages that have passed, the latest first",
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

    /// A whole number.
    fn number(&self, key: &str) -> Result<Option<usize>, String> {
        let Some(value) = self.object.get(key) else {
            return Ok(None);
        };
        let number = value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok());
        let complaint = || format!("{key}: write a whole number");
        number.map(Some).ok_or_else(complaint)
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
    let skip = request.number("skip")?;
    let peers = match request.text("sort")? {
        None if skip.is_some() => {
            return Err("skip: a list without an order has pages by after".to_owned());
        }
        Some(_) if page.after.is_some() => {
            return Err("after: an ordered list has pages by skip".to_owned());
        }
        None => admin.peers(request.proxy, &filter, &page),
        Some(key) => {
            let order =
                PeerOrder::from_key(key).map_err(|complaint| format!("sort: {complaint}"))?;
            let part = (skip.unwrap_or_default(), page.limit);
            admin.ranked_peers(request.proxy, &filter, order, part)
        }
    };
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
