//! Honest clients.

use super::{Answer, Scene};
use crate::limits::Times;
use broker::Admin;
use broker::view::ValueView;
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::Duration;

#[test]
fn every_question_has_an_answer() {
    let scene = Scene::new();
    let (status, metrics) = scene.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("\nzmqd_connections{proxy=\"a.b\",side=\"backend\"} 0\n"));
    assert_eq!(scene.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(scene.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(scene.get("/readyz?min_peers=queue.backend:1").0, 503);
    let status = scene.json("/api/v1/status");
    assert_eq!(status["proxies"][0]["proxy"], "a.b");
    assert_eq!(status["proxies"][1]["state"], "no peers");
    assert_eq!(status["proxies"][1]["sockets"][0]["socket"], "ROUTER");
    assert!(
        status["proxies"][1]["sockets"][0]["bind"][0]
            .as_str()
            .is_some()
    );
    assert_eq!(status["proxies"][0]["cache"]["values"], 0);
    assert_eq!(status["proxies"][1]["cache"], Value::Null);
    assert_eq!(status["commands"], false);
    let config = scene.json("/api/v1/config");
    assert_eq!(config["proxies"][0]["kind"], "forwarder");
    assert_eq!(config["proxies"][1]["frontend"]["mechanism"], "NULL");
    for path in [
        "peers?sort=queued_bytes&filter=127&limit=5",
        "peers?sort=messages&skip=1",
        "peers?side=backend",
        "closed",
        "subscriptions?prefix_hex=00ff",
        "who?topic=x",
        "statistics",
        "history?since=0",
    ] {
        scene.json(&format!("/api/v1/proxies/a.b/{path}"));
    }
    let (status, page) = scene.get("/");
    assert!(
        status == 200 && page.starts_with("<!doctype html>"),
        "{page}"
    );
}

#[test]
fn the_uses_of_memory_are_all_of_it() {
    let scene = Scene::new();
    let restored = scene.handle.call(|admin| {
        let proxy = admin.proxy_named("a.b").expect("it is there");
        // A frame with the text "topic".
        let wire = b"\x00\x05topic".to_vec();
        let age = Duration::ZERO;
        admin.restore_values(proxy, &[ValueView { age, wire }])
    });
    assert_eq!(restored, Some(Ok(1)));
    let status = scene.json("/api/v1/status");
    let uses = status["memory"].as_object().expect("an object");
    let sum: u64 = uses.values().filter_map(Value::as_u64).sum();
    assert_eq!(status["memory_in_use"], sum);
    assert!(uses["kept"].as_u64() > Some(0), "{uses:?}");
}

#[test]
fn events_are_the_lines_of_the_log() {
    let scene = Scene::new();
    assert_eq!(
        scene.json("/api/v1/events"),
        json!({ "events": [], "total": 0 })
    );
    let pause = |admin: &mut Admin<'_>| {
        let queue = admin.proxy_named("queue").expect("it is there");
        admin.pause(queue).and_then(|_| admin.resume(queue))
    };
    assert_eq!(scene.handle.call(pause), Some(Ok(true)));
    let list = scene.json("/api/v1/events");
    let texts: Vec<&Value> = list["events"].as_array().expect("a list").iter().collect();
    assert_eq!((texts.len(), &list["total"]), (2, &json!(2)));
    assert_eq!(texts[0]["text"], "resumed by this program");
    let last = &texts[1];
    assert!(last["seconds_ago"].as_f64() >= texts[0]["seconds_ago"].as_f64());
    for (key, value) in [
        ("level", json!("info")),
        ("number", json!(0)),
        ("proxy", json!("queue")),
        ("reason", Value::Null),
        ("side", Value::Null),
        ("text", json!("paused by this program")),
    ] {
        assert_eq!(last[key], value, "{key}");
    }
    let page = scene.json("/api/v1/events?limit=1&after=1");
    assert_eq!(page["events"][0]["number"], 0);
    assert_eq!(scene.json("/api/v1/events?after=0")["events"], json!([]));
}

#[test]
fn wrong_questions_are_refused_with_the_remedy() {
    let scene = Scene::new();
    for (path, status, part) in [
        ("/nothing", 404, "/api/v1/status"),
        ("/api/v1/nothing", 404, "proxies/NAME/peers"),
        ("/api/v1/proxies/x/peers", 404, "no proxy has this name"),
        ("/api/v1/proxies/a.b/x", 404, "see peers"),
        ("/api/v1/proxies/a.b/kick", 405, "POST"),
        (
            "/api/v1/proxies/a.b/peers?sort=x",
            400,
            "write one of age_seconds",
        ),
        ("/api/v1/proxies/a.b/peers?limit=0", 400, "from 1 to 100"),
        (
            "/api/v1/proxies/a.b/peers?side=x",
            400,
            "write one of frontend",
        ),
        ("/api/v1/proxies/a.b/peers?after=x", 400, "the id of a peer"),
        ("/api/v1/proxies/a.b/who", 400, "topic: write"),
        (
            "/api/v1/proxies/a.b/who?topic_hex=0",
            400,
            "two hexadecimal digits",
        ),
        ("/api/v1/proxies/queue/who?topic=x", 400, "no subscriptions"),
        ("/api/v1/events?after=x", 400, "the number of an event"),
        ("/api/v1/events?limit=101", 400, "from 1 to 100"),
        ("/api/v1/history?since=-1", 400, "whole number"),
        ("/readyz?min_peers=x", 400, "backend:1"),
    ] {
        let (found, text) = scene.get(path);
        assert_eq!(found, status, "{path}: {text}");
        assert!(text.contains(part), "{path}: {text}");
    }
}

#[test]
fn a_connection_serves_one_request_behind_the_other() {
    let scene = Scene::new();
    let mut stream = scene.connect();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let pipelined = [
        get("/healthz"),
        get("/metrics"),
        "\r\n\r\n".to_owned(),
        get("/healthz"),
    ];
    stream
        .write_all(pipelined.concat().as_bytes())
        .expect("it reads");
    assert_eq!(Answer::read(&mut stream).text(), "ok\n");
    assert!(Answer::read(&mut stream).text().contains("zmqd_build_info"));
    assert_eq!(Answer::read(&mut stream).text(), "ok\n");
    let head = "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned() + &get("/healthz");
    stream.write_all(head.as_bytes()).expect("it reads");
    let answer = Answer::read_as(&mut stream, false);
    assert!(answer.status == 200 && answer.body.is_empty());
    assert_eq!(Answer::read(&mut stream).text(), "ok\n");
}

#[test]
fn clients_of_http_1_0_get_the_end_of_the_connection() {
    let scene = Scene::new();
    let mut stream = scene.connect();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        .expect("it reads");
    let answer = Answer::read(&mut stream);
    assert!(
        answer.head.contains("\r\nConnection: close\r\n"),
        "{}",
        answer.head
    );
    assert!(!answer.head.contains("Transfer-Encoding"));
    assert!(answer.text().ends_with('\n'));
}

#[test]
fn answers_forbid_what_the_page_does_not_need() {
    let scene = Scene::new();
    let mut stream = scene.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("it reads");
    let head = Answer::read(&mut stream).head;
    for part in [
        "Content-Security-Policy: default-src 'none'; script-src 'self';",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "frame-ancestors 'none'",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    assert!(!head.contains("unsafe-inline"), "{head}");
}

#[test]
fn the_history_grows_while_no_client_looks() {
    let times = Times {
        sample: Duration::from_millis(50),
        ..Times::default()
    };
    let scene = Scene::with(times, false);
    let count = || {
        let history = scene.json("/api/v1/proxies/queue/history");
        history["from_frontend"].as_array().map_or(0, Vec::len)
    };
    while count() < 5 {
        std::thread::yield_now();
    }
    let tick = scene.json("/api/v1/history")["tick"]
        .as_u64()
        .expect("a number");
    let later = scene.json(&format!("/api/v1/history?since={}", tick - 1));
    assert!(
        later["load"]
            .as_array()
            .is_some_and(|load| (1..=3).contains(&load.len()))
    );
}
