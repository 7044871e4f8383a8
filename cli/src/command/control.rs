//! Asking the control of a broker or proxy.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use broker::config::Endpoint;
use log::Level;
use serde_json::{Map, Value, json};
use zmtp::{Frames, SocketType, show};

use super::local::{self, Kind};
use crate::client::{Client, ClientConfig, ClientError, Received, SecurityArgs};
use crate::output::Failure;
use crate::value::timeout;

// The broker to ask, and how.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ControlArgs {
    /// The process with this id, if several run
    #[arg(long, global = true)]
    pid: Option<u32>,
    /// Time to answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout, global = true)]
    timeout: Duration,
    #[command(flatten)]
    security: SecurityArgs,
    /// Whether brokers that do not answer are only debug messages.
    #[arg(skip)]
    pub(super) is_quiet: bool,
}

/// The key of a request that names a proxy.
const PROXY: &str = "proxy";

/// Characters shown of an error from a control.
const ERROR_LEN_MAX: usize = 1000;

/// A connection to a control.
pub(super) struct Control {
    client: Client,
    endpoint: Endpoint,
    /// The proxy to name in requests.
    proxy: Option<String>,
    socket_type: SocketType,
    timeout: Duration,
}

impl Control {
    /// Connects to the process of this kind and user, or to the one of several that `args` names.
    ///
    /// # Errors
    /// No such process is found, or which one of several is open.
    pub(super) fn of(kind: Kind, args: &ControlArgs) -> Result<Self, Failure> {
        let mut found = Self::find_all(kind, args)?;
        let (one, many, lister) = kind.words();
        match (found.len(), args.pid) {
            (1, _) => Ok(found.remove(0).0),
            (0, Some(pid)) => Err(Failure::Running(format!(
                "no {one} of this user has the process id {pid}: {lister} lists them"
            ))),
            (0, None) => Err(Self::none_runs(kind)),
            (count, _) => {
                let pids = found.iter().map(|(_, status)| status["pid"].to_string());
                let pids = pids.collect::<Vec<_>>().join(", ");
                Err(Failure::Running(format!(
                    "{count} {many} run: write --pid with one of {pids}, which {lister} describes"
                )))
            }
        }
    }

    /// The failure if no process of this kind and user runs.
    pub(super) fn none_runs(kind: Kind) -> Failure {
        Failure::Running(match kind {
            Kind::Broker => "no broker of this user runs: start one with zmqd run, or name the \
                             endpoint of a control"
                .to_owned(),
            Kind::Watch => "no watch of this user runs: start one with zmqd watch FILE".to_owned(),
        })
    }

    /// Connects to every process of this kind and user, or to those that `args` names; each with
    /// its status.
    pub(super) fn find_all(kind: Kind, args: &ControlArgs) -> Result<Vec<(Self, Value)>, Failure> {
        let mut found = Vec::new();
        let mut forbidden = None;
        for endpoint in local::find(kind) {
            let mut control = match Self::try_connect(&endpoint, args) {
                Ok(control) => control,
                Err(Refusal::Usage(failure)) => return Err(failure),
                Err(Refusal::Client(ClientError::Io(error))) => {
                    if error.kind() == io::ErrorKind::PermissionDenied {
                        forbidden = Some(endpoint);
                    }
                    continue;
                }
                Err(Refusal::Client(error)) => {
                    let level = if args.is_quiet {
                        Level::Debug
                    } else {
                        Level::Warn
                    };
                    log::log!(level, "{endpoint}: {error}");
                    continue;
                }
            };
            // A process may end at this moment.
            let Ok(status) = control.ask(&json!({ "command": "status" })) else {
                continue;
            };
            if args.pid.is_none_or(|pid| status["pid"] == pid) {
                found.push((control, status));
            }
        }
        match forbidden.filter(|_| found.is_empty()) {
            Some(endpoint) => Err(Failure::Running(format!(
                "{endpoint}: the {} runs as another user: ask as that user, with sudo -u",
                kind.words().0
            ))),
            None => Ok(found),
        }
    }

    /// Connects with the socket type that the control accepts: a REQ, a PAIR, or a PUB, which gets
    /// no answers.
    pub(super) fn connect(endpoint: &Endpoint, args: &ControlArgs) -> Result<Self, Failure> {
        Self::try_connect(endpoint, args).map_err(|refusal| match refusal {
            Refusal::Client(error) => failed(endpoint, &error),
            Refusal::Usage(failure) => failure,
        })
    }

    fn try_connect(endpoint: &Endpoint, args: &ControlArgs) -> Result<Self, Refusal> {
        let timeout = args.timeout;
        let mut config = ClientConfig {
            mechanism: (args.security.mechanism(&[endpoint])).map_err(Refusal::Usage)?,
            socket_type: SocketType::Req,
            timeout,
        };
        let mut refusal = ClientError::Closed;
        for socket_type in [SocketType::Req, SocketType::Pair, SocketType::Pub] {
            config.socket_type = socket_type;
            match Client::connect(endpoint, &config) {
                Ok(client) => {
                    return Ok(Self {
                        client,
                        endpoint: endpoint.clone(),
                        proxy: None,
                        socket_type,
                        timeout,
                    });
                }
                // The types do not match: this side notices it, or the peer does and closes.
                Err(error @ (ClientError::Closed | ClientError::Protocol(_))) => refusal = error,
                Err(ClientError::Handshake(error, advice))
                    if advice.is_about_socket_types()
                        && !matches!(*error, ClientError::TimedOut) =>
                {
                    refusal = ClientError::Handshake(error, advice);
                }
                Err(error) => return Err(Refusal::Client(error)),
            }
        }
        Err(Refusal::Client(refusal))
    }

    /// Requests concern this proxy.
    pub(super) fn choose(&mut self, proxy: Option<&str>) {
        self.proxy = proxy.map(str::to_owned);
    }

    /// Whether it answers pause, resume and terminate.
    fn answers(&self) -> bool {
        self.socket_type == SocketType::Req
    }

    /// Sends one command and returns the answer, if the control answers.
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let deadline = Instant::now() + self.timeout;
        let sent = match self.socket_type {
            SocketType::Req => self.client.send(&[&b""[..], command]),
            SocketType::Pair => self.client.send(&[command]),
            _ => self.publish(command, deadline),
        };
        sent.map_err(|error| failed(&self.endpoint, &error))?;
        let is_steering = matches!(command, b"PAUSE" | b"RESUME" | b"TERMINATE");
        if !self.answers() && is_steering {
            return Ok(Vec::new());
        }
        if self.socket_type == SocketType::Pub {
            let sentence = "the control is a SUB, which cannot answer; set its socket to REP";
            return Err(Failure::Running(format!("{}: {sentence}", self.endpoint)));
        }
        loop {
            let received = self.client.recv(Some(deadline));
            let received = received.map_err(|error| failed(&self.endpoint, &error))?;
            if let Received::Message(wire) = received {
                let frames = Frames::new(wire).map(|frame| frame.body.to_vec());
                let envelope = usize::from(self.socket_type == SocketType::Req);
                return Ok(frames.skip(envelope).collect());
            }
        }
    }

    /// A subscriber receives nothing before its subscription has arrived here.
    fn publish(&mut self, command: &[u8], deadline: Instant) -> Result<(), ClientError> {
        while !matches!(
            self.client.recv(Some(deadline))?,
            Received::Subscription { add: true, topic } if command.starts_with(topic)
        ) {}
        self.client.send(&[command])
    }

    pub(super) fn steer(&mut self, command: &str) -> Result<Value, Failure> {
        if self.proxy.is_some() {
            return self.ask(&json!({ "command": command.to_lowercase() }));
        }
        self.exchange(command.as_bytes())?;
        let key = if self.answers() { "done" } else { "sent" };
        Ok(json!({ key: command.to_lowercase() }))
    }

    /// Asks a question; an error in the answer is a failure.
    pub(super) fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        self.try_ask(request)?.map_err(|sentence| {
            // A key of the request, and an option of this command.
            let is_open = sentence.starts_with(PROXY);
            let dashes = if is_open { "--" } else { "" };
            Failure::Running(format!("{dashes}{sentence}"))
        })
    }

    /// Asks a question; the inner error is the sentence of the control.
    pub(super) fn try_ask(&mut self, request: &Value) -> Result<Result<Value, String>, Failure> {
        let mut request = request.clone();
        if let Some(proxy) = &self.proxy {
            request[PROXY] = json!(proxy);
        }
        let frames = self.exchange(request.to_string().as_bytes())?;
        let body = frames.first().filter(|body| !body.is_empty());
        let answer: Option<Value> = body.and_then(|body| serde_json::from_slice(body).ok());
        let answer = answer.ok_or_else(|| {
            let sentence = "the proxy does not answer JSON questions, so it is not zmqd's";
            Failure::Running(format!("{}: {sentence}", self.endpoint))
        })?;
        match answer.get("error").and_then(Value::as_str) {
            Some(sentence) => Ok(Err(show(sentence).up_to(ERROR_LEN_MAX).to_string())),
            None => Ok(Ok(answer)),
        }
    }

    /// Repeats the question until the list is complete; `key` of the last item tells where to
    /// continue.
    pub(super) fn ask_on(
        &mut self,
        list: &str,
        key: &str,
        request: Value,
    ) -> Result<Value, Failure> {
        self.ask_up_to(usize::MAX, (list, key), request)
    }

    /// The same, until the list has this many items or one page more.
    pub(super) fn ask_up_to(
        &mut self,
        limit: usize,
        (list, key): (&str, &str),
        mut request: Value,
    ) -> Result<Value, Failure> {
        let mut answer = self.ask(&request)?;
        let mut all = take_list(&mut answer, list);
        let mut last_size = all.len();
        while last_size > 0 && all.len() < limit {
            let last = all.last().unwrap_or(&Value::Null);
            let hex_key = format!("{key}_hex");
            let request = request.as_object_mut();
            let Some(request) = request else { break };
            request.retain(|key, _| !key.starts_with("after"));
            match (last.get(key), last.get(&hex_key)) {
                (Some(at), _) => request.insert("after".to_owned(), at.clone()),
                (None, Some(at)) => request.insert("after_hex".to_owned(), at.clone()),
                (None, None) => break,
            };
            let mut more = self.ask(&Value::Object(request.clone()))?;
            let mut more = take_list(&mut more, list);
            last_size = more.len();
            all.append(&mut more);
        }
        let mut whole = Map::new();
        whole.insert(list.to_owned(), Value::Array(all));
        if limit < usize::MAX {
            whole.insert("total".to_owned(), answer["total"].take());
        }
        Ok(Value::Object(whole))
    }

    pub(super) fn peers(&mut self, request: Value, rates: bool) -> Result<Value, Failure> {
        let before = self.peers_up_to(usize::MAX, request.clone())?;
        if !rates {
            return Ok(before);
        }
        thread::sleep(Duration::from_secs(1));
        let mut after = self.peers_up_to(usize::MAX, request)?;
        put_rates(&before, &mut after);
        Ok(after)
    }

    /// Peers in the order of the request, until the list has this many or one page more.
    pub(super) fn peers_up_to(
        &mut self,
        limit: usize,
        mut request: Value,
    ) -> Result<Value, Failure> {
        if request.get("sort").is_none() {
            return self.ask_up_to(limit, ("peers", "id"), request);
        }
        let mut whole = self.ask(&request)?;
        let mut all = take_list(&mut whole, "peers");
        // A peer that moves down between two questions is on both pages.
        let id = |peer: &Value| peer["id"].as_str().map(str::to_owned);
        let mut known = BTreeSet::new();
        known.extend(all.iter().filter_map(id));
        let (mut skip, mut last_size) = (all.len(), all.len());
        while last_size > 0 && all.len() < limit {
            request["skip"] = json!(skip);
            let more = take_list(&mut self.ask(&request)?, "peers");
            last_size = more.len();
            skip += last_size;
            let new = more.into_iter();
            all.extend(new.filter(|peer| id(peer).is_none_or(|id| known.insert(id))));
        }
        whole["peers"] = Value::Array(all);
        Ok(whole)
    }

    pub(super) fn subscriptions(&mut self, prefix: &str) -> Result<Value, Failure> {
        let request = json!({ "command": "subscriptions", "prefix": prefix });
        self.ask_on("subscriptions", "topic", request)
    }

    /// The counters of zmqd, or the eight numbers of any steerable proxy.
    pub(super) fn statistics(&mut self) -> Result<Value, Failure> {
        let not_ours = match self.ask(&json!({ "command": "statistics" })) {
            Ok(answer) => return Ok(answer),
            Err(Failure::Running(sentence)) if sentence.starts_with("--") => {
                return Err(Failure::Running(sentence));
            }
            Err(failure) => failure,
        };
        let frames = self.exchange(b"STATISTICS")?;
        let numbers: Option<Vec<u64>> = frames
            .iter()
            .map(|frame| Some(u64::from_ne_bytes(frame.as_slice().try_into().ok()?)))
            .collect();
        let numbers = numbers.filter(|numbers| numbers.len() == 8);
        let numbers = numbers.ok_or(not_ours)?;
        let side = |name: &str, numbers: &[u64]| {
            json!({
                "side": name,
                "frames_received": numbers[0],
                "bytes_received": numbers[1],
                "frames_sent": numbers[2],
                "bytes_sent": numbers[3],
            })
        };
        let (front, back) = numbers.split_at(4);
        Ok(json!({ "sockets": [side("frontend", front), side("backend", back)] }))
    }
}

pub(super) fn take_list(answer: &mut Value, list: &str) -> Vec<Value> {
    match answer.get_mut(list).map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Adds the rates since `before` to each peer.
pub(super) fn put_rates(before: &Value, after: &mut Value) {
    let earlier = items(before, "peers").iter();
    let earlier = earlier.filter_map(|peer| Some((peer["id"].as_str()?, peer)));
    let mut by_id: BTreeMap<&str, &Value> = BTreeMap::new();
    by_id.extend(earlier);
    let Some(peers) = after["peers"].as_array_mut() else {
        return;
    };
    for peer in peers {
        let found = peer["id"].as_str().and_then(|id| by_id.get(id).copied());
        let Some(found) = found else { continue };
        let age = |peer: &Value| peer["age_seconds"].as_f64().unwrap_or_default();
        put_rates_of(found, peer, age(peer) - age(found));
    }
}

/// Adds the rates of a peer or socket since `before`, this many seconds ago.
pub(super) fn put_rates_of(before: &Value, after: &mut Value, seconds: f64) {
    const COUNTERS: [&str; 4] = [
        "messages_received",
        "bytes_received",
        "messages_sent",
        "bytes_sent",
    ];
    for counter in COUNTERS {
        let count = |row: &Value| row[counter].as_f64().unwrap_or_default();
        let rate = (count(after) - count(before)) / seconds;
        after[format!("{counter}_per_second")] = json!(rate);
    }
}

/// A list in an answer.
pub(super) fn items<'a>(answer: &'a Value, list: &str) -> &'a [Value] {
    answer[list].as_array().map_or(&[][..], Vec::as_slice)
}

fn failed(endpoint: &Endpoint, error: &ClientError) -> Failure {
    let advice = match error {
        ClientError::Closed | ClientError::Protocol(_) => {
            "; check that it is the control of a proxy"
        }
        // It says what to check.
        ClientError::Handshake(..) | ClientError::Refused(_) => "",
        ClientError::Io(_) => "; a proxy listens there if it has --control",
        ClientError::TimedOut => "; --timeout sets a longer wait",
    };
    Failure::Running(format!("{endpoint}: {error}{advice}"))
}

/// Why no connection was made.
enum Refusal {
    Client(ClientError),
    Usage(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_by_time() {
        let look = |age: f64, received: u64| {
            json!({ "peers": [{
                "id": "1-a", "age_seconds": age, "messages_received": received,
                "bytes_received": 10 * received, "messages_sent": 0, "bytes_sent": 0,
            }] })
        };
        let mut after = look(4.0, 30);
        put_rates(&look(2.0, 10), &mut after);
        let peer = &after["peers"][0];
        assert_eq!(peer["messages_received_per_second"], json!(10.0));
        assert_eq!(peer["bytes_received_per_second"], json!(100.0));
        assert_eq!(peer["messages_sent_per_second"], json!(0.0));
        let mut other = json!({ "peers": [{ "id": "2-b" }] });
        put_rates(&look(2.0, 10), &mut other);
        assert_eq!(other, json!({ "peers": [{ "id": "2-b" }] }), "it is new");
    }
}
