//! A terminal that shows one page after the other, and reads single keys.
//!
//! The terminal is as before when this ends, by a key, a signal or an error, and while the process
//! is stopped.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::{flag, low_level};

use super::page::Size;
use crate::output::Failure;

/// A terminal in the mode for single keys.
pub(super) struct Screen {
    /// The former mode.
    former: Termios,
    /// Bytes that were read and are no whole key yet.
    input: Vec<u8>,
    /// A signal asks for the end.
    is_ended: Arc<AtomicBool>,
    /// A signal asks for a stop, as Ctrl-Z does.
    is_stopped: Arc<AtomicBool>,
    size: Size,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// The time is over.
    None,
    /// A key or a signal asks for the end.
    Quit,
    /// The terminal has another size, or lost its page.
    Resized,
}

/// Another screen than that of the shell, without a cursor and without wrapped lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal answers with the position of its last corner, which is its size: a request of
/// xterm's that every terminal understands, and that needs no system call of its own.
const ASK_SIZE: &str = "\x1b[9999;9999H\x1b[6n";

/// Tenths of a second that a read waits for a key.
const PATIENCE: u8 = 1;

/// Bytes of a key or an answer of the terminal; longer ones are of neither.
const INPUT_LEN_MAX: usize = 32;

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        let screen = Self {
            former: tcgetattr(io::stdin()).map_err(|error| failed(&error.into()))?,
            input: Vec::new(),
            is_ended: Arc::default(),
            is_stopped: Arc::default(),
            size: Size::USUAL,
        };
        let register = || {
            for signal in [SIGHUP, SIGINT, SIGTERM] {
                flag::register(signal, Arc::clone(&screen.is_ended))?;
            }
            flag::register(SIGTSTP, Arc::clone(&screen.is_stopped))?;
            screen.enter()
        };
        register().map_err(|error| failed(&error))?;
        Ok(screen)
    }

    /// The size, as far as the terminal has told it.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    fn enter(&self) -> io::Result<()> {
        let mut mode = self.former.clone();
        mode.local_flags -= LocalFlags::ICANON | LocalFlags::ECHO;
        mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        mode.control_chars[SpecialCharacterIndices::VTIME as usize] = PATIENCE;
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &mode)?;
        write(ENTER)
    }

    fn leave(&self) -> io::Result<()> {
        let restored = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.former);
        write(LEAVE)?;
        Ok(restored?)
    }

    /// Shows a page in place of the one before.
    pub(super) fn show(&self, lines: &[String]) -> Result<(), Failure> {
        let page = lines.join("\x1b[K\n");
        let page = format!("\x1b[H{page}\x1b[K\x1b[J{ASK_SIZE}");
        write(&page).map_err(|error| failed(&error))
    }

    /// Waits for a key.
    pub(super) fn wait(&mut self, until: Instant) -> Result<Key, Failure> {
        self.try_wait(until).map_err(|error| failed(&error))
    }

    fn try_wait(&mut self, until: Instant) -> io::Result<Key> {
        loop {
            if self.is_ended.load(Ordering::Relaxed) {
                return Ok(Key::Quit);
            }
            if self.is_stopped.swap(false, Ordering::Relaxed) {
                self.leave()?;
                low_level::emulate_default_handler(SIGTSTP)?;
                self.enter()?;
                return Ok(Key::Resized);
            }
            while let Some(pressed) = next_key(&mut self.input) {
                match pressed {
                    Pressed::Key('q') => return Ok(Key::Quit),
                    Pressed::Key(key) => return Ok(Key::Char(key)),
                    Pressed::Size(size) if size != self.size => {
                        self.size = size;
                        return Ok(Key::Resized);
                    }
                    Pressed::Size(_) | Pressed::Other => {}
                }
            }
            let mut bytes = [0; INPUT_LEN_MAX];
            match io::stdin().lock().read(&mut bytes) {
                Ok(0) if Instant::now() >= until => return Ok(Key::None),
                Ok(0) => {
                    // An escape alone is a key, and not the beginning of an answer.
                    self.input.clear();
                }
                Ok(size) => self.input.extend_from_slice(&bytes[..size]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal is gone, nothing is left to restore.
        let _ = self.leave();
    }
}

/// What a terminal sends.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Key(char),
    /// A key that means nothing here.
    Other,
    Size(Size),
}

/// Takes the first key, or the first answer of the terminal, out of the input, if it is complete.
fn next_key(input: &mut Vec<u8>) -> Option<Pressed> {
    let (length, pressed) = match input[..] {
        [] | [0x1b] | [0x1b, b'O'] => return None,
        [0x1b, b'[', ref rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
                if input.len() >= INPUT_LEN_MAX {
                    input.clear();
                }
                return None;
            };
            let size = (rest[end] == b'R').then(|| size_in(&rest[..end])).flatten();
            (2 + end + 1, size.map_or(Pressed::Other, Pressed::Size))
        }
        // A function key.
        [0x1b, b'O', _, ..] => (3, Pressed::Other),
        [0x1b, _, ..] => (2, Pressed::Other),
        [key, ..] => (1, Pressed::Key(key.into())),
    };
    input.drain(..length);
    Some(pressed)
}

/// The size in a report of a position: `LINES;COLUMNS`.
fn size_in(report: &[u8]) -> Option<Size> {
    let (lines, columns) = str::from_utf8(report).ok()?.split_once(';')?;
    let (lines, columns): (u16, u16) = (lines.parse().ok()?, columns.parse().ok()?);
    let is_usable = lines >= 2 && columns >= 2;
    is_usable.then(|| Size {
        columns: columns.into(),
        lines: lines.into(),
    })
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn failed(error: &io::Error) -> Failure {
    Failure::Running(format!("the terminal: {error}; zmqd top --once needs none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_answers_are_told_apart_in_pieces_of_any_length() {
        let sent = b"t\x1b[24;80Rd\x1b[A\x1bOPx\x1b[1;1Rq";
        let size = Pressed::Size(Size::USUAL);
        let expected = ['t', 'd', 'x', 'q'].map(Pressed::Key);
        for step in 1..sent.len() {
            let (mut input, mut keys, mut sizes) = (Vec::new(), Vec::new(), 0);
            for piece in sent.chunks(step) {
                input.extend_from_slice(piece);
                while let Some(pressed) = next_key(&mut input) {
                    match pressed {
                        Pressed::Other => {}
                        Pressed::Size(_) if pressed == size => sizes += 1,
                        other => keys.push(other),
                    }
                }
            }
            assert_eq!(
                (keys.as_slice(), sizes),
                (&expected[..], 1),
                "pieces of {step}"
            );
            assert!(input.is_empty(), "{input:?}");
        }
    }

    #[test]
    fn an_endless_answer_is_forgotten() {
        let mut input = b"\x1b[".to_vec();
        for _ in 0..1000 {
            input.push(b'1');
            assert_eq!(next_key(&mut input), None);
            assert!(input.len() <= INPUT_LEN_MAX);
            if input.is_empty() {
                return;
            }
        }
        panic!("it grows");
    }
}
