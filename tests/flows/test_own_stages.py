"""A project's own stages: what a step waits for runs before it, as a task of its own name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.orchestration.launch import launch
from tests.flows import toy
from tests.flows.conftest import Ran, newest_begun
from tests.flows.test_train import dvc_status, task_states

pytestmark = pytest.mark.slow

OWN: dict[str, dict[str, Any]] = {
    "fetch": {
        "cmd": "echo fetch >> ran.txt && mkdir -p raw && cp from.txt raw/a.png",
        "deps": ["from.txt"],
        "outs": ["raw"],
    },
    "clean": {
        "cmd": "echo clean >> ran.txt && rm -rf images && cp -r raw images && echo 1 cleaned",
        "deps": ["raw"],
        "outs": ["images"],
    },
    "sharpen": {
        "cmd": "echo sharpen >> ran.txt && rm -rf sharp && cp -r data/preprocessed sharp",
        "deps": ["data/preprocessed"],
        "outs": ["sharp"],
    },
}


@pytest.fixture
def project(
    first_run: Ran, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    workspace = toy.make(tmp_path / "project", first_run.template)
    root = workspace.root
    file = root / "dvc.yaml"
    record = yaml.safe_load(file.read_text())
    record["stages"] |= OWN
    record["stages"]["load"]["deps"] = ["${data.path}/."]
    record["stages"]["assemble"]["deps"].append("sharp")
    file.write_text(yaml.safe_dump(record))
    params = workspace.params_file.read_text()
    workspace.params_file.write_text(
        params.replace("source: mnist-5k, path: data/no-files", "source: folder, path: images")
    )
    (root / "from.txt").write_text("1")
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", "commit", "-qm", "own stages"], cwd=root, check=True)
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("PYTHONPATH", str(toy.CHECKOUT))
    monkeypatch.chdir(root)
    return workspace


def train() -> int:
    return launch("flows.train", "train", [])


def retrain() -> int:
    return launch("flows.retrain", "retrain", [], looks=True)


def newly_ran(workspace: Workspace) -> list[str]:
    ran = toy.ran(workspace)
    (workspace.root / toy.COUNTED).unlink(missing_ok=True)
    return ran


def test_what_a_step_waits_for_runs_before_it(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    # What the first of them makes, the source of load, is not there yet.
    assert train() == 0
    all_of_them = ["fetch", "clean", "load", "preprocess", "sharpen", *STAGES[2:]]
    assert newly_ran(project) == all_of_them
    states = task_states(newest_begun())
    assert {states[name] for name in OWN} == {"Completed"}
    assert dvc_status(project) == {}
    said = capsys.readouterr().out
    assert "clean" in said and "1 cleaned" in said

    assert train() == 0
    assert newly_ran(project) == []
    states = task_states(newest_begun())
    assert {states[name] for name in all_of_them} == {"Cached"}

    assert retrain() == 0
    assert newest_begun().name == "retrain: nothing new"
    (project.root / "from.txt").write_text("2")
    assert retrain() == 0
    assert newest_begun().name == "retrain: stale: fetch"
    assert newly_ran(project)[:3] == ["fetch", "clean", "load"]
    assert retrain() == 0
    assert newest_begun().name == "retrain: nothing new"

    # Its output stays the same, so nothing after it runs.
    shutil.rmtree(project.root / "sharp")
    (project.root / "dvc.yaml").write_text(
        (project.root / "dvc.yaml").read_text().replace("rm -rf sharp", "rm -rf ./sharp")
    )
    assert train() == 0
    assert newly_ran(project) == ["sharpen"]


def test_one_that_fails_is_named(project: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / "dvc.yaml").write_text(
        (project.root / "dvc.yaml").read_text().replace("echo 1 cleaned", "exit 3")
    )
    assert train() == 1
    assert "stage clean failed" in capsys.readouterr().err
    assert newly_ran(project) == ["fetch", "clean"]
