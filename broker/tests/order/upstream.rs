//! Subscriptions on their way to slow publishers.

use crate::play::{Play, listening, proxy};
use broker::config::{Admission, Config, RoleConfig, RoleSide, SocketName};
use broker::limits::{CANCELS_PER_TURN_MAX, UPSTREAM_BYTES_MAX, UPSTREAM_PATIENCE};
use broker::view::PeerFilter;
use broker::{Action, ConnId, Egress, Flow};
use std::collections::BTreeSet;
use std::time::Duration;
use zmtp::encode::{append_command, append_frame};
use zmtp::limits::GREETING_SIZE;
use zmtp::wire::command::Command;
use zmtp::{Authorization, Frames, SocketType};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// The subscriptions that a publisher has read.
#[derive(Default)]
struct Knowledge {
    read: Vec<u8>,
    topics: BTreeSet<Vec<u8>>,
}

impl Knowledge {
    /// Reads at most `limit` pending bytes.
    fn read(&mut self, play: &mut Play, id: ConnId, limit: usize) -> usize {
        let sent = play.write_up_to(id, limit);
        self.read.extend_from_slice(&sent);
        let mut frames = Frames::new(&self.read);
        let mut rest = frames.rest().len();
        while let Some(frame) = frames.next() {
            match Command::parse(frame.body) {
                Ok(Command::Subscribe(topic)) => {
                    let is_news = self.topics.insert(topic.to_vec());
                    assert!(is_news, "told twice: {}", topic.escape_ascii());
                }
                Ok(Command::Cancel(topic)) => {
                    let is_news = self.topics.remove(topic);
                    assert!(is_news, "cancelled twice: {}", topic.escape_ascii());
                }
                _ => {}
            }
            rest = frames.rest().len();
        }
        self.read.drain(..self.read.len() - rest);
        sent.len()
    }

    /// Reads all pending bytes, and all that follow when there is room again.
    fn read_all(&mut self, play: &mut Play, id: ConnId) {
        while self.read(play, id, usize::MAX) > 0 {
            play.core.handle_timeout(play.now, play.now);
        }
    }
}

fn say(play: &mut Play, id: ConnId, name: &str, topics: &[String]) -> Flow {
    let mut wire = Vec::new();
    for topic in topics {
        append_command(&mut wire, name, topic.as_bytes());
    }
    let mut flow = Flow::Done;
    for part in wire.chunks(200 << 10) {
        flow = play.feed(id, part);
    }
    flow
}

fn topics(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("a topic, number {number:06}"))
        .collect()
}

fn as_bytes(topics: &[String]) -> BTreeSet<Vec<u8>> {
    let topics = topics.iter();
    topics.map(|topic| topic.clone().into_bytes()).collect()
}

/// A forwarder with publishers that have read their part of the handshake, and subscribers.
fn forwarder<const P: usize, const S: usize>() -> (Play, [ConnId; P], [ConnId; S]) {
    let mut play = Play::of(proxy("forwarder"));
    let publishers = [(); P].map(|()| {
        let id = play.join_as(SocketName::Frontend, SocketType::Pub);
        play.write(id);
        id
    });
    let subscribers = [(); S].map(|()| {
        let id = play.join_as(SocketName::Backend, SocketType::Sub);
        play.write(id);
        id
    });
    (play, publishers, subscribers)
}

fn queued(play: &Play, id: ConnId) -> u64 {
    play.core.egress(id).map_or(0, Egress::bytes)
}

fn closed(play: &mut Play) -> Vec<ConnId> {
    play.core.run_deferred(play.now);
    let actions = std::iter::from_fn(|| play.core.poll_action());
    let closed = actions.filter_map(|action| match action {
        Action::Close { id, .. } => Some(id),
        _ => None,
    });
    closed.collect()
}

#[test]
fn subscribers_do_not_wait_for_a_publisher_that_reads_in_drops() {
    let (mut play, [quick, slow], [greedy, modest]) = forwarder();
    let (mut of_quick, mut of_slow) = (Knowledge::default(), Knowledge::default());
    let wanted = topics(30_000);
    for part in wanted.chunks(1000) {
        assert_eq!(say(&mut play, greedy, "SUBSCRIBE", part), Flow::Done);
        of_quick.read(&mut play, quick, usize::MAX);
        of_slow.read(&mut play, slow, 64);
    }
    assert_eq!(of_quick.topics, as_bytes(&wanted));
    for step in 0..30 {
        play.now += HALF_A_SECOND;
        of_slow.read(&mut play, slow, 64);
        let topic = [format!("modest {step}")];
        assert_eq!(say(&mut play, modest, "SUBSCRIBE", &topic), Flow::Done);
        of_quick.read(&mut play, quick, usize::MAX);
        assert!(of_quick.topics.contains(topic[0].as_bytes()), "{topic:?}");
        assert_eq!(closed(&mut play), [], "it reads, however little");
        assert!(queued(&play, slow) <= UPSTREAM_BYTES_MAX + 1000);
    }
    assert_eq!(queued(&play, quick), 0);
    let noted = play.core.subscription_memory_of(slow);
    assert!(noted > 0 && play.core.subscription_memory() > noted);
    // It never gets subscriptions that are cancelled before it could get them.
    say(&mut play, greedy, "CANCEL", &wanted[20_000..]);
    say(&mut play, greedy, "CANCEL", &wanted[..100]);
    of_slow.read_all(&mut play, slow);
    of_quick.read_all(&mut play, quick);
    assert_eq!(of_slow.topics, of_quick.topics);
    assert_eq!(of_slow.topics.len(), 19_900 + 30);
    assert!(play.core.subscription_memory_of(slow) < 1000);
}

#[test]
fn a_slow_publisher_gets_everything_although_another_left() {
    let (mut play, [first, _, slow], [greedy]) = forwarder();
    play.lose(first);
    let mut of_slow = Knowledge::default();
    let wanted = topics(30_000);
    for part in wanted.chunks(1000) {
        assert_eq!(say(&mut play, greedy, "SUBSCRIBE", part), Flow::Done);
        of_slow.read(&mut play, slow, 64);
    }
    of_slow.read_all(&mut play, slow);
    assert_eq!(of_slow.topics, as_bytes(&wanted));
}

#[test]
fn a_publisher_that_reads_nothing_is_closed_and_blocks_no_other() {
    let (mut play, [quick, dead], [subscriber]) = forwarder();
    let mut of_quick = Knowledge::default();
    // The kernel accepts no more long before the queue is full.
    play.core.handle_written(dead, 0, true);
    let wanted = topics(30_000);
    assert_eq!(say(&mut play, subscriber, "SUBSCRIBE", &wanted), Flow::Done);
    let begun = play.now;
    loop {
        of_quick.read_all(&mut play, quick);
        assert_eq!(of_quick.topics.len(), wanted.len());
        play.now = play.core.poll_timeout().expect("a timer");
        play.core.handle_timeout(play.now, play.now);
        assert!(play.now <= begun + 2 * UPSTREAM_PATIENCE);
        let closed = closed(&mut play);
        if !closed.is_empty() {
            assert_eq!(closed, [dead]);
            break;
        }
    }
    assert!(play.now >= begun + UPSTREAM_PATIENCE);
    let snapshots = play.core.statistics();
    let counters = &snapshots[0].counters;
    assert_eq!(counters.closed_for("subscriptions-unread"), 1);
}

#[test]
fn a_long_table_is_sent_in_slices_and_changes_meanwhile_once() {
    let (mut play, [], [one, other]) = forwarder();
    let wanted = topics(50_000);
    say(&mut play, one, "SUBSCRIBE", &wanted);
    let late = play.join_as(SocketName::Frontend, SocketType::Pub);
    let mut of_late = Knowledge::default();
    // Only frames follow the greeting.
    assert_eq!(play.write_up_to(late, GREETING_SIZE).len(), GREETING_SIZE);
    let mut turns = 0;
    while of_late.topics.len() < 40_000 {
        turns += 1;
        play.core.handle_timeout(play.now, play.now);
        assert!(queued(&play, late) <= UPSTREAM_BYTES_MAX + 1000);
        // One that it knows, one that it does not know yet, and a new one at either end.
        say(&mut play, one, "CANCEL", &wanted[turns..=turns]);
        say(
            &mut play,
            one,
            "CANCEL",
            &wanted[49_000 + turns..=49_000 + turns],
        );
        let news = ["! first", "~ last"].map(|end| format!("{end} {turns}"));
        say(&mut play, other, "SUBSCRIBE", &news);
        of_late.read(&mut play, late, 100_000);
    }
    assert!(turns > 10, "{turns}");
    of_late.read_all(&mut play, late);
    let mut expected = as_bytes(&wanted);
    for turn in 1..=turns {
        expected.remove(wanted[turn].as_bytes());
        expected.remove(wanted[49_000 + turn].as_bytes());
        expected.extend(["! first", "~ last"].map(|end| format!("{end} {turn}").into_bytes()));
    }
    assert_eq!(of_late.topics, expected);
}

#[test]
fn cancels_wait_neither_for_a_publisher_nor_for_another_proxy() {
    let mut play =
        Play::with(|config| config.proxies = vec![proxy("forwarder"), proxy("forwarder")]);
    let mut join = |proxy, side, socket_type| {
        let id = play.join_to((proxy, side), socket_type, &[]);
        play.write(id);
        id
    };
    let stuck = join(0, SocketName::Frontend, SocketType::Pub);
    let greedy = join(0, SocketName::Backend, SocketType::Sub);
    let modest = join(1, SocketName::Backend, SocketType::Sub);
    let wanted = topics(30_000);
    say(&mut play, greedy, "SUBSCRIBE", &wanted);
    say(&mut play, modest, "SUBSCRIBE", &wanted[..10]);
    assert!(queued(&play, stuck) > UPSTREAM_BYTES_MAX);
    play.lose(greedy);
    play.lose(modest);
    let topics_of = |play: &Play, proxy: usize| {
        let snapshots = play.core.statistics();
        snapshots[2 * proxy + 1].topics
    };
    assert_eq!((topics_of(&play, 0), topics_of(&play, 1)), (30_000, 10));
    play.core.handle_timeout(play.now, play.now);
    assert_eq!(topics_of(&play, 1), 0, "its proxy has a turn of its own");
    assert_eq!(topics_of(&play, 0), 30_000 - (CANCELS_PER_TURN_MAX - 10));
    play.turns(100);
    assert_eq!(topics_of(&play, 0), 0, "the publisher has read nothing");
    let mut of_stuck = Knowledge::default();
    of_stuck.read_all(&mut play, stuck);
    assert_eq!(of_stuck.topics.len(), 0);
}

#[test]
fn the_memory_of_subscriptions_is_known_and_freed() {
    let (mut play, [publisher], [greedy, modest]) = forwarder();
    let mut knowledge = Knowledge::default();
    let before = play.core.subscription_memory();
    say(&mut play, modest, "SUBSCRIBE", &topics(10));
    say(&mut play, greedy, "SUBSCRIBE", &topics(20_000));
    let (id, bytes) = play.core.largest_subscriber().expect("there are two");
    assert_eq!(id, greedy);
    let memory = play.core.subscription_memory();
    assert!(
        bytes > 20_000 * 30 && bytes < 2 * memory,
        "{bytes} of {memory}"
    );
    assert!(play.core.subscription_memory_of(modest) < 2000);
    play.lose(greedy);
    play.turns(100);
    // The pending changes of a publisher count as its memory.
    let (id, _) = play.core.largest_subscriber().expect("it is behind");
    assert_eq!(id, publisher);
    knowledge.read_all(&mut play, publisher);
    assert_eq!(knowledge.topics, as_bytes(&topics(10)));
    let (id, _) = play.core.largest_subscriber().expect("there is one");
    assert_eq!(id, modest);
    say(&mut play, modest, "CANCEL", &topics(10));
    knowledge.read_all(&mut play, publisher);
    let after = play.core.subscription_memory();
    assert!(after < before + 20_000, "{before}, {memory}, {after}");
}

/// The broker closes the peer for the second subscription. What came with it was handled, or not,
/// as the input happened to be cut. So it is if the peer was about to be closed for something else.
#[test]
fn nothing_is_handled_behind_a_subscription_too_many() {
    for is_closing in [false, true] {
        let mut config = proxy("forwarder");
        config.backend.options.subscriptions_max = 1;
        let mut play = Play::of(config);
        let publisher = play.join_as(SocketName::Frontend, SocketType::Xpub);
        let peer = play.join_as(SocketName::Backend, SocketType::Xsub);
        play.write(publisher);
        let mut wire = Vec::new();
        append_frame(&mut wire, b"early", false);
        for topic in [b"a", b"b"] {
            append_command(&mut wire, "SUBSCRIBE", topic);
        }
        append_frame(&mut wire, b"late", false);
        if is_closing {
            let proxy = play.core.proxies().next().expect("one proxy");
            let filter = PeerFilter {
                id: Some(peer),
                ..PeerFilter::default()
            };
            let kicked = play.core.admin(play.now).kick(proxy, &filter);
            assert_eq!(kicked, Ok(vec![peer]));
        }
        assert_eq!(play.feed(peer, &wire), Flow::Closed, "{is_closing}");
        let written = play.write(publisher);
        assert!(written.iter().any(|body| body == "early"), "{written:?}");
        assert!(!written.iter().any(|body| body == "late"), "{written:?}");
    }
}

/// Also where the role does not limit what a peer gets: with `invert_matching`, and at a capture.
#[test]
fn a_role_limits_the_number_of_subscriptions_wherever_its_peers_subscribe() {
    for (name, inverts) in [
        (SocketName::Backend, false),
        (SocketName::Backend, true),
        (SocketName::Capture, false),
    ] {
        let mut config = proxy("forwarder");
        config.capture.socket = listening();
        config.backend.options.invert_matching = inverts;
        config.socket_mut(name).admission = Admission::Program;
        let role = RoleConfig {
            max_subscriptions: 2,
            name: RoleConfig::DEFAULT.to_owned(),
            sides: Some(vec![RoleSide::Capture, RoleSide::Subscriber]),
            subscribe: vec!["".parse().expect("a rule")],
            ..RoleConfig::default()
        };
        let mut play = Play::run(&Config {
            proxies: vec![config],
            roles: vec![role],
            ..Config::default()
        });
        let peer = play.join_as(name, SocketType::Sub);
        let granted = Authorization::Granted {
            user: Some("reader".into()),
        };
        let done = play.core.admin(play.now).authorize(peer, granted);
        assert_eq!(done, Ok(()));
        play.feed(peer, &[]);
        let mut subscribe = |topic: &[u8]| {
            let mut wire = Vec::new();
            append_command(&mut wire, "SUBSCRIBE", topic);
            play.feed(peer, &wire)
        };
        let flows = [b"a", b"b", b"a", b"c"].map(|topic| subscribe(topic));
        let expected = [Flow::Done, Flow::Done, Flow::Done, Flow::Closed];
        assert_eq!(flows, expected, "{name:?}, inverts: {inverts}");
    }
}
