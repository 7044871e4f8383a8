//! Keys, users and passwords: from the files that options name to the mechanism of a socket.

mod file;
mod plain;
#[cfg(test)]
mod tests;

use super::{
    Admission, ClientKeys, Config, Fault, HttpToken, Place, Problem, SocketConfig, SocketName,
    SocketOption,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use zmtp::MechanismConfig;
use zmtp::curve::{CurveClient, CurveServer, PublicKey, SecretKey};
use zmtp::plain::PlainClient;

/// The value of `curve_clients` and `plain_users` that lets every client in, unless ZAP handlers
/// decide.
pub(super) const ANY: &str = "any";

/// The reason why the keys of a socket cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Users other than its owner may read a file with secrets.
    #[error("{path} has secrets, and other users may read it: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: String,
    },
    /// The text is not a key.
    #[error("{place}: {error}")]
    Malformed {
        /// The reason.
        error: zmtp::curve::KeyError,
        /// The file, with the line in a list.
        place: String,
    },
    /// A line of a user file that is not a user.
    #[error("{place}: write NAME:HASH, as zmqd passwd does; a name has up to 255 bytes")]
    MalformedUser {
        /// The file and the line.
        place: String,
    },
    /// The public key of a certificate does not belong to its secret key.
    #[error("{path}: the public key does not belong to the secret key: write both anew")]
    Mismatch {
        /// The file.
        path: String,
    },
    /// A network that cannot be read.
    #[error("{place}: from={error}")]
    Network {
        /// The reason.
        error: String,
        /// The file, with the line in a list.
        place: String,
    },
    /// A client in a list without a name.
    #[error("{place}: write KEY NAME, with a name for the client")]
    NoName {
        /// The file and the line.
        place: String,
    },
    /// A certificate without a public key.
    #[error("{path} has no line public-key = \"…\": name a file with a public key")]
    NoPublic {
        /// The file.
        path: String,
    },
    /// A certificate without a secret key.
    #[error("{path} has no line secret-key = \"…\": name the file with the secret key")]
    NoSecret {
        /// The file.
        path: String,
    },
    /// The token for HTTP is too short, too long, or has other characters than visible ones.
    #[error("{path} must have one line, with a token of 16 to 256 visible ASCII characters")]
    HttpToken {
        /// The file.
        path: String,
    },
    /// The password of a client is empty or too long.
    #[error("{path} must have one line, with a password of 1 to 255 bytes")]
    Password {
        /// The file.
        path: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The error of the system.
        error: String,
        /// The file.
        path: String,
    },
    /// The file is larger than any legal one.
    #[error("{path} is larger than 1 MiB, and so not a key file: name another file")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// Keys of one user with different roles.
    #[error("the keys of {user} have different roles: give all of them the same")]
    Roles {
        /// The user.
        user: String,
    },
    /// One key with two names.
    #[error("the key {key} has the names {first} and {second}: remove one of them")]
    Twice {
        /// The first name.
        first: String,
        /// The key.
        key: PublicKey,
        /// The second name.
        second: String,
    },
    /// Two lines for one user.
    #[error("{place}: the user {name} is listed before: remove one of the lines")]
    UserTwice {
        /// The name.
        name: String,
        /// The file and the second line.
        place: String,
    },
    /// A word behind a client that is not known, or comes a second time.
    #[error(
        "{place}: \"{word}\" behind the client: write KEY NAME or NAME:HASH, and behind it \
         role=ROLE or from=NETWORK,NETWORK, each at most once"
    )]
    Word {
        /// The file and the line.
        place: String,
        /// The word.
        word: String,
    },
}

/// Reads the secret key in a file: a certificate of pyzmq or czmq, or the key alone.
///
/// # Errors
/// The file cannot be read, other users may read it, or it has no usable key.
pub fn read_secret_key(path: &str) -> Result<SecretKey, KeyError> {
    file::read_secret(path)
}

/// A public key from its text, or from the file with this name.
///
/// # Errors
/// The text is not a key, and not a file with one.
pub fn public_key(text: &str) -> Result<PublicKey, KeyError> {
    file::public_key(text)
}

/// A PLAIN client with this user name, and the password that a file has on its only line.
///
/// # Errors
/// The file cannot be read, other users may read it, or it has no password of 1 to 255 bytes.
pub fn plain_client(user: &str, password_file: &str) -> Result<PlainClient, KeyError> {
    plain::client(user, password_file)
}

pub use plain::UserFile;

/// The token for HTTP in a file.
pub(super) fn read_http_token(path: &str) -> Result<HttpToken, KeyError> {
    let text = file::read(path, true)?;
    let token = HttpToken::new(text.trim_ascii_end());
    token.ok_or_else(|| KeyError::HttpToken {
        path: path.to_owned(),
    })
}

impl Config {
    /// Reads the files with keys, users and passwords that options name, and gives each socket its
    /// mechanism; reads the token for HTTP. A socket whose options name none keeps the mechanism
    /// that it has.
    ///
    /// # Errors
    /// Every socket whose keys cannot be used, and a token that cannot be used.
    pub fn load_keys(&mut self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        if let Err(error) = self.http.load_token() {
            problems.push(Problem {
                fault: Fault::Keys(error),
                place: Place::HttpToken,
            });
        }
        for (index, proxy) in self.proxies.iter_mut().enumerate() {
            for name in SocketName::ALL {
                if let Err(error) = proxy.socket_mut(name).load_keys() {
                    problems.push(Problem {
                        fault: Fault::Keys(error),
                        place: Place::Socket(index, name),
                    });
                }
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl SocketOption {
    /// Whether its value says where keys are: a change has an effect only together with the keys,
    /// which [`Config::load_keys`] reads.
    #[must_use]
    pub fn names_keys(&self) -> bool {
        self.name.starts_with("curve_") || self.name.starts_with("plain_")
    }
}

impl SocketConfig {
    /// As [`Config::load_keys`], for one socket.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn load_keys(&mut self) -> Result<(), KeyError> {
        let options = &self.options;
        if !self.has_endpoint() || !options.contradictions().is_empty() {
            return Ok(());
        }
        if options.plain_users == ANY {
            self.admission = Admission::Any;
            self.mechanism = MechanismConfig::PlainServer;
        } else if !options.plain_users.is_empty() {
            self.admission = Admission::Users(Arc::new(plain::users(&options.plain_users)?));
            self.mechanism = MechanismConfig::PlainServer;
        } else if !options.plain_username.is_empty() {
            let client = plain_client(&options.plain_username, &options.plain_password_file)?;
            self.mechanism = MechanismConfig::PlainClient(Arc::new(client));
        }
        if options.curve_secret.is_empty() {
            return Ok(());
        }
        let secret = file::read_secret(&options.curve_secret)?;
        if options.curve_server.is_empty() {
            self.admission = curve_clients(&options.curve_clients)?;
            self.mechanism = MechanismConfig::CurveServer(Arc::new(CurveServer::new(secret)));
        } else {
            let server = file::public_key(&options.curve_server)?;
            let client = CurveClient::new(secret, server);
            self.mechanism = MechanismConfig::CurveClient(Arc::new(client));
        }
        Ok(())
    }

    /// Whether options for a mechanism are set, and the socket has none.
    pub(super) fn lacks_keys(&self) -> bool {
        let options = &self.options;
        let names = [
            &options.curve_secret,
            &options.curve_clients,
            &options.curve_server,
            &options.plain_username,
            &options.plain_users,
        ];
        self.has_endpoint()
            && self.mechanism == MechanismConfig::Null
            && names.into_iter().any(|name| !name.is_empty())
    }

    /// The public key of this side, which its peers must know; [`None`] without CURVE.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        self.mechanism.public_key()
    }
}

/// The CURVE clients of a list, as the option `curve_clients` names it: a directory, a file or
/// `any`. Without a list, ZAP handlers decide alone.
///
/// # Errors
/// The list cannot be read, or contradicts itself.
pub fn curve_clients(clients: &str) -> Result<Admission, KeyError> {
    if clients == ANY || clients.is_empty() {
        return Ok(Admission::Any);
    }
    let mut keys = ClientKeys::default();
    let mut roles: BTreeMap<Arc<str>, Option<Arc<str>>> = BTreeMap::new();
    for (key, client) in file::clients(clients)? {
        let role = roles
            .entry(client.user.clone())
            .or_insert_with(|| client.role.clone());
        if *role != client.role {
            let user = client.user.to_string();
            return Err(KeyError::Roles { user });
        }
        let second = client.user.to_string();
        if let Some(first) = keys.insert(&key, client) {
            return Err(KeyError::Twice {
                first: first.user.to_string(),
                key,
                second,
            });
        }
    }
    Ok(Admission::Keys(Arc::new(keys)))
}
