from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import graftline
from graftline.core.errors import MissingOutputError, ParamsError, ProjectError, StageFailedError
from graftline.core.records import Dataset
from graftline.core.workspace import Workspace
from graftline.operations.project import Project
from tests import finished

FLOW = """\
import json, os, pathlib, sys, time
root = pathlib.Path()
(root / "told.json").write_text(json.dumps([sys.argv[1:], os.environ.get("PYTHONSAFEPATH")]))
"""


@pytest.fixture
def project(tracked: Workspace) -> Project:
    """A finished project whose flow is the code of :func:`flow`."""
    (tracked.root / "dvc.yaml").write_text("stages: {}\n")
    return Project(tracked.root)


def flow(project: Project, code: str) -> None:
    folder = project.workspace.root / "flows"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "train.py").write_text(FLOW + code)


def test_the_names_from_outside_are_exactly_these() -> None:
    assert set(graftline.__all__) == {
        "GraftlineError",
        "Prediction",
        "Predictor",
        "Project",
        "__version__",
    }
    for name in graftline.__all__:
        assert getattr(graftline, name) is not None
        assert name in dir(graftline)
    assert graftline.Project is Project
    with pytest.raises(AttributeError, match="no attribute 'Projekt'"):
        graftline.Projekt  # noqa: B018


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"no params\.yaml and no dvc\.yaml") as caught:
        Project(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_project_is_found_from_a_home(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project.workspace.root.parent))
    assert Project(f"~/{project.workspace.root.name}").workspace == project.workspace


def test_parameters_and_records_are_typed(project: Project) -> None:
    assert project.params.preprocess.size_px == finished.SIZE_PX
    assert isinstance(project.dataset, Dataset)
    assert project.dataset.classes == finished.CLASSES
    assert project.trained.best_epoch == 2
    assert project.metrics.test_accuracy == 0.975
    assert project.metrics.classes["dark"].recall == 0.8
    assert project.assembled.layers
    assert project.freeze_plan.cut
    for name in ("exports", "promotion"):
        with pytest.raises(MissingOutputError, match="not there yet"):
            getattr(project, name)


def test_a_model_names_arrays_and_files(project: Project, tmp_path: Path) -> None:
    images = np.stack([np.full((20, 30, 3), value, np.uint8) for value in (10, 240)])
    folder = project.workspace.trained
    with project.model(folder) as model:
        found = model.probabilities(images)
        assert [model.classes[row.argmax()] for row in found] == ["dark", "bright"]
    for name, image in zip(("night.png", "noon.png"), images, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    named = list(project.predict([tmp_path / "night.png", tmp_path / "noon.png"], folder))
    assert [one.label for one in named] == ["dark", "bright"]
    assert named[0].probability == pytest.approx(found[0, 0])


def test_the_model_is_that_of_every_door(project: Project) -> None:
    assert "the last trained model" in str(project.which_model())
    for ask in (project.model, project.which_model, lambda which: next(project.predict([], which))):
        with pytest.raises(MissingOutputError, match="nothing has been registered yet"):
            ask("challenger")


def test_the_flow_is_started_with_what_was_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    flow(project, "sys.exit(3)")
    changes = {
        "train.epochs": 3,
        "freeze.strategy": {"last_blocks": 2},
        "data.path": "a folder",
        "register.model_name": "rosé",
        "tune.gradual_unfreezing": True,
    }
    with pytest.raises(StageFailedError, match="failed with exit code 3"):
        project.run(changes, force=True, wait_s=5)
    told = json.loads((project.workspace.root / "told.json").read_text())
    assert told == [
        [
            *("--wait", "5"),
            *("--set", "train.epochs=3"),
            *("--set", 'freeze.strategy={"last_blocks": 2}'),
            *("--set", "data.path=a folder"),
            *("--set", "register.model_name=rosé"),
            *("--set", "tune.gradual_unfreezing=true"),
            "--force",
        ],
        None,
    ]


def test_what_ends_the_flow_is_raised_here(project: Project) -> None:
    flow(
        project,
        "from graftline.core.errors import ParamsError\n"
        "from graftline.core.exit_codes import reported\n"
        "def command():\n"
        "    raise ParamsError('epochs is no number', where='params.yaml', fix='mend it')\n"
        "sys.exit(reported(command, debug=False))\n",
    )
    with pytest.raises(ParamsError, match="epochs is no number") as caught:
        project.run()
    assert caught.value.fix == "mend it"


def test_a_flow_that_was_killed_says_so(project: Project) -> None:
    flow(project, "os.kill(os.getpid(), 9)")
    with pytest.raises(StageFailedError, match="was ended by signal 9"):
        project.run()


@pytest.mark.kill
def test_an_interrupt_lets_the_flow_end_in_its_own_way(project: Project) -> None:
    root = project.workspace.root
    flow(
        project,
        "try:\n"
        "    (root / 'began').touch()\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(0.5)\n"
        "    (root / 'ended').touch()\n",
    )
    code = f"import graftline; graftline.Project({str(root)!r}).run()"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        until_s = time.monotonic() + 60
        while not (root / "began").exists():
            assert time.monotonic() < until_s
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    assert (root / "ended").exists()


def test_a_step_runs_by_itself_and_gives_its_record(project: Project) -> None:
    with pytest.raises(ProjectError, match="no step 'promote' that runs by itself"):
        project.run_step("promote")
    # An error of the step's own process.
    (project.workspace.root / "params.yaml").write_text("seed: none\n")
    with pytest.raises(ParamsError, match="seed"):
        project.run_step("preprocess")
