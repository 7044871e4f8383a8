//! The whole server, with a broker and real connections.

mod clients;
mod commands;
mod hostile;

use crate::limits::Times;
use crate::server::Server;
use broker::config::{Config, HttpToken};
use broker::view::{BrokerView, ProxyView};
use broker::{Broker, Handle};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest wait for anything: a failure.
const PATIENCE: Duration = Duration::from_secs(20);

const TOKEN: &str = "0123456789abcdef";

const CONFIG: &str = "http = '127.0.0.1:0'\nhttp_hosts = ['box.example']\n\
    [[proxy]]\nname = 'a.b'\nkind = 'forwarder'\nfrontend.bind = 'tcp://127.0.0.1:0'\n\
    backend.bind = 'tcp://127.0.0.1:0'\ncache = {}\n\
    [[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:0'\n\
    backend.bind = 'tcp://127.0.0.1:0'\n";

pub(crate) fn broker_view() -> BrokerView {
    still_broker("a").admin().broker()
}

/// A queue without peers.
pub(crate) fn proxy_view(name: &str) -> ProxyView {
    let mut view = still_broker("a").admin().proxies().remove(0);
    view.sockets
        .iter_mut()
        .for_each(|socket| name.clone_into(&mut socket.proxy));
    name.clone_into(&mut view.name);
    view
}

fn still_broker(name: &str) -> Broker {
    let text = format!(
        "[[proxy]]\nname = '{name}'\nkind = 'queue'\nfrontend.bind = 'inproc://f'\n\
         backend.bind = 'inproc://b'\n"
    );
    let config = Config::from_toml(&text, "test.toml").expect("legal");
    Broker::bind(&config).expect("nothing is bound")
}

/// A broker that runs, and serves HTTP.
pub(crate) struct Scene {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(Times::default(), false)
    }

    pub(crate) fn with(times: Times, has_token: bool) -> Self {
        let mut config = Config::from_toml(CONFIG, "test.toml").expect("legal");
        config.http.token = HttpToken::new(TOKEN).filter(|_| has_token);
        let server = Server::with_times(times);
        let mut broker = Broker::bind_with_http(&config, server).expect("ports are free");
        let address = broker.admin().http_address().expect("HTTP is on");
        let handle = broker.handle();
        let thread = std::thread::spawn(move || broker.run().expect("it runs"));
        Self {
            address,
            handle,
            thread: Some(thread),
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// The status and the body of the answer to a request of HTTP/1.1 with these headers.
    pub(crate) fn ask(&self, line: &str, headers: &str) -> (u16, String) {
        let mut stream = self.connect();
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let answer = Answer::read(&mut stream);
        (answer.status, answer.text())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), "")
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the broker has failed");
        }
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) head: String,
    pub(crate) status: u16,
}

impl Answer {
    /// Reads one answer, and nothing behind it.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        Self::read_as(stream, true)
    }

    pub(crate) fn read_as(stream: &mut TcpStream, has_body: bool) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(byte(stream));
        }
        let head = String::from_utf8(head).expect("ASCII");
        let status = head
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a number");
        let field = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(": ")
                    .map(str::to_owned)
            })
        };
        let mut body = Vec::new();
        if !has_body {
        } else if let Some(size) = field("Content-Length") {
            body.resize(size.parse().expect("a number"), 0);
            stream.read_exact(&mut body).expect("the whole body");
        } else if field("Transfer-Encoding").is_some() {
            loop {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    line.push(byte(stream));
                }
                let digits = String::from_utf8_lossy(&line);
                let size = usize::from_str_radix(digits.trim(), 16).expect("a size");
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk).expect("a whole chunk");
                body.extend(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        } else {
            stream.read_to_end(&mut body).expect("all of it");
        }
        Self { body, head, status }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }
}

fn byte(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("an answer");
    byte[0]
}
