//! Whole frames of messages and commands, as they are sent.

use crate::wire::header::{COMMAND, LONG, MORE, SHORT_BODY_SIZE_MAX};
use bytes::BufMut;

/// Appends one message frame.
#[inline]
pub fn append_frame(out: &mut impl BufMut, body: &[u8], more: bool) {
    let flags = if more { MORE } else { 0 };
    match u8::try_from(body.len()) {
        Ok(short) => out.put_slice(&[flags, short]),
        Err(_) => {
            out.put_u8(flags | LONG);
            out.put_u64(body.len() as u64);
        }
    }
    out.put_slice(body);
}

/// Appends a whole command frame.
///
/// # Panics
/// If the name is longer than 255 bytes: names are ours.
pub fn append_command(out: &mut impl BufMut, name: &str, data: &[u8]) {
    let Ok(name_size) = u8::try_from(name.len()) else {
        unreachable!("command names are short");
    };
    let body_size = 1 + name.len() + data.len();
    match u8::try_from(body_size) {
        Ok(short) => out.put_slice(&[COMMAND, short]),
        Err(_) => {
            debug_assert!(body_size > SHORT_BODY_SIZE_MAX);
            out.put_u8(COMMAND | LONG);
            out.put_u64(body_size as u64);
        }
    }
    out.put_u8(name_size);
    out.put_slice(name.as_bytes());
    out.put_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_changes_at_256_bytes_of_body() {
        for (topic_size, start) in [
            (245, &b"\x04\xff\x09SUB"[..]),
            (246, b"\x06\0\0\0\0\0\0\x01\0"),
        ] {
            let mut out = Vec::new();
            append_command(&mut out, "SUBSCRIBE", &vec![b't'; topic_size]);
            assert!(out.starts_with(start), "{}", out.escape_ascii());
        }
    }
}
