//! Peers of captures and controls.

use super::wire::Told;
use super::{Pace, Tools, Wish};
use crate::context::{Nanos, SECOND};
use crate::message::{header_of, verify};
use broker::view::PeerOrder;
use serde_json::Value;
use zmtp::{Frames, SocketType};

/// A reader of a capture: SUB, XSUB, PULL, or a peer of a DEALER.
#[derive(Debug)]
pub(crate) struct Reader {
    is_subscribed: bool,
    topics: Vec<Vec<u8>>,
}

impl Reader {
    pub(crate) fn new(topics: Vec<Vec<u8>>) -> Self {
        Self {
            is_subscribed: false,
            topics,
        }
    }

    pub(crate) fn connected(&mut self) {
        self.is_subscribed = false;
    }

    /// The model knows whether it subscribes; this checks that a copy is whole.
    pub(crate) fn hear(&self, tools: &mut Tools<'_>, told: &Told) {
        let Told::Message(message) = told else { return };
        tools.ctx.coverage.add("copies", 1);
        if let Some((header, at)) = header_of(tools.ctx.style, message)
            && !tools.ctx.sender(&header).is_liar
        {
            verify(tools.ctx.style, message, &header, at);
        }
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        if !self.is_subscribed {
            self.is_subscribed = true;
            for topic in &self.topics {
                tools.wire.subscribe(topic, true, false);
            }
        }
        Wish::Wait
    }
}

/// REQ, DEALER, ROUTER or PAIR at a control.
#[derive(Debug)]
pub(crate) struct Steerer {
    /// What it has not been answered, and when it gives up waiting for it.
    awaited: u32,
    gives_up_at: Nanos,
    /// In the final phase, it has sent its last commands.
    has_resumed: bool,
    pace: Pace,
    pauses: bool,
    /// The figure by which it has asked for peers in order. It asks nothing else meanwhile.
    sorted_by: Option<&'static str>,
    /// It ends the proxy.
    terminates: bool,
    window: u32,
}

impl Steerer {
    pub(crate) fn new(
        socket_type: SocketType,
        (pauses, terminates): (bool, bool),
        window: u32,
    ) -> Self {
        let is_req = socket_type == SocketType::Req;
        Self {
            awaited: 0,
            gives_up_at: 0,
            has_resumed: false,
            pace: Pace::default(),
            pauses,
            sorted_by: None,
            terminates,
            window: if is_req { 1 } else { window },
        }
    }

    pub(crate) fn connected(&mut self) {
        self.awaited = 0;
        self.has_resumed = false;
        self.sorted_by = None;
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: &Told) {
        if let Told::Message(message) = told {
            assert!(self.awaited > 0, "an answer to nothing");
            self.awaited -= 1;
            tools.ctx.coverage.add("answers", 1);
            let answer = Frames::new(message).last();
            let answer = answer.and_then(|frame| serde_json::from_slice::<Value>(frame.body).ok());
            if let (Some(key), Some(answer)) = (self.sorted_by, answer)
                && let Some(peers) = Value::as_array(&answer["peers"])
            {
                self.sorted_by = None;
                tools.ctx.coverage.add("peers in order", 1);
                let is_ordered = peers.is_sorted_by(|a, b| figure(a, key) >= figure(b, key));
                assert!(is_ordered, "by {key}: {answer}");
                let total = answer["total"].as_u64();
                assert!(total >= Some(peers.len() as u64), "{answer}");
            }
        }
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        let now = tools.ctx.now;
        if self.awaited > 0 && now >= self.gives_up_at {
            return Wish::Close;
        }
        while self.awaited < self.window && self.sorted_by.is_none() && self.pace.is_due(tools) {
            let command = self.command(tools);
            self.say(tools, &command);
        }
        if tools.ctx.is_calm && !self.has_resumed && self.awaited == 0 {
            self.say(tools, b"RESUME");
            self.has_resumed = true;
            if tools.spec.socket_type != SocketType::Req {
                self.say(tools, b"STATISTICS");
            }
        }
        match self.pace.wish(tools) {
            Wish::Turn(at) if self.awaited == 0 => Wish::Turn(at),
            _ if self.awaited > 0 => Wish::Turn(self.gives_up_at),
            wish => wish,
        }
    }

    fn command(&mut self, tools: &mut Tools<'_>) -> Vec<u8> {
        let random = &mut tools.ctx.random;
        let command = match random.below(15) {
            4 if self.terminates => "TERMINATE",
            0 | 1 if self.pauses => "PAUSE",
            0..=3 => "RESUME",
            4..=6 => "STATISTICS",
            7 if self.awaited == 0 => {
                let (key, _) = random.pick(&PeerOrder::ALL);
                self.sorted_by = Some(key);
                let skip = random.below(3);
                return format!(r#"{{"command": "peers", "sort": "{key}", "skip": {skip}}}"#)
                    .into_bytes();
            }
            7 => r#"{"command": "peers"}"#,
            8 => r#"{"command": "statistics"}"#,
            9 => "NONSENSE",
            10 => r#"{"command": "reload"}"#,
            11 | 12 => {
                let side = random.pick(&["frontend", "backend"]);
                let topic = random.pick(&["", "a", "ab"]);
                tools.ctx.coverage.add("counts by topic", 1);
                let count =
                    format!(r#"{{"command": "count", "side": "{side}", "topic": "{topic}"}}"#);
                return count.into_bytes();
            }
            _ => {
                // A recent peer, or none.
                let cables = tools.ctx.cables.len();
                let cable = cables.saturating_sub(random.below(12));
                let plug = crate::net::Plug { cable, side: 0 };
                let address = crate::node::address(plug);
                let kick = format!(r#"{{"command": "kick", "address": "{address}"}}"#);
                tools.ctx.coverage.add("kicks", 1);
                return kick.into_bytes();
            }
        };
        command.as_bytes().to_vec()
    }

    fn say(&mut self, tools: &mut Tools<'_>, command: &[u8]) {
        let is_pair = tools.spec.socket_type == SocketType::Pair;
        let mut frames = vec![command.to_vec()];
        if !is_pair {
            frames.insert(0, Vec::new());
        }
        // A PAIR answers only questions.
        let is_question = command == b"STATISTICS" || command[0] == b'{';
        if self.awaited == 0 {
            self.gives_up_at = tools.ctx.now + 2 * SECOND;
        }
        self.awaited += u32::from(is_question || !is_pair);
        let pauses = u64::from(command == b"PAUSE");
        tools.ctx.coverage.add("pauses", pauses);
        let pings = tools.spec.pings;
        tools
            .wire
            .send_frames(&mut tools.ctx.random, &frames, pings);
    }
}

/// The figure of a peer by which a list of peers is ordered.
fn figure(peer: &Value, key: &str) -> f64 {
    let number = |key: &str| peer[key].as_f64().unwrap_or_default();
    match key {
        "dropped" => {
            let reasons = peer[key].as_object().into_iter().flatten();
            reasons.filter_map(|(_, count)| count.as_f64()).sum()
        }
        "bytes" | "messages" => number(&format!("{key}_received")) + number(&format!("{key}_sent")),
        _ => number(key),
    }
}
