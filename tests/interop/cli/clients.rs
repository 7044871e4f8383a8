//! `zmqd pub`, `sub`, `req` and so on with pyzmq, both ways, every type.

use std::fs;

use zmqd_tests::{Finished, Python, Scratch, Zmqd, vacant_endpoint};

/// A client with nothing on its stdin.
pub(super) fn client(words: &[&str]) -> Zmqd {
    Zmqd::start_expecting(0, words)
}

/// A client with a text on its stdin, written as for `printf`.
pub(super) fn fed(text: &str, words: &[&str]) -> Zmqd {
    let shell = format!("printf '{text}' | \"$0\" \"$@\"");
    Zmqd::start_under_expecting(0, &["sh", "-c", &shell], words)
}

/// The output of a client that succeeds.
#[track_caller]
pub(super) fn succeed(client: Zmqd) -> String {
    let Finished {
        code,
        stderr,
        stdout,
        ..
    } = client.wait();
    assert_eq!(code, Some(0), "{stderr}");
    stdout
}

/// The complaint of a client that ends with this code.
#[track_caller]
pub(super) fn fail(code: i32, client: Zmqd) -> String {
    let Finished {
        code: found,
        stderr,
        ..
    } = client.wait();
    assert_eq!(found, Some(code), "{stderr}");
    stderr
}

#[test]
fn sub_prints_what_pyzmq_publishes() {
    let mut python = Python::new();
    python.run("publisher = bind(zmq.XPUB)");
    let endpoint: String = python.ask("last_endpoint(publisher)");
    let subscriber = client(&["sub", &endpoint, "-t", "a.", "-t", "b", "-n", "3"]);
    python.run(
        r#"
        assert {publisher.recv(), publisher.recv()} == {b"\x01a.", b"\x01b"}
        for message in [b"a.x", b"one"], [b"a", b"no"], [b"b\x1b[2J", b"\xff"], [b"b"]:
            publisher.send_multipart(message)
        "#,
    );
    assert_eq!(succeed(subscriber), "[a.x][one]\n[b\\x1b[2J][0xff]\n[b]");
    // The same, listening.
    let endpoint = vacant_endpoint();
    let subscriber = client(&["sub", &format!("@{endpoint}"), "-n", "1"]);
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        publisher = dial(zmq.XPUB, endpoint)
        assert publisher.recv() == b"\x01"
        publisher.send_multipart([b"", b"two"])
        "#,
    );
    assert_eq!(succeed(subscriber), "[][two]");
}

#[test]
fn pub_waits_for_its_subscribers() {
    let mut python = Python::new();
    let endpoint = vacant_endpoint();
    let listening = format!("@{endpoint}");
    let words = ["pub", &listening, "--peers", "2", "-t", "x.", "-t", "y."];
    let publisher = client(&[&words[..], &["one", "two", "-n", "3"]].concat());
    drop(publisher.wait_log("waiting for 2 subscribers"));
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        first = dial(zmq.SUB, endpoint, subscribe=b"x.")
        second = dial(zmq.SUB, endpoint, subscribe=b"")
        assert take(first, 3) == [[b"x.", b"one", b"two"]] * 3
        assert take(second, 6) == [[b"x.", b"one", b"two"], [b"y.", b"one", b"two"]] * 3
        "#,
    );
    assert_eq!(succeed(publisher), "");
    // The same, connecting, and with the topic in the first frame.
    python.run("subscriber = bind(zmq.SUB, subscribe=b'x.o')");
    let endpoint: String = python.ask("last_endpoint(subscriber)");
    let publisher = client(&["pub", &endpoint, "-t", "x.", "--inline", "one", "two"]);
    python.run("assert subscriber.recv_multipart() == [b'x.one', b'two']");
    succeed(publisher);
}

#[test]
fn push_sends_lines_texts_and_files() {
    let mut python = Python::new();
    python.run("sink = bind(zmq.PULL)");
    let endpoint: String = python.ask("last_endpoint(sink)");
    let lines = "one\\n\\ntwo three\\nlast";
    succeed(fed(lines, &["push", &endpoint]));
    python.run("assert take(sink, 4) == [[b'one'], [b''], [b'two three'], [b'last']]");
    succeed(fed("a\\nb\\0c\\0", &["push", &endpoint, "-0"]));
    python.run("assert take(sink, 2) == [[b'a\\nb'], [b'c']]");
    succeed(fed("a\\nb\\n", &["push", &endpoint, "-s"]));
    python.run("assert sink.recv_multipart() == [b'a\\nb\\n']");
    succeed(fed("a\\nb\\nc\\n", &["push", &endpoint, "-l", "-n", "2"]));
    python.run("assert take(sink, 2) == [[b'a'], [b'b']]; assert is_silent(sink)");
    let file = Scratch::absent("bin");
    fs::write(file.path(), b"\0\n".repeat(1_500_000)).expect("a file");
    succeed(client(&["push", &endpoint, "-f", file.path(), "-n", "2"]));
    python.run("assert take(sink, 2) == [[b'\\0\\n' * 1_500_000]] * 2");
    succeed(client(&["push", &endpoint, "", "b", "--", "-x"]));
    python.run("assert sink.recv_multipart() == [b'', b'b', b'-x']");
}

/// A `zmqd pull` with these options, while Python executes `block` with its only peer `source`.
#[track_caller]
fn pull(python: &mut Python, options: &[&str], block: &str) -> Zmqd {
    python.run("source = bind(zmq.PUSH)");
    let endpoint: String = python.ask("last_endpoint(source)");
    let puller = client(&[&["pull", &endpoint], options].concat());
    python.run(block);
    puller
}

#[test]
fn pull_prints_in_several_forms_and_writes_files() {
    let mut python = Python::new();
    let folder = Scratch::absent("folder");
    let dump = ["--dump", folder.path(), "-n", "2"];
    let block = "source.send_multipart([b'a', b'\\0b']); source.send(b'c')";
    succeed(pull(&mut python, &dump, block));
    let read = |name: &str| fs::read(format!("{}/{name}", folder.path())).expect("a file");
    assert_eq!(read("00000001-1"), b"a");
    assert_eq!(read("00000001-2"), b"\0b");
    assert_eq!(read("00000002-1"), b"c");
    let again = fail(1, pull(&mut python, &dump, "source.send(b'd')"));
    assert!(
        again.contains("is there already: name an empty folder"),
        "{again}"
    );
    assert_eq!(read("00000001-1"), b"a");
    fs::remove_dir_all(folder.path()).expect("a folder");
    for (option, shown) in [("--raw", "a\nb"), ("--hex", "[0x610a][0x62]"), ("-q", "")] {
        let block = "source.send_multipart([b'a\\n', b'b'])";
        let puller = pull(&mut python, &[option, "-n", "1"], block);
        assert_eq!(succeed(puller), shown, "{option}");
    }
}

#[test]
fn push_serves_several_peers_in_turn_and_waits_for_them() {
    let mut python = Python::new();
    let endpoint = vacant_endpoint();
    let listening = format!("@{endpoint}");
    let pusher = fed(
        "0\\n1\\n2\\n3\\n4\\n5\\n",
        &["push", &listening, "--peers", "3"],
    );
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        sinks = [dial(zmq.PULL, endpoint) for _ in range(3)]
        shares = [[int(one) for [one] in take(sink, 2)] for sink in sinks]
        assert sorted(shares) == [[0, 3], [1, 4], [2, 5]], shares
        "#,
    );
    succeed(pusher);
}

#[test]
fn req_and_rep_talk_to_pyzmq() {
    let mut python = Python::new();
    python.run("server = bind(zmq.REP)");
    let endpoint: String = python.ask("last_endpoint(server)");
    let asker = fed("one\\ntwo\\n", &["req", &endpoint]);
    let answer = "server.send_multipart([b're', server.recv()])";
    python.run(&format!("{answer}; {answer}"));
    assert_eq!(succeed(asker), "[re][one]\n[re][two]");
    let asker = client(&["req", &endpoint, "a", "b", "-n", "2", "--raw"]);
    python.run("for _ in range(2): server.send(b'+'.join(server.recv_multipart()))");
    assert_eq!(succeed(asker), "a+ba+b");
    let asker = client(&["req", &endpoint, "a", "--timeout", "300ms"]);
    assert!(fail(1, asker).contains("no reply within 300 ms"));

    // Replies: fixed, from stdin, and the request itself.
    for (words, text, expected) in [
        (&["po", "ng"][..], "", "[[b'po', b'ng']] * 2"),
        (&[], "first\\nsecond\\n", "[[b'first'], [b'second']]"),
        (&["--echo"], "", "[[b'a', b''], [b'b']]"),
    ] {
        let endpoint = vacant_endpoint();
        let listening = format!("@{endpoint}");
        let replier = fed(text, &[&["rep", &listening, "-n", "2"], words].concat());
        python.set("endpoint", &endpoint);
        python.set("expected", expected);
        python.run(
            r#"
            asker, replies = dial(zmq.REQ, endpoint), []
            for question in [b"a", b""], [b"b"]:
                asker.send_multipart(question)
                replies.append(asker.recv_multipart())
            assert replies == eval(expected), replies
            "#,
        );
        assert_eq!(succeed(replier), "[a][]\n[b]");
    }
}

#[test]
fn rep_runs_commands_beside_each_other() {
    let mut python = Python::new();
    let endpoint = vacant_endpoint();
    let listening = format!("@{endpoint}");
    let shell = "read word; test \"$word\" = first && sleep 1; echo \"$word $1 *\"";
    let words = ["rep", &listening, "-q", "-n", "3", "--parallel", "2"];
    let command = ["--exec", "sh", "-c", shell, "--", "-$HOME"];
    let replier = client(&[&words[..], &command].concat());
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        # A DEALER may send several requests at once.
        dealer = dial(zmq.DEALER, endpoint)
        for word in b"first", b"second", b"third":
            dealer.send_multipart([b"envelope " + word, b"", word + b"\n", b"more"])
        replies = take(dealer, 3)
        assert replies[2] == [b"envelope first", b"", b"first -$HOME *\n"], replies
        assert replies[0] == [b"envelope second", b"", b"second -$HOME *\n"], replies
        "#,
    );
    succeed(replier);
    let endpoint = vacant_endpoint();
    let replier = client(&["rep", &format!("@{endpoint}"), "--exec", "/nonexistent"]);
    python.set("endpoint", &endpoint);
    python.run("asker = dial(zmq.REQ, endpoint); asker.send(b'a')");
    assert!(fail(1, replier).contains("cannot run /nonexistent: No such file"));
}

#[test]
fn dealer_router_and_pair_go_both_ways() {
    let mut python = Python::new();
    python.run("router = bind(zmq.ROUTER)");
    let endpoint: String = python.ask("last_endpoint(router)");
    let dealer = fed("one\\ntwo\\n", &["dealer", &endpoint, "-n", "2"]);
    python.run(
        r#"
        for word in b"one", b"two":
            identity, body = router.recv_multipart()
            assert body == word
            router.send_multipart([identity, b"re", body])
        "#,
    );
    assert_eq!(succeed(dealer), "[re][one]\n[re][two]");
    python.run("server = bind(zmq.REP)");
    let endpoint: String = python.ask("last_endpoint(server)");
    let dealer = client(&["dealer", &endpoint, "", "hi", "-n", "1"]);
    python.run("server.send(server.recv() + b'!')");
    assert_eq!(succeed(dealer), "[][hi!]");

    let endpoint = vacant_endpoint();
    let listening = format!("@{endpoint}");
    let router = fed("anna hello you\\n", &["router", &listening, "-n", "2"]);
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        anna = dial(zmq.DEALER, endpoint, identity=b"anna")
        assert anna.recv_multipart() == [b"hello you"]
        anna.send_multipart([b"a", b"b"])
        stranger = dial(zmq.REQ, endpoint)
        stranger.send(b"question")
        "#,
    );
    let shown = succeed(router);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(lines.contains(&"anna [a][b]"), "{shown}");
    let other = |line: &&str| line.starts_with("0x00") && line.ends_with(" [][question]");
    assert!(lines.iter().any(other), "{shown}");

    let file = Scratch::absent("ipc");
    let endpoint = format!("ipc://{}", file.path());
    let pair = fed(
        "one\\ntwo\\n",
        &["pair", &format!("@{endpoint}"), "-n", "1"],
    );
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        other = dial(zmq.PAIR, endpoint)
        assert take(other, 2) == [[b"one"], [b"two"]]
        other.send(b"three")
        "#,
    );
    assert_eq!(succeed(pair), "[three]");
    python.run("other.close(); listening = bind(zmq.PAIR)");
    let endpoint: String = python.ask("last_endpoint(listening)");
    succeed(client(&["pair", &endpoint, "a", "b", "-n", "0"]));
    python.run("assert listening.recv_multipart() == [b'a', b'b']");
}

#[test]
fn json_of_one_client_is_read_by_another() {
    let mut python = Python::new();
    python.run("source = bind(zmq.PUSH); sink = bind(zmq.PULL)");
    let [from, to]: [String; 2] =
        ["source", "sink"].map(|name| python.ask(&format!("last_endpoint({name})")));
    let puller = client(&["pull", &from, "--json", "-n", "2"]);
    python.run(
        r#"
        strange = [b"\xff\x00", b'{"z":1.50,"a":[1,2]}', "\u202e".encode()]
        messages = [[b"a\x01", b"", *strange], [b"7"]]
        for message in messages: source.send_multipart(message)
        "#,
    );
    let lines = succeed(puller);
    python.set("lines", &lines);
    python.set("source_endpoint", &from);
    python.run(
        r#"
        first, second = [json.loads(line) for line in lines.splitlines()]
        assert first["frames"][:3] == [{"text": "a\x01"}, {"text": ""}, {"hex": "ff00"}], first
        assert first["source"] == source_endpoint and first["direction"] is None
        assert second["frames"] == [{"text": "7"}] and second["size"] == 1
        "#,
    );
    let file = Scratch::absent("json");
    fs::write(
        file.path(),
        format!("{lines}\n[\"x\", {{\"hex\": \"00\"}}]\n"),
    )
    .expect("a file");
    succeed(client(&["push", &to, "--json", "-f", file.path()]));
    python.run("assert take(sink, 3) == messages + [[b'x', b'\\0']]");
    let wrong = fed("{}\\n", &["push", &to, "--json"]);
    assert!(fail(1, wrong).contains("message 1: the object has no \"frames\""));
}
