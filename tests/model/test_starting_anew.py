"""A race whose process starts anew, and is killed after that, ends as an undisturbed one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from graftline.core.errors import PipelineBusyError
from graftline.core.locks import pipeline_lock, stage_lock
from graftline.core.workspace import Workspace
from graftline.operations.leftovers import remove_leftovers
from tests.model import small
from tests.model.racing import BEGINS, params

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = 1
"""Three of them race, so that the process begins three times."""


@pytest.fixture(scope="module")
def ready(assembled: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small.copied(assembled, tmp_path_factory.mktemp("ready"))
    record = params().model_dump(mode="json", by_alias=True)
    # JSON is YAML too.
    workspace.params_file.write_text(json.dumps(record), encoding="utf-8")
    return workspace


@pytest.fixture(scope="module")
def undisturbed(ready: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small.copied(ready, tmp_path_factory.mktemp("undisturbed"))
    assert lives_of(workspace, networks=0) == 1
    return workspace


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes put their scratch folders: those of others are not to be met here."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_one_that_starts_anew_gives_the_same_bytes(
    ready: Workspace, undisturbed: Workspace, tmp_path: Path, scratch: Path
) -> None:
    workspace = small.copied(ready, tmp_path / "mine")
    with started(workspace, NETWORKS) as process:
        while not (workspace.var / "locks" / "freeze.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        # Another run that wants the same does not slip in where this one begins again.
        while process.poll() is None and not gets_in(workspace):
            time.sleep(0.005)
        assert workspace.freeze_plan.exists()
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert said.count(BEGINS) >= 3
    same_bytes(workspace, undisturbed)
    assert remove_leftovers(workspace) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.kill
def test_one_that_is_killed_after_it_started_anew_goes_on(
    ready: Workspace, undisturbed: Workspace, tmp_path: Path, scratch: Path
) -> None:
    workspace = small.copied(ready, tmp_path / "mine")
    with started(workspace, NETWORKS) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == f"{BEGINS}\n"
        before = kept_trials(workspace)
        assert before
        # In the midst of the race: what it keeps next is of the process that started anew.
        while kept_trials(workspace) == before:
            assert process.poll() is None, "it had ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert list(scratch.iterdir())
    assert remove_leftovers(workspace)
    assert list(scratch.iterdir()) == []
    assert lives_of(workspace, NETWORKS) >= 2
    same_bytes(workspace, undisturbed)
    assert remove_leftovers(workspace) == []


def gets_in(workspace: Workspace) -> bool:
    """Whether another run could begin with the step."""
    with suppress(PipelineBusyError), pipeline_lock(workspace), stage_lock(workspace, "freeze"):
        return True
    return False


def started(workspace: Workspace, networks: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.model.racing", str(workspace.root), str(networks)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def lives_of(workspace: Workspace, networks: int) -> int:
    """Chooses, and says how often the process began."""
    with started(workspace, networks) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    return said.count(BEGINS)


def kept_trials(workspace: Workspace) -> set[Path]:
    return set((workspace.var / "checkpoints" / "freeze").rglob("*.npz"))


def same_bytes(one: Workspace, other: Workspace) -> None:
    assert one.freeze_plan.read_bytes() == other.freeze_plan.read_bytes()
    files = sorted(path.name for path in other.freezing_report.iterdir())
    assert "race.csv" in files
    assert sorted(path.name for path in one.freezing_report.iterdir()) == files
    for name in files:
        mine, others = one.freezing_report / name, other.freezing_report / name
        assert mine.read_bytes() == others.read_bytes(), name
