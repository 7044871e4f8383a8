//! The events of the broker: the lines of its log of level info or worse, the newest of which are
//! kept.
//!
//! A line and an event are told in one place, so that a cause that repeats is one event where it is
//! one line. See [`crate::core::report`].

use crate::config::SocketName;
use crate::core::turn::cost;
use crate::core::{Admin, Core};
use crate::ids::{ProxyId, SocketId};
use crate::limits::{EVENT_TEXT_SIZE_MAX, EVENTS_MAX};
use crate::view::{EventView, Page, PageQuery};
use log::kv::Value;
use log::{Level, Record};
use std::collections::VecDeque;
use std::time::Instant;

/// All events together may take this share of the memory limit.
const MEMORY_SHARE: u64 = 64;

/// What a line is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Broker,
    Proxy(ProxyId),
    Socket(SocketId),
}

/// The fields of a line, beside those of its place; empty ones are left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) count: Option<u64>,
    pub(super) peer: &'a str,
    pub(super) reason: &'static str,
}

impl<'a> Facts<'a> {
    /// Only a peer.
    pub(super) fn of(peer: &'a str) -> Self {
        Self {
            peer,
            ..Self::default()
        }
    }
}

/// Whether a line of this level is written: it is an event, or the log shows it.
pub(super) fn is_told(level: Level) -> bool {
    level <= Level::Info || log::log_enabled!(level)
}

#[derive(Debug)]
struct Event {
    at: Instant,
    level: Level,
    number: u64,
    /// The name of the proxy; empty: the broker as a whole.
    proxy: Box<str>,
    reason: &'static str,
    side: Option<SocketName>,
    text: Box<str>,
}

impl Event {
    /// Bytes of its texts.
    fn texts(&self) -> u64 {
        (self.proxy.len() + self.text.len()) as u64
    }
}

/// Bytes of events, without their texts.
fn size(events: usize) -> u64 {
    (events * size_of::<Event>()) as u64
}

/// The newest events, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Events {
    list: VecDeque<Event>,
    /// The number of the next one.
    next: u64,
    /// Bytes of the texts of all that are kept.
    texts: u64,
}

impl Events {
    /// Bytes of all events.
    pub(super) fn memory(&self) -> u64 {
        size(self.list.capacity()) + self.texts
    }

    /// The same, counted anew.
    pub(super) fn walk(&self) -> u64 {
        let texts: u64 = self.list.iter().map(Event::texts).sum();
        size(self.list.capacity()) + texts
    }

    /// Keeps an event instead of older ones. Those of sockets, which peers cause, take the place of
    /// each other when they are more than half of all.
    fn push(&mut self, mut event: Event, memory_max: u64) {
        event.number = self.next;
        self.next += 1;
        let needed = |list: &VecDeque<Event>| size(list.len() + 1) + event.texts();
        while self.list.len() >= EVENTS_MAX || self.texts + needed(&self.list) > memory_max {
            let caused = self.list.iter().filter(|it| it.side.is_some()).count();
            let is_flood = caused > self.list.len() / 2;
            let oldest = self
                .list
                .iter()
                .position(|it| !is_flood || it.side.is_some());
            let Some(gone) = oldest.and_then(|index| self.list.remove(index)) else {
                return;
            };
            self.texts -= gone.texts();
        }
        self.texts += event.texts();
        self.list.push_back(event);
    }
}

impl Core {
    /// Tells the log a line, and keeps it as an event unless it is a line for debugging. Its place
    /// comes before the text. Ask [`is_told`] first where lines for debugging can be frequent.
    pub(super) fn tell(&mut self, level: Level, place: Place, facts: Facts<'_>, text: &str) {
        let (proxy, side) = match place {
            Place::Broker => ("", None),
            Place::Proxy(id) => (&*self.proxies[id].name, None),
            Place::Socket(id) => {
                let (name, side) = self.names(id);
                (name, Some(side))
            }
        };
        if log::log_enabled!(level) {
            let mut fields: Vec<(&str, Value<'_>)> = Vec::new();
            if !proxy.is_empty() {
                fields.push(("proxy", proxy.into()));
            }
            fields.extend(side.map(|side| ("side", side.name().into())));
            for (key, value) in [("peer", facts.peer), ("reason", facts.reason)] {
                if !value.is_empty() {
                    fields.push((key, value.into()));
                }
            }
            fields.extend(facts.count.map(|count| ("count", count.into())));
            let names = match (proxy, side) {
                ("", _) => String::new(),
                (_, None) => format!("{proxy}: "),
                (_, Some(side)) => format!("{proxy} {side}: "),
            };
            log::logger().log(
                &Record::builder()
                    .level(level)
                    .target(module_path!())
                    .key_values(&&fields[..])
                    .args(format_args!("{names}{text}"))
                    .build(),
            );
        }
        if level > Level::Info {
            return;
        }
        let event = Event {
            at: self.clock.now(),
            level,
            number: 0,
            proxy: proxy.into(),
            reason: facts.reason,
            side,
            text: text[..text.floor_char_boundary(EVENT_TEXT_SIZE_MAX)].into(),
        };
        let memory_max = match self.memory.limit() {
            0 => u64::MAX,
            limit => limit / MEMORY_SHARE,
        };
        self.events.push(event, memory_max);
    }
}

impl Admin<'_> {
    /// The events of a proxy, or of all proxies and of the broker as a whole, the latest first: the
    /// lines of the log of level info or worse. The broker keeps 256 of them, as far as a 64th of
    /// the memory limit has room for them. A page begins after the event with the number in `page`.
    #[must_use]
    pub fn events(&mut self, proxy: Option<ProxyId>, page: &PageQuery<u64>) -> Page<EventView> {
        let core = &*self.core;
        let name = proxy
            .and_then(|id| core.proxies.get(id))
            .map(|it| &*it.name);
        let found = core.events.list.iter().rev();
        let found = found.filter(|it| name.is_none_or(|name| *it.proxy == *name));
        let total = found.clone().count();
        let mut rest = found.filter(|it| page.after.is_none_or(|after| it.number < after));
        let view = |event: &Event| EventView {
            ago: core.clock.now().saturating_duration_since(event.at),
            level: event.level,
            number: event.number,
            proxy: event.proxy.to_string(),
            reason: event.reason,
            socket: event.side,
            text: event.text.to_string(),
        };
        let items: Vec<EventView> = rest.by_ref().take(page.len_max()).map(view).collect();
        let has_more = rest.next().is_some();
        let units = EVENTS_MAX as u64 * cost::WALK + items.len() as u64 * cost::VIEW;
        self.core.turn.charge(units);
        Page {
            has_more,
            items,
            total: Some(total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(events: &Events) -> Vec<u64> {
        events.list.iter().map(|it| it.number).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a time that no test looks at")]
    fn push(events: &mut Events, side: Option<SocketName>, memory_max: u64) {
        let event = Event {
            at: Instant::now(),
            level: Level::Warn,
            number: 0,
            proxy: "queue".into(),
            reason: "",
            side,
            text: "closed".into(),
        };
        events.push(event, memory_max);
        assert_eq!(events.memory(), events.walk());
    }

    #[test]
    fn peers_take_the_place_of_their_own_events_only() {
        let mut events = Events::default();
        for _ in 0..10 {
            push(&mut events, None, u64::MAX);
        }
        for _ in 0..1000 {
            push(&mut events, Some(SocketName::Frontend), u64::MAX);
        }
        let expected: Vec<u64> = (0..10)
            .chain(1010 - (EVENTS_MAX as u64 - 10)..1010)
            .collect();
        assert_eq!(numbers(&events), expected);
        for _ in 0..1000 {
            push(&mut events, None, u64::MAX);
        }
        assert_eq!(numbers(&events)[0], 2010 - EVENTS_MAX as u64);
    }

    #[test]
    fn events_have_a_share_of_the_memory() {
        let mut events = Events::default();
        push(&mut events, None, u64::MAX);
        let one = size(1) + events.texts;
        for _ in 0..9 {
            push(&mut events, None, 3 * one);
        }
        assert_eq!(numbers(&events), [7, 8, 9]);
        push(&mut events, None, one - 1);
        assert_eq!((numbers(&events), events.texts), (vec![], 0));
    }
}
