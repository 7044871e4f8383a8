//! The writing half: a buffer for the event loop, a thread for the file.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::SIGXFSZ;

use super::RecordConfig;
use super::format::{self, Lost, Message, Origin, RECORD_SIZE_MAX, Record};
use super::rotation::{Files, Open};

/// Bytes that are handed to the thread without waiting for the end of a turn.
const BATCH_SIZE: usize = 256 << 10;

/// Buffers kept for use again, none of them larger than twice a batch.
const SPARES_MAX: usize = 4;

/// How long nothing is written after a failure, by the time of the messages: otherwise a disk with
/// hardly any room would get a shred of a recording, and the log a storm of complaints.
const REST_NS: u64 = 1_000_000_000;

/// A recording under way.
///
/// What was pushed is in the file, in the kernel's hands, soon after the next [`Self::flush`]:
/// from then on it survives the end of this process, however sudden. What was not yet written
/// survives a drop, which waits for it, but not a SIGKILL. Nothing is forced to the disk, so that
/// a crash of the whole machine may cost the last seconds.
#[derive(Debug)]
pub struct Recorder {
    /// Records that the thread does not have yet.
    batch: Vec<u8>,
    buffer_size_max: u64,
    /// Hung up to tell the thread that this is the end.
    jobs: Option<Sender<Job>>,
    /// What was lost since the last record.
    lost: Lost,
    shared: Arc<Shared>,
    spares: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

/// What a recording has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes written to files.
    pub bytes: u64,
    /// Whether the last attempt to write failed.
    pub is_failing: bool,
    /// Messages that were not recorded: the buffer was full, they were longer than a record may
    /// be, or writing failed.
    pub lost_messages: u64,
    /// Messages written to files.
    pub messages: u64,
}

/// A recording that could not be begun.
#[derive(Debug, thiserror::Error)]
#[error("cannot record to {}: {source}{}", path.display(), remedy(source))]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What to do about an error of the system.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::IsADirectory => "; name a file in it",
        io::ErrorKind::NotFound => "; create its directory first, or choose another file",
        io::ErrorKind::PermissionDenied => "; let zmqd write there, or choose another file",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull => "; choose another file",
        _ => "",
    }
}

/// What the thread is asked to do.
#[derive(Debug)]
enum Job {
    /// To say when it comes to this.
    Answer(SyncSender<()>),
    Write(Vec<u8>),
}

/// What both threads know.
#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    /// Bytes handed over and not yet dealt with.
    held: AtomicU64,
    is_failing: AtomicBool,
    lost_messages: AtomicU64,
    messages: AtomicU64,
}

impl Recorder {
    /// Opens the file and starts the thread that writes to it.
    ///
    /// # Errors
    /// The file cannot be made or written to, or another process records there.
    pub fn open(config: &RecordConfig) -> Result<Self, OpenError> {
        let refuse = |source| OpenError {
            path: config.path.clone(),
            source,
        };
        survive_size_limits().map_err(refuse)?;
        let files = Files::new(&config.path, config.files_max);
        files.check_vacant().map_err(refuse)?;
        let open = files.begin().map_err(refuse)?;
        let shared = Arc::new(Shared::default());
        let (sender, jobs) = mpsc::channel();
        let (spare, spares) = mpsc::sync_channel(SPARES_MAX);
        let writer = Writer {
            config: config.clone(),
            current: Some(Current::new(open)),
            failed_ns: None,
            files,
            is_stuck: false,
            lost: Lost::default(),
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || writer.run(&jobs, &spare))
            .map_err(refuse)?;
        Ok(Self {
            batch: Vec::new(),
            buffer_size_max: config.buffer_size_max,
            jobs: Some(sender),
            lost: Lost::default(),
            shared,
            spares,
            thread: Some(thread),
        })
    }

    /// Records a message, given as one or more parts of its wire form; false if it is lost. Copies
    /// its bytes, never waits, and asks nothing of the system unless a batch is full.
    pub fn push(&mut self, time_ns: u64, origin: &Origin<'_>, parts: &[&[u8]]) -> bool {
        let size = format::message_size(origin, parts);
        let held = self.shared.held.load(Ordering::Relaxed) + self.batch.len() as u64;
        if size > u64::from(RECORD_SIZE_MAX) || held.saturating_add(size) > self.buffer_size_max {
            self.lost.messages += 1;
            self.lost.bytes += format::size_of_all(parts);
            self.shared.lost_messages.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.append_lost(time_ns);
        format::append_message(&mut self.batch, time_ns, origin, parts);
        if self.batch.len() >= BATCH_SIZE {
            self.flush();
        }
        true
    }

    /// Hands what was pushed to the thread; to be called at the end of each turn. At most one
    /// system call, which wakes the thread; none if there is nothing new.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let spare = self.spares.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, spare);
        self.shared
            .held
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.ask(Job::Write(batch));
    }

    /// Waits until all that was pushed is written, or has failed to be; for callers with time.
    pub fn sync(&mut self) {
        self.flush();
        let (answer, answered) = mpsc::sync_channel(1);
        self.ask(Job::Answer(answer));
        // Hung up if the thread panicked, which says as much.
        let _ = answered.recv();
    }

    /// What it has come to so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let Shared {
            bytes,
            held: _,
            is_failing,
            lost_messages,
            messages,
        } = &*self.shared;
        Statistics {
            bytes: bytes.load(Ordering::Relaxed),
            is_failing: is_failing.load(Ordering::Relaxed),
            lost_messages: lost_messages.load(Ordering::Relaxed),
            messages: messages.load(Ordering::Relaxed),
        }
    }

    /// Writes all that was pushed and ends the recording.
    #[must_use]
    pub fn finish(mut self) -> Statistics {
        self.end();
        self.statistics()
    }

    fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Only a thread that panicked does not listen.
            drop(jobs.send(job));
        }
    }

    fn append_lost(&mut self, time_ns: u64) {
        if self.lost.messages > 0 {
            let lost = std::mem::take(&mut self.lost);
            format::append_lost(&mut self.batch, Lost { time_ns, ..lost });
        }
    }

    fn end(&mut self) {
        // Nothing came behind what was lost last, so that its time is not known.
        self.append_lost(0);
        self.flush();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was printed when it happened.
            drop(thread.join());
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread's half.
#[derive(Debug)]
struct Writer {
    config: RecordConfig,
    /// `None` if the last one is not fit to be written to any more.
    current: Option<Current>,
    /// When writing failed, by the time of the first message that could not be written.
    failed_ns: Option<u64>,
    files: Files,
    /// Whether the last attempt to begin another file failed.
    is_stuck: bool,
    /// What could not be written since writing succeeded last.
    lost: Lost,
    shared: Arc<Shared>,
}

/// The file being written.
#[derive(Debug)]
struct Current {
    /// The time of its first message.
    begun_ns: Option<u64>,
    open: Open,
}

/// Records of one batch that go to the file in one write.
#[derive(Debug, Default)]
struct Run {
    at: Range<usize>,
    /// What its own records say is missing.
    lost: Lost,
    messages: Lost,
}

/// Records that could not be written, all or the last of them.
#[derive(Debug)]
struct Cut {
    error: io::Error,
    /// Bytes of those that are in the file all the same.
    kept: usize,
}

impl Run {
    /// What is in these records, which are complete.
    fn of(records: &[u8]) -> Self {
        let mut run = Self::default();
        while let Some((record, size)) = format::first(&records[run.at.end..]) {
            run.add(&record, size);
        }
        run
    }

    /// Adds the next record, of this size.
    fn add(&mut self, record: &Record<'_>, size: usize) {
        match record {
            Record::Message(message) => self.messages.add(Lost {
                bytes: message.frames.len() as u64,
                messages: 1,
                time_ns: message.time_ns,
            }),
            Record::Lost(lost) => self.lost.add(*lost),
            Record::Begin { .. } | Record::Unknown => {}
        }
        self.at.end += size;
    }
}

impl Current {
    fn new(open: Open) -> Self {
        Self {
            begun_ns: None,
            open,
        }
    }
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>, spare: &SyncSender<Vec<u8>>) {
        for job in jobs {
            let mut batch = match job {
                Job::Answer(answer) => {
                    let _ = answer.send(());
                    continue;
                }
                Job::Write(batch) => batch,
            };
            self.write_batch(&mut batch);
            self.shared
                .held
                .fetch_sub(batch.len() as u64, Ordering::Relaxed);
            if batch.capacity() <= 2 * BATCH_SIZE {
                batch.clear();
                // There are enough of them if it is not taken.
                drop(spare.try_send(batch));
            }
        }
    }

    /// Completes the records of a batch and writes them, to as many files as it takes.
    fn write_batch(&mut self, batch: &mut [u8]) {
        let mut can_rotate = self.files.can_rotate();
        if self.current.is_none() {
            can_rotate = self.begin_file();
        }
        let mut run = Run::default();
        // All at once, so that records can be looked at while they are written.
        let mut sealed = 0;
        while let Some((_, size)) = format::seal(&mut batch[sealed..]) {
            sealed += size;
        }
        while let Some((record, size)) = format::first(&batch[run.at.end..]) {
            if let Record::Message(Message { time_ns, .. }) = record {
                if can_rotate && self.is_due(time_ns, run.at.len() + size) {
                    self.write_run(&batch[run.at.clone()], &run);
                    run = Run {
                        at: run.at.end..run.at.end,
                        ..Run::default()
                    };
                    can_rotate = self.begin_file();
                }
                if let Some(current) = &mut self.current {
                    current.begun_ns.get_or_insert(time_ns);
                }
            }
            run.add(&record, size);
        }
        self.write_run(&batch[run.at.clone()], &run);
    }

    /// Whether a message belongs to the next file: with it and what comes before it this one would
    /// be too large, or it is too old.
    fn is_due(&self, time_ns: u64, size: usize) -> bool {
        let Some(Current {
            begun_ns: Some(begun_ns),
            open,
        }) = &self.current
        else {
            return false;
        };
        let size_max = self.config.file_size_max;
        let is_large = size_max > 0 && open.size() + size as u64 > size_max;
        let age = Duration::from_nanos(time_ns.saturating_sub(*begun_ns));
        is_large || self.config.age_max.is_some_and(|age_max| age >= age_max)
    }

    /// Begins another file. If that fails the one there is goes on, and it is tried again with the
    /// next batch.
    fn begin_file(&mut self) -> bool {
        match self.files.begin() {
            Ok(open) => {
                self.current = Some(Current::new(open));
                self.is_stuck = false;
            }
            Err(error) => {
                if !self.is_stuck {
                    let path = self.config.path.display();
                    log::error!("recording to {path}: cannot begin another file: {error}");
                }
                self.is_stuck = true;
            }
        }
        !self.is_stuck
    }

    fn write_run(&mut self, records: &[u8], run: &Run) {
        if records.is_empty() {
            return;
        }
        let time_ns = run.messages.time_ns;
        let is_resting = self
            .failed_ns
            .is_some_and(|failed_ns| time_ns.abs_diff(failed_ns) < REST_NS);
        if is_resting || self.current.is_none() {
            self.count_lost(run);
            return;
        }
        let was_failing = self.shared.is_failing.load(Ordering::Relaxed);
        let missed = self.lost.messages;
        let written = self.append_lost(time_ns);
        match written.and_then(|()| self.append(records)) {
            Ok(()) => {
                if was_failing {
                    let path = self.config.path.display();
                    log::warn!("recording to {path} works again, {missed} messages were lost");
                }
                self.count_written(records.len(), run);
                self.shared.is_failing.store(false, Ordering::Relaxed);
                self.failed_ns = None;
            }
            Err(Cut { error, kept }) => {
                if !was_failing {
                    let path = self.config.path.display();
                    log::error!("recording to {path}: {error}; messages are lost until it works");
                }
                self.failed_ns = Some(time_ns);
                let (kept, lost) = records.split_at(kept);
                self.count_written(kept.len(), &Run::of(kept));
                self.count_lost(&Run::of(lost));
            }
        }
    }

    /// Writes what was lost before.
    fn append_lost(&mut self, time_ns: u64) -> Result<(), Cut> {
        if self.lost.messages > 0 {
            let mut record = Vec::new();
            self.lost.time_ns = time_ns;
            format::append_lost(&mut record, self.lost);
            format::seal(&mut record);
            // Nothing of the records behind it is kept if this fails.
            self.append(&record).map_err(|cut| Cut { kept: 0, ..cut })?;
            self.lost = Lost::default();
        }
        Ok(())
    }

    fn append(&mut self, records: &[u8]) -> Result<(), Cut> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let Err(error) = current.open.write(records) else {
            return Ok(());
        };
        let cut = current.open.cut(records);
        // What cannot be cut must not be written to again: half a record is at its end.
        if cut.is_err() {
            self.current = None;
        }
        let kept = cut.unwrap_or_default();
        Err(Cut { error, kept })
    }

    fn count_written(&self, size: usize, run: &Run) {
        let Shared {
            bytes, messages, ..
        } = &*self.shared;
        bytes.fetch_add(size as u64, Ordering::Relaxed);
        messages.fetch_add(run.messages.messages, Ordering::Relaxed);
    }

    fn count_lost(&mut self, run: &Run) {
        self.lost.add(run.lost);
        self.lost.add(run.messages);
        let Shared {
            is_failing,
            lost_messages,
            ..
        } = &*self.shared;
        is_failing.store(true, Ordering::Relaxed);
        lost_messages.fetch_add(run.messages.messages, Ordering::Relaxed);
    }
}

/// Lets a file that reaches the limit of the process (`ulimit -f`) be an error of write(2), and not
/// the end of the process.
fn survive_size_limits() -> io::Result<()> {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if !IS_DONE.swap(true, Ordering::Relaxed) {
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    }
    Ok(())
}

impl Lost {
    /// Adds up; the time is that of the first.
    fn add(&mut self, other: Self) {
        if self.messages == 0 {
            self.time_ns = other.time_ns;
        }
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests;
