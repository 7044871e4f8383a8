//! Questions and commands of the program, and their costs.

use crate::play::{Play, proxy};
use broker::config::{ProxyConfig, SocketName};
use broker::limits::{SAMPLE_LEN_MAX, SAMPLE_PATIENCE, WORK_PER_TURN};
use broker::reason::CloseReason;
use broker::view::{PageQuery, PeerFilter, StopState};
use broker::{AdminError, ConnId, ProxyId, Reloaded};
use std::time::Duration;
use zmtp::SocketType;

fn first_proxy(play: &Play) -> ProxyId {
    play.core.proxies().next().expect("one is configured")
}

#[test]
fn calls_have_a_share_of_the_turn_and_at_least_one_is_answered() {
    let mut play = Play::of(proxy("streamer"));
    for _ in 0..2000 {
        play.join_as(SocketName::Frontend, SocketType::Push);
    }
    for _ in 0..3 {
        play.core.begin_turn(play.now);
        let before = play.core.work_of_turn();
        let mut calls = 0;
        while play.core.may_call() {
            assert_eq!(play.core.admin(play.now).sockets()[0].peers, 2000);
            calls += 1;
        }
        let work = play.core.work_of_turn() - before;
        assert!(calls >= 1, "a call waits for a turn without calls");
        // The last one may begin just before the share is used up.
        assert!(work < WORK_PER_TURN / 4, "{calls} calls, {work} units");
        assert!(!play.core.admin(play.now).has_budget());
    }
    // The next turn has the whole share again, however little was left of this one.
    play.core.begin_turn(play.now);
    assert!(play.core.admin(play.now).has_budget());
}

#[test]
fn a_long_list_comes_in_pages() {
    let mut play = Play::of(proxy("streamer"));
    let proxy = first_proxy(&play);
    let sources: Vec<ConnId> = (0..250)
        .map(|_| play.join_as(SocketName::Frontend, SocketType::Push))
        .collect();
    let sink = play.join_as(SocketName::Backend, SocketType::Pull);
    let filter = PeerFilter::of_socket(SocketName::Frontend);
    let (mut listed, mut query, mut lens) = (Vec::new(), PageQuery::default(), Vec::new());
    loop {
        let page = play.core.admin(play.now).peers(proxy, &filter, &query);
        let page = page.expect("the proxy exists");
        assert_eq!(page.total, Some(250));
        lens.push(page.items.len());
        listed.extend(page.items.iter().map(|peer| peer.id));
        query = PageQuery::after(*listed.last().expect("there are peers"));
        if !page.has_more {
            break;
        }
    }
    assert_eq!((listed, lens), (sources, vec![100, 100, 50]));
    let all = play
        .core
        .admin(play.now)
        .peers(proxy, &PeerFilter::default(), &query);
    let all = all.expect("the proxy exists");
    assert_eq!((all.total, all.items[0].id), (Some(251), sink));
}

#[test]
fn a_sample_begins_with_a_question_and_ends_after_the_last() {
    let mut play = Play::of(proxy("streamer"));
    let proxy = first_proxy(&play);
    let source = play.join(SocketName::Frontend);
    let sink = play.join(SocketName::Backend);
    let sample = |play: &mut Play| {
        let sample = play.core.admin(play.now).sample(proxy);
        let sample = sample.expect("it exists").into_iter();
        sample.map(|it| it.frames[0].0.clone()).collect::<Vec<_>>()
    };
    let memory = play.core.memory().connections;
    let send = |play: &mut Play, count: usize| {
        for number in 0..count {
            play.send(source, &[&number.to_string()]);
        }
        play.write(sink).len()
    };
    assert_eq!(send(&mut play, 1), 1);
    assert_eq!(sample(&mut play), [b""; 0], "it begins now");
    assert!(play.core.memory().connections > memory);
    assert_eq!(send(&mut play, 100), 100);
    let first = (0..SAMPLE_LEN_MAX)
        .rev()
        .map(|it| it.to_string().into_bytes());
    assert_eq!(sample(&mut play), first.collect::<Vec<_>>());
    for _ in 0..3 {
        play.pass(SAMPLE_PATIENCE / 2);
        assert_eq!(sample(&mut play).len(), SAMPLE_LEN_MAX, "it goes on");
    }
    send(&mut play, 1);
    assert_eq!(sample(&mut play)[0], b"0");
    play.pass(SAMPLE_PATIENCE);
    assert_eq!(play.core.memory().connections, memory);
    assert_eq!(play.core.walk_memory(), play.core.memory());
    assert_eq!(sample(&mut play), [b""; 0], "it begins anew");
}

#[test]
fn samples_of_all_proxies_have_a_share_of_the_memory() {
    let mut play = Play::with(|config| {
        config.memory_limit = 1 << 20;
        config.proxies.push(proxy("queue"));
    });
    let ids: Vec<ProxyId> = play.core.proxies().collect();
    let sampled = ids.iter().map(|id| play.core.admin(play.now).sample(*id));
    let sampled: Vec<_> = sampled.map(|it| it.map(|list| list.len())).collect();
    assert_eq!(sampled, [Ok(0), Err(AdminError::NoMemory)]);
    play.pass(SAMPLE_PATIENCE);
    assert_eq!(play.core.admin(play.now).sample(ids[1]), Ok(vec![]));
}

#[test]
fn commands_of_the_program_change_what_its_questions_answer() {
    let mut play = Play::of(proxy("streamer"));
    let proxy = first_proxy(&play);
    let [source, other] = [(); 2].map(|()| play.join(SocketName::Frontend));
    let sink = play.join(SocketName::Backend);
    assert_eq!(play.core.admin(play.now).pause(proxy), Ok(true));
    assert_eq!(play.core.admin(play.now).pause(proxy), Ok(false));
    play.send(source, &["waits"]);
    let view = play.core.admin(play.now).proxy(proxy).expect("it exists");
    assert!(view.is_paused && view.stop == StopState::Running);
    assert_eq!(
        (view.sockets[0].waiting, view.sockets[1].queued_messages),
        (1, 0)
    );
    assert_eq!(play.core.admin(play.now).resume(proxy), Ok(true));
    play.turns(1);
    assert_eq!(play.write(sink), ["waits"]);
    play.now += Duration::from_secs(7);
    let filter = PeerFilter {
        id: Some(other),
        ..PeerFilter::default()
    };
    assert_eq!(
        play.core.admin(play.now).kick(proxy, &filter),
        Ok(vec![other])
    );
    play.turns(1);
    let kicked = play.core.admin(play.now).kick(proxy, &filter);
    assert_eq!(kicked, Err(AdminError::NoSuchPeer));
    let page = PageQuery::default();
    let closed = play
        .core
        .admin(play.now)
        .closed_peers(proxy, &filter, &page);
    let closed = closed.expect("the proxy exists").items;
    assert_eq!(closed.len(), 1);
    assert_eq!(
        (closed[0].id, closed[0].reason),
        (other, CloseReason::Kicked)
    );
    assert_eq!(closed[0].lasted, Duration::from_secs(7));
    assert_eq!(
        play.core.admin(play.now).broker().uptime,
        Duration::from_secs(7)
    );
}

#[test]
fn questions_without_an_answer_are_refused_with_the_reason() {
    let streamer = proxy("streamer");
    let mut play = Play::of(proxy("streamer"));
    let proxy = first_proxy(&play);
    play.join(SocketName::Frontend);
    let mut other = Play::of_all(
        ["a", "b"]
            .map(|name| ProxyConfig {
                name: name.to_owned(),
                ..streamer.clone()
            })
            .to_vec(),
    );
    let foreign = other.core.proxies().nth(1).expect("two are configured");
    let (all, page) = (PeerFilter::default(), PageQuery::default());
    let nameless = PeerFilter {
        identity: Some(Vec::new()),
        ..PeerFilter::default()
    };
    let gone = PageQuery::after("7-00000007".parse().expect("the form of an id"));
    let mut admin = play.core.admin(play.now);
    assert_eq!(admin.proxy(foreign), Err(AdminError::NoSuchProxy));
    assert_eq!(
        admin.peers(foreign, &all, &page),
        Err(AdminError::NoSuchProxy)
    );
    assert_eq!(admin.terminate(foreign), Err(AdminError::NoSuchProxy));
    assert_eq!(admin.kick(proxy, &all), Err(AdminError::NoCriterion));
    assert_eq!(admin.kick(proxy, &nameless), Err(AdminError::NamelessKick));
    assert_eq!(
        admin.subscribers(proxy, b"", &page),
        Err(AdminError::NoTopics)
    );
    let topics = admin.topics(proxy, b"", &PageQuery::default());
    assert_eq!(topics, Err(AdminError::NoTopics));
    let closed = admin.closed_peers(proxy, &all, &gone);
    assert_eq!(closed, Err(AdminError::Forgotten));
    assert_eq!(other.core.admin(other.now).terminate(foreign), Ok(true));
    assert_eq!(other.core.admin(other.now).terminate(foreign), Ok(false));
}

/// An envelope of a few hundred bytes is that of a long way; one of megabytes would be memory that
/// a peer takes for nothing.
#[test]
fn peers_that_wait_for_a_reload_are_bounded_and_counted() {
    let mut config = proxy("streamer");
    config.backend.bind = vec!["tcp://127.0.0.1:2".parse().expect("an endpoint")];
    config.control.socket.bind = vec!["tcp://127.0.0.1:3".parse().expect("an endpoint")];
    let mut play = Play::of(config);
    let peer = play.join_as(SocketName::Control, SocketType::Dealer);
    play.write(peer);
    let before = play.core.memory();
    let ask = |play: &mut Play, size: usize| {
        let reload: &[u8] = br#"{"command": "reload"}"#;
        play.send_frames(peer, &[&vec![b'e'; size], b"", reload]);
        play.turns(1);
        let memory = play.core.memory();
        assert_eq!(memory, play.core.walk_memory(), "the account of memory");
        let answers = play.write(peer);
        (memory.connections - before.connections, answers)
    };
    let (kept, answers) = ask(&mut play, 1 << 20);
    assert_eq!(kept, 0, "a long envelope is not kept");
    assert!(answers[2].contains("4096 bytes"), "{answers:?}");
    for number in 1..=8 {
        let (kept, answers) = ask(&mut play, 4000);
        assert!((number * 4000..number * 4096).contains(&kept), "{kept}");
        assert_eq!(answers, [""; 0], "the answer comes later");
    }
    let (kept, answers) = ask(&mut play, 4000);
    assert!(kept < 8 * 4096 && answers[2].contains("eight times"));
    play.core.handle_reloaded(&Ok(Reloaded::default()));
    assert_eq!(play.core.memory(), play.core.walk_memory());
    let answers = play.write(peer);
    assert_eq!(answers.len(), 8 * 3, "eight answers with their envelopes");
    assert!(answers[2].contains("changes"), "{}", answers[2]);
    ask(&mut play, 100);
    play.lose(peer);
    assert_eq!(play.core.memory(), play.core.walk_memory());
}

#[test]
fn a_report_of_watches_is_forgotten_with_the_peer_that_made_it() {
    let mut config = proxy("streamer");
    config.control.socket.bind = vec!["tcp://127.0.0.1:3".parse().expect("an endpoint")];
    let mut play = Play::of(config);
    let [reporter, other] = [(); 2].map(|()| play.join_as(SocketName::Control, SocketType::Req));
    let watch = r#"{"name":"a","state":"down","sign":"silent","actions":7,"reason":"late"}"#;
    let report = format!("{{\"command\":\"watches\",\"report\":[{watch}]}}");
    play.write(reporter);
    play.send_frames(reporter, &[b"", report.as_bytes()]);
    play.turns(1);
    assert_eq!(play.write(reporter).concat(), r#"{"kept":1}"#);
    assert_eq!(play.core.memory(), play.core.walk_memory());
    let told = |play: &mut Play| {
        let watches = play.core.admin(play.now).watches();
        watches.iter().map(|it| it.actions).collect::<Vec<u64>>()
    };
    play.lose(other);
    assert_eq!(told(&mut play), [7]);
    play.lose(reporter);
    assert_eq!(told(&mut play), [0; 0]);
    assert_eq!(play.core.memory(), play.core.walk_memory());
    let last = play.join_as(SocketName::Control, SocketType::Req);
    play.write(last);
    for wrong in ["7", "[7]", r#"[{"name":"a"}]"#] {
        let report = format!("{{\"command\":\"watches\",\"report\":{wrong}}}");
        play.send_frames(last, &[b"", report.as_bytes()]);
        play.turns(1);
        let answer = play.write(last).concat();
        assert!(
            answer.contains("error\":\"report: write a list of watches"),
            "{answer}"
        );
    }
}
