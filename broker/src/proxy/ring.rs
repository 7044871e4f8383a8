//! The newest messages of a forwarder, numbered, and the peers that get some of them again.
//!
//! ```text
//!   first                                              next
//!     │  ┌────────────┬────────────┬────────────┐        │
//!     └► │ ▒▒▒███████ │ ██████████ │ █████      │ ◄──────┘
//!        └────────────┴────────────┴────────────┘
//!          chunks: one behind the other, each filled once and dropped as a whole
//! ```

use crate::config::ReplayConfig;
use crate::ids::ConnId;
use crate::proxy::waiters::Waiters;
use std::collections::VecDeque;
use zmtp::Frames;
use zmtp::encode::append_frame;
use zmtp::wire::header::MORE;

/// Bytes after which the next chunk begins, at most and at least. The first and the last one are
/// partly unused, so that each has but an eighth of what a ring may keep.
const CHUNK_SIZE_MAX: usize = 64 << 10;
const CHUNK_SIZE_MIN: usize = 512;

/// The longest message that is kept, in bytes.
const MESSAGE_SIZE_MAX: usize = 1 << 30;

/// The bookkeeping of a message, in bytes; lists grow by doubling.
const MESSAGE_BYTES: u64 = 2 * size_of::<Mark>() as u64;

/// The bookkeeping of a request, in bytes.
const REQUEST_BYTES: u64 = 192;

/// The newest messages of one proxy.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes_max: u64,
    chunks: VecDeque<Chunk>,
    /// Heap bytes of the chunks.
    chunk_bytes: u64,
    /// The number of the oldest message that is kept.
    first: u64,
    /// Whether messages for subscribers end with their numbers.
    pub(crate) is_shown: bool,
    messages_max: u64,
    /// The number of the next message.
    next: u64,
    /// Peers that are still to get messages.
    readers: Waiters<Request>,
    /// Heap bytes of the requests.
    requests_bytes: u64,
    /// Bytes of the messages that are kept and their bookkeeping, as far as the limit counts them.
    size: u64,
}

/// Messages in a row.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// The number of its first message.
    first: u64,
    marks: Vec<Mark>,
}

/// A message in a chunk.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u32,
    /// Microseconds since the broker began.
    stamp: u64,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Request {
    /// The bytes in front of each answer.
    pub(crate) envelope: Vec<u8>,
    /// The number of the next message to look at.
    pub(crate) next: u64,
    /// The topic that messages must begin with.
    pub(crate) prefix: Vec<u8>,
}

impl Ring {
    /// An empty ring, whose first number is not known yet.
    pub(crate) fn new(config: &ReplayConfig) -> Self {
        Self {
            bytes_max: config.bytes_max,
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            first: 0,
            is_shown: config.sequence,
            messages_max: config.messages_max,
            next: 0,
            readers: Waiters::default(),
            requests_bytes: 0,
            size: 0,
        }
    }

    /// Keeps messages within these limits from now on.
    pub(crate) fn set_config(&mut self, config: &ReplayConfig) {
        self.bytes_max = config.bytes_max;
        self.messages_max = config.messages_max;
        self.is_shown = config.sequence;
        self.make_room();
    }

    /// The most messages, the most bytes, and whether messages get their numbers.
    pub(crate) fn limits(&self) -> (u64, u64, bool) {
        (self.messages_max, self.bytes_max, self.is_shown)
    }

    /// The number of the next message.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest message that is kept; that of the next one if none is.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Bytes of the messages and their bookkeeping, as far as the limit counts them.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Heap bytes of the messages, in constant time.
    pub(crate) fn memory(&self) -> u64 {
        self.chunk_bytes
    }

    /// The same, recounted.
    pub(crate) fn walk(&self) -> u64 {
        self.chunks.iter().map(Chunk::memory).sum()
    }

    /// Heap bytes of the requests, in constant time.
    pub(crate) fn requests_memory(&self) -> u64 {
        self.requests_bytes
    }

    /// The same, recounted.
    pub(crate) fn walk_requests(&self) -> u64 {
        self.readers.wanted().map(Request::memory).sum()
    }

    /// Takes note of a passing message, given in wire form.
    pub(crate) fn push(&mut self, wire: &[u8], stamp: u64) {
        if charge(wire.len()) > self.bytes_max || wire.len() > MESSAGE_SIZE_MAX {
            return self.skip();
        }
        let size_max = self.chunk_size();
        let has_room =
            |chunk: &Chunk| chunk.bytes.is_empty() || chunk.bytes.len() + wire.len() <= size_max;
        if !self.chunks.back().is_some_and(has_room) {
            self.begin_chunk();
        }
        if let Some(chunk) = self.chunks.back_mut() {
            self.chunk_bytes -= chunk.memory();
            chunk.bytes.extend_from_slice(wire);
            let end = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
            chunk.marks.push(Mark { end, stamp });
            self.chunk_bytes += chunk.memory();
        }
        self.next += 1;
        self.size += charge(wire.len());
        self.make_room();
    }

    /// A message is too large to be kept: it has a number, and those before it are dropped, so that
    /// the rest has no gap.
    fn skip(&mut self) {
        self.chunks.clear();
        (self.chunk_bytes, self.size) = (0, 0);
        self.next += 1;
        self.first = self.next;
    }

    /// Numbers the messages from here on, if none has passed yet.
    pub(crate) fn number_from(&mut self, first: u64) {
        if self.next == 0 {
            (self.first, self.next) = (first, first);
        }
    }

    fn chunk_size(&self) -> usize {
        let share = usize::try_from(self.bytes_max / 8).unwrap_or(usize::MAX);
        share.clamp(CHUNK_SIZE_MIN, CHUNK_SIZE_MAX)
    }

    /// The last chunk gets no more messages; the next one begins.
    fn begin_chunk(&mut self) {
        if let Some(chunk) = self.chunks.back_mut() {
            self.chunk_bytes -= chunk.memory();
            chunk.bytes.shrink_to_fit();
            chunk.marks.shrink_to_fit();
            self.chunk_bytes += chunk.memory();
        }
        // Where messages follow each other, the chunk will be full.
        let size = if self.chunks.is_empty() {
            0
        } else {
            self.chunk_size()
        };
        self.chunks.push_back(Chunk {
            bytes: Vec::with_capacity(size),
            first: self.next,
            marks: Vec::new(),
        });
        self.chunk_bytes += self.chunks.back().map_or(0, Chunk::memory);
    }

    /// Drops the oldest messages until the others are within the limits.
    fn make_room(&mut self) {
        while self.first < self.next
            && (self.size > self.bytes_max || self.next - self.first > self.messages_max)
        {
            let Some(chunk) = self.chunks.front() else {
                return;
            };
            self.size -= charge(chunk.get(self.first).len());
            self.first += 1;
            if self.first == chunk.first + chunk.marks.len() as u64 {
                self.chunk_bytes -= chunk.memory();
                self.chunks.pop_front();
            }
        }
    }

    /// The wire form of the message with this number, if it is kept.
    pub(crate) fn get(&self, sequence: u64) -> Option<&[u8]> {
        if !(self.first..self.next).contains(&sequence) {
            return None;
        }
        let behind = self.chunks.partition_point(|chunk| chunk.first <= sequence);
        Some(self.chunks.get(behind.checked_sub(1)?)?.get(sequence))
    }

    /// The number of the first kept message that is not older than this stamp.
    pub(crate) fn since(&self, stamp: u64) -> u64 {
        let is_before = |mark: &Mark| mark.stamp < stamp;
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.marks.last().is_some_and(is_before));
        let found = self.chunks.get(chunk).map_or(self.next, |chunk| {
            chunk.first + chunk.marks.partition_point(is_before) as u64
        });
        found.max(self.first)
    }

    /// A peer is to get messages from this number on; an earlier request of the peer ends.
    pub(crate) fn ask(&mut self, id: ConnId, next: u64, prefix: &[u8], envelope: &[u8]) {
        let request = Request {
            envelope: envelope.to_vec(),
            next,
            prefix: prefix.to_vec(),
        };
        self.requests_bytes -= self.readers.get(id).map_or(0, Request::memory);
        self.requests_bytes += request.memory();
        self.readers.insert(id, request);
    }

    /// A peer has got all that it asked for, or has gone.
    pub(crate) fn forget(&mut self, id: ConnId) {
        if let Some(request) = self.readers.remove(id) {
            self.requests_bytes -= request.memory();
        }
    }

    /// The request of a peer that is being answered.
    pub(crate) fn request(&self, id: ConnId) -> Option<&Request> {
        self.readers.get(id)
    }

    /// The messages before this number were sent to a peer.
    pub(crate) fn sent_up_to(&mut self, id: ConnId, next: u64) {
        if let Some(request) = self.readers.get_mut(id) {
            request.next = next;
        }
    }

    /// Puts a peer in line; call this when its queue has room.
    pub(crate) fn line_up(&mut self, id: ConnId) {
        self.readers.line_up(id);
    }

    /// The next peer in line.
    pub(crate) fn next_in_line(&mut self) -> Option<ConnId> {
        self.readers.next_in_line()
    }

    /// Whether a peer is in line.
    pub(crate) fn has_line(&self) -> bool {
        self.readers.has_line()
    }
}

impl Chunk {
    /// The message with this number, which is in this chunk.
    fn get(&self, sequence: u64) -> &[u8] {
        let index = usize::try_from(sequence - self.first).unwrap_or(usize::MAX);
        let end = |mark: &Mark| mark.end as usize;
        let start = index.checked_sub(1).and_then(|last| self.marks.get(last));
        let range = start.map_or(0, end)..self.marks.get(index).map_or(0, end);
        self.bytes.get(range).unwrap_or_default()
    }

    fn memory(&self) -> u64 {
        let marks = self.marks.capacity() * size_of::<Mark>();
        (self.bytes.capacity() + marks + size_of::<Self>()) as u64
    }
}

impl Request {
    fn memory(&self) -> u64 {
        REQUEST_BYTES + (self.envelope.capacity() + self.prefix.capacity()) as u64
    }
}

/// Appends a message with a last frame that has its number.
#[inline]
pub(crate) fn append_numbered(out: &mut Vec<u8>, wire: &[u8], sequence: u64) {
    let start = out.len();
    out.extend_from_slice(wire);
    let mut frames = Frames::new(wire);
    let mut last = 0;
    loop {
        let at = wire.len() - frames.rest().len();
        if frames.next().is_none() {
            break;
        }
        last = at;
    }
    if let Some(flags) = out.get_mut(start + last) {
        *flags |= MORE;
    }
    append_frame(out, &sequence.to_be_bytes(), false);
}

/// The bytes for which a message counts against the limit.
fn charge(size: usize) -> u64 {
    MESSAGE_BYTES + size as u64
}
