"""Runs every command of README and guide as a reader would type it.

    commands.py BINARY REPOSITORY

Each section of a page has a folder of its own, ports of its own, and at most one server at a time,
which ends with the section. Commands with an answer that does not depend on time must give exactly
the answer that the page shows.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import zmq

BINARY, REPOSITORY = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
PATIENCE = 60
SERVERS = ("queue", "forwarder", "streamer", "proxy", "run")
# They run beside the commands that follow in their section.
RECEIVERS = ("dealer", "pair", "pull", "rep", "router", "sub")
# What this test cannot do, and where it is done.
ELSEWHERE = {
    "cargo run --release": "the first of the set-up's two commands",
    "cargo test --workspace": "the second, which runs this",
    "cargo install --path cli": "installs into the user's folder",
    "zmqd": "has ports of its own: tests/interop/cli/run.rs",
    "zmqd watch ": "needs services that hang: tests/interop/cli/watch.rs",
    "sudo ": "changes the system: ci.sh deb does the same in a new one",
    "systemctl ": "needs systemd: ci.sh systemd",
    "docker ": "needs an engine: ci.sh image",
}


class Section:
    """The commands below one heading, in a folder of their own."""

    def __init__(self, page, heading, text):
        self.page, self.heading, self.text = page, heading, text
        self.folder = Path(tempfile.mkdtemp(prefix="zmqd-"))
        self.ports = {}
        self.server = None
        self.receivers = []
        self.ends = []

    def run(self):
        names = dict.fromkeys(blocks(self.text, "console"))
        if not names:
            return []
        fixture = FIXTURES.get((self.page, self.heading))
        if fixture is not None:
            fixture(self)
        run = []
        for block in names:
            lines = block.replace("\\\n", "").splitlines()
            for number, line in enumerate(lines):
                if line.startswith("$ "):
                    command = re.sub(r"\s+# .*$", "", line[2:]).strip()
                    others = (other.startswith("$ ") for other in lines[number + 1 :])
                    length = next((n for n, other in enumerate(others) if other), None)
                    end = None if length is None else number + 1 + length
                    answer = [other for other in lines[number + 1 : end] if other]
                    reason = next((ELSEWHERE[key] for key in ELSEWHERE if fits(key, command)), None)
                    if reason is None:
                        self.execute(command, answer)
                    run.append((command, reason))
        return run

    def execute(self, command, answer):
        quoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
        for word in quoted.split():
            assert "://" not in word or not set(word) & set("*?[]<>"), f"zsh refuses {word}"
        before = next((BEFORE[key] for key in BEFORE if command.startswith(key)), None)
        if before is not None:
            before(self)
        words = command.split()
        mapped = self.mapped(command.split(" | tshark")[0])
        if words[0] == "zmqd" and words[1] in SERVERS:
            self.begin(mapped)
        elif words[0] == "zmqd" and words[1] in RECEIVERS and "-n" not in words:
            receiver = self.shell(mapped, stdin=subprocess.DEVNULL)
            self.receivers.append((receiver, mapped, [self.mapped(line) for line in answer]))
        elif words[:2] == ["zmqd", "sniff"] and not {"--read", "--count"} & set(words):
            self.watch(mapped)
        else:
            output = self.finish(mapped)
            if words[:2] == ["zmqd", "check"] and answer:
                assert output.splitlines() == [self.mapped(line) for line in answer], output
            if words[:2] == ["zmqd", "req"]:
                assert output.splitlines() == answer, output

    def shell(self, command, **others):
        environment = dict(
            os.environ,
            HOME=str(self.folder),
            PATH=f"{BINARY.parent}:{os.environ['PATH']}",
            XDG_RUNTIME_DIR=str(self.folder),
        )
        environment.pop("RUNTIME_DIRECTORY", None)
        return subprocess.Popen(
            ["bash", "-c", f"exec {command}" if command.startswith("zmqd") else command],
            cwd=self.folder,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            **others,
        )

    def begin(self, command):
        """Starts a server in place of the last one, and waits for its endpoints."""
        self.end_server()
        self.server = self.shell(command, stdin=subprocess.DEVNULL)
        line = self.server.stdout.readline()
        if " bound " not in line:
            raise AssertionError(f"{command}: {line}{self.server.communicate()[1]}")

    def watch(self, command):
        """Runs a command until it has printed a line, or written its recording."""
        process = self.shell(command, stdin=subprocess.DEVNULL)
        recording = re.search(r"--record (\S+)", command)
        if recording:
            wait_until(lambda: (self.folder / recording[1]).exists(), command)
            time.sleep(1)
        else:
            assert process.stdout.readline(), process.communicate()[1]
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, f"{command}: {output[1]}"

    def finish(self, command):
        process = self.shell(command, stdin=subprocess.PIPE)
        output, errors = process.communicate("secret\n", timeout=PATIENCE)
        assert process.returncode == 0, f"{command}: {output}{errors}"
        return output

    def end_receivers(self):
        """Each has printed what the page shows, and ends well."""
        for process, command, answer in self.receivers:
            lines = [process.stdout.readline().rstrip("\n") for _ in answer]
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=PATIENCE)
            assert (lines, process.returncode) == (answer, 0), f"{command}: {lines}{output[1]}"

    def end_server(self):
        if self.server is not None:
            self.server.terminate()
            errors = self.server.communicate(timeout=PATIENCE)[1]
            assert self.server.returncode == 0, errors
        self.server = None

    def end(self):
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            for end in self.ends:
                stack.callback(end)
            self.end_server()

    def port(self, written):
        """The free port that stands for one of the page."""
        if written not in self.ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.ports[written] = str(probe.getsockname()[1])
        return self.ports[written]

    def mapped(self, text):
        """The text with other ports, on this machine, and with sockets in the folder."""
        text = re.sub(r"\b(edge|core|[a-z]+\.example\.org)(?=:\d)", "127.0.0.1", text)
        text = re.sub(r"(?<=:)(\d{4})\b", lambda port: self.port(port[1]), text)
        return re.sub(r"/(run|etc)/", lambda _: f"{self.folder}/", text)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.mapped(text))

    def beside(self, command):
        """A server that is not the page's."""
        process = self.shell(self.mapped(command), stdin=subprocess.DEVNULL)
        self.ends.append(process.wait)
        self.ends.append(process.terminate)
        line = process.stdout.readline()
        assert " bound " in line, process.communicate()[1]

    def traffic(self, frontend, backend):
        """A client that asks all the time, and a worker that answers."""
        stop = threading.Event()
        thread = threading.Thread(
            target=talk, args=(stop, self.port(frontend), self.port(backend))
        )
        thread.start()
        self.ends.append(thread.join)
        self.ends.append(stop.set)


def talk(stop, frontend, backend):
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        with context.socket(zmq.REP) as server:
            client.linger = server.linger = 0
            client.identity = b"client-7"
            client.connect(f"tcp://127.0.0.1:{frontend}")
            server.connect(f"tcp://127.0.0.1:{backend}")
            while not stop.is_set():
                with contextlib.suppress(zmq.Again):
                    client.send_multipart([b"", b"4bf92f35", b"order 17"], zmq.NOBLOCK)
                while server.poll(10):
                    server.send_multipart(server.recv_multipart())
                while client.poll(0):
                    client.recv_multipart()


def fits(key, command):
    return command == key or key.endswith(" ") and command.startswith(key)


def wait_until(fact, what):
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def default(section, name="zmqd.toml"):
    section.write(name, section.finish("zmqd run --print-default"))


def examples(section):
    for path in (REPOSITORY / "examples").glob("*.toml"):
        section.write(f"examples/{path.name}", path.read_text())
    old = '[[proxy]]\nname = "events"\nkind = "forwarder"\nbackend.bind = "tcp://127.0.0.1:5562"\n'
    section.write(
        "old.toml",
        f'insecure = true\n{old}frontend.bind = "tcp://*:5570"\n[[proxy]]\nname = "orders"\n'
        'kind = "queue"\nfrontend.bind = "tcp://*:5580"\nbackend.bind = "tcp://*:5581"\n',
    )
    section.write(
        "new.toml",
        f'insecure = true\n{old}backend.sndhwm = 5\nbackend.maxmsgsize = 1048576\n'
        'backend.backlog = 128\nfrontend.bind = ["tcp://*:5570", "tcp://*:5571"]\n',
    )


def bench(section):
    section.beside(
        "zmqd queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560"
    )


def two_clients(section):
    section.write("zmqd.toml", blocks(section.text, "toml")[0])


def key_of_admin(section):
    (section.folder / "clients").mkdir()
    section.finish("zmqd keygen edge")


def control_of_edge(section):
    section.beside(
        "zmqd queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560 --control "
        "tcp://127.0.0.1:5580 --set control.curve_secret=edge.key_secret "
        "control.curve_clients=clients"
    )


def steering(section):
    section.beside(
        "zmqd queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560 "
        "--control ipc:///run/zmqd.ctl"
    )


def watching(section):
    section.beside(
        "zmqd queue --frontend tcp://127.0.0.1:4444 --backend tcp://127.0.0.1:5555 "
        "--capture tcp://127.0.0.1:7777"
    )
    section.traffic("4444", "5555")
    # The page's recording makes an older file of this one.
    section.watch(section.mapped("zmqd sniff tcp://127.0.0.1:7777 --record day.zrec"))


def recorded(section):
    section.beside(
        "zmqd queue --frontend tcp://127.0.0.1:4444 --backend tcp://127.0.0.1:5555 "
        "--record day.zrec --record-size 2kB"
    )
    section.traffic("4444", "5555")
    wait_until(lambda: (section.folder / "day.zrec.000002").exists(), "a recording")
    section.beside("zmqd proxy --sockets ROUTER --frontend tcp://127.0.0.1:5559")


FIXTURES = {
    ("README.md", "Run it"): default,
    ("docs/guide/command-line.md", "zmqd check"): examples,
    ("docs/guide/command-line.md", "zmqd bench"): bench,
    ("docs/guide/encryption.md", "Two clients, one of which may publish"): two_clients,
    ("docs/guide/encryption.md", "Keys of commands"): key_of_admin,
    ("docs/guide/http.md", "HTTP"): lambda section: (section.folder / "zmqd").mkdir(),
    ("docs/guide/passwords.md", "Passwords"): lambda section: (section.folder / "zmqd").mkdir(),
    ("docs/guide/steering.md", "zmqd status"): steering,
    ("docs/guide/steering.md", "zmqd ctl"): steering,
    ("docs/guide/watching.md", "zmqd sniff"): watching,
    ("docs/guide/watching.md", "zmqd replay"): recorded,
    ("docs/guide/watching.md", "zmqd export"): recorded,
}
BEFORE = {
    "zmqd ctl tcp://edge:5580": control_of_edge,
}


def main():
    run = 0
    guide = (str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("docs/guide/*.md"))
    for page in ["README.md", *sorted(guide)]:
        text = (REPOSITORY / page).read_text()
        for part in re.split(r"^#{1,2} ", text, flags=re.M)[1:]:
            heading, _, body = part.partition("\n")
            section = Section(page, heading, body)
            try:
                for _, reason in section.run():
                    run += reason is None
                section.end_receivers()
            except BaseException:
                print(f"{page}, below \"{heading}\":", file=sys.stderr)
                raise
            finally:
                section.end()
    print(f"{run} commands")


main()
