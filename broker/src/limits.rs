//! Bounds that are the same for every configuration, each with its reason.

use std::time::Duration;

/// Bytes of scratch, the one buffer that everybody's input is read into: large enough that the
/// system call vanishes against the copying of its bytes, small enough to stay in the second-level
/// cache.
pub const SCRATCH_SIZE: usize = 256 << 10;

/// Bytes of a configuration file. A proxy takes about 200, so these are tens of thousands of them,
/// and the worst text of this size is read within a second and a GiB of memory.
pub const CONFIG_SIZE_MAX: usize = 8 << 20;

/// Memory for the subscriptions of one socket. At about 40 bytes each these are some millions.
pub const SUBSCRIPTION_BYTES_MAX: usize = 256 << 20;

/// Subscriptions of departed peers cancelled per turn, so that one with a million stalls nothing.
pub const CANCELS_PER_TURN_MAX: usize = 2000;

/// Subscriptions of one proxy cancelled before it is the next proxy's turn.
pub const CANCELS_IN_A_ROW_MAX: usize = 100;

/// Topics told per turn to publishers that have just come or have fallen behind.
pub const TELLS_PER_TURN_MAX: usize = 4000;

/// Topics told to one such publisher before it is the next one's turn.
pub const TELLS_IN_A_ROW_MAX: usize = 200;

/// Subscriptions queued for one publisher. Beyond, the topics that change are only noted, and told
/// when half of the queue has gone.
pub const UPSTREAM_BYTES_MAX: u64 = 256 << 10;

/// Memory for the topics noted for one publisher: about a million short ones. A publisher that is
/// further behind is closed.
pub const UPSTREAM_NOTED_BYTES_MAX: usize = 32 << 20;

/// How long a publisher may read nothing at all while its queue is full before it is closed. One
/// that reads a little is left to its own pace: it holds up nothing, and its memory is bounded.
pub const UPSTREAM_PATIENCE: Duration = Duration::from_secs(5);

/// Memory that a connection needs in user space, whatever it does: its state, its place in lists
/// and
/// in the driver's tables.
pub const CONNECTION_MEMORY: u64 = 1024;

/// Answers to PING that wait for a peer to read them. One that does not read needs no more.
pub const PONG_BYTES_MAX: u64 = 4096;

/// How long a peer may take to give a sign of life when another announces its name: some round
/// trips
/// of a slow network, and no longer than a client that lost its network can wait.
pub const NAME_PATIENCE: Duration = Duration::from_secs(2);

/// How long a peer that was connected to may take to send its greeting before the log says so: many
/// round trips of a slow network, and soon enough for an operator at the terminal.
pub const GREETING_PATIENCE: Duration = Duration::from_secs(2);

/// Brokers that pass a probe on before it is given up: loops of more are not found.
pub const PROBE_HOPS_MAX: u8 = 64;

/// Probes that a socket remembers, so as to pass each on once. If more are under way, which takes
/// that many new connections between brokers within moments, some go the same way twice.
pub const PROBES_REMEMBERED_MAX: usize = 256;

/// Probes that wait in the queue of one broker. A queue with more is an attack.
pub const PROBES_WAITING_MAX: u32 = 256;

/// How long a connection that closed a loop before is on trial: some times what a probe takes
/// around the world. If it takes longer, the loop is found later.
pub const LOOP_TRIAL: Duration = Duration::from_secs(1);

/// Work of a turn of the loop, in units of about a nanosecond of a slow machine: what is left
/// beyond
/// waits for the next turn. A turn with every kind of work at once, each with its share and one
/// large piece of it, stays below twice as much.
pub const WORK_PER_TURN: u64 = 2_000_000;

/// Connections per turn of which the last is seen to, some system calls each.
pub const FINISHED_PER_TURN_MAX: usize = 64;

/// Silent peers per turn about which the kernel is asked: some microseconds each.
pub const ACK_CHECKS_PER_TURN_MAX: usize = 64;

/// Bytes of a peer that are kept while its handshake waits for a decision.
pub const UNDECIDED_SIZE_MAX: usize = 4 << 10;

/// How long a listener rests when the process or the system is out of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a closed connection may take to read what was sent to it last.
pub const LINGER: Duration = Duration::from_secs(1);

/// Causes and addresses per proxy and subject of which the log has a line of their own; the others
/// are only counted. They are as many lines as a person reads, and some kilobytes for a proxy that
/// has so many.
pub const REPORTS_KEPT_MAX: usize = 100;

/// How often reports that were only counted are summed up in the log, and how long a cause must be
/// quiet to be news again: rarely enough for a log that is kept for months.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Lines for one cause in this time about a link that comes and goes. A link that recovers once is
/// news again when it fails; a peer that is connected to could flood the log.
pub const LINK_LINES_MAX: u32 = 10;

const _: () = {
    // What is carried from one read to the next must leave room in the scratch for reading.
    assert!(crate::conn::input::LARGE_SIZE_MIN <= SCRATCH_SIZE / 2);
    assert!(crate::conn::egress::DIRECT_SIZE_MIN <= crate::conn::input::LARGE_SIZE_MIN);
};
