//! Controls a running broker from other threads.

use crate::config::Config;
use crate::core::{Admin, ChangeError, ChangeId, ChangeResult};
use mio::Waker;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, mpsc};

/// A closure that asks or commands and sends its answer.
type Call = Box<dyn FnOnce(&mut Admin<'_>) + Send>;

/// Begins a change.
type Begin = Box<dyn FnOnce(&mut Admin<'_>) -> Result<ChangeId, ChangeError> + Send>;

/// A request from another thread.
pub(super) enum Command {
    /// Run a closure.
    Call(Call),
    /// Change the configuration.
    Change {
        begin: Begin,
        reply: mpsc::Sender<ChangeResult>,
    },
    /// Connect to an inproc endpoint of this broker, and pass the other end to the caller.
    ConnectInproc {
        name: String,
        reply: mpsc::Sender<io::Result<UnixStream>>,
    },
    /// The configuration was read again, or could not be.
    Reloaded(Box<Result<Config, Vec<String>>>),
    /// Stop, like SIGTERM.
    Stop,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call(_) => "Call",
            Self::Change { .. } => "Change",
            Self::ConnectInproc { .. } => "ConnectInproc",
            Self::Reloaded(_) => "Reloaded",
            Self::Stop => "Stop",
        })
    }
}

/// A handle to a broker, for other threads; any number of clones.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) waker: Arc<Waker>,
}

impl Handle {
    /// Makes the broker send queued messages and stop; a second call stops it at once. Without
    /// effect if it has stopped.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Runs `ask` on the thread of the broker, between two turns of work, and returns its result;
    /// `None` if the broker stops first or has stopped. All questions and commands go this way:
    ///
    /// ```
    /// # use broker::{AdminError, Handle, view::{PageQuery, PeerFilter, PeerView}};
    /// /// The peers of the first proxy: the first page of them.
    /// fn first_peers(handle: &Handle) -> Option<Result<Vec<PeerView>, AdminError>> {
    ///     handle.call(|admin| {
    ///         let proxy = admin.proxies().first().map(|proxy| proxy.id);
    ///         let proxy = proxy.ok_or(AdminError::NoSuchProxy)?;
    ///         let page = admin.peers(proxy, &PeerFilter::default(), &PageQuery::default())?;
    ///         Ok(page.items)
    ///     })
    /// }
    /// ```
    ///
    /// Waits for the current turn, for earlier calls of other threads, and for
    /// [`crate::Broker::run`] to be called. Calls share a part of each turn's budget; a call that
    /// finds it used up is answered in the next turn. All messages wait while `ask` runs, so it
    /// should only ask and command, and leave work with the result to the caller. It must not
    /// block, and must not use this handle, because the broker cannot answer meanwhile. For long
    /// lists see [`Admin::has_budget`].
    ///
    /// # Panics
    /// If `ask` panics: the panic continues in the calling thread, and the broker goes on. Programs
    /// that abort on panics, such as the binary `zmqd`, end with the message of the panic.
    pub fn call<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Admin<'_>) -> R + Send + 'static,
    ) -> Option<R> {
        let (reply, receiver) = mpsc::channel();
        self.send(Command::Call(Box::new(move |admin| {
            // The broker is consistent between two methods of `Admin`, wherever `ask` ends.
            let result = catch_unwind(AssertUnwindSafe(|| ask(admin)));
            // The caller waits for it.
            let _ = reply.send(result);
        })));
        let result = receiver.recv().ok()?;
        Some(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Runs `ask` like [`Self::call`], without waiting for it: `ask` sends its result to where it
    /// is wanted. False if the broker has stopped. One that stops first drops `ask`.
    ///
    /// A panic of `ask` ends it alone.
    pub fn post(&self, ask: impl FnOnce(&mut Admin<'_>) + Send + 'static) -> bool {
        self.send(Command::Call(Box::new(move |admin| {
            // The hook for panics has reported it.
            let _ = catch_unwind(AssertUnwindSafe(|| ask(admin)));
        })))
    }

    /// Changes the configuration of the running broker, and returns when that is done: endpoints
    /// are bound then, or everything is as it was before. `None` if the broker stops first or has
    /// stopped. `begin` is run as by [`Self::call`], and begins the change:
    ///
    /// ```
    /// # use broker::{Applied, ChangeError, Handle, config::{Config, diff}};
    /// /// Makes a broker work by another configuration, as far as it can without a restart.
    /// fn reload(handle: &Handle, config: Config) -> Option<Result<Applied, ChangeError>> {
    ///     handle.change(move |admin| {
    ///         let changes = diff(admin.config(), &config);
    ///         admin.apply(&changes)
    ///     })
    /// }
    /// ```
    pub fn change(
        &self,
        begin: impl FnOnce(&mut Admin<'_>) -> Result<ChangeId, ChangeError> + Send + 'static,
    ) -> Option<ChangeResult> {
        let (reply, receiver) = mpsc::channel();
        let begin = Box::new(begin);
        self.send(Command::Change { begin, reply });
        receiver.recv().ok()
    }

    /// Connects to `inproc://NAME`, which a side of some proxy must bind. The result is a stream
    /// like that of a TCP connection: a ZMTP session over it is a peer of that side. Waits for the
    /// current turn, or for [`crate::Broker::run`] to be called.
    ///
    /// # Errors
    /// No side binds this name, or the broker stops or has stopped.
    pub fn connect_inproc(&self, name: &str) -> io::Result<UnixStream> {
        let (reply, receiver) = mpsc::channel();
        self.send(Command::ConnectInproc {
            name: name.to_owned(),
            reply,
        });
        let has_stopped = || io::Error::new(io::ErrorKind::NotConnected, "the broker has stopped");
        receiver.recv().map_err(|_| has_stopped())?
    }

    /// Returns whether the broker can get it.
    pub(super) fn send(&self, command: Command) -> bool {
        let is_sent = self.commands.send(command).is_ok();
        if is_sent {
            // If the loop cannot be woken, it has ended or is awake.
            let _ = self.waker.wake();
        }
        is_sent
    }
}
