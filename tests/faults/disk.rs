//! The disk is full while a proxy is recorded.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::process;

use zmqd_tests::{ANY, Python, Scratch, Zmqd, wait_until};

/// The numbers in a recording, and how many messages it reports as missing between them.
fn read(recording: &str) -> (Vec<u64>, u64) {
    let finished = Zmqd::finish(&["sniff", "--read", recording]);
    let number = |line: &str| {
        let (_, rest) = line.split_once("[number ")?;
        rest.split_once(']')?.0.parse::<u64>().ok()
    };
    let lost = |line: &str| {
        let (before, _) = line.split_once(" messages of ")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let numbers = finished.stdout.lines().filter_map(number).collect();
    (numbers, finished.stderr.lines().filter_map(lost).sum())
}

/// `pass_on`, which sends messages from a source through a streamer to a sink.
const TRAFFIC: &str = r#"
source, sink, number = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend), 0

def pass_on(count):
    global number
    for number in range(number + 1, number + 1 + count):
        message = [b"number %d" % number, bytes(1000)]
        source.send_multipart(message)
        assert sink.recv_multipart() == message
"#;

/// A file system of a megabyte, a third of it used, that only one process sees.
struct SmallDisk {
    path: String,
}

impl SmallDisk {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("zmqd-disk-{}", process::id()));
        fs::create_dir_all(&path).expect("a directory for temporary files");
        let path = path.to_str().expect("a name in UTF-8").to_owned();
        Self { path }
    }

    fn start_in(&self, arguments: &[&str]) -> Zmqd {
        let path = &self.path;
        let mount = format!(
            "mount -t tmpfs -o size=1m none {path} && head -c 350000 /dev/zero >{path}/filler \
             && exec \"$0\" \"$@\""
        );
        Zmqd::start_under(&["unshare", "--mount", "sh", "-c", &mount], arguments)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.path)); // empty outside of that process
    }
}

#[test]
fn a_recording_continues_when_there_is_space_again() {
    let unlimited = [
        "--set=capture.sndhwm=0",
        "--set=capture.sndhwm_bytes=1000000000",
    ];
    let broker = Zmqd::streamer(&[&["--capture", ANY], &unlimited[..]].concat());
    let mut python = Python::beside(&broker);
    python.run(TRAFFIC);
    let disk = SmallDisk::new();
    let recording = format!("{}/day.zrec", disk.path);
    let sniffer = disk.start_in(&["sniff", broker.capture(), "--record", &recording]);
    let inside = |file: &str| format!("/proc/{}/root{}/{file}", sniffer.pid(), disk.path);
    let len = || fs::metadata(inside("day.zrec")).map_or(0, |metadata| metadata.len());
    wait_until("the sniffer to record a message", || {
        python.run("pass_on(1)");
        (len() > 1000).then_some(())
    });
    python.run("pass_on(1500)");
    let _line = sniffer.wait_log("No space left on device");
    python.run("pass_on(100)");
    let full = len();
    assert!(
        (500_000..800_000).contains(&full),
        "{full} bytes are recorded"
    );
    fs::remove_file(inside("filler")).expect("the filler exists");
    wait_until("the recording to continue", || {
        python.run("pass_on(10)");
        (len() > full + 10_000).then_some(())
    });
    let sent: u64 = python.ask("number");
    let mut file = File::open(inside("day.zrec")).expect("the recording exists");
    sniffer.signal("TERM");
    let finished = sniffer.wait();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    // The open file keeps the file system alive.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .expect("the recording can be read");
    let copy = Scratch::new("zrec", "");
    fs::write(copy.path(), bytes).expect("a copy can be written");
    let (numbers, lost) = read(copy.path());
    assert!(lost > 0, "the recording reports no missing messages");
    assert!(numbers.is_sorted(), "out of order");
    assert_eq!(numbers.last(), Some(&sent), "the last message is missing");
    assert_eq!(
        numbers.len() as u64 + lost,
        sent - numbers[0] + 1,
        "messages are missing without a report"
    );
}
