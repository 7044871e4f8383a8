//! What changes of the configuration mean for the model.

use super::{Model, index};
use crate::context::SocketKey;
use crate::mirror::Phase;
use broker::ConnId;
use broker::config::{ProxyConfig, SocketConfig, SocketName};

impl Model {
    /// An auxiliary socket goes: it and its connections belong to `ghost` from now on, a proxy that
    /// the broker does not have, and what comes in its place begins anew.
    pub(crate) fn retire(&mut self, key: SocketKey, ghost: u32, config: &ProxyConfig) {
        self.add_proxy(config);
        let former = SocketKey {
            proxy: ghost,
            ..key
        };
        self.sockets.swap(index(key), index(former));
        self.removed.insert(ghost);
        let [own, other] = [key.proxy, ghost].map(|proxy| proxy as usize);
        self.watches[other] = self.watches[own].clone();
        if let Some(watch) = &mut self.watches[own] {
            watch.renew(key.side, config);
            if key.side == SocketName::Capture {
                watch.end_copies();
            }
        }
        for mirror in self.mirrors.values_mut() {
            if mirror.socket == key {
                mirror.socket = former;
            }
        }
    }

    /// Other keys may come in to a socket, or it has another key itself; returns the connections
    /// that must be closed.
    pub(crate) fn set_keys(&mut self, key: SocketKey, config: &SocketConfig) -> Vec<ConnId> {
        self.sockets[index(key)].config = config.clone();
        let mirrors = self.mirrors.iter_mut();
        let own = mirrors.filter(|(_, it)| it.socket == key && it.phase != Phase::Closed);
        let mut denied = Vec::new();
        for (id, mirror) in own {
            if !mirror.readmit(&config.admission) {
                denied.push(*id);
            }
        }
        denied
    }
}
