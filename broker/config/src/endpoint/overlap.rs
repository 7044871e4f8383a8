//! Endpoints that cannot be bound at the same time.

use std::collections::HashMap;

use super::{Endpoint, Host, IpcName};

/// Finds overlaps among endpoints to bind, as far as their texts show them. Each endpoint costs a
/// few look-ups, whatever their number.
#[derive(Debug, Default)]
pub(crate) struct Overlaps<'a> {
    /// The number of endpoints added.
    count: usize,
    /// The first endpoint of each TCP port on an IPv4 address.
    ipv4: HashMap<u16, usize>,
    names: HashMap<&'a Endpoint, usize>,
    tcp: HashMap<(&'a Host, u16), usize>,
    /// The first endpoint of each TCP port on every IPv4 address.
    wild: HashMap<u16, usize>,
}

impl<'a> Overlaps<'a> {
    /// Adds an endpoint; returns the number of the first earlier one that overlaps it, counted from
    /// zero.
    pub(crate) fn add(&mut self, endpoint: &'a Endpoint) -> Option<usize> {
        let number = self.count;
        self.count += 1;
        let (host, port) = match endpoint {
            Endpoint::Ipc(IpcName::Any) | Endpoint::Tcp { port: 0, .. } => return None,
            Endpoint::Inproc(_) | Endpoint::Ipc(_) => {
                return note(&mut self.names, endpoint, number);
            }
            Endpoint::Tcp { host, port, .. } => (host, *port),
        };
        let mut first = note(&mut self.tcp, (host, port), number);
        if host.is_ipv4() {
            let is_wild = host.is_unspecified_ipv4();
            let across = if is_wild { &self.ipv4 } else { &self.wild };
            first = first.into_iter().chain(across.get(&port).copied()).min();
            note(&mut self.ipv4, port, number);
            if is_wild {
                note(&mut self.wild, port, number);
            }
        }
        first
    }
}

/// Adds a key; returns the number of the endpoint that had it first.
fn note<K: Eq + std::hash::Hash>(
    numbers: &mut HashMap<K, usize>,
    key: K,
    number: usize,
) -> Option<usize> {
    let first = *numbers.entry(key).or_insert(number);
    (first != number).then_some(first)
}
