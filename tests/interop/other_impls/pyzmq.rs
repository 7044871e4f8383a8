//! pyzmq against itself: what fails here is the fault of a scenario, or of the broker.

use zmqd_tests::runs;
use zmqd_tests::witness::Pyzmq;

runs! {
    Pyzmq::start;
    requests: alone;
    requests_of_parts: alone;
    identities: alone;
    pipelined: alone;
    publications: alone;
    subscriptions: alone;
    work: alone;
    large: alone;
    reconnections: alone;
    resubscriptions: alone;
    answered_heartbeats: alone;
    own_heartbeats: alone;
}
