"""The peers of the soak test: some verify every message, others misbehave.

Each class has a `round(seconds)` that puts its load on the broker. It returns once nothing of the
load is in transit, with the number of messages or connections.
"""

import json
import os
import random
import socket as sockets
import struct
import time

import zmq
from peer import PATIENCE_MS, connect, dial, in_background, monitor_of, settle, socket
from zmq.utils.monitor import recv_monitor_message

NOISE = random.Random(1).randbytes(4 << 20)


def body(number):
    """The part for a number: mostly small, sometimes 2 MB."""
    mixed = number * 2654435761 % (1 << 32)
    per_mille = mixed % 1000
    size = mixed % 300
    if per_mille >= 900:
        size = 5000 if per_mille < 980 else 100_000 if per_mille < 998 else 2_000_000
    begin = mixed % (len(NOISE) - size)
    return NOISE[begin : begin + size]


class Requests:
    """Clients with several outstanding requests each, and workers that echo them."""

    WINDOW = 16

    def __init__(self, frontends, backends):
        self.workers = [connect(zmq.DEALER, end) for end in backends for _ in range(2)]
        self.clients = [connect(zmq.DEALER, end) for end in frontends for _ in range(3)]
        self.number = 0
        self.working = in_background(self.work)

    def work(self):
        poller = zmq.Poller()
        for worker in self.workers:
            poller.register(worker, zmq.POLLIN)
        while True:
            for worker, _ in poller.poll():
                worker.send_multipart(worker.recv_multipart(copy=False))

    def round(self, seconds):
        poller, waiting = zmq.Poller(), {client: set() for client in self.clients}
        for client in self.clients:
            poller.register(client, zmq.POLLIN)
        first, end = self.number, time.monotonic() + seconds
        while True:
            is_over = time.monotonic() > end
            for client, numbers in waiting.items():
                while not is_over and len(numbers) < self.WINDOW:
                    self.number += 1
                    numbers.add(self.number)
                    client.send_multipart([b"%d" % self.number, body(self.number)])
            outstanding = sum(map(len, waiting.values()))
            if is_over and not outstanding:
                return self.number - first
            ready = poller.poll(PATIENCE_MS)
            assert ready, f"{outstanding} requests are not answered"
            for client, _ in ready:
                number, echo = client.recv_multipart()
                waiting[client].remove(int(number))  # a KeyError: a reply without a request
                assert echo == body(int(number)), f"reply {number} is not whole"


class Publications:
    """Publishers that wait until every subscriber has the topics that it subscribed to."""

    BATCH = 40

    def __init__(self, frontends, backends):
        self.subscribers = [connect(zmq.SUB, end) for end in backends for _ in range(2)]
        self.publishers = [connect(zmq.PUB, end) for end in frontends for _ in range(2)]
        for index, subscriber in enumerate(self.subscribers):
            subscriber.subscribe(b"honest all")
            subscriber.subscribe(b"honest %d" % index)
        settle(self.publishers, self.subscribers)
        self.number = 0

    def publish(self, topics, readers):
        """Sends a batch and reads it; `readers` returns the subscribers of a topic."""
        publishers = range(len(self.publishers))
        wanted = [{index: [] for index in publishers} for _ in self.subscribers]
        for _ in range(self.BATCH):
            for index, publisher in enumerate(self.publishers):
                self.number += 1
                topic = topics[self.number % len(topics)]
                message = [topic, b"%d" % index, b"%d" % self.number]
                publisher.send_multipart([*message, body(self.number)])
                for reader in readers(topic):
                    wanted[reader][index].append((topic, self.number))
        for subscriber, missing in zip(self.subscribers, wanted):
            while any(missing.values()):
                topic, index, number, content = subscriber.recv_multipart()
                assert missing[int(index)].pop(0) == (topic, int(number)), "lost or out of order"
                assert content == body(int(number)), f"publication {number} is not whole"
            assert subscriber.poll(0) == 0, "a publication without a subscription"

    def round(self, seconds):
        first, end = self.number, time.monotonic() + seconds
        everyone = range(len(self.subscribers))
        topics = [b"honest all", b"honest 0", b"honest 1", b"honest unwanted", b"honest toggled"]

        def readers(topic, toggled=()):
            if topic == b"honest all":
                return everyone
            if topic == b"honest toggled":
                return toggled
            return [i for i in everyone if topic == b"honest %d" % i]

        while time.monotonic() < end:
            for _ in range(10):
                self.publish(topics, readers)
            last = self.subscribers[-1]
            last.subscribe(b"honest toggled")
            settle(self.publishers, [last])
            self.publish(topics, lambda topic: readers(topic, [everyone[-1]]))
            last.unsubscribe(b"honest toggled")
            settle(self.publishers, [last])
        return self.number - first


class Slow:
    """Subscribers too slow for a flood: the broker counts every message that they miss."""

    def __init__(self, frontend, backend, control):
        self.publisher = connect(zmq.PUB, frontend, sndhwm=0)
        self.subscribers = [SlowSubscriber(backend) for _ in range(2)]
        self.asker = connect(zmq.REQ, control)
        settle([self.publisher], [slow.socket for slow in self.subscribers])
        for slow in self.subscribers:
            slow.socket.subscribe(b"slow")
        settle([self.publisher], [slow.socket for slow in self.subscribers])
        self.published = 0

    def publish(self, mark=b""):
        self.published += 1
        self.publisher.send_multipart([b"slow", b"%d" % self.published, mark or NOISE[:8192]])

    def round(self, seconds):
        first, end = self.published, time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(100):
                self.publish()
            for slow in self.subscribers:
                for _ in range(3):
                    slow.take()
            time.sleep(0.02)  # leaves the processor to the others
        for slow in self.subscribers:
            # Marks are dropped too while the queue is full.
            while not slow.is_at_end:
                self.publish(b"mark")
                while not slow.is_at_end and slow.socket.poll(100):
                    slow.take()
            slow.is_at_end = False
        self.account()
        return self.published - first

    def account(self):
        for slow in self.subscribers:
            while slow.socket.poll(100):
                slow.take()
            slow.is_at_end = False
        self.asker.send_json({"command": "peers", "side": "backend"})
        peers = {peer["address"]: peer for peer in self.asker.recv_json()["peers"]}
        for slow in self.subscribers:
            dropped = sum(peers[slow.address]["dropped"].values())
            assert slow.received + dropped == self.published, (
                f"{self.published} published, {slow.received} received, {dropped} dropped"
            )


class SlowSubscriber:
    """A subscriber, its address as the broker shows it, and a count of its messages."""

    def __init__(self, backend):
        self.socket = socket(zmq.SUB, rcvhwm=10, rcvbuf=65536)
        monitor = monitor_of(self.socket, zmq.EVENT_CONNECTED)
        monitor.rcvtimeo = PATIENCE_MS
        self.socket.connect(backend)
        descriptor = recv_monitor_message(monitor)["value"]
        with sockets.fromfd(descriptor, sockets.AF_INET, sockets.SOCK_STREAM) as copy:
            self.address = "{}:{}".format(*copy.getsockname())
        self.socket.disable_monitor()
        self.is_at_end = False
        self.last = self.received = 0

    def take(self):
        if not self.socket.poll(0):
            return
        _, number, content = self.socket.recv_multipart()
        assert int(number) > self.last, "out of order"
        assert content == b"mark" or content == NOISE[:8192], "not whole"
        self.last, self.received = int(number), self.received + 1
        self.is_at_end = content == b"mark"


class Work:
    """Sources and sinks, one sink slow; ignores the work of other sources."""

    AHEAD_MAX = 2000

    def __init__(self, frontends, backends):
        self.sinks = [connect(zmq.PULL, end, rcvhwm=20) for end in backends for _ in range(2)]
        self.sources = [connect(zmq.PUSH, end, sndhwm=50) for end in frontends for _ in range(2)]
        self.number = 0

    def round(self, seconds):
        first, end, missing, lasts = self.number, time.monotonic() + seconds, set(), {}
        served = time.monotonic()
        while missing or time.monotonic() < end:
            for index, source in enumerate(self.sources):
                is_over = time.monotonic() > end or len(missing) > self.AHEAD_MAX
                if not is_over and source.poll(0, zmq.POLLOUT):
                    self.number += 1
                    missing.add(self.number)
                    message = [b"honest", b"%d" % index, b"%d" % self.number, body(self.number)]
                    source.send_multipart(message)
            for index, sink in enumerate(self.sinks):
                for _ in range(20 if index else 1):
                    if not sink.poll(0):
                        break
                    served = time.monotonic()
                    word, *rest = sink.recv_multipart()
                    if word == b"honest":
                        self.take(index, rest, missing, lasts)
            assert time.monotonic() < served + 25, f"{len(missing)} pieces of work are lost"
        return self.number - first

    def rest(self):
        """Takes the messages that others have sent since."""
        while any(sink.poll(100) for sink in self.sinks):
            for sink in self.sinks:
                while sink.poll(0):
                    assert sink.recv_multipart()[0] != b"honest"

    def take(self, sink, rest, missing, lasts):
        source, number, content = rest
        missing.remove(int(number))  # a KeyError: duplicated work
        assert content == body(int(number)), f"work {number} is not whole"
        assert int(number) > lasts.get((sink, source), 0), "out of order"
        lasts[sink, source] = int(number)


class Churn:
    """Sockets of every type that connect, exchange messages and leave, most of them abruptly."""

    ALIVE_MAX = 60
    NAMES = [b"one", b"two", b"three"]

    def __init__(self, places, ends):
        self.places, self.ends = places, ends
        self.random = random.Random(2)
        self.takers = []

    def round(self, seconds):
        end, alive, made = time.monotonic() + seconds, [], 0
        for taker in self.takers:
            taker.close()
        while time.monotonic() < end:
            if len(alive) < self.ALIVE_MAX and self.random.random() < 0.5:
                alive.append(self.open())
                made += 1
            for one in self.random.sample(alive, min(3, len(alive))):
                self.use(one)
            if alive and self.random.random() < 0.5:
                alive.pop(self.random.randrange(len(alive))).close()
            time.sleep(0.002)  # leaves the processor to the others
        for one in alive:
            one.close()
        # These take the messages that closed sockets have left, until the next round.
        self.takers = [connect(kind, endpoint, rcvhwm=0) for kind, endpoint in self.ends]
        return made

    def open(self):
        kinds, endpoint = self.random.choice(self.places)
        kind = self.random.choice(kinds)
        options = {"rcvhwm": self.random.choice([1, 1000])}
        if kind in (zmq.DEALER, zmq.REQ) and self.random.random() < 0.3:
            options["identity"] = self.random.choice(self.NAMES)
        if self.random.random() < 0.3:
            # With a full receive queue libzmq does not read, declares the broker dead, and may
            # abort when it reconnects (https://github.com/zeromq/libzmq/issues/3937).
            options |= {"heartbeat_ivl": 100, "heartbeat_ttl": 500, "rcvhwm": 0}
        return dial(kind, endpoint, **options)

    def use(self, one):
        if one.type == zmq.SUB:
            for _ in range(self.random.randrange(50)):
                topic = b"churn %d" % self.random.randrange(5000)
                self.random.choice([one.subscribe, one.subscribe, one.unsubscribe])(topic)
            return
        if one.type != zmq.PUB:
            self.attempt(lambda: one.recv_multipart(zmq.NOBLOCK))
        size = self.random.choice([0, 10, 1000, 100_000])
        message = [b"churn %d" % self.random.randrange(5000), NOISE[:size]]
        self.attempt(lambda: one.send_multipart(message, zmq.NOBLOCK))

    def attempt(self, act):
        try:
            act()
        except zmq.ZMQError:
            pass  # no peer, not its turn, or not possible with this type


class Garbage:
    """Connections that begin validly or not, and end with garbage, silence or a reset."""

    ALIVE_MAX = 20
    TYPES = [b"DEALER", b"PUB", b"SUB", b"PUSH"] * 3 + [b"REQ", b"XSUB", b"PULL", b"PAIR", b"x"]

    def __init__(self, endpoints):
        addresses = [end.removeprefix("tcp://").rsplit(":", 1) for end in endpoints]
        self.addresses = [(host, int(port)) for host, port in addresses]
        self.random = random.Random(3)

    def round(self, seconds):
        end, alive, made = time.monotonic() + seconds, [], 0
        while time.monotonic() < end:
            one = sockets.create_connection(self.random.choice(self.addresses), timeout=10)
            one.setblocking(False)
            made += 1
            try:
                one.send(self.stream())
            except OSError:
                pass  # closed by the broker
            alive.append(one)
            while len(alive) > self.random.randrange(self.ALIVE_MAX):
                gone = alive.pop(self.random.randrange(len(alive)))
                if self.random.random() < 0.5:  # a reset
                    gone.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
                gone.close()
            time.sleep(0.005)  # leaves the processor to the others
        for one in alive:
            one.close()
        return made

    def stream(self):
        """A valid opening and some frames, cut at a random place, with some bytes changed."""
        kind = self.random.choice(self.TYPES)
        ready = b"\5READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        parts = [b"\xff" + bytes(8) + b"\x7f\3\1NULL" + bytes(48)]
        parts.append(b"\4" + bytes([len(ready)]) + ready)
        for _ in range(self.random.randrange(10)):
            content = b"garbage" + self.random.randbytes(self.random.randrange(200))
            flags = self.random.choice([0, 0, 1, 1, 4])
            parts.append(bytes([flags, len(content)]) + content)
        if self.random.random() < 0.2:
            parts.append(b"\2" + struct.pack(">Q", self.random.choice([1000, 1 << 26, 1 << 40])))
        stream = bytearray(b"".join(parts))
        del stream[self.random.randrange(len(stream)) + 1 :]
        for _ in range(self.random.choice([0, 0, 1, 5])):
            stream[self.random.randrange(len(stream))] = self.random.randrange(256)
        return bytes(stream)


class Observer:
    """Queries the controls under load, and reads the counters of the process."""

    PAGE = os.sysconf("SC_PAGE_SIZE")

    def __init__(self, pid, controls):
        self.pid = pid
        self.askers = [connect(zmq.REQ, control) for control in controls]
        self.peaks = {}

    def ask(self, command, **keys):
        """The answers of all proxies."""
        for asker in self.askers:
            asker.send_json({"command": command, **keys})
        answers = [json.loads(asker.recv()) for asker in self.askers]
        assert not any("error" in answer for answer in answers), answers
        return answers

    def sample(self):
        """The state now: memory and files of the process, and sums over all proxies."""
        with open(f"/proc/{self.pid}/statm") as statm:
            resident = int(statm.read().split()[1]) * self.PAGE
        answers = self.ask("statistics")
        of_all = [counters for answer in answers for counters in answer["sockets"]]
        names = ("peers", "queued_bytes", "queued_messages", "topics", "waiting")
        sums = {name: sum(counters[name] for counters in of_all) for name in names}
        files = len(os.listdir(f"/proc/{self.pid}/fd"))
        memory_in_use = answers[0]["memory_in_use"]
        return {"resident": resident, "files": files, "memory_in_use": memory_in_use, **sums}

    def round(self, seconds):
        end, rounds, self.peaks = time.monotonic() + seconds, 0, {}
        while time.monotonic() < end:
            for name, value in self.sample().items():
                self.peaks[name] = max(value, self.peaks.get(name, 0))
            self.ask("peers", limit=10)
            self.ask("closed", limit=10)
            rounds += 1
            time.sleep(0.2)  # between two samples
        return rounds

    def rest(self):
        """Samples again and again until nothing is in transit, and returns the last sample."""
        end = time.monotonic() + 20
        before = None
        while (now := self.sample()) != before or now["queued_messages"] or now["waiting"]:
            assert time.monotonic() < end, f"no rest: {now} after {before}"
            before = now
            time.sleep(0.3)  # between two samples
        return now
