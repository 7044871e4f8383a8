//! The scenarios of `zmqd_tests::implementation` with npm's zeromq and with the C library of the
//! system. They need Node, npm, a C compiler and libzmq, so `./ci.sh system-impls` runs them.

use zmqd_tests::implementation::{Process, Pyzmq, assert_documented, scenario};

#[test]
fn the_documentation_lists_what_runs() {
    assert_documented(&Process::npm_version(), npm::RUNS);
    assert_documented("libzmq of the system", libzmq::RUNS);
}

#[test]
fn all_implementations_share_one_broker() {
    scenario::together(&[&Process::c(), &Process::npm(), &Pyzmq::start()]);
}

mod npm {
    use zmqd_tests::implementation::Process;
    use zmqd_tests::runs;

    runs! {
        Process::npm: alone frontend backend;
    }
}

mod libzmq {
    use zmqd_tests::implementation::Process;
    use zmqd_tests::runs;

    runs! {
        Process::c: alone frontend backend;
    }
}
