"""Processes by number and start time, so that a number used again names nobody else."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from graftline.core.process_identity import boot_id, host, name_tag, renewed, start_time, tag_of
from graftline.core.records import Record

_POLL_S = 0.05
_SAME_START_S = 1.5


class ProcessIdentity(Record):
    """A process, told from later ones of the same number."""

    pid: int
    started: float
    """Seconds since boot on Linux, which no change of the clock moves; elsewhere since 1970."""
    boot: str = ""
    """The boot that this counts from, where the system tells one from another."""
    host: str = ""
    """The machine; empty in what earlier versions wrote, which knew of one alone."""

    @classmethod
    def of(cls, pid: int | None = None) -> ProcessIdentity:
        """The identity of a living process, by default of this one.

        This process's own is renewed from now on, so that other machines see that it lives.

        Raises:
            psutil.NoSuchProcess: If there is no such process.
        """
        if pid is None or pid == os.getpid():
            name_tag()
        pid = os.getpid() if pid is None else pid
        return cls(pid=pid, started=start_time(pid), boot=boot_id(), host=host())

    @property
    def elsewhere(self) -> bool:
        """Whether it is another machine's, so that its number says nothing here."""
        return self.host not in ("", host())

    def alive(self) -> bool:
        """Whether this very process still runs; one that nobody has waited for does not.

        Of another machine's, whether it has lately renewed its file.
        """
        if self.elsewhere:
            return renewed(tag_of(self.pid, self.started, self.host))
        try:
            if psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.Error:
            return False
        return _is_same(self)


def age_s() -> float:
    """How long ago this process was started, in seconds."""
    started = start_time(os.getpid())
    if sys.platform != "linux":
        return time.time() - started
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def runs(pid: int) -> bool:
    """Whether a process of this number is at work, and not just waiting to be waited for."""
    try:
        return ProcessIdentity.of(pid).alive()
    except psutil.NoSuchProcess:
        return False


def own_command() -> str:
    """The command line of this process, as one would type it."""
    arguments = list(sys.orig_argv)
    arguments[:1] = [Path(name).name for name in arguments[:1]]
    return shlex.join(arguments)


def is_ancestor(pid: int) -> bool:
    """Whether this process descends from process ``pid``."""
    try:
        return any(parent.pid == pid for parent in psutil.Process().parents())
    except psutil.Error:
        return False


def end_all(processes: Sequence[psutil.Process], grace_s: float = 30.0) -> None:
    """Ends processes: all are asked first, and killed if they take longer than ``grace_s``."""
    for process in processes:
        with suppress(psutil.Error):  # It may have ended by itself.
            process.terminate()
    _, late = psutil.wait_procs(processes, timeout=grace_s)
    for process in late:
        with suppress(psutil.Error):
            process.kill()


def end_group(leader: ProcessIdentity, grace_s: float = 5.0) -> bool:
    """Ends a process and all of its group: asked first, killed after ``grace_s`` seconds.

    A group whose leader is gone is ended too, as its number is not given away while it has
    members; a group that a later process of the same number leads, and any of another boot or
    machine, is left alone.

    Returns:
        Whether there was anything to end.
    """
    if (
        leader.elsewhere
        or _other_boot(leader)
        or (psutil.pid_exists(leader.pid) and not _is_same(leader))
    ):
        return False
    found = False
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _group_lives(leader.pid):
            return found
        found = True
        try:
            os.killpg(leader.pid, number)
        except (ProcessLookupError, PermissionError):
            return found
        until = time.monotonic() + grace_s
        while time.monotonic() < until and _group_lives(leader.pid):
            time.sleep(_POLL_S)
    return found


def _is_same(process: ProcessIdentity) -> bool:
    if process.elsewhere or _other_boot(process):
        return False
    try:
        return abs(start_time(process.pid) - process.started) < _SAME_START_S
    except psutil.Error:
        return False


def _other_boot(process: ProcessIdentity) -> bool:
    return process.boot not in ("", boot_id())


def _group_lives(group: int) -> bool:
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
    return False


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does: by :class:`KeyboardInterrupt`."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
