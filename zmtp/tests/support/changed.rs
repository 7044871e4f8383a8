//! Inputs of a fuzz target that are almost legal.

use crate::fuzz::{Target, byte, try_inputs};

/// Runs a target on a legal input, and on so many with some of its bytes changed, removed or
/// doubled.
pub(crate) fn try_changed(target: Target, inputs: usize, legal: &[u8]) {
    target(legal);
    try_inputs(target, inputs, |random| {
        let mut input = legal.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(input.len());
            match random.below(4) {
                0 => input[at] ^= 1 << random.below(8),
                1 => input.truncate(at.max(1)),
                2 => input.insert(at, byte(random)),
                _ => {
                    let end = (at + random.below(16)).min(input.len());
                    input.extend_from_within(at..end);
                }
            }
        }
        input
    });
}
