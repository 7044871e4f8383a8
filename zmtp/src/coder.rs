//! The coder of a connection: what turns its traffic into other bytes on the wire, and back.
//!
//! ```text
//! read ──► Opener::open ──► plain ZMTP: Session, Finder      plain ZMTP ──► Sealer::seal ──► write
//! ```
//!
//! A mechanism that protects traffic hands out a coder at the end of the handshake
//! ([`crate::Session::take_coder`]). From then on the session is given plain ZMTP and its output is
//! plain ZMTP. Without a coder the bytes on the wire are plain.
//!
//! A frame of several megabytes is opened and sealed in steps, so that other connections need not
//! wait for the whole.

use crate::error::Error;
use crate::frames::Frames;
use crate::limits::Limits;
use crate::mechanism::curve::traffic;

/// Most bytes of a long frame that are opened or sealed in one step.
pub const STEP_SIZE: usize = 512 << 10;

/// The size from which the body of a frame is long: at once, it would take about 10 ms, or more. In
/// steps it takes several times the processor time where there are vector instructions.
pub(crate) fn long_size() -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        return 64 * STEP_SIZE;
    }
    16 * STEP_SIZE
}

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

/// The first pass over the body of a frame that is sealed in steps: its tag stands in front, and
/// nothing else of it is kept.
#[derive(Debug)]
pub struct Tagging(traffic::Tagging);

/// The second pass over the body of a frame that is sealed in steps.
#[derive(Debug)]
pub struct Sealing(traffic::Sealing);

/// How far [`Opener::open`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Bytes that were opened, those of an unfinished frame included.
    pub coded: usize,
    /// Received bytes that are done with.
    pub consumed: usize,
    /// How many bytes must stand behind those for the next frame to be opened; 0 if the next step
    /// needs no more bytes.
    pub need: usize,
    /// Bytes of plain ZMTP that were made of them, at the front.
    pub plain: usize,
}

impl Coder {
    /// Sets the most bytes of a long frame that are opened or sealed in one step, at least 16;
    /// [`STEP_SIZE`] by default. A frame is long from 16 such steps on.
    pub fn set_step_size(&mut self, bytes: usize) {
        self.opener.0.set_step_size(bytes);
        self.sealer.0.set_step_size(bytes);
    }
}

impl Opener {
    /// Bytes of memory in use, without its own size: some while it opens a long frame.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    /// Opens the whole frames at the front of `raw`, in place: plain frames take their room. The
    /// work is bounded by the size of `raw`. The bytes that are not consumed must stand at the
    /// front of the next call, unless the peer is closed.
    ///
    /// # Errors
    /// The peer is to be closed: a frame is not what a peer with the right keys sends next, or it
    /// breaks a limit, which is refused from its header.
    pub fn open(&mut self, raw: &mut [u8], limits: &Limits) -> Result<Opened, Error> {
        let mut all = Opened::default();
        while all.need == 0 {
            let rest = raw.get_mut(all.consumed..).unwrap_or_default();
            let step = match self.0.open(rest, limits) {
                Err(error) if all.consumed > 0 => {
                    self.0.defer(error);
                    all.need = 1;
                    break;
                }
                step => step?,
            };
            raw.copy_within(all.consumed..all.consumed + step.plain, all.plain);
            all.coded += step.coded;
            all.consumed += step.consumed;
            all.need = step.need;
            all.plain += step.plain;
        }
        Ok(all)
    }

    /// The same, but stops after a step, or as many bytes of shorter frames: [`Opened::need`] is 0
    /// if it could go on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_step(&mut self, raw: &mut [u8], limits: &Limits) -> Result<Opened, Error> {
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

    /// Most bytes of a long frame to seal at once.
    #[must_use]
    pub fn step_size(&self) -> usize {
        self.0.step_size()
    }

    /// Whether a frame with a body of so many bytes is long, and better sealed in steps.
    #[must_use]
    pub fn takes_steps(&self, body_size: usize) -> bool {
        self.0.takes_steps(body_size)
    }

    /// Begins to seal a frame in steps: writes a part of what stands in front of its sealed body,
    /// which is as long as the body itself.
    ///
    /// # Errors
    /// The keys are used up.
    ///
    /// # Panics
    /// If `front` is not as long as [`Self::sealed_size`] says, less `body_size`.
    pub fn begin(
        &mut self,
        flags: u8,
        body_size: usize,
        front: &mut [u8],
    ) -> Result<Tagging, Error> {
        self.0.begin(flags, body_size, front).map(Tagging)
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
            let start = out.len();
            out.resize(start + self.sealed_size(frame.body.len()), 0);
            let room = out.get_mut(start..).unwrap_or_default();
            self.seal(frame.flags(), frame.body, room)?;
        }
        Ok(plain.len() - frames.rest().len())
    }
}

impl Tagging {
    /// Adds the next piece of the body.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.add(piece);
    }

    /// All pieces of the body were added: completes what [`Sealer::begin`] wrote.
    #[must_use]
    pub fn finish(self, front: &mut [u8]) -> Sealing {
        Sealing(self.0.finish(front))
    }
}

impl Sealing {
    /// Seals the next piece of the body into `out`.
    ///
    /// # Panics
    /// If `out` is not as long as the piece.
    pub fn seal(&mut self, piece: &[u8], out: &mut [u8]) {
        self.0.seal(piece, out);
    }
}
