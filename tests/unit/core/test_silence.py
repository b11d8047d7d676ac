"""What counts as a sign of life, and what becomes of a command that gives none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graftline.core.errors import StalledError
from graftline.core.processes import runs
from graftline.core.silence import Watch, awaited, ended

SLEEPS = "import time; time.sleep(60)"
SPINS = "while True: pass"
# A third of a core, as one gets on a busy machine, and for longer than the silence that is allowed.
WORKS = """
import time
until = time.monotonic() + 4
while time.monotonic() < until:
    sum(range(10**6))
    time.sleep(0.03)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def silence_after(pid: int, seconds: float) -> float:
    time.sleep(1)  # Python's own start is work.
    watch = Watch(pid)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        watch.silent_s()
        time.sleep(0.1)
    return watch.silent_s()


@pytest.mark.slow
def test_a_process_that_sleeps_is_silent_and_one_that_computes_is_not() -> None:
    for code, silent in ((SLEEPS, True), (SPINS, False)):
        with subprocess.Popen(python(code)) as process:
            found_s = silence_after(process.pid, 3)
            process.kill()
        assert (found_s > 2) is silent, code


@pytest.mark.kill
def test_a_stopped_process_is_silent_whatever_it_was_at() -> None:
    with subprocess.Popen(python(SPINS)) as process:
        process.send_signal(signal.SIGSTOP)
        assert silence_after(process.pid, 3) > 2
        process.kill()


def test_what_a_child_does_counts_for_its_parent() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPINS!r}])"
    with subprocess.Popen(python(parent), start_new_session=True) as process:
        found_s = silence_after(process.pid, 3)
        os.killpg(process.pid, signal.SIGKILL)
    assert found_s < 2


def test_a_command_that_ends_says_what_it_said(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), 'é'); sys.exit('no')"
    done = ended(python(code), cwd=tmp_path, environment={"PYTHONIOENCODING": "utf-8"})
    assert (done.returncode, done.stdout, done.stderr) == (1, f"{tmp_path} é\n", "no\n")


@pytest.mark.kill
def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child.txt"
    code = (
        "import subprocess, sys, pathlib\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(child.pid))\nchild.wait()"
    )
    with pytest.raises(StalledError, match="was stopped: for 2 s it has used no CPU time"):
        ended(python(code), cwd=tmp_path, silence_s=2)
    assert not runs(int(child.read_text()))


@pytest.mark.kill
def test_a_process_is_awaited_until_it_is_silent() -> None:
    with subprocess.Popen(python(WORKS)) as process:
        assert awaited(process, silence_s=2.5) == 0
    with subprocess.Popen(python(SLEEPS)) as process:
        with pytest.raises(StalledError):
            awaited(process, silence_s=1.5)
        process.kill()
