//! `zmqd replay`: sends recorded messages again, at the recorded speed or another.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

mod pace;
mod peers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use broker::record::{Direction, Message};
use zmtp::SocketType;

use self::pace::{Pace, Schedule};
use self::peers::Peers;
use crate::capture::{Filter, FilterArgs, Recordings, split};
use crate::client::{ClientConfig, SecurityArgs};
use crate::output::Failure;
use crate::value::{Attached, connect_by_habit, time, timeout};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// Recordings; several are merged by time
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to send them; with @ in front, listen there
    #[arg(long, value_name = "ENDPOINT", value_parser = connect_by_habit)]
    to: Attached,
    /// The socket to send with: PUB, PUSH or DEALER
    #[arg(long, value_name = "TYPE", value_parser = sender)]
    socket: SocketType,
    /// Peers to wait for when listening
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    peers: u32,
    /// Speed-up factor: 2 is twice as fast as recorded
    #[arg(long, value_name = "X", default_value = "1", value_parser = speed)]
    speed: f64,
    /// Send as fast as the peers accept messages
    #[arg(long, conflicts_with = "speed")]
    max: bool,
    /// Send the identity in front of a message too
    #[arg(long)]
    keep_identity: bool,
    /// A DEALER's wait for each of the last replies
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    wait: Duration,
    /// Time for connecting, handshake and last messages
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

const EXAMPLES: &str = "\
Messages that the backend received are sent only with --direction out. A PUB sends everything to
all subscribers, which filter for themselves.

Examples:
  zmqd replay today.zrec --to tcp://127.0.0.1:5561 --socket PUB
  zmqd replay today.zrec --to tcp://127.0.0.1:5559 --socket DEALER --speed 10
  zmqd replay today.zrec --to tcp://127.0.0.1:5563 --socket PUSH --max --text order
  zmqd replay today.zrec --to '@tcp://*:5556' --socket PUB --peers 2";

/// Sends all messages, and logs their number.
pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let filter = Filter::new(&args.filter);
    // Before it connects: a file that cannot be read must not disturb a proxy.
    let recordings = Recordings::open(&args.files)?;
    let client = ClientConfig {
        mechanism: args.security.mechanism(&[&args.to.1])?,
        socket_type: args.socket,
        timeout: args.timeout,
    };
    let mut peers = Peers::gather(&args.to, &client, args.peers)?;
    let pace = if args.max {
        Pace::Unlimited
    } else {
        Pace::Times(args.speed)
    };
    let mut schedule = Schedule::new(pace);
    let started = Instant::now();
    let integrity = recordings.read(|message| {
        if !is_wanted(&filter, message) {
            return Ok(true);
        }
        let due = started + schedule.due(message.time_ns);
        peers.send(wire_of(message, args.keep_identity), due)?;
        Ok(true)
    })?;
    peers.flush()?;
    let sent = peers.sent();
    let elapsed = started.elapsed().as_secs_f64();
    let replies = peers.finish(args.wait)?;
    match args.socket {
        SocketType::Dealer => {
            log::info!("{sent} messages sent in {elapsed:.3} s, {replies} replies");
        }
        _ => log::info!("{sent} messages sent in {elapsed:.3} s"),
    }
    integrity.check()
}

/// Whether to send a message: those that the backend received only if the filter asks for them.
fn is_wanted(filter: &Filter, message: &Message<'_>) -> bool {
    let is_outgoing = message.origin.direction == Some(Direction::Out);
    filter.accepts(message) && (!is_outgoing || filter.direction().is_some())
}

/// The frames to send, in wire form. A ROUTER added the identity in front, so it was not part of
/// the peer's message.
fn wire_of<'a>(message: &Message<'a>, keeps_identity: bool) -> &'a [u8] {
    match split(message) {
        (Some(_), frames) if !keeps_identity && !frames.rest().is_empty() => frames.rest(),
        _ => message.frames,
    }
}

fn sender(text: &str) -> Result<SocketType, String> {
    let senders = [SocketType::Pub, SocketType::Push, SocketType::Dealer];
    let found = senders
        .into_iter()
        .find(|one| one.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "write PUB, PUSH or DEALER".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text
        .parse()
        .ok()
        .filter(|speed: &f64| speed.is_normal() && *speed > 0.0);
    speed.ok_or_else(|| "write a number above 0, 2 or 0.5 for example".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::record::Origin;
    use zmtp::encode::append_message;

    #[test]
    fn the_identity_is_removed_unless_it_is_the_whole_message() {
        for (is_routed, keeps, frames, expected) in [
            (true, false, &["id", "", "body"][..], &["", "body"][..]),
            (true, true, &["id", "", "body"], &["id", "", "body"]),
            (true, false, &["id"], &["id"]),
            (false, false, &["topic", "body"], &["topic", "body"]),
        ] {
            let (mut wire, mut rest) = (Vec::new(), Vec::new());
            append_message(&mut wire, frames);
            append_message(&mut rest, expected);
            let message = Message {
                frames: &wire,
                origin: Origin {
                    is_routed,
                    ..Origin::of("")
                },
                time_ns: 0,
            };
            assert_eq!(wire_of(&message, keeps), rest, "{frames:?}");
        }
    }

    #[test]
    fn speeds_are_above_zero() {
        assert_eq!(speed("0.25"), Ok(0.25));
        for text in ["0", "-1", "inf", "NaN", "fast", "1e-320"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
