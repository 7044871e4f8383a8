//! Differences between two configurations, and the time at which each takes effect.

use super::{Config, Connect, Endpoint, ProxyConfig, RoleConfig, SocketName, SocketOption, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

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
    /// Listen on one more endpoint.
    Bind(SocketPath, Endpoint),
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
    /// A setting of a proxy that is neither an endpoint nor a socket option, by its key.
    Other(String),
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
            Self::Other(_) => Applies::Restart,
            _ => Applies::Live,
        }
    }

    /// The key in a configuration file, with the name of the proxy in place of its number.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Bind(at, _) | Self::Unbind(at, _) => format!("{at}.bind"),
            Self::Connect(at, _) | Self::Disconnect(at, _) => format!("{at}.connect"),
            Self::DrainTimeout { .. } => "drain_timeout".to_owned(),
            Self::MemoryLimit { .. } => "memory_limit".to_owned(),
            Self::Option { at, option, .. } => format!("{at}.{}", option.name),
            Self::Other(key) => key.clone(),
            Self::ProxyAdded(config) => config.name.clone(),
            Self::ProxyRemoved(name) => name.clone(),
            Self::Role { name, .. } => format!("role.{name}"),
            Self::User { name, .. } => format!("users.{}", zmtp::show(name)),
        }
    }
}

/// Displayed as the key, its change, and the time.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key())?;
        match self {
            Self::Bind(_, endpoint) => write!(f, "{endpoint} added"),
            Self::Connect(_, connect) => write!(f, "{} added", connect.endpoint),
            Self::Disconnect(_, connect) => write!(f, "{} removed", connect.endpoint),
            Self::DrainTimeout { from, to } => {
                let [from, to] = [from, to].map(Duration::as_millis);
                write!(f, "{to} ms (was {from} ms)")
            }
            Self::MemoryLimit { from, to } => write!(f, "{to} bytes (was {from} bytes)"),
            Self::Option { from, to, .. } => write!(f, "{to} (was {from})"),
            Self::Other(_) => f.write_str("changed"),
            Self::ProxyAdded(_) => f.write_str("proxy added"),
            Self::ProxyRemoved(_) => f.write_str("proxy removed"),
            Self::Role { from: None, .. } => f.write_str("role added"),
            Self::Role { to: None, .. } => f.write_str("role removed"),
            Self::Role { .. } => f.write_str("role changed"),
            Self::Unbind(_, endpoint) => write!(f, "{endpoint} removed"),
            Self::User { from, to, .. } => {
                let [from, to] = [from, to].map(|role| role.as_deref().unwrap_or("no role"));
                write!(f, "{to} (was {from})")
            }
        }?;
        write!(f, ", {}", self.applies())
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
    if old.drain_timeout != new.drain_timeout {
        list.push(Change::DrainTimeout {
            from: old.drain_timeout,
            to: new.drain_timeout,
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
    let role_of = |config: &Config, name: &str| {
        let mut roles = config.roles.iter();
        let role = roles.find(|role| role.name == name);
        role.map(|role| Box::new(role.clone()))
    };
    let names = old.roles.iter().chain(&new.roles).map(|role| &role.name);
    let names: BTreeSet<&String> = names.collect();
    for name in names {
        let (from, to) = (role_of(old, name), role_of(new, name));
        if from != to {
            let name = name.clone();
            list.push(Change::Role { name, from, to });
        }
    }
    let names: BTreeSet<&String> = old.users.keys().chain(new.users.keys()).collect();
    for name in names {
        let [from, to] = [old, new].map(|config| config.users.get(name).cloned());
        if from != to {
            let name = name.clone();
            list.push(Change::User { name, from, to });
        }
    }
}

fn by_name(config: &Config) -> BTreeMap<&str, &ProxyConfig> {
    let proxies = config.proxies.iter();
    proxies.map(|proxy| (&proxy.name[..], proxy)).collect()
}

/// Whether one proxy can become the other.
fn is_same(old: &ProxyConfig, new: &ProxyConfig) -> bool {
    let has_type = |name: &SocketName| {
        let is_there = |proxy: &ProxyConfig| proxy.socket(*name).has_endpoint();
        let is_auxiliary = name.side().is_none();
        is_auxiliary && !(is_there(old) && is_there(new))
            || old.socket_type(*name) == new.socket_type(*name)
    };
    SocketName::ALL.iter().all(has_type)
}

/// The differences between two configurations of one proxy.
fn compare(old: &ProxyConfig, new: &ProxyConfig, list: &mut Vec<Change>) {
    let mut gone = Vec::new();
    for socket in SocketName::ALL {
        let at = SocketPath {
            proxy: new.name.clone(),
            socket,
        };
        let (before, after) = (old.socket(socket), new.socket(socket));
        if socket.side().is_none() {
            match (before.has_endpoint(), after.has_endpoint()) {
                (false, false) => continue,
                (true, true) => {}
                _ => {
                    list.push(Change::Other(at.to_string()));
                    continue;
                }
            }
        }
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
        if before.admission != after.admission {
            list.push(Change::Other(format!("{at}.admission")));
        }
        if before.mechanism != after.mechanism {
            list.push(Change::Other(format!("{at}.mechanism")));
        }
        let connects = missing(&before.connect, &after.connect).into_iter();
        gone.extend(connects.map(|connect| Change::Disconnect(at.clone(), connect)));
        let binds = missing(&before.bind, &after.bind).into_iter();
        gone.extend(binds.map(|endpoint| Change::Unbind(at.clone(), endpoint)));
        let binds = missing(&after.bind, &before.bind).into_iter();
        gone.extend(binds.map(|endpoint| Change::Bind(at.clone(), endpoint)));
        let connects = missing(&after.connect, &before.connect).into_iter();
        gone.extend(connects.map(|connect| Change::Connect(at.clone(), connect)));
    }
    list.append(&mut gone);
    let (before, after) = (&old.capture, &new.capture);
    let others = [
        ("capture.format", before.format != after.format),
        ("capture.in_prefix", before.in_prefix != after.in_prefix),
        ("capture.out_prefix", before.out_prefix != after.out_prefix),
    ];
    let has_capture = before.socket.has_endpoint() && after.socket.has_endpoint();
    let others = others.into_iter().filter(|_| has_capture);
    let record = ("record", old.record != new.record);
    for (key, _) in others.chain([record]).filter(|(_, differs)| *differs) {
        list.push(Change::Other(format!("{}.{key}", new.name)));
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
        Change::MemoryLimit { to, .. } => config.memory_limit = *to,
        Change::Option { at, option, to, .. } => {
            let socket = proxy_mut(config, &at.proxy)?.socket_mut(at.socket);
            let set = option.set(&mut socket.options, to.clone());
            debug_assert!(set.is_ok(), "{}: {to} is legal", option.name);
        }
        Change::Other(_) => {}
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

fn proxy_mut<'a>(config: &'a mut Config, name: &str) -> Result<&'a mut ProxyConfig, Misfit> {
    let mut proxies = config.proxies.iter_mut();
    let found = proxies.find(|proxy| proxy.name == name);
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
