"""The pyzmq side of a test: executes blocks of Python that arrive on standard input.

A request is a line `run LENGTH` or `ask LENGTH` and so many bytes of Python: statements, or one
expression. The answer is `ok LENGTH` or `error LENGTH` and so many bytes: the value as text, or
the traceback. All blocks share one namespace: pyzmq as `zmq`, and everything defined here.
"""

import asyncio  # noqa: F401  for the blocks, like some others
import faulthandler
import hashlib
import itertools
import json
import os
import struct  # noqa: F401
import sys
import textwrap
import threading
import time
import traceback

import zmq
import zmq.asyncio
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

PATIENCE_MS = 25_000
CURVE_KEYS = os.environ.get("ZMQD_TESTS_CURVE")
context = zmq.Context()
monitor_numbers = itertools.count()


def socket(kind, **options):
    """A socket whose waits have a deadline; `sndhwm=10` sets SNDHWM, `subscribe=[b"a", b"b"]` both.

    Options are set before the first connection, as most of them must be.
    """
    made = context.socket(kind)
    made.linger = 0
    made.rcvtimeo = made.sndtimeo = PATIENCE_MS
    if CURVE_KEYS:
        be_client(made, CURVE_KEYS)
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            made.setsockopt(getattr(zmq, name.upper()), one)
    return made


def be_client(made, directory, server="server", client="client"):
    """Makes a socket a CURVE client with the keys of these names in a directory."""
    made.curve_serverkey = zmq.auth.load_certificate(f"{directory}/{server}.key")[0]
    keys = zmq.auth.load_certificate(f"{directory}/{client}.key_secret")
    made.curve_publickey, made.curve_secretkey = keys


def be_server(made, directory, server="server"):
    """Makes a socket a CURVE server with the keys of this name in a directory."""
    made.curve_server = True
    keys = zmq.auth.load_certificate(f"{directory}/{server}.key_secret")
    made.curve_publickey, made.curve_secretkey = keys


def clients_of(directory, server="server"):
    """A function that connects a socket with the keys of a name to this CURVE server."""

    def client(kind, endpoint, name="client", **options):
        made = socket(kind, **options)
        be_client(made, directory, server=server, client=name)
        made.connect(endpoint)
        return made

    return client


def connect(kind, *endpoints, **options):
    """A socket that has shaken hands at every endpoint."""
    made = socket(kind, **options)
    wait = watch(made, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    for endpoint in endpoints:
        made.connect(endpoint)
    for _ in endpoints:
        wait()
    made.disable_monitor()
    return made


def dial(kind, *endpoints, **options):
    """A socket that connects now, or once its endpoints have a listener."""
    made = socket(kind, **options)
    for endpoint in endpoints:
        made.connect(endpoint)
    return made


def bind(kind, endpoint="tcp://127.0.0.1:0", **options):
    """A socket that listens; `last_endpoint` returns its endpoint.

    A closed socket frees its port in the background, so this may take a moment.
    """
    made = socket(kind, **options)

    def bound():
        try:
            made.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            return False
        return True

    wait_until(f"{endpoint} to be free", bound)
    return made


def last_endpoint(bound):
    """The endpoint of a socket that listens, as text."""
    return bound.last_endpoint.rstrip(b"\0").decode()


def monitor_of(watched, events=zmq.EVENT_ALL):
    """The one monitor of a socket, started by the first call.

    It has its own name: pyzmq would derive one from a file descriptor, which libzmq may reuse
    before it frees the name.
    """
    return watched.get_monitor_socket(events, f"inproc://monitor-{next(monitor_numbers)}")


def watch(watched, events):
    """Starts to monitor a socket; the result waits for the next of these events."""
    monitor = monitor_of(watched, events)
    monitor.rcvtimeo = PATIENCE_MS
    return lambda: recv_monitor_message(monitor)["event"]


def take(source, count):
    """The next so many messages, each a list of its parts."""
    return [source.recv_multipart() for _ in range(count)]


def is_silent(source, ms=0):
    """Whether no message arrives within this time."""
    return source.poll(ms) == 0


def wait_until(what, check):
    """Calls `check` again and again until its answer is true, and returns that."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not (answer := check()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_MS} ms for {what}"
        time.sleep(0.002)  # between two checks; no test depends on it
    return answer


def settle(publishers, subscribers):
    """Returns once every publisher has every earlier subscription.

    Each subscriber subscribes to its own mark last. Subscriptions keep their order on the way to
    the publishers, so a published mark that arrives proves that the earlier ones are in place.
    """
    marks = [b"\xffsettle" + os.urandom(8) for _ in subscribers]
    missing = {(p, s) for p in range(len(publishers)) for s in range(len(subscribers))}
    for subscriber, mark in zip(subscribers, marks):
        subscriber.subscribe(mark)

    def all_arrived():
        for p, s in missing:
            publishers[p].send_multipart([marks[s], b"%d" % p])
        for s, subscriber in enumerate(subscribers):
            while not is_silent(subscriber, 1):
                mark, p = subscriber.recv_multipart()
                assert mark == marks[s]
                missing.discard((int(p), s))
        return not missing

    wait_until("every publisher to have every subscription", all_arrived)
    for subscriber, mark in zip(subscribers, marks):
        subscriber.unsubscribe(mark)  # marks in transit are dropped too


def everyone_served(give, sinks, accept=lambda sink: sink.recv_multipart()):
    """Sends work, one piece at a time, until every sink has had a piece.

    `give()` sends one piece and `accept(sink)` takes it. Afterwards all sinks are in the broker's
    rotation and nothing is in transit. Returns the sinks in the order in which they are served from
    then on, provided that none leaves or is too slow.
    """
    order = []

    def one_more():
        give()
        (sink,) = wait_until("a sink to be served", lambda: [s for s in sinks if s.poll(1)])
        accept(sink)
        if sink in order:
            order.remove(sink)
        order.append(sink)
        return len(order) == len(sinks)

    wait_until("every sink to be served", one_more)
    return order


def digest(parts):
    """A fingerprint of a message: its parts and the boundaries between them."""
    summary = hashlib.sha256()
    for part in parts:
        summary.update(struct.pack("<Q", len(part)))
        summary.update(part)
    return summary.digest()


def questioner(endpoint):
    """A function that queries the control of a proxy: `ask("peers", side="backend")`."""
    made = connect(zmq.REQ, endpoint)

    def ask(command, **keys):
        made.send(json.dumps({"command": command, **keys}).encode())
        return json.loads(made.recv())

    return ask


def counters(ask, side):
    """The counters of one socket of the proxy."""
    (found,) = [one for one in ask("statistics")["sockets"] if one["side"] == side]
    return found


def in_background(work, *arguments):
    """Runs a function on a thread; `result()` waits for it and raises what it raised."""
    return Background(work, arguments)


class Background(threading.Thread):
    """A function on a thread of its own."""

    def __init__(self, work, arguments):
        super().__init__(daemon=True)
        self.work, self.arguments = work, arguments
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.work(*self.arguments)
        except BaseException as error:  # noqa: B902  raised again by result()
            self.error = error

    def result(self):
        self.join(PATIENCE_MS / 1000)
        if self.error is not None:
            raise self.error
        assert not self.is_alive(), f"{self.work} did not end"
        return self.value


class Honest:
    """A well-behaved pair of peers that exchanges numbers while others misbehave.

    A number that is lost or duplicated raises in `passes()`.
    """

    def __init__(self, proxy, frontend, backend):
        near, far = {
            "queue": (zmq.REQ, zmq.REP),
            "forwarder": (zmq.PUB, zmq.SUB),
            "streamer": (zmq.PUSH, zmq.PULL),
        }[proxy]
        options = {"subscribe": b"honest"} if far == zmq.SUB else {}
        self.near, self.far = connect(near, frontend), connect(far, backend, **options)
        if far == zmq.SUB:
            settle([self.near], [self.far])
        self.count = 0
        self.turn = threading.Lock()
        self.thread = in_background(self.work)

    def work(self):
        while True:
            with self.turn:
                message = b"honest %d" % self.count
                self.near.send(message)
                assert (got := self.far.recv()) == message, (got, message)
                if self.far.type == zmq.REP:
                    self.far.send(message)
                    assert (got := self.near.recv()) == message, (got, message)
                self.count += 1
            time.sleep(0.001)  # leaves the processor and the lock to others

    def pause(self):
        """Returns once nothing is in transit; nothing is sent before `resume()`."""
        self.turn.acquire()

    def resume(self):
        """Goes on after `pause()`."""
        self.turn.release()

    def passes(self, more=50):
        """Waits until so many more numbers have arrived."""
        enough = self.count + more

        def done():
            if self.thread.error is not None:
                raise self.thread.error
            return self.count >= enough

        wait_until(f"{more} more honest messages", done)
        return True


def main():
    """Answers requests until standard input ends."""
    namespace = globals()
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # blocks print to standard error
    while header := requests.readline():
        verb, length = header.split()
        text = textwrap.dedent(requests.read(int(length)).decode())
        faulthandler.dump_traceback_later(PATIENCE_MS / 1000 + 10)
        try:
            if verb == b"ask":
                verdict, answer = b"ok", str(eval(text, namespace))
            else:
                exec(compile(text, "<block>", "exec"), namespace)
                verdict, answer = b"ok", ""
        except BaseException:  # noqa: B902  reported to the test
            lines = enumerate(text.splitlines(), 1)
            listing = "\n".join(f"{number:4} {line}" for number, line in lines)
            verdict, answer = b"error", f"{listing}\n{traceback.format_exc()}"
        faulthandler.cancel_dump_traceback_later()
        answer = answer.encode(errors="replace")
        answers.write(b"%s %d\n%s" % (verdict, len(answer), answer))
        answers.flush()


if __name__ == "__main__":
    main()
