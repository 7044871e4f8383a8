//! The coder of a connection: what turns its traffic into other bytes on the wire, and back.
//!
//! ```text
//! read ──► Opener::open ──► plain ZMTP: Session, Finder      plain ZMTP ──► Sealer::seal ──► write
//! ```
//!
//! A mechanism that protects traffic hands out a coder at the end of the handshake
//! ([`crate::Session::take_coder`]). From then on the session is given plain ZMTP and its output is
//! plain ZMTP. Without a coder the bytes on the wire are plain.

use crate::error::Error;
use crate::frames::Frames;
use crate::limits::Limits;
use crate::mechanism::curve::traffic;
use crate::wire::header::{COMMAND, MORE};

/// Both directions of one connection's traffic.
#[derive(Debug)]
pub struct Coder {
    /// For received bytes.
    pub opener: Opener,
    /// For bytes to be sent.
    pub sealer: Sealer,
}

/// Turns received bytes into plain ZMTP.
#[derive(Debug)]
pub struct Opener(pub(crate) traffic::Opener);

/// Turns plain ZMTP into bytes to be sent.
#[derive(Debug)]
pub struct Sealer(pub(crate) traffic::Sealer);

/// How far [`Opener::open`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Received bytes that are done with.
    pub consumed: usize,
    /// How many bytes must stand behind those for the next frame to be opened.
    pub need: usize,
    /// Bytes of plain ZMTP that were made of them, at the front.
    pub plain: usize,
}

impl Opener {
    /// Opens the whole frames at the front of `raw`, in place: plain frames take their room. The
    /// work is bounded by the size of `raw`.
    ///
    /// # Errors
    /// The peer is to be closed: a frame is not what a peer with the right keys sends next, or it
    /// breaks a limit, which is refused from its header.
    pub fn open(&mut self, raw: &mut [u8], limits: &Limits) -> Result<Opened, Error> {
        self.0.open(raw, limits)
    }
}

impl Sealer {
    /// Most bytes that a frame grows by.
    pub const OVERHEAD_MAX: usize = traffic::Sealer::OVERHEAD_MAX;

    /// The size on the wire of a frame whose body has so many bytes.
    #[must_use]
    pub fn sealed_size(&self, body_size: usize) -> usize {
        traffic::Sealer::sealed_size(body_size)
    }

    /// Seals the plain frame with these header flags and this body into `out`, which has
    /// [`Self::sealed_size`] bytes.
    ///
    /// # Errors
    /// The keys are used up.
    pub fn seal(&mut self, flags: u8, body: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.0.seal(flags, body, out)
    }

    /// Seals the whole frames at the front of `plain`, and appends them to `out` until that has
    /// `size_max` bytes or more. Returns the number of plain bytes that were sealed.
    ///
    /// # Errors
    /// The keys are used up.
    pub fn append_sealed(
        &mut self,
        plain: &[u8],
        size_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let mut frames = Frames::new(plain);
        while out.len() < size_max
            && let Some(frame) = frames.next()
        {
            let more = if frame.more { MORE } else { 0 };
            let command = if frame.command { COMMAND } else { 0 };
            let start = out.len();
            out.resize(start + self.sealed_size(frame.body.len()), 0);
            let room = out.get_mut(start..).unwrap_or_default();
            self.seal(more | command, frame.body, room)?;
        }
        Ok(plain.len() - frames.rest().len())
    }
}
