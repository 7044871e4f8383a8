//! The keys of the HTTP server.

use toml::de::DeTable;

use super::error::Node;
use super::value::{as_flag, as_text, get, items};
use super::{Place, Reader};
use crate::HttpConfig;

impl Reader {
    /// Reads `http` and the keys that begin with `http_`.
    pub(super) fn http(&mut self, table: &DeTable<'_>, node: &Node, config: &mut HttpConfig) {
        if let Some((value, address_node)) = get(table, node, "http") {
            let address = as_text(value, &address_node).and_then(|text| {
                let address = (!text.is_empty()).then(|| text.parse()).transpose();
                address.map_err(|error: String| address_node.fail(error))
            });
            config.address = self.keep(address).flatten();
            self.places.push((Place::Http, address_node));
        }
        if let Some((value, hosts_node)) = get(table, node, "http_hosts") {
            for (item, item_node) in items(value, &hosts_node) {
                if let Some(name) = self.keep(as_text(item, &item_node)) {
                    let place = Place::HttpHost(config.hosts.len());
                    self.places.push((place, item_node));
                    config.hosts.push(name.to_owned());
                }
            }
        }
        if let Some((value, samples_node)) = get(table, node, "http_samples") {
            config.hides_samples = self.keep(as_flag(value, &samples_node)) == Some(false);
        }
        if let Some((value, file_node)) = get(table, node, "http_token_file") {
            let file = self.keep(as_text(value, &file_node)).unwrap_or_default();
            file.clone_into(&mut config.token_file);
            self.places.push((Place::HttpToken, file_node));
        }
    }
}
