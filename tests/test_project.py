"""The project's own tests: parameters, stages and flow fit together. Yours go beside this file.

pytest
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

from graftline.core.code_lock import changed_code
from graftline.core.params import read_params
from graftline.core.stage_params import keys_of_stages
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
AFTER_THE_STAGES = {"register", "promote", "notify"}


def tasks_called() -> set[str]:
    """The modules of ``tasks/`` that the flow imports its steps from."""
    tree = ast.parse((ROOT / "flows" / "train.py").read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[2] for name in modules if name.startswith("tasks.")}


def test_the_parameters_are_valid() -> None:
    read_params(ROOT / "params.yaml")


def test_the_code_of_the_steps_is_written_down() -> None:
    assert changed_code(Workspace(ROOT)) == (), "graftline lock writes it down"


def test_dvc_reads_the_stages() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(keys_of_stages(ROOT)) <= set(done.stdout.split())


def test_the_flow_runs_every_stage_that_has_a_task() -> None:
    stages = {name for name in keys_of_stages(ROOT) if (ROOT / "tasks" / f"{name}.py").is_file()}
    assert stages >= set(STAGES)
    assert tasks_called() >= stages | AFTER_THE_STAGES


def test_flow_and_tasks_can_be_imported() -> None:
    assert callable(importlib.import_module("flows.train").train)
