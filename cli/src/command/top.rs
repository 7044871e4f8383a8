//! `zmqd top`: the proxies, peers, topics and drops of a running broker, live.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

mod page;
mod screen;

use std::env;
use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::{Duration, Instant};

use broker::config::Endpoint;
use serde_json::{Value, json};

use self::page::{Page, View};
use self::screen::{Key, Screen};
use super::control::{Control, ControlArgs, items, put_rates};
use super::local::Kind;
use super::status::{self, Paint};
use crate::output::{Failure, print};
use crate::value::interval;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// The endpoint of the control to ask, instead of the usual place
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "pid")]
    #[arg(value_parser = Endpoint::parse_connect)]
    control: Option<Endpoint>,
    /// Print one page and end; without a terminal, always
    #[arg(long)]
    once: bool,
    /// First: peers, bytes, waiting, drops or topics
    #[arg(long, value_name = "NAME", default_value = "peers", value_parser = View::of_name)]
    view: View,
    /// Time between two pages, for rates too
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    ask: ControlArgs,
}

const EXAMPLES: &str = "\
Keys: p peers by messages, b by bytes, w by waiting messages, d drops by reason and by peer,
t topics by subscribers, q end.

Examples:
  zmqd top
  zmqd top --pid 812 --interval 5s
  zmqd top --once --view drops";

/// Peers and topics that a page is made from, of each proxy: the peers with the largest figures,
/// and the first topics. A broker with more has the others in `zmqd ctl`.
const ROWS_MAX: usize = 2000;

/// Shows pages until a key or a signal ends it.
pub(super) fn run(args: &TopArgs) -> Result<(), Failure> {
    let mut control = match &args.control {
        Some(endpoint) => Control::connect(endpoint, &args.ask)?,
        None => Control::of(Kind::Broker, &args.ask)?,
    };
    let mut view = args.view;
    let mut former = Sample::take(&mut control, view)?;
    let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if args.once || !has_terminal {
        thread::sleep(args.interval);
        let mut sample = Sample::take(&mut control, view)?.since(&former);
        sample.topics = topics_for(view, &mut control, &sample.status)?;
        return print(&Page::of(&sample, view, None).text());
    }
    let paint = Paint(env::var_os("NO_COLOR").is_none());
    let mut screen = Screen::open()?;
    let mut shown = former.clone();
    shown.topics = topics_for(view, &mut control, &shown.status)?;
    loop {
        let due = Instant::now() + args.interval;
        loop {
            screen.show(&Page::of(&shown, view, Some(screen.size())).painted(paint))?;
            match screen.wait(due)? {
                Key::Quit => return Ok(()),
                Key::Char(key) => view = View::of_key(key).unwrap_or(view),
                Key::Resized => {}
                Key::None => break,
            }
            if shown.topics.is_none() {
                shown.topics = topics_for(view, &mut control, &shown.status)?;
            }
        }
        let mut sample = Sample::take(&mut control, view)?;
        sample.topics = topics_for(view, &mut control, &sample.status)?;
        shown = sample.clone().since(&former);
        former = sample;
    }
}

/// What pages show.
#[derive(Clone, Debug)]
struct Sample {
    /// The dropped messages of each socket and reason.
    losses: Vec<Loss>,
    /// The name of a proxy, and the answer about its peers.
    peers: Vec<(String, Value)>,
    status: Value,
    /// The name of a proxy, and the answer about its topics. Only asked for when they are shown.
    topics: Option<Vec<(String, Value)>>,
}

/// Dropped messages.
#[derive(Clone, Debug, PartialEq)]
struct Loss {
    count: u64,
    /// Since the last page.
    per_second: Option<f64>,
    proxy: String,
    reason: String,
    side: String,
}

impl Sample {
    fn take(control: &mut Control, view: View) -> Result<Self, Failure> {
        control.choose(None);
        let status = status::ask(control)?;
        let peers = of_each_proxy(control, &status, |control| {
            let request = json!({ "command": "peers", "sort": view.order() });
            control.peers_up_to(ROWS_MAX, request)
        })?;
        Ok(Self {
            losses: losses_in(&status),
            peers,
            status,
            topics: None,
        })
    }

    /// Adds the rates since an earlier sample.
    fn since(mut self, before: &Self) -> Self {
        let uptime = |sample: &Self| sample.status["uptime_seconds"].as_f64();
        let seconds = uptime(&self).unwrap_or_default() - uptime(before).unwrap_or_default();
        status::put_rates(&before.status, &mut self.status);
        for (name, after) in &mut self.peers {
            if let Some((_, former)) = before.peers.iter().find(|(other, _)| other == name) {
                put_rates(former, after);
            }
        }
        for loss in &mut self.losses {
            let is_same = |other: &&Loss| {
                let of = |loss: &Loss| (loss.proxy.clone(), loss.side.clone(), loss.reason.clone());
                of(other) == of(loss)
            };
            let former = before.losses.iter().find(is_same);
            let dropped = loss.count.saturating_sub(former.map_or(0, |it| it.count));
            // Counts of a page are far below the precision of a float.
            #[expect(clippy::cast_precision_loss, reason = "a rate is shown in few digits")]
            let dropped = dropped as f64;
            loss.per_second = (seconds > 0.0).then_some(dropped / seconds);
        }
        self
    }
}

/// The topics of each proxy that has any, if they are shown.
fn topics_for(
    view: View,
    control: &mut Control,
    status: &Value,
) -> Result<Option<Vec<(String, Value)>>, Failure> {
    if view != View::Topics {
        return Ok(None);
    }
    let has_topics = |proxy: &Value| {
        let sockets = items(proxy, "sockets").iter();
        sockets.clone().any(|it| it["topics"].as_u64() > Some(0))
    };
    let all = items(status, "proxies").iter();
    let some: Vec<Value> = all.filter(|proxy| has_topics(proxy)).cloned().collect();
    let is_only = items(status, "proxies").len() == 1;
    let status = json!({ "proxies": some, "is_only": is_only });
    let topics = of_each_proxy(control, &status, |control| {
        let request = json!({ "command": "subscriptions", "prefix": "" });
        control.ask_up_to(ROWS_MAX, ("subscriptions", "topic"), request)
    })?;
    Ok(Some(topics))
}

/// Asks a question about each proxy. A proxy that was removed meanwhile has no answer.
fn of_each_proxy(
    control: &mut Control,
    status: &Value,
    mut ask: impl FnMut(&mut Control) -> Result<Value, Failure>,
) -> Result<Vec<(String, Value)>, Failure> {
    let proxies = items(status, "proxies");
    let is_only = proxies.len() == 1 && status["is_only"] != false;
    let mut answers = Vec::new();
    for proxy in proxies {
        let name = proxy["proxy"].as_str().unwrap_or_default().to_owned();
        // The control of one proxy has no key for it.
        control.choose(Some(&*name).filter(|_| !is_only));
        match ask(control) {
            Ok(answer) => answers.push((name, answer)),
            Err(Failure::Running(sentence)) if sentence.starts_with("--proxy") => {}
            Err(failure) => return Err(failure),
        }
    }
    control.choose(None);
    Ok(answers)
}

fn losses_in(status: &Value) -> Vec<Loss> {
    let mut losses = Vec::new();
    for proxy in items(status, "proxies") {
        for socket in items(proxy, "sockets") {
            for (reason, count) in socket["dropped"].as_object().into_iter().flatten() {
                let named = |row: &Value, key| row[key].as_str().unwrap_or_default().to_owned();
                losses.push(Loss {
                    count: count.as_u64().unwrap_or_default(),
                    per_second: None,
                    proxy: named(proxy, "proxy"),
                    reason: reason.clone(),
                    side: named(socket, "side"),
                });
            }
        }
    }
    losses
}
