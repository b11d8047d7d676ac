"""Ports that others take between their choice and their use."""

from __future__ import annotations

import socket

from graftline.compute.worker_group import free_port

_HELD: list[socket.socket] = []


def port() -> int:
    """Stands in for the choice of a free port: the first one of each process is taken by then."""
    if _HELD:
        return free_port()
    one = socket.create_server(("", 0))
    _HELD.append(one)
    return int(one.getsockname()[1])
