"""``make clean`` removes what runs have left, and nothing that cannot be made again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.core.errors import PipelineBusyError, UserError
from graftline.core.locks import pipeline_lock
from graftline.core.workspace import Workspace
from scripts.clean import clean

KEPT = (
    *("params.yaml", "data/.gitignore", "models/.gitignore", "reports/.gitignore", ".venv/x"),
    "examples/mnist/params.yaml",
)
GONE = (
    "data/loaded/x",
    "data/features/x",
    "models/exports/x",
    "models/trained/x",
    "models/freeze_plan.json",
    "reports/metrics.json",
    "var/mlflow.db",
    ".dvc/cache/files/x",
    ".mypy_cache/x",
    "examples/mnist/data/loaded/x",
    "examples/mnist/var/mlflow.db",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name in (*KEPT, *GONE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    return Workspace(tmp_path)


def files(workspace: Workspace) -> set[str]:
    found = (path for path in workspace.root.rglob("*") if path.is_file())
    return {str(path.relative_to(workspace.root)) for path in found}


def test_what_runs_have_left_goes_and_the_rest_stays(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean(workspace, agreed=True) == 0
    assert files(workspace) == {*KEPT, ".dvc/config"}
    assert not workspace.var.exists()
    shown = capsys.readouterr().out
    assert "data/loaded" in shown
    assert "histories" in shown
    assert clean(workspace, agreed=True) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_nothing_goes_where_nobody_can_be_asked(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(workspace)
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert clean(workspace, agreed=False) == 2
    assert before <= files(workspace)


def test_a_remote_inside_var_stops_it(workspace: Workspace) -> None:
    subprocess.run(
        [sys.executable, "-m", "dvc", "remote", "add", "store", "var/store", "--quiet"],
        cwd=workspace.root,
        check=True,
    )
    with pytest.raises(UserError, match="the DVC remote store lies inside var"):
        clean(workspace, agreed=True)
    assert set(GONE) <= files(workspace)


def test_a_running_pipeline_stops_it(workspace: Workspace) -> None:
    script = (
        "import pathlib, sys, time; from graftline.core.locks import pipeline_lock\n"
        "from graftline.core.workspace import Workspace\n"
        "with pipeline_lock(Workspace(pathlib.Path(sys.argv[1]))):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(workspace.root)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(PipelineBusyError, match=str(process.pid)):
                clean(workspace, agreed=True)
        finally:
            process.kill()
    assert set(GONE) <= files(workspace)
    with pipeline_lock(workspace):
        pass
