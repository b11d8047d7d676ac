"""All processes that come of one command, found by a mark in their environment.

Servers are started in sessions of their own and may outlive their parents; the mark stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_MARK = "GRAFTLINE_TEST_MARK"
_POLL_S = 0.2


@dataclass
class Marked:
    """A command and what comes of it."""

    process: subprocess.Popen[str]
    mark: str
    listening: dict[tuple[str, int], str] = field(default_factory=dict)
    """Where any of its processes has listened, and the command of that process."""

    def family(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def look(self) -> None:
        """Notes every TCP and UDP socket that waits for others."""
        for process in self.family():
            try:
                command = " ".join(process.cmdline())
                sockets = process.net_connections("inet")
            except psutil.Error:
                continue
            for one in sockets:
                waits = one.status == psutil.CONN_LISTEN or (one.type.name == "SOCK_DGRAM")
                if waits and one.laddr:
                    self.listening[(one.laddr.ip, one.laddr.port)] = command

    def watch(self, limit_s: float) -> int:
        """Looks until the command ends; returns its exit code."""
        until = time.monotonic() + limit_s
        while self.process.poll() is None and time.monotonic() < until:
            self.look()
            time.sleep(_POLL_S)
        return self.process.wait(1)


@contextmanager
def marked(root: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[Marked]:
    """Runs ``python ARGUMENTS`` in ``root``; what is left of it at the end is killed."""
    mark = uuid.uuid4().hex
    with (root.parent / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=root,
            env={**os.environ, **environment, _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )
        one = Marked(process, mark)
        try:
            yield one
        finally:
            for left in one.family():
                left.kill()
            process.wait()
