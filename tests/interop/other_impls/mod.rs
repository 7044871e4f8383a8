//! Other implementations of ZeroMQ: the scenarios of `zmqd_tests::implementation` with pyzmq and
//! the crates that speak ZMTP, each on both sides of the broker and each paired with pyzmq; and
//! random traffic compared with libzmq's proxy.

mod encryption;
mod libzmq_proxy;
mod omq_tokio;
mod pyzmq;
mod rzmq;
mod zeromq;

use std::future::Future;
use std::rc::Rc;

use tokio::runtime::{Builder, Runtime};
use zmqd_tests::PATIENCE;
use zmqd_tests::implementation::{Pyzmq, assert_documented, scenario};

#[test]
fn the_documentation_lists_what_runs() {
    for (name, version, runs) in [
        ("zeromq", "0.7.0", zeromq::RUNS),
        ("rzmq", "0.5.28", rzmq::RUNS),
        ("omq-tokio", "0.33.0", omq_tokio::RUNS),
    ] {
        assert_documented(&format!("{name} {version}"), runs);
        let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&locked), "{name} is not at {version}");
    }
    assert_documented(&Pyzmq::version(), pyzmq::RUNS);
}

#[test]
fn all_implementations_share_one_broker() {
    scenario::together(&[
        &omq_tokio::Omq::start(),
        &Pyzmq::start(),
        &rzmq::Rzmq::start(),
        &zeromq::Zeromq::start(),
    ]);
}

/// A runtime whose tasks run also between two calls of [`go`].
fn runtime() -> Rc<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    Rc::new(runtime.expect("a runtime starts"))
}

/// Runs a future to its end, with a deadline.
#[track_caller]
fn go<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    let result = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    result.expect("the work is done in time")
}
