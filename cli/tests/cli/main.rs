//! The real binary: help, messages, exit codes, output at start.

mod passwd;
mod recordings;
mod refusals;

use refusals::refusal_of;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use broker::Query;
use broker::config::{Kind, SocketOption, Unit, Value, ValueKind};

/// The longest wait before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

fn zmqd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zmqd"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .env_remove("JOURNAL_STREAM");
    command
}

fn run(args: &[&str]) -> Output {
    zmqd(args).output().expect("the binary runs")
}

/// The output of a command that succeeds.
fn stdout_of(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    assert_eq!(text(&output.stderr), "", "{args:?}");
    text(&output.stdout)
}

/// A command whose stdout is closed by the reader succeeds and reports nothing.
fn assert_ends_well_without_a_reader(args: &[&str]) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = zmqd(args).stdout(writer).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert_eq!(text(&output.stderr), "", "{args:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a parent")
        .to_owned()
}

/// Writes a configuration file; each test uses a name of its own.
fn file(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("writable");
    path.to_str().expect("UTF-8").to_owned()
}

/// The subcommands that `zmqd --help` lists.
fn subcommands() -> Vec<String> {
    listed(&stdout_of(&["--help"]))
}

/// The subcommands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .map(|line| line.split_whitespace().next().expect("a name").to_owned())
        .collect()
}

/// The long help of every subcommand, by its full name.
fn helps() -> Vec<(String, String)> {
    let mut helps = Vec::new();
    let mut left: Vec<Vec<String>> = subcommands().into_iter().map(|name| vec![name]).collect();
    while let Some(path) = left.pop() {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let help = stdout_of(&args);
        left.extend(
            listed(&help)
                .into_iter()
                .map(|name| [&path[..], &[name]].concat()),
        );
        helps.push((path.join(" "), help));
    }
    helps
}

/// A zmqd that runs until the test ends.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = zmqd(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines
            .recv_timeout(DEADLINE)
            .expect("a line on stdout in time")
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits for the end, which closes stdout.
    fn status(&mut self) -> ExitStatus {
        let rest = self.lines.recv_timeout(DEADLINE);
        assert!(rest.is_err(), "nothing more on stdout: {rest:?}");
        assert_eq!(
            rest,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected),
            "ends in time"
        );
        self.child.wait().expect("it was started here")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn help_fits_a_hundred_columns_and_has_examples() {
    let subcommands = subcommands();
    for kind in Kind::ALL {
        assert!(
            subcommands.iter().any(|name| name == kind.name),
            "{}",
            kind.name
        );
    }
    for (name, help) in helps() {
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "zmqd {name}: {line}");
        }
        let example = help.contains(&format!("\n  zmqd {name}"));
        assert!(
            example || name == "check" || name.contains(' '),
            "zmqd {name} --help has an example"
        );
    }
    let help = stdout_of(&["--help"]);
    assert_eq!(help, stdout_of(&["-h"]));
    for expected in [
        "\nExamples:\n",
        "\nExit codes:\n",
        "RUST_LOG",
        "zmqd check zmqd.toml",
    ] {
        assert!(help.contains(expected), "{help}");
    }
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "{help}"
    );
    assert_eq!(
        stdout_of(&["--version"]),
        format!("zmqd {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn check_explains_a_file() {
    let path = file(
        "meaning.toml",
        "[options]\nsndhwm = 5\n[[proxy]]\nkind = 'streamer'\nname = 'work'\n\
         frontend = { bind = 'tcp://127.0.0.1:*', sndhwm = 1000 }\n\
         backend.connect = ['tcp://::1:7', 'tcp://*:0;a:8']\n\
         [[proxy]]\nkind = 'queue'\n\
         frontend = { bind = 'ipc://@a', sndhwm = 1000, ipv6 = true, tos = 40, ipc_mode = '0660',\n\
         tcp_accept_filter = ['10.0.0.0/8', '::1'], sndbuf = 9 }\n\
         backend = { bind = 'inproc://a', sndhwm = 1000 }\n",
    );
    assert_eq!(
        stdout_of(&["check", &path]),
        "work (streamer): Work to sinks in turn: PULL in front, PUSH behind\n  \
         frontend PULL\n    \
         bind tcp://127.0.0.1:0\n  \
         backend PUSH\n    \
         connect tcp://[::1]:7\n    \
         connect tcp://*:0;a:8\n    \
         sndhwm 5 messages (default 1000)\n\
         queue (queue): Requests to workers in turn, replies back: \
         ROUTER in front, DEALER behind\n  \
         frontend ROUTER\n    \
         bind ipc://@a\n    \
         sndbuf 9 bytes (default -1)\n    \
         ipv6 true (default false)\n    \
         tos 40 (default 0)\n    \
         ipc_mode \"660\" (default \"\")\n    \
         tcp_accept_filter [\"10.0.0.0/8\", \"::1/128\"] (default [])\n  \
         backend DEALER\n    \
         bind inproc://a\n\
         drain_timeout: 5000 ms\nmemory_limit: 536870912 bytes\n"
    );
}

#[test]
fn check_lists_the_changes_from_one_file_to_another() {
    let text = "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:1'\n\
                backend.bind = 'tcp://127.0.0.1:2'\n";
    let old = file("old.toml", text);
    let more = "backend.sndhwm = 5\nbackend.backlog = 6\nbackend.maxmsgsize = 7\n\
                [[proxy]]\nkind = 'streamer'\nfrontend.bind = 'tcp://127.0.0.1:4'\n\
                backend.bind = 'tcp://127.0.0.1:5'\n";
    let text = text.replace("'tcp://127.0.0.1:1'", "'tcp://127.0.0.1:3'");
    let new = file("new.toml", &format!("memory_limit = 0\n{text}{more}"));
    assert_eq!(
        stdout_of(&["check", "--diff", &old, &new]),
        "memory_limit: 0 bytes (was 536870912 bytes), at once\n\
         queue.backend.sndhwm: 5 (was 1000), at once\n\
         queue.backend.maxmsgsize: 7 (was 134217728), for new connections\n\
         queue.backend.backlog: 6 (was 4096), after a restart\n\
         queue.frontend.bind: tcp://127.0.0.1:1 removed, at once\n\
         queue.frontend.bind: tcp://127.0.0.1:3 added, at once\n\
         streamer: proxy added, at once\n"
    );
    assert_eq!(stdout_of(&["check", "--diff", &new, &new]), "");
}

#[test]
fn check_shows_the_topics_of_a_link() {
    let path = file(
        "topics.toml",
        "[[proxy]]\nkind = 'forwarder'\nbackend.bind = 'tcp://127.0.0.1:1'\n\
         frontend.connect = ['tcp://a:2',\n\
         { endpoint = 'tcp://b:3', subscribe = ['eu.', 'us.'] }]\n",
    );
    let meaning = stdout_of(&["check", &path]);
    let expected = "    connect tcp://a:2\n    connect tcp://b:3 subscribe [\"eu.\", \"us.\"]\n";
    assert!(meaning.contains(expected), "{meaning}");
}

#[test]
fn the_default_file_and_every_example_pass_check() {
    let default = file("default.toml", &stdout_of(&["run", "--print-default"]));
    let meaning = stdout_of(&["check", &default]);
    for kind in Kind::ALL {
        assert!(
            meaning.contains(&format!("{0} ({0}): {1}", kind.name, kind.doc)),
            "{meaning}"
        );
    }
    let mut names = Vec::new();
    for entry in repository()
        .join("examples")
        .read_dir()
        .expect("a directory")
    {
        let path = entry.expect("readable").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let meaning = stdout_of(&["check", path.to_str().expect("UTF-8")]);
            assert!(meaning.contains("drain_timeout: "), "{meaning}");
            names.push(
                path.file_stem()
                    .expect("a name")
                    .to_str()
                    .expect("UTF-8")
                    .to_owned(),
            );
        }
    }
    for expected in ["chain", "forwarder", "queue", "streamer"] {
        assert!(
            names.iter().any(|name| name == expected),
            "examples/{expected}.toml"
        );
    }
}

#[test]
fn completions_and_manual_pages_know_every_subcommand() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let completions = stdout_of(&["completions", shell]);
        for expected in subcommands()
            .iter()
            .map(String::as_str)
            .chain(["frontend-connect"])
        {
            assert!(
                completions.contains(expected),
                "{shell} completes {expected}"
            );
        }
    }
    let whole = stdout_of(&["man"]);
    for name in subcommands() {
        assert!(
            whole.contains(&format!("\nzmqd\\-{name}(1)\n")),
            "{name} is in the page of zmqd"
        );
        let page = stdout_of(&["man", &name]);
        assert!(page.contains(&format!("\n.TH zmqd-{name} 1 ")), "{page}");
    }
    assert!(stdout_of(&["man", "queue"]).contains("\\-\\-frontend\\-connect"));
}

#[test]
fn the_guide_documents_every_option_kind_and_subcommand() {
    let guide = guide();
    let rows: Vec<String> = SocketOption::ALL.iter().map(row_of).collect();
    let found: Vec<&str> = guide
        .lines()
        .skip_while(|line| !line.starts_with("| key | value | default | libzmq |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(
        found,
        rows,
        "the table of options in the guide must be\n{}\n",
        rows.join("\n")
    );
    for Kind {
        name,
        frontend,
        backend,
        doc,
        ..
    } in Kind::ALL
    {
        let row = format!("| `{name}` | {frontend} | {backend} | {doc} |");
        assert!(guide.contains(&row), "the guide lacks the row\n{row}");
    }
    for Query { keys, name, .. } in Query::ALL {
        let plain = keys.iter().filter(|key| !key.ends_with("_hex"));
        let keys: Vec<String> = plain.map(|key| format!("`{key}`")).collect();
        let row = format!("| `{name}` | {}", keys.join(", "));
        assert!(
            guide.contains(row.trim_end()),
            "the guide lacks the row\n{row}"
        );
    }
    for (name, help) in helps() {
        let named = match name.rsplit_once(' ') {
            None => format!("`zmqd {name}"),
            Some((_, last)) => format!("`{last}`"),
        };
        assert!(guide.contains(&named), "the guide lacks zmqd {name}");
        let words = help
            .split_whitespace()
            .map(|word| word.trim_end_matches(['.', ',']));
        for flag in words.filter(|word| word.starts_with("--")) {
            assert!(
                guide.contains(flag),
                "the guide lacks {flag} of zmqd {name}"
            );
        }
    }
}

/// All pages of the guide.
fn guide() -> String {
    let folder = std::fs::read_dir(repository().join("docs/guide")).expect("a folder");
    let pages = folder.map(|entry| entry.expect("an entry").path());
    pages
        .map(|page| std::fs::read_to_string(page).expect("readable"))
        .collect()
}

/// The row of an option in the guide.
fn row_of(option: &SocketOption) -> String {
    let value = match option.kind {
        ValueKind::Choice(names) => names.join(", "),
        ValueKind::Flag => "true or false".to_owned(),
        ValueKind::List => "list of texts".to_owned(),
        ValueKind::Number {
            unit: Unit::None, ..
        } => "number".to_owned(),
        ValueKind::Number { unit, .. } => unit.to_string(),
        ValueKind::Text { .. } => "text".to_owned(),
    };
    let default = match option.default_value() {
        Value::List(texts) if texts.is_empty() => "none".to_owned(),
        Value::Text(text) if text.is_empty() => "none".to_owned(),
        Value::Text(text) => text,
        default => default.to_string(),
    };
    let libzmq = option
        .libzmq
        .map_or_else(String::new, |libzmq| format!("`{libzmq}` "));
    let SocketOption {
        applies, doc, name, ..
    } = option;
    format!("| `{name}` | {value} | {default} | {libzmq}| {applies} | {doc} |")
}

#[test]
fn a_proxy_says_where_it_listens_and_stops_on_a_signal() {
    for kind in Kind::ALL {
        let mut zmqd = Running::start(&[
            kind.name,
            "--frontend",
            "tcp://127.0.0.1:0",
            "--backend",
            "tcp://127.0.0.1:*,tcp://127.0.0.1:0",
            "--name",
            "mine",
        ]);
        for expected in [
            "mine frontend bound tcp://127.0.0.1:",
            "mine backend bound tcp://127.0.0.1:",
            "mine backend bound tcp://127.0.0.1:",
        ] {
            let line = zmqd.line();
            assert!(line.starts_with(expected), "{line}");
            let address = line.rsplit("tcp://").next().expect("an endpoint");
            TcpStream::connect(address).expect("it listens where it says");
        }
        zmqd.terminate();
        assert_eq!(zmqd.status().code(), Some(0));
    }
}

#[test]
fn a_file_runs_all_of_its_proxies() {
    let path = file(
        "two.toml",
        "proxy = [{ kind = 'queue', frontend.bind = 'tcp://127.0.0.1:0',\n\
         backend.connect = 'tcp://127.0.0.1:1' },\n\
         { kind = 'queue', frontend.bind = 'tcp://127.0.0.1:0',\n\
         backend.bind = 'tcp://127.0.0.1:0' }]",
    );
    let mut zmqd = Running::start(&["run", &path]);
    assert!(
        zmqd.line()
            .starts_with("queue frontend bound tcp://127.0.0.1:")
    );
    assert!(
        zmqd.line()
            .starts_with("queue2 frontend bound tcp://127.0.0.1:")
    );
    assert!(
        zmqd.line()
            .starts_with("queue2 backend bound tcp://127.0.0.1:")
    );
    zmqd.terminate();
    assert_eq!(zmqd.status().code(), Some(0));
}

#[test]
fn a_port_in_use_is_a_sentence_and_exit_code_1() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = format!("tcp://{}", listener.local_addr().expect("bound"));
    let refusal = refusal_of(
        &[
            "queue",
            "--frontend",
            "tcp://127.0.0.1:0",
            "--backend",
            &taken,
        ],
        1,
    );
    assert!(
        refusal.starts_with(&format!("queue backend: cannot bind {taken}: ")),
        "{refusal}"
    );
    assert!(refusal.contains("choose another port"), "{refusal}");
}

#[test]
fn a_closed_stdout_is_not_a_failure() {
    for args in [
        &["--help"][..],
        &["man"],
        &["run", "--print-default"],
        &["completions", "bash"],
    ] {
        assert_ends_well_without_a_reader(args);
    }
}

#[test]
fn a_broker_goes_on_after_stdout_was_closed() {
    let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("tcp://{}", peer.local_addr().expect("bound"));
    let args = [
        "streamer",
        "--frontend",
        "tcp://127.0.0.1:0",
        "--backend-connect",
        &endpoint,
    ];
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = zmqd(&args).stdout(writer).spawn().expect("it runs");
    let (sender, lines) = channel();
    let mut zmqd = Running { child, lines };
    std::thread::spawn(move || {
        let (mut stream, address) = peer.accept().expect("it connects");
        sender.send(address.to_string()).expect("the test waits");
        // Until zmqd closes the connection, in whatever way.
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    });
    assert!(
        zmqd.line().starts_with("127.0.0.1:"),
        "it connects, so it runs"
    );
    zmqd.terminate();
    assert_eq!(zmqd.status().code(), Some(0));
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = zmqd(&["man"]).stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("zmqd: cannot write to stdout: "),
        "{output:?}"
    );
}
