"""A network of hosts on one machine: namespaces, and a switch with unreliable links.

Each host is a network namespace with one interface, a tap whose other end this process holds. Every
packet between two hosts thus passes through this process, which delays, loses, duplicates and
reorders packets as commanded. This works on any kernel with taps; many lack netem. The kernel at
either end handles TCP, as on any network.

Commands are lines on standard input. The answer to each is a line `ok LENGTH` and so many bytes:

    host                    makes a host; returns the process id for `nsenter`, and its address
    links KEY=VALUE...      sets the quality of all links without a `link` command
    link A B KEY=VALUE...   sets the quality of the link between two hosts, both ways
    pull A, plug A          pulls the cable out of a host, and plugs it in again
    count WHAT              counts packets that were `passed`, `lost`, `doubled`, `overtaking`

Hosts are numbered from 0. Keys of a link, all 0 by default: `delay` and `jitter` in ms, and the
shares of packets that are lost (`loss`), sent twice (`double`) and not delayed, so that they
overtake others (`overtake`). `loss=1` cuts a link silently. The end of standard input ends all
hosts and leaves nothing behind.
"""

import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import subprocess
import sys
import time

TUNSETIFF, TUNSETCARRIER = 0x400454CA, 0x400454E2
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_SIZE_MAX = 2048
PACKETS_ON_THE_WAY_MAX = 20_000
PERFECT = {"delay": 0.0, "jitter": 0.0, "loss": 0.0, "double": 0.0, "overtake": 0.0}


class Host:
    """A namespace, and this end of its cable."""

    def __init__(self, number):
        script = ["unshare", "--net", "sh", "-c", "echo made; exec cat"]
        # It runs until its standard input, a pipe without data, is closed with this process.
        self.process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"made\n", "no network namespace could be made"
        self.address = f"10.0.0.{number + 1}"
        self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asked = struct.pack("16sH22x", b"zmqd%d", IFF_TAP | IFF_NO_PI)
        name = fcntl.ioctl(self.tap, TUNSETIFF, asked)[:16].rstrip(b"\0").decode()
        run("ip", "link", "set", name, "netns", str(self.process.pid))
        self.run("ip", "link", "set", name, "name", "eth0")
        # The loopback interface too, so that a host can reach its own address.
        for device in "lo", "eth0":
            self.run("ip", "link", "set", device, "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")

    def run(self, *command):
        run("nsenter", "--target", str(self.process.pid), "--net", *command)

    def carry(self, carries):
        """Sets whether the kernel of the host sees a cable."""
        fcntl.ioctl(self.tap, TUNSETCARRIER, struct.pack("i", carries))


class Switch:
    """Moves frames between hosts, by the quality of each link."""

    def __init__(self):
        self.counts = dict.fromkeys(["passed", "lost", "doubled", "overtaking"], 0)
        self.hosts = []
        self.links = {None: PERFECT}
        self.numbers = itertools.count()
        self.places = {}
        self.pulled = set()
        self.random = random.Random(1)
        self.selector = selectors.DefaultSelector()
        self.waiting = []

    def handle_frames(self, sender):
        """Reads frames of a host, a limited number at a time."""
        for _ in range(64):
            try:
                frame = os.read(self.hosts[sender].tap, FRAME_SIZE_MAX)
            except BlockingIOError:
                return
            self.places[frame[6:12]] = sender
            found = self.places.get(frame[:6])
            everyone = range(len(self.hosts))
            for receiver in everyone if found is None else [found]:
                if receiver != sender and not {sender, receiver} & self.pulled:
                    self.carry(sender, receiver, frame)

    def carry(self, sender, receiver, frame):
        link = self.links.get(frozenset((sender, receiver)), self.links[None])
        if self.happens(link["loss"], "lost") or len(self.waiting) > PACKETS_ON_THE_WAY_MAX:
            return
        for _ in range(1 + self.happens(link["double"], "doubled")):
            delay = link["delay"] + link["jitter"] * self.random.uniform(-1, 1)
            if link["delay"] and self.happens(link["overtake"], "overtaking"):
                delay = 0
            due = time.monotonic() + max(delay, 0) / 1000
            heapq.heappush(self.waiting, (due, next(self.numbers), receiver, frame))

    def happens(self, share, what):
        if not share or self.random.random() >= share:
            return False
        self.counts[what] += 1
        return True

    def deliver(self):
        """Delivers the packets that are due; returns the seconds until the next, if any."""
        while self.waiting:
            left = self.waiting[0][0] - time.monotonic()
            if left > 0:
                return left
            _, _, receiver, frame = heapq.heappop(self.waiting)
            if receiver in self.pulled:
                continue
            try:
                os.write(self.hosts[receiver].tap, frame)
                self.counts["passed"] += 1
            except OSError:
                pass  # lost, by a full queue or an interface that is down
        return None

    def command(self, line):
        verb, *words = line.split()
        if verb == "host":
            host = Host(len(self.hosts))
            self.hosts.append(host)
            self.selector.register(host.tap, selectors.EVENT_READ, len(self.hosts) - 1)
            return f"{host.process.pid} {host.address}"
        if verb == "count":
            return str(self.counts[words[0]])
        if verb == "links":
            self.links[None] = quality(words)
        elif verb == "link":
            self.links[frozenset(map(int, words[:2]))] = quality(words[2:])
        elif verb == "pull":
            self.pulled.add(int(words[0]))
            self.hosts[int(words[0])].carry(False)
        elif verb == "plug":
            self.pulled.remove(int(words[0]))
            self.hosts[int(words[0])].carry(True)
        else:
            sys.exit(f"unknown command {verb}")
        return ""

    def run(self):
        """Works until standard input ends."""
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ, None)
        commands = b""
        while True:
            for key, _ in self.selector.select(self.deliver()):
                if key.data is not None:
                    self.handle_frames(key.data)
                    continue
                received = os.read(0, 4096)
                if not received:
                    return
                *lines, commands = (commands + received).split(b"\n")
                for line in lines:
                    answer = self.command(line.decode())
                    print(f"ok {len(answer)}\n{answer}", end="", flush=True)


def quality(words):
    """The quality of a link, from words such as `loss=0.1`."""
    asked = {key: float(value) for key, value in (word.split("=") for word in words)}
    if unknown := asked.keys() - PERFECT.keys():
        sys.exit(f"a link has no {', '.join(unknown)}")
    return PERFECT | asked


def run(*command):
    """Runs a command that must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}")


if __name__ == "__main__":
    Switch().run()
