//! HTTP: its address changes at random, and is open before it is served.

use super::Node;
use crate::context::Context;
use broker::config::{HttpAddress, HttpConfig, diff};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

/// What a driver knows of HTTP.
#[derive(Debug, Default)]
pub(super) struct Http {
    /// The number of addresses that were opened.
    count: u16,
    /// An address that is open for a change, and its real form.
    opened: Option<(HttpAddress, SocketAddr)>,
    /// The address that is served, and its real form.
    served: Option<(HttpAddress, SocketAddr)>,
}

impl Node {
    pub(super) fn open_http(&mut self) {
        let address = self.core.http_to_open().and_then(|config| config.address);
        let address = address.expect("an address is to be opened");
        assert_eq!(self.http.opened, None, "one address at a time");
        self.http.count += 1;
        let mut real = address.0;
        real.set_port(40_000 + self.http.count);
        self.http.opened = Some((address, real));
        self.core.handle_http_open(real);
    }

    pub(super) fn serve_http(&mut self, now: Instant) {
        let wanted = self.admin(now).config().http.address;
        let opened = self.http.opened.take();
        let opened = opened.filter(|(address, _)| wanted == Some(*address));
        let served = opened.or(self.http.served);
        self.http.served = served.filter(|(address, _)| wanted == Some(*address));
    }

    /// Moves HTTP to another address, or begins or ends it, or changes its host names.
    pub(super) fn change_http(&mut self, ctx: &mut Context, now: Instant) {
        self.check_http(now);
        let port = ctx.random.pick(&[0, 0, 80, 8080]);
        let address = HttpAddress((Ipv4Addr::LOCALHOST, port).into());
        let hosts = ctx.random.pick(&["zmqd", "box"]);
        let http = HttpConfig {
            address: ctx.random.chance(70).then_some(address),
            hides_samples: ctx.random.chance(50),
            hosts: vec![hosts.to_owned()],
            ..HttpConfig::default()
        };
        let mut next = self.admin(now).config().clone();
        next.http.clone_from(&http);
        let applied = self.change(ctx, now, |admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        });
        let is_left_open = self.http.opened.is_some() && applied.is_none();
        assert!(!is_left_open, "a change that failed leaves nothing open");
        if applied.is_some() {
            self.config.http = http;
            ctx.coverage.add("HTTP changed", 1);
        }
    }

    /// HTTP is served where the configuration says, and where the core believes it to be.
    fn check_http(&mut self, now: Instant) {
        let served = self.http.served;
        let admin = self.core.admin(now);
        let wanted = admin.config().http.address;
        assert_eq!(served.map(|(address, _)| address), wanted, "HTTP address");
        assert_eq!(served.map(|(_, real)| real), admin.http_address());
        assert_eq!(self.config.http.address, wanted);
    }
}
