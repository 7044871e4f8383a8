//! The HTTP server: its address, its token, the host names that it answers to.

use super::keys::KeyError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// The HTTP server for metrics, health and the dashboard. Off by default.
///
/// A program that embeds the broker provides the server: see `HttpServer`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// The address to listen on; `None`: the server is off.
    pub address: Option<HttpAddress>,
    /// Whether samples of messages are refused; without a token they always are.
    pub hides_samples: bool,
    /// Names of this machine that requests may have in `Host`, beside `localhost` and its address.
    pub hosts: Vec<String>,
    /// The token in [`Self::token_file`], which [`super::Config::load_keys`] reads.
    pub token: Option<HttpToken>,
    /// The file with the token; empty: no request needs one, and all commands are refused.
    pub token_file: String,
}

impl HttpConfig {
    /// Whether a request needs the token to read: another machine may send it.
    #[must_use]
    pub fn needs_token(&self) -> bool {
        self.address.is_some_and(|address| !address.is_loopback())
    }

    /// Reads the token, if a file with one is named.
    pub(super) fn load_token(&mut self) -> Result<(), KeyError> {
        self.token = if self.token_file.is_empty() {
            None
        } else {
            Some(super::keys::read_http_token(&self.token_file)?)
        };
        Ok(())
    }
}

/// An address for HTTP: an IP address, `localhost` or `*`, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HttpAddress(pub SocketAddr);

impl HttpAddress {
    /// Whether only processes of this machine can reach it.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.rsplit_once(':').and_then(|(host, port)| {
            let host: IpAddr = match host {
                "*" => Ipv4Addr::UNSPECIFIED.into(),
                "localhost" => Ipv4Addr::LOCALHOST.into(),
                _ => return None,
            };
            Some(SocketAddr::new(host, port.parse().ok()?))
        });
        let address = named.or_else(|| text.parse().ok()).map(Self);
        address.ok_or_else(|| {
            format!(
                "cannot read \"{}\": write ADDRESS:PORT, such as 127.0.0.1:9090 or [::1]:9090",
                zmtp::show(text).up_to(100)
            )
        })
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A secret that requests show. It is compared in constant time, and never displayed.
#[derive(Clone)]
pub struct HttpToken(Arc<[u8]>);

impl HttpToken {
    /// Fewest bytes of a token.
    pub const SIZE_MIN: usize = 16;

    /// Most bytes of a token.
    pub const SIZE_MAX: usize = 256;

    /// A token of visible ASCII characters, or `None` if the text is not one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_legal = (Self::SIZE_MIN..=Self::SIZE_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_legal.then(|| Self(text.as_bytes().into()))
    }

    /// Whether a request shows this token. The time does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, shown: &[u8]) -> bool {
        let differs = self.0.iter().zip(shown).fold(0, |differs, (left, right)| {
            // Keeps the compiler from leaving the loop early.
            std::hint::black_box(differs | (left ^ right))
        });
        self.0.len() == shown.len() && differs == 0
    }
}

impl PartialEq for HttpToken {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for HttpToken {}

impl fmt::Debug for HttpToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpToken(..)")
    }
}

/// Whether a text can be a name in `Host`.
pub(super) fn is_host_name(text: &str) -> bool {
    let is_part = |part: &str| {
        (1..=63).contains(&part.len())
            && part
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_or_a_name_for_one_and_a_port() {
        for (text, expected) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("localhost:0", "127.0.0.1:0"),
            ("*:80", "0.0.0.0:80"),
            ("[::1]:9090", "[::1]:9090"),
        ] {
            let address: HttpAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), expected);
        }
        for text in [
            "",
            "9090",
            ":9090",
            "127.0.0.1",
            "*:70000",
            "host:80",
            "http://127.0.0.1:1",
        ] {
            let error = text.parse::<HttpAddress>().expect_err(text);
            assert!(error.contains("write ADDRESS:PORT"), "{error}");
        }
    }

    #[test]
    fn only_loopback_needs_no_token() {
        let config = |text: &str| HttpConfig {
            address: Some(text.parse().expect(text)),
            ..HttpConfig::default()
        };
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(!config(text).needs_token(), "{text}");
        }
        for text in ["*:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(config(text).needs_token(), "{text}");
        }
        assert!(!HttpConfig::default().needs_token());
    }

    #[test]
    fn a_token_matches_itself_only_and_is_not_shown() {
        let token = HttpToken::new("0123456789abcdef").expect("long enough");
        assert!(token.matches(b"0123456789abcdef"));
        let others: [&[u8]; 4] = [
            b"",
            b"0123456789abcde",
            b"0123456789abcdef0",
            b"0123456789abcdeF",
        ];
        for other in others {
            assert!(!token.matches(other), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "HttpToken(..)");
        for text in ["", "0123456789abcde", "0123456789abcde ", "0123456789abcdé"] {
            assert_eq!(HttpToken::new(text), None, "{text}");
        }
    }

    #[test]
    fn host_names_are_as_in_dns() {
        for name in ["a", "zmqd.example.org", "box-7", "box_7"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a..b",
            "a b",
            "ä",
            "a:80",
            "http://a",
            &"a".repeat(64),
        ] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
