//! Differences between two configurations, and the time at which each takes effect.

use super::{
    Admission, Auxiliary, BrokerControl, CacheConfig, CaptureFormat, Config, Connect, Endpoint,
    HttpConfig, ProxyConfig, ReplayConfig, RoleConfig, Side, SocketName, SocketOption, Value,
};
use crate::RecordConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use zmtp::MechanismConfig;

/// The time at which the new value of a setting takes effect in a running broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At once, also for open connections.
    Live,
    /// For new connections; open ones may keep the former value.
    NewConnections,
    /// After a restart of the broker; until then the former value holds.
    Restart,
}

impl Applies {
    /// The time in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::NewConnections => "for new connections",
            Self::Restart => "after a restart",
        }
    }
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A socket, by the name of its proxy and its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketPath {
    /// The name of the proxy.
    pub proxy: String,
    /// Which of its sockets.
    pub socket: SocketName,
}

/// Displayed as in the keys of a configuration.
impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.proxy, self.socket)
    }
}

/// One difference.
#[derive(Clone, Debug)]
pub enum Change {
    /// Other peers may come in. Connected peers that may not any more are closed.
    Admission {
        /// The socket.
        at: SocketPath,
        /// The former value.
        from: Admission,
        /// The new value.
        to: Admission,
    },
    /// The proxy with this name gets an auxiliary socket.
    AuxiliaryAdded(String, Box<Auxiliary>),
    /// An auxiliary socket goes, and its peers are closed; they still get what is queued for them.
    AuxiliaryRemoved(SocketPath),
    /// Listen on one more endpoint.
    Bind(SocketPath, Endpoint),
    /// The control of the broker comes, goes or moves.
    BrokerControl {
        /// The former place.
        from: BrokerControl,
        /// The new place.
        to: BrokerControl,
    },
    /// Last values are kept from now on, or not any more, or others. Values that stay are not
    /// dropped.
    Cache {
        /// The name of the proxy.
        proxy: String,
        /// The former cache.
        from: Option<Box<CacheConfig>>,
        /// The new cache.
        to: Option<Box<CacheConfig>>,
    },
    /// Another format of the copies that a capture sends.
    CaptureFormat {
        /// The name of the proxy.
        proxy: String,
        /// The former value.
        from: CaptureFormat,
        /// The new value.
        to: CaptureFormat,
    },
    /// Another prefix of the copies of messages that this side received.
    CapturePrefix {
        /// The name of the proxy.
        proxy: String,
        /// The side.
        side: Side,
        /// The former value.
        from: String,
        /// The new value.
        to: String,
    },
    /// Connect to one more endpoint.
    Connect(SocketPath, Connect),
    /// Disconnect from an endpoint; a connection to it is closed.
    Disconnect(SocketPath, Connect),
    /// Another [`Config::drain_timeout`].
    DrainTimeout {
        /// The former value.
        from: Duration,
        /// The new value.
        to: Duration,
    },
    /// Another [`Config::http`].
    Http {
        /// The former value.
        from: Box<HttpConfig>,
        /// The new value.
        to: Box<HttpConfig>,
    },
    /// Another mechanism or other keys, for new connections. Open connections are closed if their
    /// mechanism has another name.
    Mechanism {
        /// The socket.
        at: SocketPath,
        /// The former value.
        from: MechanismConfig,
        /// The new value.
        to: MechanismConfig,
    },
    /// Another [`Config::memory_limit`].
    MemoryLimit {
        /// The former value, in bytes.
        from: u64,
        /// The new value, in bytes.
        to: u64,
    },
    /// Another value of a socket option.
    Option {
        /// The socket.
        at: SocketPath,
        /// The former value.
        from: Value,
        /// The option.
        option: &'static SocketOption,
        /// The new value.
        to: Value,
    },
    /// One more proxy.
    ProxyAdded(Box<ProxyConfig>),
    /// A proxy ends: it sends queued messages within the drain timeout.
    ProxyRemoved(String),
    /// A role is added, removed or changed.
    Role {
        /// The name.
        name: String,
        /// The former role, if there was one.
        from: Option<Box<RoleConfig>>,
        /// The new role, if it stays.
        to: Option<Box<RoleConfig>>,
    },
    /// A recording begins, ends, or goes on with other limits or in another file.
    Record {
        /// The name of the proxy.
        proxy: String,
        /// The former recording.
        from: Option<Box<RecordConfig>>,
        /// The new recording.
        to: Option<Box<RecordConfig>>,
    },
    /// Other limits for the messages that can be asked for again, or other messages for
    /// subscribers.
    Replay {
        /// The name of the proxy.
        proxy: String,
        /// The former values; the socket in it has no meaning.
        from: Box<ReplayConfig>,
        /// The new values.
        to: Box<ReplayConfig>,
    },
    /// Stop listening on an endpoint; its peers stay connected.
    Unbind(SocketPath, Endpoint),
    /// A user has another role.
    User {
        /// The name of the user.
        name: String,
        /// The former role, if the user had one.
        from: Option<String>,
        /// The new role, if the user has one.
        to: Option<String>,
    },
}

impl Change {
    /// The time at which it takes effect.
    #[must_use]
    pub fn applies(&self) -> Applies {
        match self {
            Self::Option { option, .. } => option.applies,
            Self::Mechanism { .. } => Applies::NewConnections,
            _ => Applies::Live,
        }
    }

    /// The key in a configuration file, with the name of the proxy in place of its number.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Admission { at, .. } => format!("{at}.admission"),
            Self::AuxiliaryAdded(proxy, auxiliary) => format!("{proxy}.{}", auxiliary.name()),
            Self::AuxiliaryRemoved(at) => at.to_string(),
            Self::Bind(at, _) | Self::Unbind(at, _) => format!("{at}.bind"),
            Self::BrokerControl { .. } => "broker_control".to_owned(),
            Self::Cache { proxy, .. } => format!("{proxy}.cache"),
            Self::CaptureFormat { proxy, .. } => format!("{proxy}.capture.format"),
            Self::CapturePrefix { proxy, side, .. } => match side {
                Side::Backend => format!("{proxy}.capture.out_prefix"),
                Side::Frontend => format!("{proxy}.capture.in_prefix"),
            },
            Self::Connect(at, _) | Self::Disconnect(at, _) => format!("{at}.connect"),
            Self::DrainTimeout { .. } => "drain_timeout".to_owned(),
            Self::Http { .. } => "http".to_owned(),
            Self::Mechanism { at, .. } => format!("{at}.mechanism"),
            Self::MemoryLimit { .. } => "memory_limit".to_owned(),
            Self::Option { at, option, .. } => format!("{at}.{}", option.name),
            Self::ProxyAdded(config) => config.name.clone(),
            Self::ProxyRemoved(name) => name.clone(),
            Self::Role { name, .. } => format!("role.{name}"),
            Self::User { name, .. } => format!("users.{}", zmtp::show(name)),
            Self::Record { proxy, .. } => format!("{proxy}.record"),
            Self::Replay { proxy, .. } => format!("{proxy}.replay"),
        }
    }
}

/// Displayed as the key, its change, and the time.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key())?;
        match self {
            Self::Admission { from, to, .. } => f.write_str(&describe_admission(from, to)),
            Self::AuxiliaryAdded(..) => f.write_str("added"),
            Self::AuxiliaryRemoved(_) => f.write_str("removed"),
            Self::Bind(_, endpoint) => write!(f, "{endpoint} added"),
            Self::BrokerControl { from, to } => write!(f, "{to} (was {from})"),
            Self::Cache { from: None, .. } => f.write_str("added"),
            Self::Cache { to: None, .. } => f.write_str("removed"),
            Self::Cache { .. } => f.write_str("changed"),
            Self::CaptureFormat { from, to, .. } => {
                write!(f, "{} (was {})", to.name(), from.name())
            }
            Self::CapturePrefix { from, to, .. } => write!(f, "{to:?} (was {from:?})"),
            Self::Connect(_, connect) => write!(f, "{} added", connect.endpoint),
            Self::Disconnect(_, connect) => write!(f, "{} removed", connect.endpoint),
            Self::DrainTimeout { from, to } => {
                let [from, to] = [from, to].map(Duration::as_millis);
                write!(f, "{to} ms (was {from} ms)")
            }
            Self::Http { from, to } => f.write_str(&describe_http(from, to)),
            Self::Mechanism { from, to, .. } => f.write_str(&describe_mechanism(from, to)),
            Self::MemoryLimit { from, to } => write!(f, "{to} bytes (was {from} bytes)"),
            Self::Option { from, to, .. } => write!(f, "{to} (was {from})"),
            Self::ProxyAdded(_) => f.write_str("proxy added"),
            Self::ProxyRemoved(_) => f.write_str("proxy removed"),
            Self::Role { from: None, .. } => f.write_str("role added"),
            Self::Role { to: None, .. } => f.write_str("role removed"),
            Self::Role { .. } => f.write_str("role changed"),
            Self::Record { from, to, .. } => {
                f.write_str(&describe_record(from.as_deref(), to.as_deref()))
            }
            Self::Replay { .. } => f.write_str("changed"),
            Self::Unbind(_, endpoint) => write!(f, "{endpoint} removed"),
            Self::User { from, to, .. } => {
                let [from, to] = [from, to].map(|role| role.as_deref().unwrap_or("no role"));
                write!(f, "{to} (was {from})")
            }
        }?;
        write!(f, ", {}", self.applies())
    }
}

fn describe_admission(from: &Admission, to: &Admission) -> String {
    match (from, to) {
        (Admission::Keys(from), Admission::Keys(to)) => {
            let (added, removed) = (to.count_beyond(from), from.count_beyond(to));
            format!("{added} keys added, {removed} keys removed")
        }
        (from, to) => format!("{} (was {})", to.describe(), from.describe()),
    }
}

fn describe_http(from: &HttpConfig, to: &HttpConfig) -> String {
    let describe = |config: &HttpConfig| match config.address {
        Some(address) => address.to_string(),
        None => "off".to_owned(),
    };
    if from.address != to.address {
        return format!("{} (was {})", describe(to), describe(from));
    }
    let parts = [
        (from.hosts != to.hosts, "host names"),
        (from.hides_samples != to.hides_samples, "samples"),
        (from.token_file != to.token_file, "token file"),
        (from.token != to.token, "token"),
    ];
    let parts = parts.into_iter().filter(|(differs, _)| *differs);
    let parts: Vec<&str> = parts.map(|(_, part)| part).collect();
    format!("{} changed", parts.join(" and "))
}

fn describe_mechanism(from: &MechanismConfig, to: &MechanismConfig) -> String {
    let describe = |mechanism: &MechanismConfig| match mechanism.public_key() {
        Some(key) => format!("{} with the public key {key}", mechanism.name()),
        None => mechanism.name().to_owned(),
    };
    match (describe(from), describe(to)) {
        (before, after) if before == after => format!("{after}, with other keys of the server"),
        (before, after) => format!("{after} (was {before})"),
    }
}

fn describe_record(from: Option<&RecordConfig>, to: Option<&RecordConfig>) -> String {
    match (from, to) {
        (Some(from), Some(to)) if from.path == to.path => "other limits".to_owned(),
        (Some(from), Some(to)) => {
            format!("{} (was {})", to.path.display(), from.path.display())
        }
        (None, Some(to)) => format!("{} added", to.path.display()),
        (Some(from), None) => format!("{} removed", from.path.display()),
        (None, None) => String::new(),
    }
}

/// All differences between two configurations.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// In an order in which they can be made: removals before additions.
    pub list: Vec<Change>,
}

/// A change that does not fit the configuration that it was to be made to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The endpoint is not configured there.
    #[error("{at} does not have the endpoint {endpoint}: name one that it has")]
    NoSuchEndpoint {
        /// The socket.
        at: SocketPath,
        /// The endpoint.
        endpoint: String,
    },
    /// No proxy has this name.
    #[error("no proxy is called \"{}\": name one that is there", zmtp::show(.0))]
    NoSuchProxy(String),
}

impl Changes {
    /// The keys of those that need a restart.
    #[must_use]
    pub fn needing_restart(&self) -> Vec<String> {
        let later = |change: &&Change| change.applies() == Applies::Restart;
        self.list.iter().filter(later).map(Change::key).collect()
    }

    /// Makes those changes in `config` that a running broker can make. New proxies and endpoints
    /// are added at the end.
    ///
    /// # Errors
    /// The first change that does not fit; `config` is partly changed then.
    pub fn apply_to(&self, config: &mut Config) -> Result<(), Misfit> {
        let runs = |change: &&Change| change.applies() != Applies::Restart;
        self.list
            .iter()
            .filter(runs)
            .try_for_each(|change| apply(change, config))
    }
}

/// The changes that turn `old` into `new`. Proxies are the same if their names are; a proxy with
/// other socket types is removed and added.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut list = Vec::new();
    if old.broker_control.endpoint() != new.broker_control.endpoint() {
        list.push(Change::BrokerControl {
            from: old.broker_control.clone(),
            to: new.broker_control.clone(),
        });
    }
    if old.drain_timeout != new.drain_timeout {
        list.push(Change::DrainTimeout {
            from: old.drain_timeout,
            to: new.drain_timeout,
        });
    }
    if old.http != new.http {
        list.push(Change::Http {
            from: Box::new(old.http.clone()),
            to: Box::new(new.http.clone()),
        });
    }
    if old.memory_limit != new.memory_limit {
        list.push(Change::MemoryLimit {
            from: old.memory_limit,
            to: new.memory_limit,
        });
    }
    compare_roles(old, new, &mut list);
    let (before, after) = (by_name(old), by_name(new));
    let (mut removed, mut added, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for proxy in &old.proxies {
        match after.get(&proxy.name[..]) {
            Some(other) if is_same(proxy, other) => compare(proxy, other, &mut changed),
            _ => removed.push(Change::ProxyRemoved(proxy.name.clone())),
        }
    }
    for proxy in &new.proxies {
        let former = before.get(&proxy.name[..]);
        if !former.is_some_and(|former| is_same(former, proxy)) {
            added.push(Change::ProxyAdded(Box::new(proxy.clone())));
        }
    }
    list.extend(removed.into_iter().chain(changed).chain(added));
    Changes { list }
}

/// The differences between roles, and between the roles of users.
fn compare_roles(old: &Config, new: &Config, list: &mut Vec<Change>) {
    let role_of = |config: &Config, name: &str| config.role(name).cloned().map(Box::new);
    let names = old.roles.iter().chain(&new.roles).map(|role| &role.name);
    for name in sorted(names) {
        let (from, to) = (role_of(old, name), role_of(new, name));
        if from != to {
            let name = name.clone();
            list.push(Change::Role { name, from, to });
        }
    }
    for name in sorted(old.users.keys().chain(new.users.keys())) {
        let [from, to] = [old, new].map(|config| config.users.get(name).cloned());
        if from != to {
            let name = name.clone();
            list.push(Change::User { name, from, to });
        }
    }
}

/// Each name once, in their order.
fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<&'a String> {
    let mut sorted = BTreeSet::new();
    sorted.extend(names);
    sorted
}

fn by_name(config: &Config) -> BTreeMap<&str, &ProxyConfig> {
    let mut by_name = BTreeMap::new();
    for proxy in &config.proxies {
        by_name.insert(&proxy.name[..], proxy);
    }
    by_name
}

/// Whether one proxy can become the other.
fn is_same(old: &ProxyConfig, new: &ProxyConfig) -> bool {
    let mut sides = SocketName::SIDES.into_iter();
    let is_echo = old.kind.is_echo == new.kind.is_echo;
    is_echo && sides.all(|name| old.socket_type(name) == new.socket_type(name))
}

/// The differences between two configurations of one proxy.
fn compare(old: &ProxyConfig, new: &ProxyConfig, list: &mut Vec<Change>) {
    let (mut endpoints, mut added) = (Vec::new(), Vec::new());
    for socket in SocketName::ALL {
        let at = SocketPath {
            proxy: new.name.clone(),
            socket,
        };
        if socket.side().is_none() {
            let is_there = |proxy: &ProxyConfig| proxy.socket(socket).has_endpoint();
            let has_other_type = old.socket_type(socket) != new.socket_type(socket);
            let (before, after) = (is_there(old), is_there(new));
            if !(before && after) || has_other_type {
                if before {
                    list.push(Change::AuxiliaryRemoved(at));
                }
                if after && let Some(auxiliary) = Auxiliary::of(new, socket) {
                    let proxy = new.name.clone();
                    added.push(Change::AuxiliaryAdded(proxy, Box::new(auxiliary)));
                }
                continue;
            }
        }
        compare_sockets(at, (old, new), list, &mut endpoints);
        match socket {
            SocketName::Capture => compare_captures(old, new, list),
            SocketName::Replay => compare_replays(old, new, list),
            _ => {}
        }
    }
    list.append(&mut endpoints);
    if old.cache != new.cache {
        list.push(Change::Cache {
            proxy: new.name.clone(),
            from: old.cache.clone().map(Box::new),
            to: new.cache.clone().map(Box::new),
        });
    }
    if old.record != new.record {
        list.push(Change::Record {
            proxy: new.name.clone(),
            from: old.record.clone().map(Box::new),
            to: new.record.clone().map(Box::new),
        });
    }
    list.append(&mut added);
}

/// The differences between two configurations of one socket; those of its endpoints go to a list of
/// their own.
fn compare_sockets(
    at: SocketPath,
    (old, new): (&ProxyConfig, &ProxyConfig),
    list: &mut Vec<Change>,
    endpoints: &mut Vec<Change>,
) {
    let (before, after) = (old.socket(at.socket), new.socket(at.socket));
    for option in SocketOption::ALL {
        let (from, to) = (option.get(&before.options), option.get(&after.options));
        if from != to {
            let at = at.clone();
            list.push(Change::Option {
                at,
                from,
                option,
                to,
            });
        }
    }
    if before.mechanism != after.mechanism {
        list.push(Change::Mechanism {
            at: at.clone(),
            from: before.mechanism.clone(),
            to: after.mechanism.clone(),
        });
    }
    if before.admission != after.admission {
        list.push(Change::Admission {
            at: at.clone(),
            from: before.admission.clone(),
            to: after.admission.clone(),
        });
    }
    let connects = missing(&before.connect, &after.connect).into_iter();
    endpoints.extend(connects.map(|connect| Change::Disconnect(at.clone(), connect)));
    let binds = missing(&before.bind, &after.bind).into_iter();
    endpoints.extend(binds.map(|endpoint| Change::Unbind(at.clone(), endpoint)));
    let binds = missing(&after.bind, &before.bind).into_iter();
    endpoints.extend(binds.map(|endpoint| Change::Bind(at.clone(), endpoint)));
    let connects = missing(&after.connect, &before.connect).into_iter();
    endpoints.extend(connects.map(|connect| Change::Connect(at.clone(), connect)));
}

/// The differences between the copies that two captures send.
fn compare_captures(old: &ProxyConfig, new: &ProxyConfig, list: &mut Vec<Change>) {
    let (before, after) = (&old.capture, &new.capture);
    if before.format != after.format {
        list.push(Change::CaptureFormat {
            proxy: new.name.clone(),
            from: before.format,
            to: after.format,
        });
    }
    for side in Side::ALL {
        let (from, to) = (before.prefix(side), after.prefix(side));
        if from != to {
            list.push(Change::CapturePrefix {
                proxy: new.name.clone(),
                side,
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
    }
}

/// The differences between the messages that two proxies can send again.
fn compare_replays(old: &ProxyConfig, new: &ProxyConfig, list: &mut Vec<Change>) {
    let former = new.replay.with_socket(old.replay.socket.clone());
    if old.replay != former {
        list.push(Change::Replay {
            proxy: new.name.clone(),
            from: Box::new(old.replay.clone()),
            to: Box::new(new.replay.clone()),
        });
    }
}

/// The items that `these` has more often than `those`.
fn missing<T: Clone + PartialEq>(these: &[T], those: &[T]) -> Vec<T> {
    let mut left: Vec<&T> = those.iter().collect();
    let mut found = Vec::new();
    for item in these {
        match left.iter().position(|other| *other == item) {
            Some(index) => drop(left.swap_remove(index)),
            None => found.push(item.clone()),
        }
    }
    found
}

fn apply(change: &Change, config: &mut Config) -> Result<(), Misfit> {
    match change {
        Change::Admission { at, to, .. } => {
            proxy_mut(config, &at.proxy)?
                .socket_mut(at.socket)
                .admission
                .clone_from(to);
        }
        Change::AuxiliaryAdded(proxy, auxiliary) => {
            auxiliary.clone().put_into(proxy_mut(config, proxy)?);
        }
        Change::AuxiliaryRemoved(at) => {
            Auxiliary::remove_from(proxy_mut(config, &at.proxy)?, at.socket);
        }
        Change::Cache { proxy, .. }
        | Change::CaptureFormat { proxy, .. }
        | Change::CapturePrefix { proxy, .. }
        | Change::Record { proxy, .. }
        | Change::Replay { proxy, .. } => apply_to_proxy(change, proxy_mut(config, proxy)?),
        Change::BrokerControl { to, .. } => config.broker_control.clone_from(to),
        Change::Bind(at, endpoint) => {
            let bind = &mut proxy_mut(config, &at.proxy)?.socket_mut(at.socket).bind;
            bind.push(endpoint.clone());
        }
        Change::Connect(at, connect) => {
            let socket = proxy_mut(config, &at.proxy)?.socket_mut(at.socket);
            socket.connect.push(connect.clone());
        }
        Change::Disconnect(at, connect) => {
            let socket = proxy_mut(config, &at.proxy)?.socket_mut(at.socket);
            take(&mut socket.connect, connect).ok_or_else(|| no_such(at, &connect.endpoint))?;
        }
        Change::DrainTimeout { to, .. } => config.drain_timeout = *to,
        Change::Http { to, .. } => config.http.clone_from(to),
        Change::Mechanism { at, to, .. } => {
            proxy_mut(config, &at.proxy)?
                .socket_mut(at.socket)
                .mechanism
                .clone_from(to);
        }
        Change::MemoryLimit { to, .. } => config.memory_limit = *to,
        Change::Option { at, option, to, .. } => {
            let socket = proxy_mut(config, &at.proxy)?.socket_mut(at.socket);
            let set = option.set(&mut socket.options, to.clone());
            debug_assert!(set.is_ok(), "{}: {to} is legal", option.name);
        }
        Change::ProxyAdded(proxy) => config.proxies.push((**proxy).clone()),
        Change::ProxyRemoved(name) => {
            proxy_mut(config, name)?;
            config.proxies.retain(|proxy| proxy.name != *name);
        }
        Change::Role { name, to, .. } => {
            config.roles.retain(|role| role.name != *name);
            config.roles.extend(to.as_deref().cloned());
        }
        Change::User { name, to, .. } => match to {
            Some(role) => drop(config.users.insert(name.clone(), role.clone())),
            None => drop(config.users.remove(name)),
        },
        Change::Unbind(at, endpoint) => {
            let socket = proxy_mut(config, &at.proxy)?.socket_mut(at.socket);
            take(&mut socket.bind, endpoint).ok_or_else(|| no_such(at, endpoint))?;
        }
    }
    Ok(())
}

/// Makes a difference in what a proxy does with its messages beside passing them on.
fn apply_to_proxy(change: &Change, proxy: &mut ProxyConfig) {
    match change {
        Change::Cache { to, .. } => proxy.cache = to.as_deref().cloned(),
        Change::CaptureFormat { to, .. } => proxy.capture.format = *to,
        Change::CapturePrefix { side, to, .. } => {
            proxy.capture.prefix_mut(*side).clone_from(to);
        }
        Change::Record { to, .. } => proxy.record = to.as_deref().cloned(),
        Change::Replay { to, .. } => {
            let socket = std::mem::take(&mut proxy.replay.socket);
            proxy.replay = to.with_socket(socket);
        }
        _ => {}
    }
}

fn proxy_mut<'a>(config: &'a mut Config, name: &str) -> Result<&'a mut ProxyConfig, Misfit> {
    let found = config.proxy_mut(name);
    found.ok_or_else(|| Misfit::NoSuchProxy(name.to_owned()))
}

fn take<T: PartialEq>(from: &mut Vec<T>, item: &T) -> Option<T> {
    let index = from.iter().position(|other| other == item)?;
    Some(from.remove(index))
}

fn no_such(at: &SocketPath, endpoint: &Endpoint) -> Misfit {
    Misfit::NoSuchEndpoint {
        at: at.clone(),
        endpoint: endpoint.to_string(),
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
