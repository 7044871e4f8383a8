//! Limits that are the same for every configuration, each with its reason.

use std::time::Duration;

pub use config::limits::{CACHE_TOPIC_SIZE_MAX, CONFIG_SIZE_MAX};

/// Bytes of scratch, the one buffer for the input of all peers: large enough that the system call
/// costs little compared with copying its bytes, small enough for the second-level cache.
pub const SCRATCH_SIZE: usize = 256 << 10;

/// Memory for the subscriptions of one socket: some millions, at about 40 bytes each.
pub const SUBSCRIPTION_BYTES_MAX: usize = 256 << 20;

/// Subscriptions of departed peers cancelled per turn, so that a peer with a million stalls
/// nothing.
pub const CANCELS_PER_TURN_MAX: usize = 2000;

/// Subscriptions of one proxy cancelled before the next proxy has its turn.
pub const CANCELS_IN_A_ROW_MAX: usize = 100;

/// Topics sent per turn to publishers that are new or have fallen behind.
pub const TELLS_PER_TURN_MAX: usize = 4000;

/// Topics sent to one such publisher before the next one has its turn.
pub const TELLS_IN_A_ROW_MAX: usize = 200;

/// Topics or messages looked at when a peer subscribes or asks for messages, before other peers
/// have their turn.
pub const KEPT_AT_ONCE_MAX: usize = 256;

/// Topics or messages looked at for one peer before the next one has its turn.
pub const KEPT_IN_A_ROW_MAX: usize = 200;

/// Topics or messages looked at per turn for peers that get last values or messages again.
pub const KEPT_PER_TURN_MAX: usize = 4000;

/// Subscriptions inside another one, with values still to be sent, up to which that one can be
/// cancelled: all are looked at in one turn, in about a millisecond.
pub const WISHES_INSIDE_MAX: usize = 10_000;

/// The longest topic in a request for messages that have passed, in bytes.
pub const REPLAY_PREFIX_SIZE_MAX: usize = 1024;

/// Subscriptions queued for one publisher. Beyond, changed topics are only noted, and sent when
/// half of the queue has gone.
pub const UPSTREAM_BYTES_MAX: u64 = 256 << 10;

/// Memory for pending topics of one publisher: about a million short ones. A publisher with more is
/// closed.
pub const UPSTREAM_NOTED_BYTES_MAX: usize = 32 << 20;

/// The time for which a publisher may read nothing while its queue is full. One that reads a little
/// may take its time: it blocks no other peer, and its memory is limited.
pub const UPSTREAM_PATIENCE: Duration = Duration::from_secs(5);

/// Memory of a connection in user space, even if idle: its state, its places in lists and in the
/// driver's tables.
pub const CONNECTION_MEMORY: u64 = 1024;

/// Memory of the coder of a connection whose mechanism encrypts traffic, even if idle.
pub const CODER_MEMORY: u64 = 512;

/// Memory of a connection whose user has a role: decisions about topics, and a share of the user.
pub const PERMIT_MEMORY: u64 = 2048;

/// Users without a connection whose debts are remembered: more than reconnect within seconds.
pub const IDLE_USERS_MAX: usize = 1000;

/// Denied topics of one user that the log names.
pub const USER_REPORTS_MAX: usize = 16;

/// Subscriptions of one peer that are narrowed anew in one go when its role changes; a peer with
/// more is closed, and subscribes again.
pub const NARROWED_AT_ONCE_MAX: usize = 10_000;

/// Bytes of PONGs that wait for a peer to read them. A peer that does not read needs no more.
pub const PONG_BYTES_MAX: u64 = 4096;

/// The time for a peer's sign of life when another peer announces its identity: some round trips of
/// a slow network, and no longer than a client can wait after its network failed.
pub const NAME_PATIENCE: Duration = Duration::from_secs(2);

/// The time for the greeting of a peer that zmqd connected to, before the log mentions the delay:
/// many round trips of a slow network, but soon enough for an operator at a terminal.
pub const GREETING_PATIENCE: Duration = Duration::from_secs(2);

/// Brokers that pass on a probe before it is dropped: larger loops are not found.
pub const PROBE_HOPS_MAX: u8 = 64;

/// Probes that a socket remembers, so as to pass each on once. With more in transit, which takes
/// that many new connections between brokers within moments, some are passed on twice.
pub const PROBES_REMEMBERED_MAX: usize = 256;

/// Probes in the queue of one broker. More of them are an attack.
pub const PROBES_WAITING_MAX: u32 = 256;

/// The trial time of a connection that closed a loop before: several times the round trip of a
/// probe around the world. A slower loop is found later.
pub const LOOP_TRIAL: Duration = Duration::from_secs(1);

/// Work of a turn of the loop, in units of about a nanosecond on a slow machine; the rest waits for
/// the next turn. A turn with every kind of work at once, each with its share and one large item,
/// stays below twice as much.
pub const WORK_PER_TURN: u64 = 2_000_000;

/// Connections finished per turn, at some system calls each.
pub const FINISHED_PER_TURN_MAX: usize = 64;

/// Silent peers per turn about which the kernel is asked, at some microseconds each.
pub const ACK_CHECKS_PER_TURN_MAX: usize = 64;

/// The time until the first refused peer of an address is closed: less would let clients of libzmq,
/// which connect again within 100 ms, cost a handshake each time.
pub const REFUSAL_DELAY_MIN: Duration = Duration::from_secs(1);

/// The longest such time: the handshake of libzmq gives up after as long.
pub const REFUSAL_DELAY_MAX: Duration = Duration::from_secs(30);

/// Addresses of refused peers that are remembered: about 200 KiB.
pub const REFUSALS_KEPT_MAX: usize = 1024;

/// Bytes of a peer that are kept while its handshake waits for a decision.
pub const UNDECIDED_SIZE_MAX: usize = 4 << 10;

/// Peers of one proxy that wait for answers of ZAP handlers: all clients of a large system, which
/// come back at once after a restart. Others are refused, and come again.
pub const ZAP_REQUESTS_MAX: usize = 10_000;

/// Most counts by topic of one proxy: each costs a comparison for each message.
pub const TOPIC_COUNTS_MAX: usize = 64;

/// Longest topic of such a count, in bytes; longer ones are as rare as they are long.
pub const TOPIC_COUNT_SIZE_MAX: usize = 255;

/// Memory of a peer that waits for the answer of a ZAP handler, in addition to the queued request.
pub const ZAP_REQUEST_MEMORY: u64 = 512;

/// Memory of a peer whose password waits to be compared: name, password, and its places in line.
pub const PASSWORD_MEMORY: u64 = 1024;

/// Bytes of the answer of a ZAP handler, of which all but the metadata are few.
pub const ZAP_ANSWER_SIZE_MAX: u64 = 64 << 10;

/// The pause of a listener when the process or the system has no free descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The time for a closed connection to read the last bytes sent to it.
pub const LINGER: Duration = Duration::from_secs(1);

/// Causes and addresses per proxy and subject that have log lines of their own; others are only
/// counted. A person can read that many lines, and a proxy needs some kilobytes for them.
pub const REPORTS_KEPT_MAX: usize = 100;

/// The time between sums of reports that were only counted, after which a cause that did not occur
/// again is forgotten: long enough for logs that are kept for months.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Log lines in this time about a link that goes down and up. A link that recovers once is reported
/// again when it fails; without this limit, a server could flood the log.
pub const LINK_LINES_MAX: u32 = 10;

/// Messages in the sample of a proxy: as many as a person reads at a time. So many are taken at
/// once, and then in each second.
pub const SAMPLE_LEN_MAX: usize = 20;

/// Frames of each: the envelope or topic, and some of the rest.
pub const SAMPLE_FRAMES_MAX: usize = 8;

/// Bytes of each of these frames: enough to recognize it.
pub const SAMPLE_BYTES_MAX: usize = 64;

/// The time after which a sample ends if it is not asked for again: some refreshes of a page.
pub const SAMPLE_PATIENCE: Duration = Duration::from_secs(10);

/// Events that are kept: a day of a quiet broker, and no more than a person looks through.
pub const EVENTS_MAX: usize = 256;

/// Bytes of the text of an event, of which the log has the rest: some lines of a terminal.
pub const EVENT_TEXT_SIZE_MAX: usize = 500;

const _: () = {
    // The scratch must have room for reading behind bytes carried from one read to the next.
    assert!(crate::conn::input::LARGE_SIZE_MIN <= SCRATCH_SIZE / 2);
    assert!(crate::conn::egress::DIRECT_SIZE_MIN <= crate::conn::input::LARGE_SIZE_MIN);
};
