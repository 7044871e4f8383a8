//! Reloads: the configuration is read again, and applied as a whole or not at all.
//!
//! A thread of its own reads and parses, so that messages pass meanwhile; the event loop compares
//! the result with the running configuration, and applies the differences.

use super::handle::Command;
use super::{Broker, Stage};
use crate::config::{Applies, Config, diff};
use crate::core::{Applied, Reloaded};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

/// Reads a configuration; an error is one or more sentences.
type Read = Arc<dyn Fn() -> Result<Config, Vec<String>> + Send + Sync>;

/// The source of the configuration, and the reload in progress.
#[derive(Default)]
pub(super) struct Reload {
    /// It was asked for again while the configuration was being read.
    is_due: bool,
    is_reading: bool,
    source: Option<(String, Read)>,
}

impl Broker {
    /// Reads the configuration again by `read` on SIGHUP and when a peer of a control asks for it.
    /// `read` is called on a thread of its own and may block; its configuration is applied as by
    /// [`crate::Admin::apply`] if it is legal as a whole. Otherwise, or if `read` fails with one or
    /// more sentences, nothing changes. The log gets the result in both cases; `name` is the name
    /// of the configuration there.
    pub fn reload_from(
        &mut self,
        name: impl Into<String>,
        read: impl Fn() -> Result<Config, Vec<String>> + Send + Sync + 'static,
    ) {
        let name = name.into();
        self.core.set_source(std::process::id(), &name);
        self.reload.source = Some((name, Arc::new(read)));
    }

    /// Begins to read the configuration again, or does so once more if it is being read.
    pub(super) fn reload(&mut self) {
        self.reload.is_due |= self.reload.is_reading;
        if self.reload.is_reading {
            return;
        }
        let Some((_, read)) = &self.reload.source else {
            let sentence = "this broker has no configuration to read again".to_owned();
            return self.core.handle_reloaded(&Err(sentence));
        };
        let (read, handle) = (Arc::clone(read), self.handle.clone());
        let thread = thread::Builder::new().name("reload".to_owned());
        let begun = thread.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| read()));
            let panicked = |_| Err(vec!["reading the configuration failed".to_owned()]);
            let result = result.unwrap_or_else(panicked);
            handle.send(Command::Reloaded(Box::new(result)));
        });
        match begun {
            Ok(_) => {
                self.reload.is_reading = true;
                self.enter(Stage::Reloading);
            }
            Err(error) => self.finish_reload(Err(vec![format!("cannot start a thread: {error}")])),
        }
    }

    /// The configuration was read again, or could not be.
    pub(super) fn handle_read_again(&mut self, read: Result<Config, Vec<String>>) {
        self.reload.is_reading = false;
        if std::mem::take(&mut self.reload.is_due) {
            // It may have changed since. Those that asked get the result of the next reading.
            return self.reload();
        }
        let outcome = read.and_then(|config| self.apply_again(&config));
        self.finish_reload(outcome);
    }

    fn apply_again(&mut self, config: &Config) -> Result<Reloaded, Vec<String>> {
        let mut lines = Vec::new();
        let applied = self.change(|admin| {
            let changes = diff(admin.config(), config);
            let made = changes.list.iter();
            let made = made.filter(|change| change.applies() != Applies::Restart);
            lines.extend(made.map(ToString::to_string));
            admin.apply(&changes)
        });
        let Applied { needs_restart, .. } = applied.map_err(|error| vec![error.to_string()])?;
        Ok(Reloaded {
            changes: lines,
            needs_restart,
        })
    }

    fn finish_reload(&mut self, outcome: Result<Reloaded, Vec<String>>) {
        let outcome = outcome.map_err(|sentences| sentences.join("\n"));
        self.core.handle_reloaded(&outcome);
        self.enter(Stage::Running);
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload")
            .field("is_due", &self.is_due)
            .field("is_reading", &self.is_reading)
            .finish_non_exhaustive()
    }
}
