"""Runs the proxies in turn, several rounds, under the load of `zmqd bench`, and prints medians.

Every run has a fresh proxy on free loopback ports. Within a round the proxies take turns on the
same work, so that other load of the machine affects all of them alike.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading

import zmq

HERE = pathlib.Path(__file__).resolve().parent
RUN_TIMEOUT_SECONDS = 30

STREAM, FORWARD, QUEUE = "streamer", "forwarder", "queue"
ZMQD, LIBZMQ, RELAY = "zmqd", "zmq.proxy", "relay"
IDLE_CAPTURE, READ_CAPTURE = "with an idle capture", "with a reader of its capture"

CPU_NS = "cpu_ns_per_message"
RATE = "messages_per_second"
SHARE = "delivered_share"
MIB = 1 << 20

RESULTS_START = "<!-- results: written by tests/bench/compare.sh --into -->"
ENCRYPTED_START = "<!-- results: written by tests/bench/compare.sh --encrypted --into -->"
RESULTS_END = "<!-- end of results -->"


class Work:
    """A load: the kind of proxy, the arguments of `zmqd bench`, and the figures of the table."""

    def __init__(self, name, kind, arguments, figures, relay=True, one_core=False, once=False,
                 proxies=None, encrypted=False):
        self.name = name
        self.kind = kind
        self.arguments = arguments.split()
        self.figures = figures
        self.proxies = proxies or ((ZMQD, LIBZMQ, RELAY) if relay else (ZMQD, LIBZMQ))
        self.one_core = one_core
        self.encrypted = encrypted
        # Measurements of memory vary less than times, and take long.
        self.once = once


class Figure:
    """One line of the table: a member of the JSON of `zmqd bench`, and its goals."""

    def __init__(self, key, label, *goals, scale=1):
        self.key = key
        self.label = label
        self.goals = goals
        self.scale = scale


class Goal:
    """A limit, absolute or as a multiple of the figure of another proxy."""

    def __init__(self, limit, of=None, at_least=False):
        self.limit = limit
        self.of = of
        self.at_least = at_least

    def verdict(self, medians):
        base = 1 if self.of is None else medians.get(self.of)
        value = ratio(medians[ZMQD], base)
        if value is None:
            return "–"
        reached = value >= self.limit if self.at_least else value <= self.limit
        sign = "≥" if self.at_least else "≤"
        unit = "" if self.of is None else f" × {self.of}"
        return f"{sign} {self.limit:,g}{unit}: {'yes' if reached else 'NO'}"


def one_way(bench, kind, label, size, *goals):
    figures = [
        Figure(CPU_NS, "CPU ns/msg", *goals),
        Figure(RATE, "M msg/s", scale=1e-6),
        Figure(SHARE, "delivered share"),
    ]
    return Work(f"{kind} 1:1, {label}", kind, f"{bench} --size {size}", figures)


def works():
    yield from one_way_works()
    yield from round_trip_works()
    yield from crowd_works()
    yield from memory_works()


def one_way_works():
    small = (Goal(0.12, LIBZMQ), Goal(3, RELAY))
    large = Goal(0.45, LIBZMQ)
    yield one_way("stream", STREAM, "64 B", 64, *small)
    yield one_way("forward", FORWARD, "64 B", 64, *small)
    yield one_way("stream", STREAM, "1 KiB", 1024, large)
    yield one_way("forward", FORWARD, "1 KiB", 1024, large)
    yield one_way("stream", STREAM, "16 KiB", 16384, large)
    yield one_way("forward", FORWARD, "16 KiB", 16384, large)
    yield Work(
        "forwarder 1:50, 64 B, per delivered message",
        FORWARD,
        "forward --subscribers 50",
        [
            Figure(CPU_NS, "CPU ns/msg", Goal(0.15, LIBZMQ)),
            Figure(RATE, "M msg/s", scale=1e-6),
            Figure(SHARE, "delivered share"),
        ],
        relay=False,
    )
    yield Work(
        "streamer 1:1, 64 B, broker held to one core",
        STREAM,
        "stream",
        [
            Figure(RATE, "M msg/s", Goal(20, LIBZMQ, at_least=True), scale=1e-6),
            Figure(CPU_NS, "CPU ns/msg"),
        ],
        one_core=True,
    )


def round_trip_works():
    round_trip = [
        Figure(CPU_NS, "CPU ns/round trip", Goal(0.20, LIBZMQ)),
        Figure(RATE, "M/s", scale=1e-6),
    ]
    yield Work(
        "queue, 64 B, 1 client × 256, 1 worker",
        QUEUE,
        "queue --window 256",
        round_trip,
        relay=False,
    )
    yield Work(
        "queue, 64 B, 16 clients × 64, 4 workers",
        QUEUE,
        "queue --clients 16 --window 64 --workers 4",
        round_trip,
        relay=False,
    )
    yield Work(
        "ping-pong, 64 B",
        QUEUE,
        "latency",
        [
            Figure("p50_us", "p50 µs", Goal(0.6, LIBZMQ)),
            Figure("p99_us", "p99 µs"),
            Figure(CPU_NS, "CPU µs/round trip", scale=1e-3),
        ],
    )


def crowd_works():
    yield Work(
        "queue, 64 B, 10,000 clients × 1 a second, 1 worker",
        QUEUE,
        "crowd --clients 10000 --duration 3 --warmup 1.5 --timeout 20",
        [
            Figure(CPU_NS, "CPU µs/round trip", Goal(0.5, LIBZMQ), scale=1e-3),
            Figure("p50_us", "p50 ms", scale=1e-3),
            Figure("p99_us", "p99 ms", Goal(10), scale=1e-3),
            Figure("skipped", "requests left out"),
        ],
        relay=False,
    )
    yield Work(
        "handshakes, 2 clients at a time",
        QUEUE,
        "handshakes",
        [
            Figure("handshakes_per_cpu_second", "per CPU second",
                   Goal(2.5, LIBZMQ, at_least=True)),
            Figure("handshakes_per_second", "per second"),
        ],
        relay=False,
    )


def memory_works():
    yield Work(
        "idle connection with one subscription",
        FORWARD,
        "idle --connections 5000",
        [Figure("bytes_per_connection", "bytes each of 5,000", Goal(1024))],
        relay=False,
        once=True,
    )
    yield Work(
        "1,000,000 subscriptions of 12 bytes",
        FORWARD,
        "subscriptions --count 1000000 --timeout 20",
        [Figure("resident_bytes_grown", "MiB", Goal(64), scale=1 / MIB)],
        relay=False,
        once=True,
    )


def encrypted_works():
    """Works for proxies whose sides are CURVE servers, which a relay cannot be."""

    def one_way(bench, kind, label, arguments, limit):
        figures = [
            Figure(CPU_NS, "CPU ns/msg", Goal(limit, LIBZMQ)),
            Figure(RATE, "M msg/s", scale=1e-6),
            Figure(SHARE, "delivered share"),
        ]
        name = f"{kind} {label}"
        return Work(name, kind, f"{bench} {arguments}", figures, relay=False, encrypted=True)

    for label, size, limit in (("64 B", 64, 0.5), ("1 KiB", 1024, 0.7), ("16 KiB", 16384, 0.9)):
        yield one_way("stream", STREAM, f"1:1, {label}", f"--size {size}", limit)
        yield one_way("forward", FORWARD, f"1:1, {label}", f"--size {size}", limit)
    yield one_way("forward", FORWARD, "1:50, 64 B, per delivered message", "--subscribers 50", 0.6)
    yield Work(
        "queue, 64 B, 1 client × 256, 1 worker",
        QUEUE,
        "queue --window 256",
        [
            Figure(CPU_NS, "CPU ns/round trip", Goal(0.5, LIBZMQ)),
            Figure(RATE, "M/s", scale=1e-6),
        ],
        relay=False,
        encrypted=True,
    )
    yield Work(
        "handshakes, 2 clients at a time",
        QUEUE,
        "handshakes",
        [
            Figure("handshakes_per_cpu_second", "per CPU second",
                   Goal(1.5, LIBZMQ, at_least=True)),
            Figure("handshakes_per_second", "per second"),
        ],
        relay=False,
        encrypted=True,
    )
    yield Work(
        "idle connection with one subscription",
        FORWARD,
        "idle --connections 5000 --timeout 20",
        [Figure("bytes_per_connection", "bytes each of 5,000", Goal(1536))],
        relay=False,
        once=True,
        encrypted=True,
    )


def capture_works():
    proxies = (ZMQD, IDLE_CAPTURE, READ_CAPTURE)
    figures = [Figure(CPU_NS, "CPU ns/round trip")]
    yield Work("queue, 64 B, 1 client × 256, 1 worker, watched", QUEUE, "queue --window 256",
               figures, proxies=proxies)


class Reader(threading.Thread):
    """Reads a capture, with just enough of ZMTP to subscribe to everything."""

    def __init__(self, endpoint):
        super().__init__(daemon=True)
        host, port = endpoint.removeprefix("tcp://").split(":")
        self.connection = socket.create_connection((host, int(port)))
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
        subscribe = b"\x09SUBSCRIBE"
        for command in (ready, subscribe):
            greeting += bytes([4, len(command)]) + command
        self.connection.sendall(greeting)
        self.start()

    def run(self):
        while self.connection.recv(1 << 20):
            pass


class Proxy:
    """A running proxy; closed at the end of a `with`."""

    def __init__(self, name, kind, programs, core=None, keys=None, http=False):
        endpoint = "tcp://127.0.0.1:0"
        command = {
            ZMQD: [programs / "zmqd", kind, "--frontend", endpoint, "--backend", endpoint],
            LIBZMQ: [sys.executable, HERE / "proxy.py", kind],
            RELAY: [programs / "relay"],
        }
        is_watched = name in (IDLE_CAPTURE, READ_CAPTURE)
        command = command.get(name) or command[ZMQD] + ["--capture", endpoint]
        if keys:
            secret = [f"{keys}/server.key_secret"]
            server = ["--curve-clients", "any", "--curve-secret", *secret]
            command += server if name == ZMQD else secret
        if http and name == ZMQD:
            command += ["--http", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        self.pid = self.process.pid
        self.endpoints = {}
        while len(self.endpoints) < (3 if is_watched else 2):
            line = self.process.stdout.readline()
            if not line:
                self.close()
                sys.exit(f"{name} ended before it had bound both sides")
            found = re.search(r"(frontend|backend|capture) bound (tcp://\S+)", line)
            if found:
                self.endpoints[found[1]] = found[2]
        capture = self.endpoints.pop("capture", None)
        if name == READ_CAPTURE:
            Reader(capture)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def memory_mib(self, kind):
        """Memory as the kernel counts it: VmRSS is all of it, RssAnon that of no file."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 1024


def bench(work, name, options):
    """One run: the figures that `zmqd bench` prints, or None, and its complaint."""
    cores = sorted(os.sched_getaffinity(0))
    core = cores[0] if work.one_core and len(cores) > 1 else None
    arguments = list(work.arguments)
    if not work.once and "--duration" not in arguments:
        arguments += ["--duration", str(options.seconds), "--warmup", str(options.warmup)]
    keys = options.keys if work.encrypted else None
    with Proxy(name, work.kind, options.programs, core, keys) as proxy:
        command = [options.programs / "zmqd", "bench", *arguments, "--json"]
        command += ["--pid", str(proxy.pid)]
        for side, endpoint in proxy.endpoints.items():
            command += [f"--{side}", endpoint]
        if keys:
            command += ["--curve-server", f"{keys}/server.key"]
            command += ["--curve-secret", f"{keys}/client.key_secret"]
        # The load goes elsewhere when the proxy is held to one core.
        outside = None if core is None else lambda: os.sched_setaffinity(0, set(cores) - {core})
        try:
            result = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=RUN_TIMEOUT_SECONDS,
                preexec_fn=outside,
            )
        except subprocess.TimeoutExpired:
            return None, "not finished in time"
    if result.returncode != 0:
        return None, result.stderr.strip()
    return json.loads(result.stdout), result.stderr.strip()


def make_keys(options):
    for owner in ("server", "client"):
        command = [options.programs / "zmqd", "keygen", f"{options.keys}/{owner}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(chosen, options):
    """All runs, in turn: results[work name][proxy] is a list of the figures of `zmqd bench`."""
    results = {work.name: {name: [] for name in work.proxies} for work in chosen}
    for turn in range(options.rounds):
        for work in chosen:
            if work.once and turn > 0:
                continue
            for name in work.proxies:
                figures, complaint = bench(work, name, options)
                if complaint:
                    print(f"round {turn + 1}, {work.name}, {name}: {complaint}", file=sys.stderr)
                if figures:
                    results[work.name][name].append(figures)
        print(f"round {turn + 1} of {options.rounds} done", file=sys.stderr)
    return results


def median(runs, figure):
    values = [run[figure.key] for run in runs if run.get(figure.key) is not None]
    return statistics.median(values) * figure.scale if values else None


def shown(value):
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(runs, figure):
    """Half the range of the runs, relative to their median: the noise."""
    values = [run[figure.key] for run in runs if run.get(figure.key) is not None]
    if len(values) < 2 or not statistics.median(values):
        return "–"
    return f"±{(max(values) - min(values)) / 2 / statistics.median(values):.0%}"


def ratio(of, to):
    return None if of is None or not to else of / to


def cells(label, figure, medians, noise):
    verdicts = "; ".join(goal.verdict(medians) for goal in figure.goals)
    ours, libzmq, relay = (medians.get(name) for name in (ZMQD, LIBZMQ, RELAY))
    row = [label, figure.label, shown(ours), noise, shown(libzmq), shown(relay)]
    row += [shown(ratio(ours, libzmq)), shown(ratio(ours, relay)), verdicts or "–"]
    return f"| {' | '.join(row)} |"


def table(chosen, results):
    yield "| work | figure | zmqd | spread | zmq.proxy | relay | ÷ zmq.proxy | ÷ relay | goal |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|---|"
    for work in chosen:
        for figure in work.figures:
            runs = results[work.name]
            medians = {name: median(runs[name], figure) for name in work.proxies}
            yield cells(work.name, figure, medians, spread(runs[ZMQD], figure))


def watched(chosen, results):
    """The cost of a capture: ratios to a proxy without one."""
    yield ""
    yield "| work | figure | without a capture | idle | read | idle ÷ without | read ÷ without |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for work in chosen:
        for figure in work.figures:
            runs = results[work.name]
            values = [median(runs[name], figure) for name in work.proxies]
            ratios = [ratio(value, values[0]) for value in values[1:]]
            goals = [f"{shown(value)}, ≤ {limit}: {'yes' if value <= limit else 'NO'}"
                     for value, limit in zip(ratios, (1.03, 1.5)) if value is not None]
            row = [work.name, figure.label, *map(shown, values), *goals]
            yield f"| {' | '.join(row)} |"


def at_rest(options):
    """Memory of each proxy before the first connection, and the size of the binary."""
    for kind, http, label, limit in (
        ("VmRSS", False, "resident memory at start", 3),
        ("RssAnon", True, "anonymous memory at start, zmqd with HTTP", 1),
    ):
        sizes = {}
        for name in (ZMQD, LIBZMQ, RELAY):
            with Proxy(name, QUEUE, options.programs, http=http) as proxy:
                sizes[name] = proxy.memory_mib(kind)
        yield cells(label, Figure(None, "MiB", Goal(limit)), sizes, "–")
    binary = {ZMQD: stripped_mib(options.programs / "zmqd")}
    yield cells("stripped binary", Figure(None, "MiB", Goal(3)), binary, "–")


def stripped_mib(binary):
    if not shutil.which("strip"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        stripped = pathlib.Path(folder) / binary.name
        subprocess.run(["strip", "-o", stripped, binary], check=True)
        return stripped.stat().st_size / MIB


def machine(options):
    information = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", information)
    model = model[1].strip() if model else platform.machine()
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=HERE, capture_output=True, text=True).stdout.strip()
    yield f"- {datetime.date.today()}, commit {commit or 'unknown'}"
    yield f"- {model}, {os.cpu_count()} cores, Linux {platform.release()}, loopback TCP"
    yield f"- libzmq {zmq.zmq_version()} by pyzmq {zmq.__version__}"
    yield f"- medians of {options.rounds} rounds of {options.seconds:g} s each"
    yield f"- load average of the machine before the run: {os.getloadavg()[0]:.2f}"
    yield ""


def write_into(path, start, text):
    """Replaces the text between a marker of a document and the next end of results."""
    before, rest = path.read_text().split(start)
    _, after = rest.split(RESULTS_END, 1)
    path.write_text(f"{before}{start}\n{text}\n{RESULTS_END}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="zmqd and relay")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="measured in each run")
    parser.add_argument("--warmup", type=float, default=0.3, help="seconds before that")
    parser.add_argument("--only", default="", help="works whose name contains this")
    parser.add_argument("--encrypted", action="store_true", help="proxies with CURVE")
    parser.add_argument("--into", type=pathlib.Path, help="a document with a place for the table")
    parser.add_argument("--json", type=pathlib.Path, help="a file for every figure of every run")
    options = parser.parse_args()
    options.programs = options.programs.resolve()
    kinds = (encrypted_works(), ()) if options.encrypted else (works(), capture_works())
    chosen, captures = ([work for work in kind if options.only in work.name] for kind in kinds)
    start = ENCRYPTED_START if options.encrypted else RESULTS_START
    if not chosen + captures:
        parser.error(f'no work has "{options.only}" in its name')
    if options.into and start not in options.into.read_text():
        parser.error(f"{options.into} has no place for the table")
    lines = list(machine(options))
    with tempfile.TemporaryDirectory() as options.keys:
        make_keys(options)
        results = measure(chosen + captures, options)
    lines += table(chosen, results)
    if not options.only and not options.encrypted:
        lines += at_rest(options)
    if captures:
        lines += watched(captures, results)
    print("\n".join(lines))
    if options.into:
        write_into(options.into, start, "\n".join(lines))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
