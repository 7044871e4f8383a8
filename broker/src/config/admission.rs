//! Which peers of a socket may come in.

use std::collections::BTreeMap;
use std::sync::Arc;
use zmtp::curve::PublicKey;
use zmtp::{Authorization, Credentials};

/// Which peers of a socket may come in, after their mechanism has checked their credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Every peer. A CURVE client is known by its public key; a PLAIN client, whose password is
    /// not compared with anything, is denied.
    #[default]
    Any,
    /// The CURVE clients with these keys.
    Keys(Arc<ClientKeys>),
    /// The peers that the embedding program admits: [`crate::Admin::undecided_peers`],
    /// [`crate::Admin::authorize`].
    Program,
}

/// The public keys of CURVE clients, each with the user name of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientKeys {
    users: BTreeMap<[u8; PublicKey::SIZE], Arc<str>>,
}

impl ClientKeys {
    /// Adds a client; returns the user name that the key had before.
    pub fn insert(&mut self, key: &PublicKey, user: &str) -> Option<Arc<str>> {
        self.users.insert(*key.as_bytes(), user.into())
    }

    /// The user name of the client with this key.
    #[must_use]
    pub fn user(&self, key: &PublicKey) -> Option<&Arc<str>> {
        self.users.get(key.as_bytes())
    }
}

impl Admission {
    /// Whether a peer with these credentials may come in; `None` if the program decides.
    pub(crate) fn decide(&self, credentials: &Credentials) -> Option<Authorization> {
        let user = match (self, credentials) {
            (Self::Program, _) => return None,
            (Self::Any, Credentials::Null) => return Some(Authorization::Granted { user: None }),
            (Self::Any, Credentials::Curve(key)) => Some(key.to_string().into()),
            (Self::Keys(keys), Credentials::Curve(key)) => keys.user(key).cloned(),
            _ => None,
        };
        Some(match user {
            None => Authorization::Denied { is_told: false },
            user => Authorization::Granted { user },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u8) -> PublicKey {
        let mut bytes = [9; 32];
        bytes[0] = first;
        PublicKey::from_bytes(bytes).expect("a usable key")
    }

    fn granted(user: &str) -> Option<Authorization> {
        let user = Some(user.into());
        Some(Authorization::Granted { user })
    }

    #[test]
    fn a_client_comes_in_under_the_name_of_its_key() {
        let mut keys = ClientKeys::default();
        assert_eq!(keys.insert(&key(1), "weather"), None);
        assert_eq!(keys.insert(&key(1), "other"), Some("weather".into()));
        let keys = Admission::Keys(Arc::new(keys));
        assert_eq!(keys.decide(&Credentials::Curve(key(1))), granted("other"));
        let denied = Some(Authorization::Denied { is_told: false });
        assert_eq!(keys.decide(&Credentials::Curve(key(2))), denied);
        assert_eq!(keys.decide(&Credentials::Null), denied);
    }

    #[test]
    fn without_a_list_a_client_is_known_by_its_key() {
        let text = key(1).to_string();
        let curve = Credentials::Curve(key(1));
        assert_eq!(Admission::Any.decide(&curve), granted(&text));
        assert_eq!(Admission::Program.decide(&curve), None);
    }
}
