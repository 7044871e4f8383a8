//! pyzmq on both sides: a failure here is the fault of the scenario or of the broker.

use zmqd_tests::implementation::Pyzmq;
use zmqd_tests::runs;

runs! {
    Pyzmq::start: alone;
}
