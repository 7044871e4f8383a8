//! Checks whether the systems of silent peers acknowledge data. TCP knows, and Linux answers for
//! one socket at a time (`sock_diag(7)`): the cost does not depend on the number of other sockets.

use byteorder::{BigEndian, ByteOrder as _, NativeEndian};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// Retransmissions without an acknowledgement after which a system counts as gone. The waits
/// between them double, from a fifth of a second.
const REPEATS_MIN: u8 = 3;

/// The header of every netlink message, and the sizes of question and answer.
const HEADER_SIZE: usize = 16;
const QUESTION_SIZE: usize = 56;
const ANSWER_SIZE: usize = 72;

/// `SOCK_DIAG_BY_FAMILY` and `NLM_F_REQUEST`.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const TCP: u8 = 6;

/// Asks the kernel about sockets of this process.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    /// `None` before the first question, and after one that failed.
    netlink: Option<OwnedFd>,
}

impl Diagnosis {
    /// Whether the peer's system has been sent the same bytes several times without acknowledging
    /// them. Without an answer the peer counts as reachable: a sandbox may refuse netlink.
    pub(super) fn is_unreachable(&mut self, socket: BorrowedFd<'_>) -> bool {
        match self.ask(socket) {
            Ok(answer) => is_gone(&answer),
            Err(error) => {
                log::debug!("cannot ask the kernel about a connection: {error}");
                self.netlink = None;
                false
            }
        }
    }

    fn ask(&mut self, socket: BorrowedFd<'_>) -> io::Result<[u8; ANSWER_SIZE]> {
        let question = question(socket)?;
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            none => none.insert(open()?),
        };
        send(netlink.as_raw_fd(), &question, MsgFlags::empty())?;
        let mut reply = [0; 1024];
        let size = recv(netlink.as_raw_fd(), &mut reply, MsgFlags::empty())?;
        answer(&reply[..size])
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkSockDiag;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    Ok(netlink)
}

/// A question about the connection with the addresses of this socket.
fn question(socket: BorrowedFd<'_>) -> io::Result<[u8; HEADER_SIZE + QUESTION_SIZE]> {
    let socket = SockRef::from(&socket);
    let address = |address: socket2::SockAddr| {
        let complaint = || io::Error::other("the socket has no address of IP");
        address.as_socket().ok_or_else(complaint)
    };
    let (local, remote) = (
        address(socket.local_addr()?)?,
        address(socket.peer_addr()?)?,
    );
    // The kernel finds a socket that is bound to an interface only by that interface.
    let device = socket.device()?;
    let interface = match device.as_deref().map(std::str::from_utf8) {
        Some(Ok(name)) => if_nametoindex(name)?,
        _ => 0,
    };
    Ok(encode(local, remote, interface))
}

fn encode(
    local: SocketAddr,
    remote: SocketAddr,
    interface: u32,
) -> [u8; HEADER_SIZE + QUESTION_SIZE] {
    let mut out = [0; HEADER_SIZE + QUESTION_SIZE];
    let size = u32::try_from(out.len()).unwrap_or_default();
    NativeEndian::write_u32(&mut out[..4], size);
    NativeEndian::write_u16(&mut out[4..6], BY_FAMILY);
    NativeEndian::write_u16(&mut out[6..8], REQUEST);
    let family = if local.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    out[16] = u8::try_from(family as i32).unwrap_or_default();
    out[17] = TCP;
    // Connections in any state.
    NativeEndian::write_u32(&mut out[20..24], u32::MAX);
    BigEndian::write_u16(&mut out[24..26], local.port());
    BigEndian::write_u16(&mut out[26..28], remote.port());
    write_ip(&mut out[28..44], local.ip());
    write_ip(&mut out[44..60], remote.ip());
    NativeEndian::write_u32(&mut out[60..64], interface);
    // No cookie: it would identify the socket, but it is unknown here.
    out[64..].fill(0xff);
    out
}

fn write_ip(out: &mut [u8], ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => out[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.copy_from_slice(&ip.octets()),
    }
}

/// The kernel's answer about the socket.
fn answer(reply: &[u8]) -> io::Result<[u8; ANSWER_SIZE]> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let header = reply.get(..HEADER_SIZE).ok_or_else(short)?;
    if NativeEndian::read_u16(&header[4..6]) != BY_FAMILY {
        let errno = reply.get(HEADER_SIZE..HEADER_SIZE + 4).ok_or_else(short)?;
        let errno = Errno::from_raw(NativeEndian::read_i32(errno).saturating_neg());
        return Err(errno.into());
    }
    let answer = reply.get(HEADER_SIZE..HEADER_SIZE + ANSWER_SIZE);
    answer
        .and_then(|answer| answer.try_into().ok())
        .ok_or_else(short)
}

/// Whether the answer shows that the peer's system is gone.
fn is_gone(answer: &[u8; ANSWER_SIZE]) -> bool {
    let (timer, repeats) = (answer[2], answer[3]);
    let unacknowledged = NativeEndian::read_u32(&answer[60..64]);
    // 1: data is sent again until it is acknowledged. 4: the peer had no room, and is asked whether
    // it has until it answers.
    matches!(timer, 1 | 4) && unacknowledged > 0 && repeats >= REPEATS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    #[test]
    fn a_system_that_acknowledges_no_retransmission_is_gone() {
        for (unacknowledged, timer, repeats, gone) in [
            (13, 1, 3, true),
            (13, 1, 10, true),
            (13, 4, 3, true),
            // Too early.
            (13, 1, 2, false),
            // The peer answers that it has no room.
            (13, 4, 0, false),
            // Everything is acknowledged.
            (0, 0, 0, false),
            (0, 2, 3, false),
            (0, 1, 3, false),
        ] {
            let mut answer = [0; ANSWER_SIZE];
            (answer[2], answer[3]) = (timer, repeats);
            NativeEndian::write_u32(&mut answer[60..64], unacknowledged);
            assert_eq!(is_gone(&answer), gone, "{timer} {repeats}");
        }
    }

    /// Both ends of a connection whose writing end has filled both kernels' buffers.
    fn full_connection(address: &str) -> Option<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind(address).ok()?;
        let mut stream = TcpStream::connect(listener.local_addr().ok()?).ok()?;
        let (silent, _) = listener.accept().ok()?;
        stream.set_nonblocking(true).expect("a socket can");
        while stream.write(&[0; 65536]).is_ok() {}
        Some((stream, silent))
    }

    #[test]
    fn the_kernel_tells_of_the_one_connection() {
        let mut diagnosis = Diagnosis::default();
        let (stream, silent) = full_connection("127.0.0.1:0").expect("loopback");
        let mut check = |stream: &TcpStream, silent: &TcpStream| {
            let answer = diagnosis.ask(stream.as_fd()).expect("an answer");
            assert!(
                NativeEndian::read_u32(&answer[60..64]) > 0,
                "much is queued"
            );
            let answer = diagnosis.ask(silent.as_fd()).expect("an answer");
            assert_eq!(
                NativeEndian::read_u32(&answer[60..64]),
                0,
                "nothing is queued"
            );
            // The peer is connected and does not read: its system answers.
            assert!(!diagnosis.is_unreachable(stream.as_fd()));
        };
        check(&stream, &silent);
        if let Some((stream, silent)) = full_connection("[::1]:0") {
            check(&stream, &silent);
        }
        SockRef::from(&stream)
            .bind_device(Some(b"lo"))
            .expect("an interface");
        check(&stream, &silent);
    }

    #[test]
    fn without_an_answer_no_peer_counts_as_gone() {
        let (stream, silent) = full_connection("127.0.0.1:0").expect("loopback");
        drop(silent);
        let mut diagnosis = Diagnosis::default();
        assert!(!diagnosis.is_unreachable(stream.as_fd()));
        let error = answer(&[0; 8]).expect_err("too short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
