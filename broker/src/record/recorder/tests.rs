use super::*;
use crate::record::{Entry, Reader};
use std::fs::{self, File};
use std::path::Path;
use zmtp::encode::append_message;

const ORIGIN: Origin<'static> = Origin {
    connection: 1,
    direction: None,
    is_routed: false,
    peer: None,
    socket_type: None,
    source: "streamer",
    user: None,
};

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("zmqd-recorder-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).expect("a folder can be made");
        Self(path)
    }

    /// Everything in it, by name.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a folder").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    fn config(&self) -> RecordConfig {
        RecordConfig::new(self.0.join("r"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn push(recorder: &mut Recorder, time_ns: u64, body: &[u8]) -> bool {
    let mut message = Vec::new();
    append_message(&mut message, &[body]);
    let (front, back) = message.split_at(1);
    recorder.push(time_ns, &ORIGIN, &[front, back])
}

/// The times of the messages in a file; lost messages count as a negative number.
fn told(path: &Path) -> Vec<i64> {
    let mut reader = Reader::new(File::open(path).expect("the file exists"));
    let mut told = Vec::new();
    while let Some(entry) = reader.read().expect("a recording") {
        told.push(match entry {
            Entry::Damage(damage) => panic!("{damage}"),
            Entry::Lost(lost) => -i64::try_from(lost.messages).expect("few"),
            Entry::Message(message) => i64::try_from(message.time_ns).expect("small"),
        });
    }
    told
}

#[test]
fn pushed_messages_are_in_the_file() {
    let folder = Folder::new("pushed");
    let mut recorder = Recorder::open(&folder.config()).unwrap();
    // Sizes that fill batches and exceed them.
    for (time, size) in (1..).zip([0, 1, BATCH_SIZE - 100, BATCH_SIZE, 3 * BATCH_SIZE, 5]) {
        assert!(push(&mut recorder, time, &vec![7; size]));
    }
    let statistics = recorder.finish();
    let file_size = fs::metadata(folder.0.join("r")).unwrap().len();
    let begin_size = 16 + 3 + concat!("zmqd ", env!("CARGO_PKG_VERSION")).len() as u64;
    let expected = Statistics {
        bytes: file_size - begin_size,
        messages: 6,
        ..Statistics::default()
    };
    assert_eq!(statistics, expected);
    assert_eq!(told(&folder.0.join("r")), [1, 2, 3, 4, 5, 6]);
    assert_eq!(folder.names(), ["r"]);
}

#[test]
fn synced_messages_are_in_the_file_and_leave_room() {
    let folder = Folder::new("synced");
    let config = RecordConfig {
        buffer_size_max: 1000,
        ..folder.config()
    };
    let mut recorder = Recorder::open(&config).unwrap();
    for time in 1..=20 {
        assert!(push(&mut recorder, time, &[7; 600]));
        recorder.sync();
        assert_eq!(
            told(&config.path).last(),
            Some(&i64::try_from(time).unwrap())
        );
    }
}

#[test]
fn messages_beyond_the_buffer_are_counted_in_statistics_and_file() {
    let folder = Folder::new("full");
    let config = RecordConfig {
        buffer_size_max: 1000,
        ..folder.config()
    };
    let mut recorder = Recorder::open(&config).unwrap();
    // Nothing is handed over before a flush, so nothing makes room meanwhile.
    assert!(push(&mut recorder, 1, &[7; 900]));
    assert!(!push(&mut recorder, 2, &[7; 900]));
    assert!(!push(&mut recorder, 3, &[7; 900]));
    assert!(push(&mut recorder, 4, &[7; 10]));
    assert!(
        !push(&mut recorder, 5, &[7; 1000]),
        "longer than the buffer"
    );
    assert_eq!(recorder.statistics().lost_messages, 3);
    let statistics = recorder.finish();
    assert_eq!((statistics.messages, statistics.lost_messages), (2, 3));
    assert_eq!(told(&config.path), [1, -2, 4, -1]);
}

#[test]
fn files_rotate_by_size_and_the_oldest_go() {
    let folder = Folder::new("size");
    let config = RecordConfig {
        files_max: 3,
        file_size_max: 1000,
        ..folder.config()
    };
    let mut recorder = Recorder::open(&config).unwrap();
    for time in 1..=10 {
        assert!(push(&mut recorder, time, &[7; 400]));
    }
    // A message larger than the limit has a file of its own.
    assert!(push(&mut recorder, 11, &[7; 2000]));
    assert!(push(&mut recorder, 12, &[7; 1]));
    assert_eq!(recorder.finish().messages, 12);
    assert_eq!(folder.names(), ["r", "r.000005", "r.000006"]);
    assert_eq!(told(&folder.0.join("r.000005")), [9, 10]);
    assert_eq!(told(&folder.0.join("r.000006")), [11]);
    assert_eq!(told(&config.path), [12]);
}

#[test]
fn files_rotate_by_age() {
    let folder = Folder::new("age");
    let config = RecordConfig {
        age_max: Some(Duration::from_nanos(100)),
        ..folder.config()
    };
    let mut recorder = Recorder::open(&config).unwrap();
    for time in [5, 50, 104, 105, 106, 90, 500] {
        assert!(push(&mut recorder, time, b""));
    }
    drop(recorder);
    assert_eq!(folder.names(), ["r", "r.000001", "r.000002"]);
    assert_eq!(told(&folder.0.join("r.000001")), [5, 50, 104]);
    assert_eq!(told(&folder.0.join("r.000002")), [105, 106, 90]);
    assert_eq!(told(&config.path), [500]);
}

#[test]
fn a_former_recording_is_set_aside_and_other_files_are_left_alone() {
    let folder = Folder::new("former");
    for name in ["r.txt", "r.9", "r.000041x", "s.000050", "r.000040"] {
        fs::write(folder.0.join(name), "x").unwrap();
    }
    for time in 1..=3 {
        let mut recorder = Recorder::open(&folder.config()).unwrap();
        assert!(push(&mut recorder, time, b""));
    }
    assert_eq!(
        folder.names(),
        [
            "r",
            "r.000040",
            "r.000041",
            "r.000041x",
            "r.000042",
            "r.9",
            "r.txt",
            "s.000050"
        ]
    );
    assert_eq!(told(&folder.0.join("r.000042")), [2]);
    // An empty recording is not kept.
    fs::write(folder.0.join("r"), "").unwrap();
    drop(Recorder::open(&folder.config()).unwrap());
    assert!(!folder.names().contains(&"r.000043".to_owned()));
}

#[test]
fn recordings_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("mode");
    drop(Recorder::open(&folder.config()).unwrap());
    let mode = fs::metadata(folder.0.join("r"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn unusable_targets_are_refused_at_once() {
    let folder = Folder::new("refused");
    let first = Recorder::open(&folder.config()).unwrap();
    let refusal = Recorder::open(&folder.config()).unwrap_err().to_string();
    assert!(
        refusal.contains("another recording is being written there"),
        "{refusal}"
    );
    assert_eq!(folder.names(), ["r"], "the first goes on undisturbed");
    drop(first);
    for (path, expected) in [
        (
            "/nonexistent/r",
            "(os error 2); create its directory first, or choose another file",
        ),
        ("/dev/full", "cannot record to /dev/full: No space left"),
        ("/", "Is a directory (os error 21); name a file in it"),
    ] {
        let refusal = Recorder::open(&RecordConfig::new(path)).unwrap_err();
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
}

#[test]
fn other_targets_than_regular_files_are_written_to_as_they_are() {
    let folder = Folder::new("pipe");
    let path = folder.0.join("r");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("it is everywhere").success());
    let reader = thread::spawn(move || told(&path));
    let config = RecordConfig {
        file_size_max: 1,
        ..folder.config()
    };
    let mut recorder = Recorder::open(&config).unwrap();
    for time in 1..=3 {
        assert!(push(&mut recorder, time, b""));
    }
    drop(recorder);
    assert_eq!(reader.join().unwrap(), [1, 2, 3]);
    assert_eq!(folder.names(), ["r"]);
}

/// A writer whose file cannot be written to any more.
#[test]
fn a_failed_write_is_counted_and_another_file_begun() {
    let folder = Folder::new("failed");
    let config = folder.config();
    let files = Files::new(&config.path, 0);
    drop(files.begin().unwrap());
    let read_only = File::open(&config.path).unwrap();
    let shared = Arc::new(Shared::default());
    let mut writer = Writer {
        current: Some(Current::new(Open::of(read_only))),
        config,
        failed_ns: None,
        files,
        is_stuck: false,
        lost: Lost::default(),
        shared: Arc::clone(&shared),
    };
    let mut batch = Vec::new();
    for time in 1..=2 {
        format::append_message(&mut batch, time, &ORIGIN, &[b"\0\x01x"]);
    }
    format::append_lost(
        &mut batch,
        Lost {
            bytes: 30,
            messages: 10,
            time_ns: 0,
        },
    );
    writer.write_batch(&mut batch);
    assert!(shared.is_failing.load(Ordering::Relaxed));
    assert_eq!(shared.lost_messages.load(Ordering::Relaxed), 2);
    let mut write = |time_ns| {
        batch.clear();
        format::append_message(&mut batch, time_ns, &ORIGIN, &[b"\0\x01x"]);
        writer.write_batch(&mut batch);
        shared.is_failing.load(Ordering::Relaxed)
    };
    assert!(write(REST_NS), "after a failure it pauses");
    assert!(!write(REST_NS + 1));
    assert!(!write(REST_NS + 2));
    assert_eq!(shared.messages.load(Ordering::Relaxed), 2);
    assert_eq!(shared.lost_messages.load(Ordering::Relaxed), 3);
    let second = i64::try_from(REST_NS).unwrap();
    assert_eq!(told(&folder.0.join("r")), [-13, second + 1, second + 2]);
    assert_eq!(folder.names(), ["r", "r.000001"]);
}

#[test]
fn other_limits_apply_to_the_next_messages() {
    let folder = Folder::new("limits");
    let mut recorder = Recorder::open(&folder.config()).unwrap();
    assert!(push(&mut recorder, 1, b"a"));
    recorder.sync();
    recorder.set_limits(&RecordConfig {
        file_size_max: 1,
        files_max: 2,
        ..RecordConfig::new("not looked at")
    });
    for time in 2..6 {
        assert!(push(&mut recorder, time, b"b"));
        recorder.sync();
    }
    assert_eq!(folder.names(), ["r", "r.000004"]);
    recorder.set_limits(&RecordConfig {
        buffer_size_max: 1,
        ..folder.config()
    });
    assert!(
        !push(&mut recorder, 6, b"c"),
        "the recorder has room for it"
    );
}

#[test]
fn an_end_does_not_wait_for_the_file() {
    let folder = Folder::new("end");
    let path = folder.0.join("r");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("it is everywhere").success());
    // Open at both ends, and unread: the thread waits as soon as the pipe is full.
    let mut pipe = fs::OpenOptions::new();
    let mut pipe = pipe.read(true).write(true).open(&path).unwrap();
    let mut recorder = Recorder::open(&folder.config()).unwrap();
    assert!(push(&mut recorder, 1, &vec![0; 1 << 20]));
    let ending = recorder.end();
    drop(recorder);
    assert!(!ending.is_over(), "the pipe is full");
    let reader = thread::spawn(move || {
        let mut rest = vec![0; 1 << 20];
        io::Read::read_exact(&mut pipe, &mut rest).unwrap();
        pipe
    });
    // It waits for the thread, which writes the rest.
    drop(ending);
    drop(reader.join().unwrap());
}
