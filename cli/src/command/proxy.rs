//! `zmqd queue`, `zmqd forwarder`, …: one proxy, configured on the command line.

mod args;

use broker::config::{
    Config, Fault, Place, Problem, ProxyConfig, SocketConfig, SocketName, SocketOptions,
};

pub(super) use self::args::ProxyCommand;

use self::args::Setting;
use super::http_args;
use super::serve::{self, Source};
use crate::output::Failure;
use crate::value::Attached;

/// Runs until stopped by a signal.
pub(super) fn run(command: ProxyCommand) -> Result<(), Failure> {
    let mut config = config(command);
    let problems = config.load_keys().err();
    let problems = problems.unwrap_or_else(|| config.problems());
    if !problems.is_empty() {
        return Err(Failure::Usage(explain_all(&problems)));
    }
    serve::serve(config, Source::Fixed("command line"), None, |_| {
        String::new()
    })
}

fn config(ProxyCommand { mut args, kind }: ProxyCommand) -> Config {
    let settings = args.take_settings();
    let mut proxy = ProxyConfig {
        frontend: side(args.frontend, args.frontend_connect),
        backend: side(args.backend, args.backend_connect),
        ..ProxyConfig::new(kind, args.name.unwrap_or_else(|| kind.name.to_owned()))
    };
    proxy.capture.format = args.capture_format;
    proxy.capture.socket_type = args.capture_socket;
    proxy.capture.in_prefix = args.in_prefix;
    proxy.capture.out_prefix = args.out_prefix;
    proxy.capture.socket = side(args.capture, Vec::new());
    proxy.record = args.record.config();
    proxy.control.socket_type = args.control_socket;
    proxy.control.socket = side(args.control, Vec::new());
    proxy.zap = side(args.zap, Vec::new());
    let (for_all, for_one): (Vec<Setting>, Vec<Setting>) = settings
        .into_iter()
        .partition(|setting| setting.side.is_none());
    let mut shared = SocketOptions::default();
    for setting in for_all {
        apply(&setting, &mut shared);
    }
    for side in SocketName::ALL {
        proxy.socket_mut(side).options = shared.shared_with(side, proxy.socket_type(side));
    }
    for setting in for_one {
        if let Some(side) = setting.side {
            apply(&setting, &mut proxy.socket_mut(side).options);
        }
    }
    Config {
        broker_control: args.broker_control.unwrap_or_default(),
        drain_timeout: args.drain_timeout,
        http: args.http.config(),
        memory_limit: args.memory_limit,
        proxies: vec![proxy],
        ..Config::default()
    }
}

fn apply(setting: &Setting, options: &mut SocketOptions) {
    // The value was checked when the command line was parsed.
    setting
        .option
        .set(options, setting.value.clone())
        .expect("a value in range");
}

fn side(one: Vec<Attached>, other: Vec<Attached>) -> SocketConfig {
    let mut config = SocketConfig::default();
    for (attach, endpoint) in one.into_iter().chain(other) {
        config.attach(attach, endpoint);
    }
    config
}

/// Explains each problem once: an option for all sockets has the same problem on several.
fn explain_all(problems: &[Problem]) -> Vec<String> {
    let is_shared = |problem: &Problem| {
        let same = problems.iter().filter(|other| other.fault == problem.fault);
        same.count() > 1
    };
    let firsts = problems.iter().enumerate().filter(|(index, problem)| {
        let before = &problems[..*index];
        before.iter().all(|other| other.fault != problem.fault)
    });
    let sentences = firsts.map(|(_, problem)| match problem.place {
        Place::Socket(..) if is_shared(problem) => {
            format!("--set: {}", problem.fault)
        }
        _ => explain(problem),
    });
    sentences.collect()
}

/// Names the command-line option that a problem concerns.
fn explain(problem: &Problem) -> String {
    match (&problem.fault, problem.place) {
        (Fault::NoEndpoint(side), _) => {
            format!(
                "the {side} has no endpoint: give --{side} ENDPOINT or --{side}-connect ENDPOINT"
            )
        }
        (Fault::Exposed(endpoint), Place::Bind(_, side, _)) => {
            format!(
                "--{side}: other machines can reach {endpoint}, and any peer may come in: give \
                 --curve-secret and --curve-clients, or --set tcp_accept_filter=NETWORK, or \
                 --insecure"
            )
        }
        (fault, Place::Bind(_, side, _)) => format!("--{side}: {fault}"),
        (fault, Place::Connect(_, SocketName::Zap, _) | Place::Socket(_, SocketName::Zap)) => {
            format!("--zap: {fault}")
        }
        (fault, Place::Connect(_, side, _)) => format!("--{side}-connect: {fault}"),
        (fault, Place::CapturePrefix(_)) => format!("--in-prefix, --out-prefix: {fault}"),
        (fault, Place::Socket(_, side)) => format!("--set {side}: {fault}"),
        (fault, Place::SocketType(_, side)) => format!("--{side}-socket: {fault}"),
        (fault, Place::Name(_)) => format!("--name: {fault}"),
        // Options have neither roles nor users.
        (fault, _) => http_args::explain(problem).unwrap_or_else(|| fault.to_string()),
    }
}
