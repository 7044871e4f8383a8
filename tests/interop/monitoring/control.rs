//! The control: the commands of libzmq's steerable proxy, and queries in JSON.

use zmqd_tests::{ANY, Python, Scratch, Zmqd};

/// `connect_watched` makes a peer that has shaken hands, and a function that waits for the end of
/// its connection.
const WATCHED: &str = r#"
    def connect_watched(kind, endpoint, **options):
        made = socket(kind, **options)
        wait = watch(made, zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        made.connect(endpoint)
        assert wait() == zmq.EVENT_HANDSHAKE_SUCCEEDED
        def left():
            assert wait() == zmq.EVENT_DISCONNECTED
        return made, left
"#;

/// A queue with a control of this type.
fn queue(socket: &str) -> (Zmqd, Python) {
    let broker = Zmqd::queue(&["--control", ANY, "--control-socket", socket]);
    let mut python = Python::beside(&broker);
    python.run(WATCHED);
    python.run(
        r#"
        import json
        def ask(**request):
            control.send(json.dumps(request).encode())
            return json.loads(control.recv())
        def statistics():
            control.send(b"STATISTICS")
            return [struct.unpack("=Q", frame)[0] for frame in control.recv_multipart()]
        "#,
    );
    (broker, python)
}

#[test]
fn a_paused_proxy_forwards_nothing_and_loses_nothing() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        client, worker = connect(zmq.REQ, frontend), connect(zmq.REP, backend)
        client.send(b"before")
        assert worker.recv() == b"before"
        control.send(b"PAUSE")
        assert control.recv_multipart() == [b""]
        assert ask(command="statistics")["paused"]
        worker.send(b"answer")
        late = connect(zmq.REQ, frontend)
        late.send(b"late")
        wait_until("both to be suspended", lambda: [
            peer["parked"] for peer in ask(command="peers")["peers"]].count(True) == 2)
        assert is_silent(client) and is_silent(worker)
        control.send(b"RESUME")
        assert control.recv_multipart() == [b""]
        assert client.recv() == b"answer"
        assert worker.recv() == b"late"
        worker.send(b"in time")
        assert late.recv() == b"in time"
        "#,
    );
}

#[test]
fn statistics_equal_those_of_libzmqs_steerable_proxy() {
    let (_broker, mut python) = queue("PAIR");
    python.run(
        r#"
        def scenario(frontend, backend, control):
            client = connect(zmq.DEALER, frontend, identity=b"1234")
            worker = connect(zmq.DEALER, backend)
            for body in ([b""], [b"abc", b""], [b"x" * 300, b"y" * 100_000, b"z"]):
                client.send_multipart(body)
                worker.send_multipart(worker.recv_multipart() + [b"done"])
                assert client.recv_multipart() == body + [b"done"]
            worker.send_multipart([b"unknown", b"dropped"])
            def numbers():
                control.send(b"STATISTICS")
                frames = control.recv_multipart()
                assert [len(frame) for frame in frames] == [8] * 8
                return [struct.unpack("=Q", frame)[0] for frame in frames]
            wait_until("the last message to be counted", lambda: numbers()[4] == 14)
            return numbers()

        ends = [bind(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PAIR)]
        endpoints = [last_endpoint(end) for end in ends]
        for end in ends:
            end.rcvtimeo = end.sndtimeo = -1
        steerable = in_background(zmq.proxy_steerable, ends[0], ends[1], None, ends[2])
        theirs = connect(zmq.PAIR, endpoints[2])
        expected = scenario(endpoints[0], endpoints[1], theirs)
        got = scenario(frontend, backend, connect(zmq.PAIR, control))
        assert got == expected, (got, expected)
        theirs.send(b"TERMINATE")
        steerable.result()
        "#,
    );
}

#[test]
fn terminate_ends_the_process_of_a_single_proxy() {
    let (broker, mut python) = queue("PAIR");
    python.run(
        r#"
        control = connect(zmq.PAIR, control)
        control.send_multipart([b"PAUSE", b"more"])
        control.send(b"an unknown command")
        assert ask(command="statistics")["paused"]
        assert is_silent(control, 20), "only a REP answers"
        control.send(b"TERMINATE")
        "#,
    );
    let finished = broker.wait();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("terminated by"),
        "{}",
        finished.stderr
    );
}

#[test]
fn terminate_ends_one_proxy_of_several() {
    let text = "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:0'\n\
                backend.bind = 'tcp://127.0.0.1:0'\ncontrol.bind = 'tcp://127.0.0.1:0'\n\
                [[proxy]]\nkind = 'streamer'\nfrontend.bind = 'tcp://127.0.0.1:0'\n\
                backend.bind = 'tcp://127.0.0.1:0'\n\
                control = { bind = 'tcp://127.0.0.1:0', socket = 'SUB' }\n";
    let file = Scratch::new("toml", text);
    let broker = Zmqd::start_expecting(6, &["run", file.path()]);
    let mut python = Python::new();
    python.run(WATCHED);
    python.set("ended_frontend", broker.endpoint("queue", "frontend"));
    python.set("ended_control", broker.endpoint("queue", "control"));
    python.set("source_endpoint", broker.endpoint("streamer", "frontend"));
    python.set("sink", broker.endpoint("streamer", "backend"));
    python.set("control", broker.endpoint("streamer", "control"));
    python.run(
        r#"
        client, left = connect_watched(zmq.REQ, ended_frontend)
        control_of_one = connect(zmq.REQ, ended_control)
        control_of_one.send(b"TERMINATE")
        assert control_of_one.recv() == b""
        left()
        import socket as network
        def is_refused(endpoint):
            host, port = endpoint.removeprefix("tcp://").split(":")
            try:
                network.create_connection((host, int(port))).close()
            except ConnectionError as error:
                # A reset, if the attempt was made while the listener closed.
                return isinstance(error, ConnectionRefusedError)
        wait_until("the endpoint to be closed", lambda: is_refused(ended_frontend))
        source, sink = connect(zmq.PUSH, source_endpoint), connect(zmq.PULL, sink)
        source.send(b"the other goes on")
        assert sink.recv() == b"the other goes on"
        publisher = connect(zmq.PUB, control)
        "#,
    );
    python.begin(
        r#"
        def is_ended():
            publisher.send(b"TERMINATE")
            return is_refused(source_endpoint)
        wait_until("the end", is_ended)
        "#,
    );
    assert_eq!(broker.wait().code, Some(0));
    python.finish();
}

#[test]
fn the_control_answers_while_all_senders_are_suspended() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        clients = [connect(zmq.DEALER, frontend) for _ in range(3)]
        for client in clients:
            client.send(b"waiting")
        wait_until("all to be suspended", lambda: [
            s["waiting"] for s in ask(command="statistics")["sockets"]][0] == 3)
        peers = ask(command="peers", side="frontend")["peers"]
        assert [peer["parked"] for peer in peers] == [True] * 3
        assert statistics() == [0] * 8
        "#,
    );
}

#[test]
fn peers_are_listed_with_their_counters() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        client = connect(zmq.REQ, frontend, identity=b"client")
        odd = connect(zmq.DEALER, frontend, identity=b"\xff\x01")
        worker = connect(zmq.REP, backend)
        for _ in range(3):
            client.send(b"question")
            assert worker.recv() == b"question"
            worker.send(b"answer")
            assert client.recv() == b"answer"
        answer = ask(command="peers")
        assert answer["total"] == 3, "the control is listed"
        (found,) = [p for p in answer["peers"] if p.get("identity") == "client"]
        expected = dict(side="frontend", socket="REQ", version="3.1", mechanism="NULL", user=None,
            messages_received=3, messages_sent=3, queued_messages=0, queued_bytes=0, dropped={},
            parked=False, subscriptions=0, phase="ready", endpoint=None)
        assert {key: found[key] for key in expected} == expected, found
        assert found["bytes_received"] == 3 * (2 + 2 + 8) and found["age_seconds"] > 0
        assert found["address"].startswith("127.0.0.1:")
        assert [p for p in answer["peers"] if p.get("identity_hex") == "ff01"]
        (found,) = ask(command="peers", side="backend")["peers"]
        assert found["socket"] == "REP" and found["messages_received"] == 3
        first = ask(command="peers", limit=1)["peers"]
        rest = ask(command="peers", after=first[0]["id"])["peers"]
        assert [p["id"] for p in first + rest] == [p["id"] for p in answer["peers"]]
        "#,
    );
}

#[test]
fn kicked_peers_are_closed_and_listed() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        client, left = connect_watched(
            zmq.DEALER, frontend, identity=b"unwanted", reconnect_ivl=-1)
        other = connect(zmq.DEALER, frontend, identity=b"other", reconnect_ivl=-1)
        (kicked,) = ask(command="kick", identity="unwanted")["kicked"]
        left()
        def clients():
            return ask(command="peers", side="frontend")["total"]
        wait_until("the peer to be closed", lambda: clients() == 1)
        closed = ask(command="closed")["closed"]
        assert [(c["identity"], c["reason"], c["id"]) for c in closed] == [
            ("unwanted", "kicked", kicked)]
        (found,) = ask(command="peers", side="frontend")["peers"]
        assert ask(command="kick", address=found["address"]) == {"kicked": [found["id"]]}
        assert ask(command="kick", id=kicked)["error"].startswith("no peer of this proxy matches")
        sockets = ask(command="statistics")["sockets"]
        assert sockets[0]["closed"] == {"kicked": 2}
        "#,
    );
}

#[test]
fn events_tell_a_cause_once() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        for _ in range(3):
            client, left = connect_watched(zmq.DEALER, frontend, identity=b"x", reconnect_ivl=-1)
            # The broker may know the peer a little later than the peer knows the broker.
            wait_until("the kick", lambda: ask(command="kick", identity="x").get("kicked"))
            left()
        control.send(b"PAUSE")
        assert control.recv_multipart() == [b""]
        found = ask(command="events")
        pause, kick = found["events"]
        assert found["total"] == 2 and pause["text"].startswith("paused by 127.0.0.1:")
        assert kick["text"].startswith("closed 127.0.0.1:"), kick
        assert kick["text"].endswith(": kicked by command"), kick
        assert (kick["level"], kick["proxy"], kick["side"], kick["reason"]) == (
            "warn", "queue", "frontend", "kicked")
        assert ask(command="events", limit=1)["events"][0]["number"] == pause["number"]
        (last,) = ask(command="events", after=pause["number"])["events"]
        assert last["number"] == kick["number"]
        assert ask(command="events", after="x")["error"] == "after: write the number of an event"
        "#,
    );
}

#[test]
fn a_sample_has_the_beginnings_of_messages_while_it_is_asked_for() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        client = connect(zmq.DEALER, frontend, identity=b"till-1")
        worker = connect(zmq.DEALER, backend)
        def send(*frames):
            client.send_multipart(frames)
            return worker.recv_multipart()
        send(b"before")
        assert ask(command="sample") == {"messages": []}
        send(b"a", b"\x1b[2J", b"b" * 1_000_000, *[b""] * 7)
        worker.send_multipart([b"till-1", b"answer"])
        assert client.recv() == b"answer"
        answer, request = ask(command="sample")["messages"]
        assert (answer["side"], [it["body"] for it in answer["frames"]]) == (
            "backend", ["till-1", "answer"])
        assert (request["side"], request["identity"]) == ("frontend", "till-1")
        assert request["more"] and not answer["more"] and request["size"] > 1_000_000
        first, second, third = request["frames"][:3]
        assert first == {"body": "a", "size": 1} and len(request["frames"]) == 8
        assert second == {"body_hex": b"\x1b[2J".hex(), "size": 4}
        assert third == {"body": "b" * 64, "size": 1_000_000}
        for number in range(100):
            send(b"%d" % number)
        assert len(ask(command="sample")["messages"]) == 20
        "#,
    );
}

#[test]
fn kick_needs_an_identity_and_spares_its_own_connection() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control, identity=b"twin", reconnect_ivl=-1)
        nameless = connect(zmq.DEALER, frontend, reconnect_ivl=-1)
        twin, left = connect_watched(zmq.DEALER, frontend, identity=b"twin", reconnect_ivl=-1)
        for request in (dict(identity=""), dict(identity_hex=""), dict(identity="", id="0-0")):
            error = ask(command="kick", **request)["error"]
            assert error.startswith("identity: every peer without a name"), error
        assert ask(command="peers", side="frontend")["total"] == 2
        (me,) = ask(command="peers", side="control")["peers"]
        for request in (dict(id=me["id"]), dict(address=me["address"])):
            error = ask(command="kick", **request)["error"]
            assert error.startswith("this connection sent the command"), error
        assert len(ask(command="kick", identity="twin")["kicked"]) == 1
        left()
        (found,) = ask(command="peers", side="control")["peers"]
        assert found["id"] == me["id"]
        "#,
    );
}

#[test]
fn monitors_are_listed_apart_from_peers() {
    let broker = Zmqd::queue(&["--control", ANY, "--capture", ANY]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        import json
        endpoint = control
        control = connect(zmq.REQ, endpoint)
        def ask(**request):
            control.send(json.dumps(request).encode())
            return json.loads(control.recv())
        sides = lambda **more: [p["side"] for p in ask(command="peers", **more)["peers"]]
        reader = connect(zmq.SUB, capture, subscribe=b"")
        client = connect(zmq.DEALER, frontend, identity=b"real", reconnect_ivl=-1)
        wait_until("the reader", lambda: len(sides(all=True)) == 3)
        assert sides() == sides(all=False) == ["frontend"]
        assert sorted(sides(all=True)) == ["capture", "control", "frontend"]
        assert sides(side="control") == ["control"]
        assert "write true or false" in ask(command="peers", all="yes")["error"]
        ask(command="kick", identity="real")
        closed = lambda **more: ask(command="closed", **more)["closed"]
        wait_until("the peer to be closed", closed)
        # A monitor that connects and leaves is not remembered.
        for _ in range(5):
            monitor = connect(zmq.REQ, endpoint)
            monitor.send(b'{"command": "commands"}')
            monitor.recv()
            monitor.close()
        reader.close()
        wait_until("the reader to leave", lambda: len(sides(all=True)) == 1)
        # A peer of a wrong type is remembered, apart from the others.
        wrong = context.socket(zmq.PUB)
        wrong.reconnect_ivl = -1
        wrong.connect(endpoint)
        wait_until("the wrong peer to be closed", lambda: len(closed(all=True)) > 1)
        assert [(c["side"], c["identity"]) for c in closed()] == [("frontend", "real")]
        assert {c["side"] for c in closed(all=True)} == {"frontend", "control"}
        "#,
    );
}

#[test]
fn errors_quote_only_the_beginning_of_a_command() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        long = "x" * 3_000_000
        hostile = "\x1b]0;\x07\u202e\u200b\x9b" + long
        for request in (
            dict(command=hostile), {"command": "peers", hostile: 1}, dict(command="kick", id=long),
            dict(command="peers", side=hostile), dict(command="peers", after=hostile)):
            control.send(json.dumps(request, ensure_ascii=False).encode())
            answer = control.recv()
            assert len(answer) < 1000, len(answer)
            assert not any(one in answer.decode() for one in "\x1b\x07\u202e\u200b\x9b"), answer
            assert json.loads(answer)["error"]
        "#,
    );
}

#[test]
fn subscriptions_are_listed_by_topic_and_by_subscriber() {
    let broker = Zmqd::forwarder(&["--control", ANY]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        import json
        control = connect(zmq.REQ, control)
        def ask(**request):
            control.send(json.dumps(request).encode())
            return json.loads(control.recv())
        publisher = connect(zmq.XPUB, frontend)
        one = connect(zmq.SUB, backend, subscribe=[b"news.de", b"news.fr", b"\x00bin"])
        two = connect(zmq.SUB, backend, subscribe=[b"news.de", b"weather"])
        take(publisher, 4)
        wait_until("the last subscription", lambda: sum(
            found["peers"] for found in ask(command="subscriptions")["subscriptions"]) == 5)
        news = ask(command="subscriptions", prefix="news.")
        assert news == {"more": False, "subscriptions": [
            {"topic": "news.de", "peers": 2, "side": "backend"},
            {"topic": "news.fr", "peers": 1, "side": "backend"}]}, news
        first = ask(command="subscriptions", limit=1)
        assert first == {"more": True, "subscriptions": [
            {"topic_hex": "0062696e", "peers": 1, "side": "backend"}]}
        rest = ask(command="subscriptions", after_hex="0062696e")["subscriptions"]
        assert [found["topic"] for found in rest] == ["news.de", "news.fr", "weather"]
        receivers = ask(command="who", topic="news.de/today")
        assert receivers["total"] == 2
        assert sorted(peer["subscriptions"] for peer in receivers["peers"]) == [2, 3]
        assert ask(command="who", topic="sports")["total"] == 0
        "#,
    );
}

#[test]
fn wrong_queries_are_answered_with_the_reason() {
    let (_broker, mut python) = queue("REP");
    python.run(
        r#"
        control = connect(zmq.REQ, control)
        def complaint(text):
            control.send(text)
            return json.loads(control.recv())["error"]
        assert "invalid JSON" in complaint(b"{nonsense")
        assert complaint(b"{}").startswith("command: write one of closed, commands, count, events")
        assert "unknown command \"peer\"" in complaint(b'{"command": "peer"}')
        assert "peers has no key \"sid\"" in complaint(b'{"command": "peers", "sid": "x"}')
        assert complaint(b'{"command": "peers", "limit": 0}').startswith("limit: ")
        assert complaint(b'{"command": "peers", "skip": 1}').startswith("skip: ")
        assert "age_seconds, bytes" in complaint(b'{"command": "peers", "sort": "id"}')
        sorted_after = b'{"command": "peers", "sort": "bytes", "after": "0-1"}'
        assert complaint(sorted_after).startswith("after: ")
        assert complaint(b'{"command": "kick"}').startswith("the filter is empty")
        assert "no XPUB" in complaint(b'{"command": "who", "topic": "a"}')
        assert complaint(b'{"command": "closed", "limit": 1001}').startswith("limit: ")
        names = [found["name"] for found in ask(command="commands")["commands"]]
        assert names == [
            "closed", "commands", "count", "events", "kick", "pause", "peers", "reload",
            "resume", "sample", "statistics", "status", "subscriptions", "terminate", "watches",
            "who"]
        "#,
    );
}

#[test]
fn a_control_peer_that_reads_nothing_delays_no_traffic() {
    let more = [
        "--control",
        ANY,
        "--set",
        "control.sndhwm=5",
        "control.sndbuf=4096",
    ];
    let broker = Zmqd::queue(&more);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        import json
        flood = connect(zmq.DEALER, control, rcvhwm=1, rcvbuf=4096, sndhwm=0)
        control = connect(zmq.REQ, control)
        def ask(**request):
            control.send(json.dumps(request).encode())
            return json.loads(control.recv())
        for _ in range(20_000):
            flood.send_multipart([b"", b'{"command": "commands"}'])
        def dropped():
            (found,) = [s for s in ask(command="statistics")["sockets"] if s["side"] == "control"]
            return found["dropped"].get("peer-full")
        wait_until("answers to be dropped", dropped)
        client, worker = connect(zmq.REQ, frontend), connect(zmq.REP, backend)
        client.send(b"still")
        assert worker.recv() == b"still"
        "#,
    );
}
