//! Socket options of the system, set before a socket listens or connects. Accepted connections
//! inherit them from the listening socket.

use crate::config::SocketOptions;
use socket2::{Domain, Socket, TcpKeepalive};
use std::io;
use std::time::Duration;

/// Sets the options of TCP.
pub(super) fn tune_tcp(socket: &Socket, domain: Domain, options: &SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    tune_buffers(socket, options)?;
    if options.tos != 0 {
        if domain == Domain::IPV6 {
            socket.set_tclass_v6(options.tos)?;
        }
        // A socket for both families has one option for each.
        socket.set_tos_v4(options.tos)?;
    }
    if !options.bindtodevice.is_empty() {
        socket.bind_device(Some(options.bindtodevice.as_bytes()))?;
    }
    match options.tcp_keepalive {
        None => {}
        Some(false) => socket.set_keepalive(false)?,
        Some(true) => socket.set_tcp_keepalive(&keepalive(options))?,
    }
    if !options.tcp_maxrt.is_zero() {
        socket.set_tcp_user_timeout(Some(options.tcp_maxrt))?;
    }
    Ok(())
}

/// Sets the options of all transports. This must precede listening or connecting, because the
/// window that TCP announces depends on it.
pub(super) fn tune_buffers(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    // The kernel raises sizes below its minimum and lowers those above its maximum.
    if let Some(size) = options.sndbuf {
        socket.set_send_buffer_size(size as usize)?;
    }
    if let Some(size) = options.rcvbuf {
        socket.set_recv_buffer_size(size as usize)?;
    }
    Ok(())
}

fn keepalive(options: &SocketOptions) -> TcpKeepalive {
    let seconds = |count: u32| Duration::from_secs(count.into());
    let mut keepalive = TcpKeepalive::new();
    if let Some(idle) = options.tcp_keepalive_idle {
        keepalive = keepalive.with_time(seconds(idle));
    }
    if let Some(interval) = options.tcp_keepalive_intvl {
        keepalive = keepalive.with_interval(seconds(interval));
    }
    if let Some(probes) = options.tcp_keepalive_cnt {
        keepalive = keepalive.with_retries(probes);
    }
    keepalive
}
