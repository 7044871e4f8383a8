//! Files for PLAIN: the users of a server, and the password of a client.

use super::KeyError;
use super::file::{client_with, read};
use crate::Users;
use std::fs;
use std::io::ErrorKind;
use zmtp::plain::{Password, PasswordHash, PlainClient};

/// Longest name of a user, and longest password, in bytes.
const FIELD_SIZE_MAX: usize = 255;

/// The users in a file.
pub(super) fn users(path: &str) -> Result<Users, KeyError> {
    UserFile::parse(path, &read(path, true)?)?.users(path)
}

/// A client with this name and the password in a file.
pub(super) fn client(name: &str, path: &str) -> Result<PlainClient, KeyError> {
    let text = read(path, true)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let is_password = !line.is_empty() && !line.contains('\n');
    let client = PlainClient::new(name.as_bytes(), Password::new(line.as_bytes()));
    let client = client.ok().filter(|_| is_password);
    client.ok_or_else(|| KeyError::Password {
        path: path.to_owned(),
    })
}

/// A file with the users of a PLAIN server: `NAME:HASH` in each line, and behind it `role=ROLE` and
/// `from=NETWORK,NETWORK`, if the user has a role or networks. Empty lines and lines that begin
/// with `#` have no meaning, and stay as they are.
#[derive(Clone, Debug)]
pub struct UserFile {
    lines: Vec<String>,
}

impl UserFile {
    /// Reads a file; one that does not exist has no users.
    ///
    /// # Errors
    /// The file cannot be read, other users may read it, or a line is malformed.
    pub fn read(path: &str) -> Result<Self, KeyError> {
        let found = fs::metadata(path);
        let is_there = !found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let text = is_there.then(|| read(path, true)).transpose()?;
        Self::parse(path, &text.unwrap_or_default())
    }

    fn parse(path: &str, text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().map(str::to_owned).collect();
        let file = Self { lines };
        file.users(path)?;
        Ok(file)
    }

    fn users(&self, path: &str) -> Result<Users, KeyError> {
        let mut users = Users::default();
        for (number, line) in (1..).zip(&self.lines) {
            let place = || format!("{path}:{number}");
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let user = line.split_once(':').and_then(|(name, rest)| {
                let mut words = rest.split_whitespace();
                let hash: PasswordHash = words.next()?.parse().ok()?;
                Self::is_name(name).then_some((name, hash, words))
            });
            let Some((name, hash, words)) = user else {
                return Err(KeyError::MalformedUser { place: place() });
            };
            let client = client_with(name, words, &place())?;
            if users.insert(client, hash).is_some() {
                let name = name.to_owned();
                return Err(KeyError::UserTwice {
                    name,
                    place: place(),
                });
            }
        }
        Ok(users)
    }

    /// Whether a user may have this name: 1 to 255 bytes, without a colon, spaces at the ends or
    /// hidden characters, and without `#` at the beginning.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        (1..=FIELD_SIZE_MAX).contains(&name.len())
            && name.trim() == name
            && !name.starts_with('#')
            && !name.contains(|it: char| it == ':' || zmtp::is_hidden(it))
    }

    /// Whether a user may have this password: 1 to 255 bytes.
    #[must_use]
    pub fn is_password(password: &Password) -> bool {
        (1..=FIELD_SIZE_MAX).contains(&password.as_bytes().len())
    }

    /// Adds a user, or gives one another password; the rest of its line stays.
    pub fn set(&mut self, name: &str, hash: &PasswordHash) {
        let mut line = format!("{name}:{}", hash.as_str());
        match self.lines.iter_mut().find(|line| has_name(line, name)) {
            Some(former) => {
                let rest = &former[name.len()..];
                for word in rest.split_whitespace().skip(1) {
                    line.push(' ');
                    line.push_str(word);
                }
                *former = line;
            }
            None => self.lines.push(line),
        }
    }

    /// Removes a user; returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !has_name(line, name));
        self.lines.len() < before
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| format!("{line}\n"));
        lines.collect()
    }
}

fn has_name(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(found, _)| found == name)
}
