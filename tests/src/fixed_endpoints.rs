//! A broker that restarts at the same endpoints.

use crate::zmqd::{Zmqd, vacant_endpoint};

/// Both endpoints of a broker that can be killed and started again at the same endpoints.
#[derive(Debug)]
pub struct FixedEndpoints {
    arguments: [String; 5],
}

impl FixedEndpoints {
    /// Two vacant endpoints for a proxy of this kind.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let (frontend, backend) = (vacant_endpoint(), vacant_endpoint());
        let arguments = [kind, "--frontend", &frontend, "--backend", &backend];
        Self {
            arguments: arguments.map(str::to_owned),
        }
    }

    /// Starts a broker at them.
    #[must_use]
    pub fn start(&self) -> Zmqd {
        Zmqd::start(&self.arguments.each_ref().map(String::as_str))
    }
}
