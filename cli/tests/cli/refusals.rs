//! Command lines and files that are refused: the sentences, and exit code 2.

use super::{file, run, text};

/// The one sentence on stderr of a command that fails.
pub(super) fn refusal_of(args: &[&str], code: i32) -> String {
    let mut refusals = refusals_of(args, code);
    assert_eq!(refusals.len(), 1, "one line: {refusals:#?}");
    refusals.swap_remove(0)
}

/// The sentences on stderr of a command that fails.
fn refusals_of(args: &[&str], code: i32) -> Vec<String> {
    let output = run(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{args:?}");
    let sentences = stderr.lines().map(|line| {
        let sentence = line.strip_prefix("zmqd: ");
        sentence
            .expect("the name of the program comes first")
            .to_owned()
    });
    sentences.collect()
}

#[test]
fn wrong_usage_gives_a_sentence_and_exit_code_2() {
    for (args, expected) in WRONG_USAGE {
        let refusals = refusals_of(args, 2);
        assert!(
            refusals[0].contains(expected),
            "{args:?}\nexpected: {expected}\nfound: {refusals:#?}"
        );
    }
}

#[test]
fn contradictions_on_the_command_line_name_the_option() {
    let queue = ["queue", "--frontend", "tcp://127.0.0.1:1", "--backend"];
    for (more, expected) in [
        (
            &["tcp://127.0.0.1:1"][..],
            "--backend: tcp://127.0.0.1:1 is bound by the frontend of queue",
        ),
        (
            &["tcp://127.0.0.1:2", "--name", "two words"],
            "--name: \"two words\" is not a name",
        ),
        (
            &["tcp://127.0.0.1:2", "--set", "backend.reconnect_ivl=9000"],
            "--set backend: reconnect_ivl_max",
        ),
        (
            &["tcp://127.0.0.1:2", "--set", "reconnect_ivl=9s"],
            "--set: reconnect_ivl_max",
        ),
    ] {
        let args: Vec<&str> = queue.iter().chain(more).copied().collect();
        let refusal = refusal_of(&args, 2);
        assert!(
            refusal.contains(expected),
            "{args:?}\nexpected: {expected}\nfound: {refusal}"
        );
    }
}

/// The three ways out are named, and each is one.
#[test]
fn a_listener_beyond_loopback_that_admits_every_peer_is_refused() {
    let open = ["--frontend", "tcp://*:1", "--backend", "tcp://127.0.0.1:2"];
    let control = ["--control", "tcp://eth0:3", "--set"];
    let control = [&control[..], &["frontend.insecure=true"]].concat();
    for (more, expected) in [
        (&[][..], "--frontend: other machines can reach tcp://*:1, "),
        (
            &control,
            "--control: other machines can reach tcp://eth0:3, ",
        ),
    ] {
        let refusal = refusal_of(&[&["queue"], &open[..], more].concat(), 2);
        assert!(refusal.starts_with(expected), "{refusal}");
        let ways = "give --curve-secret and --curve-clients, or --set tcp_accept_filter=NETWORK, \
                    or --insecure";
        assert!(refusal.ends_with(ways), "{refusal}");
    }
    let text = "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*:1'\n\
                backend.bind = 'tcp://127.0.0.1:2'\n";
    let path = file("exposed.toml", text);
    for subcommand in ["check", "run"] {
        let refusal = refusal_of(&[subcommand, &path], 2);
        let expected = ":3: proxy.frontend.bind: other machines can reach tcp://*:1, and any peer \
                        may come in: set curve_secret and curve_clients, or tcp_accept_filter, or \
                        insecure = true";
        assert_eq!(refusal, format!("{path}{expected}"));
    }
    for (number, permitted) in [
        format!("insecure = true\n{text}"),
        format!("{text}frontend.insecure = true\n"),
        format!("{text}frontend.tcp_accept_filter = '10.0.0.0/8'\n"),
    ]
    .iter()
    .enumerate()
    {
        let path = file(&format!("permitted{number}.toml"), permitted);
        assert!(run(&["check", &path]).status.success(), "{permitted}");
    }
}

#[test]
fn wrong_files_are_refused_with_line_and_key() {
    const QUEUE: &str = "[[proxy]]\nkind = 'queue'\n";
    for (number, (text, expected)) in [
        (
            String::new(),
            ": the configuration has no proxy: add a [[proxy]] table",
        ),
        ("[[proxy".to_owned(), ":1: this is not TOML: "),
        (
            format!("{QUEUE}kind = 'queue'"),
            ":3: this is not TOML: duplicate key",
        ),
        (
            format!("{QUEUE}colour = 3"),
            ":3: proxy.colour: unknown key: write one of",
        ),
        (
            format!("\n{QUEUE}frontend.bind = 'tcp://127.0.0.1:1'"),
            ":2: proxy.backend: the backend has no endpoint",
        ),
        (
            format!("{QUEUE}frontend.bind = 'tcp://*'"),
            ":3: proxy.frontend.bind: \"tcp://*\" has no",
        ),
        (
            "[options]\nsndhwm = 'x'".to_owned(),
            ":2: options.sndhwm: write a whole number of mess",
        ),
        (
            "[[proxy]]\nkind = 'pipe'".to_owned(),
            ":2: proxy.kind: unknown kind \"pipe\": write",
        ),
        (
            format!(
                "{QUEUE}frontend.bind = 'tcp://127.0.0.1:1'\nbackend.bind = 'tcp://127.0.0.1:1'"
            ),
            ":4: proxy.backend.bind: tcp://127.0.0.1:1 is bound by the frontend of queue already",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let path = file(&format!("wrong{number}.toml"), &text);
        for subcommand in ["check", "run"] {
            let refusal = refusal_of(&[subcommand, &path], 2);
            let expected = format!("{path}{expected}");
            assert!(
                refusal.starts_with(&expected),
                "{text}\nexpected: {expected}\nfound: {refusal}"
            );
        }
    }
}

#[test]
fn all_errors_are_reported_in_one_run() {
    let path = file(
        "several.toml",
        "[options]\nsndhwn = 7\n[[proxy]]\nkind = 'que'\nfrontend.bind = '7001'\n",
    );
    let lines = refusals_of(&["check", &path], 2);
    let expected = [
        ":2: options.sndhwn: ",
        ":4: proxy.kind: ",
        ":5: proxy.frontend.bind: ",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("{path}{expected}")), "{line}");
    }
    let lines = refusals_of(&["queue"], 2);
    let missing = ["frontend", "backend"].map(|side| format!("the {side} has no endpoint"));
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].starts_with(&missing[0]) && lines[1].starts_with(&missing[1]),
        "{lines:#?}"
    );
}

const WRONG_USAGE: &[(&[&str], &str)] = &[
    (
        &["nonsense"],
        "unrecognized subcommand 'nonsense' (see zmqd --help)",
    ),
    (
        &["ctl"],
        "zmqd ctl needs a subcommand: pause, resume, terminate, reload, statistics, peers, ",
    ),
    (
        &["ctl", "tcp://a:1"],
        "zmqd ctl needs a subcommand: pause, resume",
    ),
    (
        &["bench"],
        "zmqd bench needs a subcommand: queue, forward, stream, latency, crowd, handshakes, ",
    ),
    (&["quee"], "a similar subcommand exists: 'queue'"),
    (&["--nonsense"], "unexpected argument '--nonsense' found"),
    (&["queue", "-v", "-q"], "cannot be used with"),
    (
        &["queue"],
        "the frontend has no endpoint: give --frontend ENDPOINT or --frontend-conn",
    ),
    (
        &["queue", "--frontend", "tcp://127.0.0.1:1"],
        "the backend has no endpoint: give --backend END",
    ),
    (
        &["queue", "--frontend"],
        "a value is required for '--frontend <ENDPOINT>...'",
    ),
    (
        &["queue", "--frontend", "tcp://*"],
        "\"tcp://*\" has no port: write tcp://*:5559",
    ),
    (
        &["queue", "--frontend", "tcp://*:1", "udp://x"],
        "the transport \"udp\"",
    ),
    (
        &["queue", "--frontend", "tcp://*:1,tcp://*:x"],
        "the port \"x\"",
    ),
    (
        &["queue", "--frontend-connect", "tcp://*:1"],
        "* is only for binding",
    ),
    (
        &["queue", "--frontend", ">tcp://a:*"],
        "0 and * are only for binding",
    ),
    (
        &["queue", "--set", "sndhwm"],
        "write KEY=VALUE, sndhwm=100 for example",
    ),
    (
        &["queue", "--set", "backend.sndhw=1"],
        "did you mean \"sndhwm\"?",
    ),
    (&["queue", "--set", "ipv6=yes"], "write true or false"),
    (
        &["queue", "--set", "tcp_accept_filter=10.0.0.0/8,10.0.0.1/8"],
        "\"10.0.0.1/8\" has an address beyond its 8 bits",
    ),
    (
        &["queue", "--set", "backend.ipc_mode=rw"],
        "write three octal digits",
    ),
    (
        &[
            "queue",
            "--frontend",
            "tcp://127.0.0.1:1",
            "--backend-connect",
            "inproc://a",
        ],
        "--backend-connect: no side binds inproc://a",
    ),
    (
        &["queue", "--set", "maxmsgsize=0"],
        "write a number of bytes from 1 to",
    ),
    (
        &["queue", "--set", "sndhwm=-1"],
        "'--set <KEY=VALUE>...': -1 is out of range: write a number of messages from 0",
    ),
    (
        &["queue", "--set", "sndhwm=4294967296"],
        "write a number of messages from 0 to 4294967295",
    ),
    (
        &["queue", "--drain-timeout", "-1"],
        "write a time such as 5s; a number alone is ms, at most 2147483647",
    ),
    (
        &["queue", "--drain-timeout", "2147483648"],
        "write a time such as 5s; a number alone is ms, at most 21474",
    ),
    (
        &["queue", "--set", "handshake_ivl=soon"],
        "write a number of ms, or a time such as \"5s\"",
    ),
    (
        &["queue", "--memory-limit", "64MoB"],
        "write a size such as 65536, 64KiB or 10MB",
    ),
    (
        &["queue", "--hwm", "10"],
        "--hwm was renamed: write --set sndhwm=N",
    ),
    (
        &["queue", "--handshake-timeout", "10"],
        "--handshake-timeout was renamed: write --set handshake_ivl=TIME",
    ),
    (
        &["bench", "queue", "--seconds", "3"],
        "--seconds was renamed: write --duration TIME",
    ),
    (
        &["sniff", "tcp://a:1", "--timeout", "1e300"],
        "write a time such as 5s or 250ms; a number alone is seconds",
    ),
    (
        &["sniff", "tcp://a:1", "--timeout", "0"],
        "write a time above zero",
    ),
    (&["check"], "<CONFIG> (see zmqd check --help)"),
    (
        &["check", "--diff", "/nonexistent", "/nonexistent"],
        "cannot read /nonexistent: ",
    ),
    (&["check", "--diff", "one"], "--diff"),
    (
        &["check", "/nonexistent"],
        "cannot read /nonexistent: No such file",
    ),
    (
        &["run", "/nonexistent"],
        "zmqd run --print-default prints an example",
    ),
    (&["run", "/"], "cannot read /: Is a directory"),
    (&["run", "--print-default", "x"], "cannot be used with"),
    (&["sniff"], "no source: name a capture endpoint"),
    (&["sniff", "tcp://*:1"], "* is only for binding"),
    (
        &["sniff", "tcp://a:1", "--socket", "PUB"],
        "write SUB, PULL, PAIR, DEALER or ROUTER",
    ),
    (
        &["sniff", "tcp://a:1", "--direction", "up"],
        "possible values: in, out",
    ),
    (&["sniff", "tcp://a:1", "--count", "0"], "0 is not in 1.."),
    (
        &[
            "sniff",
            "tcp://a:1",
            "--format",
            "proxy",
            "--direction",
            "in",
        ],
        "--format proxy has no directions",
    ),
    (&["sniff", "tcp://a:1", "--print"], "--record <FILE>"),
    (
        &["sniff", "tcp://a:1", "--stats", "--follow", "x"],
        "cannot be used with",
    ),
    (&["replay"], "--to <ENDPOINT>"),
    (
        &["replay", "x", "--to", "tcp://a:1", "--socket", "REQ"],
        "write PUB, PUSH or DEALER",
    ),
    (&["replay", "x", "--speed", "0"], "write a number above 0"),
    (
        &["replay", "x", "--speed", "2", "--max"],
        "cannot be used with",
    ),
    (&["export", "x"], "--pcapng <FILE>"),
    (&["man", "nonsense"], "unknown subcommand \"nonsense\""),
    (
        &["completions", "tcsh"],
        "bash, elvish, fish, powershell, zsh",
    ),
];
