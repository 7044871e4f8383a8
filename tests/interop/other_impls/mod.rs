//! The scenarios of `zmqd_tests::witness` with pyzmq and with the crates that speak ZMTP: each on
//! both sides of the broker, and each mixed with pyzmq.

mod libzmq_proxy;
mod omq_tokio;
mod pyzmq;
mod rzmq;
mod zeromq;

use std::future::Future;
use std::rc::Rc;

use tokio::runtime::{Builder, Runtime};
use zmqd_tests::PATIENCE;
use zmqd_tests::witness::{Pyzmq, assert_documented, scenario};

#[test]
fn the_documentation_says_what_runs() {
    for (witness, version, runs) in [
        ("zeromq", "0.7.0", zeromq::RUNS),
        ("rzmq", "0.5.28", rzmq::RUNS),
        ("omq-tokio", "0.33.0", omq_tokio::RUNS),
    ] {
        assert_documented(&format!("{witness} {version}"), runs);
        let locked = format!("name = \"{witness}\"\nversion = \"{version}\"\n");
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&locked), "{witness} is not at {version}");
    }
    assert_documented(&Pyzmq::version(), pyzmq::RUNS);
}

#[test]
fn all_of_them_together() {
    scenario::together(&[
        &omq_tokio::Omq::start(),
        &Pyzmq::start(),
        &rzmq::Rzmq::start(),
        &zeromq::Zeromq::start(),
    ]);
}

/// A runtime whose tasks go on between two calls.
fn runtime() -> Rc<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    Rc::new(runtime.expect("a runtime starts"))
}

/// Runs to the end, with a deadline.
#[track_caller]
fn go<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    let result = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    result.expect("the work is done in time")
}
