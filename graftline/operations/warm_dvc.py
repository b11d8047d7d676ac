"""A DVC process that has its imports behind it, and waits to be told what to do.

Of the half second that DVC takes around a stage, most is its own start. A flow has the next one
ready while a stage is at work. Who waits in vain, as its flow is gone or needs it no more, ends.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from graftline.core.startup import module_command

_MODULES = (
    "dvc.cli.parser",
    "dvc.dependency.param",
    "dvc.fs.dvc",
    "dvc.repo.reproduce",
    "dvc.repo.scm_context",
    "dvc.repo.stage",
    "dvc.rwlock",
    "dvc.stage.loader",
    "dvc.stage.run",
    "dvc.utils.strictyaml",
)
"""What ``dvc repro`` imports as it goes; one that another version lacks costs nothing."""


class DvcStandby:
    """Keeps a process ready for the next command.

    Args:
        root: The checkout's root.
        environment: What the processes find, whatever they are told to do.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._root, self._environment = root, environment
        self._ready: subprocess.Popen[str] | None = None
        self._changing = threading.Lock()

    def prepare(self) -> None:
        """Starts a process that waits, unless there is one."""
        # It saves half a second, and nothing depends on it.
        with self._changing, suppress(OSError):
            if self._ready is None or self._ready.poll() is not None:
                self._ready = self._started()

    def take(self) -> subprocess.Popen[str]:
        """The process that waits, or a new one; it is the caller's from now on."""
        with self._changing:
            ready, self._ready = self._ready, None
        if ready is not None and ready.poll() is None:
            return ready
        _close_pipes(ready)
        return self._started()

    def close(self) -> None:
        """Ends the process that waits."""
        with self._changing:
            ready, self._ready = self._ready, None
        if ready is not None:
            # It has done nothing yet but import.
            ready.kill()
            ready.wait()
            _close_pipes(ready)

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            module_command("graftline.operations.warm_dvc"),
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            # A group of its own, which ends as a whole; Ctrl-C goes to the flow alone.
            start_new_session=True,
        )


def order(
    process: subprocess.Popen[str], arguments: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Tells a waiting process what to do.

    Args:
        process: From :meth:`DvcStandby.take`. One that has died is not told; its code says so.
        arguments: Behind ``dvc``.
        environment: What it finds besides.
    """
    if process.stdin is None:
        raise ValueError("this process has been told what to do")
    with suppress(BrokenPipeError), process.stdin:
        json.dump({"arguments": [*arguments], "environment": {**environment}}, process.stdin)
        process.stdin.write("\n")


def main() -> int:
    """Imports DVC, waits for a line, and does what it says.

    Returns:
        DVC's exit code; 0 if there was nothing to do.
    """
    for name in _MODULES:
        with suppress(ImportError):
            importlib.import_module(name)
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return 0
    told = json.loads(line)
    os.environ.update(told["environment"])
    # What the stage finds at its standard input is what it would find anywhere else in a flow.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    # DVC names its holder of a lock by this.
    sys.argv = ["dvc", *told["arguments"]]
    code: int = importlib.import_module("dvc.cli").main(told["arguments"])
    return code


def _close_pipes(process: subprocess.Popen[str] | None) -> None:
    for pipe in () if process is None else (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


if __name__ == "__main__":
    sys.exit(main())
