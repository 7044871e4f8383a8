//! Changes of the configuration: what the core asks to open.

use super::listener::Listener;
use super::tape::Tape;
use super::{Broker, KIND_LISTENER, token};
use crate::core::{Admin, ChangeError, ChangeId, ChangeResult};
use crate::ids::{ListenerId, ProxyId};
use crate::record::Recorder;
use std::time::Instant;

impl Broker {
    /// Changes the configuration, before [`Self::run`] or after it; other threads use
    /// [`crate::Handle::change`] while it runs.
    ///
    /// # Errors
    /// Why the change was not made.
    pub fn change(
        &mut self,
        begin: impl FnOnce(&mut Admin<'_>) -> Result<ChangeId, ChangeError>,
    ) -> ChangeResult {
        let now = Instant::now();
        let id = begin(&mut self.core.admin(now))?;
        self.open(now);
        self.core.take_outcome(id).unwrap_or(Err(ChangeError::Busy))
    }

    /// Opens what a change of the configuration needs, and closes what it leaves.
    pub(super) fn open(&mut self, now: Instant) {
        while self.core.is_opening()
            && let Some(action) = self.core.poll_action()
        {
            self.act(now, action);
        }
    }

    pub(super) fn listen(&mut self, id: ListenerId) {
        let (Some((endpoint, options)), Some((proxy, side))) =
            (self.core.listener(id), self.core.names_of_listener(id))
        else {
            return;
        };
        let token = token(KIND_LISTENER, id.slot());
        let mut passed = self.passed.endpoints.iter();
        let listener = match passed.find(|passed| passed.is_for(endpoint, proxy, side)) {
            Some(passed) => {
                log::info!(
                    proxy, side:% = side;
                    "{proxy} {side}: listening on a passed socket for {endpoint}"
                );
                let socket = passed.socket();
                socket.and_then(|socket| Listener::adopt(endpoint, id, options, socket))
            }
            None => Listener::bind(endpoint, id, options),
        };
        let listener = listener.and_then(|mut listener| {
            listener.register(self.poll.registry(), token)?;
            Ok(listener)
        });
        match listener {
            Err(error) => self.core.handle_listen_failed(id, error),
            Ok(listener) => {
                let endpoint = listener.endpoint.clone();
                if id.slot() >= self.listeners.len() {
                    self.listeners.resize_with(id.slot() + 1, || None);
                }
                self.listeners[id.slot()] = Some(listener);
                self.crowded.push_back(id.slot());
                self.core.handle_listening(id, endpoint);
            }
        }
    }

    /// Listens on the new address for HTTP; it is served when the change is complete.
    pub(super) fn open_http(&mut self) {
        let Some(address) = self.core.http_to_open().and_then(|config| config.address) else {
            return;
        };
        match self.http.open(address, self.passed.http.as_ref()) {
            Ok(bound) => self.core.handle_http_open(bound),
            Err(error) => self.core.handle_http_failed(error),
        }
    }

    pub(super) fn serve_http(&mut self, now: Instant) {
        let config = self.core.admin(now).config().http.clone();
        self.http.serve(&config, &self.handle);
    }

    pub(super) fn record(&mut self, proxy: ProxyId) {
        let Some(config) = self.core.record_config(proxy) else {
            return;
        };
        match Recorder::open(config) {
            Err(error) => self.core.handle_record_failed(proxy, error),
            Ok(recorder) => {
                let tape = Box::new(Tape::new(recorder, &self.endings));
                self.core.handle_recording(proxy, tape);
            }
        }
    }
}
