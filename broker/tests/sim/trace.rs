//! What happened, as one number that two runs of the same seed must have in common.

use crate::context::Nanos;
use crate::random::{digest, mix};

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    /// Prints every event.
    is_loud: bool,
}

impl Trace {
    pub(crate) fn new(is_loud: bool) -> Self {
        Self { hash: 0, is_loud }
    }

    pub(crate) fn note(&mut self, now: Nanos, what: &str, numbers: [usize; 3]) {
        self.hash = mix(self.hash ^ digest(now, what.as_bytes()));
        for number in numbers {
            self.hash = mix(self.hash ^ number as u64);
        }
        if self.is_loud {
            let [one, two, three] = numbers;
            let (seconds, nanos) = (now / 1_000_000_000, now % 1_000_000_000);
            eprintln!("{seconds:3}.{nanos:09} {what:12} {one} {two} {three}");
        }
    }

    /// Says more, if anybody listens.
    pub(crate) fn show(&self, text: impl FnOnce() -> String) {
        if self.is_loud {
            eprintln!("{}", text());
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hash = digest(self.hash, bytes);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
