//! `zmqd pub`, `sub`, `req`, …: one ZeroMQ socket between a shell and its peers.
//!
//! ```text
//! arguments, stdin, file ──► Input ──┐            ┌──► Output: lines, bytes, files
//!                                    ├─► Talk ◄───┤
//! peers ◄──── client::Socket ◄───────┘            └──► Jobs: a command for each request
//! ```

mod args;
mod exec;
mod input;
mod message;
mod output;
mod progress;
mod talk;

use zmtp::SocketType;

pub(super) use self::args::ClientCommand;

use self::args::{CommonArgs, SendArgs, ShowArgs};
use self::input::Input;
use self::message::Shape;
use self::output::Output;
use self::talk::{Answer, Plan, Talk};
use crate::client::{ClientConfig, Socket};
use crate::logger::Verbosity;
use crate::output::Failure;
use crate::value::Attached;

/// What the arguments of all types of socket come to.
struct Request<'a> {
    answer: Answer,
    common: &'a CommonArgs,
    endpoints: Vec<Attached>,
    /// Peers or subscriptions to wait for.
    peers: usize,
    /// What is sent, and its form.
    send: Option<(&'a SendArgs, Shape)>,
    show: Option<&'a ShowArgs>,
    socket_type: SocketType,
    topics: Vec<Vec<u8>>,
}

/// Sends and receives until the end of the input, the requested number, a time-out or a signal.
pub(super) fn run(command: &ClientCommand, verbosity: Verbosity) -> Result<(), Failure> {
    let request = Request::of(command)?;
    let places: Vec<_> = request.endpoints.iter().map(|(_, it)| it).collect();
    let CommonArgs {
        security, server, ..
    } = request.common;
    let (mechanism, admission) = server.mechanism(security, &places)?;
    let config = ClientConfig {
        mechanism,
        socket_type: request.socket_type,
        timeout: args::HANDSHAKE_TIMEOUT,
    };
    if request.socket_type == SocketType::Pair && request.endpoints.len() > 1 {
        return Err(Failure::usage(
            "a PAIR has one peer: name one endpoint, or use dealer",
        ));
    }
    let output = Output::new(&request, verbosity)?;
    let mut socket = Socket::new(&config, request.topics)?;
    socket.admit(admission);
    let input = request.send.map(|(send, shape)| {
        Input::new(
            send,
            shape,
            request.common,
            request.socket_type,
            socket.waker(),
        )
    });
    let input = input.transpose()?;
    socket.watch_signals()?;
    for attached in &request.endpoints {
        if let Some(bound) = socket.attach(attached)? {
            log::info!("{bound}: listening");
        }
    }
    let plan = Plan {
        answer: request.answer,
        count: request.common.count,
        is_dialed: request.endpoints.iter().all(args::is_dialed),
        peers: request.peers,
        socket_type: request.socket_type,
        timeout: request.common.timeout,
    };
    Talk::new(plan, socket, input, output).run()
}
