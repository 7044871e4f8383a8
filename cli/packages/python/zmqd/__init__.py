"""A ZeroMQ broker in a process of its own, run from Python."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

__all__ = ["Broker", "StartError", "binary", "forwarder", "proxy", "queue", "run", "streamer"]

Endpoints = Union[str, Sequence[str]]
Value = Union[str, int, bool, Sequence[str]]

#: A free port, chosen by the system.
ANY = "tcp://127.0.0.1:*"
_LOG_LINES_MAX = 1000


class StartError(RuntimeError):
    """The broker did not start. The text has its errors, with the remedy for each."""


def binary() -> str:
    """The path of the binary: ``ZMQD_BIN``, the one of this package, or one in ``PATH``.

    Raises FileNotFoundError if none of these exists.
    """
    named = os.environ.get("ZMQD_BIN")
    if named:
        return named
    folders = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable)]
    with contextlib.suppress(KeyError):
        folders.append(sysconfig.get_path("scripts", f"{os.name}_user"))
    for folder in folders:
        path = os.path.join(folder, "zmqd")
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("zmqd")
    if found is None:
        raise FileNotFoundError("the binary zmqd is neither in this environment nor in PATH")
    return found


class Broker:
    """A running broker. As a context manager it stops at the end of the block.

    ``arguments`` are those of ``zmqd``. The constructor returns when all endpoints are bound, and
    raises StartError if the broker ends before, or is not ready within ``timeout`` seconds.
    """

    #: The process id.
    pid: int
    #: The endpoints of each side, by the names of proxy and side, with the real ports.
    endpoints: Dict[Tuple[str, str], List[str]]
    #: The address of dashboard and metrics, if the broker serves them.
    http: Optional[str]

    def __init__(self, arguments: Sequence[str], *, timeout: float = 10.0) -> None:
        self.endpoints = {}
        self.http = None
        self._log: List[str] = []
        with tempfile.TemporaryDirectory(prefix="zmqd-") as folder:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stages:
                address = os.path.join(folder, "stages")
                stages.bind(address)
                environment = dict(os.environ, NOTIFY_SOCKET=address)
                environment.pop("WATCHDOG_USEC", None)
                self._process = subprocess.Popen(
                    [binary(), *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                self.pid = self._process.pid
                self._reader = threading.Thread(
                    target=_read_lines, args=(self._process.stderr, self._log), daemon=True
                )
                self._reader.start()
                # Also when nothing refers to the broker any more, and at the end of the program.
                self._end = weakref.finalize(self, _end, self._process)
                try:
                    self._await_ready(stages, timeout)
                except BaseException:
                    self._end()
                    raise
        self._read_endpoints()

    def _await_ready(self, stages: socket.socket, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        stages.settimeout(0.02)
        while True:
            with contextlib.suppress(socket.timeout):
                if b"READY=1" in stages.recv(4096).split(b"\n"):
                    return
            if self._process.poll() is not None:
                self._reader.join()
                code = self._process.returncode
                raise StartError(self.log or f"zmqd ended with exit code {code}")
            if time.monotonic() > deadline:
                raise StartError(f"zmqd was not ready within {timeout} s\n{self.log}")

    def _read_endpoints(self) -> None:
        """Reads the lines that the broker printed, at once, before it was ready."""
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        for line in (self._process.stdout.read() or b"").decode().splitlines():
            words = line.split(" ")
            if len(words) == 3 and words[:2] == ["http", "bound"]:
                self.http = words[2]
            elif len(words) == 4 and words[2] == "bound":
                self.endpoints.setdefault((words[0], words[1]), []).append(words[3])

    @property
    def log(self) -> str:
        """The last thousand lines of the log."""
        return "\n".join(self._log)

    def endpoint(self, side: str, proxy: Optional[str] = None) -> str:
        """The first endpoint of a side, of the only proxy or of the one with this name."""
        for (name, found), endpoints in self.endpoints.items():
            if found == side and proxy in (None, name):
                return endpoints[0]
        raise LookupError(f"no {side} listens: the endpoints are {self.endpoints}")

    @property
    def frontend(self) -> str:
        """Where clients, publishers and sources connect."""
        return self.endpoint("frontend")

    @property
    def backend(self) -> str:
        """Where workers, subscribers and sinks connect."""
        return self.endpoint("backend")

    @property
    def capture(self) -> str:
        """Where copies of all messages are."""
        return self.endpoint("capture")

    @property
    def control(self) -> str:
        """Where PAUSE, RESUME, TERMINATE and STATISTICS go."""
        return self.endpoint("control")

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def reload(self) -> None:
        """Makes the broker read its file again."""
        self._process.send_signal(signal.SIGHUP)

    def wait(self, timeout: Optional[float] = None) -> Optional[int]:
        """Waits for the end of the broker: its exit code, or None after ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout: float = 10.0) -> int:
        """Stops the broker, which sends queued messages first; returns its exit code.

        A broker that still runs after ``timeout`` seconds is killed.
        """
        if self.is_running:
            self._process.terminate()
            if self.wait(timeout) is None:
                self._process.kill()
        code = self._process.wait()
        self._reader.join()
        self._end()
        return code

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else f"ended with {self._process.returncode}"
        return f"<zmqd {self.pid}, {state}, {self.endpoints}>"


def _read_lines(stream: IO[bytes], lines: List[str]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            lines.append(line.decode(errors="replace").rstrip("\n"))
            del lines[:-_LOG_LINES_MAX]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def queue(frontend: Endpoints = ANY, backend: Endpoints = ANY, **others: Any) -> Broker:
    """A queue: ROUTER in front, DEALER behind. :func:`proxy` explains the other arguments."""
    return _proxy(["queue"], frontend, backend, **others)


def forwarder(frontend: Endpoints = ANY, backend: Endpoints = ANY, **others: Any) -> Broker:
    """A forwarder: XSUB in front, XPUB behind. :func:`proxy` explains the other arguments."""
    return _proxy(["forwarder"], frontend, backend, **others)


def streamer(frontend: Endpoints = ANY, backend: Endpoints = ANY, **others: Any) -> Broker:
    """A streamer: PULL in front, PUSH behind. :func:`proxy` explains the other arguments."""
    return _proxy(["streamer"], frontend, backend, **others)


def proxy(
    frontend_socket: str,
    backend_socket: Optional[str] = None,
    frontend: Endpoints = ANY,
    backend: Endpoints = ANY,
    **others: Any,
) -> Broker:
    """A proxy of any two sockets, such as ``proxy("PULL", "PUB")``; or of one, which echoes.

    - ``frontend``, ``backend``: endpoints to listen on, a text or several
    - ``frontend_connect``, ``backend_connect``: endpoints to connect to
    - ``capture``, ``control``: endpoints of these sockets
    - ``options``: settings by name, such as ``{"frontend.sndhwm": 10}``
    - ``arguments``: any other arguments of the command line
    - ``timeout``: seconds until the broker must be ready
    """
    if backend_socket is None:
        return _proxy(["proxy", "--sockets", frontend_socket], frontend, (), **others)
    sockets = f"{frontend_socket}:{backend_socket}"
    return _proxy(["proxy", "--sockets", sockets], frontend, backend, **others)


def run(config: Union[str, os.PathLike[str]], *arguments: str, timeout: float = 10.0) -> Broker:
    """The proxies of a configuration file."""
    return Broker(["run", os.fspath(Path(config)), *arguments], timeout=timeout)


def _proxy(
    command: List[str],
    frontend: Endpoints,
    backend: Endpoints,
    *,
    frontend_connect: Endpoints = (),
    backend_connect: Endpoints = (),
    capture: Endpoints = (),
    control: Endpoints = (),
    options: Optional[Mapping[str, Value]] = None,
    arguments: Iterable[str] = (),
    timeout: float = 10.0,
) -> Broker:
    # A side that connects listens only if it is told to.
    if frontend_connect and frontend == ANY:
        frontend = ()
    if backend_connect and backend == ANY:
        backend = ()
    for name, endpoints in (
        ("--frontend", frontend),
        ("--backend", backend),
        ("--frontend-connect", frontend_connect),
        ("--backend-connect", backend_connect),
        ("--capture", capture),
        ("--control", control),
    ):
        texts = [endpoints] if isinstance(endpoints, str) else endpoints
        command += [f"{name}={endpoint}" for endpoint in texts]
    command += [f"--set={name}={_text(value)}" for name, value in (options or {}).items()]
    return Broker([*command, *arguments], timeout=timeout)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    return ",".join(value)
