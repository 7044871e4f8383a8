//! The answer to a request.

use serde_json::Value;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The rest of a body, in parts of some kilobytes, each rendered when the client has read those
/// before it.
pub(crate) type Parts = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// An answer.
pub(crate) struct Response {
    /// The header `Allow`, where the method was wrong.
    pub(crate) allow: Option<&'static str>,
    pub(crate) body: Body,
    pub(crate) content_type: &'static str,
    /// The connection ends after it.
    pub(crate) closes: bool,
    pub(crate) status: u16,
}

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Cow<'static, [u8]>),
    /// Parts of it, in number unknown.
    Parts(Parts),
}

impl Response {
    pub(crate) fn new(content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            allow: None,
            body: Body::Whole(body.into()),
            closes: false,
            content_type,
            status: 200,
        }
    }

    /// An answer that is rendered while the client reads.
    pub(crate) fn parts(
        content_type: &'static str,
        parts: impl Iterator<Item = Vec<u8>> + Send + 'static,
    ) -> Self {
        Self {
            body: Body::Parts(Box::new(parts)),
            ..Self::new(content_type, &[][..])
        }
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::new(JSON, value.to_string().into_bytes())
    }

    /// One line of plain text.
    pub(crate) fn text(status: u16, line: &str) -> Self {
        Self {
            status,
            ..Self::new(TEXT, format!("{line}\n").into_bytes())
        }
    }

    /// An error, as JSON.
    pub(crate) fn error(status: u16, sentence: &str) -> Self {
        Self {
            status,
            ..Self::json(&serde_json::json!({ "error": sentence }))
        }
    }

    /// An error of the client after which nothing that it sends can be trusted.
    pub(crate) fn refusal(status: u16, sentence: &str) -> Self {
        Self {
            closes: true,
            ..Self::text(status, sentence)
        }
    }

    pub(crate) fn method_refused(allowed: &'static str) -> Self {
        Self {
            allow: Some(allowed),
            ..Self::refusal(
                405,
                &format!("the method is not possible here: use {allowed}"),
            )
        }
    }

    /// Its status line and headers; `is_current` for a client of HTTP/1.1.
    pub(crate) fn head(&self, closes: bool, is_current: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        match &self.body {
            Body::Whole(body) => put(&mut head, "Content-Length", body.len()),
            Body::Parts(_) if is_current => put(&mut head, "Transfer-Encoding", "chunked"),
            Body::Parts(_) => {}
        }
        put(&mut head, "Content-Type", self.content_type);
        if let Some(allow) = self.allow {
            put(&mut head, "Allow", allow);
        }
        if self.status == 401 {
            put(&mut head, "WWW-Authenticate", "Bearer");
        }
        for (name, value) in SAFETY {
            put(&mut head, name, value);
        }
        if closes {
            put(&mut head, "Connection", "close");
        } else if !is_current {
            put(&mut head, "Connection", "keep-alive");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn put(head: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(head, "{name}: {value}\r\n");
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Headers that keep a browser from doing what the page does not need.
const SAFETY: [(&str, &str); 7] = [
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
];

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
