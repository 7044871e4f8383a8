//! Listening sockets that another process has opened and passed on: socket activation.
//!
//! Each belongs to one endpoint of the configuration: by its name, `PROXY.SIDE`, `control` or
//! `http`, or else by its address. The endpoint always covers the address, so that what is checked
//! about endpoints holds for passed sockets too.

use crate::config::endpoint::{Host, IpcName};
use crate::config::{BrokerControl, Config, Endpoint, HttpAddress, SocketConfig, SocketName};
use crate::driver::address;
use socket2::{SockAddr, Socket, Type};
use std::fmt;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use zmtp::show;

/// A listening socket that another process has opened.
#[derive(Debug)]
pub struct PassedSocket {
    name: String,
    socket: Socket,
}

impl PassedSocket {
    /// A socket of tcp or ipc that listens, and its name: `PROXY.SIDE` for a socket of a proxy,
    /// `control` for the control of the broker, `http` for HTTP; with another name its address
    /// decides.
    #[must_use]
    pub fn new(name: impl Into<String>, socket: OwnedFd) -> Self {
        Self {
            name: name.into(),
            socket: socket.into(),
        }
    }
}

/// Shows the name and the address.
impl fmt::Display for PassedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the passed socket \"{}\"", show(&self.name))?;
        match self.socket.local_addr() {
            Ok(address) => write!(f, " at {}", Shown(&address)),
            Err(_) => Ok(()),
        }
    }
}

/// A passed socket, and the endpoint that it is for.
#[derive(Debug)]
pub(super) struct Assigned {
    endpoint: Endpoint,
    proxy: String,
    side: SocketName,
    socket: Socket,
}

impl Assigned {
    /// Whether it is for this endpoint, which may have its real port or path by now.
    pub(super) fn is_for(&self, endpoint: &Endpoint, proxy: &str, side: SocketName) -> bool {
        let is_its = || {
            let address = self.socket.local_addr();
            address.is_ok_and(|address| covers(endpoint, false, &address, false))
        };
        let is_same = self.endpoint == *endpoint || is_its();
        is_same && self.proxy == proxy && self.side == side
    }

    /// The socket, which can be asked for again after its listener was closed.
    pub(super) fn socket(&self) -> io::Result<Socket> {
        self.socket.try_clone()
    }
}

/// A passed socket for HTTP.
#[derive(Debug)]
pub(super) struct ForHttp {
    is_named: bool,
    socket: Socket,
}

impl ForHttp {
    /// Its listener, if it is for this address.
    pub(super) fn listener(&self, address: HttpAddress) -> io::Result<Option<TcpListener>> {
        let local = self.socket.local_addr()?.as_socket();
        let is_port = |port| port == address.0.port() || address.0.port() == 0 && self.is_named;
        let is_host = |host| host == address.0.ip() || address.0.ip().is_unspecified();
        let fits = local.is_some_and(|local| is_port(local.port()) && is_host(local.ip()));
        fits.then(|| self.socket.try_clone().map(TcpListener::from))
            .transpose()
    }
}

/// The passed sockets of a broker.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) endpoints: Vec<Assigned>,
    pub(super) http: Option<ForHttp>,
}

/// Finds the endpoint of each passed socket; an error names the socket.
pub(super) fn assign(config: &Config, passed: &[PassedSocket]) -> Result<Passed, String> {
    let (mut assigned, mut http) = (Vec::<Assigned>::new(), None);
    for one in passed {
        if let Some(found) = find_http(config, one).map_err(|fault| format!("{one} {fault}"))? {
            if http.replace(found).is_some() {
                return Err(format!("{one} is the second one for HTTP: pass one"));
            }
            continue;
        }
        let found = find(config, one).map_err(|fault| format!("{one} {fault}"))?;
        let is_taken = |other: &Assigned| {
            (&other.endpoint, &other.proxy, other.side)
                == (&found.endpoint, &found.proxy, found.side)
        };
        if assigned.iter().any(is_taken) {
            let (endpoint, proxy, side) = (&found.endpoint, &found.proxy, found.side);
            return Err(format!(
                "{one} is the second one for {endpoint} of {proxy} {side}: pass one"
            ));
        }
        assigned.push(found);
    }
    Ok(Passed {
        endpoints: assigned,
        http,
    })
}

fn unusable(error: io::Error) -> String {
    format!("cannot be used: {error}")
}

/// The socket, if it is for HTTP: by its name, or by its address.
fn find_http(config: &Config, passed: &PassedSocket) -> Result<Option<ForHttp>, String> {
    let is_listener = passed.socket.is_listener().map_err(unusable)?;
    if !is_listener || passed.socket.r#type().map_err(unusable)? != Type::STREAM {
        return Err(
            "does not listen for connections: write ListenStream=, and Accept=no".to_owned(),
        );
    }
    let found = ForHttp {
        is_named: passed.name == "http",
        socket: passed.socket.try_clone().map_err(unusable)?,
    };
    let address = config.http.address;
    let listener = address.map(|address| found.listener(address));
    let fits = listener.transpose().map_err(unusable)?.flatten().is_some();
    if found.is_named && !fits {
        let address = found.socket.local_addr().map_err(unusable)?;
        let why = match address.as_socket() {
            Some(_) => "is not at the address of HTTP: let http have this address",
            None => "is not a socket of TCP, as HTTP needs: write ListenStream=ADDRESS:PORT",
        };
        return Err(why.to_owned());
    }
    Ok(fits.then_some(found))
}

/// The name of the passed socket for a socket of a proxy.
fn name_of(proxy: &str, side: SocketName) -> String {
    match (proxy, side) {
        (BrokerControl::PROXY, SocketName::Control) => "control".to_owned(),
        _ => format!("{proxy}.{side}"),
    }
}

fn find(config: &Config, passed: &PassedSocket) -> Result<Assigned, String> {
    let address = passed.socket.local_addr().map_err(unusable)?;
    let own = config.broker_control.proxy();
    let sockets = config.proxies.iter().chain(&own).flat_map(|proxy| {
        let of_side = move |side| (proxy, side, proxy.socket(side));
        proxy.sockets().map(of_side)
    });
    let is_named = |name: &str, side: SocketName| passed.name == name_of(name, side);
    let mut sockets: Vec<_> = sockets.collect();
    let has_name = sockets
        .iter()
        .any(|(proxy, side, _)| is_named(&proxy.name, *side));
    if has_name {
        sockets.retain(|(proxy, side, _)| is_named(&proxy.name, *side));
    }
    let fits = |socket: &SocketConfig, endpoint: &Endpoint| {
        covers(endpoint, socket.options.ipv6, &address, has_name)
    };
    let found = sockets.iter().flat_map(|(proxy, side, socket)| {
        let own = socket.bind.iter().filter(|endpoint| fits(socket, endpoint));
        own.map(|endpoint| (&proxy.name, *side, endpoint))
    });
    let found: Vec<_> = found.collect();
    match found[..] {
        [(proxy, _, Endpoint::Ipc(IpcName::Path(path)))]
            if proxy == BrokerControl::PROXY && is_public(path).map_err(unusable)? =>
        {
            Err("is a control that all users may connect to: write SocketMode=0600".to_owned())
        }
        [(proxy, side, endpoint)] => Ok(Assigned {
            endpoint: endpoint.clone(),
            proxy: proxy.clone(),
            side,
            socket: passed.socket.try_clone().map_err(unusable)?,
        }),
        [] if has_name => Err(format!(
            "is at no endpoint of {}: let its bind have this address",
            show(&passed.name)
        )),
        [] => Err(
            "is at no endpoint of a proxy, nor for http or broker_control: let one of them have \
             its address, or stop passing it"
                .to_owned(),
        ),
        _ => {
            let names = found.iter();
            let names =
                names.map(|(proxy, side, endpoint)| format!("{endpoint} of {proxy} {side}"));
            let names: Vec<String> = names.collect();
            Err(format!(
                "is at several endpoints: {}; name it PROXY.SIDE (FileDescriptorName=), and write \
                 its port",
                names.join(", ")
            ))
        }
    }
}

/// Whether users may connect to a socket that are neither its owner nor in its group.
fn is_public(path: &str) -> io::Result<bool> {
    Ok(fs::metadata(path)?.mode() & 0o007 != 0)
}

/// Whether peers of this endpoint may connect at an address, and no others. Any port is one only
/// for a socket with the name of the endpoint's.
fn covers(endpoint: &Endpoint, ipv6: bool, address: &SockAddr, is_named: bool) -> bool {
    match endpoint {
        Endpoint::Tcp { host, port, .. } => {
            let Some(local) = address.as_socket() else {
                return false;
            };
            let is_port = *port == local.port() || *port == 0 && is_named;
            let is_host = || match address::to_bind(host, *port, ipv6) {
                _ if *host == Host::Any => true,
                Ok(bound) => bound.ip() == local.ip(),
                Err(_) => false,
            };
            is_port && is_host()
        }
        Endpoint::Ipc(IpcName::Any) => is_named && address.is_unix(),
        Endpoint::Ipc(name) => ipc_name(address).is_some_and(|own| own == *name),
        Endpoint::Inproc(_) => false,
    }
}

/// The name of a socket of ipc.
pub(super) fn ipc_name(address: &SockAddr) -> Option<IpcName> {
    if let Some(path) = address.as_pathname() {
        return Some(IpcName::Path(path.to_str()?.to_owned()));
    }
    let name = address.as_abstract_namespace()?;
    Some(IpcName::Abstract(str::from_utf8(name).ok()?.to_owned()))
}

struct Shown<'a>(&'a SockAddr);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_socket(), ipc_name(self.0)) {
            (Some(address), _) => write!(f, "tcp://{address}"),
            (None, Some(name)) => write!(f, "ipc://{}", show(&name.to_string())),
            (None, None) => f.write_str("an unknown address"),
        }
    }
}
