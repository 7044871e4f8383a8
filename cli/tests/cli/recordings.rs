//! The real binary on recordings: `sniff --read`, `export`, and what `replay` refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use broker::PeerAddress;
use broker::record::{Direction, Origin, RecordConfig, Recorder};
use zmtp::SocketType;
use zmtp::encode::append_message;

use super::refusals::refusal_of;
use super::{assert_ends_well_without_a_reader, run, text};

const SECOND: u64 = 1_000_000_000;

/// The output of a command that succeeds.
#[track_caller]
fn stdout_of(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    text(&output.stdout)
}

/// A folder for one test, empty.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&path));
    fs::create_dir_all(&path).expect("a folder can be made");
    path
}

/// A file in a folder, as an argument.
fn at(folder: &std::path::Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

/// A message to record: its time, its origin, its frames.
type Row<'a> = (u64, Origin<'a>, &'a [&'a [u8]]);

fn record(path: &str, rows: &[Row<'_>]) {
    let mut recorder = Recorder::open(&RecordConfig::new(path)).expect("it can be recorded to");
    for (time_ns, origin, frames) in rows {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        assert!(recorder.push(*time_ns, origin, &[&wire]));
    }
    assert_eq!(recorder.finish().messages, rows.len() as u64);
}

const ORIGIN: Origin<'static> = Origin {
    connection: 0,
    direction: None,
    is_routed: false,
    peer: None,
    socket_type: None,
    source: "weather",
    user: None,
};

/// Messages that a queue and a forwarder passed on.
fn day(path: &str) {
    let queue = |direction| Origin {
        direction: Some(direction),
        is_routed: true,
        socket_type: Some(SocketType::Router),
        source: "orders",
        ..ORIGIN
    };
    let subscriber = Origin {
        connection: 9,
        direction: Some(Direction::Out),
        peer: Some(PeerAddress::Tcp(([10, 1, 2, 3], 4567).into())),
        socket_type: Some(SocketType::Xpub),
        ..ORIGIN
    };
    record(
        path,
        &[
            (SECOND, queue(Direction::In), &[b"anna", b"", b"order 17"]),
            (
                SECOND + 1_500_000,
                queue(Direction::Out),
                &[b"anna", b"", b"done 17"],
            ),
            (
                2 * SECOND,
                queue(Direction::In),
                &[b"\0\xff", b"", b"{\"order\": 18}"],
            ),
            (3 * SECOND, subscriber, &[b"\x01rain"]),
            (4 * SECOND, ORIGIN, &[b"rain", b"a lot of rain, 18 mm"]),
        ],
    );
}

#[test]
fn a_recording_is_shown_like_a_capture() {
    let path = at(&folder("shown"), "day");
    day(&path);
    let expected = "\
        1970-01-01T00:00:01.000000Z orders in  anna [][order 17]\n\
        1970-01-01T00:00:01.001500Z orders out anna [][done 17]\n\
        1970-01-01T00:00:02.000000Z orders in  0x00ff [][{\"order\":18}]\n\
        1970-01-01T00:00:03.000000Z weather out - [\\x01rain]\n\
        1970-01-01T00:00:04.000000Z weather -   - [rain][a lot of rain, 18 mm]\n";
    assert_eq!(stdout_of(&["sniff", "--read", &path]), expected);
    let json = stdout_of(&["sniff", "--read", &path, "--json", "--cut", "1"]);
    let lines: Vec<&str> = json.lines().collect();
    assert_eq!(
        lines[3],
        "{\"time\":\"1970-01-01T00:00:03.000000Z\",\"time_ns\":3000000000,\
         \"source\":\"weather\",\"direction\":\"out\",\"peer\":\"10.1.2.3:4567\",\
         \"size\":5,\"frames\":[{\"text\":\"\\u0001rain\"}]}"
    );
    assert_eq!(lines.len(), 5);
}

#[test]
fn filters_and_limits_choose_messages() {
    let path = at(&folder("filters"), "day");
    day(&path);
    for (options, expected) in [
        (
            &["--direction", "in"][..],
            &["order 17", "{\"order\":18}"][..],
        ),
        (&["--direction", "out"], &["done 17", "\\x01rain"]),
        (&["--identity", "anna"], &["order 17", "done 17"]),
        (&["--identity", "0x00ff"], &["{\"order\":18}"]),
        (&["--topic", "ord"], &["order 17"]),
        (
            &["--topic", "ord", "--topic", "done"],
            &["order 17", "done 17"],
        ),
        (
            &["--text", "18"],
            &["{\"order\":18}", "a lot of rain, 18 mm"],
        ),
        (
            &["--source", "orders", "--count", "2"],
            &["order 17", "done 17"],
        ),
        (
            &["--source", "weather", "--cut", "6"],
            &["\\x01rain", "a lot …(20)"],
        ),
        (&["--text", "nothing"], &[]),
    ] {
        let args = [&["sniff", "--read", &path][..], options].concat();
        let lines = stdout_of(&args);
        let last = |line: &str| {
            let (_, last) = line
                .trim_end_matches(']')
                .rsplit_once('[')
                .expect("a frame");
            last.to_owned()
        };
        let found: Vec<String> = lines.lines().map(last).collect();
        assert_eq!(found, expected, "{options:?}");
    }
}

#[test]
fn several_recordings_are_merged_by_time_and_followed() {
    let folder = folder("merged");
    let hop = |source| Origin { source, ..ORIGIN };
    let [edge, core] = [at(&folder, "edge"), at(&folder, "core")];
    record(
        &edge,
        &[
            (SECOND, hop("edge"), &[b"id-1"]),
            (SECOND + 5_000_000, hop("edge"), &[b"id-2"]),
            (SECOND + 7_250_000, hop("edge"), &[b"reply to id-1"]),
        ],
    );
    record(
        &core,
        &[
            (SECOND + 750_000, hop("core"), &[b"id-1"]),
            (SECOND + 6_000_000, hop("core"), &[b"id-1", b"again"]),
        ],
    );
    assert_eq!(
        stdout_of(&["sniff", "--read", &core, &edge, "--follow", "id-1"]),
        "1970-01-01T00:00:01.000000Z           edge -   - [id-1]\n\
         1970-01-01T00:00:01.000750Z   +750 µs core -   - [id-1]\n\
         1970-01-01T00:00:01.006000Z  +5.25 ms core -   - [id-1][again]\n\
         1970-01-01T00:00:01.007250Z  +1.25 ms edge -   - [reply to id-1]\n"
    );
    let args = [
        "sniff", "--read", &core, "--read", &edge, "--json", "--follow", "id-2",
    ];
    let line = stdout_of(&args);
    assert!(!line.contains("since_ns"), "the first: {line}");
    let args = [
        "sniff", "--read", &core, &edge, "--json", "--follow", "id-1",
    ];
    let lines = stdout_of(&args);
    let since = |line: &str| line.contains("\"since_ns\":5250000,");
    assert!(since(lines.lines().nth(2).expect("four lines")), "{lines}");
}

#[test]
fn statistics_of_a_recording_use_its_own_times() {
    let path = at(&folder("statistics"), "day");
    day(&path);
    let lines = stdout_of(&["sniff", "--read", &path, "--stats", "--source", "orders"]);
    let expected = "\
        1970-01-01T00:00:01.000000Z second in 1/s 12 B/s  out 1/s 11 B/s  \
        round trip 1.50 ms, at most 1.50 ms\n    \
        anna                 in 1/s 12 B/s  out 1/s 11 B/s  round trip 1.50 ms, at most 1.50 ms\n";
    assert!(lines.starts_with(expected), "{lines}");
    let json = stdout_of(&["sniff", "--read", &path, "--stats", "--json"]);
    let total = json.lines().last().expect("a last line");
    for expected in [
        "\"of\":\"total\"",
        "\"in\":{\"messages\":2,\"bytes\":27}",
        "\"round_trips\":{\"count\":1,\"mean_ns\":1500000,\"max_ns\":1500000}",
        "{\"identity_hex\":\"00ff\",\"in\":{\"messages\":1,\"bytes\":15}",
    ] {
        assert!(total.contains(expected), "{expected}\n{total}");
    }
}

#[test]
fn selected_messages_can_be_recorded_again() {
    let folder = folder("again");
    let [from, to] = [at(&folder, "day"), at(&folder, "orders")];
    day(&from);
    let args = [
        "sniff", "--read", &from, "--source", "orders", "--record", &to,
    ];
    assert_eq!(stdout_of(&args), "", "recorded messages are not shown");
    let (chosen, again) = (
        stdout_of(&["sniff", "--read", &from, "--source", "orders", "--json"]),
        stdout_of(&["sniff", "--read", &to, "--json"]),
    );
    assert_eq!(chosen, again);
    let shown = stdout_of(&[&args[..], &["--print", "--json"]].concat());
    assert_eq!(shown, chosen, "unless requested");
}

#[test]
fn a_copy_may_be_larger_than_the_buffer() {
    let folder = folder("much");
    let [from, to] = [at(&folder, "from"), at(&folder, "to")];
    let body = vec![b'x'; 1 << 20];
    {
        let mut recorder = Recorder::open(&RecordConfig::new(&from)).expect("writable");
        let mut wire = Vec::new();
        append_message(&mut wire, &[&body]);
        for time_ns in 1..=80 {
            assert!(recorder.push(time_ns, &ORIGIN, &[&wire]));
            recorder.sync();
        }
    }
    const { assert!(RecordConfig::BUFFER_SIZE_MAX < 80 << 20) };
    stdout_of(&["sniff", "--read", &from, "--record", &to]);
    assert_eq!(
        fs::read(&from).expect("readable"),
        fs::read(&to).expect("readable")
    );
}

#[test]
fn recordings_rotate_and_old_files_are_removed() {
    let folder = folder("rotated");
    let [from, to] = [at(&folder, "day"), at(&folder, "new")];
    day(&from);
    let names = || {
        let names = fs::read_dir(&folder).expect("a folder").flatten();
        let mut names: Vec<String> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("new"))
            .collect();
        names.sort();
        names
    };
    let copy = |options: &[&str]| {
        let args = [&["sniff", "--read", &from, "--record", &to][..], options].concat();
        stdout_of(&args);
    };
    copy(&["--record-size", "1"]);
    let five = [
        "new",
        "new.000001",
        "new.000002",
        "new.000003",
        "new.000004",
    ];
    assert_eq!(names(), five, "a message each");
    copy(&["--record-age", "1.5", "--record-files", "3"]);
    assert_eq!(names(), ["new", "new.000005", "new.000006"]);
    let count = |name: &str| {
        let lines = stdout_of(&["sniff", "--read", &at(&folder, name)]);
        lines.lines().count()
    };
    // The last message of the first copy, those of the first second and a half, the others.
    assert_eq!(["new.000005", "new.000006", "new"].map(count), [1, 3, 2]);
}

#[test]
fn damage_is_reported_and_costs_only_the_damaged_messages() {
    let folder = folder("damaged");
    let [path, cut] = [at(&folder, "day"), at(&folder, "cut")];
    day(&path);
    let mut bytes = fs::read(&path).expect("readable");
    fs::write(&cut, &bytes[..bytes.len() - 1]).expect("writable");
    let output = run(&["sniff", "--read", &cut]);
    assert!(output.status.success(), "a killed writer is not damage");
    assert_eq!(text(&output.stdout).lines().count(), 4);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("WARN") && stderr.contains("is unfinished"),
        "{stderr}"
    );
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bytes[100] ^= 1;
    fs::write(&path, &bytes).expect("writable");
    for (args, lines) in [
        (&["sniff", "--read", &path][..], 3),
        (&["export", &path, "--overwrite", "--pcapng", &cut], 1),
    ] {
        let output = run(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.matches(" are damaged").count(), 2, "{stderr}");
        let sentence = "zmqd: the recording is damaged in 2 places\n";
        assert!(stderr.ends_with(sentence), "{stderr}");
        assert_eq!(text(&output.stdout).lines().count(), lines);
    }
}

#[test]
fn other_files_are_refused() {
    let folder = folder("refused");
    let [other, empty] = [at(&folder, "other"), at(&folder, "empty")];
    fs::write(&other, "hello, this is some text").expect("writable");
    fs::write(&empty, "").expect("writable");
    for (args, expected) in [
        (
            &["sniff", "--read", &other][..],
            "this is not a zmqd recording",
        ),
        (&["sniff", "--read", &empty], "this is not a zmqd recording"),
        (&["sniff", "--read", "/nonexistent"], "No such file"),
        (
            &["export", &other, "--pcapng", "-"],
            "this is not a zmqd recording",
        ),
        (
            // The file is read before the connection is made.
            &[
                "replay",
                &other,
                "--to",
                "tcp://127.0.0.1:1",
                "--socket",
                "PUB",
            ],
            "this is not a zmqd recording",
        ),
    ] {
        let output = run(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(stderr.contains("zmqd: cannot read /"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_closed_stdout_is_not_a_failure() {
    let path = at(&folder("gone"), "day");
    day(&path);
    for args in [
        &["sniff", "--read", &path][..],
        &["sniff", "--read", &path, "--stats"],
        &["export", &path, "--pcapng", "-"],
    ] {
        assert_ends_well_without_a_reader(args);
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let path = at(&folder("full"), "day");
    day(&path);
    for (args, expected) in [
        (
            &["export", &path, "--pcapng", "/dev/full"][..],
            "cannot write to /dev/full: No space left",
        ),
        (
            &["sniff", "--read", &path, "--record", "/dev/full"],
            "cannot record to /dev/full: No space left",
        ),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(expected), "{stderr}");
    }
}

/// `ci.sh wireshark` reads the file that this test leaves behind.
#[test]
fn an_export_does_not_replace_a_file_unless_told() {
    let folder = folder("unasked");
    let [path, pcapng] = [at(&folder, "day.zrec"), at(&folder, "day.pcapng")];
    day(&path);
    fs::write(&pcapng, "dear").expect("writable");
    let args = ["export", &path, "--pcapng", &pcapng];
    let refusal = refusal_of(&args, 1);
    assert!(
        refusal.ends_with("the file exists; name another file, or add --overwrite"),
        "{refusal}"
    );
    assert_eq!(fs::read(&pcapng).expect("readable"), b"dear");
    let summary = stdout_of(&[&args[..], &["--overwrite"]].concat());
    assert!(summary.starts_with(&format!("{pcapng}: ")), "{summary}");
    assert!(fs::read(&pcapng).expect("readable").len() > 100);
}

#[test]
fn an_export_has_blocks_packets_and_streams() {
    let folder = folder("exported");
    let [path, pcapng] = ["day", "day.pcapng"].map(|name| at(&folder, name));
    let queue = |direction| Origin {
        direction: Some(direction),
        is_routed: true,
        source: "orders",
        ..ORIGIN
    };
    let large = vec![b'x'; 200_000];
    let worker = Origin {
        connection: 4,
        peer: Some(PeerAddress::Tcp(
            "[2001:db8::7]:4567".parse().expect("an address"),
        )),
        socket_type: Some(SocketType::Pull),
        source: "work",
        ..ORIGIN
    };
    record(
        &path,
        &[
            (SECOND, queue(Direction::In), &[b"anna", b"", b"question"]),
            (
                SECOND + 1,
                queue(Direction::Out),
                &[b"anna", b"", b"answer"],
            ),
            (2 * SECOND, worker, &[b"task", &large]),
        ],
    );
    let summary = format!("{pcapng}: 3 messages in 20 packets\n");
    assert_eq!(stdout_of(&["export", &path, "--pcapng", &pcapng]), summary);
    let exported = fs::read(&pcapng).expect("readable");
    let streams = streams_of(&exported);
    let names: Vec<&str> = streams.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "4:50000 > 4:5555",
            "4:5555 > 4:50000",
            "6:4567 > 6:5556",
            "6:5556 > 6:4567"
        ]
    );
    let ends: [&[u8]; 4] = [
        b"\x01\0\0\x08question",
        b"\x01\0\0\x06answer",
        b"xxx",
        b"PULL",
    ];
    for (name, end) in names.iter().zip(ends) {
        let stream = &streams[*name];
        assert!(
            stream.starts_with(b"\xff\0\0\0\0\0\0\0"),
            "{name}: a greeting"
        );
        assert_eq!(stream[67..72], *b"READY", "{name}");
        assert!(stream.ends_with(end), "{name}: {}", end.escape_ascii());
    }
    let size = streams["6:4567 > 6:5556"].len();
    assert_eq!(
        size,
        64 + 28 + 6 + 9 + large.len(),
        "greeting, READY, two frames"
    );
    let piped = run(&["export", &path, "--pcapng", "-"]);
    assert_eq!(piped.stdout, exported, "- is stdout");
    let work = run(&["export", &path, "--pcapng", "-", "--source", "work"]);
    assert_eq!(streams_of(&work.stdout).len(), 2, "those of the worker");
}

/// A name may have any characters; no output has those that would change what it seems to say.
#[test]
fn user_names_are_shown_filtered_and_exported_without_hidden_characters() {
    let folder = folder("named");
    let path = at(&folder, "day");
    let hostile = "a\n\x1b[2J\u{202e}";
    let from = |user| Origin {
        user: Some(user),
        ..ORIGIN
    };
    record(
        &path,
        &[
            (SECOND, from("anna"), &[b"1"]),
            (2 * SECOND, from(hostile), &[b"2"]),
            (3 * SECOND, ORIGIN, &[b"3"]),
            (4 * SECOND, from("anna"), &[b"4"]),
        ],
    );
    let shown = stdout_of(&["sniff", "--read", &path]);
    let ends = [
        "-   - (user anna) [1]",
        "-   - (user a\\n\\x1b[2J\\u{202e}) [2]",
        "-   - [3]",
        "-   - (user anna) [4]",
    ];
    assert_eq!(shown.lines().count(), ends.len());
    for (line, end) in shown.lines().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
    let json = stdout_of(&["sniff", "--read", &path, "--json", "--user", hostile]);
    let user = "\"user\":\"a\\n\\u001b[2J\\u202e\",";
    assert!(json.lines().count() == 1 && json.contains(user), "{json}");
    let copy = at(&folder, "copy");
    let copied = [
        "sniff", "--read", &path, "--user", "anna", "--record", &copy,
    ];
    stdout_of(&copied);
    let shown = stdout_of(&["sniff", "--read", &copy]);
    assert_eq!(shown.matches("(user anna)").count(), 2, "{shown}");
    let exported = run(&["export", &path, "--pcapng", "-"]).stdout;
    let comments = |text: &str| {
        let mut option = vec![1, 0, u8::try_from(text.len()).expect("short"), 0];
        option.extend_from_slice(text.as_bytes());
        let windows = exported.windows(option.len());
        windows.filter(|window| *window == option).count()
    };
    assert_eq!(comments("user anna"), 2, "one for each message");
    assert_eq!(comments("user a\\n\\x1b[2J\\u{202e}"), 1);
}

/// Reads a pcapng file block by block and puts its streams together: `4:PORT > 4:PORT` by version
/// of IP.
fn streams_of(file: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let (mut rest, mut kinds, mut last_ns) = (file, Vec::new(), 0);
    let mut streams: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    while !rest.is_empty() {
        let size = number(&rest[4..8]) as usize;
        assert_eq!(size % 4, 0, "blocks end at multiples of four");
        let (block, others) = rest.split_at(size);
        assert_eq!(
            number(&block[size - 4..]) as usize,
            size,
            "both sizes are equal"
        );
        rest = others;
        let kind = number(&block[..4]);
        kinds.push(kind);
        if kind != 6 {
            continue;
        }
        let time_ns = u64::from(number(&block[12..16])) << 32 | u64::from(number(&block[16..20]));
        assert!(time_ns >= last_ns, "times go forward");
        last_ns = time_ns;
        let packet_size = number(&block[20..24]) as usize;
        assert_eq!(
            packet_size,
            number(&block[24..28]) as usize,
            "nothing was cut"
        );
        let packet = &block[28..28 + packet_size];
        let (version, header_size) = match packet[0] {
            0x45 => (4, 20),
            0x60 => (6, 40),
            other => panic!("an IP header that begins with {other:#x}"),
        };
        let tcp = &packet[header_size..];
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let name = format!("{version}:{} > {version}:{}", port(0), port(2));
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        streams.entry(name).or_default().extend_from_slice(payload);
    }
    assert_eq!(kinds[..2], [0x0a0d_0d0a, 1], "a section, an interface");
    assert!(kinds[2..].iter().all(|kind| *kind == 6), "packets");
    assert_eq!(last_ns % SECOND, 0, "the time of the last message");
    streams
}

#[test]
fn a_silent_peer_times_out() {
    let path = at(&folder("silent"), "day");
    day(&path);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("bound"));
    for args in [
        &["sniff", &endpoint, "--timeout", "0.05"][..],
        &[
            "replay",
            &path,
            "--to",
            &endpoint,
            "--socket",
            "PUB",
            "--timeout",
            "0.05",
        ],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1));
        let sentence = format!("zmqd: cannot connect to {endpoint}: no answer in time\n");
        assert_eq!(text(&output.stderr), sentence, "{args:?}");
    }
}
