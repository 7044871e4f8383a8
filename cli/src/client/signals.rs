//! SIGINT and SIGTERM as bytes on a stream.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::output::Failure;

/// A stream that delivers a byte when the process should end. A second signal ends it at once.
///
/// # Errors
/// The system refuses.
pub(crate) fn stops() -> Result<UnixStream, Failure> {
    let refuse = |error| Failure::Running(format!("cannot wait for signals: {error}"));
    let (heard, sent) = UnixStream::pair().map_err(refuse)?;
    let armed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&armed))
            .map_err(refuse)?;
        signal_hook::flag::register(signal, Arc::clone(&armed)).map_err(refuse)?;
        let sent = sent.try_clone().map_err(refuse)?;
        pipe::register(signal, sent).map_err(refuse)?;
    }
    Ok(heard)
}
