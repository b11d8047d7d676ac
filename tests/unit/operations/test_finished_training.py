"""Whatever fails after the last epoch, the checkpoint is there; and no longer than it is of use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from graftline.core.errors import StorageFullError, TrackingError
from graftline.core.timings import Timings
from graftline.core.workspace import Workspace
from graftline.operations import stage_runner
from graftline.operations.finished_training import forget_if_recorded, note_finished
from graftline.registry import tracking
from tests import finished


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """In which ``train`` leaves a checkpoint and comes to its end."""
    one = Workspace(tmp_path)
    finished.write_params(one)

    def train(workspace: Workspace, *_: object, **__: object) -> str:
        workspace.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        workspace.checkpoint.write_bytes(b"where it stands")
        return "trained"

    @contextmanager
    def recorded(*_: object) -> Iterator[Any]:
        yield type("Recorder", (), {"epoch": None})

    monkeypatch.setattr(stage_runner, "_imported", lambda *_: train)
    monkeypatch.setattr(tracking, "stage_recorder", recorded)
    monkeypatch.setenv("DVC_STAGE", "train")
    return one


def test_the_checkpoint_stays_until_dvc_has_written_the_training_down(workspace: Workspace) -> None:
    assert stage_runner.run_stage("train", workspace) == "trained"
    assert workspace.checkpoint.exists()
    # DVC could not: the next try finds it.
    forget_if_recorded(workspace)
    assert workspace.checkpoint.exists()
    (workspace.root / "dvc.lock").write_text("stages: {train: {}}", encoding="utf-8")
    stage_runner.run_stage("evaluate", workspace)
    assert not list(workspace.checkpoint.parent.glob("finished*"))
    # The toy of this test leaves one whatever its stage is.
    workspace.checkpoint.unlink()


def test_without_dvc_nobody_writes_it_down(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE")
    stage_runner.run_stage("train", workspace)
    assert not workspace.checkpoint.exists()


def test_a_recorder_that_fails_at_the_end_costs_no_checkpoint(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def failing(*_: object) -> Iterator[Any]:
        yield type("Recorder", (), {"epoch": None})
        raise TrackingError("the store is gone")

    monkeypatch.setattr(tracking, "stage_recorder", failing)
    with pytest.raises(TrackingError):
        stage_runner.run_stage("train", workspace)
    assert workspace.checkpoint.exists()
    forget_if_recorded(workspace)
    assert workspace.checkpoint.exists()


def test_a_disk_that_is_full_at_the_end_costs_no_checkpoint(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Timings, "write", full)
    with pytest.raises(StorageFullError):
        stage_runner.run_stage("train", workspace)
    assert workspace.checkpoint.exists()


def test_a_training_that_is_at_work_keeps_its_checkpoint(workspace: Workspace) -> None:
    workspace.checkpoint.parent.mkdir(parents=True)
    workspace.checkpoint.touch()
    (workspace.root / "dvc.lock").write_text("stages: {load: {}}", encoding="utf-8")
    forget_if_recorded(workspace)
    assert workspace.checkpoint.exists()


STAGE = """\
stages:
  train:
    cmd: echo same > out.txt
    outs: [out.txt]
"""


@pytest.mark.slow
def test_dvc_replaces_its_lock_file_even_if_the_same_comes_out_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "dvc.yaml").write_text(STAGE, encoding="utf-8")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--quiet", "--no-scm"], cwd=tmp_path, check=True)
    repro = [*dvc, "repro", "--quiet", "--force"]
    subprocess.run(repro, cwd=tmp_path, check=True)
    workspace.checkpoint.parent.mkdir(parents=True)
    workspace.checkpoint.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_STAGE", "train")
        note_finished(workspace)
    subprocess.run(repro, cwd=tmp_path, check=True)
    forget_if_recorded(workspace)
    assert not workspace.checkpoint.exists()
