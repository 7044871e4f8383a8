"""The fixture for pytest, which finds it by the entry point of the installed package."""

import zmq

brokers = []


def test_makes_brokers(zmqd_broker):
    queue, forwarder = zmqd_broker(), zmqd_broker("forwarder", options={"backend.sndhwm": 5})
    brokers.extend([queue, forwarder])
    with zmq.Context() as context, context.socket(zmq.REQ) as client:
        with context.socket(zmq.REP) as worker:
            worker.connect(queue.backend)
            client.connect(queue.frontend)
            client.send(b"hello")
            assert worker.recv() == b"hello"
            client.linger = worker.linger = 0
    assert forwarder.is_running


def test_has_ended_them():
    assert [broker.is_running for broker in brokers] == [False, False]
