//! Counts messages by the beginning of their topic, for clients of a control that ask.
//!
//! A count begins with the first question and ends with the connection of its client, so that a
//! proxy without such a client does no work for it.

use crate::config::Side;
use crate::ids::ConnId;
use crate::limits::TOPIC_COUNTS_MAX;
use crate::pattern::begins_with;
use zmtp::Frames;

/// The counts of one proxy.
#[derive(Debug, Default)]
pub(crate) struct TopicCounts {
    list: Vec<TopicCount>,
}

#[derive(Debug)]
struct TopicCount {
    messages: u64,
    /// The connection of the client; `None`: the program.
    owner: Option<ConnId>,
    prefix: Vec<u8>,
    /// The side that receives the messages; `None`: any.
    side: Option<Side>,
}

impl TopicCounts {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Counts a message that `side` received and that goes on.
    #[inline]
    pub(crate) fn count(&mut self, side: Side, wire: &[u8]) {
        if self.list.is_empty() {
            return;
        }
        let topic = Frames::new(wire).first();
        for count in &mut self.list {
            if count.side.is_none_or(|it| it == side) && begins_with(topic, &count.prefix) {
                count.messages += 1;
            }
        }
    }

    /// The messages since the first question of this client about them; `None`: the proxy has as
    /// many counts as it may have.
    pub(crate) fn ask(
        &mut self,
        owner: Option<ConnId>,
        side: Option<Side>,
        prefix: &[u8],
    ) -> Option<u64> {
        let is_meant =
            |it: &&TopicCount| it.owner == owner && it.side == side && it.prefix == prefix;
        if let Some(count) = self.list.iter().find(is_meant) {
            return Some(count.messages);
        }
        if self.list.len() >= TOPIC_COUNTS_MAX {
            return None;
        }
        self.list.push(TopicCount {
            messages: 0,
            owner,
            prefix: prefix.to_vec(),
            side,
        });
        Some(0)
    }

    /// The client has left.
    pub(crate) fn forget(&mut self, owner: ConnId) {
        self.list.retain(|count| count.owner != Some(owner));
    }

    /// Bytes of all counts.
    pub(crate) fn memory(&self) -> u64 {
        let size = |count: &TopicCount| size_of::<TopicCount>() + count.prefix.len();
        self.list.iter().map(size).sum::<usize>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmtp::encode::append_message;

    const CLIENT: ConnId = ConnId {
        generation: 1,
        slot: 1,
    };

    fn message(frames: &[&[u8]]) -> Vec<u8> {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        wire
    }

    #[test]
    fn each_client_counts_from_its_first_question_on() {
        let mut counts = TopicCounts::default();
        let (one, other) = (Some(CLIENT), None);
        let ask = |counts: &mut TopicCounts, owner, side, prefix: &[u8]| {
            counts.ask(owner, side, prefix).expect("it has room")
        };
        counts.count(Side::Frontend, &message(&[b"abc", b"1"]));
        let front = Some(Side::Frontend);
        assert_eq!(ask(&mut counts, one, front, b"ab"), 0);
        counts.count(Side::Frontend, &message(&[b"abc", b"1"]));
        counts.count(Side::Frontend, &message(&[b"a", b"abc"]));
        counts.count(Side::Backend, &message(&[b"ab"]));
        assert_eq!(ask(&mut counts, one, front, b"ab"), 1);
        assert_eq!(ask(&mut counts, other, None, b""), 0);
        counts.count(Side::Backend, &message(&[b"ab"]));
        assert_eq!(ask(&mut counts, other, None, b""), 1);
        counts.forget(CLIENT);
        assert_eq!(ask(&mut counts, other, None, b""), 1);
        assert_eq!(ask(&mut counts, one, front, b"ab"), 0, "it begins anew");
    }

    #[test]
    fn a_proxy_has_so_many_counts_and_no_more() {
        let mut counts = TopicCounts::default();
        for number in 0..=u8::MAX {
            let found = counts.ask(None, None, &[number]);
            let has_room = usize::from(number) < TOPIC_COUNTS_MAX;
            assert_eq!(found.is_some(), has_room, "{number}");
        }
        let size = counts.memory();
        assert!(size > TOPIC_COUNTS_MAX as u64, "{size}");
        assert!(counts.ask(None, None, &[0]).is_some(), "it is there");
    }
}
