use super::*;
use crate::peer::PeerAddress;
use crate::record::{Direction, Origin, RECORD_SIZE_MAX};
use std::net::SocketAddr;
use zmtp::SocketType;
use zmtp::encode::append_message;

const ORIGIN: Origin<'static> = Origin {
    connection: 0,
    direction: None,
    is_routed: false,
    peer: None,
    socket_type: None,
    source: "queue",
    user: None,
};

/// User names, some of which look like parts of a record.
const USERS: [Option<&str>; 5] = [
    None,
    Some(""),
    Some("anna"),
    Some("\0\u{7}\x1b[2J\u{202e}ö"),
    Some("\u{2}\0\0\u{1}\u{1}x"),
];

fn begin() -> Vec<u8> {
    let mut recording = Vec::new();
    format::append_begin(&mut recording);
    format::seal(&mut recording);
    recording
}

fn append(recording: &mut Vec<u8>, time_ns: u64, origin: &Origin<'_>, frames: &[&[u8]]) {
    let (start, mut message) = (recording.len(), Vec::new());
    append_message(&mut message, frames);
    format::append_message(recording, time_ns, origin, &[&message]);
    format::seal(&mut recording[start..]);
}

/// The content of a recording: times of messages, and other entries as text.
fn told(recording: &[u8]) -> Vec<String> {
    let (mut reader, mut told) = (Reader::new(recording), Vec::new());
    loop {
        told.push(match reader.read() {
            Ok(None) => return told,
            Ok(Some(Entry::Message(message))) => format!("message {}", message.time_ns),
            Ok(Some(Entry::Lost(lost))) => format!("{} lost", lost.messages),
            Ok(Some(Entry::Damage(damage))) => damage.to_string(),
            Err(error) => {
                told.push(error.to_string());
                return told;
            }
        });
    }
}

/// Three messages, and the ends of their records.
fn three() -> (Vec<u8>, [usize; 4]) {
    let mut recording = begin();
    let mut ends = [recording.len(); 4];
    for (index, end) in ends.iter_mut().enumerate().skip(1) {
        append(&mut recording, index as u64, &ORIGIN, &[b"topic", b"body"]);
        *end = recording.len();
    }
    (recording, ends)
}

#[test]
fn every_origin_reads_back() {
    let address = |text: &str| PeerAddress::Tcp(text.parse::<SocketAddr>().expect(text));
    let peers = [
        None,
        Some(PeerAddress::Inproc),
        Some(PeerAddress::Program),
        Some(PeerAddress::Ipc { pid: -7, uid: 1000 }),
        Some(address("10.1.2.3:65535")),
        Some(address("[fe80::1%3]:1")),
    ];
    let directions = [None, Some(Direction::In), Some(Direction::Out)];
    let types = SocketType::ALL.map(Some).into_iter().chain([None]);
    let mut origins = Vec::new();
    for (index, socket_type) in types.enumerate() {
        for peer in peers {
            origins.push(Origin {
                connection: u64::MAX - index as u64,
                direction: directions[index % 3],
                is_routed: index % 2 == 0,
                peer,
                socket_type,
                source: ["", "queue", "tcp://[::1]:5555", "ö"][index % 4],
                user: USERS[origins.len() % USERS.len()],
            });
        }
    }
    let frames: [&[u8]; 3] = [b"", &[7; 300], b"x"];
    let mut recording = begin();
    for (time_ns, origin) in (u64::MAX - 1000..).zip(&origins) {
        append(&mut recording, time_ns, origin, &frames);
    }
    let mut message = Vec::new();
    append_message(&mut message, &frames);
    let mut reader = Reader::new(&recording[..]);
    for (time_ns, origin) in (u64::MAX - 1000..).zip(&origins) {
        let expected = Message {
            frames: &message,
            origin: *origin,
            time_ns,
        };
        let read = reader.read().expect("a recording");
        assert_eq!(read, Some(Entry::Message(expected)));
    }
    assert!(matches!(reader.read(), Ok(None)));
}

/// The bytes of version 1, which all later versions must be able to read: without a user name,
/// messages are still as they were.
#[test]
fn the_bytes_are_those_of_the_description() {
    let mut recording = Vec::new();
    let origin = Origin {
        connection: 3,
        direction: Some(Direction::In),
        is_routed: true,
        peer: Some(PeerAddress::Tcp(([127, 0, 0, 1], 5560).into())),
        socket_type: Some(SocketType::Router),
        source: "q",
        user: None,
    };
    append(&mut recording, 0x0102, &origin, &[b"id", b"hi"]);
    let expected: &[u8] = b"\xf7zqr\x26\0\0\0\x37\x25\x96\xac\xeb\x23\x8b\x04\
        \x02\x02\x01\0\0\0\0\0\0\x01\x01\x07\x03\0\0\0\0\0\0\0\
        \x04\x7f\0\0\x01\xb8\x15\x01\0q\x01\x02id\0\x02hi";
    assert_eq!(
        recording.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    let mut old = record(b"\x01\x01\0zmqd 0.1.0");
    old.extend_from_slice(&recording);
    let mut reader = Reader::new(&old[..]);
    let read = reader.read().expect("version 1 is read");
    assert!(matches!(read, Some(Entry::Message(message)) if message.origin == origin));
}

#[test]
fn a_user_name_follows_the_source() {
    let mut recording = Vec::new();
    let origin = Origin {
        user: Some("an\0a"),
        ..ORIGIN
    };
    append(&mut recording, 0, &origin, &[b"hi"]);
    let expected: &[u8] = b"\x02\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\x05\0queue\
        \x04an\0a\0\x02hi";
    assert_eq!(
        recording[HEADER_SIZE..].escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

/// A name beyond 255 bytes is cut between characters; the size that is reserved is that of the
/// record.
#[test]
fn a_long_user_name_is_cut() {
    for (name, expected_size) in [("x".repeat(255), 255), ("ö".repeat(200), 254)] {
        let origin = Origin {
            user: Some(&name),
            ..ORIGIN
        };
        let (mut recording, mut message) = (begin(), Vec::new());
        let start = recording.len();
        append(&mut recording, 7, &origin, &[b"hi"]);
        append_message(&mut message, &[b"hi"]);
        let size = format::message_size(&origin, &[&message]);
        assert_eq!((recording.len() - start - HEADER_SIZE) as u64, size);
        let mut reader = Reader::new(&recording[..]);
        let Ok(Some(Entry::Message(read))) = reader.read() else {
            panic!("it is read");
        };
        assert_eq!(read.origin.user, Some(&name[..expected_size]));
    }
}

#[test]
fn a_recording_cut_anywhere_loses_only_its_last_record() {
    let (recording, ends) = three();
    for size in 0..=recording.len() {
        let whole = ends[1..].iter().filter(|end| **end <= size).count();
        let told = told(&recording[..size]);
        let messages = (1..=whole).map(|time| format!("message {time}"));
        let mut expected: Vec<String> = messages.collect();
        let start = ends.iter().rev().find(|end| **end <= size).unwrap_or(&0);
        if size == 0 {
            expected.push("this is not a zmqd recording".to_owned());
        } else if *start < size {
            let missing = size - start;
            expected.push(format!(
                "the last record, {missing} bytes at byte {start}, is unfinished"
            ));
        }
        assert_eq!(told, expected, "{size} bytes");
    }
}

#[test]
fn a_changed_bit_costs_one_record_and_is_reported() {
    let (recording, ends) = three();
    for bit in ends[0] * 8..recording.len() * 8 {
        let mut changed = recording.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let hit = ends.iter().filter(|end| **end <= bit / 8).count();
        let (start, size) = (ends[hit - 1], ends[hit] - ends[hit - 1]);
        let told = told(&changed);
        let expected: Vec<String> = (1..=3)
            .map(|time| match time {
                _ if time != hit => format!("message {time}"),
                _ => format!("{size} bytes at byte {start} are damaged"),
            })
            .collect();
        assert_eq!(told, expected, "bit {bit}");
    }
}

#[test]
fn bytes_between_records_are_skipped_and_counted() {
    let (recording, ends) = three();
    // Markers without headers, many empty buffers, a record of another kind.
    let mut foreign = MARKER.repeat(3);
    foreign.resize(5 * READ_SIZE + 3, 0);
    let mut spoiled = recording[..ends[1]].to_vec();
    spoiled.extend_from_slice(&foreign);
    spoiled.extend_from_slice(&recording[ends[1]..]);
    let damage = format!("{} bytes at byte {} are damaged", foreign.len(), ends[1]);
    assert_eq!(
        told(&spoiled),
        ["message 1", &damage, "message 2", "message 3"]
    );
}

#[test]
fn records_with_a_valid_checksum_may_be_malformed() {
    let good = three().0;
    let bodies: [&[u8]; 9] = [
        b"",
        b"\x02",
        b"\x03\0",
        // A peer of an unknown kind, a source beyond the end, one that is not text.
        b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\0",
        b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0q\0\0",
        b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\xff\0\0",
        // A user name without a size, one beyond the end, one that is not text.
        b"\x02\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x02\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\x05a\0\0",
        b"\x02\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\x01\xff\0\0",
    ];
    // No frame, half a frame, MORE without another frame, two messages, a command, reserved bits.
    let frames: [&[u8]; 6] = [
        b"",
        b"\0\x02a",
        b"\x01\0",
        b"\0\0\0\0",
        b"\x04\0",
        b"\x08\0",
    ];
    let mut records: Vec<Vec<u8>> = bodies.map(record).into();
    for frames in frames {
        let mut record = Vec::new();
        format::append_message(&mut record, 9, &ORIGIN, &[frames]);
        format::seal(&mut record);
        records.push(record);
    }
    for record in records {
        let mut recording = good.clone();
        recording.extend_from_slice(&record);
        append(&mut recording, 4, &ORIGIN, &[b"after"]);
        let (size, start) = (record.len(), good.len());
        assert_eq!(
            told(&recording)[3..],
            [
                format!("{size} bytes at byte {start} are damaged"),
                "message 4".to_owned()
            ],
            "{}",
            record.escape_ascii()
        );
    }
}

/// A record with this body.
fn record(body: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend_from_slice(&MARKER);
    record.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    record.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let checksum = crc32fast::hash(&record);
    record.extend_from_slice(&checksum.to_le_bytes());
    record.extend_from_slice(body);
    record
}

#[test]
fn unknown_kinds_are_skipped_and_later_versions_refused() {
    let mut recording = begin();
    recording.extend(record(b"\x77 of a later day"));
    recording.extend(record(
        b"\x03\x05\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0 and more",
    ));
    assert_eq!(told(&recording), ["7 lost"]);
    let later = record(b"\x01\x03\0zmqd 9");
    assert!(told(&later)[0].contains("version 3 of the format"));
}

#[test]
fn other_files_are_not_recordings() {
    let message_first = three().0[begin().len()..].to_vec();
    for other in [&b""[..], b"hello", &[0; 100_000], &message_first] {
        assert_eq!(told(other), ["this is not a zmqd recording"]);
    }
}

/// A reader that announces no size and allocates as much as it is asked for.
#[test]
fn an_announced_size_costs_nothing() {
    let mut recording = begin();
    let start = recording.len();
    for size in [RECORD_SIZE_MAX, RECORD_SIZE_MAX + 1, u32::MAX] {
        let mut header = MARKER.to_vec();
        header.extend_from_slice(&size.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        let checksum = crc32fast::hash(&header);
        header.extend_from_slice(&checksum.to_le_bytes());
        recording.truncate(start);
        recording.extend_from_slice(&header);
        recording.extend_from_slice(b"little");
        let mut reader = Reader::new(&recording[..]);
        let fault = match reader.read() {
            Ok(Some(Entry::Damage(damage))) => damage.fault,
            other => panic!("{other:?}"),
        };
        let is_legal = size <= RECORD_SIZE_MAX;
        assert_eq!(fault == Fault::Unfinished, is_legal, "{size}");
        assert!(reader.buffer.capacity() <= 4 * READ_SIZE);
    }
}

/// A pipe that returns a few bytes at a time, and the number of times that it was offered more room
/// than was left.
struct Drip<'a> {
    growths: u32,
    rest: &'a [u8],
    room: usize,
}

impl Read for &mut Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.rest.len().min(buffer.len()).min(7);
        buffer[..size].copy_from_slice(&self.rest[..size]);
        self.rest = &self.rest[size..];
        self.growths += u32::from(buffer.len() > self.room);
        self.room = buffer.len() - size;
        Ok(size)
    }
}

/// A buffer that grew for each piece moved all received bytes each time.
#[test]
fn a_large_record_in_small_pieces_makes_the_buffer_grow_a_few_times() {
    let mut recording = begin();
    append(&mut recording, 1, &ORIGIN, &[&vec![b'x'; 1 << 20]]);
    let mut drip = Drip {
        growths: 0,
        rest: &recording,
        room: 0,
    };
    let mut reader = Reader::new(&mut drip);
    assert!(matches!(reader.read(), Ok(Some(Entry::Message(message))) if message.time_ns == 1));
    assert!(matches!(reader.read(), Ok(None)));
    // Twice the longest record would not fit where addresses have 32 bits.
    let room = reader.buffer.capacity();
    assert!(room <= (1 << 20) + 3 * READ_SIZE, "{room} bytes");
    assert!(drip.growths <= 8, "{} times", drip.growths);
}
