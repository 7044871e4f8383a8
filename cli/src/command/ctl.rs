//! `zmqd ctl`: steers and queries a proxy through its control.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

mod table;

use std::thread;
use std::time::{Duration, Instant};

use broker::config::Endpoint;
use serde_json::{Map, Value, json};
use zmtp::{Frames, SocketType, show};

use crate::capture::json;
use crate::client::{Client, ClientConfig, ClientError, Received, SecurityArgs};
use crate::output::{Failure, print};
use crate::value::timeout;

/// Steer or query a proxy through its control
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = false)]
pub(crate) struct CtlArgs {
    /// The endpoint of the proxy's control
    #[arg(value_parser = Endpoint::parse_connect)]
    endpoint: Endpoint,
    #[command(subcommand)]
    command: CtlCommand,
    /// Print the answer as one line of JSON
    #[arg(long, global = true)]
    json: bool,
    /// Time that the proxy has to answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout, global = true)]
    timeout: Duration,
    #[command(flatten)]
    security: SecurityArgs,
}

const EXAMPLES: &str = "\
A proxy listens for control commands where its --control says. Any zmq_proxy_steerable understands
pause, resume, terminate and statistics too.

Examples:
  zmqd queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560 \\
      --control ipc:///run/zmqd.ctl
  zmqd ctl ipc:///run/zmqd.ctl peers --rates
  zmqd ctl ipc:///run/zmqd.ctl subscriptions news. --json
  zmqd ctl ipc:///run/zmqd.ctl kick --identity client-7";

/// The commands of a control.
#[derive(Debug, clap::Subcommand)]
enum CtlCommand {
    /// Stop forwarding; peers wait
    Pause,
    /// Resume forwarding
    Resume,
    /// End the proxy; zmqd ends with its last proxy
    Terminate,
    /// Read the configuration again, and apply or reject it as a whole
    Reload,
    /// Show the counters of each socket
    Statistics,
    /// Show the connected peers
    Peers {
        /// Only peers of one socket: frontend, backend, capture, control or zap
        #[arg(long)]
        side: Option<String>,
        /// Include peers of capture, control and zap, such as this command
        #[arg(long, conflicts_with = "side")]
        all: bool,
        /// Also show messages and bytes per second, over one second
        #[arg(long)]
        rates: bool,
    },
    /// Show the peers that were closed last, with the reasons
    Closed {
        /// Include peers of capture, control and zap
        #[arg(long)]
        all: bool,
    },
    /// Show the topics, and the number of subscribers of each
    Subscriptions {
        /// Only topics with this prefix
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Show the peers that would get a message with this topic
    Who {
        /// The first frame of the message
        topic: String,
    },
    /// Close peers
    #[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
    Kick {
        /// The peer with this id, as `peers` shows it
        #[arg(long, group = "whom")]
        id: Option<String>,
        /// Peers at this address, as `peers` shows it
        #[arg(long, group = "whom")]
        address: Option<String>,
        /// Peers with this identity
        #[arg(long, group = "whom")]
        identity: Option<String>,
    },
}

/// Sends the command and prints the answer.
pub(super) fn run(args: &CtlArgs) -> Result<(), Failure> {
    let mut control = Control::connect(args)?;
    let answer = match &args.command {
        CtlCommand::Pause => control.steer("PAUSE")?,
        CtlCommand::Resume => control.steer("RESUME")?,
        CtlCommand::Terminate => control.steer("TERMINATE")?,
        CtlCommand::Reload => control.ask(&json!({ "command": "reload" }))?,
        CtlCommand::Statistics => control.statistics()?,
        CtlCommand::Peers { side, all, rates } => {
            let mut request = json!({ "command": "peers" });
            put_all(&mut request, *all);
            if let Some(side) = side {
                request["side"] = json!(side);
            }
            control.peers(request, *rates)?
        }
        CtlCommand::Closed { all } => {
            let mut request = json!({ "command": "closed" });
            put_all(&mut request, *all);
            control.ask(&request)?
        }
        CtlCommand::Subscriptions { prefix } => control.subscriptions(prefix)?,
        CtlCommand::Who { topic } => {
            let request = json!({ "command": "who", "topic": topic });
            control.ask_on("peers", "id", request)?
        }
        CtlCommand::Kick {
            id,
            address,
            identity,
        } => {
            let keys = [("id", id), ("address", address), ("identity", identity)];
            let mut request = json!({ "command": "kick" });
            for (key, value) in keys {
                if let Some(value) = value {
                    request[key] = json!(value);
                }
            }
            control.ask(&request)?
        }
    };
    if args.json {
        let mut line = String::new();
        json::append_visibly(&mut line, &answer.to_string());
        line.push('\n');
        return print(&line);
    }
    print(&table::describe(&args.command, &answer))
}

/// Characters shown of an error from a control.
const ERROR_LEN_MAX: usize = 1000;

/// A connection to a control.
struct Control {
    client: Client,
    endpoint: Endpoint,
    socket_type: SocketType,
    timeout: Duration,
}

impl Control {
    /// Connects with the socket type that the control accepts: a REQ, a PAIR, or a PUB, which gets
    /// no answers.
    fn connect(args: &CtlArgs) -> Result<Self, Failure> {
        let (endpoint, timeout) = (&args.endpoint, args.timeout);
        let mut config = ClientConfig {
            mechanism: args.security.mechanism(&[endpoint])?,
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
                Err(error) => return Err(failed(endpoint, &error)),
            }
        }
        Err(failed(endpoint, &refusal))
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

    fn steer(&mut self, command: &str) -> Result<Value, Failure> {
        self.exchange(command.as_bytes())?;
        let key = if self.answers() { "done" } else { "sent" };
        Ok(json!({ key: command.to_lowercase() }))
    }

    /// Asks a question; an error in the answer is a failure.
    fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        let frames = self.exchange(request.to_string().as_bytes())?;
        let body = frames.first().filter(|body| !body.is_empty());
        let answer: Option<Value> = body.and_then(|body| serde_json::from_slice(body).ok());
        let answer = answer.ok_or_else(|| {
            let sentence = "the proxy does not answer JSON questions, so it is not zmqd's";
            Failure::Running(format!("{}: {sentence}", self.endpoint))
        })?;
        match answer.get("error").and_then(Value::as_str) {
            Some(sentence) => Err(Failure::Running(
                show(sentence).up_to(ERROR_LEN_MAX).to_string(),
            )),
            None => Ok(answer),
        }
    }

    /// Repeats the question until the list is complete; `key` of the last item tells where to
    /// continue.
    fn ask_on(&mut self, list: &str, key: &str, mut request: Value) -> Result<Value, Failure> {
        let mut answer = self.ask(&request)?;
        let mut all = take_list(&mut answer, list);
        let mut last_size = all.len();
        while last_size > 0 {
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
        Ok(Value::Object(whole))
    }

    fn peers(&mut self, request: Value, rates: bool) -> Result<Value, Failure> {
        let before = self.ask_on("peers", "id", request.clone())?;
        if !rates {
            return Ok(before);
        }
        thread::sleep(Duration::from_secs(1));
        let mut after = self.ask_on("peers", "id", request)?;
        put_rates(&before, &mut after);
        Ok(after)
    }

    fn subscriptions(&mut self, prefix: &str) -> Result<Value, Failure> {
        let request = json!({ "command": "subscriptions", "prefix": prefix });
        self.ask_on("subscriptions", "topic", request)
    }

    /// The counters of zmqd, or the eight numbers of any steerable proxy.
    fn statistics(&mut self) -> Result<Value, Failure> {
        let not_ours = match self.ask(&json!({ "command": "statistics" })) {
            Ok(answer) => return Ok(answer),
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

/// Sets `all` only if requested, so that older versions of zmqd answer the other questions.
fn put_all(request: &mut Value, all: bool) {
    if all {
        request["all"] = json!(true);
    }
}

fn take_list(answer: &mut Value, list: &str) -> Vec<Value> {
    match answer.get_mut(list).map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Adds the rates since `before` to each peer.
fn put_rates(before: &Value, after: &mut Value) {
    const COUNTERS: [&str; 4] = [
        "messages_received",
        "bytes_received",
        "messages_sent",
        "bytes_sent",
    ];
    let earlier = before["peers"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(peers) = after["peers"].as_array_mut() else {
        return;
    };
    for peer in peers {
        let found = earlier.iter().find(|found| found["id"] == peer["id"]);
        let Some(found) = found else { continue };
        let age = |peer: &Value| peer["age_seconds"].as_f64().unwrap_or_default();
        let seconds = age(peer) - age(found);
        for counter in COUNTERS {
            let count = |peer: &Value| peer[counter].as_f64().unwrap_or_default();
            let rate = (count(peer) - count(found)) / seconds;
            peer[format!("{counter}_per_second")] = json!(rate);
        }
    }
}

fn failed(endpoint: &Endpoint, error: &ClientError) -> Failure {
    let advice = match error {
        ClientError::Closed | ClientError::Protocol(_) => {
            "; check that it is the control of a proxy"
        }
        // It says what to check.
        ClientError::Handshake(..) => "",
        ClientError::Io(_) => "; a proxy listens there if it has --control",
        ClientError::TimedOut => "; --timeout sets a longer wait",
    };
    Failure::Running(format!("{endpoint}: {error}{advice}"))
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
