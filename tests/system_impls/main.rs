//! The scenarios of `zmqd_tests::witness` with what is no crate: npm's zeromq, and the C library of
//! the system. They need Node, a C compiler and the library, so `./ci.sh witness` runs them.

use zmqd_tests::witness::{Process, Pyzmq, assert_documented, scenario};

#[test]
fn the_documentation_says_what_runs() {
    assert_documented(&Process::npm_version(), npm::RUNS);
    assert_documented("libzmq of the system", libzmq::RUNS);
}

#[test]
fn all_of_them_together() {
    scenario::together(&[&Process::c(), &Process::npm(), &Pyzmq::start()]);
}

mod npm {
    use zmqd_tests::runs;
    use zmqd_tests::witness::Process;

    runs! {
        Process::npm;
        requests: alone frontend backend;
        requests_of_parts: alone frontend backend;
        identities: alone frontend backend;
        pipelined: alone frontend backend;
        publications: alone frontend backend;
        subscriptions: alone frontend backend;
        work: alone frontend backend;
        large: alone frontend backend;
        reconnections: alone frontend backend;
        resubscriptions: alone frontend backend;
        answered_heartbeats: alone frontend backend;
        own_heartbeats: alone frontend backend;
    }
}

mod libzmq {
    use zmqd_tests::runs;
    use zmqd_tests::witness::Process;

    runs! {
        Process::c;
        requests: alone frontend backend;
        requests_of_parts: alone frontend backend;
        identities: alone frontend backend;
        pipelined: alone frontend backend;
        publications: alone frontend backend;
        subscriptions: alone frontend backend;
        work: alone frontend backend;
        large: alone frontend backend;
        reconnections: alone frontend backend;
        resubscriptions: alone frontend backend;
        answered_heartbeats: alone frontend backend;
        own_heartbeats: alone frontend backend;
    }
}
