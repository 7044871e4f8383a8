//! Limits of the server, each with its reason.

use std::time::Duration;

/// Most connections at a time. A browser opens six, a Prometheus one; the rest is for clients that
/// are slow or hostile.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// Most bytes of a request's line and headers. Browsers send about one kilobyte; servers accept
/// eight by custom.
pub(crate) const HEAD_SIZE_MAX: usize = 8 << 10;

/// Most headers of a request; browsers send about twenty.
pub(crate) const HEADERS_MAX: usize = 64;

/// Most parameters in the query of a request; no answer depends on more than eight.
pub(crate) const PARAMETERS_MAX: usize = 16;

/// An answer is rendered in parts until this many bytes wait for the client.
pub(crate) const OUTPUT_SIZE: usize = 32 << 10;

/// Bytes of a request's body that are read and ignored after a refusal, so that the client reads
/// the reason before its connection is reset.
pub(crate) const IGNORED_SIZE_MAX: usize = 64 << 10;

/// Requests that one connection may have answered before others get their turn.
pub(crate) const REQUESTS_PER_TURN_MAX: usize = 8;

/// Proxies whose history is kept: each needs up to 17 kB.
pub(crate) const HISTORY_PROXIES_MAX: usize = 32;

/// Samples of the history: an hour.
pub(crate) const HISTORY_LEN: usize = 720;

/// The times that a connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For the answer of the broker.
    pub(crate) answer: Duration,
    /// For the end of a connection whose last answer was written.
    pub(crate) close: Duration,
    /// For a whole head, from its first byte, or from the begin of the connection.
    pub(crate) head: Duration,
    /// The same for the answer to a question about health: a supervisor waits for it.
    pub(crate) health: Duration,
    /// Between two requests.
    pub(crate) idle: Duration,
    /// For reading a whole answer: the largest takes far less than a second.
    pub(crate) reading: Duration,
    /// Between two samples of the history.
    pub(crate) sample: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(5),
            close: Duration::from_secs(1),
            head: Duration::from_secs(5),
            health: Duration::from_secs(2),
            // A Prometheus that scrapes once a minute keeps its connection.
            idle: Duration::from_secs(90),
            reading: Duration::from_secs(15),
            sample: Duration::from_secs(5),
        }
    }
}
