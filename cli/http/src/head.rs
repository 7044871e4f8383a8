//! The head of a request: its line and its headers.

use crate::limits::{HEAD_SIZE_MAX, HEADERS_MAX, PARAMETERS_MAX};
use crate::response::Response;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// An answer.
    Get,
    /// The head of that answer.
    Head,
    /// A command.
    Post,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The version is 1.1.
    pub(crate) is_current: bool,
    /// `Host`, without its port and in lower case.
    pub(crate) host: Option<String>,
    /// `X-Zmqd`, which no page of another origin can send.
    pub(crate) is_marked: bool,
    /// The client wants to send further requests.
    pub(crate) keeps_alive: bool,
    pub(crate) method: Method,
    /// The parameters of the query, decoded.
    pub(crate) parameters: Vec<(String, Vec<u8>)>,
    /// The parts of the path between slashes, decoded.
    pub(crate) path: Vec<String>,
    /// The number of its bytes.
    pub(crate) size: usize,
    /// The token in `Authorization`.
    pub(crate) token: Option<Vec<u8>>,
}

impl Head {
    /// The value of a parameter; the first one counts.
    pub(crate) fn parameter(&self, name: &str) -> Option<&[u8]> {
        let mut parameters = self.parameters.iter();
        let found = parameters.find(|(key, _)| key == name);
        found.map(|(_, value)| &value[..])
    }
}

/// Parses the head of a request. `None`: it is incomplete.
///
/// # Errors
/// The answer that refuses it; the connection cannot be used any more.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let within = &bytes[..bytes.len().min(HEAD_SIZE_MAX)];
    let size = match request.parse(within) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_SIZE_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::refusal(
                431,
                "the head of the request is too large",
            ));
        }
        Err(httparse::Error::Version) => {
            return Err(Response::refusal(505, "write HTTP/1.1"));
        }
        Err(_) => return Err(Response::refusal(400, "this is not a request of HTTP/1.1")),
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Response::refusal(400, "this is not a request of HTTP/1.1"));
    };
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        _ => return Err(Response::method_refused("GET, HEAD, POST")),
    };
    let (path, parameters) = parse_target(target)?;
    let mut head = Head {
        is_current: version == 1,
        host: None,
        is_marked: false,
        keeps_alive: version == 1,
        method,
        parameters,
        path,
        size,
        token: None,
    };
    for header in request.headers.iter() {
        take_header(&mut head, header.name, header.value)?;
    }
    if head.is_current && head.host.is_none() {
        return Err(Response::refusal(400, "HTTP/1.1 needs the header Host"));
    }
    Ok(Some(head))
}

fn take_header(head: &mut Head, name: &str, value: &[u8]) -> Result<(), Response> {
    if name.eq_ignore_ascii_case("host") {
        let host = std::str::from_utf8(value).ok().and_then(without_port);
        if head.host.is_some() || host.is_none() {
            return Err(Response::refusal(
                400,
                "write the header Host once, with a name",
            ));
        }
        head.host = host;
    } else if name.eq_ignore_ascii_case("connection") {
        let text = String::from_utf8_lossy(value).to_ascii_lowercase();
        for word in text.split(',').map(str::trim) {
            match word {
                "close" => head.keeps_alive = false,
                "keep-alive" => head.keeps_alive = true,
                _ => {}
            }
        }
    } else if name.eq_ignore_ascii_case("content-length") {
        if value.trim_ascii() != b"0" {
            return Err(Response::refusal(
                413,
                "requests have no body here: write parameters in the query",
            ));
        }
    } else if name.eq_ignore_ascii_case("transfer-encoding") || name.eq_ignore_ascii_case("upgrade")
    {
        return Err(Response::refusal(
            400,
            "requests have no body here, and no other protocol",
        ));
    } else if name.eq_ignore_ascii_case("authorization") {
        let (scheme, token) = value.split_at_checked(7).unwrap_or_default();
        if scheme.eq_ignore_ascii_case(b"bearer ") {
            head.token = Some(token.trim_ascii().to_vec());
        }
    } else if name.eq_ignore_ascii_case("x-zmqd") {
        head.is_marked = true;
    }
    Ok(())
}

/// The name or address in `Host`, without brackets, in lower case.
fn without_port(host: &str) -> Option<String> {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (port.is_empty() || is_port(port)).then_some(address)?
        }
        None => match host.split_once(':') {
            Some((name, port)) => is_port(&format!(":{port}")).then_some(name)?,
            None => host,
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':');
    digits.is_some_and(|digits| digits.is_empty() || digits.parse::<u16>().is_ok())
}

type Target = (Vec<String>, Vec<(String, Vec<u8>)>);

/// The path and the query of a target, which begins with a slash or with `http://HOST`.
fn parse_target(target: &str) -> Result<Target, Response> {
    let not_legal = || Response::refusal(400, "the address of the request is not legal");
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find(['/', '?']).map_or("/", |start| &rest[start..]),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix('/').ok_or_else(not_legal)?;
    let parts = path.split('/').filter(|part| !part.is_empty());
    let parts: Option<Vec<String>> = parts
        .map(|part| String::from_utf8(decode(part, false)?).ok())
        .collect();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut parameters = Vec::new();
    for pair in pairs {
        if parameters.len() == PARAMETERS_MAX {
            return Err(Response::refusal(400, "too many parameters"));
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = decode(key, true).and_then(|key| String::from_utf8(key).ok());
        let value = decode(value, true);
        parameters.push(key.zip(value).ok_or_else(not_legal)?);
    }
    Ok((parts.ok_or_else(not_legal)?, parameters))
}

/// Decodes `%` and two hexadecimal digits; in a query, `+` is a space.
fn decode(text: &str, is_query: bool) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str) -> Head {
        let head = parse(text.as_bytes());
        head.unwrap_or_else(|refusal| panic!("{text:?}: {}", refusal.status))
            .expect("complete")
    }

    fn status(text: &str) -> u16 {
        parse(text.as_bytes()).expect_err(text).status
    }

    #[test]
    fn a_head_has_path_query_host_and_token() {
        let head = get(
            "GET /api/v1/proxies/a.b/who?topic=%00a+b&x HTTP/1.1\r\nhost: Box:90\r\n\
                        AUTHORIZATION: bearer secret \r\nx-zmqd: 1\r\n\r\nrest",
        );
        assert_eq!(head.path, ["api", "v1", "proxies", "a.b", "who"]);
        assert_eq!(head.parameter("topic"), Some(&b"\0a b"[..]));
        assert_eq!(head.parameter("x"), Some(&b""[..]));
        assert_eq!(head.parameter("y"), None);
        assert_eq!(head.host.as_deref(), Some("box"));
        assert_eq!(head.token.as_deref(), Some(&b"secret"[..]));
        assert!(head.is_marked && head.is_current && head.keeps_alive);
        let head = get("HEAD http://h/p?q HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(
            (head.method, &head.path[..]),
            (Method::Head, &["p".to_owned()][..])
        );
        assert!(head.keeps_alive && !head.is_current && head.host.is_none());
        assert!(!get("GET / HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n").keeps_alive);
    }

    #[test]
    fn hosts_lose_port_brackets_and_final_dot() {
        for (host, expected) in [
            ("localhost", Some("localhost")),
            ("LOCALHOST.:80", Some("localhost")),
            ("127.0.0.1:9090", Some("127.0.0.1")),
            ("[::1]:9090", Some("::1")),
            ("[::1]", Some("::1")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:80:80", None),
            ("[::1", None),
            ("[::1]80", None),
            ("a:99999", None),
        ] {
            assert_eq!(without_port(host).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn half_a_head_is_incomplete_at_every_length() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..end]).ok(), Some(None), "{end}");
        }
        assert_eq!(get(whole).size, whole.len());
    }

    #[test]
    fn heads_have_limits() {
        let large = |size| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "x".repeat(size)
            )
        };
        let rest = large(0).len();
        assert_eq!(get(&large(HEAD_SIZE_MAX - rest)).size, HEAD_SIZE_MAX);
        assert_eq!(status(&large(HEAD_SIZE_MAX - rest + 1)), 431);
        assert_eq!(status(&"G".repeat(HEAD_SIZE_MAX)), 431);
        let headers = |count| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: 1\r\n".repeat(count)
            )
        };
        assert!(parse(headers(HEADERS_MAX - 1).as_bytes()).is_ok());
        assert_eq!(status(&headers(HEADERS_MAX)), 431);
        let parameters =
            |count| format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a=1&".repeat(count));
        assert_eq!(
            get(&parameters(PARAMETERS_MAX)).parameters.len(),
            PARAMETERS_MAX
        );
        assert_eq!(status(&parameters(PARAMETERS_MAX + 1)), 400);
    }

    #[test]
    fn illegal_heads_are_refused() {
        for (text, expected) in [
            ("\0\r\n\r\n", 400),
            ("GET\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: \u{e4}:x\r\n\r\n", 400),
            ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /?a=%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
                413,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 9\r\n\r\n",
                413,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
                400,
            ),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
    }
}
