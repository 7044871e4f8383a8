//! From a request to its answer: who may ask, what is asked, and how it is rendered.

use crate::head::{Head, Method};
use crate::history::History;
use crate::metrics::{self, Snapshot};
use crate::response::Response;
use crate::{api, health, page};
use broker::Admin;
use broker::config::{HttpConfig, HttpToken};
use std::net::IpAddr;
use std::time::Instant;

/// A question for the broker, to be asked on its thread; it copies views and renders nothing.
pub(crate) type Ask = Box<dyn FnOnce(&mut Admin<'_>) -> Render + Send>;

/// Renders the answer of the broker on the thread of the server.
pub(crate) type Render = Box<dyn FnOnce(&mut History) -> Response + Send>;

/// The way to an answer.
pub(crate) enum Reply {
    /// The broker must be asked.
    Ask {
        ask: Ask,
        /// The question is whether the broker is alive, so it must be answered soon.
        is_health: bool,
    },
    /// It is known.
    Now(Response),
}

impl Reply {
    /// A question whose answer may take its time.
    pub(crate) fn ask(ask: impl FnOnce(&mut Admin<'_>) -> Render + Send + 'static) -> Self {
        Self::Ask {
            ask: Box::new(ask),
            is_health: false,
        }
    }

    pub(crate) fn error(status: u16, sentence: &str) -> Self {
        Self::Now(Response::error(status, sentence))
    }
}

/// Finds the answer to a request that came to the address `local`.
pub(crate) fn route(head: &Head, local: IpAddr, config: &HttpConfig) -> Reply {
    if !is_known_host(head, local, config) {
        let sentence = "this server does not have that name: use its address, or list the name in \
                        http_hosts";
        return Reply::Now(Response::refusal(421, sentence));
    }
    let path: Vec<&str> = head.path.iter().map(String::as_str).collect();
    let file = match path[..] {
        [] => page::file(""),
        [name] => page::file(name),
        _ => None,
    };
    if head.method == Method::Post {
        if !matches!(path[..], ["api", "v1", ..]) {
            return Reply::Now(Response::method_refused("GET, HEAD"));
        }
        return match may_command(head, config) {
            Ok(()) => api::command(head, &path[2..]),
            Err(refusal) => Reply::Now(refusal),
        };
    }
    match (file, &path[..]) {
        // The page has no secrets: it asks for the token.
        (Some(file), _) => return Reply::Now(file),
        (_, ["healthz"]) => return health::health(),
        (_, ["readyz"]) => return health::readiness(head),
        _ => {}
    }
    if config.needs_token() && !has_token(head, config.token.as_ref()) {
        return Reply::Now(token_missing());
    }
    if let ["api", "v1", "proxies", _, "sample"] = path[..]
        && let Err(refusal) = may_see_messages(head, config)
    {
        return Reply::Now(refusal);
    }
    match path[..] {
        ["metrics"] => Reply::ask(|admin| {
            let (broker, proxies) = (admin.broker(), admin.proxies());
            let watches = admin.watches();
            Box::new(move |_| metrics::render(Snapshot::new(broker, proxies, watches)))
        }),
        ["api", "v1", ref rest @ ..] => api::question(head, rest, config),
        _ => Reply::error(
            404,
            "nothing is here: see /, /metrics, /healthz, /readyz, /api/v1/status",
        ),
    }
}

/// A question for the next sample of the history.
pub(crate) fn sample(now: Instant) -> Ask {
    Box::new(move |admin| {
        let (broker, proxies) = (admin.broker(), admin.proxies());
        Box::new(move |history| {
            history.add(now, &broker, &proxies);
            Response::text(200, "")
        })
    })
}

/// Whether `Host` names this server. A page of another origin whose name leads to this address
/// could read it otherwise. Browsers always send a name; programs of HTTP/1.0 need not.
fn is_known_host(head: &Head, local: IpAddr, config: &HttpConfig) -> bool {
    let Some(host) = &head.host else {
        return true;
    };
    let is_own = |address: IpAddr| {
        let address = address.to_canonical();
        address.is_loopback() || address == local.to_canonical()
    };
    host == "localhost"
        || host.parse().is_ok_and(is_own)
        || config
            .hosts
            .iter()
            .any(|name| name.eq_ignore_ascii_case(host))
}

fn has_token(head: &Head, token: Option<&HttpToken>) -> bool {
    let shown = head.token.as_deref().unwrap_or_default();
    token.is_some_and(|token| token.matches(shown))
}

fn token_missing() -> Response {
    Response::error(
        401,
        "send the header Authorization: Bearer TOKEN, with the token of this server",
    )
}

/// Messages are shown to clients with the token only, also on loopback: other users of this machine
/// may connect there.
fn may_see_messages(head: &Head, config: &HttpConfig) -> Result<(), Response> {
    let sentence = match (&config.token, config.hides_samples) {
        (None, _) => "samples of messages need a token: set http_token_file",
        (_, true) => "samples of messages are off: http_samples is false",
        (token, _) if has_token(head, token.as_ref()) => return Ok(()),
        _ => return Err(token_missing()),
    };
    Err(Response::error(403, sentence))
}

/// Commands need the token and a header that a form or picture of another origin cannot send.
fn may_command(head: &Head, config: &HttpConfig) -> Result<(), Response> {
    if config.token.is_none() {
        let sentence = "commands need a token: set http_token_file";
        return Err(Response::error(403, sentence));
    }
    if !has_token(head, config.token.as_ref()) {
        return Err(token_missing());
    }
    if !head.is_marked {
        return Err(Response::error(403, "commands need the header X-Zmqd: 1"));
    }
    Ok(())
}
