"""When a process is taken for stuck: it and all that it started have long given no sign of life.

A sign is a line that is printed, CPU time that is used, and a process that begins or ends. So what
works is never stopped, however long it takes; a read from storage or a network that does not
answer uses no CPU time and prints nothing.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from graftline.core.errors import StalledError
from graftline.core.processes import end_all

SILENCE_S = 30 * 60.0
"""How long a process may give no sign of life, in seconds: a file server that is started anew is
waited for. A step that must wait longer, for tapes say, has its own ``silence_s`` in
``tasks/<step>.py``."""
_CPU_S = 0.1
"""What an idle library's clock does not use in that time, and any work does."""
_LOOKS_EVERY_S = 5.0
_LOOKS = 20
_GRACE_S = 5.0


class Watch:
    """Listens to a process and all that it started.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen = _cpu_times(pid)
        self._sign_s = time.monotonic()

    def heard(self) -> None:
        """Takes down that it has printed something."""
        self._sign_s = time.monotonic()

    def silent_s(self) -> float:
        """Looks at it: how many seconds ago the last sign of life was."""
        now = _cpu_times(self._pid)
        used_s = sum(now.values()) - sum(self._seen.values())
        if now.keys() != self._seen.keys() or used_s >= _CPU_S:
            self._seen, self._sign_s = now, time.monotonic()
        return time.monotonic() - self._sign_s


def looks_every_s(silence_s: float) -> float:
    """How often to look, in seconds, at what may be silent for so long."""
    return min(_LOOKS_EVERY_S, silence_s / _LOOKS)


def ended(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    silence_s: float = SILENCE_S,
) -> subprocess.CompletedProcess[str]:
    """A command that came to its end, with what it said, however long it worked.

    Args:
        command: What is run; its standard input is empty.
        cwd: Where.
        environment: What it finds; by default what this process has.
        silence_s: How long it may give no sign of life, in seconds.

    Raises:
        StalledError: If it gave none for longer. It is ended, with all that it started.
        OSError: If it cannot be started.
    """
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ if environment is None else environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        watch = Watch(process.pid)
        try:
            while True:
                try:
                    said, complained = process.communicate(timeout=looks_every_s(silence_s))
                except subprocess.TimeoutExpired:
                    _refuse_silence(watch, command, silence_s)
                else:
                    return subprocess.CompletedProcess(
                        command, process.returncode, said, complained
                    )
        except BaseException:
            _end_all(process)
            raise


def awaited(process: subprocess.Popen[bytes], silence_s: float = SILENCE_S) -> int:
    """The exit code of a process, once it has one.

    Raises:
        StalledError: If it gives no sign of life for longer than ``silence_s``; it is not ended.
    """
    watch = Watch(process.pid)
    while True:
        try:
            return process.wait(looks_every_s(silence_s))
        except subprocess.TimeoutExpired:
            _refuse_silence(watch, process.args, silence_s)


def stalled(what: str, silence_s: float, where: str | None = None) -> StalledError:
    """That something gave no sign of life."""
    return StalledError(
        f"{what} was stopped: for {_told(silence_s)} it has used no CPU time and printed nothing",
        where=where,
        fix="see whether the disk, the mounted folder or the address that it reads answers, and "
        "run again; what was finished is kept",
    )


def _refuse_silence(watch: Watch, command: object, silence_s: float) -> None:
    if watch.silent_s() > silence_s:
        raise stalled(_shown(command), silence_s)


def _shown(command: object) -> str:
    """A command as one would type it; see :func:`graftline.core.startup.module_command`."""
    words = [str(word) for word in command] if isinstance(command, Sequence) else [str(command)]
    if words[1:2] == ["-c"] and "run_module('" in words[2]:
        words[:3] = [words[2].partition("run_module('")[2].partition("'")[0]]
    return " ".join([Path(words[0]).name, *words[1:]])


def _told(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"


def _cpu_times(pid: int) -> dict[tuple[int, float], float]:
    """Seconds of CPU time of each process, told from later ones of its number."""
    found: dict[tuple[int, float], float] = {}
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return found
    for one in processes:
        try:
            # Those of children that have ended are their parent's.
            found[one.pid, one.create_time()] = sum(one.cpu_times()[:4])
        except psutil.Error:
            continue
    return found


def _end_all(process: subprocess.Popen[str]) -> None:
    try:
        leader = psutil.Process(process.pid)
        all_of_it = [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return
    end_all(all_of_it, _GRACE_S)
