"""A DVC process that waits does what it is told, and ends when nobody needs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from graftline.operations.warm_dvc import DvcStandby, order

STAGE = "stages:\n  toy:\n    cmd: {cmd}\n"
KEEPER = """
import os, sys, time
from pathlib import Path
from graftline.operations.warm_dvc import DvcStandby
standby = DvcStandby(Path(sys.argv[1]), os.environ)
standby.prepare()
print(standby._ready.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def standby(tmp_path: Path) -> Iterator[DvcStandby]:
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True
    )
    made = DvcStandby(tmp_path, os.environ)
    yield made
    made.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.stdout.read() if process.stdout else ""
    code = process.wait(60)
    if process.stdout:
        process.stdout.close()
    return code, said


def test_the_process_that_waited_runs_the_stage(standby: DvcStandby, tmp_path: Path) -> None:
    cmd = "echo $WORD; cat"
    (tmp_path / "dvc.yaml").write_text(STAGE.format(cmd=cmd), encoding="utf-8")
    standby.prepare()
    standby.prepare()
    process = standby.take()
    order(process, ["repro", "toy"], {"WORD": "from above"})
    code, said = ended(process)
    assert code == 0
    assert "from above" in said
    assert "Running stage 'toy'" in said


def test_what_dvc_refuses_has_its_code(standby: DvcStandby, tmp_path: Path) -> None:
    process = standby.take()
    (tmp_path / "dvc.yaml").write_text(STAGE.format(cmd="echo"), encoding="utf-8")
    order(process, ["repro", "no-such-stage"], {})
    code, said = ended(process)
    assert code not in (0, None)
    assert "no-such-stage" in said


def test_one_that_died_is_replaced(standby: DvcStandby) -> None:
    standby.prepare()
    first = standby._ready
    assert first is not None
    first.kill()
    first.wait()
    second = standby.take()
    assert second.pid != first.pid
    order(second, ["version"], {})
    assert ended(second)[0] == 0


def test_one_that_dies_before_it_is_told_says_so_by_its_code(standby: DvcStandby) -> None:
    process = standby.take()
    process.kill()
    process.wait()
    order(process, ["repro"], {})
    assert ended(process)[0] == -signal.SIGKILL


def test_it_ends_when_it_is_not_needed(standby: DvcStandby) -> None:
    standby.prepare()
    waiting = standby._ready
    assert waiting is not None
    standby.close()
    assert waiting.poll() is not None
    standby.close()


def test_it_ends_with_a_flow_that_is_killed(tmp_path: Path) -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert keeper.stdout is not None
    with keeper.stdout:
        waiting = psutil.Process(int(keeper.stdout.readline()))
    keeper.kill()
    keeper.wait()
    until = time.monotonic() + 30
    while waiting.is_running() and waiting.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
