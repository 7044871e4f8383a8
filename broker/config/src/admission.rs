//! Which peers of a socket may come in.

use super::Network;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use zmtp::curve::PublicKey;
use zmtp::plain::{Password, PasswordHash};
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
    /// The peers that the embedding program admits: `Admin::undecided_peers`,
    /// `Admin::authorize`.
    Program,
    /// The PLAIN clients that know the password of a user.
    Users(Arc<Users>),
}

/// A client in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The networks that it may connect from; empty: any address, also ipc and inproc.
    pub from: Vec<Network>,
    /// The name of its role; [`None`]: see [`super::Config::users`].
    pub role: Option<Arc<str>>,
    /// Its user name.
    pub user: Arc<str>,
}

impl Client {
    /// Whether it may connect from this address; [`None`] is not of a network.
    fn may_come_from(&self, ip: Option<IpAddr>) -> bool {
        let is_in = |ip| self.from.iter().any(|network| network.contains(ip));
        self.from.is_empty() || ip.is_some_and(|ip| is_in(ip.to_canonical()))
    }
}

/// A client with this user name, from any address.
impl From<&str> for Client {
    fn from(user: &str) -> Self {
        Self {
            from: Vec::new(),
            role: None,
            user: user.into(),
        }
    }
}

/// The CURVE clients of a socket, by their public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientKeys {
    clients: BTreeMap<[u8; PublicKey::SIZE], Client>,
    /// The roles of the users that have one here.
    roles: BTreeMap<Arc<str>, Arc<str>>,
}

impl ClientKeys {
    /// Adds a client; returns the one that the key had before.
    pub fn insert(&mut self, key: &PublicKey, client: impl Into<Client>) -> Option<Client> {
        let client = client.into();
        if let Some(role) = &client.role {
            self.roles.insert(client.user.clone(), role.clone());
        }
        self.clients.insert(*key.as_bytes(), client)
    }

    /// Users and their roles, as far as the list names them.
    pub(super) fn roles(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.roles.iter()
    }

    /// The client with this key.
    #[must_use]
    pub fn client(&self, key: &PublicKey) -> Option<&Client> {
        self.clients.get(key.as_bytes())
    }

    /// The number of keys here that the other list does not have.
    pub(super) fn count_beyond(&self, other: &Self) -> usize {
        let keys = self.clients.keys();
        keys.filter(|key| !other.clients.contains_key(*key)).count()
    }
}

/// The users of a PLAIN server, each with the hash of its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    unknown: PasswordHash,
    users: BTreeMap<Arc<str>, (PasswordHash, Client)>,
}

impl Users {
    /// Adds a user; returns the hash that the user had before.
    pub fn insert(
        &mut self,
        client: impl Into<Client>,
        hash: PasswordHash,
    ) -> Option<PasswordHash> {
        let client = client.into();
        let former = self.users.insert(client.user.clone(), (hash, client));
        former.map(|(hash, _)| hash)
    }

    /// The user with this name, if this is the password. Computes one hash, whether the name is
    /// known or not.
    #[must_use]
    pub fn verify(&self, name: &[u8], password: &Password) -> Option<&Client> {
        let name = str::from_utf8(name).ok();
        let known = name.and_then(|name| self.users.get(name));
        let hash = known.map_or(&self.unknown, |(hash, _)| hash);
        let is_right = hash.verify(password);
        known.filter(|_| is_right).map(|(_, client)| client)
    }

    /// Users and their roles, as far as the list names them.
    pub(super) fn roles(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let clients = self.users.values().map(|(_, client)| client);
        clients.filter_map(|client| Some((&client.user, client.role.as_ref()?)))
    }
}

/// No users.
impl Default for Users {
    fn default() -> Self {
        Self {
            unknown: PasswordHash::of_unknown_user(),
            users: BTreeMap::new(),
        }
    }
}

impl Admission {
    /// The role that the list gives a user.
    #[must_use]
    pub fn role_of(&self, user: &str) -> Option<&Arc<str>> {
        match self {
            Self::Keys(keys) => keys.roles.get(user),
            Self::Users(users) => users.users.get(user)?.1.role.as_ref(),
            Self::Any | Self::Program => None,
        }
    }

    /// Users and their roles, as far as the list names them.
    pub(super) fn roles(&self) -> Vec<(&Arc<str>, &Arc<str>)> {
        match self {
            Self::Keys(keys) => keys.roles().collect(),
            Self::Users(users) => users.roles().collect(),
            Self::Any | Self::Program => Vec::new(),
        }
    }

    /// In a few words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Any => "any peer".to_owned(),
            Self::Keys(keys) => format!("{} keys", keys.clients.len()),
            Self::Program => "the program decides".to_owned(),
            Self::Users(users) => format!("{} users", users.users.len()),
        }
    }

    /// Whether a PLAIN client may stay that came in from this address, under this name, by
    /// `former`: its password is not known any more, so its hash must be the same.
    #[must_use]
    pub fn keeps(&self, former: &Self, user: Option<&str>, ip: Option<IpAddr>) -> bool {
        let (to, from, user) = match (self, former, user) {
            (Self::Program, ..) => return true,
            (Self::Users(to), Self::Users(from), Some(user)) => (to, from, user),
            _ => return false,
        };
        match (to.users.get(user), from.users.get(user)) {
            (Some((hash, client)), Some((former, _))) => hash == former && client.may_come_from(ip),
            _ => false,
        }
    }

    /// Whether a peer with these credentials may come in from this address, [`None`] unless it
    /// connects over a network; returns `None` if the program decides.
    #[must_use]
    pub fn decide(&self, credentials: &Credentials, ip: Option<IpAddr>) -> Option<Authorization> {
        let user = match (self, credentials) {
            (Self::Program, _) => return None,
            (Self::Any, Credentials::Null) => return Some(Authorization::Granted { user: None }),
            (Self::Any, Credentials::Curve(key)) => Some(key.to_string().into()),
            (Self::Keys(keys), Credentials::Curve(key)) => {
                let client = keys.client(key);
                let client = client.filter(|client| client.may_come_from(ip));
                client.map(|client| client.user.clone())
            }
            (Self::Users(users), Credentials::Plain { password, user }) => {
                let client = users.verify(user, password);
                let client = client.filter(|client| client.may_come_from(ip));
                client.map(|client| client.user.clone())
            }
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

    /// The decision about a local peer.
    fn decide(admission: &Admission, credentials: &Credentials) -> Option<Authorization> {
        admission.decide(credentials, None)
    }

    #[test]
    fn a_client_comes_in_under_the_name_of_its_key() {
        let mut keys = ClientKeys::default();
        assert_eq!(keys.insert(&key(1), "weather"), None);
        assert_eq!(keys.insert(&key(1), "other"), Some("weather".into()));
        let keys = Admission::Keys(Arc::new(keys));
        assert_eq!(decide(&keys, &Credentials::Curve(key(1))), granted("other"));
        let denied = Some(Authorization::Denied { is_told: false });
        assert_eq!(decide(&keys, &Credentials::Curve(key(2))), denied);
        assert_eq!(decide(&keys, &Credentials::Null), denied);
    }

    #[test]
    fn a_client_comes_in_only_from_its_networks() {
        let mut keys = ClientKeys::default();
        let from = ["10.0.0.0/8", "fd00::1"].map(|text| text.parse().expect(text));
        let client = Client {
            from: from.to_vec(),
            ..Client::from("weather")
        };
        keys.insert(&key(1), client);
        let keys = Admission::Keys(Arc::new(keys));
        let from = |text: &str| {
            let ip = text.parse().expect(text);
            keys.decide(&Credentials::Curve(key(1)), Some(ip))
        };
        let denied = Some(Authorization::Denied { is_told: false });
        assert_eq!(from("10.1.2.3"), granted("weather"));
        assert_eq!(from("::ffff:10.1.2.3"), granted("weather"));
        assert_eq!(from("fd00::1"), granted("weather"));
        assert_eq!(from("11.0.0.1"), denied);
        assert_eq!(from("fd00::2"), denied);
        let curve = Credentials::Curve(key(1));
        assert_eq!(
            keys.decide(&curve, None),
            denied,
            "an ipc peer has no address"
        );
    }

    #[test]
    fn a_user_comes_in_with_its_password() {
        let hash = |text: &str| PasswordHash::new(&Password::new(text.as_bytes())).expect("a salt");
        let mut users = Users::default();
        assert_eq!(users.insert("weather", hash("sunny")), None);
        users.insert("maps", hash("flat"));
        let users = Admission::Users(Arc::new(users));
        let decide = |user: &[u8], password: &[u8]| {
            let credentials = Credentials::Plain {
                password: Password::new(password),
                user: user.into(),
            };
            decide(&users, &credentials)
        };
        assert_eq!(decide(b"weather", b"sunny"), granted("weather"));
        assert_eq!(decide(b"maps", b"flat"), granted("maps"));
        let denied = Some(Authorization::Denied { is_told: false });
        for (user, password) in [
            (&b"weather"[..], &b"flat"[..]),
            (b"weather", b""),
            (b"Weather", b"sunny"),
            (b"", b"sunny"),
            (b"\xff", b"sunny"),
        ] {
            assert_eq!(decide(user, password), denied, "{user:?}");
        }
        let null = users.decide(&Credentials::Null, None);
        let curve = users.decide(&Credentials::Curve(key(1)), None);
        assert_eq!([null, curve], [denied.clone(), denied]);
    }

    #[test]
    fn a_user_comes_in_and_stays_only_in_its_networks() {
        let hash = PasswordHash::new(&Password::new(b"sunny")).expect("a salt");
        let list = |network: &str, hash: &PasswordHash| {
            let mut users = Users::default();
            let client = Client {
                from: vec![network.parse().expect(network)],
                role: Some("sensor".into()),
                ..Client::from("weather")
            };
            users.insert(client, hash.clone());
            Admission::Users(Arc::new(users))
        };
        let users = list("10.0.0.0/8", &hash);
        let credentials = Credentials::Plain {
            password: Password::new(b"sunny"),
            user: b"weather"[..].into(),
        };
        let [near, far] = ["10.1.2.3", "11.0.0.1"].map(|text| Some(text.parse().expect(text)));
        let denied = Some(Authorization::Denied { is_told: false });
        assert_eq!(users.decide(&credentials, near), granted("weather"));
        assert_eq!(users.decide(&credentials, far), denied);
        assert_eq!(users.role_of("weather").map(|role| &**role), Some("sensor"));
        assert_eq!(users.role_of("maps"), None);
        let stays = |now: &Admission| now.keeps(&users, Some("weather"), near);
        assert!(stays(&list("10.1.0.0/16", &hash)));
        assert!(!stays(&list("11.0.0.0/8", &hash)));
        let other = PasswordHash::new(&Password::new(b"sunny")).expect("a salt");
        assert!(!stays(&list("10.0.0.0/8", &other)));
    }

    #[test]
    fn without_a_list_a_client_is_known_by_its_key() {
        let text = key(1).to_string();
        let curve = Credentials::Curve(key(1));
        assert_eq!(decide(&Admission::Any, &curve), granted(&text));
        assert_eq!(decide(&Admission::Program, &curve), None);
    }
}
