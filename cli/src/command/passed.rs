//! Listening sockets that systemd passes: `LISTEN_FDS` and its names.

use std::env;
use std::os::fd::OwnedFd;

use broker::PassedSocket;
use listenfd::ListenFd;
use zmtp::show;

use crate::output::Failure;

/// Takes the sockets that were passed to this process, if any.
///
/// # Errors
/// One of them is not a stream socket of tcp or unix.
pub(super) fn take() -> Result<Vec<PassedSocket>, Failure> {
    // The variables may be of an ancestor; without its process id they say nothing.
    if env::var_os("LISTEN_PID").is_none() {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let sockets = (0..passed.len()).map(|index| {
        let name = names.next().unwrap_or_default();
        let tcp = passed.take_tcp_listener(index).ok().flatten();
        let socket = match tcp {
            Some(tcp) => Some(OwnedFd::from(tcp)),
            None => {
                let unix = passed.take_unix_listener(index).ok().flatten();
                unix.map(OwnedFd::from)
            }
        };
        let socket = socket.ok_or_else(|| {
            Failure::Running(format!(
                "the passed socket \"{}\" (LISTEN_FDS, number {}) is not a stream socket of tcp or \
                 unix: write ListenStream=",
                show(name),
                index + 1
            ))
        })?;
        Ok(PassedSocket::new(name, socket))
    });
    sockets.collect()
}
