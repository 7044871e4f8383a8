//! Key files: certificates as pyzmq and czmq write them, a key alone on its line, and lists of
//! clients.

use super::KeyError;
use crate::sort;
use crate::{Client, Network};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::SplitWhitespace;
use zmtp::curve::{PublicKey, SecretKey};
use zmtp::show;

/// Largest size of a key file, in bytes: a list of ten thousand clients has less.
const SIZE_MAX: u64 = 1 << 20;

/// Permissions that let users other than the owner read a file.
const OTHERS_READ: u32 = 0o044;

/// The keys of a certificate, and the metadata that the broker knows.
#[derive(Debug, Default)]
struct Certificate<'a> {
    /// The networks of the client, separated by commas.
    from: Option<&'a str>,
    /// The role of the client.
    role: Option<&'a str>,
    public: Option<&'a str>,
    secret: Option<&'a str>,
}

impl<'a> Certificate<'a> {
    /// Reads the lines `public-key = "…"` and `secret-key = "…"`, and `role = "…"` and `from = "…"`
    /// below `metadata`; others have no effect. A text without a key in such a line is a key if it
    /// is one word.
    fn parse(text: &'a str) -> Self {
        let mut found = Self::default();
        let mut is_metadata = false;
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else {
                if !line.trim().is_empty() && !line.starts_with('#') {
                    is_metadata = line.trim() == "metadata";
                }
                continue;
            };
            let value = value.trim();
            let unquoted = ['"', '\''].iter().find_map(|quote| {
                let inner = value.strip_prefix(*quote)?;
                inner.split_once(*quote).map(|(inner, _)| inner)
            });
            let value = Some(unquoted.unwrap_or(value));
            match name.trim() {
                "public-key" => found.public = value,
                "secret-key" => found.secret = value,
                "from" if is_metadata => found.from = value,
                "role" if is_metadata => found.role = value,
                _ => {}
            }
        }
        found
    }

    fn is_empty(&self) -> bool {
        self.public.is_none() && self.secret.is_none()
    }
}

/// Reads a file whose content no other user may read.
///
/// # Errors
/// See [`KeyError`].
pub(super) fn read_secret(path: &str) -> Result<SecretKey, KeyError> {
    let text = read(path, true)?;
    let certificate = Certificate::parse(&text);
    let secret = match certificate.secret {
        Some(secret) => secret,
        None if certificate.is_empty() => text.trim(),
        None => {
            let path = path.to_owned();
            return Err(KeyError::NoSecret { path });
        }
    };
    let key: SecretKey = parse(secret, path)?;
    if let Some(public) = certificate.public
        && parse::<PublicKey>(public, path)? != key.public_key()
    {
        let path = path.to_owned();
        return Err(KeyError::Mismatch { path });
    }
    Ok(key)
}

/// A public key, or the name of the file that has it. The name of an existing file is one, although
/// a path of 40 characters can also be a key.
///
/// # Errors
/// See [`KeyError`].
pub(super) fn public_key(text: &str) -> Result<PublicKey, KeyError> {
    if fs::metadata(text).is_ok_and(|metadata| metadata.is_file()) {
        return read_public(text);
    }
    text.parse().or_else(|_| read_public(text))
}

/// Reads the public key in a file.
///
/// # Errors
/// See [`KeyError`].
pub(super) fn read_public(path: &str) -> Result<PublicKey, KeyError> {
    let text = read(path, false)?;
    public_of(&text, &Certificate::parse(&text), path)
}

/// The public key in a text: of its certificate, or alone.
fn public_of(text: &str, found: &Certificate<'_>, path: &str) -> Result<PublicKey, KeyError> {
    match found.public {
        Some(public) => parse(public, path),
        None if found.is_empty() => parse(text.trim(), path),
        None => {
            let path = path.to_owned();
            Err(KeyError::NoPublic { path })
        }
    }
}

/// Every client that a directory or a file names, with its key.
///
/// # Errors
/// See [`KeyError`].
pub(super) fn clients(path: &str) -> Result<Vec<(PublicKey, Client)>, KeyError> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return clients_of_directory(path);
    }
    let text = read(path, false)?;
    let certificate = Certificate::parse(&text);
    if !certificate.is_empty() {
        return Ok(vec![client_of(&text, &certificate, path)?]);
    }
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !(line.trim().is_empty() || line.starts_with("# ")));
    lines
        .map(|(number, line)| client_in(line, format!("{path}:{number}")))
        .collect()
}

/// The client in a line of a list.
fn client_in(line: &str, place: String) -> Result<(PublicKey, Client), KeyError> {
    let mut words = line.split_whitespace();
    let key = parse(words.next().unwrap_or_default(), &place)?;
    let name = words.next().filter(|name| !name.contains('='));
    let Some(name) = name else {
        return Err(KeyError::NoName { place });
    };
    Ok((key, client_with(name, words, &place)?))
}

/// The client with this name; `words` say more about it.
pub(super) fn client_with(
    name: &str,
    words: SplitWhitespace<'_>,
    place: &str,
) -> Result<Client, KeyError> {
    let mut client = Client::from(name);
    for word in words {
        match word.split_once('=') {
            Some(("from", networks)) if client.from.is_empty() => {
                client.from = parse_networks(networks, place)?;
            }
            Some(("role", role)) if client.role.is_none() => client.role = Some(role.into()),
            _ => {
                return Err(KeyError::Word {
                    place: place.to_owned(),
                    word: show(word).to_string(),
                });
            }
        }
    }
    Ok(client)
}

/// The client of a certificate, which is known by the name of the file.
fn client_of(
    text: &str,
    certificate: &Certificate<'_>,
    path: &str,
) -> Result<(PublicKey, Client), KeyError> {
    let key = public_of(text, certificate, path)?;
    let mut client = Client::from(&*stem(Path::new(path)));
    if let Some(networks) = certificate.from {
        client.from = parse_networks(networks, path)?;
    }
    client.role = certificate.role.map(Into::into);
    Ok((key, client))
}

/// Networks, separated by commas; at least one.
fn parse_networks(text: &str, place: &str) -> Result<Vec<Network>, KeyError> {
    let networks = text.split(',').map(|network| network.trim().parse());
    networks
        .collect::<Result<_, String>>()
        .map_err(|error| KeyError::Network {
            error,
            place: place.to_owned(),
        })
}

/// The certificates of a directory, as `zmq.auth` and `zcertstore` read it: the files with public
/// keys, which are known by the names of the files.
fn clients_of_directory(path: &str) -> Result<Vec<(PublicKey, Client)>, KeyError> {
    let failed = |error: io::Error| KeyError::Read {
        error: error.to_string(),
        path: path.to_owned(),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let is_other = name.starts_with('.') || name.ends_with("_secret");
        if !is_other && file.is_file() {
            files.push(file);
        }
    }
    sort::by(&mut files, &mut Ord::cmp);
    let client = |file: &std::path::PathBuf| {
        let path = file.to_string_lossy();
        let text = read(&path, false)?;
        client_of(&text, &Certificate::parse(&text), &path)
    };
    files.iter().map(client).collect()
}

/// The name of a file without directory and extension.
fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn parse<K: std::str::FromStr<Err = zmtp::curve::KeyError>>(
    text: &str,
    place: &str,
) -> Result<K, KeyError> {
    text.parse().map_err(|error| KeyError::Malformed {
        error,
        place: place.to_owned(),
    })
}

/// The text of a file. One with secrets is refused if users other than its owner may read it.
pub(super) fn read(path: &str, is_secret: bool) -> Result<String, KeyError> {
    let failed = |error: io::Error| KeyError::Read {
        error: error.to_string(),
        path: path.to_owned(),
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if is_secret && metadata.mode() & OTHERS_READ != 0 {
        let path = path.to_owned();
        return Err(KeyError::Exposed { path });
    }
    let mut text = String::new();
    let size = file
        .take(SIZE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if size as u64 > SIZE_MAX {
        let path = path.to_owned();
        return Err(KeyError::TooLarge { path });
    }
    Ok(text)
}
