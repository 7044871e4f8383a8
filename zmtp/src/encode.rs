//! Puts frames, commands and messages into wire form.

use bytes::BufMut;

pub use crate::wire::frame::{append_command, append_frame};

/// Appends a message of these frames; without frames, nothing.
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
