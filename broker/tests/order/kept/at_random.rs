//! Subscribers that subscribe, cancel and read at random.

use super::{caching, messages};
use crate::play::Play;
use broker::ConnId;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn subscribers_at_random_get_each_newest_value_once_and_then_every_message() {
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    const PREFIXES: [&str; 9] = ["", "a", "b", "a1", "a10", "a2", "b2", "b21", "b4"];
    for _ in 0..300 {
        let mut config = caching(&[""]);
        let sndhwm = [0, 2, 4, 40][random(4)];
        config.backend.options.sndhwm = sndhwm;
        let mut play = Play::of(config);
        let publisher = play.publisher();
        let topics: Vec<String> = (0..60)
            .map(|it| format!("{}{it}", ["a", "b"][it % 2]))
            .collect();
        let mut values: BTreeMap<String, u64> = BTreeMap::new();
        let mut readers: Vec<Reader> = Vec::new();
        for number in 1..800_u64 {
            match random(12) {
                0 if readers.len() < 5 => readers.push(Reader::new(play.reader_of(&[]))),
                1 if !readers.is_empty() => {
                    let index = random(readers.len());
                    let topic = PREFIXES[random(9)];
                    readers[index].subscribe(topic, &values);
                    play.subscribe(readers[index].id, topic);
                }
                4 | 5 if !readers.is_empty() => {
                    // What is queued by then may be of a topic that it does not want any more.
                    let index = random(readers.len());
                    let sent = play.write_up_to(readers[index].id, usize::MAX);
                    readers[index].read(&sent);
                    let topic = PREFIXES[random(9)];
                    readers[index].cancel(topic);
                    play.command(readers[index].id, "CANCEL", topic);
                }
                2 | 3 if !readers.is_empty() => {
                    let index = random(readers.len());
                    let sent = play.write_up_to(readers[index].id, usize::MAX);
                    readers[index].read(&sent);
                    play.turns(1);
                }
                _ => {
                    let topic = &topics[random(60)];
                    play.publish(publisher, topic, &number.to_string());
                    values.insert(topic.clone(), number);
                }
            }
            play.check_memory();
        }
        for mut reader in readers {
            loop {
                play.turns(1);
                let sent = play.write_up_to(reader.id, usize::MAX);
                if sent.is_empty() {
                    break;
                }
                reader.read(&sent);
            }
            reader.check(&values, sndhwm == 0);
        }
    }
}

/// A subscriber, and what it must get.
struct Reader {
    /// The values that it was to get when it subscribed.
    due: BTreeMap<String, u64>,
    id: ConnId,
    /// The number in the last message of each topic.
    seen: BTreeMap<String, u64>,
    wanted: BTreeSet<String>,
}

impl Reader {
    fn new(id: ConnId) -> Self {
        Self {
            due: BTreeMap::new(),
            id,
            seen: BTreeMap::new(),
            wanted: BTreeSet::new(),
        }
    }

    fn wants(&self, topic: &str) -> bool {
        self.wanted
            .iter()
            .any(|prefix| topic.starts_with(&**prefix))
    }

    fn subscribe(&mut self, prefix: &str, values: &BTreeMap<String, u64>) {
        for (topic, number) in values.iter().filter(|(topic, _)| topic.starts_with(prefix)) {
            if !self.wants(topic) {
                self.due.insert(topic.clone(), *number);
                // It may have come before, for a subscription that was cancelled.
                self.seen.remove(topic);
            }
        }
        self.wanted.insert(prefix.to_owned());
    }

    fn cancel(&mut self, prefix: &str) {
        self.wanted.remove(prefix);
        let mut due = std::mem::take(&mut self.due);
        due.retain(|topic, _| self.wants(topic));
        self.due = due;
    }

    /// Numbers of a topic only grow, and none comes again.
    fn read(&mut self, sent: &[u8]) {
        for frames in messages(sent) {
            let (topic, number) = (&frames[0], frames[1].parse().expect("a number"));
            assert!(self.wants(topic), "{frames:?}");
            let due = self.due.remove(topic);
            assert!(
                due.is_none_or(|due| due <= number),
                "{frames:?}, {due:?} is due"
            );
            let former = self.seen.insert(topic.clone(), number);
            assert!(
                former.is_none_or(|it| it < number),
                "{frames:?} after {former:?}"
            );
        }
    }

    fn check(&self, values: &BTreeMap<String, u64>, has_room: bool) {
        for (topic, number) in &self.due {
            // A newer message was for it, and its queue was full.
            assert!(
                !has_room && values[topic] > *number,
                "{topic}={number} never came"
            );
        }
        for (topic, newest) in values.iter().filter(|_| has_room) {
            let seen = self.seen.get(topic);
            assert!(
                !self.wants(topic) || seen.is_none_or(|it| it == newest),
                "{topic}"
            );
        }
    }
}
