"""Four runs started at once by different doors: one does it, the others wait or say who does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graftline.core.stages import STAGES
from tests import histories
from tests.flows import toy
from tests.torture import toys

pytestmark = [pytest.mark.slow, pytest.mark.kill]

BUSY = ("is held by process", "is busy", "DVC is at work in this checkout", "acquire lock")


def test_four_at_once(tmp_path: Path, prefect_api: str) -> None:
    workspace = toys.make(tmp_path)
    environment = {"PREFECT_API_URL": prefect_api}
    repro = (sys.executable, "-m", "dvc", "repro")
    commands = (toy.command("--wait", "300"), toy.command("--wait", "300"), repro, repro)
    began = [toys.start(workspace, *command, environment=environment) for command in commands]
    results = [toys.ended(process) for process in began]
    for code, said in results:
        assert "Traceback" not in said
        assert code == 0 or any(words in said for words in BUSY), said
    # The process that was refused starts once more, and finds it done.
    code, said = toys.ended(toys.start(workspace, *toy.command(), environment=environment))
    assert code == 0, said
    assert toys.dvc_status(workspace) == {}
    assert sorted(set(toy.ran(workspace))) == sorted(STAGES)
    statuses = [run.info.status for run in histories.runs_of(workspace)]
    assert "RUNNING" not in statuses
    [version] = histories.client_of(workspace).search_model_versions("name='graftline'")
    assert version.version == 1 or version.version == "1"
