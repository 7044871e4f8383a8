//! The two ends of the proxy under load.

use std::time::Duration;

use broker::config::Endpoint;
use zmtp::{MechanismConfig, SocketType};

use crate::client::{Client, ClientConfig};

/// The two ends of the proxy.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) backend: Endpoint,
    pub(super) frontend: Endpoint,
    pub(super) mechanism: MechanismConfig,
}

impl Sides {
    pub(super) fn connect_front(
        &self,
        socket_type: SocketType,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Client>, String> {
        self.connect(&self.frontend, socket_type, count, timeout)
    }

    pub(super) fn connect_back(
        &self,
        socket_type: SocketType,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Client>, String> {
        self.connect(&self.backend, socket_type, count, timeout)
    }

    fn connect(
        &self,
        endpoint: &Endpoint,
        socket_type: SocketType,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Client>, String> {
        let config = ClientConfig {
            mechanism: self.mechanism.clone(),
            socket_type,
            timeout,
        };
        (0..count)
            .map(|_| {
                Client::connect(endpoint, &config).map_err(|error| {
                    format!("cannot connect a {socket_type} to {endpoint}: {error}")
                })
            })
            .collect()
    }
}
