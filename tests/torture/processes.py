"""Everything that a life has started, found by its mark; killing it; and being its init."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Literal

import psutil

from tests.torture.place import MARK

Reach = Literal["group", "but the servers", "power cut"]
"""What a kill hits: the process group alone, all but the servers, or everything at once."""
REACHES: tuple[Reach, ...] = ("group", "but the servers", "power cut")

_PR_SET_CHILD_SUBREAPER = 36
_SERVERS = ("prefect", "mlflow")
_POLL_S = 0.02


def become_init() -> None:
    """Has orphans become this process's children, for which it waits as an init does."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(but: int | None = None) -> None:
    """Waits for whichever children have ended, but for one that somebody else waits for."""
    for child in psutil.Process().children():
        try:
            if child.pid != but and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            continue


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that bear a mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def await_quiet(mark: str, limit_s: float) -> bool:
    """Waits until none but servers are left; returns whether that is so."""
    until = time.monotonic() + limit_s
    while any(not _is_server(one) for one in marked(mark)):
        reap()
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


def kill(leader: int, mark: str, reach: Reach) -> int:
    """Kills at once what a kill of this reach hits; returns how many processes that were."""
    if reach == "group":
        members = [one for one in marked(mark) if _group(one) == leader]
        os.killpg(leader, signal.SIGKILL)
        # Who waits for the leader has not waited for the others, which end when they are run next.
        _await_end(members)
        return len(members)
    hit: dict[int, psutil.Process] = {}
    # Stopped first, so that nobody sees another's end and acts on it; a power cut gives no time.
    while fresh := [one for one in marked(mark) if one.pid not in hit and _is_hit(one, reach)]:
        for one in fresh:
            hit[one.pid] = one
            _signal(one, signal.SIGSTOP)
    for one in hit.values():
        _signal(one, signal.SIGKILL)
    _await_end(list(hit.values()))
    return len(hit)


def _is_hit(process: psutil.Process, reach: Reach) -> bool:
    return reach == "power cut" or not _is_server(process)


def _is_server(process: psutil.Process) -> bool:
    try:
        line = [process, *process.parents()]
        return any(_serves(one.cmdline()) for one in line)
    except psutil.Error:
        return False


def _serves(command: list[str]) -> bool:
    return any("run_module" in word and any(name in word for name in _SERVERS) for word in command)


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        pass


def _await_end(processes: list[psutil.Process], limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        reap()
        if not any(one.is_running() and one.status() != "zombie" for one in processes):
            return
        time.sleep(_POLL_S)
