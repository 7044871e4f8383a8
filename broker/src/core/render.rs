//! Views as JSON, for the control and for HTTP.

use crate::config::{ProxyConfig, SocketConfig, SocketName};
use crate::core::Bound;
use crate::core::reload::Reloaded;
use crate::reason::DropReason;
use crate::record;
use crate::stats::TurnTimes;
use crate::view::{
    BrokerView, CacheView, ClosedPeerView, EventView, Page, PeerView, ProxyView, ReplayView,
    SampleView, SocketView, TopicView, WatchView,
};
use serde_json::{Map, Value, json};
use zmtp::is_hidden;

/// The items of a page.
pub(super) fn render<T>(page: &Page<T>, item: impl Fn(&T) -> Value) -> Vec<Value> {
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
pub(super) fn render_proxy(
    proxy: &ProxyView,
    config: Option<&ProxyConfig>,
    bound: &[Bound],
) -> Value {
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
pub(super) fn render_configuration(broker: &BrokerView) -> Value {
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
pub fn render_cache(cache: &CacheView) -> Value {
    json!({ "bytes": cache.bytes, "values": cache.values })
}

/// Messages that can be sent again.
pub fn render_replay(replay: &ReplayView) -> Value {
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
