//! Puts frames and messages into wire form.

use crate::wire::header::{LONG, MORE};
use bytes::BufMut;

pub use crate::wire::command::append_command;

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

/// Appends a message of these frames; nothing if there are none.
pub fn append_message<B: AsRef<[u8]>>(out: &mut impl BufMut, frames: &[B]) {
    for (index, frame) in frames.iter().enumerate() {
        append_frame(out, frame.as_ref(), index + 1 < frames.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Frames;

    #[test]
    fn what_is_appended_reads_back() {
        let bodies: [Vec<u8>; 4] = [vec![], vec![1; 255], vec![2; 256], vec![3; 70_000]];
        let mut out = Vec::new();
        append_message(&mut out, &bodies);
        let frames: Vec<_> = Frames::new(&out).collect();
        assert_eq!(frames.len(), bodies.len());
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(frame.body, bodies[index]);
            assert_eq!(frame.more, index < 3);
        }
        assert_eq!(out.len(), 2 + (2 + 255) + (9 + 256) + (9 + 70_000));
    }
}
