//! Tells systemd about the life of the broker: ready, reloading, stopping, its state in a line, and
//! that its event loop turns.
//!
//! A thread of its own does so, since systemd may be slow to read. It asks the broker before each
//! sign of life, so a loop that stands still is restarted by the watchdog.

use super::serve::counted;
use std::env;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use broker::{Admin, Handle, Stage};
use sd_notify::NotifyState;

/// The time between two lines about the state.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Begins to tell systemd about the broker, if systemd has started the process and wants to know.
/// The result takes the stages of the broker, and is the thread that tells systemd about them: it
/// ends after the broker, when the last stage was told.
pub(crate) fn supervised_by(
    broker: Handle,
) -> Option<(impl FnMut(Stage) + Send + 'static, JoinHandle<()>)> {
    env::var_os("NOTIFY_SOCKET")?;
    let (sender, stages) = mpsc::channel();
    // Two signs of life within the time of the watchdog, as systemd recommends.
    let watchdog = sd_notify::watchdog_enabled().map(|time| time / 2);
    let interval = watchdog.map_or(STATUS_INTERVAL, |time| time.min(STATUS_INTERVAL));
    let thread = thread::Builder::new().name("systemd".to_owned());
    let begun = thread.spawn(move || {
        if let Err(error) = tell(&broker, &stages, interval) {
            log::warn!("cannot tell systemd about the state of zmqd: {error}");
        }
    });
    let thread = match begun {
        Ok(thread) => thread,
        Err(error) => {
            log::warn!("cannot start a thread that tells systemd about the state of zmqd: {error}");
            return None;
        }
    };
    let tell = move |stage| {
        // The thread may have ended with an error, which is in the log.
        let _ = sender.send(stage);
    };
    Some((tell, thread))
}

/// Tells systemd about each stage, and the state in each interval, until the broker ends.
fn tell(broker: &Handle, stages: &Receiver<Stage>, interval: Duration) -> io::Result<()> {
    loop {
        match stages.recv_timeout(interval) {
            Ok(Stage::Running) => {
                let Some(state) = broker.call(describe) else {
                    continue;
                };
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&state)])?;
            }
            Ok(Stage::Reloading) => sd_notify::notify(&[
                NotifyState::Reloading,
                NotifyState::monotonic_usec_now()?,
                NotifyState::Status("reading the configuration again"),
            ])?,
            Ok(Stage::Stopping) => sd_notify::notify(&[
                NotifyState::Stopping,
                NotifyState::Status("stopping: sending queued messages"),
            ])?,
            Err(RecvTimeoutError::Timeout) => {
                // A broker that has ended answers nothing; its last stage is still to be told.
                let Some(state) = broker.call(describe) else {
                    continue;
                };
                sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(&state)])?;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// The state of the broker in one line.
fn describe(admin: &mut Admin<'_>) -> String {
    let sockets = admin.sockets();
    let sum = |count: &dyn Fn(&broker::view::SocketView) -> u64| sockets.iter().map(count).sum();
    let peers: u64 = sum(&|socket| socket.peers as u64);
    let queued: u64 = sum(&|socket| socket.queued_messages);
    let dropped = admin.broker().dropped_messages;
    format!(
        "{}, {}, {} queued, {} dropped",
        counted(admin.proxies().len() as u64, "proxy"),
        counted(peers, "peer"),
        counted(queued, "message"),
        counted(dropped, "message"),
    )
}
