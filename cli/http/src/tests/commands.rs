//! Who may ask and command: host names, tokens, and changes of the configuration.

use super::{Answer, Scene, TOKEN};
use crate::limits::Times;
use broker::config::{HttpAddress, HttpToken, diff};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

#[test]
fn only_names_of_this_server_are_answered() {
    let scene = Scene::new();
    let status = |host: &str| {
        let mut stream = scene.connect();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        Answer::read(&mut stream).status
    };
    let own = scene.address.to_string();
    for host in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1",
        &own,
        "[::1]:80",
        "Box.Example:9090",
    ] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "10.0.0.1",
        "localhost.evil.example",
        "0.0.0.0",
        "box",
    ] {
        assert_eq!(status(host), 421, "{host}");
    }
}

#[test]
fn commands_need_the_token_and_a_header() {
    let scene = Scene::with(Times::default(), true);
    let pause = "POST /api/v1/proxies/queue/pause";
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let marked = format!("{bearer}X-Zmqd: 1\r\n");
    assert_eq!(scene.ask(pause, "X-Zmqd: 1\r\n").0, 401);
    assert_eq!(
        scene
            .ask(pause, "Authorization: Bearer wrong\r\nX-Zmqd: 1\r\n")
            .0,
        401
    );
    assert_eq!(scene.ask(pause, &bearer).0, 403);
    assert_eq!(scene.json("/api/v1/status")["proxies"][1]["paused"], false);
    let (status, text) = scene.ask(pause, &marked);
    assert_eq!(
        (status, &text[..]),
        (200, "{\"changed\":true,\"paused\":true}")
    );
    assert_eq!(
        scene.json("/api/v1/status")["proxies"][1]["state"],
        "paused"
    );
    assert_eq!(
        scene.ask("POST /api/v1/proxies/queue/resume", &marked).0,
        200
    );
    assert_eq!(scene.ask("POST /api/v1/proxies/queue/kick", &marked).0, 400);
    assert_eq!(
        scene
            .ask("POST /api/v1/proxies/queue/kick?id=1-1", &marked)
            .0,
        404
    );
    assert_eq!(scene.ask("POST /api/v1/reload", &marked).0, 200);
    assert_eq!(scene.ask("POST /metrics", &marked).0, 405);
    assert_eq!(scene.ask("POST /api/v1/nothing", &marked).0, 404);
    let length = format!("{marked}Content-Length: 5\r\n");
    assert_eq!(scene.ask(pause, &length).0, 413);
}

#[test]
fn without_a_token_no_command_is_carried_out() {
    let scene = Scene::new();
    let headers = format!("Authorization: Bearer {TOKEN}\r\nX-Zmqd: 1\r\n");
    let (status, text) = scene.ask("POST /api/v1/proxies/queue/pause", &headers);
    assert_eq!(status, 403);
    assert!(text.contains("http_token_file"), "{text}");
}

#[test]
fn messages_are_shown_with_the_token_only() {
    let path = "GET /api/v1/proxies/queue/sample";
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let scene = Scene::new();
    let (status, text) = scene.ask(path, &bearer);
    assert!(status == 403 && text.contains("http_token_file"), "{text}");
    let scene = Scene::with(Times::default(), true);
    assert_eq!(scene.ask(path, "").0, 401);
    assert_eq!(scene.ask(path, "Authorization: Bearer wrong\r\n").0, 401);
    assert_eq!(
        scene.ask(path, &bearer),
        (200, "{\"messages\":[]}".to_owned())
    );
    assert_eq!(
        scene.ask("POST /api/v1/proxies/queue/sample", &bearer).0,
        403
    );
    assert_eq!(scene.ask("GET /api/v1/proxies/x/sample", &bearer).0, 404);
    let hide = scene.handle.change(|admin| {
        let mut next = admin.config().clone();
        next.http.hides_samples = true;
        let changes = diff(admin.config(), &next);
        admin.apply(&changes)
    });
    hide.expect("the broker runs").expect("it is applied");
    let (status, text) = scene.ask(path, &bearer);
    assert!(
        status == 403 && text.contains("http_samples is false"),
        "{text}"
    );
}

#[test]
fn an_address_changes_while_the_broker_runs() {
    let scene = Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let change = |to: Option<HttpAddress>| {
        let change = scene.handle.change(move |admin| {
            let mut next = admin.config().clone();
            next.http.address = to;
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        });
        let served = scene.handle.call(|admin| admin.http_address()).flatten();
        (
            change.expect("it runs").map_err(|error| error.to_string()),
            served,
        )
    };
    let in_use = HttpAddress(taken.local_addr().expect("a port"));
    let (result, served) = change(Some(in_use));
    let error = result.expect_err("the port is taken");
    assert!(
        error.starts_with(&format!("cannot listen on http://{in_use}: ")),
        "{error}"
    );
    assert_eq!(served, Some(scene.address));
    assert_eq!(scene.get("/healthz").0, 200);
    // Port 0 again would be no change.
    let (result, served) = change(Some("127.0.0.2:0".parse().expect("legal")));
    result.expect("another address");
    let other = served.expect("it is served");
    let mut stream = TcpStream::connect(other).expect("it listens");
    stream
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .expect("it reads");
    assert_eq!(Answer::read(&mut stream).status, 200);
    let (result, served) = change(None);
    result.expect("it can be off");
    assert_eq!(served, None);
    // The thread ends a moment later.
    while TcpStream::connect(other).is_ok() || TcpStream::connect(scene.address).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn a_token_changes_while_the_broker_runs() {
    let scene = Scene::with(Times::default(), true);
    let other = "another token of 30 characters".replace(' ', "-");
    let changed = scene.handle.change({
        let token = HttpToken::new(&other);
        move |admin| {
            let mut next = admin.config().clone();
            next.http.token = token;
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        }
    });
    changed.expect("it runs").expect("nothing is bound");
    let pause = |token: &str| {
        let headers = format!("Authorization: Bearer {token}\r\nX-Zmqd: 1\r\n");
        scene.ask("POST /api/v1/proxies/queue/pause", &headers).0
    };
    // The server hears of it a moment later.
    while pause(&other) != 200 {
        std::thread::yield_now();
    }
    assert_eq!(pause(TOKEN), 401);
}
