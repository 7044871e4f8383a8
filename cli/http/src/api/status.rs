//! The state of the broker and of each proxy, and the configuration.

use crate::api::about;
use crate::history::History;
use crate::process::Process;
use crate::response::Response;
use crate::route::Reply;
use broker::config::{Config, HttpConfig, ProxyConfig, SocketName, SocketOption};
use broker::json;
use broker::view::{
    BrokerView, PeerFilter, PeerOrder, PeerView, ProxyView, ReloadView, SocketView, StopState,
};
use broker::{Admin, Bound};
use serde_json::{Map, Value, json};

/// A proxy, and what its state consists of.
struct Proxy {
    /// The peer with the longest queue, of those that others wait for.
    blocker: Option<PeerView>,
    kind: &'static str,
    /// Endpoints, by socket: those it listens on, and those it connects to.
    endpoints: Vec<(SocketName, Vec<String>, Vec<String>)>,
    view: ProxyView,
}

/// How a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Bad,
    Idle,
    Ok,
    Warning,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Idle => "idle",
            Self::Ok => "ok",
            Self::Warning => "warning",
        }
    }
}

/// The broker, and every proxy with its sockets.
pub(super) fn status(config: &HttpConfig) -> Reply {
    let may_command = config.token.is_some();
    let may_sample = may_command && !config.hides_samples;
    Reply::ask(move |admin| {
        let broker = admin.broker();
        let views = admin.proxies();
        let bound = admin.bound();
        let watches: Vec<Value> = admin.watches().iter().map(json::watch).collect();
        let proxies: Vec<Proxy> = views
            .into_iter()
            .map(|view| proxy(admin, view, &bound))
            .collect();
        Box::new(move |history| {
            let mut head = render_broker(&broker, may_command);
            head["samples"] = json!(may_sample);
            head["watches"] = json!(watches);
            let head = head.to_string();
            let states: Vec<(Level, String)> =
                proxies.iter().map(|it| state(it, history)).collect();
            // An object without its last brace, then the proxies one by one.
            let head = head.strip_suffix('}').unwrap_or_default().to_owned();
            let begin = format!("{head},\"proxies\":[").into_bytes();
            let parts = proxies.into_iter().zip(states).enumerate();
            let parts = parts.map(|(index, (proxy, state))| {
                let comma = if index > 0 { "," } else { "" };
                format!("{comma}{}", render_proxy(&proxy, state)).into_bytes()
            });
            let end = b"]}".to_vec();
            let parts = std::iter::once(begin).chain(parts).chain([end]);
            Response::parts("application/json", parts)
        })
    })
}

/// What `zmqd ctl statistics` shows.
pub(super) fn statistics(proxy: String) -> Reply {
    about(
        proxy,
        |admin, id| Ok((admin.proxy(id)?, admin.broker())),
        |(proxy, broker)| json::statistics(proxy, broker),
    )
}

/// The configuration, without secrets.
pub(super) fn config() -> Reply {
    Reply::ask(|admin| {
        let config = admin.config().clone();
        Box::new(move |_| Response::json(&render_config(&config)))
    })
}

fn proxy(admin: &mut Admin<'_>, view: ProxyView, bound: &[Bound]) -> Proxy {
    let config = admin.config().proxy(&view.name);
    let endpoints = view.sockets.iter().map(|socket| {
        let name = socket.socket;
        let (binds, connects) = json::endpoints(&view.name, name, config, bound);
        (name, binds, connects)
    });
    let endpoints = endpoints.collect();
    let kind = config.map_or("proxy", |config| config.kind.name);
    let blocked = side(&view, SocketName::Frontend).is_some_and(|side| side.waiting > 0);
    let blocking = match blocked {
        true => Some(SocketName::Backend),
        false => side(&view, SocketName::Backend)
            .filter(|side| side.waiting > 0)
            .map(|_| SocketName::Frontend),
    };
    let blocker = blocking.and_then(|name| {
        let filter = PeerFilter::of_socket(name);
        let page = admin.ranked_peers(view.id, &filter, PeerOrder::QueuedMessages, (0, 1));
        page.ok()?.items.pop()
    });
    Proxy {
        blocker,
        endpoints,
        kind,
        view,
    }
}

fn side(view: &ProxyView, name: SocketName) -> Option<&SocketView> {
    view.sockets.iter().find(|side| side.socket == name)
}

/// The state of a proxy, and its reason: the worst comes first.
fn state(proxy: &Proxy, history: &History) -> (Level, String) {
    let view = &proxy.view;
    let named = |level, text: &str| (level, text.to_owned());
    match view.stop {
        StopState::Running => {}
        StopState::Draining(left) => {
            return (
                Level::Warning,
                format!("draining, {} s left", left.as_secs()),
            );
        }
        StopState::Closing => return named(Level::Warning, "closing"),
    }
    if view.is_paused {
        return named(Level::Warning, "paused");
    }
    if view.record.as_ref().is_some_and(|record| record.is_failing) {
        return named(Level::Bad, "recording fails");
    }
    let (Some(front), Some(back)) = (
        side(view, SocketName::Frontend),
        side(view, SocketName::Backend),
    ) else {
        return named(Level::Ok, "running");
    };
    let (client, worker) = match proxy.kind {
        "queue" => ("client", "worker"),
        "forwarder" => ("publisher", "subscriber"),
        "streamer" => ("source", "sink"),
        _ => ("frontend peer", "backend peer"),
    };
    for (waiting, across, missing) in [(front, back, worker), (back, front, client)] {
        if waiting.waiting == 0 {
            continue;
        }
        if across.peers == 0 {
            return (
                Level::Bad,
                format!("no {missing}, {} waiting", waiting.waiting),
            );
        }
        let by = proxy.blocker.as_ref().map(|peer| peer.address.to_string());
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        return (Level::Warning, format!("blocked{by}"));
    }
    if history.is_dropping(&view.name) {
        return named(Level::Bad, "dropping messages");
    }
    match (front.peers, back.peers) {
        (0, 0) => named(Level::Idle, "no peers"),
        (_, 0) if proxy.kind == "forwarder" => named(Level::Idle, "no subscriber"),
        (_, 0) => (Level::Warning, format!("no {worker}")),
        (0, _) => (Level::Idle, format!("no {client}")),
        _ => named(Level::Ok, "running"),
    }
}

fn render_broker(broker: &BrokerView, may_command: bool) -> Value {
    let process = Process::now();
    let memory = broker.memory;
    json!({
        "busy_seconds": broker.turn_times.total.as_secs_f64(),
        "commands": may_command,
        "memory": {
            "closed": memory.closed,
            "connections": memory.connections,
            "inputs": memory.inputs,
            "kept": memory.kept,
            "queues": memory.queues,
            "subscriptions": memory.subscriptions,
        },
        "memory_in_use": memory.total(),
        "memory_limit": broker.memory_limit,
        "pid": std::process::id(),
        "reload": broker.reload.as_ref().map(render_reload),
        "resident_bytes": process.resident_bytes,
        "stop": broker.stop.name(),
        "turns": json::turns(&broker.turn_times),
        "uptime_seconds": broker.uptime.as_secs_f64(),
        "version": broker.version,
    })
}

fn render_reload(reload: &ReloadView) -> Value {
    let ago = reload.ago.as_secs_f64();
    match &reload.outcome {
        Ok(done) => json!({
            "changes": done.changes,
            "needs_restart": done.needs_restart,
            "seconds_ago": ago,
        }),
        Err(sentence) => json!({ "error": sentence, "seconds_ago": ago }),
    }
}

fn render_proxy(proxy: &Proxy, (level, reason): (Level, String)) -> Value {
    let view = &proxy.view;
    let sockets = view.sockets.iter().map(|socket| {
        let mut value = json::socket(socket);
        let mut endpoints = proxy.endpoints.iter();
        if let Some((_, binds, connects)) = endpoints.find(|(name, ..)| *name == socket.socket) {
            value["bind"] = json!(binds);
            value["connect"] = json!(connects);
        }
        value
    });
    let sockets: Vec<Value> = sockets.collect();
    json!({
        "cache": view.cache.as_ref().map(json::cache),
        "kind": proxy.kind,
        "level": level.name(),
        "paused": view.is_paused,
        "proxy": view.name,
        "record": view.record.as_ref().map(json::record),
        "replay": view.replay.as_ref().map(json::replay),
        "sockets": sockets,
        "state": reason,
        "stop": view.stop.name(),
    })
}

fn render_config(config: &Config) -> Value {
    let proxies: Vec<Value> = config.proxies.iter().map(render_proxy_config).collect();
    json!({
        "drain_timeout_ms": u64::try_from(config.drain_timeout.as_millis()).ok(),
        "http": config.http.address.map(|address| address.to_string()),
        "memory_limit": config.memory_limit,
        "proxies": proxies,
        "roles": config.roles.iter().map(|role| &role.name).collect::<Vec<_>>(),
    })
}

fn render_proxy_config(config: &ProxyConfig) -> Value {
    let mut value = json!({
        "kind": config.kind.name,
        "proxy": config.name,
        "record": config.record.as_ref().map(|record| record.path.display().to_string()),
    });
    for name in config.sockets() {
        let socket = config.socket(name);
        let mut set = Map::new();
        for option in SocketOption::ALL {
            let value = option.get(&socket.options);
            if value != option.default_value() {
                set.insert(option.name.to_owned(), value.to_string().into());
            }
        }
        let connects = socket.connect.iter().map(|it| it.endpoint.to_string());
        value[name.name()] = json!({
            "bind": socket.bind.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "connect": connects.collect::<Vec<_>>(),
            "mechanism": socket.mechanism.name(),
            "options": set,
            "public_key": socket.public_key().map(|key| key.to_string()),
            "socket": config.socket_type(name).name(),
        });
    }
    value
}
