//! The two ends of the proxy under load.

use std::time::Duration;

use broker::config::Endpoint;
use zmtp::SocketType;

use crate::client::Client;

/// The two ends of the proxy.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) backend: Endpoint,
    pub(super) frontend: Endpoint,
}

impl Sides {
    pub(super) fn connect_front(
        &self,
        socket_type: SocketType,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Client>, String> {
        connect(&self.frontend, socket_type, count, timeout)
    }

    pub(super) fn connect_back(
        &self,
        socket_type: SocketType,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Client>, String> {
        connect(&self.backend, socket_type, count, timeout)
    }
}

fn connect(
    endpoint: &Endpoint,
    socket_type: SocketType,
    count: usize,
    timeout: Duration,
) -> Result<Vec<Client>, String> {
    (0..count)
        .map(|_| {
            Client::connect(endpoint, socket_type, b"", timeout)
                .map_err(|error| format!("cannot connect a {socket_type} to {endpoint}: {error}"))
        })
        .collect()
}
