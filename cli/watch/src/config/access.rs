//! Which peers may come in: the keys of the sockets of a watch, which are those of a broker's.

use broker::config::{Endpoint, Network, SocketConfig, SocketOptions};

use super::reader::{Node, Reader};

/// The keys of a socket.
pub(super) const KEYS: [&str; 5] = [
    "curve_clients",
    "curve_secret",
    INSECURE,
    "plain_users",
    "tcp_accept_filter",
];

/// The key that the root of a file has too, for all sockets.
pub(super) const INSECURE: &str = "insecure";

/// The options of a socket that sets none.
pub(super) fn options(is_insecure: bool) -> SocketOptions {
    SocketOptions {
        insecure: is_insecure,
        ..SocketOptions::default()
    }
}

impl Reader<'_> {
    /// The options in a table.
    pub(super) fn options(&mut self, node: &Node<'_, '_>, is_insecure: bool) -> SocketOptions {
        let mut options = options(self.flag(node, INSECURE).unwrap_or(is_insecure));
        options.curve_clients = self.text(node, "curve_clients").unwrap_or_default();
        options.curve_secret = self.text(node, "curve_secret").unwrap_or_default();
        options.plain_users = self.text(node, "plain_users").unwrap_or_default();
        options.tcp_accept_filter = self.networks(node);
        for error in options.contradictions() {
            self.fail(&node.at, &node.key, error.to_string());
        }
        options
    }

    fn networks(&mut self, node: &Node<'_, '_>) -> Vec<Network> {
        let mut networks = Vec::new();
        let key = "tcp_accept_filter";
        for text in self.texts(node, key).unwrap_or_default() {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(sentence) => {
                    let sentence: String = sentence;
                    self.fail_at(node, key, sentence);
                }
            }
        }
        networks
    }

    /// A socket that listens at the endpoint under a key, if there is one. Other machines must not
    /// reach it unless the options say so.
    pub(super) fn socket(
        &mut self,
        node: &Node<'_, '_>,
        key: &str,
        options: SocketOptions,
    ) -> SocketConfig {
        let bind = self.endpoint(node, key, true);
        let socket = SocketConfig {
            bind: bind.into_iter().collect(),
            options,
            ..SocketConfig::default()
        };
        let fault = socket.bind.iter().find_map(|it| socket.exposure(it, true));
        if let Some(fault) = fault {
            self.fail_at(node, key, fault.to_string());
        }
        let named = KEYS.into_iter().filter(|it| node.get(it).is_some());
        for name in named.filter(|it| it.starts_with("curve") || it.starts_with("plain")) {
            if node.get(key).is_none() {
                let sentence = format!("only a ZeroMQ socket has keys: write {key} = \"ENDPOINT\"");
                self.fail_at(node, name, sentence);
            }
        }
        socket
    }

    /// Refuses `HOST:PORT` for plain TCP if any program of other machines could come in: without
    /// ZeroMQ there are no keys.
    pub(super) fn check_plain_tcp(
        &mut self,
        node: &Node<'_, '_>,
        tcp: Option<&str>,
        options: &SocketOptions,
    ) {
        let is_open = options.tcp_accept_filter.is_empty() && !options.insecure;
        let Some(text) = tcp.filter(|text| is_open && !text.is_empty()) else {
            return;
        };
        let endpoint = Endpoint::parse_bind(&format!("tcp://{text}"));
        if endpoint.is_ok_and(|it| !it.is_beyond_loopback()) {
            return;
        }
        let sentence = format!(
            "other machines can reach {text}, and any program may come in: set tcp_accept_filter, \
             or insecure = true, or use localhost"
        );
        self.fail_at(node, "tcp", sentence);
    }
}
