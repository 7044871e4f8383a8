//! Bytes that wait to be sent.

/// Bytes that leave at the front, with little copying.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// The number of bytes at the front that have left.
    start: usize,
}

/// An empty queue keeps at most this much memory.
const KEPT_SIZE_MAX: usize = 64 << 10;

impl Queue {
    /// The waiting bytes.
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer, to append to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Removes this many bytes at the front.
    pub(super) fn advance(&mut self, size: usize) {
        self.start += size;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_SIZE_MAX);
            self.start = 0;
        } else if self.start > KEPT_SIZE_MAX && self.start > self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_and_memory_goes_with_them() {
        let mut queue = Queue::default();
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
        queue.tail().extend_from_slice(&sent);
        let mut left = Vec::new();
        while !queue.is_empty() {
            let size = queue.len().min(7000);
            left.extend_from_slice(&queue.pending()[..size]);
            queue.advance(size);
            assert_eq!(queue.len(), sent.len() - left.len());
            assert!(queue.bytes.len() <= 2 * queue.len() + KEPT_SIZE_MAX + 7000);
        }
        assert_eq!(left, sent);
        assert!(queue.bytes.capacity() <= KEPT_SIZE_MAX);
    }
}
