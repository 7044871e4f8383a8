//! Webhooks and pings: requests in plain HTTP, by a thread of their own, since the other end may be
//! slow or gone.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;

use watch::config::Url;

use super::counters::{Counters, Trouble};

/// Requests that wait; more are dropped.
const WAITING_MAX: usize = 64;

/// The time to connect, to send and to read the answer, each.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The thread.
#[derive(Debug)]
pub(super) struct Poster {
    requests: SyncSender<Request>,
}

#[derive(Debug)]
struct Request {
    /// JSON for POST; without, the request is a GET.
    body: Option<String>,
    url: Url,
}

impl Poster {
    pub(super) fn start() -> io::Result<Self> {
        let (requests, receiver) = mpsc::sync_channel(WAITING_MAX);
        let thread = thread::Builder::new().name("webhook".to_owned());
        thread.spawn(move || {
            for request in receiver {
                send_logged(&request);
            }
        })?;
        Ok(Self { requests })
    }

    /// Posts JSON, or asks for the URL without a body.
    pub(super) fn send(&self, url: &Url, body: Option<String>, counters: &mut Counters) {
        let url = url.clone();
        if self.requests.try_send(Request { body, url }).is_err() {
            counters.note(Trouble::Unsent, &format_args!("at most {WAITING_MAX} wait"));
        }
    }
}

fn send_logged(request: &Request) {
    let Url {
        authority, path, ..
    } = &request.url;
    match send(request) {
        Ok(status) if status.starts_with('2') => {}
        Ok(status) => log::warn!("http://{authority}{path} answers {}", zmtp::show(&status)),
        Err(error) => log::warn!("http://{authority}{path}: {error}"),
    }
}

/// Sends a request; returns the status line without the version.
fn send(request: &Request) -> io::Result<String> {
    let Url {
        authority,
        host,
        path,
        port,
    } = &request.url;
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut connected = None;
    for address in (&host[..], *port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => refusal = error,
        }
    }
    let mut stream = connected.ok_or(refusal)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let (method, body) = match &request.body {
        Some(body) => ("POST", &body[..]),
        None => ("GET", ""),
    };
    let size = body.len();
    let message = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: zmqd\r\n\
         Content-Type: application/json\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n\
         {body}"
    );
    stream.write_all(message.as_bytes())?;
    let mut answer = Vec::new();
    // One status line; the rest is not read.
    let mut buffer = [0; 512];
    while answer.len() < 512 && !answer.contains(&b'\n') {
        match stream.read(&mut buffer)? {
            0 => break,
            size => answer.extend_from_slice(&buffer[..size]),
        }
    }
    let line = answer
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let status = line
        .strip_prefix("HTTP/")
        .and_then(|rest| rest.split_once(' '));
    match status {
        Some((_, status)) => Ok(status.trim_end().to_owned()),
        None => Err(io::Error::other("the answer is not HTTP")),
    }
}
