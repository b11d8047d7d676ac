"""A process of its own, with limits, in which hostile input meets the product.

A door that hangs, eats memory or ends the process by a signal takes only this process with it.
``python -m tests.hostile.child`` is its other end: a case per line of JSON, an outcome per line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import psutil

from tests import disks
from tests.hostile.case import Case, Outcome

CHECKOUT = Path(__file__).resolve().parents[2]
LIMIT_S = 10.0
"""Of processor time for one case, which takes milliseconds; the machine may be busy meanwhile."""
_IDLE_LIMIT_S = 240.0
"""Of the clock's time, for what waits instead of computing."""
MEMORY_BYTES = 256 << 20
"""By which a case may make the process grow, with images of at most 1 000 000 pixels."""
_ADDRESS_SPACE_BYTES = 3 << 30
_START_S = 120.0
_NEEDED_BYTES = 256 << 20


class Child:
    """The process, started at the first case, and again after each that it did not survive."""

    def __init__(self, *doors: str) -> None:
        self._doors = doors
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def run(self, case: Case, limit_s: float = LIMIT_S) -> Outcome:
        process = self._started()
        assert process.stdin is not None
        began = time.monotonic()
        process.stdin.write(case.to_json() + "\n")
        process.stdin.flush()
        line = _answer(process, limit_s)
        seconds = time.monotonic() - began
        if line is None:
            self.close()
            return Outcome("fault", f"no answer within {limit_s:g} s", seconds, 0)
        if not line:
            code = process.wait()
            said = self._said()
            self.close()
            return Outcome("fault", f"the process ended with {code}\n{said}", seconds, 0)
        return Outcome(**json.loads(line))

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._errors is not None:
            self._errors.close()
        self._process = self._errors = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._errors = tempfile.TemporaryFile("w+")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.child", *self._doors],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONFAULTHANDLER": "1"},
            )
            assert _line(self._process, _START_S) == "ready\n", self._said()
        return self._process

    def _said(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        return self._errors.read()[-4000:]


def _answer(process: subprocess.Popen[str], limit_s: float) -> str | None:
    running = psutil.Process(process.pid)
    until, used_s = time.monotonic() + _IDLE_LIMIT_S, _used_s(running)
    while (line := _line(process, 0.5)) is None:
        if time.monotonic() > until or _used_s(running) - used_s > limit_s:
            return None
    return line


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _line(process: subprocess.Popen[str], limit_s: float) -> str | None:
    """A line; empty at the end; None if there is none within the limit."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], limit_s)
    # One line is written at a time, and none before the next question.
    return process.stdout.readline() if ready else None


def _judged(case: Case, door: Any, folder: Path) -> Outcome:
    from graftline.errors import GraftlineError

    _forget_peak()
    before = _resident("VmRSS")
    began = time.process_time()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            door(folder, case.words)
        verdict, text = "accepted", ""
    except GraftlineError as error:
        verdict = "refused" if error.exit_code == 2 else "fault"
        text = f"{type(error).__name__}: {error}"
        # Whatever it says must be fit for a terminal and a log.
        try:
            text.encode()
        except UnicodeEncodeError:
            verdict = "fault"
            text = f"this message cannot be printed: {text!a}"
    except BaseException:
        verdict, text = "fault", traceback.format_exc()
    if "Traceback (most recent call last)" in said.getvalue():
        verdict, text = "fault", said.getvalue()
    grown = _resident("VmHWM") - before
    return Outcome(verdict, text[-8000:], time.process_time() - began, grown)


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise LookupError(name)


def _forget_peak() -> None:
    # The kernel's way to begin a new high-water mark (proc_pid_clear_refs(5)).
    Path("/proc/self/clear_refs").write_text("5")


def main(names: list[str]) -> None:
    from tests.hostile.doors import DOORS

    # Tracebacks of a door must not be taken for answers, nor C libraries' complaints.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    opened = {name: DOORS[name]() for name in names or DOORS}
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + _ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", file=answers)
    place = disks.memory(_NEEDED_BYTES)
    for line in sys.stdin:
        case = Case.from_json(line)
        with tempfile.TemporaryDirectory(prefix="graftline-hostile-", dir=place) as name:
            folder = Path(name)
            for file, data in case.files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(data)
            outcome = _judged(case, opened[case.door], folder)
        print(json.dumps(asdict(outcome)), file=answers)


if __name__ == "__main__":
    main(sys.argv[1:])
