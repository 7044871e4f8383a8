//! Reloads that peers of controls ask for. The driver reads the configuration; the core keeps the
//! peers that wait for the result.

use crate::core::events::{Facts, Place};
use crate::core::query::render_reload;
use crate::core::{Action, Core};
use crate::ids::ConnId;
use crate::view::ReloadView;
use log::Level;
use std::time::Instant;
use zmtp::SocketType;
use zmtp::encode::append_frame;

/// The effect of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The changes that were made, each in a line.
    pub changes: Vec<String>,
    /// The keys of the settings that need a restart, and were left out.
    pub needs_restart: Vec<String>,
}

/// The source of the configuration, the last reload, and the peers that wait for the next.
#[derive(Debug, Default)]
pub(super) struct Reload {
    /// Each with the envelope of its answer; a peer may ask again before it is answered.
    askers: Vec<(ConnId, Vec<u8>)>,
    /// The memory of [`Self::askers`], in bytes.
    memory: u64,
    /// The last reload and its time.
    last: Option<(Instant, Result<Reloaded, String>)>,
    /// The process; 0: unknown.
    pub(super) pid: u32,
    /// The name of the configuration; empty: unknown.
    pub(super) source: String,
}

/// Answers that one peer may wait for.
const ASKS_MAX: usize = 8;

/// Bytes of the envelope of an answer that is given later: more than those of the identities that
/// ten proxies in a row add.
const ENVELOPE_SIZE_MAX: usize = 4096;

/// Bytes of a peer that waits for an answer, besides the envelope.
const ASKER_MEMORY: u64 = size_of::<(ConnId, Vec<u8>)>() as u64;

/// Changes of the last reload that are remembered.
const CHANGES_KEPT_MAX: usize = 100;

impl Reload {
    /// A peer waits for the result, unless it waits often enough already, or the envelope is too
    /// long to be kept; returns whether it waits.
    pub(super) fn add(&mut self, id: ConnId, envelope: &[u8]) -> bool {
        let own = self.askers.iter().filter(|(other, _)| *other == id);
        let may_wait = own.count() < ASKS_MAX && envelope.len() <= ENVELOPE_SIZE_MAX;
        if may_wait {
            self.memory += asker_memory(envelope);
            self.askers.push((id, envelope.to_vec()));
        }
        may_wait
    }

    /// A peer has left.
    pub(super) fn forget(&mut self, id: ConnId) {
        let memory = &mut self.memory;
        self.askers.retain(|(other, envelope)| {
            let is_other = *other != id;
            *memory -= if is_other { 0 } else { asker_memory(envelope) };
            is_other
        });
    }

    /// The memory of the peers that wait, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// The same, counted anew.
    pub(super) fn walk(&self) -> u64 {
        let askers = self.askers.iter();
        askers.map(|(_, envelope)| asker_memory(envelope)).sum()
    }
}

fn asker_memory(envelope: &[u8]) -> u64 {
    ASKER_MEMORY + envelope.len() as u64
}

impl Core {
    /// Names the process and the source of the configuration, for [`crate::view::BrokerView`].
    pub fn set_source(&mut self, pid: u32, source: &str) {
        self.reload.pid = pid;
        source.clone_into(&mut self.reload.source);
    }

    /// A peer of a control asks for a reload.
    pub(super) fn ask_for_reload(&mut self) {
        self.deferred.withdraw(Action::Reload);
        self.deferred.act(Action::Reload);
    }

    pub(super) fn view_reload(&self) -> Option<ReloadView> {
        let (at, outcome) = self.reload.last.as_ref()?;
        Some(ReloadView {
            ago: self.clock.now().saturating_duration_since(*at),
            outcome: outcome.clone(),
        })
    }

    fn tell_reload(&mut self, outcome: &Result<Reloaded, String>) {
        let name = match &*self.reload.source {
            "" => "the configuration".to_owned(),
            name => name.to_owned(),
        };
        let mut tell = |level, text: &str| {
            self.tell(level, Place::Broker, Facts::default(), text);
        };
        match outcome {
            Ok(Reloaded {
                changes,
                needs_restart,
            }) => {
                let count = changes.len();
                tell(
                    Level::Info,
                    &format!("reloaded {name}, with {count} changes"),
                );
                if !needs_restart.is_empty() {
                    let keys = needs_restart.join(", ");
                    let text = format!("restart zmqd to apply the other changes in {name}: {keys}");
                    tell(Level::Warn, &text);
                }
            }
            Err(sentences) => {
                // Many mistakes are one event: the first of them, and that nothing has changed.
                for (index, sentence) in sentences.lines().enumerate() {
                    match index {
                        0 => tell(Level::Error, sentence),
                        _ => log::error!("{sentence}"),
                    }
                }
                let text = format!("{name} is rejected, and nothing has changed");
                tell(Level::Error, &text);
            }
        }
    }

    /// The driver has applied the configuration again, or could not: the peers that asked for that
    /// get the result. An error is one sentence, or several in lines of their own.
    pub fn handle_reloaded(&mut self, outcome: &Result<Reloaded, String>) {
        self.tell_reload(outcome);
        let body = render_reload(outcome);
        let mut kept = outcome.clone();
        if let Ok(reloaded) = &mut kept {
            reloaded.changes.truncate(CHANGES_KEPT_MAX);
        }
        self.reload.last = Some((self.clock.now(), kept));
        self.reload.memory = 0;
        for (id, mut message) in std::mem::take(&mut self.reload.askers) {
            let Some(conn) = self.conns.get(id) else {
                continue;
            };
            let socket = conn.socket;
            if self.sockets[socket].session.socket_type != SocketType::Sub {
                append_frame(&mut message, &body, false);
                self.send_answer(id, socket, &message);
            }
        }
    }
}
