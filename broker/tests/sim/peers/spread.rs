//! The peers at both ends of a forwarder and of a streamer.

use super::wire::{Told, lead};
use super::{Pace, Tools, Wish};
use crate::message::{Header, Purpose, deletion, deletion_of, header_of, take_number, verify};
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use zmtp::{Frames, SocketType};

/// PUB or XPUB.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// The proxy also passes on repeated subscriptions.
    hears_twice: bool,
    /// Whether it sends only requested topics, as libzmq does.
    honours: bool,
    /// The last number received from each sender.
    last: BTreeMap<u32, u32>,
    pace: Pace,
    pub(crate) topics: BTreeSet<Vec<u8>>,
}

impl Publisher {
    pub(crate) fn new(honours: bool, hears_twice: bool) -> Self {
        Self {
            hears_twice,
            honours,
            last: BTreeMap::new(),
            pace: Pace::default(),
            topics: BTreeSet::new(),
        }
    }

    pub(crate) fn connected(&mut self) {
        self.topics.clear();
        self.last.clear();
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: Told) {
        match told {
            Told::Ready => {}
            Told::Subscription { add: true, topic } => {
                let is_new = self.topics.insert(topic);
                assert!(
                    is_new || self.hears_twice,
                    "a publisher is told once of each subscription"
                );
            }
            Told::Subscription { add: false, topic } => {
                let was_there = self.topics.remove(&topic);
                assert!(was_there, "a publisher is told once of each cancel");
            }
            Told::Message(message) => {
                if let Some(header) = honest(tools, &message, Purpose::Upstream, 0) {
                    tools.ctx.coverage.add("upstream messages", 1);
                    if !tools.ctx.may_overtake {
                        in_order(&mut self.last, header.sender, &header);
                    }
                }
            }
        }
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        while self.pace.is_due(tools) {
            let number = self.pace.done;
            let header = Header::new(Purpose::Publication, tools.wire.sender, number);
            let topic = header.topic(tools.ctx.style);
            let is_wanted = self.topics.iter().any(|prefix| topic.starts_with(prefix));
            if !is_wanted && self.honours {
                continue;
            }
            let (style, pings) = (tools.ctx.style, tools.spec.pings);
            tools.wire.send(tools.ctx, &[topic], &header, pings);
            if header.may_be_deleted(style) && tools.ctx.random.chance(40) {
                let frames = deletion(style, &header);
                tools
                    .wire
                    .send_frames(&mut tools.ctx.random, &frames, pings);
            }
        }
        self.pace.wish(tools)
    }
}

/// SUB or XSUB.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// The last deletion of each topic that only one sender has.
    deleted: BTreeMap<Vec<u8>, u32>,
    /// Every topic that it wanted since it connected.
    ever: BTreeSet<Vec<u8>>,
    /// It is sent the messages to which it did not subscribe.
    is_inverted: bool,
    /// It subscribes by messages, even where commands would do.
    is_old_fashioned: bool,
    is_subscribed: bool,
    /// Messages have numbers behind them.
    is_numbered: bool,
    /// It may get last values, which are in order for each topic only.
    is_offered: bool,
    last: BTreeMap<(u32, Vec<u8>), u32>,
    number: u32,
    pace: Pace,
    wanted: BTreeSet<Vec<u8>>,
}

impl Subscriber {
    pub(crate) fn new(
        random: &mut Random,
        is_old_fashioned: bool,
        (is_inverted, is_offered): (bool, bool),
    ) -> Self {
        let wanted = (0..random.below(4)).map(|_| topic(random)).collect();
        Self {
            deleted: BTreeMap::new(),
            ever: BTreeSet::new(),
            is_inverted,
            is_numbered: false,
            is_old_fashioned,
            is_subscribed: false,
            is_offered,
            last: BTreeMap::new(),
            number: 0,
            pace: Pace::default(),
            wanted,
        }
    }

    /// Makes it a subscriber of a forwarder that puts numbers behind messages, or of another one.
    pub(crate) fn of_numbered(self, is_numbered: bool) -> Self {
        Self {
            is_numbered,
            ..self
        }
    }

    /// In the final phase it wants no more topics than allowed; otherwise it would be refused again
    /// and again.
    pub(crate) fn connected(&mut self, is_calm: bool) {
        while is_calm && self.wanted.len() > 3 {
            self.wanted.pop_first();
        }
        self.deleted.clear();
        self.ever.clear();
        self.last.clear();
        self.is_subscribed = false;
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: &Told) {
        let Told::Message(message) = told else { return };
        let mut message = message.clone();
        // A welcome has none.
        if self.is_numbered && Frames::new(&message).count() > 1 {
            message = take_number(&message).0;
            tools.ctx.coverage.add("numbered messages", 1);
        }
        if let Some(header) = deletion_of(tools.ctx.style, &message) {
            return self.hear_deletion(tools, &header);
        }
        let Some(header) = honest(tools, &message, Purpose::Publication, 1) else {
            return;
        };
        tools.ctx.coverage.add("publications", 1);
        let topic = header.topic(tools.ctx.style);
        let deleted = self.deleted.get(&topic);
        assert!(
            deleted.is_none_or(|deleted| *deleted < header.number) || tools.ctx.may_overtake,
            "{header:?} came after its deletion"
        );
        let within = if self.is_offered {
            topic.clone()
        } else {
            Vec::new()
        };
        // With another subscription the last value comes again.
        let key = (header.sender, within);
        let comes_again = self.is_offered && self.last.get(&key) == Some(&header.number);
        if !(comes_again || tools.ctx.may_overtake) {
            in_order(&mut self.last, key, &header);
        }
        assert_eq!(lead(&message, 1)[0], topic, "the topic of {header:?}");
        assert!(
            self.is_inverted || self.ever.iter().any(|wanted| topic.starts_with(wanted)),
            "{header:?} was never subscribed to"
        );
    }

    /// What is deleted does not come again.
    fn hear_deletion(&mut self, tools: &mut Tools<'_>, header: &Header) {
        if !tools.ctx.sender(header).is_liar {
            tools.ctx.coverage.add("deletions", 1);
            let topic = header.topic(tools.ctx.style);
            self.deleted.insert(topic, header.number);
        }
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        if !self.is_subscribed {
            self.is_subscribed = true;
            for topic in self.wanted.clone() {
                self.subscribe(tools, &topic, true);
            }
        }
        while self.pace.is_due(tools) {
            let is_xsub = tools.spec.socket_type == SocketType::Xsub;
            let random = &mut tools.ctx.random;
            let (add, is_message) = (random.chance(60), is_xsub && random.chance(30));
            let topic = topic(random);
            if is_message {
                let header = Header::new(Purpose::Upstream, tools.wire.sender, self.number);
                self.number += 1;
                tools.wire.send(tools.ctx, &[], &header, tools.spec.pings);
            } else if add && (is_xsub || !self.wanted.contains(&topic)) {
                // An XSUB may repeat it.
                self.subscribe(tools, &topic, true);
            } else if !add && (is_xsub || self.wanted.contains(&topic)) {
                self.subscribe(tools, &topic, false);
            }
        }
        self.pace.wish(tools)
    }

    fn subscribe(&mut self, tools: &mut Tools<'_>, topic: &[u8], add: bool) {
        if add {
            self.wanted.insert(topic.to_vec());
            self.ever.insert(topic.to_vec());
        } else {
            self.wanted.remove(topic);
        }
        tools.wire.subscribe(topic, add, self.is_old_fashioned);
    }
}

/// PUSH.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pace: Pace,
}

impl Source {
    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        while self.pace.is_due(tools) {
            let header = Header::new(Purpose::Item, tools.wire.sender, self.pace.done);
            tools.wire.send(tools.ctx, &[], &header, tools.spec.pings);
        }
        self.pace.wish(tools)
    }
}

/// PULL.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Whether it sends messages, which a PULL does not do.
    is_chatty: bool,
    number: u32,
}

impl Sink {
    pub(crate) fn new(is_chatty: bool) -> Self {
        Self {
            is_chatty,
            number: 0,
        }
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: &Told) {
        let Told::Message(message) = told else { return };
        if let Some(header) = honest(tools, message, Purpose::Item, 0) {
            tools.ctx.receive_once(&header);
            tools.ctx.coverage.add("items", 1);
        }
        if self.is_chatty && !tools.ctx.is_calm && tools.ctx.random.chance(20) {
            let header = Header::new(Purpose::Reply, tools.wire.sender, self.number);
            self.number += 1;
            tools.wire.send(tools.ctx, &[], &header, tools.spec.pings);
        }
    }
}

/// A topic over an alphabet so small that subscriptions collide.
fn topic(random: &mut Random) -> Vec<u8> {
    (0..random.below(4)).map(|_| random.pick(b"ab")).collect()
}

/// Compares a message with its header, unless a misbehaving peer sent it.
fn honest(tools: &mut Tools<'_>, message: &[u8], purpose: Purpose, lead: usize) -> Option<Header> {
    let Some((header, at)) = header_of(tools.ctx.style, message) else {
        tools.ctx.coverage.add("lies received", 1);
        return None;
    };
    if tools.ctx.sender(&header).is_liar {
        return None;
    }
    assert_eq!(header.purpose, purpose, "{header:?} is not for this peer");
    assert_eq!(at, lead, "frames in front of {header:?}");
    verify(tools.ctx.style, message, &header, at);
    Some(header)
}

fn in_order<K: Ord>(last: &mut BTreeMap<K, u32>, key: K, header: &Header) {
    if let Some(former) = last.insert(key, header.number) {
        assert!(former < header.number, "{header:?} came after {former}");
    }
}
