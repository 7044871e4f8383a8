//! The tables of roles and users.

use super::value::{Value, as_table, as_text, get, items, read_number, read_size};
use super::{Fail, Node, Reader};
use crate::sort;
use crate::{Config, Place, RoleConfig, RoleSide, TopicRule, Unit, suggest};
use toml::de::DeTable;
use zmtp::show;

/// The keys of a role.
const KEYS: [&str; 10] = [
    "byte_rate",
    "max_connections",
    "max_subscriptions",
    "message_rate",
    "proxies",
    "publish",
    "publish_deny",
    "sides",
    "subscribe",
    "subscribe_deny",
];

impl Reader {
    /// Reads the tables `[role.NAME]` and `[users]`.
    pub(super) fn roles(&mut self, root: &DeTable<'_>, root_node: &Node, config: &mut Config) {
        if let Some((value, node)) = get(root, root_node, "role") {
            let instead = || "write [role.NAME], and the keys of the role below it".to_owned();
            let table = self.keep(as_table(value, &node, instead));
            for key in table.into_iter().flat_map(DeTable::keys) {
                let name = key.get_ref().as_ref();
                if let Some((value, node)) = get(table.expect("it has a key"), &node, name) {
                    let place = Place::Role(config.roles.len());
                    self.places.push((place, node.clone()));
                    let role = self.role(value, &node, name);
                    config.roles.push(role);
                }
            }
        }
        if let Some((value, node)) = get(root, root_node, "users") {
            let instead = || "write [users], and NAME = \"ROLE\" below it".to_owned();
            let Some(table) = self.keep(as_table(value, &node, instead)) else {
                return;
            };
            let names = table.keys().map(|key| key.get_ref().as_ref());
            let mut names: Vec<&str> = names.collect();
            // The order of the map, by which problems find their places.
            sort::by_key(&mut names, |name| *name);
            for name in names {
                if let Some((value, node)) = get(table, &node, name)
                    && let Some(role) = self.keep(as_text(value, &node))
                {
                    self.places.push((Place::User(config.users.len()), node));
                    config.users.insert(name.to_owned(), role.to_owned());
                }
            }
        }
    }

    fn role(&mut self, value: &Value<'_>, node: &Node, name: &str) -> RoleConfig {
        let mut role = RoleConfig {
            name: name.to_owned(),
            ..RoleConfig::default()
        };
        let instead = || format!("write [role.{}], and its keys below it", show(name));
        let Some(table) = self.keep(as_table(value, node, instead)) else {
            return role;
        };
        self.refuse_unknown(table, node, &KEYS);
        for (key, rules) in [
            ("publish", &mut role.publish),
            ("publish_deny", &mut role.publish_deny),
            ("subscribe", &mut role.subscribe),
            ("subscribe_deny", &mut role.subscribe_deny),
        ] {
            let read = |text: &str| text.parse::<TopicRule>();
            *rules = self.list(table, node, key, read).unwrap_or_default();
        }
        role.proxies = self.list(table, node, "proxies", |text| Ok(text.to_owned()));
        role.sides = self.list(table, node, "sides", |text| {
            RoleSide::from_name(text).ok_or_else(|| {
                let hint = suggest::hint(text, &RoleSide::ALL.map(RoleSide::name));
                format!("unknown side \"{}\": {hint}", show(text))
            })
        });
        for (key, unit, number) in [
            (
                "max_connections",
                Unit::Connections,
                &mut role.max_connections,
            ),
            (
                "max_subscriptions",
                Unit::Subscriptions,
                &mut role.max_subscriptions,
            ),
            ("message_rate", Unit::Messages, &mut role.message_rate),
        ] {
            if let Some((value, node)) = get(table, node, key) {
                let read = self.keep(read_number(value, &node, unit, u32::MAX.into()));
                *number = u32::try_from(read.unwrap_or_default()).unwrap_or(u32::MAX);
            }
        }
        if let Some((value, node)) = get(table, node, "byte_rate") {
            role.byte_rate = self.keep(read_size(value, &node)).unwrap_or_default();
        }
        role
    }

    /// Reads one text or a list of them; [`None`] without the key.
    fn list<T>(
        &mut self,
        table: &DeTable<'_>,
        node: &Node,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let (value, node) = get(table, node, key)?;
        let mut list = Vec::new();
        for (item, item_node) in items(value, &node) {
            let found = as_text(item, &item_node)
                .and_then(|text| read(text).map_err(|error| -> Fail { item_node.fail(error) }));
            list.extend(self.keep(found));
        }
        Some(list)
    }
}
