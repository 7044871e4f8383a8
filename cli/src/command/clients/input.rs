//! The messages to send: one that is repeated, or those that a thread reads.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use zmtp::SocketType;

use super::args::{CommonArgs, SendArgs};
use super::message::{Batch, Shape};
use crate::client::Waker;
use crate::output::Failure;

/// Messages, and when they are due.
#[derive(Debug)]
pub(super) struct Input {
    batch: Batch,
    /// Batches of the thread; [`None`] if `batch` is all, and is repeated.
    batches: Option<Receiver<Result<Batch, String>>>,
    /// When the next message is due.
    due: Option<Instant>,
    /// The number of messages to go.
    left: Option<u64>,
    /// The index of the next message in `batch`.
    next: usize,
    /// The time between two messages.
    step: Option<Duration>,
}

/// The answer of [`Input::next`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Due(Instant),
    End,
    /// In wire form; it comes again until [`Input::advance`].
    Message(&'a [u8]),
    /// The thread has read nothing new.
    NotYet,
}

/// The places where a text is cut into messages.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Behind(u8),
    Nowhere,
}

/// The largest text of a message.
const TEXT_SIZE_MAX: u64 = 1 << 30;

/// Bytes after which a batch is passed on.
const BATCH_SIZE: usize = 64 << 10;

/// A sender that is behind its rate catches up with the messages of this time.
const CATCH_UP: Duration = Duration::from_millis(100);

impl Input {
    /// The messages of the arguments, or those of stdin or a file, which a thread reads.
    ///
    /// # Errors
    /// The options do not fit together, or the file cannot be read.
    pub(super) fn new(
        args: &SendArgs,
        shape: Shape,
        common: &CommonArgs,
        socket_type: SocketType,
        waker: Arc<Waker>,
    ) -> Result<Self, Failure> {
        let (_, frames) = args.split()?;
        let step = args.interval.or(args.rate);
        let mut batch = Batch::default();
        let cut = if args.null {
            Cut::Behind(0)
        } else if args.stdin || args.file.is_some() && !args.lines && !common.json {
            Cut::Nowhere
        } else {
            Cut::Behind(b'\n')
        };
        let is_read = args.lines || args.stdin || args.null || args.file.is_some();
        let batches = if frames.is_empty() {
            let reader = open(args.file.as_deref())?;
            match cut {
                Cut::Nowhere => {
                    read_whole(reader, &shape, &mut batch).map_err(Failure::Running)?;
                    None
                }
                Cut::Behind(_) => Some(read(reader, shape, cut, waker)?),
            }
        } else if is_read || common.json && shape_reads_json(socket_type) {
            return Err(Failure::usage(
                "the message is given twice: leave out its frames, or -l, -s, -f, -0 and --json",
            ));
        } else {
            let appended = shape.append(&frames, &mut batch);
            appended.map_err(Failure::usage)?;
            None
        };
        let is_counted = matches!(
            socket_type,
            SocketType::Pub | SocketType::Push | SocketType::Req
        );
        let is_reply = socket_type == SocketType::Rep;
        let left = match (&batches, common.count.filter(|_| is_counted)) {
            (None, None) if step.is_none() && !is_reply => Some(batch.len() as u64),
            (None, Some(count)) => Some(count.saturating_mul(batch.len() as u64)),
            (_, count) => count,
        };
        Ok(Self {
            batch,
            batches,
            due: None,
            left,
            next: 0,
            step,
        })
    }

    /// The next message, if it is due.
    ///
    /// # Errors
    /// The thread has found something that is not a message.
    pub(super) fn next(&mut self, now: Instant) -> Result<Next<'_>, Failure> {
        if self.left == Some(0) {
            return Ok(Next::End);
        }
        if let Some(due) = self.due.filter(|due| *due > now) {
            return Ok(Next::Due(due));
        }
        if self.next == self.batch.len() {
            match &self.batches {
                None => {}
                Some(batches) => match batches.try_recv() {
                    Ok(Ok(batch)) => self.batch = batch,
                    Ok(Err(sentence)) => return Err(Failure::Running(sentence)),
                    Err(TryRecvError::Empty) => return Ok(Next::NotYet),
                    Err(TryRecvError::Disconnected) => return Ok(Next::End),
                },
            }
            self.next = 0;
        }
        Ok(self.batch.get(self.next).map_or(Next::End, Next::Message))
    }

    /// The last message was sent.
    pub(super) fn advance(&mut self, now: Instant) {
        self.next += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        if let Some(step) = self.step {
            let due = self.due.unwrap_or(now) + step;
            self.due = Some(due.max(now.checked_sub(CATCH_UP).unwrap_or(now)));
        }
    }
}

/// Whether `--json` of this type is about what it sends, and not only about what it prints.
fn shape_reads_json(socket_type: SocketType) -> bool {
    matches!(socket_type, SocketType::Pub | SocketType::Push)
}

/// Stdin, or a file.
fn open(file: Option<&Path>) -> Result<File, Failure> {
    match file {
        Some(path) => File::open(path).map_err(|error| {
            let name = path.display().to_string();
            Failure::usage(format!("cannot read {}: {error}", zmtp::show(&name)))
        }),
        None => {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            let refused =
                |error: io::Error| Failure::Running(format!("cannot read stdin: {error}"));
            Ok(stdin.map_err(refused)?.into())
        }
    }
}

/// Reads one message, of all bytes.
fn read_whole(reader: File, shape: &Shape, batch: &mut Batch) -> Result<(), String> {
    let mut text = Vec::new();
    let read = reader.take(TEXT_SIZE_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| format!("cannot read the message: {error}"))?;
    check_size(&text)?;
    shape.append_text(&text, batch)
}

fn check_size(text: &[u8]) -> Result<(), String> {
    if text.len() as u64 > TEXT_SIZE_MAX {
        return Err(format!(
            "a message is larger than {} MiB: cut it into several",
            TEXT_SIZE_MAX >> 20
        ));
    }
    Ok(())
}

/// Reads messages on a thread, a batch ahead.
fn read(
    reader: File,
    shape: Shape,
    cut: Cut,
    waker: Arc<Waker>,
) -> Result<Receiver<Result<Batch, String>>, Failure> {
    let (sender, batches) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("input".to_owned());
    let work = move || {
        if let Err(sentence) = read_batches(reader, &shape, cut, &sender, &waker) {
            // The receiver has gone if the command ends.
            drop(sender.send(Err(sentence)));
        }
        drop(sender);
        drop(waker.wake());
    };
    let started = thread.spawn(work);
    started.map_err(|error| Failure::Running(format!("cannot start a thread: {error}")))?;
    Ok(batches)
}

fn read_batches(
    reader: File,
    shape: &Shape,
    cut: Cut,
    sender: &SyncSender<Result<Batch, String>>,
    waker: &Waker,
) -> Result<(), String> {
    let Cut::Behind(end) = cut else {
        return Ok(());
    };
    let mut reader = BufReader::with_capacity(BATCH_SIZE, reader);
    let (mut batch, mut number) = (Batch::default(), 0_u64);
    let mut text = Vec::new();
    loop {
        text.clear();
        number += 1;
        let size = (&mut reader)
            .take(TEXT_SIZE_MAX + 2)
            .read_until(end, &mut text);
        let size = size.map_err(|error| format!("cannot read the messages: {error}"))?;
        let piece = text.strip_suffix(&[end]).unwrap_or(&text);
        if size > 0 && !(shape.is_json && piece.trim_ascii().is_empty()) {
            let appended = check_size(piece).and_then(|()| shape.append_text(piece, &mut batch));
            if let Err(error) = appended {
                // The messages before it are sent.
                if batch.len() > 0 {
                    drop(sender.send(Ok(batch)));
                    drop(waker.wake());
                }
                return Err(format!("message {number}: {error}"));
            }
        }
        let may_wait = size == 0 || !reader.buffer().contains(&end);
        if batch.len() > 0 && (may_wait || batch.size() >= BATCH_SIZE) {
            // What has been read is sent before the next read, which may take long.
            if sender.send(Ok(std::mem::take(&mut batch))).is_err() {
                return Ok(());
            }
            drop(waker.wake());
        }
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test begins at any moment")]

    use super::*;
    use crate::client::{ClientConfig, Socket};
    use zmtp::encode::append_message;

    fn input(texts: &[&[u8]], left: Option<u64>, step: Option<Duration>) -> Input {
        let mut batch = Batch::default();
        for text in texts {
            Shape::default().append_text(text, &mut batch).unwrap();
        }
        Input {
            batch,
            batches: None,
            due: None,
            left,
            next: 0,
            step,
        }
    }

    fn wire(text: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        append_message(&mut wire, &[text]);
        wire
    }

    #[test]
    fn messages_are_repeated_when_they_are_due() {
        let second = Duration::from_secs(1);
        let mut now = Instant::now();
        let mut input = input(&[b"a", b"b"], Some(3), Some(second));
        for text in ["a", "b", "a"] {
            let expected = wire(text);
            assert_eq!(input.next(now).unwrap(), Next::Message(&expected));
            assert_eq!(input.next(now).unwrap(), Next::Message(&expected));
            input.advance(now);
            if text != "a" || input.left != Some(0) {
                assert_eq!(input.next(now).unwrap(), Next::Due(now + second));
            }
            now += second;
        }
        assert_eq!(input.next(now).unwrap(), Next::End);
    }

    #[test]
    fn a_late_sender_catches_up_only_a_little() {
        let step = Duration::from_millis(10);
        let mut input = input(&[b"a"], None, Some(step));
        let start = Instant::now();
        input.advance(start);
        let late = start + Duration::from_secs(60);
        let mut count = 0;
        while let Next::Message(_) = input.next(late).unwrap() {
            input.advance(late);
            count += 1;
        }
        assert!((10..=12).contains(&count), "{count}");
    }

    #[test]
    fn a_reader_keeps_its_place_and_ends() {
        let (reader, mut writer) = io::pipe().unwrap();
        let config = ClientConfig {
            mechanism: zmtp::MechanismConfig::Null,
            socket_type: SocketType::Push,
            timeout: Duration::from_secs(1),
        };
        let socket = Socket::new(&config, Vec::new()).unwrap();
        let waker = socket.waker();
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        let batches = read(reader, Shape::default(), Cut::Behind(b'\n'), waker).unwrap();
        let mut texts = Vec::new();
        let lines: Vec<String> = (0..50_000).map(|number| format!("line {number}")).collect();
        let written = lines.join("\n");
        let thread = thread::spawn(move || {
            io::Write::write_all(&mut writer, written.as_bytes()).unwrap();
        });
        for batch in batches {
            let batch = batch.unwrap();
            for index in 0..batch.len() {
                let frame = zmtp::Frames::new(batch.get(index).unwrap()).next().unwrap();
                texts.push(String::from_utf8(frame.body.to_vec()).unwrap());
            }
        }
        thread.join().unwrap();
        assert_eq!(texts, lines);
    }
}
