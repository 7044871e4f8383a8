//! Last values for new subscribers, and messages that are sent again.

use crate::changes::{endpoint, named};
use crate::play::Play;
use broker::config::{CacheConfig, Config, ProxyConfig, ReplayConfig, SocketName, diff};
use broker::limits::WISHES_INSIDE_MAX;
use broker::view::{CacheView, ReplayView};
use broker::{Applied, ChangeError, ConnId, Flow};
use std::collections::BTreeMap;
use std::time::Duration;
use zmtp::encode::{append_command, append_message};
use zmtp::limits::GREETING_SIZE;
use zmtp::{Frame, Frames, SocketType};

mod at_random;

const FRONT: SocketName = SocketName::Frontend;
const BACK: SocketName = SocketName::Backend;

/// A forwarder that keeps the values of these topics.
fn caching(topics: &[&str]) -> ProxyConfig {
    let mut config = named("main", "forwarder", 1);
    config.cache = Some(CacheConfig {
        topics: topics.iter().map(ToString::to_string).collect(),
        ..CacheConfig::default()
    });
    config
}

/// A forwarder that sends messages again.
fn replaying() -> ProxyConfig {
    let mut config = named("main", "forwarder", 1);
    config.replay.socket.bind.push(endpoint(9));
    config
}

impl Play {
    fn publisher(&mut self) -> ConnId {
        self.join_as(FRONT, SocketType::Pub)
    }

    /// A subscriber that has read its handshake.
    fn reader_of(&mut self, topics: &[&str]) -> ConnId {
        let id = self.join_as(BACK, SocketType::Sub);
        self.write(id);
        for topic in topics {
            self.subscribe(id, topic);
        }
        id
    }

    fn subscribe(&mut self, id: ConnId, topic: &str) {
        self.command(id, "SUBSCRIBE", topic);
    }

    fn command(&mut self, id: ConnId, name: &str, topic: &str) {
        let mut command = Vec::new();
        append_command(&mut command, name, topic.as_bytes());
        self.feed(id, &command);
    }

    fn publish(&mut self, id: ConnId, topic: &str, body: &str) {
        self.send_frames(id, &[topic.as_bytes(), body.as_bytes()]);
    }

    /// The messages that a peer reads, until nothing more is queued for it: frames joined by `=`.
    fn read_all(&mut self, id: ConnId) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let sent = self.write_up_to(id, usize::MAX);
            if sent.is_empty() {
                return read;
            }
            read.extend(messages(&sent).iter().map(|frames| frames.join("=")));
            self.turns(1);
        }
    }

    fn cache(&mut self) -> CacheView {
        let view = self.core.admin(self.now).proxies().remove(0);
        view.cache.expect("it keeps values")
    }

    fn ring(&mut self) -> ReplayView {
        let view = self.core.admin(self.now).proxies().remove(0);
        view.replay.expect("it keeps messages")
    }

    fn remake(&mut self, change: impl FnOnce(&mut Config)) -> Result<Applied, ChangeError> {
        let mut next = self.core.admin(self.now).config().clone();
        change(&mut next);
        self.change(|admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        })
    }

    /// The account of memory is that of a recount.
    fn check_memory(&self) {
        assert_eq!(self.core.memory(), self.core.walk_memory());
    }

    /// A peer that asks for messages again.
    fn asker(&mut self, socket_type: SocketType) -> ConnId {
        let id = self.join_as(SocketName::Replay, socket_type);
        self.write(id);
        id
    }
}

/// The messages in these bytes; frames that are no text are shown as numbers.
fn messages(wire: &[u8]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for Frame { body, more, .. } in Frames::new(wire) {
        let last = all.last_mut().expect("one message at least");
        last.push(match <[u8; 8]>::try_from(body) {
            Ok(number) if body[0] == 0 => u64::from_be_bytes(number).to_string(),
            _ => String::from_utf8_lossy(body).into_owned(),
        });
        if !more {
            all.push(Vec::new());
        }
    }
    all.pop();
    all
}

#[test]
fn a_new_subscriber_and_no_other_gets_the_last_values_and_then_the_stream() {
    let mut play = Play::of(caching(&["cfg.", "x"]));
    let publisher = play.publisher();
    for (topic, body) in [("cfg.b", "1"), ("cfg.a", "2"), ("y", "3"), ("cfg.b", "4")] {
        play.publish(publisher, topic, body);
    }
    let first = play.reader_of(&["cfg."]);
    assert_eq!(play.read_all(first), ["cfg.a=2", "cfg.b=4"]);
    let second = play.reader_of(&["cfg.b", "y"]);
    play.publish(publisher, "cfg.b", "5");
    assert_eq!(
        play.read_all(second),
        ["cfg.b=4", "cfg.b=5"],
        "y has no value"
    );
    assert_eq!(play.read_all(first), ["cfg.b=5"]);
    play.check_memory();
}

#[test]
fn a_reader_of_the_capture_gets_no_values() {
    let mut config = caching(&[""]);
    config.capture.socket.bind.push(endpoint(9));
    let mut play = Play::of(config);
    let publisher = play.publisher();
    play.publish(publisher, "a", "1");
    let reader = play.join_as(SocketName::Capture, SocketType::Sub);
    play.write(reader);
    play.subscribe(reader, "");
    assert_eq!(play.read_all(reader), [""; 0]);
    play.publish(publisher, "a", "2");
    assert_eq!(play.read_all(reader), ["in=a=2"]);
}

#[test]
fn a_value_comes_once_however_many_subscriptions_match_it() {
    let mut play = Play::of(caching(&[""]));
    let publisher = play.publisher();
    for topic in ["a", "ab", "abc", "b"] {
        play.publish(publisher, topic, "1");
    }
    let reader = play.reader_of(&["ab", "a", "", "abc"]);
    assert_eq!(play.read_all(reader), ["ab=1", "abc=1", "a=1", "b=1"]);
    play.subscribe(reader, "ab");
    assert_eq!(play.read_all(reader), [""; 0], "it is not new");
    play.command(reader, "CANCEL", "");
    play.command(reader, "CANCEL", "a");
    play.subscribe(reader, "a");
    assert_eq!(
        play.read_all(reader),
        ["a=1"],
        "ab has stayed subscribed to"
    );
    play.check_memory();
}

#[test]
fn a_value_does_not_come_again_when_one_of_its_subscriptions_is_cancelled() {
    let mut config = caching(&[""]);
    config.backend.options.sndhwm = 2;
    let mut play = Play::of(config);
    let publisher = play.publisher();
    for topic in ["a", "ab1", "ab2", "ac1", "ac2"] {
        play.publish(publisher, topic, "1");
    }
    let before = play.core.memory();
    let read = |play: &mut Play, id: ConnId| {
        let sent = play.write_up_to(id, usize::MAX);
        play.turns(1);
        let read = messages(&sent);
        read.iter().map(|it| it.join("=")).collect::<Vec<_>>()
    };
    // The outer one goes on where the inner one was.
    let reader = play.reader_of(&["ab"]);
    assert_eq!(play.read_all(reader), ["ab1=1", "ab2=1"]);
    play.subscribe(reader, "a");
    play.command(reader, "CANCEL", "ab");
    play.check_memory();
    assert_eq!(play.read_all(reader), ["a=1", "ac1=1", "ac2=1"]);
    // An inner one goes on where the outer one was.
    let reader = play.reader_of(&["a"]);
    assert_eq!(read(&mut play, reader), ["a=1"]);
    for topic in ["ab", "ac2"] {
        play.subscribe(reader, topic);
    }
    assert_eq!(read(&mut play, reader), ["ab1=1"]);
    play.command(reader, "CANCEL", "a");
    play.check_memory();
    assert_eq!(play.read_all(reader), ["ab2=1", "ac2=1"]);
    assert_eq!(play.core.memory().kept, before.kept);
    play.check_memory();
}

#[test]
fn a_peer_that_cancels_around_too_many_waiting_subscriptions_is_closed() {
    for (inside, closed) in [(WISHES_INSIDE_MAX, 0), (WISHES_INSIDE_MAX + 1, 1)] {
        let mut config = caching(&[""]);
        config.backend.options.sndhwm = 2;
        let mut play = Play::of(config);
        let publisher = play.publisher();
        for number in 0..=WISHES_INSIDE_MAX {
            play.publish(publisher, &format!("{number:05}"), "1");
        }
        let reader = play.reader_of(&[""]);
        for number in 0..inside {
            play.subscribe(reader, &format!("{number:05}"));
        }
        play.command(reader, "CANCEL", "");
        let counters = &play.core.statistics()[1].counters;
        assert_eq!(counters.closed_for("too-many-subscriptions"), closed);
        play.turns(1000);
        play.check_memory();
    }
}

#[test]
fn publishers_are_asked_for_the_topics_of_a_cache_and_of_a_replay() {
    let asked = |play: &mut Play, id: ConnId| {
        let sent = play.write_up_to(id, usize::MAX);
        let is_greeting = sent.first() == Some(&0xff);
        let rest = &sent[if is_greeting { GREETING_SIZE } else { 0 }..];
        let frames = Frames::new(rest).map(|it| String::from_utf8_lossy(it.body).into_owned());
        let told = frames.filter(|it| it.contains("SUBSCRIBE") || it.contains("CANCEL"));
        told.map(|it| it[1..].to_owned()).collect::<Vec<String>>()
    };
    let mut play = Play::of(caching(&["cfg.", "x"]));
    let publisher = play.publisher();
    assert_eq!(asked(&mut play, publisher), ["SUBSCRIBEcfg.", "SUBSCRIBEx"]);
    assert_eq!(play.core.statistics()[1].topics, 0, "no peer has any");
    let reader = play.reader_of(&["cfg.", "y"]);
    assert_eq!(play.core.statistics()[1].topics, 2);
    assert_eq!(asked(&mut play, publisher), ["SUBSCRIBEy"]);
    play.command(reader, "CANCEL", "cfg.");
    assert_eq!(
        asked(&mut play, publisher),
        [""; 0],
        "the cache still needs it"
    );
    let cache = CacheConfig {
        topics: vec!["x".to_owned(), "z".to_owned()],
        ..CacheConfig::default()
    };
    let made = play.remake(|config| config.proxies[0].cache = Some(cache));
    made.expect("legal");
    assert_eq!(asked(&mut play, publisher), ["SUBSCRIBEz", "CANCELcfg."]);
    let made = play.remake(|config| config.proxies[0].cache = None);
    made.expect("legal");
    assert_eq!(asked(&mut play, publisher), ["CANCELx", "CANCELz"]);
    play.check_memory();
    let mut play = Play::of(replaying());
    let publisher = play.publisher();
    assert_eq!(asked(&mut play, publisher), ["SUBSCRIBE"]);
}

#[test]
fn an_empty_body_deletes_a_value_where_that_is_set() {
    for empty_deletes in [false, true] {
        let mut config = caching(&[""]);
        config.cache.as_mut().expect("it has one").empty_deletes = empty_deletes;
        let mut play = Play::of(config);
        let publisher = play.publisher();
        play.publish(publisher, "a", "1");
        play.publish(publisher, "b", "2");
        play.publish(publisher, "a", "");
        play.send(publisher, &["c"]);
        let reader = play.reader_of(&[""]);
        let values = play.read_all(reader);
        if empty_deletes {
            assert_eq!(
                values,
                ["b=2", "c"],
                "a message of one frame has no body to be empty"
            );
        } else {
            assert_eq!(values, ["a=", "b=2", "c"]);
        }
        play.check_memory();
    }
}

#[test]
fn values_end_with_their_age_and_the_oldest_give_way() {
    let mut config = caching(&[""]);
    let cache = config.cache.as_mut().expect("it has one");
    cache.age_max = Some(Duration::from_secs(60));
    cache.bytes_max = 100_000;
    let mut play = Play::of(config);
    let publisher = play.publisher();
    play.publish(publisher, "old", "1");
    play.pass(Duration::from_secs(40));
    play.publish(publisher, "new", "2");
    play.pass(Duration::from_secs(30));
    let reader = play.reader_of(&[""]);
    assert_eq!(play.read_all(reader), ["new=2"]);
    let body = "x".repeat(10_000);
    for number in 0..50 {
        play.publish(publisher, &format!("{number:02}"), &body);
        assert!(play.cache().bytes <= 100_000);
    }
    let kept = play.cache().values;
    assert!(
        (8..=9).contains(&kept),
        "{kept} values of 10,000 bytes each"
    );
    play.publish(publisher, "49", &"y".repeat(200_000));
    assert_eq!(play.cache().values, kept - 1, "its value cannot be kept");
    let reader = play.reader_of(&["4"]);
    let values = play.read_all(reader);
    let topics: Vec<&str> = values.iter().map(|it| &it[..2]).collect();
    assert_eq!(topics.last(), Some(&"48"));
    play.check_memory();
}

#[test]
fn memory_for_values_stays_within_their_limit_whatever_they_are() {
    for (size, count) in [(0, 20_000), (100, 20_000), (3000, 2000), (40_000, 300)] {
        let mut config = caching(&[""]);
        config.cache.as_mut().expect("it has one").bytes_max = 2 << 20;
        let mut play = Play::of(config);
        let publisher = play.publisher();
        let before = play.core.memory_in_use();
        for number in 0..count {
            let topic = format!("{:016x}", number * 0x9e37_79b9_u64);
            play.publish(publisher, &topic, &"x".repeat(size));
        }
        let (used, values) = (play.core.memory_in_use() - before, play.cache().values);
        assert!(
            used <= (2 << 20) + 4096,
            "{values} values of {size} bytes: {used}"
        );
        assert!(values > 10);
        play.check_memory();
    }
}

#[test]
fn ever_new_topics_use_up_a_turn_sooner_than_known_ones() {
    let mut play = Play::of(caching(&[""]));
    let publisher = play.publisher();
    let mut wire = Vec::new();
    for number in 0..8000 {
        append_message(&mut wire, &[format!("{number:04}").as_bytes(), b"1"]);
    }
    for (most, flow) in [(2000, Flow::More), (8000, Flow::Done)] {
        let mut input = play.core.begin_input(publisher, &mut play.scratch);
        input.spare()[..wire.len()].copy_from_slice(&wire);
        input.filled(wire.len());
        play.core.begin_turn(play.now);
        let before = play.cache().updates;
        let came = play.core.handle_input(play.now, publisher, &mut input);
        let updates = play.cache().updates - before;
        assert_eq!(came, flow);
        assert!((most / 2..=most).contains(&updates), "{updates} in a turn");
        play.core.end_input(publisher, input, &mut play.scratch);
        // All topics are known from now on.
        while play.cache().updates < 8000 {
            play.feed(publisher, &[]);
        }
        play.check_memory();
    }
}

#[test]
fn thousands_of_values_give_way_to_a_large_one_in_small_steps() {
    const LIMIT: u64 = 4 << 20;
    let mut config = caching(&[""]);
    config.cache.as_mut().expect("it has one").bytes_max = LIMIT;
    let mut play = Play::of(config);
    let publisher = play.publisher();
    for number in 0..5000 {
        play.publish(publisher, &format!("{number:04}"), "1");
    }
    assert_eq!(play.cache().values, 5000);
    let large = "x".repeat(usize::try_from(LIMIT).expect("small") - 2000);
    // A turn may pass too.
    let most = 500 + LIMIT / 2048;
    play.publish(publisher, "x", &large);
    assert!(play.cache().values > 5000 - most, "{:?}", play.cache());
    // The next one has to wait for them, but short ones have not.
    play.publish(publisher, "y", &large[..100_000]);
    play.publish(publisher, "z", "1");
    assert!(play.cache().values > 4000 - most, "{:?}", play.cache());
    assert!(play.cache().bytes <= 2 * LIMIT);
    let reader = play.reader_of(&["x", "y", "z"]);
    let came = play.read_all(reader);
    let topics: Vec<&str> = came.iter().map(|it| &it[..2]).collect();
    assert_eq!(topics, ["x=", "z="]);
    let mut before = play.cache().values;
    while play.core.has_backlog() {
        play.turns(1);
        play.check_memory();
        let values = play.cache().values;
        assert!(values + 200 >= before, "{before}, then {values}");
        before = values;
    }
    assert!(play.cache().bytes <= LIMIT);
    assert!(play.cache().values < 10, "{:?}", play.cache());
    play.publish(publisher, "y", &large[..100_000]);
    let reader = play.reader_of(&["y"]);
    assert_eq!(play.read_all(reader).len(), 1);
}

#[test]
fn a_slow_subscriber_of_many_topics_misses_nothing_and_gets_nothing_twice() {
    let mut config = caching(&[""]);
    config.backend.options.sndhwm = 10;
    let mut play = Play::of(config);
    let publisher = play.publisher();
    for number in 0..1000 {
        play.publish(publisher, &format!("{number:04}"), "0");
    }
    let reader = play.reader_of(&[""]);
    let mut newest: BTreeMap<String, String> = BTreeMap::new();
    let mut messages: Vec<String> = Vec::new();
    // Topics on both sides of the cursor change while the values are sent.
    for round in 0..400_usize {
        let topic = format!("{:04}", round * 389 % 1000);
        let body = (round + 1).to_string();
        play.publish(publisher, &topic, &body);
        newest.insert(topic, body);
        let sent = play.write_up_to(reader, usize::MAX);
        messages.extend(crate::kept::messages(&sent).iter().map(|it| it.join("=")));
        play.turns(1);
        play.check_memory();
    }
    messages.extend(play.read_all(reader));
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in &messages {
        let (topic, body) = message.split_once('=').expect("two frames");
        let body = body.parse().expect("a number");
        seen.entry(topic.to_owned()).or_default().push(body);
    }
    assert_eq!(seen.len(), 1000, "every topic came");
    for (topic, bodies) in &seen {
        assert!(
            bodies.is_sorted_by(|one, other| one < other),
            "{topic}: {bodies:?}"
        );
        let last = newest
            .get(topic)
            .map_or(0, |body| body.parse().expect("a number"));
        assert_eq!(bodies.last(), Some(&last), "{topic}");
    }
    assert_eq!(
        messages.len() - 1000,
        seen.values().map(|it| it.len() - 1).sum::<usize>()
    );
    let live: usize = messages.iter().filter(|it| !it.ends_with("=0")).count();
    assert_eq!(live, 400, "no live message was dropped for a value");
}

#[test]
fn what_a_peer_is_still_to_get_is_forgotten_when_it_leaves() {
    let mut config = caching(&[""]);
    config.backend.options.sndhwm = 2;
    config.replay.socket.bind.push(endpoint(9));
    config.replay.socket.options.sndhwm = 2;
    let mut play = Play::of(config);
    let publisher = play.publisher();
    for number in 0..100 {
        play.publish(publisher, &number.to_string(), "1");
    }
    let before = play.core.memory();
    let reader = play.reader_of(&[""]);
    let asker = play.asker(SocketType::Dealer);
    let idle = play.core.memory();
    play.send_frames(asker, &[&0_u64.to_be_bytes()]);
    let asked = play.core.memory();
    assert!(idle.subscriptions > before.subscriptions + 300, "a wish");
    assert!(asked.connections > idle.connections + 100, "a request");
    assert_eq!(asked.kept, before.kept);
    for peer in [reader, asker] {
        play.lose(peer);
    }
    play.turns(1);
    let after = play.core.memory();
    assert_eq!(after.connections, before.connections);
    // The table of subscriptions keeps some room.
    assert!(after.subscriptions < before.subscriptions + 300);
    play.check_memory();
}

#[test]
fn a_subscriber_of_everything_that_reads_nothing_is_closed_before_it_takes_the_memory() {
    const LIMIT: u64 = 4 << 20;
    let mut proxy = caching(&[""]);
    proxy.backend.options.sndhwm = 2;
    let mut play = Play::run(&Config {
        memory_limit: LIMIT,
        proxies: vec![proxy],
        ..Config::default()
    });
    let publisher = play.publisher();
    let honest = play.reader_of(&["a"]);
    let topics: Vec<String> = (0..40)
        .map(|it| format!("{it}{}", "x".repeat(900)))
        .collect();
    for topic in &topics {
        play.publish(publisher, topic, "1");
    }
    let greedy = play.reader_of(&[]);
    let closed = |play: &Play| play.core.statistics()[1].counters.closed_for("memory-shed");
    // Every beginning of a topic has a value, and the longest is sent first.
    let wishes = topics
        .iter()
        .flat_map(|it| (1..it.len()).rev().map(|len| &it[..len]));
    for wish in wishes {
        if closed(&play) > 0 {
            break;
        }
        play.subscribe(greedy, wish);
        assert!(play.core.memory_in_use() <= LIMIT);
    }
    assert_eq!(closed(&play), 1);
    let before = play.core.memory().subscriptions;
    play.turns(1000);
    assert!(play.core.memory().subscriptions < before / 8);
    play.check_memory();
    play.publish(publisher, "a1", "2");
    assert_eq!(play.read_all(honest), ["a1=2"]);
}

#[test]
fn messages_come_again_from_a_number_a_time_or_an_age_on() {
    let mut play = Play::of(replaying());
    play.core.set_unix_time(Duration::from_nanos(1000));
    let publisher = play.publisher();
    for (topic, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        play.publish(publisher, topic, body);
        play.pass(Duration::from_secs(10));
    }
    let dealer = play.asker(SocketType::Dealer);
    let ask = |play: &mut Play, frames: &[&[u8]]| {
        play.send_frames(dealer, frames);
        play.read_all(dealer)
    };
    let all = ["1000=a=1", "1001=b=2", "1002=a=3", "1003"];
    assert_eq!(ask(&mut play, &[&0_u64.to_be_bytes()]), all);
    assert_eq!(ask(&mut play, &[&1001_u64.to_be_bytes()]), all[1..]);
    assert_eq!(
        ask(&mut play, &[&0_u64.to_be_bytes(), b"b"]),
        ["1001=b=2", "1003"]
    );
    assert_eq!(ask(&mut play, &[&7000_u64.to_be_bytes()]), ["1003"]);
    assert_eq!(ask(&mut play, &[b"-15"]), ["1002=a=3", "1003"]);
    play.core.set_unix_time(Duration::from_secs(1_000_000));
    assert_eq!(
        ask(&mut play, &[b"@999975"]),
        ["1001=b=2", "1002=a=3", "1003"]
    );
    let refused = ask(&mut play, &[b"yesterday"]);
    assert!(
        refused[0].starts_with("ERROR: ask with a sequence number"),
        "{refused:?}"
    );
    let req = play.asker(SocketType::Req);
    play.send_frames(req, &[b"", &1002_u64.to_be_bytes()]);
    assert_eq!(
        play.read_all(req),
        ["=1002=a=3", "=1003"],
        "each has the delimiter"
    );
    play.check_memory();
}

#[test]
fn a_slow_reader_of_a_ring_goes_on_where_the_ring_begins() {
    let mut config = replaying();
    config.replay.messages_max = 100;
    config.replay.socket.options.sndhwm = 8;
    let mut play = Play::of(config);
    let publisher = play.publisher();
    let publish = |play: &mut Play, numbers: std::ops::Range<u32>| {
        for number in numbers {
            play.publish(publisher, "t", &number.to_string());
        }
    };
    publish(&mut play, 0..250);
    let dealer = play.asker(SocketType::Dealer);
    play.send_frames(dealer, &[&0_u64.to_be_bytes()]);
    let mut read = messages(&play.write_up_to(dealer, usize::MAX));
    assert_eq!(read[0], ["150", "t", "150"], "the oldest that is kept");
    assert!(read.len() <= 4, "half of its queue stays free");
    publish(&mut play, 250..400);
    loop {
        play.turns(1);
        let sent = play.write_up_to(dealer, usize::MAX);
        if sent.is_empty() {
            break;
        }
        read.extend(messages(&sent));
        play.check_memory();
    }
    assert_eq!(read.pop().expect("the last"), ["400"]);
    let numbers: Vec<u64> = read
        .iter()
        .map(|it| it[0].parse().expect("a number"))
        .collect();
    assert!(numbers.is_sorted_by(|one, other| one < other));
    assert_eq!(*numbers.last().expect("some"), 399);
    assert!(
        read.iter().all(|it| it[0] == it[2]),
        "each with its own number"
    );
    let gaps = numbers.windows(2).filter(|it| it[1] != it[0] + 1).count();
    assert_eq!(gaps, 1, "where the ring had moved on");
}

/// Also where the ring is small: a broker with a memory limit must have the rest for its peers.
#[test]
fn the_memory_of_a_ring_is_hardly_more_than_it_may_keep() {
    for bytes_max in [8_000, 100_000, 2_000_000] {
        let mut config = replaying();
        config.replay.bytes_max = bytes_max;
        let mut play = Play::of(config);
        let publisher = play.publisher();
        let body = "x".repeat(400);
        for _ in 0..3 * bytes_max / 400 {
            play.publish(publisher, "a", &body);
            let kept = play.core.memory().kept;
            assert!(kept < bytes_max * 3 / 2, "{kept} bytes for {bytes_max}");
        }
    }
}

#[test]
fn a_ring_keeps_to_its_limits() {
    for (size, bytes_max, messages_max) in [
        (0, 1 << 20, 500),
        (100, 1 << 20, 1 << 40),
        (9000, 1 << 20, 1 << 40),
        (90_000, 1 << 20, 1 << 40),
    ] {
        let mut config = replaying();
        config.replay.bytes_max = bytes_max;
        config.replay.messages_max = messages_max;
        let mut play = Play::of(config);
        let publisher = play.publisher();
        let before = play.core.memory_in_use();
        for number in 0..3000_u32 {
            let extra = if number % 7 == 0 { 70_000 } else { 0 };
            play.publish(publisher, "t", &"x".repeat(size + extra));
            let ring = play.ring();
            assert!(ring.messages <= messages_max && ring.bytes <= bytes_max);
        }
        let used = play.core.memory_in_use() - before;
        assert!(used <= bytes_max + (192 << 10), "{size}: {used} bytes");
        play.check_memory();
        play.publish(publisher, "t", &"x".repeat(2 << 20));
        let ring = play.ring();
        assert_eq!(
            (ring.messages, ring.next_sequence),
            (0, 3001),
            "it has a number only"
        );
    }
}

#[test]
fn live_messages_and_values_end_with_their_numbers_where_that_is_set() {
    let mut config = caching(&["a"]);
    config.replay.sequence = true;
    config.replay.socket.bind.push(endpoint(9));
    let mut play = Play::of(config);
    let publisher = play.publisher();
    let early = play.reader_of(&[""]);
    play.publish(publisher, "a", "1");
    play.publish(publisher, "b", &"x".repeat(300));
    play.send(publisher, &["alone"]);
    play.publish(publisher, "a", "2");
    let late = play.reader_of(&["a", "b"]);
    play.publish(publisher, "b", "3");
    let long = format!("b={}=1", "x".repeat(300));
    let all = ["a=1=0", &long, "alone=2", "a=2=3", "b=3=4"];
    assert_eq!(play.read_all(early), all);
    assert_eq!(play.read_all(late), ["a=2=3", "alone=2", "b=3=4"]);
    let made = play.remake(|config| config.proxies[0].replay.sequence = false);
    made.expect("legal");
    play.publish(publisher, "b", "4");
    assert_eq!(play.read_all(late), ["b=4"]);
    play.check_memory();
}

#[test]
fn kept_messages_survive_a_change_of_their_limits_and_go_with_their_table() {
    let mut config = caching(&[""]);
    config.replay.socket.bind.push(endpoint(9));
    let mut play = Play::of(config);
    let publisher = play.publisher();
    for topic in ["a", "b", "c"] {
        play.publish(publisher, topic, "1");
    }
    let made = play.remake(|config| {
        config.proxies[0].replay.messages_max = 2;
        let cache = config.proxies[0].cache.as_mut().expect("it has one");
        cache.topics = vec!["b".to_owned(), "c".to_owned()];
    });
    made.expect("legal");
    assert_eq!((play.ring().messages, play.cache().values), (2, 2));
    play.publish(publisher, "a", "2");
    let reader = play.reader_of(&[""]);
    assert_eq!(play.read_all(reader), ["b=1", "c=1"]);
    let dealer = play.asker(SocketType::Dealer);
    play.send_frames(dealer, &[&0_u64.to_be_bytes()]);
    assert_eq!(play.read_all(dealer), ["2=c=1", "3=a=2", "4"]);
    let made = play.remake(|config| {
        config.proxies[0].replay = ReplayConfig::default();
        config.proxies[0].cache = None;
    });
    made.expect("legal");
    play.turns(2);
    assert_eq!(play.core.memory().kept, 0);
    play.check_memory();
}
