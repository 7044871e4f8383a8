//! `/api/v1`: the views of the broker in JSON, with the keys that `zmqd ctl` shows.

mod status;

use crate::head::{Head, Method};
use crate::history::History;
use crate::response::Response;
use crate::route::{Render, Reply};
use broker::config::{HttpConfig, SocketName};
use broker::json;
use broker::view::{PAGE_LEN_MAX, Page, PageQuery, PeerFilter, PeerOrder};
use broker::{Admin, AdminError, ConnId, ProxyId};
use serde_json::{Value, json};

/// An answer, or the reason for its absence.
type Outcome<T> = Result<T, Refusal>;

/// Why a question or command was refused.
enum Refusal {
    /// A parameter is wrong.
    Parameter(String),
    /// The broker refused.
    Broker(AdminError),
    NoProxy,
}

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        Self::Broker(error)
    }
}

impl Refusal {
    fn response(&self) -> Response {
        match self {
            Self::Parameter(sentence) => Response::error(400, sentence),
            Self::NoProxy => Response::error(404, "no proxy has this name: see /api/v1/status"),
            Self::Broker(error) => {
                let status = match error {
                    AdminError::NoSuchPeer | AdminError::NoSuchProxy => 404,
                    AdminError::Forgotten | AdminError::OnlyAsker => 409,
                    _ => 400,
                };
                Response::error(status, &error.to_string())
            }
        }
    }
}

/// Answers a question: GET with this path behind `/api/v1`.
pub(crate) fn question(head: &Head, path: &[&str], config: &HttpConfig) -> Reply {
    match path {
        ["status"] => status::status(config),
        ["config"] => status::config(),
        ["events"] => events(head),
        ["history"] => since(head).map_or_else(wrong, |since| {
            history(move |history| history.of_broker(since))
        }),
        ["proxies", proxy, what] => of_proxy(head, proxy, what),
        _ => Reply::error(
            404,
            "nothing is here: see status, config, events, history and proxies/NAME/peers, closed, \
             sample, subscriptions, who and history",
        ),
    }
}

fn of_proxy(head: &Head, proxy: &str, what: &str) -> Reply {
    let proxy = proxy.to_owned();
    match what {
        "closed" => closed(head, proxy),
        "history" => since(head).map_or_else(wrong, |since| {
            history(move |history| history.of_proxy(&proxy, since))
        }),
        "peers" => peers(head, proxy),
        "sample" => about(
            proxy,
            |admin, id| Ok(admin.sample(id)?),
            |sample| json!({ "messages": sample.iter().map(json::sample).collect::<Vec<_>>() }),
        ),
        "statistics" => status::statistics(proxy),
        "subscriptions" => subscriptions(head, proxy),
        "who" => receivers(head, proxy),
        "kick" | "pause" | "resume" => Reply::Now(Response::method_refused("POST")),
        _ => Reply::error(
            404,
            "nothing is here: see peers, closed, sample, statistics, subscriptions, who, history",
        ),
    }
}

/// Carries out a command: POST with this path behind `/api/v1`.
pub(crate) fn command(head: &Head, path: &[&str]) -> Reply {
    debug_assert_eq!(head.method, Method::Post);
    match path {
        ["reload"] => Reply::ask(|admin| {
            admin.reload();
            done(|| json!({ "reload": "begun" }))
        }),
        ["proxies", proxy, "kick"] => kick(head, (*proxy).to_owned()),
        ["proxies", proxy, "pause"] => pause((*proxy).to_owned(), true),
        ["proxies", proxy, "resume"] => pause((*proxy).to_owned(), false),
        _ => Reply::error(
            404,
            "commands are reload, and proxies/NAME/kick, pause and resume",
        ),
    }
}

fn wrong(refusal: Refusal) -> Reply {
    Reply::Now(refusal.response())
}

fn done(value: impl FnOnce() -> Value + Send + 'static) -> Render {
    Box::new(move |_| Response::json(&value()))
}

/// A question about a proxy: `ask` copies a view, `render` turns it into JSON.
fn about<V: Send + 'static>(
    proxy: String,
    ask: impl FnOnce(&mut Admin<'_>, ProxyId) -> Outcome<V> + Send + 'static,
    render: impl FnOnce(&V) -> Value + Send + 'static,
) -> Reply {
    Reply::ask(move |admin| {
        let view = find(admin, &proxy).and_then(|id| ask(admin, id));
        Box::new(move |_| match view {
            Ok(view) => Response::json(&render(&view)),
            Err(refusal) => refusal.response(),
        })
    })
}

/// The proxy with this name.
fn find(admin: &Admin<'_>, name: &str) -> Outcome<ProxyId> {
    admin.proxy_named(name).ok_or(Refusal::NoProxy)
}

fn history(read: impl FnOnce(&History) -> Value + Send + 'static) -> Reply {
    Reply::ask(move |_| Box::new(move |history| Response::json(&read(history))))
}

fn peers(head: &Head, proxy: String) -> Reply {
    let parsed = filter(head).and_then(|filter| {
        let order = order(head)?;
        let (skip, limit) = (number(head, "skip", 0)?, limit(head)?);
        let after = id(head, "after")?;
        if order.is_some() && after.is_some() {
            let sentence = "after: an ordered list has pages by skip".to_owned();
            return Err(Refusal::Parameter(sentence));
        }
        Ok((filter, order, (skip, limit), after))
    });
    let (filter, order, (skip, limit), after) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return wrong(refusal),
    };
    let ask = move |admin: &mut Admin<'_>, id| {
        Ok(match order {
            Some(order) => admin.ranked_peers(id, &filter, order, (skip, limit))?,
            None => admin.peers(id, &filter, &PageQuery { after, limit })?,
        })
    };
    about(
        proxy,
        ask,
        |page| json!({ "peers": render(page, json::peer), "total": page.total }),
    )
}

fn closed(head: &Head, proxy: String) -> Reply {
    let parsed = filter(head).and_then(|filter| Ok((filter, limit(head)?, id(head, "after")?)));
    let (filter, limit, after) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return wrong(refusal),
    };
    let ask = move |admin: &mut Admin<'_>, id| {
        Ok(admin.closed_peers(id, &filter, &PageQuery { after, limit })?)
    };
    about(
        proxy,
        ask,
        |page| json!({ "closed": render(page, json::closed_peer), "total": page.total }),
    )
}

fn events(head: &Head) -> Reply {
    let parsed = limit(head).and_then(|limit| Ok((limit, text(head, "after")?)));
    let (limit, after) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return wrong(refusal),
    };
    let Ok(after) = after.map(str::parse).transpose() else {
        return Reply::error(400, "after: write the number of an event");
    };
    Reply::ask(move |admin| {
        let page = admin.events(None, &PageQuery { after, limit });
        Box::new(move |_| {
            Response::json(&json!({ "events": render(&page, json::event), "total": page.total }))
        })
    })
}

fn subscriptions(head: &Head, proxy: String) -> Reply {
    let parsed = bytes(head, "prefix").and_then(|prefix| {
        let after = bytes(head, "after")?;
        Ok((prefix.unwrap_or_default(), after, limit(head)?))
    });
    let (prefix, after, limit) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return wrong(refusal),
    };
    let ask = move |admin: &mut Admin<'_>, id| {
        Ok(admin.topics(id, &prefix, &PageQuery { after, limit })?)
    };
    about(
        proxy,
        ask,
        |page| json!({ "more": page.has_more, "subscriptions": render(page, json::topic) }),
    )
}

fn receivers(head: &Head, proxy: String) -> Reply {
    let parsed = bytes(head, "topic").and_then(|topic| {
        let missing = || Refusal::Parameter("topic: write the first frame of a message".to_owned());
        Ok((topic.ok_or_else(missing)?, id(head, "after")?, limit(head)?))
    });
    let (topic, after, limit) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return wrong(refusal),
    };
    let ask = move |admin: &mut Admin<'_>, id| {
        Ok(admin.subscribers(id, &topic, &PageQuery { after, limit })?)
    };
    about(
        proxy,
        ask,
        |page| json!({ "peers": render(page, json::peer), "total": page.total }),
    )
}

fn kick(head: &Head, proxy: String) -> Reply {
    let wanted = match id(head, "id") {
        Ok(Some(id)) => PeerFilter {
            id: Some(id),
            ..PeerFilter::default()
        },
        Ok(None) => return wrong(Refusal::Parameter("id: write the id of a peer".to_owned())),
        Err(refusal) => return wrong(refusal),
    };
    about(
        proxy,
        move |admin, id| Ok(admin.kick(id, &wanted)?),
        |kicked| {
            let kicked: Vec<String> = kicked.iter().map(ConnId::to_string).collect();
            json!({ "kicked": kicked })
        },
    )
}

fn pause(proxy: String, is_paused: bool) -> Reply {
    let ask = move |admin: &mut Admin<'_>, id| {
        Ok(if is_paused {
            admin.pause(id)
        } else {
            admin.resume(id)
        }?)
    };
    about(
        proxy,
        ask,
        move |changed| json!({ "changed": changed, "paused": is_paused }),
    )
}

fn render<T>(page: &Page<T>, item: impl Fn(&T) -> Value) -> Vec<Value> {
    page.items.iter().map(item).collect()
}

fn text<'a>(head: &'a Head, name: &str) -> Outcome<Option<&'a str>> {
    let Some(value) = head.parameter(name) else {
        return Ok(None);
    };
    let complaint = |_| Refusal::Parameter(format!("{name}: write a text in UTF-8"));
    std::str::from_utf8(value).map(Some).map_err(complaint)
}

fn number(head: &Head, name: &str, default: usize) -> Outcome<usize> {
    let Some(text) = text(head, name)? else {
        return Ok(default);
    };
    let complaint = |_| Refusal::Parameter(format!("{name}: write a whole number"));
    text.parse().map_err(complaint)
}

fn since(head: &Head) -> Outcome<u64> {
    number(head, "since", 0).map(|since| since as u64)
}

fn limit(head: &Head) -> Outcome<usize> {
    let limit = number(head, "limit", PAGE_LEN_MAX)?;
    if !(1..=PAGE_LEN_MAX).contains(&limit) {
        let sentence = format!("limit: write a whole number from 1 to {PAGE_LEN_MAX}");
        return Err(Refusal::Parameter(sentence));
    }
    Ok(limit)
}

fn id(head: &Head, name: &str) -> Outcome<Option<ConnId>> {
    let complaint = |()| Refusal::Parameter(format!("{name}: write the id of a peer"));
    let id = text(head, name)?.map(str::parse).transpose();
    id.map_err(complaint)
}

/// Bytes, or their hexadecimal digits under the name with the suffix `_hex`.
fn bytes(head: &Head, name: &str) -> Outcome<Option<Vec<u8>>> {
    let hex_name = format!("{name}_hex");
    match (head.parameter(name), text(head, &hex_name)?) {
        (Some(_), Some(_)) => Err(Refusal::Parameter(format!("write {name} or {hex_name}"))),
        (Some(bytes), None) => Ok(Some(bytes.to_vec())),
        (None, None) => Ok(None),
        (None, Some(digits)) => json::from_hex(digits).map(Some).ok_or_else(|| {
            Refusal::Parameter(format!(
                "{hex_name}: write two hexadecimal digits for each byte"
            ))
        }),
    }
}

/// The peers that a list covers: those of both sides, or of one socket, or of all with `all`, whose
/// names contain the text `filter`.
fn filter(head: &Head) -> Outcome<PeerFilter> {
    let all = head.parameter("all").is_some_and(|value| value != b"false");
    let sockets = match text(head, "side")? {
        None if all => Vec::new(),
        None => SocketName::SIDES.to_vec(),
        Some(name) => {
            let side = SocketName::ALL.into_iter().find(|side| side.name() == name);
            let names = SocketName::ALL.map(SocketName::name).join(", ");
            let complaint = || Refusal::Parameter(format!("side: write one of {names}"));
            vec![side.ok_or_else(complaint)?]
        }
    };
    Ok(PeerFilter {
        contains: bytes(head, "filter")?,
        sockets,
        ..PeerFilter::default()
    })
}

/// The figure by which peers are ordered.
fn order(head: &Head) -> Outcome<Option<PeerOrder>> {
    let Some(name) = text(head, "sort")? else {
        return Ok(None);
    };
    let order = PeerOrder::from_key(name);
    order
        .map(Some)
        .map_err(|complaint| Refusal::Parameter(format!("sort: {complaint}")))
}
