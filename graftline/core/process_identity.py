"""When a process was started, and since which boot: what tells it from others of its number."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start_time(pid: int) -> float:
    """Seconds since boot on Linux, which no change of the clock moves; elsewhere since 1970.

    Raises:
        psutil.NoSuchProcess: If there is no such process.
    """
    if sys.platform != "linux":
        return psutil.Process(pid).create_time()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    # The name in parentheses may hold anything, so count the fields after it.
    ticks = int(stat.rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")


@functools.cache
def boot_id() -> str:
    """What is another one after each boot; empty where the system does not tell.

    Two boots of one machine start the same services in the same order, so that the same number
    and the same seconds since boot may well come together again.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def name_tag() -> str:
    """This process in a file's name, as in ``4711-93625``: number, and start in seconds."""
    return f"{os.getpid()}-{int(start_time(os.getpid()))}"


def tag_lives(tag: str) -> bool:
    """Whether the process that made a name with :func:`name_tag` is still there."""
    pid, _, started = tag.partition("-")
    try:
        same = int(start_time(int(pid))) == int(started)
        # One that nobody has waited for keeps its number, and writes nothing any more. So it stays
        # in a container whose first process waits for nobody.
        return same and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
