//! Several brokers, connected in a chain or in a ring.

mod chains;
mod loops;
