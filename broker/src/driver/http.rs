//! HTTP: the driver listens, and a server that the program provides does the rest.
//!
//! So programs that embed the broker without HTTP have no code for it, and an address changes like
//! every endpoint: the new one is bound before the change is made, and the old one closed after it.

use super::handle::Handle;
use super::passed::ForHttp;
use crate::config::{HttpAddress, HttpConfig};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// A server for HTTP that a program gives the broker with [`crate::Broker::bind_with_http`]. It has
/// a thread of its own and asks the broker through its [`Handle`].
pub trait HttpServer: Send {
    /// Serves by this configuration from now on: through `listener`, if there is one, or else
    /// through the one of the last call. Without an address in the configuration the server ends.
    /// Called on the thread of the broker, which must not wait.
    ///
    /// # Errors
    /// The server cannot begin; the broker logs that and goes on.
    fn serve(
        &mut self,
        config: &HttpConfig,
        listener: Option<TcpListener>,
        handle: &Handle,
    ) -> io::Result<()>;
}

/// The server, and an address that was opened for a change that is not complete.
#[derive(Default)]
pub(super) struct Http {
    opened: Option<(HttpAddress, TcpListener)>,
    server: Option<Box<dyn HttpServer>>,
}

impl Http {
    pub(super) fn new(server: Box<dyn HttpServer>) -> Self {
        Self {
            opened: None,
            server: Some(server),
        }
    }

    /// Listens on an address, through the passed socket if that is for it, and returns it with its
    /// real port.
    pub(super) fn open(
        &mut self,
        address: HttpAddress,
        passed: Option<&ForHttp>,
    ) -> io::Result<SocketAddr> {
        if self.server.is_none() {
            let missing = "this program has no HTTP server: leave out http";
            return Err(io::Error::new(io::ErrorKind::Unsupported, missing));
        }
        let passed = passed.map(|passed| passed.listener(address));
        let listener = match passed.transpose()?.flatten() {
            Some(listener) => {
                log::info!("HTTP: listening on a passed socket for {address}");
                listener
            }
            // Unlike that of mio, the listener of the standard library sets SO_REUSEADDR and a
            // backlog that the kernel may limit.
            None => TcpListener::bind(address.0)?,
        };
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        self.opened = Some((address, listener));
        Ok(bound)
    }

    /// Makes the server work by this configuration.
    pub(super) fn serve(&mut self, config: &HttpConfig, handle: &Handle) {
        let opened = self.opened.take();
        let opened = opened.filter(|(address, _)| config.address == Some(*address));
        let listener = opened.map(|(_, listener)| listener);
        if let Some(server) = &mut self.server
            && let Err(error) = server.serve(config, listener, handle)
        {
            log::error!("HTTP is not served: {error}; restart zmqd");
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{BindError, Broker, ChangeError, config::Config};

    #[test]
    fn without_a_server_an_address_is_refused() {
        let text = "http = '127.0.0.1:0'\n[[proxy]]\nkind = 'queue'\n\
                    frontend.bind = 'inproc://a'\nbackend.bind = 'inproc://b'\n";
        let config = Config::from_toml(text, "test.toml").expect("legal");
        match Broker::bind(&config) {
            Err(BindError::Config(error @ ChangeError::Http { .. })) => {
                let expected = "cannot listen on http://127.0.0.1:0: this program has no HTTP \
                                server: leave out http";
                assert_eq!(error.to_string(), expected);
            }
            other => panic!("{other:?}"),
        }
    }
}
