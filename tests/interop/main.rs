//! The built `zmqd` and its real peers, in one binary with a module for each subject.
//!
//! ```text
//! cargo test -p zmqd-tests --test interop patterns::queue
//! ```

mod cli;
mod flow_control;
mod monitoring;
mod other_impls;
mod patterns;
mod protocol;
mod repository;
mod robustness;
mod topologies;
mod transports;
