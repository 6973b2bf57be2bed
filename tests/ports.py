"""Ports for the servers of tests, which nobody else is given between the asking and the binding."""

import itertools
import os
import socket

_EACH = 1_500
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_FIRST = 20_000 + _EACH * _WORKER
"Below those that the kernel takes for outgoing connections (32768 on Linux); each worker has its own."
_PORTS = itertools.count(os.getpid())


def free_port() -> int:
    """A port nobody listens on, and not one of the last asked for."""
    while True:
        port = _FIRST + next(_PORTS) % _EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that has ended does not matter
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
