//! The writing half: a buffer for the event loop, a thread for the file.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::SIGXFSZ;

use super::RecordConfig;
use super::format::{self, Lost, Message, Origin, RECORD_SIZE_MAX, Record};
use super::rotation::{Files, Open};

/// Bytes after which a batch goes to the thread before the end of a turn.
const BATCH_SIZE: usize = 256 << 10;

/// Buffers kept for reuse, each at most twice as large as a batch.
const SPARES_MAX: usize = 4;

/// The pause after a failed write, by the time of the messages: otherwise a nearly full disk would
/// get fragments of a recording, and the log a flood of errors.
const REST_NS: u64 = 1_000_000_000;

/// A recording in progress.
///
/// Pushed messages are in the file, in the kernel's hands, soon after the next [`Self::flush`]:
/// from then on they survive the end of this process, however sudden. Unwritten messages survive a
/// drop, which waits for them, but not a SIGKILL. Nothing is forced to the disk, so a crash of the
/// machine may cost the last seconds.
#[derive(Debug)]
pub struct Recorder {
    /// Records that the thread has not got yet.
    batch: Vec<u8>,
    buffer_size_max: u64,
    /// Dropped to tell the thread to end.
    jobs: Option<Sender<Job>>,
    /// Messages lost since the last record.
    lost: Lost,
    path: PathBuf,
    shared: Arc<Shared>,
    spares: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread of a recording that has ended, which may still write. A drop waits for it.
#[derive(Debug)]
#[must_use = "dropped at once, it waits for the thread"]
pub struct Ending {
    thread: Option<JoinHandle<()>>,
}

/// The figures of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes written to files.
    pub bytes: u64,
    /// Whether the last attempt to write failed.
    pub is_failing: bool,
    /// Messages that were not recorded: the buffer was full, they were too long for a record, or
    /// writing failed.
    pub lost_messages: u64,
    /// Messages written to files.
    pub messages: u64,
}

/// Why a recording could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot record to {}: {source}{}", path.display(), remedy(source))]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// The error of the system.
    pub source: io::Error,
}

/// The remedy for an error of the system.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::IsADirectory => "; name a file in it",
        io::ErrorKind::NotFound => "; create its directory first, or choose another file",
        io::ErrorKind::PermissionDenied => "; let zmqd write there, or choose another file",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull => "; choose another file",
        _ => "",
    }
}

/// A job of the thread.
#[derive(Debug)]
enum Job {
    /// Send an answer when this job is reached.
    Answer(SyncSender<()>),
    /// Keep to other limits from now on.
    Limit(Box<RecordConfig>),
    Write(Vec<u8>),
}

/// The state shared by both threads.
#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    /// Bytes handed over and not processed yet.
    held: AtomicU64,
    is_failing: AtomicBool,
    lost_messages: AtomicU64,
    messages: AtomicU64,
}

impl Recorder {
    /// Opens the file and starts the thread that writes to it.
    ///
    /// # Errors
    /// The file cannot be created or written to, or another process records to it.
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
            path: config.path.clone(),
            shared,
            spares,
            thread: Some(thread),
        })
    }

    /// Records a message, given as one or more parts of its wire form; false if it is lost. Copies
    /// its bytes, never waits, and makes no system call unless a batch is full.
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

    /// Hands pushed messages to the thread; call this at the end of each turn. Makes at most one
    /// system call, which wakes the thread; none without new messages.
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

    /// Waits until all pushed messages were written or lost; for callers that may wait.
    pub fn sync(&mut self) {
        self.flush();
        let (answer, answered) = mpsc::sync_channel(1);
        self.ask(Job::Answer(answer));
        // Closed if the thread panicked, which is an answer too.
        let _ = answered.recv();
    }

    /// The figures so far.
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

    /// The file, as it was configured.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps to the limits of this configuration from now on; its path is not looked at.
    pub fn set_limits(&mut self, config: &RecordConfig) {
        self.buffer_size_max = config.buffer_size_max;
        self.flush();
        let path = self.path.clone();
        let config = config.clone();
        self.ask(Job::Limit(Box::new(RecordConfig { path, ..config })));
    }

    /// Writes all pushed messages and ends the recording.
    #[must_use]
    pub fn finish(mut self) -> Statistics {
        drop(self.end());
        self.statistics()
    }

    /// Ends the recording without waiting: the thread writes all pushed messages, then it ends. A
    /// message that is pushed later is lost.
    pub fn end(&mut self) -> Ending {
        // No message follows the lost ones, so their time is unknown.
        self.append_lost(0);
        self.flush();
        self.jobs = None;
        let thread = self.thread.take();
        Ending { thread }
    }

    fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread always receives, unless it has panicked.
            drop(jobs.send(job));
        }
    }

    fn append_lost(&mut self, time_ns: u64) {
        if self.lost.messages > 0 {
            let lost = std::mem::take(&mut self.lost);
            format::append_lost(&mut self.batch, Lost { time_ns, ..lost });
        }
    }
}

impl Ending {
    /// Whether everything is written, so that a drop does not wait.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic was printed when it happened.
            drop(thread.join());
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// The part of the thread.
#[derive(Debug)]
struct Writer {
    config: RecordConfig,
    /// `None` if the last file must not be written to any more.
    current: Option<Current>,
    /// The time of the first message that could not be written, if writing failed.
    failed_ns: Option<u64>,
    files: Files,
    /// Whether the last attempt to begin another file failed.
    is_stuck: bool,
    /// Messages that could not be written since the last success.
    lost: Lost,
    shared: Arc<Shared>,
}

/// The current file.
#[derive(Debug)]
struct Current {
    /// The time of its first message.
    begun_ns: Option<u64>,
    open: Open,
}

/// Records of one batch that are written to the file at once.
#[derive(Debug, Default)]
struct Run {
    at: Range<usize>,
    /// The missing messages, from its own records.
    lost: Lost,
    messages: Lost,
}

/// Records that could not be written, all or the last of them.
#[derive(Debug)]
struct Cut {
    error: io::Error,
    /// Bytes of those that are in the file nevertheless.
    kept: usize,
}

impl Run {
    /// The sums over these records, which are complete.
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
                Job::Limit(config) => {
                    self.files.set_count(config.files_max);
                    self.config = *config;
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
                // If it is refused, enough are kept already.
                drop(spare.try_send(batch));
            }
        }
    }

    /// Completes the records of a batch and writes them, to as many files as necessary.
    fn write_batch(&mut self, batch: &mut [u8]) {
        let mut can_rotate = self.files.can_rotate();
        if self.current.is_none() {
            can_rotate = self.begin_file();
        }
        let mut run = Run::default();
        // All at once, so that records can be read while they are written.
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

    /// Whether a message belongs to the next file: with it and the messages before it, this one
    /// would be too large, or it is too old.
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

    /// Begins another file. On failure the current one goes on, and the next batch tries again.
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

    /// Writes the record of lost messages.
    fn append_lost(&mut self, time_ns: u64) -> Result<(), Cut> {
        if self.lost.messages > 0 {
            let mut record = Vec::new();
            self.lost.time_ns = time_ns;
            format::append_lost(&mut record, self.lost);
            format::seal(&mut record);
            // If this fails, none of the following records are kept.
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
        // A file that cannot be truncated must not be written to again: it ends with half a record.
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

/// Turns the file size limit of the process (`ulimit -f`) into an error of write(2), which would
/// end the process otherwise.
fn survive_size_limits() -> io::Result<()> {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if !IS_DONE.swap(true, Ordering::Relaxed) {
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    }
    Ok(())
}

impl Lost {
    /// Adds both; keeps the time of the first.
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
