from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graftline.core.environment import HELD_BY_VARIABLE
from graftline.core.errors import PipelineBusyError
from graftline.core.fresh_start import OvergrownError
from graftline.core.locks import holder, pipeline_lock, stage_lock
from graftline.core.workspace import Workspace

HOLDS = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from graftline.core.fresh_start import OvergrownError\n"
    "from graftline.core.locks import pipeline_lock\n"
    "from graftline.core.workspace import Workspace\n"
    "with pipeline_lock(Workspace(Path(sys.argv[1]))):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.readline()\n"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@contextmanager
def held_elsewhere(workspace: Workspace) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(workspace.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        yield other
        other.kill()


def test_the_holder_is_told_while_it_holds(workspace: Workspace) -> None:
    assert holder(workspace) is None
    with pipeline_lock(workspace):
        current = holder(workspace)
        assert current is not None
        assert current.process.pid == os.getpid()
    assert holder(workspace) is None


def test_another_process_is_refused_and_told_who_holds_it(workspace: Workspace) -> None:
    with held_elsewhere(workspace) as other:
        with pytest.raises(PipelineBusyError) as caught, pipeline_lock(workspace):
            pass
        assert f"process {other.pid} (python" in caught.value.what
        assert "since 2" in caught.value.what


def test_it_is_kept_for_one_that_starts_anew(workspace: Workspace) -> None:
    with pytest.raises(OvergrownError), pipeline_lock(workspace):
        raise OvergrownError
    other = subprocess.run(
        [sys.executable, "-c", HOLDS, str(workspace.root)],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"PipelineBusyError: the pipeline is held by process {os.getpid()}" in other.stderr
    with pipeline_lock(workspace):
        current = holder(workspace)
        assert current is not None and not current.anew
    assert holder(workspace) is None


def test_one_that_ends_instead_of_starting_anew_leaves_it(workspace: Workspace) -> None:
    ends = HOLDS.replace("    sys.stdin.readline()", "    raise OvergrownError")
    command = [sys.executable, "-c", ends, str(workspace.root)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    with pipeline_lock(workspace):
        assert holder(workspace)


def test_waiting_says_so_once_and_then_goes_on(workspace: Workspace) -> None:
    said: list[str] = []
    with held_elsewhere(workspace) as other:
        assert other.stdin
        timer = threading.Timer(0.5, other.stdin.close)
        timer.start()
        with pipeline_lock(workspace, wait_s=30, on_wait=said.append):
            current = holder(workspace)
            assert current is not None and current.process.pid == os.getpid()
        timer.join()
    assert len(said) == 1
    assert f"process {other.pid} " in said[0]


def test_waiting_ends_in_time(workspace: Workspace) -> None:
    with held_elsewhere(workspace):
        started_s = time.monotonic()
        with pytest.raises(PipelineBusyError, match="after waiting 0.5 s"):
            with pipeline_lock(workspace, wait_s=0.5):
                pass
        assert 0.5 <= time.monotonic() - started_s < 10


@pytest.mark.kill
def test_a_killed_holder_is_no_obstacle(workspace: Workspace) -> None:
    with held_elsewhere(workspace) as other:
        other.kill()
        other.wait()
        assert (workspace.var / "pipeline.json").exists()
        assert holder(workspace) is None
        with pipeline_lock(workspace):
            pass


def test_a_child_of_the_holder_goes_on_under_its_lock(workspace: Workspace) -> None:
    with pipeline_lock(workspace):
        finished = subprocess.run(
            [sys.executable, "-c", HOLDS, str(workspace.root)],
            env={**os.environ, HELD_BY_VARIABLE: str(os.getpid())},
            input="",
            capture_output=True,
            text=True,
            check=True,
        )
        assert finished.stdout == "held\n"
        current = holder(workspace)
        assert current is not None and current.process.pid == os.getpid()


@pytest.mark.parametrize("claimed", ["1", "no number", "999999999"])
def test_a_false_claim_to_the_lock_is_not_believed(workspace: Workspace, claimed: str) -> None:
    with held_elsewhere(workspace), pytest.raises(PipelineBusyError):
        with pipeline_lock(workspace, environment={HELD_BY_VARIABLE: claimed}):
            pass


def test_stages_are_held_one_by_one(workspace: Workspace) -> None:
    with stage_lock(workspace, "train"), stage_lock(workspace, "load"):
        with pytest.raises(PipelineBusyError, match="stage train is held by process"):
            with stage_lock(workspace, "train"):
                pass
    with stage_lock(workspace, "train"):
        pass
