//! `/healthz` and `/readyz`.
//!
//! Health says that the event loop turns, and depends on no peer: a supervisor that restarts a
//! broker because a worker is away only makes things worse. Readiness says that peers can use it.

use crate::head::Head;
use crate::response::Response;
use crate::route::{Ask, Render, Reply};
use broker::Admin;
use broker::config::SocketName;
use broker::view::{BrokerView, ProxyView, StopState};

/// A socket that must have peers.
struct Wanted {
    peers: usize,
    proxy: Option<String>,
    socket: SocketName,
}

pub(crate) fn health() -> Reply {
    let ask: Ask = Box::new(|admin: &mut Admin<'_>| -> Render {
        // The answer itself is the proof that the loop turns.
        let _ = admin.has_budget();
        Box::new(|_| Response::text(200, "ok"))
    });
    Reply::Ask {
        ask,
        is_health: true,
    }
}

pub(crate) fn readiness(head: &Head) -> Reply {
    let parameters = head.parameters.iter();
    let wanted = parameters.filter(|(key, _)| key == "min_peers");
    let wanted: Option<Vec<Wanted>> = wanted.map(|(_, value)| parse(value)).collect();
    let Some(wanted) = wanted else {
        return Reply::Now(Response::text(
            400,
            "min_peers: write SIDE:COUNT or PROXY.SIDE:COUNT, such as backend:1",
        ));
    };
    let ask: Ask = Box::new(move |admin: &mut Admin<'_>| -> Render {
        let (broker, proxies) = (admin.broker(), admin.proxies());
        Box::new(move |_| render(&broker, &proxies, &wanted))
    });
    Reply::Ask {
        ask,
        is_health: true,
    }
}

fn parse(value: &[u8]) -> Option<Wanted> {
    let text = std::str::from_utf8(value).ok()?;
    let (path, peers) = text.rsplit_once(':')?;
    // The names of proxies may have dots.
    let (proxy, socket) = match path.rsplit_once('.') {
        Some((proxy, socket)) => (Some(proxy.to_owned()), socket),
        None => (None, path),
    };
    let socket = SocketName::ALL
        .into_iter()
        .find(|name| name.name() == socket)?;
    Some(Wanted {
        peers: peers.parse().ok()?,
        proxy,
        socket,
    })
}

fn render(broker: &BrokerView, proxies: &[ProxyView], wanted: &[Wanted]) -> Response {
    let mut missing = Vec::new();
    if broker.stop != StopState::Running {
        missing.push("the broker stops".to_owned());
    }
    if let Some(reload) = &broker.reload
        && reload.outcome.is_err()
    {
        missing.push("the configuration was rejected when it was last read".to_owned());
    }
    for Wanted {
        peers,
        proxy,
        socket,
    } in wanted
    {
        let sockets = proxies.iter().flat_map(|proxy| &proxy.sockets);
        let is_meant = |name: &str| proxy.as_ref().is_none_or(|wanted| wanted == name);
        let meant = sockets.filter(|view| view.socket == *socket && is_meant(&view.proxy));
        let mut is_found = false;
        for view in meant {
            is_found = true;
            if view.peers < *peers {
                missing.push(format!(
                    "{} {socket} has {} of {peers} peers",
                    view.proxy, view.peers
                ));
            }
        }
        if !is_found {
            let of = proxy.as_deref().unwrap_or("any proxy");
            missing.push(format!("{of} has no {socket}"));
        }
    }
    if missing.is_empty() {
        return Response::text(200, "ready");
    }
    Response::text(503, &format!("not ready: {}", missing.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Body;
    use crate::tests::{broker_view, proxy_view};
    use broker::view::ReloadView;
    use std::time::Duration;

    fn answer(broker: &BrokerView, wanted: &[&str]) -> (u16, String) {
        let mut busy = proxy_view("a.b");
        busy.sockets[1].peers = 2;
        let wanted: Option<Vec<Wanted>> = wanted.iter().map(|it| parse(it.as_bytes())).collect();
        let wanted = wanted.expect("legal");
        let response = render(broker, &[busy, proxy_view("c")], &wanted);
        let Body::Whole(body) = response.body else {
            panic!("a line");
        };
        (response.status, String::from_utf8_lossy(&body).into_owned())
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let broker = broker_view();
        assert_eq!(answer(&broker, &[]), (200, "ready\n".to_owned()));
        assert_eq!(answer(&broker, &["a.b.backend:2"]).0, 200);
        let (status, text) = answer(&broker, &["a.b.backend:3", "backend:1", "x.frontend:1"]);
        assert_eq!(status, 503);
        assert_eq!(
            text,
            "not ready: a.b backend has 2 of 3 peers; c backend has 0 of 1 peers; x has no \
             frontend\n"
        );
        let stopping = BrokerView {
            stop: StopState::Draining(Duration::ZERO),
            ..broker_view()
        };
        assert_eq!(answer(&stopping, &[]).0, 503);
        let rejected = BrokerView {
            reload: Some(ReloadView {
                ago: Duration::ZERO,
                outcome: Err("line 1".to_owned()),
            }),
            ..broker_view()
        };
        assert_eq!(answer(&rejected, &[]).0, 503);
    }

    #[test]
    fn min_peers_needs_a_side_and_a_number() {
        for text in [
            "",
            "1",
            "backend",
            "backend:",
            "backend:x",
            "back:1",
            ":1",
            "a.:1",
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
