"""What tells a process from others of its number: its start, the boot, the machine.

Of a process of another machine that shares the folder nothing can be seen, so each keeps a file
there that it renews. Who has not done so for a while counts as gone: its machine may have lost its
power, and nobody is to wait for ever.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import secrets
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FIRST_SPACE = "pid:[4026531836]"
"""The space of process numbers that Linux begins with, the same on every machine."""
RENEWED_EVERY_S = 15.0
GONE_S = 180.0
"""Who has not renewed its file for so long is gone. A network's file system may show a change a
minute later."""


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


@functools.cache
def host() -> str:
    """What tells this machine from others that share the folder; a container counts as one.

    Containers of one machine number their processes each for itself.
    """
    name = socket.gethostname()
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return name
    return name if space == _FIRST_SPACE else f"{name} {space}"


def tag_of(pid: int, started: float, of_host: str) -> str:
    """A process in a file's name, as in ``4711-93625-h5f0c81``: number, start, machine."""
    digest = hashlib.sha256(of_host.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{pid}-{int(started)}-h{digest[:6]}"


TAG = r"(?P<tag>\d+-\d+(?:-h[0-9a-f]{6})?)"
"""What :func:`name_tag` gives, for patterns of names; earlier versions told no machine."""


def name_tag() -> str:
    """This process in a file's name; see :func:`tag_of`. From now on it is renewed."""
    tag = tag_of(os.getpid(), start_time(os.getpid()), host())
    _Renewal.begin(tag)
    return tag


def tag_lives(tag: str) -> bool:
    """Whether the process that made a name with :func:`name_tag` is still there.

    Args:
        tag: It; without a machine (as of earlier versions) it is one of this machine.
    """
    pid, started, *of_host = tag.split("-")
    if of_host and of_host != tag_of(0, 0, host()).split("-")[2:]:
        return renewed(tag)
    try:
        same = int(start_time(int(pid))) == int(started)
        # One that nobody has waited for keeps its number, and writes nothing any more. So it stays
        # in a container whose first process waits for nobody.
        return same and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def renew_in(folder: Path) -> None:
    """Has processes keep their files in a folder that all machines share: ``var/alive/``."""
    _Renewal.folder = folder


def renewed(tag: str) -> bool:
    """Whether a process of another machine has lately shown that it lives."""
    folder = _Renewal.folder
    if folder is None:
        return False
    # Both times are the file server's, whatever the machines' clocks say.
    probe = folder / f"now-{secrets.token_hex(4)}"
    try:
        probe.touch()
        try:
            age_s = probe.stat().st_mtime - (folder / tag).stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except OSError:
        return False
    return age_s < GONE_S


class _Renewal:
    """The thread that renews this process's file."""

    folder: Path | None = None
    _lock = threading.Lock()
    _begun: tuple[int, Path] | None = None

    @classmethod
    def begin(cls, tag: str) -> None:
        """Begins it, unless it goes on already; a child after a fork has none of its own yet."""
        folder = cls.folder
        if folder is None or cls._begun == (os.getpid(), folder):
            return
        with cls._lock:
            cls._begun = (os.getpid(), folder)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / tag).touch()
            except OSError:
                # Where nothing can be written, nobody writes who has to be told.
                return
            atexit.register(_removed, folder / tag, os.getpid())
            threading.Thread(
                target=cls._renew, args=(folder / tag,), name="renewal", daemon=True
            ).start()

    @classmethod
    def _renew(cls, file: Path) -> None:
        while not _ENDED.wait(RENEWED_EVERY_S):
            # Another machine has taken it away where this one stood still for long.
            with suppress(OSError):
                file.touch()


_ENDED = threading.Event()


def _removed(file: Path, pid: int) -> None:
    if os.getpid() == pid:
        _ENDED.set()
        with suppress(OSError):
            file.unlink()
