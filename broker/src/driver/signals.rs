//! The effects of signals.

use super::{Broker, KIND_SIGNAL, token};
use mio::Interest;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::time::Instant;

/// What SIGUSR1 does, if anything.
#[derive(Default)]
pub(super) struct AtSigusr1(Option<Box<dyn FnMut() + Send>>);

impl Broker {
    /// Makes SIGINT and SIGTERM end [`Self::run`] after queued messages were sent; a second one
    /// ends it at once. SIGHUP reads the configuration again: [`Self::reload_from`]. SIGUSR1 does
    /// what [`Self::on_sigusr1`] says. SIGUSR2, which ends other programs, has no effect.
    ///
    /// # Errors
    /// The error of the system.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2])?;
        let token = token(KIND_SIGNAL, 0);
        self.poll
            .registry()
            .register(&mut signals, token, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Calls `listener` at each SIGUSR1, which has no effect otherwise. It is called on the thread
    /// of the broker: all messages wait meanwhile.
    pub fn on_sigusr1(&mut self, listener: impl FnMut() + Send + 'static) {
        self.at_sigusr1.0 = Some(Box::new(listener));
    }

    pub(super) fn handle_signals(&mut self, now: Instant) {
        let signals = self.signals.as_mut();
        let signals: Vec<i32> =
            signals.map_or_else(Vec::new, |signals| signals.pending().collect());
        for signal in signals {
            match signal {
                SIGHUP => self.reload(),
                SIGINT | SIGTERM => {
                    let name = if signal == SIGINT {
                        "SIGINT"
                    } else {
                        "SIGTERM"
                    };
                    if self.stops == 0 {
                        log::info!("stopping ({name})");
                    } else {
                        log::info!("stopping at once (a second signal, {name})");
                    }
                    self.stop(now);
                }
                SIGUSR1 => match &mut self.at_sigusr1.0 {
                    Some(listener) => listener(),
                    None => log::info!("SIGUSR1 has no effect"),
                },
                _ => {}
            }
        }
    }
}
