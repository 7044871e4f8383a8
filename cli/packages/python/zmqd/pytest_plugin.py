"""The fixture ``zmqd_broker``: brokers that end with the test."""

from __future__ import annotations

import sys
from typing import Callable, Dict, Iterator, List

import pytest

import zmqd

_KINDS: Dict[str, Callable[..., zmqd.Broker]] = {
    "queue": zmqd.queue,
    "forwarder": zmqd.forwarder,
    "streamer": zmqd.streamer,
    "proxy": zmqd.proxy,
    "run": zmqd.run,
}


@pytest.fixture
def zmqd_broker() -> Iterator[Callable[..., zmqd.Broker]]:
    """Makes brokers: ``zmqd_broker("queue", …)`` has the arguments of ``zmqd.queue``.

    If the test fails, the end of each broker's log is on stderr, which pytest shows.
    """
    brokers: List[zmqd.Broker] = []

    def begin(kind: str = "queue", *arguments: object, **others: object) -> zmqd.Broker:
        broker = _KINDS[kind](*arguments, **others)
        brokers.append(broker)
        return broker

    yield begin
    for broker in reversed(brokers):
        broker.stop()
        if broker.log:
            print(broker.log, file=sys.stderr)
