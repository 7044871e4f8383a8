//! The rules for a [`Config`] that its types do not express, whatever its origin.

use std::collections::HashSet;

use super::endpoint::Overlaps;
use super::limits::ADDRESSED_BYTES_MAX;
use super::{
    Admission, BrokerControl, CaptureConfig, Config, Connect, ControlConfig, Endpoint, HttpAddress,
    KeyError, OptionError, ProxyConfig, SocketConfig, SocketName, http, retained,
};
use zmtp::{MechanismConfig, SocketType, show};

/// A problem in a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Problem {
    /// The problem, in a sentence with the remedy.
    pub fault: Fault,
    /// Its place.
    pub place: Place,
}

/// A place in a [`Config`]; proxies and endpoints are counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The last values that a proxy keeps: the proxy.
    Cache(usize),
    /// The prefixes of a capture: the proxy.
    CapturePrefix(usize),
    /// An endpoint of `bind`: the proxy, its socket, the endpoint.
    Bind(usize, SocketName, usize),
    /// An endpoint of `connect`: the proxy, its socket, the endpoint.
    Connect(usize, SocketName, usize),
    /// The address for HTTP.
    Http,
    /// A name in `http_hosts`, by its index.
    HttpHost(usize),
    /// The file with the token for HTTP.
    HttpToken,
    /// The name of a proxy.
    Name(usize),
    /// A role.
    Role(usize),
    /// A socket of a proxy, options included.
    Socket(usize, SocketName),
    /// The type of an auxiliary socket.
    SocketType(usize, SocketName),
    /// A user, in the order of [`Config::users`].
    User(usize),
    /// The whole configuration.
    Whole,
}

/// The kinds of problem in a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Two endpoints that cannot be bound at the same time.
    #[error("{endpoint} is bound by {other} already: use another {what}")]
    BoundTwice {
        /// The second of them.
        endpoint: String,
        /// The first of them, and the socket that binds it.
        other: String,
        /// The part of the endpoint to change.
        what: &'static str,
    },
    /// An endpoint that other machines can reach, and that every peer may use.
    #[error(
        "other machines can reach {0}, and any peer may come in: set curve_secret and \
         curve_clients, or tcp_accept_filter, or insecure = true"
    )]
    Exposed(String),
    /// An endpoint over which PLAIN would send passwords in the clear.
    #[error(
        "passwords of PLAIN would pass the network of {0} in the clear: use CURVE, or ipc or \
         loopback, or set insecure = true"
    )]
    Cleartext(String),
    /// An address for HTTP that other machines can reach, without a token.
    #[error(
        "other machines can reach {0}, and any of them may read there: set http_token_file, or use \
         127.0.0.1"
    )]
    HttpExposed(HttpAddress),
    /// A name that `Host` cannot have.
    #[error("\"{}\" is not a host name: write one such as zmqd.example.org", show(.0))]
    HttpHost(String),
    /// A name that would make logs and output ambiguous.
    #[error("\"{}\" is not a name: use up to 64 letters, digits, dots, hyphens and underscores",
         show(.0))]
    NameMalformed(String),
    /// The name of another proxy.
    #[error("another one has the name \"{0}\": rename one of them")]
    NameTwice(String),
    /// A side that neither binds nor connects.
    #[error("the {0} has no endpoint: give it one to bind, or one to connect to")]
    NoEndpoint(SocketName),
    /// An inproc name that no socket of the configuration binds.
    #[error("no side binds {0}: bind it, or connect to a name that is bound")]
    NoInproc(String),
    /// Endpoints of a backend that does not exist.
    #[error("an echo has no backend: remove its endpoints, or give it a socket")]
    EchoBackend,
    /// A role that no table of the configuration describes.
    #[error(
        "{} has the role \"{}\", which is not configured: add [role.{}]",
        show(user),
        show(role),
        show(role)
    )]
    NoRole {
        /// The role.
        role: String,
        /// The user.
        user: String,
    },
    /// A proxy in a role that is not configured.
    #[error("no proxy is called \"{}\": name one that is configured", show(.0))]
    NoSuchProxy(String),
    /// A control of the broker that other users could connect to.
    #[error("broker_control: {}", BrokerControl::not_private())]
    BrokerControlOpen,
    /// Messages to keep, in a proxy that does not publish.
    #[error(
        "{0} keeps messages of publishers for subscribers: use it in a forwarder, or a proxy of \
         XSUB or SUB and XPUB or PUB"
    )]
    KeepsNothing(&'static str),
    /// A cache where subscriptions say which messages not to send.
    #[error("with invert_matching no topic has subscribers to send its value to: leave out cache")]
    CacheInverted,
    /// Limits that keep no message.
    #[error("{0} is 0, so that no message is kept: leave it out, or write a larger number")]
    KeepsZero(&'static str),
    /// No topic to keep values of.
    #[error("topics is empty, so that no value is kept: leave it out for all topics")]
    CacheWithoutTopics,
    /// A file for last values that another proxy writes too.
    #[error("{} writes {} already: name another file", show(.other), show(.path))]
    CacheFileTwice {
        /// The other proxy.
        other: String,
        /// The file.
        path: String,
    },
    /// A topic that no message with a value has.
    #[error("a topic of the cache has more than 1024 bytes: shorten it")]
    CacheTopic,
    /// More to keep than memory.
    #[error(
        "caches and replays may take {kept} bytes, more than half of memory_limit, {limit} bytes: \
         lower their bytes, or raise memory_limit"
    )]
    KeepsTooMuch {
        /// Bytes that all proxies together may keep.
        kept: u64,
        /// The memory limit, in bytes.
        limit: u64,
    },
    /// More memory than a process with 32-bit addresses has.
    #[error(
        "memory_limit and the buffers of recordings may take {bytes} bytes, more than the {max} \
         bytes for which a 32-bit zmqd has addresses: lower them"
    )]
    LacksAddresses {
        /// Bytes that they may take together.
        bytes: u64,
        /// Bytes that they may have.
        max: u64,
    },
    /// A table for replays without an endpoint.
    #[error("replay has no endpoint: write replay.bind")]
    ReplayUnbound,
    /// A configuration without proxies.
    #[error("the configuration has no proxy: add a [[proxy]] table")]
    NoProxy,
    /// Topics for a socket that does not subscribe.
    #[error("a {0} does not subscribe: set topics only where a SUB or XSUB connects")]
    NoSubscriber(SocketType),
    /// A prefix that does not show the direction, or is too long.
    #[error("prefixes must differ and have at most {PREFIX_SIZE_MAX} bytes each")]
    Prefix,
    /// A socket type that an auxiliary socket cannot have.
    #[error("a {side} cannot be {socket}: write one of {}", names(choice))]
    Socket {
        /// The possible types.
        choice: &'static [SocketType],
        /// Which socket.
        side: SocketName,
        /// The type in the configuration.
        socket: SocketType,
    },
    /// Keys that cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Options name keys, and nothing has read them.
    #[error("the files that options name are not loaded: call Config::load_keys first")]
    KeysNotLoaded,
    /// Options that contradict each other.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// Both the embedding program and ZAP handlers would decide about peers.
    #[error("the program and ZAP handlers decide about the peers of the {0}: leave out zap_domain")]
    ZapAndProgram(SocketName),
    /// An endpoint for ZAP handlers to connect to.
    #[error("a ZAP handler binds its endpoint: write zap.connect")]
    ZapBinds,
    /// Credentials and decisions would pass the network in the clear.
    #[error(
        "credentials of peers would pass the network of {0} in the clear, and other machines could \
         decide: use ipc or loopback, or set zap.curve_secret and zap.curve_server"
    )]
    ZapExposed(String),
    /// A domain without a handler.
    #[error(
        "the {0} has a zap_domain, but no handler is asked: write zap.connect, or leave out \
         zap_domain"
    )]
    ZapMissing(SocketName),
    /// A handler without a domain.
    #[error(
        "no socket has a zap_domain, so that the ZAP handler decides about no peer: set \
         zap_domain, or leave out zap"
    )]
    ZapUnused,
}

impl Config {
    /// Problems that [`Config::problems`] lists at most.
    pub const PROBLEMS_MAX: usize = 100;

    /// Checks that the broker can run this configuration: names are unique, every side has an
    /// endpoint, no two endpoints overlap, options agree with each other.
    ///
    /// # Errors
    /// The first problem, and its place.
    pub fn check(&self) -> Result<(), Problem> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All problems that keep the broker from running this configuration, up to
    /// [`Config::PROBLEMS_MAX`]; empty if it can run.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.proxies.is_empty() {
            problems.push(Problem {
                fault: Fault::NoProxy,
                place: Place::Whole,
            });
        }
        if !self.broker_control.is_private() {
            problems.push(Problem {
                fault: Fault::BrokerControlOpen,
                place: Place::Whole,
            });
        }
        let mut names = HashSet::new();
        for (index, proxy) in self.proxies.iter().enumerate() {
            if problems.len() >= Self::PROBLEMS_MAX {
                break;
            }
            let mut note = |place, fault| problems.push(Problem { fault, place });
            if let Err(fault) = check_name(&proxy.name, &mut names) {
                note(Place::Name(index), fault);
            }
            for name in SocketName::ALL {
                for fault in check_socket(proxy, name) {
                    note(Place::Socket(index, name), fault);
                }
                if let Err(fault) = check_socket_type(proxy, name) {
                    note(Place::SocketType(index, name), fault);
                }
            }
            if let Err(fault) = check_prefixes(&proxy.capture) {
                note(Place::CapturePrefix(index), fault);
            }
            for fault in retained::check_cache(proxy) {
                note(Place::Cache(index), fault);
            }
            for fault in retained::check_replay(proxy) {
                note(Place::Socket(index, SocketName::Replay), fault);
            }
            for (name, fault) in check_zap(proxy) {
                note(Place::Socket(index, name), fault);
            }
        }
        problems.extend(self.http_problems());
        problems.extend(self.kept_problem());
        if let Some(max) = ADDRESSED_BYTES_MAX {
            problems.extend(self.addresses_problem(max));
        }
        problems.extend(self.cache_files());
        problems.extend(self.role_problems());
        let left = |problems: &Vec<_>| Self::PROBLEMS_MAX.saturating_sub(problems.len());
        problems.extend(self.overlaps().take(left(&problems)));
        problems.extend(self.lost_connects().take(left(&problems)));
        problems.extend(self.exposed().take(left(&problems)));
        problems.truncate(Self::PROBLEMS_MAX);
        problems
    }

    /// Problems of the HTTP server.
    fn http_problems(&self) -> impl Iterator<Item = Problem> {
        let config = &self.http;
        let exposed = config.address.filter(|_| config.needs_token());
        let exposed = exposed.filter(|_| config.token_file.is_empty());
        let exposed = exposed.map(|address| (Place::Http, Fault::HttpExposed(address)));
        let is_unread = !config.token_file.is_empty() && config.token.is_none();
        let unread = is_unread.then_some((Place::HttpToken, Fault::KeysNotLoaded));
        let hosts = config.hosts.iter().enumerate();
        let hosts = hosts.filter(|(_, name)| !http::is_host_name(name));
        let hosts = hosts.map(|(nth, name)| (Place::HttpHost(nth), Fault::HttpHost(name.clone())));
        let problems = exposed.into_iter().chain(unread).chain(hosts);
        problems.map(|(place, fault)| Problem { fault, place })
    }

    /// Proxies in roles that are not configured. Texts must not have them; a running broker may,
    /// since proxies come and go.
    pub(super) fn unknown_proxies(&self) -> impl Iterator<Item = Problem> {
        let known: HashSet<&str> = self.proxies.iter().map(|proxy| &*proxy.name).collect();
        let roles = self.roles.iter().enumerate();
        let named = roles.flat_map(|(index, role)| {
            let proxies = role.proxies.iter().flatten();
            proxies.map(move |proxy| (index, proxy))
        });
        let unknown = named.filter(move |(_, proxy)| !known.contains(&***proxy));
        unknown.map(|(index, proxy)| Problem {
            fault: Fault::NoSuchProxy(proxy.clone()),
            place: Place::Role(index),
        })
    }

    /// Names of roles that are illegal, or that no role has.
    fn role_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut names = HashSet::new();
        for (index, role) in self.roles.iter().enumerate() {
            if let Err(fault) = check_name(&role.name, &mut names) {
                let place = Place::Role(index);
                problems.push(Problem { fault, place });
            }
        }
        let mut check = |place, user: &str, role: &str| {
            if !names.contains(role) {
                let (role, user) = (role.to_owned(), user.to_owned());
                let fault = Fault::NoRole { role, user };
                problems.push(Problem { fault, place });
            }
        };
        for (index, (user, role)) in self.users.iter().enumerate() {
            check(Place::User(index), user, role);
        }
        for (index, proxy) in self.proxies.iter().enumerate() {
            for name in SocketName::ALL {
                for (user, role) in proxy.socket(name).admission.roles() {
                    check(Place::Socket(index, name), user, role);
                }
            }
        }
        problems
    }

    /// Every connecting endpoint, and its place.
    fn connects(&self) -> impl Iterator<Item = (Place, SocketType, &Connect)> {
        let sockets = self.proxies.iter().enumerate().flat_map(|(index, proxy)| {
            SocketName::ALL.map(|name| (index, name, proxy.socket_type(name), proxy.socket(name)))
        });
        sockets.flat_map(|(index, name, socket_type, config)| {
            let connects = config.connect.iter().enumerate();
            connects
                .map(move |(nth, connect)| (Place::Connect(index, name, nth), socket_type, connect))
        })
    }

    /// Inproc connections to an endpoint that no socket binds, and topics for a socket that does
    /// not subscribe.
    fn lost_connects(&self) -> impl Iterator<Item = Problem> {
        let bound: HashSet<&Endpoint> = self.binds().map(|(.., endpoint)| endpoint).collect();
        self.connects()
            .filter_map(move |(place, socket_type, connect)| {
                let endpoint = &connect.endpoint;
                let is_subscriber = matches!(socket_type, SocketType::Sub | SocketType::Xsub);
                let fault = if matches!(endpoint, Endpoint::Inproc(_)) && !bound.contains(endpoint)
                {
                    Fault::NoInproc(endpoint.to_string())
                } else if !connect.subscribe.is_empty() && !is_subscriber {
                    Fault::NoSubscriber(socket_type)
                } else {
                    return None;
                };
                Some(Problem { fault, place })
            })
    }

    /// Every endpoint to listen on: the index of its proxy, its socket, its index there.
    fn binds(&self) -> impl Iterator<Item = (usize, SocketName, usize, &Endpoint)> {
        self.proxies.iter().enumerate().flat_map(|(index, proxy)| {
            SocketName::ALL.into_iter().flat_map(move |name| {
                let binds = proxy.socket(name).bind.iter().enumerate();
                binds.map(move |(nth, endpoint)| (index, name, nth, endpoint))
            })
        })
    }

    /// Endpoints of other machines that the socket must not use as it is configured.
    fn exposed(&self) -> impl Iterator<Item = Problem> {
        let fault = |name: SocketName, index: usize, endpoint: &Endpoint, listens: bool| {
            let socket = self.proxies[index].socket(name);
            if name != SocketName::Zap {
                return socket.exposure(endpoint, listens);
            }
            let is_safe = socket.has_curve() || socket.options.insecure;
            let is_exposed = !is_safe && endpoint.is_beyond_loopback();
            is_exposed.then(|| Fault::ZapExposed(endpoint.to_string()))
        };
        let binds = self
            .binds()
            .filter_map(move |(index, name, nth, endpoint)| {
                let fault = fault(name, index, endpoint, true)?;
                let place = Place::Bind(index, name, nth);
                Some(Problem { fault, place })
            });
        let connects = self.connects().filter_map(move |(place, _, connect)| {
            let Place::Connect(index, name, _) = place else {
                return None;
            };
            let fault = fault(name, index, &connect.endpoint, false)?;
            Some(Problem { fault, place })
        });
        binds.chain(connects)
    }

    /// Endpoints that cannot be bound because of an earlier endpoint.
    fn overlaps(&self) -> impl Iterator<Item = Problem> {
        let mut overlaps = Overlaps::default();
        self.binds()
            .filter_map(move |(index, name, nth, endpoint)| {
                let before = overlaps.add(endpoint)?;
                let (owner, name_before, _, before) = self.binds().nth(before)?;
                let whose = format!("the {name_before} of {}", show(&self.proxies[owner].name));
                let other = if before == endpoint {
                    whose
                } else {
                    format!("{whose} ({before})")
                };
                let what = match endpoint {
                    Endpoint::Tcp { .. } => "port",
                    Endpoint::Inproc(_) | Endpoint::Ipc(_) => "name",
                };
                let endpoint = endpoint.to_string();
                let fault = Fault::BoundTwice {
                    endpoint,
                    other,
                    what,
                };
                Some(Problem {
                    fault,
                    place: Place::Bind(index, name, nth),
                })
            })
    }
}

impl SocketConfig {
    /// Why the socket must not listen at an endpoint (`listens`), or connect to it, as it is
    /// configured: other machines can reach it, and any peer may come in, or passwords would pass
    /// the network in the clear.
    #[must_use]
    pub fn exposure(&self, endpoint: &Endpoint, listens: bool) -> Option<Fault> {
        if self.options.insecure || !endpoint.is_beyond_loopback() {
            return None;
        }
        if self.has_plain() {
            return Some(Fault::Cleartext(endpoint.to_string()));
        }
        let is_open = listens && self.is_open_to_all();
        is_open.then(|| Fault::Exposed(endpoint.to_string()))
    }

    /// Whether any peer of the network may connect, unless `insecure` is set.
    fn is_open_to_all(&self) -> bool {
        let options = &self.options;
        !self.has_curve() && options.tcp_accept_filter.is_empty() && !options.asks_zap()
    }

    /// Whether its traffic is encrypted. Keys that are not loaded are a problem of their own.
    fn has_curve(&self) -> bool {
        let has_mechanism = matches!(
            self.mechanism,
            MechanismConfig::CurveClient(_) | MechanismConfig::CurveServer(_)
        );
        has_mechanism || !self.options.curve_secret.is_empty()
    }

    /// Whether passwords pass its connections.
    fn has_plain(&self) -> bool {
        let (options, mechanism) = (&self.options, &self.mechanism);
        let has_mechanism = matches!(
            mechanism,
            MechanismConfig::PlainClient(_) | MechanismConfig::PlainServer
        );
        has_mechanism || !(options.plain_users.is_empty() && options.plain_username.is_empty())
    }
}

/// Checks the name of a proxy or role; `before` are the names of earlier ones.
fn check_name<'a>(name: &'a str, before: &mut HashSet<&'a str>) -> Result<(), Fault> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(legal) {
        return Err(Fault::NameMalformed(name.to_owned()));
    }
    if !before.insert(name) {
        return Err(Fault::NameTwice(name.to_owned()));
    }
    Ok(())
}

fn check_socket(proxy: &ProxyConfig, name: SocketName) -> Vec<Fault> {
    let config = proxy.socket(name);
    let is_side = name.side().is_some();
    let mut faults = match (
        proxy.kind.is_echo && name == SocketName::Backend,
        config.has_endpoint(),
    ) {
        (true, true) => vec![Fault::EchoBackend],
        (false, false) if is_side => vec![Fault::NoEndpoint(name)],
        _ => Vec::new(),
    };
    if is_side || config.has_endpoint() {
        let contradictions = config.options.contradictions();
        if contradictions.is_empty() && config.lacks_keys() {
            faults.push(Fault::KeysNotLoaded);
        }
        faults.extend(contradictions.into_iter().map(Fault::from));
    }
    if !is_side && config.has_endpoint() {
        let idle = config.options.idle_options(name, proxy.socket_type(name));
        faults.extend(idle.map(Fault::from));
    }
    faults
}

/// Whether handlers are asked about peers where there are handlers, and only there.
fn check_zap(proxy: &ProxyConfig) -> Vec<(SocketName, Fault)> {
    let has_handler = proxy.zap.has_endpoint();
    let mut faults = Vec::new();
    let mut is_asked = false;
    for name in proxy.sockets().filter(|name| *name != SocketName::Zap) {
        let socket = proxy.socket(name);
        if !socket.options.asks_zap() {
            continue;
        }
        is_asked = true;
        if !has_handler {
            faults.push((name, Fault::ZapMissing(name)));
        }
        if socket.admission == Admission::Program {
            faults.push((name, Fault::ZapAndProgram(name)));
        }
    }
    if !proxy.zap.bind.is_empty() {
        faults.push((SocketName::Zap, Fault::ZapBinds));
    }
    if has_handler && !is_asked {
        faults.push((SocketName::Zap, Fault::ZapUnused));
    }
    faults
}

fn check_socket_type(proxy: &ProxyConfig, side: SocketName) -> Result<(), Fault> {
    let socket = proxy.socket_type(side);
    let choice: &'static [SocketType] = match side {
        SocketName::Capture => &CaptureConfig::SOCKETS,
        SocketName::Control => &ControlConfig::SOCKETS,
        // The types of sides are checked where the kind is made, and the others never differ.
        SocketName::Frontend | SocketName::Backend | SocketName::Replay | SocketName::Zap => {
            return Ok(());
        }
    };
    if choice.contains(&socket) {
        return Ok(());
    }
    Err(Fault::Socket {
        choice,
        side,
        socket,
    })
}

fn check_prefixes(capture: &CaptureConfig) -> Result<(), Fault> {
    let is_short = |prefix: &String| prefix.len() <= PREFIX_SIZE_MAX;
    let (one, other) = (&capture.in_prefix, &capture.out_prefix);
    if one == other || !is_short(one) || !is_short(other) {
        return Err(Fault::Prefix);
    }
    Ok(())
}

fn names(sockets: &[SocketType]) -> String {
    let names: Vec<&str> = sockets.iter().map(|socket| socket.name()).collect();
    names.join(", ")
}

/// Each copy carries its prefix, so prefixes are short.
const PREFIX_SIZE_MAX: usize = 255;

/// Every log line contains a name: long enough to be unique, short enough to read.
const NAME_LEN_MAX: usize = 64;

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
