//! Bodies of the fuzz targets: ordinary functions, so that a stable `cargo test` replays the
//! corpus.

mod core;
mod driver;
mod reload;
mod text;
mod topics;

pub use self::core::fuzz_core;
pub use reload::fuzz_reload;
pub use text::{fuzz_config, fuzz_endpoint, fuzz_query};
pub use topics::fuzz_trie;

/// Takes numbers and slices from the front of an input; zeros, or shorter slices, when it is used
/// up.
struct Feed<'a> {
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte().unwrap_or_default()) % end
    }

    fn bytes(&mut self, size: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(size.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}
