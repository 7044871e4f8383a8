//! Whether the systems of silent peers acknowledge what they are sent. TCP knows, and Linux tells
//! in `/proc/net/tcp`, for all connections at once.

use crate::conn::ConnId;
use std::collections::HashMap;
use std::fs::{File, metadata};
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

/// Where the kernel shows its connections; those of IPv6 are apart.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// Between two looks: each is at all connections of the system.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A system that has not acknowledged what it was sent so many times more is gone. The waits
/// between them double, from a fifth of a second.
const REPEATS_MIN: u32 = 3;

/// Columns of the tables: bytes on their way, the kind of timer that runs, how often it repeated
/// what was sent and how often it asked for room, and what tells sockets apart.
const QUEUES: usize = 4;
const TIMER: usize = 5;
const REPEATS: usize = 6;
const PROBES: usize = 8;
const INODE: usize = 9;

/// Peers that are to be looked at, by the inodes of their sockets.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    ids: HashMap<u64, ConnId>,
    looked_at: Option<Instant>,
}

impl Suspects {
    /// Sees to it that this connection is looked at. Where `/proc` is not to be had, nobody is.
    pub(super) fn add(&mut self, id: ConnId, socket: BorrowedFd<'_>) {
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        if let Ok(metadata) = metadata(path) {
            self.ids.insert(metadata.ino(), id);
        }
    }

    /// When [`Self::poll_unreachable`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let next = self.looked_at.map(|at| at + LOOK_INTERVAL);
        next.filter(|_| !self.ids.is_empty())
    }

    /// Looks at all suspects if it is time to, and answers with those whose systems are gone.
    pub(super) fn poll_unreachable(&mut self, now: Instant) -> Vec<ConnId> {
        let is_early = self.poll_timeout().is_some_and(|next| now < next);
        if self.ids.is_empty() || is_early {
            return Vec::new();
        }
        self.looked_at = Some(now);
        let suspects = std::mem::take(&mut self.ids);
        let mut gone = Vec::new();
        for table in TABLES {
            // Without an answer nobody is accused.
            let _ = for_each_gone(table, |inode| gone.extend(suspects.get(&inode)));
        }
        gone
    }
}

/// Calls `visit` with the inode of each socket in the table whose peer's system is gone.
fn for_each_gone(table: &str, mut visit: impl FnMut(u64)) -> io::Result<()> {
    let mut lines = BufReader::new(File::open(table)?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if let Some(inode) = gone(&line) {
            visit(inode);
        }
        line.clear();
    }
    Ok(())
}

/// The inode of the socket in a line of the table, if the peer's system is gone.
fn gone(line: &str) -> Option<u64> {
    let column = |index| line.split_ascii_whitespace().nth(index);
    let unacknowledged = column(QUEUES)?.split(':').next()?;
    let unacknowledged = u32::from_str_radix(unacknowledged, 16).ok()?;
    let repeats = match column(TIMER)?.split(':').next()? {
        // Something is sent again until it is acknowledged.
        "01" => u32::from_str_radix(column(REPEATS)?, 16).ok()?,
        // The peer has no room; whether it has by now is asked until that is answered.
        "04" => column(PROBES)?.parse().ok()?,
        _ => 0,
    };
    let inode = column(INODE)?.parse().ok()?;
    (unacknowledged > 0 && repeats >= REPEATS_MIN).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    /// As the kernel prints it.
    fn line(queue: &str, timer: &str, repeats: &str, probes: &str) -> String {
        format!(
            "   3: 0100007F:15B3 0100007F:C0DE 01 {queue}:00000000 {timer}:00000042 {repeats}     \
             0        {probes} 4711 4 0000000000000000 20 4 30 10 -1\n"
        )
    }

    #[test]
    fn whose_system_repeats_in_vain_is_gone() {
        for (queue, timer, repeats, probes, is_gone) in [
            ("0000000D", "01", "00000003", "0", true),
            ("0000000D", "01", "0000000A", "0", true),
            ("0000000D", "04", "00000000", "3", true),
            // Not for long enough yet.
            ("0000000D", "01", "00000002", "0", false),
            // The peer answers that it has no room.
            ("0000000D", "04", "00000000", "0", false),
            // Everything is acknowledged.
            ("00000000", "00", "00000000", "0", false),
            ("00000000", "02", "00000003", "3", false),
        ] {
            let line = line(queue, timer, repeats, probes);
            assert_eq!(gone(&line).is_some(), is_gone, "{line}");
        }
        assert_eq!(gone(&line("1", "01", "5", "0")), Some(4711));
        assert_eq!(gone("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do: it is moved by hand"
    )]
    fn who_is_there_and_does_not_read_is_not_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound one");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let (_silent, _) = listener.accept().expect("it connects");
        stream.set_nonblocking(true).expect("a socket can");
        while stream.write(&[0; 65536]).is_ok() {}
        let (id, now) = (
            ConnId {
                generation: 1,
                slot: 2,
            },
            Instant::now(),
        );
        let mut suspects = Suspects::default();
        suspects.add(id, stream.as_fd());
        assert_eq!(suspects.ids.len(), 1, "its inode is known");
        assert_eq!(suspects.poll_unreachable(now), []);
        suspects.add(id, stream.as_fd());
        let next = suspects.poll_timeout().expect("it is looked at again");
        assert_eq!(next, now + LOOK_INTERVAL);
        suspects.poll_unreachable(now);
        assert_eq!(suspects.ids.len(), 1, "it is too early");
    }
}
