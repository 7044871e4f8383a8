"""The classes and methods of ``zmq.devices``, each device a broker in a process of its own.

A program that imports these instead of pyzmq's keeps its other lines. Three things differ, because
the device is another process: ``start`` of a background device returns when all endpoints are
bound, and raises :class:`zmqd.StartError` if that fails; ``inproc`` endpoints cannot be used; and a
device ends by ``stop()`` or with the program, not with a Context.

A device that binds beyond loopback needs keys, networks, or ``insecure = True`` on the device or
its class.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

import zmq

import zmqd

__all__ = [
    "Device",
    "ThreadDevice",
    "ProcessDevice",
    "Proxy",
    "ThreadProxy",
    "ProcessProxy",
    "ProxySteerable",
    "ThreadProxySteerable",
    "ProcessProxySteerable",
    "MonitoredQueue",
    "ThreadMonitoredQueue",
    "ProcessMonitoredQueue",
]


class _Socket:
    """What is to be bound, connected and set on one socket of the device."""

    def __init__(self) -> None:
        self.binds: List[str] = []
        self.connects: List[str] = []
        self.options: List[Tuple[int, Any]] = []

    def joined(self, other: _Socket) -> _Socket:
        """This socket with everything of another."""
        joined = _Socket()
        joined.binds = self.binds + other.binds
        joined.connects = self.connects + other.connects
        joined.options = self.options + other.options
        return joined

    def settings(self, side: str) -> Dict[str, str]:
        """The options by their names on the command line."""
        settings: Dict[str, str] = {}
        for number, value in self.options:
            name = zmq.SocketOption(number).name.lower()
            text = value.decode() if isinstance(value, bytes) else str(int(value))
            key = f"{side}.{'routing_id' if name == 'identity' else name}"
            if name == "subscribe" and key in settings:
                text = f"{settings[key]},{text}"
            settings[key] = text
        return settings


class Device:
    """A device of two sockets, by their types: ``Device(zmq.QUEUE, zmq.ROUTER, zmq.DEALER)``.

    With an ``out_type`` below 0, a single socket sends each message back to its sender.
    """

    #: Only for compatibility: the sockets are not in this process.
    context_factory: Callable[[], Any] = zmq.Context.instance
    #: Whether the device may listen beyond loopback although any peer may come in.
    insecure: bool = False

    def __init__(
        self,
        device_type: int = zmq.QUEUE,
        in_type: Optional[int] = None,
        out_type: Optional[int] = None,
    ) -> None:
        if in_type is None:
            raise TypeError("in_type must be specified")
        if out_type is None:
            raise TypeError("out_type must be specified")
        self.device_type = device_type
        self.in_type = in_type
        self.out_type = out_type
        self.daemon = True
        self.broker: Optional[zmqd.Broker] = None
        self._in = _Socket()
        self._out = _Socket()
        self._random_ports: List[str] = []

    @property
    def done(self) -> bool:
        """Whether the device has run and ended."""
        return self.broker is not None and not self.broker.is_running

    def bind_in(self, addr: str) -> None:
        """Binds the in socket."""
        self._in.binds.append(addr)

    def bind_in_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Binds the in socket to a free port, which is returned."""
        return self._bind_to_random_port(self._in, addr, *args, **kwargs)

    def connect_in(self, addr: str) -> None:
        """Connects the in socket."""
        self._in.connects.append(addr)

    def setsockopt_in(self, opt: int, value: Any) -> None:
        """Sets an option of the in socket."""
        self._in.options.append((opt, value))

    def bind_out(self, addr: str) -> None:
        """Binds the out socket."""
        self._out.binds.append(addr)

    def bind_out_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Binds the out socket to a free port, which is returned."""
        return self._bind_to_random_port(self._out, addr, *args, **kwargs)

    def connect_out(self, addr: str) -> None:
        """Connects the out socket."""
        self._out.connects.append(addr)

    def setsockopt_out(self, opt: int, value: Any) -> None:
        """Sets an option of the out socket."""
        self._out.options.append((opt, value))

    def start(self) -> None:
        """Runs the device until it ends."""
        self.run()

    def run(self) -> None:
        """Runs the device until it ends."""
        self._begin()
        self.join()

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits until the device has ended, for at most ``timeout`` seconds."""
        if self.broker is not None:
            self.broker.wait(timeout)

    def stop(self) -> None:
        """Ends the device, after it has sent what is queued."""
        if self.broker is not None:
            self.broker.stop()

    def _begin(self) -> None:
        self.broker = zmqd.Broker(self._arguments())

    def _sockets(self) -> Dict[str, _Socket]:
        if self.out_type < 0:
            return {"frontend": self._in.joined(self._out)}
        return {"frontend": self._in, "backend": self._out}

    def _arguments(self) -> List[str]:
        types = [zmq.SocketType(self.in_type).name]
        if self.out_type >= 0:
            types.append(zmq.SocketType(self.out_type).name)
        arguments = ["proxy", "--sockets", ":".join(types)]
        if self.insecure:
            arguments.append("--insecure")
        for side, it in self._sockets().items():
            endpoints = [f"@{bind}" for bind in it.binds] + [f">{link}" for link in it.connects]
            if not endpoints and side in ("frontend", "backend"):
                # A device of pyzmq may have a socket that is connected to nothing.
                endpoints = ["ipc://*"]
            arguments += [f"--{side}={endpoint}" for endpoint in endpoints]
            settings = it.settings(side).items()
            arguments += [f"--set={key}={value}" for key, value in settings]
        return arguments

    def _bind_to_random_port(
        self,
        it: _Socket,
        addr: str,
        min_port: int = 49152,
        max_port: int = 65536,
        max_tries: int = 100,
    ) -> int:
        host = addr.partition("://")[2].strip("[]")
        for port in _ports(min_port, max_port, max_tries):
            endpoint = f"{addr}:{port}"
            if endpoint not in self._random_ports and _is_free("" if host == "*" else host, port):
                self._random_ports.append(endpoint)
                it.binds.append(endpoint)
                return port
        raise zmq.ZMQBindError("Could not bind socket to random port.")


def _ports(min_port: int, max_port: int, max_tries: int) -> List[int]:
    ports = range(min_port, max_port)
    return random.sample(ports, min(len(ports), max_tries))


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return True
    return False


class _Background(Device):
    """A device beside the program."""

    def start(self) -> None:
        """Begins the device; returns when all endpoints are bound."""
        self._begin()
        if not self.daemon:
            # The program ends after the device.
            threading.Thread(target=self.join, daemon=False).start()


class ThreadDevice(_Background):
    """A :class:`Device` beside the program."""


class ProcessDevice(_Background):
    """A :class:`Device` beside the program."""


class Proxy(Device):
    """A device with a third socket, which sends a copy of each message."""

    def __init__(self, in_type: int, out_type: int, mon_type: int = zmq.PUB) -> None:
        super().__init__(in_type=in_type, out_type=out_type)
        self.mon_type = mon_type
        self._mon = _Socket()

    def bind_mon(self, addr: str) -> None:
        """Binds the monitor socket."""
        self._mon.binds.append(addr)

    def bind_mon_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Binds the monitor socket to a free port, which is returned."""
        return self._bind_to_random_port(self._mon, addr, *args, **kwargs)

    def connect_mon(self, addr: str) -> None:
        """Connects the monitor socket."""
        self._mon.connects.append(addr)

    def setsockopt_mon(self, opt: int, value: Any) -> None:
        """Sets an option of the monitor socket."""
        self._mon.options.append((opt, value))

    def _sockets(self) -> Dict[str, _Socket]:
        return {**super()._sockets(), "capture": self._mon}

    def _format(self) -> List[str]:
        return ["--capture-format=proxy"]

    def _arguments(self) -> List[str]:
        arguments = super()._arguments()
        if not self._mon.binds and not self._mon.connects:
            return arguments
        arguments += [f"--capture-socket={zmq.SocketType(self.mon_type).name}", *self._format()]
        if self.mon_type != zmq.PUB:
            # As pyzmq's, which sends no message on before its copy.
            arguments.append("--set=capture.overflow=block")
        return arguments


class ThreadProxy(Proxy, ThreadDevice):
    """A :class:`Proxy` beside the program."""


class ProcessProxy(Proxy, ProcessDevice):
    """A :class:`Proxy` beside the program."""


class ProxySteerable(Proxy):
    """A :class:`Proxy` with a control socket for PAUSE, RESUME, TERMINATE and STATISTICS."""

    def __init__(
        self,
        in_type: int,
        out_type: int,
        mon_type: int = zmq.PUB,
        ctrl_type: Optional[int] = None,
    ) -> None:
        super().__init__(in_type=in_type, out_type=out_type, mon_type=mon_type)
        self.ctrl_type = ctrl_type
        self._ctrl = _Socket()

    def bind_ctrl(self, addr: str) -> None:
        """Binds the control socket."""
        self._ctrl.binds.append(addr)

    def bind_ctrl_to_random_port(self, addr: str, *args: int, **kwargs: int) -> int:
        """Binds the control socket to a free port, which is returned."""
        return self._bind_to_random_port(self._ctrl, addr, *args, **kwargs)

    def connect_ctrl(self, addr: str) -> None:
        """Connects the control socket."""
        self._ctrl.connects.append(addr)

    def setsockopt_ctrl(self, opt: int, value: Any) -> None:
        """Sets an option of the control socket."""
        self._ctrl.options.append((opt, value))

    def _sockets(self) -> Dict[str, _Socket]:
        return {**super()._sockets(), "control": self._ctrl}

    def _arguments(self) -> List[str]:
        arguments = super()._arguments()
        if self.ctrl_type is not None and (self._ctrl.binds or self._ctrl.connects):
            arguments.append(f"--control-socket={zmq.SocketType(self.ctrl_type).name}")
        return arguments


class ThreadProxySteerable(ProxySteerable, ThreadProxy):
    """A :class:`ProxySteerable` beside the program."""


class ProcessProxySteerable(ProxySteerable, ProcessProxy):
    """A :class:`ProxySteerable` beside the program."""


class MonitoredQueue(Proxy):
    """A :class:`Proxy` whose copies begin with a frame that names their direction."""

    def __init__(
        self,
        in_type: int,
        out_type: int,
        mon_type: int = zmq.PUB,
        in_prefix: bytes = b"in",
        out_prefix: bytes = b"out",
    ) -> None:
        super().__init__(in_type=in_type, out_type=out_type, mon_type=mon_type)
        self._in_prefix = in_prefix
        self._out_prefix = out_prefix

    def _format(self) -> List[str]:
        prefixes = (("in", self._in_prefix), ("out", self._out_prefix))
        return [f"--{name}-prefix={prefix.decode()}" for name, prefix in prefixes]


class ThreadMonitoredQueue(MonitoredQueue, ThreadProxy):
    """A :class:`MonitoredQueue` beside the program."""


class ProcessMonitoredQueue(MonitoredQueue, ProcessProxy):
    """A :class:`MonitoredQueue` beside the program."""
