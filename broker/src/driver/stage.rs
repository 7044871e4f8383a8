//! The stages in the life of a running broker, for the program that supervises it.

use super::Broker;

/// A stage that a running broker enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Everything is bound, and peers are served. Also after each reload, whatever its result.
    Running,
    /// The configuration is being read again; peers are served meanwhile.
    Reloading,
    /// The broker sends queued messages, and ends.
    Stopping,
}

/// The stage of a broker, and the listener for it.
#[derive(Default)]
pub(super) struct Stages {
    last: Option<Stage>,
    listener: Option<Box<dyn FnMut(Stage) + Send>>,
}

impl Broker {
    /// Calls `listener` with each stage that the broker enters in [`Self::run`], on the thread of
    /// the broker: all messages wait meanwhile.
    pub fn on_stage(&mut self, listener: impl FnMut(Stage) + Send + 'static) {
        self.stages.listener = Some(Box::new(listener));
    }

    /// Tells the listener about a stage, unless the broker is in it already. The last one is
    /// [`Stage::Stopping`].
    pub(super) fn enter(&mut self, stage: Stage) {
        let Stages { last, listener } = &mut self.stages;
        if matches!(*last, Some(Stage::Stopping)) || *last == Some(stage) {
            return;
        }
        *last = Some(stage);
        if let Some(listener) = listener {
            listener(stage);
        }
    }
}
