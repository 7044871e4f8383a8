//! What a proxy keeps: the keys `cache` and `replay`.

use toml::de::{DeTable, DeValue};

use super::error::Node;
use super::value::{as_flag, as_table, as_text, get, items, read_number, read_size};
use super::{Place, Reader, read_age};
use crate::{CacheConfig, ReplayConfig, SocketName, Unit};

impl Reader {
    /// Reads the last values that a proxy keeps.
    pub(super) fn cache(
        &mut self,
        proxy: &DeTable<'_>,
        node: &Node,
        index: usize,
    ) -> Option<CacheConfig> {
        let (value, node) = get(proxy, node, "cache")?;
        self.places.push((Place::Cache(index), node.clone()));
        let instead = || "write cache = { topics = [\"cfg.\"] }, or cache = {} for all topics";
        let table = self.keep(as_table(value, &node, || instead().to_owned()))?;
        let keys = ["bytes", "empty_deletes", "max_age", "path", "topics"];
        self.refuse_unknown(table, &node, &keys);
        let mut cache = CacheConfig::default();
        if let Some((value, topics_node)) = get(table, &node, "topics") {
            cache.topics.clear();
            for (item, item_node) in items(value, &topics_node) {
                let topic = self.keep(as_text(item, &item_node));
                cache.topics.extend(topic.map(str::to_owned));
            }
        }
        if let Some((value, node)) = get(table, &node, "bytes")
            && let Some(bytes) = self.keep(read_size(value, &node))
        {
            cache.bytes_max = bytes;
        }
        if let Some((value, node)) = get(table, &node, "max_age") {
            let age = self.keep(read_age(value, &node));
            cache.age_max = age.filter(|age| !age.is_zero());
        }
        if let Some((value, node)) = get(table, &node, "empty_deletes") {
            cache.empty_deletes = self.keep(as_flag(value, &node)).unwrap_or_default();
        }
        if let Some((value, node)) = get(table, &node, "path") {
            let path = self
                .keep(as_text(value, &node))
                .filter(|path| !path.is_empty());
            cache.path = path.map(Into::into);
        }
        Some(cache)
    }

    /// Reads the keys of a replay other than endpoints and options.
    pub(super) fn replay(&mut self, proxy: &DeTable<'_>, node: &Node, replay: &mut ReplayConfig) {
        let Some((value, node)) = get(proxy, node, SocketName::Replay.name()) else {
            return;
        };
        let DeValue::Table(table) = value.get_ref() else {
            return;
        };
        if let Some((value, node)) = get(table, &node, "bytes")
            && let Some(bytes) = self.keep(read_size(value, &node))
        {
            replay.bytes_max = bytes;
        }
        if let Some((value, node)) = get(table, &node, "messages") {
            let most = i64::MAX.unsigned_abs();
            let messages = self.keep(read_number(value, &node, Unit::Messages, most));
            replay.messages_max = messages.unwrap_or(replay.messages_max);
        }
        if let Some((value, node)) = get(table, &node, "sequence") {
            replay.sequence = self.keep(as_flag(value, &node)).unwrap_or_default();
        }
    }
}
